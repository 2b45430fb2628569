//! What a program needs to run, as `readelf` says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::build::GLIBC;
use crate::cross::output;

/// The parts of glibc, all in Debian's package `libc6`.
const OF_LIBC: [&str; 6] = ["ld-linux-aarch64.so.1", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"];

/// A program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// The processor, as `readelf` names it.
    pub machine: String,
    /// Whether it has symbols that running does not need.
    pub has_symbols: bool,
    /// Libraries.
    pub libraries: BTreeSet<String>,
    /// Versions of symbols, `GLIBC_2.31` and the like.
    pub versions: BTreeSet<String>,
}

/// Reads a program.
///
/// # Errors
/// When `readelf` cannot.
pub fn read(path: &Path) -> Result<Elf, String> {
    let wanted = ["--wide", "--file-header", "--section-headers", "--dynamic", "--version-info"];
    output(Command::new("readelf").env("LC_ALL", "C").args(wanted).arg(path)).map(|text| parse(&text))
}

/// What `readelf` printed.
#[must_use]
pub fn parse(text: &str) -> Elf {
    let mut elf = Elf::default();
    for line in text.lines() {
        if let Some(machine) = line.trim_start().strip_prefix("Machine:") {
            elf.machine = machine.trim().to_owned();
        }
        elf.has_symbols |= line.split_whitespace().any(|word| word == ".symtab");
        if let Some(library) = line.split_once("Shared library: [").and_then(|(_, rest)| rest.split(']').next()) {
            elf.libraries.insert(library.to_owned());
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
    /// The newest glibc that it asks for.
    #[must_use]
    pub fn glibc(&self) -> (u32, u32) {
        let parts = |version: &str| {
            let (major, rest) = version.strip_prefix("GLIBC_")?.split_once('.')?;
            Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
        };
        self.versions.iter().filter_map(|version| parts(version)).max().unwrap_or_default()
    }

    /// What keeps it from running on every Jetson with JetPack 5 or later.
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

/// The Debian package that all programs depend on.
#[must_use]
pub fn depends<'a>(programs: impl Iterator<Item = &'a Elf>) -> String {
    let (major, minor) = programs.map(Elf::glibc).max().unwrap_or(GLIBC);
    format!("libc6 (>= {major}.{minor})")
}
