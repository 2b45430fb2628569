//! Weights of layers that are computed in tiles of 2x2 outputs: `G g G^T`, and how many channels one transform may sum.

use std::ops::Range;

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::model::Weights as Source;

use super::{KERNEL, PATCH, SMALL};
use crate::arch::SIDE;
use crate::fast::aligned::Aligned;

/// Where the square of Y is below this limit, Y is below 2^29, so that 4 Y fits.
const SQUARED_LIMIT: i64 = 1 << 58;

/// Fewest pairs of channels per part, on average. The work of a part besides its products is about what three of its pairs save.
const WORTH_A_PART: usize = 4;

/// Transformed weights of a term.
#[derive(Debug, Clone)]
pub(in crate::fast) struct Winograd {
    /// Pairs of channels.
    pub(super) pairs: usize,
    /// `[block][element of the patch][pair][output]`, two numbers of 16 bits each.
    pub(super) weights: Aligned<i32>,
    /// Parts of the pairs, each of which may be summed at once whatever the activations.
    pub(super) parts: Vec<Pairs>,
    /// All pairs may be summed at once where the squares of what an output reads add up to less than this.
    pub(super) too_large: i64,
    /// Whether activations may be larger than [`SMALL`].
    pub(super) may_be_large: bool,
}

/// Consecutive pairs of channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs {
    /// Index of the first pair in patches, and (`weight`) in weights.
    pub(super) patch: usize,
    pub(super) weight: usize,
    pub(super) count: usize,
}

impl Pairs {
    /// Pairs in patches with all channels.
    pub(super) const fn of(range: Range<usize>) -> Self {
        Self { patch: range.start, weight: range.start, count: range.end - range.start }
    }

    /// Number of channels of all of them together.
    pub(super) fn channels(several: &[Self]) -> usize {
        2 * several.iter().map(|pairs| pairs.count).sum::<usize>()
    }
}

impl Winograd {
    /// Transforms the weights `[output][row][column][channel]` of a term whose activations are at most `max`. `None` if products or sums might not fit, or
    /// would fit only in parts so small that plain sums take less time.
    pub(in crate::fast) fn new(
        weights: Source<'_>,
        channels: usize,
        block: usize,
        max: i32,
    ) -> Result<Option<Self>, OutOfMemory> {
        match weights {
            Source::Bytes(weights) => Kernels { weights, channels, block, max }.transformed(),
            Source::Words(weights) => Kernels { weights, channels, block, max }.transformed(),
        }
    }
}

/// The kernels of a term.
struct Kernels<'a, T> {
    /// `[output][row][column][channel]`
    weights: &'a [T],
    channels: usize,
    block: usize,
    max: i32,
}

