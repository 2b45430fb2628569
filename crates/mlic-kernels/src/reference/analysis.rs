//! The integer analysis (SPEC 5.8), node by node on whole maps.

use mlic_core::fixed::{LATENT_MAX, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::{Analysis, HyperAnalysis};
use mlic_model::nodes::Nodes;
use mlic_model::parameters::Functions;

use super::layer::map_outputs;
use super::quantize;
use super::synthesis::node;
use crate::map::{Map, Picture};

/// Takes a picture, which is padded, to y in latent fixed point: `[height / 16][width / 16]` of the padded sides.
///
/// # Errors
/// [`OutOfMemory`].
pub fn analysis(functions: &Functions, g_a: &Analysis, picture: &Picture<'_>) -> Result<Map<i32>, OutOfMemory> {
    let [height, width] = picture.padded();
    let mut samples = Map::zeros(height, width, 3)?;
    (0..height).for_each(|row| picture.padded_row(row, &mut samples.data[3 * row * width..][..3 * width]));
    run(functions, g_a, samples)
}

/// Takes y, after its gain, to z: `[height / 4][width / 4]`. Both are in latent fixed point.
///
/// # Errors
/// [`OutOfMemory`].
pub fn hyper_analysis(functions: &Functions, h_a: &HyperAnalysis, y: &Map<i32>) -> Result<Map<i32>, OutOfMemory> {
    let quantizer = h_a.quantizer();
    run(functions, h_a, quantize(y, quantizer.requant, quantizer.max)?)
}

fn run(functions: &Functions, own: &Nodes, input: Map<i16>) -> Result<Map<i32>, OutOfMemory> {
    let (last, before) = own.split_last();
    let mut maps = vec![input];
    for own in before {
        maps.push(node(functions, own, &maps)?);
    }
    let inputs: Vec<_> = last.inputs().map(|at| &maps[at.0]).collect();
    map_outputs(&last.view(), &inputs, last.stride(), |v| saturate(v, LATENT_MAX))
}
