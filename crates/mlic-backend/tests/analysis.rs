//! Integer analyses that must be refused (SPEC 2.10), and the parts of a package that do not depend on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mlic_backend::BackendError;
use mlic_backend::analysis::check_latent;
use mlic_backend::integer::check_y_hat;
use mlic_backend::probe::with_integer_analysis;
use mlic_kernels::Map;
use mlic_model::Model;
use mlic_model::analysis::Analysis;
use mlic_model::layout::Epilogue;
use mlic_model::nodes::{Gdn, Layer, Node, Resize};
use mlic_model::package::{self, SectionKind};

fn tiny() -> Model {
    Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg")).unwrap()
}

/// The tiny package with integer analyses and one section changed.
fn changed(kind: SectionKind, change: impl Fn(&mut Vec<u8>)) -> Result<Model, mlic_model::ModelError> {
    let bytes = with_integer_analysis(&tiny()).unwrap();
    let parsed = package::parse(&bytes).unwrap();
    let sections: Vec<(SectionKind, Vec<u8>)> = parsed
        .sections()
        .map(|(at, range)| {
            let mut section = bytes[range].to_vec();
            if at == kind {
                change(&mut section);
            }
            (at, section)
        })
        .collect();
    Model::from_bytes(package::write(&sections))
}

/// The product of these sides is 0 in a machine word, and so is the number of elements.
#[test]
fn sides_whose_product_wraps_have_no_picture_and_no_z() {
    let side = 1 << (usize::BITS / 2);
    let map = Map { height: side, width: side, channels: tiny().config().latent, data: Vec::new() };
    assert!(matches!(check_y_hat(&tiny(), &map), Err(BackendError::Shape { got: 0, need: usize::MAX, .. })));
    assert!(matches!(check_latent(&tiny(), &map), Err(BackendError::Shape { got: 0, need: usize::MAX, .. })));
}

#[test]
fn the_id_does_not_depend_on_it() {
    let model = changed(SectionKind::Analysis, |_| ()).unwrap();
    assert_eq!(model.hash(), tiny().hash());
    assert!(model.has_exact_analysis() && !tiny().has_exact_analysis());
    assert!(model.exact_analysis().unwrap().is_some() && tiny().exact_analysis().unwrap().is_none());
    assert!(model.transform(SectionKind::Analysis).is_err(), "there is no float one");
}

#[test]
fn bytes_that_break_a_rule_are_refused() {
    // In g_a the first node is a layer, whose numbers begin at 12; in h_a the quantizer comes before.
    let refused: [(&str, usize, u8); 9] = [
        ("version", 4, 2),
        ("no nodes", 8, 0),
        ("an inverse normalization", 12, 2),
        ("a kernel of 2", 13, 2),
        ("latents before the last node", 14, 2),
        ("stride 0", 15, 0),
        ("stride 3", 15, 3),
        ("weights of 3 bytes", 16, 3),
        ("a node that is not before it", 22, 1),
    ];
    for (what, at, value) in refused {
        assert!(changed(SectionKind::Analysis, |s| s[at] = value).is_err(), "{what}");
    }
    assert!(changed(SectionKind::Analysis, |s| s.push(0)).is_err(), "a byte too many");
    assert!(changed(SectionKind::Analysis, |s| s[0] ^= 1).is_err(), "one analysis in integers, the other not a graph");
    assert!(changed(SectionKind::HyperAnalysis, |s| s[16] = 63).is_err(), "a shift of 63");
    let float = tiny().as_bytes().to_vec();
    let own = float[package::parse(&float).unwrap().range(SectionKind::HyperAnalysis)].to_vec();
    assert!(changed(SectionKind::HyperAnalysis, |s| *s = own.clone()).is_err(), "one analysis in integers alone");
}

#[test]
fn nodes_that_break_a_rule_are_refused() {
    let g_a = changed(SectionKind::Metadata, |_| ()).unwrap().exact_analysis().unwrap().unwrap().g_a;
    let latent = tiny().config().latent;
    let with = |change: &dyn Fn(&mut Vec<Node>)| {
        let mut nodes = g_a.nodes().to_vec();
        change(&mut nodes);
        Analysis::new(latent, nodes)
    };
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|nodes| nodes.truncate(nodes.len() - 1)).is_err(), "the last node is no latents");
    assert!(with(&|nodes| nodes.clear()).is_err(), "no nodes");
    let of_gdn = |nodes: &mut Vec<Node>, change: &dyn Fn(&mut Gdn)| {
        nodes.iter_mut().for_each(|node| {
            if let Node::Gdn(gdn) = node {
                change(gdn)
            }
        });
    };
    assert!(with(&|nodes| of_gdn(nodes, &|gdn| gdn.multipliers[0] = i32::MAX / 2000)).is_ok());
    assert!(with(&|nodes| of_gdn(nodes, &|gdn| gdn.multipliers[0] = i32::MAX / 2000 + 1)).is_err(), "a numerator of 33 bits");
    assert!(with(&|nodes| of_gdn(nodes, &|gdn| gdn.multipliers[0] = -1)).is_err(), "a negative multiplier");
    assert!(with(&|nodes| of_gdn(nodes, &|gdn| gdn.output_shift = 63)).is_err(), "a shift of 63");
    assert!(with(&|nodes| of_gdn(nodes, &|gdn| gdn.gamma[0] = -1)).is_err(), "a negative gamma");
    assert!(with(&|nodes| of_gdn(nodes, &|gdn| gdn.inverse = true)).is_err(), "an inverse normalization");
    let of_last = |nodes: &mut Vec<Node>, change: &dyn Fn(&mut Layer)| {
        if let Some(Node::Layer(layer)) = nodes.last_mut() {
            change(layer);
        }
    };
    assert!(with(&|nodes| of_last(nodes, &|layer| layer.resize = Resize::None)).is_err(), "twice the size of y");
    assert!(with(&|nodes| of_last(nodes, &|layer| layer.spec.epilogue = Epilogue::Linear)).is_err(), "activations at the end");
    assert!(with(&|nodes| of_last(nodes, &|layer| layer.spec.epilogue = Epilogue::Pixel)).is_err(), "samples at the end");
    assert!(with(&|nodes| of_last(nodes, &|layer| layer.resize = Resize::Shuffle)).is_err(), "a shuffle");
}
