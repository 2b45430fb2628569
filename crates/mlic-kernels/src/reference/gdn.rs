//! Divisive normalization and its inverse.

use mlic_core::fixed::{isqrt, round_shift, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::RECIPROCAL;
use mlic_model::parameters::Requant;
use mlic_model::synthesis::{Gdn, MAX_NORM};

use crate::map::Map;

/// Inverse divisive normalization (SPEC 4.11).
///
/// # Errors
/// [`OutOfMemory`].
pub fn inverse_gdn(gdn: &Gdn, input: &Map<i16>) -> Result<Map<i16>, OutOfMemory> {
    with_roots(gdn, input, |x, root, multiplier| Requant { multiplier, shift: gdn.output_shift }.apply(x * root))
}

/// Divisive normalization (SPEC 4.12).
///
/// # Errors
/// [`OutOfMemory`].
pub fn gdn(gdn: &Gdn, input: &Map<i16>) -> Result<Map<i16>, OutOfMemory> {
    with_roots(gdn, input, |x, root, multiplier| {
        round_shift(x * i64::from(multiplier) * (i64::from(RECIPROCAL) / root.max(1)), gdn.output_shift)
    })
}

/// What `of` makes of each activation, the root of its norm (SPEC 4.11) and the multiplier of its channel, saturated.
fn with_roots(gdn: &Gdn, input: &Map<i16>, of: impl Fn(i64, i64, i32) -> i64) -> Result<Map<i16>, OutOfMemory> {
    let channels = gdn.channels();
    let mut out = Map::zeros(input.height, input.width, channels)?;
    for (out, x) in out.data.chunks_exact_mut(channels).zip(input.data.chunks_exact(channels)) {
        for (c, out) in out.iter_mut().enumerate() {
            let gamma = &gdn.gamma[c * channels..(c + 1) * channels];
            let sum: i64 = gamma.iter().zip(x).map(|(g, x)| i64::from(*g) * i64::from(*x) * i64::from(*x)).sum();
            let norm = round_shift(sum + gdn.beta[c], gdn.shift).min(MAX_NORM);
            *out = saturate(of(x[c].into(), isqrt(norm as u64) as i64, gdn.multipliers[c]), gdn.max) as i16;
        }
    }
    Ok(out)
}
