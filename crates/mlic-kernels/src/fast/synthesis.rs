//! The integer synthesis strip by strip (SPEC 5.7), and what the analysis shares with it: every node keeps the rows that are still to be read, and computes each row once. Memory
//! grows with the width of the picture and the height of a strip, not with the picture. A picture that is high enough is cut into as many parts as there are threads, each with
//! nodes of its own: threads then wait for each other once, and find in their caches what they have written.

use std::ops::Range;

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::layout::{Epilogue as Kind, NodeIndex};
use mlic_model::nodes::{self, Node, NodeShape, OwnedWeights, Resize};
use mlic_model::parameters::Requant;
use mlic_model::rows::RowFlow;
use mlic_model::synthesis::{self, SCALE};
use rayon::prelude::*;

use super::aligned::Aligned;
use super::constants::Constants;
use super::epilogue::{Gelu, Latent, Linear};
use super::gdn::PackedGdn;
use super::layer::{Order, Part, Positions};
use super::pack::Layer;
use super::quantize::quantize_into;
use super::tables::Tables;
use crate::cpu::Isa;
use crate::map::{Map, Rows};

/// Positions of y in a strip, at least about: enough work for all threads of a part.
const STRIP_POSITIONS: usize = 160;
/// The same for each thread where a matrix unit computes most of it.
const MATRIX_STRIP_POSITIONS: usize = 48;
/// Rows of y of a part, at least: two more, about, are computed for each neighbour of a part.
const PART_ROWS: usize = 12;
/// Positions of y in the strips of all parts, at most where there are more parts than one: each has windows of its own.
const PARTS_POSITIONS: usize = 512;

/// How a transform goes through a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Rows of y of a part. Parts are computed side by side; what a part needs of its neighbours it computes itself.
    pub part_rows: usize,
    /// Rows of y of a strip. Strips of a part follow one another.
    pub strip_rows: usize,
    /// Threads that compute a part.
    pub threads: usize,
}

impl Plan {
    /// For the synthesis of a picture whose y has these rows and columns: a part for each thread where that costs neither too much work nor too much memory.
    #[must_use]
    pub fn of_synthesis([height, width]: [usize; 2], threads: usize) -> Self {
        let whole = Self::of_analysis([height, width], threads);
        let most = (height / PART_ROWS).min(PARTS_POSITIONS / (whole.strip_rows * width).max(1));
        let parts = threads.min(most).max(1);
        Self { part_rows: height.div_ceil(parts).max(1), threads: threads.div_ceil(parts), ..whole }
    }

    /// For the analysis: a single part, since most of the work is where parts would overlap most. Rows of strips are even: some layers are computed by pairs of rows.
    #[must_use]
    pub fn of_analysis([height, width]: [usize; 2], threads: usize) -> Self {
        Self { part_rows: height.max(1), strip_rows: STRIP_POSITIONS.div_ceil(width.max(1)).next_multiple_of(2), threads }
    }

    /// A plan of a synthesis for one instruction set: with a matrix unit, which takes rows as they come, strips are lower, so that more of them stays in the caches.
    fn on(self, isa: Isa, width: usize) -> Self {
        if isa != Isa::Amx {
            return self;
        }
        let strip_rows = (MATRIX_STRIP_POSITIONS * self.threads).div_ceil(width.max(1));
        Self { strip_rows: strip_rows.min(self.strip_rows), ..self }
    }

    /// Rows of the parts of so many rows, at least one.
    pub(super) fn rows_of(self, height: usize) -> usize {
        self.part_rows.clamp(1, height.max(1))
    }
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
    flow: RowFlow,
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
    /// Largest magnitude of its output.
    max: i32,
    /// Of the output of GELU.
    output: Requant,
}

impl PackedNode {
    fn new(isa: Isa, node: &Node, shapes: &[NodeShape]) -> Result<Self, OutOfMemory> {
        let maxima: Vec<i32> = node.inputs().map(|i| shapes[i.0].max).collect();
        Ok(match node {
            Node::Gdn(gdn) => Self::Gdn(Box::new(PackedGdn::new(isa, gdn, maxima[0])?)),
            Node::Layer(layer) => Self::Layer(Box::new(PackedLayer::new(isa, layer, &maxima)?)),
        })
    }

