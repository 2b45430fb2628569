//! The integer analysis against the float one from which it is made: `tests/golden/tiny`, 64 x 128 pixels.

use mlic_backend::Planes;
use mlic_builder::onnx::import;
use mlic_builder::synthesis::{Observed, WeightWidth, quantize_analysis, quantize_hyper_analysis};
use mlic_builder::tables;
use mlic_kernels::cpu::Isa;
use mlic_kernels::{Map, Picture, fast};
use mlic_model::graph::Graph;
use mlic_tract::Transform;

use crate::common::tiny;

fn graph(name: &str) -> Graph {
    import(tiny().join(name)).unwrap()
}

fn run(graph: &Graph, input: &Planes) -> Planes {
    let Planes { channels, height, width, ref data } = *input;
    let data = Transform::new(graph.clone()).unwrap().run(data, channels, height, width, 1).unwrap();
    let scale = graph.scale();
    let side = |side: usize| side * scale.numerator as usize / scale.denominator as usize;
    Planes { channels: graph.output_channels() as usize, height: side(height), width: side(width), data }
}

/// Root mean square of the errors of integer latents, relative to that of the float latents.
fn relative_error(got: &Map<i32>, float: &Planes) -> f64 {
    assert_eq!((got.height, got.width, got.channels), (float.height, float.width, float.channels));
    let area = float.height * float.width;
    let real = |i: usize| f64::from(float.data[i % got.channels * area + i / got.channels]);
    let sum = |of: &dyn Fn(usize) -> f64| (0..got.data.len()).map(|i| of(i).powi(2)).sum::<f64>();
    (sum(&|i| f64::from(got.data[i]) / 4096.0 - real(i)) / sum(&real)).sqrt()
}

#[test]
fn sixteen_bits_follow_the_float_transforms() {
    let (height, width) = (64, 128);
    let sample = |i: usize| {
        let (row, col) = (i / 3 / width, i / 3 % width);
        (50 + row + if col > 40 && row > col / 2 { 64 } else { 0 } + i * i % 23) as u8
    };
    let rgb: Vec<u8> = (0..3 * height * width).map(sample).collect();
    let data = (0..3).flat_map(|c| rgb.iter().skip(c).step_by(3)).map(|v| f32::from(*v) / 255.0).collect();
    let x = Planes { channels: 3, height, width, data };
    let picture = Picture::new(height, width, &rgb).unwrap();
    let (g_a, h_a) = (graph("g_a.onnx"), graph("h_a.onnx"));
    let y = run(&g_a, &x);
    let z = run(&h_a, &y);
    let (tables, isa) = (fast::Tables::new(&tables::functions()), Isa::best());
    let observed = [Observed::new(&g_a, [x], 1).unwrap(), Observed::new(&h_a, [y.clone()], 1).unwrap()];
    let errors = |weights| {
        let own = quantize_analysis(&g_a, &observed[0], weights).unwrap();
        let got = fast::Analysis::new(isa, &own).unwrap().run(&tables, &picture).unwrap();
        let hyper = quantize_hyper_analysis(&h_a, &observed[1], weights).unwrap();
        let got_z = fast::HyperAnalysis::new(isa, &hyper).unwrap().run(&tables, &got).unwrap();
        [relative_error(&got, &y), relative_error(&got_z, &z)]
    };
    let (words, bytes) = (errors(WeightWidth::Words), errors(WeightWidth::Bytes));
    println!("relative errors of y and z: {words:.5?} with 16-bit weights, {bytes:.5?} with 8-bit weights");
    for i in 0..2 {
        assert!(words[i] < 0.002, "{words:?}");
        assert!(words[i] < bytes[i], "{words:?} {bytes:?}");
    }
}

#[test]
fn a_synthesis_is_no_analysis() {
    let g_s = graph("g_s.onnx");
    let y = Planes {
        channels: g_s.input_channels() as usize,
        height: 4,
        width: 4,
        data: vec![0.5; 16 * g_s.input_channels() as usize],
    };
    let observed = Observed::new(&g_s, [y], 1).unwrap();
    let error = quantize_hyper_analysis(&g_s, &observed, WeightWidth::Words).unwrap_err();
    assert!(error.to_string().contains(" of h_a: ") && error.to_string().contains("normalization"), "{error}");
}
