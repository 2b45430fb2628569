//! Output for people. A closed standard output or error is not a failure: whoever closed it has seen enough.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::args::Global;
use crate::exit::{Exit, Failure};

/// Prints lines to standard output. Their control characters, which can come from names and from what a package says, are escaped as in JSON.
pub(crate) fn stdout(text: &str) -> Result<(), Failure> {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    unchanged(&out)
}

/// Prints the program's own text to standard output, unescaped.
pub(crate) fn unchanged(text: &str) -> Result<(), Failure> {
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

/// Prints an error, unless it is silent.
pub(crate) fn error(failure: &Failure) {
    if !failure.is_silent() {
        line("error", failure);
    }
}

/// Warns if `MLIC_CPU` names no instruction set of this architecture.
pub(crate) fn warn_of_cpu() {
    if let Some(warning) = mlic::cpu_warning() {
        line("warning", warning);
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

/// Prints one line to standard error, escaped.
fn line(kind: &str, text: impl Display) {
    stderr(&format!("mlic: {kind}: {}\n", escaped(text)));
}

/// Text as one line: control characters, which names of files and models may contain, are escaped.
pub(crate) fn escaped(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
