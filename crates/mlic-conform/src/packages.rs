//! Model packages of the adversarial suites, each generated from a seed in integer arithmetic: the same bytes on every machine.
//!
//! No picture was ever coded with them. Multipliers are drawn so that in every layer some outputs saturate, some sweep the function tables and
//! some stay small, and shifts so that sums come to lie half-way between two integers. Thresholds and tables hold what no trained model has.
//! Nothing in these packages breaks SPEC 2 or 4.9.

mod synthesis;
mod ties;

use std::collections::BTreeSet;

use mlic_backend::contract::Random;
use mlic_core::fixed::{LATENT_MAX, isqrt};
use mlic_core::limits::MAX_SYMBOL;
use mlic_model::config::Config;
use mlic_model::graph::{Conv2d, Dtype, Graph, Node, NodeId, Op};
use mlic_model::layout::{Epilogue, LayerSpec, Layout};
use mlic_model::model::{Metadata, Parts};
use mlic_model::parameters::{
    EXP_LEN, EXP2_LEN, FUNCTION_LEN, Functions, Gains, LayerLevel, LayerParameters, LinearAttentionLevel,
    LinearAttentionParameters, LocalAttentionParameters, NormParameters, Parameters, QuantizerParameters, Requant, SCALE_COUNT,
    StoredCdf,
};
use mlic_model::proof::{LOGIT_MAX, source_max};
use mlic_model::{Model, ModelError};

use crate::error::ConformError;
use crate::store::Store;

/// A package that a suite makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Variable rate, three latent slices: everything that depends on data.
    Cases,
    /// One latent slice of 64 channels whose scales are constants: at, below and above every threshold.
    Scales,
    /// Fixed rate, the widest window, function tables without any shape, nearly everything skipped.
    Fixed,
    /// What saturation and rounding hide in the others: ties, ends of tables, limits that later ones cover.
    Ties,
}

/// An existing package, whose function tables have the shape of the functions.
const SHAPED: &str = "models/tiny.mlicpkg";

impl Probe {
    /// All packages.
    pub const ALL: [Self; 4] = [Self::Cases, Self::Scales, Self::Fixed, Self::Ties];

