//! Layers of 3x3 by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016): a tile of 2x2 outputs takes 16 products per channel, not 36.
//!
//! With `B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]`, `G = [2 0 0; 1 1 1; 1 -1 1; 0 0 2]`, `A^T = [1 1 1 0; 0 1 -1 -1]`, a patch d of 4x4
//! activations and a kernel g, `4 Y = A^T ((G g G^T) * (B^T d B)) A`, where `*` multiplies element by element and Y are the sums of the definition. It is exact:
//! elements of `B^T d B` are sums of four activations and have 16 bits, as those of `G g G^T` must have; all sums may wrap in 32 bits as long as 4 Y fits.
//! Where it might not, channels are taken in parts, each with an own Y.

use std::ops::Range;

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::model::Weights as Source;

use super::aligned::Aligned;
use super::pack::{Term, Weights};
use super::square::Square;
use super::stage::{Data, Staged};
use crate::arch::{SIDE, Simd};

/// Elements of a patch, and products of a tile.
const PATCH: usize = 16;
/// Side of the kernels.
pub(super) const KERNEL: usize = 3;

/// Transformed weights of a term.
#[derive(Debug, Clone)]
pub(super) struct Winograd {
    parts: Vec<Part>,
}

/// Some of the channels.
#[derive(Debug, Clone)]
struct Part {
    channels: Range<usize>,
    /// `[block][element of the patch][pair of channels][output]`, two numbers of 16 bits each.
    weights: Aligned<i32>,
}

/// Tiles beside each other that are computed at once: whole groups of POSITIONS, whose outputs are at most [`SIDE`] in a row.
const fn tiles(positions: usize) -> usize {
    SIDE / 2 / positions * positions
}

impl Winograd {
    /// The weights `[output][row][column][channel]` of a term whose activations are at most `max`; none if products or sums might not fit.
    pub(super) fn new(weights: Source<'_>, channels: usize, block: usize, max: i32) -> Result<Option<Self>, OutOfMemory> {
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
        if 4 * i64::from(self.max) > i64::from(i16::MAX) {
            return Ok(None);
        }
        let Some(parts) = self.parts()? else { return Ok(None) };
        let mut out = Vec::new();
        memory::reserve(&mut out, parts.len())?;
        for channels in parts {
            let Some(weights) = self.part(&channels)? else { return Ok(None) };
            out.push(Part { channels, weights });
        }
        Ok(Some(Winograd { parts: out }))
    }

    /// Four times the largest magnitude that the sum of some channels can have.
    fn bound(&self, weights: &[T], channels: &Range<usize>) -> i64 {
        let at = weights.chunks_exact(self.channels).flat_map(|at| &at[channels.clone()]);
        4 * i64::from(self.max) * at.map(|w| i64::from((*w).into().abs())).sum::<i64>()
    }

    /// Pairs of channels, as many together as keep four times each sum below 2^31; none if a pair alone does not.
    fn parts(&self) -> Result<Option<Vec<Range<usize>>>, OutOfMemory> {
        let all = 0..self.channels;
        let fits = |sum: i64| sum <= i64::from(i32::MAX);
        if self.outputs().all(|weights| fits(self.bound(weights, &all))) {
            return Ok(Some(memory::collect(1, [all])?));
        }
        let (mut sums, mut more): (Vec<i64>, Vec<i64>) = (memory::zeros(self.outputs().len())?, Vec::new());
        let (mut parts, mut first) = (Vec::new(), 0);
        memory::reserve(&mut parts, self.channels.div_ceil(2))?;
        memory::reserve(&mut more, sums.len())?;
        for pair in all.step_by(2) {
            more.clear();
            more.extend(self.outputs().map(|weights| self.bound(weights, &(pair..(pair + 2).min(self.channels)))));
            if !more.iter().all(|more| fits(*more)) {
                return Ok(None);
            }
            if !sums.iter().zip(&more).all(|(sum, more)| fits(sum + more)) {
                parts.push(first..pair);
                first = pair;
                sums.fill(0);
            }
            sums.iter_mut().zip(&more).for_each(|(sum, more)| *sum += more);
        }
        parts.push(first..self.channels);
        Ok(Some(parts))
    }

    /// `G g G^T` of these channels; none if an element has more than 16 bits.
    fn part(&self, channels: &Range<usize>) -> Result<Option<Aligned<i32>>, OutOfMemory> {
        let (block, pairs) = (self.block, channels.len().div_ceil(2));
        let mut out = Aligned::zeros(self.outputs().len().div_ceil(block) * PATCH * pairs * block)?;
        let mut fits = true;
        for (o, weights) in self.outputs().enumerate() {
            let mut taps = [&weights[..0]; KERNEL * KERNEL];
            taps.iter_mut().zip(weights.chunks_exact(self.channels)).for_each(|(tap, all)| *tap = &all[channels.clone()]);
            let out = &mut out[o / block * PATCH * pairs * block + o % block..];
            for pair in 0..pairs {
                let elements = [2 * pair, 2 * pair + 1].map(|c| elements(&taps, c));
                for k in 0..PATCH {
                    let [first, second] = [elements[0][k], elements[1][k]];
                    fits &= first == i32::from(first as i16) && second == i32::from(second as i16);
                    out[(k * pairs + pair) * block] = first & 0xffff | second << 16;
                }
            }
        }
        Ok(fits.then_some(out))
    }
}

