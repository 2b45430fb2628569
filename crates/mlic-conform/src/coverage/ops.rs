//! A second, plain implementation of the operators of SPEC 4 that notes which of their cases occur. Its results are held to the digests of
//! the vectors like those of any backend, so that what it notes is what decoders do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlic_backend::entropy::EntropyModel;
use mlic_backend::integer::y_hat;
use mlic_backend::ops::Ops;
use mlic_backend::{Backend, BackendError, EntropySession, FloatTransform, PassParameters, Planes, Stage};
use mlic_core::checkerboard::Parity;
use mlic_core::fixed::{LATENT_MAX, LATENT_ONE, PREACT_MAX, divide, isqrt};
use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::{Map, Picture, Zeroable};
use mlic_model::Model;
use mlic_model::layout::{Epilogue, Kernel, LayerId, LayerSpec, LinearAttentionId, LocalAttentionId, NormId, QuantizerId};
use mlic_model::model::{Gain, LayerView};
use mlic_model::parameters::{Functions, Requant};
use mlic_model::proof::{LOGIT_MAX, NORM_MAX};

use super::log::{Log, Place};
use super::synthesis;

/// Arguments of GELU and tanh from here on are beyond their tables: 8 in Q14.
pub(super) const TABLE_END: u32 = 8 << 14;
/// Arguments of the exponential from here on give 0: 16 in Q10.
const EXP_END: i64 = 16 << 10;

pub(super) type Result<T> = std::result::Result<T, BackendError>;
type Shared = Arc<Mutex<Log>>;

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lacking(name: &str) -> BackendError {
    BackendError::Operator { name: name.to_owned() }
}

/// Name of a layer without its latent slice and its number in a chain.
#[must_use]
pub(super) fn class(spec: &LayerSpec) -> String {
    let name = spec.name.strip_prefix("slice").and_then(|rest| rest.split_once('.')).map_or(spec.name.as_str(), |(_, name)| name);
    let chain = ["channel_context", "entropy_parameters_anchor", "entropy_parameters_nonanchor", "lrp_anchor", "lrp_nonanchor"];
    match name.rsplit_once('.') {
        Some((chain_name, _)) if chain.contains(&chain_name) && spec.epilogue == Epilogue::Gelu => format!("{chain_name}.hidden"),
        Some((chain_name, _)) if chain.contains(&chain_name) => format!("{chain_name}.last"),
        _ => name.to_owned(),
    }
}

/// Applies a change of scale.
pub(super) fn requant(place: &mut Place<'_>, requant: Requant, v: i64) -> i64 {
    place.round(v * i64::from(requant.multiplier), requant.shift)
}

/// Interpolates in a table at a magnitude below [`TABLE_END`] (SPEC 4.3).
fn lerp(place: &mut Place<'_>, table: &[i16], magnitude: u32) -> i64 {
    let k = (magnitude >> 8) as usize;
    let (low, high) = (i64::from(table[k]), i64::from(table[k + 1]));
    low + place.round((high - low) * i64::from(magnitude & 255), 8)
}

/// Notes the entry of a function's table that `x` reads, separately for either side of zero.
fn note(log: &mut Log, tables: [&'static str; 2], x: i32) {
    let entry = (x.unsigned_abs().min(TABLE_END) >> 8) as usize;
    log.region(tables[usize::from(x < 0)], 513, entry);
    if x.unsigned_abs() == TABLE_END - 1 {
        log.mark(format!("{} at the end of its table", tables[usize::from(x < 0)]));
    }
}

/// GELU with what is before and behind it (SPEC 4.2, 4.3).
pub(super) struct Gelu<'a> {
    pub(super) preact: Place<'a>,
    pub(super) table: Place<'a>,
    pub(super) scale: Place<'a>,
    pub(super) output: Place<'a>,
    /// What the limit of its argument is called.
    pub(super) limit: &'static str,
}

impl Gelu<'_> {
    /// Returns the argument and the activation that a layer's rounded sum gives.
    pub(super) fn apply(&mut self, log: &mut Log, functions: &Functions, view: &LayerView<'_>, v: i64) -> (i32, i16) {
        let x = self.preact.saturate(v, PREACT_MAX);
        let inside = x.unsigned_abs() < TABLE_END;
        let bump = if inside { lerp(&mut self.table, &functions.gelu, x.unsigned_abs()) } else { 0 };
        let after = requant(&mut self.scale, view.level.output, i64::from(x.max(0)) - bump);
        if x > 0 {
            note_seen(log, self.limit, (v, PREACT_MAX), (after, view.max));
        }
        (x, self.output.saturate(after, view.max) as i16)
    }

    /// Notes what its places have met.
    pub(super) fn end(self, log: &mut Log) {
        [self.preact, self.table, self.scale, self.output].into_iter().for_each(|place| log.place(place));
    }
}