    /// Path within the conformance data.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Cases => "models/edge-cases.mlicpkg",
            Self::Scales => "models/edge-cases-scales.mlicpkg",
            Self::Fixed => "models/edge-cases-fixed.mlicpkg",
            Self::Ties => "models/edge-cases-ties.mlicpkg",
        }
    }

    /// Returns the package with this path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|probe| probe.path() == path)
    }

    /// Name of the model.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cases => "edge-cases",
            Self::Scales => "edge-cases-scales",
            Self::Fixed => "edge-cases-fixed",
            Self::Ties => "edge-cases-ties",
        }
    }

    /// Configuration of the model.
    #[must_use]
    pub fn config(self) -> Config {
        match self {
            Self::Cases => Config {
                latent: 12,
                hyper: 16,
                slices: 3,
                window: 5,
                heads: 2,
                inter_head_channels: 2,
                ep_hidden: vec![9, 7],
                lrp_hidden: vec![vec![7, 6], vec![7], vec![6, 5]],
                cc_hidden: vec![7],
                hs_hidden: [6, 7],
                gain_levels: 5,
                scale_levels: 6,
                quality_steps: 200,
                skip_below: 2,
            },
            Self::Scales => Config {
                latent: 64,
                hyper: 4,
                slices: 1,
                window: 3,
                heads: 4,
                inter_head_channels: 64,
                ep_hidden: vec![4],
                lrp_hidden: vec![vec![4]],
                cc_hidden: vec![4],
                hs_hidden: [4, 4],
                gain_levels: 2,
                scale_levels: 3,
                quality_steps: 255,
                skip_below: 0,
            },
            Self::Fixed => Config {
                latent: 4,
                hyper: 2,
                slices: 2,
                window: 7,
                heads: 1,
                inter_head_channels: 1,
                ep_hidden: vec![3],
                lrp_hidden: vec![vec![2], vec![3, 2]],
                cc_hidden: vec![2],
                hs_hidden: [3, 2],
                gain_levels: 0,
                scale_levels: 1,
                quality_steps: 0,
                skip_below: 63,
            },
            // A norm of 66 channels: with fewer than 65, none saturates.
            Self::Ties => Config {
                latent: 66,
                hyper: 4,
                slices: 2,
                window: 3,
                heads: 3,
                inter_head_channels: 3,
                ep_hidden: vec![16],
                lrp_hidden: vec![vec![8], vec![8]],
                cc_hidden: vec![8],
                hs_hidden: [8, 8],
                gain_levels: 2,
                scale_levels: 4,
                quality_steps: 3,
                skip_below: 1,
            },
        }
    }

    /// Makes the parts of the package.
    ///
    /// # Errors
    /// [`ConformError`] when the package whose function tables are taken cannot be read.
    pub fn parts(self, store: &Store) -> Result<Parts, ConformError> {
        let exact_synthesis = Some(synthesis::synthesis(self)?);
        Ok(Parts { exact_synthesis, ..self.parts_with(store, self.config())? })
    }

    /// Makes, in the same way, the parts of a package of another configuration, without an exact synthesis.
    ///
    /// # Errors
    /// As [`Self::parts`].
    pub fn parts_with(self, store: &Store, config: Config) -> Result<Parts, ConformError> {
        let mut random = Random(self as u64 + 1);
        let functions = match self {
            Self::Fixed => shapeless(&mut random),
            _ => Model::from_bytes(store.read(SHAPED)?.into_owned())?.parameters().functions.clone(),
        };
        let layout = Layout::new(&config);
        let mut maker = Maker { probe: self, config: &config, layout: &layout, random, weights: Vec::new() };
        let parameters = maker.parameters(functions);
        let weights = maker.weights;
        // No transform has zero channels; a decoder need not read h_a, so a package without channels of z is refused for its configuration alone.
        let [analysis, hyper_analysis, synthesis] = transforms(config.latent as u32, config.hyper.max(1) as u32)?;
        let metadata = Metadata { name: self.name().to_owned(), ..Metadata::default() };
        Ok(Parts { config, parameters, weights, synthesis, analysis, hyper_analysis, exact_synthesis: None, metadata })
    }

    /// Makes the bytes of the package.
    ///
    /// # Errors
    /// As [`Self::parts`].
    pub fn package(self, store: &Store) -> Result<Vec<u8>, ConformError> {
        Ok(self.parts(store)?.to_package()?)
    }
}

/// Function tables with arbitrary values that SPEC 2.7 allows.
fn shapeless(random: &mut Random) -> Functions {
    let mut up_to = |count: usize, limit: u32| (0..count).map(|_| random.below(limit + 1)).collect::<Vec<u32>>();
    let i16s = |values: Vec<u32>| values.into_iter().map(|v| v as i16).collect();
    let from = |first: u16, values: Vec<u32>| std::iter::once(first).chain(values.into_iter().map(|v| v as u16)).collect();
    let mut exp_fine: Vec<u16> = from(32_768, up_to(EXP_LEN[1] - 1, 32_768));
    // With these fine entries, every odd coarse entry gives a tie.
    exp_fine.iter_mut().skip(2).step_by(5).for_each(|entry| *entry = 16_384);
    let q30 = |values: Vec<u32>| values.into_iter().map(|v| (1 << 30) + v).collect();
    Functions {
        gelu: i16s(up_to(FUNCTION_LEN, 4095)),
        half_tanh: i16s(up_to(FUNCTION_LEN, 2048)),
        exp_coarse: from(32_767, up_to(EXP_LEN[0] - 1, 32_767)),
        exp_fine,
        exp2_coarse: q30(up_to(EXP2_LEN, (1 << 30) - 1)),
        exp2_fine: q30(up_to(EXP2_LEN, (1 << 30) - 1)),
    }
}

