//! Results of a run. Their written form is a [`Document`], from which text, JUnit and Markdown are made.

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

/// Stages whose devices reports name.
const STAGES: [Stage; 5] = [Stage::Rans, Stage::HyperSynthesis, Stage::Passes, Stage::ExactSynthesis, Stage::Synthesis];

/// The results of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Name of the backend; `external` for another program.
    pub backend: String,
    /// Command line of the other program, if there is one.
    pub command: Option<String>,
    /// The level up to which results were compared.
    pub level: Level,
    /// Threads of the backend; 0 for all cores.
    pub threads: usize,
    /// Suites of the data that were not run.
    pub not_run: Vec<String>,
    /// The suites that were run.
    pub suites: Vec<SuiteReport>,
}

/// The results of a suite.
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
    /// Number of vectors that can only be judged at a higher level.
    pub left_out: usize,
    /// Number of vectors that were not asked for.
    pub not_selected: usize,
}

/// The result of a vector.
#[derive(Debug, Clone)]
pub struct VectorReport {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// What was expected instead of a pass.
    pub expected: Option<Expected>,
    /// What the decoder computed.
    pub computed: Option<Computed>,
    /// How long the vector took.
    pub seconds: f64,
}

/// Returns each stage of decoding with what runs it.
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

/// Returns the number of cores of this machine.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
