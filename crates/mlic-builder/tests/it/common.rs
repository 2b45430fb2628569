use std::collections::BTreeMap;
use std::path::PathBuf;

use mlic_backend::Planes;
use mlic_builder::build::Activations;
use mlic_builder::{BuildOptions, Export, build};
use mlic_model::Model;
use mlic_model::graph::Dtype;

/// The tiny export.
pub(crate) fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny")
}

/// int8 activations, float transforms.
pub(crate) fn options() -> BuildOptions {
    BuildOptions {
        activations: Activations::Narrow,
        budget: 0.0005,
        exact_weights: None,
        analysis_weights: None,
        transform_dtype: Dtype::F16,
        threads: 1,
        provenance: BTreeMap::new(),
    }
}

/// A package that is calibrated on one small image.
pub(crate) fn package(export: &Export, options: &BuildOptions) -> Model {
    let data = (0..3 * 64 * 64).map(|i| 0.2 + 0.5 * (i / 64 % 64) as f32 / 64.0 + (i * i % 23) as f32 / 100.0).collect();
    let image = Planes { channels: 3, height: 64, width: 64, data };
    build(export, &[image], options, &mut |_| ()).unwrap().model
}