/// Float transforms g_a, h_a and g_s of the right shapes; no picture of these packages means anything.
fn transforms(latent: u32, hyper: u32) -> Result<[Vec<u8>; 3], ConformError> {
    let conv = |input: u32, output: u32, stride: u32, from: u32| {
        let (weight, bias) = (vec![0.25; (output * input) as usize], vec![0.5; output as usize]);
        Node { op: Op::Conv2d(Conv2d { input, output, kernel: 1, stride, groups: 1, weight, bias }), inputs: vec![NodeId(from)] }
    };
    let double = |channels: u32, from: u32| {
        let shuffle = Node { op: Op::PixelShuffle { factor: 2 }, inputs: vec![NodeId(from + 1)] };
        [conv(channels, 12, 1, from), shuffle]
    };
    let graph = |channels: u32, nodes: Vec<Node>| {
        let input = Node { op: Op::Input { channels }, inputs: Vec::new() };
        let nodes: Vec<Node> = std::iter::once(input).chain(nodes).collect();
        let output = NodeId(nodes.len() as u32 - 1);
        let problem = |source| ConformError::Model(ModelError::Graph { name: "probe", source });
        Graph::new(nodes, output).map(|graph| graph.write(Dtype::F16)).map_err(problem)
    };
    Ok([
        graph(3, vec![conv(3, latent, 16, 0)])?,
        graph(latent, vec![conv(latent, hyper, 4, 0)])?,
        graph(latent, [double(latent, 0), double(3, 2), double(3, 4), double(3, 6)].into_iter().flatten().collect())?,
    ])
}

/// How large the outputs of one channel of a layer become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// A multiple of the layer's unit, in 1/16.
    Sixteenths(i64),
    /// Beyond every limit, always of this sign.
    Always(i64),
    /// This sum, whatever the inputs.
    Exactly(i64),
    /// Zero.
    Never,
}

const SPREADS: [Spread; 7] = [
    Spread::Sixteenths(14),
    Spread::Sixteenths(64),
    Spread::Always(1),
    Spread::Sixteenths(1),
    Spread::Sixteenths(30),
    Spread::Always(-1),
    Spread::Sixteenths(1 << 18),
];

struct Maker<'a> {
    probe: Probe,
    config: &'a Config,
    layout: &'a Layout,
    random: Random,
    weights: Vec<i8>,
}

/// Magnitudes of a layer's sums: for each term and output, a typical and the largest one.
struct Sums {
    typical: Vec<Vec<i64>>,
    worst: Vec<Vec<i64>>,
}

