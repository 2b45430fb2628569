//! What compiling for a platform and running its programs need beyond the repository's toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::{Packages, TESTING};
use super::platform::{Machine, Platform};
use super::{io, output};

/// Version of wasmtime, from PyPI.
const WASMTIME: &str = "50.0.1";
/// Script that runs a WASI program with wasmtime.
const RUN_WASI: &str = include_str!("run-wasi.py");
/// Seconds that rustup may take for a standard library before Debian's compiler is used instead.
const RUSTUP_TIMEOUT: &str = "120";
/// The set of packages with Debian's compiler, which replaces a compiler without the target's standard library.
const DEBIAN_RUST: &str = "rust";

/// How to compile for a platform and run its programs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The compiler; `None` for that of the repository's toolchain.
    pub rustc: Option<PathBuf>,
    /// The linker; `None` for the compiler's own choice.
    pub linker: Option<PathBuf>,
    /// Folder of compiled programs, which belongs to this checkout: others may compile at the same time.
    pub target_folder: PathBuf,
    /// The command that precedes a program to run it; empty for this machine's own programs.
    pub runner: Vec<String>,
    /// Name and version of the runner, for display.
    pub runs_on: String,
}

/// Fetches what platforms need. Returns a setup for each, in order.
///
/// # Errors
/// What could not be fetched.
pub fn prepare(cache: &Path, platforms: &[&Platform]) -> Result<Vec<Setup>, String> {
    let foreign = platforms.iter().filter_map(|p| debian_architecture(p)).collect();
    let mut packages = Packages::new(cache.join("debian"), TESTING, foreign);
    let mut rustup = Rustup { answers: true };
    let mut one = |platform: &&Platform| setup(cache, platform, &mut rustup, &mut packages);
    platforms.iter().map(&mut one).collect()
}

const fn debian_architecture(platform: &Platform) -> Option<&'static str> {
    match platform.machine {
        Machine::Qemu { debian, .. } => Some(debian),
        Machine::Native { .. } | Machine::Wasmtime => None,
    }
}

fn setup(cache: &Path, platform: &Platform, rustup: &mut Rustup, packages: &mut Packages) -> Result<Setup, String> {
    let rustc = match has_std(platform.target) || rustup.add(platform.target) {
        true => None,
        false => Some(debian_rustc(cache, platform, packages)?),
    };
    let target_folder = crate::root().join("target").join(if rustc.is_some() { "cross-debian" } else { "cross" });
    let setup = Setup { rustc, linker: None, target_folder, runner: Vec::new(), runs_on: String::new() };
    match platform.machine {
        Machine::Native { .. } => Ok(Setup { runs_on: format!("natively, {}", processor()), ..setup }),
        Machine::Wasmtime => {
            let python = python(cache, &[&format!("wasmtime=={WASMTIME}")])?;
            let script = cache.join("bin/run-wasi.py");
            write_program(&script, RUN_WASI)?;
            let runner = vec![python.display().to_string(), script.display().to_string()];
            Ok(Setup { runner, runs_on: format!("wasmtime {WASMTIME}"), ..setup })
        }
        Machine::Qemu { debian, gnu, qemu, cpu } => {
            let libraries = packages.unpacked(&format!("libraries-{debian}"), |packages| {
                let libgcc = packages.newest_libgcc()?;
                Ok(vec![format!("libc6-dev:{debian}"), format!("{libgcc}:{debian}")])
            })?;
            let emulators = packages.unpacked("emulators", |_| Ok(vec!["qemu-user".into()]))?;
            let lld = lld(setup.rustc.is_some().then(|| packages.unpacked(DEBIAN_RUST, debian_rust)).transpose()?.as_deref())?;
            let kind = if setup.rustc.is_some() { "debian" } else { "rustup" };
            let linker = cache.join(format!("bin/link-{kind}-{debian}"));
            write_program(&linker, &linker_script(&lld, &libraries, gnu)?)?;
            let emulator = emulators.join("usr/bin").join(format!("qemu-{qemu}")).display().to_string();
            let said = output(Command::new(&emulator).arg("--version"))?;
            let version = said.split_whitespace().nth(2).unwrap_or("of unknown version");
            let runs_on = format!("QEMU {version}, {cpu}");
            Ok(Setup { linker: Some(linker), runner: vec![emulator, "-cpu".into(), cpu.into()], runs_on, ..setup })
        }
    }
}

