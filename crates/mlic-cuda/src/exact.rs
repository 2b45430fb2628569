//! The integer transforms on the device: exact pixels (SPEC 5.7) and the integer analysis (SPEC 5.8), strip by strip as `mlic_kernels::fast` computes
//! them. Every node keeps the rows that are still to be read, and computes each row once.
//!
//! A normalization is a layer over the squares of its input, in halves of 15 bits, whose epilogue takes the root.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::result::DriverError;
use mlic_core::memory::OutOfMemory;
use mlic_kernels::{Map, Picture};
use mlic_model::analysis::{Analysis, HyperAnalysis, LATENT_SCALE, SAMPLES_SCALE};
use mlic_model::layout::NodeIndex;
use mlic_model::model::{LayerView, Weights};
use mlic_model::nodes::{self, Gdn, Layer, Node, NodeShape, Reach};
use mlic_model::parameters::{Functions, Requant};
use mlic_model::rows::RowFlow;
use mlic_model::synthesis::{SCALE, Synthesis};

use crate::args::{QuantizeArgs, RequantArg, SamplesArgs, SquaresArgs};
use crate::device::{self, Device, Memory};
use crate::idle::Idle;
use crate::layer::{Input, Plan, Region, narrow};
use crate::memory::{Buffer, Pool, Tensor};
use crate::packed::{FunctionTables, PackError, Packer};
use crate::staging::{Fetched, Staging};

/// Positions of y (of z in `h_a`) in a strip, for each multiprocessor: the layers at the size of y have a warp for every 32 positions and 32 outputs.
const STRIP_POSITIONS: usize = 32;

/// Rows of a strip of maps of this width, at least about: enough for all multiprocessors, without the memory of a whole picture.
fn strip_rows(device: &Device, width: usize) -> usize {
    (STRIP_POSITIONS * device.multiprocessors).clamp(2048, 8192).div_ceil(width.max(1)).max(2)
}

/// The nodes of a transform on a device.
struct Nodes {
    nodes: Vec<PackedNode>,
    flow: RowFlow,
    /// Bytes of an element of the last node.
    last_bytes: usize,
    /// What earlier maps left for later ones of their size.
    idle: Idle<Kept>,
    _parts: [Memory; 2],
}

/// The integer synthesis of a model on a device.
pub(crate) struct PackedSynthesis {
    requant: RequantArg,
    nodes: Nodes,
}

/// An integer `g_a` on a device.
pub(crate) struct PackedAnalysis {
    nodes: Nodes,
}

/// An integer `h_a` on a device.
pub(crate) struct PackedHyperAnalysis {
    requant: RequantArg,
    nodes: Nodes,
}

/// Memory that a transform leaves for the next map of the same size.
struct Kept {
    pool: Arc<Pool>,
    staging: Staging,
}

/// Rows of the last node that are being computed, or on their way to the host.
struct Pending {
    fetched: Fetched,
    // The buffer that the rows are read from.
    _buffer: Option<Arc<Buffer>>,
}

/// Latents that a transform starts from, `[height][width][channels]`.
#[derive(Clone, Copy)]
pub(crate) struct Latent<'a> {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) values: Values<'a>,
    /// Gain of each channel (SPEC 4.8); empty if there is none to apply.
    pub(crate) gains: &'a [u32],
}

/// Where the latents are.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    Host(&'a [i32]),
    /// Address in device memory, where earlier work of the device that runs the transform has put them.
    Device(u64),
}

impl<'a> Latent<'a> {
    /// Latents in host memory.
    pub(crate) fn of(map: &'a Map<i32>, gains: &'a [u32]) -> Self {
        let Map { height, width, channels, ref data } = *map;
        Self { height, width, channels, values: Values::Host(data), gains }
    }
}

