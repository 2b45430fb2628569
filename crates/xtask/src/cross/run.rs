//! Running the suites on a platform.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::platform::{Machine, Platform};
use super::record::{Record, Run};
use super::setup::Setup;
use super::{Options, build, output, plan, suite};

/// Seconds that a vector may take.
const TIMEOUT: &str = "1200";

/// Compiles for a platform and runs the suites on it.
///
/// # Errors
/// When it cannot be compiled, a program gives no report, a unit test fails, or an encoder does not write the recorded streams.
pub fn platform(platform: &Platform, setup: &Setup, options: &Options) -> Result<Record, String> {
    println!("cross: compiling for {}", platform.name);
    let start = Instant::now();
    let program = build::conform(platform, setup)?;
    println!("cross: compiled for {} in {} s", platform.name, start.elapsed().as_secs());
    if !platform.kernels.is_empty() {
        let start = Instant::now();
        build::test_kernels(platform, setup)?;
        println!("cross: kernels agree on {}: {}, {} s", platform.name, platform.kernels.join(", "), start.elapsed().as_secs());
    }
    let start = Instant::now();
    output(program_on(platform, setup, &program).args(["encode", "--backend", "integer"]))?;
    println!("cross: streams encoded on {} are those recorded, {} s", platform.name, start.elapsed().as_secs());
    let when = [said("date", &["-u", "+%F"])?, commit()?];
    let one = |(suite, backend): &(String, &str)| run(platform, setup, &program, [suite.as_str(), backend], &when);
    let runs = plan(&options.suites).iter().map(one).collect::<Result<_, _>>()?;
    Ok(Record { compiler: build::compiler(setup)?, runs_on: setup.runs_on.clone(), runs })
}

fn said(program: &str, args: &[&str]) -> Result<String, String> {
    output(Command::new(program).args(args).current_dir(crate::root())).map(|text| text.trim().to_owned())
}

/// The repository's commit, with `-dirty` if what is compiled or run is not as committed.
fn commit() -> Result<String, String> {
    let changed = said("git", &["status", "--porcelain", "--", "crates", "conformance", "models", "Cargo.toml", "Cargo.lock"])?;
    let commit = said("git", &["rev-parse", "--short=7", "HEAD"])?;
    Ok(if changed.is_empty() { commit } else { commit + "-dirty" })
}

/// The command that starts the program for a platform.
fn program_on(platform: &Platform, setup: &Setup, program: &Path) -> Command {
    let mut command = match setup.runner.split_first() {
        Some((runner, args)) => {
            let mut command = Command::new(runner);
            command.args(args).arg(program);
            command
        }
        None => Command::new(program),
    };
    if let Machine::Native { isa } = platform.machine {
        command.env("MLIC_CPU", isa);
    }
    // Suites are part of the program: it must read nothing from the folder in which it runs.
    command.current_dir(&setup.target_folder).stderr(Stdio::inherit());
    command
}

fn run(
    platform: &Platform,
    setup: &Setup,
    program: &Path,
    [suite, backend]: [&str; 2],
    [date, commit]: &[String; 2],
) -> Result<Run, String> {
    let (expected, start) = (suite::find(suite)?, Instant::now());
    let mut command = program_on(platform, setup, program);
    let level = expected.level.to_string();
    command.args(["run", suite, "--backend", backend, "--level", &level, "--timeout", TIMEOUT, "--format", "json"]);
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report =
        serde_json::from_str(&text).map_err(|e| format!("{}: no report ({}): {e}\n{text}", platform.name, output.status))?;
    let (device, verdicts) = verdicts(&report, suite).ok_or_else(|| format!("{}: not a report:\n{text}", platform.name))?;
    let (passed, others): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(|(_, verdict)| verdict == "pass");
    if output.status.success() != others.is_empty() {
        return Err(format!("{}: {} with {} vectors that did not pass", platform.name, output.status, others.len()));
    }
    if device_is_other(platform, backend, &device) {
        return Err(format!("{}: the passes ran on {device}", platform.name));
    }
    Ok(Run {
        suite: suite.to_owned(),
        backend: backend.to_owned(),
        device,
        level: expected.level,
        digest: expected.digest,
        vectors: expected.vectors,
        passed: passed.len(),
        others: others.into_iter().map(|(name, verdict)| format!("{name}: {verdict}")).collect(),
        seconds: start.elapsed().as_secs(),
        date: date.clone(),
        commit: commit.clone(),
    })
}

/// Whether other kernels ran than those of the platform. A machine without an instruction set must not be recorded as having it, nor
/// one that has it as tested with it, if other kernels ran.
#[must_use]
pub fn device_is_other(platform: &Platform, backend: &str, device: &str) -> bool {
    let isa = match platform.machine {
        Machine::Native { isa } => isa,
        // The best instruction set comes last.
        Machine::Qemu { .. } | Machine::Wasmtime => platform.kernels.last().unwrap_or(&"scalar"),
    };
    backend == "integer" && !device.ends_with(&format!(", {isa}"))
}

/// The device that ran the passes, and the verdict on each vector of `suite`, which must be the only one of the report.
#[must_use]
pub fn verdicts(report: &Value, suite: &str) -> Option<(String, Vec<(String, String)>)> {
    let suites = report["suites"].as_array().filter(|suites| suites.len() == 1)?;
    let only = suites.first().filter(|only| only["suite"] == suite)?;
    let device = only["devices"].as_object()?.get("passes")?.as_str()?.to_owned();
    let verdict = |v: &Value| Some((v["name"].as_str()?.to_owned(), v["verdict"].as_str()?.to_owned()));
    Some((device, only["vectors"].as_array()?.iter().map(verdict).collect::<Option<_>>()?))
}
