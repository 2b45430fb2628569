//! Linear layers, in bands of rows that run in parallel; [`super::band`] computes a band.

use std::ops::Range;

use mlic_core::checkerboard::Parity;
use mlic_core::memory::OutOfMemory;
use mlic_model::layout::Epilogue as Kind;
use mlic_model::model::LayerView;
use rayon::prelude::*;

use super::band::{Band, SCRATCH};
use super::constants::Constants;
use super::epilogue::{Epilogue, Gelu, HalfTanh, Latent, Linear};
use super::pack::Layer;
use super::tables::Tables;
use crate::arch::run;
use crate::map::{Map, Rows};

/// Most positions of a band, approximately: what is staged and summed stays in the nearer caches.
const BAND_POSITIONS: usize = 192;
/// Most input bytes of a band, approximately, where they hold more positions: every band also stages the rows around it, so that fewer bands stage less.
const BAND_LEN: usize = 256 << 10;
/// Fewest bands per thread, where there are enough rows and more than one thread.
const BANDS_PER_THREAD: usize = 4;

/// Which positions of the output are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    /// All: the output has the size of the inputs.
    All,
    /// One checkerboard half: the output is packed.
    Half(Parity),
    /// Every second row and column, from the first on.
    Second,
}

impl Positions {
    pub(super) fn columns(self, row: usize, width: usize) -> impl Iterator<Item = usize> + Clone {
        let (first, step) = match self {
            Self::All => (0, 1),
            Self::Half(parity) => (parity.first_col(row), 2),
            Self::Second => (0, 2),
        };
        (first..width).step_by(step)
    }

    /// Columns from one wanted position to the next.
    pub(super) const fn step(self) -> usize {
        match self {
            Self::All => 1,
            Self::Half(_) | Self::Second => 2,
        }
    }

    const fn width(self, width: usize) -> usize {
        width / self.step()
    }

    /// Rows from one wanted position to the next.
    pub(super) const fn row_step(self) -> usize {
        if matches!(self, Self::Second) { 2 } else { 1 }
    }

    /// The input rows on which the middle of the kernel lies for these output rows, and the rows between them.
    pub(super) fn middles(self, rows: &Range<usize>) -> Range<usize> {
        let step = self.row_step();
        step * rows.start..(step * rows.end + 1).saturating_sub(step)
    }
}

fn map_outputs<E: Epilogue>(
    layer: &Layer,
    view: &LayerView<'_>,
    inputs: &[&Map<i16>],
    half: Option<Parity>,
    epilogue: E,
) -> Result<Map<E::Out>, OutOfMemory> {
    if let Some(parity) = half.filter(|_| layer.is_winograd()) {
        return map_outputs(layer, view, inputs, None, epilogue)?.pack(parity);
    }
    let at = half.map_or(Positions::All, Positions::Half);
    let (height, width) = inputs.first().map_or((0, 0), |m| (m.height, m.width));
    let mut out = Map::zeros(height, at.width(width), layer.outputs)?;
    let inputs: Vec<Rows<'_>> = inputs.iter().map(|m| Rows::from(*m)).collect();
    let constants = &Constants::new(layer, view.level, at)?;
    let part = Part { layer, constants, inputs: &inputs, rows: 0..out.height, threads: rayon::current_num_threads() };
    part.run(epilogue, Order::Plain, &mut out.data)?;
    Ok(out)
}

/// How outputs lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Row, column, output.
    Plain,
    /// After a pixel shuffle by two, for a layer whose outputs come in the order row offset, column offset, channel.
    Shuffled,
}

impl Order {
    /// Output rows per input row.
    pub(super) const fn rows(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Shuffled => 2,
        }
    }
}

/// Some rows of the output of a layer.
pub(super) struct Part<'a> {
    pub(super) layer: &'a Layer,
    pub(super) constants: &'a Constants,
    pub(super) inputs: &'a [Rows<'a>],
    pub(super) rows: Range<usize>,
    /// Threads that compute the rows.
    pub(super) threads: usize,
}

/// Rows of each band, where `threads` threads share `height` rows of `width` positions of `position_len` bytes.
pub(super) fn band_rows(height: usize, width: usize, position_len: usize, threads: usize) -> usize {
    let fair_len = if threads == 1 { height } else { height.div_ceil(BANDS_PER_THREAD * threads) };
    let positions = (BAND_LEN / position_len.max(1)).max(BAND_POSITIONS);
    (positions / width.max(1)).min(fair_len).max(1)
}

