//! A model's parameters in device memory, in the order in which the kernels read them: made once when a model comes to a device.

use cudarc::driver::result::DriverError;
use mlic_model::Model;
use mlic_model::layout::{Kernel, LayerId, LayerSpec};
use mlic_model::model::LayerView;
use mlic_model::proof::source_max;

use crate::args::Term;
use crate::device::{Device, Memory};

/// Channels of a step of the k axis, and outputs of a warp.
const BLOCK: usize = 32;
/// Activations up to this are one byte.
const BYTE_MAX: i32 = 127;

/// Bytes that are put together here and uploaded as one. Every part is aligned to 16 bytes.
#[derive(Default)]
struct Blob(Vec<u8>);

impl Blob {
    /// Appends values; their offset.
    fn push<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        let at = self.0.len() as u64;
        self.0.extend_from_slice(bytemuck::cast_slice(values));
        at
    }
}

/// A layer at one level of activation scales.
#[derive(Clone, Copy)]
pub(crate) struct PackedLevel {
    pub(crate) terms: u64,
    pub(crate) bias: u64,
}

/// How a layer runs.
pub(crate) struct PackedLayer {
    /// Outputs, padded to whole blocks.
    pub(crate) columns: usize,
    /// Warps of a block along the outputs; none for a depthwise layer.
    pub(crate) warps_n: Option<usize>,
    /// By level.
    pub(crate) levels: Vec<PackedLevel>,
}

/// Addresses of the function tables.
pub(crate) struct Tables {
    pub(crate) gelu: u64,
    pub(crate) half_tanh: u64,
    pub(crate) exp: [u64; 2],
    pub(crate) thresholds: u64,
    /// Position biases of each window attention.
    pub(crate) position_biases: Vec<u64>,
}

/// A model on a device.
pub(crate) struct PackedModel {
    pub(crate) layers: Vec<PackedLayer>,
    pub(crate) tables: Tables,
    // What the addresses point into.
    _parts: [Memory; 2],
}

impl PackedModel {
    pub(crate) fn new(device: &Device, model: &Model) -> Result<Self, DriverError> {
        let mut blob = Blob::default();
        let mut layers: Vec<PackedLayer> = Vec::new();
        let mut terms: Vec<Vec<Vec<Term>>> = Vec::new();
        for id in (0..model.layout().layers.len()).map(LayerId) {
            let (layer, of_levels) = layer(&mut blob, model, id);
            layers.push(layer);
            terms.push(of_levels);
        }
        let mut tables = tables(&mut blob, model);
        let data = device.upload(&blob.0)?;
        tables.shift(data.address);
        let mut blob = Blob::default();
        for (layer, of_levels) in layers.iter_mut().zip(&mut terms) {
            for (level, terms) in layer.levels.iter_mut().zip(of_levels) {
                level.bias += data.address;
                terms.iter_mut().for_each(|t| (t.weights, t.multipliers) = (t.weights + data.address, t.multipliers + data.address));
                level.terms = blob.push(terms);
            }
        }
        let terms = device.upload(&blob.0)?;
        layers.iter_mut().flat_map(|l| &mut l.levels).for_each(|level| level.terms += terms.address);
        Ok(Self { layers, tables, _parts: [data, terms] })
    }
}

impl Tables {
    fn shift(&mut self, by: u64) {
        let Self { gelu, half_tanh, exp: [coarse, fine], thresholds, position_biases } = self;
        for address in [gelu, half_tanh, coarse, fine, thresholds].into_iter().chain(position_biases) {
            *address += by;
        }
    }
}

fn tables(blob: &mut Blob, model: &Model) -> Tables {
    let (parameters, functions) = (model.parameters(), &model.parameters().functions);
    Tables {
        gelu: blob.push(&functions.gelu),
        half_tanh: blob.push(&functions.half_tanh),
        exp: [blob.push(&functions.exp_coarse), blob.push(&functions.exp_fine)],
        thresholds: blob.push(&parameters.thresholds),
        position_biases: parameters.local_attentions.iter().map(|a| blob.push(&a.bias)).collect(),
    }
}

/// Warps side by side: as many as divide the columns, at most three.
const fn warps_along(outputs: usize) -> usize {
    match outputs.div_ceil(BLOCK) {
        1 => 1,
        n if n % 3 == 0 || n % 2 == 1 => 3,
        _ => 2,
    }
}

/// Values and zeros up to `len`.
fn padded<T: Copy + Default>(values: &[T], len: usize) -> Vec<T> {
    values.iter().copied().chain(std::iter::repeat(T::default())).take(len).collect()
}

