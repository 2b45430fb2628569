//! The integer synthesis in real numbers (SPEC 5.6): the float form of `g_s` of a package whose section 4 is empty.
//!
//! Each node of the graph holds what an integer node computes, neither rounded nor saturated, divided by a number of its own: its *unit*. The units
//! of `y_hat`, of the samples and of nodes after GELU follow from the real values there. All others are free, and are chosen so that identity terms
//! need no multiplication where their multipliers agree. Multipliers, shifts and units end up in weights and biases.

use std::ops::RangeInclusive;

use mlic_core::fixed::{LATENT_MAX, LATENT_ONE, PREACT_FRAC_BITS};
use mlic_core::memory::{self, OutOfMemory};

use crate::graph::{self, Conv2d, Graph, GraphError, Node, NodeId, Op};
use crate::layout::{Epilogue, NodeIndex, Source};
use crate::model::LayerView;
use crate::nodes::{self, Gdn, Layer};
use crate::parameters::Requant;
use crate::synthesis::Synthesis;

/// Factors with a relative difference of no more than this count as equal: a few roundings of binary32.
const TOLERANCE: f64 = 1.0 / 1_048_576.0;
/// Units that may be chosen: constants made with them are within binary32, for any multipliers that a trained model has.
const UNITS: RangeInclusive<f64> = 1.0 / 16_777_216.0..=16_777_216.0;
/// Samples are 0 to 1 in the graph.
const SAMPLE_UNIT: f64 = 255.0;

/// Real value of a step of latent fixed point.
pub const LATENT_STEP: f64 = 1.0 / LATENT_ONE as f64;
/// Real value of a step of pre-activation fixed point.
pub const PREACT_STEP: f64 = 1.0 / (1_u64 << PREACT_FRAC_BITS) as f64;
/// Real value of a step of Q16: gains, bits that symbols cost, logarithms.
pub const Q16_STEP: f64 = 1.0 / 65_536.0;
/// Real value of a step of samples, which are 0 to 1 in float transforms.
pub const SAMPLE_STEP: f64 = 1.0 / 255.0;

/// The graph that computes in real numbers what this synthesis computes in integers.
///
/// # Errors
/// [`GraphError::Value`] when a weight is beyond binary32, which no trained model has; [`GraphError::OutOfMemory`].
pub fn graph(synthesis: &Synthesis) -> Result<Graph, GraphError> {
    let channels = synthesis.shapes().first().map_or(0, |shape| shape.channels) as u32;
    let input = Node { op: Op::Input { channels }, inputs: Vec::new() };
    let mut maker = Maker { units: units(synthesis), nodes: vec![input], made: vec![NodeId(0)] };
    for (here, node) in (1..).map(NodeIndex).zip(synthesis.nodes()) {
        let id = match node {
            nodes::Node::Layer(layer) => maker.layer(here, layer)?,
            nodes::Node::Gdn(gdn) => maker.gdn(here, gdn)?,
        };
        maker.made.push(id);
    }
    let output = maker.made.last().copied().unwrap_or(NodeId(0));
    Graph::new(maker.nodes, output)
}

/// Converts a real number to the nearest value in latent fixed point (ties away from zero), saturated; NaN becomes 0.
#[must_use]
pub fn to_latent(v: f32) -> i32 {
    let limit = f64::from(LATENT_MAX);
    (f64::from(v) / LATENT_STEP).round().clamp(-limit, limit) as i32
}

fn power_of_two(exponent: u32) -> f64 {
    f64::from(exponent).exp2()
}

fn factor(requant: Requant) -> f64 {
    f64::from(requant.multiplier) / power_of_two(requant.shift)
}

/// The unit of a layer's sums, where its epilogue determines it.
fn sum_unit(layer: &Layer) -> Option<f64> {
    match layer.spec.epilogue {
        Epilogue::Gelu => Some(1.0 / PREACT_STEP),
        Epilogue::Pixel => Some(SAMPLE_UNIT),
        _ => None,
    }
}

/// The unit of a node, where it is not free.
fn given(node: &nodes::Node) -> Option<f64> {
    let nodes::Node::Layer(layer) = node else { return None };
    let is_gelu = layer.spec.epilogue == Epilogue::Gelu;
    sum_unit(layer).map(|unit| if is_gelu { unit * factor(layer.level.output) } else { unit })
}

/// Identity terms with one multiplier for all channels: the node that each reads, and that multiplier, shifted.
fn uniform_terms(layer: &Layer) -> impl Iterator<Item = (NodeIndex, f64)> + '_ {
    let terms = layer.spec.terms.iter().zip(&layer.level.multipliers).filter(|(term, _)| term.identity);
    terms.filter_map(|(term, multipliers)| {
        let (low, high) = (multipliers.iter().min().copied()?, multipliers.iter().max().copied()?);
        let is_uniform = low > 0 && f64::from(high - low) <= TOLERANCE * f64::from(high);
        let Source::Node(at) = term.source else { return None };
        is_uniform.then(|| (at, factor(Requant { multiplier: high, shift: layer.level.shift })))
    })
}

