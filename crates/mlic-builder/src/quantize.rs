//! Quantizes the float parameters of the entropy networks: weights, widths, scales and multipliers.

use std::collections::HashMap;

use mlic_model::layout::{Epilogue, LayerSpec, Layout, QuantizerId, Source};
use mlic_model::parameters::{
    Gains, LayerLevel, LayerParameters, LinearAttentionLevel, LinearAttentionParameters, LocalAttentionParameters,
    NormParameters, Parameters, QuantizerParameters, Requant,
};
use mlic_model::proof::{ATTENTION_FRAC_BITS, LOGIT_MAX};
use mlic_model::real::{LATENT_STEP, PREACT_STEP, Q16_STEP, SAMPLE_STEP};

use crate::bottleneck;
use crate::error::BuildError;
use crate::export::Export;
use crate::float::{FloatLayer, FloatModel, NORM_EPSILON, Record};
use crate::tables;

/// Largest int8 activation.
pub const NARROW_MAX: i32 = 127;
/// Largest int16 activation, used where int8 would cost bits. Its 14 bits leave room in every accumulator of the published shapes, and keep the
/// squares of a layer normalization of 64 channels and the dot products of an attention within their words.
pub const WIDE_MAX: i32 = 8191;
/// Largest epsilon of a layer normalization, in units of its integer variance.
const MAX_EPSILON: i64 = 1 << 60;
/// Factor of room above the largest activation seen in calibration, for tensors wide enough to afford it.
const HEADROOM: f64 = 1.25;

/// Largest magnitude of every tensor's activations.
pub type Widths = HashMap<Source, i32>;

/// Every tensor that has a width of its own.
#[must_use]
pub fn tensors(layout: &Layout, slices: usize) -> Vec<Source> {
    let quantizers = (0..=slices).map(|i| Source::Quantizer(QuantizerId(i)));
    let layers = layout.layers.iter().enumerate().filter(|(_, l)| matches!(l.epilogue, Epilogue::Linear | Epilogue::Gelu));
    let layers = layers.map(|(i, _)| Source::Layer(mlic_model::layout::LayerId(i)));
    let attentions =
        (0..layout.linear_attentions.len()).map(|i| Source::LinearAttention(mlic_model::layout::LinearAttentionId(i)));
    quantizers.chain(layers).chain(attentions).collect()
}

/// The family of a tensor: its name without the latent slice. Widths are chosen for whole families.
#[must_use]
pub fn family(layout: &Layout, source: Source) -> String {
    match source {
        Source::Quantizer(QuantizerId::Z) => "z".into(),
        Source::Quantizer(_) => "y_hat".into(),
        Source::LinearAttention(id) => layout.linear_attentions.get(id.0).map_or_else(String::new, |a| strip(&a.name)),
        Source::Layer(id) => layout.layers.get(id.0).map_or_else(String::new, |l| strip(&l.name)),
        Source::Norm(_) | Source::LocalAttention(_) | Source::Node(_) => String::new(),
    }
}

/// Removes the latent slice from a name: `slice3.channel_context.0` becomes `channel_context.0`.
fn strip(name: &str) -> String {
    name.split_once('.').filter(|(first, _)| first.starts_with("slice")).map_or(name, |(_, rest)| rest).to_owned()
}

/// Converts a positive ratio to a multiplier and a shift.
pub(crate) fn requant(operator: &str, ratio: f64) -> Result<Requant, BuildError> {
    let fail = || BuildError::Scale { operator: operator.to_owned(), value: ratio };
    if !ratio.is_finite() || ratio <= 0.0 {
        return Err(fail());
    }
    let mut shift = 30 - ratio.log2().floor() as i32;
    let mut multiplier = (ratio * f64::from(shift).exp2()).round();
    if multiplier > f64::from(i32::MAX) {
        multiplier /= 2.0;
        shift -= 1;
    }
    if shift > 62 {
        multiplier = (ratio * 62.0_f64.exp2()).round();
        shift = 62;
    }
    if shift < 0 || multiplier < 1.0 {
        return Err(fail());
    }
    Ok(Requant { multiplier: multiplier.round() as i32, shift: shift as u32 })
}

/// Real value of one integer step of every tensor, per level of activation scales.
struct Scales {
    by_level: Vec<HashMap<Source, f64>>,
}

