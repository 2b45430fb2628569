//! The definition of every integer operator: one output at a time, one term at a time, in the order of `docs/SPEC.md`.
//! It stays as it is; speed belongs in [`crate::fast`].

mod analysis;
mod attention;
mod gdn;
mod layer;
mod norm;
mod synthesis;

pub use analysis::{analysis, hyper_analysis};
pub use attention::{LocalAttentionShape, linear_attention, local_attention};
pub use gdn::gdn;
pub use layer::{latent_layer, layer, residual_layer};
pub use norm::layer_norm;
pub use synthesis::{synthesis, synthesis_nodes};

use crate::map::Map;
use mlic_core::fixed::saturate;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::parameters::Requant;

/// Converts latent fixed point to activations: requantizes, then saturates to ±max (SPEC 4.1).
///
/// # Errors
/// [`OutOfMemory`].
pub fn quantize(latent: &Map<i32>, requant: Requant, max: i32) -> Result<Map<i16>, OutOfMemory> {
    let values = latent.data.iter().map(|v| saturate(requant.apply(i64::from(*v)), max) as i16);
    let data = memory::collect(latent.data.len(), values)?;
    Ok(Map { height: latent.height, width: latent.width, channels: latent.channels, data })
}
