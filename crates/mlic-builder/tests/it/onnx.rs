//! Import of a small ONNX file (`fixtures/make_onnx.py`), against tract-onnx running the file itself.

use mlic_builder::onnx::{ImportError, import};
use mlic_model::graph::{Dtype, Graph, Scale};
use mlic_tract::Transform;
use tract_onnx::prelude::*;

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn original(name: &str, input: &[f32], h: usize, w: usize) -> TractResult<Vec<f32>> {
    let fact = InferenceFact::dt_shape(f32::datum_type(), [1, 3, h, w]);
    let model = tract_onnx::onnx().with_ignore_output_shapes(true).model_for_path(fixture(name))?;
    let plan = model.with_input_fact(0, fact)?.into_optimized()?.into_runnable()?;
    let out = plan.run(tvec!(Tensor::from_shape(&[1, 3, h, w], input)?.into_tvalue()))?;
    Ok(out[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

#[test]
fn imported_and_original_compute_the_same() {
    let graph = import(fixture("small.onnx")).unwrap();
    assert_eq!((graph.input_channels(), graph.output_channels()), (3, 3));
    assert_eq!(graph.scale(), Scale { numerator: 2, denominator: 1 });
    let reread = Graph::parse(&graph.write(Dtype::F32)).unwrap();
    assert_eq!(reread, graph);
    let transform = Transform::new(graph).unwrap();
    for (h, w) in [(8, 8), (12, 20)] {
        let input: Vec<f32> = (0..3 * h * w).map(|i| ((i * 7919) % 1009) as f32 / 252.0 - 2.0).collect();
        let want = original("small.onnx", &input, h, w).unwrap();
        let got = transform.run(&input, 3, h, w, 1).unwrap();
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        let error = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(error <= 1e-5 * largest, "{h}x{w}: off by {error:e} of {largest}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    match import(fixture("unsupported.onnx")) {
        Err(ImportError::Unsupported { op, .. }) => assert_eq!(op, "LeakyRelu"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(import(fixture("make_onnx.py")), Err(ImportError::Read { .. })));
    assert!(matches!(import(fixture("absent.onnx")), Err(ImportError::Read { .. })));
}
