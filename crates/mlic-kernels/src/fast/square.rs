//! Bands of a layer by a matrix unit, which leaves the sums of 32 positions x 32 outputs in memory. Vectors go on from there as from the sums of a tile.
//!
//! Products of words are put together from products of bytes ([`Split`]). Partial sums may wrap: the whole sum fits (`mlic_model::proof`).

use std::ops::Range;

use mlic_core::memory::{self, OutOfMemory};

use super::layer::Positions;
use super::pack::{MatrixWeights, Split, Term, Weights};
use crate::arch::{Activations, Beside, Block, SIDE, Simd, Tiles};

/// Positions that are multiplied at once.
pub(super) struct Chunk {
    /// The first position, counted in what is staged.
    pub(super) first: usize,
    /// The wanted positions of the chunk, as a range of all wanted positions of the band.
    pub(super) places: Range<usize>,
}

/// The chunks of a band.
#[derive(Default)]
pub(super) struct Chunks {
    pub(super) chunks: Vec<Chunk>,
    /// For each wanted position of the band, in order, its index in its chunk.
    pub(super) slots: Vec<usize>,
    /// Rows, width and kernel size of the last cut, if all positions were wanted.
    last: Option<[usize; 3]>,
}

impl Chunks {
    /// Makes room for cutting `rows` rows.
    pub(super) fn reserve(&mut self, rows: usize, width: usize, size: usize) -> Result<(), OutOfMemory> {
        memory::reserve_all(&mut self.slots, rows * width)?;
        // No row begins a new chunk where all columns are wanted; each row does where half of them are.
        memory::reserve_all(&mut self.chunks, (rows * (width + size - 1)).div_ceil(SIDE) + rows)
    }

    /// Cuts a band of these rows. Where all positions are wanted, the columns beside the map that are staged with it are computed as if they were
    /// positions, so that no row begins a new chunk.
    pub(super) fn cut(&mut self, at: Positions, rows: Range<usize>, width: usize, size: usize) {
        let own = (at == Positions::All).then_some([rows.len(), width, size]);
        if own.is_some() && own == self.last {
            return;
        }
        self.last = own;
        self.chunks.clear();
        self.slots.clear();
        let pitch = width + size - 1;
        match at {
            Positions::All => {
                let positions = (0..(rows.len() * pitch).saturating_sub(size - 1)).map(|at| (at % pitch, at));
                self.push(positions, width);
            }
            Positions::Half(_) | Positions::Second => {
                for (i, row) in rows.enumerate() {
                    let first = at.row_step() * i * pitch;
                    self.push(at.columns(row, width).map(|col| (col, first + col)), width);
                }
            }
        }
    }

    fn push(&mut self, positions: impl Iterator<Item = (usize, usize)>, width: usize) {
        for (i, (col, first)) in positions.enumerate() {
            let end = self.slots.len();
            if i % SIDE == 0 {
                self.chunks.push(Chunk { first, places: end..end });
            }
            if let Some(chunk) = self.chunks.last_mut().filter(|_| col < width) {
                self.slots.push(i % SIDE);
                chunk.places.end = end + 1;
            }
        }
    }
}

/// Sums of a chunk for 32 outputs, `[position][output]`, or two halves that together make those of 16 positions.
pub(super) type Square = [i32; SIDE * SIDE];

/// The sums of all terms for one position and a vector of outputs.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a, T: Terms> {
    pub(super) terms: T,
    pub(super) squares: &'a [Square],
    /// Index of the position in the squares.
    pub(super) slot: usize,
    /// Index of the first output in the squares.
    pub(super) output: usize,
}

impl<T: Terms> Sums<'_, T> {
    /// The sums of one term.
    #[inline(always)]
    pub(super) fn of<S: Simd>(self, s: S, term: usize) -> S::I32 {
        self.terms.load(s, term, self.squares, self.slot, self.output)
    }
}

/// The number of terms of a layer, and what the squares hold of each. For a single term, as most layers have, the compiler knows both.
pub(super) trait Terms: Copy {
    /// How the term is multiplied, if the compiler is to know.
    const SPLIT: Option<Split> = None;

    /// The number of terms: one, unless there are several.
    #[inline(always)]
    fn count(self) -> usize {
        1
    }

    /// The first square of a term.
    #[inline(always)]
    fn first_square(self, _term: usize) -> usize {
        0
    }

    /// The sums of a term.
    fn load<S: Simd>(self, s: S, term: usize, squares: &[Square], slot: usize, output: usize) -> S::I32;
}

/// One term, of [`Split::Sums`].
#[derive(Clone, Copy)]
pub(super) struct OneOfSums;

/// One term, of [`Split::Bytes`].
#[derive(Clone, Copy)]
pub(super) struct OneOfBytes;

/// One term, of [`Split::Limbs`].
#[derive(Clone, Copy)]
pub(super) struct OneOfLimbs;

/// Several terms, and where the sums of each are.
#[derive(Clone, Copy)]
pub(super) struct Several<'a>(pub(super) &'a [Place]);

impl Terms for OneOfSums {
    const SPLIT: Option<Split> = Some(Split::Sums);

    #[inline(always)]
    fn load<S: Simd>(self, s: S, _: usize, squares: &[Square], slot: usize, output: usize) -> S::I32 {
        s.load(&squares[0][slot % SIDE * SIDE + output..])
    }
}

