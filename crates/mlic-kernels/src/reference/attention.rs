//! Global linear attention and checkerboard window attention (SPEC 4.5, 4.7).

use mlic_core::checkerboard::Parity;
use mlic_core::fixed::{divide, round_shift, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::config::MAX_SLICE_CHANNELS;
use mlic_model::parameters::{Functions, LinearAttentionLevel, Requant};
use mlic_model::proof::{ATTENTION_FRAC_BITS, LOGIT_MAX};

use crate::function::{exp_neg, normalize};
use crate::map::Map;

/// `softmax(queries) (softmax(keys)^T values)`, per head: keys over positions, queries over the channels of the head.
///
/// Queries, keys and values have the same number of positions; head h has channels `h c .. (h + 1) c` of each. The output
/// has the shape of the queries and saturates to ±max.
///
/// # Errors
/// [`OutOfMemory`].
pub fn linear_attention(
    functions: &Functions,
    level: LinearAttentionLevel,
    max: i32,
    heads: usize,
    [queries, keys, values]: [&Map<i16>; 3],
) -> Result<Map<i16>, OutOfMemory> {
    let channels = queries.channels;
    let head_channels = channels / heads;
    let mut out = Map::zeros(queries.height, queries.width, channels)?;
    for head in (0..channels).step_by(head_channels) {
        let context = head_context(functions, level.key, keys, values, head, head_channels);
        for (q, out) in queries.data.chunks_exact(channels).zip(out.data.chunks_exact_mut(channels)) {
            let weights = softmax(functions, level.query, &q[head..head + head_channels]);
            for (j, out) in out[head..head + head_channels].iter_mut().enumerate() {
                let sum: i64 = weights.iter().zip(&context).map(|(w, row)| w * row[j]).sum();
                *out = saturate(level.output.apply(round_shift(sum, 15)), max) as i16;
            }
        }
    }
    Ok(out)
}

/// Softmax weights of one position in Q15.
fn softmax(functions: &Functions, requant: Requant, logits: &[i16]) -> Vec<i64> {
    let largest = i64::from(logits.iter().copied().max().unwrap_or(0));
    let mut weights: Vec<i64> = logits.iter().map(|q| exp_neg(functions, requant.apply(largest - i64::from(*q)))).collect();
    normalize(&mut weights);
    weights
}

/// `softmax(keys)^T values` of one head, `[key channel][value channel]`, in units of 2^-12 value steps.
fn head_context(
    functions: &Functions,
    requant: Requant,
    keys: &Map<i16>,
    values: &Map<i16>,
    head: usize,
    head_channels: usize,
) -> Vec<Vec<i64>> {
    let channels = keys.channels;
    let row = |i: usize| {
        let key = |at: &[i16]| i64::from(at[head + i]);
        let largest = keys.data.chunks_exact(channels).map(key).max().unwrap_or(0);
        let mut denominator = 0;
        let mut numerators = vec![0_i64; head_channels];
        for (k, v) in keys.data.chunks_exact(channels).zip(values.data.chunks_exact(channels)) {
            let e = exp_neg(functions, requant.apply(largest - key(k)));
            denominator += e;
            numerators.iter_mut().zip(&v[head..]).for_each(|(n, v)| *n += e * i64::from(*v));
        }
        numerators.iter().map(|n| divide(n << ATTENTION_FRAC_BITS, denominator.max(1))).collect()
    };
    (0..head_channels).map(row).collect()
}

/// Parameters of a window attention.
#[derive(Debug, Clone, Copy)]
pub struct LocalAttentionShape<'a> {
    /// Requantizes dot products to logits in Q10.
    pub requant: Requant,
    /// Relative position bias, `[head][(2 window - 1)^2]`, Q10.
    pub bias: &'a [i32],
    /// Side of the window.
    pub window: usize,
    /// Heads.
    pub heads: usize,
    /// Largest magnitude of the values, and so of the output.
    pub max: i32,
}

