//! The CPU backend: entropy networks on the integer kernels, float transforms on an executor that is plugged in.

use std::sync::{Arc, OnceLock};

use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::{Map, Picture};
use mlic_model::Model;
use mlic_model::graph::Graph;

use crate::analysis::PackedAnalysis;
use crate::integer::{IntegerSession, Kernels, PackedModel};
use crate::memory;
use crate::{Backend, BackendError, EntropySession, FloatTransform, PassParameters, Planes, Stage};

/// An executor of the float transforms `g_a`, `h_a` and `g_s` of one model.
pub trait FloatTransforms: Send + Sync {
    /// Short name, which becomes that of a backend with this executor.
    fn name(&self) -> &'static str;

    /// Runs a transform on this many threads; the result does not depend on their number.
    ///
    /// # Errors
    /// [`BackendError::Model`] when the package's graph is refused, [`BackendError::Device`] when the executor fails.
    fn run(&self, transform: FloatTransform, input: &Planes, threads: usize) -> Result<Planes, BackendError>;

    /// Returns the graph of a transform, with or without its weights, so that nobody has to make it again to estimate the transform's memory. None if
    /// the executor keeps no graph.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn graph(&self, _transform: FloatTransform) -> Result<Option<&Graph>, BackendError> {
        Ok(None)
    }
}

/// Implements [`Backend::transform_bytes`] for a backend whose float transforms run on this CPU.
///
/// # Errors
/// [`BackendError::Model`] when the transform is refused, or an error of the executor.
pub fn transform_bytes(
    model: &Model,
    float: Option<&dyn FloatTransforms>,
    transform: FloatTransform,
    [height, width]: [usize; 2],
) -> Result<u64, BackendError> {
    let prepared = float.map(|float| float.graph(transform)).transpose()?.flatten();
    Ok(match prepared {
        Some(graph) => memory::transform_bytes(graph, height, width),
        None => memory::transform_bytes(&model.transform(transform.section())?, height, width),
    })
}

/// A model on this CPU.
///
/// Everything exact runs on the integer kernels, on every processor. Without [`FloatTransforms`] the backend decodes to `y_hat` and exact pixels, and
/// encodes if the package has an integer analysis.
pub struct CpuBackend {
    model: Arc<Model>,
    kernels: Kernels,
    packed: Arc<PackedModel>,
    analysis: PackedAnalysis,
    threads: usize,
    pool: Pool,
    float: Option<Box<dyn FloatTransforms>>,
}

impl CpuBackend {
    /// Makes a backend with the given kernels on this many threads (0: all cores).
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] when this processor lacks the instructions, [`BackendError::Threads`], [`BackendError::OutOfMemory`].
    pub fn new(
        model: Arc<Model>,
        kernels: Kernels,
        threads: usize,
        float: Option<Box<dyn FloatTransforms>>,
    ) -> Result<Self, BackendError> {
        let backend = name(kernels, float.as_deref());
        if let Kernels::Fast(isa) = kernels
            && !isa.is_available()
        {
            return Err(BackendError::NotAvailable { backend, reason: format!("this processor has no {}", isa.name()) });
        }
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let pool = pool(threads)?;
        let packed = Arc::new(pool.install(|| PackedModel::new(&model, kernels))?);
        if threads > 1 {
            // The passes of an image come before its synthesis, and leave threads idle now and then.
            let (model, packed) = (Arc::clone(&model), Arc::clone(&packed));
            // If memory runs out, whoever needs the synthesis gets the error.
            pool.spawn(move || _ = packed.prepare_synthesis(&model));
        }
        Ok(Self { model, kernels, packed, analysis: PackedAnalysis::new(kernels), threads, pool, float })
    }
}

fn no_threads(error: std::io::Error) -> BackendError {
    BackendError::Threads { reason: error.to_string() }
}

fn pool(threads: usize) -> Result<Pool, BackendError> {
    Pool::new(threads, can_start_threads()).map_err(no_threads)
}

/// Runs work on so many threads of this CPU, for a backend that has no threads of its own.
///
/// # Errors
/// [`BackendError::Threads`].
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R, BackendError> {
    pool(threads)?.install(|| Ok(work()))
}