impl<T: Copy + Into<i32>> Kernels<'_, T> {
    fn outputs(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.weights.chunks_exact(KERNEL * KERNEL * self.channels)
    }

    fn transformed(&self) -> Result<Option<Winograd>, OutOfMemory> {
        let Some(parts) = self.parts()? else { return Ok(None) };
        let pairs = self.channels.div_ceil(2);
        if parts.len() > 1 && parts.len() * WORTH_A_PART > pairs {
            return Ok(None);
        }
        let Some(weights) = self.elements()? else { return Ok(None) };
        let squares = |weights: &[T]| weights.iter().map(|w| i64::from((*w).into()).pow(2)).sum::<i64>();
        let largest = if parts.len() == 1 { 1 } else { self.outputs().map(squares).max().unwrap_or(0).max(1) };
        let may_be_large = self.max >= SMALL;
        Ok(Some(Winograd { pairs, weights, parts, too_large: SQUARED_LIMIT / largest, may_be_large }))
    }

    /// Cuts the pairs of channels into parts, as large as keep four times each sum below 2^31; `None` if a pair alone does not.
    fn parts(&self) -> Result<Option<Vec<Pairs>>, OutOfMemory> {
        let pairs = self.channels.div_ceil(2);
        let fits = |sum: i64| 4 * i64::from(self.max.min(SMALL)) * sum <= i64::from(i32::MAX);
        // Summed in 32 bits as far as the sums fit, because vector code is faster at that.
        let sum = |weights: &[T]| weights.iter().map(|w| (*w).into().abs()).sum::<i32>();
        let magnitudes = |weights: &[T]| weights.chunks(1 << 15).map(|part| i64::from(sum(part))).sum::<i64>();
        if self.outputs().all(|weights| fits(magnitudes(weights))) {
            return Ok(Some(memory::collect(1, std::iter::once(Pairs::of(0..pairs)))?));
        }
        let (mut sums, mut more): (Vec<i64>, Vec<i64>) = (memory::zeros(self.outputs().len())?, Vec::new());
        let (mut parts, mut first) = (Vec::new(), 0);
        memory::reserve(&mut parts, pairs)?;
        memory::reserve(&mut more, sums.len())?;
        for pair in 0..pairs {
            let of_pair = |weights: &[T]| {
                let taps = weights.chunks_exact(self.channels);
                taps.map(|tap| magnitudes(&tap[2 * pair..(2 * pair + 2).min(self.channels)])).sum::<i64>()
            };
            more.clear();
            more.extend(self.outputs().map(of_pair));
            if !more.iter().all(|more| fits(*more)) {
                return Ok(None);
            }
            if !sums.iter().zip(&more).all(|(sum, more)| fits(sum + more)) {
                parts.push(Pairs::of(first..pair));
                first = pair;
                sums.fill(0);
            }
            sums.iter_mut().zip(&more).for_each(|(sum, more)| *sum += more);
        }
        parts.push(Pairs::of(first..pairs));
        Ok(Some(parts))
    }

    /// `G g G^T` of all kernels, packed; `None` if an element has more than 16 bits.
    fn elements(&self) -> Result<Option<Aligned<i32>>, OutOfMemory> {
        let Self { weights, channels, block, .. } = *self;
        let (pairs, row_len) = (channels.div_ceil(2), KERNEL * KERNEL * channels);
        let len = PATCH * pairs * block;
        let mut out = Aligned::zeros(self.outputs().len().div_ceil(block) * len)?;
        let mut are_words = true;
        for (weights, out) in weights.chunks(block * row_len).zip(out.chunks_exact_mut(len)) {
            let mut kernels = [[[0; SIDE]; KERNEL * KERNEL]; TOGETHER];
            let (mut first, mut second) = ([[0; SIDE]; PATCH], [[0; SIDE]; PATCH]);
            for channel in (0..channels).step_by(TOGETHER) {
                let count = TOGETHER.min(channels - channel);
                for (o, weights) in weights.chunks_exact(row_len).enumerate() {
                    for (tap, weights) in weights.chunks_exact(channels).enumerate() {
                        let weights = &weights[channel..channel + count];
                        kernels.iter_mut().zip(weights).for_each(|(to, w)| to[tap][o] = (*w).into());
                    }
                }
                // Channels beyond the last one are zero.
                kernels[count..].iter_mut().for_each(|kernels| *kernels = [[0; SIDE]; KERNEL * KERNEL]);
                let pairs_from = kernels.as_chunks().0.iter().zip(channel / 2..pairs);
                for ([a, b], pair) in pairs_from {
                    elements(a, block, &mut first);
                    elements(b, block, &mut second);
                    let lines = out[pair * block..].chunks_mut(pairs * block);
                    for ((a, b), line) in first.iter().zip(&second).zip(lines) {
                        for ((to, a), b) in line[..block].iter_mut().zip(a).zip(b) {
                            are_words &= *a == i32::from(*a as i16) && *b == i32::from(*b as i16);
                            *to = a & 0xffff | b << 16;
                        }
                    }
                }
            }
        }
        Ok(are_words.then_some(out))
    }
}

/// Channels whose kernels are put in the order of outputs at once.
const TOGETHER: usize = 8;

/// `G g G^T` of the kernels of `outputs` outputs, `[tap][output]`.
fn elements(kernels: &[[i32; SIDE]; KERNEL * KERNEL], outputs: usize, to: &mut [[i32; SIDE]; PATCH]) {
    let [a, b, c, d, e, f, g, h, i] = kernels;
    let mut columns = [[[0; SIDE]; 4]; KERNEL];
    let taps = [[a, d, g], [b, e, h], [c, f, i]];
    columns.iter_mut().zip(taps).for_each(|(column, taps)| expand(taps, outputs, column));
    for (row, to) in to.as_chunks_mut().0.iter_mut().enumerate() {
        expand([&columns[0][row], &columns[1][row], &columns[2][row]], outputs, to);
    }
}

/// G times one vector for each of `outputs` outputs.
#[inline(always)]
fn expand([a, b, c]: [&[i32; SIDE]; KERNEL], outputs: usize, to: &mut [[i32; SIDE]; 4]) {
    for i in 0..outputs.min(SIDE) {
        let (ends, middle) = (a[i] + c[i], b[i]);
        (to[0][i], to[1][i], to[2][i], to[3][i]) = (2 * a[i], ends + middle, ends - middle, 2 * c[i]);
    }
}
