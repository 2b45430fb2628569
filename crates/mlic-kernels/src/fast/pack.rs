//! The weights of a layer in the order in which the matrix product of one instruction set reads them; made once per model.

mod dense;

use std::mem::discriminant;

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::layout::{Kernel, LayerSpec, TermSpec};
use mlic_model::model::Weights as Source;

use self::dense::{Dense, depthwise};
use super::aligned::Aligned;
use super::layer::Positions;
use super::winograd::{KERNEL, Winograd};
use crate::arch::{Job, MAX_LANES, Matrix, SIDE, Simd, run};
use crate::cpu::Isa;

/// Fewest products per output for which a matrix unit is faster: with fewer, finishing the sums takes all the time, and the sums of a tile are
/// nearer (measured: `benches/record`).
const MATRIX_MIN: usize = 128;
/// Outputs of one weight operand of a matrix unit, and (`GROUP`) products that the unit sums at once for each of them.
pub(super) const OUTPUTS: usize = 16;
pub(super) const GROUP: usize = 64;
/// Bytes of one weight operand.
pub(super) const BLOCK: usize = OUTPUTS * GROUP;
/// Largest magnitude of activations that can be multiplied as bytes.
const BYTE_MAX: i32 = i8::MAX as i32;
/// Largest magnitude of a number whose [`halves`] are both signed bytes.
const HALVES_MAX: i32 = i16::MAX as i32 - 128;
/// Largest magnitude of a number that is split into [`limbs`]. Signed bytes would allow a little more.
const LIMBS_MAX: i32 = (1 << 13) - 1;

/// A layer, ready to run on one instruction set.
///
/// `block` outputs are computed at once; outputs missing in the last block have zero weights. Weights are
/// `[block][row of the kernel][group][output]`: the columns of the kernel and the channels make up one sequence, which is cut into groups
/// as large as one product instruction sums. A group is one word, its first member in the lowest bits; `Simd::QUADS` quads of an output lie side by side.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) isa: Isa,
    pub(super) size: usize,
    pub(super) outputs: usize,
    pub(super) block: usize,
    /// Positions that vectors compute at once.
    pub(super) positions: usize,
    pub(super) terms: Vec<Term>,
}

/// One input of a layer.
#[derive(Debug, Clone)]
pub(super) struct Term {
    /// First channel that is read.
    pub(super) first: usize,
    /// Channels that are read.
    pub(super) channels: usize,
    /// Channels with padding: zeros up to whole groups, or up to whole blocks where each channel is an output.
    pub(super) padded: usize,
    /// Whether the term reads the same channels as the term before it, in the same form.
    pub(super) is_repeated: bool,
    pub(super) weights: Weights,
}

impl Term {
    /// Whether both terms have their activations staged in the same form.
    fn is_staged_as(&self, other: &Self) -> bool {
        let split = |term: &Self| if let Weights::Matrix(packed) = &term.weights { Some(packed.split) } else { None };
        discriminant(&self.weights) == discriminant(&other.weights) && split(self) == split(other)
    }
}

/// The packed weights of a term, for each way to make its sums.
#[derive(Debug, Clone)]
pub(super) enum Weights {
    /// Signed 16-bit activations, two per product instruction; weights of 8 bits are widened.
    Pairs(Aligned<i32>),
    /// Activations plus [`Simd::BYTE_ZERO`], four per product instruction; `offsets` (one per output) subtracts what that adds to the sums.
    Quads { weights: Aligned<i32>, offsets: Aligned<i32> },
    /// Signed 16-bit activations in [`halves`], and weights of 8 bits, or of 16 bits in halves too: products of quads for each pair of bytes.
    Halves { upper: Option<Aligned<i32>>, lower: Aligned<i32> },
    /// Activations and weights of 16 bits, up to [`LIMBS_MAX`], as their [`limbs`]: products of quads for each of the three.
    Limbs([Aligned<i32>; 3]),
    /// One channel per output: `[tap][output]`, pairs of a weight and zero.
    Depthwise(Aligned<i32>),
    /// No weights: the sums are the input itself.
    Identity,
    /// [`Self::Identity`], with the channels put in the order row offset, column offset, channel of a pixel shuffle by two.
    Shuffled,
    /// For a matrix unit.
    Matrix(MatrixWeights),
    /// Pairs for [`super::winograd`], where all positions are wanted.
    Winograd(Winograd),
}

/// Weights in the order in which a matrix unit reads them: `[block][square][row of the kernel][group of 64]`, then as in [`crate::arch::Block`]. Weights that
/// several squares share are stored once.
#[derive(Debug, Clone)]
pub(super) struct MatrixWeights {
    pub(super) matrix: Matrix,
    pub(super) split: Split,
    /// Groups per row of the kernel.
    pub(super) groups: usize,
    pub(super) weights: Aligned<u8>,
}

