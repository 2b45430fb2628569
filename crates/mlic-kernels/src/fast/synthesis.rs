//! The integer synthesis strip by strip (SPEC 5.7), and what the analysis shares with it: every node keeps the rows that are still to be read, and computes each row once. Memory
//! grows with the width of the picture and the height of a strip, not with the picture.

use std::ops::Range;

use mlic_model::layout::{Epilogue as Kind, NodeIndex};
use mlic_model::parameters::Requant;
use mlic_model::synthesis::{self, Node, NodeShape, OwnedWeights};

use super::epilogue::{Gelu, Latent, Linear, Samples};
use super::gdn::PackedGdn;
use super::layer::{Order, Part, Positions};
use super::pack::Layer;
use super::quantize::quantize;
use super::tables::{Requantizer, Tables};
use crate::cpu::Isa;
use crate::map::{Map, Rows};

/// Positions of y in a strip, at least about: enough for all threads.
const STRIP_POSITIONS: usize = 512;

/// Rows of y in a strip of a picture whose y has so many columns.
#[must_use]
pub fn strip_rows(width: usize) -> usize {
    STRIP_POSITIONS.div_ceil(width.max(1)).max(2)
}

/// The integer synthesis of a model with its weights packed for one instruction set.
#[derive(Debug, Clone)]
pub struct Synthesis {
    isa: Isa,
    requant: Requant,
    nodes: Nodes,
}

/// Nodes that are computed strip by strip.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    /// Of node 0 too, which is not among the nodes.
    pub(super) shapes: Vec<NodeShape>,
    pub(super) nodes: Vec<PackedNode>,
}

#[derive(Debug, Clone)]
pub(super) struct PackedNode {
    inputs: Vec<NodeIndex>,
    halo: usize,
    /// Rows and columns from one that is wanted to the next, 1 or 2.
    stride: usize,
    operator: Operator,
}

#[derive(Debug, Clone)]
enum Operator {
    /// With its outputs in the order of [`Order::Shuffled`] where it is shuffled.
    Layer(Box<synthesis::Layer>, Layer),
    Gdn(PackedGdn),
}

impl PackedNode {
    fn new(isa: Isa, node: &Node, shapes: &[NodeShape]) -> Self {
        match node {
            Node::InverseGdn(gdn) => Self::normalization(gdn.input, PackedGdn::new(isa, gdn)),
            Node::Layer(layer) => Self::layer(isa, layer, 1, shapes),
        }
    }

    pub(super) fn normalization(input: NodeIndex, gdn: PackedGdn) -> Self {
        Self { inputs: vec![input], halo: 0, stride: 1, operator: Operator::Gdn(gdn) }
    }

    pub(super) fn layer(isa: Isa, layer: &synthesis::Layer, stride: usize, shapes: &[NodeShape]) -> Self {
        let inputs: Vec<NodeIndex> = layer.inputs().collect();
        let layer = if layer.shuffle { shuffled(layer) } else { layer.clone() };
        let maxima: Vec<i32> = inputs.iter().map(|i| shapes[i.0].max).collect();
        let weights: Vec<_> = layer.weights.iter().map(OwnedWeights::view).collect();
        let packed = Layer::new(isa, &layer.spec, &weights, &maxima);
        let halo = layer.spec.kernel.size() / 2;
        // The packed weights are all that is read from here on.
        let operator = Operator::Layer(Box::new(synthesis::Layer { weights: Vec::new(), ..layer }), packed);
        Self { inputs, halo, stride, operator }
    }

    /// How many rows of the output come of one row of the inputs.
    const fn factor(&self) -> usize {
        match &self.operator {
            Operator::Layer(layer, _) if layer.shuffle => 2,
            _ => 1,
        }
    }

    /// The rows of the inputs that these rows of the output are computed from.
    fn reads(&self, rows: &Range<usize>) -> Range<usize> {
        let (first, end) = (rows.start / self.factor(), rows.end.div_ceil(self.factor()));
        (first * self.stride).saturating_sub(self.halo)..(end * self.stride + self.halo + 1).saturating_sub(self.stride)
    }

