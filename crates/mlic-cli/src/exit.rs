//! Exit codes, and the common form of error messages.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use mlic::ErrorKind;

/// What the codes mean, for help and manual pages.
pub(crate) const EXIT_CODES: [(Exit, &str); 12] = [
    (Exit::Success, "done"),
    (Exit::Other, "any other failure"),
    (Exit::Usage, "wrong usage"),
    (Exit::Input, "a file cannot be read, or is not a picture that can be coded"),
    (Exit::NotAStream, "not a stream, or one of a version that is not supported"),
    (Exit::Damaged, "damaged stream: a checksum, a forbidden value, a desync"),
    (Exit::Truncated, "truncated stream; the picture is written as far as its bytes go, if they reach that far"),
    (Exit::WrongModel, "stream for another model"),
    (Exit::Model, "model package or export rejected"),
    (
        Exit::Output,
        "output exists or cannot be written (of a pipe whose reader has closed it before the whole picture or stream, this code is the only sign; of text it is 0)",
    ),
    (Exit::Backend, "backend not available"),
    (Exit::Budget, "a limit was exceeded (pixels, memory, time, --target-size), or memory ran out"),
];
/// What an exit code means when there are several inputs.
pub(crate) const OF_SEVERAL: &str =
    "Of several inputs each is tried, and the code is that of the first failure; `model build` stops at the first.";

/// The table for `--help`.
pub(crate) fn table() -> String {
    let lines = EXIT_CODES.map(|(exit, meaning)| format!("  {:2}  {meaning}\n", exit as u8));
    format!("Exit codes:\n{}{OF_SEVERAL}", lines.concat())
}

/// How the program ends. The discriminant is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Success = 0,
    Other = ErrorKind::Other as u8,
    Usage = 2,
    Input = ErrorKind::Image as u8,
    NotAStream = ErrorKind::NotAStream as u8,
    Damaged = ErrorKind::Damaged as u8,
    Truncated = ErrorKind::Truncated as u8,
    WrongModel = ErrorKind::WrongModel as u8,
    Model = ErrorKind::Model as u8,
    Output = 9,
    Backend = ErrorKind::Backend as u8,
    Budget = ErrorKind::Budget as u8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Image => Self::Input,
            ErrorKind::NotAStream => Self::NotAStream,
            ErrorKind::Damaged => Self::Damaged,
            ErrorKind::Truncated => Self::Truncated,
            ErrorKind::WrongModel => Self::WrongModel,
            ErrorKind::Model => Self::Model,
            ErrorKind::Backend => Self::Backend,
            ErrorKind::Budget => Self::Budget,
            _ => Self::Other,
        }
    }
}

/// Why a command failed: one line, `WHAT: WHERE: CAUSE (HINT)`.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: &'static str,
    place: String,
    cause: String,
    hint: Option<String>,
    /// The failure is not printed.
    silent: bool,
}

impl Failure {
    /// `what` could not be done with `place`.
    pub(crate) fn new(exit: Exit, what: &'static str, place: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self { exit, what, place: place.to_string(), cause: cause.to_string(), hint: None, silent: false }
    }

    /// Like [`Self::new`]; the cause is an error with all its sources.
    pub(crate) fn from_error(exit: Exit, what: &'static str, place: impl fmt::Display, error: &dyn StdError) -> Self {
        Self::new(exit, what, place, mlic::error::chain(error))
    }

    /// A failure of the codec.
    pub(crate) fn from_codec(what: &'static str, place: impl fmt::Display, error: &mlic::Error) -> Self {
        let failure = Self::from_error(error.kind().into(), what, place, error);
        match error {
            mlic::Error::WrongModel { .. } => failure.hint("give that model with --model PACKAGE"),
            mlic::Error::Tail { .. } => failure.hint("--metadata fit leaves that out"),
            mlic::Error::Pixels { .. } => failure.hint("--max-pixels N allows more"),
            mlic::Error::Memory { .. } => failure.hint("--max-memory SIZE allows more"),
            mlic::Error::Time { .. } => failure.hint("--max-seconds S allows more"),
            _ => failure,
        }
    }

    /// A command line that is wrong.
    pub(crate) fn usage(place: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "wrong usage", place, cause)
    }

    /// Adds a hint about what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the failure from being printed: it was printed before, or nobody listens.
    pub(crate) fn silent(self) -> Self {
        Self { silent: true, ..self }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.what, self.place, self.cause)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
