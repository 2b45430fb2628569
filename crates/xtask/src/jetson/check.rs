//! Checks of the packages.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wildmatch::WildMatch;

use super::archive::{self, Packages};
use super::build::{self, Built, GLIBC, LIBRARY, PROGRAMS};
use super::image::Image;
use super::tools::Tools;
use super::{Options, SHIPPED, elf, tree};
use crate::cross::{io, output, suite};

/// Largest `mlic`, in bytes.
const MAX_PROGRAM_LEN: u64 = 12_000_000;
/// A vector of the suite `core` that needs the installed model and is compared at every stage, including the picture.
const OF_MODEL: &str = "flat-16x16-q25";
/// A stream of the suite that is installed as files, and its model.
const OF_LIBRARY: [&str; 2] = ["smoke/glyphs-65x63-q0.mlic", "models/tiny.mlicpkg"];
/// File name of the stream that is encoded with the installed model.
const CODED: &str = "coded.mlic";
/// Name of a vector of the suite that is installed as files, and of its picture.
const OF_FILES: &str = "gradient-16x16-q50";

/// Makes all checks. Returns a line for each finding.
///
/// # Errors
/// When a check could not be made.
pub fn all(tools: &Tools, built: &Built, packages: &Packages, options: &Options) -> Result<Vec<String>, String> {
    let folder = &options.output;
    let mut findings = contents(packages)?;
    findings.extend(needs(built, options.profile == SHIPPED)?);
    findings.extend(interface(&built.folder.join(LIBRARY.0))?);
    findings.extend(is_repeatable(tools, built, packages, folder)?);
    findings.extend(lint(packages)?);
    findings.extend(runs(tools, packages, folder)?);
    Ok(findings)
}

/// Checks that each package has exactly the files that `packaging/files.txt` lists under its name, and the archive all of them, owned by root.
fn contents(packages: &Packages) -> Result<Vec<String>, String> {
    let list = archive::text("packaging/files.txt")?;
    let overlay = output(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(&packages.overlay))?;
    let mut findings = differences(&list, &overlay, "0/0");
    for ((package, _), deb) in tree::PACKAGES.iter().zip(&packages.debs) {
        let contents = output(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
        let different = differences(section(&list, package), &contents, "root/root");
        findings.extend(different.iter().map(|finding| format!("{package}: {finding}")));
    }
    Ok(findings)
}

/// The lines of a list between `[NAME]` and the next name.
#[must_use]
pub fn section<'a>(list: &'a str, name: &str) -> &'a str {
    let after = list.split_once(&format!("\n[{name}]\n")).map_or("", |(_, after)| after);
    after.split_once("\n[").map_or(after, |(section, _)| section)
}

/// Files that are in a list but not in an archive, or the other way round.
///
/// The list has lines `MODE PATH` and `MODE PATH -> TARGET`, as `tar` prints them, where `*` stands for any part of a name. Lines that begin with `#`
/// or `[` are not files. Folders are not listed: each must be open to all and, but for the root, lie below `usr/`.
#[must_use]
pub fn differences(list: &str, archive: &str, owner: &str) -> Vec<String> {
    let listed: Vec<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])).collect();
    let patterns: Vec<WildMatch> = listed.iter().map(|line| WildMatch::new(line)).collect();
    let (mut findings, mut met) = (Vec::new(), BTreeSet::new());
    for line in archive.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owned_by, _, _, _, path @ ..] = words.as_slice() else {
            findings.push(format!("{line}: not a line of tar"));
            continue;
        };
        let path = path.join(" ");
        let entry = format!("{mode} {}", path.trim_start_matches("./"));
        if *owned_by != owner {
            findings.push(format!("{entry}: owned by {owned_by}"));
        }
        match patterns.iter().position(|pattern| pattern.matches(&entry)) {
            Some(index) => drop(met.insert(index)),
            None if *mode == "drwxr-xr-x" && (path == "./" || path.trim_start_matches("./").starts_with("usr/")) => {}
            None => findings.push(format!("{entry}: not in packaging/files.txt")),
        }
    }
    let missing = listed.iter().enumerate().filter(|(index, _)| !met.contains(index));
    findings.extend(missing.map(|(_, line)| format!("{line}: listed in packaging/files.txt, but not packed")));
    findings
}

