//! No float in the exact crates: a scan for what lints miss.

use std::path::{Path, PathBuf};

/// Sources in which no float type or literal may occur, outside comments.
pub const EXACT: [&str; 4] =
    ["crates/mlic-core/src", "crates/mlic-kernels/src", "crates/mlic-backend/src", "crates/mlic-cuda/src"];
/// Single files of other crates that belong to the exact path.
pub const EXACT_FILES: [&str; 4] = [
    "crates/mlic-model/src/model.rs",
    "crates/mlic-model/src/parameters.rs",
    "crates/mlic-model/src/proof.rs",
    "crates/mlic-model/src/layout.rs",
];
/// Files of those crates that are about the float stages, or test against float.
pub const ALLOWED: [&str; 3] =
    ["crates/mlic-backend/src/backend.rs", "crates/mlic-backend/src/contract.rs", "crates/mlic-cuda/src/measure.rs"];

/// Tokens of a line of code that are floats.
#[must_use]
pub fn floats(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let code: String = code.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let separators = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
    code.split(separators).filter(|t| is_float(t)).map(str::to_owned).collect()
}

fn is_float(token: &str) -> bool {
    let typed =
        ["f16", "f32", "f64", "f128"].iter().any(|t| token.split('.').any(|part| part == *t || part.ends_with(&format!("_{t}"))));
    let mut parts = token.splitn(2, '.');
    let digits = |s: Option<&str>| s.is_some_and(|s| s.starts_with(|c: char| c.is_ascii_digit()));
    let literal = digits(parts.next()) && digits(parts.next()) && !token.contains("..");
    typed || literal
}

fn sources(at: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
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
    for part in EXACT.iter().chain(&EXACT_FILES) {
        sources(&root.join(part), &mut files)?;
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
