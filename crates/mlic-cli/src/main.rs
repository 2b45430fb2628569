//! `mlic`: encode, decode, inspect and measure MLIC++ streams.

mod args;
mod batch;
#[cfg(feature = "builder")]
mod build;
mod console;
#[cfg(feature = "builder")]
mod cost;
mod decode;
mod encode;
mod eval;
mod exit;
mod files;
mod info;
mod model;
mod progress;
mod quality;
mod texts;

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::args::{Arguments, Task};
use crate::exit::{Exit, Failure};
#[cfg(feature = "builder")]
use crate::model::ModelCommand;

fn main() -> ExitCode {
    // If no handler can be set, signals end this program as they end any other.
    let _ = mlic_output::end_on_signals(|| {});
    let parsed = args::definition().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and usage errors to standard error. If printing fails, that is not a failure of its own.
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
        Some(Task::Encode(_) | Task::Decode(_) | Task::Eval(_)) => console::warn_of_cpu(),
        #[cfg(feature = "builder")]
        Some(Task::Model { command: ModelCommand::Build(_) | ModelCommand::Cost(_) }) => console::warn_of_cpu(),
        _ => {}
    }
    let takes_no_model = matches!(arguments.command, Some(Task::Completions { .. } | Task::Man { .. }));
    #[cfg(feature = "builder")]
    let takes_no_model = takes_no_model || matches!(arguments.command, Some(Task::Model { command: ModelCommand::Build(_) }));
    if global.model.is_some() && takes_no_model {
        return Err(Failure::usage("--model", "this command uses no model package"));
    }
    match &arguments.command {
        Some(_) if arguments.version => Err(Failure::usage("--version", "it is given alone, or with --model")),
        None if arguments.version => model::print_version(global),
        Some(Task::Encode(command)) => encode::run(command, global),
        Some(Task::Decode(command)) => decode::run(command, global),
        Some(Task::Info(command)) => info::run(command, global),
        Some(Task::Eval(command)) => eval::run(command, global),
        Some(Task::Model { command }) => model::run(command, global),
        Some(Task::Completions { shell }) => texts::completions(*shell),
        Some(Task::Man { folder, write }) => texts::man(folder, *write),
        None => {
            console::stderr(&args::definition().render_help().to_string());
            Err(Failure::usage("no command", "see the list above, or `mlic help COMMAND`"))
        }
    }
}
