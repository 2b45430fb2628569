//! A linear layer as a launch: what is known when a model comes to the device, and what each call adds.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use std::ops::Range;

use cudarc::driver::result::DriverError;
use mlic_core::checkerboard::Parity;

use crate::args::{LayerArgs, MAX_TERMS, half};
use crate::device::{self, Device};
use crate::packed::BLOCK;

/// Converts a number of rows, columns, channels or positions to the 32 bits of the kernels. No picture within `MAX_PIXELS`, 2^28, has a larger one.
pub(crate) fn narrow(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// A layer at one level of activation scales, with its weights on the device.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// All arguments but inputs, outputs and positions.
    pub(crate) args: LayerArgs,
    /// None for a depthwise layer.
    pub(crate) dense: Option<Dense>,
}

/// What kind of dense layer it is.
#[derive(Clone, Copy)]
pub(crate) struct Dense {
    /// Bytes of a weight.
    pub(crate) planes: usize,
    /// Whether exactly one term has weights.
    pub(crate) is_single: bool,
}

/// `STAGES` of `dense.h`.
pub(crate) const STAGES: usize = 3;
/// Positions in a row of the tile, for a layer that reads neighbours.
const TILE_WIDTH: usize = 16;
/// The most warps of a block.
const MAX_WARPS: usize = 12;

/// Shape of the blocks of a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Warps along positions, 32 each.
    pub(crate) m: usize,
    /// Warps along outputs.
    pub(crate) n: usize,
    /// Warps along the k axis, which share positions and outputs.
    pub(crate) k: usize,
    /// Outputs of a warp in units of 32: `BLOCKS` of `dense.h`.
    pub(crate) blocks: usize,
}

impl Tile {
    const fn warps(self) -> usize {
        self.m * self.n * self.k
    }

    /// Outputs of a block in units of 32.
    const fn width(self) -> usize {
        self.n * self.blocks
    }
}

/// Address and channels of an input.
pub(crate) type Input = (u64, usize);

