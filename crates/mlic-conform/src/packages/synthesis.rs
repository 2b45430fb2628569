//! The exact synthesis of the adversarial packages (SPEC 2.9): few channels, every kernel, epilogue and width of weights, one to four terms,
//! both sides of every limit. Drawn from a seed of its own, so that nothing else of a package depends on it.

use mlic_backend::contract::Random;
use mlic_core::fixed::isqrt;
use mlic_model::ModelError;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, Source, TermSpec};
use mlic_model::nodes::{Gdn, Layer, MAX_BETA, MAX_GAMMA_SUM, Node, OwnedWeights, Quantizer, Resize};
use mlic_model::parameters::{LayerLevel, Requant};
use mlic_model::synthesis::Synthesis;

use super::{Probe, SPREADS, Spread, after_gelu, ties};

/// A node to be made.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Layer(LayerPlan),
    /// After the shift, the largest sum of squares has `square_bits` bits.
    Normalization {
        input: usize,
        max: i32,
        more_bits: i32,
        square_bits: u32,
    },
}

/// A layer to be made.
#[derive(Debug, Clone, Copy)]
struct LayerPlan {
    size: usize,
    epilogue: Epilogue,
    resize: Resize,
    width: Width,
    outputs: usize,
    /// Numbers of the input nodes; true for an identity term.
    terms: &'static [(usize, bool)],
    max: i32,
    /// Bits of shift beyond those that bring typical sums to the largest value; if negative, the layer does not shift.
    more_bits: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Byte,
    Word,
}

use Epilogue::{Gelu, Linear, Pixel};
use Width::{Byte, Word};

const fn layer(
    (size, epilogue, width): (usize, Epilogue, Width),
    outputs: usize,
    terms: &'static [(usize, bool)],
    max: i32,
    more_bits: i32,
) -> Plan {
    Plan::Layer(LayerPlan { size, epilogue, resize: Resize::None, width, outputs, terms, max, more_bits })
}

const fn shuffled(
    (size, epilogue, width): (usize, Epilogue, Width),
    outputs: usize,
    terms: &'static [(usize, bool)],
    max: i32,
    more_bits: i32,
) -> Plan {
    Plan::Layer(LayerPlan { size, epilogue, resize: Resize::Shuffle, width, outputs, terms, max, more_bits })
}

const CASES: &[Plan] = &[
    layer((3, Gelu, Byte), 8, &[(0, false)], 500, 2),
    layer((5, Linear, Word), 8, &[(1, false), (0, false)], 8191, 5),
    layer((1, Linear, Byte), 8, &[(2, true), (1, true)], 2000, 2),
    Plan::Normalization { input: 3, max: 3000, more_bits: 6, square_bits: 35 },
    shuffled((3, Gelu, Word), 8, &[(4, false), (3, true)], 127, 3),
    shuffled((1, Linear, Byte), 8, &[(5, false)], 2047, 1),
    Plan::Normalization { input: 6, max: 1000, more_bits: 1, square_bits: 35 },
    layer((3, Gelu, Byte), 2, &[(7, false), (6, true)], 4000, 3),
    shuffled((1, Gelu, Byte), 8, &[(8, false)], 300, 5),
    shuffled((3, Pixel, Byte), 12, &[(9, false)], 255, 3),
];

const SCALES: &[Plan] = &[
    shuffled((1, Linear, Word), 8, &[(0, false)], 127, 3),
    Plan::Normalization { input: 1, max: 32_767, more_bits: 1, square_bits: 35 },
    shuffled((5, Gelu, Byte), 8, &[(2, false), (1, false), (2, false), (1, false)], 900, 2),
    shuffled((1, Linear, Byte), 4, &[(3, false), (3, false), (3, false)], 32_767, 2),
    shuffled((5, Pixel, Word), 12, &[(4, false)], 255, 6),
];

const FIXED: &[Plan] = &[
    shuffled((3, Linear, Byte), 16, &[(0, false)], 32_767, 4),
    layer((1, Linear, Word), 4, &[(1, true)], 1, 3),
    // Roots of small numbers: where rounding a sum makes it a square, the picture shows it.
    Plan::Normalization { input: 1, max: 32_767, more_bits: 20, square_bits: 9 },
    shuffled((1, Linear, Word), 4, &[(3, false), (2, false)], 500, 8),
    shuffled((1, Gelu, Word), 4, &[(4, false)], 2000, -1),
    shuffled((3, Linear, Word), 12, &[(5, false)], 8191, 5),
    layer((1, Pixel, Byte), 3, &[(6, true)], 255, 4),
];

