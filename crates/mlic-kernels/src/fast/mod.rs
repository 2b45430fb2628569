//! The same numbers as [`crate::reference`], sooner: bands of rows or positions in parallel on the current rayon pool, each in
//! vector code for one [`crate::cpu::Isa`]. What a band computes does not depend on the others: the number of threads changes nothing.

mod aligned;
mod analysis;
mod constants;
mod epilogue;
mod gammas;
mod gdn;
mod layer;
mod linear;
mod pack;
mod quantize;
mod root;
mod softmax;
mod square;
mod stage;
mod synthesis;
mod tables;
mod tile;
mod window;
mod winograd;

pub use analysis::Analysis;
pub use layer::{Positions, latent_layer, layer, residual_layer};
pub use linear::linear_attention;
pub use pack::Layer;
pub use quantize::quantize;
pub use synthesis::{Plan, Synthesis};
pub use tables::Tables;
pub use window::local_attention;

use mlic_core::memory::{self, OutOfMemory};
use rayon::prelude::*;

use crate::map::Map;

/// Positions handled as one task by operators on single positions.
const CHUNK: usize = 256;

/// [`crate::reference::layer_norm`].
///
/// # Errors
/// [`OutOfMemory`].
pub fn layer_norm(input: &Map<i16>, epsilon: i64) -> Result<Map<i16>, OutOfMemory> {
    let mut out = Map::zeros(input.height, input.width, input.channels)?;
    let len = (CHUNK * input.channels).max(1);
    out.data.par_chunks_mut(len).zip(input.data.par_chunks(len)).try_for_each(|(out, data)| {
        let data = memory::copy(data)?;
        let part = Map { height: 1, width: data.len() / input.channels, channels: input.channels, data };
        out.copy_from_slice(&crate::reference::layer_norm(&part, epsilon)?.data);
        Ok(())
    })?;
    Ok(out)
}
