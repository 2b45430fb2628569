//! Integer square roots (SPEC 3.4) of all lanes of a vector.

use crate::arch::Simd;

/// Fraction bits of the roots in the table.
const FRAC_BITS: u32 = 3;
/// Bits of the differences in the table.
const DIFFERENCE_BITS: i32 = 12;
/// Bits of an argument between two entries of the table.
const INTERVAL_BITS: u32 = 23;

/// For arguments `i << 23`: the root, and the difference to the root of the next entry. Entries for arguments below 2^29 are not used.
static ROOTS: [i32; 256] = {
    const fn root(i: u64) -> i32 {
        (i << (INTERVAL_BITS + 2 * FRAC_BITS)).isqrt() as i32
    }
    let mut table = [0; 256];
    let mut i = 0;
    while i < table.len() {
        let difference = root(i as u64 + 1) - root(i as u64);
        table[i] = if i < 64 { 0 } else { root(i as u64) << DIFFERENCE_BITS | difference };
        i += 1;
    }
    table
};

/// `floor(sqrt(v))` of lanes that are not negative.
///
/// The argument, shifted by an even count to 2^29..2^31, lies in an interval of the table. The straight line between the ends of the interval is below the
/// root by less than 2^46 / 8 / 4 / 2^43.5 = 0.18, and three roundings downwards take less than 3/8 more: the estimate is right or one too small.
#[inline(always)]
pub(super) fn isqrt<S: Simd>(s: S, v: S::I32) -> S::I32 {
    let count = s.even_shift(v);
    let v = s.shift_left_each(v, count);
    let entry = s.gather(&ROOTS, s.shift_right::<{ INTERVAL_BITS as i32 }>(v));
    let fraction = s.and(s.shift_right::<8>(v), s.splat((1 << 15) - 1));
    let difference = s.and(entry, s.splat((1 << DIFFERENCE_BITS) - 1));
    let more = s.shift_right::<15>(s.dot_pairs(s.splat(0), difference, fraction));
    let root = s.shift_right::<{ FRAC_BITS as i32 }>(s.add(s.shift_right::<DIFFERENCE_BITS>(entry), more));
    let rest = s.sub(v, s.mul(root, root));
    let root = s.sub(root, s.less(s.add(root, root), rest));
    s.shift_right_each(root, s.shift_right::<1>(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Job, MAX_LANES, run};
    use crate::cpu::Isa;

    struct Roots<'a>(&'a mut [i32]);

    impl Job for Roots<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
            self.0.chunks_exact_mut(S::LANES).for_each(|v| s.store(isqrt(s, s.load(v)), v));
        }
    }

    #[test]
    fn every_root_begins_and_ends_where_it_should() {
        let squares = (0..=46340_i64).map(|r| (r * r) as i32);
        let ends = (1..=46341_i64).map(|r| (r * r - 1).min(i32::MAX.into()) as i32);
        let mut arguments: Vec<i32> = squares.chain(ends).collect();
        arguments.resize(arguments.len().next_multiple_of(MAX_LANES), 0);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut roots = arguments.clone();
            run(isa, Roots(&mut roots));
            for (v, root) in arguments.iter().zip(roots) {
                assert_eq!(root, v.isqrt(), "root of {v} with {}", isa.name());
            }
        }
    }
}