/// The unit of node `to` is to be `factor` times that of node `from`.
struct Relation {
    from: NodeIndex,
    to: NodeIndex,
    factor: f64,
}

/// The unit of each node.
fn units(synthesis: &Synthesis) -> Vec<f64> {
    let latent = factor(synthesis.quantizer().requant) / LATENT_STEP;
    let mut units = Units(std::iter::once(Some(latent)).chain(synthesis.nodes().iter().map(given)).collect());
    let mut relations = Vec::new();
    for (to, node) in (1..).map(NodeIndex).zip(synthesis.nodes()) {
        let nodes::Node::Layer(layer) = node else { continue };
        for (from, factor) in uniform_terms(layer) {
            match sum_unit(layer) {
                Some(sum) => {
                    units.choose(from, sum / factor);
                }
                None => relations.push(Relation { from, to, factor }),
            }
        }
    }
    loop {
        let mut is_done = true;
        for Relation { from, to, factor } in &relations {
            is_done &= !match (units.get(*from), units.get(*to)) {
                (Some(unit), None) => units.choose(*to, unit * factor),
                (None, Some(unit)) => units.choose(*from, unit / factor),
                _ => false,
            };
        }
        match units.0.iter_mut().find(|unit| unit.is_none()) {
            _ if !is_done => {}
            Some(free) => *free = Some(1.0),
            None => return units.0.into_iter().flatten().collect(),
        }
    }
}

/// Units as far as they are known.
struct Units(Vec<Option<f64>>);

impl Units {
    fn get(&self, at: NodeIndex) -> Option<f64> {
        self.0.get(at.0).copied().flatten()
    }

    /// Gives a node this unit if it has none yet and the unit is within `UNITS`; returns whether it did.
    fn choose(&mut self, at: NodeIndex, unit: f64) -> bool {
        let free = self.0.get_mut(at.0).filter(|own| own.is_none() && UNITS.contains(&unit));
        free.map(|own| *own = Some(unit)).is_some()
    }
}

struct Maker {
    /// The unit of each integer node.
    units: Vec<f64>,
    nodes: Vec<Node>,
    /// The node of the graph that stands for each integer node so far.
    made: Vec<NodeId>,
}

impl Maker {
    fn unit(&self, at: NodeIndex) -> f64 {
        self.units.get(at.0).copied().unwrap_or(1.0)
    }

    fn made(&self, at: NodeIndex) -> NodeId {
        self.made.get(at.0).copied().unwrap_or(NodeId(0))
    }

