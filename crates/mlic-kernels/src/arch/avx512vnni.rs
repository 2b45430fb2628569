//! AVX-512 with its dot product instructions: sixteen lanes, 32 registers.
//!
//! SAFETY of every intrinsic here: a value of [`Avx512Vnni`] exists, and only [`Avx512Vnni::detect`] makes one, after the
//! processor said that it has F, BW, CD, DQ, VL and VNNI. Loads and stores are of slices whose length has been asserted.
//! Written without intrinsics the same loops reach a tenth of the speed.
#![allow(unsafe_code, reason = "vector instructions that were detected")]

use std::arch::x86_64::*;

use super::{Job, Simd};
use crate::cpu::Isa;

/// Proof that the processor has the instructions.
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni(());

impl Avx512Vnni {
    /// The proof, if the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        Isa::Avx512Vnni.is_available().then_some(Self(()))
    }
}

/// One intrinsic, or an expression of them.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: the processor has the instruction, and what it reads or writes is within an asserted slice: see above.
        unsafe { $e }
    };
}

impl Simd for Avx512Vnni {
    const LANES: usize = 16;
    const PREFERS_QUADS: bool = true;
    const HAS_MATRIX: bool = true;
    type I32 = __m512i;
    type I64 = __m512i;

    /// Runs a job: 12 x 2 accumulators, 2 vectors of weights, 1 of activations.
    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
        fn enabled<J: Job>(simd: Avx512Vnni, job: J) -> J::Output {
            job.run::<Avx512Vnni, 12, 2>(simd)
        }
        // SAFETY: the processor has these features: see above.
        unsafe { enabled(self, job) }
    }

    #[inline(always)]
    fn splat(self, v: i32) -> __m512i {
        op!(_mm512_set1_epi32(v))
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> __m512i {
        assert!(from.len() >= 16);
        op!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16]) -> __m512i {
        assert!(from.len() >= 16);
        op!(_mm512_cvtepi16_epi32(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_with_zeros(self, from: &[i16]) -> __m512i {
        assert!(from.len() >= 16);
        op!(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, v: __m512i, to: &mut [i32]) {
        assert!(to.len() >= 16);
        op!(_mm512_storeu_si512(to.as_mut_ptr().cast(), v));
    }

    #[inline(always)]
    fn store_i16(self, v: __m512i, to: &mut [i16]) {
        assert!(to.len() >= 16);
        op!(_mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(v)));
    }

    #[inline(always)]
    fn store_limited(self, [a, b]: [__m512i; 2], [low, high]: [i16; 2], to: &mut [i16]) {
        assert!(to.len() >= 32);
        op!({
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            let words = _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b));
            let words = _mm512_max_epi16(_mm512_min_epi16(words, _mm512_set1_epi16(high)), _mm512_set1_epi16(low));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), words);
        });
    }

    #[inline(always)]
    fn splat_pair(self, [a, b]: [i16; 2]) -> __m512i {
        self.splat(i32::from(a as u16) | i32::from(b) << 16)
    }

    #[inline(always)]
    fn splat_quad(self, quad: [u8; 4]) -> __m512i {
        self.splat(i32::from_le_bytes(quad))
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_dpwssd_epi32(sum, a, b))
    }

    #[inline(always)]
    fn dot_quads(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_dpbusd_epi32(sum, a, b))
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_sub_epi32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_min_epi32(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_max_epi32(a, b))
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn less(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_movm_epi32(_mm512_cmplt_epi32_mask(a, b)))
    }

    #[inline(always)]
    fn gather<const N: usize>(self, table: &[i32; N], index: __m512i) -> __m512i {
        const { assert!(N.is_power_of_two() && N <= 1 << 20) };
        let index = self.and(index, self.splat(N as i32 - 1));
        op!(_mm512_i32gather_epi32::<4>(index, table.as_ptr()))
    }

    #[inline(always)]
    fn shift_right_each(self, v: __m512i, counts: __m512i) -> __m512i {
        op!(_mm512_srav_epi32(v, counts))
    }

    #[inline(always)]
    fn shift_left_each(self, v: __m512i, counts: __m512i) -> __m512i {
        op!(_mm512_sllv_epi32(v, counts))
    }

    #[inline(always)]
    fn even_shift(self, v: __m512i) -> __m512i {
        self.and(self.sub(op!(_mm512_lzcnt_epi32(v)), self.splat(1)), self.splat(!1))
    }

    #[inline(always)]
    fn splat_wide(self, v: i64) -> __m512i {
        op!(_mm512_set1_epi64(v))
    }

    #[inline(always)]
    fn load_wide(self, from: &[i64]) -> __m512i {
        assert!(from.len() >= 8);
        op!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn load_wide_i16(self, from: &[i16]) -> __m512i {
        assert!(from.len() >= 8);
        op!(_mm512_cvtepi16_epi64(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn store_wide(self, v: __m512i, to: &mut [i64]) {
        assert!(to.len() >= 8);
        op!(_mm512_storeu_si512(to.as_mut_ptr().cast(), v));
    }

    #[inline(always)]
    fn even(self, v: __m512i) -> __m512i {
        v
    }

    #[inline(always)]
    fn odd(self, v: __m512i) -> __m512i {
        op!(_mm512_srli_epi64::<32>(v))
    }

    #[inline(always)]
    fn mul_wide(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_mul_epi32(a, b))
    }

    #[inline(always)]
    fn add_wide(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi64(a, b))
    }

    #[inline(always)]
    fn shift_right_wide(self, v: __m512i, count: u32) -> __m512i {
        op!(_mm512_srav_epi64(v, _mm512_set1_epi64(count.into())))
    }

    #[inline(always)]
    fn upper(self, even: __m512i, odd: __m512i) -> __m512i {
        op!(_mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0x5555, even))
    }

    #[inline(always)]
    fn saturate(self, even: __m512i, odd: __m512i, max: i32) -> __m512i {
        let (low, high) = (self.splat_wide(-i64::from(max)), self.splat_wide(i64::from(max)));
        op!({
            let even = _mm512_min_epi64(_mm512_max_epi64(even, low), high);
            let odd = _mm512_min_epi64(_mm512_max_epi64(odd, low), high);
            _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64::<32>(odd))
        })
    }
}
