//! The dependency graph of the workspace against the crate table of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Maps each crate to the workspace crates on which it depends.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The graph that cargo sees, without development dependencies.
///
/// # Errors
/// What went wrong, in words.
pub fn actual() -> Result<Graph, String> {
    let args = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = crate::cargo().args(args).current_dir(crate::root()).output().map_err(|e| e.to_string())?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let name = |v: &Value| v["name"].as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().into_iter().flatten();
        all.filter(|d| d["kind"].as_str() != Some("dev")).map(name).filter(|d| members.contains(d)).collect()
    };
    Ok(packages.iter().map(|p| (name(p), dependencies(p))).collect())
}

/// The graph that ARCHITECTURE.md declares: rows `| crate | purpose | depends on |` with names in backquotes.
///
/// # Errors
/// When the file cannot be read.
pub fn declared() -> Result<Graph, String> {
    let text = std::fs::read_to_string(crate::root().join("ARCHITECTURE.md")).map_err(|e| e.to_string())?;
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut graph = Graph::new();
    for line in text.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        if let [first, _, last] = cells.as_slice()
            && let Some(name) = quoted(first).into_iter().next()
        {
            graph.insert(name, quoted(last).into_iter().collect());
        }
    }
    Ok(graph)
}

/// Differences, one per line; empty when both agree.
#[must_use]
pub fn differences(actual: &Graph, declared: &Graph) -> Vec<String> {
    let names: BTreeSet<&String> = actual.keys().chain(declared.keys()).collect();
    let of = |name: &String| match (actual.get(name), declared.get(name)) {
        (Some(_), None) => Some(format!("{name} is not in the table of ARCHITECTURE.md")),
        (None, Some(_)) => Some(format!("{name} is in the table of ARCHITECTURE.md but not in the workspace")),
        (Some(a), Some(d)) if a != d => Some(format!("{name} depends on {a:?}, the table says {d:?}")),
        _ => None,
    };
    names.into_iter().filter_map(of).collect()
}