/// Notes that a saturation is seen behind the requantization that follows it: what lies far beyond `limit` does not reach the limit there.
pub(super) fn note_seen(log: &mut Log, place: &str, (v, limit): (i64, i32), (after, max): (i64, i32)) {
    if v.abs() > 2 * i64::from(limit) && after.abs() < i64::from(max) {
        log.mark(format!("limit of {place} is seen"));
    }
}

/// The exponential of `-d` (SPEC 4.5).
fn exp_neg(log: &mut Log, place: &mut Place<'_>, functions: &Functions, d: i64) -> i64 {
    match d - EXP_END {
        -1 => log.mark("exp at the end of its table"),
        0 => log.mark("exp one beyond its table"),
        _ => {}
    }
    if d >= EXP_END {
        log.mark("exp beyond its table");
        return 0;
    }
    let (coarse, fine) = ((d >> 6) as usize, (d & 63) as usize);
    log.region("exp coarse", 256, coarse);
    log.region("exp fine", 64, fine);
    place.round(i64::from(functions.exp_coarse[coarse]) * i64::from(functions.exp_fine[fine]), 15)
}

fn normalize(place: &mut Place<'_>, exponentials: &mut [i64]) {
    let g = (1_i64 << 40) / exponentials.iter().sum::<i64>();
    exponentials.iter_mut().for_each(|e| *e = place.round(*e * g, 25));
}

struct Observing<'m> {
    model: &'m Model,
    level: usize,
    log: Shared,
}

impl Observing<'_> {
    fn view(&self, id: LayerId) -> Result<LayerView<'_>> {
        self.model.layer(id, self.level).ok_or_else(|| lacking("layer"))
    }

    fn functions(&self) -> &Functions {
        &self.model.parameters().functions
    }

    /// Evaluates a layer up to the argument of its epilogue; `epilogue` takes the output channel and the rounded sum.
    fn evaluate<T: Copy + Zeroable>(
        &self,
        id: LayerId,
        inputs: &[&Map<i16>],
        mut epilogue: impl FnMut(&mut Log, &LayerView<'_>, usize, i64) -> T,
    ) -> Result<Map<T>> {
        let view = self.view(id)?;
        let log = &mut *lock(&self.log);
        let sums = sums(&view, inputs)?;
        let mut place = Place::new("layer");
        let mut out = Map::zeros(sums.height, sums.width, sums.channels)?;
        for (i, (out, sum)) in out.data.iter_mut().zip(&sums.data).enumerate() {
            let v = place.round(*sum, view.level.shift);
            *out = epilogue(log, &view, i % sums.channels, v);
        }
        if view.level.shift == 0 {
            log.mark("layer does not shift");
        }
        log.place(place);
        log.mark(format!("layer {}", class(view.spec)));
        Ok(out)
    }
}

/// SPEC 4.2: sums of a layer at all positions, before rounding.
pub(super) fn sums(view: &LayerView<'_>, inputs: &[&Map<i16>]) -> Result<Map<i64>> {
    let (height, width) = inputs.first().map_or((0, 0), |map| (map.height, map.width));
    let mut out: Map<i64> = Map::zeros(height, width, view.spec.outputs)?;
    for row in 0..height {
        for col in 0..width {
            for (output, sum) in out.at_mut(row, col).iter_mut().enumerate() {
                let term = |(term, input): (usize, &&Map<i16>)| {
                    accumulate(view, term, input, output, [row, col]) * i64::from(view.level.multipliers[term][output])
                };
                *sum = inputs.iter().enumerate().map(term).sum::<i64>() + view.level.bias[output];
            }
        }
    }
    Ok(out)
}

