//! The CPU backend: float transforms on tract, entropy networks on the integer kernels.

use std::sync::{Arc, OnceLock};

use mlic_backend::integer::{IntegerSession, Kernels, PackedModel};
use mlic_backend::{Backend, BackendError, EntropySession, PassParameters, Planes, Stage};
use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::Map;
use mlic_kernels::cpu::Isa;
use mlic_model::Model;
use mlic_model::graph::Graph;
use mlic_model::package::SectionKind;

use crate::{TractError, Transform};

/// A transform from planes to planes.
#[derive(Debug)]
pub struct PlaneTransform {
    transform: Transform,
    channels: usize,
    up: usize,
    down: usize,
}

impl PlaneTransform {
    /// Prepares a graph.
    ///
    /// # Errors
    /// When tract cannot hold it.
    pub fn new(graph: Graph) -> Result<Self, TractError> {
        let (channels, scale) = (graph.output_channels() as usize, graph.scale());
        let (up, down) = (scale.numerator as usize, scale.denominator as usize);
        Ok(Self { transform: Transform::new(graph)?, channels, up, down })
    }

    /// Runs it; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// When the input does not fit, or tract fails.
    pub fn run(&self, input: &Planes, threads: usize) -> Result<Planes, TractError> {
        let data = self.transform.run(&input.data, input.channels, input.height, input.width, threads)?;
        let side = |n: usize| (n * self.up).div_ceil(self.down);
        Ok(Planes { channels: self.channels, height: side(input.height), width: side(input.width), data })
    }
}

/// A model on this CPU.
///
/// [`CpuBackend::tract`] is the product; [`CpuBackend::reference`] runs the scalar definition of every integer operator, slowly,
/// for conformance.
#[derive(Debug)]
pub struct CpuBackend {
    model: Arc<Model>,
    kernels: Kernels,
    packed: Arc<PackedModel>,
    threads: usize,
    pool: rayon::ThreadPool,
    transforms: [OnceLock<PlaneTransform>; 3],
}

/// A stage's transform: its section and its place.
const fn section(stage: Stage) -> (SectionKind, usize) {
    match stage {
        Stage::Analysis => (SectionKind::Analysis, 0),
        Stage::HyperAnalysis => (SectionKind::HyperAnalysis, 1),
        _ => (SectionKind::Synthesis, 2),
    }
}

impl CpuBackend {
    /// The fast backend with the best instruction set, on this many threads (0: all cores).
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] when threads cannot be started.
    pub fn tract(model: Arc<Model>, threads: usize) -> Result<Self, BackendError> {
        Self::new(model, Kernels::Fast(Isa::best()), threads)
    }

    /// The definition.
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] when threads cannot be started.
    pub fn reference(model: Arc<Model>, threads: usize) -> Result<Self, BackendError> {
        Self::new(model, Kernels::Reference, threads)
    }

    /// A backend with the given kernels.
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] when threads cannot be started.
    pub fn new(model: Arc<Model>, kernels: Kernels, threads: usize) -> Result<Self, BackendError> {
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("mlic-kernel-{i}")).build();
        let pool = pool.map_err(|e| BackendError::NotAvailable { backend: name(kernels), reason: e.to_string() })?;
        let packed = Arc::new(pool.install(|| PackedModel::new(&model, kernels)));
        Ok(Self { model, kernels, packed, threads, pool, transforms: Default::default() })
    }

    fn transform(&self, stage: Stage, input: &Planes) -> Result<Planes, BackendError> {
        let (kind, place) = section(stage);
        let failed = |e: TractError| BackendError::Device { backend: self.name(), stage, message: e.to_string() };
        let cell = &self.transforms[place];
        let transform = match cell.get() {
            Some(transform) => transform,
            None => {
                let made = PlaneTransform::new(self.model.transform(kind)?).map_err(failed)?;
                cell.get_or_init(|| made)
            }
        };
        transform.run(input, self.threads).map_err(failed)
    }
}

const fn name(kernels: Kernels) -> &'static str {
    match kernels {
        Kernels::Reference => "reference",
        Kernels::Fast(_) => "tract",
    }
}

/// Runs the integer networks on the backend's own threads.
struct Pooled<'a> {
    session: IntegerSession<'a>,
    pool: &'a rayon::ThreadPool,
}

impl EntropySession for Pooled<'_> {
    fn parameters(&mut self, pass: Pass) -> Result<PassParameters, BackendError> {
        let Self { session, pool } = self;
        pool.install(|| session.parameters(pass))
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
        name(self.kernels)
    }

    fn device(&self, stage: Stage) -> String {
        let arch = std::env::consts::ARCH;
        match (stage, self.kernels) {
            (Stage::Rans, _) => format!("cpu {arch}"),
            (Stage::Analysis | Stage::HyperAnalysis | Stage::Synthesis, _) => format!("cpu {arch}, tract f32"),
            (_, Kernels::Reference) => format!("cpu {arch}, reference"),
            (_, Kernels::Fast(isa)) => format!("cpu {arch}, {}", isa.name()),
        }
    }

    fn model(&self) -> &Model {
        &self.model
    }

    fn analysis(&self, x: &Planes) -> Result<Planes, BackendError> {
        self.transform(Stage::Analysis, x)
    }

    fn hyper_analysis(&self, y: &Planes) -> Result<Planes, BackendError> {
        self.transform(Stage::HyperAnalysis, y)
    }

    fn synthesis(&self, y_hat: &Planes) -> Result<Planes, BackendError> {
        self.transform(Stage::Synthesis, y_hat)
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
