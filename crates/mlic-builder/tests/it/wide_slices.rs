//! Latent slices of 64 channels, the most that a package may have, whose normalizations have up to 128 channels.

use std::collections::BTreeMap;
use std::path::Path;

use mlic_builder::build::Activations;
use mlic_builder::synthesis::WeightWidth;
use mlic_builder::{BuildOptions, Export};
use mlic_model::Model;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::common::{self, tiny};

/// The tiny export with another number of slices in its configuration.
fn in_slices(to: &Path, slices: usize) {
    for name in ["config.json", "entropy.safetensors", "g_a.onnx", "h_a.onnx", "g_s.onnx"] {
        std::fs::copy(tiny().join(name), to.join(name)).unwrap();
    }
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(to.join("config.json")).unwrap()).unwrap();
    config["slices"] = slices.into();
    let hidden = config["lrp_hidden"][0].clone();
    config["lrp_hidden"] = vec![hidden; slices].into();
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
}

/// Names and shapes of the tensors of the only latent slice in a model with 64 latent channels.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push((format!("{name}.weight"), shape.to_vec()));
        all.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    let local: [(&str, &[usize]); 7] = [
        ("norm1", &[64]),
        ("norm2", &[128]),
        ("qkv_proj", &[192, 64]),
        ("fusion", &[128, 64, 5, 5]),
        ("proj", &[128, 128]),
        ("mlp.fc1", &[256, 128]),
        ("mlp.fc2", &[128, 256]),
    ];
    local.iter().for_each(|(name, shape)| add(format!("local_context.0.{name}"), shape));
    let mut chain = |name: String, size: usize, widths: &[usize]| {
        widths.windows(2).enumerate().for_each(|(i, w)| add(format!("{name}.{}", 2 * i), &[w[1], w[0], size, size]));
    };
    for (half, inputs) in [("anchor", 128), ("nonanchor", 256)] {
        chain(format!("entropy_parameters_{half}.0.fusion"), 1, &[inputs, 20, 16, 12, 128]);
        chain(format!("lrp_{half}.0.lrp_transform"), 3, &[128, 12, 10, 64]);
    }
    all.push(("local_context.0.relative_position_table".into(), vec![81, 2]));
    all
}

/// The tiny export as one latent slice of 64 channels, whose networks have meaningless weights.
fn one_slice(to: &Path) -> Export {
    in_slices(to, 1);
    let bytes = std::fs::read(to.join("entropy.safetensors")).unwrap();
    let own = SafeTensors::deserialize(&bytes).unwrap();
    let mut state = 1_u32;
    let mut random = |range: f32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (range * ((state >> 8) as f32 / 8_388_608.0 - 1.0)).to_le_bytes()
    };
    let made: BTreeMap<String, (Vec<usize>, Vec<u8>)> = shapes()
        .into_iter()
        .map(|(name, shape)| {
            let (count, inputs) = (shape.iter().product::<usize>(), shape[1..].iter().product::<usize>());
            let range = (3.0 / inputs as f32).sqrt();
            let data = (0..count).flat_map(|_| random(range)).collect();
            (name, (shape, data))
        })
        .collect();
    let mut all: BTreeMap<String, TensorView<'_>> = own.tensors().into_iter().collect();
    for (name, (shape, data)) in &made {
        all.insert(name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap());
    }
    std::fs::write(to.join("entropy.safetensors"), safetensors::serialize(all, None).unwrap()).unwrap();
    Export::open(to).unwrap()
}

fn package(export: &Export, activations: Activations) -> Model {
    let words = Some(WeightWidth::Words);
    common::package(export, &BuildOptions { activations, exact_weights: words, analysis_weights: words, ..common::options() })
}

#[test]
fn slices_of_64_channels_are_built() {
    let folder = tempfile::tempdir().unwrap();
    let export = one_slice(folder.path());
    let model = package(&export, Activations::Wide);
    assert_eq!(model.config().slice_channels(), 64);
    let largest = |id: mlic_model::layout::LayerId| model.parameters().layers[id.0].max;
    let local = &model.layout().slices[0].local;
    assert_eq!((largest(local.fusion), largest(local.out)), (3831, 8191));
    package(&export, Activations::Auto);
}

#[test]
fn slices_that_no_package_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    in_slices(folder.path(), 4);
    let message = Export::open(folder.path()).unwrap_err().to_string();
    assert!(message.ends_with("16 channels in a latent slice (64 in 4 slices): a package has 32 or 64"), "{message}");
}