/// Runs a float transform of a backend on its executor.
///
/// # Errors
/// [`BackendError::NotAvailable`] when it has no executor, or as [`FloatTransforms::run`].
pub fn run_float(
    float: Option<&dyn FloatTransforms>,
    backend: &'static str,
    transform: FloatTransform,
    input: &Planes,
    threads: usize,
) -> Result<Planes, BackendError> {
    let reason = || format!("{} is a float transform, and this backend has no executor for it", transform.stage());
    let float = float.ok_or_else(|| BackendError::NotAvailable { backend, reason: reason() })?;
    let run = || float.run(transform, input, threads);
    if threads > 1 { apart(run) } else { run() }
}

/// Runs work outside any rayon pool and waits for it: on the calling thread, or on a new one if the caller is on a thread of a pool.
///
/// A thread of a pool that waits for another pool meanwhile runs other jobs of its own pool. For a caller who decodes many pictures, these would be a
/// second picture within the first, a third within that, and so on.
///
/// # Errors
/// Those of the work, and [`BackendError::Threads`].
pub fn apart<R: Send, E: From<BackendError> + Send>(work: impl FnOnce() -> Result<R, E> + Send) -> Result<R, E> {
    // On a platform without threads, the calling thread is the one of rayon's global pool.
    if rayon::current_thread_index().is_none() || !can_start_threads() {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mlic-caller".into()).spawn_scoped(scope, work).map_err(no_threads)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn name(kernels: Kernels, float: Option<&dyn FloatTransforms>) -> &'static str {
    match (kernels, float) {
        (Kernels::Reference, _) => "reference",
        (Kernels::Fast(_), None) => "integer",
        (Kernels::Fast(_), Some(float)) => float.name(),
    }
}

/// Threads of a backend.
enum Pool {
    Threads(rayon::ThreadPool),
    /// The calling thread alone: this platform has no others (WebAssembly without threads).
    Caller,
}

impl Pool {
    fn new(threads: usize, can_start_threads: bool) -> std::io::Result<Self> {
        if !can_start_threads {
            return Ok(Self::Caller);
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("mlic-kernel-{i}"));
        pool.build().map(Self::Threads).map_err(std::io::Error::other)
    }

    /// Runs work on the threads of the pool, [`apart`] from any other pool that the caller may be in; a caller who does this often had better be
    /// outside any other pool from the start. With [`Self::Caller`], parallel loops fall back on rayon's global pool, which is the calling thread
    /// where no threads can be started.
    fn install<R: Send>(&self, work: impl FnOnce() -> Result<R, BackendError> + Send) -> Result<R, BackendError> {
        let Self::Threads(pool) = self else { return work() };
        if pool.current_thread_index().is_some() { work() } else { apart(|| pool.install(work)) }
    }

    /// Starts work that nobody waits for. [`Self::Caller`] does not run it, but leaves it to whoever needs its result.
    fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        if let Self::Threads(pool) = self {
            pool.spawn(work);
        }
    }
}

/// Whether this platform has threads at all. Failing to start one more is an error, not a reason to do without threads.
fn can_start_threads() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let started = std::thread::Builder::new().spawn(|| ());
        !started.is_err_and(|e| e.kind() == std::io::ErrorKind::Unsupported)
    })
}

/// Runs the integer networks on the backend's own threads.
struct Pooled<'a> {
    session: IntegerSession<'a>,
    pool: &'a Pool,
}

