//! Scales of Gaussians to indices of tables.

use mlic_core::memory::{self, OutOfMemory};
use rayon::prelude::*;

use crate::arch::{Job, MAX_LANES, Simd, run};
use crate::cpu::Isa;

/// Scales of a task.
const CHUNK_LEN: usize = 1 << 13;

struct Indices<'a> {
    thresholds: &'a [i32],
    scales: &'a [i32],
    out: &'a mut [u8],
}

impl Job for Indices<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        let Self { thresholds, scales, out } = self;
        for (scales, out) in scales.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
            let mut lanes = [0; MAX_LANES];
            lanes[..scales.len()].copy_from_slice(scales);
            let scales = s.load(&lanes);
            let mut counts = s.splat(0);
            for threshold in thresholds {
                // A lane that is less has all bits set: it is -1.
                counts = s.sub(counts, s.less(s.splat(*threshold), scales));
            }
            s.store(counts, &mut lanes);
            out.iter_mut().zip(lanes).for_each(|(to, count)| *to = count as u8);
        }
    }
}

/// Writes [`crate::function::scale_index`] of each scale to `out`, which takes the length of `scales`; its memory is reused.
///
/// # Errors
/// [`OutOfMemory`].
pub fn scale_indices(isa: Isa, thresholds: &[i32], scales: &[i32], out: &mut Vec<u8>) -> Result<(), OutOfMemory> {
    memory::reserve_all(out, scales.len())?;
    out.resize(scales.len(), 0);
    out.par_chunks_mut(CHUNK_LEN).zip(scales.par_chunks(CHUNK_LEN)).for_each(|(out, scales)| {
        run(isa, Indices { thresholds, scales, out });
    });
    Ok(())
}