/// Checks that the programs and the library need only glibc, no newer than that of JetPack 5, and that `mlic`, if it is as shipped, is small.
fn needs(built: &Built, is_shipped: bool) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for (program, _) in PROGRAMS.into_iter().chain([LIBRARY]) {
        let path = built.folder.join(program);
        let (elf, len) = (elf::read(&path)?, fs::metadata(&path).map_err(io(&path))?.len());
        let (major, minor) = elf.glibc();
        println!("jetson: {program}: {len} bytes, needs glibc {major}.{minor}");
        findings.extend(elf.findings().iter().map(|finding| format!("{program} {finding}")));
        if is_shipped && program == "mlic" && len > MAX_PROGRAM_LEN {
            findings.push(format!("{program} has {len} bytes, more than {MAX_PROGRAM_LEN}"));
        }
    }
    Ok(findings)
}

/// Checks that the library exports the functions of its header and nothing else.
fn interface(library: &Path) -> Result<Vec<String>, String> {
    let (has, wanted) = (elf::read(library)?.exports, declared(&archive::text("crates/mlic-capi/include/mlic.h")?));
    println!("jetson: {}: {} functions of {} in mlic.h", LIBRARY.0, has.intersection(&wanted).count(), wanted.len());
    let missing = wanted.difference(&has).map(|name| format!("{}: no {name}, which mlic.h declares", LIBRARY.0));
    let others = has.difference(&wanted).map(|name| format!("{}: {name}, which mlic.h does not declare", LIBRARY.0));
    Ok(missing.chain(others).collect())
}

/// The functions that a header declares, whose names begin with `mlic_`.
#[must_use]
pub fn declared(header: &str) -> BTreeSet<String> {
    let code: String = header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code)).collect();
    let before = |part: &str| part.rsplit(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned();
    let mut parts: Vec<&str> = code.split('(').collect();
    parts.pop();
    parts.into_iter().map(before).filter(|name| name.starts_with("mlic_")).collect()
}

/// Checks that the packages and the archive have the same bytes when packed again elsewhere.
fn is_repeatable(tools: &Tools, built: &Built, packages: &Packages, folder: &Path) -> Result<Vec<String>, String> {
    let again = folder.join("again");
    fs::create_dir_all(&again).map_err(io(&again))?;
    let repeated = archive::make(tools, built, &again)?;
    let mut findings = Vec::new();
    for (one, other) in packages.files().zip(repeated.files()) {
        if fs::read(one).map_err(io(one))? != fs::read(other).map_err(io(other))? {
            findings.push(format!("{} and {} differ", one.display(), other.display()));
        }
    }
    fs::remove_dir_all(&again).map_err(io(&again))?;
    Ok(findings)
}