    fn run(&self, tables: &Tables, inputs: &[Rows<'_>], rows: Range<usize>, out: &mut [i16]) {
        let (own, layer) = match &self.operator {
            Operator::Layer(own, layer) => (own, layer),
            Operator::Gdn(gdn) => return inputs.iter().for_each(|input| gdn.run(*input, rows.clone(), out)),
        };
        let Some(view) = own.view() else { return };
        let rows = rows.start / self.factor()..rows.end / self.factor();
        let order = if own.shuffle { Order::Shuffled } else { Order::Plain };
        let part = Part { layer, view: &view, inputs, at: self.positions(), rows };
        match view.spec.epilogue {
            Kind::Gelu => part.run(Gelu { tables, output: Requantizer::new(view.level.output, view.max) }, order, out),
            Kind::Pixel => part.run(Samples { max: view.max }, order, out),
            _ => part.run(Linear { max: view.max }, order, out),
        }
    }
}

impl PackedNode {
    const fn positions(&self) -> Positions {
        if self.stride == 1 { Positions::All } else { Positions::Second }
    }

    /// Whether it is the last node of an analysis, whose rows no window keeps.
    fn ends_in_latents(&self) -> bool {
        matches!(&self.operator, Operator::Layer(own, _) if own.spec.epilogue == Kind::Latent)
    }

    /// The rows of such a node.
    pub(super) fn latents(&self, inputs: &[Rows<'_>], rows: Range<usize>, out: &mut [i32]) {
        let Operator::Layer(own, layer) = &self.operator else { return };
        let Some(view) = own.view() else { return };
        Part { layer, view: &view, inputs, at: self.positions(), rows }.run(Latent, Order::Plain, out);
    }
}

/// The layer with its outputs in the order row offset, column offset, channel. The channels of an identity term stay in theirs, so that it
/// becomes a term with weights.
fn shuffled(layer: &synthesis::Layer) -> synthesis::Layer {
    let layer = &without_identity(layer);
    let outputs = layer.spec.outputs;
    let order: Vec<usize> = (0..4).flat_map(|phase| (phase..outputs).step_by(4)).collect();
    fn reordered<T: Copy>(order: &[usize], values: &[T]) -> Vec<T> {
        let len = values.len() / order.len();
        order.iter().flat_map(|o| &values[o * len..(o + 1) * len]).copied().collect()
    }
    let weights = layer.weights.iter().map(|w| match w {
        OwnedWeights::Bytes(w) => OwnedWeights::Bytes(reordered(&order, w)),
        OwnedWeights::Words(w) => OwnedWeights::Words(reordered(&order, w)),
    });
    let mut parameters = layer.parameters.clone();
    for level in &mut parameters.levels {
        level.bias = reordered(&order, &level.bias);
        level.multipliers.iter_mut().for_each(|m| *m = reordered(&order, m));
    }
    synthesis::Layer { spec: layer.spec.clone(), parameters, weights: weights.collect(), shuffle: true }
}

/// The layer with weights of one, at the middle of the kernel, for each identity term.
fn without_identity(layer: &synthesis::Layer) -> synthesis::Layer {
    let mut layer = layer.clone();
    let (outputs, size) = (layer.spec.outputs, layer.spec.kernel.size());
    for (term, weights) in layer.spec.terms.iter_mut().zip(&mut layer.weights).filter(|(term, _)| term.identity) {
        term.identity = false;
        let per_output = size * size * outputs;
        let mut ones = vec![0; outputs * per_output];
        (0..outputs).for_each(|output| ones[output * per_output + size * size / 2 * outputs + output] = 1);
        *weights = OwnedWeights::Bytes(ones);
    }
    layer
}

/// The rows of a node that are at hand.
#[derive(Default)]
pub(super) struct Window {
    pub(super) rows: Range<usize>,
    pub(super) data: Vec<i16>,
}

impl Window {
    fn row_len(shape: &NodeShape, width: usize) -> usize {
        shape.scale * width * shape.channels
    }

    /// Forgets the rows before `first`.
    fn forget(&mut self, first: usize, row_len: usize) {
        let first = first.clamp(self.rows.start, self.rows.end);
        self.data.drain(..(first - self.rows.start) * row_len);
        self.rows.start = first;
    }
}

impl Synthesis {
    /// Packs the weights.
    #[must_use]
    pub fn new(isa: Isa, synthesis: &synthesis::Synthesis) -> Self {
        let shapes = synthesis.shapes().to_vec();
        let nodes = synthesis.nodes().iter().map(|node| PackedNode::new(isa, node, &shapes)).collect();
        Self { isa, requant: synthesis.quantizer().level(), nodes: Nodes { shapes, nodes } }
    }

