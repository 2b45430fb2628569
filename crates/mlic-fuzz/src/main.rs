//! Writes the seeds of every fuzz target: `mlic-fuzz CORPUS CONFORMANCE`.

use std::error::Error;
use std::path::Path;

use mlic_fuzz::TARGETS;
use mlic_fuzz::seeds::{Seed, seeds};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [corpus, conformance] = arguments.as_slice() else { return Err("usage: mlic-fuzz CORPUS CONFORMANCE".into()) };
    let streams = streams(Path::new(conformance))?;
    for (target, _) in TARGETS {
        let directory = Path::new(corpus).join(target);
        std::fs::create_dir_all(&directory)?;
        let seeds = seeds(target, &streams);
        if seeds.is_empty() {
            return Err(format!("no seeds for {target}").into());
        }
        for (name, bytes) in seeds {
            std::fs::write(directory.join(name), bytes)?;
        }
    }
    Ok(())
}

/// The streams of the suites `smoke` and `core`.
fn streams(conformance: &Path) -> Result<Vec<Seed>, Box<dyn Error>> {
    let mut streams = Vec::new();
    for suite in ["smoke", "core"] {
        for entry in std::fs::read_dir(conformance.join(suite))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "mlic") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                streams.push((format!("{suite}-{name}"), std::fs::read(&path)?));
            }
        }
    }
    Ok(streams)
}
