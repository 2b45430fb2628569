//! Linear layers: bands of rows in parallel; in a band, tiles of positions and outputs that stay in registers from the first product to
//! the stored result.

use std::cell::Cell;
use std::iter::Zip;
use std::ops::Range;
use std::slice::{ChunksMut, Iter};

use mlic_core::checkerboard::Parity;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::layout::Epilogue as Kind;
use mlic_model::model::LayerView;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::constants::{Constants, Rounding};
use super::epilogue::{Epilogue, Gelu, HalfTanh, Latent, Linear, put};
use super::pack::{Layer, Split, Term, Weights};
use super::square::{Chunks, OneOfBytes, OneOfLimbs, OneOfSums, Operands, Place, Several, Square, Sums, Terms};
use super::stage::{Buffer, Data, Stage, Staged};
use super::tables::Tables;
use super::tile::{PositionSums, TileSums};
use super::winograd::{self, Patches, Strip, StripSums};
use crate::arch::{Beside, Job, SIDE, Simd, Tiles, run};
use crate::map::{Map, Rows};

/// Positions of a band, at most about: what is staged and summed stays in the nearer caches.
const BAND_POSITIONS: usize = 192;
/// Bytes of the inputs of a band, at most about, where that makes more positions: a band stages the rows around it too.
const BAND_LEN: usize = 256 << 10;
/// Bands of each thread, at least, where there are enough rows and more than one thread.
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

thread_local! {
    /// Of this thread, kept from layer to layer: memory that is given back and taken again costs as much as some layers.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Working memory of one thread.
#[derive(Default)]
struct Scratch {
    inputs: Vec<Buffer>,
    places: Vec<[usize; 2]>,
    chunks: Chunks,
    /// Of whole squares.
    squares: Aligned<i32>,
    sums: Vec<Place>,
    winograd: winograd::Scratch,
    /// A band before its pixel shuffle.
    plain: Aligned<i32>,
}

/// A band of rows of a layer.
struct Band<'a, E: Epilogue> {
    layer: &'a Layer,
    constants: &'a Constants,
    inputs: &'a [Rows<'a>],
    rows: Range<usize>,
    epilogue: E,
    scratch: &'a mut Scratch,
    /// `[position][output]`.
    out: &'a mut [E::Out],
}

impl Scratch {
    /// Makes itself ready for bands of so many rows of a layer, so that nothing is allocated within one.
    fn reserve(&mut self, layer: &Layer, at: Positions, rows: usize, width: usize) -> Result<(), OutOfMemory> {
        if layer.only_adds(at) {
            return Ok(());
        }
        let rows = at.row_step() * rows;
        self.inputs.resize_with(self.inputs.len().max(layer.terms.len()), Buffer::default);
        let mut buffers = self.inputs.iter_mut().zip(&layer.terms).filter(|(_, term)| !term.is_repeated);
        buffers.try_for_each(|(buffer, term)| buffer.reserve(term, layer.size, rows, width))?;
        let is_matrix = layer.matrix().is_some();
        // While a matrix unit fills half of the squares, vectors read the others.
        let squares_len = Place::of_terms(&layer.terms, &mut self.sums) * if is_matrix { 2 } else { 1 };
        self.squares.at_least(squares_len * SIDE * SIDE)?;
        if is_matrix {
            self.chunks.reserve(rows, width, layer.size)
        } else if layer.is_winograd() {
            self.winograd.reserve(&layer.terms, layer.positions, layer.block)
        } else {
            memory::reserve_all(&mut self.places, rows * width)
        }
    }
}

