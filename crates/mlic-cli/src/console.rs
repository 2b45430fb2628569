//! What people read. A closed standard output or error is no failure: whoever closed it has seen enough.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::args::Global;
use crate::exit::{Exit, Failure};

/// Prints text to standard output.
pub(crate) fn stdout(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::new(Exit::Output, "cannot write", "standard output", e)),
        _ => Ok(()),
    }
}

/// Prints text to standard error.
pub(crate) fn stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints an error, unless nothing is to be said of it.
pub(crate) fn error(failure: &Failure) {
    if !failure.is_silent() {
        line("error", failure);
    }
}

/// Prints what was changed or left out, unless the user wants quiet.
pub(crate) fn note(global: &Global, place: impl Display, text: impl Display) {
    if !global.quiet {
        line("note", format_args!("{place}: {text}"));
    }
}

/// Prints what was done, if the user wants to know.
pub(crate) fn verbose(global: &Global, text: impl Display) {
    if global.verbose {
        line("info", text);
    }
}

/// One line: control characters, which names of files may hold, are escaped.
fn line(kind: &str, text: impl Display) {
    let mut out = format!("mlic: {kind}: ");
    for c in text.to_string().chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('\n');
    stderr(&out);
}
