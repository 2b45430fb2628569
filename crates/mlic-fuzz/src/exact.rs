//! Integer transforms made from decisions, and a comparison of the fast kernels with the definition on them.

use mlic_backend::integer::with_gain;
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast::{self, Plan};
use mlic_kernels::{Map, Picture, reference};
use mlic_model::Model;
use mlic_model::analysis::{Analyses, Analysis, HyperAnalysis};
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::model::Gain;
use mlic_model::nodes::{Gdn, Layer, Node, OwnedWeights, Quantizer, RECIPROCAL, Resize};
use mlic_model::parameters::{LayerLevel, Requant};
use mlic_model::synthesis::Synthesis;

use crate::generate;
use crate::source::Source;

/// Largest number of channels for which sections are read.
const MAX_CHANNELS: usize = 4;

/// A synthesis for y with `latent` channels; `None` if its proof fails, or by decision.
pub(crate) fn synthesis(source: &mut Source<'_>, latent: usize) -> Option<Synthesis> {
    if source.below(8) == 7 {
        return None;
    }
    let quantizer = quantizer(source);
    let nodes = Maker::new(source, Resize::Shuffle, latent, quantizer.max).nodes(4, 3, Epilogue::Pixel);
    Synthesis::new(latent, quantizer, nodes).ok()
}

/// Analyses for y with `latent` and z with `hyper` channels; `None` if the proof of one fails, or by decision.
pub(crate) fn analyses(source: &mut Source<'_>, latent: usize, hyper: usize) -> Option<Analyses> {
    if source.below(8) == 7 {
        return None;
    }
    let nodes = Maker::new(source, Resize::Stride, 3, 255).nodes(4, latent, Epilogue::Latent);
    let g_a = Analysis::new(latent, nodes).ok()?;
    let quantizer = quantizer(source);
    let nodes = Maker::new(source, Resize::Stride, latent, quantizer.max).nodes(2, hyper, Epilogue::Latent);
    Some(Analyses { g_a, h_a: HyperAnalysis::new(quantizer, latent, hyper, nodes).ok()? })
}

fn quantizer(source: &mut Source<'_>) -> Quantizer {
    let (max, requant) = (generate::max(source), generate::requant(source));
    // The largest activation stands for a y of 1 to 128.
    let tame = Requant { multiplier: max, shift: 12 + source.below(8) as u32 };
    Quantizer { max, requant: if is_tame(source) { tame } else { requant } }
}

/// Whether constants are to keep values between zero and the largest, as those of trained transforms do. With arbitrary constants nearly every
/// value is zero or the largest, which hides differences in the nodes before it.
fn is_tame(source: &mut Source<'_>) -> bool {
    source.below(4) > 0
}

/// A shift that makes `worst` about 1 to 2^7 times `wanted`: typical values are far below the worst case.
fn fitting_shift(source: &mut Source<'_>, worst: i128, wanted: i32) -> u32 {
    let bits = (worst / i128::from(wanted)).max(1).ilog2();
    bits.saturating_sub(source.below(8) as u32).min(62)
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
    /// How sizes change: by a shuffle in a synthesis, by a stride in an analysis.
    resize: Resize,
    /// See [`is_tame`].
    is_tame: bool,
    nodes: Vec<Node>,
    /// The nodes that the next one may read.
    at_size: Vec<Shape>,
}

impl<'m, 's> Maker<'m, 's> {
    /// A maker for a transform whose node 0 has `channels` channels with values of at most `max`.
    fn new(source: &'m mut Source<'s>, resize: Resize, channels: usize, max: i32) -> Self {
        let is_tame = is_tame(source);
        Self { source, resize, is_tame, nodes: Vec::new(), at_size: vec![Shape { node: 0, channels, max }] }
    }

