//! Chores of this repository: checks of the sources, other architectures, packages for Jetson.

pub mod arrows;
pub mod cross;
pub mod floats;
pub mod jetson;
pub mod licences;
pub mod mutants;

use std::path::PathBuf;
use std::process::Command;

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}
