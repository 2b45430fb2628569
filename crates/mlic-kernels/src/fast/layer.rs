//! Linear layers: bands of rows in parallel; in a band, tiles of positions and outputs that stay in registers from the first product to
//! the stored result.

use std::ops::Range;

use mlic_core::checkerboard::Parity;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::layout::Epilogue as Kind;
use mlic_model::model::LayerView;
use rayon::prelude::*;

use super::epilogue::{Epilogue, Gelu, HalfTanh, Latent, Linear, put};
use super::pack::{Layer, Weights};
use super::square::{self, Chunks, Operands, Square};
use super::stage::{Buffer, Data, Staged, stage};
use super::tables::{Requantizer, Tables, half};
use super::tile::accumulate;
use crate::arch::{Job, SIDE, Simd, Tiles, run};
use crate::map::{Map, Rows};

/// Positions of a band, at most about: what is staged and summed stays in the nearer caches.
const BAND_POSITIONS: usize = 192;
/// Bands of each thread, at least, where there are enough rows.
const BANDS_PER_THREAD: usize = 4;

/// Which positions of the output are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
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
    const fn step(self) -> usize {
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

    /// The rows of the inputs in whose middle these rows of the output are, with those between.
    fn middles(self, rows: &Range<usize>) -> Range<usize> {
        let step = self.row_step();
        step * rows.start..(step * rows.end + 1).saturating_sub(step)
    }
}

/// Working memory of one thread, kept from band to band.
#[derive(Default)]
struct Scratch {
    inputs: Vec<Buffer>,
    places: Vec<[usize; 2]>,
    bias: Vec<i64>,
    multipliers: Vec<i32>,
    chunks: Chunks,
    squares: Vec<Square>,
}

/// A band of rows of a layer.
struct Band<'a, E: Epilogue> {
    layer: &'a Layer,
    view: &'a LayerView<'a>,
    inputs: &'a [Rows<'a>],
    at: Positions,
    rows: Range<usize>,
    epilogue: E,
    scratch: &'a mut Scratch,
    /// `[position][output]`.
    out: &'a mut [E::Out],
}

/// Bias and multipliers of the outputs of a block.
#[derive(Clone, Copy)]
struct Constants<'a> {
    /// In the order even lanes, odd lanes of each vector, with what rounding adds.
    bias: &'a [i64],
    /// `[term][output]`
    multipliers: &'a [i32],
}

impl Scratch {
    /// Bias and multipliers of all blocks, zeros where there are no outputs.
    fn set_constants(&mut self, layer: &Layer, view: &LayerView<'_>, lanes: usize) {
        let level = view.level;
        let or_zero = |values: &[i32], o: usize| values.get(o).copied().unwrap_or(0);
        self.bias.clear();
        self.multipliers.clear();
        for first in (0..layer.outputs).step_by(layer.block) {
            let outputs = first..first + layer.block;
            for multipliers in &level.multipliers {
                self.multipliers.extend(outputs.clone().map(|o| or_zero(multipliers, o)));
            }
            for first in outputs.step_by(lanes) {
                let order = (first..first + lanes).step_by(2).chain((first + 1..first + lanes).step_by(2));
                self.bias.extend(order.map(|o| level.bias.get(o).map_or(0, |b| b + half(level.shift))));
            }
        }
    }

    /// Room for bands of so many rows, so that nothing is allocated within one.
    fn reserve(&mut self, layer: &Layer, rows: usize, width: usize) -> Result<(), OutOfMemory> {
        let outputs = layer.outputs.next_multiple_of(layer.block);
        self.inputs.resize_with(layer.terms.len(), Buffer::default);
        let mut buffers = self.inputs.iter_mut().zip(&layer.terms);
        buffers.try_for_each(|(buffer, term)| buffer.reserve(term, layer.size, rows, width))?;
        reserve_all(&mut self.bias, outputs)?;
        reserve_all(&mut self.multipliers, layer.terms.len() * outputs)?;
        reserve_all(&mut self.squares, layer.terms.len())?;
        if layer.matrix().is_some() {
            return self.chunks.reserve(rows, width, layer.size);
        }
        reserve_all(&mut self.places, rows * width)
    }

    fn constants(&self, layer: &Layer, block: usize) -> Constants<'_> {
        let terms_len = layer.terms.len() * layer.block;
        Constants {
            bias: &self.bias[block * layer.block..][..layer.block],
            multipliers: &self.multipliers[block * terms_len..][..terms_len],
        }
    }
}

