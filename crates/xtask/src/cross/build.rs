//! Compiling for a platform, and its unit tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::platform::{Machine, Platform};
use super::record::UnitTests;
use super::setup::Setup;

/// What a linker of ours needs the compiler to know: it is not a C compiler, and everything is linked statically.
const STATIC: &str = "-Clinker-flavor=ld.lld -Ctarget-feature=+crt-static -Crelocation-model=static";

/// Compiles `mlic-conform` without float transforms; its path.
///
/// # Errors
/// When it does not compile.
pub fn conform(platform: &Platform, setup: &Setup) -> Result<PathBuf, String> {
    let mut command = cargo("build", platform, setup);
    command.args(["--package", "mlic-conform", "--no-default-features", "--features", "embedded-model"]);
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    match status.success() {
        true => Ok(setup.target_folder.join(platform.target).join("cross").join(platform.program())),
        false => Err(format!("mlic-conform does not compile for {}", platform.name)),
    }
}

/// The unit tests of the exact crates.
///
/// # Errors
/// When they cannot be started or one fails.
pub fn unit_tests(platform: &Platform, setup: &Setup) -> Result<UnitTests, String> {
    let start = Instant::now();
    let mut command = cargo("test", platform, setup);
    command.args(["--package", "mlic-core", "--package", "mlic-model", "--package", "mlic-kernels", "--lib", "--tests"]);
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = passed(&text);
    match output.status.success() && passed > 0 {
        true => Ok(UnitTests { passed, seconds: start.elapsed().as_secs() }),
        false => Err(format!("unit tests of the exact crates fail on {}:\n{text}", platform.name)),
    }
}

/// The tests that passed, by the summary lines of the test harness: `test result: ok. 12 passed; 0 failed; ...`
#[must_use]
pub fn passed(text: &str) -> usize {
    let count = |line: &str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok();
    text.lines().filter_map(count).sum()
}

fn cargo(subcommand: &str, platform: &Platform, setup: &Setup) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args([subcommand, "--quiet", "--locked", "--profile", "cross", "--target", platform.target, "--target-dir"]);
    command.arg(&setup.target_folder).current_dir(crate::root()).env("CARGO_INCREMENTAL", "0");
    for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(inherited);
    }
    let variable = |what: &str| format!("CARGO_TARGET_{}_{what}", platform.target.to_uppercase().replace('-', "_"));
    if let Some(rustc) = &setup.rustc {
        command.env("RUSTC", rustc);
    }
    if let Some(linker) = &setup.linker {
        command.env(variable("LINKER"), linker).env(variable("RUSTFLAGS"), STATIC);
    }
    if !setup.runner.is_empty() {
        command.env(variable("RUNNER"), setup.runner.join(" "));
    }
    if let Machine::Native { isa } = platform.machine {
        command.env("MLIC_CPU", isa);
    }
    command
}

/// The compiler, for people: `rustc 1.95.0`.
///
/// # Errors
/// When it does not say.
pub fn compiler(setup: &Setup) -> Result<String, String> {
    let mut rustc = setup.rustc.as_ref().map_or_else(|| Command::new("rustc"), Command::new);
    let version = super::output(rustc.arg("--version").current_dir(crate::root()))?;
    let source = if setup.rustc.is_some() { " of Debian" } else { "" };
    Ok(version.split(' ').take(2).collect::<Vec<_>>().join(" ") + source)
}
