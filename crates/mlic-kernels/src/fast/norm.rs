//! Layer normalization (SPEC 4.6) without a division for each element.

use mlic_core::fixed::{isqrt, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::proof::NORM_MAX;
use rayon::prelude::*;

use crate::arch::{Job, Simd, run};
use crate::cpu::Isa;
use crate::map::Map;
use crate::reference;

/// Positions handled as one task.
const CHUNK: usize = 128;
/// Most channels for which reciprocals are exact enough.
const MAX_CHANNELS: usize = 1 << 10;
/// Fraction bits of reciprocals, and (`MORE_BITS`) those that products with them have beyond the result's.
const RECIPROCAL_BITS: u32 = 48;
const MORE_BITS: u32 = RECIPROCAL_BITS - 20;

/// [`crate::reference::layer_norm`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn layer_norm(isa: Isa, input: &Map<i16>, epsilon: i64) -> Result<Map<i16>, OutOfMemory> {
    if input.channels > MAX_CHANNELS {
        return reference::layer_norm(input, epsilon);
    }
    let mut out = Map::zeros(input.height, input.width, input.channels)?;
    let len = (CHUNK * input.channels).max(1);
    out.data.par_chunks_mut(len).zip(input.data.par_chunks(len)).for_each(|(out, x)| {
        run(isa, Positions { channels: input.channels, epsilon, x, out });
    });
    Ok(out)
}

struct Positions<'a> {
    channels: usize,
    epsilon: i64,
    x: &'a [i16],
    out: &'a mut [i16],
}

impl Job for Positions<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, _: S) {
        let Self { channels, epsilon, x, out } = self;
        let n = channels as i64;
        for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            let (mut sum, mut squares) = (0_i64, 0_i64);
            for x in x {
                sum += i64::from(*x);
                squares += i64::from(i32::from(*x) * i32::from(*x));
            }
            // Deviations are n times too large here; the sum of their squares is n times this.
            let variance = n * squares - sum * sum;
            let root = (isqrt(((variance << 16) + epsilon) as u64) as i64).max(1);
            let reciprocal = (1_i64 << RECIPROCAL_BITS) / root;
            for (x, out) in x.iter().zip(out) {
                *out = saturate(quotient(n * i64::from(*x) - sum, root, reciprocal), NORM_MAX) as i16;
            }
        }
    }
}

/// `divide(deviation << 20, root)`, where the deviation is below 2^26 and at most an eighth of the root or so.
///
/// The product is less than 2^26 from the true one, a quarter of the last place; rounding half of an odd root adds at most a half. So the
/// quotient before its correction is right or off by one.
#[inline(always)]
const fn quotient(deviation: i64, root: i64, reciprocal: i64) -> i64 {
    let quotient = (deviation * reciprocal + (1 << (MORE_BITS - 1))) >> MORE_BITS;
    let rest = (deviation << 20) + (root >> 1) - quotient * root;
    quotient + (rest >= root) as i64 - (rest < 0) as i64
}

#[cfg(test)]
mod tests {
    use mlic_core::fixed::divide;

    use super::*;

    #[test]
    fn quotients_are_exact_at_both_ends() {
        let largest = [1, 3, 64, 1024].map(|n: i64| (2 * n * 32_767, n));
        for (most, n) in largest {
            for deviation in [0, 1, 2, 3, most / 7, most / 2, most - 1, most].into_iter().flat_map(|d| [d, -d]) {
                // The least root is that of a position where no other channel deviates.
                let least = isqrt(((deviation * deviation) as u64) << 16).div_ceil(n.unsigned_abs().isqrt() + 1).max(1) as i64;
                for root in (0..300).map(|more| least + more * more * (1 + least / 9)) {
                    let got = quotient(deviation, root, (1 << RECIPROCAL_BITS) / root);
                    assert_eq!(got, divide(deviation << 20, root), "{deviation} by {root}");
                }
            }
        }
    }

    #[test]
    fn every_number_of_channels() {
        // As large as the proof of a package allows, which bounds the sum of squares.
        for (channels, most) in
            [(1, i16::MAX), (2, i16::MAX), (7, i16::MAX), (32, i16::MAX), (64, 8191), (320, 900), (1024, 150), (1025, 150)]
        {
            let value = |i: usize| [most, -most, 0, 1, (i % 150) as i16, 5][i / channels * (1 + i % 3) % 6];
            let input = Map { height: 3, width: 3, channels, data: (0..channels * 9).map(value).collect() };
            for epsilon in [1, 1 << 20, 1 << 40] {
                let expected = reference::layer_norm(&input, epsilon).unwrap();
                for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                    assert!(layer_norm(isa, &input, epsilon).unwrap() == expected, "{channels} channels, {}", isa.name());
                }
            }
        }
    }
}
