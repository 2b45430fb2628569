//! Makes `docs/PLATFORMS.md` from `docs/platforms.json`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::platform::{PLATFORMS, Platform};
use super::record::{Record, Run};
use super::{Records, io, suite};

/// The runs that the document has columns for.
const COLUMNS: [(&str, &str); 8] = [
    ("smoke", "integer"),
    ("smoke", "reference"),
    ("edge-cases", "integer"),
    ("edge-cases-scales", "integer"),
    ("edge-cases-fixed", "integer"),
    ("edge-cases-ties", "integer"),
    ("negative", "integer"),
    ("core", "integer"),
];

const INTRODUCTION: &str = "# Platforms

Made by `cargo xtask cross --record`; do not edit. The results are in `platforms.json`.

The same suites, by the same program, on every architecture: `mlic-conform`, built without float transforms, runs each suite as far as
everything is exact: to level 3, that is header, symbols, means and scale indices of every pass, and `y_hat`; or to level 4, every sample of
the picture too, where the model has an integer synthesis. The backend `integer` is the fast one, with the best
instruction set that the processor has; `reference` is the definition.

A digest here stands for a whole suite: SHA-256 (the first 16 digits) over the model id and, for each vector, its name, its stream's SHA-256
and everything exact that is expected of it. It is computed from the manifest, not on the platform. What the platform does is to
compute every single value in it and compare: where all vectors pass, it has computed exactly what the digest is made of, and only then
does the digest stand in its row.
";

const LIMITS: &str = "
## What is not promised

- **Float pictures.** Pixels are exact where the model has an integer synthesis and it is not set aside. The float transforms (tract) round
  differently from one instruction set to the next (within the tolerance that level 4 states), and tract's reader of float weights does
  not swap bytes, so that on big-endian machines (s390x) there is no float picture at all. The exact path does not touch them.
- **Speed.** Seconds under an emulator say nothing about a processor.
- **wasm32** is built without threads: vectors run one after another, on the calling thread, and `--timeout` has no effect.
- Emulation is not silicon. QEMU's processor models lack what the real ones lack (an instruction that was not detected first ends the
  program), but errata are not emulated.
";

/// The document for these results.
///
/// # Errors
/// When a suite's manifest cannot be read.
pub fn text(records: &Records) -> Result<String, String> {
    let mut out = INTRODUCTION.to_owned();
    let recorded = || PLATFORMS.iter().filter_map(|p| records.get(p.name).map(|record| (p, record)));
    let suites = COLUMNS.iter().map(|(name, _)| suite::find(name)).collect::<Result<Vec<_>, _>>()?;

    let heading = COLUMNS.iter().zip(&suites).map(|((name, backend), suite)| format!("{name}, {backend}, L{}", suite.level));
    let heading = heading.collect::<Vec<_>>().join(" | ");
    let _ = writeln!(out, "\n## Digests\n\n| platform | {heading} |\n|---|{}", "---|".repeat(COLUMNS.len()));
    for (platform, record) in recorded() {
        let cells = COLUMNS.iter().zip(&suites);
        let cells: Vec<String> = cells.map(|((suite, backend), now)| cell(record.run(suite, backend), now)).collect();
        let _ = writeln!(out, "| {} | {} |", platform.name, cells.join(" | "));
    }
    if out.contains(EARLIER) {
        let _ = writeln!(
            out,
            "\n\"{EARLIER}\" marks a suite that has been changed since: its digest is no longer that of the repository."
        );
    }

    out += "\n## How they ran\n\n| platform | what is special | ran on | passes | compiler | seconds | when |\n|---|---|---|---|---|---|---|\n";
    for (platform, record) in recorded() {
        let _ = writeln!(out, "{}", row(platform, record));
    }
    let missing: Vec<&str> = PLATFORMS.iter().map(|p| p.name).filter(|name| !records.contains_key(*name)).collect();
    if !missing.is_empty() {
        let _ = writeln!(out, "\nNot run yet: {}.", missing.join(", "));
    }
    let _ = writeln!(
        out,
        "\nA row is of the commit that it names: kernels that came after it have not run there. Seconds are of {}, on a machine that did other things too.",
        COLUMNS.map(|(suite, backend)| format!("{suite} by {backend}")).join(", ")
    );
    Ok(out + LIMITS)
}

const EARLIER: &str = "earlier suite";

fn cell(run: Option<&Run>, now: &suite::Suite) -> String {
    let Some(run) = run else { return "not run".into() };
    let earlier = if run.digest == now.digest && run.level == now.level { String::new() } else { format!(", {EARLIER}") };
    match run.is_pass() {
        true => format!("`{}` {}/{}{earlier}", run.digest, run.passed, run.vectors),
        false => format!("**{}/{}**{earlier}: {}", run.passed, run.vectors, run.others.join(", ")),
    }
}

fn row(platform: &Platform, record: &Record) -> String {
    let runs = || COLUMNS.iter().filter_map(|(suite, backend)| record.run(suite, backend));
    let device = runs().find(|run| run.backend == "integer").map_or("-", |run| run.device.as_str());
    let seconds = runs().map(|run| run.seconds.to_string()).collect::<Vec<_>>().join(", ");
    let Record { runs_on, compiler, .. } = record;
    let Platform { name, why, .. } = platform;
    format!("| {name} | {why} | {runs_on} | {device} | {compiler} | {seconds} | {} |", when(record))
}

/// Day and commit of the first run, followed by those of runs that differ, with their suites.
fn when(record: &Record) -> String {
    let runs = || COLUMNS.iter().filter_map(|(suite, backend)| record.run(suite, backend));
    let of = |run: &Run| format!("{}, {}", run.date, run.commit);
    let Some(first) = runs().next().map(of) else { return "-".into() };
    let mut others: Vec<(String, Vec<&str>)> = Vec::new();
    for run in runs().filter(|run| of(run) != first) {
        match others.iter_mut().find(|(when, _)| *when == of(run)) {
            Some((_, suites)) => suites.push(&run.suite),
            None => others.push((of(run), vec![&run.suite])),
        }
    }
    let others = others.iter().map(|(when, suites)| format!("; {}: {when}", suites.join(", ")));
    first + &others.collect::<String>()
}

/// Where the document is.
#[must_use]
pub fn path() -> PathBuf {
    crate::root().join("docs/PLATFORMS.md")
}

/// Writes the document.
///
/// # Errors
/// When it cannot be made or written.
pub fn write(records: &Records) -> Result<(), String> {
    fs::write(path(), text(records)?).map_err(io(&path()))
}
