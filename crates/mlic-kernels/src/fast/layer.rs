//! Linear layers: bands of rows in parallel; in a band, tiles of positions and outputs that stay in registers from the first product to
//! the stored result.

use std::ops::Range;

use mlic_core::checkerboard::Parity;
use mlic_model::layout::Epilogue as Kind;
use mlic_model::model::LayerView;
use rayon::prelude::*;

use super::epilogue::{Epilogue, Gelu, HalfTanh, Latent, Linear, put};
use super::pack::Layer;
use super::stage::{Buffer, Staged, stage};
use super::tables::{Requantizer, Tables, half};
use super::tile::accumulate;
use crate::arch::{Job, Simd, run};
use crate::map::Map;

/// Positions of a band, at most about: what is staged and summed stays in the nearer caches.
const BAND_POSITIONS: usize = 192;
/// Bands of each thread, at least, where there are enough rows.
const BANDS_PER_THREAD: usize = 4;

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

/// Working memory of one thread, kept from band to band.
#[derive(Default)]
struct Scratch {
    inputs: Vec<Buffer>,
    places: Vec<[usize; 2]>,
    bias: Vec<i64>,
    multipliers: Vec<i32>,
}

/// A band of rows of a layer.
struct Band<'a, E: Epilogue> {
    layer: &'a Layer,
    view: &'a LayerView<'a>,
    inputs: &'a [&'a Map<i16>],
    at: Positions,
    rows: Range<usize>,
    epilogue: E,
    scratch: &'a mut Scratch,
    /// `[position][output]`.
    out: &'a mut [E::Out],
}

/// Bias and multipliers of the outputs of a block, zeros where there are none: the bias in the order even lanes, odd lanes of each vector,
/// with what rounding adds; multipliers `[term][output]`.
fn block_parameters(scratch: &mut Scratch, view: &LayerView<'_>, outputs: Range<usize>, lanes: usize) {
    let level = view.level;
    let or_zero = |values: &[i32], o: usize| values.get(o).copied().unwrap_or(0);
    scratch.multipliers.clear();
    for multipliers in &level.multipliers {
        scratch.multipliers.extend(outputs.clone().map(|o| or_zero(multipliers, o)));
    }
    scratch.bias.clear();
    for first in outputs.step_by(lanes) {
        let order = (first..first + lanes).step_by(2).chain((first + 1..first + lanes).step_by(2));
        scratch.bias.extend(order.map(|o| level.bias.get(o).map_or(0, |b| b + half(level.shift))));
    }
}

impl<E: Epilogue> Job for Band<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { layer, view, inputs, at, rows, epilogue, scratch, out } = self;
        let mut buffers = std::mem::take(&mut scratch.inputs);
        buffers.resize_with(inputs.len(), Buffer::default);
        let staged = inputs.iter().zip(&layer.terms).zip(&mut buffers);
        let staged: Vec<Staged<'_>> =
            staged.map(|((input, term), buffer)| stage(buffer, input, term, layer.size, rows.clone())).collect();
        let (width, shift) = (inputs.first().map_or(0, |m| m.width), view.level.shift);
        scratch.places.clear();
        scratch.places.extend(rows.enumerate().flat_map(|(i, row)| at.columns(row, width).map(move |col| [i, col])));
        for block in 0..layer.outputs.div_ceil(layer.block) {
            let outputs = block * layer.block..(block + 1) * layer.block;
            block_parameters(scratch, view, outputs.clone(), S::LANES);
            for (places, out) in scratch.places.chunks(P).zip(out.chunks_mut(P * layer.outputs)) {
                let mut sums = [[[s.splat_wide(0); 2]; V]; P];
                for v in 0..V {
                    let bias = &scratch.bias[v * S::LANES..][..S::LANES];
                    let bias = [s.load_wide(bias), s.load_wide(&bias[S::LANES / 2..])];
                    for p in 0..P {
                        sums[p][v] = bias;
                    }
                }
                for ((term, staged), multipliers) in
                    layer.terms.iter().zip(&staged).zip(scratch.multipliers.chunks_exact(V * S::LANES))
                {
                    let mut starts = [0; P];
                    for p in 0..P {
                        let [row, col] = places[p.min(places.len() - 1)];
                        starts[p] = row * staged.row_len + col * staged.position_len;
                    }
                    let tile = accumulate::<S, P, V>(s, term, layer.size, *staged, &starts, block);
                    for v in 0..V {
                        let m = s.load(&multipliers[v * S::LANES..]);
                        let m = [s.even(m), s.odd(m)];
                        for p in 0..P {
                            let acc = [s.even(tile[p][v]), s.odd(tile[p][v])];
                            for i in 0..2 {
                                sums[p][v][i] = s.add_wide(sums[p][v][i], s.mul_wide(acc[i], m[i]));
                            }
                        }
                    }
                }
                for (p, out) in out.chunks_exact_mut(layer.outputs).enumerate() {
                    let out = &mut out[outputs.start..];
                    for v in 0..V {
                        let [even, odd] = sums[p][v];
                        let (even, odd) = (s.shift_right_wide(even, shift), s.shift_right_wide(odd, shift));
                        put::<S, E>(s, epilogue.apply(s, even, odd), out, v * S::LANES);
                    }
                }
            }
        }
        scratch.inputs = buffers;
    }
}

fn map_outputs<E: Epilogue>(
    layer: &Layer,
    view: &LayerView<'_>,
    inputs: &[&Map<i16>],
    at: Positions,
    epilogue: E,
) -> Map<E::Out> {
    let (height, width) = inputs.first().map_or((0, 0), |m| (m.height, m.width));
    let mut out = Map::zeros(height, at.width(width), layer.outputs);
    let fair_len = height.div_ceil(BANDS_PER_THREAD * rayon::current_num_threads());
    let rows_len = BAND_POSITIONS.div_ceil(out.width.max(1)).min(fair_len).max(1);
    let len = (rows_len * out.width * out.channels).max(1);
    out.data.par_chunks_mut(len).enumerate().for_each_init(Scratch::default, |scratch, (i, out)| {
        let rows = i * rows_len..((i + 1) * rows_len).min(height);
        run(layer.isa, Band { layer, view, inputs, at, rows, epilogue, scratch, out });
    });
    out
}

/// [`crate::reference::layer`] at the wanted positions. `view` is of the layer that was packed.
#[must_use]
pub fn layer(layer: &Layer, view: &LayerView<'_>, tables: &Tables, inputs: &[&Map<i16>], at: Positions) -> Map<i16> {
    if view.spec.epilogue == Kind::Gelu {
        let output = Requantizer::new(view.level.output, view.max);
        return map_outputs(layer, view, inputs, at, Gelu { tables, output });
    }
    map_outputs(layer, view, inputs, at, Linear { max: view.max })
}

/// [`crate::reference::latent_layer`].
#[must_use]
pub fn latent_layer(layer: &Layer, view: &LayerView<'_>, inputs: &[&Map<i16>]) -> Map<i32> {
    map_outputs(layer, view, inputs, Positions::All, Latent)
}

/// [`crate::reference::residual_layer`] at the wanted positions.
#[must_use]
pub fn residual_layer(layer: &Layer, view: &LayerView<'_>, tables: &Tables, inputs: &[&Map<i16>], at: Positions) -> Map<i32> {
    map_outputs(layer, view, inputs, at, HalfTanh { tables })
}
