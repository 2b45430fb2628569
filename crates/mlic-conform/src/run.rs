//! Runs suites against decoders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mlic_backend::Backend;

use crate::baseline::Baseline;
use crate::check::{Job, Judged, check};
use crate::error::ConformError;
use crate::manifest::{Expect, Level, Vector};
use crate::report::{SuiteReport, VectorReport, devices};
use crate::store::Suite;
use crate::verdict::Verdict;

/// Options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How far to compare.
    pub level: Level,
    /// Number of vectors judged at once, at least one.
    pub jobs: usize,
    /// Time limit for each vector.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Level::L4, jobs: 1, timeout: Duration::from_secs(600) }
    }
}

/// A decoder under test: a backend of this program, or another program.
pub trait Decoder: Send + Sync {
    /// Returns what runs each stage; called after the vectors have run.
    fn devices(&self) -> Vec<(String, String)>;

    /// Returns why the decoder cannot be tried with this model, if it cannot.
    fn refuses(&self, model_id: &str) -> Option<Verdict>;

    /// Judges a vector within the time limit.
    fn judge(&self, name: &str, job: Job, options: &Options) -> Judged;
}

/// The verdicts expected of several suites, and whether an unexpected one ends the run.
#[derive(Debug, Default)]
pub struct Plan {
    /// Expected verdicts other than pass.
    pub baseline: Baseline,
    /// Whether the first unexpected verdict ends the run: later vectors are then reported as not run.
    pub fail_fast: bool,
    stopped: AtomicBool,
}

impl Plan {
    /// Makes a plan.
    #[must_use]
    pub const fn new(baseline: Baseline, fail_fast: bool) -> Self {
        Self { baseline, fail_fast, stopped: AtomicBool::new(false) }
    }

    fn note(&self, report: &VectorReport) {
        if self.fail_fast && !report.is_as_expected() {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

/// Takes a backend through a suite.
///
/// Vectors that can only be judged above [`Options::level`] are left out; the report counts them.
#[must_use]
pub fn run(suite: &Suite<'_>, backend: Arc<dyn Backend>, options: &Options) -> SuiteReport {
    run_decoder(suite, &InProcess(backend), options, &Plan::default())
}

/// Takes a decoder through a suite.
#[must_use]
pub fn run_decoder(suite: &Suite<'_>, decoder: &dyn Decoder, options: &Options, plan: &Plan) -> SuiteReport {
    let refused = decoder.refuses(&suite.manifest.model.id);
    let judge = |vector: &Vector| match &refused {
        None => judge(suite, vector, decoder, options),
        Some(verdict) => verdict.clone().into(),
    };
    let vectors = run_vectors(suite, options, plan, judge);
    SuiteReport { devices: decoder.devices(), ..report(suite, vectors) }
}

/// Returns the report of a suite that cannot be run at all.
#[must_use]
pub fn not_run(suite: &Suite<'_>, options: &Options, plan: &Plan, verdict: &Verdict) -> SuiteReport {
    report(suite, run_vectors(suite, options, plan, |_| verdict.clone().into()))
}

fn report(suite: &Suite<'_>, vectors: Vec<VectorReport>) -> SuiteReport {
    SuiteReport {
        suite: suite.manifest.suite.clone(),
        manifest_sha256: suite.sha256.clone(),
        model: suite.manifest.model.clone(),
        devices: Vec::new(),
        left_out: suite.manifest.vectors.len() - vectors.len(),
        not_selected: suite.not_selected,
        vectors,
    }
}

fn run_vectors(suite: &Suite<'_>, options: &Options, plan: &Plan, judge: impl Fn(&Vector) -> Judged + Sync) -> Vec<VectorReport> {
    let selected: Vec<&Vector> = suite.manifest.vectors.iter().filter(|v| v.expect.level() <= options.level).collect();
    in_parallel(&selected, options.jobs, |vector| {
        let start = Instant::now();
        let judged = match plan.stopped.load(Ordering::Relaxed) {
            false => judge(vector),
            true => Verdict::NotRun("an earlier vector was not as expected".into()).into(),
        };
        let expected = plan.baseline.expected(&suite.manifest.suite, &vector.name).cloned();
        let report = VectorReport {
            name: vector.name.clone(),
            why: vector.why.clone(),
            verdict: judged.verdict,
            expected,
            computed: judged.computed,
            seconds: start.elapsed().as_secs_f64(),
        };
        plan.note(&report);
        report
    })
}

/// Runs `work` on every item and returns the results in the order of the items. With one job, everything runs on the calling thread.
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
        Expect::Refused(_) | Expect::PackageRefused(_) | Expect::PackageTaken {} => None,
    };
    Ok(Job { stream: suite.read(&vector.stream)?, expect: vector.expect.clone(), picture })
}

fn judge(suite: &Suite<'_>, vector: &Vector, decoder: &dyn Decoder, options: &Options) -> Judged {
    match job(suite, vector) {
        Ok(job) => decoder.judge(&vector.name, job, options),
        Err(error) => Verdict::Error(error.chain()).into(),
    }
}

/// A backend of this program.
pub struct InProcess(pub Arc<dyn Backend>);

impl Decoder for InProcess {
    fn devices(&self) -> Vec<(String, String)> {
        devices(self.0.as_ref())
    }

    fn refuses(&self, model_id: &str) -> Option<Verdict> {
        let have = self.0.model().id().to_string();
        (have != model_id).then(|| Verdict::NotSupported(format!("the streams need model {model_id}, the backend has {have}")))
    }

    /// Judges on a thread of its own: a decoder that hangs is left behind, one that panics is an error. Where there are no threads
    /// the decoder runs on the calling thread, for as long as it takes.
    fn judge(&self, name: &str, job: Job, options: &Options) -> Judged {
        let (backend, level) = (Arc::clone(&self.0), options.level);
        let (send, receive) = channel();
        let caught = move || {
            let judged = catch_unwind(AssertUnwindSafe(|| check(&job, &backend, level)));
            judged.unwrap_or_else(|panic| Verdict::Error(format!("the decoder panicked: {}", said(&*panic))).into())
        };
        if cfg!(all(target_family = "wasm", not(target_feature = "atomics"))) {
            return caught();
        }
        // Once the time is over, nobody receives the result.
        let work = move || drop(send.send(caught()));
        if let Err(error) = std::thread::Builder::new().name(format!("vector {name}")).spawn(work) {
            return Verdict::NotRun(format!("no thread: {error}")).into();
        }
        match receive.recv_timeout(options.timeout) {
            Ok(judged) => judged,
            Err(RecvTimeoutError::Timeout) => Verdict::Timeout(options.timeout.as_secs()).into(),
            Err(RecvTimeoutError::Disconnected) => Verdict::Error("the decoder ended without a verdict".into()).into(),
        }
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
