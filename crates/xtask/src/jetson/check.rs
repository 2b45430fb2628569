//! What must hold of the packages.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use wildmatch::WildMatch;

use super::archive::{self, Packages};
use super::build::{GLIBC, PROGRAMS, Programs};
use super::image::Image;
use super::tools::Tools;
use super::{Options, SHIPPED, elf, tree};
use crate::cross::{io, output, suite};

/// Largest `mlic`, in bytes.
const MAX_PROGRAM_LEN: u64 = 12_000_000;
/// A vector of the suite `core`, which needs the installed model: every stage, with the picture.
const OF_MODEL: &str = "flat-16x16-q25";
/// A vector of the suite that is installed as files, and its picture.
const OF_FILES: &str = "gradient-16x16-q50";

/// Checks everything; one line for each thing that does not hold.
///
/// # Errors
/// When a check could not be made.
pub fn all(tools: &Tools, programs: &Programs, packages: &Packages, options: &Options) -> Result<Vec<String>, String> {
    let folder = &options.output;
    let mut findings = contents(packages)?;
    findings.extend(needs(programs, options.profile == SHIPPED)?);
    findings.extend(is_repeatable(tools, programs, packages, folder)?);
    findings.extend(lint(packages)?);
    findings.extend(runs(tools, packages, folder)?);
    Ok(findings)
}

/// Both archives have the files of `packaging/files.txt` and no others, owned by root.
fn contents(packages: &Packages) -> Result<Vec<String>, String> {
    let path = crate::root().join("packaging/files.txt");
    let list = fs::read_to_string(&path).map_err(io(&path))?;
    let deb = output(Command::new("dpkg-deb").arg("--contents").arg(&packages.deb))?;
    let overlay = output(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(&packages.overlay))?;
    let mut findings = differences(&list, &deb, "root/root");
    findings.extend(differences(&list, &overlay, "0/0"));
    Ok(findings)
}

/// Files that a list has and an archive has not, or the other way round.
///
/// The list has lines `MODE PATH` and `MODE PATH -> TARGET`, where `*` stands for any part of a name, as `tar` prints them.
/// Folders are not listed: each must be open to all and hold a listed file.
#[must_use]
pub fn differences(list: &str, archive: &str, owner: &str) -> Vec<String> {
    let listed: Vec<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
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

/// The programs need glibc alone, no newer than that of JetPack 5, and those that are shipped are small.
fn needs(programs: &Programs, is_shipped: bool) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for (program, _) in PROGRAMS {
        let path = programs.folder.join(program);
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

/// Packed again elsewhere, the archives have the same bytes.
fn is_repeatable(tools: &Tools, programs: &Programs, packages: &Packages, folder: &Path) -> Result<Vec<String>, String> {
    let again = folder.join("again");
    fs::create_dir_all(&again).map_err(io(&again))?;
    let repeated = archive::make(tools, programs, &again)?;
    let mut findings = Vec::new();
    for (one, other) in [(&packages.deb, &repeated.deb), (&packages.overlay, &repeated.overlay)] {
        if fs::read(one).map_err(io(one))? != fs::read(other).map_err(io(other))? {
            findings.push(format!("{} and {} differ", one.display(), other.display()));
        }
    }
    fs::remove_dir_all(&again).map_err(io(&again))?;
    Ok(findings)
}

/// Debian's own checker has nothing to say.
fn lint(packages: &Packages) -> Result<Vec<String>, String> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(&packages.deb);
    let said = lintian.output().map_err(|e| format!("lintian: {e}; it is a package of Debian"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    Ok(if said.status.success() { Vec::new() } else { vec![format!("lintian:\n{text}")] })
}

/// From an unpacked image, on the libraries of JetPack 5's age, the programs pass the self-test and code a picture.
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
    Ok(findings)
}

/// systemd understands the unit, its programs are there, and the target that wants it does not wait for it.
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

/// The report that the unit wrote is of every vector, on this processor.
fn self_test(image: &Image) -> Result<Vec<String>, String> {
    let path = image.place("var/lib/mlic/selftest.json");
    let report: Value = serde_json::from_slice(&fs::read(&path).map_err(io(&path))?).map_err(|e| e.to_string())?;
    let (vectors, wanted) = (&report["suites"][0]["vectors"], suite::find("smoke")?.vectors);
    let passed = vectors.as_array().into_iter().flatten().filter(|vector| vector["verdict"] == "pass").count();
    println!("jetson: self-test: {passed} of {wanted} vectors pass on {}, level {}", report["host"]["arch"], report["level"]);
    let holds = report["pass"] == true && passed == wanted && report["host"]["arch"] == "aarch64" && report["level"] == 4;
    Ok(if holds { Vec::new() } else { vec![format!("self-test: {passed} of {wanted} vectors pass:\n{report:#}")] })
}

/// The report on the GPU, of which the image has none, says so of every vector.
fn without_gpu(image: &Image) -> Result<Vec<String>, String> {
    let path = image.place("var/lib/mlic/selftest-cuda.json");
    let report: Value = serde_json::from_slice(&fs::read(&path).map_err(io(&path))?).map_err(|e| e.to_string())?;
    let vectors = report["suites"][0]["vectors"].as_array().map_or(&[][..], Vec::as_slice);
    let says_so = |vector: &Value| vector["verdict"] == "not supported" && vector.to_string().contains("there is no CUDA driver");
    let holds = report["backend"] == "cuda" && report["pass"] == false && !vectors.is_empty() && vectors.iter().all(says_so);
    Ok(if holds { Vec::new() } else { vec![format!("self-test: not the report of a machine without a GPU:\n{report:#}")] })
}

/// The installed model and suite are found by the programs, and a picture is coded with them.
fn with_model(image: &Image) -> Result<Vec<String>, String> {
    let program = |name: &str| image.run(&image.place("usr/bin").join(name));
    let (stream, decoded) = (image.place("coded.mlic"), image.place("decoded.png"));
    let data = image.place("usr/share/mlic/conformance");
    let picture = data.join(format!("smoke/{OF_FILES}.png"));
    let mut commands = [program("mlic-conform"), program("mlic-conform"), program("mlic"), program("mlic"), program("mlic")];
    let [core, files, version, encode, decode] = &mut commands;
    core.args(["run", "core", "--vector", OF_MODEL]);
    files.args(["run", "smoke", "--vector", OF_FILES, "--suite-dir"]).arg(&data);
    version.arg("--version");
    encode.arg("encode").arg(&picture).arg("-o").arg(&stream);
    decode.arg("decode").arg(&stream).arg("-o").arg(&decoded);
    Ok(commands.iter_mut().filter_map(|command| output(command).err()).collect())
}
