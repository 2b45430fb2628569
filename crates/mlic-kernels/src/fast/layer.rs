//! Linear layers: one row at a time, all inputs of a row gathered, then one matrix product per term.

use mlic_core::checkerboard::Parity;
use mlic_core::fixed::{LATENT_MAX, round_shift, saturate};
use mlic_model::layout::{Epilogue, Kernel};
use mlic_model::model::LayerView;
use mlic_model::parameters::Functions;
use rayon::prelude::*;

use super::dot;
use crate::cpu::Isa;
use crate::function::{gelu, half_tanh, preactivation};
use crate::map::Map;

/// Which positions of the output are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// All: the output has the size of the inputs.
    All,
    /// One checkerboard half: the output is packed.
    Half(Parity),
}

impl Positions {
    fn columns(self, row: usize, width: usize) -> impl Iterator<Item = usize> + Clone {
        let (first, step) = match self {
            Self::All => (0, 1),
            Self::Half(parity) => (parity.first_col(row), 2),
        };
        (first..width).step_by(step)
    }

    const fn width(self, width: usize) -> usize {
        match self {
            Self::All => width,
            Self::Half(_) => width / 2,
        }
    }
}

/// Working memory of one thread, kept from row to row.
#[derive(Default)]
struct Scratch {
    patches: Vec<i16>,
    sums: Vec<i64>,
}

/// Gathers the neighbourhoods of a row: `[position][row][col][channel]`, zeros outside the map.
fn gather(patches: &mut Vec<i16>, input: &Map<i16>, size: usize, channels: std::ops::Range<usize>, row: usize, at: Positions) {
    let half = size / 2;
    patches.clear();
    for col in at.columns(row, input.width) {
        for i in 0..size {
            let Some(source_row) = (row + i).checked_sub(half).filter(|r| *r < input.height) else {
                patches.resize(patches.len() + size * channels.len(), 0);
                continue;
            };
            for j in 0..size {
                match (col + j).checked_sub(half).filter(|c| *c < input.width) {
                    Some(source_col) => patches.extend_from_slice(&input.at(source_row, source_col)[channels.clone()]),
                    None => patches.resize(patches.len() + channels.len(), 0),
                }
            }
        }
    }
}

/// Adds a depthwise term from gathered neighbourhoods.
fn depthwise(sums: &mut [i64], patches: &[i16], weights: &[i8], multipliers: &[i32], taps: usize) {
    let channels = multipliers.len();
    for (patch, sums) in patches.chunks_exact(taps * channels).zip(sums.chunks_exact_mut(channels)) {
        for (c, (sum, m)) in sums.iter_mut().zip(multipliers).enumerate() {
            let products = (0..taps).map(|t| i32::from(patch[t * channels + c]) * i32::from(weights[c * taps + t]));
            *sum += i64::from(products.sum::<i32>()) * i64::from(*m);
        }
    }
}

/// The weighted sums of one row, before the shift.
fn row_sums(scratch: &mut Scratch, isa: Isa, view: &LayerView<'_>, inputs: &[&Map<i16>], row: usize, at: Positions) {
    let size = view.spec.kernel.size();
    let Scratch { patches, sums } = scratch;
    sums.clear();
    let count = at.width(inputs.first().map_or(0, |m| m.width));
    (0..count).for_each(|_| sums.extend_from_slice(&view.level.bias));
    for (term, input) in inputs.iter().enumerate() {
        let (spec, weights, multipliers) = (view.spec.terms[term], view.weights[term], &view.level.multipliers[term]);
        let channels = spec.first_channel..spec.first_channel + spec.channels;
        if spec.identity {
            gather(patches, input, 1, channels, row, at);
            for (sums, a) in sums.chunks_exact_mut(multipliers.len()).zip(patches.chunks_exact(multipliers.len())) {
                sums.iter_mut().zip(a).zip(multipliers).for_each(|((s, a), m)| *s += i64::from(*a) * i64::from(*m));
            }
            continue;
        }
        gather(patches, input, size, channels, row, at);
        match view.spec.kernel {
            Kernel::Dense { .. } => dot::multiply(isa, sums, patches, weights, multipliers, view.spec.weights_per_output(term)),
            Kernel::Depthwise { .. } => depthwise(sums, patches, weights, multipliers, size * size),
        }
    }
}

fn map_outputs<T: Copy + Default + Send>(
    isa: Isa,
    view: &LayerView<'_>,
    inputs: &[&Map<i16>],
    at: Positions,
    epilogue: impl Fn(i64) -> T + Sync,
) -> Map<T> {
    let (height, width) = inputs.first().map_or((0, 0), |m| (m.height, m.width));
    let mut out = Map::zeros(height, at.width(width), view.spec.outputs);
    let row_len = (out.width * out.channels).max(1);
    out.data.par_chunks_mut(row_len).enumerate().for_each_init(Scratch::default, |scratch, (row, out)| {
        row_sums(scratch, isa, view, inputs, row, at);
        out.iter_mut().zip(&scratch.sums).for_each(|(out, sum)| *out = epilogue(round_shift(*sum, view.level.shift)));
    });
    out
}

/// [`crate::reference::layer`] at the wanted positions.
#[must_use]
pub fn layer(isa: Isa, view: &LayerView<'_>, functions: &Functions, inputs: &[&Map<i16>], at: Positions) -> Map<i16> {
    let (max, output) = (view.max, view.level.output);
    if view.spec.epilogue == Epilogue::Gelu {
        return map_outputs(isa, view, inputs, at, |v| {
            saturate(output.apply(i64::from(gelu(functions, preactivation(v)))), max) as i16
        });
    }
    map_outputs(isa, view, inputs, at, |v| saturate(v, max) as i16)
}

/// [`crate::reference::latent_layer`].
#[must_use]
pub fn latent_layer(isa: Isa, view: &LayerView<'_>, inputs: &[&Map<i16>]) -> Map<i32> {
    map_outputs(isa, view, inputs, Positions::All, |v| saturate(v, LATENT_MAX))
}

/// [`crate::reference::residual_layer`] at the wanted positions.
#[must_use]
pub fn residual_layer(isa: Isa, view: &LayerView<'_>, functions: &Functions, inputs: &[&Map<i16>], at: Positions) -> Map<i32> {
    map_outputs(isa, view, inputs, at, |v| half_tanh(functions, preactivation(v)))
}
