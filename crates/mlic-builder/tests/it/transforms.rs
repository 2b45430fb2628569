//! Transforms of an export directory against what PyTorch computed (`models/golden.py`).
//!
//! `golden/tiny` runs always; `MLIC_SHAPES=DIR[:DIR...] cargo test --test it transforms -- --nocapture` runs others,
//! which `models/prove_shapes.sh` makes.

use mlic_builder::onnx::import;
use mlic_model::graph::{Dtype, Graph};
use mlic_tract::Transform;
use safetensors::SafeTensors;
use std::path::Path;

use crate::common::tiny;

/// [c, h, w] of a [1, c, h, w] tensor, and its values.
fn tensor(file: &SafeTensors, name: &str) -> ([usize; 3], Vec<f32>) {
    let t = file.tensor(name).unwrap();
    let &[1, c, h, w] = t.shape() else { panic!("{name}: {:?}", t.shape()) };
    let (values, _) = t.data().as_chunks::<4>();
    ([c, h, w], values.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn relative_error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

/// Largest relative error of g_a, h_a and g_s, printed.
fn compare(folder: &Path) -> f32 {
    let bytes = std::fs::read(folder.join("transforms.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst = 0f32;
    for (name, input, output, scale) in [("g_a", "x", "y", (1, 16)), ("h_a", "y", "z", (1, 4)), ("g_s", "y", "x_hat", (16, 1))] {
        let graph = import(folder.join(format!("{name}.onnx"))).unwrap();
        assert_eq!((graph.scale().numerator, graph.scale().denominator), scale);
        let ([c, h, w], x) = tensor(&file, input);
        let (_, want) = tensor(&file, output);
        let macs = graph.macs(h as u64, w as u64).unwrap();
        let halved = Graph::parse(&graph.write(Dtype::F16)).unwrap();
        let parameters = graph.parameter_count();
        let run = |g| Transform::new(g).unwrap().run(&x, c, h, w, 2).unwrap();
        let (error, error_f16) = (relative_error(&run(graph), &want), relative_error(&run(halved), &want));
        println!(
            "{} {name}: {parameters} parameters, {macs} MAC for {h}x{w}, relative error {error:.1e} (f16 weights {error_f16:.1e})",
            folder.display()
        );
        worst = worst.max(error);
    }
    worst
}

#[test]
fn tiny_agrees_with_pytorch() {
    let tiny = tiny();
    assert!(compare(&tiny) <= 1e-4);
}

#[test]
fn shapes_agree_with_pytorch() {
    let Ok(folders) = std::env::var("MLIC_SHAPES") else {
        eprintln!("not run: MLIC_SHAPES does not name export directories (models/prove_shapes.sh makes them)");
        return;
    };
    for folder in folders.split(':') {
        assert!(compare(Path::new(folder)) <= 1e-3, "{folder}");
    }
}
