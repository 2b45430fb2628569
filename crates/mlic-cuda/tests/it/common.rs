//! What the tests share.

use std::sync::Arc;

use mlic_backend::FloatTransform;
use mlic_backend::cpu::FloatTransforms;
use mlic_backend::{BackendError, Planes};
use mlic_model::Model;

/// A small package of the conformance data.
pub(crate) fn package(name: &str) -> Arc<Model> {
    // A test that was carried to another machine finds it by this variable.
    let otherwise = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance").into();
    let folder = std::env::var("MLIC_CONFORMANCE").unwrap_or_else(|_| otherwise());
    Arc::new(Model::open(format!("{folder}/models/{name}.mlicpkg")).unwrap())
}

/// Float transforms that only have the right shapes. They show whether the backend passes the float stages on unchanged.
pub(crate) struct Shapes(pub(crate) Arc<Model>);

impl FloatTransforms for Shapes {
    fn name(&self) -> &'static str {
        "shapes"
    }

    fn run(&self, transform: FloatTransform, input: &Planes, _: usize) -> Result<Planes, BackendError> {
        let config = self.0.config();
        let (channels, [up, down]) = match transform {
            FloatTransform::Analysis => (config.latent, [1, 16]),
            FloatTransform::HyperAnalysis => (config.hyper, [1, 4]),
            FloatTransform::Synthesis => (3, [16, 1]),
        };
        let side = |n: usize| n * up / down;
        let (height, width) = (side(input.height), side(input.width));
        let data = (0..channels * height * width).map(|i| input.data[i % input.data.len()] * (i % 7) as f32).collect();
        Ok(Planes { channels, height, width, data })
    }
}
