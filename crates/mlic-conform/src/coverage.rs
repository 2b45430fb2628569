//! Measures what the suites reach of SPEC: an instrumented decoder runs every vector, and a list of the cases of the arithmetic says what there is to reach.
//!
//! The decoder is [`ObservingBackend`], an implementation of its own, held to the digests of the same vectors up to `y_hat` and the exact pixels. For a
//! large model the fast kernels run the networks, and only the streams are examined.

mod list;
mod log;
mod ops;
mod synthesis;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use mlic::{BackendChoice, backend};
use mlic_backend::Backend;
use mlic_core::cdf::CdfTable;
use mlic_core::checkerboard::Parity;
use mlic_core::container;
use mlic_model::Model;
use serde_json::{Value, json};

pub use list::{EXCLUDED, IMPLIED, Item, items};
pub use log::Log;
pub use ops::ObservingBackend;

use crate::check::check;
use crate::error::ConformError;
use crate::manifest::{Expect, Level, Vector};
use crate::record::{Recorder, Recording};
use crate::run::{in_parallel, job};
use crate::store::{Models, Store, Suite};

/// Networks of more weights than this are not instrumented.
const MAX_WEIGHTS: u64 = 1 << 20;

/// What the suites reach.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// Suites and the number of their vectors.
    pub suites: Vec<(String, usize)>,
    /// Vectors that the instrumented decoder did not pass: if there are any, nothing that it notes means anything.
    pub failed: Vec<String>,
    /// Items of the list that were reached.
    pub reached: Vec<Item>,
    /// Items that were not reached.
    pub missing: Vec<Item>,
    /// Items that are left out, each with its reason.
    pub excluded: Vec<Item>,
}

/// Measures suites.
///
/// # Errors
/// When a suite or its model cannot be used.
pub fn measure(store: &Store, models: &Models, suites: &[String], jobs: usize) -> Result<Coverage, ConformError> {
    let log = Arc::new(Mutex::new(Log::default()));
    let (mut sizes, mut failed) = (Vec::new(), Vec::new());
    for name in suites {
        let suite = store.suite(name)?;
        let model = models.find(store, &suite.manifest.model)?;
        let vectors: Vec<&Vector> = suite.manifest.vectors.iter().collect();
        let problems = in_parallel(&vectors, jobs, |vector| observe(&suite, vector, &model, &log));
        failed.extend(problems.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten());
        sizes.push((name.clone(), vectors.len()));
    }
    let met = log.lock().unwrap_or_else(PoisonError::into_inner).names();
    Ok(Coverage::of(sizes, failed, &met))
}

/// Decodes one vector; returns its name and verdict if it does not pass.
fn observe(
    suite: &Suite<'_>,
    vector: &Vector,
    model: &Arc<Model>,
    log: &Arc<Mutex<Log>>,
) -> Result<Option<String>, ConformError> {
    let weights: u64 = model.layout().layers.iter().map(|layer| layer.weight_count()).sum();
    let observing: Arc<dyn Backend> = if weights <= MAX_WEIGHTS {
        Arc::new(ObservingBackend::new(Arc::clone(model), Arc::clone(log)))
    } else {
        backend(Arc::clone(model), BackendChoice::Integer, 1)?
    };
    let (job, recorder) = (job(suite, vector)?, Arc::new(Recorder::new(observing)));
    let recording = Arc::clone(&recorder) as Arc<dyn Backend>;
    let exact = matches!(&vector.expect, Expect::Decodes(decodes) if decodes.pixels.is_some());
    let verdict = check(&job, &recording, if exact { Level::L4 } else { Level::L3 }).verdict;
    if !verdict.is_pass() {
        return Ok(Some(format!("{}/{}: {verdict}", suite.manifest.suite, vector.name)));
    }
    let log = &mut *log.lock().unwrap_or_else(PoisonError::into_inner);
    match &vector.expect {
        Expect::Refused(refused) => log.mark(format!("error {}", refused.code)),
        Expect::PackageRefused(refused) => log.mark(format!("package error {}", refused.code)),
        Expect::PackageTaken {} => log.mark("package taken"),
        Expect::Decodes(decodes) => {
            note_header(log, &job.stream, model)?;
            if decodes.pixels.is_some() {
                log.mark(if decodes.header.gray { "gray pixels" } else { "colour pixels" });
                if decodes.whole_slices.is_some() {
                    log.mark("pixels of a truncated stream");
                }
            }
            if let Some(whole) = decodes.whole_slices {
                let what = if whole == 0 {
                    "no slice"
                } else if whole < model.config().slices {
                    "some slices"
                } else {
                    "all slices"
                };
                log.mark(format!("truncated, {what} whole"));
            } else {
                note_symbols(log, model, &recorder.recording(), decodes.header.lanes_log2);
            }
        }
    }
    Ok(None)
}