impl Scales {
    fn new(layout: &Layout, records: &[Record], widths: &Widths) -> Self {
        let of_level = |record: &Record| {
            let scale = |(source, max): (&Source, &i32)| {
                let clip = record.get(source).map_or(1.0, |h| {
                    if *max > 1000 { f64::from(h.largest()).max(1e-3) * HEADROOM } else { h.best_clip(*max).max(1e-3) }
                });
                (*source, clip / f64::from(*max))
            };
            let mut scales: HashMap<Source, f64> = widths.iter().map(scale).collect();
            for (i, _) in layout.norms.iter().enumerate() {
                scales.insert(Source::Norm(mlic_model::layout::NormId(i)), LATENT_STEP);
            }
            for (i, slice) in layout.slices.iter().enumerate() {
                let values = scales.get(&Source::Layer(slice.local.qkv[2])).copied().unwrap_or(1.0);
                scales.insert(Source::LocalAttention(mlic_model::layout::LocalAttentionId(i)), values);
            }
            scales
        };
        Self { by_level: records.iter().map(of_level).collect() }
    }

    fn of(&self, level: usize, source: Source) -> f64 {
        self.by_level.get(level).and_then(|s| s.get(&source)).copied().unwrap_or(1.0)
    }

    fn levels(&self) -> std::ops::Range<usize> {
        0..self.by_level.len()
    }
}

/// Weights of one layer in int8, and the real value of one step per term and output.
struct QuantizedWeights {
    weights: Vec<i8>,
    steps: Vec<Vec<f64>>,
}

fn quantize_weights(spec: &LayerSpec, layer: &FloatLayer) -> QuantizedWeights {
    let mut out = QuantizedWeights { weights: Vec::with_capacity(spec.weights_len()), steps: Vec::new() };
    for (term, weights) in layer.weights.iter().enumerate() {
        let len = spec.weights_per_output(term);
        if len == 0 {
            out.steps.push(vec![1.0; spec.outputs]);
            continue;
        }
        let mut steps = Vec::with_capacity(spec.outputs);
        for row in weights.chunks_exact(len) {
            let step = best_step(row);
            out.weights.extend(row.iter().map(|w| (f64::from(*w) / step).round().clamp(-127.0, 127.0) as i8));
            steps.push(step);
        }
        out.steps.push(steps);
    }
    out
}

/// Largest activation that a layer normalization over this many channels may read: `(n (2 n m)^2 << 16) + epsilon` is within 64 bits (SPEC 4.9).
fn norm_limit(channels: usize) -> i32 {
    let (n, room) = (channels as u64, (i64::MAX - MAX_EPSILON) as u64 >> 16);
    i32::try_from((room / (4 * n * n * n)).isqrt()).unwrap_or(i32::MAX)
}

/// Reduces widths to what the 32-bit accumulators of every reader and the squares of every layer normalization can hold.
fn limited(layout: &Layout, quantized: &[QuantizedWeights], widths: &Widths) -> Widths {
    let mut widths = widths.clone();
    for (spec, layer) in layout.layers.iter().zip(quantized) {
        let mut rest = layer.weights.as_slice();
        for (i, term) in spec.terms.iter().enumerate() {
            let len = spec.weights_per_output(i);
            let (own, tail) = rest.split_at(len * spec.outputs);
            rest = tail;
            let sums = own.chunks_exact(len.max(1)).map(|w| w.iter().map(|v| i64::from(v.unsigned_abs())).sum::<i64>());
            let limit = i64::from(i32::MAX) / sums.max().unwrap_or(1).max(1);
            widths.entry(term.source).and_modify(|max| *max = i64::from(*max).min(limit) as i32);
        }
    }
    for norm in &layout.norms {
        widths.entry(norm.source).and_modify(|max| *max = norm_limit(norm.channels).min(*max));
    }
    widths
}

