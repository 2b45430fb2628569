//! Model packages made from decisions: any small shape, any parameters within the ranges of SPEC 2.5 to 2.9.

use mlic_model::Config;
use mlic_model::graph::{Conv2d, Dtype, Graph, Node, NodeId, Op};
use mlic_model::layout::{LayerSpec, Layout};
use mlic_model::model::{Metadata, Parts};
use mlic_model::parameters::{
    EXP_LEN, EXP2_LEN, FUNCTION_LEN, Functions, Gains, LayerLevel, LayerParameters, LinearAttentionLevel,
    LinearAttentionParameters, LocalAttentionParameters, NormParameters, Parameters, QuantizerParameters, Requant, SCALE_COUNT,
    StoredCdf, weights_len,
};

use crate::exact;
use crate::source::Source;

/// Parts of a package; most of them make one that is accepted.
pub(crate) fn parts(source: &mut Source<'_>) -> Parts {
    let config = config(source);
    let layout = Layout::new(&config);
    let parameters = parameters(source, &config, &layout);
    let weights = source.integers(weights_len(&layout), -127, 127).into_iter().map(|w| w as i8).collect();
    let exact_synthesis = exact::synthesis(source, config.latent);
    let is_only = exact_synthesis.is_some() && source.below(4) == 0;
    let exact_analyses = exact::analyses(source, config.latent, config.hyper);
    let in_integers = exact_analyses.map(|own| [own.g_a.write(), own.h_a.write()]);
    let [analysis, hyper_analysis] = in_integers.unwrap_or_else(|| float_analyses(&config));
    Parts {
        parameters,
        weights,
        synthesis: if is_only { Vec::new() } else { upsampling(config.latent as u32, 16) },
        analysis,
        hyper_analysis,
        metadata: Metadata { name: "generated".into(), ..Metadata::default() },
        exact_synthesis,
        config,
    }
}

fn config(source: &mut Source<'_>) -> Config {
    let slices = source.between(1, 3);
    let slice_channels = source.one_of(&[1, 2, 3, 4]);
    let heads = source.one_of(&[1, slice_channels]);
    let widths = |source: &mut Source<'_>| (0..source.between(1, 2)).map(|_| source.between(1, 6)).collect::<Vec<_>>();
    let gain_levels = source.one_of(&[0, 2, 3]);
    Config {
        latent: slices * slice_channels,
        hyper: source.between(1, 4),
        slices,
        window: source.one_of(&[3, 5, 7]),
        heads,
        inter_head_channels: source.one_of(&[1, slice_channels]),
        ep_hidden: widths(source),
        lrp_hidden: (0..slices).map(|_| widths(source)).collect(),
        cc_hidden: widths(source),
        hs_hidden: [source.between(1, 6), source.between(1, 6)],
        gain_levels,
        scale_levels: if gain_levels == 0 { 1 } else { source.between(1, 3) },
        quality_steps: if gain_levels == 0 { 0 } else { source.between(1, 4) as u8 },
        skip_below: source.one_of(&[0, 1, 63]),
    }
}

/// The largest magnitude of an activation; the widest is chosen rarely, because few packages can afford it.
pub(crate) fn max(source: &mut Source<'_>) -> i32 {
    source.one_of(&[127, 127, 1, 2047, 8191, 8191, 16_383, 32_767])
}

pub(crate) fn requant(source: &mut Source<'_>) -> Requant {
    let multiplier = source.one_of(&[1, 0, 1 << 10, 12_345, 1 << 20, 987_654_321, i32::MAX]);
    Requant { multiplier, shift: source.below(63) as u32 }
}

fn i32s(source: &mut Source<'_>, count: usize, low: i32, high: i32) -> Vec<i32> {
    source.integers(count, low.into(), high.into()).into_iter().map(|v| v as i32).collect()
}

pub(crate) fn layer_level(source: &mut Source<'_>, spec: &LayerSpec) -> LayerLevel {
    let most = source.one_of(&[1 << 14, 1 << 20, i32::MAX]);
    let bias = 1 << source.one_of(&[10, 30, 50, 61]);
    LayerLevel {
        shift: source.one_of(&[20, 0, 1, 8, 14, 32, 48, 62]),
        multipliers: spec.terms.iter().map(|_| i32s(source, spec.outputs, 0, most)).collect(),
        bias: source.integers(spec.outputs, -bias, bias),
        output: requant(source),
    }
}

fn layer(source: &mut Source<'_>, spec: &LayerSpec, levels: usize) -> LayerParameters {
    LayerParameters { max: max(source), levels: (0..levels).map(|_| layer_level(source, spec)).collect() }
}

