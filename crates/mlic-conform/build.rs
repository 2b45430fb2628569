//! Makes the data of `conformance/` part of the program: a table of (path, contents).

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Extensions of the files that the program needs; all others in the folder are for people.
const EXTENSIONS: [&str; 4] = ["json", "mlic", "mlicpkg", "png"];

fn main() -> io::Result<()> {
    let variable = |name| env::var(name).map_err(io::Error::other);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../../conformance");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut table = String::from("&[\n");
    for folder in entries(&root)?.iter().filter(|path| path.is_dir()) {
        for file in entries(folder)?.iter().filter(|path| is_data(path)) {
            let name = file.strip_prefix(&root).map_err(io::Error::other)?.display().to_string().replace('\\', "/");
            let _ = writeln!(table, "    ({name:?}, include_bytes!({:?})),", fs::canonicalize(file)?.display().to_string());
        }
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(variable("OUT_DIR")?).join("embedded.rs"), table)
}

fn is_data(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e))
}

/// Entries of a folder, sorted; none if the folder does not exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
