//! The written form of a report: JSON, read back to compare machines.

use std::collections::BTreeMap;

use mlic_kernels::cpu::Isa;
use serde::{Deserialize, Serialize};

use crate::baseline::Expected;
use crate::manifest::Level;
use crate::observe::Computed;
use crate::report::{Report, SuiteReport, VectorReport, cores};
use crate::verdict::{Kind, Place, Verdict};

/// Version of the report format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// The written results of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Version of the format: [`FORMAT`].
    pub format: u32,
    /// The program that wrote the report.
    pub program: Program,
    /// The machine that judged; a decoder that is another program may be for another machine.
    pub host: Host,
    /// What was tested; `external` for another program.
    pub backend: String,
    /// Command line of the other program, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Threads of the backend; 0 for all cores.
    pub threads: usize,
    /// The level up to which results were compared.
    pub level: Level,
    /// Whether every vector passed.
    pub pass: bool,
    /// Whether every verdict is the expected one; the same as `pass` without a baseline.
    pub as_expected: bool,
    /// Suites of the data that were not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_run: Vec<String>,
    /// The suites.
    pub suites: Vec<SuiteDocument>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A machine, described as far as it can matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Processor architecture.
    pub arch: String,
    /// Operating system.
    pub os: String,
    /// `little` or `big`.
    pub endian: String,
    /// Width of a pointer.
    pub pointer_bits: u32,
    /// Instruction set of this program's kernels; none where they did not decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction_set: Option<String>,
    /// Cores.
    pub cores: usize,
}

/// The written results of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteDocument {
    /// Its name.
    pub suite: String,
    /// SHA-256 of its manifest; reports on different data are not compared.
    pub manifest_sha256: String,
    /// The package it needs.
    pub model: ModelDocument,
    /// What ran each stage.
    pub devices: BTreeMap<String, String>,
    /// Whether there are vectors and all of them passed.
    pub pass: bool,
    /// Number of vectors with each verdict.
    pub counts: BTreeMap<String, usize>,
    /// Number of vectors that can only be judged at a higher level.
    pub left_out: usize,
    /// Number of vectors that were not asked for.
    pub not_selected: usize,
    /// The vectors.
    pub vectors: Vec<VectorDocument>,
}

/// A model package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDocument {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The written result of a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorDocument {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Its verdict.
    pub verdict: Kind,
    /// The verdict in words, unless it is a pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first difference, if the verdict is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_divergence: Option<DivergenceDocument>,
    /// What was expected instead of a pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// What the decoder computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<Computed>,
    /// How long the vector took.
    pub seconds: f64,
}

/// The first difference of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DivergenceDocument {
    /// Its level.
    pub level: Level,
    /// Its place, in words.
    pub place: String,
    /// Index of the pass, in walk order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<usize>,
    /// Tensor of the pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// The error that ended the decoding, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Host {
    /// Describes this machine; `decoded` says whether this program's kernels did the decoding.
    #[must_use]
    pub fn this(decoded: bool) -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            os: if std::env::consts::OS.is_empty() { "none" } else { std::env::consts::OS }.to_owned(),
            endian: if cfg!(target_endian = "big") { "big" } else { "little" }.to_owned(),
            pointer_bits: usize::BITS,
            instruction_set: decoded.then(|| Isa::best().name().to_owned()),
            cores: cores(),
        }
    }
}

