//! Attention: heads and rows in parallel, windows gathered once per head.

use mlic_core::checkerboard::Parity;
use mlic_core::fixed::{divide, round_shift, saturate};
use mlic_model::parameters::{Functions, LinearAttentionLevel, Requant};
use mlic_model::proof::{ATTENTION_FRAC_BITS, LOGIT_MAX};
use rayon::prelude::*;

use super::CHUNK;
use crate::function::{exp_neg, normalize};
use crate::map::Map;
use crate::reference::LocalAttentionShape;

/// [`crate::reference::linear_attention`].
#[must_use]
pub fn linear_attention(
    functions: &Functions,
    level: LinearAttentionLevel,
    max: i32,
    heads: usize,
    [queries, keys, values]: [&Map<i16>; 3],
) -> Map<i16> {
    let channels = queries.channels;
    let count = channels / heads;
    let rows: Vec<Vec<i64>> = (0..channels)
        .into_par_iter()
        .map(|c| context_row(functions, level.key, keys, values, c, c / count * count, count))
        .collect();
    let mut out = Map::zeros(queries.height, queries.width, channels);
    let len = (CHUNK * channels).max(1);
    out.data.par_chunks_mut(len).zip(queries.data.par_chunks(len)).for_each(|(out, queries)| {
        let mut weights = vec![0_i64; count];
        let mut sums = vec![0_i64; count];
        for (out, q) in
            out.chunks_exact_mut(count).zip(queries.chunks_exact(count)).enumerate().map(|(i, p)| (p.0, (i % heads, p.1)))
        {
            let (head, q) = q;
            softmax(functions, level.query, q, &mut weights);
            sums.fill(0);
            for (w, row) in weights.iter().zip(&rows[head * count..]) {
                sums.iter_mut().zip(row).for_each(|(sum, c)| *sum += w * c);
            }
            out.iter_mut()
                .zip(&sums)
                .for_each(|(out, sum)| *out = saturate(level.output.apply(round_shift(*sum, 15)), max) as i16);
        }
    });
    out
}

fn softmax(functions: &Functions, requant: Requant, logits: &[i16], weights: &mut [i64]) {
    let largest = i64::from(logits.iter().copied().max().unwrap_or(0));
    weights.iter_mut().zip(logits).for_each(|(w, q)| *w = exp_neg(functions, requant.apply(largest - i64::from(*q))));
    normalize(weights);
}

/// Row of `softmax(keys)^T values` for one key channel.
fn context_row(
    functions: &Functions,
    requant: Requant,
    keys: &Map<i16>,
    values: &Map<i16>,
    channel: usize,
    head: usize,
    count: usize,
) -> Vec<i64> {
    let channels = keys.channels;
    let column = || keys.data.iter().skip(channel).step_by(channels).map(|k| i64::from(*k));
    let largest = column().max().unwrap_or(0);
    let mut denominator = 0;
    let mut numerators = vec![0_i64; count];
    for (k, v) in column().zip(values.data.chunks_exact(channels)) {
        let e = exp_neg(functions, requant.apply(largest - k));
        if e != 0 {
            denominator += e;
            numerators.iter_mut().zip(&v[head..]).for_each(|(n, v)| *n += e * i64::from(*v));
        }
    }
    numerators.iter().map(|n| divide(n << ATTENTION_FRAC_BITS, denominator.max(1))).collect()
}

/// One head of one window, gathered: `[position][channel]`, zeros outside the map.
struct Gathered {
    queries: Vec<i16>,
    keys: Vec<i16>,
    values: Vec<i16>,
    is_anchor: Vec<bool>,
    dots: Vec<i32>,
    weights: Vec<i64>,
    attended: Vec<usize>,
    sums: Vec<i64>,
}

impl Gathered {
    fn new(positions: usize, count: usize) -> Self {
        let zeros = || vec![0; positions * count];
        Self {
            queries: zeros(),
            keys: zeros(),
            values: zeros(),
            is_anchor: vec![false; positions],
            dots: vec![0; positions],
            weights: Vec::with_capacity(positions),
            attended: Vec::with_capacity(positions),
            sums: vec![0; count],
        }
    }

    fn load(&mut self, maps: [&Map<i16>; 3], window: usize, center: [usize; 2], first: usize) {
        let count = self.sums.len();
        let half = (window / 2) as isize;
        for (i, is_anchor) in self.is_anchor.iter_mut().enumerate() {
            let (row, col) = ((center[0] + i / window) as isize - half, (center[1] + i % window) as isize - half);
            let inside = maps[0].get(row, col).is_some();
            *is_anchor = inside && Parity::Anchor.contains(row as usize, col as usize);
            for (map, to) in maps.into_iter().zip([&mut self.queries, &mut self.keys, &mut self.values]) {
                let to = &mut to[i * count..(i + 1) * count];
                match map.get(row, col) {
                    Some(at) => to.copy_from_slice(&at[first..first + count]),
                    None => to.fill(0),
                }
            }
        }
    }

    fn attend(&mut self, functions: &Functions, shape: &LocalAttentionShape<'_>, bias: &[i32], a: usize, out: &mut [i16]) {
        let (count, w) = (out.len(), shape.window);
        let query = &self.queries[a * count..(a + 1) * count];
        for (dot, key) in self.dots.iter_mut().zip(self.keys.chunks_exact(count)) {
            *dot = query.iter().zip(key).map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
        }
        self.attended.clear();
        let only_anchors = self.is_anchor[a];
        self.attended.extend((0..w * w).filter(|b| !only_anchors || self.is_anchor[*b]));
        self.weights.clear();
        let logit = |b: &usize| {
            let relative = (a / w + w - 1 - b / w) * (2 * w - 1) + a % w + w - 1 - b % w;
            i64::from(saturate(shape.requant.apply(i64::from(self.dots[*b])) + i64::from(bias[relative]), LOGIT_MAX))
        };
        self.weights.extend(self.attended.iter().map(logit));
        let largest = self.weights.iter().copied().max().unwrap_or(0);
        self.weights.iter_mut().for_each(|l| *l = exp_neg(functions, largest - *l));
        normalize(&mut self.weights);
        self.sums.fill(0);
        for (b, weight) in self.attended.iter().zip(&self.weights) {
            let value = &self.values[b * count..(b + 1) * count];
            self.sums.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * i64::from(*v));
        }
        out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = saturate(round_shift(*sum, 15), shape.max) as i16);
    }
}

/// [`crate::reference::local_attention`].
#[must_use]
pub fn local_attention(functions: &Functions, shape: &LocalAttentionShape<'_>, maps: [&Map<i16>; 3]) -> Map<i16> {
    let [queries, ..] = maps;
    let (channels, positions) = (queries.channels, shape.window * shape.window);
    let count = channels / shape.heads;
    let mut out = Map::zeros(queries.height, queries.width / 2, positions * channels);
    let row_len = (out.width * out.channels).max(1);
    out.data.par_chunks_mut(row_len).enumerate().for_each_init(
        || Gathered::new(positions, count),
        |gathered, (row, out)| {
            let columns = (Parity::NonAnchor.first_col(row)..queries.width).step_by(2);
            for (out, col) in out.chunks_exact_mut(positions * channels).zip(columns) {
                for (head, bias) in shape.bias.chunks_exact(shape.bias.len() / shape.heads).enumerate() {
                    let first = head * count;
                    gathered.load(maps, shape.window, [row, col], first);
                    for (a, out) in out.chunks_exact_mut(channels).enumerate() {
                        gathered.attend(functions, shape, bias, a, &mut out[first..first + count]);
                    }
                }
            }
        },
    );
    out
}
