//! The conformance suites on other architectures: `cargo xtask cross`.
//!
//! For each platform, `mlic-conform` without float transforms is cross-compiled and run under an emulator, and its reports are
//! compared. The compiler is the repository's own. What else is needed (libraries to link with, emulators) is unpacked into
//! a cache folder that checkouts share, and nothing on the machine is changed.

pub mod build;
pub mod document;
pub mod packages;
pub mod platform;
pub mod record;
pub mod run;
pub mod setup;
pub mod suite;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use platform::{PLATFORMS, Platform};
use record::Record;

/// How to call the command.
pub const USAGE: &str = "usage: cargo xtask cross [--setup] [--record] [--suite SUITE]... [--document] [PLATFORM]...
  PLATFORM    a platform, or the first part of its name for a family (aarch64); all if none is given
  --setup     only fetch what is needed
  --record    write the results to docs/platforms.json and docs/PLATFORMS.md; suites that were not run stay as they are there
  --suite     suites to run [default: all]
  --document  only write docs/PLATFORMS.md anew from docs/platforms.json
  $MLIC_CROSS_CACHE   where to keep what is fetched [default: ~/.cache/mlic-cross]; programs are in target/cross
  $MLIC_CROSS_MIRROR  Debian mirror [default: that of apt, else http://deb.debian.org/debian]
  $MLIC_CROSS_MIRROR_TESTING, $MLIC_CROSS_MIRROR_BULLSEYE  the mirror of one suite of Debian, if it is another";

/// Options of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Only fetch what is needed.
    pub setup_only: bool,
    /// Write the results into the documents.
    pub record: bool,
    /// Only write the document anew.
    pub document_only: bool,
    /// Suites to run.
    pub suites: Vec<String>,
    /// Platforms to run on, in the order of [`PLATFORMS`].
    pub platforms: Vec<&'static Platform>,
}

impl Options {
    /// Reads the arguments after `cross`.
    ///
    /// # Errors
    /// What is wrong, with [`USAGE`].
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut names, mut suites) = (Vec::new(), Vec::new());
        let mut options =
            Self { setup_only: false, record: false, document_only: false, suites: Vec::new(), platforms: Vec::new() };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--setup" => options.setup_only = true,
                "--record" => options.record = true,
                "--document" => options.document_only = true,
                "--suite" => suites.push(args.next().ok_or_else(|| format!("--suite needs a name\n{USAGE}"))?),
                other if other.starts_with('-') => return Err(format!("{other} is not an option\n{USAGE}")),
                name if PLATFORMS.iter().any(|p| p.is_called(name)) => names.push(arg),
                other => return Err(format!("{other} is not a platform; there are {}\n{USAGE}", platform::names())),
            }
        }
        let wanted = |p: &&Platform| names.is_empty() || names.iter().any(|name| p.is_called(name));
        options.platforms = PLATFORMS.iter().filter(wanted).collect();
        options.suites = if suites.is_empty() { SUITES.map(str::to_owned).to_vec() } else { suites };
        Ok(options)
    }
}

/// Runs the command. Returns a line per platform that did not pass.
///
/// # Errors
/// What could not be done at all: a package that could not be fetched, a program that could not be compiled.
pub fn cross(options: &Options) -> Result<Vec<String>, String> {
    if options.document_only {
        return document::write(&record::read()?).map(|()| Vec::new());
    }
    let start = Instant::now();
    let setups = with_cache(|cache| setup::prepare(cache, &options.platforms))?;
    println!("cross: set up in {} s", start.elapsed().as_secs());
    if options.setup_only {
        return Ok(Vec::new());
    }
    let mut failed = Vec::new();
    for (platform, setup) in options.platforms.iter().zip(&setups) {
        let record = run::platform(platform, setup, options)?;
        println!("{}", record.line(platform.name));
        if !record.is_pass() {
            failed.push(format!("{} did not pass", platform.name));
        }
        if options.record {
            keep(platform, record)?;
        }
    }
    println!("cross: all done in {} s", start.elapsed().as_secs());
    Ok(failed)
}

/// Writes a platform's results into the documents, which keep those of suites that were not run now.
fn keep(platform: &Platform, record: Record) -> Result<(), String> {
    let mut records = record::read()?;
    let record = record.merged(records.get(platform.name));
    records.insert(platform.name.to_owned(), record);
    record::write(&records)?;
    document::write(&records)
}

/// Calls `act` with the folder in which everything that is fetched is kept, while no other run uses it.
///
/// # Errors
/// When there cannot be such a folder, and the errors of `act`.
pub(crate) fn with_cache<T>(act: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(io(&cache))?;
    let path = cache.join("lock");
    // The lock is held until the file is closed, however this process ends.
    let lock = File::create(&path).map_err(io(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("cross: waiting for another run, which uses {}", cache.display());
            lock.lock().map_err(io(&path))?;
        }
        Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
    }
    act(&cache)
}

fn cache() -> Result<PathBuf, String> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || folder("HOME").map(|home| home.join(".cache/mlic-cross"));
    folder("MLIC_CROSS_CACHE").or_else(home).ok_or_else(|| "neither MLIC_CROSS_CACHE nor HOME is set".into())
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails, with what it was and what it said.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// An error of a file operation, with the path.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    move |e| format!("{}: {e}", path.display())
}

/// Every suite of the repository, the longest last.
pub const SUITES: [&str; 7] =
    ["smoke", "edge-cases", "edge-cases-scales", "edge-cases-fixed", "edge-cases-ties", "negative", "core"];

/// The suites and their backends, in the order in which a platform runs them.
pub(crate) fn plan(suites: &[String]) -> Vec<(String, &'static str)> {
    let integer = suites.iter().map(|suite| (suite.clone(), "integer"));
    let reference = suites.iter().filter(|suite| *suite == "smoke").map(|suite| (suite.clone(), "reference"));
    integer.chain(reference).collect()
}

/// All recorded results by the name of their platform.
pub type Records = std::collections::BTreeMap<String, Record>;