/// A layer, and its terms at each level. Offsets, not addresses yet.
fn layer(blob: &mut Blob, model: &Model, id: LayerId) -> (PackedLayer, Vec<Vec<Term>>) {
    let views: Vec<LayerView<'_>> = (0..model.config().scale_levels).filter_map(|level| model.layer(id, level)).collect();
    let Some(spec) = model.layout().layers.get(id.0) else { return (PackedLayer { columns: 0, warps_n: None, levels: vec![] }, vec![]) };
    let (warps_n, columns) = match spec.kernel {
        Kernel::Depthwise { .. } => (None, spec.outputs),
        Kernel::Dense { .. } => {
            let warps_n = warps_along(spec.outputs);
            (Some(warps_n), spec.outputs.next_multiple_of(warps_n * BLOCK))
        }
    };
    // Weights do not depend on the level.
    let pack = |(term, weights): (usize, &&[i8])| match spec.kernel {
        Kernel::Depthwise { .. } => depthwise(spec, weights),
        Kernel::Dense { size } => dense(weights, size * size, spec.terms.get(term).map_or(0, |t| t.channels), spec.outputs, columns),
    };
    let all = views.first().map_or(&[][..], |view| &view.weights);
    let weights: Vec<u64> = all.iter().enumerate().map(|(i, w)| if w.is_empty() { 0 } else { blob.push(&pack((i, w))) }).collect();
    let mut levels = Vec::with_capacity(views.len());
    let mut terms = Vec::with_capacity(views.len());
    for view in &views {
        let of_level = spec.terms.iter().zip(&weights).zip(&view.level.multipliers).map(|((t, weights), multipliers)| Term {
            weights: *weights,
            multipliers: blob.push(&padded(multipliers, columns)),
            first: t.first_channel as i32,
            channels: t.channels as i32,
            chunks: t.channels.div_ceil(BLOCK) as i32,
            wide: (source_max(model.parameters(), model.layout(), t.source) > BYTE_MAX).into(),
            identity: t.identity.into(),
            reserved: 0,
        });
        terms.push(of_level.collect());
        levels.push(PackedLevel { terms: 0, bias: blob.push(&padded(&view.level.bias, columns)) });
    }
    (PackedLayer { columns, warps_n, levels }, terms)
}

/// `[output][tap]` to `[tap][output]`.
fn depthwise(spec: &LayerSpec, weights: &[i8]) -> Vec<i8> {
    let taps = spec.kernel.size() * spec.kernel.size();
    let at = |i: usize| weights.get(i % spec.outputs * taps + i / spec.outputs).copied().unwrap_or_default();
    (0..taps * spec.outputs).map(at).collect()
}

/// `[output][tap][channel]` to `[tap][chunk][32 outputs][pair of tiles][lane][tile of the pair][8 channels]`, the order of `dense.h`:
/// lane `4 g + q` has, of tile t, output `8 (g / 2) + 2 t + g % 2` of the 32, and channels 8 q to 8 q + 7 of the chunk.
pub(crate) fn dense(weights: &[i8], taps: usize, channels: usize, outputs: usize, columns: usize) -> Vec<i8> {
    let mut packed = Vec::with_capacity(taps * channels.next_multiple_of(BLOCK) * columns);
    for tap in 0..taps {
        for (chunk, block) in (0..channels.div_ceil(BLOCK)).flat_map(|c| (0..columns / BLOCK).map(move |b| (c, b))) {
            for (pair, lane, of_pair) in (0..2).flat_map(|p| (0..32).flat_map(move |l| (0..2).map(move |t| (p, l, t)))) {
                let (group, quad, tile) = (lane / 4, lane % 4, 2 * pair + of_pair);
                let output = block * BLOCK + group / 2 * 8 + 2 * tile + group % 2;
                let first = chunk * BLOCK + 8 * quad;
                let row = (output * taps + tap) * channels;
                let is_there = |channel: usize| output < outputs && channel < channels;
                let at = |channel| if is_there(channel) { weights.get(row + channel).copied() } else { None };
                packed.extend((first..first + 8).map(|channel| at(channel).unwrap_or_default()));
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_few_idle_warps() {
        let along = |outputs: usize| (warps_along(outputs), outputs.next_multiple_of(warps_along(outputs) * BLOCK));
        assert_eq!([1, 32, 33, 64, 96, 128, 160, 192].map(along), [
            (1, 32), (1, 32), (2, 64), (2, 64), (3, 96), (2, 128), (3, 192), (3, 192)
        ]);
    }

    #[test]
    fn every_weight_is_packed_once() {
        // Distinct values cannot be had in a byte: count what is not zero, and find single weights.
        let (taps, channels, outputs, columns) = (9, 40, 5, 32);
        let weights = vec![1_i8; taps * channels * outputs];
        let packed = dense(&weights, taps, channels, outputs, columns);
        assert_eq!(packed.len(), taps * 64 * columns);
        assert_eq!(packed.iter().map(|w| i32::from(*w)).sum::<i32>(), (taps * channels * outputs) as i32);
        let mut one = vec![0_i8; taps * channels * outputs];
        one[(3 * taps + 2) * channels + 37] = 7; // output 3, tap 2, channel 37
        let packed = dense(&one, taps, channels, outputs, columns);
        // Chunk 1, channel 5 of it: quad 0. Output 3: group 1, tile 1: pair 0, second of it.
        let at = (2 * 2 + 1) * 1024 + 4 * 16 + 8 + 5;
        assert_eq!(packed.iter().position(|w| *w == 7), Some(at));
    }
}