impl Maker<'_> {
    fn levels<T>(&mut self, mut make: impl FnMut(&mut Self, usize) -> T) -> Vec<T> {
        (0..self.config.scale_levels).map(|level| make(self, level)).collect()
    }

    fn parameters(&mut self, functions: Functions) -> Parameters {
        let mut parameters = Parameters {
            layers: Vec::new(),
            quantizers: (0..=self.config.slices).map(|i| self.quantizer(i)).collect(),
            norms: self.layout.norms.iter().map(|_| self.norm()).collect(),
            linear_attentions: self.layout.linear_attentions.iter().map(|_| self.linear_attention()).collect(),
            local_attentions: (0..self.config.slices).map(|_| self.local_attention()).collect(),
            functions,
            gains: self.gains(),
            thresholds: self.thresholds(),
            y_cdfs: (0..SCALE_COUNT).map(|i| self.table(i)).collect(),
            z_cdfs: (0..self.config.hyper).map(|i| self.table(i)).collect(),
            medians: (0..self.config.hyper).map(|i| self.median(i)).collect(),
        };
        if self.probe == Probe::Ties {
            ties::adjust(&mut parameters, &mut self.random);
        }
        for (index, spec) in self.layout.layers.iter().enumerate() {
            let inputs: Vec<i32> = spec.terms.iter().map(|t| source_max(&parameters, self.layout, t.source)).collect();
            let layer = self.layer(index, spec, &inputs);
            parameters.layers.push(layer);
        }
        parameters
    }

    /// Makes a quantizer. Latents of 2^27 become the largest activation at the first level, and ever smaller ones do at the others.
    fn quantizer(&mut self, index: usize) -> QuantizerParameters {
        let max = [8191, 127, 4000, 1000][index % 4];
        let levels = self.levels(|_, level| {
            let reach = 27 - 3 * (level as u32 % 6);
            Requant { multiplier: 2 * max + 1, shift: reach + 1 }
        });
        QuantizerParameters { max, levels }
    }

    fn norm(&mut self) -> NormParameters {
        NormParameters { epsilon: self.levels(|maker, level| 1 << (maker.random.below(8) as usize + 8 * (level % 2))) }
    }

    fn linear_attention(&mut self) -> LinearAttentionParameters {
        // An activation difference of 1 becomes an exponent of 1, 16, 0 or 5/16.
        let exponent = |kind: usize| [(1, 0), (16, 0), (0, 3), (5, 4)][kind % 4];
        let requant = |(multiplier, shift)| Requant { multiplier, shift };
        let levels = self.levels(|maker, level| LinearAttentionLevel {
            query: requant(exponent(level)),
            key: requant(exponent(level + maker.random.below(3) as usize)),
            output: requant([(1, 12), (9, 10), (1, 14)][level % 3]),
        });
        LinearAttentionParameters { max: 3000, levels }
    }

    fn local_attention(&mut self) -> LocalAttentionParameters {
        let count = self.config.heads * (2 * self.config.window - 1).pow(2);
        let one = |maker: &mut Self, i: usize| match i % 23 {
            // The second head has no bias: with equal logits all weights of a window are equal, and their sum is above one.
            _ if i >= count / 2 => 0,
            5 => LOGIT_MAX,
            11 => -LOGIT_MAX,
            _ => maker.random.within(3000),
        };
        let bias = (0..count).map(|i| one(self, i)).collect();
        let levels = self.levels(|_, level| {
            let (multiplier, shift) = [(1, 12), (0, 1), (64, 0), (3, 9)][level % 4];
            Requant { multiplier, shift }
        });
        LocalAttentionParameters { bias, levels }
    }

    fn gains(&mut self) -> Gains {
        let limit = 12 << 16;
        let mut draw = |count: usize| {
            let one = |i: usize| match i % 11 {
                3 => limit,
                7 => -limit,
                // A gain of 1/2: a tie for every odd number.
                5 => -1 << 16,
                _ => self.random.within(limit),
            };
            (0..count).map(one).collect::<Vec<i32>>()
        };
        let (y, z) = (self.config.gain_levels * self.config.latent, self.config.gain_levels * self.config.hyper);
        Gains { gain: draw(y), inverse_gain: draw(y), hyper_gain: draw(z), inverse_hyper_gain: draw(z) }
    }

    /// Six thresholds to the octave; for the scales that are constants also adjacent ones, zero, and values just below the largest.
    fn thresholds(&self) -> Vec<i32> {
        let smooth = |i: usize| ((1 << 9) * (6 + i as i32 % 6) / 6) << (i / 6);
        let mut thresholds: Vec<i32> = (0..SCALE_COUNT - 1).map(smooth).collect();
        if self.probe == Probe::Scales {
            thresholds.splice(0..4, [0, 1, 2, 5]);
            thresholds.splice(SCALE_COUNT - 4.., [LATENT_MAX - 9, LATENT_MAX - 2, LATENT_MAX - 1]);
        }
        thresholds
    }

    /// Tables with few and with many symbols, at both ends of the range, with symbols of one slot and of all slots but one.
    fn table(&mut self, index: usize) -> StoredCdf {
        let all = self.probe == Probe::Scales;
        let bins = match index {
            63 if all => 65_535,
            61 if all => 3000,
            _ if self.probe == Probe::Fixed => 2 + index % 3,
            _ if all => [6, 5, 9, 17, 40, 130, 4, 33][index % 8],
            _ => [2, 3, 5, 9, 17, 40, 130, 2][index % 8],
        };
        let starts: Vec<u16> = match (index, bins) {
            (_, 65_535) => (0..65_535).collect(),
            (0 | 40, 2) => vec![0, 65_535],
            (8 | 48, 2) => vec![0, 1],
            _ => self.starts(bins),
        };
        let middle = -(bins as i32 / 2 - 1).max(0);
        let min_symbol = match index % 16 {
            _ if bins == 65_535 => -MAX_SYMBOL,
            _ if index >= 48 => middle,
            3 => -MAX_SYMBOL,
            5 => MAX_SYMBOL - (bins as i32 - 2),
            9 => 1,
            11 => -2 - (bins as i32 - 2),
            _ => middle,
        };
        StoredCdf { min_symbol, starts }
    }

    fn starts(&mut self, bins: usize) -> Vec<u16> {
        let mut starts = BTreeSet::from([0]);
        while starts.len() < bins {
            // Crowded at one end: many bins share a bucket of the lookup, others have several buckets.
            let reach = [0x1_0000, 0x100, 0x2000][self.random.below(3) as usize];
            starts.insert(self.random.below(reach) as u16);
        }
        starts.into_iter().collect()
    }

    fn median(&mut self, index: usize) -> i32 {
        match index {
            1 => LATENT_MAX,
            2 => -LATENT_MAX,
            4 => 0,
            5 => 1,
            _ => self.random.within(1 << (4 + index as u32 % 12)),
        }
    }

    fn layer(&mut self, index: usize, spec: &LayerSpec, inputs: &[i32]) -> LayerParameters {
        let max = match spec.name.rsplit('.').next() {
            Some("queries" | "keys" | "fusion") if self.probe == Probe::Ties => ties::MAX,
            _ if self.probe == Probe::Ties => i16::MAX.into(),
            Some("values") => 8191,
            Some("fusion") => 1000,
            _ => [127, 8191, 500, 2000][index % 4],
        };
        let sums = self.draw_weights(spec, inputs);
        let levels = self.levels(|maker, level| maker.layer_level(index, spec, i64::from(max), level, &sums));
        LayerParameters { max, levels }
    }

    fn draw_weights(&mut self, spec: &LayerSpec, inputs: &[i32]) -> Sums {
        let mut sums = Sums { typical: Vec::new(), worst: Vec::new() };
        for (term, max) in inputs.iter().enumerate() {
            let (max, count) = (i64::from(*max), spec.weights_per_output(term));
            let (mut typical, mut worst) = (Vec::new(), Vec::new());
            for output in 0..spec.outputs {
                let given = ties::weights(spec, output).filter(|_| self.probe == Probe::Ties);
                let own: Vec<i8> = given.map_or_else(|| (0..count).map(|_| self.weight(count)).collect(), Vec::from);
                let squares: i64 = own.iter().map(|w| i64::from(*w).pow(2)).sum();
                let magnitude: i64 = own.iter().map(|w| i64::from(w.unsigned_abs())).sum();
                let identity = i64::from(count == 0);
                typical.push((max * isqrt(squares as u64) as i64 / 2).max(max * identity / 2).max(1));
                worst.push((max * magnitude).max(max * identity));
                self.weights.extend(own);
            }
            sums.typical.push(typical);
            sums.worst.push(worst);
        }
        sums
    }

    /// Draws a weight. Most are zero where an output has many; both ends of the range occur.
    fn weight(&mut self, count: usize) -> i8 {
        if count > 100 && self.random.below(16) != 0 {
            return 0;
        }
        match self.random.below(12) {
            0 => 127,
            1 => -127,
            _ => self.random.within(40) as i8,
        }
    }

    /// Magnitude of an output of spread 1, before the epilogue.
    const fn unit(epilogue: Epilogue, max: i64, output: usize, outputs: usize) -> i64 {
        match epilogue {
            Epilogue::Linear | Epilogue::Pixel => max,
            Epilogue::Gelu | Epilogue::HalfTanh => 1 << 17,
            // First the scales, over all thresholds; then the means.
            Epilogue::Latent if 2 * output < outputs => 1 << (9 + 3 * (output % 4)),
            Epilogue::Latent => 1 << 16,
        }
    }

    fn layer_level(&mut self, index: usize, spec: &LayerSpec, max: i64, level: usize, sums: &Sums) -> LayerLevel {
        let (terms, is_ties) = (spec.terms.len(), self.probe == Probe::Ties);
        let none = Requant { multiplier: 0, shift: 0 };
        if let Some(shift) = ties::depthwise_shift(spec, level).filter(|_| is_ties) {
            let multipliers = vec![vec![1; spec.outputs]; terms];
            return LayerLevel { shift, multipliers, bias: vec![0; spec.outputs], output: none };
        }
        let unit = Self::unit(spec.epilogue, max, 0, spec.outputs);
        let largest = sums.typical.iter().flatten().copied().max().unwrap_or(1);
        // Just enough bits for the multipliers, so that many sums lie half-way; more at other levels.
        let shift = if level % 6 == 4 && index % 7 == 3 {
            0
        } else {
            ((largest / unit).max(1).ilog2() + [2, 5, 11, 3, 1, 20][level % 6]).min(40)
        };
        let mut multipliers = vec![vec![0; spec.outputs]; terms];
        let mut bias = vec![0; spec.outputs];
        for (output, bias) in bias.iter_mut().enumerate() {
            let unit = Self::unit(spec.epilogue, max, output, spec.outputs);
            if let Some(constant) = self.constant_scale(spec, level, output) {
                // Half-way below the scale: rounds up to it.
                *bias = (i64::from(constant) << shift) - if shift > 0 { 1 << (shift - 1) } else { 0 };
                continue;
            }
            match self.spread(index, spec, level, output) {
                Spread::Never => {}
                Spread::Always(sign) => *bias = sign * (1 << 33 << shift.min(20)).min(1 << 60),
                Spread::Exactly(sum) => *bias = sum << shift,
                Spread::Sixteenths(spread) => {
                    let target = i128::from((unit * spread / 16).min(1 << 45)) << shift;
                    for (term, multipliers) in multipliers.iter_mut().enumerate() {
                        let (typical, worst) = (sums.typical[term][output], sums.worst[term][output].max(1));
                        let cap = i128::from(i32::MAX).min((1_i128 << 61) / (terms as i128 * i128::from(worst)));
                        multipliers[output] = (target / i128::from(typical)).clamp(1, cap) as i32;
                    }
                    let offset = self.random.within(64);
                    *bias = (i64::from(offset) * unit / 256) << shift.min(24);
                }
            }
        }
        let output = match spec.epilogue {
            Epilogue::Gelu if is_ties => ties::after_gelu(max, level == 2),
            Epilogue::Gelu => after_gelu(max, level),
            _ => none,
        };
        LayerLevel { shift, multipliers, bias, output }
    }

    /// Spread of an output. One channel of 128 that differs from all others is more than 8 standard deviations from the mean: the norm saturates.
    fn spread(&self, index: usize, spec: &LayerSpec, level: usize, output: usize) -> Spread {
        let own = match (self.probe, level, output) {
            (Probe::Ties, ..) => ties::spread(spec, level, output),
            (Probe::Scales, 0 | 1, _) if !spec.name.ends_with("fusion") => None,
            (Probe::Scales, 0, 3) => Some(Spread::Always(1)),
            (Probe::Scales, 1, 3) => Some(Spread::Always(-1)),
            (Probe::Scales, 0 | 1, _) => Some(Spread::Never),
            _ => None,
        };
        own.unwrap_or(SPREADS[(output + index + level) % SPREADS.len()])
    }

    /// Constant scales at, below and above every threshold: one for each scale output of the two halves and of the levels; none for other outputs.
    fn constant_scale(&mut self, spec: &LayerSpec, level: usize, output: usize) -> Option<i32> {
        let scales = self.config.slice_channels();
        if self.probe != Probe::Scales || spec.epilogue != Epilogue::Latent || output >= scales {
            return None;
        }
        let half = usize::from(spec.name.contains("nonanchor"));
        let number = (2 * level + half) * scales + output;
        let thresholds = self.thresholds();
        Some(match thresholds.get(number / 3) {
            Some(threshold) => threshold + number as i32 % 3 - 1,
            None => thresholds[self.random.below(63) as usize] + 1,
        })
    }
}

/// Requantization after GELU: a value of 8.0, 1/64, 2.0 or 256.0 becomes the largest activation, by `level % 4`.
const fn after_gelu(max: i64, level: usize) -> Requant {
    let (multiplier, shift) = match level % 4 {
        0 => (max << 8, 25),
        1 => (max << 12, 20),
        2 => (max, 15),
        _ => (max << 3, 25),
    };
    Requant { multiplier: multiplier as i32, shift }
}