    fn run(
        &self,
        tables: &Tables,
        inputs: &[Rows<'_>],
        rows: Range<usize>,
        threads: usize,
        out: &mut [i16],
    ) -> Result<(), OutOfMemory> {
        let own = match self {
            Self::Layer(own) => own,
            Self::Gdn(gdn) => return inputs.iter().try_for_each(|input| gdn.run(*input, rows.clone(), threads, out)),
        };
        let PackedLayer { layer, constants, order, epilogue, max, output } = &**own;
        let up = order.rows();
        let part = Part { layer, constants, inputs, rows: rows.start / up..rows.end / up, threads };
        match epilogue {
            Kind::Gelu => part.run(Gelu::new(tables, *output, *max), *order, out),
            Kind::Pixel => part.run(Linear::from_zero(*max), *order, out),
            _ => part.run(Linear::around_zero(*max), *order, out),
        }
    }

    /// Whether it is the last node of an analysis, whose rows no window keeps.
    fn ends_in_latents(&self) -> bool {
        matches!(self, Self::Layer(own) if own.epilogue == Kind::Latent)
    }

    /// The rows of such a node.
    pub(super) fn latents(
        &self,
        inputs: &[Rows<'_>],
        rows: Range<usize>,
        threads: usize,
        out: &mut [i32],
    ) -> Result<(), OutOfMemory> {
        let Self::Layer(own) = self else { unreachable!("a normalization gives no latents") };
        let PackedLayer { layer, constants, order, .. } = &**own;
        Part { layer, constants, inputs, rows, threads }.run(Latent, *order, out)
    }
}

impl PackedLayer {
    fn new(isa: Isa, own: &nodes::Layer, maxima: &[i32]) -> Result<Self, OutOfMemory> {
        let by_phase = if own.shuffles() { Some(own.by_phase()?) } else { None };
        let own = by_phase.as_ref().unwrap_or(own);
        let weights: Vec<_> = own.weights.iter().map(OwnedWeights::view).collect();
        let (layer, at) = match own.resize {
            Resize::Stride => (Layer::new(isa, &own.spec, &weights, maxima)?, Positions::Second),
            _ => (Layer::for_all_positions(isa, &own.spec, &weights, maxima)?, Positions::All),
        };
        let layer = if own.shuffles() { layer.with_shuffled_inputs() } else { layer };
        let constants = Constants::new(&layer, &own.level, at)?;
        let order = if own.shuffles() { Order::Shuffled } else { Order::Plain };
        Ok(Self { layer, constants, order, epilogue: own.spec.epilogue, max: own.max, output: own.level.output })
    }
}

/// The rows of a node that are at hand.
pub(super) struct Window {
    rows: Range<usize>,
    /// Begins with the rows; what follows is room that has been used before.
    data: Aligned<i16>,
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

    /// The first row that is not at hand yet.
    pub(super) const fn end(&self) -> usize {
        self.rows.end
    }

    /// Appends the rows before `end`, all of which are to be written.
    pub(super) fn append(&mut self, end: usize, row_len: usize) -> Result<&mut [i16], OutOfMemory> {
        let start = self.rows.len() * row_len;
        let len = (end - self.rows.start) * row_len;
        if self.data.len() < len {
            // Pages of the system that nothing has touched: the threads that write them take them, not this one. Later strips have rows before
            // them that the first has not.
            let mut longer = Aligned::zeros(len + 2 * row_len)?;
            longer[..start].copy_from_slice(&self.data[..start]);
            self.data = longer;
        }
        self.rows.end = end;
        Ok(&mut self.data[start..len])
    }
}

impl Synthesis {
    /// Packs the weights.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, synthesis: &synthesis::Synthesis) -> Result<Self, OutOfMemory> {
        Ok(Self { isa, requant: synthesis.quantizer().requant, nodes: Nodes::new(isa, synthesis.shapes(), synthesis.nodes())? })
    }

    /// [`crate::reference::synthesis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run(&self, tables: &Tables, latent: &Map<i32>) -> Result<Map<u8>, OutOfMemory> {
        let plan = Plan::of_synthesis([latent.height, latent.width], rayon::current_num_threads());
        self.run_by(tables, latent, plan.on(self.isa, latent.width))
    }

    /// The same by a plan: no result depends on it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run_by(&self, tables: &Tables, latent: &Map<i32>, plan: Plan) -> Result<Map<u8>, OutOfMemory> {
        let (height, width) = (SCALE * latent.height, SCALE * latent.width);
        let mut samples = memory::zeros(3 * height * width)?;
        let last = self.nodes.nodes.len();
        let part_rows = plan.rows_of(latent.height);
        let parts = samples.par_chunks_mut((3 * width * SCALE * part_rows).max(1)).enumerate();
        parts.try_for_each(|(part, samples)| {
            let first = part * part_rows;
            let mut rest = samples;
            self.strips(tables, latent, first..latent.height.min(first + part_rows), plan, &mut |node, rows| {
                if node == last {
                    let (to, more) = std::mem::take(&mut rest).split_at_mut(rows.len());
                    to.iter_mut().zip(rows).for_each(|(to, v)| *to = *v as u8);
                    rest = more;
                }
            })
        })?;
        Ok(Map { height, width, channels: 3, data: samples })
    }

    /// What one node gives, 0 being the quantizer: to find where two implementations part. None where there is no such node, or no other
    /// reads it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn node(&self, tables: &Tables, latent: &Map<i32>, node: usize) -> Result<Option<Map<i16>>, OutOfMemory> {
        let Some(shape) = self.nodes.shapes.get(node) else { return Ok(None) };
        let (height, width) = (shape.scale * latent.height, shape.scale * latent.width);
        let mut data = Vec::new();
        memory::reserve(&mut data, height * width * shape.channels)?;
        let plan = Plan::of_synthesis([latent.height, latent.width], 1);
        self.strips(tables, latent, 0..latent.height, plan, &mut |at, rows| {
            if at == node {
                data.extend_from_slice(rows);
            }
        })?;
        Ok(Map::from_vec(height, width, shape.channels, data))
    }

    /// Some rows of y, strip by strip.
    fn strips(
        &self,
        tables: &Tables,
        latent: &Map<i32>,
        rows: Range<usize>,
        plan: Plan,
        see: &mut See<'_>,
    ) -> Result<(), OutOfMemory> {
        let mut windows = self.nodes.windows(SCALE * rows.start);
        let walk = Walk { nodes: &self.nodes, tables, size: [latent.height, latent.width], threads: plan.threads };
        let fill = |end, window: &mut Window| self.quantize(latent, end, window);
        let strip_rows = plan.strip_rows.max(1);
        rows.clone().step_by(strip_rows).try_for_each(|first| {
            walk.strip(SCALE * rows.end.min(first + strip_rows), &mut windows, &fill, see)?;
            walk.forget(&mut windows);
            Ok(())
        })
    }

    fn quantize(&self, latent: &Map<i32>, end: usize, window: &mut Window) -> Result<(), OutOfMemory> {
        let len = latent.width * latent.channels;
        let part = &latent.data[window.end() * len..end * len];
        quantize_into(self.isa, part, self.requant, self.nodes.shapes[0].max, window.append(end, len)?);
        Ok(())
    }
}

