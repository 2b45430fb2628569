//! The operators of the entropy networks as launches of kernels.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use cudarc::driver::result::DriverError;
use mlic_backend::ops::Ops;
use mlic_backend::{BackendError, Stage};
use mlic_core::checkerboard::Parity;
use mlic_core::fixed::LATENT_FRAC_BITS;
use mlic_model::layout::{LayerId, LinearAttentionId, LocalAttentionId, NormId, QuantizerId};
use mlic_model::{Config, Model};

use crate::args::{AddArgs, FillArgs, LinearArgs, MoveArgs, NormArgs, QuantizeArgs, RequantArg, WindowArgs, half};
use crate::backend::{CudaBackend, device_error};
use crate::device::{self, Device, Kernel};
use crate::layer::{Input, Region, narrow};
use crate::memory::Tensor;
use crate::workspace::Workspace;

/// Activations on the device.
pub(crate) type Activations = Tensor<i16>;
/// Latent quantities on the device.
pub(crate) type Latents = Tensor<i32>;

/// Positions over which one block of the linear attention sums: so few that there are blocks for all multiprocessors, and not so few that the
/// additions to the same sums in memory take longer than what they add.
fn chunk(positions: usize) -> usize {
    positions.div_ceil(128).next_multiple_of(32).clamp(64, 512)
}
/// Weights of one block in the last step of the linear attention, as in `attention.h`.
pub(crate) const APPLY: usize = 1024;

/// Bytes of shared memory of a block of the window attention with `together` heads, which `neighbourhood` of `attention.h` divides: at most 39 KiB.
fn window_bytes(config: &Config, together: usize) -> usize {
    let (area, channels) = (config.window * config.window, config.slice_channels() / config.heads);
    let pitch = 2 * (channels.div_ceil(2) | 1);
    together * area * (4 * area + 3 * 2 * pitch) + 4 * area + area
}

/// The least activation, in both halves of a word.
const LEAST_KEYS: u64 = 0xffff_8000_ffff_8000;

/// Operators of one model at one level of activation scales, for one image.
pub(crate) struct CudaOps<'m> {
    pub(crate) backend: &'m CudaBackend,
    pub(crate) workspace: Workspace,
    pub(crate) level: usize,
    pub(crate) stage: Stage,
}