    /// Makes all nodes, with `resizes` changes of size. The last node, which in a synthesis is one of these changes, has `channels` channels and the
    /// epilogue `end`.
    fn nodes(mut self, resizes: usize, channels: usize, end: Epilogue) -> Vec<Node> {
        let ends_resized = self.is_synthesis() || self.source.below(2) == 0;
        for step in 1..=resizes {
            for _ in 0..self.source.below(3) {
                self.node();
            }
            let (channels, epilogue) = if step == resizes && ends_resized {
                (channels, end)
            } else {
                (self.source.between(1, 3), self.source.one_of(&[Epilogue::Linear, Epilogue::Gelu]))
            };
            let last = self.layer(channels, epilogue, self.resize);
            self.at_size = vec![last];
        }
        if !ends_resized {
            self.layer(channels, end, Resize::None);
        }
        self.nodes
    }

    /// Adds a node that keeps the size.
    fn node(&mut self) {
        let shape = if self.source.below(3) == 0 {
            self.normalization()
        } else {
            let channels = self.source.between(1, 4);
            let epilogue = self.source.one_of(&[Epilogue::Linear, Epilogue::Gelu]);
            self.layer(channels, epilogue, Resize::None)
        };
        self.at_size.push(shape);
    }

    fn is_synthesis(&self) -> bool {
        self.resize == Resize::Shuffle
    }

    /// The largest magnitude of the output of a node.
    fn max(&mut self) -> i32 {
        let max = generate::max(self.source);
        if self.is_tame { max.max(127) } else { max }
    }

    fn add(&mut self, node: Node, max: i32) -> Shape {
        let channels = node.channels();
        self.nodes.push(node);
        Shape { node: self.nodes.len(), channels, max }
    }

    fn layer(&mut self, channels: usize, epilogue: Epilogue, resize: Resize) -> Shape {
        let outputs = if resize == Resize::Shuffle { 4 * channels } else { channels };
        let size = self.source.one_of(&[1, 3, 5]);
        let (mut largest, mut maxima) = (1, Vec::new());
        let terms = (0..self.source.between(1, 4)).map(|_| {
            let Shape { node, channels, max } = self.source.one_of(&self.at_size);
            let identity = channels == outputs && self.source.below(2) == 0;
            largest = largest.max(i64::from(max) * (size * size * channels) as i64);
            maxima.push(i64::from(max));
            TermSpec::node(NodeIndex(node), channels, identity)
        });
        let (terms, kernel) = (terms.collect(), Kernel::Dense { size });
        let transform = if self.is_synthesis() { "exact_g_s" } else { "exact_analysis" };
        let spec = LayerSpec { name: format!("{transform}.{}", self.nodes.len() + 1), terms, kernel, outputs, epilogue };
        let (own_max, mut level) = (self.max(), generate::layer_level(self.source, &spec));
        let max = if epilogue == Epilogue::Pixel { 255 } else { own_max };
        let words = self.source.below(2) == 0;
        // Weights may be as large as an accumulator can take, rarely larger.
        let fits = if self.source.below(16) == 0 { i64::MAX } else { i64::from(i32::MAX) / largest };
        let most = fits.min(if words { 32_767 } else { 127 });
        let weights = (0..spec.terms.len()).map(|term| {
            let count = spec.weights_per_output(term) * outputs;
            let values = if self.is_tame && self.source.below(3) > 0 {
                self.source.random_integers(count, -most, most)
            } else {
                self.source.integers(count, -most, most)
            };
            if words {
                OwnedWeights::Words(values.into_iter().map(|v| v as i16).collect())
            } else {
                OwnedWeights::Bytes(values.into_iter().map(|v| v as i8).collect())
            }
        });
        let weights = weights.collect();
        if self.is_tame {
            let per_term = maxima.iter().zip(0..).map(|(max, term)| max * (most * spec.weights_per_output(term) as i64).max(1));
            level = self.tame_level(&spec, per_term.sum(), max);
        }
        self.add(Node::Layer(Layer { spec, max, level, weights, resize }), max)
    }

