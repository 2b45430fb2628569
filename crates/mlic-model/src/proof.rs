//! The proof that no integer operation of the entropy networks and transforms can overflow, made once when a package loads (SPEC 4.9).
//!
//! Activations are bounded by the `max` that their producer saturates to. From these bounds and the weights follows the
//! worst case of every accumulator and every product; each is compared with the type that holds it. Nothing is left to chance.

use mlic_core::fixed::{LATENT_MAX, PREACT_MAX, half_of};
use mlic_core::limits::MAX_LATENT_POSITIONS;

use crate::config::Config;
use crate::error::ModelError;
use crate::layout::{Epilogue, Kernel, LayerSpec, Layout, Source, TermSpec};
use crate::model::Weights;
use crate::parameters::{LayerLevel, Parameters, Requant};

/// Largest magnitude of an activation.
pub const MAX_ACTIVATION: i32 = i16::MAX as i32;
/// Layer normalizations saturate to this value: Q12 in an `i16`.
pub const NORM_MAX: i32 = MAX_ACTIVATION;
/// Fraction bits of the result of a global attention before requantization, in value steps.
pub const ATTENTION_FRAC_BITS: u32 = 12;
/// Logits of the window attention saturate to ±this value (Q10).
pub const LOGIT_MAX: i32 = (1 << 26) - 1;

/// Largest magnitude of the activations of a tensor.
#[must_use]
pub fn source_max(parameters: &Parameters, layout: &Layout, source: Source) -> i32 {
    let layer_max = |id: crate::layout::LayerId| parameters.layers.get(id.0).map_or(i32::MAX, |l| l.max);
    match source {
        Source::Quantizer(id) => parameters.quantizers.get(id.0).map_or(i32::MAX, |q| q.max),
        Source::Layer(id) => layer_max(id),
        Source::Norm(_) => NORM_MAX,
        Source::LinearAttention(id) => parameters.linear_attentions.get(id.0).map_or(i32::MAX, |a| a.max),
        Source::LocalAttention(id) => layout.slices.get(id.0).map_or(i32::MAX, |s| layer_max(s.local.qkv[2])),
        Source::Node(_) => i32::MAX,
    }
}

/// What is being proved, for the error message.
pub(crate) struct Claim<'a> {
    pub(crate) operator: &'a str,
    pub(crate) operation: &'static str,
}

impl Claim<'_> {
    pub(crate) fn at_most(&self, worst: i128, limit: i128) -> Result<(), ModelError> {
        if worst <= limit {
            return Ok(());
        }
        Err(ModelError::Overflow { operator: self.operator.to_owned(), operation: self.operation, worst, limit })
    }
}

/// Proves that a value of magnitude at most `worst` passes through `requant` without leaving an `i64`.
pub(crate) fn requantized(operator: &str, operation: &'static str, worst: i128, requant: Requant) -> Result<(), ModelError> {
    let claim = Claim { operator, operation };
    let Requant { multiplier, shift } = requant;
    if multiplier < 0 || shift > 62 {
        let problem = format!("{operation}: multiplier {multiplier} and shift {shift} must be 0 to 2^31 - 1 and 0 to 62");
        return Err(ModelError::Parameter { what: "requantization", index: 0, problem: format!("{operator}: {problem}") });
    }
    claim.at_most(worst * i128::from(multiplier) + i128::from(half_of(shift)), i128::from(i64::MAX))
}

pub(crate) fn check_max(what: &'static str, index: usize, max: i32) -> Result<(), ModelError> {
    if (1..=MAX_ACTIVATION).contains(&max) {
        return Ok(());
    }
    Err(ModelError::Parameter { what, index, problem: format!("largest activation {max} must be 1 to {MAX_ACTIVATION}") })
}

/// Sum of the magnitudes of the weights of each output channel of a term.
fn weight_sums(spec: &LayerSpec, term: usize, weights: Weights<'_>) -> Vec<i64> {
    let per_output = spec.weights_per_output(term);
    if per_output == 0 {
        return vec![1; spec.outputs]; // identity: the input itself
    }
    match weights {
        Weights::Bytes(w) => w.chunks_exact(per_output).map(sum_of_bytes).collect(),
        Weights::Words(w) => w.chunks_exact(per_output).map(sum_of_words).collect(),
    }
}