/// The part of the output that is computed: `rows`, with all columns or those of one half. The inputs are `height x width`; the output has every
/// `stride`-th of their rows and columns.
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
    /// Starts the layer.
    ///
    /// # Safety
    /// The inputs have the shapes of the layer's terms and the region, `out` has room for the layer's outputs there, and `factors`, if they are read,
    /// are as many; all are kept as [`Device::launch`] requires.
    pub(crate) unsafe fn launch(
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
            stride: narrow(region.stride),
            ..self.args
        };
        for ((stride, address), input) in args.strides.iter_mut().zip(&mut args.inputs).zip(inputs) {
            (*address, *stride) = (input.0, narrow(input.1));
        }
        let positions = region.rows.len() * region.columns();
        if positions == 0 {
            return Ok(());
        }
        let Some(dense) = self.dense else {
            let count = positions * (self.args.outputs as usize).div_ceil(8);
            // SAFETY: the caller's promise; weights and constants are the package's, which the backend keeps.
            return unsafe { device.launch_elements(&device::DEPTHWISE, count, &args) };
        };
        let tile = self.tile(device, dense, region);
        (args.pitch, args.patch) = self.patch(tile, region);
        [args.warps_m, args.warps_n, args.warps_k] = [tile.m, tile.n, tile.k].map(narrow);
        let kernel = match (device.has_mma, dense.planes, dense.is_single) {
            (true, 1, true) if tile.blocks == 2 => &device::DENSE_MMA_BYTES_SINGLE_BROAD,
            (true, 1, true) => &device::DENSE_MMA_BYTES_SINGLE,
            (true, 1, false) => &device::DENSE_MMA_BYTES,
            (true, _, true) => &device::DENSE_MMA_WORDS_SINGLE,
            (true, _, false) => &device::DENSE_MMA_WORDS,
            (false, 1, true) => &device::DENSE_DOT_BYTES_SINGLE,
            (false, 1, false) => &device::DENSE_DOT_BYTES,
            (false, _, true) => &device::DENSE_DOT_WORDS_SINGLE,
            (false, _, false) => &device::DENSE_DOT_WORDS,
        };
        device.label(|| {
            let LayerArgs { side, outputs, step_count, .. } = self.args;
            format!(
                " {side}x{side} to {outputs}, {positions} positions, {step_count} steps, {}x{}x{} warps",
                tile.m,
                tile.width(),
                tile.k
            )
        });
        let grid = [self.blocks_along(tile, region), self.args.columns as usize / (BLOCK * tile.width())];
        // SAFETY: as above; the grid covers the region and the outputs once.
        unsafe { device.launch_shared(kernel, grid, 32 * tile.warps(), self.shared(tile, dense, region), &args) }
    }

    /// Whether each output reads a single position, the one of its own index.
    const fn is_run(&self, region: &Region) -> bool {
        self.args.side == 1 && region.parity.is_none() && region.stride == 1
    }

    /// Blocks along the positions.
    fn blocks_along(&self, tile: Tile, region: &Region) -> usize {
        let (rows, columns) = (region.rows.len(), region.columns());
        if self.is_run(region) {
            (rows * columns).div_ceil(32 * tile.m)
        } else {
            columns.div_ceil(TILE_WIDTH) * rows.div_ceil(2 * tile.m)
        }
    }

    /// Positions in a row of the patch (0 for a run), and in all of the patch.
    fn patch(&self, tile: Tile, region: &Region) -> (i32, i32) {
        if self.is_run(region) {
            return (0, narrow(32 * tile.m));
        }
        let apart = if self.args.side == 1 { 1 } else { region.stride };
        let from_first_to_last = |positions: usize| apart * (positions - 1);
        let pitch =
            from_first_to_last(if region.parity.is_some() { 2 * TILE_WIDTH } else { TILE_WIDTH }) + self.args.side as usize;
        let rows = from_first_to_last(2 * tile.m) + self.args.side as usize;
        (narrow(pitch), narrow(rows * pitch))
    }

    /// Bytes of shared memory of a block, as `parts_of` of `dense.h` divides it.
    fn shared(&self, tile: Tile, dense: Dense, region: &Region) -> usize {
        let (patch, groups) = (self.patch(tile, region).1 as usize, self.args.groups as usize);
        let patch_len = patch * 64 * if self.args.side == 1 { groups } else { 1 };
        let stages = STAGES * groups * tile.width() * dense.planes * 1024;
        let copied = (4 * patch).next_multiple_of(16) + self.args.patches as usize * patch_len + stages;
        let sums = tile.warps() * tile.blocks * BLOCK * BLOCK * size_of::<i64>();
        if dense.is_single { copied.max(sums) } else { copied + sums }
    }

    /// Chooses the shape of the blocks. Large blocks copy less for each product, but there must be blocks for all multiprocessors. Where these have
    /// few warps, several warps share out the k axis, because the time of one warp is then the time of the layer.
    fn tile(&self, device: &Device, dense: Dense, region: &Region) -> Tile {
        let across = self.args.columns as usize / BLOCK;
        let has_broad = device.has_mma && dense.planes == 1 && dense.is_single;
        let fits = |tile: &Tile| {
            across.is_multiple_of(tile.width())
                && (tile.blocks == 1 || has_broad)
                && tile.warps() <= MAX_WARPS
                && self.shared(*tile, dense, region) <= device.shared_limit
        };
        let number = |tile: Tile| self.blocks_along(tile, region) * across / tile.width();
        if let Some(tile) = device.forced_tile.filter(fits) {
            return tile;
        }
        let of = |m, n, blocks| Tile { m, n, k: 1, blocks };
        let least = of(1, 1, 1);
        // Words have four products for each value that is copied, and sums of identities none. Both get small blocks, several of them on a multiprocessor.
        let words = [of(4, 1, 1), of(2, 1, 1)];
        let bytes = [of(4, 3, 2), of(4, 1, 2), of(4, 3, 1), of(4, 2, 1), of(4, 1, 1), of(2, 2, 1), of(2, 1, 1)];
        let shapes: &[Tile] = if dense.planes == 1 && self.args.step_count > 0 { &bytes } else { &words };
        let is_enough = |tile: &Tile| fits(tile) && number(*tile) >= 2 * device.multiprocessors;
        let tile = shapes.iter().copied().find(is_enough).unwrap_or(least);
        let k = if self.args.side == 1 { self.args.groups } else { self.args.side } as usize;
        let split = Tile { k: k.max(1), ..tile };
        if number(tile) * tile.warps() < 8 * device.multiprocessors && fits(&split) { split } else { tile }
    }

    /// Whether there are as many inputs as terms.
    pub(crate) const fn takes(&self, inputs: usize) -> bool {
        inputs == self.args.term_count as usize && inputs <= MAX_TERMS && inputs > 0
    }
}
