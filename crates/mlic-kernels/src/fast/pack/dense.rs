//! Weights of dense and depthwise terms in the order in which products read them.

use bytemuck::Zeroable;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::model::Weights as Source;

use super::{BLOCK, GROUP, MatrixWeights, OUTPUTS, Split, Weights, halves, limbs};
use crate::arch::{Matrix, SIDE};
use crate::fast::aligned::Aligned;

/// A weight as the low half of a pair.
const fn low_half(weight: i32) -> i32 {
    weight & 0xffff
}

/// A weight as the first byte of a quad.
const fn byte(weight: i32) -> i32 {
    weight & 0xff
}

/// Packs `[channel][tap]` as `[tap][channel]`, each weight paired with a zero.
pub(super) fn depthwise(weights: Source<'_>, taps: usize, channels: usize, padded: usize) -> Result<Aligned<i32>, OutOfMemory> {
    let mut out = Aligned::zeros(taps * padded)?;
    for (i, w) in weights.iter().enumerate().take(channels * taps) {
        out[i % taps * padded + i / taps] = low_half(w);
    }
    Ok(out)
}

/// The shape of the weights of a dense term.
pub(super) struct Dense {
    pub(super) size: usize,
    pub(super) channels: usize,
    pub(super) padded: usize,
    pub(super) outputs: usize,
    pub(super) block: usize,
    pub(super) group: usize,
    /// Groups of an output that lie side by side.
    pub(super) words: usize,
}

impl Dense {
    /// Packs weights in groups of one word each. `member` turns a weight into a member of its group, in the lowest bits of a word.
    fn pack(&self, weights: Source<'_>, member: impl Fn(i32) -> i32) -> Result<Aligned<i32>, OutOfMemory> {
        match weights {
            Source::Bytes(weights) => self.pack_of(weights, member),
            Source::Words(weights) => self.pack_of(weights, member),
        }
    }

    fn pack_of<T: Copy + Zeroable + Into<i32>>(
        &self,
        weights: &[T],
        member: impl Fn(i32) -> i32,
    ) -> Result<Aligned<i32>, OutOfMemory> {
        let Self { size, padded, outputs, block, group, words, .. } = *self;
        let row_len = size * padded / group * block;
        let mut out = Aligned::zeros(outputs.div_ceil(block) * size * row_len)?;
        self.rows(weights, |o, row, weights| {
            let line = &mut out[(o / block * size + row) * row_len..][..row_len];
            let words = line.chunks_exact_mut(block * words).flat_map(|line| &mut line[o % block * words..][..words]);
            for (word, members) in words.zip(weights.chunks_exact(group)) {
                *word = members.iter().rev().fold(0, |word, w| word << (32 / group) | member((*w).into()));
            }
        })?;
        Ok(out)
    }

    /// Calls `see(output, row, weights)` for each output and each row of the kernel, with weights `[col][channel]` and zeros up to whole groups.
    fn rows<T: Copy + Zeroable>(&self, weights: &[T], mut see: impl FnMut(usize, usize, &[T])) -> Result<(), OutOfMemory> {
        let Self { size, channels, padded, .. } = *self;
        let mut whole: Vec<T> = memory::zeros(size * padded)?;
        for (i, weights) in weights.chunks_exact(size * channels).enumerate() {
            if padded == channels {
                see(i / size, i % size, weights);
                continue;
            }
            for (whole, weights) in whole.chunks_exact_mut(padded).zip(weights.chunks_exact(channels)) {
                whole[..channels].copy_from_slice(weights);
            }
            see(i / size, i % size, &whole);
        }
        Ok(())
    }

    pub(super) fn pairs(&self, weights: Source<'_>) -> Result<Aligned<i32>, OutOfMemory> {
        self.pack(weights, low_half)
    }