    /// [`crate::reference::synthesis`].
    #[must_use]
    pub fn run(&self, tables: &Tables, latent: &Map<i32>) -> Map<u8> {
        self.run_in_strips(tables, latent, strip_rows(latent.width))
    }

    /// The same, so many rows of y at a time: no result depends on it.
    #[must_use]
    pub fn run_in_strips(&self, tables: &Tables, latent: &Map<i32>, strip_rows: usize) -> Map<u8> {
        let (height, width) = (synthesis::SCALE * latent.height, synthesis::SCALE * latent.width);
        let mut samples = Vec::with_capacity(3 * height * width);
        let mut windows = self.nodes.windows();
        let strip = synthesis::SCALE * strip_rows.max(1);
        let size = [latent.height, latent.width];
        for end in (strip..height + strip).step_by(strip) {
            let quantize = &mut |end, window: &mut Window| self.quantize(latent, end, window);
            self.nodes.strip(tables, size, end.min(height), &mut windows, quantize);
            self.nodes.forget(size, &mut windows);
            if let Some(last) = windows.last_mut() {
                samples.extend(last.data.drain(..).map(|v| v as u8));
                last.rows.start = last.rows.end;
            }
        }
        Map { height, width, channels: 3, data: samples }
    }

    fn quantize(&self, latent: &Map<i32>, end: usize, window: &mut Window) {
        let len = latent.width * latent.channels;
        let data = latent.data[window.rows.end * len..end * len].to_vec();
        let part = Map { height: end - window.rows.end, width: latent.width, channels: latent.channels, data };
        window.data.extend(quantize(self.isa, &part, self.requant, self.nodes.shapes[0].max).data);
        window.rows.end = end;
    }
}

impl Nodes {
    /// No rows of any node.
    pub(super) fn windows(&self) -> Vec<Window> {
        self.shapes.iter().map(|_| Window::default()).collect()
    }

    /// Computes the last node up to this row, and of the others what that needs. `size` is that of a map of scale 1; `fill` adds the rows of
    /// node 0 up to one.
    pub(super) fn strip(
        &self,
        tables: &Tables,
        size: [usize; 2],
        end: usize,
        windows: &mut [Window],
        fill: &mut dyn FnMut(usize, &mut Window),
    ) {
        let mut ends = vec![0; self.shapes.len()];
        ends[self.nodes.len()] = end;
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let reads = node.reads(&(0..ends[i + 1]));
            for input in &node.inputs {
                let rows = size[0] * self.shapes[input.0].scale;
                ends[input.0] = ends[input.0].max(reads.end.min(rows));
            }
        }
        fill(ends[0], &mut windows[0]);
        for (i, node) in self.nodes.iter().enumerate() {
            let (before, own) = windows.split_at_mut(i + 1);
            let (shape, own) = (&self.shapes[i + 1], &mut own[0]);
            // A shuffled row comes with its neighbour.
            let rows = own.rows.end..ends[i + 1].next_multiple_of(node.factor());
            if node.ends_in_latents() {
                own.rows = rows;
                continue;
            }
            let inputs = self.inputs(node, before, size);
            let start = own.data.len();
            own.data.resize(start + rows.len() * Window::row_len(shape, size[1]), 0);
            node.run(tables, &inputs, rows.clone(), &mut own.data[start..]);
            own.rows.end = rows.end;
        }
    }

    /// Forgets what no later row reads.
    pub(super) fn forget(&self, size: [usize; 2], windows: &mut [Window]) {
        for i in 0..self.nodes.len() {
            let readers = self.nodes.iter().zip(&windows[1..]).filter(|(node, _)| node.inputs.contains(&NodeIndex(i)));
            let first = readers.map(|(node, own)| node.reads(&(own.rows.end..own.rows.end)).start).min();
            let row_len = Window::row_len(&self.shapes[i], size[1]);
            windows[i].forget(first.unwrap_or(usize::MAX), row_len);
        }
    }

    /// What is at hand of the inputs of a node.
    pub(super) fn inputs<'w>(&self, node: &PackedNode, windows: &'w [Window], [height, width]: [usize; 2]) -> Vec<Rows<'w>> {
        let rows = |at: &NodeIndex| {
            let (shape, window) = (&self.shapes[at.0], &windows[at.0]);
            let (height, width, channels) = (height * shape.scale, width * shape.scale, shape.channels);
            Rows { height, width, channels, first: window.rows.start, data: &window.data }
        };
        node.inputs.iter().map(rows).collect()
    }
}
