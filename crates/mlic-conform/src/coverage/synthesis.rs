//! A second implementation of the exact synthesis (SPEC 5.7), node by node on whole maps, that notes which of its cases occur.

use mlic_backend::{BackendError, Stage};
use mlic_core::fixed::{LATENT_MAX, isqrt};
use mlic_kernels::Map;
use mlic_model::Model;
use mlic_model::layout::{Epilogue, NodeIndex};
use mlic_model::model::{Gain, LayerView};
use mlic_model::nodes::{Gdn, Layer, Node, OwnedWeights, Quantizer};
use mlic_model::parameters::{Functions, Requant};

use super::log::{Log, Place};
use super::ops::{Gelu, Result, TABLE_END, gain_place, note_seen, requant, sums};

const ROOT_MAX: i64 = i32::MAX as i64;

/// Returns samples of red, green and blue, `[16 height][16 width][3]`.
pub(super) fn samples(log: &mut Log, model: &Model, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>> {
    let synthesis = model.exact_synthesis().ok_or_else(|| BackendError::NotExact { model: model.name().to_owned() })?;
    log.mark(format!("pixels of {}", model.name()));
    log.mark(format!("pixels with a {}", gain_place(model, quality)));
    let functions = &model.parameters().functions;
    let quantizer = synthesis.quantizer();
    let mut maps = vec![quantized(log, model, quality, y_hat, quantizer)];
    for node in synthesis.nodes() {
        let at = |index: NodeIndex| &maps[index.0];
        let map = match node {
            Node::Gdn(gdn) => normalize(log, gdn, at(gdn.input)),
            Node::Layer(own) => layer(log, functions, own, &node.inputs().map(at).collect::<Vec<_>>())?,
        };
        maps.push(map);
    }
    let Map { height, width, channels, data } = maps.pop().map_or_else(|| Map::zeros(0, 0, 0), Ok)?;
    let data = data.into_iter().map(|sample| u8::try_from(sample).ok()).collect::<Option<Vec<u8>>>();
    let data = data.ok_or(BackendError::Shape { stage: Stage::ExactSynthesis, got: 0, need: 255 })?;
    Ok(Map { height, width, channels, data })
}

/// Computes node 0: the inverse gain and the quantizer.
fn quantized(log: &mut Log, model: &Model, quality: u8, y_hat: &Map<i32>, quantizer: Quantizer) -> Map<i16> {
    let gain = model.gain(Gain::InverseY, quality);
    let (mut latent, mut activation) = (Place::new("y after its gain"), Place::new("exact quantizer"));
    let value = |(i, y): (usize, &i32)| {
        let v = latent.round(i64::from(*y) * i64::from(gain[i % gain.len()]), 16);
        let after = requant(&mut activation, quantizer.requant, latent.saturate(v, LATENT_MAX).into());
        note_seen(log, "y after its gain", (v, LATENT_MAX), (after, quantizer.max));
        activation.saturate(after, quantizer.max) as i16
    };
    let data = y_hat.data.iter().enumerate().map(value).collect();
    [latent, activation].into_iter().for_each(|place| log.place(place));
    Map { height: y_hat.height, width: y_hat.width, channels: y_hat.channels, data }
}

fn layer(log: &mut Log, functions: &Functions, own: &Layer, inputs: &[&Map<i16>]) -> Result<Map<i16>> {
    let view = own.view();
    note_form(log, own);
    let sums = sums(&view, inputs)?;
    let mut place = Place::new("exact layer");
    let rounded: Vec<i64> = sums.data.iter().map(|sum| place.round(*sum, view.level.shift)).collect();
    if view.level.shift == 0 {
        log.mark("exact layer does not shift");
    }
    log.place(place);
    let data = match view.spec.epilogue {
        Epilogue::Gelu => gelu(log, functions, &view, rounded),
        Epilogue::Pixel => pixels(log, &view, rounded),
        _ => {
            let mut output = Place::new("exact linear output");
            let data = rounded.into_iter().map(|v| output.saturate(v, view.max) as i16).collect();
            log.place(output);
            data
        }
    };
    let map = Map { height: sums.height, width: sums.width, channels: sums.channels, data };
    Ok(if own.shuffles() { map.shuffle()? } else { map })
}

/// Notes the form of a layer: kernel and width of weights, epilogue with or without shuffle, number of terms.
fn note_form(log: &mut Log, own: &Layer) {
    let spec = &own.spec;
    let epilogue = match spec.epilogue {
        Epilogue::Gelu => "gelu",
        Epilogue::Pixel => "pixel",
        _ => "lin",
    };
    let words = own.weights.iter().any(|weights| matches!(weights, OwnedWeights::Words(_)));
    let (size, bytes) = (spec.kernel.size(), if words { 2 } else { 1 });
    if spec.terms.iter().any(|term| !term.identity) {
        log.mark(format!("exact kernel {size} with weights of {bytes} bytes"));
    } else {
        log.mark("exact layer of identity terms alone");
    }
    log.mark(format!("exact epilogue {epilogue}{}", if own.shuffles() { " with shuffle" } else { "" }));
    log.mark(format!("exact layer of {} terms", spec.terms.len()));
    if spec.terms.iter().any(|term| term.identity) && spec.terms.iter().any(|term| !term.identity) {
        log.mark("exact layer with an identity term");
    }
    let end = if words { i32::from(i16::MAX) } else { i32::from(i8::MAX) };
    for (sign, name) in [(1, ""), (-1, "-")] {
        if own.weights.iter().any(|weights| weights.view().iter().any(|w| w == sign * end)) {
            log.mark(format!("exact weight of {name}{end}"));
        }
    }
}

fn gelu(log: &mut Log, functions: &Functions, view: &LayerView<'_>, rounded: Vec<i64>) -> Vec<i16> {
    let limit = "exact gelu pre-activation";
    let (preact, output) = (Place::new(limit), Place::new("exact gelu output"));
    let (table, scale) = (Place::new("exact gelu"), Place::new("requant after exact gelu"));
    let (mut gelu, mut met) = (Gelu { preact, table, scale, output, limit }, [false; 2]);
    let value = |v: i64| {
        let (x, activation) = gelu.apply(log, functions, view, v);
        met[usize::from(x.unsigned_abs() < TABLE_END)] = true;
        activation
    };
    let data = rounded.into_iter().map(value).collect();
    note(log, &["exact gelu beyond its table", "exact gelu within its table"], &met);
    gelu.end(log);
    data
}

fn pixels(log: &mut Log, view: &LayerView<'_>, rounded: Vec<i64>) -> Vec<i16> {
    let max = i64::from(view.max);
    let mut met = [false; 5];
    let value = |v: i64| {
        let case = if v < 0 {
            0
        } else if v == 0 {
            1
        } else if v < max {
            2
        } else if v == max {
            3
        } else {
            4
        };
        met[case] = true;
        v.clamp(0, max) as i16
    };
    let data = rounded.into_iter().map(value).collect();
    note(log, &["sample below 0", "sample 0", "sample within its range", "sample 255", "sample above 255"], &met);
    data
}

fn note(log: &mut Log, names: &[&str], met: &[bool]) {
    names.iter().zip(met).filter(|(_, met)| **met).for_each(|(name, _)| log.mark(*name));
}

/// Inverse normalization (SPEC 4.11).
fn normalize(log: &mut Log, gdn: &Gdn, input: &Map<i16>) -> Map<i16> {
    let channels = input.channels;
    let (mut norm, mut output) = (Place::new("squares"), Place::new("normalized"));
    let requantization = |c: usize| Requant { multiplier: gdn.multipliers[c], shift: gdn.output_shift };
    let (mut ranges, mut roots) = ([false; 3], [false; 2]);
    let mut data = Vec::with_capacity(input.data.len());
    for at in input.data.chunks_exact(channels) {
        for c in 0..channels {
            let gamma = &gdn.gamma[c * channels..][..channels];
            let sum: i64 = gamma.iter().zip(at).map(|(g, x)| i64::from(*g) * i64::from(*x).pow(2)).sum();
            let v = norm.round(sum + gdn.beta[c], gdn.shift);
            ranges[usize::from(v > 0) + usize::from(v > ROOT_MAX)] = true;
            let v = v.min(ROOT_MAX) as u64;
            let root = isqrt(v);
            roots[usize::from(root * root == v && v > 0)] = true;
            let v = requant(&mut output, requantization(c), i64::from(at[c]) * root as i64);
            data.push(output.saturate(v, gdn.max) as i16);
        }
    }
    note(log, &["squares of 0", "squares within their range", "squares above 2^31 - 1"], &ranges);
    note(log, &["exact root of no square", "exact root of a square"], &roots);
    [norm, output].into_iter().for_each(|place| log.place(place));
    Map { height: input.height, width: input.width, channels, data }
}
