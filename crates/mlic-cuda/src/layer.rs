//! A linear layer as a launch: what is known when a model comes to the device, and what each call adds.

use std::ops::Range;

use cudarc::driver::result::DriverError;
use mlic_core::checkerboard::Parity;

use crate::args::{LayerArgs, MAX_TERMS, half};
use crate::device::{self, Device};

/// An index that a kernel computes in 32 bits; what does not fit is refused by the launch.
pub(crate) fn narrow(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// A layer at one level of activation scales, with its weights on the device.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// All but inputs, outputs and positions.
    pub(crate) args: LayerArgs,
    /// Warps of a block along the outputs; none for a depthwise layer.
    pub(crate) warps_n: Option<usize>,
    /// Whether one term has weights.
    pub(crate) is_single: bool,
}

/// Address and channels of an input.
pub(crate) type Input = (u64, usize);

/// What is computed: `rows` of the output, all columns or those of a half, from inputs of `height x width` of which it has every `stride`-th
/// row and column.
#[derive(Clone)]
pub(crate) struct Region {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
    pub(crate) parity: Option<Parity>,
    pub(crate) rows: Range<usize>,
}

impl Region {
    /// Columns of the output.
    pub(crate) const fn columns(&self) -> usize {
        if self.parity.is_some() { self.width / 2 } else { self.width / self.stride }
    }
}

impl Plan {
    /// Starts the layer. The caller has checked that the inputs have the shapes of its terms, and `out` room for its outputs.
    pub(crate) fn launch(
        &self,
        device: &Device,
        inputs: &[Input],
        region: &Region,
        out: [u64; 2],
        factors: u64,
    ) -> Result<(), DriverError> {
        let mut args = LayerArgs {
            out: out[0],
            out2: out[1],
            factors,
            in_height: narrow(region.height),
            in_width: narrow(region.width),
            out_width: narrow(region.columns()),
            first: narrow(region.rows.start * region.columns()),
            end: narrow(region.rows.end * region.columns()),
            half: half(region.parity),
            ..self.args
        };
        for ((stride, address), input) in args.strides.iter_mut().zip(&mut args.inputs).zip(inputs) {
            (*address, *stride) = (input.0, narrow(input.1));
        }
        let positions = region.rows.len() * region.columns();
        if positions == 0 {
            return Ok(());
        }
        let Some(warps_n) = self.warps_n else {
            return device.launch_elements(&device::DEPTHWISE, positions * self.args.outputs as usize, &args);
        };
        let warps_m = if warps_n == 1 { 4 } else { 2 };
        let grid = [positions.div_ceil(32 * warps_m), self.args.columns as usize / (32 * warps_n)];
        let kernel = match (device.has_mma, self.is_single) {
            (true, true) => &device::DENSE_MMA_SINGLE,
            (true, false) => &device::DENSE_MMA,
            (false, true) => &device::DENSE_DOT_SINGLE,
            (false, false) => &device::DENSE_DOT,
        };
        device.launch(kernel, grid, 32 * warps_m * warps_n, &args)
    }

    /// Whether the inputs are as many as the terms.
    pub(crate) const fn takes(&self, inputs: usize) -> bool {
        inputs == self.args.term_count as usize && inputs <= MAX_TERMS && inputs > 0
    }
}
