//! The bound on memory holds, and is not so loose that it would refuse what fits.
//!
//! One test in its own program: the allocator counts whatever runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use mlic_backend::EntropySession;
use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::integer::{IntegerSession, Kernels, PackedModel};
use mlic_backend::memory::entropy_bytes;
use mlic_core::schedule::{LatentSize, passes};
use mlic_model::Model;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A bound may be this many times what is needed, for a picture of some size.
const LOOSE: u64 = 6;

/// What decoding to `y_hat` allocates at most at a time, in bytes.
fn peak(model: &Model, size: LatentSize, kernels: Kernels) -> u64 {
    let packed = Arc::new(PackedModel::new(model, kernels).unwrap());
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let mut random = Random(1);
    let z = Fill::Small.symbols(&mut random, z_count(model, &size));
    let mut session = IntegerSession::new(model, packed, size, 0, &z).unwrap();
    for pass in passes(model.config().slices) {
        let parameters = session.parameters(pass).unwrap();
        let symbols = Fill::Small.symbols(&mut random, parameters.means.len());
        session.commit(pass, &symbols).unwrap();
    }
    let y_hat = session.y_hat().unwrap();
    assert!(!y_hat.data.is_empty());
    (ALLOCATOR.peak_usage() - before) as u64
}

#[test]
fn decoding_stays_within_its_bound() {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg");
    let model = Model::open(package).unwrap();
    let threads = rayon::current_num_threads();
    for (width, height) in [(256, 256), (1024, 64), (64, 1024), (2048, 1)] {
        let size = LatentSize::of_image(width, height).unwrap();
        let bound = entropy_bytes(&model, size, threads);
        let got = peak(&model, size, Kernels::best());
        println!("{width}x{height}: {got} of at most {bound} bytes");
        assert!(got <= bound, "{width}x{height}: {got} bytes, the bound is {bound}");
        assert!(LOOSE * got >= bound, "{width}x{height}: {got} bytes, the bound of {bound} is loose");
    }
    let size = LatentSize::of_image(128, 64).unwrap();
    assert!(peak(&model, size, Kernels::Reference) <= entropy_bytes(&model, size, threads));
    let largest = LatentSize::of_image(16_384, 16_384).unwrap();
    assert!(entropy_bytes(&model, largest, threads) > 1 << 30, "a picture of 2^28 pixels is counted in full");
}
