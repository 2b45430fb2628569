//! The nodes of an integer transform with their weights packed, and how they go through a picture. A synthesis cuts a picture that is high enough into as
//! many parts as there are threads ([`Plan`]), each with rows of its own. Threads then wait for each other only once, and find in their caches what they
//! have written.

use std::ops::Range;

use bytemuck::Zeroable;
use mlic_core::memory::OutOfMemory;
use mlic_model::layout::{Epilogue as Kind, NodeIndex};
use mlic_model::nodes::{self, Node, NodeShape, OwnedWeights, Resize};
use mlic_model::parameters::Requant;
use mlic_model::rows::RowFlow;
use rayon::prelude::*;

use super::constants::Constants;
use super::epilogue::{Gelu, Latent, Linear};
use super::gdn::PackedGdn;
use super::layer::{Order, Part, Positions};
use super::pack::Layer;
use super::plan::Plan;
use super::quantize::quantize_into;
use super::tables::Tables;
use super::walk::{Fill, Walk, Window};
use crate::cpu::Isa;
use crate::map::{Map, Rows};

/// Nodes that are computed strip by strip.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    pub(super) isa: Isa,
    /// The rows that flow between all nodes, including a last one whose rows are not kept.
    pub(super) flow: RowFlow,
    /// The nodes whose rows are kept, from node 1 on: all of them, or all but the last.
    pub(super) nodes: Vec<PackedNode>,
}

/// Writes rows of the last node to the output, once a strip has computed what they need.
pub(super) type Last<'l, T> = dyn Fn(&Walk<'_>, &mut [Window], Range<usize>, &mut [T]) -> Result<(), OutOfMemory> + Sync + 'l;

impl Nodes {
    /// Packs the weights of `kept`, the first nodes of `own`, whose rows are to be kept.
    pub(super) fn new(isa: Isa, own: &nodes::Nodes, kept: &[Node]) -> Result<Self, OutOfMemory> {
        let nodes = kept.iter().map(|node| PackedNode::new(isa, node, own.shapes())).collect::<Result<_, _>>()?;
        Ok(Self { isa, flow: RowFlow::new(own.shapes(), own.nodes()), nodes })
    }

