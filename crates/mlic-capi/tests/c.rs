//! The library as a program in C sees it: compiled and linked by the machine's C compiler, which Rust links with too.

#![cfg(all(unix, feature = "embedded-model"))]

use std::path::{Path, PathBuf};
use std::process::Command;

fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a command that fails had to say.
fn failure(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Ok(output) if output.status.success() => return None,
        Ok(output) => output,
        Err(error) => return Some(format!("{command:?}: {error}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(format!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

#[test]
fn a_program_in_c_uses_all_of_it() {
    // Cargo leaves the library where the tests are.
    let libraries = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("codec");
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    let link = ["-lmlic_c".into(), format!("-Wl,-rpath,{}", libraries.display())];
    let mut compile = compiler();
    compile.args(strict).arg("-I").arg(here("include")).arg(here("tests/c/codec.c")).arg("-o").arg(&program);
    assert_eq!(failure(compile.arg("-L").arg(&libraries).args(link)), None);
    assert_eq!(failure(&mut Command::new(program)), None);
}

#[test]
fn the_header_is_one_of_cpp_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("header.cpp");
    std::fs::write(&source, "#include \"mlic.h\"\n").unwrap();
    let strict = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"];
    assert_eq!(failure(compiler().args(strict).arg("-I").arg(here("include")).arg(source)), None);
}