    fn add(&mut self, op: Op, inputs: Vec<NodeId>) -> NodeId {
        self.nodes.push(Node { op, inputs });
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Adds a layer: one convolution for all terms that read the same node, identity terms as they are or as a multiplication per channel, their sum,
    /// then GELU and pixel shuffle where the layer has them.
    fn layer(&mut self, here: NodeIndex, layer: &Layer) -> Result<NodeId, GraphError> {
        let view = layer.view();
        let unit = sum_unit(layer).unwrap_or_else(|| self.unit(here));
        let scale = 1.0 / (power_of_two(view.level.shift) * unit);
        let bias: Vec<f32> = view.level.bias.iter().map(|bias| (*bias as f64 * scale) as f32).collect();
        let mut bias = Some(bias).filter(|bias| bias.iter().any(|b| *b != 0.0));
        let mut parts = Vec::with_capacity(view.spec.terms.len());
        for (from, terms) in convolved(&view) {
            let op = convolution(&view, &terms, self.unit(from) * scale, bias.take())?;
            parts.push(self.add(Op::Conv2d(op), vec![self.made(from)]));
        }
        for (term, multipliers) in view.spec.terms.iter().zip(&view.level.multipliers).filter(|(term, _)| term.identity) {
            let Source::Node(from) = term.source else { continue };
            let factors = multipliers.iter().map(|m| f64::from(*m) * self.unit(from) * scale);
            let is_plain = bias.is_none() && factors.clone().all(|f| (f - 1.0).abs() <= TOLERANCE);
            let read = self.made(from);
            let op = || diagonal(factors.map(|f| f as f32).collect(), bias.take());
            parts.push(if is_plain { read } else { self.add(op(), vec![read]) });
        }
        let sum = parts.into_iter().reduce(|sum, part| self.add(Op::Add, vec![sum, part])).unwrap_or(NodeId(0));
        let sum = if view.spec.epilogue == Epilogue::Gelu { self.add(Op::Gelu, vec![sum]) } else { sum };
        Ok(if layer.shuffles() { self.add(Op::PixelShuffle { factor: 2 }, vec![sum]) } else { sum })
    }

    /// Adds a normalization; its multipliers go under the root, squared.
    fn gdn(&mut self, here: NodeIndex, gdn: &Gdn) -> Result<NodeId, GraphError> {
        let (from, channels) = (self.unit(gdn.input), gdn.channels());
        let ratio = |m: &i32| factor(Requant { multiplier: *m, shift: gdn.output_shift }) * from / self.unit(here);
        let scales = gdn.multipliers.iter().map(|m| ratio(m).powi(2) / power_of_two(gdn.shift));
        let rows = gdn.gamma.chunks_exact(channels.max(1)).zip(scales.clone());
        let gamma = rows.flat_map(|(row, scale)| row.iter().map(move |g| (f64::from(*g) * from * from * scale) as f32));
        let gamma = memory::collect(gdn.gamma.len(), gamma)?;
        let beta: Vec<f32> = gdn.beta.iter().zip(scales).map(|(beta, scale)| (*beta as f64 * scale) as f32).collect();
        let is_zero = |(row, beta): (&[f32], &f32)| *beta == 0.0 && row.iter().all(|g| *g == 0.0);
        let zeros: Vec<bool> = gamma.chunks_exact(channels.max(1)).zip(&beta).map(is_zero).collect();
        // The beta of a graph is positive: 0 becomes next to nothing, and a channel whose norm is always 0 is multiplied by 0 afterwards.
        let beta = beta.into_iter().map(|beta| beta.max(f32::MIN_POSITIVE)).collect();
        let op = Op::Gdn(graph::Gdn { channels: channels as u32, inverse: true, gamma, beta });
        let own = self.add(op, vec![self.made(gdn.input)]);
        let kept = || zeros.iter().map(|is_zero| if *is_zero { 0.0 } else { 1.0 }).collect();
        Ok(if zeros.contains(&true) { self.add(diagonal(kept(), None), vec![own]) } else { own })
    }
}

/// The nodes that a layer convolves, each with the terms that read it.
fn convolved(view: &LayerView<'_>) -> Vec<(NodeIndex, Vec<usize>)> {
    let mut all: Vec<(NodeIndex, Vec<usize>)> = Vec::new();
    for (t, term) in view.spec.terms.iter().enumerate().filter(|(_, term)| !term.identity) {
        let Source::Node(from) = term.source else { continue };
        match all.iter_mut().find(|(node, _)| *node == from) {
            Some((_, terms)) => terms.push(t),
            None => all.push((from, vec![t])),
        }
    }
    all
}

/// The sum of terms that read one node; `scale` applies to their accumulators. Their weights are `[output][row][column][channel]`, those of the
/// convolution `[output][channel][row][column]`.
fn convolution(view: &LayerView<'_>, terms: &[usize], scale: f64, bias: Option<Vec<f32>>) -> Result<Conv2d, OutOfMemory> {
    let (kernel, outputs) = (view.spec.kernel.size(), view.spec.outputs);
    let channels = terms.first().and_then(|t| view.spec.terms.get(*t)).map_or(0, |term| term.channels);
    let taps = kernel * kernel;
    let own = |o: usize| {
        let term = move |t: &usize| {
            let multiplier = view.level.multipliers.get(*t).and_then(|m| m.get(o)).copied().unwrap_or(0);
            view.weights.get(*t).map(|weights| (*weights, f64::from(multiplier) * scale))
        };
        terms.iter().filter_map(term).collect::<Vec<_>>()
    };
    let weight = (0..outputs).flat_map(|o| {
        let own = own(o);
        (0..channels * taps).map(move |i| {
            let at = (o * taps + i % taps) * channels + i / taps;
            own.iter().map(|(weights, scale)| f64::from(weights.at(at)) * scale).sum::<f64>() as f32
        })
    });
    let weight = memory::collect(outputs * channels * taps, weight)?;
    let bias = bias.unwrap_or_else(|| vec![0.0; outputs]);
    let (input, output) = (channels as u32, outputs as u32);
    Ok(Conv2d { input, output, kernel: kernel as u32, stride: 1, groups: 1, weight, bias })
}

/// A multiplication of each channel by its own weight.
fn diagonal(weight: Vec<f32>, bias: Option<Vec<f32>>) -> Op {
    let channels = weight.len() as u32;
    let bias = bias.unwrap_or_else(|| vec![0.0; weight.len()]);
    Op::Conv2d(Conv2d { input: channels, output: channels, kernel: 1, stride: 1, groups: channels, weight, bias })
}