/// Sum of magnitudes, in 16 bits as far as these hold it: vector code is fastest at that.
fn sum_of_bytes(weights: &[i8]) -> i64 {
    let sum = |part: &[i8]| part.iter().map(|w| u16::from(w.unsigned_abs())).sum::<u16>();
    weights.chunks(256).map(|part| i64::from(sum(part))).sum()
}

fn sum_of_words(weights: &[i16]) -> i64 {
    let sum = |part: &[i16]| part.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>();
    weights.chunks(1 << 15).map(|part| i64::from(sum(part))).sum()
}

/// Splits off the first `len` weights.
fn split<'w>(weights: &mut &'w [i8], len: usize) -> Result<&'w [i8], ModelError> {
    let missing = ModelError::Truncated { part: "weights", have: weights.len() as u64, need: len as u64 };
    let (own, rest) = weights.split_at_checked(len).ok_or(missing)?;
    *weights = rest;
    Ok(own)
}

/// Proves one layer, whose terms read activations of magnitude at most `inputs` with these weights (none missing).
pub(crate) fn layer<'w>(
    spec: &LayerSpec,
    levels: &[LayerLevel],
    inputs: &[i32],
    weights: impl IntoIterator<Item = Weights<'w>>,
) -> Result<(), ModelError> {
    let mut accumulators = Vec::with_capacity(spec.terms.len());
    for (term, (max, own)) in inputs.iter().zip(weights).enumerate() {
        let worst: Vec<i64> = weight_sums(spec, term, own).iter().map(|sum| sum * i64::from(*max)).collect();
        let claim = Claim { operator: &spec.name, operation: "32-bit accumulator" };
        claim.at_most(worst.iter().copied().max().unwrap_or(0).into(), i32::MAX.into())?;
        accumulators.push(worst);
    }
    levels.iter().try_for_each(|level| layer_level(spec, level, &accumulators))
}

fn layer_level(spec: &LayerSpec, level: &LayerLevel, accumulators: &[Vec<i64>]) -> Result<(), ModelError> {
    let claim = Claim { operator: &spec.name, operation: "64-bit weighted sum" };
    if level.shift > 62 {
        let problem = format!("{}: shift {} must be 0 to 62", spec.name, level.shift);
        return Err(ModelError::Parameter { what: "requantization", index: 0, problem });
    }
    let mut sums: Vec<i128> =
        level.bias.iter().map(|b| i128::from(b.unsigned_abs()) + i128::from(half_of(level.shift))).collect();
    for (worst, multipliers) in accumulators.iter().zip(&level.multipliers) {
        for ((sum, a), m) in sums.iter_mut().zip(worst).zip(multipliers) {
            if *m < 0 {
                let problem = format!("{}: multiplier {m} is negative", spec.name);
                return Err(ModelError::Parameter { what: "requantization", index: 0, problem });
            }
            *sum += i128::from(*a) * i128::from(*m);
        }
    }
    claim.at_most(sums.into_iter().max().unwrap_or(0), i64::MAX.into())?;
    if spec.epilogue == Epilogue::Gelu {
        requantized(&spec.name, "requantization after GELU", PREACT_MAX.into(), level.output)?;
    }
    Ok(())
}

/// Checks that residual and depthwise terms read as many channels as the layer has outputs.
pub(crate) fn shape(spec: &LayerSpec, terms: &[TermSpec]) -> Result<(), ModelError> {
    let depthwise = matches!(spec.kernel, Kernel::Depthwise { .. });
    let ok = terms.iter().all(|t| (!t.identity && !depthwise) || t.channels == spec.outputs);
    let problem = || format!("{}: residual or depthwise input differs in channels", spec.name);
    if ok { Ok(()) } else { Err(ModelError::Parameter { what: "layer", index: 0, problem: problem() }) }
}

