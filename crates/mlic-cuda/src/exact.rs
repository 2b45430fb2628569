//! Exact pixels on the device: the integer synthesis strip by strip (SPEC 5.7), as `mlic_kernels::fast::Synthesis` does it. Every node keeps the
//! rows that are still to be read, and computes each row once.
//!
//! An inverse normalization is a layer over the squares of its input, in halves of 15 bits, whose epilogue takes the root.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaEvent;
use cudarc::driver::result::DriverError;
use mlic_kernels::Map;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::model::{LayerView, Weights};
use mlic_model::parameters::{Functions, LayerLevel, Requant};
use mlic_model::synthesis::{Gdn, Layer, Node, NodeShape, OwnedWeights, SCALE, Synthesis};

use crate::args::{QuantizeArgs, RequantArg, SquaresArgs};
use crate::device::{self, Device, Memory};
use crate::layer::{Input, Plan, Region};
use crate::memory::{Buffer, Pool, Tensor};
use crate::packed::{FunctionTables, Packer};

/// Positions of y in a strip, at least about: enough for all multiprocessors, and not the memory of a whole picture.
const STRIP_POSITIONS: usize = 2048;

/// The integer synthesis of a model on a device.
pub(crate) struct PackedSynthesis {
    requant: RequantArg,
    shapes: Vec<NodeShape>,
    nodes: Vec<PackedNode>,
    kept: Mutex<Option<Kept>>,
    _parts: [Memory; 2],
}

/// What the picture before leaves to one of its size.
struct Kept {
    size: [usize; 2],
    pool: Arc<Pool>,
    /// The same device with a stream for what comes from the host and goes there, beside the one that computes.
    copier: Device,
}

/// Rows of pixels that are being computed, or wait to be read.
struct Pending {
    rows: Range<usize>,
    address: u64,
    computed: CudaEvent,
    // What the address points into.
    _buffer: Option<Arc<Buffer>>,
}

struct PackedNode {
    inputs: Vec<NodeIndex>,
    halo: usize,
    /// Rows of the output that come of one row of the inputs.
    factor: usize,
    is_gdn: bool,
    plan: Plan,
}