/// Whether the repository's toolchain has the target's standard library.
fn has_std(target: &str) -> bool {
    let folder = output(rustc().args(["--print", "target-libdir", "--target", target]));
    let files = folder.ok().and_then(|folder| fs::read_dir(folder.trim()).ok()).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The repository's toolchain.
struct Rustup {
    /// Whether rustup has not failed yet: after a failure it is not tried again.
    answers: bool,
}

impl Rustup {
    /// Adds the target's standard library. Returns whether it is there now.
    fn add(&mut self, target: &str) -> bool {
        if self.answers {
            println!("cross: rustup target add {target}");
            let mut command = Command::new("timeout");
            command.args([RUSTUP_TIMEOUT, "rustup", "target", "add", target]).current_dir(crate::root());
            let added = output(&mut command).and_then(|_| if has_std(target) { Ok(()) } else { Err("nothing added".into()) });
            if let Err(why) = &added {
                println!("cross: {}; using Debian's compiler", why.trim());
            }
            self.answers = added.is_ok();
        }
        self.answers
    }
}

fn rustc() -> Command {
    let mut command = Command::new("rustc");
    command.current_dir(crate::root());
    command
}

/// Names of the packages with Debian's compiler, all that it loads, and a linker of the same LLVM.
fn debian_rust(packages: &mut Packages) -> Result<Vec<String>, String> {
    let mut names = packages.closure(&["libstd-rust-dev"])?;
    let llvm = names.iter().find_map(|name| name.strip_prefix("libllvm")).ok_or("Debian's rustc has no package libllvmN")?;
    names.extend([format!("lld-{llvm}"), "rustc".into()]);
    Ok(names)
}

/// Makes a program that starts Debian's compiler for the platform, and returns its path.
fn debian_rustc(cache: &Path, platform: &Platform, packages: &mut Packages) -> Result<PathBuf, String> {
    let debian = debian_architecture(platform).ok_or_else(|| format!("{} needs a toolchain from rustup", platform.target))?;
    let rust = packages.unpacked(DEBIAN_RUST, debian_rust)?;
    let std = packages.unpacked(&format!("rust-{debian}"), |_| Ok(vec![format!("libstd-rust-dev:{debian}")]))?;
    let library = Path::new("usr/lib/rustlib").join(platform.target);
    if !rust.join(&library).exists() {
        output(Command::new("ln").arg("-s").arg(std.join(&library)).arg(rust.join(&library)))?;
    }
    let program = cache.join("bin/rustc");
    let start = debian_program(&rust, "rustc", "usr/bin/rustc");
    write_program(&program, &format!("#!/bin/sh\nexec {start} --sysroot {}/usr \"$@\"\n", rust.display()))?;
    Ok(program)
}

/// Shell command that starts a program of Debian testing with Debian's own C library.
fn debian_program(folder: &Path, name: &str, path: &str) -> String {
    let (folder, gnu) = (folder.display(), "x86_64-linux-gnu");
    let libraries = format!("{folder}/usr/lib/{gnu}");
    format!("{libraries}/ld-linux-x86-64.so.2 --library-path {libraries} --argv0 {name} {folder}/{path}")
}

/// Shell command that starts LLVM's linker: that of Debian's compiler, or of the repository's toolchain.
fn lld(debian: Option<&Path>) -> Result<String, String> {
    if let Some(folder) = debian {
        let llvms = only_folder(&folder.join("usr/lib"), "llvm-")?;
        let path = llvms.strip_prefix(folder).map_err(|e| e.to_string())?.join("bin/lld");
        return Ok(debian_program(folder, "lld", &path.display().to_string()));
    }
    let libraries = output(rustc().args(["--print", "target-libdir"]))?;
    let path = Path::new(libraries.trim()).with_file_name("bin").join("rust-lld");
    if path.is_file() { Ok(path.display().to_string()) } else { Err(format!("{} is missing", path.display())) }
}

/// Script that links static programs: it runs LLVM's linker with what a C compiler would add to the arguments.
///
/// The compiler calls the script with `-flavor gnu ARGUMENTS`. Everything is static so that an emulator needs no libraries.
fn linker_script(lld: &str, libraries: &Path, gnu: &str) -> Result<String, String> {
    let root = libraries.display();
    let c = format!("{root}/usr/lib/{gnu}");
    let gcc = only_folder(&only_folder(&libraries.join("usr/lib/gcc"), "")?, "")?;
    let gcc = gcc.display();
    Ok(format!(
        "#!/bin/sh\nshift 2\nexec {lld} -flavor gnu --sysroot={root} {c}/crt1.o {c}/crti.o {gcc}/crtbeginT.o \"$@\" \
         -L{gcc} -L{c} --start-group -lgcc -lgcc_eh -lc --end-group {gcc}/crtend.o {c}/crtn.o\n"
    ))
}

/// The only folder in `parent` whose name begins with `prefix`.
fn only_folder(parent: &Path, prefix: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(parent).map_err(io(parent))?.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir() && named(path)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(folder), true) => Ok(folder),
        _ => Err(format!("{}: expected one folder {prefix}*", parent.display())),
    }
}

/// Path of a Python, in a folder of its own, that has these packages of PyPI (`NAME==VERSION`).
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn python(cache: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = cache.join(packages.join("-").replace("==", "-"));
    let (python, complete) = (folder.join("bin/python"), folder.join("complete"));
    if !complete.is_file() {
        println!("cross: fetching {}", packages.join(" "));
        output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        output(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
        fs::write(&complete, "").map_err(io(&complete))?;
    }
    Ok(python)
}

/// Name of this machine's processor.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown processor".into(), |(_, name)| name.trim().to_owned())
}

/// Writes an executable script. One that is there already is not written again: another run may be reading it.
fn write_program(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io(folder))?;
    if !fs::read_to_string(path).is_ok_and(|there| there == text) {
        fs::write(path, text).map_err(io(path))?;
    }
    output(Command::new("chmod").arg("+x").arg(path)).map(drop)
}