impl EntropySession for Pooled<'_> {
    fn parameters_into(&mut self, pass: Pass, with_means: bool, to: &mut PassParameters) -> Result<(), BackendError> {
        let Self { session, pool } = self;
        pool.install(|| session.parameters_into(pass, with_means, to))
    }

    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError> {
        let Self { session, pool } = self;
        pool.install(|| session.commit(pass, symbols))
    }

    fn y_hat(&self) -> Result<Map<i32>, BackendError> {
        self.session.y_hat()
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        name(self.kernels, self.float.as_deref())
    }

    fn device(&self, stage: Stage) -> String {
        let arch = std::env::consts::ARCH;
        match (stage, self.kernels) {
            (Stage::Rans, _) => format!("cpu {arch}"),
            (Stage::Analysis | Stage::HyperAnalysis | Stage::Synthesis, _) => match &self.float {
                Some(float) => format!("cpu {arch}, {} f32", float.name()),
                None => "none".to_owned(),
            },
            (Stage::ExactSynthesis, _) if self.model.exact_synthesis().is_none() => "none".to_owned(),
            (Stage::ExactAnalysis | Stage::ExactHyperAnalysis, _) if !self.model.has_exact_analysis() => "none".to_owned(),
            (_, Kernels::Reference) => format!("cpu {arch}, reference"),
            (_, Kernels::Fast(isa)) => format!("cpu {arch}, {}", isa.name()),
        }
    }

    fn model(&self) -> &Model {
        &self.model
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn transform_bytes(&self, transform: FloatTransform, size: [usize; 2]) -> Result<u64, BackendError> {
        transform_bytes(&self.model, self.float.as_deref(), transform, size)
    }

    fn transform(&self, transform: FloatTransform, input: &Planes) -> Result<Planes, BackendError> {
        run_float(self.float.as_deref(), self.name(), transform, input, self.threads)
    }

    fn exact_analysis(&self, picture: &Picture<'_>) -> Result<Map<i32>, BackendError> {
        self.pool.install(|| self.analysis.analyze(&self.model, picture))
    }

    fn exact_hyper_analysis(&self, y: &Map<i32>) -> Result<Map<i32>, BackendError> {
        self.pool.install(|| self.analysis.hyper_analyze(&self.model, y))
    }

    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>, BackendError> {
        self.pool.install(|| self.packed.synthesize(&self.model, quality, y_hat))
    }

    fn entropy<'a>(
        &'a self,
        size: LatentSize,
        quality: u8,
        z_symbols: &[i32],
    ) -> Result<Box<dyn EntropySession + 'a>, BackendError> {
        let packed = Arc::clone(&self.packed);
        let session = self.pool.install(|| IntegerSession::new(&self.model, packed, size, quality, z_symbols))?;
        Ok(Box::new(Pooled { session, pool: &self.pool }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use mlic_kernels::cpu::Isa;

    use super::*;

    #[test]
    fn without_threads_work_runs_on_the_calling_thread() {
        let caller = std::thread::current().id();
        let pool = Pool::new(8, false).unwrap();
        let id = || Ok(std::thread::current().id());
        assert_eq!(pool.install(id).unwrap(), caller);
        let pool = Pool::new(2, true).unwrap();
        assert_ne!(pool.install(id).unwrap(), caller);
        let within = pool.install(|| Ok(std::thread::current().id() == pool.install(id)?));
        assert!(within.unwrap(), "threads of the pool itself go nowhere else");
    }

    /// Otherwise, the callers' threads would start other jobs while they wait.
    #[test]
    #[cfg(not(target_family = "wasm"))]
    fn callers_of_another_pool_do_nothing_else_meanwhile() {
        let (pool, callers) = (Pool::new(2, true).unwrap(), rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let rest = || {
            std::thread::sleep(std::time::Duration::from_millis(2));
            Ok(())
        };
        let job = || {
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            pool.install(rest).unwrap();
            apart::<_, BackendError>(rest).unwrap();
            running.fetch_sub(1, Relaxed);
        };
        callers.scope(|scope| (0..16).for_each(|_| scope.spawn(|_| job())));
        assert!((1..=2).contains(&most.load(Relaxed)), "{most:?} jobs at once on two threads");
    }

    #[test]
    #[cfg(not(target_family = "wasm"))]
    #[should_panic(expected = "as it is")]
    fn a_panic_of_work_apart_is_the_callers() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let _ = pool.install(|| apart(|| -> Result<(), BackendError> { panic!("as it is") }));
    }

    #[test]
    fn instructions_that_the_processor_lacks_are_not_replaced() {
        let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg")).unwrap();
        // No processor has the instruction sets of two architectures.
        let isa = Isa::ALL.into_iter().find(|isa| !isa.is_available()).unwrap();
        let error = CpuBackend::new(Arc::new(model), Kernels::Fast(isa), 1, None).err().unwrap();
        assert_eq!(error.to_string(), format!("backend integer is not available: this processor has no {}", isa.name()));
    }

    #[test]
    #[cfg(not(target_family = "wasm"))]
    fn this_platform_has_threads() {
        assert!(can_start_threads());
    }
}
