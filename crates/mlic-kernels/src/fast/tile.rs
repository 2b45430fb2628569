//! The matrix product: accumulators of a tile of POSITIONS x VECTORS for one term, all in registers.
//!
//! What a layer does with its sums depends on the kind of layer; how they are made does not. Making them is therefore a job of its own.
//!
//! No whole sum overflows its accumulator: `mlic_model::proof` bounds each by its worst case. Products of unsigned bytes add 128 to the
//! activations, so that sums may wrap on the way; `offsets` takes that away again and leaves the true sum, which fits.

use super::pack::{Term, Weights};
use super::square::Square;
use super::stage::{Data, Staged};
use crate::arch::{Job, SIDE, Simd, groups};

/// The accumulators of a tile.
type Tile<S, const POSITIONS: usize, const VECTORS: usize> = [[<S as Simd>::I32; VECTORS]; POSITIONS];

/// The factors that combine, in one tile, the sums `s1`, `s0` and `s2` of the products of upper [`limbs`](super::pack::limbs), of lower limbs and of their sums
/// to `2^14 s1 + 2^7 (s2 - s1 - s0) + s0`: `s1`, `s2` and `s0` are added in this order, and after each addition the tile is multiplied by the next factor,
/// modulo 2^32. 127 is odd, so that it has an inverse: `-127 (s0 - 128 / 127 (127 s1 + s2)) = 128 (127 s1 + s2) - 127 s0`.
const FROM_LIMBS: [i32; 3] = [127, 270_549_120, -127];

/// The sums of all terms of a layer for the positions of a tile and a block of outputs.
pub(super) struct TileSums<'a> {
    pub(super) terms: &'a [Term],
    pub(super) staged: &'a [Staged<'a>],
    /// Side of the kernel.
    pub(super) size: usize,
    /// Row and column of each position, at most as many as a tile has.
    pub(super) places: &'a [[usize; 2]],
    pub(super) block: usize,
    /// One square for each term.
    pub(super) to: &'a mut [Square],
}

impl Job for TileSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { terms, staged, size, places, block, to } = self;
        // A tile with fewer places repeats the last one.
        let at: [[usize; 2]; P] = std::array::from_fn(|p| places[p.min(places.len() - 1)]);
        for ((term, staged), to) in terms.iter().zip(staged).zip(to) {
            let starts = at.map(|[row, col]| row * staged.row_len + col * staged.position_len);
            let tile = accumulate::<S, P, V>(s, term, size, *staged, &starts, block);
            store(s, &tile, to);
        }
    }
}

/// The sums of one term for some positions, one at a time, and a block of outputs: for terms that a matrix unit does not multiply.
pub(super) struct PositionSums<'a> {
    pub(super) term: &'a Term,
    pub(super) staged: Staged<'a>,
    /// Side of the kernel.
    pub(super) size: usize,
    /// The position of slot 0, counted in what is staged, and (`step`) the positions from one slot to the next.
    pub(super) first: usize,
    pub(super) step: usize,
    /// Slots of the square that are wanted.
    pub(super) slots: &'a [usize],
    pub(super) block: usize,
    pub(super) to: &'a mut Square,
}

impl Job for PositionSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { term, staged, size, first, step, slots, block, to } = self;
        for slot in slots {
            let start = (first + slot * step) * staged.position_len;
            let tile = accumulate::<S, 1, V>(s, term, size, staged, &[start], block);
            store(s, &tile, &mut to[slot * SIDE..]);
        }
    }
}

/// Stores the accumulators of a tile, a row of [`SIDE`] for each position.
#[inline(always)]
fn store<S: Simd, const P: usize, const V: usize>(s: S, tile: &Tile<S, P, V>, to: &mut [i32]) {
    for (tile, to) in tile.iter().zip(to.chunks_exact_mut(SIDE)) {
        for v in 0..V {
            s.store(tile[v], &mut to[v * S::LANES..]);
        }
    }
}

/// Accumulators of one term for the positions that begin at `starts` and the outputs of one block.
#[inline(always)]
fn accumulate<S: Simd, const P: usize, const V: usize>(
    s: S,
    term: &Term,
    size: usize,
    staged: Staged<'_>,
    starts: &[usize; P],
    block: usize,
) -> Tile<S, P, V> {
    let mut tile = [[s.splat(0); V]; P];
    let first_output = block * V * S::LANES;
    let inner = size * term.padded;
    match (&term.weights, staged.data) {
        (Weights::Pairs(weights), Data::Wide(data)) => {
            let len = inner / 2 * V * S::LANES;
            for (i, weights) in weights[block * size * len..][..size * len].chunks_exact(len).enumerate() {
                s.pairs(&mut tile, groups(&data[i * staged.row_len..], *starts, inner), weights);
            }
        }
        (Weights::Depthwise(weights), Data::Wide(data)) => {
            for tap in 0..size * size {
                let weights = &weights[tap * term.padded + first_output..][..V * S::LANES];
                let at = tap / size * staged.row_len + tap % size * staged.position_len + first_output;
                for (tile, start) in tile.iter_mut().zip(starts) {
                    let data = &data[start + at..][..V * S::LANES];
                    for v in 0..V {
                        let weight = s.load(&weights[v * S::LANES..]);
                        tile[v] = s.dot_pairs(tile[v], s.load_with_zeros(&data[v * S::LANES..]), weight);
                    }
                }
            }
        }
        (Weights::Identity | Weights::Shuffled, Data::Wide(data)) => {
            let at = size / 2 * (staged.row_len + staged.position_len) + first_output;
            for (tile, start) in tile.iter_mut().zip(starts) {
                for v in 0..V {
                    tile[v] = s.load_i16(&data[start + at + v * S::LANES..]);
                }
            }
        }
        _ => return bytes(s, term, size, staged, starts, block),
    }
    tile
}

