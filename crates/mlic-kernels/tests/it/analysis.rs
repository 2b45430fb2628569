//! The integer analysis in strips gives the latents of the definition, whatever the height of a strip, for every instruction set of this machine.

use crate::common::{FILLS, Fill, Rng, assert_same, functions, isas, node_layer, value};
use mlic_kernels::fast::{self, Plan};
use mlic_kernels::{Map, Picture, reference};
use mlic_model::analysis::{Analysis, Input};
use mlic_model::layout::{Epilogue, NodeIndex};
use mlic_model::nodes::{Gdn, Layer, Node, Quantizer, Resize};
use mlic_model::parameters::Requant;
use proptest::prelude::*;

/// Nodes that are being made, with the channels of each.
struct Maker<'a> {
    rng: &'a mut Rng,
    fill: Fill,
    nodes: Vec<Node>,
    channels: Vec<usize>,
}

impl Maker<'_> {
    /// Adds a layer that reads these nodes (true: as identity) and returns its number.
    fn layer(&mut self, inputs: &[(usize, bool)], size: usize, outputs: usize, epilogue: Epilogue, stride: usize) -> usize {
        let layer = node_layer(self.fill, self.rng, &self.channels, inputs, [size, outputs], epilogue, 700);
        self.add(Node::Layer(Layer { resize: if stride == 2 { Resize::Stride } else { Resize::None }, ..layer }))
    }

    fn gdn(&mut self, input: usize) -> usize {
        let n = self.channels[input];
        let gdn = Gdn {
            input: NodeIndex(input),
            inverse: false,
            max: 3000,
            gamma: (0..n * n).map(|i| value(self.fill, self.rng, 65_535 / n as i32 / 2, i).abs() as i16).collect(),
            // Of roots of 0 too.
            beta: (0..n).map(|_| if self.rng.next().is_multiple_of(3) { 0 } else { (self.rng.next() as i64) << 8 }).collect(),
            shift: (self.rng.next() % 12) as u32,
            multipliers: (0..n).map(|_| (self.rng.next() % (1 << 20)) as i32).collect(),
            output_shift: 28 + (self.rng.next() % 12) as u32,
        };
        self.add(Node::Gdn(gdn))
    }

    fn add(&mut self, node: Node) -> usize {
        self.channels.push(node.channels());
        self.nodes.push(node);
        self.channels.len() - 1
    }
}

/// The shape of the published analysis: downsampling blocks with a normalization in one of two branches, and residual blocks.
fn g_a(rng: &mut Rng, fill: Fill, widths: [usize; 3], latent: usize) -> Analysis {
    let mut m = Maker { rng, fill, nodes: Vec::new(), channels: vec![3] };
    let mut at = 0;
    for width in widths {
        let down = m.layer(&[(at, false)], 3, width, Epilogue::Gelu, 2);
        let conv = m.layer(&[(down, false)], 3, width, Epilogue::Linear, 1);
        let normalized = m.gdn(conv);
        let skip = m.layer(&[(at, false)], 1, width, Epilogue::Linear, 2);
        let block = m.layer(&[(normalized, true), (skip, true)], 1, width, Epilogue::Linear, 1);
        let inner = m.layer(&[(block, false)], 5, width, Epilogue::Gelu, 1);
        at = m.layer(&[(inner, true), (block, true)], 1, width, Epilogue::Linear, 1);
    }
    m.layer(&[(at, false), (at, false)], 3, latent, Epilogue::Latent, 2);
    Analysis::new(Input::Samples, 3, latent, m.nodes).unwrap()
}