impl<E: Epilogue> Job for Band<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { layer, view, inputs, at, rows, epilogue, scratch, out } = self;
        let mut buffers = std::mem::take(&mut scratch.inputs);
        buffers.resize_with(inputs.len(), Buffer::default);
        let staged = inputs.iter().zip(&layer.terms).zip(&mut buffers);
        let staged: Vec<Staged<'_>> =
            staged.map(|((input, term), buffer)| stage(s, buffer, *input, term, layer.size, at.middles(&rows))).collect();
        let width = inputs.first().map_or(0, |m| m.width);
        scratch.set_constants(layer, view, S::LANES);
        let band = Stages { layer, view, staged: &staged, epilogue };
        match layer.matrix().filter(|_| S::HAS_MATRIX) {
            Some(matrix) => {
                scratch.chunks.cut(at, rows, width, layer.size);
                band.squares::<S, V>(s, scratch, &matrix.tiles(), at.step(), out);
            }
            None => {
                scratch.places.clear();
                let of_row = |(i, row)| at.columns(row, width).map(move |col| [at.row_step() * i, col]);
                scratch.places.extend(rows.enumerate().flat_map(of_row));
                band.tiles::<S, P, V>(s, scratch, out);
            }
        }
        scratch.inputs = buffers;
    }
}

/// A band with its inputs staged.
struct Stages<'a, E: Epilogue> {
    layer: &'a Layer,
    view: &'a LayerView<'a>,
    staged: &'a [Staged<'a>],
    epilogue: E,
}

impl<E: Epilogue> Stages<'_, E> {
    /// Block after block of the outputs, with accumulators in registers.
    #[inline(always)]
    fn tiles<S: Simd, const P: usize, const V: usize>(&self, s: S, scratch: &mut Scratch, out: &mut [E::Out]) {
        let Self { layer, staged, .. } = *self;
        let mut squares = std::mem::take(&mut scratch.squares);
        squares.resize(layer.terms.len(), [0; SIDE * SIDE]);
        for block in 0..layer.outputs.div_ceil(layer.block) {
            let constants = scratch.constants(layer, block);
            for (places, out) in scratch.places.chunks(P).zip(out.chunks_mut(P * layer.outputs)) {
                // Beyond the last place of the band the tile repeats it.
                let at: [[usize; 2]; P] = std::array::from_fn(|p| places[p.min(places.len() - 1)]);
                for ((term, staged), square) in layer.terms.iter().zip(staged).zip(&mut squares) {
                    let starts = at.map(|[row, col]| row * staged.row_len + col * staged.position_len);
                    let tile = accumulate::<S, P, V>(s, term, layer.size, *staged, &starts, block);
                    square::store(s, &tile, square);
                }
                self.finish::<S, V>(s, constants, &squares, 0..places.len(), out, block);
            }
        }
        scratch.squares = squares;
    }

    /// Chunk after chunk of the positions, with the accumulators of a matrix unit.
    #[inline(always)]
    fn squares<S: Simd, const V: usize>(&self, s: S, scratch: &mut Scratch, unit: &Tiles, step: usize, out: &mut [E::Out]) {
        let Self { layer, staged, .. } = *self;
        let mut squares = std::mem::take(&mut scratch.squares);
        squares.resize(layer.terms.len(), [0; SIDE * SIDE]);
        for chunk in &scratch.chunks.chunks {
            for block in 0..layer.outputs.div_ceil(layer.block) {
                for ((term, staged), square) in layer.terms.iter().zip(staged).zip(&mut squares) {
                    if let (Weights::Squares(squares), Data::Planes(planes)) = (&term.weights, staged.data) {
                        let Staged { position_len, row_len, .. } = *staged;
                        let operands = Operands { squares, planes, position_len, row_len, size: layer.size };
                        operands.multiply(s, unit, chunk, step, block, square);
                        continue;
                    }
                    for slot in &scratch.chunks.slots[chunk.places.clone()] {
                        let start = (chunk.first + slot * step) * staged.position_len;
                        let tile = accumulate::<S, 1, V>(s, term, layer.size, *staged, &[start], block);
                        square::store(s, &tile, &mut square[slot * SIDE..]);
                    }
                }
                let slots = scratch.chunks.slots[chunk.places.clone()].iter().copied();
                let out = &mut out[chunk.places.start * layer.outputs..chunk.places.end * layer.outputs];
                self.finish::<S, V>(s, scratch.constants(layer, block), &squares, slots, out, block);
            }
        }
        scratch.squares = squares;
    }

    /// From accumulators to the output `[place][output]`, of which the block has its own; `slots` are the rows of the squares that are wanted.
    #[inline(always)]
    fn finish<S: Simd, const V: usize>(
        &self,
        s: S,
        constants: Constants<'_>,
        squares: &[Square],
        slots: impl Iterator<Item = usize>,
        out: &mut [E::Out],
        block: usize,
    ) {
        let (outputs, shift) = (self.layer.outputs, self.view.level.shift);
        for (slot, out) in slots.zip(out.chunks_exact_mut(outputs)) {
            let out = &mut out[block * self.layer.block..];
            for (v, bias) in constants.bias.chunks_exact(S::LANES).enumerate().take(V) {
                let (mut even, mut odd) = (s.load_wide(bias), s.load_wide(&bias[S::LANES / 2..]));
                let multipliers = constants.multipliers[v * S::LANES..].chunks(V * S::LANES);
                for (square, multipliers) in squares.iter().zip(multipliers) {
                    let (sum, m) = (s.load(&square[slot * SIDE + v * S::LANES..]), s.load(multipliers));
                    even = s.add_wide(even, s.mul_wide(s.even(sum), s.even(m)));
                    odd = s.add_wide(odd, s.mul_wide(s.odd(sum), s.odd(m)));
                }
                let (even, odd) = (s.shift_right_wide(even, shift), s.shift_right_wide(odd, shift));
                put::<S, E>(s, self.epilogue.apply(s, even, odd), out, v * S::LANES);
            }
        }
    }
}