    pub(super) fn quads(&self, weights: Source<'_>, zero: i32) -> Result<Weights, OutOfMemory> {
        let mut offsets = Aligned::zeros(self.outputs.next_multiple_of(self.block))?;
        let mut rest = weights.iter();
        for offset in offsets.iter_mut().take(self.outputs) {
            // The offset wraps like the sums from which it takes away what `zero` adds.
            *offset = zero.wrapping_neg().wrapping_mul(rest.by_ref().take(self.size * self.size * self.channels).sum());
        }
        Ok(Weights::Quads { weights: self.pack(weights, byte)?, offsets })
    }

    pub(super) fn halves(&self, weights: Source<'_>) -> Result<Weights, OutOfMemory> {
        let lower = self.pack(weights, byte)?;
        let upper = matches!(weights, Source::Words(_)).then(|| self.pack(weights, |w| byte(halves(w)[0])));
        Ok(Weights::Halves { upper: upper.transpose()?, lower })
    }

    pub(super) fn limbs(&self, weights: Source<'_>, part: usize) -> Result<Aligned<i32>, OutOfMemory> {
        self.pack(weights, |w| byte(limbs(w as i16)[part].into()))
    }

    pub(super) fn matrix(&self, matrix: Matrix, split: Split, weights: Source<'_>) -> Result<MatrixWeights, OutOfMemory> {
        let Self { size, padded, outputs, .. } = *self;
        let groups = (size * padded).div_ceil(GROUP);
        let per_block = if split == Split::Limbs { split.count() } else { 1 };
        let mut packed = Aligned::zeros(outputs.div_ceil(SIDE) * per_block * size * groups * 2 * BLOCK)?;
        match weights {
            Source::Bytes(weights) => self.lines(weights, per_block, &mut packed, |w, _| w as u8)?,
            Source::Words(weights) => self.lines(weights, per_block, &mut packed, |w, part| limbs(w)[part] as u8)?,
        }
        Ok(MatrixWeights { matrix, split, groups, weights: packed })
    }

    /// Writes the weights of `per_block` squares for each block of outputs, in lines of 4 weights for each of 16 outputs. `part_of` turns a weight into the
    /// byte for a square.
    fn lines<T: Copy + Zeroable>(
        &self,
        weights: &[T],
        per_block: usize,
        to: &mut [u8],
        part_of: impl Fn(T, usize) -> u8,
    ) -> Result<(), OutOfMemory> {
        let Self { size, channels, padded, .. } = *self;
        let (row_len, groups) = (size * padded, (size * padded).div_ceil(GROUP));
        let mut rows: Vec<u8> = memory::zeros(OUTPUTS * groups * GROUP)?;
        for (i, weights) in weights.chunks(OUTPUTS * size * size * channels).enumerate() {
            for (part, row) in (0..per_block).flat_map(|part| (0..size).map(move |row| (part, row))) {
                let outputs = weights.chunks_exact(size * size * channels);
                for (weights, to) in outputs.zip(rows.chunks_exact_mut(groups * GROUP)) {
                    let columns = weights[row * size * channels..][..size * channels].chunks_exact(channels);
                    for (weights, to) in columns.zip(to[..row_len].chunks_exact_mut(padded)) {
                        to.iter_mut().zip(weights).for_each(|(to, w)| *to = part_of(*w, part));
                    }
                }
                // Each group has two operands of `BLOCK` bytes, one for each half of 32 outputs.
                let first = ((i / 2 * per_block + part) * size + row) * groups * 2 * BLOCK + i % 2 * BLOCK;
                for (group, to) in to[first..].chunks_mut(2 * BLOCK).take(groups).enumerate() {
                    for (quad, line) in to[..BLOCK].as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
                        let members = rows[group * GROUP + 4 * quad..].chunks(groups * GROUP);
                        for (to, members) in line.as_chunks_mut::<4>().0.iter_mut().zip(members) {
                            to.copy_from_slice(&members[..4]);
                        }
                    }
                }
            }
            // Outputs that are missing in the last lines must have zero weights.
            rows.fill(0);
        }
        Ok(())
    }
}