/// The step with which rounding a row of weights to int8 has the least squared error.
pub(crate) fn best_step(row: &[f32]) -> f64 {
    let largest = row.iter().fold(0.0_f64, |m, w| m.max(f64::from(w.abs())));
    if largest < 1e-12 {
        return 1e-12;
    }
    let error = |step: f64| -> f64 {
        row.iter().map(|w| (f64::from(*w) - step * (f64::from(*w) / step).round().clamp(-127.0, 127.0)).powi(2)).sum()
    };
    let steps = (0..12).map(|i| largest / 127.0 * (1.0 - 0.04 * f64::from(i)));
    steps.map(|s| (error(s), s)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(largest / 127.0, |(_, s)| s)
}

/// Parameters of a layer at one level: multipliers and biases that bring its sums to units of `unit`, all with one shift.
pub(crate) fn layer_level(
    spec: &LayerSpec,
    layer_bias: &[f32],
    steps: &[Vec<f64>],
    inputs: &[f64],
    unit: f64,
    output: Requant,
) -> Result<LayerLevel, BuildError> {
    let ratios: Vec<Vec<f64>> =
        steps.iter().zip(inputs).map(|(steps, input)| steps.iter().map(|s| s * input / unit).collect()).collect();
    let largest = ratios.iter().flatten().copied().fold(0.0, f64::max);
    let bias = layer_bias.iter().fold(0.0_f64, |m, b| m.max((f64::from(*b) / unit).abs()));
    // Multipliers below 2^27 keep eleven terms of 32-bit accumulators within 63 bits; the bias must fit likewise.
    let by_multiplier = 26 - largest.log2().floor() as i32;
    let by_bias = 60 - bias.max(1.0).log2().ceil() as i32;
    let shift = by_multiplier.min(by_bias).min(60);
    if !largest.is_finite() || shift < 1 {
        return Err(BuildError::Scale { operator: spec.name.clone(), value: largest });
    }
    let factor = f64::from(shift).exp2();
    let multipliers = ratios.iter().map(|r| r.iter().map(|r| significant(r * factor) as i32).collect()).collect();
    let bias = layer_bias.iter().map(|b| significant(f64::from(*b) / unit * factor) as i64).collect();
    Ok(LayerLevel { shift: shift as u32, multipliers, bias, output })
}

/// Rounds a number to 18 binary digits: far more than weights and activations have, followed by zeros, which archives compress.
fn significant(v: f64) -> f64 {
    let digit = (v.abs().max(1.0).log2().floor() - 17.0).max(0.0).exp2();
    (v / digit).round() * digit
}

/// The integer parameters and weights of a model.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// Scales, multipliers, tables.
    pub parameters: Parameters,
    /// Weights in layout order.
    pub weights: Vec<i8>,
}

/// Quantizes a model with these widths; `records` has the observed activations of each level of activation scales.
///
/// # Errors
/// [`BuildError::Scale`] when a ratio of scales has no integer form; [`BuildError::Tensor`] for missing tensors.
pub fn quantize(export: &Export, model: &FloatModel, records: &[Record], widths: &Widths) -> Result<Quantized, BuildError> {
    let layout = &model.layout;
    let quantized: Vec<QuantizedWeights> =
        layout.layers.iter().zip(&model.layers).map(|(spec, layer)| quantize_weights(spec, layer)).collect();
    let widths = &limited(layout, &quantized, widths);
    let scales = Scales::new(layout, records, widths);
    let width = |source: Source| widths.get(&source).copied().unwrap_or(WIDE_MAX);
    let mut weights = Vec::with_capacity(mlic_model::parameters::weights_len(layout));
    let mut layers = Vec::with_capacity(layout.layers.len());
    for (i, ((spec, layer), quantized)) in layout.layers.iter().zip(&model.layers).zip(quantized).enumerate() {
        let own = Source::Layer(mlic_model::layout::LayerId(i));
        let levels = scales.levels().map(|level| {
            let inputs: Vec<f64> = spec.terms.iter().map(|t| scales.of(level, t.source)).collect();
            let out = scales.of(level, own);
            let none = Requant { multiplier: 0, shift: 0 };
            let (unit, output) = match spec.epilogue {
                Epilogue::Linear => (out, none),
                Epilogue::Gelu => (PREACT_STEP, requant(&spec.name, PREACT_STEP / out)?),
                Epilogue::Latent => (LATENT_STEP, none),
                Epilogue::HalfTanh => (PREACT_STEP, none),
                Epilogue::Pixel => (SAMPLE_STEP, none),
            };
            layer_level(spec, &layer.bias, &quantized.steps, &inputs, unit, output)
        });
        layers.push(LayerParameters { max: width(own), levels: levels.collect::<Result<_, _>>()? });
        weights.extend(quantized.weights);
    }
    let (medians, z_cdfs) = bottleneck::z_tables(export)?;
    let parameters = Parameters {
        layers,
        quantizers: quantizers(model, &scales, &width)?,
        norms: norms(layout, &scales),
        linear_attentions: linear_attentions(layout, &scales, &width)?,
        local_attentions: local_attentions(model, &scales)?,
        functions: tables::functions(),
        gains: gains(export)?,
        thresholds: tables::thresholds(),
        y_cdfs: tables::y_cdfs(),
        z_cdfs,
        medians: medians.iter().map(|m| (m / LATENT_STEP).round() as i32).collect(),
    };
    Ok(Quantized { parameters, weights })
}

