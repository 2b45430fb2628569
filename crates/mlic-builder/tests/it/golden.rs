//! The entropy networks against tensors computed by `models/mlicpp.py` in PyTorch (made by `models/golden.py`).
//!
//! The seeded weights give window attention logits of several units, so that each trap of the published code changes the
//! result: which positions are anchors, the mask over all 25 positions of a window, zero padding after the projection, the two
//! head layouts, and the residual being added before `y_hat` becomes context.

use mlic_backend::entropy::EntropyModel;
use mlic_builder::Export;
use mlic_builder::float::{FloatModel, FloatOps};
use mlic_core::checkerboard::Parity;
use mlic_core::schedule::passes;
use mlic_kernels::Map;
use safetensors::SafeTensors;

use crate::common::tiny;

/// A golden tensor `[1, C, H, W]` as a map.
fn golden(tensors: &SafeTensors<'_>, name: &str) -> Map<f32> {
    let view = tensors.tensor(name).unwrap();
    let [_, channels, height, width] = *view.shape() else { panic!("{name} is not a map") };
    let planes: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let area = height * width;
    let data = (0..area * channels).map(|i| planes[i % channels * area + i / channels]).collect();
    Map { height, width, channels, data }
}

/// Largest difference, relative to the largest value expected.
fn difference(got: &Map<f32>, expected: &Map<f32>) -> f32 {
    assert_eq!((got.height, got.width, got.channels), (expected.height, expected.width, expected.channels));
    let largest = expected.data.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
    got.data.iter().zip(&expected.data).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[track_caller]
fn assert_close(what: &str, got: &Map<f32>, expected: &Map<f32>) {
    let d = difference(got, expected);
    assert!(d < 2e-5, "{what}: relative difference {d:e}");
}

/// Channels of two maps side by side.
fn concat(a: &Map<f32>, b: &Map<f32>) -> Map<f32> {
    let data = a.data.chunks_exact(a.channels).zip(b.data.chunks_exact(b.channels)).flat_map(|(a, b)| [a, b].concat()).collect();
    Map { channels: a.channels + b.channels, data, ..*a }
}

#[test]
fn float_networks_are_the_published_ones() {
    let export = Export::open(&tiny()).unwrap();
    let model = FloatModel::load(&export).unwrap();
    let bytes = std::fs::read(tiny().join("path.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let y = golden(&tensors, "y");
    let mut entropy = EntropyModel::new(&model.layout, FloatOps::new(&model), &golden(&tensors, "z_hat")).unwrap();
    assert_close("hyper", entropy.hyper_params(), &golden(&tensors, "hyper"));
    let mut target = Vec::new();
    for pass in passes(model.config.slices) {
        let gaussian = entropy.parameters(pass).unwrap();
        let name = |what: &str| format!("slice{}.{what}", pass.slice_index);
        for (context, what) in entropy.contexts().into_iter().zip(["inter", "chan"]) {
            if let Some(context) = context {
                assert_close(&name(what), context, &golden(&tensors, &name(what)));
            }
        }
        let what = if pass.parity == Parity::Anchor { "anchor_params" } else { "nonanchor_params" };
        let parameters = concat(&gaussian.scale, &gaussian.mean);
        assert_close(&name(what), &parameters, &golden(&tensors, &name(what)).pack(pass.parity).unwrap());
        y.select_pass(pass, model.config.slice_channels(), &mut target).unwrap();
        let symbols: Vec<i32> = target.iter().zip(&gaussian.mean.data).map(|(y, m)| (y - m).round() as i32).collect();
        entropy.commit(pass, &symbols).unwrap();
        if pass.parity == Parity::Anchor {
            let anchors = entropy.anchors().unwrap().unpack(Parity::Anchor).unwrap();
            assert_close(&name("anchor"), &anchors, &golden(&tensors, &name("anchor")));
        }
    }
    for (i, slice) in entropy.y_hat().iter().enumerate() {
        assert_close(&format!("slice{i}.y_hat"), slice, &golden(&tensors, &format!("slice{i}.y_hat")));
    }
}

/// Root mean square of the differences, relative to that of the expected values.
fn relative_rms(got: impl Iterator<Item = f32>, expected: &[f32]) -> f32 {
    let error: f32 = got.zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    (error / expected.iter().map(|b| b * b).sum::<f32>()).sqrt()
}

/// Largest relative error of the integer networks: the tiny model has random weights, and int8 activations calibrated on other pictures. A wrong
/// operator gives an error of about 1.
const FOLLOWS: f32 = 0.12;

#[test]
fn integer_networks_follow_the_float_ones_through_every_pass() {
    use mlic_backend::integer::{IntegerSession, Kernels, PackedModel};
    use mlic_backend::{EntropySession, Planes};
    use mlic_builder::bottleneck;
    use mlic_builder::build::{Encoder, RealGains, level_of};
    use mlic_core::schedule::LatentSize;

    let export = Export::open(&tiny()).unwrap();
    let float = FloatModel::load(&export).unwrap();
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg");
    let model = mlic_model::Model::open(package).unwrap();
    let encoder = Encoder::new(export.g_a.clone(), export.h_a.clone(), 1).unwrap();
    let (gains, medians) = (RealGains::load(&export).unwrap(), bottleneck::z_tables(&export).unwrap().0);
    let (height, width) = (64, 128);
    let sample = |i: usize| {
        let (row, col) = (i / width % height, i % width);
        0.2 + 0.5 * (row as f32 / 64.0) + if col > 40 && row > col / 2 { 0.25 } else { 0.0 }
    };
    let x = Planes { channels: 3, height, width, data: (0..3 * height * width).map(sample).collect() };
    let y = encoder.analysis(&x).unwrap();
    let packed = std::sync::Arc::new(PackedModel::new(&model, Kernels::Reference).unwrap());
    for quality in [0, 100, 200] {
        let sample = encoder.sample(&gains, &medians, &y, level_of(model.config(), quality)).unwrap();
        let mut real = EntropyModel::new(&float.layout, FloatOps::new(&float), &sample.z_hat).unwrap();
        let size = LatentSize::of_image(width as u32, height as u32).unwrap();
        let mut exact = IntegerSession::new(&model, packed.clone(), size, quality, &sample.z_symbols).unwrap();
        let mut target = Vec::new();
        for pass in passes(model.config().slices) {
            let (gaussian, parameters) = (real.parameters(pass).unwrap(), exact.parameters(pass).unwrap());
            let means = parameters.means.iter().map(|m| *m as f32 / 4096.0);
            let error = relative_rms(means, &gaussian.mean.data);
            assert!(error < FOLLOWS, "quality {quality}, {pass}: means differ by {error}");
            sample.y.select_pass(pass, float.config.slice_channels(), &mut target).unwrap();
            let symbols: Vec<i32> = target.iter().zip(&gaussian.mean.data).map(|(y, m)| (y - m).round() as i32).collect();
            real.commit(pass, &symbols).unwrap();
            exact.commit(pass, &symbols).unwrap();
        }
        let y_hat = exact.y_hat().unwrap();
        let channels = model.config().slice_channels();
        for (i, slice) in real.y_hat().iter().enumerate() {
            let own = y_hat.select(i * channels, channels).unwrap();
            let error = relative_rms(own.data.iter().map(|v| *v as f32 / 4096.0), &slice.data);
            assert!(error < FOLLOWS, "quality {quality}, slice {i}: y_hat differs by {error}");
        }
    }
}

#[test]
fn heads_that_a_package_cannot_tell_apart_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(tiny()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, temporary.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = temporary.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (heads, intra) in [(4, 2), (2, 4), (4, 4)] {
        let changed = text.replace("\"heads\": 2", &format!("\"heads\": {heads}"));
        std::fs::write(&config, changed.replace("\"intra_heads\": 2", &format!("\"intra_heads\": {intra}"))).unwrap();
        let opened = Export::open(temporary.path());
        if heads == intra {
            opened.unwrap();
        } else {
            let message = opened.unwrap_err().to_string();
            assert!(message.contains(&format!("heads {heads}, intra_heads {intra}")), "{message}");
        }
    }
}
