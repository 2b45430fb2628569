//! The last step of softmax in both kinds of attention.

use crate::arch::{MAX_LANES, Simd};

/// `floor(2^40 / sum)`: see [`crate::function::normalize`].
pub(super) fn reciprocal(sum: i32) -> i32 {
    ((1_i64 << 40) / i64::from(sum.max(1))).min(i32::MAX.into()) as i32
}

/// [`reciprocal`] of each lane.
#[inline(always)]
pub(super) fn reciprocals<S: Simd>(s: S, sums: S::I32) -> S::I32 {
    let mut lanes = [0; MAX_LANES];
    s.store(sums, &mut lanes);
    for lane in &mut lanes[..S::LANES] {
        *lane = reciprocal(*lane);
    }
    s.load(&lanes)
}

/// The softmax weights (Q15) of exponentials, by the [`reciprocal`] of their sum.
#[inline(always)]
pub(super) fn normalize<S: Simd>(s: S, exponentials: S::I32, reciprocals: S::I32) -> S::I32 {
    let half = s.splat_wide(1 << 24);
    let even = s.mul_wide(s.even(exponentials), s.even(reciprocals));
    let odd = s.mul_wide(s.odd(exponentials), s.odd(reciprocals));
    let (even, odd) = (s.shift_right_wide(s.add_wide(even, half), 25), s.shift_right_wide(s.add_wide(odd, half), 25));
    s.saturate(even, odd, 1 << 15)
}
