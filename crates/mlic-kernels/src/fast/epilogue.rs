//! What follows the sums of a layer, for one vector of outputs (SPEC 4.2).

use bytemuck::Zeroable;
use mlic_core::fixed::{LATENT_MAX, PREACT_MAX};

use super::tables::{Requantizer, Tables};
use crate::arch::{MAX_LANES, Simd};

/// From rounded sums to elements of the output.
pub(super) trait Epilogue: Copy + Send + Sync {
    /// Elements of the output.
    type Out: Copy + Default + Zeroable + Send;

    /// `even` and `odd` are the lanes of one vector of sums.
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32;

    /// Stores a vector of results.
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [Self::Out]);
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
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        s.saturate(even, odd, self.max)
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
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        let x = s.saturate(even, odd, PREACT_MAX);
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
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        s.saturate(even, odd, LATENT_MAX)
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
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        self.tables.half_tanh(s, s.saturate(even, odd, PREACT_MAX))
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
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        s.max(s.saturate(even, odd, self.max), s.splat(0))
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i16]) {
        s.store_i16(v, to);
    }
}

/// The integer square root of sums that are not negative, limited to 2^31 - 1.
#[derive(Clone, Copy)]
pub(super) struct Root;

impl Epilogue for Root {
    type Out = i32;

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        s.root(s.saturate(even, odd, i32::MAX))
    }

    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::I32, to: &mut [i32]) {
        s.store(v, to);
    }
}
