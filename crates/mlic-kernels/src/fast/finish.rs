//! What follows the sums of a band: multipliers, bias, rounding and epilogue, position by position, all at once or in steps beside a matrix unit.

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

/// What follows the sums of the positions `slots` of these squares for a block of `out`, which is `[slot][output]`.
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

/// What follows the sums of some places for a block of outputs, to be done in steps.
pub(super) struct Unfinished<'a, S: Simd, E: Epilogue, T: Terms, const V: usize> {
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
    pub(super) fn in_steps(self, steps: usize) -> Self {
        Self { per_step: self.rest.len().div_ceil(steps.max(1)), ..self }
    }

    /// Whether no slots are left.
    #[inline(always)]
    pub(super) fn is_done(&self) -> bool {
        self.rest.len() == 0
    }

    /// So many of the slots that are left.
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
