//! Licences of everything that programs or a library are linked with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::build::{Built, TARGET};
use crate::cross::{io, output};

/// How names of files with licences begin, in capitals.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];
const HEAD: &str =
    "What is compiled in this package is linked with the crates below and with Rust's standard library (MIT or Apache-2.0;
https://www.rust-lang.org/policies/licenses). Parts of zig's run-time library and of LLVM's libunwind may be in them
(MIT; Apache-2.0 with LLVM exception).\n\n";

/// Lists the crates that a selection is linked with and their licences, then each licence's text once, with the crates that have it.
///
/// # Errors
/// When cargo does not say what is linked, or a file cannot be read.
pub fn text(built: &Built, selection: &[String]) -> Result<String, String> {
    let mut tree = crate::cargo();
    tree.args(["tree", "--locked", "--target", TARGET, "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    let tree = output(tree.args(["--format", "{p}"]).args(selection).current_dir(crate::root()))?;
    let linked: BTreeSet<(&str, &str)> = tree.lines().filter_map(name_and_version).collect();
    let mut list = String::from(HEAD);
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for package in built.metadata["packages"].as_array().into_iter().flatten().filter(|p| p["source"].is_string()) {
        let of = |key: &str| package[key].as_str().unwrap_or("unknown");
        let (name, version) = (of("name"), of("version"));
        if !linked.contains(&(name, version)) {
            continue;
        }
        let _ = writeln!(list, "{name} {version}: {}", of("license"));
        for path in licence_files(Path::new(of("manifest_path")))? {
            let text = fs::read(&path).map_err(io(&path))?;
            texts.entry(String::from_utf8_lossy(&text).trim().to_owned()).or_default().insert(name);
        }
    }
    for (text, names) in texts {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let _ = write!(list, "\n---- {names}\n\n{text}\n");
    }
    Ok(list)
}

/// Name and version in a line `NAME vVERSION ...`.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

fn licence_files(manifest: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = manifest.parent().unwrap_or(manifest);
    let is_licence = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        path.is_file() && NAMES.iter().any(|prefix| name.starts_with(prefix))
    };
    let entries = fs::read_dir(folder).map_err(io(folder))?.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(is_licence).collect();
    files.sort();
    Ok(files)
}