fn quantizers(
    model: &FloatModel,
    scales: &Scales,
    width: &dyn Fn(Source) -> i32,
) -> Result<Vec<QuantizerParameters>, BuildError> {
    let of = |i: usize| {
        let source = Source::Quantizer(QuantizerId(i));
        let level = |l| requant("latent quantizer", LATENT_STEP / scales.of(l, source));
        Ok(QuantizerParameters { max: width(source), levels: scales.levels().map(level).collect::<Result<_, _>>()? })
    };
    (0..=model.config.slices).map(of).collect()
}

/// Epsilons of the layer normalizations: `epsilon n^2 / step^2` in units of 2^-16, those of the integer variance of SPEC 4.6.
fn norms(layout: &Layout, scales: &Scales) -> Vec<NormParameters> {
    let of = |spec: &mlic_model::layout::NormSpec| {
        let n = spec.channels as f64;
        let level =
            |l| ((NORM_EPSILON * n * n / scales.of(l, spec.source).powi(2) / Q16_STEP).round() as i64).clamp(1, MAX_EPSILON);
        NormParameters { epsilon: scales.levels().map(level).collect() }
    };
    layout.norms.iter().map(of).collect()
}

fn linear_attentions(
    layout: &Layout,
    scales: &Scales,
    width: &dyn Fn(Source) -> i32,
) -> Result<Vec<LinearAttentionParameters>, BuildError> {
    let of = |(i, spec): (usize, &mlic_model::layout::LinearAttentionSpec)| {
        let own = Source::LinearAttention(mlic_model::layout::LinearAttentionId(i));
        let level = |l| {
            let [query, key, value] = spec.inputs.map(|id| scales.of(l, Source::Layer(id)));
            let fraction = f64::from(1_u32 << ATTENTION_FRAC_BITS);
            Ok(LinearAttentionLevel {
                query: requant(&spec.name, query * 1024.0)?,
                key: requant(&spec.name, key * 1024.0)?,
                output: requant(&spec.name, value / fraction / scales.of(l, own))?,
            })
        };
        Ok(LinearAttentionParameters { max: width(own), levels: scales.levels().map(level).collect::<Result<_, BuildError>>()? })
    };
    layout.linear_attentions.iter().enumerate().map(of).collect()
}

fn local_attentions(model: &FloatModel, scales: &Scales) -> Result<Vec<LocalAttentionParameters>, BuildError> {
    let head_channels = (model.config.slice_channels() / model.config.heads) as f64;
    let of = |(slice, bias): (&mlic_model::layout::SliceIds, &Vec<f32>)| {
        let level = |l| {
            let [query, key, _] = slice.local.qkv.map(|id| scales.of(l, Source::Layer(id)));
            requant("local attention", query * key / head_channels.sqrt() * 1024.0)
        };
        let limit = f64::from(LOGIT_MAX);
        let bias = bias.iter().map(|b| (f64::from(*b) * 1024.0).round().clamp(-limit, limit) as i32).collect();
        Ok(LocalAttentionParameters { bias, levels: scales.levels().map(level).collect::<Result<_, BuildError>>()? })
    };
    model.layout.slices.iter().zip(&model.position_bias).map(of).collect()
}

/// Converts the gains of the checkpoint from natural logarithms to base-2 logarithms in Q16.
fn gains(export: &Export) -> Result<Gains, BuildError> {
    let (levels, m, n) = (export.config.gain_levels, export.config.latent, export.config.hyper);
    if levels == 0 {
        return Ok(Gains::default());
    }
    let log2 = |name: &str, channels: usize| -> Result<Vec<i32>, BuildError> {
        let values = export.tensor(name, &[levels, channels])?.data;
        Ok(values.iter().map(|v| (f64::from(*v) * std::f64::consts::LOG2_E / Q16_STEP).round() as i32).collect())
    };
    Ok(Gains {
        gain: log2("gain", m)?,
        inverse_gain: log2("inverse_gain", m)?,
        hyper_gain: log2("hyper_gain", n)?,
        inverse_hyper_gain: log2("inverse_hyper_gain", n)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizations_have_room_for_just_their_limit() {
        let worst = |n: i128, m: i128| ((n * (2 * n * m).pow(2)) << 16) + i128::from(MAX_EPSILON);
        for (channels, limit) in [(32, 30_651), (64, 10_836), (128, 3831)] {
            assert_eq!(norm_limit(channels), limit);
            let at = |m: i32| worst(channels as i128, m.into()) <= i64::MAX.into();
            assert!(at(limit) && !at(limit + 1), "{channels} channels");
        }
    }
}
