//! A suite against a backend.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mlic_backend::Backend;

use crate::check::{Job, check};
use crate::error::ConformError;
use crate::manifest::{Expect, Level, Vector};
use crate::report::{SuiteReport, VectorReport, devices};
use crate::store::Suite;
use crate::verdict::Verdict;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How far to compare.
    pub level: Level,
    /// Vectors at once; at least one.
    pub jobs: usize,
    /// For each vector.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Level::L4, jobs: 1, timeout: Duration::from_secs(600) }
    }
}

/// Takes a backend through a suite.
///
/// Vectors that can only be judged above [`Options::level`] are left out; the report counts them.
#[must_use]
pub fn run(suite: &Suite<'_>, backend: Arc<dyn Backend>, options: &Options) -> SuiteReport {
    let selected: Vec<&Vector> = suite.manifest.vectors.iter().filter(|v| v.expect.level() <= options.level).collect();
    let wanted = &suite.manifest.model.id;
    let (have, devices) = (backend.model().id().to_string(), devices(backend.as_ref()));
    let judge = |vector: &Vector| match have == *wanted {
        true => judge(suite, vector, &backend, options),
        false => Verdict::NotSupported(format!("the streams need model {wanted}, the backend has {have}")),
    };
    let vectors = in_parallel(&selected, options.jobs, |vector| timed(vector, judge));
    let left_out = suite.manifest.vectors.len() - selected.len();
    SuiteReport { suite: suite.manifest.suite.clone(), model: suite.manifest.model.clone(), devices, vectors, left_out }
}

/// The report of a suite that cannot be run at all.
#[must_use]
pub fn not_run(suite: &Suite<'_>, level: Level, verdict: &Verdict) -> SuiteReport {
    let selected = suite.manifest.vectors.iter().filter(|v| v.expect.level() <= level);
    let vectors: Vec<VectorReport> = selected.map(|vector| timed(vector, |_| verdict.clone())).collect();
    let left_out = suite.manifest.vectors.len() - vectors.len();
    SuiteReport {
        suite: suite.manifest.suite.clone(),
        model: suite.manifest.model.clone(),
        devices: Vec::new(),
        vectors,
        left_out,
    }
}

fn timed(vector: &Vector, judge: impl FnOnce(&Vector) -> Verdict) -> VectorReport {
    let start = Instant::now();
    let verdict = judge(vector);
    VectorReport { name: vector.name.clone(), why: vector.why.clone(), verdict, seconds: start.elapsed().as_secs_f64() }
}

/// Results in the order of the items; on the calling thread alone where one job is wanted.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], jobs: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if jobs <= 1 {
        return items.iter().map(work).collect();
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while let Some((index, item)) = take(items, &next) {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}

/// Reads the files of a vector.
///
/// # Errors
/// When one is missing or damaged.
pub fn job(suite: &Suite<'_>, vector: &Vector) -> Result<Job, ConformError> {
    let picture = match &vector.expect {
        Expect::Decodes(decodes) => decodes.picture.as_ref().map(|picture| suite.read(&picture.image)).transpose()?,
        Expect::Refused(_) | Expect::PackageRefused(_) => None,
    };
    Ok(Job { stream: suite.read(&vector.stream)?, expect: vector.expect.clone(), picture })
}

/// On a thread of its own: a decoder that hangs is left behind, one that panics is an error. Where there are no threads it
/// runs on this one, for as long as it takes.
fn judge(suite: &Suite<'_>, vector: &Vector, backend: &Arc<dyn Backend>, options: &Options) -> Verdict {
    let job = match job(suite, vector) {
        Ok(job) => job,
        Err(error) => return Verdict::Error(error.chain()),
    };
    let (backend, level) = (Arc::clone(backend), options.level);
    let (send, receive) = channel();
    let caught = move || {
        let verdict = catch_unwind(AssertUnwindSafe(|| check(&job, backend, level)));
        verdict.unwrap_or_else(|panic| Verdict::Error(format!("the decoder panicked: {}", said(&*panic))))
    };
    if cfg!(all(target_family = "wasm", not(target_feature = "atomics"))) {
        return caught();
    }
    if let Err(error) = std::thread::Builder::new().name(format!("vector {}", vector.name)).spawn(move || send.send(caught())) {
        return Verdict::NotRun(format!("no thread: {error}"));
    }
    match receive.recv_timeout(options.timeout) {
        Ok(verdict) => verdict,
        Err(RecvTimeoutError::Timeout) => Verdict::Timeout(options.timeout.as_secs()),
        Err(RecvTimeoutError::Disconnected) => Verdict::Error("the decoder ended without a verdict".into()),
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
