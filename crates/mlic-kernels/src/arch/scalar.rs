//! Vectors of four as plain arrays: what every target can do, and what the others must equal.
//!
//! One operation is not plain on x86-64: compilers do not find the multiply-add that every such processor has, and without it
//! the matrix products take twice as long.
#![allow(unsafe_code, reason = "a vector instruction that the target guarantees")]

use super::{Job, Simd};

/// No further instructions.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

const LANES: usize = 4;
type I32 = [i32; LANES];
type I64 = [i64; LANES / 2];

#[inline(always)]
fn zip(a: I32, b: I32, f: impl Fn(i32, i32) -> i32) -> I32 {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// The two signed 16-bit halves of a lane.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
#[inline(always)]
const fn halves(v: i32) -> [i32; 2] {
    [v as i16 as i32, v >> 16]
}

#[inline(always)]
const fn pair([a, b]: [i16; 2]) -> i32 {
    (a as u16 as i32) | (b as i32) << 16
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline(always)]
fn dot_pairs(sum: I32, a: I32, b: I32) -> I32 {
    use std::arch::x86_64::{__m128i, _mm_add_epi32, _mm_madd_epi16};
    use std::mem::transmute;
    // SAFETY: the target guarantees SSE2; arrays and vectors have 16 bytes, and all bits are valid in both.
    unsafe {
        let products = _mm_madd_epi16(transmute::<I32, __m128i>(a), transmute::<I32, __m128i>(b));
        transmute::<__m128i, I32>(_mm_add_epi32(transmute::<I32, __m128i>(sum), products))
    }
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
#[inline(always)]
fn dot_pairs(sum: I32, a: I32, b: I32) -> I32 {
    std::array::from_fn(|i| {
        let ([a0, a1], [b0, b1]) = (halves(a[i]), halves(b[i]));
        sum[i].wrapping_add(a0 * b0).wrapping_add(a1 * b1)
    })
}

impl Simd for Scalar {
    const LANES: usize = LANES;
    const PREFERS_QUADS: bool = false;
    type I32 = I32;
    type I64 = I64;

    #[inline(never)]
    fn run<J: Job>(self, job: J) -> J::Output {
        job.run::<Self, 4, 2>(self)
    }

    #[inline(always)]
    fn splat(self, v: i32) -> I32 {
        [v; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> I32 {
        let mut v = [0; LANES];
        v.copy_from_slice(&from[..LANES]);
        v
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16]) -> I32 {
        let from = &from[..LANES];
        std::array::from_fn(|i| i32::from(from[i]))
    }

    #[inline(always)]
    fn load_with_zeros(self, from: &[i16]) -> I32 {
        let from = &from[..LANES];
        std::array::from_fn(|i| pair([from[i], 0]))
    }

    #[inline(always)]
    fn store(self, v: I32, to: &mut [i32]) {
        to[..LANES].copy_from_slice(&v);
    }

    #[inline(always)]
    fn store_i16(self, v: I32, to: &mut [i16]) {
        to[..LANES].iter_mut().zip(v).for_each(|(to, v)| *to = v as i16);
    }

    #[inline(always)]
    fn splat_pair(self, values: [i16; 2]) -> I32 {
        [pair(values); LANES]
    }

    #[inline(always)]
    fn splat_quad(self, quad: [u8; 4]) -> I32 {
        [i32::from_le_bytes(quad); LANES]
    }

    #[inline(always)]
    fn dot_pairs(self, sum: I32, a: I32, b: I32) -> I32 {
        dot_pairs(sum, a, b)
    }

    #[inline(always)]
    fn dot_quads(self, sum: I32, a: I32, b: I32) -> I32 {
        std::array::from_fn(|i| {
            let products = a[i].to_le_bytes().into_iter().zip(b[i].to_le_bytes()).map(|(a, b)| i32::from(a) * i32::from(b as i8));
            products.fold(sum[i], i32::wrapping_add)
        })
    }

    #[inline(always)]
    fn add(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::wrapping_sub)
    }

    #[inline(always)]
    fn mul(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::wrapping_mul)
    }

    #[inline(always)]
    fn min(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::min)
    }

    #[inline(always)]
    fn max(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::max)
    }

    #[inline(always)]
    fn and(self, a: I32, b: I32) -> I32 {
        zip(a, b, |a, b| a & b)
    }

    #[inline(always)]
    fn or(self, a: I32, b: I32) -> I32 {
        zip(a, b, |a, b| a | b)
    }

    #[inline(always)]
    fn less(self, a: I32, b: I32) -> I32 {
        zip(a, b, |a, b| -i32::from(a < b))
    }

    #[inline(always)]
    fn gather<const N: usize>(self, table: &[i32; N], index: I32) -> I32 {
        const { assert!(N.is_power_of_two()) };
        index.map(|i| table[i as usize & (N - 1)])
    }

    #[inline(always)]
    fn shift_right_each(self, v: I32, counts: I32) -> I32 {
        zip(v, counts, |v, count| v >> count)
    }

    #[inline(always)]
    fn shift_left_each(self, v: I32, counts: I32) -> I32 {
        zip(v, counts, |v, count| v << count)
    }

    #[inline(always)]
    fn even_shift(self, v: I32) -> I32 {
        v.map(|v| (v.leading_zeros() as i32 - 1) & !1)
    }

    #[inline(always)]
    fn splat_wide(self, v: i64) -> I64 {
        [v; LANES / 2]
    }

    #[inline(always)]
    fn load_wide(self, from: &[i64]) -> I64 {
        let from = &from[..LANES / 2];
        std::array::from_fn(|i| from[i])
    }

    #[inline(always)]
    fn load_wide_i16(self, from: &[i16]) -> I64 {
        let from = &from[..LANES / 2];
        std::array::from_fn(|i| i64::from(from[i]))
    }

    #[inline(always)]
    fn store_wide(self, v: I64, to: &mut [i64]) {
        to[..LANES / 2].copy_from_slice(&v);
    }

    #[inline(always)]
    fn even(self, v: I32) -> I64 {
        std::array::from_fn(|i| i64::from(v[2 * i]))
    }

    #[inline(always)]
    fn odd(self, v: I32) -> I64 {
        std::array::from_fn(|i| i64::from(v[2 * i + 1]))
    }

    #[inline(always)]
    fn mul_wide(self, a: I64, b: I64) -> I64 {
        std::array::from_fn(|i| i64::from(a[i] as i32) * i64::from(b[i] as i32))
    }

    #[inline(always)]
    fn add_wide(self, a: I64, b: I64) -> I64 {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn shift_right_wide(self, v: I64, count: u32) -> I64 {
        v.map(|v| v >> count)
    }

    #[inline(always)]
    fn upper(self, even: I64, odd: I64) -> I32 {
        std::array::from_fn(|i| (if i % 2 == 0 { even[i / 2] } else { odd[i / 2] } >> 32) as i32)
    }

    #[inline(always)]
    fn saturate(self, even: I64, odd: I64, max: i32) -> I32 {
        std::array::from_fn(|i| mlic_core::fixed::saturate(if i % 2 == 0 { even[i / 2] } else { odd[i / 2] }, max))
    }
}
