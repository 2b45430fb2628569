//! The bounds on memory hold, and are not so loose that a caller would refuse what fits.
//!
//! One test in a program of its own, because the allocator counts whatever runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use mlic_backend::analysis::PackedAnalysis;
use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::integer::{IntegerSession, Kernels, PackedModel};
use mlic_backend::memory::{Windows, entropy_bytes, exact_analysis_bytes, exact_synthesis_bytes};
use mlic_backend::probe::with_integer_analysis;
use mlic_backend::{BackendError, EntropySession};
use mlic_core::schedule::{LatentSize, passes};
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast::{Tables, local_attention, local_attention_bytes};
use mlic_kernels::reference::LocalAttentionShape;
use mlic_kernels::{Map, Picture};
use mlic_model::Model;
use mlic_model::parameters::Requant;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A bound may be this many times what a picture of some size allocates: threads keep working memory from earlier pictures.
const LOOSE: u64 = 8;

/// The most bytes that `work` has allocated at a time.
fn peak_of<T>(work: impl FnOnce() -> Result<T, BackendError>) -> u64 {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work().unwrap();
    (ALLOCATOR.peak_usage() - before) as u64
}

fn check(what: &str, got: u64, bound: u64) {
    println!("{what}: {got} of at most {bound} bytes");
    assert!(got <= bound, "{what}: {got} bytes, the bound is {bound}");
    assert!(LOOSE * got >= bound, "{what}: {got} bytes, the bound of {bound} is loose");
}

/// The most bytes that decoding to `y_hat` has allocated at a time.
fn peak(model: &Model, size: LatentSize, kernels: Kernels) -> u64 {
    let packed = Arc::new(PackedModel::new(model, kernels).unwrap());
    peak_of(|| {
        let mut random = Random(1);
        let z = Fill::Small.symbols(&mut random, z_count(model, &size));
        let mut session = IntegerSession::new(model, packed, size, 0, &z)?;
        for pass in passes(model.config().slices) {
            let parameters = session.parameters(pass)?;
            let symbols = Fill::Small.symbols(&mut random, parameters.means.len());
            session.commit(pass, &symbols)?;
        }
        session.y_hat()
    })
}

/// Compares the most bytes that the integer transforms of a model allocate at a time with their bounds.
fn check_transforms(model: &Model, sizes: &[(u32, u32)]) {
    let (kernels, threads) = (Kernels::best(), rayon::current_num_threads());
    let own = model.exact_analysis().unwrap().unwrap();
    let analysis = PackedAnalysis::new(kernels);
    analysis.hyper_analyze(model, &Map::zeros(4, 4, model.config().latent).unwrap()).unwrap();
    let g_s = Windows::of_synthesis(model.exact_synthesis().unwrap());
    let g_a_h_a = [Windows::of_analysis(&own.g_a), Windows::of_analysis(&own.h_a)];
    let packed = PackedModel::new(model, kernels).unwrap();
    // The weights belong to the model, not to a picture: they are packed before.
    packed.prepare_synthesis(model).unwrap();
    for (width, height) in sizes {
        let size = LatentSize::of_image(*width, *height).unwrap();
        let samples = vec![0; 3 * *width as usize * *height as usize];
        let picture = Picture::new(*height as usize, *width as usize, &samples).unwrap();
        let encoding = peak_of(|| {
            let y = analysis.analyze(model, &picture)?;
            analysis.hyper_analyze(model, &y)
        });
        check(&format!("g_a, h_a {width}x{height}"), encoding, exact_analysis_bytes(&g_a_h_a, size, threads));
        let decoding = peak_of(|| {
            let y_hat = Map::zeros(size.y[0], size.y[1], model.config().latent)?;
            packed.synthesize(model, 0, &y_hat)
        });
        check(&format!("g_s {width}x{height}"), decoding, exact_synthesis_bytes(&g_s, size, threads));
    }
}

/// Window attention of maps of some sizes: with one head of all channels, with heads of one channel each, and in between.
fn check_attention(model: &Model) {
    let (isa, threads, window) = (Isa::best(), rayon::current_num_threads(), 5);
    let tables = Tables::new(&model.parameters().functions);
    for (height, width, channels, heads) in [(48, 32, 32, 2), (256, 4, 64, 64), (4, 256, 64, 64), (64, 64, 8, 1)] {
        let bias = vec![0; heads * (2 * window - 1) * (2 * window - 1)];
        let requant = Requant { multiplier: 1 << 14, shift: 20 };
        let shape = LocalAttentionShape { requant, bias: &bias, window, heads, max: 1 << 12 };
        let map = Map::zeros(height, width, channels).unwrap();
        let got = peak_of(|| Ok(local_attention(isa, &tables, &shape, [&map; 3])?));
        let bound = local_attention_bytes([height, width], channels, heads, window, threads);
        check(&format!("window attention {height}x{width}, {heads} heads of {channels} channels"), got, bound);
    }
}

#[test]
fn decoding_stays_within_its_bound() {
    let package = |file: &str| Model::open(format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let model = package("conformance/models/tiny.mlicpkg");
    let threads = rayon::current_num_threads();
    for (width, height) in [(256, 256), (1024, 64), (64, 1024), (1, 1), (2048, 1)] {
        let size = LatentSize::of_image(width, height).unwrap();
        let bound = entropy_bytes(&model, size, threads);
        check(&format!("{width}x{height}"), peak(&model, size, Kernels::best()), bound);
    }
    let size = LatentSize::of_image(128, 64).unwrap();
    assert!(peak(&model, size, Kernels::Reference) <= entropy_bytes(&model, size, threads));
    let largest = LatentSize::of_image(16_384, 16_384).unwrap();
    assert!(entropy_bytes(&model, largest, threads) > 1 << 30, "a picture of 2^28 pixels is counted in full");
    check_attention(&model);
    check_transforms(&package("models/edge/edge.mlicpkg"), &[(768, 512), (1920, 200), (200, 1920)]);
    let tiny = Model::from_bytes(with_integer_analysis(&model).unwrap()).unwrap();
    check_transforms(&tiny, &[(2048, 1024), (4096, 64)]);
}