/// How a matrix unit of bytes multiplies numbers, and what the squares hold that it makes for 32 positions and 32 outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// Bytes by bytes: the sums, in one square.
    Sums,
    /// Words by bytes: two squares of 16 positions each, the sums of the upper bytes of activations above the sums of the lower bytes.
    Bytes,
    /// Words by words, up to [`LIMBS_MAX`]: three products instead of four, by Karatsuba. With [`limbs`] `a = 128 a1 + a0` and `b = 128 b1 + b0`, the three
    /// squares are sums of `a1 b1`, of `a0 b0`, and of `(a1 + a0) (b1 + b0)`, from which the first two are still to be subtracted.
    Limbs,
}

impl Split {
    /// How these weights are multiplied with activations of at most `max`; `None` if either is too large.
    fn of(weights: Source<'_>, max: i32) -> Option<Self> {
        match weights {
            Source::Bytes(_) if max <= BYTE_MAX => Some(Self::Sums),
            Source::Bytes(_) => Some(Self::Bytes),
            Source::Words(_) => (max <= LIMBS_MAX && weights.iter().all(|w| w.abs() <= LIMBS_MAX)).then_some(Self::Limbs),
        }
    }

    /// Number of squares.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::Sums => 1,
            Self::Bytes => 2,
            Self::Limbs => 3,
        }
    }
}

impl MatrixWeights {
    /// Bytes of the weights of one square.
    pub(super) const fn square_len(&self, rows: usize) -> usize {
        rows * self.groups * 2 * BLOCK
    }
}

impl Layer {
    /// Packs the weights of a layer: per term `[output][row][col][channel]`, `[output][row][col]` if depthwise, empty if an identity.
    /// `maxima` bounds the magnitude of the activations of each term.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, spec: &LayerSpec, weights: &[Source<'_>], maxima: &[i32]) -> Result<Self, OutOfMemory> {
        run(isa, Pack { isa, spec, weights, maxima, is_whole: false })
    }

    /// [`Self::new`] for a layer that is to be used at all positions; where only one half is wanted, all positions may be computed first.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn for_all_positions(isa: Isa, spec: &LayerSpec, weights: &[Source<'_>], maxima: &[i32]) -> Result<Self, OutOfMemory> {
        run(isa, Pack { isa, spec, weights, maxima, is_whole: true })
    }

    /// Makes identity terms read their inputs in the order of a pixel shuffle by two, in which the outputs of the other terms already are.
    pub(super) fn with_shuffled_inputs(mut self) -> Self {
        for term in &mut self.terms {
            if matches!(term.weights, Weights::Identity) {
                term.weights = Weights::Shuffled;
            }
        }
        self
    }

    /// Whether its terms are [`Weights::Winograd`]: either all are or none is.
    pub(super) fn is_winograd(&self) -> bool {
        matches!(self.terms[..], [Term { weights: Weights::Winograd(_), .. }, ..])
    }

    /// Whether the layer only adds two whole inputs, element by element at all positions, with outputs that fill the vectors of any instruction set. Nothing
    /// has to be staged then.
    pub(super) fn only_adds(&self, at: Positions) -> bool {
        let is_whole =
            |term: &Term| matches!(term.weights, Weights::Identity) && term.first == 0 && term.channels == self.outputs;
        let is_pair = at == Positions::All && self.size == 1 && self.terms.len() == 2;
        is_pair && self.outputs.is_multiple_of(MAX_LANES) && self.terms.iter().all(is_whole)
    }

    /// The matrix unit that multiplies dense terms of the layer, if one does.
    pub(super) fn matrix(&self) -> Option<Matrix> {
        self.terms.iter().find_map(|term| match &term.weights {
            Weights::Matrix(packed) => Some(packed.matrix),
            _ => None,
        })
    }
}

struct Pack<'a> {
    isa: Isa,
    spec: &'a LayerSpec,
    weights: &'a [Source<'a>],
    maxima: &'a [i32],
    /// Whether all positions are wanted.
    is_whole: bool,
}

impl Pack<'_> {
    /// Packs all terms for [`super::winograd`]; `None` if that is impossible or not worth it, as where bytes are multiplied four at a time.
    fn winograd<S: Simd>(&self, block: usize) -> Result<Option<Vec<Term>>, OutOfMemory> {
        let Self { spec, weights, maxima, .. } = *self;
        let is_dense = spec.kernel == Kernel::Dense { size: KERNEL } && !spec.terms.iter().any(|term| term.identity);
        let mut methods = weights.iter().zip(maxima).map(|(weights, max)| Method::of::<S>(*weights, *max));
        if !self.is_whole || !is_dense || !methods.all(|method| matches!(method, Method::Pairs)) {
            return Ok(None);
        }
        let mut terms = Vec::new();
        memory::reserve(&mut terms, spec.terms.len())?;
        for ((source, weights), max) in spec.terms.iter().zip(weights).zip(maxima) {
            let (first, channels) = (source.first_channel, source.channels);
            let Some(weights) = Winograd::new(*weights, channels, block, *max)? else { return Ok(None) };
            let (padded, weights) = (channels.next_multiple_of(2), Weights::Winograd(weights));
            terms.push(Term { first, channels, padded, is_repeated: false, weights });
        }
        Ok(Some(terms))
    }

    /// Whether term `i`, which is not the first, reads what the term before it reads.
    fn repeats(&self, i: usize) -> bool {
        let read = |i: usize| {
            let TermSpec { source, first_channel, channels, .. } = self.spec.terms[i];
            (source, first_channel, channels, self.maxima[i])
        };
        read(i) == read(i - 1)
    }
}

