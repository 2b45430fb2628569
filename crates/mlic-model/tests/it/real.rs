//! The integer synthesis in real numbers: which operators its graph has. That it computes what it should is tested in `mlic-fuzz`, `mlic-tract` and `mlic`.

use mlic_model::Model;
use mlic_model::graph::{Graph, Op};
use mlic_model::package::SectionKind;

fn model(name: &str) -> Model {
    Model::open(format!("{}/../../conformance/models/{name}.mlicpkg", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Convolutions, multiplications per channel, normalizations, GELUs, shuffles and sums.
fn operators(graph: &Graph) -> [usize; 6] {
    let mut counts = [0; 6];
    for node in graph.nodes() {
        let kind = match &node.op {
            Op::Conv2d(conv) if conv.groups > 1 => 1,
            Op::Conv2d(_) => 0,
            Op::Gdn(_) => 2,
            Op::Gelu => 3,
            Op::PixelShuffle { .. } => 4,
            Op::Add => 5,
            _ => continue,
        };
        counts[kind] += 1;
    }
    counts
}

#[test]
fn it_has_the_operators_of_the_graph_that_it_was_made_of() {
    let model = model("tiny");
    let own = model.transform(SectionKind::Synthesis).unwrap();
    let derived = mlic_model::real::graph(model.exact_synthesis().unwrap()).unwrap();
    assert_eq!(operators(&derived), operators(&own));
    assert_eq!((derived.macs(3, 5).unwrap(), derived.scale()), (own.macs(3, 5).unwrap(), own.scale()));
}

#[test]
fn multipliers_that_differ_are_multiplications() {
    let graph = mlic_model::real::graph(model("edge-cases").exact_synthesis().unwrap()).unwrap();
    assert!(operators(&graph)[1] > 0, "{:?}", operators(&graph));
}

#[test]
fn real_numbers_become_the_nearest_latents() {
    let half = 0.5 / 4096.0;
    let values = [0.0, 1.0, -1.0, half, -half, 0.49 / 4096.0, 1e9, -1e9, f32::NAN];
    let latents = [0, 4096, -4096, 1, -1, 0, (1 << 27) - 1, 1 - (1 << 27), 0];
    assert_eq!(values.map(mlic_model::real::to_latent), latents);
}