impl<'a, E: Epilogue> Job for Band<'a, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { layer, constants, inputs, rows, epilogue, scratch, out } = self;
        if layer.only_adds(constants.at) {
            if let [a, b] = inputs {
                debug_assert!(inputs.iter().all(|input| input.channels == layer.outputs), "whole inputs");
                let part = |input: &Rows<'a>| &input.data[(rows.start - input.first) * input.width * layer.outputs..];
                constants.sums(s, epilogue, [part(a), part(b)], layer.outputs, out);
            }
            return;
        }
        let mut buffers = std::mem::take(&mut scratch.inputs);
        let mut staged: Vec<Staged<'_>> = Vec::with_capacity(inputs.len());
        for ((input, term), buffer) in inputs.iter().zip(&layer.terms).zip(&mut buffers) {
            staged.push(match staged.last() {
                Some(before) if term.is_repeated => *before,
                _ => s.run(Stage { buffer, input: *input, term, size: layer.size, rows: constants.at.middles(&rows) }),
            });
        }
        let width = inputs.first().map_or(0, |m| m.width);
        let band = Stages { layer, constants, staged: &staged, epilogue, rows, width };
        let sums = std::mem::take(&mut scratch.sums);
        match &layer.terms[..] {
            [Term { weights: Weights::Matrix(packed), .. }] if S::HAS_MATRIX => match packed.split {
                Split::Sums => band.run::<S, P, V, _>(s, OneOfSums, scratch, out),
                Split::Bytes => band.run::<S, P, V, _>(s, OneOfBytes, scratch, out),
                Split::Limbs => band.run::<S, P, V, _>(s, OneOfLimbs, scratch, out),
            },
            [_] => band.run::<S, P, V, _>(s, OneOfSums, scratch, out),
            _ => band.run::<S, P, V, _>(s, Several(&sums), scratch, out),
        }
        (scratch.inputs, scratch.sums) = (buffers, sums);
    }
}

/// A band with its inputs staged.
struct Stages<'a, E: Epilogue> {
    layer: &'a Layer,
    constants: &'a Constants,
    staged: &'a [Staged<'a>],
    epilogue: E,
    rows: Range<usize>,
    /// Of the inputs.
    width: usize,
}