/// Attention within the `window x window` neighbourhood of each non-anchor position.
///
/// Every position of a window is a query. Anchors attend to the anchors of the window; all other positions, including those outside
/// the image, where queries, keys and values are zero, attend to the whole window: the published mask adds the same -100 to each
/// logit of such a row, which cancels. `bias` is `[head][(2 window - 1)^2]`.
///
/// The inputs are full maps with channel `head * head_channels + i`; the output is packed at the non-anchors, with channels
/// `[window position][head][i]`, and saturates to ±max.
///
/// # Errors
/// [`OutOfMemory`].
pub fn local_attention(
    functions: &Functions,
    shape: &LocalAttentionShape<'_>,
    [queries, keys, values]: [&Map<i16>; 3],
) -> Result<Map<i16>, OutOfMemory> {
    let LocalAttentionShape { requant, bias, window, heads, max } = *shape;
    let channels = queries.channels;
    let mut out = Map::zeros(queries.height, queries.width / 2, window * window * channels)?;
    for row in 0..queries.height {
        for (packed, col) in (Parity::NonAnchor.first_col(row)..queries.width).step_by(2).enumerate() {
            let at = out.at_mut(row, packed);
            for (head, bias) in bias.chunks_exact(bias.len() / heads).enumerate() {
                let first = head * (channels / heads);
                let view = Window { functions, requant, bias, window, max, center: [row, col], first, count: channels / heads };
                for (i, out) in at.chunks_exact_mut(channels).enumerate() {
                    view.attend(i, [queries, keys, values], &mut out[first..first + channels / heads]);
                }
            }
        }
    }
    Ok(out)
}

/// One head of one window.
struct Window<'a> {
    functions: &'a Functions,
    requant: Requant,
    bias: &'a [i32],
    window: usize,
    max: i32,
    center: [usize; 2],
    first: usize,
    count: usize,
}

impl Window<'_> {
    /// Row and column of a window position in the map.
    fn place(&self, i: usize) -> [isize; 2] {
        let half = (self.window / 2) as isize;
        [(i / self.window) as isize + self.center[0] as isize - half, (i % self.window) as isize + self.center[1] as isize - half]
    }

    /// The head's channels at a window position; `None` outside the map, where they count as zero.
    fn read<'m>(&self, map: &'m Map<i16>, i: usize) -> Option<&'m [i16]> {
        let [row, col] = self.place(i);
        map.get(row, col).map(|at| &at[self.first..self.first + self.count])
    }

    fn is_anchor(&self, map: &Map<i16>, i: usize) -> bool {
        let [row, col] = self.place(i);
        map.get(row, col).is_some() && Parity::Anchor.contains(row as usize, col as usize)
    }

    /// Relative position bias between two window positions.
    fn bias(&self, a: usize, b: usize) -> i64 {
        let w = self.window;
        let [rows, cols] = [a / w + w - 1 - b / w, a % w + w - 1 - b % w];
        i64::from(self.bias[rows * (2 * w - 1) + cols])
    }

    fn logit(&self, queries: &Map<i16>, keys: &Map<i16>, a: usize, b: usize) -> i64 {
        let zero = [0; MAX_SLICE_CHANNELS];
        let (q, k) = (self.read(queries, a).unwrap_or(&zero), self.read(keys, b).unwrap_or(&zero));
        let dot: i32 = q.iter().zip(k).map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
        saturate(self.requant.apply(i64::from(dot)) + self.bias(a, b), LOGIT_MAX).into()
    }

    /// The output of query position `a`.
    fn attend(&self, a: usize, [queries, keys, values]: [&Map<i16>; 3], out: &mut [i16]) {
        let only_anchors = self.is_anchor(queries, a);
        let attended: Vec<usize> =
            (0..self.window * self.window).filter(|b| !only_anchors || self.is_anchor(queries, *b)).collect();
        let logits: Vec<i64> = attended.iter().map(|b| self.logit(queries, keys, a, *b)).collect();
        let largest = logits.iter().copied().max().unwrap_or(0);
        let mut weights: Vec<i64> = logits.iter().map(|l| exp_neg(self.functions, largest - l)).collect();
        normalize(&mut weights);
        let mut sums = vec![0_i64; self.count];
        for (b, weight) in attended.iter().zip(&weights) {
            if let Some(v) = self.read(values, *b) {
                sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * i64::from(*v));
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = saturate(round_shift(sum, 15), self.max) as i16);
    }
}
