//! The integer synthesis against the float one from which it is made: how far its samples are from those of the float transform.

use mlic_backend::Planes;
use mlic_builder::onnx::import;
use mlic_builder::synthesis::{Observed, WeightWidth, quantize};
use mlic_builder::tables;
use mlic_kernels::Map;
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast;
use mlic_model::graph::{Graph, Node, NodeId, Op};
use mlic_tract::Transform;
use safetensors::SafeTensors;

use crate::common::tiny;

/// The golden synthesis, with its output scaled into the range of samples, and a latent.
fn golden() -> (Graph, Planes) {
    let tiny = tiny();
    let bytes = std::fs::read(tiny.join("transforms.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let y = file.tensor("y").unwrap();
    let &[1, channels, height, width] = y.shape() else { panic!("y: {:?}", y.shape()) };
    let data = y.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let y = Planes { channels, height, width, data };
    let graph = import(tiny.join("g_s.onnx")).unwrap();
    let x_hat = Transform::new(graph.clone()).unwrap().run(&y.data, channels, height, width, 1).unwrap();
    let factor = 0.45 / x_hat.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let output = graph.output();
    let mut nodes = graph.into_nodes();
    let last = nodes.iter_mut().rev().find_map(|n| if let Op::Conv2d(conv) = &mut n.op { Some(conv) } else { None }).unwrap();
    last.weight.iter_mut().for_each(|w| *w *= factor);
    last.bias.iter_mut().for_each(|b| *b = *b * factor + 0.5);
    (Graph::new(nodes, output).unwrap(), y)
}

/// Mean squared difference between integer samples and float samples before rounding, in squared units of a sample; clipped samples are left out.
fn noise(graph: &Graph, y: &Planes, width: WeightWidth) -> f64 {
    let observed = Observed::new(graph, [y.clone()], 1).unwrap();
    let synthesis = quantize(graph, &observed, width).unwrap();
    let area = y.height * y.width;
    let latent = (0..area).flat_map(|at| (0..y.channels).map(move |c| (c, at)));
    let latent = latent.map(|(c, at)| (y.data[c * area + at] * 4096.0).round() as i32).collect();
    let latent = Map { height: y.height, width: y.width, channels: y.channels, data: latent };
    let isa = Isa::best();
    let samples = fast::Synthesis::new(isa, &synthesis).unwrap().run(&fast::Tables::new(&tables::functions()), &latent).unwrap();
    let x_hat = Transform::new(graph.clone()).unwrap().run(&y.data, y.channels, y.height, y.width, 1).unwrap();
    let area = samples.height * samples.width;
    let float = |i: usize| f64::from(x_hat[i % 3 * area + i / 3]) * 255.0;
    let inside = (0..3 * area).filter(|i| (0.0..=255.0).contains(&float(*i)));
    let squares: Vec<f64> = inside.map(|i| (f64::from(samples.data[i]) - float(i)).powi(2)).collect();
    assert!(squares.len() > area, "most samples are clipped");
    squares.iter().sum::<f64>() / squares.len() as f64
}

#[test]
fn sixteen_bits_add_little_to_the_rounding_of_samples() {
    let (graph, y) = golden();
    let (words, bytes) = (noise(&graph, &y, WeightWidth::Words), noise(&graph, &y, WeightWidth::Bytes));
    println!("noise of samples: {words:.5} with 16-bit weights, {bytes:.5} with 8-bit weights; rounding alone {:.5}", 1.0 / 12.0);
    assert!(words < 1.0 / 12.0 + 0.01, "{words}");
    assert!(words < bytes, "{words} {bytes}");
}

#[test]
fn what_has_no_integer_form_is_refused() {
    let (graph, y) = golden();
    let nodes: Vec<Node> = graph.nodes().iter().cloned().chain([Node { op: Op::Gelu, inputs: vec![graph.output()] }]).collect();
    let output = NodeId(nodes.len() as u32 - 1);
    let graph = Graph::new(nodes, output).unwrap();
    let observed = Observed::new(&graph, [y], 1).unwrap();
    let error = quantize(&graph, &observed, WeightWidth::Words).unwrap_err();
    assert!(error.to_string().contains("GELU"), "{error}");
}
