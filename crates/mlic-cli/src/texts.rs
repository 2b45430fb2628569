//! `mlic completions` and `mlic man`, made from the definition of the command line.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use mlic_output::{Destination, Output};

use crate::args::{self, WriteArgs};
use crate::console;
use crate::exit::{EXIT_CODES, Exit, Failure, OF_SEVERAL};
use crate::files;

/// Prints a shell's completions.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::definition(), "mlic", &mut script);
    console::unchanged(&String::from_utf8_lossy(&script))
}

/// Writes `mlic.1` and the page of each command to a folder, which is created if necessary. If a page exists and may not be overwritten, none is written.
pub(crate) fn man(folder: &Path, write: WriteArgs) -> Result<(), Failure> {
    let mut pages = Vec::new();
    let mut definition = args::definition().disable_help_subcommand(true);
    definition.build();
    collect(&definition, &mut pages);
    let names: Vec<String> = pages.iter().map(|page| page.get_filename()).collect();
    let failed = |error| Failure::new(Exit::Output, "cannot write", folder.display(), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let output = |name: &String| Output::new(Destination::File(folder.join(name)), write.force);
    names.iter().try_for_each(|name| files::check(&output(name)))?;
    let page = |(page, name): (&Man, &String)| files::write(&output(name), &render(page, name, &names).map_err(failed)?);
    pages.iter().zip(&names).try_for_each(page)
}

/// Collects the pages of a command and of those below it.
fn collect(command: &Command, pages: &mut Vec<Man>) {
    // The exit codes have a section of their own.
    let bare = command.clone().after_help(None::<&str>).after_long_help(None::<&str>);
    pages.push(Man::new(bare).source(concat!("mlic ", env!("CARGO_PKG_VERSION"))).manual("MLIC++ image codec"));
    command.get_subcommands().filter(|command| !command.is_hide_set()).for_each(|command| collect(command, pages));
}

fn render(page: &Man, name: &str, names: &[String]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut more = Roff::new();
    more.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in EXIT_CODES {
        more.control("TP", []).text([bold((exit as u8).to_string())]).text([roman(meaning)]);
    }
    more.control("PP", []).text([roman(OF_SEVERAL)]);
    more.control("SH", ["SEE ALSO"]);
    let others: Vec<_> = names.iter().filter(|other| *other != name).filter_map(|other| other.strip_suffix(".1")).collect();
    for (at, other) in others.iter().enumerate() {
        let comma = if at + 1 < others.len() { "," } else { "" };
        more.text([bold(*other), roman(format!("(1){comma}"))]);
    }
    more.to_writer(&mut text)?;
    Ok(text)
}
