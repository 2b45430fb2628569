//! What follows the sums of a layer, for one vector of outputs (SPEC 4.2).

use bytemuck::Pod;
use mlic_core::fixed::{LATENT_MAX, PREACT_MAX};

use super::constants::{Rounding, Total};
use super::gdn::SquareSums;
use super::root::isqrt;
use super::square::{Sums, Terms};
use super::tables::{Requantizer, Tables};
use crate::arch::{MAX_LANES, Simd};

/// From rounded sums to elements of the output.
pub(super) trait Epilogue: Copy + Send + Sync {
    /// Elements of the output.
    type Out: Pod + Default + Send;

    /// The rounded sums of a vector of outputs. `constants` are those of the vector, `at` is its number.
    #[inline(always)]
    fn round<S: Simd, T: Terms>(&self, s: S, rounding: Rounding, constants: &[i64], _at: usize, sums: Sums<'_, T>) -> S::I32 {
        let mut total = Total::<S>::new(s, constants);
        for term in 0..sums.terms.count() {
            total.add(s, sums.of(s, term), &constants[(1 + term) * S::LANES..]);
        }
        rounding.apply(s, total.even, total.odd)
    }

    /// What becomes of them.
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32;

    /// Stores a vector of results.
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [Self::Out]);
}

/// Each lane limited to ±max.
#[inline(always)]
pub(super) fn clamp<S: Simd>(s: S, v: S::I32, max: i32) -> S::I32 {
    s.max(s.min(v, s.splat(max)), s.splat(-max))
}

/// Stores as much of a vector, from element `first` on, as there is room for.
#[inline(always)]
pub(super) fn put<S: Simd, E: Epilogue>(s: S, v: S::I32, out: &mut [E::Out], first: usize) {
    let Some(out) = out.get_mut(first..) else { return };
    if out.len() >= S::LANES {
        E::store(s, v, out);
    } else {
        let mut whole = [E::Out::default(); MAX_LANES];
        E::store(s, v, &mut whole);
        out.copy_from_slice(&whole[..out.len()]);
    }
}

/// Activations.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    pub(super) max: i32,
}

impl Epilogue for Linear {
    type Out = i16;

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        clamp(s, v, self.max)
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i16]) {
        s.store_i16(v, to);
    }
}

/// Activations after GELU.
#[derive(Clone, Copy)]
pub(super) struct Gelu<'a> {
    pub(super) tables: &'a Tables,
    pub(super) output: Requantizer,
}

impl Epilogue for Gelu<'_> {
    type Out = i16;

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        let x = clamp(s, v, PREACT_MAX);
        self.output.apply(s, self.tables.gelu(s, x))
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i16]) {
        s.store_i16(v, to);
    }
}

/// Latent fixed point.
#[derive(Clone, Copy)]
pub(super) struct Latent;

impl Epilogue for Latent {
    type Out = i32;

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        clamp(s, v, LATENT_MAX)
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i32]) {
        s.store(v, to);
    }
}

/// Latent fixed point after half tanh.
#[derive(Clone, Copy)]
pub(super) struct HalfTanh<'a> {
    pub(super) tables: &'a Tables,
}

impl Epilogue for HalfTanh<'_> {
    type Out = i32;

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        self.tables.half_tanh(s, clamp(s, v, PREACT_MAX))
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i32]) {
        s.store(v, to);
    }
}

/// Samples: activations that are not negative.
#[derive(Clone, Copy)]
pub(super) struct Samples {
    pub(super) max: i32,
}

impl Epilogue for Samples {
    type Out = i16;

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        s.min(s.max(v, s.splat(0)), s.splat(self.max))
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i16]) {
        s.store_i16(v, to);
    }
}

/// The integer square root of sums of squares.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    /// How to make them in 32 bits, where that is possible.
    pub(super) sums: Option<&'a SquareSums>,
}

impl Epilogue for Root<'_> {
    type Out = i32;

    #[inline(always)]
    fn round<S: Simd, T: Terms>(&self, s: S, rounding: Rounding, constants: &[i64], at: usize, sums: Sums<'_, T>) -> S::I32 {
        match self.sums {
            Some(own) => own.of_terms(s, at, sums),
            None => Linear { max: i32::MAX }.round(s, rounding, constants, at, sums),
        }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        isqrt(s, v)
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i32]) {
        s.store(v, to);
    }
}
