//! Linear layers: weighted sums over one or more inputs, requantization, activation (SPEC 4.2).

use bytemuck::Zeroable;
use mlic_core::fixed::{LATENT_MAX, round_shift, saturate};
use mlic_core::memory::OutOfMemory;
use mlic_model::layout::{Epilogue, Kernel};
use mlic_model::model::LayerView;
use mlic_model::parameters::Functions;

use crate::function::{gelu, half_tanh, preactivation};
use crate::map::Map;

/// The accumulator of one term for one output channel at one position.
fn accumulate(view: &LayerView<'_>, term: usize, input: &Map<i16>, output: usize, row: usize, col: usize) -> i32 {
    let (spec, weights) = (view.spec.terms[term], view.weights[term]);
    if spec.identity {
        return i32::from(input.at(row, col)[spec.first_channel + output]);
    }
    let size = view.spec.kernel.size();
    let per_output = view.spec.weights_per_output(term);
    let (per_tap, mut sum) = (per_output / (size * size), 0);
    for i in 0..size {
        for j in 0..size {
            let tap = output * per_output + (i * size + j) * per_tap;
            let at = |p: usize, offset: usize| p as isize + offset as isize - (size / 2) as isize;
            let Some(a) = input.get(at(row, i), at(col, j)) else { continue }; // zero padding
            let first = spec.first_channel + if matches!(view.spec.kernel, Kernel::Depthwise { .. }) { output } else { 0 };
            sum += a[first..first + per_tap].iter().zip(tap..).map(|(a, w)| weights.at(w) * i32::from(*a)).sum::<i32>();
        }
    }
    sum
}

/// The weighted sum of all terms, rounded: the argument of the epilogue.
fn weighted_sum(view: &LayerView<'_>, inputs: &[&Map<i16>], output: usize, row: usize, col: usize) -> i64 {
    let terms = inputs.iter().enumerate().map(|(term, input)| {
        i64::from(accumulate(view, term, input, output, row, col)) * i64::from(view.level.multipliers[term][output])
    });
    round_shift(terms.sum::<i64>() + view.level.bias[output], view.level.shift)
}

/// The outputs of a layer at every `stride`-th row and column.
pub(super) fn map_outputs<T: Copy + Zeroable>(
    view: &LayerView<'_>,
    inputs: &[&Map<i16>],
    stride: usize,
    epilogue: impl Fn(i64) -> T,
) -> Result<Map<T>, OutOfMemory> {
    let (height, width) = inputs.first().map_or((0, 0), |m| (m.height / stride, m.width / stride));
    let mut out = Map::zeros(height, width, view.spec.outputs)?;
    for row in 0..height {
        for col in 0..width {
            for output in 0..view.spec.outputs {
                out.at_mut(row, col)[output] = epilogue(weighted_sum(view, inputs, output, stride * row, stride * col));
            }
        }
    }
    Ok(out)
}

/// Computes a layer whose outputs are activations (linear, or with GELU) or samples.
///
/// # Errors
/// [`OutOfMemory`].
pub fn layer(view: &LayerView<'_>, functions: &Functions, inputs: &[&Map<i16>]) -> Result<Map<i16>, OutOfMemory> {
    activations(view, functions, inputs, 1)
}

/// [`layer`] at every `stride`-th row and column.
pub(super) fn activations(
    view: &LayerView<'_>,
    functions: &Functions,
    inputs: &[&Map<i16>],
    stride: usize,
) -> Result<Map<i16>, OutOfMemory> {
    let gelu_output = view.level.output;
    match view.spec.epilogue {
        Epilogue::Gelu => map_outputs(view, inputs, stride, |v| {
            saturate(gelu_output.apply(i64::from(gelu(functions, preactivation(v)))), view.max) as i16
        }),
        Epilogue::Pixel => map_outputs(view, inputs, stride, |v| saturate(v.max(0), view.max) as i16),
        _ => map_outputs(view, inputs, stride, |v| saturate(v, view.max) as i16),
    }
}

/// Computes a layer whose outputs are in latent fixed point: (scale, mean).
///
/// # Errors
/// [`OutOfMemory`].
pub fn latent_layer(view: &LayerView<'_>, inputs: &[&Map<i16>]) -> Result<Map<i32>, OutOfMemory> {
    map_outputs(view, inputs, 1, |v| saturate(v, LATENT_MAX))
}

/// Computes the last layer of latent residual prediction: `0.5 tanh` in latent fixed point.
///
/// # Errors
/// [`OutOfMemory`].
pub fn residual_layer(view: &LayerView<'_>, functions: &Functions, inputs: &[&Map<i16>]) -> Result<Map<i32>, OutOfMemory> {
    map_outputs(view, inputs, 1, |v| half_tanh(functions, preactivation(v)))
}
