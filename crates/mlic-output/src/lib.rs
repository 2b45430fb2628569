//! Output that is either complete or absent.
//!
//! A file is written under a temporary name in its own directory and renamed when it is complete, so that a failure
//! leaves what was there before. [`Output::check`] finds foreseeable failures before any work is done, and [`end_on_signals`]
//! ensures that no temporary file outlives a program that is interrupted.

#[cfg(unix)]
mod signals;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::Permissions;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(unix)]
pub use signals::{end_on_signals, is_ignored};
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// Temporary files that are being written. They are created while its lock is held.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry of [`UNFINISHED`], kept for as long as the temporary file may exist.
struct Noted(PathBuf);

impl Noted {
    fn make(builder: &Builder<'_, '_>, directory: &Path) -> io::Result<(Self, NamedTempFile)> {
        let mut unfinished = unfinished();
        let file = builder.tempfile_in(directory)?;
        let path = file.path().to_path_buf();
        unfinished.insert(path.clone());
        Ok((Self(path), file))
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// Does nothing: on systems other than Unix the console ends its programs.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn end_on_signals(_: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Ok(())
}

/// Where bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file. A device or a pipe is written in place.
    File(PathBuf),
}

/// Writer of bytes to a [`Destination`].
#[derive(Clone, Debug)]
pub struct Output {
    destination: Destination,
    overwrite: bool,
}

/// Why output could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The file exists, and overwriting it was not requested.
    #[error("the file exists and is left as it was")]
    Exists,
    /// The path names a directory.
    #[error("it is a directory")]
    Directory,
    /// The directory for the file does not exist.
    #[error("there is no directory `{}`", directory.display())]
    NoDirectory {
        /// The missing directory.
        directory: PathBuf,
    },
    /// Binary data would go to a terminal.
    #[error("binary data does not go to a terminal: redirect it or name a file")]
    Terminal,
    /// The system refused. The message is only its reason: whoever prints it says what could not be written.
    #[error(transparent)]
    Io {
        /// The reason.
        #[from]
        source: io::Error,
    },
}

