//! The integer analysis (SPEC 5.8), node after node on whole maps.

use mlic_core::fixed::{LATENT_MAX, isqrt, round_shift, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::{Analysis, Node, RECIPROCAL};
use mlic_model::layout::NodeIndex;
use mlic_model::parameters::Functions;
use mlic_model::synthesis::{Gdn, MAX_NORM};

use super::layer::{activations, map_outputs};
use super::quantize;
use crate::map::{Map, Picture};

/// Divisive normalization (SPEC 4.12).
///
/// # Errors
/// [`OutOfMemory`].
pub fn gdn(gdn: &Gdn, input: &Map<i16>) -> Result<Map<i16>, OutOfMemory> {
    let channels = gdn.channels();
    let mut out = Map::zeros(input.height, input.width, channels)?;
    for (out, x) in out.data.chunks_exact_mut(channels).zip(input.data.chunks_exact(channels)) {
        for (c, out) in out.iter_mut().enumerate() {
            let gamma = &gdn.gamma[c * channels..(c + 1) * channels];
            let sum: i64 = gamma.iter().zip(x).map(|(g, x)| i64::from(*g) * i64::from(*x) * i64::from(*x)).sum();
            let norm = round_shift(sum + gdn.beta[c], gdn.shift).min(MAX_NORM);
            let reciprocal = i64::from(RECIPROCAL) / (isqrt(norm as u64) as i64).max(1);
            let numerator = i64::from(x[c]) * i64::from(gdn.multipliers[c]);
            *out = saturate(round_shift(numerator * reciprocal, gdn.output_shift), gdn.max) as i16;
        }
    }
    Ok(out)
}

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
    let input = h_a.quantizer().map(|quantizer| quantize(y, quantizer.level(), quantizer.max));
    run(functions, h_a, input.unwrap_or_else(|| Map::zeros(0, 0, 0))?)
}

fn run(functions: &Functions, own: &Analysis, input: Map<i16>) -> Result<Map<i32>, OutOfMemory> {
    let mut maps = vec![input];
    let (last, others) = own.nodes().split_last().map_or((None, own.nodes()), |(last, others)| (Some(last), others));
    for node in others {
        let at = |index: NodeIndex| &maps[index.0];
        maps.push(match node {
            Node::Gdn(own) => gdn(own, at(own.input))?,
            Node::Layer { layer, stride } => {
                let inputs: Vec<&Map<i16>> = layer.inputs().map(at).collect();
                layer.view().map_or_else(|| Map::zeros(0, 0, 0), |view| activations(&view, functions, &inputs, *stride))?
            }
        });
    }
    let latents = match last {
        Some(Node::Layer { layer, stride }) => layer.view().map(|view| {
            let inputs: Vec<&Map<i16>> = layer.inputs().map(|index| &maps[index.0]).collect();
            map_outputs(&view, &inputs, *stride, |v| saturate(v, LATENT_MAX))
        }),
        _ => None,
    };
    latents.unwrap_or_else(|| Map::zeros(0, 0, 0))
}