/// SPEC 4.2: the sum of one term for one output at one position.
fn accumulate(view: &LayerView<'_>, term: usize, input: &Map<i16>, output: usize, [row, col]: [usize; 2]) -> i64 {
    let (spec, weights) = (view.spec.terms[term], view.weights[term]);
    if spec.identity {
        return i64::from(input.at(row, col)[spec.first_channel + output]);
    }
    let (size, per_output) = (view.spec.kernel.size(), view.spec.weights_per_output(term));
    let depthwise = matches!(view.spec.kernel, Kernel::Depthwise { .. });
    let first = spec.first_channel + if depthwise { output } else { 0 };
    let per_tap = per_output / (size * size);
    let tap = |tap: usize| {
        let at = |p: usize, offset: usize| p as isize + offset as isize - (size / 2) as isize;
        let a = &input.get(at(row, tap / size), at(col, tap % size))?[first..];
        let weight = |n: usize| i64::from(weights.at(output * per_output + tap * per_tap + n));
        Some((0..per_tap).map(|n| weight(n) * i64::from(a[n])).sum::<i64>())
    };
    (0..size * size).filter_map(tap).sum()
}

impl Ops for Observing<'_> {
    type Map = Map<i16>;
    type Latent = Map<i32>;

    fn quantize(&mut self, id: QuantizerId, latent: &Map<i32>) -> Result<Map<i16>> {
        let parameters = self.model.parameters().quantizers.get(id.0).ok_or_else(|| lacking("quantizer"))?;
        let mut place = Place::new(if id == QuantizerId::Z { "quantize z" } else { "quantize y" });
        let level = parameters.levels[self.level];
        let value = |v: &i32| {
            let v = requant(&mut place, level, i64::from(*v));
            place.saturate(v, parameters.max) as i16
        };
        let data = latent.data.iter().map(value).collect();
        lock(&self.log).place(place);
        Ok(Map { data, height: latent.height, width: latent.width, channels: latent.channels })
    }

    fn layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<Map<i16>> {
        let (spec, functions) = (self.view(id)?.spec.clone(), self.functions());
        let class = class(&spec);
        let (before, after) = (format!("{class} pre-activation"), format!("{class} output"));
        let (preact, output) = (Place::new(&before), Place::new(&after));
        let (table, scale) = (Place::new("gelu"), Place::new("requant after gelu"));
        let mut gelu = Gelu { preact, table, scale, output, limit: "pre-activation" };
        let map = self.evaluate(id, inputs, |log, view, _, v| {
            if spec.epilogue != Epilogue::Gelu {
                return gelu.output.saturate(v, view.max) as i16;
            }
            let (x, activation) = gelu.apply(log, functions, view, v);
            note(log, ["gelu", "gelu of less than zero,"], x);
            activation
        })?;
        gelu.end(&mut lock(&self.log));
        Ok(map)
    }

    fn layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i16>> {
        Ok(self.layer(id, inputs)?.pack(parity)?)
    }

    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<(Map<i32>, Map<i32>)> {
        let class = class(self.view(id)?.spec);
        let names = ["scale", "mean"].map(|what| format!("{class} {what}"));
        let mut places = [Place::new(&names[0]), Place::new(&names[1])];
        let both = self.evaluate(id, inputs, |_, view, channel, v| {
            places[usize::from(2 * channel >= view.spec.outputs)].saturate(v, LATENT_MAX)
        })?;
        let log = &mut *lock(&self.log);
        places.into_iter().for_each(|place| log.place(place));
        let half = both.channels / 2;
        Ok((both.select(0, half)?, both.select(half, half)?))
    }

    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i32>> {
        let functions = self.functions();
        let before = format!("{} pre-activation", class(self.view(id)?.spec));
        let (mut preact, mut table) = (Place::new(&before), Place::new("tanh"));
        let map = self.evaluate(id, inputs, |log, _, _, v| {
            let x = preact.saturate(v, PREACT_MAX);
            note(log, ["tanh", "tanh of less than zero,"], x);
            let inside = x.unsigned_abs() < TABLE_END;
            let u = if inside {
                lerp(&mut table, &functions.half_tanh, x.unsigned_abs()) as i32
            } else {
                functions.half_tanh[512].into()
            };
            if x < 0 { -u } else { u }
        })?;
        let log = &mut *lock(&self.log);
        [preact, table].into_iter().for_each(|place| log.place(place));
        Ok(map.pack(parity)?)
    }

    fn shuffle(&mut self, map: &Map<i16>) -> Result<Map<i16>> {
        Ok(map.shuffle()?)
    }

    fn norm(&mut self, id: NormId, map: &Map<i16>) -> Result<Map<i16>> {
        let epsilon = self.model.parameters().norms.get(id.0).and_then(|n| n.epsilon.get(self.level)).copied();
        let epsilon = epsilon.ok_or_else(|| lacking("norm"))?;
        let (n, log) = (map.channels as i64, &mut *lock(&self.log));
        let mut place = Place::new(if id.0.is_multiple_of(2) { "norm1" } else { "norm2" });
        let mut out = map.clone();
        for at in out.data.chunks_exact_mut(map.channels) {
            let sum: i64 = at.iter().map(|x| i64::from(*x)).sum();
            let deviation = |x: i16| n * i64::from(x) - sum;
            let squares: i64 = at.iter().map(|x| deviation(*x).pow(2)).sum();
            let radicand = ((squares << 16) / n + epsilon) as u64;
            let root = isqrt(radicand) as i64;
            log.mark(if (root * root) as u64 == radicand { "root of a square" } else { "root of no square" });
            for x in at {
                let d = deviation(*x);
                log.mark(["norm of the mean", "norm above the mean", "norm below the mean"][d.signum().rem_euclid(3) as usize]);
                let quotient = place.divide(d << 20, root);
                *x = place.saturate(quotient, NORM_MAX) as i16;
            }
        }
        log.place(place);
        Ok(out)
    }

    fn linear_attention(&mut self, id: LinearAttentionId, [q, k, v]: [&Map<i16>; 3]) -> Result<Map<i16>> {
        let model = self.model;
        let (spec, parameters) = (&model.layout().linear_attentions[id.0], &model.parameters().linear_attentions[id.0]);
        let (level, functions, log) = (parameters.levels[self.level], self.functions(), &mut *lock(&self.log));
        let name = spec.name.split_once('.').map_or(spec.name.as_str(), |(_, name)| name).to_owned() + " output";
        let (mut logit, mut exp, mut weight) = (Place::new("linear logit"), Place::new("exp"), Place::new("softmax weight"));
        let mut quotient = Place::new("linear attention quotient");
        let (mut sums, mut output) = (Place::new("linear attention sum"), Place::new(&name));
        let (channels, h) = (q.channels, q.channels / spec.heads);
        let mut out = Map::zeros(q.height, q.width, channels)?;
        for first in (0..channels).step_by(h) {
            let context: Vec<Vec<i64>> = (first..first + h)
                .map(|i| {
                    let at = |key: &[i16]| i64::from(key[i]);
                    let largest = k.data.chunks_exact(channels).map(at).max().unwrap_or(0);
                    let (mut total, mut row) = (0, vec![0_i64; h]);
                    for (key, value) in k.data.chunks_exact(channels).zip(v.data.chunks_exact(channels)) {
                        let d = requant(&mut logit, level.key, largest - at(key));
                        let e = exp_neg(log, &mut exp, functions, d);
                        total += e;
                        row.iter_mut().zip(&value[first..]).for_each(|(n, v)| *n += e * i64::from(*v));
                    }
                    row.iter().map(|n| quotient.divide(n << 12, total)).collect()
                })
                .collect();
            for (q, out) in q.data.chunks_exact(channels).zip(out.data.chunks_exact_mut(channels)) {
                let own = &q[first..first + h];
                let largest = i64::from(own.iter().copied().max().unwrap_or(0));
                let mut weights = Vec::with_capacity(h);
                for q in own {
                    let d = requant(&mut logit, level.query, largest - i64::from(*q));
                    weights.push(exp_neg(log, &mut exp, functions, d));
                }
                normalize(&mut weight, &mut weights);
                for (j, out) in out[first..first + h].iter_mut().enumerate() {
                    let sum = weights.iter().zip(&context).map(|(w, row)| w * row[j]).sum::<i64>();
                    let rounded = sums.round(sum, 15);
                    let v = requant(&mut output, level.output, rounded);
                    *out = output.saturate(v, parameters.max) as i16;
                }
            }
        }
        [logit, exp, weight, quotient, sums, output].into_iter().for_each(|place| log.place(place));
        Ok(out)
    }

    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>> {
        let (model, log) = (self.model, &mut *lock(&self.log));
        let parameters = &model.parameters().local_attentions[id.0];
        let config = model.config();
        let max = model.layer(model.layout().slices[id.0].local.qkv[2], self.level).map_or(1, |view| view.max);
        let (w, heads, channels) = (config.window, config.heads, qkv[0].channels);
        log.mark(format!("window of {w}"));
        let mut window = Window {
            functions: self.functions(),
            requant: parameters.levels[self.level],
            places: ["window logit", "exp", "softmax weight", "window output"].map(Place::new),
            w,
            max,
        };
        let mut out = Map::zeros(qkv[0].height, qkv[0].width / 2, w * w * channels)?;
        for row in 0..qkv[0].height {
            for (packed, col) in (row % 2..qkv[0].width).step_by(2).enumerate() {
                for (head, bias) in parameters.bias.chunks_exact(parameters.bias.len() / heads).enumerate() {
                    let range = head * (channels / heads)..(head + 1) * (channels / heads);
                    for a in 0..w * w {
                        let values = window.attend(log, [row, col], a, bias, &range, qkv);
                        let at = &mut out.at_mut(row, packed)[a * channels..][range.clone()];
                        at.iter_mut().zip(values).for_each(|(to, value)| *to = value);
                    }
                }
            }
        }
        window.places.into_iter().for_each(|place| log.place(place));
        Ok(out)
    }

    fn pack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>> {
        Ok(map.pack(parity)?)
    }

    fn unpack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>> {
        Ok(map.unpack(parity)?)
    }

    fn merge(&mut self, anchors: &Map<i32>, non_anchors: Option<&Map<i32>>) -> Result<Map<i32>> {
        Ok(non_anchors.map_or_else(|| anchors.unpack(Parity::Anchor), |other| Map::merge(anchors, other))?)
    }

    fn reconstruct(&mut self, mean: &Map<i32>, symbols: &[i32]) -> Result<Map<i32>> {
        let mut place = Place::new("mean and symbol");
        let sum = |(mean, symbol): (&i32, &i32)| {
            place.saturate(i64::from(*mean) + i64::from(*symbol) * i64::from(LATENT_ONE), LATENT_MAX)
        };
        let data = mean.data.iter().zip(symbols).map(sum).collect();
        lock(&self.log).place(place);
        Ok(Map { data, ..*mean })
    }

    fn add(&mut self, a: &Map<i32>, b: &Map<i32>) -> Result<Map<i32>> {
        let mut place = Place::new("latent and residual");
        let sum = |(a, b): (&i32, &i32)| place.saturate(i64::from(*a) + i64::from(*b), LATENT_MAX);
        let data = a.data.iter().zip(&b.data).map(sum).collect();
        lock(&self.log).place(place);
        Ok(Map { data, ..*a })
    }
}

