//! The integer analysis (SPEC 5.8), node after node on whole maps.

use mlic_core::fixed::{LATENT_MAX, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::Analysis;
use mlic_model::layout::Epilogue;
use mlic_model::nodes::Node;
use mlic_model::parameters::Functions;

use super::layer::map_outputs;
use super::quantize;
use super::synthesis::node;
use crate::map::{Map, Picture};

/// From a picture, with its sides padded to these, to y in latent fixed point: `[height / 16][width / 16]`.
///
/// # Errors
/// [`OutOfMemory`].
pub fn analysis(
    functions: &Functions,
    g_a: &Analysis,
    picture: &Picture<'_>,
    [height, width]: [usize; 2],
) -> Result<Map<i32>, OutOfMemory> {
    let mut samples = Map::zeros(height, width, 3)?;
    (0..height).for_each(|row| picture.padded_row(row, &mut samples.data[3 * row * width..][..3 * width]));
    run(functions, g_a, samples)
}

/// From y after its gain to z, both in latent fixed point: `[height / 4][width / 4]`. `h_a` has a quantizer.
///
/// # Errors
/// [`OutOfMemory`].
pub fn hyper_analysis(functions: &Functions, h_a: &Analysis, y: &Map<i32>) -> Result<Map<i32>, OutOfMemory> {
    let Some(quantizer) = h_a.quantizer() else { unreachable!("h_a has a quantizer") };
    run(functions, h_a, quantize(y, quantizer.requant, quantizer.max)?)
}

fn run(functions: &Functions, own: &Analysis, input: Map<i16>) -> Result<Map<i32>, OutOfMemory> {
    let mut maps = vec![input];
    for own in own.nodes() {
        match own {
            Node::Layer(layer) if layer.spec.epilogue == Epilogue::Latent => {
                let inputs: Vec<_> = layer.inputs().map(|at| &maps[at.0]).collect();
                return map_outputs(&layer.view(), &inputs, layer.stride(), |v| saturate(v, LATENT_MAX));
            }
            _ => maps.push(node(functions, own, &maps)?),
        }
    }
    unreachable!("the last node of an analysis is in latent fixed point")
}
