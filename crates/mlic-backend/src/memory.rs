//! Memory that coding will need, computed from the shape of the model and the size of the picture before anything is allocated.

use mlic_core::cdf::Interval;
use mlic_core::schedule::LatentSize;
use mlic_kernels::fast::{linear_attention_bytes, local_attention_bytes};
use mlic_model::graph::{Graph, Op};
use mlic_model::layout::{Chain, LayerId, LayerSpec, Layout};
use mlic_model::{Config, Model};

use crate::strips::Strips;
pub use crate::windows::{Windows, exact_analysis_bytes, exact_synthesis_bytes};

/// Bytes of an activation.
pub(crate) const ACTIVATION: u64 = 2;
/// Bytes of a latent.
pub(crate) const LATENT: u64 = 4;
/// Bytes of a weighted sum.
const SUM: u64 = 8;
/// Bytes of an interval of the entropy coder.
const INTERVAL: u64 = size_of::<Interval>() as u64;
/// Least number of columns that a thread has working memory for, which matters where tiles of them are computed together.
const TILED_COLUMNS: u64 = 32;
/// Bytes of an element of a float tensor.
const FLOAT: u64 = 4;

/// An upper bound on the bytes that the exact part of decoding holds at a time, besides the model and the stream, on the kernels of this workspace
/// with `threads` threads. It saturates.
///
/// Everything that outlives a pass is counted in full. Of the rest, the larger of two is counted: the layer that needs most, with the four tensors
/// that the contexts keep meanwhile, or a channel and a global context side by side. `tests/memory.rs` compares the bound with what is allocated.
#[must_use]
pub fn entropy_bytes(model: &Model, size: LatentSize, threads: usize) -> u64 {
    let (config, layout) = (model.config(), model.layout());
    let positions = product(size.y);
    let z = product(size.z).saturating_mul(config.hyper as u64).saturating_mul(4 * LATENT);
    let latents = config.latent as u64 * LATENT;
    let passing = transient(config, layout).max(hyper_synthesis(config)).max(latents);
    let scratch = (size.y[1] as u64).max(TILED_COLUMNS).saturating_mul(scratch(layout)).saturating_mul(threads as u64 + 1);
    let attentions = attentions(config, layout, size, threads);
    positions
        .saturating_mul(kept(config).saturating_add(passing))
        .saturating_add(z)
        .saturating_add(scratch)
        .saturating_add(attentions)
}

/// Bytes of the intermediate results of the attentions of a pass, of which a window attention and a linear one may run at the same time.
fn attentions(config: &Config, layout: &Layout, size: LatentSize, threads: usize) -> u64 {
    let local = local_attention_bytes(size.y, config.slice_channels(), config.heads, config.window, threads);
    let linear = layout.linear_attentions.iter().map(|spec| linear_attention_bytes(spec.channels, spec.heads)).max();
    local.saturating_add(linear.unwrap_or(0))
}

/// An estimate of the bytes that an encoder's walk over the passes holds at a time: those of a decoder's walk, y with and without its gain, and an
/// interval for each symbol, in memory that doubles when it is full. Each escape takes two more intervals, but escapes are few.
#[must_use]
pub fn encoding_bytes(model: &Model, size: LatentSize, threads: usize) -> u64 {
    let config = model.config();
    let latents = product(size.y).saturating_mul(config.latent as u64);
    let symbols = latents.saturating_add(product(size.z).saturating_mul(config.hyper as u64));
    let intervals = symbols.saturating_mul(3 * INTERVAL);
    entropy_bytes(model, size, threads).saturating_add(latents.saturating_mul(2 * LATENT)).saturating_add(intervals)
}

/// Bytes that refinement holds besides analysis, passes and synthesis, which run one after another: y before its gain, as it was, as it is, as it was
/// coded and as it is seen, the latents of the best candidate, and the picture.
#[must_use]
pub fn refinement_bytes(model: &Model, size: LatentSize) -> u64 {
    let latents = product(size.y).saturating_mul(model.config().latent as u64);
    latents.saturating_mul(6 * LATENT).saturating_add(product(size.padded).saturating_mul(3))
}

