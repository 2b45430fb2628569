//! 3x3 layers by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016): a tile of 2x2 outputs takes 16 products per channel, not 36.
//!
//! With `B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]`, `G = [2 0 0; 1 1 1; 1 -1 1; 0 0 2]`, `A^T = [1 1 1 0; 0 1 -1 -1]`, a patch d of 4x4
//! activations and a kernel g, `4 Y = A^T ((G g G^T) * (B^T d B)) A`, where `*` multiplies element by element and Y are the sums of the definition.
//! This is exact: elements of `B^T d B` are sums of four activations and have 16 bits if the activations have 14; elements of `G g G^T` must have 16 bits too.
//! All sums may wrap in 32 bits as long as 4 Y fits. Where it might not fit for all possible activations, the actual ones decide: by Cauchy-Schwarz, `|Y|^2` is
//! at most the sum of their squares times the sum of the squared weights. Where that is too large, channels are summed in parts, each with a Y of its own.
//!
//! Channels with larger activations are taken as `d & 3`, and once more as `d >> 2`. The 4 Y of the latter is its share of the sums, without the division by
//! 4. In pictures, each strip of tiles has few such channels.

mod weights;

use std::ops::Range;

use mlic_core::memory::{self, OutOfMemory};

use self::weights::Pairs;
pub(super) use self::weights::Winograd;
use super::aligned::Aligned;
use super::pack::{Term, Weights};
use super::square::Square;
use super::stage::{Data, Staged};
use crate::arch::{Job, SIDE, Simd, groups, pieces};

/// Elements of a patch, and products of a tile.
const PATCH: usize = 16;
/// Side of the kernels.
pub(super) const KERNEL: usize = 3;
/// Largest magnitude of activations whose sums of four have 16 bits; for positive activations it is one less.
const SMALL: i32 = 1 << 13;

/// Number of neighbouring tiles that are computed at once: whole groups of POSITIONS, with at most [`SIDE`] outputs in a row.
const fn tiles(positions: usize) -> usize {
    SIDE / 2 / positions * positions
}

/// Working memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// `B^T` times the rows of the patches: `[row][column][channel]`.
    rows: Aligned<i16>,
    /// Per input, `[element of the patch][tile][channel]` of all channels, then room for the same of its large channels alone.
    patches: Aligned<i16>,
    /// `[element of the patch][tile][output of the block]`
    products: Aligned<i32>,
    /// Per channel of an input, the bits that the patches of all channels lack.
    masks: Aligned<i16>,
    /// Rows of an input without those bits, and later those bits alone.
    split: Aligned<i16>,
    /// The pairs of channels that have such bits, of all inputs.
    pairs: Vec<Pairs>,
    /// How the sums of each term are made.
    ways: Vec<Way>,
}

/// How the sums of a term are made.
struct Way {
    /// Whether all channels are summed at once.
    is_whole: bool,
    /// Which of the [`Pairs`] with large channels are then added.
    large: Range<usize>,
}

impl Scratch {
    /// Makes room for what [`Patches`] and [`StripSums`] make of these terms.
    pub(super) fn reserve(&mut self, terms: &[Term], positions: usize, block: usize) -> Result<(), OutOfMemory> {
        let tiles = tiles(positions);
        let padded = terms.iter().map(|term| term.padded).max().unwrap_or(0);
        let rows = 4 * (2 * tiles + 2) * padded;
        self.rows.at_least(rows)?;
        self.patches.at_least(terms.iter().map(|term| patches_len(term, tiles)).sum())?;
        self.products.at_least(PATCH * tiles * block)?;
        self.ways.clear();
        memory::reserve(&mut self.ways, terms.len())?;
        self.masks.at_least(padded)?;
        self.split.at_least(rows)?;
        self.pairs.clear();
        memory::reserve(&mut self.pairs, terms.iter().map(|term| term.padded / 2).sum())
    }
}

/// Length of the patches that are made for a term: 0 if it reads what the term before it reads.
fn patches_len(term: &Term, tiles: usize) -> usize {
    let kinds = if term.is_repeated { 0 } else { 1 + usize::from(winograd(term).may_be_large) };
    kinds * PATCH * tiles * term.padded
}

fn winograd(term: &Term) -> &Winograd {
    let Weights::Winograd(winograd) = &term.weights else { unreachable!("all terms of such a layer are packed so") };
    winograd
}

