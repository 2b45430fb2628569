//! Finishing the sums of a band: multipliers, bias, rounding and epilogue, position by position, all at once or in steps beside a matrix unit.

use std::iter::Zip;
use std::slice::{ChunksMut, Iter};

use super::band::Stages;
use super::constants::Rounding;
use super::epilogue::{Epilogue, put};
use super::square::{Square, Sums, Terms};
use crate::arch::{Beside, Job, Simd};

impl<E: Epilogue> Stages<'_, E> {
    /// [`Finish`], to be done in steps.
    #[inline(always)]
    pub(super) fn unfinished<'s, S: Simd, T: Terms, const V: usize>(
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

/// Finishes the sums at positions `slots` of these squares, for one block of the outputs; `out` is `[slot][output]`.
pub(super) struct Finish<'a, E: Epilogue, T: Terms> {
    pub(super) band: &'a Stages<'a, E>,
    pub(super) terms: T,
    pub(super) squares: &'a [Square],
    pub(super) slots: &'a [usize],
    pub(super) out: &'a mut [E::Out],
    pub(super) block: usize,
}

impl<E: Epilogue, T: Terms> Job for Finish<'_, E, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { band, terms, squares, slots, out, block } = self;
        band.unfinished::<S, T, V>(s, terms, squares, slots, out, block).finish(usize::MAX);
    }
}

/// The finishing of some positions for a block of outputs, to be done in steps.
pub(super) struct Unfinished<'a, S: Simd, E: Epilogue, T: Terms, const V: usize> {
    s: S,
    epilogue: E,
    rounding: Rounding,
    /// Constants of the block.
    constants: &'a [i64],
    /// Number of the first vector of the block.
    first_vector: usize,
    terms: T,
    squares: &'a [Square],
    /// The slots that are left, each with the outputs of its position from the first one of the block on.
    rest: Zip<Iter<'a, usize>, ChunksMut<'a, E::Out>>,
    /// Outputs of the block.
    width: usize,
    /// Slots that a step finishes.
    per_step: usize,
}

impl<S: Simd, E: Epilogue, T: Terms, const V: usize> Unfinished<'_, S, E, T, V> {
    /// Spreads the work over at most `steps` steps.
    #[inline(always)]
    pub(super) fn in_steps(self, steps: usize) -> Self {
        Self { per_step: self.rest.len().div_ceil(steps.max(1)), ..self }
    }

    /// Whether no slots are left.
    #[inline(always)]
    pub(super) fn is_done(&self) -> bool {
        self.rest.len() == 0
    }

    /// Finishes the next `count` slots, or as many as are left.
    #[inline(always)]
    pub(super) fn finish(&mut self, count: usize) {
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

    /// The results of one slot for vector number `v` of the block.
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
