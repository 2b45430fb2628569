//! The integer synthesis in real numbers against its definition (SPEC 5.6, 5.7): both are computed one number at a time, for syntheses made from
//! fixed decisions. This is not a fuzz target, because in some syntheses the least rounding of a weight decides everything after it.

use mlic_backend::contract::Random;
use mlic_model::graph::{self, Graph, GraphError, Op};
use mlic_model::layout::{Epilogue, Source, TermSpec};
use mlic_model::nodes::{Layer, Node, OwnedWeights, Quantizer};
use mlic_model::parameters::Requant;
use mlic_model::synthesis::Synthesis;

use crate::exact::synthesis;

/// Rows and columns of y: every kernel reaches beyond both sides.
const SIDES: [usize; 2] = [1, 2];
/// Values above this say nothing: no sample can come from them, and sums with them have lost everything else.
const LARGEST: f64 = 1e12;
/// Largest difference of a sample, where the nominal range is 0 to 1; relative to the largest sample if that is above 1.
const TOLERANCE: f64 = 1e-4;
/// Typical size of the values in a tame synthesis.
const SIZE: f64 = 200.0;

/// Values `[channel][row][column]`.
#[derive(Clone)]
struct Planes {
    channels: usize,
    sides: [usize; 2],
    values: Vec<f64>,
}

impl Planes {
    fn of(channels: usize, sides: [usize; 2], value: impl Fn(usize, usize, usize) -> f64) -> Self {
        let [height, width] = sides;
        let at = |i: usize| value(i / (height * width), i / width % height, i % width);
        Self { channels, sides, values: (0..channels * height * width).map(at).collect() }
    }

    /// The value at `[row, column]` plus `by` minus `half`; 0 outside.
    fn at(&self, channel: usize, [row, column]: [usize; 2], by: [usize; 2], half: usize) -> f64 {
        let [height, width] = self.sides;
        let (row, column) = ((row + by[0]).wrapping_sub(half), (column + by[1]).wrapping_sub(half));
        if row < height && column < width { self.values[(channel * height + row) * width + column] } else { 0.0 }
    }

    fn each(&self, value: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.iter().map(|v| value(*v)).collect(), ..*self }
    }

    fn shuffled(&self) -> Self {
        let [height, width] = self.sides;
        Self::of(self.channels / 4, [2 * height, 2 * width], |c, row, column| {
            self.at(4 * c + 2 * (row % 2) + column % 2, [row / 2, column / 2], [0, 0], 0)
        })
    }

    fn inverse_norm(&self, norm: impl Fn(usize, usize) -> f64, beta: impl Fn(usize) -> f64) -> Self {
        Self::of(self.channels, self.sides, |c, row, column| {
            let x = |i: usize| self.at(i, [row, column], [0, 0], 0);
            let sum: f64 = (0..self.channels).map(|i| norm(c, i) * x(i).powi(2)).sum();
            x(c) * (sum + beta(c)).sqrt()
        })
    }

    fn largest(&self) -> f64 {
        self.values.iter().fold(0.0, |largest: f64, v| if v.is_nan() { f64::INFINITY } else { largest.max(v.abs()) })
    }
}

