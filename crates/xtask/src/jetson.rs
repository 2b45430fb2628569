//! Packages for NVIDIA Jetson: `cargo xtask jetson`.
//!
//! Compiles the programs and the library for C for 64-bit ARM and glibc 2.31, packs them as Debian packages and as an archive to lay over a root file
//! system before it is flashed, and checks both: contents, needed libraries, and the self-test, run from an unpacked image under emulation.

pub mod archive;
pub mod build;
pub mod check;
pub mod elf;
pub mod image;
pub mod notices;
pub mod tools;
pub mod tree;

use std::path::PathBuf;
use std::time::Instant;

use crate::cross;

/// How to call the command.
pub const USAGE: &str = "usage: cargo xtask jetson [--profile PROFILE] [--output DIR] | --environment
  --profile PROFILE  how to compile [default: dist, which is what is shipped]
  --output DIR       where to put the packages [default: target/jetson]
  --environment      only fetch what compiling needs, and print for a shell what `cargo zigbuild` finds it by
  $MLIC_CROSS_CACHE, $MLIC_CROSS_MIRROR and $MLIC_CROSS_MIRROR_... as for cross; $SOURCE_DATE_EPOCH is the time of every file
  [default: that of the last entry of packaging/debian/changelog]";

/// The profile with which the shipped programs are compiled.
pub const SHIPPED: &str = "dist";

/// Options of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Cargo's profile.
    pub profile: String,
    /// Folder of everything that is made.
    pub output: PathBuf,
    /// Whether only [`build::environment`] is wanted.
    pub environment: bool,
}

impl Options {
    /// Reads the arguments after `jetson`.
    ///
    /// # Errors
    /// What is wrong, with [`USAGE`].
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { profile: SHIPPED.into(), output: crate::root().join("target/jetson"), environment: false };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--profile" => options.profile = value()?,
                "--output" => options.output = std::path::absolute(value()?).map_err(|e| e.to_string())?,
                "--environment" => options.environment = true,
                other => return Err(format!("{other} is not an option\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

/// Runs the command. Returns a line for each check that failed.
///
/// # Errors
/// What could not be done at all: something that could not be fetched, compiled or packed.
pub fn jetson(options: &Options) -> Result<Vec<String>, String> {
    let start = Instant::now();
    let done = |what: &str| println!("jetson: {what} after {} s", start.elapsed().as_secs());
    let tools = cross::with_cache(tools::prepare)?;
    if options.environment {
        for (name, value) in build::environment(&tools)? {
            println!("export {name}='{}'", value.to_string_lossy().replace('\'', r"'\''"));
        }
        return Ok(Vec::new());
    }
    done("set up");
    let built = build::all(&tools, options)?;
    done("compiled");
    let packages = archive::make(&tools, &built, &options.output)?;
    done("packed");
    let findings = check::all(&tools, &built, &packages, options)?;
    done("checked");
    for path in packages.files() {
        println!("{}", cross::output(std::process::Command::new("sha256sum").arg(path))?.trim());
    }
    Ok(findings)
}
