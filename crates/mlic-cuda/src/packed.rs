//! A model's parameters in device memory, in the order in which the kernels read them: made once when a model comes to a device.

use cudarc::driver::result::DriverError;
use mlic_model::Model;
use mlic_model::layout::{Epilogue, Kernel, LayerId};
use mlic_model::model::{LayerView, Weights};
use mlic_model::parameters::Functions;
use mlic_model::proof::source_max;

use crate::args::{LayerArgs, MAX_TERMS, RequantArg, Term};
use crate::device::{Device, Memory};
use crate::exact::PackedSynthesis;
use crate::layer::{Plan, narrow};

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

/// Addresses of the function tables.
#[derive(Clone, Copy)]
pub(crate) struct FunctionTables {
    gelu: u64,
    half_tanh: u64,
    pub(crate) exp: [u64; 2],
}

/// A layer that is being put together. Addresses are offsets in the first blob until [`Packer::finish`].
pub(crate) struct Draft {
    plan: Plan,
    terms: Vec<Term>,
}

/// Puts parameters together.
#[derive(Default)]
pub(crate) struct Packer {
    data: Blob,
    drafts: Vec<Draft>,
}

/// What an epilogue is to the kernels, and the table that it reads.
const fn epilogue(epilogue: Epilogue, tables: FunctionTables) -> (i32, u64) {
    match epilogue {
        Epilogue::Linear => (0, 0),
        Epilogue::Gelu => (1, tables.gelu),
        Epilogue::Latent => (2, 0),
        Epilogue::HalfTanh => (3, tables.half_tanh),
        Epilogue::Pixel => (4, 0),
    }
}
/// What a normalization makes of the root of its norm; its value is an epilogue of `layer.h`.
#[derive(Clone, Copy)]
pub(crate) enum Quotient {
    /// The activation times the root (SPEC 4.11).
    Root = 5,
    /// The activation divided by it (SPEC 4.12).
    Reciprocal = 6,
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

impl Packer {
    /// Appends values; their offset.
    pub(crate) fn push<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> u64 {
        self.data.push(values)
    }

    /// Appends the tables.
    pub(crate) fn functions(&mut self, functions: &Functions) -> FunctionTables {
        FunctionTables {
            gelu: self.push(&functions.gelu),
            half_tanh: self.push(&functions.half_tanh),
            exp: [self.push(&functions.exp_coarse), self.push(&functions.exp_fine)],
        }
    }

