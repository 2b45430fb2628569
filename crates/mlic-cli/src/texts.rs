//! `mlic completions` and `mlic man`: made of the definition of the command line.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::console;
use crate::exit::{Exit, Failure};

/// Prints a shell's completions.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mlic", &mut script);
    console::stdout(&String::from_utf8_lossy(&script))
}

/// Writes `mlic.1` and the page of each command to a folder, which is made if it is not there.
pub(crate) fn man(folder: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Arguments::command(), folder));
    written.map_err(|error| Failure::new(Exit::Output, "cannot write", folder.display(), error))
}
