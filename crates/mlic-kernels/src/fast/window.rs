//! Checkerboard window attention. The lanes of a vector are the windows of neighbouring centers: for one pair of places in the window, the lanes
//! read neighbouring positions, so that nothing is gathered per window.

use std::cell::Cell;

use mlic_core::checkerboard::Parity;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::proof::LOGIT_MAX;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::epilogue::{Linear, put};
use super::softmax::{normalize, reciprocals};
use super::tables::{Requantizer, Tables};
use crate::arch::{Job, MAX_LANES, Simd, run};
use crate::cpu::Isa;
use crate::map::Map;
use crate::reference::LocalAttentionShape;

/// The logit of a position that is not attended to: far below all others.
const NOT_ATTENDED: i32 = -(1 << 28);

/// Pairs of channels as planes that run along a row, with zeros around the map. Even and odd columns are kept apart, so that the neighbours of
/// neighbouring centers are neighbours.
///
/// `[row + half][column parity][head][pair of channels][margin + column / 2]`
struct Planes {
    data: Vec<i32>,
    heads: usize,
    pairs: usize,
    len: usize,
    margin: usize,
    half: usize,
}

impl Planes {
    /// Planes for a map of this width with `count` channels per head, without any of its rows.
    const fn empty(width: usize, count: usize, heads: usize, window: usize) -> Self {
        let (half, pairs) = (window / 2, count.div_ceil(2));
        let margin = half / 2 + 1;
        let len = (width / 2 + 2 * margin).next_multiple_of(MAX_LANES) + MAX_LANES;
        Self { data: Vec::new(), heads, pairs, len, margin, half }
    }

    const fn row_len(&self) -> usize {
        2 * self.heads * self.pairs * self.len
    }

    fn new(map: &Map<i16>, heads: usize, window: usize) -> Result<Self, OutOfMemory> {
        let count = map.channels / heads;
        let empty = Self::empty(map.width, count, heads, window);
        let row_len = empty.row_len();
        let Self { pairs, len, margin, half, .. } = empty;
        let mut data = memory::zeros((map.height + 2 * half) * row_len)?;
        let rows = map.data.par_chunks((map.width * map.channels).max(1));
        data[half * row_len..].par_chunks_mut(row_len.max(1)).zip(rows).for_each(|(to, row)| {
            for (col, at) in row.chunks_exact(map.channels).enumerate() {
                for (head, at) in at.chunks_exact(count).enumerate() {
                    for (i, pair) in at.chunks(2).enumerate() {
                        let high = pair.get(1).copied().unwrap_or(0);
                        let plane = (col % 2 * heads + head) * pairs + i;
                        to[plane * len + margin + col / 2] = i32::from(pair[0] as u16) | i32::from(high) << 16;
                    }
                }
            }
        });
        Ok(Self { data, ..empty })
    }

    /// The planes of all pairs of a head, `len` apart, from position (`row`, `col`) on, which may lie outside the map.
    fn at(&self, row: isize, col: isize, head: usize) -> &[i32] {
        let row = (row + self.half as isize) as usize;
        let parity = col.rem_euclid(2) as usize;
        let first = (self.margin as isize + col.div_euclid(2)) as usize;
        &self.data[((row * 2 + parity) * self.heads + head) * self.pairs * self.len + first..]
    }
}

/// Values, each twice in a lane, with zeros around the map: `[row + half][col + half][head][channel]`.
struct Values {
    data: Vec<i32>,
    row_len: usize,
    position_len: usize,
    head_len: usize,
}

impl Values {
    /// Values for a map of this width with `count` channels per head, without any of its rows.
    const fn empty(width: usize, count: usize, heads: usize, window: usize) -> Self {
        let head_len = count.next_multiple_of(MAX_LANES);
        let position_len = heads * head_len;
        Self { data: Vec::new(), row_len: (width + window / 2 * 2) * position_len, position_len, head_len }
    }

    fn new(map: &Map<i16>, heads: usize, window: usize) -> Result<Self, OutOfMemory> {
        let (half, count) = (window / 2, map.channels / heads);
        let empty = Self::empty(map.width, count, heads, window);
        let Self { row_len, position_len, head_len, .. } = empty;
        let mut data = memory::zeros((map.height + 2 * half) * row_len)?;
        let rows = map.data.par_chunks((map.width * map.channels).max(1));
        data[half * row_len..].par_chunks_mut(row_len.max(1)).zip(rows).for_each(|(to, row)| {
            let to = to[half * position_len..].chunks_exact_mut(head_len);
            for (to, at) in to.zip(row.chunks_exact(count)) {
                to.iter_mut().zip(at).for_each(|(to, v)| *to = i32::from(*v as u16) | i32::from(*v) << 16);
            }
        });
        Ok(Self { data, ..empty })
    }
}

/// A mask of the columns that are inside the map (all bits set): one plane for even and one for odd columns, as in [`Planes`].
fn inside(width: usize, planes: &Planes) -> Result<Vec<i32>, OutOfMemory> {
    let mut data = memory::zeros(2 * planes.len)?;
    for col in 0..width {
        data[col % 2 * planes.len + planes.margin + col / 2] = -1;
    }
    Ok(data)
}

