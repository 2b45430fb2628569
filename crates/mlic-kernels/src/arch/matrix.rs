//! The matrix unit of x86-64 (AMX): products of whole matrices of bytes. It works beside the vectors of AVX-512, which do everything else.
//!
//! Of its eight tiles of 16 x 64 bytes, four are accumulators (16 positions x 16 outputs), two hold activations (16 positions x 64 bytes), and two hold
//! weights (16 outputs x 64 bytes); a normalization has five accumulators and one tile of activations. One step loads four operands and multiplies each
//! pair. Accumulators stay in their tiles from the first step to the last. Other work may come between steps: the processor does both at once.
//!
//! SAFETY of all of it: a value of [`Matrix`] exists, and only [`Matrix::detect`] makes one, after the processor said that it has the
//! instructions and the system allowed this process to use them. A value of [`Tiles`] exists while the tiles of this thread have the
//! shape above; no compiled code touches them. What is read and written is within slices whose length has been asserted.
#![allow(unsafe_code, reason = "the matrix unit has no stable intrinsics")]

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{Activations, Beside, Block, Powers, SIDE};

/// Proof that the unit may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix(());

impl Matrix {
    /// The proof, if the unit may be used.
    pub(crate) fn detect() -> Option<Self> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        ALLOWED.get_or_init(|| is_there() && is_allowed()).then_some(Self(()))
    }

    /// Gives the tiles of this thread their shape, which they keep until the returned value is dropped.
    pub(crate) fn tiles(self) -> Tiles {
        /// The shape of all tiles, as `ldtilecfg` reads it.
        #[repr(C, align(64))]
        struct Shape {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut shape = Shape { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shape.row_bytes[..8].fill(64);
        shape.rows[..8].fill(16);
        // SAFETY: the unit may be used; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, readonly, preserves_flags)) };
        Tiles(PhantomData)
    }
}

/// Whether the processor has AMX-TILE and AMX-INT8.
#[allow(unused_unsafe, reason = "safe in newer compilers")]
fn is_there() -> bool {
    // SAFETY: every 64-bit processor has this instruction.
    let (leaves, bits) = unsafe { (std::arch::x86_64::__get_cpuid_max(0).0, std::arch::x86_64::__cpuid_count(7, 0).edx) };
    leaves >= 7 && bits >> 24 & 0b11 == 0b11
}

/// Asks the system for the state that tiles need. The system keeps this state for all threads of the process.
fn is_allowed() -> bool {
    /// `arch_prctl`, `ARCH_REQ_XCOMP_PERM`, and the number of the state of tiles.
    const CALL: [u64; 3] = [158, 0x1023, 18];
    let result: i64;
    // SAFETY: a system call that changes nothing but this permission, with the registers that it changes.
    unsafe {
        asm!("syscall", inlateout("rax") CALL[0] => result, in("rdi") CALL[1], in("rsi") CALL[2], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    result == 0
}

/// The tiles of this thread in their shape.
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the unit may be used.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// The steps of [`Tiles::multiply`]: products of activations (tiles 4 and 5) and weights (tiles 6 and 7). The caller gives the instructions for tile 5.
macro_rules! steps {
    ($block:expr, $other:expr, $ba:literal, $bb:literal) => {{
        let Block { activations: [a, b], stride, row_len, rows, groups, weights } = $block;
        let (mut a, mut b, mut weights) = (a.as_ptr(), b.as_ptr(), weights.as_ptr());
        for _ in 0..rows {
            for _ in 0..groups {
                // SAFETY: the unit may be used, the tiles have their shape, and the caller has asserted the lengths.
                unsafe {
                    asm!(
                        "tileloadd tmm4, [{a} + {stride}*1]",
                        "tileloaddt1 tmm6, [{weights} + {line}*1]",
                        "tileloaddt1 tmm7, [{weights} + {line}*1 + 1024]",
                        "tdpbssd tmm0, tmm4, tmm6",
                        "tileloadd tmm5, [{b} + {stride}*1]",
                        "tdpbssd tmm1, tmm4, tmm7",
                        $ba,
                        $bb,
                        a = in(reg) a,
                        b = in(reg) b,
                        weights = in(reg) weights,
                        stride = in(reg) stride,
                        line = in(reg) 64_usize,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, readonly, preserves_flags),
                    );
                }
                (a, b, weights) = (a.wrapping_add(64), b.wrapping_add(64), weights.wrapping_add(2048));
                $other.some();
            }
            // Where a row is short, its groups reach beyond it, and this goes back.
            let on = row_len.wrapping_sub(groups * 64);
            (a, b) = (a.wrapping_add(on), b.wrapping_add(on));
        }
    }};
}

impl Tiles {
    /// Multiply-adds of a round of [`Self::spin`].
    pub(crate) const ROUND: usize = 4 * 16 * 16 * 64;

    /// Multiplies what the tiles hold, round after round, as fast as the unit can.
    pub(crate) fn spin(&self, rounds: usize) {
        let rounds = rounds.max(1);
        // SAFETY: the unit may be used and the tiles have their shape; no memory is touched.
        unsafe {
            asm!(
                "2:",
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nomem, nostack),
            );
        }
    }

    /// Makes all products of a block, as quarters of a square: the first and the second activation operand above each other, the first and
    /// the second weight operand beside each other. After each step, it does a piece of `other`.
    #[inline(always)]
    pub(crate) fn multiply(
        &self,
        activations: Activations,
        block: Block<'_>,
        to: &mut [i32; SIDE * SIDE],
        other: &mut impl Beside,
    ) {
        let Block { activations: [a, b], stride, row_len, rows, groups, weights } = block;
        let read = 15 * stride + (rows - 1) * row_len + groups * 64;
        assert!(rows > 0 && groups > 0 && a.len() >= read && b.len() >= read && weights.len() >= rows * groups * 2048);
        // SAFETY: the unit may be used and the tiles have their shape; no memory is touched.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nomem, nostack, preserves_flags));
        }
        match activations {
            Activations::Bytes => steps!(block, other, "tdpbssd tmm2, tmm5, tmm6", "tdpbssd tmm3, tmm5, tmm7"),
            Activations::Words => steps!(block, other, "tdpbusd tmm2, tmm5, tmm6", "tdpbusd tmm3, tmm5, tmm7"),
        }
        let (to, stride) = (to.as_mut_ptr(), size_of::<[i32; SIDE]>());
        // SAFETY: the unit may be used, the tiles have their shape, and all that is written is within the square.
        unsafe {
            asm!(
                "tilestored [{to} + {stride}*1], tmm0",
                "tilestored [{to} + {stride}*1 + 64], tmm1",
                "tilestored [{to} + {stride}*1 + 2048], tmm2",
                "tilestored [{to} + {stride}*1 + 2112], tmm3",
                to = in(reg) to,
                stride = in(reg) stride,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Makes the sums of products of unsigned four-byte numbers and unsigned two-byte numbers. `planes` has the bytes of the former, the lowest first, at
    /// 16 positions, `stride` bytes apart. `weights` has the bytes of the latter, for 16 outputs:
    /// `[group of 64][lower or upper byte][quad of the group][output][member of the quad]`.
    #[inline(always)]
    pub(crate) fn multiply_unsigned(&self, planes: [&[u8]; 4], stride: usize, groups: usize, weights: &[u8], to: &mut Powers) {
        assert!(groups > 0 && weights.len() >= groups * 2048);
        assert!(planes.iter().all(|plane| plane.len() >= 15 * stride + groups * 64));
        // SAFETY: the unit may be used and the tiles have their shape; no memory is touched.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", "tilezero tmm4",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                options(nomem, nostack, preserves_flags));
        }
        let planes = planes.map(<[u8]>::as_ptr);
        for group in 0..groups {
            let [a, b, c, d] = planes.map(|plane| plane.wrapping_add(64 * group));
            // SAFETY: the unit may be used, the tiles have their shape, and the lengths have been asserted.
            unsafe {
                asm!(
                    "tileloadd tmm6, [{weights} + {line}*1]",
                    "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                    "tileloadd tmm5, [{a} + {stride}*1]",
                    "tdpbuud tmm0, tmm5, tmm6",
                    "tdpbuud tmm1, tmm5, tmm7",
                    "tileloadd tmm5, [{c} + {stride}*1]",
                    "tdpbuud tmm2, tmm5, tmm6",
                    "tdpbuud tmm3, tmm5, tmm7",
                    "tileloadd tmm5, [{b} + {stride}*1]",
                    "tdpbuud tmm1, tmm5, tmm6",
                    "tdpbuud tmm2, tmm5, tmm7",
                    "tileloadd tmm5, [{d} + {stride}*1]",
                    "tdpbuud tmm3, tmm5, tmm6",
                    "tdpbuud tmm4, tmm5, tmm7",
                    a = in(reg) a,
                    b = in(reg) b,
                    c = in(reg) c,
                    d = in(reg) d,
                    weights = in(reg) weights.as_ptr().wrapping_add(2048 * group),
                    stride = in(reg) stride,
                    line = in(reg) 64_usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                    out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
        // SAFETY: the unit may be used, the tiles have their shape, and five times 1024 bytes are there.
        unsafe {
            asm!(
                "tilestored [{to} + {stride}*1], tmm0",
                "tilestored [{to} + {stride}*1 + 1024], tmm1",
                "tilestored [{to} + {stride}*1 + 2048], tmm2",
                "tilestored [{to} + {stride}*1 + 3072], tmm3",
                "tilestored [{to} + {stride}*1 + 4096], tmm4",
                to = in(reg) to.0.as_mut_ptr(),
                stride = in(reg) 64_usize,
                options(nostack, preserves_flags),
            );
        }
    }
}