fn parameters(source: &mut Source<'_>, config: &Config, layout: &Layout) -> Parameters {
    let levels = config.scale_levels;
    let requants = |source: &mut Source<'_>| (0..levels).map(|_| requant(source)).collect::<Vec<_>>();
    let attention_level =
        |source: &mut Source<'_>| LinearAttentionLevel { query: requant(source), key: requant(source), output: requant(source) };
    let bias_len = config.heads * (2 * config.window - 1).pow(2);
    Parameters {
        layers: layout.layers.iter().map(|spec| layer(source, spec, levels)).collect(),
        quantizers: (0..=config.slices).map(|_| QuantizerParameters { max: max(source), levels: requants(source) }).collect(),
        norms: layout
            .norms
            .iter()
            .map(|_| {
                let most = source.one_of(&[1, 1 << 20, 1 << 40]);
                NormParameters { epsilon: source.integers(levels, 1, most) }
            })
            .collect(),
        linear_attentions: layout
            .linear_attentions
            .iter()
            .map(|_| LinearAttentionParameters {
                max: max(source),
                levels: (0..levels).map(|_| attention_level(source)).collect(),
            })
            .collect(),
        local_attentions: (0..config.slices)
            .map(|_| LocalAttentionParameters {
                bias: i32s(source, bias_len, -(1 << 26) + 1, (1 << 26) - 1),
                levels: requants(source),
            })
            .collect(),
        functions: functions(source),
        gains: gains(source, config),
        thresholds: thresholds(source),
        y_cdfs: (0..SCALE_COUNT).map(|_| cdf(source)).collect(),
        z_cdfs: (0..config.hyper).map(|_| cdf(source)).collect(),
        medians: i32s(source, config.hyper, -(1 << 27) + 1, (1 << 27) - 1),
    }
}

pub(crate) fn functions(source: &mut Source<'_>) -> Functions {
    let mut table = |len, low, high| source.integers(len, low, high);
    let mut exp_coarse: Vec<u16> = table(EXP_LEN[0], 0, 32_767).into_iter().map(|v| v as u16).collect();
    let mut exp_fine: Vec<u16> = table(EXP_LEN[1], 0, 32_768).into_iter().map(|v| v as u16).collect();
    (exp_coarse[0], exp_fine[0]) = (32_767, 32_768);
    let (low, high) = (1 << 30, (1 << 31) - 1);
    Functions {
        gelu: table(FUNCTION_LEN, 0, 4095).into_iter().map(|v| v as i16).collect(),
        half_tanh: table(FUNCTION_LEN, 0, 2048).into_iter().map(|v| v as i16).collect(),
        exp_coarse,
        exp_fine,
        exp2_coarse: table(EXP2_LEN, low, high).into_iter().map(|v| v as u32).collect(),
        exp2_fine: table(EXP2_LEN, low, high).into_iter().map(|v| v as u32).collect(),
    }
}

fn gains(source: &mut Source<'_>, config: &Config) -> Gains {
    const LIMIT: i32 = 12 << 16;
    let mut table = |channels| i32s(source, config.gain_levels * channels, -LIMIT, LIMIT);
    Gains {
        gain: table(config.latent),
        inverse_gain: table(config.latent),
        hyper_gain: table(config.hyper),
        inverse_hyper_gain: table(config.hyper),
    }
}

fn thresholds(source: &mut Source<'_>) -> Vec<i32> {
    let (first, step) = (source.one_of(&[0, 450, 1 << 20]), source.one_of(&[1, 100, 1 << 20]));
    (0..SCALE_COUNT as i32 - 1).map(|i| first + i * step).collect()
}

fn cdf(source: &mut Source<'_>) -> StoredCdf {
    let bins = source.one_of(&[2_u16, 3, 5, 9]);
    let step = source.one_of(&[1, 100, 7281]);
    let last = if source.below(2) == 0 { 65_535 } else { (bins - 1) * step };
    let starts = (0..bins).map(|k| if k == bins - 1 { last } else { k * step }).collect();
    StoredCdf { min_symbol: -i32::from(bins / 2), starts }
}

fn conv(input: u32, output: u32, stride: u32) -> Op {
    let weight = vec![0.125; (input * output) as usize];
    Op::Conv2d(Conv2d { input, output, kernel: 1, stride, groups: 1, weight, bias: vec![0.0; output as usize] })
}

fn graph(input: u32, ops: Vec<Op>) -> Vec<u8> {
    let count = ops.len() as u32;
    let mut nodes = vec![Node { op: Op::Input { channels: input }, inputs: vec![] }];
    nodes.extend((0..count).zip(ops).map(|(i, op)| Node { op, inputs: vec![NodeId(i)] }));
    Graph::new(nodes, NodeId(count)).unwrap().write(Dtype::F16)
}

/// Float transforms for `g_a` and `h_a`.
pub(crate) fn float_analyses(config: &Config) -> [Vec<u8>; 2] {
    let (m, n) = (config.latent as u32, config.hyper as u32);
    [downsampling(3, m, 16), downsampling(m, n, 4)]
}

fn downsampling(input: u32, output: u32, by: u32) -> Vec<u8> {
    graph(input, vec![conv(input, output, by)])
}

/// A float transform to three channels at `by` times the size.
fn upsampling(input: u32, by: u32) -> Vec<u8> {
    graph(input, vec![conv(input, 3 * by * by, 1), Op::PixelShuffle { factor: by }])
}
