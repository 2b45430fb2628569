//! The integer synthesis (SPEC 5.7), node after node on whole maps.

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::layout::NodeIndex;
use mlic_model::parameters::Functions;
use mlic_model::synthesis::{Node, Synthesis};

use super::{inverse_gdn, layer, quantize};
use crate::map::Map;

/// From `y_hat` after its inverse gain, in latent fixed point, to samples: `[16 height][16 width]` of red, green, blue.
///
/// # Errors
/// [`OutOfMemory`].
pub fn synthesis(functions: &Functions, synthesis: &Synthesis, latent: &Map<i32>) -> Result<Map<u8>, OutOfMemory> {
    let maps = synthesis_nodes(functions, synthesis, latent)?;
    let Map { height, width, channels, ref data } = maps[maps.len() - 1];
    Ok(Map { height, width, channels, data: memory::collect(data.len(), data.iter().map(|v| *v as u8))? })
}

/// What every node gives, the quantizer (node 0) first and the samples last.
///
/// # Errors
/// [`OutOfMemory`].
pub fn synthesis_nodes(functions: &Functions, synthesis: &Synthesis, latent: &Map<i32>) -> Result<Vec<Map<i16>>, OutOfMemory> {
    let quantizer = synthesis.quantizer();
    let mut maps = vec![quantize(latent, quantizer.requant, quantizer.max)?];
    for node in synthesis.nodes() {
        let at = |index: NodeIndex| &maps[index.0];
        let map = match node {
            Node::InverseGdn(gdn) => inverse_gdn(gdn, at(gdn.input))?,
            Node::Layer(own) => {
                let inputs: Vec<&Map<i16>> = node.inputs().map(at).collect();
                let map = layer(&own.view(), functions, &inputs)?;
                if own.shuffle { map.shuffle()? } else { map }
            }
        };
        maps.push(map);
    }
    Ok(maps)
}
