//! The tools, beyond the repository's toolchain, for compiling for a Jetson and running the result here.

use std::path::{Path, PathBuf};

use crate::cross::packages::Packages;
use crate::cross::platform::PLATFORMS;
use crate::cross::setup;

/// Packages of PyPI: the compiler that links with an old C library, and the program that makes cargo use it.
const ZIG: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.1"];
/// Debian's suite with the C library of JetPack 5.
const BULLSEYE: &str = "bullseye";
/// The processor of a Jetson Orin.
const PLATFORM: &str = "aarch64-a78ae";

/// Tools, all in the cache.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The compiler; `None` for that of the repository's toolchain.
    pub rustc: Option<PathBuf>,
    /// Folder of `cargo-zigbuild` and of the Python that has zig.
    pub zig: PathBuf,
    /// Where zig keeps what it compiles.
    pub zig_cache: PathBuf,
    /// The emulator's command, which precedes a program for a Jetson, without the option for its root file system.
    pub runner: Vec<String>,
    /// Name and version of the runner, for display.
    pub runs_on: String,
    /// The C library and basic programs of Debian bullseye for arm64.
    pub userland: PathBuf,
}

/// Fetches the tools that are not in the cache yet.
///
/// # Errors
/// What could not be fetched.
pub fn prepare(cache: &Path) -> Result<Tools, String> {
    let platform = PLATFORMS.iter().find(|p| p.name == PLATFORM).ok_or_else(|| format!("no platform {PLATFORM}"))?;
    let setups = setup::prepare(cache, &[platform])?;
    let setup = setups.into_iter().next().ok_or_else(|| format!("no setup for {PLATFORM}"))?;
    let mut packages = Packages::new(cache.join("debian-bullseye"), BULLSEYE, vec!["arm64"]);
    let userland = packages.unpacked("userland-arm64", |packages| packages.closure(&["coreutils:arm64"]))?;
    let python = setup::python(cache, &ZIG)?;
    Ok(Tools {
        rustc: setup.rustc,
        zig: python.parent().unwrap_or(&python).to_owned(),
        zig_cache: cache.join("zig-cache"),
        runner: setup.runner,
        runs_on: setup.runs_on,
        userland,
    })
}
