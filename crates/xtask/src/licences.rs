//! Checks the licences of all dependencies against `deny.toml`, like `cargo deny check`, but without minutes of compiling that program.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::cross::{io, output};

/// Crates whose licence `deny.toml` does not allow, with that licence.
///
/// # Errors
/// When `deny.toml` cannot be read, or cargo does not list the dependencies.
pub fn refused() -> Result<Vec<String>, String> {
    let path = crate::root().join("deny.toml");
    let text = fs::read_to_string(&path).map_err(io(&path))?;
    let allowed = allowed(&text).ok_or_else(|| format!("{}: no list `allow` of licences", path.display()))?;
    let mut metadata = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    metadata.args(["metadata", "--format-version", "1", "--locked", "--all-features", "--filter-platform"]);
    let metadata = output(metadata.arg("x86_64-unknown-linux-gnu").current_dir(crate::root()))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let licence = |package: &Value| package["license"].as_str().unwrap_or("none").to_owned();
    let refused = packages.filter(|package| !is_allowed(&licence(package), &allowed));
    Ok(refused.map(|package| format!("{}: {}", package["name"], licence(package))).collect())
}

/// The strings of the list `allow` under `[licenses]`.
fn allowed(text: &str) -> Option<Vec<&str>> {
    let (_, section) = text.split_once("[licenses]\n")?;
    let (_, list) = section.split_once("allow = [")?;
    Some(list.split_once(']')?.0.split('"').skip(1).step_by(2).collect())
}

/// Whether all licences of one of an expression's alternatives are allowed. `OR`, or `/` in old crates, separates alternatives, and `AND` joins the
/// licences of one. With parentheses, `AND` joins groups of alternatives.
#[must_use]
pub fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace('/', " OR ");
    let is_one = |licence: &str| allowed.contains(&licence.trim_matches(['(', ')', ' ']));
    if plain.contains('(') {
        plain.split(" AND ").all(|part| part.split(" OR ").any(is_one))
    } else {
        plain.split(" OR ").any(|part| part.split(" AND ").all(is_one))
    }
}