/// One window attention (SPEC 4.7).
struct Window<'a> {
    functions: &'a Functions,
    requant: Requant,
    /// The places of logits, exponentials, weights and outputs.
    places: [Place<'a>; 4],
    w: usize,
    max: i32,
}

impl Window<'_> {
    /// Row and column of a window position.
    fn place(&self, [row, col]: [usize; 2], a: usize) -> [isize; 2] {
        let half = (self.w / 2) as isize;
        [row as isize + (a / self.w) as isize - half, col as isize + (a % self.w) as isize - half]
    }

    fn attend(
        &mut self,
        log: &mut Log,
        center: [usize; 2],
        a: usize,
        bias: &[i32],
        head: &std::ops::Range<usize>,
        [queries, keys, values]: [&Map<i16>; 3],
    ) -> Vec<i16> {
        let anchor = |[row, col]: [isize; 2]| queries.get(row, col).is_some() && (row + col).rem_euclid(2) == 1;
        let at = self.place(center, a);
        note_position(log, at, [queries.height as isize, queries.width as isize], anchor(at));
        let attended: Vec<usize> = (0..self.w * self.w).filter(|b| !anchor(at) || anchor(self.place(center, *b))).collect();
        let zero = vec![0; head.len()];
        let read = |map: &Map<i16>, [row, col]: [isize; 2]| {
            map.get(row, col).map_or_else(|| zero.clone(), |at| at[head.clone()].to_vec())
        };
        let query = read(queries, at);
        let mut logits = Vec::with_capacity(attended.len());
        for b in &attended {
            let dot: i64 = query.iter().zip(read(keys, self.place(center, *b))).map(|(q, k)| i64::from(*q) * i64::from(k)).sum();
            let rel = (a / self.w + self.w - 1 - b / self.w) * (2 * self.w - 1) + a % self.w + self.w - 1 - b % self.w;
            let v = requant(&mut self.places[0], self.requant, dot) + i64::from(bias[rel]);
            logits.push(i64::from(self.places[0].saturate(v, LOGIT_MAX)));
        }
        let largest = logits.iter().copied().max().unwrap_or(0);
        let mut weights = Vec::with_capacity(logits.len());
        for logit in &logits {
            weights.push(exp_neg(log, &mut self.places[1], self.functions, largest - logit));
        }
        normalize(&mut self.places[2], &mut weights);
        let values: Vec<Vec<i16>> = attended.iter().map(|b| read(values, self.place(center, *b))).collect();
        let one = |i: usize| {
            let sum = weights.iter().zip(&values).map(|(t, v)| t * i64::from(v[i])).sum::<i64>();
            let v = self.places[3].round(sum, 15);
            self.places[3].saturate(v, self.max) as i16
        };
        (0..head.len()).map(one).collect()
    }
}