    /// Tame constants of a layer whose accumulators add up to at most `worst`.
    fn tame_level(&mut self, spec: &LayerSpec, worst: i64, max: i32) -> LayerLevel {
        const MULTIPLIER: i64 = 1 << 14;
        let wanted = match spec.epilogue {
            Epilogue::Gelu => 1 << 15,
            Epilogue::Latent => 1 << 20,
            _ => max,
        };
        let source = &mut *self.source;
        let shift = fitting_shift(source, i128::from(worst * MULTIPLIER), wanted);
        let bias = (i64::from(wanted) << shift) / 4;
        let multipliers =
            |source: &mut Source<'_>| source.integers(spec.outputs, MULTIPLIER / 4, MULTIPLIER).into_iter().map(|v| v as i32);
        LayerLevel {
            shift,
            multipliers: spec.terms.iter().map(|_| multipliers(source).collect()).collect(),
            bias: source.integers(spec.outputs, -bias, bias),
            output: Requant { multiplier: max, shift: 15 },
        }
    }

    fn normalization(&mut self) -> Shape {
        let Shape { node: input, channels: n, max } = self.source.one_of(&self.at_size);
        let inverse = self.is_synthesis();
        // The numerator of the division must fit into 32 bits.
        let most_multiplier = if inverse { i32::MAX } else { i32::MAX / max };
        let least_multiplier = if self.is_tame { most_multiplier / 4 } else { 0 };
        let own_max = self.max();
        let source = &mut *self.source;
        let most = (65_535 / n as i64).min(32_767);
        let beta = source.one_of(&[0, 1 << 20, 1 << 40, 1 << 61]);
        let mut gdn = Gdn {
            input: NodeIndex(input),
            inverse,
            max: own_max,
            gamma: source.integers(n * n, 0, most).into_iter().map(|v| v as i16).collect(),
            beta: source.integers(n, 0, beta),
            shift: source.below(63) as u32,
            multipliers: source
                .integers(n, least_multiplier.into(), most_multiplier.into())
                .into_iter()
                .map(|v| v as i32)
                .collect(),
            output_shift: source.below(63) as u32,
        };
        if self.is_tame {
            let (max, most_multiplier) = (i128::from(max), i128::from(most_multiplier));
            let root_bits = source.one_of(&[5, 10, 15]);
            gdn.shift = fitting_shift(source, i128::from(most) * n as i128 * max * max + i128::from(beta), 1 << (2 * root_bits));
            let factor = if inverse { 1 << root_bits } else { i128::from(RECIPROCAL) >> root_bits };
            gdn.output_shift = fitting_shift(source, max * most_multiplier * factor, own_max);
        }
        self.add(Node::Gdn(gdn), own_max)
    }
}

/// Checks on every instruction set that the samples of `y_hat`, y of the picture, and z of `y_hat` are those of the definition. Strips have
/// `strip_rows` rows of y or z, 1 to 3, and parts have `4 - strip_rows`.
pub(crate) fn compare(model: &Model, y_hat: &Map<i32>, picture: &Picture<'_>, quality: u8, strip_rows: usize) {
    let functions = &model.parameters().functions;
    let tables = fast::Tables::new(functions);
    let plan = Plan { part_rows: 4 - strip_rows, strip_rows, threads: 1 };
    let isas = || Isa::ALL.into_iter().filter(|isa| isa.is_available());
    if let Some(own) = model.exact_synthesis() {
        let latent = with_gain(model, Gain::InverseY, y_hat, quality).unwrap();
        let expected = reference::synthesis(functions, own, &latent).unwrap();
        for isa in isas() {
            let got = fast::Synthesis::new(isa, own).unwrap().run_by(&tables, &latent, plan).unwrap();
            assert!(got == expected, "samples on {} differ from the definition", isa.name());
        }
    }
    if let Some(Analyses { g_a, h_a }) = model.exact_analysis().unwrap() {
        let y = reference::analysis(functions, &g_a, picture).unwrap();
        let z = reference::hyper_analysis(functions, &h_a, y_hat).unwrap();
        for isa in isas() {
            let got = fast::Analysis::new(isa, &g_a).unwrap().run_by(&tables, picture, plan).unwrap();
            assert!(got == y, "y on {} differs from the definition", isa.name());
            let got = fast::HyperAnalysis::new(isa, &h_a).unwrap().run_by(&tables, y_hat, plan).unwrap();
            assert!(got == z, "z on {} differs from the definition", isa.name());
        }
    }
}