impl Job for Pack<'_> {
    type Output = Result<Layer, OutOfMemory>;

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, _: S) -> Result<Layer, OutOfMemory> {
        let (block, spec) = (VECTORS * S::LANES, self.spec);
        let products: usize = self.weights.iter().map(|weights| weights.len() / spec.outputs.max(1)).sum();
        let is_worth_it = self.isa == Isa::Amx && products >= MATRIX_MIN;
        let matrix = if is_worth_it && S::HAS_MATRIX && block == SIDE { Matrix::detect() } else { None };
        let winograd = if matrix.is_none() { self.winograd::<S>(block)? } else { None };
        let mut terms = match winograd {
            Some(terms) => terms,
            None => {
                let terms = self.weights.iter().zip(self.maxima).enumerate();
                let terms = terms.map(|(i, (weights, max))| {
                    let split = matrix.zip(Split::of(*weights, *max));
                    let method =
                        split.map_or_else(|| Method::of::<S>(*weights, *max), |(unit, split)| Method::Matrix(unit, split));
                    term::<S>(spec, i, block, *weights, method)
                });
                terms.collect::<Result<_, _>>()?
            }
        };
        for i in 1..terms.len() {
            terms[i].is_repeated = self.repeats(i) && terms[i].is_staged_as(&terms[i - 1]);
        }
        Ok(Layer { isa: self.isa, size: spec.kernel.size(), outputs: spec.outputs, block, positions: POSITIONS, terms })
    }
}

/// How dense terms are multiplied.
#[derive(Clone, Copy)]
enum Method {
    Pairs,
    /// With the byte that stands for zero.
    Quads(u8),
    Halves,
    Limbs,
    Matrix(Matrix, Split),
}

impl Method {
    fn of<S: Simd>(weights: Source<'_>, max: i32) -> Self {
        let is_split = || max <= HALVES_MAX && weights.iter().all(|w| w.abs() <= HALVES_MAX);
        match weights {
            Source::Bytes(_) if S::PREFERS_QUADS && max <= BYTE_MAX => Self::Quads(S::BYTE_ZERO),
            _ if S::PREFERS_QUADS && S::BYTE_ZERO == 0 && is_split() => match Split::of(weights, max) {
                Some(Split::Limbs) => Self::Limbs,
                _ => Self::Halves,
            },
            _ => Self::Pairs,
        }
    }
}

fn term<S: Simd>(spec: &LayerSpec, index: usize, block: usize, weights: Source<'_>, method: Method) -> Result<Term, OutOfMemory> {
    let (source, size) = (spec.terms[index], spec.kernel.size());
    let (first, channels) = (source.first_channel, source.channels);
    let (padded, weights) = match spec.kernel {
        _ if source.identity => (channels.next_multiple_of(block), Weights::Identity),
        Kernel::Depthwise { .. } => {
            let padded = channels.next_multiple_of(block);
            (padded, Weights::Depthwise(depthwise(weights, size * size, channels, padded)?))
        }
        Kernel::Dense { .. } => {
            let (group, words) = if matches!(method, Method::Pairs) { (2, 1) } else { (4, S::QUADS) };
            let padded = channels.next_multiple_of(group * words);
            let shape = Dense { size, channels, padded, outputs: spec.outputs, block, group, words };
            let weights = match method {
                Method::Matrix(matrix, split) => Weights::Matrix(shape.matrix(matrix, split, weights)?),
                Method::Quads(zero) => shape.quads(weights, zero.into())?,
                Method::Halves => shape.halves(weights)?,
                Method::Limbs => Weights::Limbs([shape.limbs(weights, 0)?, shape.limbs(weights, 1)?, shape.limbs(weights, 2)?]),
                Method::Pairs => Weights::Pairs(shape.pairs(weights)?),
            };
            (shape.padded, weights)
        }
    };
    Ok(Term { first, channels, padded, is_repeated: false, weights })
}

/// Splits a number `256 * upper + lower` of magnitude at most [`HALVES_MAX`] into `[upper, lower]`, both signed bytes.
pub(super) const fn halves(v: i32) -> [i32; 2] {
    let lower = v as i8 as i32;
    [(v - lower) >> 8, lower]
}

/// Splits a number `128 * upper + lower` of magnitude at most [`LIMBS_MAX`] into `[upper, lower, upper + lower]`, all signed bytes.
#[inline(always)]
pub(super) const fn limbs(v: i16) -> [i8; 3] {
    let lower = (v << 9) >> 9;
    let upper = (v - lower) >> 7;
    [upper as i8, lower as i8, (upper + lower) as i8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limbs_are_bytes() {
        for v in -LIMBS_MAX..=LIMBS_MAX {
            let [upper, lower, sum] = limbs(v as i16).map(i32::from);
            assert_eq!((128 * upper + lower, upper + lower), (v, sum));
        }
    }
}
