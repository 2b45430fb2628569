//! The integer synthesis strip by strip (SPEC 5.7): every node keeps the rows that are still to be read, and computes each row once. Memory
//! grows with the width of the picture and the height of a strip, not with the picture.

use std::ops::Range;

use mlic_model::layout::{Epilogue as Kind, NodeIndex};
use mlic_model::parameters::Requant;
use mlic_model::synthesis::{self, Node, NodeShape, OwnedWeights};

use super::epilogue::{Gelu, Linear, Samples};
use super::gdn::PackedGdn;
use super::layer::{Order, Part, Positions};
use super::pack::Layer;
use super::quantize::quantize_into;
use super::tables::{Requantizer, Tables};
use crate::cpu::Isa;
use crate::map::{Map, Rows};

/// Positions of y in a strip, at least about: enough for all threads.
const STRIP_POSITIONS: usize = 128;

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
    shapes: Vec<NodeShape>,
    nodes: Vec<PackedNode>,
}

#[derive(Debug, Clone)]
struct PackedNode {
    inputs: Vec<NodeIndex>,
    halo: usize,
    operator: Operator,
}

#[derive(Debug, Clone)]
enum Operator {
    /// With its outputs in the order of [`Order::Shuffled`] where it is shuffled.
    Layer(Box<synthesis::Layer>, Layer),
    InverseGdn(PackedGdn),
}

impl PackedNode {
    fn new(isa: Isa, node: &Node, shapes: &[NodeShape]) -> Self {
        let inputs: Vec<NodeIndex> = node.inputs().collect();
        let operator = match node {
            Node::InverseGdn(gdn) => Operator::InverseGdn(PackedGdn::new(isa, gdn)),
            Node::Layer(layer) => {
                let layer = if layer.shuffle { shuffled(layer) } else { layer.clone() };
                let maxima: Vec<i32> = inputs.iter().map(|i| shapes[i.0].max).collect();
                let weights: Vec<_> = layer.weights.iter().map(OwnedWeights::view).collect();
                let packed = Layer::new(isa, &layer.spec, &weights, &maxima);
                // The packed weights are all that is read from here on.
                Operator::Layer(Box::new(synthesis::Layer { weights: Vec::new(), ..layer }), packed)
            }
        };
        Self { inputs, halo: node.halo(), operator }
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
        (rows.start / self.factor()).saturating_sub(self.halo)..rows.end.div_ceil(self.factor()) + self.halo
    }

    fn run(&self, tables: &Tables, inputs: &[Rows<'_>], rows: Range<usize>, out: &mut [i16]) {
        let (own, layer) = match &self.operator {
            Operator::Layer(own, layer) => (own, layer),
            Operator::InverseGdn(gdn) => return inputs.iter().for_each(|input| gdn.run(*input, rows.clone(), out)),
        };
        let Some(view) = own.view() else { return };
        let rows = rows.start / self.factor()..rows.end / self.factor();
        let order = if own.shuffle { Order::Shuffled } else { Order::Plain };
        let part = Part { layer, view: &view, inputs, at: Positions::All, rows };
        match view.spec.epilogue {
            Kind::Gelu => part.run(Gelu { tables, output: Requantizer::new(view.level.output, view.max) }, order, out),
            Kind::Pixel => part.run(Samples { max: view.max }, order, out),
            _ => part.run(Linear { max: view.max }, order, out),
        }
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
struct Window {
    rows: Range<usize>,
    /// Begins with the rows; what follows is room that has been used before.
    data: Vec<i16>,
}

impl Window {
    fn row_len(shape: &NodeShape, width: usize) -> usize {
        shape.scale * width * shape.channels
    }

    /// Forgets the rows before `first`.
    fn forget(&mut self, first: usize, row_len: usize) {
        let first = first.clamp(self.rows.start, self.rows.end);
        self.data.copy_within((first - self.rows.start) * row_len..self.rows.len() * row_len, 0);
        self.rows.start = first;
    }

    /// Appends the rows before `end`, all of which are to be written.
    fn append(&mut self, end: usize, row_len: usize) -> &mut [i16] {
        let start = self.rows.len() * row_len;
        self.rows.end = end;
        let len = self.rows.len() * row_len;
        if self.data.len() < len {
            self.data.resize(len, 0);
        }
        &mut self.data[start..len]
    }
}

impl Synthesis {
    /// Packs the weights.
    #[must_use]
    pub fn new(isa: Isa, synthesis: &synthesis::Synthesis) -> Self {
        let requant = synthesis.quantizer().levels.first().copied().unwrap_or(Requant { multiplier: 0, shift: 0 });
        let shapes = synthesis.shapes().to_vec();
        let nodes = synthesis.nodes().iter().map(|node| PackedNode::new(isa, node, &shapes)).collect();
        Self { isa, requant, shapes, nodes }
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
        let mut windows: Vec<Window> = self.shapes.iter().map(|_| Window::default()).collect();
        let strip = synthesis::SCALE * strip_rows.max(1);
        for end in (strip..height + strip).step_by(strip) {
            self.strip(tables, latent, end.min(height), &mut windows);
            if let Some(last) = windows.last_mut() {
                let len = last.rows.len() * 3 * width;
                samples.extend(last.data[..len].iter().map(|v| *v as u8));
                last.rows.start = last.rows.end;
            }
        }
        Map { height, width, channels: 3, data: samples }
    }

    /// Computes the picture up to this row, and forgets what no later row reads.
    fn strip(&self, tables: &Tables, latent: &Map<i32>, end: usize, windows: &mut [Window]) {
        let mut ends = vec![0; self.shapes.len()];
        ends[self.nodes.len()] = end;
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let reads = node.reads(&(0..ends[i + 1]));
            for input in &node.inputs {
                let rows = latent.height * self.shapes[input.0].scale;
                ends[input.0] = ends[input.0].max(reads.end.min(rows));
            }
        }
        self.quantize(latent, ends[0], &mut windows[0]);
        for (i, node) in self.nodes.iter().enumerate() {
            let (before, own) = windows.split_at_mut(i + 1);
            let (shape, own) = (&self.shapes[i + 1], &mut own[0]);
            // A shuffled row comes with its neighbour.
            let rows = own.rows.end..ends[i + 1].next_multiple_of(node.factor());
            let inputs: Vec<Rows<'_>> = node.inputs.iter().map(|at| self.rows(*at, before, latent)).collect();
            let out = own.append(rows.end, Window::row_len(shape, latent.width));
            node.run(tables, &inputs, rows, out);
        }
        for i in 0..self.nodes.len() {
            let readers = self.nodes.iter().zip(&windows[1..]).filter(|(node, _)| node.inputs.contains(&NodeIndex(i)));
            let first = readers.map(|(node, own)| node.reads(&(own.rows.end..own.rows.end)).start).min();
            let row_len = Window::row_len(&self.shapes[i], latent.width);
            windows[i].forget(first.unwrap_or(usize::MAX), row_len);
        }
    }

    fn quantize(&self, latent: &Map<i32>, end: usize, window: &mut Window) {
        let len = latent.width * latent.channels;
        let part = &latent.data[window.rows.end * len..end * len];
        quantize_into(self.isa, part, self.requant, self.shapes[0].max, window.append(end, len));
    }

    fn rows<'w>(&self, at: NodeIndex, windows: &'w [Window], latent: &Map<i32>) -> Rows<'w> {
        let (shape, window) = (&self.shapes[at.0], &windows[at.0]);
        Rows {
            height: latent.height * shape.scale,
            width: latent.width * shape.scale,
            channels: shape.channels,
            first: window.rows.start,
            data: &window.data,
        }
    }
}