impl From<&Report> for Document {
    fn from(report: &Report) -> Self {
        Self {
            format: FORMAT,
            program: Program { name: "mlic-conform".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            host: Host::this(report.command.is_none()),
            backend: report.backend.clone(),
            command: report.command.clone(),
            threads: report.threads,
            level: report.level,
            pass: report.is_pass(),
            as_expected: report.is_as_expected(),
            not_run: report.not_run.clone(),
            suites: report.suites.iter().map(SuiteDocument::from).collect(),
        }
    }
}

impl From<&SuiteReport> for SuiteDocument {
    fn from(report: &SuiteReport) -> Self {
        let count = |kind: Kind| report.vectors.iter().filter(|vector| vector.verdict.kind() == kind).count();
        Self {
            suite: report.suite.clone(),
            manifest_sha256: report.manifest_sha256.clone(),
            model: ModelDocument { id: report.model.id.clone(), name: report.model.name.clone() },
            devices: report.devices.iter().cloned().collect(),
            pass: report.is_pass(),
            counts: Kind::ALL.into_iter().map(|kind| (kind.name().to_owned(), count(kind))).collect(),
            left_out: report.left_out,
            not_selected: report.not_selected,
            vectors: report.vectors.iter().map(VectorDocument::from).collect(),
        }
    }
}

impl From<&VectorReport> for VectorDocument {
    fn from(report: &VectorReport) -> Self {
        Self {
            name: report.name.clone(),
            why: report.why.clone(),
            verdict: report.verdict.kind(),
            reason: (!report.verdict.is_pass()).then(|| report.verdict.to_string()),
            first_divergence: first_divergence(&report.verdict),
            expected: report.expected.clone(),
            computed: report.computed.clone(),
            seconds: report.seconds,
        }
    }
}

fn first_divergence(verdict: &Verdict) -> Option<DivergenceDocument> {
    let Verdict::Fail(found) = verdict else { return None };
    let in_pass = match &found.place {
        Place::Pass { pass, tensor } => Some((pass.index(), tensor.to_string())),
        _ => None,
    };
    let (pass, tensor) = in_pass.unzip();
    Some(DivergenceDocument {
        level: found.level,
        place: found.place.to_string(),
        pass,
        tensor,
        expected: found.expected.clone(),
        got: found.got.clone(),
        error: found.error.clone(),
    })
}

impl VectorDocument {
    /// Whether the verdict is the expected one: a pass, if nothing else is expected.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.verdict == self.expected.as_ref().map_or(Kind::Pass, |expected| expected.verdict)
    }

    /// Returns the verdict in words, together with what the baseline expects, if anything.
    #[must_use]
    pub fn outcome(&self) -> String {
        let verdict = self.reason.clone().unwrap_or_else(|| self.verdict.to_string());
        match &self.expected {
            None => verdict,
            Some(expected) if self.is_as_expected() => format!("{verdict} [expected: {}]", expected.reason),
            Some(expected) => format!("{verdict} [UNEXPECTED: the baseline says {}: {}]", expected.verdict, expected.reason),
        }
    }
}

impl SuiteDocument {
    /// Returns a summary, such as `27 vectors: 26 pass, 1 fail`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |kind: Kind| self.counts.get(kind.name()).copied().unwrap_or(0);
        let counts = Kind::ALL.into_iter().filter(|kind| count(*kind) > 0).map(|kind| format!("{} {kind}", count(kind)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let counts = if counts.is_empty() { "none was run, which is not a pass".to_owned() } else { counts };
        let also = |count: usize, what: &str| if count == 0 { String::new() } else { format!("; {count} {what}") };
        let (left_out, not_selected) = (also(self.left_out, "need a higher level"), also(self.not_selected, "not selected"));
        format!("{} vectors: {counts}{left_out}{not_selected}", self.vectors.len())
    }
}

impl Document {
    /// Reads a report.
    ///
    /// # Errors
    /// What is wrong with the report.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!("format {format}, this program reads {FORMAT}"));
        }
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }

    /// Returns the report as JSON, for programs.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|e| e.to_string())
    }

    /// Returns `pass`, `as expected, NOT PASSED`, `pass, NOT AS EXPECTED` or `NOT PASSED`.
    #[must_use]
    pub fn conclusion(&self) -> &'static str {
        match (self.as_expected, self.pass) {
            (true, true) => "pass",
            (true, false) => "as expected, NOT PASSED",
            (false, true) => "pass, NOT AS EXPECTED",
            (false, false) => "NOT PASSED",
        }
    }

    /// Returns the platform that was tested or, for a decoder that is another program, the one that judged it.
    #[must_use]
    pub fn platform(&self) -> String {
        let Host { arch, os, endian, pointer_bits, instruction_set, .. } = &self.host;
        match instruction_set {
            Some(instruction_set) => format!("{arch} {os}, {instruction_set}, {endian} endian, {pointer_bits} bits"),
            None => format!("judged on {arch} {os}"),
        }
    }

    /// Returns `5 of 6 suites were not run: ...`; none if all were run.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        let (count, all) = (self.not_run.len(), self.not_run.len() + self.suites.len());
        (count > 0).then(|| format!("{count} of {all} suites were not run: {}", self.not_run.join(", ")))
    }

    /// Returns the number of threads in words.
    #[must_use]
    pub fn threads(&self) -> String {
        match self.threads {
            0 => format!("threads: one for each of {} cores", self.host.cores),
            count => format!("threads: {count}"),
        }
    }
}