impl Part<'_> {
    /// Computes the rows in bands, in parallel on the current rayon pool.
    pub(super) fn run<E: Epilogue>(&self, epilogue: E, order: Order, out: &mut [E::Out]) -> Result<(), OutOfMemory> {
        let Self { layer, constants, inputs, ref rows, threads } = *self;
        let at = constants.at;
        let width = at.width(inputs.first().map_or(0, |m| m.width));
        let position_len: usize = inputs.iter().map(|input| 2 * input.channels).sum();
        let rows_len = band_rows(rows.len(), width, position_len, threads);
        // Bands consist of whole tiles of two rows, as far as there are rows.
        let rows_len = if layer.is_winograd() { rows_len.next_multiple_of(2) } else { rows_len };
        let epilogue = epilogue.for_sums_up_to(constants.largest);
        let len = (rows_len * width * layer.outputs).max(1);
        out.par_chunks_mut(len).enumerate().try_for_each(|(i, out)| {
            let first = rows.start + i * rows_len;
            let mut scratch = SCRATCH.take();
            scratch.reserve(layer, at, rows_len, inputs.first().map_or(0, |m| m.width))?;
            let band = |scratch, out| {
                let rows = first..(first + rows_len).min(rows.end);
                run(layer.isa, Band { layer, constants, inputs, rows, epilogue, scratch, out });
            };
            match order {
                Order::Plain => band(&mut scratch, out),
                Order::Shuffled => {
                    let mut plain = std::mem::take(&mut scratch.plain);
                    let words = size_of_val(out).div_ceil(size_of::<i32>());
                    let own: &mut [E::Out] = &mut bytemuck::cast_slice_mut(plain.at_least(words)?)[..out.len()];
                    band(&mut scratch, own);
                    shuffle(own, out, width, layer.outputs);
                    scratch.plain = plain;
                }
            }
            SCRATCH.set(scratch);
            Ok(())
        })
    }
}

/// Makes two rows of each row of `width` positions, whose `outputs` values are in the order row offset, column offset, channel.
fn shuffle<T: Copy>(from: &[T], to: &mut [T], width: usize, outputs: usize) {
    let len = width * outputs;
    for (from, to) in from.chunks_exact(len).zip(to.chunks_exact_mut(len)) {
        let (upper, lower) = to.split_at_mut(len / 2);
        let both = upper.chunks_exact_mut(outputs / 2).zip(lower.chunks_exact_mut(outputs / 2));
        for (at, (upper, lower)) in from.chunks_exact(outputs).zip(both) {
            upper.copy_from_slice(&at[..outputs / 2]);
            lower.copy_from_slice(&at[outputs / 2..]);
        }
    }
}

/// [`crate::reference::layer`] for activations, at all positions or packed at one half. `view` shows the layer from which `layer` was packed.
///
/// # Errors
/// [`OutOfMemory`].
pub fn layer(
    layer: &Layer,
    view: &LayerView<'_>,
    tables: &Tables,
    inputs: &[&Map<i16>],
    half: Option<Parity>,
) -> Result<Map<i16>, OutOfMemory> {
    if view.spec.epilogue == Kind::Gelu {
        return map_outputs(layer, view, inputs, half, Gelu::new(tables, view.level.output, view.max));
    }
    map_outputs(layer, view, inputs, half, Linear::around_zero(view.max))
}

/// [`crate::reference::latent_layer`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn latent_layer(layer: &Layer, view: &LayerView<'_>, inputs: &[&Map<i16>]) -> Result<Map<i32>, OutOfMemory> {
    map_outputs(layer, view, inputs, None, Latent)
}

/// [`crate::reference::residual_layer`], at all positions or packed at one half.
///
/// # Errors
/// [`OutOfMemory`].
pub fn residual_layer(
    layer: &Layer,
    view: &LayerView<'_>,
    tables: &Tables,
    inputs: &[&Map<i16>],
    half: Option<Parity>,
) -> Result<Map<i32>, OutOfMemory> {
    map_outputs(layer, view, inputs, half, HalfTanh { tables })
}
