//! Integer syntheses made of decisions, and the fast one against the definition.

use mlic_kernels::cpu::Isa;
use mlic_kernels::fast::{self, Plan};
use mlic_kernels::{Map, reference};
use mlic_model::Model;
use mlic_model::analysis::{Analysis, HyperAnalysis};
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::model::Gain;
use mlic_model::nodes::{Gdn, Layer, Node, OwnedWeights, Quantizer, Resize};
use mlic_model::synthesis::Synthesis;

use crate::generate;
use crate::source::Source;

/// A synthesis for y of so many channels; none where its proof fails, or by decision.
pub(crate) fn synthesis(source: &mut Source<'_>, latent: usize) -> Option<Synthesis> {
    if source.below(8) == 7 {
        return None;
    }
    let quantizer = Quantizer { max: generate::max(source), requant: generate::requant(source) };
    let first = Shape { node: 0, channels: latent, max: quantizer.max };
    let mut maker = Maker { source, nodes: Vec::new(), at_size: vec![first] };
    // Four times twice the size; the last layer gives samples.
    for step in 0..4 {
        for _ in 0..maker.source.below(3) {
            maker.node();
        }
        let channels = if step == 3 { 3 } else { maker.source.between(1, 3) };
        let epilogue = if step == 3 { Epilogue::Pixel } else { maker.source.one_of(&[Epilogue::Linear, Epilogue::Gelu]) };
        let last = maker.layer(4 * channels, epilogue, true);
        maker.at_size = vec![last];
    }
    Synthesis::new(latent, quantizer, maker.nodes).ok()
}

/// A node that others may read.
#[derive(Clone, Copy)]
struct Shape {
    node: usize,
    channels: usize,
    max: i32,
}

struct Maker<'m, 's> {
    source: &'m mut Source<'s>,
    nodes: Vec<Node>,
    /// The nodes that the next one may read.
    at_size: Vec<Shape>,
}

impl Maker<'_, '_> {
    /// A node that changes no size.
    fn node(&mut self) {
        let shape = if self.source.below(3) == 0 {
            self.normalization()
        } else {
            let channels = self.source.between(1, 4);
            let epilogue = self.source.one_of(&[Epilogue::Linear, Epilogue::Gelu]);
            self.layer(channels, epilogue, false)
        };
        self.at_size.push(shape);
    }

    fn add(&mut self, node: Node, max: i32) -> Shape {
        let channels = node.channels();
        self.nodes.push(node);
        Shape { node: self.nodes.len(), channels, max }
    }

    fn layer(&mut self, outputs: usize, epilogue: Epilogue, shuffle: bool) -> Shape {
        let size = self.source.one_of(&[1, 3, 5]);
        let mut largest = 1;
        let terms = (0..self.source.between(1, 4)).map(|_| {
            let Shape { node, channels, max } = self.source.one_of(&self.at_size);
            let identity = channels == outputs && self.source.below(2) == 0;
            largest = largest.max(i64::from(max) * (size * size * channels) as i64);
            TermSpec::node(NodeIndex(node), channels, identity)
        });
        let (terms, kernel) = (terms.collect(), Kernel::Dense { size });
        let spec = LayerSpec { name: format!("exact_g_s.{}", self.nodes.len() + 1), terms, kernel, outputs, epilogue };
        let (own_max, level) = (generate::max(self.source), generate::layer_level(self.source, &spec));
        let max = if epilogue == Epilogue::Pixel { 255 } else { own_max };
        let words = self.source.below(2) == 0;
        // As large as an accumulator takes; seldom larger.
        let fits = if self.source.below(16) == 0 { i64::MAX } else { i64::from(i32::MAX) / largest };
        let most = fits.min(if words { 32_767 } else { 127 });
        let weights = (0..spec.terms.len()).map(|term| {
            let values = self.source.integers(spec.weights_per_output(term) * outputs, -most, most);
            if words {
                OwnedWeights::Words(values.into_iter().map(|v| v as i16).collect())
            } else {
                OwnedWeights::Bytes(values.into_iter().map(|v| v as i8).collect())
            }
        });
        let weights = weights.collect();
        let resize = if shuffle { Resize::Shuffle } else { Resize::None };
        self.add(Node::Layer(Layer { spec, max, level, weights, resize }), max)
    }

    fn normalization(&mut self) -> Shape {
        let Shape { node: input, channels: n, .. } = self.source.one_of(&self.at_size);
        let source = &mut *self.source;
        let most = (65_535 / n as i64).min(32_767);
        let beta = source.one_of(&[0, 1 << 20, 1 << 40, 1 << 61]);
        let gdn = Gdn {
            input: NodeIndex(input),
            inverse: true,
            max: generate::max(source),
            gamma: source.integers(n * n, 0, most).into_iter().map(|v| v as i16).collect(),
            beta: source.integers(n, 0, beta),
            shift: source.below(63) as u32,
            multipliers: source.integers(n, 0, i32::MAX.into()).into_iter().map(|v| v as i32).collect(),
            output_shift: source.below(63) as u32,
        };
        let max = gdn.max;
        self.add(Node::Gdn(gdn), max)
    }
}

/// The samples of every instruction set, in strips of so many rows of y, 1 to 3, and parts of as many as are missing to 4, are those of the definition.
pub(crate) fn compare(model: &Model, y_hat: &Map<i32>, quality: u8, strip_rows: usize) {
    let Some(own) = model.exact_synthesis() else { return };
    let latent = Map { data: model.with_gain(Gain::InverseY, &y_hat.data, quality).unwrap(), ..*y_hat };
    let functions = &model.parameters().functions;
    let (tables, expected) = (fast::Tables::new(functions), reference::synthesis(functions, own, &latent).unwrap());
    let plan = Plan { part_rows: 4 - strip_rows, strip_rows, threads: 1 };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let got = fast::Synthesis::new(isa, own).unwrap().run_by(&tables, &latent, plan).unwrap();
        assert!(got == expected, "samples on {} differ from the definition", isa.name());
    }
}

/// Bytes that are accepted as a section are what is written for what was read.
pub(crate) fn section(bytes: &[u8]) {
    for latent in 1..=3 {
        if let Ok(own) = Synthesis::read(bytes, latent) {
            assert!(own.write() == bytes, "a section is read as written");
        }
        if let Ok(own) = Analysis::read(bytes, latent) {
            assert!(own.write() == bytes, "a section of an analysis is read as written");
        }
        if let Ok(own) = HyperAnalysis::read(bytes, 3, latent) {
            assert!(own.write() == bytes, "a section of a hyper analysis is read as written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_decisions_make_a_synthesis() {
        let made = (0..200_u64).filter(|seed| synthesis(&mut Source::new(&seed.to_be_bytes()), 2).is_some()).count();
        assert!(made > 80, "{made} of 200");
    }
}