fn note_header(log: &mut Log, stream: &[u8], model: &Model) -> Result<(), ConformError> {
    let parsed = container::parse(stream)?;
    let (header, config) = (parsed.header, model.config());
    let quality = header.quality;
    log.mark(format!("quality {quality}"));
    let level = config.scale_level(quality);
    log.mark(format!("activation scales {level} of {}", model.name()));
    if quality > 0 && config.scale_level(quality - 1) != level {
        log.mark("first quality of a level");
    }
    if quality < config.quality_steps && config.scale_level(quality + 1) != level {
        log.mark("last quality of a level");
    }
    log.mark(format!("2^{} lanes", header.lanes_log2));
    log.mark(if header.gray { "gray" } else { "colour" });
    let sides = [header.width, header.height];
    for (side, name) in [(63, "a side of 63"), (65, "a side of 65")] {
        if sides.contains(&side) {
            log.mark(name);
        }
    }
    for (met, name) in [(sides[0] == 1, "width 1"), (sides[1] == 1, "height 1"), (sides == [64, 64], "sides of 64")] {
        if met {
            log.mark(name);
        }
    }
    if parsed.damage.is_some() && parsed.payload.len() == parsed.payload_len {
        log.mark("truncated after the payload");
    }
    log.mark(format!("{} sections", parsed.sections.len()));
    for section in &parsed.sections {
        if section.kind.0 > 3 {
            log.mark("section of unknown kind");
        }
        if section.bytes.is_empty() {
            log.mark("section without contents");
        }
    }
    Ok(())
}

/// Notes the symbols of a whole stream, and how its lanes take turns.
fn note_symbols(log: &mut Log, model: &Model, recording: &Recording, lanes_log2: u8) {
    let mut intervals = 0;
    let channels = model.z_cdfs().len();
    for (i, symbol) in recording.z.iter().flatten().enumerate() {
        log.mark(format!("z channel {} of {}", i % channels, model.name()));
        if let Some(table) = model.z_cdfs().get(i % channels) {
            places_in(table, *symbol).for_each(|place| log.mark(format!("{place} of a z table")));
            intervals += note_symbol(log, table, *symbol);
        }
    }
    for pass in &recording.passes {
        let slice = if pass.pass.slice_index == 0 { "the first slice" } else { "a later slice" };
        let half = if pass.pass.parity == Parity::Anchor { "anchors" } else { "non-anchors" };
        log.mark(format!("{half} of {slice}"));
        let indices = &pass.parameters.scale_indices;
        let coded = |index: &&u8| **index >= model.config().skip_below;
        let count = indices.iter().filter(coded).count();
        if count < indices.len() {
            log.mark("skipped symbol");
        }
        log.mark(match count {
            0 => "pass without a coded symbol",
            _ if count == indices.len() => "pass with every symbol coded",
            _ => "pass with some symbols coded",
        });
        for (symbol, index) in pass.symbols.iter().flatten().zip(indices).filter(|(_, index)| coded(index)) {
            if let Some(table) = model.y_cdfs().get(usize::from(*index)) {
                places_in(table, *symbol).for_each(|place| log.region(in_y(place), 64, usize::from(*index)));
                intervals += note_symbol(log, table, *symbol);
            }
        }
    }
    let lanes = 1_usize << lanes_log2;
    for (met, name) in [
        (intervals < lanes, "fewer intervals than lanes"),
        (intervals > 1 << 17, "more than 2^17 intervals"),
        (intervals.is_multiple_of(lanes) && lanes > 1, "seal begins at the first lane"),
        (!intervals.is_multiple_of(lanes), "seal begins at another lane"),
    ] {
        if met {
            log.mark(name);
        }
    }
}

