//! Fixed-point arithmetic: one rounding rule, saturation, division, square root (SPEC 3).

/// Fraction bits of every latent quantity: y, z, mean, scale, residual and `y_hat` are `i32` in units of 2^-12.
pub const LATENT_FRAC_BITS: u32 = 12;
/// One in the latent format.
pub const LATENT_ONE: i32 = 1 << LATENT_FRAC_BITS;
/// Latent quantities saturate to ±this value (SPEC 3.2).
pub const LATENT_MAX: i32 = (1 << 27) - 1;
/// Fraction bits of a pre-activation: the argument of GELU and of tanh.
pub const PREACT_FRAC_BITS: u32 = 14;
/// Pre-activations saturate to ±this value.
pub const PREACT_MAX: i32 = (1 << 30) - 1;

/// `v / 2^shift`, rounded to nearest, ties toward plus infinity (SPEC 3.1).
///
/// This is the only rounding rule of the arithmetic. `shift` is at most 62 and `v + 2^(shift-1)` must fit an `i64`:
/// callers prove that when a package loads.
#[must_use]
pub const fn round_shift(v: i64, shift: u32) -> i64 {
    (v + half_of(shift)) >> shift
}

/// Half of `2^shift`, which rounding adds before the shift; 0 for a shift of 0.
#[must_use]
#[inline]
pub const fn half_of(shift: u32) -> i64 {
    if shift == 0 { 0 } else { 1 << (shift - 1) }
}

/// `v` limited to `-max..=max` (SPEC 3.2). `max` is not negative.
#[must_use]
pub const fn saturate(v: i64, max: i32) -> i32 {
    let max = max as i64;
    (if v > max {
        max
    } else if v < -max {
        -max
    } else {
        v
    }) as i32
}

/// `n / d` rounded to nearest: `floor((n + floor(d / 2)) / d)` with floor division (SPEC 3.3). `d` is positive.
#[must_use]
pub const fn divide(n: i64, d: i64) -> i64 {
    (n + d / 2).div_euclid(d)
}

/// `floor(sqrt(v))` (SPEC 3.4).
#[must_use]
pub const fn isqrt(v: u64) -> u64 {
    v.isqrt()
}

/// A latent quantity rounded to the nearest integer, ties toward plus infinity: the symbol of `y - mean`.
#[must_use]
pub const fn latent_to_symbol(v: i32) -> i32 {
    round_shift(v as i64, LATENT_FRAC_BITS) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up() {
        assert_eq!([-3, -2, -1, 0, 1, 2, 3].map(|v| round_shift(v, 1)), [-1, -1, 0, 0, 1, 1, 2]);
        assert_eq!([-6, -5, -2, 2, 5, 6].map(|v| round_shift(v, 2)), [-1, -1, 0, 1, 1, 2]);
        assert_eq!(round_shift(-7, 0), -7);
    }

    #[test]
    fn saturates_symmetrically() {
        assert_eq!([i64::MIN, -128, -127, 127, 128, i64::MAX].map(|v| saturate(v, 127)), [-127, -127, -127, 127, 127, 127]);
    }

    #[test]
    fn divides_to_nearest_with_floor() {
        assert_eq!([-7, -6, -5, -3, 0, 3, 5, 6, 7].map(|n| divide(n, 4)), [-2, -1, -1, -1, 0, 1, 1, 2, 2]);
        assert_eq!([-4, -2, -1, 1, 2, 4].map(|n| divide(n, 3)), [-1, -1, 0, 0, 1, 1]);
    }

    #[test]
    fn square_roots_are_floors() {
        for r in [0u64, 1, 2, 3, 1000, (1 << 31) - 1, (1 << 32) - 1] {
            assert_eq!(isqrt(r * r), r);
            assert_eq!(isqrt(r * r + 2 * r), r);
        }
        assert_eq!(isqrt(u64::MAX), (1 << 32) - 1);
    }
}
