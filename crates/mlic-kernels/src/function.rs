//! The functions of one number that the operators share: GELU, half tanh, exponential, scale index (SPEC 4.3 to 4.5, 4.10).
//!
//! All are defined by tables of the package with linear interpolation or one product; nothing here depends on a maths
//! library.

use mlic_core::fixed::{PREACT_FRAC_BITS, PREACT_MAX, round_shift, saturate};
use mlic_model::parameters::Functions;

/// Magnitude at which the tables of GELU and half tanh end: 8 in pre-activation fixed point. From there on, both functions are at their limits.
pub(crate) const TABLE_END: i32 = 8 << PREACT_FRAC_BITS;
/// Fraction bits of an argument of the exponential.
pub const EXP_FRAC_BITS: u32 = 10;
/// [`exp_neg`] is zero from this argument on: 16 in Q10.
pub(crate) const EXP_END: i32 = 16 << EXP_FRAC_BITS;

/// Saturates a requantized sum to the range of pre-activation fixed point.
#[must_use]
#[inline]
pub const fn preactivation(v: i64) -> i32 {
    saturate(v, PREACT_MAX)
}

/// Interpolates a table linearly at `|x|` (Q14); its entries are 1/64 apart.
#[inline]
fn interpolate(table: &[i16], magnitude: u32) -> i32 {
    let (i, fraction) = ((magnitude >> 8) as usize, i64::from(magnitude & 0xff));
    let (low, high) = (i64::from(table[i]), i64::from(table[i + 1]));
    (low + round_shift((high - low) * fraction, 8)) as i32
}

/// GELU: `max(x, 0) - |x| Phi(-|x|)`, argument and result Q14.
#[must_use]
#[inline]
pub fn gelu(functions: &Functions, x: i32) -> i32 {
    let magnitude = x.unsigned_abs();
    let bump = if magnitude < TABLE_END as u32 { interpolate(&functions.gelu, magnitude) } else { 0 };
    x.max(0) - bump
}

/// `0.5 tanh(x)`, argument Q14, result Q12.
#[must_use]
#[inline]
pub fn half_tanh(functions: &Functions, x: i32) -> i32 {
    let magnitude = x.unsigned_abs();
    let value = if magnitude < TABLE_END as u32 {
        interpolate(&functions.half_tanh, magnitude)
    } else {
        i32::from(functions.half_tanh[512])
    };
    if x < 0 { -value } else { value }
}

/// `exp(-d)`, argument Q10 and not negative, result Q15 (at most 32767).
#[must_use]
#[inline]
pub fn exp_neg(functions: &Functions, d: i64) -> i64 {
    if d >= EXP_END.into() {
        return 0;
    }
    let (coarse, fine) = (functions.exp_coarse[(d >> 6) as usize], functions.exp_fine[(d & 63) as usize]);
    round_shift(i64::from(coarse) * i64::from(fine), 15)
}

/// Replaces exponentials with softmax weights in Q15: `e * floor(2^40 / sum)`, rounded. The sum is at least 32767, because
/// the largest element contributes that (SPEC 4.5).
#[inline]
pub fn normalize(exponentials: &mut [i64]) {
    let sum: i64 = exponentials.iter().sum();
    let reciprocal = (1_i64 << 40) / sum.max(1);
    exponentials.iter_mut().for_each(|e| *e = round_shift(*e * reciprocal, 25));
}

/// The scale index: the number of thresholds that are less than the scale (SPEC 4.10).
#[must_use]
#[inline]
pub fn scale_index(thresholds: &[i32], scale: i32) -> u8 {
    thresholds.partition_point(|t| *t < scale) as u8
}