impl Destination {
    /// The destination that a command-line argument names: `-` and `/dev/stdout` are standard output, wherever that leads.
    pub fn from_argument(argument: &Path) -> Self {
        if argument == "-" || argument == "/dev/stdout" { Self::Stdout } else { Self::File(argument.to_path_buf()) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Output {
    /// Output to `destination`. A file that exists is replaced only if `overwrite` is set.
    pub fn new(destination: Destination, overwrite: bool) -> Self {
        Self { destination, overwrite }
    }

    /// Where the bytes go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Checks in advance for what would make [`Self::write`] fail: an existing file, a directory that is missing or takes no files, a terminal.
    ///
    /// # Errors
    /// The [`OutputError`] that names what was found.
    pub fn check(&self) -> Result<(), OutputError> {
        match &self.destination {
            Destination::Stdout if io::stdout().is_terminal() => Err(OutputError::Terminal),
            Destination::Stdout => Ok(()),
            Destination::File(path) => {
                self.check_file(path)?;
                if !is_special(path) {
                    // The file has no name where the system supports that, and is removed at once in any case.
                    drop(tempfile::tempfile_in(directory_of(&self.target(path)))?);
                }
                Ok(())
            }
        }
    }

    /// Writes all of `bytes`, or changes nothing (standard output, devices and pipes excepted).
    ///
    /// # Errors
    /// As [`Self::check`], and [`OutputError::Io`] for what the system refuses.
    pub fn write(&self, bytes: &[u8]) -> Result<(), OutputError> {
        self.write_with(|to| to.write_all(bytes))
    }

    /// Like [`Self::write`], for contents that `write` writes, in parts of any size.
    ///
    /// # Errors
    /// As [`Self::write`]; errors of `write` become [`OutputError::Io`].
    pub fn write_with(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
        match &self.destination {
            Destination::Stdout if io::stdout().is_terminal() => Err(OutputError::Terminal),
            Destination::Stdout => Ok(buffered(io::stdout().lock(), write)?),
            Destination::File(path) if is_special(path) => {
                Ok(buffered(std::fs::OpenOptions::new().write(true).open(path)?, write)?)
            }
            Destination::File(path) => {
                self.check_file(path)?;
                self.replace(path, write)
            }
        }
    }

    fn check_file(&self, path: &Path) -> Result<(), OutputError> {
        if path.is_dir() {
            return Err(OutputError::Directory);
        }
        let directory = if names_a_file(path) { directory_of(path) } else { path };
        if !directory.is_dir() {
            return Err(OutputError::NoDirectory { directory: directory.to_path_buf() });
        }
        if !self.overwrite && path.symlink_metadata().is_ok() && !is_special(path) {
            return Err(OutputError::Exists);
        }
        Ok(())
    }

    /// The file that is written: a link to a file that is to be replaced is followed; a link that leads nowhere is itself replaced.
    fn target(&self, path: &Path) -> PathBuf {
        let followed = if self.overwrite { path.canonicalize().ok() } else { None };
        followed.unwrap_or_else(|| path.to_path_buf())
    }

    /// Writes a temporary file beside the target and renames it. The permissions of a replaced file are kept.
    fn replace(&self, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
        let target = self.target(path);
        let kept = target.metadata().map(|m| m.permissions()).ok();
        let mut builder = Builder::new();
        builder.prefix(".mlic-").suffix(".tmp");
        if let (None, Some(permissions)) = (&kept, default_permissions()) {
            builder.permissions(permissions);
        }
        // The file is dropped first and removes itself unless it was renamed.
        let (_noted, mut file) = Noted::make(&builder, directory_of(&target))?;
        buffered(&mut file, write)?;
        if let Some(permissions) = kept {
            // Not through the builder, whose permissions the umask reduces.
            file.as_file().set_permissions(permissions)?;
        }
        file.as_file().sync_all()?;
        let renamed = if self.overwrite { file.persist(&target) } else { file.persist_noclobber(&target) };
        match renamed {
            Ok(_) => Ok(()),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(OutputError::Exists),
            Err(e) => Err(e.error.into()),
        }
    }
}

/// Collects what `write` writes into large parts for `to`.
fn buffered(to: impl Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut to = io::BufWriter::with_capacity(1 << 16, to);
    write(&mut to)?;
    to.flush()
}

/// The directory of a file; `.` for a bare name.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a path ends in a name. A path that ends in a separator or in `.` is that of a directory.
fn names_a_file(path: &Path) -> bool {
    let ends_in = |name: &OsStr| path.as_os_str().as_encoded_bytes().ends_with(name.as_encoded_bytes());
    path.file_name().is_some_and(ends_in)
}

/// Whether the path leads to something that is neither a file nor a directory: a device, a pipe, a socket.
fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Permissions of a new file before the umask reduces them; by default only its owner could read a temporary file.
#[cfg(unix)]
fn default_permissions() -> Option<Permissions> {
    Some(std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

#[cfg(not(unix))]
fn default_permissions() -> Option<Permissions> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_existing_file_needs_leave() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let destination = Destination::File(path.clone());
        Output::new(destination.clone(), false).write(b"one").unwrap();
        assert!(matches!(Output::new(destination.clone(), false).check(), Err(OutputError::Exists)));
        assert!(matches!(Output::new(destination.clone(), false).write(b"two"), Err(OutputError::Exists)));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        Output::new(destination, true).write(b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn a_missing_directory_and_a_directory_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Output::new(Destination::File(directory.path().join("no/a")), true);
        assert!(matches!(missing.write(b""), Err(OutputError::NoDirectory { .. })));
        let taken = Output::new(Destination::File(directory.path().to_path_buf()), true);
        assert!(matches!(taken.write(b""), Err(OutputError::Directory)));
        for name in ["new/", "new//", "new/."] {
            let output = Output::new(Destination::File(directory.path().join(name)), false);
            assert!(matches!(output.check(), Err(OutputError::NoDirectory { .. })), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_written_in_place_and_links_are_followed() {
        Output::new(Destination::File("/dev/null".into()), false).write(b"gone").unwrap();
        assert!(is_special(Path::new("/dev/null")));
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Output::new(Destination::File(link.clone()), true).write(b"new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        std::fs::remove_file(&file).unwrap();
        Output::new(Destination::File(link.clone()), true).write(b"own").unwrap();
        assert!(link.symlink_metadata().unwrap().is_file() && !file.exists(), "a link to nothing is replaced");
    }

    #[test]
    fn checking_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        Output::new(Destination::File(directory.path().join("a")), false).check().unwrap();
        assert!(names(directory.path()).is_empty());
    }

    /// `/proc` takes no files from any user.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_that_takes_no_files_is_found_by_checking() {
        for overwrite in [false, true] {
            assert!(matches!(Output::new(Destination::File("/proc/a".into()), overwrite).check(), Err(OutputError::Io { .. })));
        }
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc/version", &link).unwrap();
        let through = Output::new(Destination::File(link), true).check();
        assert!(matches!(through, Err(OutputError::Io { .. })), "where the file of the link is");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file_or_of_the_replaced_one() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (plain, ours) = (directory.path().join("plain"), directory.path().join("ours"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        std::fs::write(&plain, "").unwrap();
        Output::new(Destination::File(ours.clone()), false).write(b"").unwrap();
        assert_eq!(mode(&plain), mode(&ours));
        // A usual umask would clear bits of the last.
        for kept in [0o600, 0o664, 0o666] {
            std::fs::set_permissions(&ours, Permissions::from_mode(kept)).unwrap();
            Output::new(Destination::File(ours.clone()), true).write(b"").unwrap();
            assert_eq!(mode(&ours), kept);
        }
    }
}
