//! What a run found, for people and for programs.

use std::fmt::Write;

use mlic_backend::{Backend, Stage};
use serde_json::{Value, json};

use crate::manifest::{Level, ModelRef};
use crate::verdict::{Place, Verdict};

/// Stages that reports name the device of.
const STAGES: [Stage; 4] = [Stage::Rans, Stage::HyperSynthesis, Stage::Passes, Stage::Synthesis];

/// A run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Name of the backend.
    pub backend: String,
    /// How far was compared.
    pub level: Level,
    /// Threads of the backend; 0 for all cores.
    pub threads: usize,
    /// The suites.
    pub suites: Vec<SuiteReport>,
}

/// A suite of a run.
#[derive(Debug, Clone)]
pub struct SuiteReport {
    /// Its name.
    pub suite: String,
    /// The model it needs.
    pub model: ModelRef,
    /// What ran each stage.
    pub devices: Vec<(String, String)>,
    /// The vectors.
    pub vectors: Vec<VectorReport>,
    /// Vectors that can only be judged at a higher level.
    pub left_out: usize,
}

/// A vector of a run.
#[derive(Debug, Clone)]
pub struct VectorReport {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

/// What runs each stage of decoding.
#[must_use]
pub fn devices(backend: &dyn Backend) -> Vec<(String, String)> {
    STAGES.iter().map(|stage| (stage.to_string(), backend.device(*stage))).collect()
}

impl SuiteReport {
    /// Whether there are vectors and all of them pass.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        !self.vectors.is_empty() && self.vectors.iter().all(|vector| vector.verdict.is_pass())
    }

    /// Number of vectors with a verdict of this name.
    #[must_use]
    pub fn count(&self, verdict: &str) -> usize {
        self.vectors.iter().filter(|vector| vector.verdict.name() == verdict).count()
    }

    /// `27 vectors: 26 pass, 1 fail`
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = Verdict::NAMES.iter().map(|name| (self.count(name), name)).filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("; {count} need a higher level"),
        };
        format!("{} vectors: {}{left_out}", self.vectors.len(), counts.join(", "))
    }

    fn text(&self, out: &mut String) {
        let _ = writeln!(out, "\nsuite {}, model {} ({})", self.suite, self.model.id, self.model.name);
        for (stage, device) in &self.devices {
            let _ = writeln!(out, "  {stage}: {device}");
        }
        let width = self.vectors.iter().map(|vector| vector.name.len()).max().unwrap_or(0);
        for vector in &self.vectors {
            let _ = writeln!(out, "  {:width$}  {:7.3} s  {}", vector.name, vector.seconds, vector.verdict);
            if !vector.verdict.is_pass() {
                let _ = writeln!(out, "  {:width$}             ({})", "", vector.why);
            }
        }
        let _ = writeln!(out, "  {}", self.summary());
    }

    fn json(&self) -> Value {
        let counts = Verdict::NAMES.iter().map(|name| ((*name).to_owned(), Value::from(self.count(name))));
        json!({
            "suite": self.suite,
            "model": { "id": self.model.id, "name": self.model.name },
            "devices": self.devices.iter().cloned().map(|(k, v)| (k, Value::from(v))).collect::<serde_json::Map<_, _>>(),
            "pass": self.is_pass(),
            "counts": counts.collect::<serde_json::Map<_, _>>(),
            "left_out": self.left_out,
            "vectors": self.vectors.iter().map(VectorReport::json).collect::<Vec<_>>(),
        })
    }
}

impl VectorReport {
    fn json(&self) -> Value {
        let mut value = json!({ "name": self.name, "verdict": self.verdict.name(), "seconds": self.seconds });
        let Some(object) = value.as_object_mut() else { return value };
        match &self.verdict {
            Verdict::Pass => {}
            Verdict::Fail(found) => {
                let mut first = json!({ "level": found.level, "place": found.place.to_string(), "expected": found.expected, "got": found.got });
                if let (Place::Pass { pass, tensor }, Some(first)) = (&found.place, first.as_object_mut()) {
                    first.insert("pass".into(), pass.index().into());
                    first.insert("tensor".into(), tensor.to_string().into());
                }
                object.insert("first_divergence".into(), first);
                object.insert("error".into(), found.error.clone().into());
            }
            other => drop(object.insert("reason".into(), other.to_string().into())),
        }
        value
    }
}

impl Report {
    /// Whether there are suites and all of them pass.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        !self.suites.is_empty() && self.suites.iter().all(SuiteReport::is_pass)
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        let _ = writeln!(out, "mlic-conform {}, {os} {arch}, {} endian", env!("CARGO_PKG_VERSION"), endian());
        let _ = writeln!(out, "backend {}, {}, level {}", self.backend, threads(self.threads), self.level);
        self.suites.iter().for_each(|suite| suite.text(&mut out));
        let _ = writeln!(out, "\n{}", if self.is_pass() { "pass" } else { "NOT PASSED" });
        out
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "program": { "name": "mlic-conform", "version": env!("CARGO_PKG_VERSION") },
            "host": { "arch": std::env::consts::ARCH, "os": std::env::consts::OS, "endian": endian(), "cores": cores() },
            "backend": self.backend,
            "threads": self.threads,
            "level": self.level,
            "pass": self.is_pass(),
            "suites": self.suites.iter().map(SuiteReport::json).collect::<Vec<_>>(),
        })
    }
}

const fn endian() -> &'static str {
    if cfg!(target_endian = "big") { "big" } else { "little" }
}

/// Cores of this machine.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn threads(count: usize) -> String {
    match count {
        0 => format!("threads: one for each of {} cores", cores()),
        count => format!("threads: {count}"),
    }
}
