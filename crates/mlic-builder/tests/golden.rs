//! The entropy networks against tensors computed by `models/mlicpp.py` in PyTorch (made by `models/golden.py`).
//!
//! The seeded weights give window attention logits of several units, so that each trap of the published code changes the
//! result: which positions are anchors, the mask over all 25 positions of a window, zero padding after the projection, the two
//! head layouts, and the residual being added before `y_hat` becomes context.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;

use mlic_backend::entropy::EntropyModel;
use mlic_builder::Export;
use mlic_builder::calibrate::slice_half;
use mlic_builder::float::{FloatModel, FloatOps};
use mlic_core::checkerboard::Parity;
use mlic_core::schedule::passes;
use mlic_kernels::Map;
use safetensors::SafeTensors;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny")
}

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
    let export = Export::open(&folder()).unwrap();
    let model = FloatModel::load(&export).unwrap();
    let bytes = std::fs::read(folder().join("path.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let y = golden(&tensors, "y");
    let mut entropy = EntropyModel::new(&model.layout, FloatOps::new(&model), &golden(&tensors, "z_hat")).unwrap();
    assert_close("hyper", entropy.hyper_params(), &golden(&tensors, "hyper"));
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
        assert_close(&name(what), &parameters, &golden(&tensors, &name(what)).pack(pass.parity));
        let target = slice_half(&y, &model.config, pass.slice_index, pass.parity);
        let symbols: Vec<i32> = target.data.iter().zip(&gaussian.mean.data).map(|(y, m)| (y - m).round() as i32).collect();
        entropy.commit(pass, &symbols).unwrap();
        if pass.parity == Parity::Anchor {
            let anchors = entropy.anchors().unwrap().unpack(Parity::Anchor);
            assert_close(&name("anchor"), &anchors, &golden(&tensors, &name("anchor")));
        }
    }
    for (i, slice) in entropy.y_hat().iter().enumerate() {
        assert_close(&format!("slice{i}.y_hat"), slice, &golden(&tensors, &format!("slice{i}.y_hat")));
    }
}