    /// Computes the output of the last node; `size` is the rows and columns of a map of scale 1.
    pub(super) fn run<T: Copy + Zeroable + Send>(
        &self,
        tables: &Tables,
        size: [usize; 2],
        plan: Plan,
        fill: &Fill<'_>,
        last: &Last<'_, T>,
    ) -> Result<Map<T>, OutOfMemory> {
        let NodeShape { scale, channels, .. } = self.flow.shapes()[self.flow.shapes().len() - 1];
        let [height, width] = size.map(|side| scale * side);
        let mut out = Map::zeros(height, width, channels)?;
        // Elements of the output for one row at scale 1.
        let row_len = (scale * width * channels).max(1);
        let (part_rows, strip_rows) = (plan.rows_of(size[0]), plan.strip_rows.max(1));
        let walk = Walk { nodes: self, tables, size, threads: plan.threads };
        out.data.par_chunks_mut(part_rows * row_len).enumerate().try_for_each(|(part, out)| {
            let mut end = scale * part * part_rows;
            let mut windows = walk.windows(end);
            for out in out.chunks_mut(strip_rows * row_len) {
                let rows = end..end + scale * (out.len() / row_len);
                end = rows.end;
                walk.strip(end, &mut windows, fill)?;
                last(&walk, &mut windows, rows, out)?;
                walk.forget(&mut windows);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// The [`Fill`] that makes the rows of node 0 by quantizing latents.
    pub(super) fn quantizing(
        &self,
        latent: &Map<i32>,
        requant: Requant,
    ) -> impl Fn(usize, &mut Window) -> Result<(), OutOfMemory> + Sync {
        let (isa, max, row_len) = (self.isa, self.flow.shapes()[0].max, latent.width * latent.channels);
        move |end, window| {
            let part = &latent.data[window.end() * row_len..end * row_len];
            quantize_into(isa, part, requant, max, window.append(end, row_len)?);
            Ok(())
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum PackedNode {
    Layer(Box<PackedLayer>),
    Gdn(Box<PackedGdn>),
}

#[derive(Debug, Clone)]
pub(super) struct PackedLayer {
    layer: Layer,
    constants: Constants,
    order: Order,
    epilogue: Kind,
    /// Largest magnitude of the output.
    max: i32,
    /// The change of scale after GELU.
    output: Requant,
}

impl PackedNode {
    fn new(isa: Isa, node: &Node, shapes: &[NodeShape]) -> Result<Self, OutOfMemory> {
        Ok(match node {
            Node::Gdn(gdn) => Self::Gdn(Box::new(PackedGdn::new(isa, gdn, shapes[gdn.input.0].max)?)),
            Node::Layer(layer) => Self::Layer(Box::new(PackedLayer::new(isa, layer, shapes)?)),
        })
    }

    /// Computes these rows of the node's output.
    pub(super) fn run(
        &self,
        tables: &Tables,
        inputs: &[Rows<'_>],
        rows: Range<usize>,
        threads: usize,
        out: &mut [i16],
    ) -> Result<(), OutOfMemory> {
        match self {
            Self::Layer(layer) => layer.run(tables, inputs, rows, threads, out),
            Self::Gdn(gdn) => inputs.iter().try_for_each(|input| gdn.run(*input, rows.clone(), threads, out)),
        }
    }
}

impl PackedLayer {
    /// Packs a layer of a transform whose nodes have these shapes.
    pub(super) fn new(isa: Isa, own: &nodes::Layer, shapes: &[NodeShape]) -> Result<Self, OutOfMemory> {
        let maxima: Vec<i32> = own.inputs().map(|NodeIndex(at)| shapes[at].max).collect();
        let by_phase = if own.shuffles() { Some(own.by_phase()?) } else { None };
        let own = by_phase.as_ref().unwrap_or(own);
        let weights: Vec<_> = own.weights.iter().map(OwnedWeights::view).collect();
        let (layer, at) = match own.resize {
            Resize::Stride => (Layer::new(isa, &own.spec, &weights, &maxima)?, Positions::Second),
            _ => (Layer::for_all_positions(isa, &own.spec, &weights, &maxima)?, Positions::All),
        };
        let layer = if own.shuffles() { layer.with_shuffled_inputs() } else { layer };
        let constants = Constants::new(&layer, &own.level, at)?;
        let order = if own.shuffles() { Order::Shuffled } else { Order::Plain };
        Ok(Self { layer, constants, order, epilogue: own.spec.epilogue, max: own.max, output: own.level.output })
    }

    fn run(
        &self,
        tables: &Tables,
        inputs: &[Rows<'_>],
        rows: Range<usize>,
        threads: usize,
        out: &mut [i16],
    ) -> Result<(), OutOfMemory> {
        let Self { layer, constants, order, epilogue, max, output } = self;
        let up = order.rows();
        let part = Part { layer, constants, inputs, rows: rows.start / up..rows.end / up, threads };
        match epilogue {
            Kind::Gelu => part.run(Gelu::new(tables, *output, *max), *order, out),
            Kind::Pixel => part.run(Linear::from_zero(*max), *order, out),
            _ => part.run(Linear::around_zero(*max), *order, out),
        }
    }

    /// Computes rows of the output of a layer whose output is in latent fixed point.
    pub(super) fn latents(
        &self,
        inputs: &[Rows<'_>],
        rows: Range<usize>,
        threads: usize,
        out: &mut [i32],
    ) -> Result<(), OutOfMemory> {
        let Self { layer, constants, order, .. } = self;
        Part { layer, constants, inputs, rows, threads }.run(Latent, *order, out)
    }
}
