//! The functions of [`crate::function`] for all lanes of a vector at once, with tables in the form that vectors read.

use mlic_core::fixed::half_of;
use mlic_model::parameters::Functions;

use super::constants::Rounding;
use super::epilogue::clamp;
use crate::arch::Simd;
use crate::function::{EXP_END, TABLE_END};

/// Intervals in the tables of GELU and half tanh: of 1/64 each, up to 8.
const INTERVALS: usize = 512;

/// The tables of a package.
#[derive(Debug, Clone)]
pub struct Tables {
    gelu: Box<[i32; INTERVALS]>,
    half_tanh: Box<[i32; INTERVALS]>,
    half_tanh_end: i32,
    exp_coarse: [i32; 256],
    exp_fine: [i32; 64],
}

/// Both ends of each interval of a table, the lower end in the low half.
fn intervals(table: &[i16]) -> Box<[i32; INTERVALS]> {
    let at = |i: usize| table.get(i).copied().unwrap_or(0);
    Box::new(std::array::from_fn(|i| i32::from(at(i) as u16) | i32::from(at(i + 1)) << 16))
}

fn widened<const N: usize>(table: &[u16]) -> [i32; N] {
    std::array::from_fn(|i| table.get(i).copied().unwrap_or(0).into())
}

impl Tables {
    /// The tables of these functions.
    #[must_use]
    pub fn new(functions: &Functions) -> Self {
        Self {
            gelu: intervals(&functions.gelu),
            half_tanh: intervals(&functions.half_tanh),
            half_tanh_end: functions.half_tanh.last().copied().unwrap_or(0).into(),
            exp_coarse: widened(&functions.exp_coarse),
            exp_fine: widened(&functions.exp_fine),
        }
    }

    /// [`crate::function::gelu`].
    #[inline(always)]
    pub(super) fn gelu<S: Simd>(&self, s: S, x: S::I32) -> S::I32 {
        let magnitude = s.max(x, s.sub(s.splat(0), x));
        let bump = interpolate(s, &self.gelu, magnitude);
        let bump = s.and(bump, s.less(magnitude, s.splat(TABLE_END)));
        s.sub(s.max(x, s.splat(0)), bump)
    }

    /// [`crate::function::half_tanh`].
    #[inline(always)]
    pub(super) fn half_tanh<S: Simd>(&self, s: S, x: S::I32) -> S::I32 {
        let negative = s.less(x, s.splat(0));
        let magnitude = s.max(x, s.sub(s.splat(0), x));
        let inside = s.less(magnitude, s.splat(TABLE_END));
        let value = s.and(s.sub(interpolate(s, &self.half_tanh, magnitude), s.splat(self.half_tanh_end)), inside);
        let value = s.add(value, s.splat(self.half_tanh_end));
        s.sub(value, s.and(s.add(value, value), negative))
    }

    /// [`crate::function::exp_neg`], for arguments that are not negative.
    #[inline(always)]
    pub(super) fn exp_neg<S: Simd>(&self, s: S, d: S::I32) -> S::I32 {
        let coarse = s.gather(&self.exp_coarse, s.shift_right::<6>(d));
        let fine = s.gather(&self.exp_fine, d);
        let product = s.add(s.mul(coarse, fine), s.splat(1 << 14));
        s.and(s.shift_right::<15>(product), s.less(d, s.splat(EXP_END)))
    }
}

/// `low + round_shift((high - low) * fraction, 8)` as `(low * (256 - fraction) + high * fraction + 128) >> 8`, the same number.
#[inline(always)]
fn interpolate<S: Simd>(s: S, table: &[i32; INTERVALS], magnitude: S::I32) -> S::I32 {
    let ends = s.gather(table, s.shift_right::<8>(magnitude));
    let fraction = s.and(magnitude, s.splat(255));
    let weights = s.or(s.sub(s.splat(256), fraction), s.shift_left::<16>(fraction));
    s.shift_right::<8>(s.dot_pairs(s.splat(128), ends, weights))
}

/// [`mlic_model::parameters::Requant`] for all lanes, limited to ±max.
#[derive(Clone, Copy)]
pub(super) struct Requantizer {
    multiplier: i32,
    half: i64,
    rounding: Rounding,
    max: i32,
}

impl Requantizer {
    pub(super) const fn new(requant: mlic_model::parameters::Requant, max: i32) -> Self {
        let (half, rounding) = (half_of(requant.shift), Rounding::of_shift(requant.shift));
        Self { multiplier: requant.multiplier, half, rounding, max }
    }

    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        clamp(s, self.unlimited(s, v), self.max)
    }

    /// [`Self::apply`] without the limit.
    #[inline(always)]
    pub(super) fn unlimited<S: Simd>(&self, s: S, v: S::I32) -> S::I32 {
        self.rounding.apply(s, self.scale(s, s.even(v)), self.scale(s, s.odd(v)))
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, s: S, v: S::I64) -> S::I64 {
        // The compiler must see that the multiplier has 32 bits: products of 64 bits take three times as long.
        s.add_wide(s.mul_wide(v, s.even(s.splat(self.multiplier))), s.splat_wide(self.half))
    }
}
