//! `mlic`: encode, decode, inspect and measure MLIC++ streams.

mod args;
#[cfg(feature = "builder")]
mod build;
mod console;
mod decode;
mod encode;
mod eval;
mod exit;
mod files;
mod info;
mod model;
mod progress;
mod texts;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Arguments, Command};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and usage errors to standard error; a closed one is no failure of its own.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    match run(&arguments) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            console::error(&failure);
            failure.exit().into()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let global = &arguments.global;
    match &arguments.command {
        _ if arguments.version => model::print_version(global),
        Some(Command::Encode(command)) => encode::run(command, global),
        Some(Command::Decode(command)) => decode::run(command, global),
        Some(Command::Info(command)) => info::run(command, global),
        Some(Command::Eval(command)) => eval::run(command, global),
        Some(Command::Model { command }) => model::run(command, global),
        Some(Command::Completions { shell }) => texts::completions(*shell),
        Some(Command::Man { folder }) => texts::man(folder),
        None => {
            console::stderr(&Arguments::command().render_help().to_string());
            Err(Failure::usage("no command", "see the list above, or `mlic help COMMAND`"))
        }
    }
}