fn h_a(rng: &mut Rng, fill: Fill, latent: usize, widths: [usize; 3]) -> Analysis {
    let mut m = Maker { rng, fill, nodes: Vec::new(), channels: vec![latent] };
    let first = m.layer(&[(0, false)], 3, widths[0], Epilogue::Gelu, 1);
    let identity = m.layer(&[(first, true), (first, false)], 3, widths[0], Epilogue::Gelu, 2);
    let inner = m.layer(&[(identity, false)], 3, widths[1], Epilogue::Gelu, 1);
    m.layer(&[(inner, false)], 5, widths[2], Epilogue::Latent, 2);
    let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
    Analysis::new(Input::Latent(quantizer), latent, widths[2], m.nodes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn strips(
        seed: u64, height in 1_usize..70, width in 1_usize..100, latent in 1_usize..40, widths: [u8; 3], weights in 0_usize..5,
        inputs in 0_usize..5, part_rows in 1_usize..6, strip_rows in 1_usize..6,
    ) {
        let rng = &mut Rng(seed);
        let widths = widths.map(|w| 1 + usize::from(w) % 40);
        let (own, hyper) = (g_a(rng, FILLS[weights], widths, latent), h_a(rng, FILLS[weights], latent, widths));
        let rgb: Vec<u8> = (0..3 * height * width).map(|i| value(FILLS[inputs], rng, 255, i).unsigned_abs() as u8).collect();
        let picture = Picture::new(height, width, &rgb).unwrap();
        let padded = [height, width].map(|side| side.next_multiple_of(64));
        let f = functions();
        let tables = fast::Tables::new(&f);
        let y = reference::analysis(&f, &own, &picture, padded).unwrap();
        let z = reference::hyper_analysis(&f, &hyper, &y).unwrap();
        let plan = Plan { part_rows, strip_rows, threads: 2 };
        for isa in isas() {
            let (packed, packed_hyper) = (fast::Analysis::new(isa, &own).unwrap(), fast::Analysis::new(isa, &hyper).unwrap());
            assert_same(isa, &packed.analyze_by(&tables, &picture, padded, plan).unwrap(), &y);
            assert_same(isa, &packed.analyze(&tables, &picture, padded).unwrap(), &y);
            assert_same(isa, &packed_hyper.hyper_analyze_by(&tables, &y, plan).unwrap(), &z);
            assert_same(isa, &packed_hyper.hyper_analyze(&tables, &y).unwrap(), &z);
        }
    }

    #[test]
    fn sections_are_read_as_written(seed: u64, latent in 1_usize..9) {
        let rng = &mut Rng(seed);
        for own in [g_a(rng, Fill::Random, [3, 2, 5], latent), h_a(rng, Fill::Random, latent, [3, 2, 5])] {
            let samples = own.quantizer().is_none();
            let (channels, outputs) = if samples { (3, latent) } else { (latent, 5) };
            let bytes = own.write();
            let read = Analysis::read(&bytes, samples, channels, outputs).unwrap();
            prop_assert_eq!(read.write(), bytes.clone());
            prop_assert_eq!(read.shapes(), own.shapes());
            prop_assert!(Analysis::read(&bytes, samples, channels, outputs + 1).is_err());
            for len in (0..bytes.len()).step_by(97) {
                prop_assert!(Analysis::read(&bytes[..len], samples, channels, outputs).is_err());
            }
        }
    }
}

#[test]
fn a_picture_repeats_its_last_row_and_column() {
    let picture = Picture::new(2, 1, &[1, 2, 3, 4, 5, 255]).unwrap();
    let mut row = [0; 7];
    picture.padded_row(0, &mut row);
    assert_eq!(row, [1, 2, 3, 1, 2, 3, 1]);
    picture.padded_row(63, &mut row);
    assert_eq!(row, [4, 5, 255, 4, 5, 255, 4]);
    assert!(Picture::new(2, 1, &[0; 5]).is_none() && Picture::new(0, 3, &[]).is_none());
}

#[test]
fn threads_change_nothing() {
    let rng = &mut Rng(5);
    let own = g_a(rng, Fill::Random, [20, 30, 40], 24);
    let rgb: Vec<u8> = (0..3 * 150 * 90).map(|_| rng.next() as u8).collect();
    let picture = Picture::new(150, 90, &rgb).unwrap();
    let tables = fast::Tables::new(&functions());
    let expected = reference::analysis(&functions(), &own, &picture, [192, 128]).unwrap();
    for threads in [1, 2, 5, 64] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in isas() {
            let packed = fast::Analysis::new(isa, &own).unwrap();
            assert_same(isa, &pool.install(|| packed.analyze(&tables, &picture, [192, 128])).unwrap(), &expected);
        }
    }
}

/// A normalization alone, against real numbers: what a wrong definition would not give.
#[test]
fn normalizations_divide() {
    let gdn = Gdn {
        input: NodeIndex(0),
        inverse: false,
        max: 8191,
        gamma: vec![20_000, 1000, 3000, 16_000],
        beta: vec![1 << 33, 1 << 32],
        shift: 8,
        multipliers: vec![200_000, 100_000],
        output_shift: 36,
    };
    let x: [i16; 2] = [-5000, 3000];
    let out = reference::gdn(&gdn, &Map { height: 1, width: 1, channels: 2, data: x.to_vec() }).unwrap();
    for c in 0..2 {
        let squares = x.map(|x| i64::from(x) * i64::from(x));
        let norm = (i64::from(gdn.gamma[2 * c]) * squares[0] + i64::from(gdn.gamma[2 * c + 1]) * squares[1] + gdn.beta[c]) >> 8;
        // out / 2^5 = x m / (root 2^10), all in whole numbers: out * root lies within a step and the error of the root.
        let quotient = i64::from(x[c]) * i64::from(gdn.multipliers[c]) / 32;
        let root = i64::from(norm as u32).isqrt();
        assert!((i64::from(out.data[c]) * root - quotient).abs() <= root, "{} {root} {quotient}", out.data[c]);
    }
}