/// GELU by its series, and far from 0 by its limit.
fn gelu(x: f64) -> f64 {
    let t = x / std::f64::consts::SQRT_2;
    if t.abs() > 5.0 {
        return x.max(0.0);
    }
    let (mut term, mut sum) = (t, t);
    for n in 1..120 {
        term *= -t * t / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    x * (0.5 + sum / std::f64::consts::PI.sqrt())
}

fn factor(requant: Requant) -> f64 {
    f64::from(requant.multiplier) / f64::from(requant.shift).exp2()
}

/// SPEC 5.7 without rounding and saturation, for a latent in real numbers; samples are 0 to 1. `None` if a value is too large.
fn defined(own: &Synthesis, latent: &Planes) -> Option<Planes> {
    let mut made = vec![latent.each(|y| y * 4096.0 * factor(own.quantizer().requant))];
    for node in own.nodes() {
        let next = match node {
            Node::Layer(layer) => defined_layer(layer, &made),
            Node::Gdn(gdn) => {
                let (read, scale) = (&made[gdn.input.0], f64::from(gdn.shift).exp2());
                let gamma = |c: usize, i: usize| f64::from(gdn.gamma[c * read.channels + i]) / scale;
                let out = read.inverse_norm(gamma, |c| gdn.beta[c] as f64 / scale);
                let of = |c: usize| factor(Requant { multiplier: gdn.multipliers[c], shift: gdn.output_shift });
                Planes::of(out.channels, out.sides, |c, row, column| out.at(c, [row, column], [0, 0], 0) * of(c))
            }
        };
        if next.largest() > LARGEST {
            return None;
        }
        made.push(next);
    }
    made.pop().map(|samples| samples.each(|v| v / 255.0))
}

fn defined_layer(layer: &Layer, made: &[Planes]) -> Planes {
    let view = layer.view();
    let (spec, level, k) = (view.spec, view.level, view.spec.kernel.size());
    let read = |term: usize| match spec.terms[term].source {
        Source::Node(at) => &made[at.0],
        _ => panic!("terms read nodes"),
    };
    let v = Planes::of(spec.outputs, read(0).sides, |o, row, column| {
        let accumulator = |term: usize| {
            let x = read(term);
            if spec.terms[term].identity {
                return x.at(o, [row, column], [0, 0], 0);
            }
            let taps = (0..k * k * x.channels).map(|i| {
                let (tap, channel) = (i / x.channels, i % x.channels);
                let weight = view.weights[term].at(o * k * k * x.channels + i);
                f64::from(weight) * x.at(channel, [row, column], [tap / k, tap % k], k / 2)
            });
            taps.sum()
        };
        let terms = (0..spec.terms.len()).map(|term| accumulator(term) * f64::from(level.multipliers[term][o]));
        (terms.sum::<f64>() + level.bias[o] as f64) / f64::from(level.shift).exp2()
    });
    let v = match spec.epilogue {
        Epilogue::Gelu => v.each(|v| gelu(v / 16_384.0) * 16_384.0 * factor(level.output)),
        _ => v,
    };
    if layer.shuffles() { v.shuffled() } else { v }
}

/// Computes a graph by SPEC 5.6.
fn computed(graph: &Graph, latent: &Planes) -> Planes {
    let mut made: Vec<Planes> = Vec::new();
    for node in graph.nodes() {
        let operand = |i: usize| &made[node.inputs[i].0 as usize];
        let next = match &node.op {
            Op::Input { .. } => latent.clone(),
            Op::Conv2d(conv) => convolved(conv, operand(0)),
            Op::Gdn(gdn) => {
                let (x, n) = (operand(0), gdn.channels as usize);
                x.inverse_norm(|c, i| gdn.gamma[c * n + i].into(), |c| gdn.beta[c].into())
            }
            Op::Gelu => operand(0).each(gelu),
            Op::PixelShuffle { factor: 2 } => operand(0).shuffled(),
            Op::Add => {
                let (a, b) = (operand(0), operand(1));
                Planes { values: a.values.iter().zip(&b.values).map(|(a, b)| a + b).collect(), ..*a }
            }
            other => panic!("{other:?} has no place in a synthesis"),
        };
        made.push(next);
    }
    made.swap_remove(graph.output().0 as usize)
}

fn convolved(conv: &graph::Conv2d, x: &Planes) -> Planes {
    let (k, per_output) = (conv.kernel as usize, (conv.input / conv.groups) as usize);
    Planes::of(conv.output as usize, x.sides, |o, row, column| {
        let group = o / (conv.output / conv.groups) as usize;
        let taps = (0..per_output * k * k).map(|i| {
            let (channel, tap) = (group * per_output + i / (k * k), i % (k * k));
            f64::from(conv.weight[o * per_output * k * k + i]) * x.at(channel, [row, column], [tap / k, tap % k], k / 2)
        });
        taps.sum::<f64>() + f64::from(conv.bias[o])
    })
}

/// Checks that a synthesis in real numbers agrees with its definition; returns whether there was anything to compare.
fn compare(own: &Synthesis) -> bool {
    let graph = match mlic_model::real::graph(own) {
        Ok(graph) => graph,
        // A value is beyond binary32.
        Err(GraphError::Value { .. }) => return false,
        Err(other) => panic!("{other}"),
    };
    let scale = graph.scale();
    assert_eq!((graph.output_channels(), scale.numerator, scale.denominator), (3, 16, 1));
    let channels = own.shapes()[0].channels;
    let latent = Planes::of(channels, SIDES, |c, row, column| ((7 * c + 5 * row + 3 * column) % 11) as f64 / 2.0 - 2.5);
    let Some(want) = defined(own, &latent) else { return false };
    let got = computed(&graph, &latent);
    let allowed = TOLERANCE * want.largest().max(1.0);
    let wrong = got.values.iter().zip(&want.values).position(|(got, want)| (got - want).abs() > allowed || got.is_nan());
    if let Some(i) = wrong {
        panic!("value {i} in real numbers is {}, not {}; the largest is {}", got.values[i], want.values[i], want.largest());
    }
    want.largest() > 0.0
}

/// The same nodes with multipliers and shifts that give every node values of some hundreds, as in a trained synthesis.
fn tamed(own: &Synthesis, random: &mut Random) -> Synthesis {
    let quantizer = Quantizer { max: own.quantizer().max, requant: Requant { multiplier: 3000, shift: 18 } };
    let mut sizes = vec![100.0];
    let mut nodes = own.nodes().to_vec();
    for node in &mut nodes {
        let size = match node {
            Node::Layer(layer) => tame_layer(layer, &sizes, random),
            Node::Gdn(gdn) => {
                let size: f64 = sizes[gdn.input.0];
                let beta = gdn.beta.iter().copied().max().unwrap_or(0) as f64;
                let norm = beta + gdn.gamma.iter().map(|g| f64::from(*g)).sum::<f64>() * size * size;
                gdn.shift = (norm / 1e6).max(1.0).log2() as u32;
                gdn.output_shift = (size * 1e3 * 1500.0 / SIZE).max(1.0).log2() as u32;
                gdn.multipliers.iter_mut().for_each(|m| *m = 1000 + random.below(1000) as i32);
                SIZE
            }
        };
        sizes.push(size);
    }
    Synthesis::new(own.shapes()[0].channels, quantizer, nodes).unwrap()
}

fn tame_layer(layer: &mut Layer, sizes: &[f64], random: &mut Random) -> f64 {
    let (outputs, epilogue) = (layer.spec.outputs, layer.spec.epilogue);
    let term = |(term, weights): (&TermSpec, &OwnedWeights)| {
        let Source::Node(at) = term.source else { panic!("terms read nodes") };
        let squares: f64 = weights.view().iter().map(|w| f64::from(w).powi(2)).sum();
        sizes[at.0] * if term.identity { 1.0 } else { (squares / outputs as f64).sqrt() }
    };
    let typical: f64 = layer.spec.terms.iter().zip(&layer.weights).map(term).sum();
    let wanted = if epilogue == Epilogue::Gelu { 32_768.0 } else { SIZE };
    let shift = (typical * 4096.0 / wanted).max(1.0).log2() as u32;
    // A sum of identity terms only, with equal multipliers, is a plain sum in real numbers.
    let is_uniform = random.below(2) == 0;
    let level = &mut layer.level;
    for (term, multipliers) in layer.spec.terms.iter().zip(&mut level.multipliers) {
        let alike = 2048 + random.below(4096) as i32;
        let own = |_| if term.identity && is_uniform { alike } else { 2048 + random.below(4096) as i32 };
        *multipliers = (0..outputs).map(own).collect();
    }
    let bias = ((wanted / 4.0) as i32).max(1);
    let is_sum = is_uniform && layer.spec.terms.iter().all(|term| term.identity);
    level.bias = (0..outputs).map(|_| if is_sum { 0 } else { i64::from(random.within(bias)) << shift }).collect();
    level.shift = shift;
    level.output = Requant { multiplier: 3000 + random.below(3000) as i32, shift: 19 };
    SIZE
}

fn syntheses() -> impl Iterator<Item = Synthesis> {
    (0..2000_u64).filter_map(|seed| synthesis(&mut crate::source::Source::new(&seed.to_be_bytes()), 2))
}

#[test]
fn wild_syntheses_are_themselves_in_real_numbers() {
    let compared = syntheses().filter(compare).count();
    println!("{compared} compared");
    assert!(compared > 200, "{compared}");
}

#[test]
fn tame_syntheses_are_themselves_in_real_numbers() {
    let mut random = Random(1);
    let (made, compared) = syntheses()
        .map(|own| tamed(&own, &mut random))
        .fold((0, 0), |(made, compared), own| (made + 1, compared + usize::from(compare(&own))));
    println!("{compared} of {made} compared");
    assert!(compared > 500 && compared * 10 > made * 9, "{compared} of {made}");
}
