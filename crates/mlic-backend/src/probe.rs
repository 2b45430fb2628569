//! Variants of packages, for tests. A package gets integer analyses that it was not trained for and that mean nothing: with every kind of node and
//! both widths of weights, from a seed, in integer arithmetic.

use mlic_model::analysis::{Analysis, HyperAnalysis};
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::nodes::{Gdn, Layer, Node, OwnedWeights, Quantizer, Resize};
use mlic_model::package::{self, SectionKind};
use mlic_model::parameters::{LayerLevel, Requant};
use mlic_model::{Model, ModelError};

use crate::contract::Random;

/// Channels between input and output.
const WIDTH: usize = 7;
/// Largest magnitude of the activations.
const MAX: i32 = 2000;

/// Returns the package of a model with integer analyses instead of its own. The model id stays the same.
///
/// # Errors
/// [`ModelError`] when the model's shape leaves no room for such weights.
pub fn with_integer_analysis(model: &Model) -> Result<Vec<u8>, ModelError> {
    let (latent, hyper) = (model.config().latent, model.config().hyper);
    let (g_a, h_a) = (g_a(latent)?.write(), h_a(latent, hyper)?.write());
    with_sections(model, &[(SectionKind::Analysis, g_a), (SectionKind::HyperAnalysis, h_a)])
}

/// Returns the package of a model without its float synthesis, so that float pixels come from the integer synthesis in real numbers. The model id changes.
///
/// # Errors
/// None, with a model that was loaded.
pub fn with_one_synthesis(model: &Model) -> Result<Vec<u8>, ModelError> {
    with_sections(model, &[(SectionKind::Synthesis, Vec::new())])
}

/// Returns the package of a model with the sections in `others` instead of its own.
fn with_sections(model: &Model, others: &[(SectionKind, Vec<u8>)]) -> Result<Vec<u8>, ModelError> {
    let sections = package::parse(model.as_bytes())?;
    let section = |(kind, range): (SectionKind, std::ops::Range<usize>)| {
        let own = || model.as_bytes().get(range).unwrap_or_default().to_vec();
        (kind, others.iter().find(|(other, _)| *other == kind).map_or_else(own, |(_, bytes)| bytes.clone()))
    };
    Ok(package::write(&sections.sections().map(section).collect::<Vec<_>>()))
}

fn g_a(latent: usize) -> Result<Analysis, ModelError> {
    let mut maker = Maker { random: Random(5), nodes: Vec::new(), channels: vec![3] };
    let first = maker.layer(&[(0, false)], 3, WIDTH, Epilogue::Gelu, 2);
    let conv = maker.layer(&[(first, false)], 3, WIDTH, Epilogue::Linear, 1);
    let normalized = maker.gdn(conv);
    let skip = maker.layer(&[(0, false)], 1, WIDTH, Epilogue::Linear, 2);
    let sum = maker.layer(&[(normalized, true), (skip, true)], 1, WIDTH, Epilogue::Linear, 1);
    let down = maker.layer(&[(sum, false)], 5, 2 * WIDTH, Epilogue::Gelu, 2);
    let both = maker.layer(&[(down, true), (down, false)], 3, 2 * WIDTH, Epilogue::Gelu, 2);
    maker.layer(&[(both, false)], 3, latent, Epilogue::Latent, 2);
    Analysis::new(latent, maker.nodes)
}

fn h_a(latent: usize, hyper: usize) -> Result<HyperAnalysis, ModelError> {
    let mut maker = Maker { random: Random(6), nodes: Vec::new(), channels: vec![latent] };
    let first = maker.layer(&[(0, false)], 3, WIDTH, Epilogue::Gelu, 2);
    let inner = maker.layer(&[(first, false)], 1, WIDTH, Epilogue::Linear, 1);
    maker.layer(&[(inner, false)], 3, hyper, Epilogue::Latent, 2);
    let quantizer = Quantizer { max: MAX, requant: Requant { multiplier: 1 << 10, shift: 15 } };
    HyperAnalysis::new(quantizer, latent, hyper, maker.nodes)
}

struct Maker {
    random: Random,
    nodes: Vec<Node>,
    /// Channels of each node.
    channels: Vec<usize>,
}

impl Maker {
    /// Adds a layer that reads these nodes (true: as identity), with weights of 16 and of 8 bits in turn, and returns its number.
    fn layer(&mut self, inputs: &[(usize, bool)], size: usize, outputs: usize, epilogue: Epilogue, stride: usize) -> usize {
        let term = |(at, identity): &(usize, bool)| {
            TermSpec::node(NodeIndex(*at), self.channels.get(*at).copied().unwrap_or(0), *identity)
        };
        let terms: Vec<TermSpec> = inputs.iter().map(term).collect();
        let spec = LayerSpec { name: "probe".into(), terms, kernel: Kernel::Dense { size }, outputs, epilogue };
        let words = self.nodes.len().is_multiple_of(2);
        let weights = (0..inputs.len()).map(|term| {
            let count = 0..spec.weights_per_output(term) * outputs;
            match words {
                true => OwnedWeights::Words(count.map(|_| self.random.within(300) as i16).collect()),
                false => OwnedWeights::Bytes(count.map(|_| self.random.within(127) as i8).collect()),
            }
        });
        let weights = weights.collect();
        // Sums of typical inputs fill the output range of the layer.
        let products = spec.terms.iter().zip(0..).map(|(_, term)| spec.weights_per_output(term)).max().unwrap_or(1).max(1);
        let typical = 150 * 400 * (products as u64).isqrt().max(1);
        let unit: u64 = match epilogue {
            Epilogue::Gelu => 1 << 15,
            Epilogue::Latent => 3 << 12,
            _ => 800,
        };
        let multiplier = if inputs.iter().all(|(_, identity)| *identity) { 1 << 19 } else { ((unit << 20) / typical) as i32 };
        let level = LayerLevel {
            shift: 20,
            multipliers: inputs
                .iter()
                .map(|_| (0..outputs).map(|_| multiplier + self.random.within(multiplier / 2)).collect())
                .collect(),
            bias: (0..outputs).map(|_| i64::from(self.random.within(1 << 28))).collect(),
            output: Requant { multiplier: 1 << 20, shift: 25 },
        };
        let resize = if stride == 2 { Resize::Stride } else { Resize::None };
        self.add(Node::Layer(Layer { spec, max: MAX, level, weights, resize }))
    }

    fn gdn(&mut self, input: usize) -> usize {
        let gdn = Gdn {
            input: NodeIndex(input),
            inverse: false,
            max: MAX,
            gamma: (0..WIDTH * WIDTH).map(|_| self.random.below(9000) as i16).collect(),
            beta: (0..WIDTH).map(|_| i64::from(self.random.below(1 << 30))).collect(),
            shift: 4,
            multipliers: (0..WIDTH).map(|_| 1 + self.random.below(1 << 20) as i32).collect(),
            output_shift: 36,
        };
        self.add(Node::Gdn(gdn))
    }

    fn add(&mut self, node: Node) -> usize {
        self.channels.push(node.channels());
        self.nodes.push(node);
        self.nodes.len()
    }
}
