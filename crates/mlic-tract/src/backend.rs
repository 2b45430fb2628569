//! The float transforms of a model on tract.

use std::sync::{Arc, OnceLock};

use mlic_backend::cpu::{CpuBackend, FloatTransforms};
use mlic_backend::integer::Kernels;
use mlic_backend::{BackendError, Planes, Stage};
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

/// The transforms of a model, each prepared when it is first asked for.
#[derive(Debug)]
pub struct TractTransforms {
    model: Arc<Model>,
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

impl TractTransforms {
    /// The transforms of this model.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, transforms: Default::default() }
    }
}

impl FloatTransforms for TractTransforms {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn run(&self, stage: Stage, input: &Planes, threads: usize) -> Result<Planes, BackendError> {
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
        transform.run(input, threads).map_err(failed)
    }
}

/// A CPU backend with these kernels whose float transforms run on tract, on this many threads (0: all cores).
///
/// # Errors
/// [`BackendError::NotAvailable`] when threads cannot be started.
pub fn backend(model: Arc<Model>, kernels: Kernels, threads: usize) -> Result<CpuBackend, BackendError> {
    let float = TractTransforms::new(Arc::clone(&model));
    CpuBackend::new(model, kernels, threads, Some(Box::new(float)))
}
