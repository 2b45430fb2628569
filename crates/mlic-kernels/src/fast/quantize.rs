//! Latent fixed point to activations.

use mlic_core::memory::OutOfMemory;
use mlic_model::parameters::Requant;
use rayon::prelude::*;

use super::epilogue::{Epilogue, Linear, put};
use super::tables::Requantizer;
use crate::arch::{Job, MAX_LANES, Simd, run};
use crate::cpu::Isa;
use crate::map::Map;

/// Elements of a task.
const CHUNK_LEN: usize = 1 << 14;

struct Quantize<'a> {
    requantizer: Requantizer,
    limited: Linear,
    latent: &'a [i32],
    out: &'a mut [i16],
}

impl Job for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        for (out, latent) in self.out.chunks_mut(S::LANES).zip(self.latent.chunks(S::LANES)) {
            if latent.len() == S::LANES {
                self.limited.store(s, self.requantizer.unlimited(s, s.load(latent)), out);
                continue;
            }
            let mut whole = [0; MAX_LANES];
            whole[..latent.len()].copy_from_slice(latent);
            put(s, &self.limited, self.requantizer.unlimited(s, s.load(&whole)), out, 0);
        }
    }
}

/// [`crate::reference::quantize`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn quantize(isa: Isa, latent: &Map<i32>, requant: Requant, max: i32) -> Result<Map<i16>, OutOfMemory> {
    let mut out = Map::zeros(latent.height, latent.width, latent.channels)?;
    quantize_into(isa, &latent.data, requant, max, &mut out.data);
    Ok(out)
}

/// [`quantize`] for elements of any shape, into `out`.
pub(super) fn quantize_into(isa: Isa, latent: &[i32], requant: Requant, max: i32, out: &mut [i16]) {
    let (requantizer, limited) = (Requantizer::new(requant, max), Linear::around_zero(max));
    out.par_chunks_mut(CHUNK_LEN).zip(latent.par_chunks(CHUNK_LEN)).for_each(|(out, latent)| {
        run(isa, Quantize { requantizer, limited, latent, out });
    });
}