/// Bytes per position of what outlives a pass: the hyper parameters and both halves of them, the slices as activations and as latents,
/// the contexts, mean and anchors of the slice in progress, a pass's parameters and symbols.
fn kept(config: &Config) -> u64 {
    let (latent, slice) = (config.latent as u64, config.slice_channels() as u64);
    let hyper = 2 * (2 * latent) * ACTIVATION;
    let slices = latent * (ACTIVATION + LATENT);
    let contexts = (4 + 2) * slice * ACTIVATION;
    hyper + slices + contexts + 8 * slice * LATENT
}

/// Bytes per position of the intermediate results of the networks of a pass.
fn transient(config: &Config, layout: &Layout) -> u64 {
    let of_slices = || layout.layers.iter().skip(layout.h_s.out.0 + 1);
    let widest = of_slices().map(|layer| layer.outputs as u64).max().unwrap_or(0);
    let read = |layer: &LayerSpec| layer.terms.iter().map(|term| layout.channels(config, term.source) as u64).sum::<u64>();
    let read = of_slices().map(read).max().unwrap_or(0);
    // Queries, keys and values, each before and after its depthwise layer, beside two layers of a channel context.
    let of_global = layout.linear_attentions.iter().map(|spec| 6 * spec.channels as u64).max().unwrap_or(0);
    let outputs = |id: LayerId| layout.layers.get(id.0).map_or(0, |layer| layer.outputs as u64);
    let two_of = |chain: &Chain| {
        let widths: Vec<u64> = chain.ids().map(outputs).collect();
        widths.windows(2).map(|two| two.iter().sum()).chain(widths.first().copied()).max()
    };
    let of_channel = layout.slices.iter().filter_map(|slice| slice.channel.as_ref()).filter_map(two_of).max().unwrap_or(0);
    (4 * widest + read).max(of_global + of_channel) * ACTIVATION + 4 * config.slice_channels() as u64 * LATENT
}

/// Bytes per position of the intermediate results of the hyper synthesis. Its second half has four positions for each of z, shuffled to sixteen.
fn hyper_synthesis(config: &Config) -> u64 {
    let [a, b] = config.hs_hidden;
    (a + 3 * b) as u64 * ACTIVATION
}

/// Bytes per column of one thread's working memory: the neighbourhoods of a row, and its sums.
fn scratch(layout: &Layout) -> u64 {
    let of = |layer: &LayerSpec| {
        let taps = (layer.kernel.size() * layer.kernel.size()) as u64;
        let read = layer.terms.iter().map(|term| term.channels as u64).max().unwrap_or(0);
        2 * taps * read * ACTIVATION + 2 * layer.outputs as u64 * SUM
    };
    layout.layers.iter().map(of).max().unwrap_or(0)
}

/// Estimates the bytes that a float transform holds at a time for an input of `height` x `width`: input and output, and what an executor needs for
/// one strip if it holds the operands and the result of one step at a time, those of a convolution twice. It saturates.
#[must_use]
pub fn transform_bytes(graph: &Graph, height: usize, width: usize) -> u64 {
    let strips = Strips::new(graph);
    let rows = strips.rows(width);
    let cut = strips.can_cut(height, width, rows).then(|| strips.cut(height, rows).map(|strip| strip.with_halo.len()).max());
    let whole = |height: usize, width: usize, channels: u32| product([height, width]).saturating_mul(u64::from(channels) * FLOAT);
    let ends = whole(height, width, graph.input_channels()).saturating_add(whole(
        strips.side(height),
        strips.side(width),
        graph.output_channels(),
    ));
    ends.saturating_add(strip_bytes(graph, cut.flatten().unwrap_or(height), width))
}

fn strip_bytes(graph: &Graph, height: usize, width: usize) -> u64 {
    let Ok(sizes) = graph.sizes(height as u64, width as u64) else { return u64::MAX };
    let bytes = |i: usize| {
        let size = sizes.get(i);
        size.map_or(0, |s| s.height.saturating_mul(s.width).saturating_mul(u64::from(s.channels)).saturating_mul(FLOAT))
    };
    let step = |(i, node): (usize, &mlic_model::graph::Node)| {
        let operands = node.inputs.iter().fold(0_u64, |sum, id| sum.saturating_add(bytes(id.0 as usize)));
        let copies = if matches!(node.op, Op::Conv2d(_)) { 2 } else { 1 };
        bytes(i).saturating_add(operands).saturating_mul(copies)
    };
    graph.nodes().iter().enumerate().map(step).max().unwrap_or(0)
}

pub(crate) fn product([height, width]: [usize; 2]) -> u64 {
    height as u64 * width as u64
}
