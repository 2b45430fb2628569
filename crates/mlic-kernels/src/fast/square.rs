//! Bands of a layer by a matrix unit: accumulators of 32 positions x 32 outputs, in memory, from which vectors go on as from a tile in registers.
//!
//! Products of words are those of their bytes: `a b = (a1 b1 << 16) + ((a1 b0 + a0 b1) << 8) + a0 b0`, where upper bytes are signed and lower ones
//! are not. Parts may wrap: the whole sum fits (`mlic_model::proof`).

use std::ops::Range;

use mlic_core::memory::OutOfMemory;

use super::layer::{Positions, reserve_all};
use super::pack::Squares;
use super::tile::Tile;
use crate::arch::{Block, Factors, Products, SIDE, Simd, Tiles};

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

/// Sums of a chunk for 32 outputs: `[position][output]`.
pub(super) type Square = [i32; SIDE * SIDE];

/// Keeps the accumulators of a tile.
#[inline(always)]
pub(super) fn store<S: Simd, const P: usize, const V: usize>(s: S, tile: &Tile<S, P, V>, to: &mut [i32]) {
    for (tile, to) in tile.iter().zip(to.chunks_exact_mut(SIDE)) {
        for v in 0..V {
            s.store(tile[v], &mut to[v * S::LANES..]);
        }
    }
}

/// Upper and lower rows of the quarters of a square: those of the upper bytes of activations, and of the lower ones.
#[inline(always)]
fn rows(parts: &Square) -> impl Iterator<Item = [&[i32]; 2]> {
    let (upper, lower) = parts.split_at(SIDE * SIDE / 2);
    upper.chunks_exact(SIDE).zip(lower.chunks_exact(SIDE)).map(|(upper, lower)| [upper, lower])
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
    /// The accumulators of a chunk for block number `block` of the outputs. Those of positions and outputs that are not wanted mean nothing.
    #[inline(always)]
    pub(super) fn multiply<S: Simd>(&self, s: S, tiles: &Tiles, chunk: &Chunk, step: usize, block: usize, to: &mut Square) {
        let Self { squares, planes: [upper, lower], position_len, row_len, size } = *self;
        let (stride, start) = (step * position_len, chunk.first * position_len);
        let half = 16 * stride;
        let block_of = |activations, square: usize| {
            let len = squares.square_len(size);
            let weights = &squares.weights.bytes()[square * len..][..len];
            Block { activations, stride, row_len, rows: size, groups: squares.groups, weights }
        };
        let mut parts = [0; SIDE * SIDE];
        match squares.products {
            products @ Products { activations: Factors::Bytes, .. } => {
                tiles.multiply(products, block_of([&upper[start..], &upper[start + half..]], block), to);
            }
            products @ Products { weights: Factors::Bytes, .. } => {
                for m in 0..2 {
                    let at = start + m * half;
                    tiles.multiply(products, block_of([&upper[at..], &lower[at..]], block), &mut parts);
                    for (to, [upper, lower]) in to[m * SIDE * SIDE / 2..].chunks_exact_mut(SIDE).zip(rows(&parts)) {
                        for at in (0..SIDE).step_by(S::LANES) {
                            let upper = s.shift_left::<8>(s.load(&upper[at..]));
                            s.store(s.add(upper, s.load(&lower[at..])), &mut to[at..]);
                        }
                    }
                }
            }
            products => {
                for (m, n) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let at = start + m * half;
                    tiles.multiply(products, block_of([&upper[at..], &lower[at..]], 2 * block + n), &mut parts);
                    for (to, [upper, lower]) in to[m * SIDE * SIDE / 2..].chunks_exact_mut(SIDE).zip(rows(&parts)) {
                        for at in (0..SIDE / 2).step_by(S::LANES) {
                            let middle = s.add(s.load(&upper[SIDE / 2 + at..]), s.load(&lower[at..]));
                            let upper = s.add(s.shift_left::<8>(s.load(&upper[at..])), middle);
                            let sum = s.add(s.shift_left::<8>(upper), s.load(&lower[SIDE / 2 + at..]));
                            s.store(sum, &mut to[n * SIDE / 2 + at..]);
                        }
                    }
                }
            }
        }
    }
}
