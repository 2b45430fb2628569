//! Decoders that are other programs.
//!
//! The program is called as `PROGRAM ARGS --package PACKAGE --stream STREAM` and prints one [`Message`] as JSON
//! (`conformance/README.md`). Its output and its time are limited.

mod process;

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mlic::image::{Image, ReadOptions, read_image};
use mlic_core::container;
use mlic_model::Model;

use crate::check::{Job, Judged, compare_refusal};
use crate::compare::{Pictures, compare};
use crate::error::ConformError;
use crate::manifest::{Decodes, Expect, Level, Refused};
use crate::negative::{self, PackageCase};
use crate::observe::{Message, Refusal};
use crate::run::{Decoder, Options};
use crate::store::read_at_most;
use crate::verdict::Verdict;

/// Length limit of a message, in bytes: many times the length for the most passes that a model can have.
pub const MAX_MESSAGE_LEN: usize = 1 << 20;
/// How many bytes are shown of output that is not a message.
const SHOWN_LEN: usize = 80;
/// Length limit of a decoder's name and of an error code, in bytes.
const MAX_NAME_LEN: usize = 200;

/// Error code of every refused package.
const REFUSED_PACKAGE: &str = "model";

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program.
    pub program: String,
    /// Arguments before those of the protocol.
    pub arguments: Vec<String>,
}

impl Command {
    /// Splits a command line as a POSIX shell would, without expanding anything.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = shlex::split(line)?.into_iter();
        Some(Self { program: words.next().filter(|program| !program.is_empty())?, arguments: words.collect() })
    }

    /// Checks that the program exists: as a file, or by name in the folders of `PATH`.
    ///
    /// # Errors
    /// [`ConformError::NoProgram`].
    pub fn find(&self) -> Result<(), ConformError> {
        // On Windows `.exe` may be left out.
        let program = format!("{}{}", self.program, std::env::consts::EXE_SUFFIX);
        let is_there = |folder: &Path| folder.join(&self.program).is_file() || folder.join(&program).is_file();
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let is_name = Path::new(&self.program).components().count() == 1;
        let found =
            if is_name { std::env::split_paths(&folders).any(|folder| is_there(&folder)) } else { is_there(Path::new("")) };
        if found {
            return Ok(());
        }
        Err(ConformError::NoProgram { program: self.program.clone() })
    }
}

/// Ends the running programs with everything they have started, and removes the folders made for them: for when a signal ends this program. No program
/// can be started afterwards.
pub fn clean() {
    process::clean();
}

/// A decoder that is another program, with the package of a suite written to a folder of its own.
pub struct External {
    command: Command,
    model_id: String,
    folder: process::Folder,
    name: Mutex<Option<String>>,
}

/// Why there is no message.
enum Silence {
    /// Out of time.
    Timeout,
    /// Everything else.
    Problem(String),
}

impl External {
    /// Writes the package to a folder, where the program will find it.
    ///
    /// # Errors
    /// [`ConformError::Io`], or [`ConformError::NoProcesses`] where a program cannot start another.
    pub fn new(command: Command, model: &Model) -> Result<Self, ConformError> {
        let folder = process::Folder::new()?;
        folder.write("model.mlicpkg", model.as_bytes())?;
        Ok(Self { command, model_id: model.id().to_string(), folder, name: Mutex::new(None) })
    }

    /// Calls the program for one stream and its package. The program may leave its picture in the folder of the stream.
    fn ask(&self, package: &Path, stream: &Path, timeout: Duration) -> Result<Message, Silence> {
        let protocol = ["--package".into(), package.into(), "--stream".into(), stream.into()];
        let arguments: Vec<OsString> = self.command.arguments.iter().map(Into::into).chain(protocol).collect();
        let limits = process::Limits { timeout, stdout_len: MAX_MESSAGE_LEN };
        let stdout = process::output(&self.command.program, &arguments, limits).map_err(|ended| match ended {
            process::Ended::Timeout => Silence::Timeout,
            other => Silence::Problem(other.to_string()),
        })?;
        let message = parse(&stdout).map_err(Silence::Problem)?;
        self.name.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| message.decoder.clone());
        Ok(message)
    }

    fn try_judge(&self, name: &str, job: &Job, options: &Options) -> Result<Judged, ConformError> {
        let folder = self.folder.within(name)?;
        let mut package = self.folder.path("model.mlicpkg");
        // A package is refused before a stream is looked at.
        if job.expect.is_of_a_package() {
            package = folder.path("judged.mlicpkg");
            folder.write("judged.mlicpkg", &job.stream)?;
            folder.write("stream.mlic", &[])?;
        } else {
            folder.write("stream.mlic", &job.stream)?;
        }
        let message = match self.ask(&package, &folder.path("stream.mlic"), options.timeout) {
            Ok(message) => message,
            Err(Silence::Timeout) => return Ok(Verdict::Timeout(options.timeout.as_secs()).into()),
            Err(Silence::Problem(problem)) => return Err(ConformError::Decoder { problem }),
        };
        let outcome = match &job.expect {
            Expect::Refused(refused) => Ok(compare_refusal(&message, refused)),
            Expect::PackageRefused(_) if goes_on(&message) && negative::package(name).is_some_and(PackageCase::may_be_taken) => {
                return Ok(Verdict::NotSupported("the decoder does not read sections 5 to 7 of a package".to_owned()).into());
            }
            // SPEC does not distinguish between refusals of packages.
            Expect::PackageRefused(_) => {
                Ok(compare_refusal(&message, &Refused { code: REFUSED_PACKAGE.to_owned(), level: Level::L0 }))
            }
            Expect::PackageTaken {} => {
                Ok(compare_refusal(&message, &Refused { code: goes_on_with().unwrap_or_default().to_owned(), level: Level::L0 }))
            }
            Expect::Decodes(expected) => {
                let float = || message.picture.as_ref().map(|path| read_picture(path, expected)).transpose();
                let pictures = Pictures { pixels: || Ok(message.pixels), float };
                compare(&message, pictures, expected, job.picture.as_deref(), options.level)
            }
        };
        Ok(Judged::new(&message, outcome))
    }
}

