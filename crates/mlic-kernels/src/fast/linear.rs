//! Global linear attention: groups of key channels in parallel, then groups of positions.

use mlic_core::fixed::{divide, half_of, saturate};
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::config::MAX_SLICE_CHANNELS;
use mlic_model::parameters::{LinearAttentionLevel, Requant};
use mlic_model::proof::ATTENTION_FRAC_BITS;
use rayon::prelude::*;

use super::softmax::{normalize, reciprocal};
use super::tables::{Requantizer, Tables};
use crate::arch::{Job, MAX_LANES, Simd, run};
use crate::cpu::Isa;
use crate::function::EXP_END;
use crate::map::Map;

/// Positions handled as one task.
const CHUNK: usize = 256;
/// Value channels that are summed in registers at once: four of the widest vectors of 64-bit numbers.
const VALUES: usize = 4 * MAX_LANES / 2;

/// A head has at most as many channels as the largest slice, which has whole groups of [`VALUES`].
const _: () = assert!(MAX_SLICE_CHANNELS.is_multiple_of(VALUES));

/// What both [`Context`] and [`Attend`] need.
#[derive(Clone, Copy)]
struct Shape<'a> {
    tables: &'a Tables,
    level: LinearAttentionLevel,
    max: i32,
    /// Channels of all heads together, and (`head`) of one.
    channels: usize,
    head: usize,
}

impl Shape<'_> {
    /// Channels of one head, padded to whole groups of [`VALUES`].
    const fn padded(&self) -> usize {
        self.head.next_multiple_of(VALUES)
    }
}

/// Rows of `softmax(keys)^T values` for key channels `first..`, as many as `rows` has room for.
struct Context<'a> {
    shape: Shape<'a>,
    keys: &'a Map<i16>,
    values: &'a Map<i16>,
    first: usize,
    /// `[key channel][padded value channel]`
    rows: &'a mut [i64],
}

impl Job for Context<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        let Self { shape, keys, values, first, rows } = self;
        let padded = shape.padded();
        let count = rows.len() / padded;
        // A copy with room for a whole vector after the last channel.
        let mut staged = [0_i16; MAX_LANES];
        let mut largest = s.splat(i32::from(i16::MIN));
        for at in keys.data.chunks_exact(shape.channels) {
            staged[..count].copy_from_slice(&at[first..first + count]);
            largest = s.max(largest, s.load_i16(&staged));
        }
        let requant = Requantizer::new(shape.level.key, EXP_END);
        let head = first / shape.head * shape.head;
        let mut exponentials = [0_i32; CHUNK * MAX_LANES];
        let mut column = [0_i16; CHUNK * VALUES];
        let mut denominators = [0_i64; MAX_LANES];
        let len = CHUNK * shape.channels;
        for (keys, values) in keys.data.chunks(len).zip(values.data.chunks(len)) {
            let positions = keys.len() / shape.channels;
            for (e, at) in exponentials.chunks_exact_mut(S::LANES).zip(keys.chunks_exact(shape.channels)) {
                staged[..count].copy_from_slice(&at[first..first + count]);
                let distance = s.sub(largest, s.load_i16(&staged));
                s.store(shape.tables.exp_neg(s, requant.apply(s, distance)), e);
            }
            let exponentials = &exponentials[..positions * S::LANES];
            for e in exponentials.chunks_exact(S::LANES) {
                denominators.iter_mut().zip(e).for_each(|(sum, e)| *sum += i64::from(*e));
            }
            for value in (0..shape.head).step_by(VALUES) {
                let taken = VALUES.min(shape.head - value);
                for (to, at) in column.chunks_exact_mut(VALUES).zip(values.chunks_exact(shape.channels)) {
                    to[..taken].copy_from_slice(&at[head + value..][..taken]);
                }
                for (key, row) in rows.chunks_exact_mut(padded).enumerate() {
                    add_weighted(s, &exponentials[key..], &column, &mut row[value..value + VALUES]);
                }
            }
        }
        for (row, denominator) in rows.chunks_exact_mut(padded).zip(denominators) {
            row.iter_mut().for_each(|n| *n = divide(*n << ATTENTION_FRAC_BITS, denominator.max(1)));
        }
    }
}

/// `sums[j] += sum over p of weights[p * LANES] * values[p][j]` for VALUES of j.
#[inline(always)]
fn add_weighted<S: Simd>(s: S, weights: &[i32], values: &[i16], sums: &mut [i64]) {
    let half = S::LANES / 2;
    for first in (0..VALUES).step_by(4 * half) {
        let mut acc = [s.splat_wide(0); 4];
        for (i, acc) in acc.iter_mut().enumerate() {
            *acc = s.load_wide(&sums[first + i * half..]);
        }
        for (w, at) in weights.iter().step_by(S::LANES).zip(values.chunks_exact(VALUES)) {
            let w = s.even(s.splat(*w));
            for i in 0..4 {
                acc[i] = s.add_wide(acc[i], s.mul_wide(w, s.load_wide_i16(&at[first + i * half..])));
            }
        }
        for (i, acc) in acc.into_iter().enumerate() {
            s.store_wide(acc, &mut sums[first + i * half..]);
        }
    }
}

