//! Bands of a layer by a matrix unit: accumulators of 32 positions x 32 outputs, in memory, from which vectors go on as from a tile in registers.
//!
//! Products of words are those of their bytes: `a b = (a1 b1 << 16) + ((a1 b0 + a0 b1) << 8) + a0 b0`, where upper bytes are signed and lower ones
//! are not. Parts may wrap: the whole sum fits (`mlic_model::proof`).

use std::ops::Range;

use mlic_core::memory::OutOfMemory;

use super::layer::{Positions, reserve_all};
use super::pack::{Squares, Term, Weights};
use super::tile::Tile;
use crate::arch::{Beside, Block, Factors, SIDE, Simd, Tiles};

/// Positions that are multiplied at once.
pub(super) struct Chunk {
    /// The first one, as a position of what is staged.
    pub(super) first: usize,
    /// Those that are wanted, of all places of the band.
    pub(super) places: Range<usize>,
}

/// What a band is cut into.
#[derive(Default)]
pub(super) struct Chunks {
    pub(super) chunks: Vec<Chunk>,
    /// Which of its chunk's positions each wanted one is, in order.
    pub(super) slots: Vec<usize>,
    /// Rows, width and size of what was cut last, where all positions were wanted.
    last: Option<[usize; 3]>,
}

impl Chunks {
    /// Room for the cut of so many rows.
    pub(super) fn reserve(&mut self, rows: usize, width: usize, size: usize) -> Result<(), OutOfMemory> {
        reserve_all(&mut self.slots, rows * width)?;
        // No row begins a new chunk where all columns are wanted; each row does where half of them are.
        reserve_all(&mut self.chunks, (rows * (width + size - 1)).div_ceil(SIDE) + rows)
    }

    /// Cuts a band of these rows. The columns beside the map that are staged with it are computed as if they were positions, where all are
    /// wanted: so no row begins a new chunk.
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

/// Sums of a chunk for 32 outputs, `[position][output]`, or four quarters of 16 positions x 16 outputs that make some of them.
pub(super) type Square = [i32; SIDE * SIDE];

/// The sums of all terms for one position and a vector of outputs.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    pub(super) places: &'a [Place],
    pub(super) squares: &'a [Square],
    /// The position, of those of the squares.
    pub(super) slot: usize,
    /// The first output, of those of the squares.
    pub(super) output: usize,
}

/// Where the sums of a term for a chunk and 32 outputs are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    parts: Parts,
    /// The first of its squares.
    first: usize,
}

/// What squares hold.
#[derive(Clone, Copy)]
enum Parts {
    /// The sums, in one square.
    Sums,
    /// Sums of upper bytes of activations above those of lower ones, each of 16 positions: two squares.
    Bytes,
    /// Sums of products by the power of 256 that they count, the highest first, each of 16 positions and 16 outputs: two squares for 16 positions.
    Words,
}

impl Place {
    /// For all terms, and how many squares these are.
    pub(super) fn of_terms(terms: &[Term], places: &mut Vec<Self>) -> usize {
        places.clear();
        let mut first = 0;
        for term in terms {
            let (count, parts) = match &term.weights {
                Weights::Squares(squares) => match squares.count() {
                    1 => (1, Parts::Sums),
                    2 => (2, Parts::Bytes),
                    count => (count, Parts::Words),
                },
                // One for each of two rows.
                Weights::Winograd(_) => (2, Parts::Sums),
                _ => (1, Parts::Sums),
            };
            places.push(Self { parts, first });
            first += count;
        }
        first
    }

    /// The sums of this term.
    #[inline(always)]
    pub(super) fn load<S: Simd>(self, s: S, Sums { squares, slot, output, .. }: Sums<'_>) -> S::I32 {
        let squares = &squares[self.first..];
        const HALF: usize = SIDE / 2;
        let row = slot % HALF * SIDE;
        match self.parts {
            Parts::Sums => s.load(&squares[0][slot * SIDE + output..]),
            Parts::Bytes => {
                let square = &squares[slot / HALF];
                let upper = s.shift_left::<8>(s.load(&square[row + output..]));
                s.add(upper, s.load(&square[HALF * SIDE + row + output..]))
            }
            Parts::Words => {
                let square = &squares[2 * (slot / HALF) + output / HALF];
                let upper = s.shift_left::<8>(s.load(&square[row..]));
                let upper = s.add(upper, s.load(&square[row + HALF..]));
                s.add(s.shift_left::<8>(upper), s.load(&square[HALF * SIDE + row..]))
            }
        }
    }

    /// Its squares.
    pub(super) fn of<'a>(&self, squares: &'a mut [Square]) -> &'a mut [Square] {
        &mut squares[self.first..]
    }
}

/// Keeps the accumulators of a tile.
#[inline(always)]
pub(super) fn store<S: Simd, const P: usize, const V: usize>(s: S, tile: &Tile<S, P, V>, to: &mut [i32]) {
    for (tile, to) in tile.iter().zip(to.chunks_exact_mut(SIDE)) {
        for v in 0..V {
            s.store(tile[v], &mut to[v * S::LANES..]);
        }
    }
}

/// A term of a layer, as a matrix unit reads it.
pub(super) struct Operands<'a> {
    pub(super) squares: &'a Squares,
    pub(super) planes: [&'a [u8]; 2],
    /// Bytes of a position, and of a row of positions.
    pub(super) position_len: usize,
    pub(super) row_len: usize,
    /// Side of the kernel.
    pub(super) size: usize,
}

impl Operands<'_> {
    /// Pieces of work of [`Self::multiply`].
    pub(super) fn steps(squares: &Squares, size: usize) -> usize {
        squares.count() * size * squares.groups
    }

    /// The squares of a chunk for block number `block` of the outputs. Those of positions and outputs that are not wanted mean nothing. After
    /// each piece of work some of `other` is done.
    #[inline(always)]
    pub(super) fn multiply(
        &self,
        tiles: &Tiles,
        chunk: &Chunk,
        step: usize,
        block: usize,
        to: &mut [Square],
        other: &mut impl Beside,
    ) {
        let Self { squares, planes, position_len, row_len, size } = *self;
        let Squares { products, groups, .. } = *squares;
        let (stride, start) = (step * position_len, chunk.first * position_len);
        let len = squares.square_len(size);
        let is_words = |factors| usize::from(factors == Factors::Words);
        for (n, m) in (0..=is_words(products.weights)).flat_map(|n| (0..=is_words(products.activations)).map(move |m| (n, m))) {
            let square = block * (1 + is_words(products.weights)) + n;
            let weights = &squares.weights.bytes()[square * len..][..len];
            // Two times 16 positions, or two bytes of 16.
            let places = match products.activations {
                Factors::Bytes => [start, start + SIDE / 2 * stride].map(|at| (planes[0], at)),
                Factors::Words => planes.map(|plane| (plane, start + m * SIDE / 2 * stride)),
            };
            let activations = places.map(|(plane, at)| &plane[at..]);
            let block = Block { activations, stride, row_len, rows: size, groups, weights };
            tiles.multiply(products, block, &mut to[m * (1 + is_words(products.weights)) + n], other);
        }
    }
}
