//! Vector instructions behind one small trait. Operators are written once, over [`Simd`]; an instruction set is one file that
//! says what its vectors are and how large a tile of a matrix product fits its registers.
//!
//! A value that implements [`Simd`] is a token: it exists only where the processor has the instructions, which is what makes its
//! methods safe to call. All methods, and all code over them, are `#[inline(always)]`, so that they become part of a function
//! that [`run`] or [`Simd::run`] enters with the instructions enabled: one function for each [`Job`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), path = "no_matrix.rs")]
mod matrix;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod scalar;

pub(crate) use matrix::{Matrix, Tiles};

use crate::cpu::Isa;

/// Largest number of lanes of any vector.
pub(crate) const MAX_LANES: usize = 16;

/// Side of a block of a matrix unit, in positions and in outputs.
pub(crate) const SIDE: usize = 32;

/// What the two activation operands of a matrix unit hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activations {
    /// Signed bytes of different positions.
    Bytes,
    /// Signed upper bytes and unsigned lower bytes of the same positions.
    Words,
}

/// A block of a matrix unit: two times 16 positions, or both bytes of 16 positions, by two times 16 outputs.
#[derive(Clone, Copy)]
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, reason = "there is no matrix unit"))]
pub(crate) struct Block<'a> {
    /// The bytes of both operands, from the first byte that is read of the first position on.
    pub(crate) activations: [&'a [u8]; 2],
    /// Bytes from one position to the next.
    pub(crate) stride: usize,
    /// Bytes from one row of the kernel to the next. Where they are fewer than the groups of a row have, reads reach into the next row.
    pub(crate) row_len: usize,
    /// Rows of the kernel.
    pub(crate) rows: usize,
    /// Groups of 64 bytes that are read from each row.
    pub(crate) groups: usize,
    /// `[row][group][operand][quad of the group][output][member of the quad]`.
    pub(crate) weights: &'a [u8],
}

/// Sums of products of four-byte numbers and two-byte numbers, separated by the power of 256 by which they count, the lowest first. Each power
/// has `[position][output]`, 16 of each.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) struct Powers(pub(crate) [[i32; 256]; 5]);

impl Default for Powers {
    fn default() -> Self {
        Self([[0; 256]; 5])
    }
}

/// Work for vectors while a matrix unit multiplies. A closure would not do: it would be compiled without the instructions.
pub(crate) trait Beside {
    /// Does a piece of the work.
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, reason = "there is no matrix unit"))]
    fn some(&mut self);
}

/// Operations on vectors of [`Self::LANES`] 32-bit integers, and of half as many 64-bit integers.
///
/// A lane may hold a pair of 16-bit numbers or a quad of bytes, the first in the lowest bits. Additions, [`Self::dot_pairs`] and [`Self::dot_quads`]
/// wrap. Loads and stores panic if the slice is too short; it may be longer than needed.
pub(crate) trait Simd: Copy + Send + Sync {
    /// 32-bit integers per vector.
    const LANES: usize;
    /// Whether [`Self::dot_quads`] is faster than two [`Self::dot_pairs`].
    const PREFERS_QUADS: bool;
    /// The byte that stands for zero in the first operand of [`Self::dot_quads`]: 128 if its bytes are unsigned, 0 if they are signed.
    const BYTE_ZERO: u8 = 128;
    /// Quads of an output that lie side by side in the weights of [`Self::quads`].
    const QUADS: usize = 1;
    /// Whether a processor with these vectors may also have a matrix unit.
    const HAS_MATRIX: bool = false;
    /// 32-bit lanes.
    type I32: Copy;
    /// 64-bit lanes.
    type I64: Copy;

    /// Runs a job with these instructions, as a function of its own: callers that are compiled for each kind of layer share one compiled job.
    fn run<J: Job>(self, job: J) -> J::Output;