/// The attention output at some positions.
struct Attend<'a> {
    shape: Shape<'a>,
    /// `[key channel][padded value channel]`
    rows: &'a [i64],
    queries: &'a [i16],
    out: &'a mut [i16],
}

impl Job for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        let Self { shape, rows, queries, out } = self;
        let (padded, heads) = (shape.padded(), shape.channels / shape.head);
        let whole = shape.head.next_multiple_of(S::LANES);
        let (mut staged, mut weights) = ([0_i16; MAX_SLICE_CHANNELS], [0_i32; MAX_SLICE_CHANNELS]);
        let (staged, weights) = (&mut staged[..whole], &mut weights[..whole]);
        let mut sums = [0_i64; MAX_SLICE_CHANNELS];
        for (i, (queries, out)) in queries.chunks_exact(shape.head).zip(out.chunks_exact_mut(shape.head)).enumerate() {
            staged[..shape.head].copy_from_slice(queries);
            softmax(s, shape.tables, shape.level.query, staged, shape.head, weights);
            let rows = &rows[i % heads * shape.head * padded..][..shape.head * padded];
            let step = 4 * (S::LANES / 2);
            for first in (0..padded).step_by(step) {
                let mut acc = [s.splat_wide(1 << 14); 4];
                for (w, row) in weights.iter().zip(rows.chunks_exact(padded)) {
                    let w = s.even(s.splat(*w));
                    for i in 0..4 {
                        acc[i] = s.add_wide(acc[i], s.mul_wide(w, s.load_wide(&row[first + i * (S::LANES / 2)..])));
                    }
                }
                for i in 0..4 {
                    let scaled = s.mul_wide(s.shift_right_wide(acc[i], 15), s.even(s.splat(shape.level.output.multiplier)));
                    let scaled = s.add_wide(scaled, s.splat_wide(half_of(shape.level.output.shift)));
                    s.store_wide(s.shift_right_wide(scaled, shape.level.output.shift), &mut sums[first + i * (S::LANES / 2)..]);
                }
            }
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = saturate(*sum, shape.max) as i16);
        }
    }
}

/// Computes the softmax weights (Q15) of the first `count` logits, with zeros after them.
#[inline(always)]
fn softmax<S: Simd>(s: S, tables: &Tables, requant: Requant, logits: &[i16], count: usize, weights: &mut [i32]) {
    let requant = Requantizer::new(requant, EXP_END);
    let largest = s.splat(logits[..count].iter().copied().max().unwrap_or(0).into());
    for (w, logits) in weights.chunks_exact_mut(S::LANES).zip(logits.chunks_exact(S::LANES)) {
        let distance = s.max(s.sub(largest, s.load_i16(logits)), s.splat(0));
        s.store(tables.exp_neg(s, requant.apply(s, distance)), w);
    }
    weights[count..].fill(0);
    let reciprocal = s.splat(reciprocal(weights.iter().sum()));
    for w in weights.chunks_exact_mut(S::LANES) {
        s.store(normalize(s, s.load(w), reciprocal), w);
    }
}

/// Bytes that [`linear_attention`] holds at a time besides its result, not counting some of the stack of each thread.
#[must_use]
pub fn linear_attention_bytes(channels: usize, heads: usize) -> u64 {
    (channels * (channels / heads).next_multiple_of(VALUES) * size_of::<i64>()) as u64
}

/// [`crate::reference::linear_attention`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn linear_attention(
    isa: Isa,
    tables: &Tables,
    level: LinearAttentionLevel,
    max: i32,
    heads: usize,
    [queries, keys, values]: [&Map<i16>; 3],
) -> Result<Map<i16>, OutOfMemory> {
    let channels = queries.channels;
    let shape = Shape { tables, level, max, channels, head: channels / heads };
    let mut rows = memory::zeros(channels * shape.padded())?;
    // A group is at most one vector of key channels, all of the same head.
    rows.par_chunks_mut(shape.head * shape.padded()).enumerate().for_each(|(head, rows)| {
        rows.par_chunks_mut(group_len(isa) * shape.padded()).enumerate().for_each(|(group, rows)| {
            let first = head * shape.head + group * group_len(isa);
            run(isa, Context { shape, keys, values, first, rows });
        });
    });
    let mut out = Map::zeros(queries.height, queries.width, channels)?;
    let len = (CHUNK * channels).max(1);
    out.data.par_chunks_mut(len).zip(queries.data.par_chunks(len)).for_each(|(out, queries)| {
        run(isa, Attend { shape, rows: &rows, queries, out });
    });
    Ok(out)
}

struct Lanes;

impl Job for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, _: S) -> usize {
        S::LANES
    }
}

/// Most key channels of one [`Context`]: one vector.
fn group_len(isa: Isa) -> usize {
    run(isa, Lanes)
}
