//! No float in the exact crates: a scan for what lints miss.

use std::path::{Path, PathBuf};

/// The exact crates. Except in comments and in the files of [`ALLOWED`], no float type or literal may occur in them. Those that need no device are
/// also tested with overflow checks: `.ci/run` takes their names from `cargo xtask exact`.
pub const EXACT: [&str; 5] = ["mlic-core", "mlic-model", "mlic-kernels", "mlic-backend", "mlic-cuda"];
/// Files of the exact crates that deal with floats: stages, transforms, tests against them, and metadata, whose numbers are parsed and dropped.
pub const ALLOWED: [&str; 6] = [
    "crates/mlic-model/src/graph.rs",
    "crates/mlic-model/src/metadata.rs",
    "crates/mlic-model/src/real.rs",
    "crates/mlic-backend/src/backend.rs",
    "crates/mlic-backend/src/contract.rs",
    "crates/mlic-cuda/src/measure.rs",
];

/// The exact crates whose arithmetic runs on this processor, which are also tested with overflow checks.
pub fn with_overflow_checks() -> impl Iterator<Item = &'static str> {
    EXACT.into_iter().filter(|name| *name != "mlic-cuda")
}

/// Tokens of a line of code that are floats.
#[must_use]
pub fn floats(line: &str) -> Vec<String> {
    let code: String = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let code = code.split("//").next().unwrap_or_default();
    let separators = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
    code.split(separators).filter(|t| is_float(t)).map(str::to_owned).collect()
}

const TYPES: [&str; 4] = ["f16", "f32", "f64", "f128"];

fn is_float(token: &str) -> bool {
    let is_typed = |part: &str| TYPES.iter().any(|t| part == *t || part.ends_with(&format!("_{t}")));
    token.split('.').any(is_typed) || token.split("..").any(is_literal)
}

/// Whether a token is a float literal: `1.5`, `2.`, `1e3`, `1f64`, and `1e` of `1e-3`, but not `0x1e3`, `0.max` or `tuple.0.1`.
fn is_literal(token: &str) -> bool {
    let rest = token.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    let is_fraction = |rest: &str| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit());
    token.starts_with(|c: char| c.is_ascii_digit())
        && (rest.strip_prefix('.').is_some_and(is_fraction) || rest.starts_with(['e', 'E']) || TYPES.contains(&rest))
}

/// Adds the source files at or below a path to `out`.
///
/// # Errors
/// When a folder cannot be read.
pub fn sources(at: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if at.is_file() {
        out.push(at.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(at)? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|e| e == "rs") {
            sources(&path, out)?;
        }
    }
    Ok(())
}

/// Every float in the exact sources, as `file:line: token`.
///
/// # Errors
/// When a source cannot be read.
pub fn scan() -> std::io::Result<Vec<String>> {
    let (root, mut files) = (crate::root(), Vec::new());
    for name in EXACT {
        sources(&root.join("crates").join(name).join("src"), &mut files)?;
    }
    let mut found = Vec::new();
    for file in files.iter().filter(|f| !ALLOWED.iter().any(|a| f.ends_with(a))) {
        let text = std::fs::read_to_string(file)?;
        for (i, line) in text.lines().enumerate() {
            found.extend(floats(line).into_iter().map(|t| format!("{}:{}: {t}", file.display(), i + 1)));
        }
    }
    Ok(found)
}