impl Terms for OneOfBytes {
    const SPLIT: Option<Split> = Some(Split::Bytes);

    #[inline(always)]
    fn load<S: Simd>(self, s: S, _: usize, squares: &[Square], slot: usize, output: usize) -> S::I32 {
        let square = &squares[slot / HALF];
        let row = slot % HALF * SIDE;
        let upper = s.shift_left::<8>(s.load(&square[row + output..]));
        s.add(upper, s.load(&square[HALF * SIDE + row + output..]))
    }
}

impl Terms for OneOfLimbs {
    const SPLIT: Option<Split> = Some(Split::Limbs);

    #[inline(always)]
    fn load<S: Simd>(self, s: S, _: usize, squares: &[Square], slot: usize, output: usize) -> S::I32 {
        let at = slot % SIDE * SIDE + output;
        let (upper, lower, both) = (s.load(&squares[0][at..]), s.load(&squares[1][at..]), s.load(&squares[2][at..]));
        let middle = s.sub(s.sub(both, upper), lower);
        s.add(s.add(s.shift_left::<14>(upper), s.shift_left::<7>(middle)), lower)
    }
}

impl Terms for Several<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn first_square(self, term: usize) -> usize {
        self.0[term].first
    }

    #[inline(always)]
    fn load<S: Simd>(self, s: S, term: usize, squares: &[Square], slot: usize, output: usize) -> S::I32 {
        let Place { split, first } = self.0[term];
        let squares = &squares[first..];
        match split {
            // Without a matrix unit, there are no other sums.
            _ if !S::HAS_MATRIX => OneOfSums.load(s, 0, squares, slot, output),
            Split::Sums => OneOfSums.load(s, 0, squares, slot, output),
            Split::Bytes => OneOfBytes.load(s, 0, squares, slot, output),
            Split::Limbs => OneOfLimbs.load(s, 0, squares, slot, output),
        }
    }
}

/// Positions, and outputs, of one operand of a matrix unit.
const HALF: usize = SIDE / 2;

/// Where the sums of a term for a chunk and 32 outputs are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    split: Split,
    /// The first square of the term.
    first: usize,
}

impl Place {
    /// Writes the places of all terms to `places`, and returns how many squares they take.
    pub(super) fn of_terms(terms: &[Term], places: &mut Vec<Self>) -> usize {
        places.clear();
        let mut first = 0;
        for term in terms {
            let (count, split) = match &term.weights {
                Weights::Matrix(packed) => (packed.split.count(), packed.split),
                // One square for each of the two output rows of a tile.
                Weights::Winograd(_) => (2, Split::Sums),
                _ => (1, Split::Sums),
            };
            places.push(Self { split, first });
            first += count;
        }
        first
    }
}

/// A term of a layer, as a matrix unit reads it.
pub(super) struct Operands<'a> {
    pub(super) packed: &'a MatrixWeights,
    pub(super) planes: [&'a [u8]; 3],
    /// Bytes of a position, and of a row of positions.
    pub(super) position_len: usize,
    pub(super) row_len: usize,
    /// Side of the kernel.
    pub(super) size: usize,
}

impl Operands<'_> {
    /// Number of steps of [`Self::multiply`].
    pub(super) fn steps(packed: &MatrixWeights, size: usize) -> usize {
        packed.split.count() * size * packed.groups
    }

    /// Makes the squares of a chunk for block number `block` of the outputs. Sums at positions and outputs that are not wanted have no meaning. After each
    /// step, it does a piece of `other`.
    #[inline(always)]
    pub(super) fn multiply<T: Terms>(
        &self,
        tiles: &Tiles,
        chunk: &Chunk,
        step: usize,
        block: usize,
        to: &mut [Square],
        other: &mut impl Beside,
    ) {
        let Self { packed, position_len, .. } = *self;
        let (start, second) = (chunk.first * position_len, (chunk.first + SIDE / 2 * step) * position_len);
        match T::SPLIT.unwrap_or(packed.split) {
            Split::Sums => {
                let block = self.block(step, [(0, start), (0, second)], block);
                tiles.multiply(Activations::Bytes, block, &mut to[0], other);
            }
            Split::Bytes => {
                for (start, to) in [start, second].into_iter().zip(to) {
                    let block = self.block(step, [(0, start), (1, start)], block);
                    tiles.multiply(Activations::Words, block, to, other);
                }
            }
            Split::Limbs => {
                for (part, to) in to.iter_mut().enumerate().take(Split::Limbs.count()) {
                    let block = self.block(step, [(part, start), (part, second)], Split::Limbs.count() * block + part);
                    tiles.multiply(Activations::Bytes, block, to, other);
                }
            }
        }
    }

    /// The block whose operands begin at the given (plane, byte), with the weights of square number `number`.
    #[inline(always)]
    fn block(&self, step: usize, operands: [(usize, usize); 2], number: usize) -> Block<'_> {
        let Self { packed, planes, position_len, row_len, size } = *self;
        let [(a, first), (b, second)] = operands;
        let len = packed.square_len(size);
        Block {
            activations: [&planes[a][first..], &planes[b][second..]],
            stride: step * position_len,
            row_len,
            rows: size,
            groups: packed.groups,
            weights: &packed.weights[number * len..][..len],
        }
    }
}
