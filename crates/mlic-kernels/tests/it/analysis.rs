//! The integer analysis in strips gives the latents of the definition, whatever the height of a strip, for every instruction set of this machine.

use crate::common::{FILLS, Fill, Maker, Rng, assert_same, functions, isas, value};
use mlic_kernels::fast::{self, Plan};
use mlic_kernels::{Map, Picture, reference};
use mlic_model::analysis::{Analysis, HyperAnalysis};
use mlic_model::layout::{Epilogue, NodeIndex};
use mlic_model::nodes::{Gdn, Quantizer, Resize};
use mlic_model::parameters::Requant;
use proptest::prelude::*;

/// The shape of the published analysis: downsampling blocks with a normalization in one of two branches, and residual blocks.
fn g_a(rng: &mut Rng, fill: Fill, widths: [usize; 3], latent: usize) -> Analysis {
    let mut m = Maker::new(rng, fill, 700, 3);
    let mut at = 0;
    for width in widths {
        let down = m.layer(&[(at, false)], 3, width, Epilogue::Gelu, Resize::Stride);
        let conv = m.layer(&[(down, false)], 3, width, Epilogue::Linear, Resize::None);
        let normalized = m.gdn(conv, false);
        let skip = m.layer(&[(at, false)], 1, width, Epilogue::Linear, Resize::Stride);
        let block = m.layer(&[(normalized, true), (skip, true)], 1, width, Epilogue::Linear, Resize::None);
        let inner = m.layer(&[(block, false)], 5, width, Epilogue::Gelu, Resize::None);
        at = m.layer(&[(inner, true), (block, true)], 1, width, Epilogue::Linear, Resize::None);
    }
    m.layer(&[(at, false), (at, false)], 3, latent, Epilogue::Latent, Resize::Stride);
    Analysis::new(latent, m.nodes).unwrap()
}

fn h_a(rng: &mut Rng, fill: Fill, latent: usize, widths: [usize; 3]) -> HyperAnalysis {
    let mut m = Maker::new(rng, fill, 700, latent);
    let first = m.layer(&[(0, false)], 3, widths[0], Epilogue::Gelu, Resize::None);
    let identity = m.layer(&[(first, true), (first, false)], 3, widths[0], Epilogue::Gelu, Resize::Stride);
    let inner = m.layer(&[(identity, false)], 3, widths[1], Epilogue::Gelu, Resize::None);
    m.layer(&[(inner, false)], 5, widths[2], Epilogue::Latent, Resize::Stride);
    let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
    HyperAnalysis::new(quantizer, latent, widths[2], m.nodes).unwrap()
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
        let f = functions();
        let tables = fast::Tables::new(&f);
        let y = reference::analysis(&f, &own, &picture).unwrap();
        let z = reference::hyper_analysis(&f, &hyper, &y).unwrap();
        let plan = Plan { part_rows, strip_rows, threads: 2 };
        for isa in isas() {
            let (packed, packed_hyper) = (fast::Analysis::new(isa, &own).unwrap(), fast::HyperAnalysis::new(isa, &hyper).unwrap());
            assert_same(isa, &packed.run_by(&tables, &picture, plan).unwrap(), &y);
            assert_same(isa, &packed.run(&tables, &picture).unwrap(), &y);
            assert_same(isa, &packed_hyper.run_by(&tables, &y, plan).unwrap(), &z);
            assert_same(isa, &packed_hyper.run(&tables, &y).unwrap(), &z);
        }
    }

    #[test]
    fn sections_are_read_as_written(seed: u64, latent in 1_usize..9) {
        let rng = &mut Rng(seed);
        let own = g_a(rng, Fill::Random, [3, 2, 5], latent);
        let bytes = own.write();
        let read = Analysis::read(&bytes, latent).unwrap();
        prop_assert_eq!((read.write(), read.shapes()), (bytes.clone(), own.shapes()));
        prop_assert!(Analysis::read(&bytes, latent + 1).is_err());
        for len in (0..bytes.len()).step_by(97) {
            prop_assert!(Analysis::read(&bytes[..len], latent).is_err());
        }
        let own = h_a(rng, Fill::Random, latent, [3, 2, 5]);
        let bytes = own.write();
        let read = HyperAnalysis::read(&bytes, latent, 5).unwrap();
        prop_assert_eq!((read.write(), read.shapes()), (bytes.clone(), own.shapes()));
        prop_assert!(HyperAnalysis::read(&bytes, latent, 6).is_err() && HyperAnalysis::read(&bytes, latent + 1, 5).is_err());
        for len in (0..bytes.len()).step_by(97) {
            prop_assert!(HyperAnalysis::read(&bytes[..len], latent, 5).is_err());
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
    let expected = reference::analysis(&functions(), &own, &picture).unwrap();
    for threads in [1, 2, 5, 64] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in isas() {
            let packed = fast::Analysis::new(isa, &own).unwrap();
            assert_same(isa, &pool.install(|| packed.run(&tables, &picture)).unwrap(), &expected);
        }
    }
}

/// A single normalization, against the formula in real numbers, which a wrong definition would not meet.
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