impl<E: Epilogue> Stages<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize, T: Terms>(&self, s: S, terms: T, scratch: &mut Scratch, out: &mut [E::Out]) {
        let Self { layer, constants: &Constants { at, .. }, width, .. } = *self;
        let mut own = std::mem::take(&mut scratch.squares);
        let squares = own.as_chunks_mut().0;
        match layer.matrix().filter(|_| S::HAS_MATRIX) {
            Some(matrix) => {
                scratch.chunks.cut(at, self.rows.clone(), width, layer.size);
                self.squares::<S, V, T>(s, terms, scratch, squares, &matrix.tiles(), out);
            }
            None if layer.is_winograd() => self.winograd::<S, P, V, T>(s, terms, scratch, squares, out),
            None => {
                scratch.places.clear();
                let of_row = |(i, row)| at.columns(row, width).map(move |col| [at.row_step() * i, col]);
                scratch.places.extend(self.rows.clone().enumerate().flat_map(of_row));
                self.tiles::<S, P, V, T>(s, terms, scratch, squares, out);
            }
        }
        scratch.squares = own;
    }

    /// Block after block of the outputs, with accumulators in registers.
    #[inline(always)]
    fn tiles<S: Simd, const P: usize, const V: usize, T: Terms>(
        &self,
        s: S,
        terms: T,
        scratch: &mut Scratch,
        squares: &mut [Square],
        out: &mut [E::Out],
    ) {
        let Self { layer, staged, .. } = *self;
        let slots: [usize; P] = std::array::from_fn(|p| p);
        for block in 0..layer.outputs.div_ceil(layer.block) {
            for (places, out) in scratch.places.chunks(P).zip(out.chunks_mut(P * layer.outputs)) {
                s.run(TileSums { terms: &layer.terms, staged, size: layer.size, places, block, to: squares });
                s.run(Finish { band: self, terms, squares, slots: &slots[..places.len()], out, block });
            }
        }
    }

    /// Tiles of 2x2 positions, some beside each other at once.
    #[inline(always)]
    fn winograd<S: Simd, const P: usize, const V: usize, T: Terms>(
        &self,
        s: S,
        terms: T,
        scratch: &mut Scratch,
        squares: &mut [Square],
        out: &mut [E::Out],
    ) {
        let Self { layer, staged, width, .. } = *self;
        let rows = self.rows.len();
        let slots: [usize; SIDE] = std::array::from_fn(|slot| slot);
        for strip in Strip::all(rows, width, P) {
            s.run(Patches { strip, scratch: &mut scratch.winograd, terms: &layer.terms, staged });
            let [first_row, column] = strip.at;
            let slots = &slots[..(2 * strip.count).min(width - column)];
            for block in 0..layer.outputs.div_ceil(layer.block) {
                s.run(StripSums { strip, scratch: &mut scratch.winograd, terms: &layer.terms, block, squares });
                for row in first_row..rows.min(first_row + 2) {
                    let out = &mut out[(row * width + column) * layer.outputs..][..slots.len() * layer.outputs];
                    s.run(Finish { band: self, terms, squares: &squares[row - first_row..], slots, out, block });
                }
            }
        }
    }

    /// Chunk after chunk of the positions, with the accumulators of a matrix unit. While it multiplies, vectors finish what it multiplied before.
    #[inline(always)]
    fn squares<S: Simd, const V: usize, T: Terms>(
        &self,
        s: S,
        terms: T,
        scratch: &mut Scratch,
        squares: &mut [Square],
        unit: &Tiles,
        out: &mut [E::Out],
    ) {
        let Self { layer, staged, .. } = *self;
        let step = self.constants.at.step();
        let half = squares.len() / 2;
        let (mut now, mut before) = squares.split_at_mut(half);
        let steps_of = |term: &Term| match &term.weights {
            Weights::Matrix(packed) => Operands::steps(packed, layer.size),
            _ => 0,
        };
        let steps: usize = layer.terms.iter().map(steps_of).sum();
        let blocks = layer.outputs.div_ceil(layer.block);
        let (mut slots_before, mut places_before, mut block_before): (&[usize], _, _) = (&[], 0..0, 0);
        for (chunk, block) in (0..blocks).flat_map(|block| scratch.chunks.chunks.iter().map(move |chunk| (chunk, block))) {
            let slots = &scratch.chunks.slots[chunk.places.clone()];
            let out_before = &mut out[places_before.start * layer.outputs..places_before.end * layer.outputs];
            let mut unfinished =
                self.unfinished::<S, T, V>(s, terms, before, slots_before, out_before, block_before).in_steps(steps);
            for (i, (term, staged)) in layer.terms.iter().zip(staged).enumerate() {
                let squares = &mut now[terms.first_square(i)..];
                if let (Weights::Matrix(packed), Data::Planes(planes)) = (&term.weights, staged.data) {
                    let Staged { position_len, row_len, .. } = *staged;
                    let operands = Operands { packed, planes, position_len, row_len, size: layer.size };
                    operands.multiply::<T>(unit, chunk, step, block, squares, &mut unfinished);
                    continue;
                }
                let (first, to) = (chunk.first, &mut squares[0]);
                s.run(PositionSums { term, staged: *staged, size: layer.size, first, step, slots, block, to });
            }
            // Nothing is left where each step of the products has had its share.
            unfinished.finish(usize::MAX);
            std::mem::swap(&mut now, &mut before);
            (slots_before, places_before, block_before) = (slots, chunk.places.clone(), block);
        }
        let out = &mut out[places_before.start * layer.outputs..places_before.end * layer.outputs];
        s.run(Finish { band: self, terms, squares: before, slots: slots_before, out, block: block_before });
    }

    /// [`Finish`], to be done in steps.
    #[inline(always)]
    fn unfinished<'s, S: Simd, T: Terms, const V: usize>(
        &'s self,
        s: S,
        terms: T,
        squares: &'s [Square],
        slots: &'s [usize],
        out: &'s mut [E::Out],
        block: usize,
    ) -> Unfinished<'s, S, E, T, V> {
        let first = block * self.layer.block;
        let positions = out.get_mut(first..).unwrap_or_default().chunks_mut(self.layer.outputs);
        Unfinished {
            s,
            epilogue: self.epilogue,
            rounding: self.constants.rounding,
            constants: self.constants.block(block, S::LANES, V),
            first_vector: block * V,
            terms,
            squares,
            rest: slots.iter().zip(positions),
            width: (self.layer.outputs - first).min(self.layer.block),
            per_step: 1,
        }
    }
}

/// What follows the sums of the positions `slots` of these squares for a block of `out`, which is `[slot][output]`.
struct Finish<'a, E: Epilogue, T: Terms> {
    band: &'a Stages<'a, E>,
    terms: T,
    squares: &'a [Square],
    slots: &'a [usize],
    out: &'a mut [E::Out],
    block: usize,
}

