//! Epilogues: the rounding of a layer's sums and what follows it, for one vector of outputs (SPEC 4.2).

use bytemuck::Pod;
use mlic_core::fixed::{LATENT_MAX, PREACT_MAX};
use mlic_model::parameters::Requant;

use super::constants::{Rounding, Total};
use super::gdn::SquareSums;
use super::root::isqrt;
use super::square::{Sums, Terms};
use super::tables::{Requantizer, Tables};
use crate::arch::{MAX_LANES, Simd};

/// The steps from the sums of a layer to elements of its output.
pub(super) trait Epilogue: Copy + Send + Sync {
    /// The type of an element of the output.
    type Out: Pod + Default + Send;

    /// Returns the rounded sums of a vector of outputs. `constants` are those of the vector, `at` is its number.
    #[inline(always)]
    fn round<S: Simd, T: Terms>(&self, s: S, rounding: Rounding, constants: &[i64], _at: usize, sums: Sums<'_, T>) -> S::I32 {
        let mut total = Total::<S>::new(s, constants);
        for term in 0..sums.terms.count() {
            total.add(s, sums.of(s, term), &constants[(1 + term) * S::LANES..]);
        }
        rounding.apply(s, total.even, total.odd)
    }

    /// The epilogue for a layer whose rounded sums have magnitudes of at most `largest`.
    #[must_use]
    fn for_sums_up_to(self, _largest: i64) -> Self {
        self
    }

    /// Maps rounded sums to results, before the limits of the output.
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32;

    /// Stores a vector of results within the limits of the output.
    fn store<S: Simd>(&self, s: S, v: S::I32, to: &mut [Self::Out]);

    /// [`Self::store`] for two vectors, one after the other.
    #[inline(always)]
    fn store_two<S: Simd>(&self, s: S, [a, b]: [S::I32; 2], to: &mut [Self::Out]) {
        self.store(s, a, to);
        self.store(s, b, &mut to[S::LANES..]);
    }
}

/// Limits each lane to ±max.
#[inline(always)]
pub(super) fn clamp<S: Simd>(s: S, v: S::I32, max: i32) -> S::I32 {
    s.max(s.min(v, s.splat(max)), s.splat(-max))
}

/// Stores a vector in `out` from element `first` on, as far as there is room.
#[inline(always)]
pub(super) fn put<S: Simd, E: Epilogue>(s: S, epilogue: &E, v: S::I32, out: &mut [E::Out], first: usize) {
    let Some(out) = out.get_mut(first..) else { return };
    if out.len() >= S::LANES {
        epilogue.store(s, v, out);
    } else {
        let mut whole = [E::Out::default(); MAX_LANES];
        epilogue.store(s, v, &mut whole);
        out.copy_from_slice(&whole[..out.len()]);
    }
}

/// Activations within the lower and the upper limit of a layer's outputs.
#[derive(Clone, Copy)]
pub(super) struct Linear([i16; 2]);

impl Linear {
    /// Limits of `-max..=max`.
    pub(super) fn around_zero(max: i32) -> Self {
        let max = i16::try_from(max).unwrap_or(i16::MAX);
        Self([-max, max])
    }

    /// Limits of `0..=max`, for samples.
    pub(super) fn from_zero(max: i32) -> Self {
        let Self([_, max]) = Self::around_zero(max);
        Self([0, max])
    }
}

impl Epilogue for Linear {
    type Out = i16;

    #[inline(always)]
    fn apply<S: Simd>(&self, _: S, v: S::I32) -> S::I32 {
        v
    }

    #[inline(always)]
    fn store<S: Simd>(&self, s: S, v: S::I32, to: &mut [i16]) {
        let [low, high] = self.0.map(i32::from);
        s.store_i16(s.max(s.min(v, s.splat(high)), s.splat(low)), to);
    }

    #[inline(always)]
    fn store_two<S: Simd>(&self, s: S, vectors: [S::I32; 2], to: &mut [i16]) {
        s.store_limited(vectors, self.0, to);
    }
}

/// Activations after GELU.
#[derive(Clone, Copy)]
pub(super) struct Gelu<'a> {
    tables: &'a Tables,
    output: Requantizer,
    limits: Linear,
    /// Whether rounded sums may exceed the range of arguments.
    is_beyond: bool,
}

impl<'a> Gelu<'a> {
    /// GELU by these tables, then the change of scale `output` and limits of ±max.
    pub(super) fn new(tables: &'a Tables, output: Requant, max: i32) -> Self {
        Self { tables, output: Requantizer::new(output, max), limits: Linear::around_zero(max), is_beyond: true }
    }
}

impl Epilogue for Gelu<'_> {
    type Out = i16;

    fn for_sums_up_to(self, largest: i64) -> Self {
        Self { is_beyond: largest > PREACT_MAX.into(), ..self }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        let x = if self.is_beyond { clamp(s, v, PREACT_MAX) } else { v };
        self.output.unlimited(s, self.tables.gelu(s, x))
    }

    #[inline(always)]
    fn store<S: Simd>(&self, s: S, v: S::I32, to: &mut [i16]) {
        self.limits.store(s, v, to);
    }

    #[inline(always)]
    fn store_two<S: Simd>(&self, s: S, vectors: [S::I32; 2], to: &mut [i16]) {
        self.limits.store_two(s, vectors, to);
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
    fn store<S: Simd>(&self, s: S, v: S::I32, to: &mut [i32]) {
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
    fn store<S: Simd>(&self, s: S, v: S::I32, to: &mut [i32]) {
        s.store(v, to);
    }
}

/// The integer square root of sums of squares.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    /// How to round the sums of squares in 32 bits, where that is possible.
    pub(super) sums: Option<&'a SquareSums>,
}

impl Epilogue for Root<'_> {
    type Out = i32;

    #[inline(always)]
    fn round<S: Simd, T: Terms>(&self, s: S, rounding: Rounding, constants: &[i64], at: usize, sums: Sums<'_, T>) -> S::I32 {
        match self.sums {
            Some(own) => own.of_terms(s, at, sums),
            None => Latent.round(s, rounding, constants, at, sums),
        }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        isqrt(s, v)
    }

    #[inline(always)]
    fn store<S: Simd>(&self, s: S, v: S::I32, to: &mut [i32]) {
        s.store(v, to);
    }
}
