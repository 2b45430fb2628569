//! AVX2: eight lanes, 16 registers; with and without the dot product instructions of AVX-VNNI.
//!
//! SAFETY of every intrinsic here: a value of [`Avx2`] exists, and only [`Avx2::detect`] makes one, after the processor said
//! that it has the instructions. Loads and stores are of slices whose length has been asserted. Written without intrinsics the
//! same loops reach a fifth of the speed.
#![allow(unsafe_code, reason = "vector instructions that were detected")]

use std::arch::x86_64::*;

use super::{Job, Simd};
use crate::cpu::Isa;

/// Proof that the processor has the instructions, including dot products if DOT.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const DOT: bool>(());

impl<const DOT: bool> Avx2<DOT> {
    /// The proof, if the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        let isa = if DOT { Isa::AvxVnni } else { Isa::Avx2 };
        isa.is_available().then_some(Self(()))
    }
}

/// One intrinsic, or an expression of them.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: the processor has the instruction, and what it reads or writes is within an asserted slice: see above.
        unsafe { $e }
    };
}

impl<const DOT: bool> Simd for Avx2<DOT> {
    const LANES: usize = 8;
    const PREFERS_QUADS: bool = DOT;
    type I32 = __m256i;
    type I64 = __m256i;

    /// Runs a job: 6 x 2 accumulators, 2 vectors of weights, 1 of activations, 1 of products.
    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2")]
        fn avx2<J: Job, const DOT: bool>(simd: Avx2<DOT>, job: J) -> J::Output {
            job.run::<Avx2<DOT>, 6, 2>(simd)
        }
        #[inline(never)]
        #[target_feature(enable = "avx2,avxvnni")]
        fn vnni<J: Job, const DOT: bool>(simd: Avx2<DOT>, job: J) -> J::Output {
            job.run::<Avx2<DOT>, 6, 2>(simd)
        }
        // SAFETY: the processor has these features: see above.
        unsafe { if DOT { vnni(self, job) } else { avx2(self, job) } }
    }

    #[inline(always)]
    fn splat(self, v: i32) -> __m256i {
        op!(_mm256_set1_epi32(v))
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> __m256i {
        assert!(from.len() >= 8);
        op!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16]) -> __m256i {
        assert!(from.len() >= 8);
        op!(_mm256_cvtepi16_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_with_zeros(self, from: &[i16]) -> __m256i {
        assert!(from.len() >= 8);
        op!(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, v: __m256i, to: &mut [i32]) {
        assert!(to.len() >= 8);
        op!(_mm256_storeu_si256(to.as_mut_ptr().cast(), v));
    }

    #[inline(always)]
    fn store_i16(self, v: __m256i, to: &mut [i16]) {
        assert!(to.len() >= 8);
        op!({
            let halves = _mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi32(v, v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(halves));
        });
    }

    #[inline(always)]
    fn store_limited(self, [a, b]: [__m256i; 2], [low, high]: [i16; 2], to: &mut [i16]) {
        assert!(to.len() >= 16);
        op!({
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
            let words = _mm256_max_epi16(_mm256_min_epi16(words, _mm256_set1_epi16(high)), _mm256_set1_epi16(low));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), words);
        });
    }

    #[inline(always)]
    fn splat_pair(self, [a, b]: [i16; 2]) -> __m256i {
        self.splat(i32::from(a as u16) | i32::from(b) << 16)
    }

    #[inline(always)]
    fn splat_quad(self, quad: [u8; 4]) -> __m256i {
        self.splat(i32::from_le_bytes(quad))
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        if DOT {
            return op!(_mm256_dpwssd_avx_epi32(sum, a, b));
        }
        op!(_mm256_add_epi32(sum, _mm256_madd_epi16(a, b)))
    }

    /// Without dot products, the even and the odd bytes are multiplied as 16-bit numbers: the byte instruction would saturate.
    #[inline(always)]
    fn dot_quads(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        if DOT {
            return op!(_mm256_dpbusd_avx_epi32(sum, a, b));
        }
        op!({
            let even =
                _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)), _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b)));
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(a), _mm256_srai_epi16::<8>(b));
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        })
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_sub_epi32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_min_epi32(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_max_epi32(a, b))
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_and_si256(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_or_si256(a, b))
    }

    #[inline(always)]
    fn less(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_cmpgt_epi32(b, a))
    }

    #[inline(always)]
    fn gather<const N: usize>(self, table: &[i32; N], index: __m256i) -> __m256i {
        const { assert!(N.is_power_of_two() && N <= 1 << 20) };
        let index = self.and(index, self.splat(N as i32 - 1));
        op!(_mm256_i32gather_epi32::<4>(table.as_ptr(), index))
    }

    #[inline(always)]
    fn shift_right_each(self, v: __m256i, counts: __m256i) -> __m256i {
        op!(_mm256_srav_epi32(v, counts))
    }

    #[inline(always)]
    fn shift_left_each(self, v: __m256i, counts: __m256i) -> __m256i {
        op!(_mm256_sllv_epi32(v, counts))
    }

    #[inline(always)]
    fn splat_wide(self, v: i64) -> __m256i {
        op!(_mm256_set1_epi64x(v))
    }

    #[inline(always)]
    fn load_wide(self, from: &[i64]) -> __m256i {
        assert!(from.len() >= 4);
        op!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_wide_i16(self, from: &[i16]) -> __m256i {
        assert!(from.len() >= 4);
        op!(_mm256_cvtepi16_epi64(_mm_loadl_epi64(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn store_wide(self, v: __m256i, to: &mut [i64]) {
        assert!(to.len() >= 4);
        op!(_mm256_storeu_si256(to.as_mut_ptr().cast(), v));
    }

    #[inline(always)]
    fn even(self, v: __m256i) -> __m256i {
        v
    }

    #[inline(always)]
    fn odd(self, v: __m256i) -> __m256i {
        op!(_mm256_srli_epi64::<32>(v))
    }

    #[inline(always)]
    fn mul_wide(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_mul_epi32(a, b))
    }

    #[inline(always)]
    fn add_wide(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_add_epi64(a, b))
    }

    /// The logical shift of `v + 2^63`, minus that of `2^63`.
    #[inline(always)]
    fn shift_right_wide(self, v: __m256i, count: u32) -> __m256i {
        let sign = self.splat_wide(i64::MIN);
        op!({
            let count = _mm_cvtsi32_si128(count as i32);
            _mm256_sub_epi64(_mm256_srl_epi64(_mm256_xor_si256(v, sign), count), _mm256_srl_epi64(sign, count))
        })
    }

    #[inline(always)]
    fn upper(self, even: __m256i, odd: __m256i) -> __m256i {
        op!(_mm256_blend_epi32::<0b1010_1010>(_mm256_shuffle_epi32::<0b11_11_01_01>(even), odd))
    }

    #[inline(always)]
    fn saturate(self, even: __m256i, odd: __m256i, max: i32) -> __m256i {
        let (low, high) = (self.splat_wide(-i64::from(max)), self.splat_wide(i64::from(max)));
        op!({
            let even = _mm256_blendv_epi8(even, high, _mm256_cmpgt_epi64(even, high));
            let even = _mm256_blendv_epi8(even, low, _mm256_cmpgt_epi64(low, even));
            let odd = _mm256_blendv_epi8(odd, high, _mm256_cmpgt_epi64(odd, high));
            let odd = _mm256_blendv_epi8(odd, low, _mm256_cmpgt_epi64(low, odd));
            _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd))
        })
    }
}