/// Computes `[a - c, b + c, c - b, b - d]`, element by element.
#[inline(always)]
fn butterfly([a, b, c, d]: [&[i16]; 4], to: [&mut [i16]; 4]) {
    let len = a.len();
    let (b, c, d) = (&b[..len], &c[..len], &d[..len]);
    let [to_a, to_b, to_c, to_d] = to;
    let (to_a, to_b, to_c, to_d) = (&mut to_a[..len], &mut to_b[..len], &mut to_c[..len], &mut to_d[..len]);
    for i in 0..len {
        to_a[i] = a[i].wrapping_sub(c[i]);
        to_b[i] = b[i].wrapping_add(c[i]);
        to_c[i] = c[i].wrapping_sub(b[i]);
        to_d[i] = b[i].wrapping_sub(d[i]);
    }
}

/// The sum of the squares of activations of at most 2^13, each rounded up to a multiple of eight. Sums of 2^10 such squares, divided by 64, are at most 2^30.
#[inline(always)]
fn squares(activations: &[i16]) -> i64 {
    let mut sum = 0;
    for part in activations.chunks(1 << 10) {
        let mut squares = 0;
        for v in part {
            let eighth = i32::from(v.wrapping_abs().wrapping_add(7) >> 3);
            squares += eighth * eighth;
        }
        sum += i64::from(squares) << 6;
    }
    sum
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

/// Neighbouring tiles of a band, computed at once.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// Row and column of the first output.
    pub(super) at: [usize; 2],
    /// Number of tiles.
    pub(super) count: usize,
}

impl Strip {
    /// The strips of all tiles of a band of `rows` rows and `width` columns.
    pub(super) fn all(rows: usize, width: usize, positions: usize) -> impl Iterator<Item = Self> {
        let columns = 2 * tiles(positions);
        let strips = move |row| (0..width).step_by(columns).map(move |column| (row, column));
        let count = move |column: usize| (width - column).div_ceil(2).min(columns / 2);
        (0..rows).step_by(2).flat_map(strips).map(move |(row, column)| Self { at: [row, column], count: count(column) })
    }

    /// The largest sum of the squares of what one output reads from these rows, or somewhat more.
    #[inline(always)]
    fn largest_squares(self, rows: [&[i16]; 4], padded: usize) -> i64 {
        // Sums over the three input rows of each output row, position by position.
        let mut sums = [[0; SIDE + KERNEL - 1]; 2];
        for (row, positions) in rows.into_iter().enumerate() {
            for (at, position) in positions.chunks_exact(padded).enumerate() {
                let squares = squares(position);
                sums[0][at] += if row < KERNEL { squares } else { 0 };
                sums[1][at] += if row > 0 { squares } else { 0 };
            }
        }
        sums.as_flattened().windows(KERNEL).map(|window| window.iter().sum()).max().unwrap_or(0)
    }

    /// Computes `B^T d B` of all patches in these four rows.
    #[inline(always)]
    fn transform(self, inputs: [&[i16]; 4], padded: usize, rows: &mut [i16], to: &mut [i16]) {
        let (len, tiles) = (inputs[0].len(), to.len() / (PATCH * padded));
        let rows = &mut rows[..4 * len];
        butterfly(inputs, quarters(rows));
        for (row, to) in rows.chunks_exact(len).zip(to.chunks_exact_mut(4 * tiles * padded)) {
            let [a, b, c, d] = quarters(to);
            let to = a.chunks_exact_mut(padded).zip(b.chunks_exact_mut(padded));
            let to = to.zip(c.chunks_exact_mut(padded)).zip(d.chunks_exact_mut(padded));
            for (tile, (((a, b), c), d)) in to.take(self.count).enumerate() {
                let columns = pieces(&row[2 * tile * padded..], [0, padded, 2 * padded, 3 * padded], padded);
                butterfly(columns, [a, b, c, d]);
            }
        }
    }