/// Outputs in the order `[phase][channel]`: a shuffled layer writes runs of channels.
fn shuffled(layer: &Layer) -> Layer {
    let outputs = layer.spec.outputs;
    let order: Vec<usize> = (0..4).flat_map(|phase| (phase..outputs).step_by(4)).collect();
    fn reordered<T: Copy>(order: &[usize], values: &[T]) -> Vec<T> {
        let len = values.len() / order.len().max(1);
        order.iter().filter_map(|o| values.get(o * len..(o + 1) * len)).flatten().copied().collect()
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
    Layer { spec: layer.spec.clone(), parameters, weights: weights.collect(), shuffle: true }
}

fn pack_layer(packer: &mut Packer, tables: FunctionTables, layer: &Layer, maxima: &[i32]) {
    let layer = if layer.shuffle { shuffled(layer) } else { layer.clone() };
    packer.layer(&layer.view().into_iter().collect::<Vec<_>>(), maxima, tables, layer.shuffle);
}

/// Gammas times squares, whose high halves count 2^15.
fn pack_gdn(packer: &mut Packer, tables: FunctionTables, gdn: &Gdn) {
    let channels = gdn.channels();
    let term = TermSpec::node(gdn.input, channels, false);
    let (kernel, epilogue) = (Kernel::Dense { size: 1 }, Epilogue::Linear);
    let spec = LayerSpec { name: "inverse normalization".into(), terms: vec![term; 2], kernel, outputs: channels, epilogue };
    let level = LayerLevel {
        shift: gdn.shift,
        multipliers: vec![vec![1 << 15; channels], vec![1; channels]],
        bias: gdn.beta.clone(),
        output: Requant { multiplier: 0, shift: 0 },
    };
    let view = LayerView { spec: &spec, max: gdn.max, level: &level, weights: vec![Weights::Words(&gdn.gamma); 2] };
    packer.layer(&[view], &[i32::from(i16::MAX); 2], tables, false);
    packer.end_in_root(&gdn.multipliers, Requant { multiplier: 0, shift: gdn.output_shift }.into());
}

impl PackedNode {
    /// The rows of the inputs that these rows of the output are computed from.
    fn reads(&self, rows: &Range<usize>) -> Range<usize> {
        (rows.start / self.factor).saturating_sub(self.halo)..rows.end.div_ceil(self.factor) + self.halo
    }
}

/// The rows of a node that are at hand.
struct Window {
    rows: Range<usize>,
    /// Of a row, in bytes.
    row_len: usize,
    buffer: Option<Arc<Buffer>>,
}

impl Window {
    /// Where row 0 would be.
    fn origin(&self) -> u64 {
        self.buffer.as_ref().map_or(0, |b| b.address.wrapping_sub((self.rows.start * self.row_len) as u64))
    }

    /// Makes room for rows up to `end`, keeping those from `first` on; the new rows, and the address of the first of them.
    fn extend(&mut self, pool: &Arc<Pool>, device: &Device, first: usize, end: usize) -> Result<Range<usize>, DriverError> {
        let first = first.clamp(self.rows.start, self.rows.end);
        let new = self.rows.end..end.max(self.rows.end);
        let buffer = pool.take((new.end - first) * self.row_len)?;
        let kept = (self.rows.end - first) * self.row_len;
        if let Some(old) = self.buffer.as_ref().filter(|_| kept > 0) {
            device.copy(old.address + ((first - self.rows.start) * self.row_len) as u64, buffer.address, kept)?;
        }
        self.buffer = Some(Arc::new(buffer));
        self.rows = first..new.end;
        Ok(new)
    }
}

impl PackedSynthesis {
    /// Packs the weights.
    pub(crate) fn new(device: &Device, functions: &Functions, own: &Synthesis) -> Result<Self, DriverError> {
        let mut packer = Packer::default();
        let tables = packer.functions(functions);
        let max_of = |at: NodeIndex| own.shapes().get(at.0).map_or(i32::MAX, |shape| shape.max);
        for node in own.nodes() {
            match node {
                Node::Layer(layer) => pack_layer(&mut packer, tables, layer, &node.inputs().map(max_of).collect::<Vec<_>>()),
                Node::InverseGdn(gdn) => pack_gdn(&mut packer, tables, gdn),
            }
        }
        let (plans, _, parts) = packer.finish(device)?;
        let node = |(node, plan): (&Node, Plan)| PackedNode {
            inputs: node.inputs().collect(),
            halo: node.halo(),
            factor: if matches!(node, Node::Layer(layer) if layer.shuffle) { 2 } else { 1 },
            is_gdn: matches!(node, Node::InverseGdn(_)),
            plan,
        };
        let nodes = own.nodes().iter().zip(plans).map(node).collect();
        let requant = own.quantizer().levels.first().copied().unwrap_or(Requant { multiplier: 0, shift: 0 }).into();
        Ok(Self { requant, shapes: own.shapes().to_vec(), nodes, kept: Mutex::default(), _parts: parts })
    }

    /// `mlic_kernels::reference::synthesis`, to a map of its size.
    pub(crate) fn run(&self, device: &Arc<Device>, latent: &Map<i32>, samples: &mut Map<u8>) -> Result<(), DriverError> {
        self.run_in_strips(device, latent, STRIP_POSITIONS.div_ceil(latent.width.max(1)).max(2), samples)
    }

    /// The same, so many rows of y at a time: no result depends on it.
    pub(crate) fn run_in_strips(
        &self,
        device: &Arc<Device>,
        latent: &Map<i32>,
        strip: usize,
        samples: &mut Map<u8>,
    ) -> Result<(), DriverError> {
        let (height, width) = (SCALE * latent.height, SCALE * latent.width);
        let size = [latent.height, latent.width];
        let kept = self.kept().take().filter(|kept| kept.size == size);
        let kept = kept.map_or_else(|| device.fork().map(|copier| Kept { size, pool: Pool::new(device), copier }), Ok)?;
        let Kept { pool, copier, .. } = &kept;
        let y = Tensor::<i32>::new(pool, [latent.height, latent.width, latent.channels])?;
        let bytes = |i: usize| if i == self.nodes.len() { 1 } else { size_of::<i16>() };
        let window = |(i, s): (usize, &NodeShape)| Window {
            rows: 0..0,
            row_len: s.scale * latent.width * s.channels * bytes(i),
            buffer: None,
        };
        let mut read = |strip: Pending| {
            copier.wait(&strip.computed)?;
            let bytes = strip.rows.start * 3 * width..strip.rows.end * 3 * width;
            samples.data.get_mut(bytes).map_or(Ok(()), |to| copier.read(strip.address, to))
        };
        let mut pending: Option<Pending> = None;
        let (row_len, mut present) = (latent.width * latent.channels, 0);
        let mut windows: Vec<Window> = self.shapes.iter().enumerate().map(window).collect();
        for start in (0..height).step_by(SCALE * strip.max(1)) {
            let end = (start + SCALE * strip.max(1)).min(height);
            // Rows of y come, and pixels go, while the strip before is computed.
            let needed = self.ends(latent.height, end).first().map_or(0, |end| (*end).max(present));
            if let Some(rows) = latent.data.get(present * row_len..needed * row_len) {
                copier.write(y.address() + (present * row_len * size_of::<i32>()) as u64, bytemuck::cast_slice(rows))?;
            }
            present = needed;
            self.strip(device, pool, &y, end, &mut windows)?;
            let Some(last) = windows.last() else { continue };
            let address = last.origin().wrapping_add((start * last.row_len) as u64);
            let computed = device.mark()?;
            let strip = Pending { rows: start..end, address, computed, _buffer: last.buffer.clone() };
            if let Some(before) = pending.replace(strip) {
                read(before)?;
            }
        }
        if let Some(last) = pending {
            read(last)?;
        }
        *self.kept() = Some(kept);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the memory of the picture before.
    pub(crate) fn clear(&self) {
        self.kept().take();
    }

    /// The rows that each node must have for the picture up to this row.
    fn ends(&self, height: usize, end: usize) -> Vec<usize> {
        let mut ends = vec![0; self.shapes.len()];
        if let Some(last) = ends.last_mut() {
            *last = end;
        }
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let reads = node.reads(&(0..ends[i + 1]));
            for input in &node.inputs {
                ends[input.0] = ends[input.0].max(reads.end.min(height * self.shapes[input.0].scale));
            }
        }
        ends
    }

    /// The first row of a node that rows of other nodes still to come read.
    fn first_read(&self, node: usize, windows: &[Window]) -> usize {
        let readers =
            self.nodes.iter().zip(windows.iter().skip(1)).filter(|(reader, _)| reader.inputs.contains(&NodeIndex(node)));
        readers.map(|(reader, own)| reader.reads(&(own.rows.end..own.rows.end)).start).min().unwrap_or(usize::MAX)
    }

    /// Computes the picture up to this row; what no later row reads is forgotten when a window is extended.
    fn strip(
        &self,
        device: &Device,
        pool: &Arc<Pool>,
        latent: &Tensor<i32>,
        end: usize,
        windows: &mut [Window],
    ) -> Result<(), DriverError> {
        let ends = self.ends(latent.height, end);
        for (i, end) in ends.iter().enumerate() {
            let node = i.checked_sub(1).and_then(|at| self.nodes.get(at));
            let first = self.first_read(i, windows);
            // A shuffled row comes with its neighbour.
            let end = end.next_multiple_of(node.map_or(1, |node| node.factor));
            let rows = windows[i].extend(pool, device, first, end)?;
            match node {
                None => self.quantize(device, latent, &windows[0], rows)?,
                Some(node) => self.node(device, pool, node, i, windows, &rows, latent)?,
            }
        }
        Ok(())
    }

    fn quantize(&self, device: &Device, latent: &Tensor<i32>, window: &Window, rows: Range<usize>) -> Result<(), DriverError> {
        let len = latent.width * latent.channels;
        let args = QuantizeArgs {
            input: latent.address() + (rows.start * len * size_of::<i32>()) as u64,
            out: window.origin().wrapping_add((rows.start * window.row_len) as u64),
            count: (rows.len() * len) as i64,
            requant: self.requant,
            max: self.shapes.first().map_or(0, |shape| shape.max),
            reserved: 0,
        };
        device.launch_elements(&device::QUANTIZE, rows.len() * len, &args)
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a strip consists of")]
    fn node(
        &self,
        device: &Device,
        pool: &Arc<Pool>,
        node: &PackedNode,
        index: usize,
        windows: &[Window],
        rows: &Range<usize>,
        latent: &Tensor<i32>,
    ) -> Result<(), DriverError> {
        let input = |at: &NodeIndex| (windows[at.0].origin(), self.shapes[at.0].channels);
        let inputs: Vec<Input> = node.inputs.iter().map(input).collect();
        let scale = node.inputs.first().map_or(1, |at| self.shapes[at.0].scale);
        let rows = rows.start / node.factor..rows.end / node.factor;
        let region = Region { height: latent.height * scale, width: latent.width * scale, parity: None, rows };
        let out = [windows[index].origin(), 0];
        let (true, Some(x)) = (node.is_gdn, node.inputs.first()) else {
            return node.plan.launch(device, &inputs, &region, out, 0);
        };
        let (window, channels) = (&windows[x.0], self.shapes[x.0].channels);
        let (at, bytes) = (region.rows.start * window.row_len, region.rows.len() * window.row_len);
        let (high, low) = (pool.take(bytes)?, pool.take(bytes)?);
        let count = bytes / size_of::<i16>();
        let args = SquaresArgs {
            input: window.origin().wrapping_add(at as u64),
            high: high.address,
            low: low.address,
            count: count as i64,
        };
        device.launch_elements(&device::SQUARES, count, &args)?;
        let squares = [high, low].map(|half| (half.address.wrapping_sub(at as u64), channels));
        // The squares' buffers may be used again by what comes later on the stream.
        node.plan.launch(device, &squares, &region, out, window.origin())
    }
}

#[cfg(test)]
mod tests;