struct Inputs<'a> {
    tables: &'a Tables,
    shape: LocalAttentionShape<'a>,
    height: usize,
    width: usize,
    queries: Planes,
    keys: Planes,
    values: Values,
    inside: Vec<i32>,
}

/// Logits, then exponentials, then weights of one query of each window, `[attended][lane]`, and the offsets of the values of the attended positions.
#[derive(Default)]
struct Scratch {
    /// Room for the whole window.
    weights: Aligned<i32>,
    attended: Vec<usize>,
}

thread_local! {
    /// The working memory of this thread, kept from row to row.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// The windows around the centers of one row.
struct Row<'a> {
    inputs: &'a Inputs<'a>,
    scratch: &'a mut Scratch,
    row: usize,
    /// `[center][window position][head][channel]`
    out: &'a mut [i16],
}

/// The same query in neighbouring windows.
struct Query<'a> {
    inputs: &'a Inputs<'a>,
    /// Row and column of the first window's first position.
    corner: [isize; 2],
    head: usize,
    /// Row and column of the query in the window.
    at: [usize; 2],
    /// Number of windows.
    count: usize,
}

impl Query<'_> {
    /// Row and column of a window position, in the first window.
    const fn place(&self, at: [usize; 2]) -> [isize; 2] {
        [self.corner[0] + at[0] as isize, self.corner[1] + at[1] as isize]
    }

    /// Whether a window position is an anchor inside the map, as far as its row tells.
    fn is_anchor(&self, at: [usize; 2]) -> bool {
        (at[0] + at[1]) % 2 == 1 && (0..self.inputs.height as isize).contains(&self.place(at)[0])
    }

    /// A mask of the lanes whose column is inside the map; `col` is the column of the first lane.
    #[inline(always)]
    fn inside<S: Simd>(&self, s: S, col: isize) -> S::I32 {
        let planes = &self.inputs.queries;
        let first = (planes.margin as isize + col.div_euclid(2)) as usize;
        s.load(&self.inputs.inside[col.rem_euclid(2) as usize * planes.len + first..])
    }

    /// The logits of the query and the key at window position `at`.
    #[inline(always)]
    fn logit<S: Simd>(&self, s: S, q: &[i32], requantizer: Requantizer, at: [usize; 2]) -> S::I32 {
        let (Inputs { shape, keys, .. }, w) = (self.inputs, self.inputs.shape.window);
        let [row, col] = self.place(at);
        let k = keys.at(row, col, self.head);
        let mut dot = s.splat(0);
        for i in 0..keys.pairs {
            dot = s.dot_pairs(dot, s.load(&q[i * keys.len..]), s.load(&k[i * keys.len..]));
        }
        let relative = (self.at[0] + w - 1 - at[0]) * (2 * w - 1) + self.at[1] + w - 1 - at[1];
        let bias = shape.bias[self.head * (2 * w - 1) * (2 * w - 1) + relative];
        let logit = s.add(requantizer.apply(s, dot), s.splat(bias));
        s.min(s.max(logit, s.splat(-LOGIT_MAX)), s.splat(LOGIT_MAX))
    }

    /// Stores the logits of all positions to which any of the windows attends.
    #[inline(always)]
    fn logits<S: Simd>(&self, s: S, scratch: &mut Scratch) {
        let Inputs { queries, values, shape, width, .. } = self.inputs;
        let [row, col] = self.place(self.at);
        let q = queries.at(row, col, self.head);
        // Twice the limit is still beyond the limit with any bias, so that cutting off there changes nothing.
        let requantizer = Requantizer::new(shape.requant, 2 * LOGIT_MAX);
        let only_anchors = self.is_anchor(self.at);
        let all_inside = col >= 0 && col + 2 * (self.count as isize - 1) < *width as isize;
        let outside = s.sub(s.splat(-1), self.inside(s, col));
        scratch.attended.clear();
        for i in 0..shape.window {
            for j in 0..shape.window {
                let mut attended = s.splat(-1);
                if only_anchors {
                    if all_inside && !self.is_anchor([i, j]) {
                        continue;
                    }
                    attended = if self.is_anchor([i, j]) { self.inside(s, self.place([i, j])[1]) } else { s.splat(0) };
                    attended = if all_inside { attended } else { s.or(attended, outside) };
                }
                let logit = self.logit(s, q, requantizer, [i, j]);
                let logit = s.add(s.and(s.sub(logit, s.splat(NOT_ATTENDED)), attended), s.splat(NOT_ATTENDED));
                s.store(logit, &mut scratch.weights[scratch.attended.len() * S::LANES..]);
                scratch.attended.push(i * values.row_len + j * values.position_len);
            }
        }
    }

    /// Replaces logits with softmax weights. A weight w is stored as the pair (w / 2, w - w / 2), because w may be 2^15.
    #[inline(always)]
    fn softmax<S: Simd>(&self, s: S, weights: &mut [i32]) {
        let mut largest = s.splat(NOT_ATTENDED);
        for logit in weights.chunks_exact(S::LANES) {
            largest = s.max(largest, s.load(logit));
        }
        let mut sum = s.splat(0);
        for at in weights.chunks_exact_mut(S::LANES) {
            let e = self.inputs.tables.exp_neg(s, s.sub(largest, s.load(at)));
            sum = s.add(sum, e);
            s.store(e, at);
        }
        let reciprocals = reciprocals(s, sum);
        for at in weights.chunks_exact_mut(S::LANES) {
            let weight = normalize(s, s.load(at), reciprocals);
            let half = s.shift_right::<1>(weight);
            s.store(s.or(half, s.shift_left::<16>(s.sub(weight, half))), at);
        }
    }

    /// The weighted sum of the values of one window; those of its first position begin at `first`.
    #[inline(always)]
    fn attend<S: Simd>(&self, s: S, scratch: &Scratch, window: usize, first: usize, out: &mut [i16]) {
        let Inputs { values, shape, .. } = self.inputs;
        let limited = Linear::around_zero(shape.max);
        for channel in (0..out.len()).step_by(S::LANES) {
            let values = &values.data[first + channel..];
            let mut sum = s.splat(1 << 14);
            for (offset, weights) in scratch.attended.iter().zip(scratch.weights.chunks_exact(S::LANES)) {
                sum = s.dot_pairs(sum, s.splat(weights[window]), s.load(&values[*offset..]));
            }
            let sum = s.shift_right::<15>(sum);
            put(s, &limited, sum, out, channel);
        }
    }
}