    /// Computes a share of the sums of a term. `weights` begin with those of the block; each element of a patch has `all_pairs` pairs of them.
    #[inline(always)]
    fn sums_of<S: Simd, const P: usize, const V: usize>(
        self,
        s: S,
        weights: &[i32],
        all_pairs: usize,
        share: Share<'_>,
        products: &mut [i32],
        squares: &mut [Square; 2],
    ) {
        let (width, tiles) = (V * S::LANES, tiles(P));
        let padded = share.patches.len() / (PATCH * tiles);
        let elements = share.patches.chunks_exact(tiles * padded).zip(products.chunks_exact_mut(tiles * width));
        for ((patches, products), weights) in elements.zip(weights.chunks_exact(all_pairs * width)) {
            let several = patches.chunks_exact(P * padded).zip(products.chunks_exact_mut(P * width));
            for (patches, products) in several.take(self.count.div_ceil(P)) {
                let mut tile = [[s.splat(0); V]; P];
                for pairs in share.pairs {
                    let mut starts = [2 * pairs.patch; P];
                    starts.iter_mut().enumerate().for_each(|(p, start)| *start += p * padded);
                    let weights = &weights[pairs.weight * width..][..pairs.count * width];
                    s.pairs(&mut tile, groups(patches, starts, 2 * pairs.count), weights);
                }
                for (tile, products) in tile.iter().zip(products.chunks_exact_mut(width)) {
                    (0..V).for_each(|v| s.store(tile[v], &mut products[v * S::LANES..]));
                }
            }
        }
        for tile in 0..self.count {
            for v in 0..V {
                let first = tile * width + v * S::LANES;
                let own = Tile { products: &products[first..], stride: tiles * width };
                own.store(s, [2 * tile, v * S::LANES], squares, share);
            }
        }
    }
}

/// Channels of a term whose products are summed at once.
#[derive(Clone, Copy)]
struct Share<'a> {
    patches: &'a [i16],
    pairs: &'a [Pairs],
    /// Whether the patches are of `d >> 2`.
    is_upper: bool,
    /// Whether the sums are added to those already in the squares.
    is_more: bool,
}

/// Computes `B^T d B` of all patches and terms of a strip.
pub(super) struct Patches<'a> {
    pub(super) strip: Strip,
    pub(super) scratch: &'a mut Scratch,
    pub(super) terms: &'a [Term],
    pub(super) staged: &'a [Staged<'a>],
}

impl Job for Patches<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, _: S) {
        let Self { strip, scratch, terms, staged } = self;
        let Scratch { rows, patches, masks, split, pairs, ways, .. } = scratch;
        let mut patches = &mut patches[..];
        let mut large = 0..0;
        pairs.clear();
        ways.clear();
        for (term, staged) in terms.iter().zip(staged) {
            let (winograd, Data::Wide(data)) = (winograd(term), staged.data) else { unreachable!("staged as words") };
            let (padded, len) = (term.padded, (2 * strip.count + 2) * term.padded);
            let start = strip.at[0] * staged.row_len + strip.at[1] * staged.position_len;
            let row_len = staged.row_len;
            let inputs = pieces(&data[start..], [0, row_len, 2 * row_len, 3 * row_len], len);
            if !term.is_repeated {
                let own;
                (own, patches) = patches.split_at_mut(patches_len(term, tiles(P)));
                let (all, upper) = own.split_at_mut(PATCH * tiles(P) * padded);
                let masks = &mut masks[..padded];
                large.start = pairs.len();
                if winograd.may_be_large {
                    find_large(inputs, masks, pairs);
                }
                large.end = pairs.len();
                let pairs = &pairs[large.clone()];
                let channels = Pairs::channels(pairs);
                let inputs_of_all = if channels > 0 { without_large(inputs, masks, split) } else { inputs };
                strip.transform(inputs_of_all, padded, rows, all);
                if channels > 0 {
                    let inputs = quarters_of_large(inputs, masks, pairs, split);
                    strip.transform(inputs, channels, rows, &mut upper[..PATCH * tiles(P) * channels]);
                }
            }
            let is_whole =
                winograd.parts.len() == 1 || large.is_empty() && strip.largest_squares(inputs, padded) < winograd.too_large;
            ways.push(Way { is_whole, large: large.clone() });
        }
    }
}

/// Makes masks of the bits for which sums of four have no room: all but the lowest two for channels that are large somewhere in these rows,
/// `[position][channel]`, and none for other channels. Adds to `pairs` those that have a large channel.
#[inline(always)]
fn find_large(inputs: [&[i16]; 4], masks: &mut [i16], pairs: &mut Vec<Pairs>) {
    let padded = masks.len();
    masks.fill(0);
    for position in inputs.into_iter().flat_map(|row| row.chunks_exact(padded)) {
        for (bits, v) in masks.iter_mut().zip(position) {
            *bits |= (v.wrapping_add(SMALL as i16) as u16 >> 14) as i16;
        }
    }
    let (first, mut patch) = (pairs.len(), 0);
    for (weight, _) in masks.as_chunks().0.iter().enumerate().filter(|(_, bits)| **bits != [0, 0]) {
        match pairs[first..].last_mut() {
            Some(last) if last.weight + last.count == weight => last.count += 1,
            _ => pairs.push(Pairs { patch, weight, count: 1 }),
        }
        patch += 1;
    }
    masks.iter_mut().for_each(|bits| *bits = if *bits == 0 { 0 } else { !3 });
}

