//! The integer synthesis (SPEC 5.7), node by node on whole maps.

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::layout::NodeIndex;
use mlic_model::nodes::Node;
use mlic_model::parameters::Functions;
use mlic_model::synthesis::Synthesis;

use super::gdn::gdn;
use super::layer::activations;
use super::quantize;
use crate::map::Map;

/// Takes `y_hat`, after its inverse gain, in latent fixed point, to samples of red, green and blue: `[16 height][16 width]`.
///
/// # Errors
/// [`OutOfMemory`].
pub fn synthesis(functions: &Functions, synthesis: &Synthesis, latent: &Map<i32>) -> Result<Map<u8>, OutOfMemory> {
    let maps = synthesis_nodes(functions, synthesis, latent)?;
    let Map { height, width, channels, ref data } = maps[maps.len() - 1];
    Ok(Map { height, width, channels, data: memory::collect(data.len(), data.iter().map(|v| *v as u8))? })
}

/// The outputs of all nodes, the quantizer (node 0) first and the samples last.
///
/// # Errors
/// [`OutOfMemory`].
pub fn synthesis_nodes(functions: &Functions, synthesis: &Synthesis, latent: &Map<i32>) -> Result<Vec<Map<i16>>, OutOfMemory> {
    let quantizer = synthesis.quantizer();
    let mut maps = vec![quantize(latent, quantizer.requant, quantizer.max)?];
    for own in synthesis.nodes() {
        maps.push(node(functions, own, &maps)?);
    }
    Ok(maps)
}

/// The output of a node, from the maps of the nodes before it; not for the last node of an analysis.
pub(super) fn node(functions: &Functions, node: &Node, maps: &[Map<i16>]) -> Result<Map<i16>, OutOfMemory> {
    let at = |index: NodeIndex| &maps[index.0];
    match node {
        Node::Gdn(own) => gdn(own, at(own.input)),
        Node::Layer(own) => {
            let map = activations(&own.view(), functions, &own.inputs().map(at).collect::<Vec<_>>(), own.stride())?;
            if own.shuffles() { map.shuffle() } else { Ok(map) }
        }
    }
}
