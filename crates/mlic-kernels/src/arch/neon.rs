//! NEON: four lanes, 32 registers; alone, with the dot product instructions of ARMv8.2, or also with the byte matrix products of ARMv8.6.
//!
//! SAFETY of every intrinsic and instruction here: a value of [`Neon`] exists, and only [`Neon::detect`] makes one, after the processor
//! said that it has the instructions. Loads and stores are of slices whose length has been asserted. Without intrinsics
//! compilers widen every factor before they multiply.
#![allow(unsafe_code, reason = "vector instructions that were detected")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Job, Simd, fours, pairs_one_by_one, quads_one_by_one};
use crate::cpu::Isa;

/// One intrinsic, or an expression of them.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: the processor has the instruction, and what it reads or writes is within an asserted slice: see above.
        unsafe { $e }
    };
}

/// `sum + a[0] * b[0] + ... + a[3] * b[3]` of signed bytes, for all lanes of b, or for one lane of b in place of all.
macro_rules! sdot {
    ($sum:expr, $a:expr, $b:expr, $operands:literal) => {{
        let mut sum: int32x4_t = $sum;
        let (a, b): (int32x4_t, int32x4_t) = ($a, $b);
        // SAFETY: the processor has the instruction, which changes one register: see above.
        unsafe {
            asm!(concat!("sdot {sum:v}.4s, {a:v}.16b, {b:v}.", $operands), sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }};
}

/// Adds to a 2 x 2 square the products of both rows of a with both rows of b; a row has eight signed bytes.
macro_rules! smmla {
    ($sum:expr, $a:expr, $b:expr) => {{
        let mut sum: int32x4_t = $sum;
        let (a, b): (int32x4_t, int32x4_t) = ($a, $b);
        // SAFETY: the processor has the instruction, which changes one register: see above.
        unsafe {
            asm!("smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }};
}

/// Adds the products of eight bytes of each position to squares; one vector holds the bytes of two positions.
macro_rules! eight {
    ($s:expr, $sums:ident, $pairs:ident, $weights:expr) => {
        for v in 0..V {
            let (w, x) = ($s.load(&$weights[8 * v..]), $s.load(&$weights[8 * v + 4..]));
            for p in (0..P).step_by(2) {
                $sums[p][v] = smmla!($sums[p][v], $pairs[p], w);
            }
            for p in (0..P).step_by(2) {
                $sums[p + 1][v] = smmla!($sums[p + 1][v], $pairs[p], x);
            }
        }
    };
}

/// No instruction for products of bytes.
pub(super) const NONE: u8 = 0;
/// `sdot`: products of four bytes by four.
pub(super) const DOT: u8 = 1;
/// `smmla` too: products of two times eight bytes by two times eight.
pub(super) const MATRIX: u8 = 2;

/// Proof that the processor has the instructions, including those for products of bytes that BYTES names.
#[derive(Clone, Copy)]
pub(super) struct Neon<const BYTES: u8>(());

impl<const BYTES: u8> Neon<BYTES> {
    /// The proof, if the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        let isa = match BYTES {
            NONE => Isa::Neon,
            DOT => Isa::Dotprod,
            _ => Isa::I8mm,
        };
        isa.is_available().then_some(Self(()))
    }

    /// [`Simd::quads`] in squares of two positions and two outputs: the square of positions 2i and 2i + 1 and of outputs 2j and 2j + 1 of a vector is
    /// at position 2i + j of the tile.
    #[inline(always)]
    fn squares<const P: usize, const V: usize>(self, tile: &mut [[int32x4_t; V]; P], rows: [&[[u8; 4]]; P], weights: &[i32]) {
        assert!(P.is_multiple_of(2), "two positions make a square");
        let count = weights.len() / (8 * V);
        let (fours, rows) = fours(rows, 2 * count);
        let (weights, rest) = weights.split_at(count / 2 * 16 * V);
        let (mut first, mut second, mut sums) = ([self.splat(0); P], [self.splat(0); P], *tile);
        for (k, weights) in weights.chunks_exact(16 * V).enumerate() {
            for p in (0..P).step_by(2) {
                let (a, b) =
                    op!((vld1q_u8(fours[p][k].as_flattened().as_ptr()), vld1q_u8(fours[p + 1][k].as_flattened().as_ptr())));
                [first[p], second[p]] = zip_halves([op!(vreinterpretq_s32_u8(a)), op!(vreinterpretq_s32_u8(b))]);
            }
            eight!(self, sums, first, weights);
            eight!(self, sums, second, &weights[8 * V..]);
        }
        if !rest.is_empty() {
            for p in (0..P).step_by(2) {
                let (a, b) = (&rows[p][..2], &rows[p + 1][..2]);
                first[p] = op!(vreinterpretq_s32_u8(vcombine_u8(
                    vld1_u8(a.as_flattened().as_ptr()),
                    vld1_u8(b.as_flattened().as_ptr())
                )));
            }
            eight!(self, sums, first, rest);
        }
        *tile = sums;
    }
}

/// The first halves of two vectors, and the second halves.
#[inline(always)]
fn zip_halves([a, b]: [int32x4_t; 2]) -> [int32x4_t; 2] {
    op!({
        let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
        [vreinterpretq_s32_s64(vzip1q_s64(a, b)), vreinterpretq_s32_s64(vzip2q_s64(a, b))]
    })
}

impl<const BYTES: u8> Simd for Neon<BYTES> {
    const LANES: usize = 4;
    const PREFERS_QUADS: bool = BYTES >= DOT;
    const BYTE_ZERO: u8 = if BYTES >= DOT { 0 } else { 128 };
    const QUADS: usize = if BYTES == MATRIX { 2 } else { 1 };
    type I32 = int32x4_t;
    type I64 = int64x2_t;

    /// Runs a job: 8 x 2 accumulators, 8 vectors of activations, 4 of weights. With byte matrix products, a tile has 4 x 4 accumulators, so that
    /// two positions that are put into one vector serve more products.
    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn neon<J: Job, const BYTES: u8>(simd: Neon<BYTES>, job: J) -> J::Output {
            job.run::<Neon<BYTES>, 8, 2>(simd)
        }
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod")]
        fn dotprod<J: Job, const BYTES: u8>(simd: Neon<BYTES>, job: J) -> J::Output {
            job.run::<Neon<BYTES>, 8, 2>(simd)
        }
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod,i8mm")]
        fn i8mm<J: Job, const BYTES: u8>(simd: Neon<BYTES>, job: J) -> J::Output {
            job.run::<Neon<BYTES>, 4, 4>(simd)
        }
        // SAFETY: the processor has these features: see above.
        unsafe {
            match BYTES {
                NONE => neon(self, job),
                DOT => dotprod(self, job),
                _ => i8mm(self, job),
            }
        }
    }

    #[inline(always)]
    fn splat(self, v: i32) -> int32x4_t {
        op!(vdupq_n_s32(v))
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> int32x4_t {
        assert!(from.len() >= 4);
        op!(vld1q_s32(from.as_ptr()))
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16]) -> int32x4_t {
        assert!(from.len() >= 4);
        op!(vmovl_s16(vld1_s16(from.as_ptr())))
    }

    #[inline(always)]
    fn load_with_zeros(self, from: &[i16]) -> int32x4_t {
        assert!(from.len() >= 4);
        op!(vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_s16(vld1_s16(from.as_ptr())))))
    }

    #[inline(always)]
    fn store(self, v: int32x4_t, to: &mut [i32]) {
        assert!(to.len() >= 4);
        op!(vst1q_s32(to.as_mut_ptr(), v));
    }

    #[inline(always)]
    fn store_i16(self, v: int32x4_t, to: &mut [i16]) {
        assert!(to.len() >= 4);
        op!(vst1_s16(to.as_mut_ptr(), vmovn_s32(v)));
    }

    #[inline(always)]
    fn store_limited(self, [a, b]: [int32x4_t; 2], [low, high]: [i16; 2], to: &mut [i16]) {
        assert!(to.len() >= 8);
        op!({
            let words = vqmovn_high_s32(vqmovn_s32(a), b);
            vst1q_s16(to.as_mut_ptr(), vmaxq_s16(vminq_s16(words, vdupq_n_s16(high)), vdupq_n_s16(low)));
        });
    }

    #[inline(always)]
    fn splat_pair(self, [a, b]: [i16; 2]) -> int32x4_t {
        self.splat(i32::from(a as u16) | i32::from(b) << 16)
    }

    #[inline(always)]
    fn splat_quad(self, quad: [u8; 4]) -> int32x4_t {
        self.splat(i32::from_le_bytes(quad))
    }

    #[inline(always)]
    fn dot_pairs(self, sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!({
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let (low, high) = (vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
            vaddq_s32(sum, vpaddq_s32(low, high))
        })
    }

    /// Without dot products, the even and the odd bytes are multiplied as 16-bit numbers.
    #[inline(always)]
    fn dot_quads(self, sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        if BYTES >= DOT {
            return sdot!(sum, a, b, "16b");
        }
        let (even, odd) = op!({
            let (a, b) = (vreinterpretq_u16_s32(a), vreinterpretq_s16_s32(b));
            let even = (vandq_u16(a, vdupq_n_u16(255)), vshrq_n_s16::<8>(vshlq_n_s16::<8>(b)));
            let odd = (vshrq_n_u16::<8>(a), vshrq_n_s16::<8>(b));
            let words = |(a, b)| (vreinterpretq_s32_u16(a), vreinterpretq_s32_s16(b));
            (words(even), words(odd))
        });
        self.dot_pairs(self.dot_pairs(sum, even.0, even.1), odd.0, odd.1)
    }

    /// Loads four pairs of each position into one register, whose lanes the instructions choose.
    #[inline(always)]
    fn pairs<const P: usize, const V: usize>(self, tile: &mut [[int32x4_t; V]; P], rows: [&[[i16; 2]]; P], weights: &[i32]) {
        let count = weights.len() / (4 * V);
        let (fours, rows) = fours(rows, count);
        let (weights, rest) = weights.split_at(count / 4 * 16 * V);
        for (k, weights) in weights.chunks_exact(16 * V).enumerate() {
            let mut a = [op!(vdupq_n_s16(0)); P];
            for p in 0..P {
                a[p] = op!(vld1q_s16(fours[p][k].as_flattened().as_ptr()));
            }
            macro_rules! step {
                ($k:literal, $first:literal, $second:literal) => {
                    for v in 0..V {
                        let w = self.load(&weights[($k * V + v) * 4..]);
                        let (first, second) = op!((vmovn_s32(w), vshrn_n_s32::<16>(w)));
                        for p in 0..P {
                            tile[p][v] = op!(vmlal_laneq_s16::<$first>(tile[p][v], first, a[p]));
                            tile[p][v] = op!(vmlal_laneq_s16::<$second>(tile[p][v], second, a[p]));
                        }
                    }
                };
            }
            step!(0, 0, 1);
            step!(1, 2, 3);
            step!(2, 4, 5);
            step!(3, 6, 7);
        }
        pairs_one_by_one(self, tile, rows, rest);
    }

    /// As [`Self::pairs`], with quads.
    #[inline(always)]
    fn quads<const P: usize, const V: usize>(self, tile: &mut [[int32x4_t; V]; P], rows: [&[[u8; 4]]; P], weights: &[i32]) {
        match BYTES {
            NONE => return quads_one_by_one(self, tile, rows, weights),
            MATRIX => return self.squares(tile, rows, weights),
            _ => {}
        }
        let count = weights.len() / (4 * V);
        let (fours, rows) = fours(rows, count);
        let (weights, rest) = weights.split_at(count / 4 * 16 * V);
        for (k, weights) in weights.chunks_exact(16 * V).enumerate() {
            let mut a = [self.splat(0); P];
            for p in 0..P {
                a[p] = op!(vreinterpretq_s32_u8(vld1q_u8(fours[p][k].as_flattened().as_ptr())));
            }
            macro_rules! step {
                ($k:literal, $operands:literal) => {
                    for v in 0..V {
                        let w = self.load(&weights[($k * V + v) * 4..]);
                        for p in 0..P {
                            tile[p][v] = sdot!(tile[p][v], w, a[p], $operands);
                        }
                    }
                };
            }
            step!(0, "4b[0]");
            step!(1, "4b[1]");
            step!(2, "4b[2]");
            step!(3, "4b[3]");
        }
        quads_one_by_one(self, tile, rows, rest);
    }

    /// Each half of a square has the sums of one position.
    #[inline(always)]
    fn in_rows<const P: usize, const V: usize>(self, mut tile: [[int32x4_t; V]; P]) -> [[int32x4_t; V]; P] {
        if BYTES == MATRIX {
            for p in (0..P - 1).step_by(2) {
                for v in 0..V {
                    [tile[p][v], tile[p + 1][v]] = zip_halves([tile[p][v], tile[p + 1][v]]);
                }
            }
        }
        tile
    }

    #[inline(always)]
    fn add(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vaddq_s32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vsubq_s32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vmulq_s32(a, b))
    }

    #[inline(always)]
    fn min(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vminq_s32(a, b))
    }

    #[inline(always)]
    fn max(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vmaxq_s32(a, b))
    }

    #[inline(always)]
    fn and(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vandq_s32(a, b))
    }

    #[inline(always)]
    fn or(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vorrq_s32(a, b))
    }

    #[inline(always)]
    fn less(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vreinterpretq_s32_u32(vcltq_s32(a, b)))
    }

    #[inline(always)]
    fn gather<const N: usize>(self, table: &[i32; N], index: int32x4_t) -> int32x4_t {
        const { assert!(N.is_power_of_two()) };
        let mut lanes = [0; 4];
        self.store(index, &mut lanes);
        self.load(&lanes.map(|i| table[i as usize & (N - 1)]))
    }

    #[inline(always)]
    fn shift_right_each(self, v: int32x4_t, counts: int32x4_t) -> int32x4_t {
        op!(vshlq_s32(v, vnegq_s32(counts)))
    }

    #[inline(always)]
    fn shift_left_each(self, v: int32x4_t, counts: int32x4_t) -> int32x4_t {
        op!(vshlq_s32(v, counts))
    }

    #[inline(always)]
    fn even_shift(self, v: int32x4_t) -> int32x4_t {
        self.and(self.sub(op!(vclzq_s32(v)), self.splat(1)), self.splat(!1))
    }

    #[inline(always)]
    fn splat_wide(self, v: i64) -> int64x2_t {
        op!(vdupq_n_s64(v))
    }

    #[inline(always)]
    fn load_wide(self, from: &[i64]) -> int64x2_t {
        assert!(from.len() >= 2);
        op!(vld1q_s64(from.as_ptr()))
    }

    #[inline(always)]
    fn load_wide_i16(self, from: &[i16]) -> int64x2_t {
        self.load_wide(&[from[0].into(), from[1].into()])
    }

    #[inline(always)]
    fn store_wide(self, v: int64x2_t, to: &mut [i64]) {
        assert!(to.len() >= 2);
        op!(vst1q_s64(to.as_mut_ptr(), v));
    }

    #[inline(always)]
    fn even(self, v: int32x4_t) -> int64x2_t {
        op!(vreinterpretq_s64_s32(v))
    }

    #[inline(always)]
    fn odd(self, v: int32x4_t) -> int64x2_t {
        op!(vshrq_n_s64::<32>(vreinterpretq_s64_s32(v)))
    }

    #[inline(always)]
    fn mul_wide(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        op!(vmull_s32(vmovn_s64(a), vmovn_s64(b)))
    }

    #[inline(always)]
    fn add_wide(self, a: int64x2_t, b: int64x2_t) -> int64x2_t {
        op!(vaddq_s64(a, b))
    }

    #[inline(always)]
    fn shift_right_wide(self, v: int64x2_t, count: u32) -> int64x2_t {
        op!(vshlq_s64(v, vdupq_n_s64(-i64::from(count))))
    }

    #[inline(always)]
    fn upper(self, even: int64x2_t, odd: int64x2_t) -> int32x4_t {
        op!(vtrn2q_s32(vreinterpretq_s32_s64(even), vreinterpretq_s32_s64(odd)))
    }

    /// Narrows with saturation first.
    #[inline(always)]
    fn saturate(self, even: int64x2_t, odd: int64x2_t, max: i32) -> int32x4_t {
        let v = op!({
            let (even, odd) = (vqmovn_s64(even), vqmovn_s64(odd));
            vcombine_s32(vzip1_s32(even, odd), vzip2_s32(even, odd))
        });
        self.max(self.min(v, self.splat(max)), self.splat(-max))
    }
}