/// `G g G^T` of one channel, zeros beyond the last one.
#[inline(always)]
fn elements<T: Copy + Into<i32>>(taps: &[&[T]; KERNEL * KERNEL], channel: usize) -> [i32; PATCH] {
    let mut out = [0; PATCH];
    if channel >= taps[0].len() {
        return out;
    }
    let mut columns = [[0; 4]; KERNEL];
    for (column, expanded) in columns.iter_mut().enumerate() {
        *expanded = expand(
            taps[column][channel].into(),
            taps[KERNEL + column][channel].into(),
            taps[2 * KERNEL + column][channel].into(),
        );
    }
    for row in 0..4 {
        out[4 * row..][..4].copy_from_slice(&expand(columns[0][row], columns[1][row], columns[2][row]));
    }
    out
}

/// G times a vector.
#[inline(always)]
const fn expand(a: i32, b: i32, c: i32) -> [i32; 4] {
    [2 * a, a + b + c, a - b + c, 2 * c]
}

/// Working memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// `B^T` times the rows of the patches: `[row][column][channel]`.
    rows: Aligned<i16>,
    /// Per term `[element of the patch][tile][channel]`.
    patches: Aligned<i16>,
    /// `[element of the patch][tile][output of the block]`
    products: Aligned<i32>,
}

impl Scratch {
    /// Room for what [`patches`] and [`sums`] make of these terms.
    pub(super) fn reserve(&mut self, terms: &[Term], positions: usize, block: usize) -> Result<(), OutOfMemory> {
        let tiles = tiles(positions);
        let padded = terms.iter().map(|term| term.padded);
        let rows = 4 * (2 * tiles + 2) * padded.clone().max().unwrap_or(0);
        self.rows.at_least(rows)?;
        self.patches.at_least(PATCH * tiles * padded.sum::<usize>())?;
        self.products.at_least(PATCH * tiles * block)?;
        Ok(())
    }
}

/// Each element of `[a - c, b + c, c - b, b - d]`.
#[inline(always)]
fn butterfly([a, b, c, d]: [&[i16]; 4], to: [&mut [i16]; 4]) {
    let len = a.len();
    let (b, c, d) = (&b[..len], &c[..len], &d[..len]);
    let [to_a, to_b, to_c, to_d] = to.map(|to| &mut to[..len]);
    for i in 0..len {
        to_a[i] = a[i].wrapping_sub(c[i]);
        to_b[i] = b[i].wrapping_add(c[i]);
        to_c[i] = c[i].wrapping_sub(b[i]);
        to_d[i] = b[i].wrapping_sub(d[i]);
    }
}

/// Four equal parts.
#[inline(always)]
fn quarters(all: &mut [i16]) -> [&mut [i16]; 4] {
    let len = all.len() / 4;
    let (a, rest) = all.split_at_mut(len);
    let (b, rest) = rest.split_at_mut(len);
    let (c, d) = rest.split_at_mut(len);
    [a, b, c, d]
}

/// Tiles beside each other in a band.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// Row and column of the first output.
    pub(super) at: [usize; 2],
    /// How many.
    pub(super) count: usize,
}

impl Strip {
    /// All tiles of a band of so many rows and columns.
    pub(super) fn all(rows: usize, width: usize, positions: usize) -> impl Iterator<Item = Self> {
        let columns = 2 * tiles(positions);
        let strips = move |row| (0..width).step_by(columns).map(move |column| (row, column));
        let count = move |column: usize| (width - column).div_ceil(2).min(columns / 2);
        (0..rows).step_by(2).flat_map(strips).map(move |(row, column)| Self { at: [row, column], count: count(column) })
    }