/// Notes where a window position lies, and of which kind it is.
fn note_position(log: &mut Log, [row, col]: [isize; 2], [height, width]: [isize; 2], anchor: bool) {
    let sides = [(row < 0, "above"), (row >= height, "below"), (col < 0, "left of"), (col >= width, "right of")];
    let outside = sides.into_iter().filter(|(is, _)| *is);
    outside.for_each(|(_, side)| log.mark(format!("window position {side} the map")));
    let inside = (0..height).contains(&row) && (0..width).contains(&col);
    log.mark(match (inside, anchor) {
        (true, true) => "window position on an anchor",
        (true, false) => "window position on a non-anchor",
        _ if (row + col).rem_euclid(2) == 1 => "window position outside where an anchor would be",
        _ => "window position outside where a non-anchor would be",
    });
}

/// z in latent fixed point (SPEC 4.8).
fn z_latent(log: &mut Log, model: &Model, quality: u8, symbols: &[i32]) -> Vec<i32> {
    note_gain(log, model, quality);
    let gain = model.gain(Gain::InverseZ, quality);
    let (mut inner, mut outer) = (Place::new("z"), Place::new("z after its gain"));
    let (medians, quantizer) = (&model.parameters().medians, &model.parameters().quantizers[0]);
    let (requantization, max) = (quantizer.levels[model.config().scale_level(quality)], quantizer.max);
    let value = |(i, symbol): (usize, &i32)| {
        let c = i % medians.len();
        let z = inner.saturate(i64::from(*symbol) * i64::from(LATENT_ONE) + i64::from(medians[c]), LATENT_MAX);
        let v = outer.round(i64::from(z) * i64::from(gain[c]), 16);
        let limited = outer.saturate(v, LATENT_MAX);
        let after = requant(&mut Place::new("quantize z"), requantization, limited.into());
        note_seen(log, "z after its gain", (v, LATENT_MAX), (after, max));
        limited
    };
    let out = symbols.iter().enumerate().map(value).collect();
    log.place(inner);
    log.place(outer);
    out
}