/// Room for so many elements in all.
pub(super) fn reserve_all<T>(vec: &mut Vec<T>, len: usize) -> Result<(), OutOfMemory> {
    memory::reserve(vec, len.saturating_sub(vec.len()))
}

fn map_outputs<E: Epilogue>(
    layer: &Layer,
    view: &LayerView<'_>,
    inputs: &[&Map<i16>],
    at: Positions,
    epilogue: E,
) -> Result<Map<E::Out>, OutOfMemory> {
    let (height, width) = inputs.first().map_or((0, 0), |m| (m.height, m.width));
    let mut out = Map::zeros(height / at.row_step(), at.width(width), layer.outputs)?;
    let inputs: Vec<Rows<'_>> = inputs.iter().map(|m| Rows::from(*m)).collect();
    let part = Part { layer, view, inputs: &inputs, at, rows: 0..out.height };
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

/// Some rows of the output of a layer.
pub(super) struct Part<'a> {
    pub(super) layer: &'a Layer,
    pub(super) view: &'a LayerView<'a>,
    pub(super) inputs: &'a [Rows<'a>],
    pub(super) at: Positions,
    pub(super) rows: Range<usize>,
}

/// Rows of a band, of so many rows of so many positions.
pub(super) fn band_rows(height: usize, width: usize) -> usize {
    let fair_len = height.div_ceil(BANDS_PER_THREAD * rayon::current_num_threads());
    BAND_POSITIONS.div_ceil(width.max(1)).min(fair_len).max(1)
}

impl Part<'_> {
    /// Computes the rows band by band, on the threads at hand.
    pub(super) fn run<E: Epilogue>(&self, epilogue: E, order: Order, out: &mut [E::Out]) -> Result<(), OutOfMemory> {
        let Self { layer, view, inputs, at, ref rows } = *self;
        let width = at.width(inputs.first().map_or(0, |m| m.width));
        let rows_len = band_rows(rows.len(), width);
        let len = (rows_len * width * layer.outputs).max(1);
        out.par_chunks_mut(len).enumerate().try_for_each_init(
            Default::default,
            |(scratch, plain): &mut (Scratch, Vec<E::Out>), (i, out)| {
                let first = rows.start + i * rows_len;
                scratch.reserve(layer, rows_len, inputs.first().map_or(0, |m| m.width))?;
                let band = |scratch, out| Band {
                    layer,
                    view,
                    inputs,
                    at,
                    rows: first..(first + rows_len).min(rows.end),
                    epilogue,
                    scratch,
                    out,
                };
                match order {
                    Order::Plain => run(layer.isa, band(scratch, out)),
                    Order::Shuffled => {
                        reserve_all(plain, out.len())?;
                        plain.resize(out.len(), E::Out::default());
                        run(layer.isa, band(scratch, plain));
                        shuffle(plain, out, width, layer.outputs);
                    }
                }
                Ok(())
            },
        )
    }
}

/// Two rows for each row: positions of `outputs` values in the order row offset, column offset, channel.
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

/// [`crate::reference::layer`] at the wanted positions, for activations. `view` is of the layer that was packed.
///
/// # Errors
/// [`OutOfMemory`].
pub fn layer(
    layer: &Layer,
    view: &LayerView<'_>,
    tables: &Tables,
    inputs: &[&Map<i16>],
    at: Positions,
) -> Result<Map<i16>, OutOfMemory> {
    if view.spec.epilogue == Kind::Gelu {
        let output = Requantizer::new(view.level.output, view.max);
        return map_outputs(layer, view, inputs, at, Gelu { tables, output });
    }
    map_outputs(layer, view, inputs, at, Linear { max: view.max })
}

/// [`crate::reference::latent_layer`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn latent_layer(layer: &Layer, view: &LayerView<'_>, inputs: &[&Map<i16>]) -> Result<Map<i32>, OutOfMemory> {
    map_outputs(layer, view, inputs, Positions::All, Latent)
}

/// [`crate::reference::residual_layer`] at the wanted positions.
///
/// # Errors
/// [`OutOfMemory`].
pub fn residual_layer(
    layer: &Layer,
    view: &LayerView<'_>,
    tables: &Tables,
    inputs: &[&Map<i16>],
    at: Positions,
) -> Result<Map<i32>, OutOfMemory> {
    map_outputs(layer, view, inputs, at, HalfTanh { tables })
}