    /// Appends a layer: one draft for each of `views`, which are its levels. `maxima` are the largest magnitudes of its inputs.
    /// `shuffle` says that its outputs are in the order of [`shuffled`] and go to four positions.
    pub(crate) fn layer(&mut self, views: &[LayerView<'_>], maxima: &[i32], tables: FunctionTables, shuffle: bool) {
        let Some(LayerView { spec, weights, .. }) = views.first() else { return };
        let taps = spec.kernel.size() * spec.kernel.size();
        let (warps_n, columns) = match spec.kernel {
            Kernel::Depthwise { .. } => (None, spec.outputs),
            Kernel::Dense { .. } => {
                let warps_n = warps_along(spec.outputs);
                (Some(warps_n), spec.outputs.next_multiple_of(warps_n * BLOCK))
            }
        };
        // Weights do not depend on the level.
        let weights: Vec<(u64, i32)> = weights
            .iter()
            .zip(&spec.terms)
            .map(|(own, term)| {
                let packed = if warps_n.is_some() {
                    dense(*own, taps, term.channels, spec.outputs, columns)
                } else {
                    depthwise(*own, taps, spec.outputs)
                };
                (self.push(&packed), if matches!(own, Weights::Words(_)) { 2 } else { 1 })
            })
            .collect();
        for view in views {
            let terms: Vec<Term> = spec
                .terms
                .iter()
                .zip(&weights)
                .zip(&view.level.multipliers)
                .zip(maxima)
                .map(|(((term, (weights, planes)), multipliers), max)| Term {
                    weights: *weights,
                    multipliers: self.data.push(&padded(multipliers, columns)),
                    first: narrow(term.first_channel),
                    channels: narrow(term.channels),
                    chunks: narrow(term.channels.div_ceil(BLOCK)),
                    wide: (*max > BYTE_MAX).into(),
                    identity: term.identity.into(),
                    planes: *planes,
                })
                .collect();
            let (epilogue, table) = epilogue(spec.epilogue, tables);
            let args = LayerArgs {
                terms: 0,
                bias: self.push(&padded(&view.level.bias, columns)),
                table,
                out: 0,
                out2: 0,
                factors: 0,
                multipliers: 0,
                term_count: narrow(terms.len()),
                outputs: narrow(spec.outputs),
                side: narrow(spec.kernel.size()),
                in_height: 0,
                in_width: 0,
                out_width: 0,
                first: 0,
                end: 0,
                half: 0,
                shuffle: shuffle.into(),
                stride: 1,
                shift: view.level.shift as i32,
                max: view.max,
                epilogue,
                output: view.level.output.into(),
                warps_n: narrow(warps_n.unwrap_or(0)),
                columns: narrow(columns),
                reserved: 0,
                strides: [0; MAX_TERMS],
                inputs: [0; MAX_TERMS],
            };
            let is_single = terms.iter().filter(|t| t.identity == 0).count() == 1;
            self.drafts.push(Draft { plan: Plan { args, warps_n, is_single }, terms });
        }
    }

    /// Makes the layer that was appended last end in a product with the root of its sums, or in a division by it.
    pub(crate) fn end_in_root(&mut self, quotient: Quotient, multipliers: &[i32], output: RequantArg) {
        let multipliers = self.push(multipliers);
        if let Some(Draft { plan, .. }) = self.drafts.last_mut() {
            plan.args = LayerArgs { epilogue: quotient as i32, multipliers, output, ..plan.args };
        }
    }

    /// Makes the layer that was appended last read every `stride`-th row and column.
    pub(crate) fn at_every(&mut self, stride: usize) {
        if let Some(Draft { plan, .. }) = self.drafts.last_mut() {
            plan.args.stride = narrow(stride);
        }
    }

    /// Uploads everything: the layers in the order in which they came, the address of offset 0, and what must be kept for them.
    pub(crate) fn finish(self, device: &Device) -> Result<(Vec<Plan>, u64, [Memory; 2]), DriverError> {
        let Self { data, mut drafts } = self;
        let data = device.upload(&data.0)?;
        let mut blob = Blob::default();
        for Draft { plan, terms } in &mut drafts {
            terms.iter_mut().flat_map(|t| [&mut t.weights, &mut t.multipliers]).for_each(|at| *at += data.address);
            plan.args.terms = blob.push(terms);
        }
        let terms = device.upload(&blob.0)?;
        let place = |Draft { plan, .. }: Draft| {
            let args = LayerArgs {
                terms: plan.args.terms + terms.address,
                bias: plan.args.bias + data.address,
                table: plan.args.table + data.address,
                multipliers: plan.args.multipliers + data.address,
                ..plan.args
            };
            Plan { args, ..plan }
        };
        let plans = drafts.into_iter().map(place).collect();
        Ok((plans, data.address, [data, terms]))
    }
}

/// Bytes of a weight, as planes: the high bytes of words before their low ones, which count as unsigned.
fn planes(weights: Weights<'_>) -> Vec<Vec<i8>> {
    match weights {
        Weights::Bytes(bytes) => vec![bytes.to_vec()],
        Weights::Words(words) => [8, 0].iter().map(|shift| words.iter().map(|w| (w >> shift) as i8).collect()).collect(),
    }
}

/// `[output][tap]` to `[tap][output]`.
fn depthwise(weights: Weights<'_>, taps: usize, outputs: usize) -> Vec<i8> {
    (0..taps * outputs).map(|i| weights.at(i % outputs * taps + i / outputs) as i8).collect()
}

/// `[output][tap][channel]` to `[plane][tap][chunk][32 outputs][pair of tiles][lane][tile of the pair][8 channels]`, the order of `dense.h`:
/// lane `4 g + q` has, of tile t, output `8 (g / 2) + 2 t + g % 2` of the 32, and channels 8 q to 8 q + 7 of the chunk.
fn dense(weights: Weights<'_>, taps: usize, channels: usize, outputs: usize, columns: usize) -> Vec<i8> {
    if weights.is_empty() {
        return Vec::new();
    }
    planes(weights).iter().flat_map(|plane| dense_plane(plane, taps, channels, outputs, columns)).collect()
}

fn dense_plane(weights: &[i8], taps: usize, channels: usize, outputs: usize, columns: usize) -> Vec<i8> {
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

/// A model on a device.
pub(crate) struct PackedModel {
    /// By layer and level.
    plans: Vec<Plan>,
    levels: usize,
    pub(crate) exp: [u64; 2],
    pub(crate) thresholds: u64,
    /// Position biases of each window attention.
    pub(crate) position_biases: Vec<u64>,
    /// None for a model without.
    pub(crate) synthesis: Option<PackedSynthesis>,
    // What the addresses point into.
    _parts: [Memory; 2],
}

impl PackedModel {
    pub(crate) fn new(device: &Device, model: &Model) -> Result<Self, DriverError> {
        let (parameters, layout, levels) = (model.parameters(), model.layout(), model.config().scale_levels);
        let mut packer = Packer::default();
        let tables = packer.functions(&parameters.functions);
        let thresholds = packer.push(&parameters.thresholds);
        let biases: Vec<u64> = parameters.local_attentions.iter().map(|a| packer.push(&a.bias)).collect();
        for id in (0..layout.layers.len()).map(LayerId) {
            let views: Vec<LayerView<'_>> = (0..levels).filter_map(|level| model.layer(id, level)).collect();
            let terms = views.first().map_or(&[][..], |view| &view.spec.terms);
            let maxima: Vec<i32> = terms.iter().map(|t| source_max(parameters, layout, t.source)).collect();
            packer.layer(&views, &maxima, tables, false);
        }
        let (plans, base, parts) = packer.finish(device)?;
        let synthesis =
            model.exact_synthesis().map(|own| PackedSynthesis::new(device, &parameters.functions, own)).transpose()?;
        Ok(Self {
            plans,
            levels,
            exp: tables.exp.map(|at| at + base),
            thresholds: thresholds + base,
            position_biases: biases.into_iter().map(|at| at + base).collect(),
            synthesis,
            _parts: parts,
        })
    }

    /// A layer at a level.
    pub(crate) fn plan(&self, id: LayerId, level: usize) -> Option<&Plan> {
        if level < self.levels { self.plans.get(id.0 * self.levels + level) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_few_idle_warps() {
        let along = |outputs: usize| (warps_along(outputs), outputs.next_multiple_of(warps_along(outputs) * BLOCK));
        assert_eq!(
            [1, 32, 33, 64, 96, 128, 160, 192].map(along),
            [(1, 32), (1, 32), (2, 64), (2, 64), (3, 96), (2, 128), (3, 192), (3, 192)]
        );
    }

    #[test]
    fn every_weight_is_packed_once() {
        let (taps, channels, outputs, columns) = (9, 40, 5, 32);
        let weights = vec![1_i8; taps * channels * outputs];
        let packed = dense(Weights::Bytes(&weights), taps, channels, outputs, columns);
        assert_eq!(packed.len(), taps * 64 * columns);
        assert_eq!(packed.iter().map(|w| i32::from(*w)).sum::<i32>(), (taps * channels * outputs) as i32);
        let mut one = vec![0_i8; taps * channels * outputs];
        one[(3 * taps + 2) * channels + 37] = 7; // output 3, tap 2, channel 37
        let packed = dense(Weights::Bytes(&one), taps, channels, outputs, columns);
        // Chunk 1, channel 5 of it: quad 0. Output 3: group 1, tile 1: pair 0, second of it.
        let at = (2 * 2 + 1) * 1024 + 4 * 16 + 8 + 5;
        assert_eq!(packed.iter().position(|w| *w == 7), Some(at));
    }

    #[test]
    fn words_are_a_signed_and_an_unsigned_byte() {
        let words = [0x1234, -1, -0x1234, 32_767, -32_767, 0x80];
        let [high, low] = planes(Weights::Words(&words)).try_into().unwrap();
        let back: Vec<i32> = high.iter().zip(&low).map(|(h, l)| i32::from(*h) * 256 + i32::from(*l as u8)).collect();
        assert_eq!(back, words.map(i32::from));
    }
}