/// Copies gains to the device; none if there are none.
fn gains_there(device: &Device, kept: &mut Kept, gains: &[u32]) -> Result<Option<Tensor<u32>>, DriverError> {
    if gains.is_empty() {
        return Ok(None);
    }
    let there = Tensor::new(&kept.pool, [1, 1, gains.len()])?;
    // SAFETY: the tensor has as many elements. Whatever used its buffer before, for another map, is done: a map ends with the host waiting for its
    // last strip, and gains are copied before the first kernel of their map. (The copy does not wait for kernels that are queued.)
    unsafe { kept.staging.send(device, bytemuck::cast_slice(gains), there.address()) }?;
    Ok(Some(there))
}

struct PackedNode {
    reach: Reach,
    is_gdn: bool,
    plan: Plan,
}

fn pack_layer(packer: &mut Packer, tables: FunctionTables, layer: &Layer, maxima: &[i32]) -> Result<(), OutOfMemory> {
    if layer.shuffles() {
        // By phase, so that the kernel writes runs of channels.
        packer.layer(&[layer.by_phase()?.view()], maxima, tables, true)
    } else {
        packer.layer(&[layer.view()], maxima, tables, false)
    }
}

/// Packs a normalization as a layer of gammas over squares, whose high halves count 2^15.
fn pack_gdn(packer: &mut Packer, tables: FunctionTables, gdn: &Gdn) -> Result<(), OutOfMemory> {
    let (spec, level) = gdn.sums_of_squares();
    let view = LayerView { spec: &spec, max: gdn.max, level: &level, weights: vec![Weights::Words(&gdn.gamma); 2] };
    packer.layer(&[view], &[i32::from(i16::MAX); 2], tables, false)?;
    packer.end_in_root(gdn.inverse, &gdn.multipliers, Requant { multiplier: 0, shift: gdn.output_shift }.into())
}

/// The rows of a node that are held, and where they are.
struct Window {
    rows: Range<usize>,
    /// Bytes of a row.
    row_len: usize,
    buffer: Option<Arc<Buffer>>,
}

impl Window {
    /// Address where row 0 would be.
    fn origin(&self) -> u64 {
        self.buffer.as_ref().map_or(0, |b| b.address.wrapping_sub((self.rows.start * self.row_len) as u64))
    }

    /// Address of this row.
    fn at(&self, row: usize) -> u64 {
        self.origin().wrapping_add((row * self.row_len) as u64)
    }

    /// Makes room for rows up to `end`, keeping those from `first` on, and returns the new rows.
    fn extend(&mut self, pool: &Arc<Pool>, device: &Device, first: usize, end: usize) -> Result<Range<usize>, DriverError> {
        let first = first.clamp(self.rows.start, self.rows.end);
        let new = self.rows.end..end.max(self.rows.end);
        // No smaller than the buffer before, so that the last strip, which may be short, can use the buffers that the others have left.
        let before = self.buffer.as_ref().map_or(0, |buffer| buffer.bytes());
        let buffer = pool.take(((new.end - first) * self.row_len).max(before))?;
        let kept = (self.rows.end - first) * self.row_len;
        if let Some(old) = self.buffer.as_ref().filter(|_| kept > 0) {
            let from = old.address + ((first - self.rows.start) * self.row_len) as u64;
            // SAFETY: the old buffer holds the rows up to the end of the window, the new one has room for more; both are the pool's.
            unsafe { device.copy(from, buffer.address, kept) }?;
        }
        self.buffer = Some(Arc::new(buffer));
        self.rows = first..new.end;
        Ok(new)
    }
}

/// Fills rows of node 0, for which the window has room. What comes from the host is copied while the strip before is computed.
type Fill<'a> = dyn FnMut(&mut Kept, &Window, Range<usize>) -> Result<(), DriverError> + 'a;

impl PackedSynthesis {
    /// Packs the weights.
    pub(crate) fn new(device: &Device, functions: &Functions, own: &Synthesis) -> Result<Self, PackError> {
        let nodes = Nodes::new(device, functions, own, size_of::<u8>())?;
        let requant = own.quantizer().requant.into();
        Ok(Self { requant, nodes })
    }

    /// Computes `mlic_kernels::reference::synthesis` and appends its samples to `samples`, which has room for them.
    pub(crate) fn run(&self, device: &Arc<Device>, latent: Latent<'_>, samples: &mut Vec<u8>) -> Result<(), DriverError> {
        self.run_in_strips(device, latent, strip_rows(device, latent.width), samples)
    }