/// Checks that lintian, Debian's own checker, finds no error and nothing to warn of.
fn lint(packages: &Packages) -> Result<Vec<String>, String> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).args(&packages.debs);
    let said = lintian.output().map_err(|e| format!("lintian: {e}; it is a package of Debian"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    Ok(if said.status.success() { Vec::new() } else { vec![format!("lintian:\n{text}")] })
}

/// Checks that the programs, run from an unpacked image with libraries of JetPack 5's age, pass the self-test and code a picture.
fn runs(tools: &Tools, packages: &Packages, folder: &Path) -> Result<Vec<String>, String> {
    let image = Image::unpack(tools, &packages.overlay, &folder.join("image"))?;
    let libc = image.libc()?;
    println!("jetson: running on {}, {libc}", tools.runs_on);
    let mut findings = Vec::new();
    if !libc.contains(&format!("version {}.{}.", GLIBC.0, GLIBC.1)) {
        findings.push(format!("the image has another C library: {libc}"));
    }
    findings.extend(verify_unit(&image, folder)?);
    findings.extend(image.first_boot()?);
    findings.extend(self_test(&image)?);
    findings.extend(without_gpu(&image)?);
    findings.extend(with_model(&image)?);
    findings.extend(in_c(tools, packages, &image, folder)?);
    Ok(findings)
}

/// Checks that systemd understands the unit, that its programs exist, and that the target that wants it does not wait for it.
fn verify_unit(image: &Image, folder: &Path) -> Result<Vec<String>, String> {
    let units = folder.join("units");
    let (unit, target) = (tree::unit_name(), "multi-user.target");
    let wants = units.join(format!("{target}.wants"));
    if units.exists() {
        fs::remove_dir_all(&units).map_err(io(&units))?;
    }
    fs::create_dir_all(&wants).map_err(io(&wants))?;
    let text = fs::read_to_string(image.place(tree::UNIT)).map_err(io(&units))?;
    // Programs are looked for on this machine.
    let here = text.replace("/usr/bin/mlic", &image.place("/usr/bin/mlic").display().to_string());
    fs::write(units.join(unit), here).map_err(io(&units))?;
    symlink(units.join(unit), wants.join(unit)).map_err(io(&wants))?;
    let mut analyze = Command::new("systemd-analyze");
    // Before the machine's own units, which the colon stands for.
    analyze.args(["verify", "--man=no", unit, target]).env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
    let said = analyze.output().map_err(|e| format!("systemd-analyze: {e}; it is part of Debian's package systemd"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let about_it = text.lines().filter(|line| line.contains(unit));
    let mut findings: Vec<String> = about_it.map(|line| format!("systemd-analyze: {line}")).collect();
    if !said.status.success() && findings.is_empty() {
        findings.push(format!("systemd-analyze: {text}"));
    }
    Ok(findings)
}

/// Checks that, by the report that the unit wrote, every vector passes on 64-bit ARM, at level 4.
fn self_test(image: &Image) -> Result<Vec<String>, String> {
    let path = image.place("var/lib/mlic/selftest.json");
    let report: Value = serde_json::from_slice(&fs::read(&path).map_err(io(&path))?).map_err(|e| e.to_string())?;
    let (vectors, wanted) = (&report["suites"][0]["vectors"], suite::find("smoke")?.vectors);
    let passed = vectors.as_array().into_iter().flatten().filter(|vector| vector["verdict"] == "pass").count();
    println!("jetson: self-test: {passed} of {wanted} vectors pass on {}, level {}", report["host"]["arch"], report["level"]);
    let holds = report["pass"] == true && passed == wanted && report["host"]["arch"] == "aarch64" && report["level"] == 4;
    Ok(if holds { Vec::new() } else { vec![format!("self-test: {passed} of {wanted} vectors pass:\n{report:#}")] })
}

/// Checks that the unit's report on the GPU says for every vector that the image has none.
fn without_gpu(image: &Image) -> Result<Vec<String>, String> {
    let path = image.place("var/lib/mlic/selftest-cuda.json");
    let report: Value = serde_json::from_slice(&fs::read(&path).map_err(io(&path))?).map_err(|e| e.to_string())?;
    let vectors = report["suites"][0]["vectors"].as_array().map_or(&[][..], Vec::as_slice);
    let says_so = |vector: &Value| vector["verdict"] == "not supported" && vector.to_string().contains("there is no CUDA driver");
    let holds = report["backend"] == "cuda" && report["pass"] == false && !vectors.is_empty() && vectors.iter().all(says_so);
    Ok(if holds { Vec::new() } else { vec![format!("self-test: not the report of a machine without a GPU:\n{report:#}")] })
}

/// Suites that are run besides that of the self-test. Of `core` only one vector is run, since its pictures take minutes under an emulator.
const SUITES: [&str; 5] = ["edge-cases", "edge-cases-scales", "edge-cases-fixed", "edge-cases-ties", "negative"];

/// Checks that the programs find the installed model and suite, code a picture with them, and pass the suites.
fn with_model(image: &Image) -> Result<Vec<String>, String> {
    let program = |name: &str| image.run(&image.place("usr/bin").join(name));
    let (stream, decoded) = (image.place(CODED), image.place("decoded.png"));
    let data = image.place("usr/share/mlic/conformance");
    let picture = data.join(format!("smoke/{OF_FILES}.png"));
    let conform = || program("mlic-conform");
    let mut commands = [conform(), conform(), conform(), program("mlic"), program("mlic"), program("mlic")];
    let [core, suites, files, version, encode, decode] = &mut commands;
    core.args(["run", "core", "--vector", OF_MODEL]);
    suites.arg("run").args(SUITES).args(["--backend", "integer"]);
    files.args(["run", "smoke", "--vector", OF_FILES, "--suite-dir"]).arg(&data);
    version.arg("--version");
    encode.arg("encode").arg(&picture).arg("-o").arg(&stream);
    decode.arg("decode").arg(&stream).arg("-o").arg(&decoded);
    Ok(commands.iter_mut().filter_map(|command| output(command).err()).collect())
}

/// Checks that a program in C, compiled with the files of the library's packages, decodes in the image.
fn in_c(tools: &Tools, packages: &Packages, image: &Image, folder: &Path) -> Result<Vec<String>, String> {
    let root = folder.join("development");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(io(&root))?;
    }
    for ((_, _), deb) in tree::PACKAGES.iter().zip(&packages.debs).filter(|((name, _), _)| name.starts_with("lib")) {
        output(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&root))?;
    }
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.args(["--cflags", "--libs", "mlic"]).env("PKG_CONFIG_SYSROOT_DIR", &root);
    pkg_config.env("PKG_CONFIG_LIBDIR", root.join(tree::LIBRARIES).join("pkgconfig")).env_remove("PKG_CONFIG_PATH");
    // Without these, pkg-config would omit the folders, as a system's own; they are not those of this system.
    pkg_config.envs([("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1"), ("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1")]);
    let flags = output(&mut pkg_config)?;
    let decode = root.join("decode");
    build::in_c(tools, &crate::root().join("crates/mlic-capi/tests/c/decode.c"), &flags, &decode)?;
    let data = image.place("usr/share/mlic/conformance");
    let [stream, model] = OF_LIBRARY.map(|path| data.join(path));
    let coded = image.place(CODED);
    let findings = [(&stream, Some(&model)), (&coded, None)].map(|(stream, model)| decodes_alike(image, &decode, stream, model));
    Ok(findings.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Checks that a program in C decodes a stream to the same picture as `mlic`. Both use `model` or, without one, the library's own model and the
/// installed one.
fn decodes_alike(image: &Image, decode: &Path, stream: &Path, model: Option<&PathBuf>) -> Result<Option<String>, String> {
    let (by_mlic, by_library) = (image.place("decoded.ppm"), image.place("decoded-in-c.ppm"));
    let mut mlic = image.run(&image.place("usr/bin/mlic"));
    mlic.args(["decode", "--force"]).arg(stream).arg("-o").arg(&by_mlic);
    model.map(|model| mlic.arg("--model").arg(model));
    output(&mut mlic)?;
    let written = File::create(&by_library).map_err(io(&by_library))?;
    let mut in_c = image.run(decode);
    let status = in_c.arg(stream).args(model).stdout(written).status().map_err(|e| format!("{in_c:?}: {e}"))?;
    let read = |path: &Path| fs::read(path).map_err(io(path));
    let is_alike = status.success() && read(&by_mlic)? == read(&by_library)?;
    println!("jetson: {}: decodes {} in C: {is_alike}", LIBRARY.0, stream.display());
    Ok((!is_alike).then(|| format!("{in_c:?}: {status}, or another picture than of {mlic:?}")))
}