    /// The same number in all lanes.
    fn splat(self, v: i32) -> Self::I32;
    /// [`Self::LANES`] numbers.
    fn load(self, from: &[i32]) -> Self::I32;
    /// [`Self::LANES`] numbers, sign-extended.
    fn load_i16(self, from: &[i16]) -> Self::I32;
    /// [`Self::LANES`] numbers, each as the pair (number, 0).
    fn load_with_zeros(self, from: &[i16]) -> Self::I32;
    /// All lanes.
    fn store(self, v: Self::I32, to: &mut [i32]);
    /// Stores all lanes as 16-bit numbers; each fits.
    fn store_i16(self, v: Self::I32, to: &mut [i16]);
    /// Stores all lanes of two vectors as 16-bit numbers, each limited to `low..=high`.
    #[inline(always)]
    fn store_limited(self, vectors: [Self::I32; 2], [low, high]: [i16; 2], to: &mut [i16]) {
        let limit = |v| self.max(self.min(v, self.splat(high.into())), self.splat(low.into()));
        self.store_i16(limit(vectors[0]), to);
        self.store_i16(limit(vectors[1]), &mut to[Self::LANES..]);
    }

    /// The same pair in all lanes.
    fn splat_pair(self, pair: [i16; 2]) -> Self::I32;
    /// The same quad in all lanes.
    fn splat_quad(self, quad: [u8; 4]) -> Self::I32;
    /// `sum + a[0] * b[0] + a[1] * b[1]` of the signed 16-bit halves of each lane.
    fn dot_pairs(self, sum: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `sum + a[0] * b[0] + ... + a[3] * b[3]` of the bytes of each lane: the bytes of a are as [`Self::BYTE_ZERO`] says, those of b are signed.
    fn dot_quads(self, sum: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32;

    /// Adds products to a tile: each pair of each position, in `rows`, times the weights, `[pair][vector]`, by [`Self::dot_pairs`].
    #[inline(always)]
    fn pairs<const P: usize, const V: usize>(self, tile: &mut [[Self::I32; V]; P], rows: [&[[i16; 2]]; P], weights: &[i32]) {
        pairs_one_by_one(self, tile, rows, weights);
    }

    /// Adds products to a tile: each quad of each position, in `rows`, times the weights, `[group of QUADS][output][quad of the group]`, by
    /// [`Self::dot_quads`]. In a tile that began with zeros, an implementation may keep sums in an order of its own until [`Self::in_rows`] is called.
    #[inline(always)]
    fn quads<const P: usize, const V: usize>(self, tile: &mut [[Self::I32; V]; P], rows: [&[[u8; 4]]; P], weights: &[i32]) {
        quads_one_by_one(self, tile, rows, weights);
    }

    /// Puts the sums that [`Self::quads`] has made in the order `[position][vector]`.
    #[inline(always)]
    fn in_rows<const P: usize, const V: usize>(self, tile: [[Self::I32; V]; P]) -> [[Self::I32; V]; P] {
        tile
    }

    /// Sum.
    fn add(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Difference.
    fn sub(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Lower 32 bits of the product.
    fn mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Smaller.
    fn min(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Larger.
    fn max(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bits of both.
    fn and(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bits of either.
    fn or(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// All bits set where `a < b`, none elsewhere.
    fn less(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Arithmetic shift of each lane by its own count, 0 to 31.
    fn shift_right_each(self, v: Self::I32, counts: Self::I32) -> Self::I32;
    /// Shift of each lane by its own count, 0 to 31.
    fn shift_left_each(self, v: Self::I32, counts: Self::I32) -> Self::I32;
    /// Arithmetic shift, 0 to 31.
    #[inline(always)]
    fn shift_right<const N: i32>(self, v: Self::I32) -> Self::I32 {
        self.shift_right_each(v, self.splat(N))
    }
    /// Shift, 0 to 31.
    #[inline(always)]
    fn shift_left<const N: i32>(self, v: Self::I32) -> Self::I32 {
        self.shift_left_each(v, self.splat(N))
    }
    /// `table[index mod N]`. N is a power of two.
    fn gather<const N: usize>(self, table: &[i32; N], index: Self::I32) -> Self::I32;

    /// For lanes that are not negative: the largest even count by which each can be shifted to the left without becoming negative; 30 for zero.
    #[inline(always)]
    fn even_shift(self, v: Self::I32) -> Self::I32 {
        let (mut rest, mut counts) = (v, self.splat(0));
        for count in [16, 8, 4, 2] {
            let more = self.and(self.less(rest, self.splat(1 << (31 - count))), self.splat(count));
            rest = self.shift_left_each(rest, more);
            counts = self.add(counts, more);
        }
        counts
    }

    /// The same number in all lanes.
    fn splat_wide(self, v: i64) -> Self::I64;
    /// Half of [`Self::LANES`] numbers.
    fn load_wide(self, from: &[i64]) -> Self::I64;
    /// Half of [`Self::LANES`] numbers, sign-extended.
    fn load_wide_i16(self, from: &[i16]) -> Self::I64;
    /// All lanes.
    fn store_wide(self, v: Self::I64, to: &mut [i64]);
    /// Lanes 0, 2, ... in the lower halves; the upper halves are undefined.
    fn even(self, v: Self::I32) -> Self::I64;
    /// Lanes 1, 3, ... in the lower halves; the upper halves are undefined.
    fn odd(self, v: Self::I32) -> Self::I64;
    /// Products of the signed lower halves.
    fn mul_wide(self, a: Self::I64, b: Self::I64) -> Self::I64;
    /// Sum.
    fn add_wide(self, a: Self::I64, b: Self::I64) -> Self::I64;
    /// Arithmetic shift, 0 to 62.
    fn shift_right_wide(self, v: Self::I64, count: u32) -> Self::I64;
    /// The upper halves, in the lanes from which [`Self::even`] and [`Self::odd`] take their numbers.
    fn upper(self, even: Self::I64, odd: Self::I64) -> Self::I32;
    /// The inverse of [`Self::even`] and [`Self::odd`], with each number limited to ±max.
    fn saturate(self, even: Self::I64, odd: Self::I64, max: i32) -> Self::I32;
}

/// `len` elements from each of `starts` on. This is a loop because compilers do not see that the slices of an array that `map` returns have the same
/// length, and would check every index in the loops that follow.
#[inline(always)]
pub(crate) fn pieces<T, const P: usize>(data: &[T], starts: [usize; P], len: usize) -> [&[T]; P] {
    let mut pieces = [&data[..0]; P];
    for p in 0..P {
        pieces[p] = &data[starts[p]..][..len];
    }
    pieces
}

/// [`pieces`] in groups of N.
#[inline(always)]
pub(crate) fn groups<T, const N: usize, const P: usize>(data: &[T], starts: [usize; P], len: usize) -> [&[[T; N]]; P] {
    let mut groups = [data[..0].as_chunks().0; P];
    for p in 0..P {
        groups[p] = data[starts[p]..][..len].as_chunks().0;
    }
    groups
}

/// The first `len` elements of each slice.
#[inline(always)]
fn beginnings<T, const P: usize>(mut slices: [&[T]; P], len: usize) -> [&[T]; P] {
    for slice in &mut slices {
        *slice = &slice[..len];
    }
    slices
}

/// The first `len` elements of each slice, in groups of four, and the elements left over.
#[inline(always)]
#[cfg_attr(
    not(all(target_arch = "aarch64", target_endian = "little")),
    allow(dead_code, reason = "a vector of it reads four groups")
)]
fn fours<T, const P: usize>(slices: [&[T]; P], len: usize) -> ([&[[T; 4]]; P], [&[T]; P]) {
    let (mut groups, mut rest) = ([slices[0][..0].as_chunks().0; P], slices);
    for p in 0..P {
        (groups[p], rest[p]) = slices[p][..len].as_chunks();
    }
    (groups, rest)
}

/// [`Simd::pairs`] from instructions that multiply whole vectors.
#[inline(always)]
fn pairs_one_by_one<S: Simd, const P: usize, const V: usize>(
    s: S,
    tile: &mut [[S::I32; V]; P],
    rows: [&[[i16; 2]]; P],
    weights: &[i32],
) {
    let count = weights.len() / (V * S::LANES);
    let rows = beginnings(rows, count);
    for (k, weights) in weights.chunks_exact(V * S::LANES).enumerate() {
        let mut w = [s.splat(0); V];
        for v in 0..V {
            w[v] = s.load(&weights[v * S::LANES..]);
        }
        for p in 0..P {
            let a = s.splat_pair(rows[p][k]);
            for v in 0..V {
                tile[p][v] = s.dot_pairs(tile[p][v], a, w[v]);
            }
        }
    }
}

/// [`Simd::quads`] from instructions that multiply whole vectors.
#[inline(always)]
fn quads_one_by_one<S: Simd, const P: usize, const V: usize>(
    s: S,
    tile: &mut [[S::I32; V]; P],
    rows: [&[[u8; 4]]; P],
    weights: &[i32],
) {
    let count = weights.len() / (V * S::LANES);
    let rows = beginnings(rows, count);
    for (k, weights) in weights.chunks_exact(V * S::LANES).enumerate() {
        let mut w = [s.splat(0); V];
        for v in 0..V {
            w[v] = s.load(&weights[v * S::LANES..]);
        }
        for p in 0..P {
            let a = s.splat_quad(rows[p][k]);
            for v in 0..V {
                tile[p][v] = s.dot_quads(tile[p][v], a, w[v]);
            }
        }
    }
}

/// An operator, or a part of one, over any vectors.
pub(crate) trait Job {
    /// The result of the job.
    type Output;

    /// Runs the job. POSITIONS and VECTORS are the sides of the largest tile of a matrix product that fits the registers, in positions and in vectors
    /// of outputs. Implementations that use vectors are `#[inline(always)]`.
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, simd: S) -> Self::Output;
}

/// Runs a job with an instruction set, or with the scalar one where the processor lacks it.
pub(crate) fn run<J: Job>(isa: Isa, job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx2 => {
            if let Some(simd) = avx2::Avx2::<false>::detect() {
                return simd.run(job);
            }
        }
        Isa::AvxVnni => {
            if let Some(simd) = avx2::Avx2::<true>::detect() {
                return simd.run(job);
            }
        }
        Isa::Avx512Vnni | Isa::Amx => {
            if let Some(simd) = avx512vnni::Avx512Vnni::detect() {
                return simd.run(job);
            }
        }
        _ => {}
    }
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    match isa {
        Isa::Neon => {
            if let Some(simd) = neon::Neon::<{ neon::NONE }>::detect() {
                return simd.run(job);
            }
        }
        Isa::Dotprod => {
            if let Some(simd) = neon::Neon::<{ neon::DOT }>::detect() {
                return simd.run(job);
            }
        }
        Isa::I8mm => {
            if let Some(simd) = neon::Neon::<{ neon::MATRIX }>::detect() {
                return simd.run(job);
            }
        }
        _ => {}
    }
    let _ = isa;
    scalar::Scalar.run(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One vector from each operation that instruction sets spell differently.
    struct Operations {
        a: [i32; MAX_LANES],
        b: [i32; MAX_LANES],
    }

    impl Job for Operations {
        type Output = (usize, u8, Vec<[i32; MAX_LANES]>);

        #[inline(always)]
        fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) -> Self::Output {
            let (a, b) = (s.load(&self.a), s.load(&self.b));
            let mut products = [0_i64; MAX_LANES / 2];
            s.store_wide(s.shift_right_wide(s.mul_wide(s.odd(a), s.odd(b)), 7), &mut products);
            let wide = s.load_wide(&products);
            let results = [
                s.dot_pairs(a, a, b),
                s.dot_quads(b, a, b),
                s.less(a, b),
                s.min(s.max(a, b), s.shift_right::<3>(a)),
                s.mul(a, s.shift_left::<5>(b)),
                s.saturate(wide, s.add_wide(wide, wide), 1 << 29),
                s.gather(&[3, -7, 1 << 30, i32::MIN], a),
                s.shift_right_each(a, s.and(b, s.splat(31))),
                s.shift_left_each(a, s.and(b, s.splat(31))),
                s.even_shift(s.and(a, s.splat(i32::MAX))),
                s.upper(s.mul_wide(s.even(a), s.even(b)), s.mul_wide(s.odd(a), s.odd(b))),
            ];
            let mut lanes = vec![[0; MAX_LANES]; results.len()];
            lanes.iter_mut().zip(results).for_each(|(to, v)| s.store(v, to));
            let mut limited = [0; 2 * MAX_LANES];
            s.store_limited([a, s.shift_right::<16>(b)], [-300, 32_000], &mut limited);
            for half in limited.chunks(S::LANES).take(2) {
                lanes.push(std::array::from_fn(|i| half.get(i).map_or(0, |v| (*v).into())));
            }
            (S::LANES, S::BYTE_ZERO, lanes)
        }
    }

    fn check(isa: Isa, a: [i32; MAX_LANES], b: [i32; MAX_LANES]) {
        let half = |v: i32, i: i32| (v << (16 * (1 - i))) >> 16;
        let (lanes, byte_zero, got) = run(isa, Operations { a, b });
        for i in 0..lanes {
            let (x, y) = (a[i], b[i]);
            let pairs = (0..2).fold(x, |sum, j| sum.wrapping_add(half(x, j) * half(y, j)));
            let bytes = x.to_le_bytes().into_iter().zip(y.to_le_bytes());
            let byte = |x: u8| if byte_zero == 0 { i32::from(x as i8) } else { i32::from(x) };
            let quads = bytes.fold(y, |sum, (x, y)| sum.wrapping_add(byte(x) * i32::from(y as i8)));
            let odd = (i64::from(a[i | 1]) * i64::from(b[i | 1])) >> 7;
            let wide = if i % 2 == 0 { odd } else { 2 * odd };
            let saturated = wide.clamp(-(1 << 29), 1 << 29) as i32;
            let gathered = [3, -7, 1 << 30, i32::MIN][x as usize & 3];
            let counts = [x >> (y & 31), x << (y & 31), ((x & i32::MAX).leading_zeros() as i32 - 1) & !1];
            let upper = ((i64::from(x) * i64::from(y)) >> 32) as i32;
            let expected = [
                pairs,
                quads,
                -i32::from(x < y),
                x.max(y).min(x >> 3),
                x.wrapping_mul(y << 5),
                saturated,
                gathered,
                counts[0],
                counts[1],
                counts[2],
                upper,
                x.clamp(-300, 32_000),
                (y >> 16).clamp(-300, 32_000),
            ];
            assert_eq!(got.iter().map(|v| v[i]).collect::<Vec<_>>(), expected, "{} lane {i}: {x} {y}", isa.name());
        }
    }

    #[test]
    fn every_instruction_set_does_the_same() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as i32
        };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for _ in 0..500 {
                check(isa, std::array::from_fn(|_| next()), std::array::from_fn(|_| next()));
            }
            for extreme in [0, -1, i32::MAX, i32::MIN, 0x7f7f_7f7f, 0x7fff_7fff] {
                check(isa, [extreme; MAX_LANES], std::array::from_fn(|i| if i % 2 == 0 { extreme } else { !extreme }));
            }
        }
    }
}
