//! Layer normalization over the channels of one position (SPEC 4.6).

use mlic_core::fixed::{divide, isqrt, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::proof::NORM_MAX;

use crate::map::Map;

/// `(x - mean) / sqrt(variance + epsilon)` in Q12. `epsilon` is in units of the integer variance.
///
/// # Errors
/// [`OutOfMemory`].
pub fn layer_norm(input: &Map<i16>, epsilon: i64) -> Result<Map<i16>, OutOfMemory> {
    let n = input.channels as i64;
    let mut out = input.copy()?;
    for at in out.data.chunks_exact_mut(input.channels.max(1)) {
        let sum: i64 = at.iter().map(|x| i64::from(*x)).sum();
        let deviations = at.iter().map(|x| n * i64::from(*x) - sum);
        let squares: i64 = deviations.map(|d| d * d).sum();
        let root = isqrt(((squares << 16) / n + epsilon) as u64) as i64;
        for x in at {
            let deviation = n * i64::from(*x) - sum;
            *x = saturate(divide(deviation << 20, root.max(1)), NORM_MAX) as i16;
        }
    }
    Ok(out)
}
