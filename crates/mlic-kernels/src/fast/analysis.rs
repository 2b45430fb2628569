//! The integer analysis strip by strip (SPEC 5.8), as the synthesis is computed: memory grows with the width of the picture, not with its height.

use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::{self, Node, SAMPLES_SCALE};
use mlic_model::parameters::Requant;

use super::gdn::PackedGdn;
use super::quantize::quantize_into;
use super::strip_rows;
use super::synthesis::{Fill, Nodes, PackedNode, Window};
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
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, own: &analysis::Analysis) -> Result<Self, OutOfMemory> {
        let shapes = own.shapes().to_vec();
        let node = |node: &Node| match node {
            Node::Layer { layer, stride } => PackedNode::layer(isa, layer, *stride, &shapes),
            Node::Gdn(gdn) => Ok(PackedNode::normalization(gdn.input, PackedGdn::divisive(isa, gdn, shapes[gdn.input.0].max)?)),
        };
        let nodes = own.nodes().iter().map(node).collect::<Result<_, _>>()?;
        let requant = own.quantizer().map_or(Requant { multiplier: 0, shift: 0 }, |quantizer| quantizer.level());
        Ok(Self { isa, requant, nodes: Nodes { shapes, nodes } })
    }

    /// [`crate::reference::analysis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn analyze(&self, tables: &Tables, picture: &Picture<'_>, padded: [usize; 2]) -> Result<Map<i32>, OutOfMemory> {
        self.analyze_in_strips(tables, picture, padded, strip_rows(padded[1] / SAMPLES_SCALE))
    }

    /// The same, so many rows of y at a time: no result depends on it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn analyze_in_strips(
        &self,
        tables: &Tables,
        picture: &Picture<'_>,
        padded: [usize; 2],
        strip_rows: usize,
    ) -> Result<Map<i32>, OutOfMemory> {
        let row_len = 3 * padded[1];
        self.run(tables, padded, strip_rows, &mut |end, window: &mut Window| {
            let first = window.end();
            let rows = window.append(end, row_len)?;
            (first..end).zip(rows.chunks_exact_mut(row_len.max(1))).for_each(|(row, to)| picture.padded_row(row, to));
            Ok(())
        })
    }

    /// [`crate::reference::hyper_analysis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn hyper_analyze(&self, tables: &Tables, y: &Map<i32>) -> Result<Map<i32>, OutOfMemory> {
        self.hyper_analyze_in_strips(tables, y, strip_rows(y.width / analysis::LATENT_SCALE))
    }

    /// The same, so many rows of z at a time: no result depends on it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn hyper_analyze_in_strips(&self, tables: &Tables, y: &Map<i32>, strip_rows: usize) -> Result<Map<i32>, OutOfMemory> {
        let row_len = y.width * y.channels;
        self.run(tables, [y.height, y.width], strip_rows, &mut |end, window: &mut Window| {
            let part = &y.data[window.end() * row_len..end * row_len];
            let rows = window.append(end, row_len)?;
            quantize_into(self.isa, part, self.requant, self.nodes.shapes[0].max, rows);
            Ok(())
        })
    }

    /// `input` are the rows and columns of node 0.
    fn run(&self, tables: &Tables, input: [usize; 2], strip_rows: usize, fill: &mut Fill<'_>) -> Result<Map<i32>, OutOfMemory> {
        let (Some(first), Some(last)) = (self.nodes.shapes.first(), self.nodes.shapes.last()) else { return Map::zeros(0, 0, 0) };
        let size @ [height, width] = input.map(|side| side / first.scale);
        let mut out = Map::zeros(height, width, last.channels)?;
        let mut windows = self.nodes.windows();
        let strip = strip_rows.max(1);
        for (i, out) in out.data.chunks_mut((strip * width * last.channels).max(1)).enumerate() {
            let rows = i * strip..((i + 1) * strip).min(height);
            self.nodes.strip(tables, size, rows.end, &mut windows, fill, &mut |_, _| ())?;
            if let (Some(node), [before @ .., _]) = (self.nodes.nodes.last(), windows.as_slice()) {
                node.latents(&self.nodes.inputs(node, before, size), rows, out)?;
            }
            self.nodes.forget(size, &mut windows);
        }
        Ok(out)
    }
}