impl<'m> CudaOps<'m> {
    fn model(&self) -> &'m Model {
        &self.backend.model
    }

    fn device(&self) -> &Device {
        &self.workspace.device
    }

    fn checked<T>(&self, result: Result<T, DriverError>) -> Result<T, BackendError> {
        result.map_err(|e| device_error(self.stage, e))
    }

    fn tensor<T: bytemuck::Pod>(&self, shape: [usize; 3]) -> Result<Tensor<T>, BackendError> {
        self.backend.with_room(|| self.checked(Tensor::new(&self.workspace.pool, shape)))
    }

    fn find<T>(&self, what: &str, index: usize, found: Option<T>) -> Result<T, BackendError> {
        found.ok_or_else(|| BackendError::Operator { name: format!("{what} {index} at level {}", self.level) })
    }

    /// Checks a size, because kernels trust the shapes that they are given.
    fn must_be(&self, got: usize, need: usize) -> Result<(), BackendError> {
        if got == need { Ok(()) } else { Err(BackendError::Shape { stage: self.stage, got, need }) }
    }

    fn too_many(&self, got: usize) -> BackendError {
        BackendError::Shape { stage: self.stage, got, need: self.workspace.host().capacity() }
    }

    /// # Safety
    /// The addresses are of tensors of this workspace, or of the package, with the shapes that the numbers say. The pool of the workspace keeps its
    /// tensors in the order of its stream; the backend keeps the package.
    unsafe fn elements<A: cudarc::driver::DeviceRepr>(
        &self,
        kernel: &Kernel<A>,
        count: usize,
        args: &A,
    ) -> Result<(), BackendError> {
        // SAFETY: the caller's promise.
        self.checked(unsafe { self.device().launch_elements(kernel, count, args) })
    }

    /// Runs a layer. `out` makes its outputs from height, width and output channels, and returns them with their addresses.
    fn run_layer<T>(
        &self,
        id: LayerId,
        inputs: &[&Activations],
        parity: Option<Parity>,
        out: impl FnOnce(&Self, [usize; 3]) -> Result<(T, [u64; 2]), BackendError>,
    ) -> Result<T, BackendError> {
        let plan = self.find("layer", id.0, self.backend.packed.plan(id, self.level))?;
        let spec = self.find("layer", id.0, self.model().layout().layers.get(id.0))?;
        let Some(first) = inputs.first().filter(|_| plan.takes(inputs.len())) else {
            return Err(BackendError::Shape { stage: self.stage, got: inputs.len(), need: spec.terms.len() });
        };
        for (input, term) in inputs.iter().zip(&spec.terms) {
            self.must_be(input.height, first.height)?;
            self.must_be(input.width, first.width)?;
            self.must_be(input.channels.max(term.first_channel + term.channels), input.channels)?;
        }
        let region = Region { height: first.height, width: first.width, stride: 1, parity, rows: 0..first.height };
        let (result, addresses) = out(self, [first.height, region.columns(), spec.outputs])?;
        let inputs: Vec<Input> = inputs.iter().map(|map| (map.address(), map.channels)).collect();
        // SAFETY: the inputs have the terms' channels and one size, which was checked; `out` has made room for this shape.
        self.checked(unsafe { plan.launch(self.device(), &inputs, &region, addresses, 0) })?;
        Ok(result)
    }

    fn activations(&self, id: LayerId, inputs: &[&Activations], parity: Option<Parity>) -> Result<Activations, BackendError> {
        self.run_layer(id, inputs, parity, |ops, shape| {
            let out = ops.tensor(shape)?;
            let address = out.address();
            Ok((out, [address, 0]))
        })
    }

    /// Rearranges the positions of a tensor.
    ///
    /// # Safety
    /// `from` are addresses of tensors of this workspace with as many elements as the kernel reads for this shape.
    unsafe fn moved<T: bytemuck::Pod>(
        &self,
        kernel: &Kernel<MoveArgs>,
        from: [u64; 2],
        shape: [usize; 3],
        parity: Option<Parity>,
    ) -> Result<Tensor<T>, BackendError> {
        let out = self.tensor(shape)?;
        let args = MoveArgs {
            input: from[0],
            input2: from[1],
            out: out.address(),
            count: out.len() as i64,
            width: narrow(shape[1]),
            channels: narrow(shape[2]),
            half: half(parity),
            reserved: 0,
        };
        // SAFETY: `out` has this shape, and `from` is the caller's promise.
        unsafe { self.elements(kernel, out.len(), &args) }?;
        Ok(out)
    }

    /// `a + b * 2^b_shift`, with the shape of `a`.
    ///
    /// # Safety
    /// At `b` there are as many elements as `a` has, in memory of this workspace.
    unsafe fn sum(&self, a: &Latents, b: u64, b_shift: u32) -> Result<Latents, BackendError> {
        let out: Latents = self.tensor([a.height, a.width, a.channels])?;
        let args = AddArgs { a: a.address(), b, out: out.address(), count: a.len() as i64, b_shift: b_shift as i32, reserved: 0 };
        // SAFETY: `out` has the shape of a, and `b` is the caller's promise.
        unsafe { self.elements(&device::ADD, a.len(), &args) }?;
        Ok(out)
    }

    /// A scratch buffer of words that all have one value; it is free again when the result is dropped.
    fn filled(&self, words: usize, value: u64) -> Result<Tensor<u64>, BackendError> {
        let out: Tensor<u64> = self.tensor([1, 1, words])?;
        // SAFETY: `out` has so many words.
        unsafe { self.elements(&device::FILL, words, &FillArgs { out: out.address(), value, count: words as i64 }) }?;
        Ok(out)
    }

    fn same_positions(&self, qkv: [&Activations; 3], channels: usize) -> Result<(), BackendError> {
        for map in qkv {
            self.must_be(map.positions(), qkv[0].positions())?;
            self.must_be(map.channels, channels)?;
        }
        Ok(())
    }
}

