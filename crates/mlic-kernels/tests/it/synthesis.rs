//! The integer synthesis in strips gives the samples of the definition, whatever the height of a strip, for every instruction set of this machine.

use crate::common::{FILLS, Fill, Maker, Rng, assert_same, functions, isas, value};
use mlic_kernels::fast::{self, Plan};
use mlic_kernels::{Map, reference};
use mlic_model::layout::Epilogue;
use mlic_model::nodes::{Quantizer, Resize};
use mlic_model::parameters::Requant;
use mlic_model::synthesis::Synthesis;
use proptest::prelude::*;

/// The shape of the published synthesis: residual blocks, and upsampling blocks with a normalization in one of two branches.
fn synthesis(rng: &mut Rng, fill: Fill, latent: usize, widths: [usize; 3]) -> Synthesis {
    let mut m = Maker::new(rng, fill, 1500, latent);
    let mut at = 0;
    for width in widths {
        let inner = m.layer(&[(at, false)], 3, m.channels[at], Epilogue::Gelu, Resize::None);
        let inner = m.layer(&[(inner, false)], 3, m.channels[at], Epilogue::Gelu, Resize::None);
        let block = m.layer(&[(inner, true), (at, true)], 1, m.channels[at], Epilogue::Linear, Resize::None);
        let up = m.layer(&[(block, false)], 3, 4 * width, Epilogue::Gelu, Resize::Shuffle);
        let conv = m.layer(&[(up, false)], 3, width, Epilogue::Linear, Resize::None);
        let normalized = m.gdn(conv, true);
        let skip = m.layer(&[(block, false)], 5, 4 * width, Epilogue::Linear, Resize::Shuffle);
        at = m.layer(&[(normalized, true), (skip, true)], 1, width, Epilogue::Linear, Resize::None);
    }
    // Two nodes that nothing needs, one of which reads the other.
    let unread = m.layer(&[(at, false)], 3, 3, Epilogue::Gelu, Resize::None);
    m.layer(&[(unread, false)], 3, 5, Epilogue::Linear, Resize::None);
    // An identity term keeps the order of its channels under a pixel shuffle.
    let own = m.layer(&[(at, false)], 1, 12, Epilogue::Linear, Resize::None);
    m.layer(&[(own, true), (at, false), (at, false)], 3, 12, Epilogue::Pixel, Resize::Shuffle);
    let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
    Synthesis::new(latent, quantizer, m.nodes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn strips(
        seed: u64, height in 1_usize..7, width in 1_usize..5, latent in 1_usize..20, widths: [u8; 3], weights in 0_usize..5,
        inputs in 0_usize..5, part_rows in 1_usize..8, strip_rows in 1_usize..8,
    ) {
        let rng = &mut Rng(seed);
        let own = synthesis(rng, FILLS[weights], latent, widths.map(|w| 1 + usize::from(w) % 20));
        let data = (0..height * width * latent).map(|i| value(FILLS[inputs], rng, 40_000, i)).collect();
        let latent = Map { height, width, channels: latent, data };
        let f = functions();
        let tables = fast::Tables::new(&f);
        let whole = reference::synthesis(&f, &own, &latent).unwrap();
        for isa in isas() {
            let packed = fast::Synthesis::new(isa, &own).unwrap();
            assert_same(isa, &packed.run_by(&tables, &latent, Plan { part_rows, strip_rows, threads: 2 }).unwrap(), &whole);
            assert_same(isa, &packed.run(&tables, &latent).unwrap(), &whole);
        }
    }

    #[test]
    fn the_section_is_read_as_written(seed: u64, latent in 1_usize..9) {
        let own = synthesis(&mut Rng(seed), Fill::Random, latent, [3, 2, 5]);
        let bytes = own.write();
        let read = Synthesis::read(&bytes, latent).unwrap();
        prop_assert_eq!(read.write(), bytes.clone());
        prop_assert_eq!(read.shapes(), own.shapes());
        for len in (0..bytes.len()).step_by(97) {
            prop_assert!(Synthesis::read(&bytes[..len], latent).is_err());
        }
    }
}

/// Identity terms have no weights in a package. With weights of one in their place, the two of 5x5 would take gigabytes.
#[test]
fn identity_terms_under_a_shuffle_stay_without_weights() {
    let rng = &mut Rng(8);
    let mut m = Maker::new(rng, Fill::Random, 1500, 1);
    let wide = m.layer(&[(0, false)], 1, 4096, Epilogue::Linear, Resize::None);
    let mut at = m.layer(&[(wide, true), (wide, true)], 5, 4096, Epilogue::Linear, Resize::Shuffle);
    at = m.layer(&[(at, true)], 3, 1024, Epilogue::Gelu, Resize::Shuffle);
    at = m.layer(&[(at, true)], 1, 256, Epilogue::Linear, Resize::Shuffle);
    m.layer(&[(at, false)], 1, 12, Epilogue::Pixel, Resize::Shuffle);
    let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
    let own = Synthesis::new(1, quantizer, m.nodes).unwrap();
    let latent = Map { height: 1, width: 2, channels: 1, data: vec![20_000, -30_000] };
    let (f, tables) = (functions(), fast::Tables::new(&functions()));
    let whole = reference::synthesis_nodes(&f, &own, &latent).unwrap();
    for isa in isas() {
        let packed = fast::Synthesis::new(isa, &own).unwrap();
        for (node, expected) in whole[..whole.len() - 1].iter().enumerate() {
            assert_same(isa, &packed.node(&tables, &latent, node).unwrap().unwrap(), expected);
        }
        assert_same(isa, &packed.run(&tables, &latent).unwrap(), &reference::synthesis(&f, &own, &latent).unwrap());
    }
}