/// Notes which entries of the exp2 tables a quality reads, and where it lies between the levels of gains.
fn note_gain(log: &mut Log, model: &Model, quality: u8) {
    let config = model.config();
    log.mark(gain_place(model, quality));
    let (levels, steps, channels) = (config.gain_levels, usize::from(config.quality_steps), config.hyper);
    if levels < 2 {
        return;
    }
    let at = usize::from(quality) * (levels - 1);
    let low = (at / steps).min(levels - 2);
    let t = at - low * steps;
    let (functions, mut product) = (&model.parameters().functions, Place::new("exp2 product"));
    let rows: Vec<&[i32]> = model.parameters().gains.inverse_hyper_gain.chunks_exact(channels).skip(low).take(2).collect();
    for (a, b) in rows[0].iter().zip(rows[1]) {
        let v = divide(i64::from(*a) * (steps - t) as i64 + i64::from(*b) * t as i64, steps as i64);
        let (coarse, fine) = (((v & 0xffff) >> 8) as usize, (v & 0xff) as usize);
        product.round(i64::from(functions.exp2_coarse[coarse]) * i64::from(functions.exp2_fine[fine]), 30);
        log.region("exp2 coarse", 256, coarse);
        log.region("exp2 fine", 256, fine);
        log.mark(format!("exp2 of {}", v >> 16));
    }
    log.place(product);
}

