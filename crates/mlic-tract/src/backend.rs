//! The float transforms of a model on tract.

use std::sync::Arc;

use mlic_backend::FloatTransform;
use mlic_backend::cpu::{CpuBackend, FloatTransforms};
use mlic_backend::integer::Kernels;
use mlic_backend::strips::{Strip, Strips};
use mlic_backend::{BackendError, Planes};
use mlic_model::Model;
use mlic_model::graph::Graph;
use once_cell::sync::OnceCell;

use crate::{TractError, Transform};

/// A transform from planes to planes, which runs strip by strip where the planes are large.
#[derive(Debug)]
pub struct PlaneTransform {
    transform: Transform,
    /// The graph without its weights, which `transform` has taken.
    graph: Graph,
    channels: usize,
    strips: Strips,
}

impl PlaneTransform {
    /// Prepares a graph.
    ///
    /// # Errors
    /// When tract cannot hold the graph's tensors.
    pub fn new(graph: Graph) -> Result<Self, TractError> {
        let (channels, strips) = (graph.output_channels() as usize, Strips::new(&graph));
        let bare = graph.without_weights();
        Ok(Self { transform: Transform::new(graph)?, graph: bare, channels, strips })
    }

    /// Runs the transform. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// When the input does not fit, or tract fails.
    pub fn run(&self, input: &Planes, threads: usize) -> Result<Planes, TractError> {
        self.run_in_strips(input, self.strips.rows(input.width), threads)
    }

    /// Runs the transform on `rows` rows of the input at a time if `rows` and the input's sides are multiples of the transform's stride, else on the whole
    /// input. The result depends on `rows` only as far as an executor rounds differently for pieces of another size.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_in_strips(&self, input: &Planes, rows: usize, threads: usize) -> Result<Planes, TractError> {
        let Planes { channels, height, width, ref data } = *input;
        let (out_height, out_width) = (self.strips.side(height), self.strips.side(width));
        let planes = |data| Planes { channels: self.channels, height: out_height, width: out_width, data };
        if !self.strips.can_cut(height, width, rows) || data.len() != channels * height * width {
            return Ok(planes(self.transform.run(data, channels, height, width, threads)?));
        }
        let mut out = vec![0.0; self.channels * out_height * out_width];
        for Strip { own, with_halo } in self.strips.cut(height, rows) {
            let part = data.chunks_exact(height * width).flat_map(|plane| &plane[with_halo.start * width..with_halo.end * width]);
            let part: Vec<f32> = part.copied().collect();
            let part = self.transform.run(&part, channels, with_halo.len(), width, threads)?;
            let first = self.strips.side(own.start);
            let (skipped, len) = (first - self.strips.side(with_halo.start), (self.strips.side(own.end) - first) * out_width);
            let part = part.chunks_exact(self.strips.side(with_halo.len()) * out_width);
            for (out, part) in out.chunks_exact_mut(out_height * out_width).zip(part) {
                out[first * out_width..][..len].copy_from_slice(&part[skipped * out_width..][..len]);
            }
        }
        Ok(planes(out))
    }
}

/// The transforms of a model, each prepared when it is first asked for.
#[derive(Debug)]
pub struct TractTransforms {
    model: Arc<Model>,
    /// Indexed by [`FloatTransform`].
    transforms: [OnceCell<PlaneTransform>; FloatTransform::ALL.len()],
}

const NAME: &str = "tract";

fn failed(transform: FloatTransform) -> impl Fn(TractError) -> BackendError {
    move |e| BackendError::Device { backend: NAME, stage: transform.stage(), message: e.to_string() }
}

impl TractTransforms {
    /// The transforms of this model.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, transforms: Default::default() }
    }

    /// The transform `wanted`, which is made from the package once.
    fn prepared(&self, wanted: FloatTransform) -> Result<&PlaneTransform, BackendError> {
        self.transforms[wanted as usize]
            .get_or_try_init(|| PlaneTransform::new(self.model.transform(wanted.section())?).map_err(failed(wanted)))
    }
}

impl FloatTransforms for TractTransforms {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&self, transform: FloatTransform, input: &Planes, threads: usize) -> Result<Planes, BackendError> {
        self.prepared(transform)?.run(input, threads).map_err(failed(transform))
    }

    fn graph(&self, transform: FloatTransform) -> Result<Option<&Graph>, BackendError> {
        Ok(Some(&self.prepared(transform)?.graph))
    }
}

/// Makes a CPU backend with these kernels and float transforms on tract, on `threads` threads (0: all cores).
///
/// # Errors
/// [`BackendError::NotAvailable`] when threads cannot be started.
pub fn backend(model: Arc<Model>, kernels: Kernels, threads: usize) -> Result<CpuBackend, BackendError> {
    let float = TractTransforms::new(Arc::clone(&model));
    CpuBackend::new(model, kernels, threads, Some(Box::new(float)))
}
