//! The weights of a layer in the order in which the matrix product of one instruction set reads them; made once per model.

use mlic_model::layout::{Kernel, LayerSpec};
use mlic_model::model::Weights as Source;

use crate::arch::{Job, Simd, run};
use crate::cpu::Isa;

/// Largest magnitude of activations that products of bytes can take.
const BYTE_MAX: i32 = i8::MAX as i32;

/// A layer, ready to run on one instruction set.
///
/// `block` outputs are computed at once; missing ones have weights of zero. Weights are
/// `[block][row of the kernel][group][output]`: the columns of the kernel and the channels make up one sequence, which is cut into groups
/// as large as one product instruction sums; a group is one word, its first member lowest.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) isa: Isa,
    pub(super) size: usize,
    pub(super) outputs: usize,
    pub(super) block: usize,
    pub(super) terms: Vec<Term>,
}

/// One input of a layer.
#[derive(Debug, Clone)]
pub(super) struct Term {
    /// First channel that is read.
    pub(super) first: usize,
    /// Channels that are read.
    pub(super) channels: usize,
    /// The same and zeros up to whole groups, or up to whole blocks where channels are outputs.
    pub(super) padded: usize,
    pub(super) weights: Weights,
}

/// How a term becomes accumulators.
#[derive(Debug, Clone)]
pub(super) enum Weights {
    /// Signed 16-bit activations, two per product instruction; weights of 8 bits are widened.
    Pairs(Vec<i32>),
    /// Activations plus 128, four per product instruction; `offsets` (one per output) takes the 128 away again.
    Quads { weights: Vec<i32>, offsets: Vec<i32> },
    /// One channel per output: `[tap][output]`, pairs of a weight and zero.
    Depthwise(Vec<i32>),
    /// The input itself.
    Identity,
}

impl Layer {
    /// Packs weights (per term `[output][row][col][channel]`, `[output][row][col]` if depthwise, empty if a residual).
    /// `maxima` bounds the magnitude of the activations of each term.
    #[must_use]
    pub fn new(isa: Isa, spec: &LayerSpec, weights: &[Source<'_>], maxima: &[i32]) -> Self {
        run(isa, Pack { isa, spec, weights, maxima })
    }
}

struct Pack<'a> {
    isa: Isa,
    spec: &'a LayerSpec,
    weights: &'a [Source<'a>],
    maxima: &'a [i32],
}

impl Job for Pack<'_> {
    type Output = Layer;

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, _: S) -> Layer {
        let (block, spec) = (VECTORS * S::LANES, self.spec);
        let terms = self.weights.iter().zip(self.maxima).enumerate();
        let terms =
            terms.map(|(i, (weights, max))| term(spec, i, block, *weights, S::PREFERS_QUADS && *max <= BYTE_MAX)).collect();
        Layer { isa: self.isa, size: spec.kernel.size(), outputs: spec.outputs, block, terms }
    }
}

fn term(spec: &LayerSpec, index: usize, block: usize, weights: Source<'_>, narrow: bool) -> Term {
    let (source, size) = (spec.terms[index], spec.kernel.size());
    let (first, channels) = (source.first_channel, source.channels);
    let (padded, weights) = match spec.kernel {
        _ if source.identity => (channels.next_multiple_of(block), Weights::Identity),
        Kernel::Depthwise { .. } => {
            let padded = channels.next_multiple_of(block);
            (padded, Weights::Depthwise(depthwise(weights, size * size, channels, padded)))
        }
        Kernel::Dense { .. } => {
            let quads = narrow && matches!(weights, Source::Bytes(_));
            let group = if quads { 4 } else { 2 };
            let shape = Dense { size, channels, padded: channels.next_multiple_of(group), outputs: spec.outputs, block, group };
            (shape.padded, if quads { shape.quads(weights) } else { Weights::Pairs(shape.pack(weights)) })
        }
    };
    Term { first, channels, padded, weights }
}

/// A weight as the low half of a pair.
fn low_half(weight: i32) -> i32 {
    weight & 0xffff
}

/// `[channel][tap]` to `[tap][channel]`, each with a zero.
fn depthwise(weights: Source<'_>, taps: usize, channels: usize, padded: usize) -> Vec<i32> {
    let mut out = vec![0; taps * padded];
    for (i, w) in weights.iter().enumerate().take(channels * taps) {
        out[i % taps * padded + i / taps] = low_half(w);
    }
    out
}

struct Dense {
    size: usize,
    channels: usize,
    padded: usize,
    outputs: usize,
    block: usize,
    group: usize,
}

impl Dense {
    fn pack(&self, weights: Source<'_>) -> Vec<i32> {
        let Self { size, channels, padded, outputs, block, group } = *self;
        let row_len = size * padded / group * block;
        let mut out = vec![0; outputs.div_ceil(block) * size * row_len];
        let word = |w: i32, member: usize| match group {
            2 => low_half(w) << (16 * member),
            _ => (w & 0xff) << (8 * member),
        };
        let mut weights = weights.iter();
        for o in 0..outputs {
            for tap in 0..size * size {
                let start = (o / block * size + tap / size) * row_len + o % block;
                for (c, w) in weights.by_ref().take(channels).enumerate() {
                    let k = tap % size * padded + c;
                    out[start + k / group * block] |= word(w, k % group);
                }
            }
        }
        out
    }

    fn quads(&self, weights: Source<'_>) -> Weights {
        let mut offsets = vec![0; self.outputs.next_multiple_of(self.block)];
        let mut rest = weights.iter();
        for offset in offsets.iter_mut().take(self.outputs) {
            *offset = -128 * rest.by_ref().take(self.size * self.size * self.channels).sum::<i32>();
        }
        Weights::Quads { weights: self.pack(weights), offsets }
    }
}
