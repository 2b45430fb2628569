//! What a run found. Its written form is a [`Document`]; text, JUnit and Markdown are made of that.

pub mod document;
pub mod junit;
pub mod matrix;
pub mod text;

use mlic_backend::{Backend, Stage};

use crate::baseline::Expected;
use crate::manifest::{Level, ModelRef};
use crate::observe::Computed;
use crate::verdict::Verdict;

pub use document::Document;

/// Stages that reports name the device of.
const STAGES: [Stage; 5] = [Stage::Rans, Stage::HyperSynthesis, Stage::Passes, Stage::ExactSynthesis, Stage::Synthesis];

/// A run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Name of the backend; `external` for another program.
    pub backend: String,
    /// How the other program is called.
    pub command: Option<String>,
    /// How far was compared.
    pub level: Level,
    /// Threads of the backend; 0 for all cores.
    pub threads: usize,
    /// Suites of the data that were not run.
    pub not_run: Vec<String>,
    /// The suites.
    pub suites: Vec<SuiteReport>,
}

/// A suite of a run.
#[derive(Debug, Clone)]
pub struct SuiteReport {
    /// Its name.
    pub suite: String,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// The model it needs.
    pub model: ModelRef,
    /// What ran each stage.
    pub devices: Vec<(String, String)>,
    /// The vectors.
    pub vectors: Vec<VectorReport>,
    /// Vectors that can only be judged at a higher level.
    pub left_out: usize,
    /// Vectors that were not asked for.
    pub not_selected: usize,
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
    /// What was expected instead of a pass.
    pub expected: Option<Expected>,
    /// What the decoder made of the stream.
    pub computed: Option<Computed>,
    /// How long it took.
    pub seconds: f64,
}

/// What runs each stage of decoding.
#[must_use]
pub fn devices(backend: &dyn Backend) -> Vec<(String, String)> {
    STAGES.iter().map(|stage| (stage.to_string(), backend.device(*stage))).collect()
}

impl VectorReport {
    /// Whether the verdict is the expected one: a pass, if nothing else is expected.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.expected.as_ref().map_or(self.verdict.is_pass(), |expected| expected.verdict == self.verdict.kind())
    }
}

impl SuiteReport {
    /// Whether there are vectors and all of them pass.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        !self.vectors.is_empty() && self.vectors.iter().all(|vector| vector.verdict.is_pass())
    }

    /// Whether there are vectors and all verdicts are the expected ones.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        !self.vectors.is_empty() && self.vectors.iter().all(VectorReport::is_as_expected)
    }
}

impl Report {
    /// Whether there are suites and all of them pass.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        !self.suites.is_empty() && self.suites.iter().all(SuiteReport::is_pass)
    }

    /// Whether there are suites and all verdicts are the expected ones.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        !self.suites.is_empty() && self.suites.iter().all(SuiteReport::is_as_expected)
    }
}

/// Cores of this machine.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