impl Job for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        let Self { inputs, scratch, row, out } = self;
        let LocalAttentionShape { window, heads, .. } = inputs.shape;
        let channels = out.len() / (inputs.width / 2).max(1);
        let count = channels / (window * window * heads);
        let first_col = Parity::NonAnchor.first_col(row);
        let (values, half) = (&inputs.values, (window / 2) as isize);
        for (block, out) in out.chunks_mut(S::LANES * channels).enumerate() {
            let col = first_col + 2 * block * S::LANES;
            let corner = [row as isize - half, col as isize - half];
            for (head, at) in (0..heads).flat_map(|head| (0..window * window).map(move |at| (head, at))) {
                let query = Query { inputs, corner, head, at: [at / window, at % window], count: out.len() / channels };
                query.logits(s, scratch);
                query.softmax(s, &mut scratch.weights[..scratch.attended.len() * S::LANES]);
                for (i, out) in out.chunks_exact_mut(channels).enumerate() {
                    let first = row * values.row_len + (col + 2 * i) * values.position_len + head * values.head_len;
                    query.attend(s, scratch, i, first, &mut out[(at * heads + head) * count..][..count]);
                }
            }
        }
    }
}

/// Most bytes that [`local_attention`] holds at a time on `threads` threads, including its result, for queries, keys and values of `height` x `width`
/// positions. Saturates.
#[must_use]
pub fn local_attention_bytes([height, width]: [usize; 2], channels: usize, heads: usize, window: usize, threads: usize) -> u64 {
    let count = channels / heads;
    let (planes, values) = (Planes::empty(width, count, heads, window), Values::empty(width, count, heads, window));
    let padded_row = size_of::<i32>() * (2 * planes.row_len() + values.row_len);
    let row = size_of::<i16>() * (width / 2) * window * window * channels;
    // Logits and offsets of a window.
    let scratch = 2 * window * window * (MAX_LANES * size_of::<i32>() + size_of::<usize>());
    let rows =
        (height as u64 + 2 * (window / 2) as u64).saturating_mul(padded_row as u64).saturating_add(height as u64 * row as u64);
    rows.saturating_add((size_of::<i32>() * 2 * planes.len) as u64).saturating_add((threads as u64 + 1) * scratch as u64)
}

/// [`crate::reference::local_attention`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn local_attention(
    isa: Isa,
    tables: &Tables,
    shape: &LocalAttentionShape<'_>,
    [q, k, v]: [&Map<i16>; 3],
) -> Result<Map<i16>, OutOfMemory> {
    let (heads, window) = (shape.heads, shape.window);
    let queries = Planes::new(q, heads, window)?;
    let inputs = Inputs {
        tables,
        shape: *shape,
        height: q.height,
        width: q.width,
        inside: inside(q.width, &queries)?,
        queries,
        keys: Planes::new(k, heads, window)?,
        values: Values::new(v, heads, window)?,
    };
    let mut out = Map::zeros(q.height, q.width / 2, window * window * q.channels)?;
    let row_len = (out.width * out.channels).max(1);
    out.data.par_chunks_mut(row_len).enumerate().try_for_each(|(row, out)| {
        let mut scratch = SCRATCH.take();
        scratch.weights.at_least(window * window * MAX_LANES)?;
        memory::reserve_all(&mut scratch.attended, window * window)?;
        run(isa, Row { inputs: &inputs, scratch: &mut scratch, row, out });
        SCRATCH.set(scratch);
        Ok(())
    })?;
    Ok(out)
}
