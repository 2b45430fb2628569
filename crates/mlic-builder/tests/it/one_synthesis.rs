//! What a package contains of `g_s`: builds of the tiny checkpoint with one layer rounded to bytes, as training does it.

use mlic_backend::Planes;
use mlic_builder::synthesis::{Observed, WeightWidth, quantize, quantize_analysis};
use mlic_builder::{BuildOptions, Export};
use mlic_model::Model;
use mlic_model::graph::{Conv2d, Graph, Op};
use mlic_model::nodes::{self, Layer};
use mlic_model::package::SectionKind;
use mlic_model::synthesis::Synthesis;

use crate::common;

/// The tiny checkpoint.
fn tiny() -> Export {
    Export::open(&common::tiny()).unwrap()
}

/// Rounds weights to multiples of `to` steps, with a step per output of which the largest weight has 127, and stores them in half precision. Returns
/// the numbers of steps, which are whole if `to` is 1.
fn round(conv: &mut Conv2d, to: f32) -> Vec<i8> {
    let per_output = (conv.input * conv.kernel * conv.kernel) as usize;
    let mut whole = Vec::new();
    for row in conv.weight.chunks_exact_mut(per_output) {
        let scale = row.iter().fold(0.0_f32, |m, w| m.max(w.abs())) / 127.0;
        for w in row {
            let n = (*w / scale / to).round() * to;
            *w = half::f16::from_f32(n * scale).to_f32();
            whole.push(n as i8);
        }
    }
    whole
}

/// Rounds the `index`-th convolution of a graph. Returns the graph and the whole numbers in the order of the package.
fn rounded(graph: Graph, index: usize, to: f32) -> (Graph, Vec<i8>) {
    let output = graph.output();
    let mut nodes = graph.into_nodes();
    let mut convs = nodes.iter_mut().filter_map(|n| if let Op::Conv2d(conv) = &mut n.op { Some(conv) } else { None });
    let conv = convs.nth(index).unwrap();
    let whole = round(conv, to);
    let (inputs, taps) = (conv.input as usize, (conv.kernel * conv.kernel) as usize);
    let ordered =
        whole.chunks_exact(inputs * taps).flat_map(|row| (0..inputs * taps).map(|i| row[i % inputs * taps + i / inputs]));
    let ordered = ordered.collect();
    (Graph::new(nodes, output).unwrap(), ordered)
}

fn input(graph: &Graph, side: usize) -> Planes {
    let channels = graph.input_channels() as usize;
    let data = (0..channels * side * side).map(|i| (i * i % 23) as f32 / 12.0 - 0.9).collect();
    Planes { channels, height: side, width: side, data }
}

fn synthesis(graph: &Graph, width: WeightWidth) -> Synthesis {
    quantize(graph, &Observed::new(graph, [input(graph, 4)], 1).unwrap(), width).unwrap()
}

fn of_bytes(own: &Synthesis) -> Vec<&Layer> {
    own.weighted_layers().filter(|layer| layer.is_of_bytes()).collect()
}

#[test]
fn layers_that_are_bytes_already_are_stored_as_bytes() {
    let graph = tiny().g_s;
    let plain = synthesis(&graph, WeightWidth::Words);
    assert!(of_bytes(&plain).is_empty());
    let (whole_bytes, expected) = rounded(graph.clone(), 2, 1.0);
    let own = synthesis(&whole_bytes, WeightWidth::Words);
    let [layer] = of_bytes(&own)[..] else { panic!("{} layers of bytes", of_bytes(&own).len()) };
    assert!(layer.weights[0].view().iter().eq(expected.iter().copied().map(i32::from)), "other bytes");
    assert!(own.write().len() + expected.len() == plain.write().len(), "a byte less per weight");
    // Rounded to multiples of half a step, every second weight lies between two bytes.
    assert!(of_bytes(&synthesis(&rounded(graph, 2, 0.5).0, WeightWidth::Words)).is_empty());
    assert_eq!(of_bytes(&synthesis(&whole_bytes, WeightWidth::Bytes)).len(), own.weighted_layers().count());
}

#[test]
fn an_analysis_needs_one_term_for_them() {
    let graph = tiny().g_a;
    let terms = |graph: &Graph| {
        let own = quantize_analysis(graph, &Observed::new(graph, [input(graph, 64)], 1).unwrap(), WeightWidth::Words).unwrap();
        let layers = own.nodes().iter().filter_map(|n| if let nodes::Node::Layer(layer) = n { Some(layer) } else { None });
        layers.filter(|layer| layer.has_weights()).map(|layer| layer.weights.len()).collect::<Vec<_>>()
    };
    assert!(terms(&graph).iter().all(|terms| *terms == 2));
    assert_eq!(terms(&rounded(graph, 1, 1.0).0).iter().filter(|terms| **terms == 1).count(), 1);
}

fn package(export: &Export, exact_weights: Option<WeightWidth>) -> Model {
    common::package(export, &BuildOptions { exact_weights, budget: 0.0, ..common::options() })
}

#[test]
fn a_package_has_one_synthesis() {
    let mut export = tiny();
    export.g_s = rounded(export.g_s, 2, 1.0).0;
    let integer = package(&export, Some(WeightWidth::Words));
    let own = integer.exact_synthesis().unwrap();
    assert!(!integer.has_float_synthesis());
    let said = integer.metadata().provenance["exact g_s"].clone();
    assert_eq!(said, format!("weights of 1 of {} layers are bytes", own.weighted_layers().count()));
    let graph = integer.transform(SectionKind::Synthesis).unwrap();
    assert_eq!((graph.output_channels(), graph.scale()), (3, export.g_s.scale()));

    let float = package(&export, None);
    assert!(float.has_float_synthesis() && float.exact_synthesis().is_none());
    assert!(!float.metadata().provenance.contains_key("exact g_s"));
}