    /// Like `run`, with strips of so many rows of y: the result does not depend on their number.
    fn run_in_strips(
        &self,
        device: &Arc<Device>,
        latent: Latent<'_>,
        strip: usize,
        samples: &mut Vec<u8>,
    ) -> Result<(), DriverError> {
        let size = [latent.height, latent.width];
        self.nodes.run_on_latent(device, latent, self.requant, size, SCALE * strip.max(1), samples)
    }

    /// Frees the memory that earlier pictures left.
    pub(crate) fn clear(&self) {
        self.nodes.idle.clear();
    }
}

impl PackedAnalysis {
    /// Packs the weights.
    pub(crate) fn new(device: &Device, functions: &Functions, own: &Analysis) -> Result<Self, PackError> {
        Ok(Self { nodes: Nodes::new(device, functions, own, size_of::<i32>())? })
    }

    /// Computes `mlic_kernels::reference::analysis` and appends y to `y`, which has room for it.
    pub(crate) fn run(&self, device: &Arc<Device>, picture: &Picture<'_>, y: &mut Vec<i32>) -> Result<(), DriverError> {
        self.run_in_strips(device, picture, strip_rows(device, picture.padded()[1] / SAMPLES_SCALE), y)
    }

    /// Like `run`, with strips of so many rows of y: the result does not depend on their number.
    fn run_in_strips(
        &self,
        device: &Arc<Device>,
        picture: &Picture<'_>,
        strip: usize,
        y: &mut Vec<i32>,
    ) -> Result<(), DriverError> {
        let ([height, width], padded) = (picture.size(), picture.padded());
        let size = padded.map(|side| side / SAMPLES_SCALE);
        let mut whole = None;
        self.nodes.run(device, size, strip.max(1), y, &mut |Kept { pool, staging, .. }, window, rows| {
            if whole.is_none() {
                whole = Some(Tensor::<u8>::new(pool, [height, width, 3])?);
            }
            let input = whole.as_ref().map_or(0, Tensor::address);
            let bytes = 3 * width * rows.start.min(height)..3 * width * rows.end.min(height);
            let samples = picture.rgb().get(bytes.clone()).unwrap_or_default();
            // SAFETY: the tensor has the whole picture, of which these are rows that nothing has read yet.
            unsafe { staging.send(device, samples, input + bytes.start as u64) }?;
            let count = rows.len() * padded[1] * 3;
            let args = SamplesArgs {
                input,
                out: window.at(rows.start),
                count: count as i64,
                height: narrow(height),
                width: narrow(width),
                out_width: narrow(padded[1]),
                first: narrow(rows.start),
            };
            // SAFETY: the rows that are read are there, and those that are written are new ones of the window.
            unsafe { device.launch_elements(&device::SAMPLES, count, &args) }
        })
    }

    /// Frees the memory that earlier pictures left.
    pub(crate) fn clear(&self) {
        self.nodes.idle.clear();
    }
}

impl PackedHyperAnalysis {
    /// Packs the weights.
    pub(crate) fn new(device: &Device, functions: &Functions, own: &HyperAnalysis) -> Result<Self, PackError> {
        let requant = own.quantizer().requant.into();
        Ok(Self { requant, nodes: Nodes::new(device, functions, own, size_of::<i32>())? })
    }

    /// Computes `mlic_kernels::reference::hyper_analysis` of a y whose sides are multiples of 4, and appends z to `z`, which has room for it.
    pub(crate) fn run(&self, device: &Arc<Device>, y: &Map<i32>, z: &mut Vec<i32>) -> Result<(), DriverError> {
        self.run_in_strips(device, y, strip_rows(device, y.width / LATENT_SCALE), z)
    }

    /// Like `run`, with strips of so many rows of z: the result does not depend on their number.
    fn run_in_strips(&self, device: &Arc<Device>, y: &Map<i32>, strip: usize, z: &mut Vec<i32>) -> Result<(), DriverError> {
        let size = [y.height / LATENT_SCALE, y.width / LATENT_SCALE];
        self.nodes.run_on_latent(device, Latent::of(y, &[]), self.requant, size, strip.max(1), z)
    }