/// The rows without the bits of the masks.
#[inline(always)]
fn without_large<'a>(inputs: [&[i16]; 4], masks: &[i16], to: &'a mut [i16]) -> [&'a [i16]; 4] {
    let len = inputs[0].len();
    for (input, to) in inputs.into_iter().zip(to.chunks_exact_mut(len)) {
        for (input, to) in input.chunks_exact(masks.len()).zip(to.chunks_exact_mut(masks.len())) {
            to.iter_mut().zip(input).zip(masks).for_each(|((to, v), mask)| *to = v & !mask);
        }
    }
    pieces(to, [0, len, 2 * len, 3 * len], len)
}

/// The bits of the masks in the channels of `pairs`, divided by four.
#[inline(always)]
fn quarters_of_large<'a>(inputs: [&[i16]; 4], masks: &[i16], pairs: &[Pairs], to: &'a mut [i16]) -> [&'a [i16]; 4] {
    let mut len = 0;
    for position in inputs.into_iter().flat_map(|row| row.chunks_exact(masks.len())) {
        for channel in pairs.iter().flat_map(|pairs| 2 * pairs.weight..2 * (pairs.weight + pairs.count)) {
            to[len] = (position[channel] & masks[channel]) >> 2;
            len += 1;
        }
    }
    let len = len / 4;
    pieces(to, [0, len, 2 * len, 3 * len], len)
}

/// Computes the sums of all terms of a strip for a block of outputs, two squares per term: one for the upper and one for the lower outputs of the tiles.
/// [`Patches`] must have run before.
pub(super) struct StripSums<'a> {
    pub(super) strip: Strip,
    pub(super) scratch: &'a mut Scratch,
    pub(super) terms: &'a [Term],
    pub(super) block: usize,
    pub(super) squares: &'a mut [Square],
}

impl Job for StripSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { strip, scratch, terms, block, squares } = self;
        let Scratch { patches, products, pairs, ways, .. } = scratch;
        let (mut patches, mut own) = (&patches[..], &patches[..0]);
        for ((term, squares), way) in terms.iter().zip(squares.as_chunks_mut().0).zip(ways) {
            if !term.is_repeated {
                (own, patches) = patches.split_at(patches_len(term, tiles(P)));
            }
            let (winograd, (all, upper)) = (winograd(term), own.split_at(PATCH * tiles(P) * term.padded));
            let whole = [Pairs::of(0..winograd.pairs)];
            let parts = if way.is_whole { &whole } else { &winograd.parts[..] };
            let weights = &winograd.weights[block * PATCH * winograd.pairs * V * S::LANES..];
            let of_part =
                |(i, pairs)| Share { patches: all, pairs: std::slice::from_ref(pairs), is_upper: false, is_more: i > 0 };
            let large = &pairs[way.large.clone()];
            let upper = &upper[..PATCH * tiles(P) * Pairs::channels(large)];
            let of_large = (!large.is_empty()).then_some(Share { patches: upper, pairs: large, is_upper: true, is_more: true });
            for share in parts.iter().enumerate().map(of_part).chain(of_large) {
                strip.sums_of::<S, P, V>(s, weights, winograd.pairs, share, products, squares);
            }
        }
    }
}

/// The products M of a tile for a vector of outputs.
#[derive(Clone, Copy)]
struct Tile<'a> {
    products: &'a [i32],
    /// Distance from one element of the patch to the next.
    stride: usize,
}

// No closures: their code would be compiled without the instructions.
impl Tile<'_> {
    /// Stores `A^T M A / 4`, or `A^T M A` for `d >> 2`: the outputs at positions `slot` and `slot + 1` of both squares.
    #[inline(always)]
    fn store<S: Simd>(self, s: S, [slot, output]: [usize; 2], squares: &mut [Square; 2], share: Share<'_>) {
        let columns = [self.column(s, 0), self.column(s, 1), self.column(s, 2), self.column(s, 3)];
        for (i, square) in squares.iter_mut().enumerate() {
            let sums = both(s, [columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
            for (j, sum) in sums.into_iter().enumerate() {
                let to = &mut square[(slot + j) * SIDE + output..];
                let sum = if share.is_upper { sum } else { s.shift_right::<2>(sum) };
                s.store(if share.is_more { s.add(sum, s.load(to)) } else { sum }, to);
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
