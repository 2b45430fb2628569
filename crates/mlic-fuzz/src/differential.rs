//! The fast kernels of every instruction set against the definition, on generated packages and symbols: every mean, scale index,
//! latent and sample is equal, and so are the results of integer analyses. The promise of a package's proof is tested too: fuzz targets are
//! built with overflow checks.

use std::sync::Arc;

use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::integer::{IntegerSession, Kernels, PackedModel};
use mlic_backend::{EntropySession, PassParameters};
use mlic_core::schedule::{LatentSize, passes};
use mlic_kernels::cpu::Isa;
use mlic_kernels::{Map, Picture};
use mlic_model::Model;

use crate::source::Source;
use crate::{exact, generate};

pub(crate) fn target(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let package = generate::parts(&mut source).to_package().unwrap();
    if let Ok(model) = Model::from_bytes(package) {
        crate::package::accepted(&model);
        compare(&model, &mut source);
    }
}

/// What a session predicts in each pass, and the latents that result.
type Run = (Vec<PassParameters>, Map<i32>);

/// Runs the entropy networks of a model on symbols, with every kind of kernels.
pub(crate) fn compare(model: &Model, source: &mut Source<'_>) {
    let sides = [1, 17, 33, 48, 63, 64, 64, 65];
    let (width, height) = (source.one_of(&sides), source.one_of(&sides));
    let size = LatentSize::of_image(width, height).unwrap();
    let quality = source.byte() % (model.quality_steps().saturating_add(1)).max(1);
    let (fill, seed) = (source.one_of(&Fill::ALL), source.byte());
    let run = |kernels| run(model, size, quality, fill, seed, kernels);
    let (expected_passes, expected) = run(Kernels::Reference);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let (passes, y_hat) = run(Kernels::Fast(isa));
        for (i, (got, want)) in passes.iter().zip(&expected_passes).enumerate() {
            assert!(got == want, "pass {i} on {} differs from the definition", isa.name());
        }
        assert!(y_hat == expected, "y_hat on {} differs from the definition", isa.name());
    }
    let (width, height) = (width as usize, height as usize);
    let samples: Vec<u8> = source.integers(3 * width * height, 0, 255).into_iter().map(|v| v as u8).collect();
    let picture = Picture::new(height, width, &samples).unwrap();
    exact::compare(model, &expected, &picture, quality, source.between(1, 3));
}

fn run(model: &Model, size: LatentSize, quality: u8, fill: Fill, seed: u8, kernels: Kernels) -> Run {
    let mut random = Random(seed.into());
    let z = fill.symbols(&mut random, z_count(model, &size));
    let packed = Arc::new(PackedModel::new(model, kernels).unwrap());
    let mut session = IntegerSession::new(model, packed, size, quality, &z).unwrap();
    let mut all = Vec::new();
    for pass in passes(model.config().slices) {
        let parameters = session.parameters(pass).unwrap();
        session.commit(pass, &fill.symbols(&mut random, parameters.means.len())).unwrap();
        all.push(parameters);
    }
    (all, session.y_hat().unwrap())
}