/// Returns where a symbol lies in its table. If a table has one symbol, that is both the lowest and the highest.
fn places_in(table: &CdfTable, symbol: i32) -> impl Iterator<Item = &'static str> {
    let (low, high) = (table.min_symbol(), table.max_symbol());
    let places = [
        (symbol > high, "escape above"),
        (symbol < low, "escape below"),
        (symbol == low, "lowest symbol"),
        (symbol == high, "highest symbol"),
        (low < symbol && symbol < high, "other symbol"),
    ];
    places.into_iter().filter(|(is, _)| *is).map(|(_, name)| name)
}

fn in_y(place: &str) -> &'static str {
    match place {
        "escape above" => "escape above of y table",
        "escape below" => "escape below of y table",
        "lowest symbol" => "lowest symbol of y table",
        "highest symbol" => "highest symbol of y table",
        _ => "other symbol of y table",
    }
}

/// Notes a symbol, and returns the number of intervals that it takes.
fn note_symbol(log: &mut Log, table: &CdfTable, symbol: i32) -> usize {
    let bin = table.bin_of_symbol(symbol);
    let slots = table.interval(bin.unwrap_or(table.escape_bin())).map_or(0, |interval| interval.freq());
    let bins = table.bin_count();
    for (met, name) in [
        (symbol == 32_767, "symbol 32767"),
        (symbol == -32_767, "symbol -32767"),
        (symbol == 0, "symbol 0"),
        (slots == 1, "bin of one slot"),
        (slots == u16::MAX, "bin of 65535 slots"),
        (bins == 2, "table of 2 bins"),
        (bins > 256, "table of more than 256 bins"),
        (bins == 65_535, "table of 65535 bins"),
    ] {
        if met {
            log.mark(name);
        }
    }
    if bin.is_some() {
        return 1;
    }
    let above = i64::from(symbol) - i64::from(table.max_symbol());
    let below = i64::from(table.min_symbol()) - i64::from(symbol);
    let (number, side) = if above > 0 { (2 * above - 1, "above") } else { (2 * below, "below") };
    log.mark(format!("escape of {} bits {side}", number.ilog2()));
    if number > 1 { 3 } else { 2 }
}

impl Coverage {
    fn of(suites: Vec<(String, usize)>, failed: Vec<String>, met: &BTreeSet<String>) -> Self {
        let (excluded, wanted): (Vec<Item>, Vec<Item>) = items().into_iter().partition(|item| item.excluded.is_some());
        let (reached, missing) = wanted.into_iter().partition(|item| met.contains(&item.name));
        Self { suites, failed, reached, missing, excluded }
    }

    /// Whether everything is reached, by a decoder that passes every vector.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.failed.is_empty()
    }

    fn clauses(&self) -> BTreeSet<&'static str> {
        self.reached.iter().chain(&self.missing).map(|item| item.clause).collect()
    }

    fn count(items: &[Item], clause: &str) -> usize {
        items.iter().filter(|item| item.clause == clause).count()
    }

    /// Returns the result as text, for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (suite, vectors) in &self.suites {
            let _ = writeln!(out, "suite {suite}: {vectors} vectors");
        }
        for clause in self.clauses() {
            let (reached, missing) = (Self::count(&self.reached, clause), Self::count(&self.missing, clause));
            let _ = writeln!(out, "SPEC {clause:5} {reached:4} of {:4}", reached + missing);
        }
        for problem in &self.failed {
            let _ = writeln!(out, "FAILED {problem}");
        }
        for item in &self.missing {
            let _ = writeln!(out, "NOT REACHED {} (SPEC {})", item.name, item.clause);
        }
        for item in &self.excluded {
            let _ = writeln!(out, "left out: {} (SPEC {}): {}", item.name, item.clause, item.excluded.unwrap_or_default());
        }
        for (what, why) in IMPLIED {
            let _ = writeln!(out, "cannot be broken: {what} (SPEC 4.9): {why}");
        }
        let total = self.reached.len() + self.missing.len();
        let _ = writeln!(out, "{} of {total} reached, {} left out", self.reached.len(), self.excluded.len());
        out
    }

    /// Returns the result as JSON, for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let plain = |items: &[Item]| -> Vec<Value> {
            items.iter().map(|item| json!({ "name": item.name, "clause": item.clause, "reason": item.excluded })).collect()
        };
        json!({
            "complete": self.is_complete(),
            "suites": self.suites.iter().map(|(name, vectors)| json!({ "name": name, "vectors": vectors })).collect::<Vec<_>>(),
            "reached": plain(&self.reached),
            "missing": plain(&self.missing),
            "excluded": plain(&self.excluded),
            "failed": self.failed,
        })
    }
}