/// [`accumulate`] where bytes are multiplied, four at a time.
#[inline(always)]
fn bytes<S: Simd, const P: usize, const V: usize>(
    s: S,
    term: &Term,
    size: usize,
    staged: Staged<'_>,
    starts: &[usize; P],
    block: usize,
) -> Tile<S, P, V> {
    let mut tile = [[s.splat(0); V]; P];
    let inner = size * term.padded;
    let len = size * (inner / 4) * V * S::LANES;
    let quads_of = |weights| Quads { starts, row_len: staged.row_len, inner, weights: block_of(weights, block, len) };
    match (&term.weights, staged.data) {
        (Weights::Quads { weights, offsets }, Data::Bytes(data)) => {
            // Where bytes are signed, offsets are zero, and sums may be in another order.
            if S::BYTE_ZERO != 0 {
                for v in 0..V {
                    let offset = s.load(&offsets[(block * V + v) * S::LANES..]);
                    for tile in &mut tile {
                        tile[v] = offset;
                    }
                }
            }
            quads_of(weights).add(s, &mut tile, data);
            s.in_rows(tile)
        }
        (Weights::Halves { upper, lower }, Data::Planes([upper_data, lower_data, _])) if S::BYTE_ZERO == 0 => {
            if let Some(upper) = upper {
                quads_of(upper).add(s, &mut tile, upper_data);
                tile = tile.map(|row| row.map(|sum| s.shift_left::<8>(sum)));
                quads_of(upper).add(s, &mut tile, lower_data);
            }
            quads_of(lower).add(s, &mut tile, upper_data);
            tile = tile.map(|row| row.map(|sum| s.shift_left::<8>(sum)));
            quads_of(lower).add(s, &mut tile, lower_data);
            s.in_rows(tile)
        }
        (Weights::Limbs([upper, lower, both]), Data::Planes([upper_data, lower_data, both_data])) if S::BYTE_ZERO == 0 => {
            // One by one: a loop would keep less in registers.
            quads_of(upper).add(s, &mut tile, upper_data);
            tile = tile.map(|row| row.map(|sum| s.mul(sum, s.splat(FROM_LIMBS[0]))));
            quads_of(both).add(s, &mut tile, both_data);
            tile = tile.map(|row| row.map(|sum| s.mul(sum, s.splat(FROM_LIMBS[1]))));
            quads_of(lower).add(s, &mut tile, lower_data);
            tile = tile.map(|row| row.map(|sum| s.mul(sum, s.splat(FROM_LIMBS[2]))));
            s.in_rows(tile)
        }
        _ => unreachable!("staging follows the kind of weights"),
    }
}

/// The weights of block number `block`, where each block has `len` words.
fn block_of(weights: &[i32], block: usize, len: usize) -> &[i32] {
    &weights[block * len..][..len]
}

/// The operands of the byte products of a tile.
struct Quads<'a, const P: usize> {
    starts: &'a [usize; P],
    row_len: usize,
    /// Bytes of a row of the kernel.
    inner: usize,
    /// Weights of the block.
    weights: &'a [i32],
}

impl<const P: usize> Quads<'_, P> {
    #[inline(always)]
    fn add<S: Simd, const V: usize>(&self, s: S, tile: &mut Tile<S, P, V>, data: &[u8]) {
        let weights = self.weights.chunks_exact(self.inner / 4 * V * S::LANES);
        for (i, weights) in weights.enumerate() {
            s.quads(tile, groups(&data[i * self.row_len..], *self.starts, self.inner), weights);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_limbs_make_the_sum() {
        assert_eq!(FROM_LIMBS[1].wrapping_mul(127), -128);
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as i32
        };
        let random = (0..10_000).map(|_| [next(), next(), next()]);
        let extreme = [0, 1, -1, i32::MIN, i32::MAX];
        let extreme = (0..125).map(|i| [extreme[i % 5], extreme[i / 5 % 5], extreme[i / 25]]);
        for sums in random.chain(extreme) {
            let steps = sums.iter().zip(FROM_LIMBS);
            let total = steps.fold(0_i32, |total, (sum, factor)| total.wrapping_add(*sum).wrapping_mul(factor));
            let [s1, s2, s0] = sums.map(i64::from);
            assert_eq!(total, ((s1 << 14) + ((s2 - s1 - s0) << 7) + s0) as i32, "{sums:?}");
        }
    }
}