/// Adds the rows of node 0 up to one.
pub(super) type Fill<'f> = dyn Fn(usize, &mut Window) -> Result<(), OutOfMemory> + Sync + 'f;

/// Sees the rows of every node, by its number, as they are computed; those of latents are not among them.
pub(super) type See<'s> = dyn FnMut(usize, &[i16]) + 's;

impl Nodes {
    /// Packs the weights.
    pub(super) fn new(isa: Isa, shapes: &[NodeShape], nodes: &[Node]) -> Result<Self, OutOfMemory> {
        let flow = RowFlow::new(shapes, nodes);
        let nodes = nodes.iter().map(|node| PackedNode::new(isa, node, shapes)).collect::<Result<_, _>>()?;
        Ok(Self { shapes: shapes.to_vec(), nodes, flow })
    }

    /// No rows of any node yet, each from the first one on that the last node needs for its row `first`.
    pub(super) fn windows(&self, first: usize) -> Vec<Window> {
        self.flow.firsts(first).into_iter().map(|first| Window { rows: first..first, data: Aligned::default() }).collect()
    }
}

/// How nodes are computed: one part of a picture.
pub(super) struct Walk<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) tables: &'a Tables,
    /// Rows and columns of a map of scale 1.
    pub(super) size: [usize; 2],
    /// That take part.
    pub(super) threads: usize,
}

impl Walk<'_> {
    /// Computes the last node up to this row, and of the others what that needs.
    pub(super) fn strip(
        &self,
        end: usize,
        windows: &mut [Window],
        fill: &Fill<'_>,
        see: &mut See<'_>,
    ) -> Result<(), OutOfMemory> {
        let shapes = &self.nodes.shapes;
        let ends = self.nodes.flow.ends(self.size[0], end);
        let width = self.size[1];
        let (before, row_len) = (windows[0].rows.len(), Window::row_len(&shapes[0], width));
        fill(ends[0], &mut windows[0])?;
        see(0, &windows[0].data[before * row_len..windows[0].rows.len() * row_len]);
        for (i, node) in (1..).zip(&self.nodes.nodes).filter(|(i, _)| self.nodes.flow.is_needed(*i)) {
            let (before, own) = windows.split_at_mut(i);
            let (shape, own) = (&shapes[i], &mut own[0]);
            let rows = own.rows.end..ends[i];
            if node.ends_in_latents() {
                own.rows = rows.end..rows.end;
                continue;
            }
            let inputs = self.inputs(i, before);
            let out = own.append(rows.end, Window::row_len(shape, width))?;
            node.run(self.tables, &inputs, rows, self.threads, out)?;
            see(i, out);
        }
        Ok(())
    }

    /// Forgets what no later row reads.
    pub(super) fn forget(&self, windows: &mut [Window]) {
        for (i, shape) in self.nodes.shapes.iter().enumerate() {
            let first = self.nodes.flow.first_read(i, |reader| windows[reader].rows.end);
            let row_len = Window::row_len(shape, self.size[1]);
            windows[i].forget(first, row_len);
        }
    }

    /// What is at hand of the inputs of a node.
    pub(super) fn inputs<'w>(&self, node: usize, windows: &'w [Window]) -> Vec<Rows<'w>> {
        let [height, width] = self.size;
        let rows = |at: &NodeIndex| {
            let (shape, window) = (&self.nodes.shapes[at.0], &windows[at.0]);
            let (height, width, channels) = (height * shape.scale, width * shape.scale, shape.channels);
            let data = &window.data[..window.rows.len() * width * channels];
            Rows { height, width, channels, first: window.rows.start, data }
        };
        self.nodes.flow.inputs(node).iter().map(rows).collect()
    }
}
