//! The float transforms of a model on tract.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use mlic_backend::cpu::{CpuBackend, FloatTransforms};
use mlic_backend::integer::Kernels;
use mlic_backend::{BackendError, Planes, Stage};
use mlic_model::Model;
use mlic_model::graph::Graph;
use mlic_model::package::SectionKind;

use crate::{TractError, Transform};

/// Positions of the larger of input and output in a strip, about.
const STRIP_POSITIONS: usize = 1 << 20;
/// Rows of the larger of input and output in a strip, at least: the rows around it, some 60 on either side, are computed again.
const STRIP_ROWS: usize = 256;

/// A transform from planes to planes, strip by strip where they are large: each strip with as many rows around it as its output depends on, so
/// that memory grows with the width of a picture and not with its height.
#[derive(Debug)]
pub struct PlaneTransform {
    transform: Transform,
    channels: usize,
    up: usize,
    down: usize,
    /// Parts of the input begin at a multiple of this.
    stride: usize,
    /// Rows of the input, multiples of `stride`, that the output of `stride` of them depends on before and after.
    halo: [usize; 2],
}

/// Rows of a strip: of the whole input, of its own, and with those around it.
struct Strip {
    own: Range<usize>,
    with_halo: Range<usize>,
}

impl PlaneTransform {
    /// Prepares a graph.
    ///
    /// # Errors
    /// When tract cannot hold it.
    pub fn new(graph: Graph) -> Result<Self, TractError> {
        let (channels, scale) = (graph.output_channels() as usize, graph.scale());
        let (up, down) = (scale.numerator as usize, scale.denominator as usize);
        let stride = graph.stride() as usize;
        // Far from any edge: the rows around the output of the input's rows 0 to `stride`.
        let reads = graph.reads(0..(stride * up / down) as i64);
        let halo = [-reads.start, reads.end - stride as i64].map(|n| (n.max(0) as usize).next_multiple_of(stride));
        Ok(Self { transform: Transform::new(graph)?, channels, up, down, stride, halo })
    }

    /// Rows of the input in a strip, a multiple of the stride.
    fn strip_rows(&self, width: usize) -> usize {
        let rows = (STRIP_POSITIONS / width.max(self.side(width)).max(1)).max(STRIP_ROWS);
        (rows * self.down / self.up.max(self.down)).next_multiple_of(self.stride)
    }

    fn strips(&self, height: usize, rows: usize) -> impl Iterator<Item = Strip> {
        let [before, after] = self.halo;
        (0..height).step_by(rows.max(1)).map(move |start| {
            let own = start..(start + rows).min(height);
            let with_halo = own.start.saturating_sub(before)..(own.end + after).min(height);
            Strip { own, with_halo }
        })
    }

    /// Runs it; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// When the input does not fit, or tract fails.
    pub fn run(&self, input: &Planes, threads: usize) -> Result<Planes, TractError> {
        self.run_in_strips(input, self.strip_rows(input.width), threads)
    }

    /// The same, so many rows of the input at a time, if these and the sides of the input are multiples of the transform's stride. What an
    /// executor rounds differently for pieces of another size is all that depends on it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_in_strips(&self, input: &Planes, rows: usize, threads: usize) -> Result<Planes, TractError> {
        let Planes { channels, height, width, ref data } = *input;
        let whole = [height, width, rows].iter().any(|n| n % self.stride != 0) || rows >= height;
        if whole || data.len() != channels * height * width {
            let data = self.transform.run(data, channels, height, width, threads)?;
            return Ok(Planes { channels: self.channels, height: self.side(height), width: self.side(width), data });
        }
        let (out_height, out_width) = (self.side(height), self.side(width));
        let mut out = vec![0.0; self.channels * out_height * out_width];
        for Strip { own, with_halo } in self.strips(height, rows) {
            let planes =
                data.chunks_exact(height * width).flat_map(|plane| &plane[with_halo.start * width..with_halo.end * width]);
            let part: Vec<f32> = planes.copied().collect();
            let part = self.transform.run(&part, channels, with_halo.len(), width, threads)?;
            let (first, last) = (self.side(own.start), self.side(own.end));
            let skipped = first - self.side(with_halo.start);
            let part = part.chunks_exact(self.side(with_halo.len()) * out_width);
            for (out, part) in out.chunks_exact_mut(out_height * out_width).zip(part) {
                let len = (last - first) * out_width;
                out[first * out_width..][..len].copy_from_slice(&part[skipped * out_width..][..len]);
            }
        }
        Ok(Planes { channels: self.channels, height: out_height, width: out_width, data: out })
    }

    fn side(&self, input: usize) -> usize {
        (input * self.up).div_ceil(self.down)
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