    /// Frees the memory that earlier pictures left.
    pub(crate) fn clear(&self) {
        self.nodes.idle.clear();
    }
}

impl Nodes {
    fn new(device: &Device, functions: &Functions, own: &nodes::Nodes, last_bytes: usize) -> Result<Self, PackError> {
        let (shapes, nodes) = (own.shapes(), own.nodes());
        let mut packer = Packer::default();
        let tables = packer.functions(functions)?;
        let max_of = |at: NodeIndex| shapes.get(at.0).map_or(i32::MAX, |shape| shape.max);
        for node in nodes {
            match node {
                Node::Layer(layer) => pack_layer(&mut packer, tables, layer, &layer.inputs().map(max_of).collect::<Vec<_>>())?,
                Node::Gdn(gdn) => pack_gdn(&mut packer, tables, gdn)?,
            }
        }
        let (plans, _, parts) = packer.finish(device)?;
        let node = |(node, plan): (&Node, Plan)| PackedNode { reach: node.reach(), is_gdn: matches!(node, Node::Gdn(_)), plan };
        let flow = RowFlow::new(shapes, nodes);
        let nodes = nodes.iter().zip(plans).map(node).collect();
        Ok(Self { nodes, flow, last_bytes, idle: Idle::new(device), _parts: parts })
    }

    /// Runs a transform whose node 0 is a latent quantized to activations.
    fn run_on_latent<T: bytemuck::Pod>(
        &self,
        device: &Arc<Device>,
        latent: Latent<'_>,
        requant: RequantArg,
        size: [usize; 2],
        strip: usize,
        out: &mut Vec<T>,
    ) -> Result<(), DriverError> {
        let (mut whole, mut gains) = (None, None);
        let len = latent.width * latent.channels;
        self.run(device, size, strip, out, &mut |kept, window, rows| {
            if gains.is_none() {
                gains = gains_there(device, kept, latent.gains)?;
            }
            let offset = (rows.start * len * size_of::<i32>()) as u64;
            let input = match latent.values {
                Values::Device(address) => address + offset,
                Values::Host(values) => {
                    if whole.is_none() {
                        whole = Some(Tensor::<i32>::new(&kept.pool, [latent.height, latent.width, latent.channels])?);
                    }
                    let input = whole.as_ref().map_or(0, Tensor::address) + offset;
                    let values = values.get(rows.start * len..rows.end * len).unwrap_or_default();
                    // SAFETY: the tensor has the whole latent, of which these are rows that nothing has read yet.
                    unsafe { kept.staging.send(device, bytemuck::cast_slice(values), input) }?;
                    input
                }
            };
            let args = QuantizeArgs {
                input,
                out: window.at(rows.start),
                gains: gains.as_ref().map_or(0, Tensor::address),
                count: (rows.len() * len) as i64,
                requant,
                max: self.flow.shapes().first().map_or(0, |shape| shape.max),
                channels: narrow(latent.channels),
            };
            // SAFETY: the rows that are read are there, and those that are written are new ones of the window; gains are as many as channels.
            unsafe { device.launch_elements(&device::QUANTIZE, rows.len() * len, &args) }
        })
    }

