//! Divisive normalization and its inverse.

use mlic_core::fixed::{isqrt, round_shift, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::nodes::{Gdn, MAX_NORM, RECIPROCAL};
use mlic_model::parameters::Requant;

use crate::map::Map;

/// Divisive normalization (SPEC 4.12), or its inverse (SPEC 4.11).
///
/// # Errors
/// [`OutOfMemory`].
pub fn gdn(gdn: &Gdn, input: &Map<i16>) -> Result<Map<i16>, OutOfMemory> {
    let normalized = |x: i64, root: i64, multiplier: i32| {
        if gdn.inverse {
            Requant { multiplier, shift: gdn.output_shift }.apply(x * root)
        } else {
            round_shift(x * i64::from(multiplier) * (i64::from(RECIPROCAL) / root.max(1)), gdn.output_shift)
        }
    };
    let channels = gdn.channels();
    let mut out = Map::zeros(input.height, input.width, channels)?;
    for (out, x) in out.data.chunks_exact_mut(channels).zip(input.data.chunks_exact(channels)) {
        for (c, out) in out.iter_mut().enumerate() {
            let gamma = &gdn.gamma[c * channels..(c + 1) * channels];
            let sum: i64 = gamma.iter().zip(x).map(|(g, x)| i64::from(*g) * i64::from(*x) * i64::from(*x)).sum();
            let norm = round_shift(sum + gdn.beta[c], gdn.shift).min(MAX_NORM);
            *out = saturate(normalized(x[c].into(), isqrt(norm as u64) as i64, gdn.multipliers[c]), gdn.max) as i16;
        }
    }
    Ok(out)
}
