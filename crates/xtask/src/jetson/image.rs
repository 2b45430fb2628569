//! A root file system in a folder, whose programs run here under emulation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::Tools;
use super::tree::UNIT;
use crate::cross::{io, output};

/// A root file system.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its folder.
    pub root: PathBuf,
    /// The emulator's command, without the option for the root file system.
    pub runner: Vec<String>,
}

/// The variable for which systemd gives the unit its state folder.
const STATE: &str = "${STATE_DIRECTORY}";
/// The reports that the unit writes to its state folder.
const REPORTS: [&str; 4] = ["selftest.json", "selftest.txt", "selftest-cuda.json", "selftest-cuda.txt"];

impl Image {
    /// Unpacks Debian's C library and basic programs, and an archive over them, as is done before a device is flashed.
    ///
    /// # Errors
    /// When it cannot be unpacked.
    pub fn unpack(tools: &Tools, overlay: &Path, root: &Path) -> Result<Self, String> {
        if root.exists() {
            fs::remove_dir_all(root).map_err(io(root))?;
        }
        output(Command::new("cp").arg("--archive").arg(&tools.userland).arg(root))?;
        output(Command::new("tar").arg("--extract").arg("--file").arg(overlay).arg("--directory").arg(root))?;
        Ok(Self { root: root.to_owned(), runner: tools.runner.clone() })
    }

    /// The command that runs a program, given by its path on this machine, with the libraries of the image.
    #[must_use]
    pub fn run(&self, program: &Path) -> Command {
        let mut words = self.runner.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words).arg("-L").arg(&self.root).arg(program).env_clear().env("LC_ALL", "C");
        command
    }

    /// Where a path of the image is on this machine.
    #[must_use]
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The line in which the C library states its version when it is run as a program.
    ///
    /// # Errors
    /// When it does not run.
    pub fn libc(&self) -> Result<String, String> {
        let said = output(&mut self.run(&self.place("lib/aarch64-linux-gnu/libc.so.6")))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// Does what systemd does for the unit on a first boot: its commands in order, in a state folder of the image.
    ///
    /// Returns what failed, in words: nothing if the self-test passed and would not run again.
    ///
    /// # Errors
    /// When the unit cannot be read, or one of its programs cannot be started.
    pub fn first_boot(&self) -> Result<Vec<String>, String> {
        let path = self.place(UNIT);
        let unit = fs::read_to_string(&path).map_err(io(&path))?;
        let state = self.place("var/lib/mlic");
        fs::create_dir_all(&state).map_err(io(&state))?;
        let of = |key: &str| -> Vec<&str> { unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect() };
        let mut findings = Vec::new();
        for line in ["ExecStartPre", "ExecStart", "ExecStartPost"].into_iter().flat_map(of) {
            if !self.unit_command(line, &state)? {
                findings.push(format!("self-test: {line}: failed"));
                break;
            }
        }
        for line in of("ExecStopPost") {
            if !self.unit_command(line, &state)? {
                findings.push(format!("self-test: {line}: failed"));
            }
        }
        let [condition] = of("ConditionPathExists")[..] else { return Err(format!("{UNIT}: not one ConditionPathExists")) };
        let Some(mark) = condition.strip_prefix('!') else {
            return Err(format!("{UNIT}: {condition}: not a condition on a file"));
        };
        if !self.place(mark).is_file() {
            findings.push(format!("self-test: it would run again, for {mark} was not written"));
        }
        for report in REPORTS {
            if fs::metadata(state.join(report)).map_or(0, |file| file.len()) == 0 {
                findings.push(format!("self-test: {report} was not written"));
            }
        }
        Ok(findings)
    }

    /// Runs one command of a unit. Returns whether it succeeded or, if its status does not matter, whether it ended by itself.
    fn unit_command(&self, line: &str, state: &Path) -> Result<bool, String> {
        let (may_fail, line) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
        let line = line.replace(STATE, &state.display().to_string());
        let mut words = line.split_whitespace();
        let mut command = self.run(&self.place(words.next().unwrap_or_default()));
        let status = command.args(words).status().map_err(|e| format!("{command:?}: {e}"))?;
        // Without a code, a signal ended it.
        Ok(status.success() || may_fail && status.code().is_some())
    }
}