    /// Computes the last node and appends it to `out`. `size` counts rows and columns at scale 1; a strip is so many rows of the last node.
    fn run<T: bytemuck::Pod>(
        &self,
        device: &Arc<Device>,
        size: [usize; 2],
        strip: usize,
        out: &mut Vec<T>,
        fill: &mut Fill<'_>,
    ) -> Result<(), DriverError> {
        let fresh = || Staging::new(device).map(|staging| Kept { pool: Pool::new(device), staging });
        let mut kept = self.idle.take(size).map_or_else(fresh, Ok)?;
        let bytes = |i: usize| if i == self.nodes.len() { self.last_bytes } else { size_of::<i16>() };
        let window =
            |(i, s): (usize, &NodeShape)| Window { rows: 0..0, row_len: s.scale * size[1] * s.channels * bytes(i), buffer: None };
        let mut pending: Option<Pending> = None;
        let mut windows: Vec<Window> = self.flow.shapes().iter().enumerate().map(window).collect();
        let height = self.flow.shapes().last().map_or(0, |last| size[0] * last.scale);
        for start in (0..height).step_by(strip) {
            let end = (start + strip).min(height);
            self.strip(device, &mut kept, size, end, &mut windows, fill)?;
            let Some(last) = windows.last() else { continue };
            let (address, bytes) = (last.at(start), (end - start) * last.row_len);
            // SAFETY: the strip is of the window, whose buffer is kept until the strip is taken; rows that were computed are not written again.
            let fetched = unsafe { kept.staging.fetch(device, address, bytes) }?;
            let strip = Pending { fetched, _buffer: last.buffer.clone() };
            // The host takes the strip before while this one is computed.
            if let Some(before) = pending.replace(strip) {
                kept.staging.take(&before.fetched, out)?;
            }
        }
        if let Some(last) = pending {
            kept.staging.take(&last.fetched, out)?;
        }
        drop(windows);
        self.idle.give_back(size, kept);
        Ok(())
    }

    /// Computes the last node up to row `end`. Extending a window drops the rows that no later row reads.
    fn strip(
        &self,
        device: &Device,
        kept: &mut Kept,
        size: [usize; 2],
        end: usize,
        windows: &mut [Window],
        fill: &mut Fill<'_>,
    ) -> Result<(), DriverError> {
        let pool = Arc::clone(&kept.pool);
        let ends = self.flow.ends(size[0], end);
        for (i, end) in ends.into_iter().enumerate().filter(|(i, _)| self.flow.is_needed(*i)) {
            let first = self.flow.first_read(i, |reader| windows[reader].rows.end);
            let rows = windows[i].extend(&pool, device, first, end)?;
            match i.checked_sub(1).and_then(|at| self.nodes.get(at)) {
                None => fill(kept, &windows[0], rows)?,
                Some(node) => self.node(device, &pool, node, i, windows, &rows, size)?,
            }
        }
        Ok(())
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
        size: [usize; 2],
    ) -> Result<(), DriverError> {
        let (shapes, read) = (self.flow.shapes(), self.flow.inputs(index));
        let input = |at: &NodeIndex| (windows[at.0].origin(), shapes[at.0].channels);
        let inputs: Vec<Input> = read.iter().map(input).collect();
        let scale = read.first().map_or(1, |at| shapes[at.0].scale);
        let rows = rows.start / node.reach.up..rows.end / node.reach.up;
        let region = Region { height: size[0] * scale, width: size[1] * scale, stride: node.reach.stride, parity: None, rows };
        let out = [windows[index].origin(), 0];
        let (true, Some(x)) = (node.is_gdn, read.first()) else {
            // SAFETY: the windows have the rows that are read, with the channels of the terms (the package was verified), and room for the new ones.
            return unsafe { node.plan.launch(device, &inputs, &region, out, 0) };
        };
        let (window, channels) = (&windows[x.0], shapes[x.0].channels);
        let (at, bytes) = (region.rows.start * window.row_len, region.rows.len() * window.row_len);
        let (high, low) = (pool.take(bytes)?, pool.take(bytes)?);
        let count = bytes / size_of::<i16>();
        let args = SquaresArgs { input: window.at(region.rows.start), high: high.address, low: low.address, count: count as i64 };
        // SAFETY: the window has these rows, and both halves have room for as many elements.
        unsafe { device.launch_elements(&device::SQUARES, count, &args) }?;
        let squares = [high, low].map(|half| (half.address.wrapping_sub(at as u64), channels));
        // The squares' buffers may be used again by what comes later on the stream.
        // SAFETY: as for the other nodes; rows of the squares are those of the region, and the factors the window's.
        unsafe { node.plan.launch(device, &squares, &region, out, window.origin()) }
    }
}

#[cfg(test)]
mod tests;
