//! The results of platforms, which are kept in `docs/platforms.json`.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Records, io};

/// A platform's results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The compiler and its version.
    pub compiler: String,
    /// What ran the programs.
    pub runs_on: String,
    /// The runs, one for each suite and backend.
    pub runs: Vec<Run>,
}

/// One run of a suite by one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The suite.
    pub suite: String,
    /// The backend.
    pub backend: String,
    /// What ran the passes.
    pub device: String,
    /// Level up to which it was compared: 3 for `y_hat`, 4 for exact pixels.
    pub level: u8,
    /// Combined digest of the suite, of what was computed if all vectors pass.
    pub digest: String,
    /// Number of vectors of the suite.
    pub vectors: usize,
    /// Number of vectors that passed.
    pub passed: usize,
    /// Vectors that did not pass, with their verdicts.
    pub others: Vec<String>,
    /// Time, in seconds.
    pub seconds: u64,
    /// Day, `2026-01-31`.
    pub date: String,
    /// Commit of the repository, with `-dirty` if it was changed.
    pub commit: String,
}

impl Run {
    /// Whether every vector of the suite was run and passed.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.vectors > 0 && self.passed == self.vectors && self.others.is_empty()
    }
}

impl Record {
    /// Whether there are runs and all of them pass.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(Run::is_pass)
    }

    /// The run of a suite by a backend.
    #[must_use]
    pub fn run(&self, suite: &str, backend: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.suite == suite && run.backend == backend)
    }

    /// Adds what only an earlier record has: its other runs, if the same compiler made the program and the same emulator ran it.
    #[must_use]
    pub fn merged(mut self, earlier: Option<&Self>) -> Self {
        let same = earlier.filter(|earlier| (&earlier.compiler, &earlier.runs_on) == (&self.compiler, &self.runs_on));
        let others = same.map_or(&[][..], |earlier| &earlier.runs);
        let others: Vec<Run> = others.iter().filter(|run| self.run(&run.suite, &run.backend).is_none()).cloned().collect();
        self.runs.extend(others);
        self
    }

    /// Summary of the results in one line.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        let run = |run: &Run| {
            let others = if run.others.is_empty() { String::new() } else { format!(" ({})", run.others.join(", ")) };
            let Run { suite, backend, level, digest, passed, vectors, seconds, device, .. } = run;
            format!("{suite} to L{level} by {backend} ({device}): {passed}/{vectors} pass{others}, {digest}, {seconds} s")
        };
        let parts: Vec<String> = self.runs.iter().map(run).collect();
        format!("{name} ({}): {}", self.runs_on, parts.join("; "))
    }
}

fn path() -> PathBuf {
    crate::root().join("docs/platforms.json")
}

/// The recorded results; empty if there are none yet.
///
/// # Errors
/// When the file is damaged.
pub fn read() -> Result<Records, String> {
    match fs::read_to_string(path()) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path().display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Records::new()),
        Err(e) => Err(io(&path())(e)),
    }
}

/// Writes the results.
///
/// # Errors
/// When the file cannot be written.
pub fn write(records: &Records) -> Result<(), String> {
    let text = serde_json::to_string_pretty(records).map_err(|e| e.to_string())?;
    fs::write(path(), text + "\n").map_err(io(&path()))
}