impl Ops for CudaOps<'_> {
    type Map = Activations;
    type Latent = Latents;

    fn quantize(&mut self, id: QuantizerId, latent: &Latents) -> Result<Activations, BackendError> {
        let parameters = self.find("quantizer", id.0, self.model().parameters().quantizers.get(id.0))?;
        let requant: RequantArg = (*self.find("quantizer", id.0, parameters.levels.get(self.level))?).into();
        let out: Activations = self.tensor([latent.height, latent.width, latent.channels])?;
        let (count, max, channels) = (latent.len() as i64, parameters.max, narrow(latent.channels));
        let args = QuantizeArgs { input: latent.address(), out: out.address(), gains: 0, count, requant, max, channels };
        // SAFETY: `out` has the shape of the input.
        unsafe { self.elements(&device::QUANTIZE, latent.len(), &args) }?;
        Ok(out)
    }

    fn layer(&mut self, id: LayerId, inputs: &[&Activations]) -> Result<Activations, BackendError> {
        self.activations(id, inputs, None)
    }

    fn layer_at(&mut self, id: LayerId, inputs: &[&Activations], parity: Parity) -> Result<Activations, BackendError> {
        self.activations(id, inputs, Some(parity))
    }

    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Activations]) -> Result<(Latents, Latents), BackendError> {
        self.run_layer(id, inputs, None, |ops, [height, width, outputs]| {
            let half = || ops.tensor::<i32>([height, width, outputs / 2]);
            let (scale, mean) = (half()?, half()?);
            let addresses = [scale.address(), mean.address()];
            Ok(((scale, mean), addresses))
        })
    }

    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Activations], parity: Parity) -> Result<Latents, BackendError> {
        self.run_layer(id, inputs, Some(parity), |ops, shape| {
            let out: Latents = ops.tensor(shape)?;
            let address = out.address();
            Ok((out, [address, 0]))
        })
    }

    fn shuffle(&mut self, map: &Activations) -> Result<Activations, BackendError> {
        // SAFETY: the shape is that which the kernel makes of the input.
        unsafe { self.moved(&device::SHUFFLE, [map.address(), 0], [2 * map.height, 2 * map.width, map.channels / 4], None) }
    }

    fn norm(&mut self, id: NormId, map: &Activations) -> Result<Activations, BackendError> {
        let norm = self.model().parameters().norms.get(id.0).and_then(|n| n.epsilon.get(self.level));
        let epsilon = *self.find("norm", id.0, norm)?;
        let out: Activations = self.tensor([map.height, map.width, map.channels])?;
        let (positions, channels) = (narrow(map.positions()), narrow(map.channels));
        let args = NormArgs { input: map.address(), out: out.address(), epsilon, positions, channels };
        // SAFETY: `out` has the shape of the input; a warp takes a position.
        unsafe { self.elements(&device::NORM, 32 * map.positions(), &args) }?;
        Ok(out)
    }

    fn linear_attention(&mut self, id: LinearAttentionId, qkv: [&Activations; 3]) -> Result<Activations, BackendError> {
        let spec = self.find("linear attention", id.0, self.model().layout().linear_attentions.get(id.0))?;
        let parameters = self.find("linear attention", id.0, self.model().parameters().linear_attentions.get(id.0))?;
        let level = *self.find("linear attention", id.0, parameters.levels.get(self.level))?;
        let (channels, head) = (spec.channels, spec.channels / spec.heads.max(1));
        self.same_positions(qkv, channels)?;
        let positions = qkv[0].positions();
        let out: Activations = self.tensor([qkv[0].height, qkv[0].width, channels])?;
        let largest = self.filled(channels.div_ceil(2), LEAST_KEYS)?;
        let sums = self.filled(channels * (head + 1), 0)?;
        let context: Latents = self.tensor([1, channels, head])?;
        let args = LinearArgs {
            qkv: qkv.map(Tensor::address),
            out: out.address(),
            largest: largest.address(),
            sums: sums.address(),
            context: context.address(),
            exp: self.backend.packed.exp,
            query: level.query.into(),
            key: level.key.into(),
            output: level.output.into(),
            positions: narrow(positions),
            channels: narrow(channels),
            head_channels: narrow(head),
            max: parameters.max,
            chunk: narrow(chunk(positions)),
            reserved: 0,
        };
        if positions > 0 && channels > 0 {
            let (heads, chunks) = (channels / head, positions.div_ceil(chunk(positions)));
            let device = self.device();
            let all = [channels.div_ceil(64), chunks];
            // SAFETY: queries, keys, values and `out` have these positions and channels, which was checked or made so; the others are scratch of this
            // workspace, of the sizes above.
            self.checked(unsafe { device.launch(&device::ATTENTION_LARGEST, all, 64, &args) })?;
            // SAFETY: as above.
            self.checked(unsafe { device.launch(&device::ATTENTION_SUM, [heads, chunks], 256, &args) })?;
            // SAFETY: as above.
            self.checked(unsafe { device.launch_elements(&device::ATTENTION_DIVIDE, channels * head, &args) })?;
            let apply = [positions.div_ceil(APPLY / head), heads];
            // SAFETY: as above.
            self.checked(unsafe { device.launch(&device::ATTENTION_APPLY, apply, 256, &args) })?;
        }
        Ok(out)
    }

    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Activations; 3]) -> Result<Activations, BackendError> {
        let parameters = self.find("local attention", id.0, self.model().parameters().local_attentions.get(id.0))?;
        let slice = self.find("local attention", id.0, self.model().layout().slices.get(id.0))?;
        let requant = (*self.find("local attention", id.0, parameters.levels.get(self.level))?).into();
        let bias = *self.find("local attention", id.0, self.backend.packed.position_biases.get(id.0))?;
        let max = self.find("layer", id.0, self.model().layer(slice.local.qkv[2], self.level))?.max;
        let config = self.model().config();
        let [height, width, channels] = [qkv[0].height, qkv[0].width, qkv[0].channels];
        self.same_positions(qkv, config.slice_channels())?;
        // Two heads have enough queries for a block, and fit with any window.
        let together = if config.heads.is_multiple_of(2) { 2 } else { 1 };
        let out: Activations = self.tensor([height, width / 2, config.window * config.window * channels])?;
        let args = WindowArgs {
            qkv: qkv.map(Tensor::address),
            out: out.address(),
            bias,
            exp: self.backend.packed.exp,
            requant,
            height: narrow(height),
            width: narrow(width),
            channels: narrow(channels),
            heads: narrow(config.heads),
            window: narrow(config.window),
            max,
            together: narrow(together),
            reserved: 0,
        };
        if out.positions() > 0 {
            let (grid, shared) = ([out.positions(), config.heads / together], window_bytes(config, together));
            // SAFETY: queries, keys and values have one shape, which was checked, and `out` that of their windows; the biases are the package's.
            self.checked(unsafe { self.device().launch_shared(&device::WINDOW_ATTENTION, grid, 128, shared, &args) })?;
        }
        Ok(out)
    }

    fn pack(&mut self, map: &Activations, parity: Parity) -> Result<Activations, BackendError> {
        // SAFETY: the shape is that which the kernel makes of the input.
        unsafe { self.moved(&device::PACK, [map.address(), 0], [map.height, map.width / 2, map.channels], Some(parity)) }
    }

    fn unpack(&mut self, map: &Activations, parity: Parity) -> Result<Activations, BackendError> {
        // SAFETY: the shape is that which the kernel makes of the input.
        unsafe { self.moved(&device::UNPACK, [map.address(), 0], [map.height, 2 * map.width, map.channels], Some(parity)) }
    }

    fn merge(&mut self, anchors: &Latents, non_anchors: Option<&Latents>) -> Result<Latents, BackendError> {
        if let Some(non_anchors) = non_anchors {
            self.must_be(non_anchors.len(), anchors.len())?;
        }
        let from = [anchors.address(), non_anchors.map_or(0, Tensor::address)];
        // SAFETY: the shape is that which the kernel makes of the inputs, which have one.
        unsafe { self.moved(&device::MERGE, from, [anchors.height, 2 * anchors.width, anchors.channels], None) }
    }

    fn reconstruct(&mut self, mean: &Latents, symbols: &[i32]) -> Result<Latents, BackendError> {
        self.must_be(symbols.len(), mean.len())?;
        // SAFETY: the parameters of this pass, or z, came after the symbols before, and the device was waited for then.
        let address = unsafe { self.workspace.host().write_symbols(symbols) };
        let address = address.ok_or_else(|| self.too_many(symbols.len()))?;
        // SAFETY: as many symbols as means are there.
        unsafe { self.sum(mean, address, LATENT_FRAC_BITS) }
    }

    fn add(&mut self, a: &Latents, b: &Latents) -> Result<Latents, BackendError> {
        self.must_be(b.len(), a.len())?;
        // SAFETY: b has as many elements as a.
        unsafe { self.sum(a, b.address(), 0) }
    }
}