/// Where a quality lies between the levels of gains (SPEC 4.8).
pub(super) fn gain_place(model: &Model, quality: u8) -> &'static str {
    let (levels, steps) = (model.config().gain_levels, usize::from(model.config().quality_steps));
    if levels < 2 {
        return "gain of a fixed rate";
    }
    match usize::from(quality) * (levels - 1) {
        at if at == (levels - 1) * steps => "gain of the last level",
        at if at.is_multiple_of(steps) => "gain of a level",
        _ => "gain between two levels",
    }
}

/// A backend that notes which cases occur.
pub struct ObservingBackend {
    model: Arc<Model>,
    log: Shared,
}

impl ObservingBackend {
    /// Makes a backend that notes cases in a log.
    #[must_use]
    pub fn new(model: Arc<Model>, log: Arc<Mutex<Log>>) -> Self {
        Self { model, log }
    }
}

struct Session<'m> {
    model: &'m Model,
    size: LatentSize,
    entropy: EntropyModel<'m, Observing<'m>>,
    log: Shared,
}

impl EntropySession for Session<'_> {
    fn parameters_into(&mut self, pass: Pass, _: bool, to: &mut PassParameters) -> Result<()> {
        let gaussian = self.entropy.parameters(pass)?;
        let (thresholds, log) = (&self.model.parameters().thresholds, &mut *lock(&self.log));
        let index = |scale: &i32| {
            for (table, offset) in
                [("scale one below threshold", -1), ("scale at threshold", 0), ("scale one above threshold", 1)]
            {
                if let Ok(i) = thresholds.binary_search(&(scale - offset)) {
                    log.region(table, 63, i);
                }
            }
            thresholds.iter().filter(|t| **t < *scale).count() as u8
        };
        let scale_indices: Vec<u8> = gaussian.scale.data.iter().map(index).collect();
        scale_indices.iter().for_each(|index| log.region("scale index", 64, usize::from(*index)));
        *to = PassParameters { means: gaussian.mean.data.clone(), scale_indices };
        Ok(())
    }

    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<()> {
        self.entropy.commit(pass, symbols)
    }

    fn y_hat(&self) -> Result<Map<i32>> {
        Ok(y_hat(self.model.config(), self.size, self.entropy.y_hat())?)
    }
}

impl Backend for ObservingBackend {
    fn name(&self) -> &'static str {
        "observing"
    }

    fn device(&self, _: Stage) -> String {
        "instrumented".to_owned()
    }

    fn model(&self) -> &Model {
        &self.model
    }

    fn threads(&self) -> usize {
        1
    }

    fn transform(&self, _: FloatTransform, _: &Planes) -> Result<Planes> {
        Err(self.no_float())
    }

    fn exact_analysis(&self, _: &Picture<'_>) -> Result<Map<i32>> {
        Err(self.no_encoder())
    }

    fn exact_hyper_analysis(&self, _: &Map<i32>) -> Result<Map<i32>> {
        Err(self.no_encoder())
    }

    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>> {
        synthesis::samples(&mut lock(&self.log), &self.model, quality, y_hat)
    }

    fn entropy<'a>(&'a self, size: LatentSize, quality: u8, z_symbols: &[i32]) -> Result<Box<dyn EntropySession + 'a>> {
        let model = self.model.as_ref();
        let level = model.config().scale_level(quality);
        let z = z_latent(&mut lock(&self.log), model, quality, z_symbols);
        let need = size.z[0] * size.z[1] * model.config().hyper;
        let z = Map::from_vec(size.z[0], size.z[1], model.config().hyper, z);
        let z = z.ok_or(BackendError::Shape { stage: Stage::HyperSynthesis, got: z_symbols.len(), need })?;
        let ops = Observing { model, level, log: Arc::clone(&self.log) };
        let entropy = EntropyModel::new(model.layout(), ops, &z)?;
        Ok(Box::new(Session { model, size, entropy, log: Arc::clone(&self.log) }))
    }
}

impl ObservingBackend {
    fn no_float(&self) -> BackendError {
        BackendError::NotAvailable { backend: self.name(), reason: "only the exact part is observed".to_owned() }
    }

    fn no_encoder(&self) -> BackendError {
        BackendError::NotAvailable { backend: self.name(), reason: "only decoding is observed".to_owned() }
    }
}