    /// `B^T d B` of all patches and terms.
    #[inline(always)]
    pub(super) fn patches<S: Simd, const P: usize>(self, _: S, scratch: &mut Scratch, terms: &[Term], staged: &[Staged<'_>]) {
        let Scratch { rows, patches, .. } = scratch;
        let mut patches = &mut patches[..];
        for (term, staged) in terms.iter().zip(staged) {
            let Data::Wide(data) = staged.data else { continue };
            let (padded, len) = (term.padded, (2 * self.count + 2) * term.padded);
            let start = self.at[0] * staged.row_len + self.at[1] * staged.position_len;
            let inputs = [0, 1, 2, 3].map(|row| &data[start + row * staged.row_len..][..len]);
            butterfly(inputs, quarters(&mut rows[..4 * len]));
            let own;
            (own, patches) = patches.split_at_mut(PATCH * tiles(P) * padded);
            for (row, to) in rows.chunks_exact(len).zip(own.chunks_exact_mut(4 * tiles(P) * padded)) {
                let mut to = quarters(to).map(|to| to.chunks_exact_mut(padded));
                for tile in 0..self.count {
                    let columns = [0, 1, 2, 3].map(|column| &row[(2 * tile + column) * padded..][..padded]);
                    butterfly(columns, to.each_mut().map(|to| to.next().unwrap_or_default()));
                }
            }
        }
    }

    /// The sums of all terms for a block of outputs: of each two squares, of the upper and the lower outputs of the tiles.
    #[inline(always)]
    pub(super) fn sums<S: Simd, const P: usize, const V: usize>(
        self,
        s: S,
        scratch: &mut Scratch,
        terms: &[Term],
        block: usize,
        squares: &mut [Square],
    ) {
        let Scratch { patches, products, .. } = scratch;
        let mut patches = &patches[..];
        for (term, squares) in terms.iter().zip(squares.chunks_exact_mut(2)) {
            let own;
            (own, patches) = patches.split_at(PATCH * tiles(P) * term.padded);
            if let Weights::Winograd(winograd) = &term.weights {
                self.sums_of::<S, P, V>(s, winograd, own, products, block, squares);
            }
        }
    }

    #[inline(always)]
    fn sums_of<S: Simd, const P: usize, const V: usize>(
        self,
        s: S,
        winograd: &Winograd,
        patches: &[i16],
        products: &mut [i32],
        block: usize,
        squares: &mut [Square],
    ) {
        let (width, tiles) = (V * S::LANES, tiles(P));
        let padded = patches.len() / (PATCH * tiles);
        for (i, part) in winograd.parts.iter().enumerate() {
            let pairs = part.channels.len().div_ceil(2);
            let weights = &part.weights[block * PATCH * pairs * width..][..PATCH * pairs * width];
            let elements = patches.chunks_exact(tiles * padded).zip(products.chunks_exact_mut(tiles * width));
            for ((patches, products), weights) in elements.zip(weights.chunks_exact(pairs * width)) {
                let groups = patches.chunks_exact(P * padded).zip(products.chunks_exact_mut(P * width));
                for (patches, products) in groups.take(self.count.div_ceil(P)) {
                    let row = |p: usize| patches[p * padded + part.channels.start..][..2 * pairs].as_chunks().0;
                    let mut tile = [[s.splat(0); V]; P];
                    s.pairs(&mut tile, std::array::from_fn(row), weights);
                    for (tile, products) in tile.iter().zip(products.chunks_exact_mut(width)) {
                        (0..V).for_each(|v| s.store(tile[v], &mut products[v * S::LANES..]));
                    }
                }
            }
            for tile in 0..self.count {
                for v in 0..V {
                    let first = tile * width + v * S::LANES;
                    let own = Tile { products: &products[first..], stride: tiles * width };
                    own.store(s, [2 * tile, v * S::LANES], squares, i > 0);
                }
            }
        }
    }
}

/// The products M of a tile for a vector of outputs.
#[derive(Clone, Copy)]
struct Tile<'a> {
    products: &'a [i32],
    /// From one element of the patch to the next.
    stride: usize,
}

// No closures: what they hold would be compiled without the instructions.
impl Tile<'_> {
    /// `A^T M A / 4`: the outputs at positions `slot` and `slot + 1` of both squares, added to what is there if `is_more`.
    #[inline(always)]
    fn store<S: Simd>(self, s: S, [slot, output]: [usize; 2], squares: &mut [Square], is_more: bool) {
        let [upper, lower] = squares else { return };
        let columns = [self.column(s, 0), self.column(s, 1), self.column(s, 2), self.column(s, 3)];
        for (i, square) in [upper, lower].into_iter().enumerate() {
            let sums = both(s, [columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
            for (j, sum) in sums.into_iter().enumerate() {
                let to = &mut square[(slot + j) * SIDE + output..];
                let sum = s.shift_right::<2>(sum);
                s.store(if is_more { s.add(sum, s.load(to)) } else { sum }, to);
            }
        }
    }

    /// `A^T` times a column of M.
    #[inline(always)]
    fn column<S: Simd>(self, s: S, j: usize) -> [S::I32; 2] {
        let Self { products, stride } = self;
        let mut column = [s.splat(0); 4];
        for i in 0..4 {
            column[i] = s.load(&products[(4 * i + j) * stride..]);
        }
        both(s, column)
    }
}

/// `A^T` times a vector.
#[inline(always)]
fn both<S: Simd>(s: S, [a, b, c, d]: [S::I32; 4]) -> [S::I32; 2] {
    [s.add(s.add(a, b), c), s.sub(s.sub(b, c), d)]
}
