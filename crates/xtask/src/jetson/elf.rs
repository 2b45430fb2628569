//! What a program or library needs to run, and what a library exports, as `readelf` prints it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use super::build::GLIBC;
use crate::cross::output;

/// The parts of glibc, all in Debian's package `libc6`.
const OF_LIBC: [&str; 6] = ["ld-linux-aarch64.so.1", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"];

/// A program or a library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// The processor, as `readelf` names it.
    pub machine: String,
    /// Whether it has symbols that running does not need.
    pub has_symbols: bool,
    /// The name by which programs linked with a library look for it: its name and the number of its interface.
    pub soname: Option<String>,
    /// Functions and data that others may use.
    pub exports: BTreeSet<String>,
    /// Libraries that it needs.
    pub libraries: BTreeSet<String>,
    /// Versions of the symbols that it needs, such as `GLIBC_2.31`.
    pub versions: BTreeSet<String>,
}

/// Reads a program or library.
///
/// # Errors
/// When `readelf` cannot read it.
pub fn read(path: &Path) -> Result<Elf, String> {
    let wanted = ["--wide", "--file-header", "--section-headers", "--dynamic", "--version-info", "--dyn-syms"];
    output(Command::new("readelf").env("LC_ALL", "C").args(wanted).arg(path)).map(|text| parse(&text))
}

/// Whether a file is a program or a library, and not a link to one.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    let mut magic = [0; 4];
    !path.is_symlink() && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// Parses what `readelf` printed.
#[must_use]
pub fn parse(text: &str) -> Elf {
    let mut elf = Elf::default();
    for line in text.lines() {
        if let Some(machine) = line.trim_start().strip_prefix("Machine:") {
            elf.machine = machine.trim().to_owned();
        }
        elf.has_symbols |= line.split_whitespace().any(|word| word == ".symtab");
        let bracketed = |before: &str| line.split_once(before).and_then(|(_, rest)| rest.split(']').next()).map(str::to_owned);
        elf.libraries.extend(bracketed("Shared library: ["));
        elf.soname = elf.soname.or_else(|| bracketed("Library soname: ["));
        if let [_, _, _, _, "GLOBAL" | "WEAK", "DEFAULT" | "PROTECTED", section, name] =
            line.split_whitespace().collect::<Vec<_>>()[..]
            && section != "UND"
        {
            elf.exports.insert(name.to_owned());
        }
        if let Some(version) = line.split_once("Name: ").and_then(|(_, rest)| rest.split_whitespace().next())
            && line.contains("Flags:")
        {
            elf.versions.insert(version.to_owned());
        }
    }
    elf
}

impl Elf {
    /// The newest version of glibc that it needs.
    #[must_use]
    pub fn glibc(&self) -> (u32, u32) {
        let parts = |version: &str| {
            let (major, rest) = version.strip_prefix("GLIBC_")?.split_once('.')?;
            Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
        };
        self.versions.iter().filter_map(|version| parts(version)).max().unwrap_or_default()
    }

    /// What is wrong with it, or keeps it from running on every Jetson with JetPack 5 or later.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.machine != "AArch64" {
            findings.push(format!("is for {:?}", self.machine));
        }
        if self.has_symbols {
            findings.push("is not stripped".to_owned());
        }
        if self.glibc() == (0, 0) {
            findings.push("names no version of glibc: is it linked dynamically?".to_owned());
        }
        if self.glibc() > GLIBC {
            findings.push(format!("needs glibc {}.{}", self.glibc().0, self.glibc().1));
        }
        let foreign = |library: &&String| !OF_LIBC.contains(&library.as_str());
        findings.extend(self.libraries.iter().filter(foreign).map(|library| format!("needs {library}, which is not of glibc")));
        let other = |version: &&String| !version.starts_with("GLIBC_");
        findings.extend(self.versions.iter().filter(other).map(|version| format!("needs {version}, which is not of glibc")));
        findings
    }
}

/// The Debian package that all programs and libraries depend on.
#[must_use]
pub fn depends<'a>(elves: impl Iterator<Item = &'a Elf>) -> String {
    let (major, minor) = elves.map(Elf::glibc).max().unwrap_or(GLIBC);
    format!("libc6 (>= {major}.{minor})")
}
