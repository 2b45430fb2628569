//! The matrix product: accumulators of a tile of POSITIONS x VECTORS for one term, all in registers.
//!
//! No accumulator overflows: `mlic_model::proof` bounds each by the worst case of its whole sum. Products of unsigned bytes add
//! 128 to the activations, so that sums wrap on the way; what is left when `offsets` has taken that away again is the true sum, which fits.

use super::pack::{Term, Weights};
use super::stage::{Data, Staged};
use crate::arch::Simd;

/// Accumulators.
pub(super) type Tile<S, const POSITIONS: usize, const VECTORS: usize> = [[<S as Simd>::I32; VECTORS]; POSITIONS];

/// Accumulators of one term for the positions that begin at `starts` and the outputs of one block.
#[inline(always)]
pub(super) fn accumulate<S: Simd, const P: usize, const V: usize>(
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
                let rows = starts.map(|start| data[start + i * staged.row_len..][..inner].as_chunks().0);
                s.pairs(&mut tile, rows, weights);
            }
        }
        (Weights::Quads { weights, offsets }, Data::Bytes(data)) => {
            let len = inner / 4 * V * S::LANES;
            for v in 0..V {
                let offset = s.load(&offsets[first_output + v * S::LANES..]);
                for tile in &mut tile {
                    tile[v] = offset;
                }
            }
            for (i, weights) in weights[block * size * len..][..size * len].chunks_exact(len).enumerate() {
                let rows = starts.map(|start| data[start + i * staged.row_len..][..inner].as_chunks().0);
                s.quads(&mut tile, rows, weights);
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
        (Weights::Identity, Data::Wide(data)) => {
            let at = size / 2 * (staged.row_len + staged.position_len) + first_output;
            for (tile, start) in tile.iter_mut().zip(starts) {
                for v in 0..V {
                    tile[v] = s.load_i16(&data[start + at + v * S::LANES..]);
                }
            }
        }
        _ => {} // staging follows the kind of weights
    }
    tile
}