const TIES: &[Plan] = &[
    shuffled((3, Gelu, Byte), 16, &[(0, false)], 32_767, 3),
    // Halves what is behind GELU.
    layer((1, Gelu, Byte), 8, &[(1, false)], 32_767, 2),
    shuffled((3, Linear, Word), 16, &[(2, false), (1, false)], 8191, 4),
    Plan::Normalization { input: 3, max: 32_767, more_bits: 3, square_bits: 31 },
    shuffled((1, Linear, Byte), 8, &[(4, false)], 8191, 2),
    shuffled((3, Pixel, Word), 12, &[(5, false)], 255, 4),
];

/// Makes the synthesis of a package.
///
/// # Errors
/// [`ModelError`] when the plan breaks a rule, which is a defect of this file.
pub(super) fn synthesis(probe: Probe) -> Result<Synthesis, ModelError> {
    let latent = probe.config().latent;
    // From 2^19, 2^26 and 2^27 on the quantizer saturates.
    let (plans, max, reach) = match probe {
        Probe::Cases => (CASES, 1000, 19),
        Probe::Scales => (SCALES, 8191, 26),
        Probe::Fixed => (FIXED, 127, 27),
        // The largest latent becomes half of the largest activation.
        Probe::Ties => (TIES, 8191, 28),
    };
    let mut maker = Maker { probe, random: Random(probe as u64 + 101), nodes: Vec::new(), shapes: vec![(latent, max)] };
    plans.iter().for_each(|plan| maker.add(*plan));
    let quantizer = Quantizer { max, requant: Requant { multiplier: 2 * max + 1, shift: reach + 1 } };
    Synthesis::new(latent, quantizer, maker.nodes)
}

struct Maker {
    probe: Probe,
    random: Random,
    nodes: Vec<Node>,
    /// Channels and largest magnitude of each node, the quantizer first.
    shapes: Vec<(usize, i32)>,
}

/// Magnitudes of the sums of an output: a typical and the largest one of each term.
struct Sums {
    typical: Vec<i64>,
    worst: Vec<i64>,
}

impl Maker {
    fn add(&mut self, plan: Plan) {
        let (node, max) = match plan {
            Plan::Normalization { input, max, more_bits, square_bits } => {
                (Node::Gdn(self.normalization(input, max, more_bits, square_bits)), max)
            }
            Plan::Layer(plan) => (Node::Layer(self.layer(plan)), plan.max),
        };
        self.shapes.push((node.channels(), max));
        self.nodes.push(node);
    }

    fn layer(&mut self, plan: LayerPlan) -> Layer {
        let LayerPlan { size, epilogue, resize, width, outputs, terms, max, more_bits } = plan;
        let index = self.nodes.len();
        let term = |(node, identity): &(usize, bool)| TermSpec::node(NodeIndex(*node), self.shapes[*node].0, *identity);
        let terms: Vec<TermSpec> = terms.iter().map(term).collect();
        let name = format!("exact_g_s.{}", index + 1);
        let spec = LayerSpec { name, terms, kernel: Kernel::Dense { size }, outputs, epilogue };
        let mut sums: Vec<Sums> = (0..outputs).map(|_| Sums { typical: Vec::new(), worst: Vec::new() }).collect();
        let weights = (0..spec.terms.len()).map(|term| self.weights(&spec, term, width, &mut sums)).collect();
        let level = self.level(index, &spec, max.into(), more_bits, &sums);
        Layer { spec, max, level, weights, resize }
    }

    /// Draws the weights of one term; both ends of their range occur as often as 32 bits of accumulator allow.
    fn weights(&mut self, spec: &LayerSpec, term: usize, width: Width, sums: &mut [Sums]) -> OwnedWeights {
        let max = match spec.terms[term].source {
            Source::Node(node) => i64::from(self.shapes[node.0].1),
            _ => 1,
        };
        let (count, identity) = (spec.weights_per_output(term), spec.terms[term].identity);
        let mut all = Vec::with_capacity(count * spec.outputs);
        for sums in sums {
            let mut left = i64::from(i32::MAX) / max;
            let own: Vec<i64> = (0..count).map(|_| self.weight(width, &mut left)).collect();
            let squares: i64 = own.iter().map(|w| w * w).sum();
            let magnitude: i64 = own.iter().map(|w| w.abs()).sum::<i64>() + i64::from(identity);
            sums.typical.push((max * (isqrt(squares as u64) as i64 + i64::from(identity)) / 2).max(1));
            sums.worst.push(max * magnitude);
            all.extend(own);
        }
        match width {
            Byte => OwnedWeights::Bytes(all.into_iter().map(|w| w as i8).collect()),
            Word => OwnedWeights::Words(all.into_iter().map(|w| w as i16).collect()),
        }
    }

