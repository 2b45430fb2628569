//! Compiling the programs and the library for C.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Options;
use super::tools::Tools;
use crate::cross::output;

/// Rust's name for the target.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The newest C library that programs may need: that of JetPack 5.
pub const GLIBC: (u32, u32) = (2, 31);
/// The programs and their crates.
pub const PROGRAMS: [(&str, &str); 2] = [("mlic", "mlic-cli"), ("mlic-conform", "mlic-conform")];
/// Default features that packaged programs do without. The model is a file, one for both programs. Model packages are built
/// where checkpoints are, and their builder would triple the size of `mlic`. `mlic/default` would include the model, too.
const WITHOUT: [&str; 3] = ["embedded-model", "builder", "mlic/default"];

/// The library for C by its file name when compiled, and its crate. It is compiled with the crate's default features: the model is part of the
/// library, since whoever loads a library expects to need no other file, and float transforms are not.
pub const LIBRARY: (&str, &str) = ("libmlic_c.so", "mlic-capi");

/// What was compiled and what is known about its compilation.
#[derive(Debug, Clone)]
pub struct Built {
    /// Folder of the programs and the library.
    pub folder: PathBuf,
    /// Cargo's arguments that select the programs.
    pub programs: Vec<String>,
    /// Cargo's arguments that select the library.
    pub library: Vec<String>,
    /// Output of `cargo metadata`.
    pub metadata: Value,
}

/// Compiles the programs with their default features except `WITHOUT`, and the library with all of its default features.
///
/// # Errors
/// When they do not compile.
pub fn all(tools: &Tools, options: &Options) -> Result<Built, String> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]);
    let text = output(&mut metadata)?;
    let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let (programs, library) = (selection(&metadata)?, ["--package", LIBRARY.1].map(str::to_owned).to_vec());
    let target_folder = options.output.join("build");
    let compile = |what: &[&str], selection: &[String]| {
        let mut command = command(&tools.zig.join("cargo-zigbuild"));
        command.args(what).args(["--quiet", "--locked", "--profile", &options.profile]).args(selection);
        command.arg("--target").arg(format!("{TARGET}.{}.{}", GLIBC.0, GLIBC.1)).arg("--target-dir").arg(&target_folder);
        command.arg("--config").arg(format!("profile.{}.strip=true", options.profile));
        command.env("CARGO_ENCODED_RUSTFLAGS", remap(&metadata, &target_folder)?.join("\u{1f}")).env("CARGO_INCREMENTAL", "0");
        command.envs(environment(tools)?);
        let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
    };
    compile(&["zigbuild"], &programs)?;
    // No other kind of library: if a Rust library is made beside it, there is no link-time optimization.
    compile(&["rustc", "--crate-type", "cdylib"], &library)?;
    let profile = if options.profile == "dev" { "debug" } else { &options.profile };
    Ok(Built { folder: target_folder.join(TARGET).join(profile), programs, library, metadata })
}

/// Compiles a program in C for a Jetson.
///
/// # Errors
/// When it does not compile, or compiles with a warning.
pub fn in_c(tools: &Tools, source: &Path, flags: &str, program: &Path) -> Result<(), String> {
    let mut compile = command(&tools.zig.join("python"));
    compile.args(["-m", "ziglang", "cc", "-target", &format!("aarch64-linux-gnu.{}.{}", GLIBC.0, GLIBC.1)]);
    compile.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]).arg(source).args(flags.split_whitespace());
    output(compile.arg("-o").arg(program).envs(environment(tools)?)).map(drop)
}

/// The environment variables by which `cargo zigbuild` for a Jetson finds its tools.
///
/// # Errors
/// When a path cannot be put before `PATH`.
pub fn environment(tools: &Tools) -> Result<Vec<(&'static str, OsString)>, String> {
    let mut variables = vec![
        ("PATH", path_before(&tools.zig)?),
        ("ZIG_GLOBAL_CACHE_DIR", tools.zig_cache.clone().into()),
        ("CARGO_ZIGBUILD_CACHE_DIR", tools.zig_cache.join("zigbuild").into()),
    ];
    variables.extend(tools.rustc.iter().map(|rustc| ("RUSTC", rustc.clone().into())));
    Ok(variables)
}

fn cargo() -> Command {
    command(&PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// The command of a program that compiles, without the flags that this environment has for compilers.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::root());
    for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(inherited);
    }
    command
}

/// Cargo's arguments that select the programs' packages and their default features except `WITHOUT`.
///
/// # Errors
/// When a package has no such defaults.
pub fn selection(metadata: &Value) -> Result<Vec<String>, String> {
    let mut arguments = vec!["--no-default-features".to_owned()];
    for (_, package) in PROGRAMS {
        arguments.extend(["--package".to_owned(), package.to_owned()]);
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let described = packages.into_iter().find(|p| p["name"] == package).ok_or_else(|| format!("no package {package}"))?;
        let defaults = described["features"]["default"].as_array().ok_or_else(|| format!("{package} has no default features"))?;
        let names: Vec<&str> = defaults.iter().filter_map(Value::as_str).collect();
        for name in names.iter().filter(|name| !WITHOUT.contains(name)) {
            arguments.extend(["--features".to_owned(), format!("{package}/{name}")]);
        }
    }
    Ok(arguments)
}

/// Flags that keep the folders of this machine out of the programs. Of several that fit, the compiler takes the last.
fn remap(metadata: &Value, target_folder: &Path) -> Result<Vec<String>, String> {
    let root = metadata["workspace_root"].as_str().ok_or("cargo metadata: no workspace_root")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let fetched = packages.into_iter().filter(|p| p["source"].is_string()).find_map(|p| p["manifest_path"].as_str());
    let registry =
        fetched.and_then(|path| Path::new(path).ancestors().nth(2)).ok_or("cargo metadata: no crate that was fetched")?;
    let flag = |from: &str, to: &str| format!("--remap-path-prefix={from}=/usr/src/{to}");
    let folders = [(root, "mlic"), (&registry.display().to_string(), "crates"), (&target_folder.display().to_string(), "target")];
    Ok(folders.map(|(from, to)| flag(from, to)).to_vec())
}

fn path_before(folder: &Path) -> Result<OsString, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).map_err(|e| format!("{}: {e}", folder.display()))
}
