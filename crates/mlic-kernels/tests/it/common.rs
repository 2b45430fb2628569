//! Helpers shared by the tests that compare the fast operators with the definition.

use mlic_kernels::Map;
use mlic_kernels::cpu::Isa;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::nodes::{Gdn, Layer, Node, OwnedWeights, Resize};
use mlic_model::parameters::{Functions, LayerLevel, Requant};

/// A generator of numbers from a seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn within(&mut self, max: i32) -> i32 {
        (self.next() % (2 * max as u64 + 1)) as i32 - max
    }
}

/// Which values a test uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fill {
    Random,
    Zero,
    Most,
    Least,
    Alternating,
}

pub(crate) const FILLS: [Fill; 5] = [Fill::Random, Fill::Zero, Fill::Most, Fill::Least, Fill::Alternating];

pub(crate) fn value(fill: Fill, rng: &mut Rng, max: i32, i: usize) -> i32 {
    match fill {
        Fill::Random => rng.within(max),
        Fill::Zero => 0,
        Fill::Most => max,
        Fill::Least => -max,
        Fill::Alternating => {
            if i.is_multiple_of(2) {
                max
            } else {
                -max
            }
        }
    }
}

pub(crate) fn map(fill: Fill, rng: &mut Rng, height: usize, width: usize, channels: usize, max: i32) -> Map<i16> {
    let data = (0..height * width * channels).map(|i| value(fill, rng, max, i) as i16).collect();
    Map { height, width, channels, data }
}

/// Nodes of an integer transform that are being made, with the channels of each.
pub(crate) struct Maker<'a> {
    rng: &'a mut Rng,
    fill: Fill,
    /// Largest magnitude of weights of 16 bits.
    most: i32,
    pub(crate) nodes: Vec<Node>,
    pub(crate) channels: Vec<usize>,
}

impl<'a> Maker<'a> {
    /// Begins a transform whose node 0 has `channels` channels.
    pub(crate) fn new(rng: &'a mut Rng, fill: Fill, most: i32, channels: usize) -> Self {
        Self { rng, fill, most, nodes: Vec::new(), channels: vec![channels] }
    }

    /// Adds a layer that reads these nodes (`true`: as identity terms), with weights of 16 bits or of a byte, and returns the number of its node.
    pub(crate) fn layer(
        &mut self,
        inputs: &[(usize, bool)],
        size: usize,
        outputs: usize,
        epilogue: Epilogue,
        resize: Resize,
    ) -> usize {
        let Self { rng, fill, most, channels, .. } = self;
        let terms = inputs.iter().map(|(at, identity)| TermSpec::node(NodeIndex(*at), channels[*at], *identity)).collect();
        let spec = LayerSpec { name: "layer".into(), terms, kernel: Kernel::Dense { size }, outputs, epilogue };
        let wide = rng.next().is_multiple_of(2);
        let weights = (0..inputs.len()).map(|t| {
            let count = 0..spec.weights_per_output(t) * outputs;
            if wide {
                OwnedWeights::Words(count.map(|i| value(*fill, rng, *most, i) as i16).collect())
            } else {
                OwnedWeights::Bytes(count.map(|i| value(*fill, rng, 127, i) as i8).collect())
            }
        });
        let weights: Vec<OwnedWeights> = weights.collect();
        let level = LayerLevel {
            shift: 20,
            multipliers: inputs.iter().map(|_| (0..outputs).map(|_| rng.next() as i32 & 0x1fff).collect()).collect(),
            bias: (0..outputs).map(|_| i64::from(rng.within(1 << 29))).collect(),
            output: Requant { multiplier: 1_234_567_890, shift: 34 },
        };
        let max = if epilogue == Epilogue::Pixel { 255 } else { 2047 };
        self.add(Node::Layer(Layer { spec, max, level, weights, resize }))
    }

    /// Adds a normalization or its inverse, and returns the number of its node.
    pub(crate) fn gdn(&mut self, input: usize, inverse: bool) -> usize {
        let (n, rng) = (self.channels[input], &mut *self.rng);
        let gdn = Gdn {
            input: NodeIndex(input),
            inverse,
            max: 3000,
            gamma: (0..n * n).map(|i| value(self.fill, rng, 65_535 / n as i32 / 2, i).abs() as i16).collect(),
            // Zeros, so that roots may be 0 too.
            beta: (0..n).map(|_| if rng.next().is_multiple_of(3) { 0 } else { (rng.next() as i64) << 8 }).collect(),
            shift: (rng.next() % 12) as u32,
            multipliers: (0..n).map(|_| if inverse { rng.next() as i32 >> 1 } else { (rng.next() % (1 << 20)) as i32 }).collect(),
            output_shift: if inverse { 30 } else { 28 + (rng.next() % 12) as u32 },
        };
        self.add(Node::Gdn(gdn))
    }

    fn add(&mut self, node: Node) -> usize {
        self.channels.push(node.channels());
        self.nodes.push(node);
        self.channels.len() - 1
    }
}

/// Tables that only need to be valid; the functions' accuracy is tested where the tables are made.
pub(crate) fn functions() -> Functions {
    let falling = |i: usize, top: u32, by: u32| top.saturating_sub(by * i as u32);
    Functions {
        gelu: (0..513).map(|i| (2000 - (i - 60_i32).abs() * 7).max(0) as i16).collect(),
        half_tanh: (0..513).map(|i| (i * 4) as i16).collect(),
        exp_coarse: (0..256).map(|i| falling(i, 32_767, 130) as u16).collect(),
        exp_fine: (0..64).map(|i| falling(i, 32_768, 31) as u16).collect(),
        exp2_coarse: (0..256).map(|i| (1 << 30) + (i << 20)).collect(),
        exp2_fine: (0..256).map(|i| (1 << 30) + (i << 8)).collect(),
    }
}

pub(crate) fn isas() -> Vec<Isa> {
    let required = std::env::var("MLIC_REQUIRE").unwrap_or_default();
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        assert!(!required.split(',').any(|name| name.trim() == isa.name()), "{} is required and not available", isa.name());
        eprintln!("not run: {} is not available", isa.name());
    }
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

#[track_caller]
pub(crate) fn assert_same<T: PartialEq + std::fmt::Debug>(isa: Isa, fast: &Map<T>, reference: &Map<T>) {
    assert_eq!((fast.height, fast.width, fast.channels), (reference.height, reference.width, reference.channels));
    if let Some(i) = fast.data.iter().zip(&reference.data).position(|(a, b)| a != b) {
        let (at, c) = (i / fast.channels, i % fast.channels);
        let (row, col) = (at / fast.width, at % fast.width);
        panic!("{}: row {row} col {col} channel {c}: {:?}, reference {:?}", isa.name(), fast.data[i], reference.data[i]);
    }
}
