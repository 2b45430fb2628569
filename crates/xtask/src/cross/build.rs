//! Compiling for a platform.

use std::path::PathBuf;
use std::process::Command;

use super::platform::Platform;
use super::setup::Setup;

/// Flags that tell the compiler about our own linker: it is not a C compiler, and everything is linked statically.
const STATIC: &str = "-Clinker-flavor=ld.lld -Ctarget-feature=+crt-static -Crelocation-model=static";

/// Compiles `mlic-conform` without float transforms and returns its path.
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

/// Compiles and runs the tests of the kernels, which compare the platform's instruction sets with the definition.
///
/// # Errors
/// When they do not compile or one fails, also because an instruction set is missing.
pub fn test_kernels(platform: &Platform, setup: &Setup) -> Result<(), String> {
    let mut command = cargo("test", platform, setup);
    command.args(["--package", "mlic-kernels", "--lib", "--tests"]).env("MLIC_REQUIRE", platform.kernels.join(","));
    if !setup.runner.is_empty() {
        command.env(variable(platform, "RUNNER"), setup.runner.join(" "));
    }
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{}: the kernels do not agree with the definition", platform.name)) }
}

/// Name of a variable that configures cargo for the platform's target.
fn variable(platform: &Platform, what: &str) -> String {
    format!("CARGO_TARGET_{}_{what}", platform.target.to_uppercase().replace('-', "_"))
}

fn cargo(subcommand: &str, platform: &Platform, setup: &Setup) -> Command {
    let mut command = crate::cargo();
    command.args([subcommand, "--quiet", "--locked", "--profile", "cross", "--target", platform.target, "--target-dir"]);
    command.arg(&setup.target_folder).current_dir(crate::root()).env("CARGO_INCREMENTAL", "0");
    for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(inherited);
    }
    if let Some(rustc) = &setup.rustc {
        command.env("RUSTC", rustc);
    }
    if let Some(linker) = &setup.linker {
        command.env(variable(platform, "LINKER"), linker).env(variable(platform, "RUSTFLAGS"), STATIC);
    }
    command
}

/// Name and version of the compiler, for display: `rustc 1.95.0`.
///
/// # Errors
/// When the compiler does not state its version.
pub fn compiler(setup: &Setup) -> Result<String, String> {
    let mut rustc = setup.rustc.as_ref().map_or_else(|| Command::new("rustc"), Command::new);
    let version = super::output(rustc.arg("--version").current_dir(crate::root()))?;
    let source = if setup.rustc.is_some() { " of Debian" } else { "" };
    Ok(version.split(' ').take(2).collect::<Vec<_>>().join(" ") + source)
}
