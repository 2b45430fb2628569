//! A band of rows of a layer: tiles of positions and outputs that stay in registers from the first product to the last, or squares of a matrix unit.

use std::cell::Cell;
use std::ops::Range;

use mlic_core::memory::{self, OutOfMemory};

use super::aligned::Aligned;
use super::constants::Constants;
use super::epilogue::Epilogue;
use super::finish::Finish;
use super::layer::Positions;
use super::pack::{Layer, Split, Term, Weights};
use super::square::{Chunks, OneOfBytes, OneOfLimbs, OneOfSums, Operands, Place, Several, Square, Terms};
use super::stage::{Buffer, Data, Stage, Staged};
use super::tile::{PositionSums, TileSums};
use super::winograd::{self, Patches, Strip, StripSums};
use crate::arch::{Job, SIDE, Simd, Tiles};
use crate::map::Rows;

thread_local! {
    /// The working memory of this thread, kept from layer to layer: freeing and allocating it again costs as much as some layers.
    pub(super) static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Working memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    inputs: Vec<Buffer>,
    places: Vec<[usize; 2]>,
    chunks: Chunks,
    /// Whole [`Square`]s.
    squares: Aligned<i32>,
    sums: Vec<Place>,
    winograd: winograd::Scratch,
    /// Outputs of a band before the pixel shuffle.
    pub(super) plain: Aligned<i32>,
}

/// A band of rows of a layer.
pub(super) struct Band<'a, E: Epilogue> {
    pub(super) layer: &'a Layer,
    pub(super) constants: &'a Constants,
    pub(super) inputs: &'a [Rows<'a>],
    pub(super) rows: Range<usize>,
    pub(super) epilogue: E,
    pub(super) scratch: &'a mut Scratch,
    /// `[position][output]`.
    pub(super) out: &'a mut [E::Out],
}

impl Scratch {
    /// Makes room for bands of `rows` rows of a layer, so that computing a band allocates nothing but the list of its inputs.
    pub(super) fn reserve(&mut self, layer: &Layer, at: Positions, rows: usize, width: usize) -> Result<(), OutOfMemory> {
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
pub(super) struct Stages<'a, E: Epilogue> {
    pub(super) layer: &'a Layer,
    pub(super) constants: &'a Constants,
    staged: &'a [Staged<'a>],
    pub(super) epilogue: E,
    rows: Range<usize>,
    /// Columns of the inputs.
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

    /// Computes the outputs block by block, and each block tile by tile, with accumulators in registers.
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

    /// Computes the outputs in tiles of 2x2 positions, several neighbouring tiles at once.
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

    /// Computes the outputs chunk by chunk, with the accumulators of a matrix unit. While the unit multiplies one chunk, vectors finish the one before.
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
            assert!(unfinished.is_done(), "products in fewer pieces than were counted");
            std::mem::swap(&mut now, &mut before);
            (slots_before, places_before, block_before) = (slots, chunk.places.clone(), block);
        }
        let out = &mut out[places_before.start * layer.outputs..places_before.end * layer.outputs];
        s.run(Finish { band: self, terms, squares: before, slots: slots_before, out, block: block_before });
    }
}
