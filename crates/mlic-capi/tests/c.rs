//! The library as a program in C sees it. The programs are compiled and linked by the machine's C compiler, which Rust links with too.

#![cfg(all(unix, feature = "embedded-model"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use mlic::{Codec, CodecOptions, Model};

fn compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The status and output of a command, if it fails.
fn failure(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Ok(output) if output.status.success() => return None,
        Ok(output) => output,
        Err(error) => return Some(format!("{command:?}: {error}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(format!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// Compiles a program of `tests/c` into `folder`, where the library gets the name that programs look for.
fn compiled(name: &str, folder: &Path) -> PathBuf {
    // Cargo leaves the library where the tests are.
    let libraries = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let as_linked = if cfg!(target_os = "linux") { format!("libmlic_c.so.{}", mlic_c::abi::ABI) } else { "libmlic_c.so".into() };
    std::os::unix::fs::symlink(libraries.join("libmlic_c.so"), folder.join(as_linked)).unwrap();
    let program = folder.join(name);
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    let link = ["-lmlic_c".into(), format!("-Wl,-rpath,{}", folder.display())];
    let mut compile = compiler();
    compile.args(strict).arg("-I").arg(here("include")).arg(here(&format!("tests/c/{name}.c"))).arg("-o").arg(&program);
    assert_eq!(failure(compile.arg("-L").arg(&libraries).args(link)), None);
    program
}

#[test]
fn a_program_in_c_uses_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(failure(&mut Command::new(compiled("codec", folder.path()))), None);
}

#[test]
fn a_program_in_c_decodes_what_the_codec_does() {
    let (folder, data) = (tempfile::tempdir().unwrap(), here("../../conformance"));
    let (model, stream) = (data.join("models/tiny.mlicpkg"), data.join("smoke/glyphs-65x63-q0.mlic"));
    let output = Command::new(compiled("decode", folder.path())).arg(&stream).arg(&model).output().unwrap();
    let codec = Codec::new(Model::open(model).unwrap(), CodecOptions::default()).unwrap();
    let expected = codec.decode(&std::fs::read(stream).unwrap()).unwrap().image;
    assert!(output.status.success() && output.stdout == [b"P6\n65 63\n255\n", &expected.rgb[..]].concat(), "{output:?}");
}

#[test]
fn the_header_is_one_of_cpp_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("header.cpp");
    std::fs::write(&source, "#include \"mlic.h\"\n").unwrap();
    let strict = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"];
    assert_eq!(failure(compiler().args(strict).arg("-I").arg(here("include")).arg(source)), None);
}
