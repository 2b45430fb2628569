//! The integer analysis strip by strip (SPEC 5.8), as the synthesis is computed: memory grows with the width of the picture, not with its height.

use mlic_model::analysis::{self, Node, SAMPLES_SCALE};
use mlic_model::parameters::Requant;

use super::gdn::PackedGdn;
use super::quantize::quantize;
use super::strip_rows;
use super::synthesis::{Nodes, PackedNode, Window};
use super::tables::Tables;
use crate::cpu::Isa;
use crate::map::{Map, Picture};

/// An integer `g_a` or `h_a` with its weights packed for one instruction set.
#[derive(Debug, Clone)]
pub struct Analysis {
    isa: Isa,
    /// Of `h_a`.
    requant: Requant,
    nodes: Nodes,
}

impl Analysis {
    /// Packs the weights.
    #[must_use]
    pub fn new(isa: Isa, own: &analysis::Analysis) -> Self {
        let shapes = own.shapes().to_vec();
        let node = |node: &Node| match node {
            Node::Layer { layer, stride } => PackedNode::layer(isa, layer, *stride, &shapes),
            Node::Gdn(gdn) => PackedNode::normalization(gdn.input, PackedGdn::divisive(isa, gdn)),
        };
        let nodes = own.nodes().iter().map(node).collect();
        let requant = own.quantizer().map_or(Requant { multiplier: 0, shift: 0 }, |quantizer| quantizer.level());
        Self { isa, requant, nodes: Nodes { shapes, nodes } }
    }

    /// [`crate::reference::analysis`].
    #[must_use]
    pub fn analyze(&self, tables: &Tables, picture: &Picture<'_>, padded: [usize; 2]) -> Map<i32> {
        self.analyze_in_strips(tables, picture, padded, strip_rows(padded[1] / SAMPLES_SCALE))
    }

    /// The same, so many rows of y at a time: no result depends on it.
    #[must_use]
    pub fn analyze_in_strips(&self, tables: &Tables, picture: &Picture<'_>, padded: [usize; 2], strip_rows: usize) -> Map<i32> {
        let row_len = 3 * padded[1];
        self.run(tables, padded, strip_rows, &mut |end, window: &mut Window| {
            let first = window.data.len();
            window.data.resize(first + (end - window.rows.end) * row_len, 0);
            let rows = window.data[first..].chunks_exact_mut(row_len.max(1));
            (window.rows.end..end).zip(rows).for_each(|(row, to)| picture.padded_row(row, to));
            window.rows.end = end;
        })
    }

    /// [`crate::reference::hyper_analysis`].
    #[must_use]
    pub fn hyper_analyze(&self, tables: &Tables, y: &Map<i32>) -> Map<i32> {
        self.hyper_analyze_in_strips(tables, y, strip_rows(y.width / analysis::LATENT_SCALE))
    }

    /// The same, so many rows of z at a time: no result depends on it.
    #[must_use]
    pub fn hyper_analyze_in_strips(&self, tables: &Tables, y: &Map<i32>, strip_rows: usize) -> Map<i32> {
        let row_len = y.width * y.channels;
        self.run(tables, [y.height, y.width], strip_rows, &mut |end, window: &mut Window| {
            let data = y.data[window.rows.end * row_len..end * row_len].to_vec();
            let part = Map { height: end - window.rows.end, width: y.width, channels: y.channels, data };
            window.data.extend(quantize(self.isa, &part, self.requant, self.nodes.shapes[0].max).data);
            window.rows.end = end;
        })
    }

    /// `input` are the rows and columns of node 0.
    fn run(&self, tables: &Tables, input: [usize; 2], strip_rows: usize, fill: &mut dyn FnMut(usize, &mut Window)) -> Map<i32> {
        let (Some(first), Some(last)) = (self.nodes.shapes.first(), self.nodes.shapes.last()) else { return Map::zeros(0, 0, 0) };
        let size @ [height, width] = input.map(|side| side / first.scale);
        let mut out = Map::zeros(height, width, last.channels);
        let mut windows = self.nodes.windows();
        let strip = strip_rows.max(1);
        for (i, out) in out.data.chunks_mut((strip * width * last.channels).max(1)).enumerate() {
            let rows = i * strip..((i + 1) * strip).min(height);
            self.nodes.strip(tables, size, rows.end, &mut windows, fill);
            if let (Some(node), [before @ .., _]) = (self.nodes.nodes.last(), windows.as_slice()) {
                node.latents(&self.nodes.inputs(node, before, size), rows, out);
            }
            self.nodes.forget(size, &mut windows);
        }
        out
    }
}
