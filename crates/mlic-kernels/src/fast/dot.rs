//! Integer matrix products of int16 activations and int8 weights, as plain loops compiled for each instruction set.
#![allow(unsafe_code, reason = "calling a function compiled for an instruction set that was detected")]

use crate::cpu::Isa;

/// Positions and outputs of one block.
const POSITIONS: usize = 4;
const OUTPUTS: usize = 2;

/// `sums[p][o] += (patches[p] . weights[o]) * multipliers[o]` for all positions p and outputs o.
///
/// `patches` is `[position][len]`, `weights` `[output][len]`, `sums` `[position][output]`; each dot product fits an `i32`
/// and each sum an `i64` by the package's proof.
pub(super) fn multiply(isa: Isa, sums: &mut [i64], patches: &[i16], weights: &[i8], multipliers: &[i32], len: usize) {
    match isa {
        // SAFETY: `Isa::best` and `Isa::choose` return an instruction set only when the processor has it. Without the call
        // the same loops run at the width that the target guarantees: about half the speed with AVX2.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { multiply_avx2(sums, patches, weights, multipliers, len) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { multiply_avx512vnni(sums, patches, weights, multipliers, len) },
        _ => multiply_plain(sums, patches, weights, multipliers, len),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_avx2(sums: &mut [i64], patches: &[i16], weights: &[i8], multipliers: &[i32], len: usize) {
    multiply_plain(sums, patches, weights, multipliers, len);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_avx512vnni(sums: &mut [i64], patches: &[i16], weights: &[i8], multipliers: &[i32], len: usize) {
    multiply_plain(sums, patches, weights, multipliers, len);
}

#[inline(always)]
fn multiply_plain(sums: &mut [i64], patches: &[i16], weights: &[i8], multipliers: &[i32], len: usize) {
    let outputs = multipliers.len();
    for (pair, (weights, multipliers)) in weights.chunks(OUTPUTS * len).zip(multipliers.chunks(OUTPUTS)).enumerate() {
        let first = pair * OUTPUTS;
        for (patches, sums) in patches.chunks(POSITIONS * len).zip(sums.chunks_mut(POSITIONS * outputs)) {
            if patches.len() == POSITIONS * len && weights.len() == OUTPUTS * len {
                let dots = block(patches, weights, len);
                for (sums, dots) in sums.chunks_exact_mut(outputs).zip(dots) {
                    for ((sum, dot), m) in sums[first..].iter_mut().zip(dots).zip(multipliers) {
                        *sum += i64::from(dot) * i64::from(*m);
                    }
                }
            } else {
                for (patch, sums) in patches.chunks_exact(len).zip(sums.chunks_exact_mut(outputs)) {
                    for ((sum, w), m) in sums[first..].iter_mut().zip(weights.chunks_exact(len)).zip(multipliers) {
                        *sum += i64::from(dot(patch, w)) * i64::from(*m);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn dot(a: &[i16], w: &[i8]) -> i32 {
    a.iter().zip(w).map(|(a, w)| i32::from(*a) * i32::from(*w)).sum()
}

/// Dot products of four positions with two outputs: every load serves two or four products.
#[inline(always)]
fn block(patches: &[i16], weights: &[i8], len: usize) -> [[i32; OUTPUTS]; POSITIONS] {
    let (a01, a23) = patches.split_at(2 * len);
    let ((a0, a1), (a2, a3)) = (a01.split_at(len), a23.split_at(len));
    let (w0, w1) = weights.split_at(len);
    let (a0, a1, a2, a3, w0, w1) = (&a0[..len], &a1[..len], &a2[..len], &a3[..len], &w0[..len], &w1[..len]);
    let mut s = [[0; OUTPUTS]; POSITIONS];
    for i in 0..len {
        let (u, v) = (i32::from(w0[i]), i32::from(w1[i]));
        s[0][0] += i32::from(a0[i]) * u;
        s[0][1] += i32::from(a0[i]) * v;
        s[1][0] += i32::from(a1[i]) * u;
        s[1][1] += i32::from(a1[i]) * v;
        s[2][0] += i32::from(a2[i]) * u;
        s[2][1] += i32::from(a2[i]) * v;
        s[3][0] += i32::from(a3[i]) * u;
        s[3][1] += i32::from(a3[i]) * v;
    }
    s
}
