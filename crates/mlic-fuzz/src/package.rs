//! Package: any bytes are refused or make a model that can be used as a whole.

use mlic_backend::memory::transform_bytes;
use mlic_backend::strips::Strips;
use mlic_model::Model;
use mlic_model::analysis::{Analyses, Analysis, HyperAnalysis};
use mlic_model::graph::{Dtype, Graph};
use mlic_model::model::Gain;
use mlic_model::package::SectionKind;
use mlic_model::synthesis::Synthesis;

use crate::exact;

pub(crate) fn target(bytes: &[u8]) {
    if let Ok(model) = Model::from_bytes(bytes.to_vec()) {
        accepted(&model);
    }
    exact::section(bytes);
    if let Ok(graph) = Graph::parse(bytes) {
        assert_eq!(Graph::parse(&graph.write(Dtype::F32)).as_ref(), Ok(&graph), "what is written parses");
        let _ = (graph.sizes(1 << 16, 1 << 16), graph.macs(u64::MAX, u64::MAX));
        in_strips(&graph, 1 << 12, 1 << 12);
    }
}

/// Checks what is computed about a transform before it runs: there are strips, they cover the input, and its memory is known.
fn in_strips(graph: &Graph, height: usize, width: usize) {
    let strips = Strips::new(graph);
    let rows = strips.rows(width);
    assert!(rows > 0 && rows.is_multiple_of(graph.stride() as usize));
    let mut end = 0;
    for strip in strips.cut(height, rows) {
        assert!(strip.own.start == end && strip.own.end > end && strip.with_halo.end >= strip.own.end);
        end = strip.own.end;
    }
    assert_eq!(end, height);
    assert!(transform_bytes(graph, height, width) > 0);
}

/// Checks that every part of an accepted model is there, at every quality.
pub(crate) fn accepted(model: &Model) {
    let layers = model.layout().layers.len();
    for level in 0..model.config().scale_levels {
        for id in 0..layers {
            assert!(model.layer(mlic_model::layout::LayerId(id), level).is_some(), "layer {id} at level {level}");
        }
    }
    if let Some(own) = model.exact_synthesis() {
        let last = own.shapes().last().unwrap();
        assert_eq!((own.shapes().len(), last.channels, last.scale, last.max), (own.nodes().len() + 1, 3, 16, 255));
        let again = Synthesis::read(&own.write(), model.config().latent);
        assert_eq!(again.ok().as_ref(), Some(own), "what is written reads");
    }
    let analyses = model.exact_analysis().unwrap();
    assert_eq!(analyses.is_some(), model.has_exact_analysis());
    if let Some(Analyses { g_a, h_a }) = analyses {
        let (latent, hyper) = (model.config().latent, model.config().hyper);
        assert_eq!(Analysis::read(&g_a.write(), latent).ok().as_ref(), Some(&g_a), "what is written reads");
        assert_eq!(HyperAnalysis::read(&h_a.write(), latent, hyper).ok().as_ref(), Some(&h_a), "what is written reads");
    }
    match model.transform(SectionKind::Synthesis) {
        Ok(graph) => {
            assert_eq!(graph.output_channels(), 3);
            in_strips(&graph, 1 << 8, 1 << 8);
        }
        Err(error) => assert!(!model.has_float_synthesis() && error.code() == "graph", "{error}"),
    }
    for quality in 0..=model.quality_steps() {
        assert!(model.config().scale_level(quality) < model.config().scale_levels);
        assert_eq!(model.gain(Gain::Y, quality).len(), model.config().latent);
        for symbol in [-32_767, 0, 32_767] {
            let z = model.z_latent(&vec![symbol; model.config().hyper], quality).unwrap();
            assert!(z.iter().all(|v| v.abs() <= mlic_core::fixed::LATENT_MAX));
        }
    }
}