/// Proves every operation of the entropy networks for these parameters and weights.
///
/// # Errors
/// [`ModelError::Overflow`] names the operator, the operation, its worst case and the limit; [`ModelError::Parameter`] a
/// value that is out of its own range.
pub fn prove(config: &Config, layout: &Layout, parameters: &Parameters, mut weights: &[i8]) -> Result<(), ModelError> {
    let max_of = |source| source_max(parameters, layout, source);
    for (i, (spec, params)) in layout.layers.iter().zip(&parameters.layers).enumerate() {
        check_max("layer", i, params.max)?;
        shape(spec, &spec.terms)?;
        let own = (0..spec.terms.len()).map(|term| split(&mut weights, spec.weights_per_output(term) * spec.outputs));
        let own = own.collect::<Result<Vec<_>, _>>()?.into_iter().map(Weights::Bytes);
        let inputs: Vec<i32> = spec.terms.iter().map(|t| max_of(t.source)).collect();
        layer(spec, &params.levels, &inputs, own)?;
    }
    for (i, q) in parameters.quantizers.iter().enumerate() {
        check_max("quantizer", i, q.max)?;
        for level in &q.levels {
            requantized("latent quantizer", "requantization", LATENT_MAX.into(), *level)?;
        }
    }
    norms(layout, parameters)?;
    linear_attentions(layout, parameters)?;
    local_attentions(config, layout, parameters)
}

fn norms(layout: &Layout, parameters: &Parameters) -> Result<(), ModelError> {
    for (spec, norm) in layout.norms.iter().zip(&parameters.norms) {
        let (n, max) = (spec.channels as i128, i128::from(source_max(parameters, layout, spec.source)));
        let deviation = 2 * n * max;
        let variance = (n * deviation * deviation) << 16;
        let epsilon = norm.epsilon.iter().copied().max().unwrap_or(0);
        if norm.epsilon.iter().any(|e| *e < 1) {
            return Err(ModelError::Parameter {
                what: "norm epsilon",
                index: 0,
                problem: format!("{}: must be positive", spec.name),
            });
        }
        let claim = |operation| Claim { operator: &spec.name, operation };
        claim("64-bit variance").at_most(variance + i128::from(epsilon), i64::MAX.into())?;
        claim("64-bit quotient").at_most((deviation << 20) + (1 << 32), i64::MAX.into())?;
    }
    Ok(())
}

fn linear_attentions(layout: &Layout, parameters: &Parameters) -> Result<(), ModelError> {
    for (i, (spec, attention)) in layout.linear_attentions.iter().zip(&parameters.linear_attentions).enumerate() {
        check_max("attention", i, attention.max)?;
        let [query, key, value] = spec.inputs.map(|id| i128::from(source_max(parameters, layout, Source::Layer(id))));
        let claim = Claim { operator: &spec.name, operation: "64-bit sum over positions" };
        let weighted = 32_767 * value * i128::from(MAX_LATENT_POSITIONS);
        claim.at_most((weighted << ATTENTION_FRAC_BITS) + (32_767 * i128::from(MAX_LATENT_POSITIONS)), i64::MAX.into())?;
        for level in &attention.levels {
            requantized(&spec.name, "query logit", 2 * query, level.query)?;
            requantized(&spec.name, "key logit", 2 * key, level.key)?;
            requantized(&spec.name, "output", (value + 1) << (ATTENTION_FRAC_BITS + 1), level.output)?;
        }
    }
    Ok(())
}

fn local_attentions(config: &Config, layout: &Layout, parameters: &Parameters) -> Result<(), ModelError> {
    let head = (config.slice_channels() / config.heads) as i128;
    for (i, (slice, attention)) in layout.slices.iter().zip(&parameters.local_attentions).enumerate() {
        let name = format!("slice{i}.local_context.attention");
        let [query, key, value] = slice.local.qkv.map(|id| i128::from(source_max(parameters, layout, Source::Layer(id))));
        let claim = |operation| Claim { operator: &name, operation };
        claim("32-bit logit").at_most(head * query * key, i32::MAX.into())?;
        let positions = (config.window * config.window) as i128;
        claim("32-bit weighted value").at_most(value * (32_768 + positions), i32::MAX.into())?;
        for level in &attention.levels {
            requantized(&name, "logit", head * query * key, *level)?;
        }
        let is_beyond = |b: &i32| b.unsigned_abs() > LOGIT_MAX as u32;
        if let Some((index, bias)) = attention.bias.iter().enumerate().find(|(_, bias)| is_beyond(bias)) {
            let problem = format!("{bias} in {name}, must be within ±{LOGIT_MAX}");
            return Err(ModelError::Parameter { what: "relative position bias", index, problem });
        }
    }
    Ok(())
}