    fn weight(&mut self, width: Width, left: &mut i64) -> i64 {
        let (end, usual) = if width == Byte { (127, 40) } else { (32_767, 700) };
        let weight = match self.random.below(12) {
            0 => end,
            1 => -end,
            _ => self.random.within(usual),
        };
        let weight = i64::from(weight);
        if weight.abs() > *left {
            return 0;
        }
        *left -= weight.abs();
        weight
    }

    fn level(&mut self, index: usize, spec: &LayerSpec, max: i64, more_bits: i32, sums: &[Sums]) -> LayerLevel {
        let terms = spec.terms.len();
        let unit = if spec.epilogue == Gelu { 1 << 17 } else { max };
        let largest = sums.iter().flat_map(|sums| &sums.typical).copied().max().unwrap_or(1);
        let bits = (largest / unit).max(1).ilog2();
        let shift = u32::try_from(more_bits).map_or(0, |more| bits + more);
        let mut multipliers = vec![vec![0; spec.outputs]; terms];
        let mut bias = vec![0; spec.outputs];
        for (output, bias) in bias.iter_mut().enumerate() {
            match self.spread(index, spec, output) {
                Spread::Never => {}
                Spread::Always(sign) => *bias = sign * (1 << 33 << shift.min(20)),
                Spread::Exactly(sum) => *bias = sum << shift,
                Spread::Sixteenths(spread) => {
                    let target = i128::from((unit * spread / 16).min(1 << 45)) << shift;
                    for (term, multipliers) in multipliers.iter_mut().enumerate() {
                        let (typical, worst) = (sums[output].typical[term], sums[output].worst[term].max(1));
                        let cap = i128::from(i32::MAX).min((1_i128 << 61) / (terms as i128 * i128::from(worst)));
                        multipliers[output] = (target / i128::from(typical)).clamp(1, cap) as i32;
                    }
                    // Samples lie around the middle of their range.
                    let middle = if spec.epilogue == Pixel { 128 } else { 0 };
                    *bias = (middle << shift) + ((i64::from(self.random.within(64)) * unit / 256) << shift);
                }
            }
        }
        let output = match (spec.epilogue, self.probe) {
            (Gelu, Probe::Ties) => ties::after_gelu(max, index == 1),
            (Gelu, _) => after_gelu(max, index + index / 4),
            _ => Requant { multiplier: 0, shift: 0 },
        };
        LayerLevel { shift, multipliers, bias, output }
    }

    fn spread(&self, index: usize, spec: &LayerSpec, output: usize) -> Spread {
        match (self.probe, spec.epilogue) {
            (Probe::Ties, Gelu) => ties::function_argument(output),
            (Probe::Ties, _) => Spread::Sixteenths([14, 8][output % 2]),
            _ => SPREADS[(output + index) % SPREADS.len()],
        }
    }

    /// Makes a normalization: sums of gammas up to the largest, arguments of the square root from 0 to beyond the largest, and outputs likewise.
    fn normalization(&mut self, input: usize, max: i32, more_bits: i32, square_bits: u32) -> Gdn {
        let (channels, from) = self.shapes[input];
        let from = i64::from(from);
        let largest = MAX_GAMMA_SUM * from * from;
        // With 35 bits the largest sums are well beyond the largest argument of the square root.
        let shift = (largest.ilog2() + 1).saturating_sub(square_bits);
        let mut gamma = Vec::with_capacity(channels * channels);
        let (mut beta, mut multipliers) = (Vec::new(), Vec::new());
        let half_product = ((from / 2).max(1) * 46_340).ilog2();
        let output_shift = (half_product.saturating_sub(max.ilog2()) as i32 + more_bits).clamp(0, 62) as u32;
        for channel in 0..channels {
            let sum = [MAX_GAMMA_SUM, 0, 3000, 40][channel % 4];
            let mut left = sum;
            for other in 0..channels {
                let share = if other + 1 == channels { left } else { i64::from(self.random.below(left as u32 + 1)) };
                let own = share.min(i16::MAX.into());
                left -= own;
                gamma.push(own as i16);
            }
            let add = match channel {
                5 | 7 => 0,
                _ => [0, i64::from(self.random.below(1 << 20)) << shift, 1, MAX_BETA][channel % 4],
            };
            beta.push(add);
            let typical = (sum * from * from / 4 + add) >> shift;
            let root = isqrt(typical.min(i32::MAX.into()) as u64).max(1) as i64;
            let spread = [14, 64, 30, 1][(channel + input) % 4];
            let target = i128::from(i64::from(max) * spread / 16) << output_shift;
            multipliers.push((target / i128::from((from / 2).max(1) * root)).clamp(1, i32::MAX.into()) as i32);
        }
        Gdn { input: NodeIndex(input), inverse: true, max, gamma, beta, shift, multipliers, output_shift }
    }
}