/// Checks that bytes that are accepted as a section are written again as they were read.
pub(crate) fn section(bytes: &[u8]) {
    for channels in 1..=MAX_CHANNELS {
        if let Ok(own) = Synthesis::read(bytes, channels) {
            assert!(own.write() == bytes, "a section is read as written");
        }
        if let Ok(own) = Analysis::read(bytes, channels) {
            assert!(own.write() == bytes, "a section of an analysis is read as written");
        }
        for hyper in 1..=MAX_CHANNELS {
            if let Ok(own) = HyperAnalysis::read(bytes, channels, hyper) {
                assert!(own.write() == bytes, "a section of a hyper analysis is read as written");
            }
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

    #[test]
    fn most_decisions_make_analyses() {
        let made = (0..1000_u64).filter_map(|seed| analyses(&mut Source::new(&seed.to_be_bytes()), 2, 3));
        let made: Vec<[Vec<Node>; 2]> = made.map(|own| [own.g_a.nodes().to_vec(), own.h_a.nodes().to_vec()]).collect();
        assert!(made.len() > 400, "{} of 1000", made.len());
        println!("{} of 1000 made", made.len());
        for of_kind in [0, 1] {
            let divide = made.iter().filter(|own| own[of_kind].iter().any(|node| matches!(node, Node::Gdn(gdn) if !gdn.inverse)));
            assert!(divide.count() > 100);
            let filtered = made.iter().filter(|own| has_filtered(&own[of_kind])).count();
            println!("{filtered} with large activations in Winograd's filtering");
            assert!(filtered > 10, "{filtered}");
        }
    }

    /// Many analyses give several values of y and z, so that a difference shows.
    #[test]
    fn analyses_are_worth_comparing() {
        let several = |map: Map<i32>| map.data.iter().collect::<std::collections::BTreeSet<_>>().len() > 10;
        let samples: Vec<u8> = (0..3 * 64 * 64).map(|i| (i * i % 251) as u8).collect();
        let picture = Picture::new(64, 64, &samples).unwrap();
        let y = Map { height: 4, width: 4, channels: 2, data: (0..32).map(|i| (i * i % 31 - 15) << 12).collect() };
        let (mut made, mut worth) = (0, [0, 0]);
        for seed in 0..200_u64 {
            let seed = seed.to_be_bytes();
            let source = &mut Source::new(&seed);
            let functions = generate::functions(source);
            let Some(Analyses { g_a, h_a }) = analyses(source, 2, 24) else { continue };
            made += 1;
            worth[0] += usize::from(several(reference::analysis(&functions, &g_a, &picture).unwrap()));
            worth[1] += usize::from(several(reference::hyper_analysis(&functions, &h_a, &y).unwrap()));
        }
        println!("{worth:?} of {made}");
        assert!(worth.into_iter().all(|worth| 5 * worth > 2 * made), "{worth:?} of {made}");
    }

    /// Whether there is a layer for Winograd's filtering that reads activations of more than 14 bits, with weights of 16 bits.
    fn has_filtered(nodes: &[Node]) -> bool {
        let max = |at: NodeIndex| match at.0.checked_sub(1).map(|at| &nodes[at]) {
            Some(Node::Layer(layer)) => layer.max,
            Some(Node::Gdn(gdn)) => gdn.max,
            None => 0,
        };
        nodes.iter().any(|node| match node {
            Node::Layer(layer) => {
                let is_dense =
                    layer.spec.kernel == Kernel::Dense { size: 3 } && !layer.spec.terms.iter().any(|term| term.identity);
                is_dense && layer.stride() == 1 && !layer.is_of_bytes() && layer.inputs().any(|at| max(at) > 1 << 13)
            }
            Node::Gdn(_) => false,
        })
    }

    /// [`section`] tries as many channels as the seeds have.
    #[test]
    fn sections_of_the_small_package_are_read() {
        let model = Model::from_bytes(crate::seeds::small_package()).unwrap();
        assert!(model.config().latent.max(model.config().hyper) <= MAX_CHANNELS);
    }
}