/// Error code of a decoder that accepted a package and went on to the stream, which is empty where a package is judged.
fn goes_on_with() -> Option<&'static str> {
    container::parse(&[]).err().map(|error| error.code())
}

fn goes_on(message: &Message) -> bool {
    message.error.as_ref().map(|refusal| refusal.code.as_str()) == goes_on_with()
}

/// Reads and validates a message.
fn parse(stdout: &[u8]) -> Result<Message, String> {
    let begins = || match process::printable(stdout.get(..SHOWN_LEN).unwrap_or(stdout)) {
        text if text.is_empty() => "nothing was printed".to_owned(),
        text => format!("it begins with `{text}`"),
    };
    let wrong = |problem: String| format!("no message of the protocol: {problem}; {}", begins());
    let message: Message = serde_json::from_slice(stdout).map_err(|e| wrong(e.to_string()))?;
    validate(&message).map_err(wrong)?;
    Ok(message)
}

fn validate(message: &Message) -> Result<(), String> {
    let is_name = |text: &str| !text.is_empty() && text.len() <= MAX_NAME_LEN && !text.chars().any(char::is_control);
    if !is_name(&message.decoder) {
        return Err(format!("the decoder's name is not 1 to {MAX_NAME_LEN} bytes without control characters"));
    }
    if message.error.as_ref().is_some_and(|Refusal { code, .. }| !is_name(code)) {
        return Err(format!("the error's code is not 1 to {MAX_NAME_LEN} bytes without control characters"));
    }
    if message.error.as_ref().and_then(|error| error.message.as_ref()).is_some_and(|text| text.chars().any(char::is_control)) {
        return Err("the error's message has control characters".to_owned());
    }
    if message.error.is_none() && says_nothing(message) {
        return Err("neither an error nor anything decoded".to_owned());
    }
    Ok(())
}

fn says_nothing(message: &Message) -> bool {
    let Message { header, z, passes, y_hat, pixels, picture, .. } = message;
    let digests = z.is_none() && passes.is_none() && y_hat.is_none() && pixels.is_none();
    digests && header.is_none() && picture.is_none()
}

/// Reads a PPM or PGM no larger than the stream's picture. Whether the picture is gray is for the stream to say, not for the file.
fn read_picture(path: &Path, expected: &Decodes) -> Result<Image, ConformError> {
    let pixels = u64::from(expected.header.width) * u64::from(expected.header.height);
    let bytes = read_at_most(path, 3 * pixels + 1024)?;
    let mut image = read_image(&bytes, &ReadOptions::default().with_max_pixels(pixels))?;
    image.gray = expected.header.gray;
    Ok(image)
}

impl Decoder for External {
    fn devices(&self) -> Vec<(String, String)> {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        name.map(|name| ("decoder".to_owned(), name)).into_iter().collect()
    }

    fn refuses(&self, model_id: &str) -> Option<Verdict> {
        let have = &self.model_id;
        (have != model_id).then(|| Verdict::NotSupported(format!("the streams need model {model_id}, the package is {have}")))
    }

    fn judge(&self, name: &str, job: Job, options: &Options) -> Judged {
        self.try_judge(name, &job, options).unwrap_or_else(|error| Verdict::from(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_like_a_shell_does() {
        let command = Command::parse("python3 -m 'a decoder' external").unwrap();
        assert_eq!((command.program.as_str(), command.arguments.len()), ("python3", 3));
        assert_eq!(command.arguments[1], "a decoder");
        for line in ["", "  ", "''", "'unclosed"] {
            assert_eq!(Command::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        let digest = "0123456789abcdef0123456789abcdef";
        let ok = |rest: &str| parse(format!(r#"{{"decoder": "d 1"{rest}}}"#).as_bytes());
        assert!(ok(&format!(r#", "y_hat": "{digest}", "whole_slices": null"#)).is_ok());
        assert!(ok(r#", "error": {"code": "desync"}"#).is_ok());
        for rest in [
            "",
            r#", "passes": null"#,
            r#", "unknown": 1, "error": {"code": "desync"}"#,
            r#", "error": {}"#,
            r#", "error": {"code": ""}"#,
            r#", "error": {"code": "\u001b[31m"}"#,
            r#", "y_hat": "0123""#,
            r#", "y_hat": "0123456789ABCDEF0123456789abcdef""#,
            r#", "passes": [{"slice": 0, "parity": "both"}]"#,
            r#", "passes": [{"slice": -1, "parity": "anchor"}]"#,
        ] {
            assert!(ok(rest).is_err(), "{rest}");
        }
        assert!(parse(b"").is_err() && parse(b"{}").is_err() && parse(b"\xff").is_err());
        assert!(parse(br#"{"decoder": "", "error": {"code": "desync"}}"#).is_err());
        assert!(parse(br#"{"decoder": "d", "error": {"code": "desync"}} trailing"#).is_err());
    }
}