impl<E: Epilogue, T: Terms> Job for Finish<'_, E, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { band, terms, squares, slots, out, block } = self;
        band.unfinished::<S, T, V>(s, terms, squares, slots, out, block).finish(usize::MAX);
    }
}

/// What follows the sums of some places for a block of outputs, to be done in steps.
struct Unfinished<'a, S: Simd, E: Epilogue, T: Terms, const V: usize> {
    s: S,
    epilogue: E,
    rounding: Rounding,
    /// Of the block.
    constants: &'a [i64],
    /// Number of the first vector of the block.
    first_vector: usize,
    terms: T,
    squares: &'a [Square],
    /// The positions of the squares that are wanted, each with its outputs from the first one of the block on.
    rest: Zip<Iter<'a, usize>, ChunksMut<'a, E::Out>>,
    /// Outputs of the block.
    width: usize,
    /// Slots of a step.
    per_step: usize,
}

impl<S: Simd, E: Epilogue, T: Terms, const V: usize> Unfinished<'_, S, E, T, V> {
    /// The same, to be finished in so many steps at most.
    #[inline(always)]
    fn in_steps(self, steps: usize) -> Self {
        Self { per_step: self.rest.len().div_ceil(steps.max(1)), ..self }
    }

    /// So many of the slots that are left.
    #[inline(always)]
    fn finish(&mut self, count: usize) {
        const { assert!(V.is_multiple_of(2)) };
        let (s, width) = (self.s, self.width);
        if width == V * S::LANES {
            for _ in 0..count {
                let Some((slot, out)) = self.rest.next() else { break };
                let out = &mut out[..V * S::LANES];
                for v in (0..V).step_by(2) {
                    let two = [self.vector(*slot, v), self.vector(*slot, v + 1)];
                    self.epilogue.store_two(s, two, &mut out[v * S::LANES..]);
                }
            }
        } else {
            for _ in 0..count {
                let Some((slot, out)) = self.rest.next() else { break };
                for v in 0..width.div_ceil(S::LANES) {
                    put(s, &self.epilogue, self.vector(*slot, v), &mut out[..width], v * S::LANES);
                }
            }
        }
    }

    /// The outputs of a vector of the block.
    #[inline(always)]
    fn vector(&self, slot: usize, v: usize) -> S::I32 {
        let Self { s, epilogue, rounding, constants, first_vector, terms, squares, .. } = *self;
        let len = (1 + terms.count()) * S::LANES;
        let constants = &constants[v * len..][..len];
        let sums = Sums { terms, squares, slot, output: v * S::LANES };
        epilogue.apply(s, epilogue.round(s, rounding, constants, first_vector + v, sums))
    }
}

impl<S: Simd, E: Epilogue, T: Terms, const V: usize> Beside for Unfinished<'_, S, E, T, V> {
    #[inline(always)]
    fn some(&mut self) {
        self.finish(self.per_step);
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
    /// Rows of the output for one of the inputs.
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
    /// That it is computed by.
    pub(super) threads: usize,
}

/// Rows of a band, of so many rows of so many positions of so many bytes, for so many threads.
pub(super) fn band_rows(height: usize, width: usize, position_len: usize, threads: usize) -> usize {
    let fair_len = if threads == 1 { height } else { height.div_ceil(BANDS_PER_THREAD * threads) };
    let positions = (BAND_LEN / position_len.max(1)).max(BAND_POSITIONS);
    (positions / width.max(1)).min(fair_len).max(1)
}

impl Part<'_> {
    /// Computes the rows band by band, on the threads at hand.
    pub(super) fn run<E: Epilogue>(&self, epilogue: E, order: Order, out: &mut [E::Out]) -> Result<(), OutOfMemory> {
        let Self { layer, constants, inputs, ref rows, threads } = *self;
        let at = constants.at;
        let width = at.width(inputs.first().map_or(0, |m| m.width));
        let position_len: usize = inputs.iter().map(|input| 2 * input.channels).sum();
        let rows_len = band_rows(rows.len(), width, position_len, threads);
        // Tiles of two rows are whole, as far as there are rows.
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

/// [`crate::reference::layer`] for activations, at all positions or packed at one half. `view` is of the layer that was packed.
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
