//! A model's parameters in device memory, in the order in which the kernels read them: made once when a model comes to a device.

use cudarc::driver::result::DriverError;
use mlic_backend::BackendError;
use mlic_backend::integer::no_layer;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::Model;
use mlic_model::layout::{Epilogue, Kernel, LayerId, TermSpec};
use mlic_model::model::{LayerView, Weights};
use mlic_model::parameters::Functions;
use mlic_model::proof::source_max;

use crate::args::{LayerArgs, MAX_TERMS, RequantArg, Step, Term};
use crate::device::{self, Device, Memory};
use crate::exact::PackedSynthesis;
use crate::layer::{Dense, Plan, STAGES, narrow};

/// Channels of a group of the k axis, and outputs of a warp.
pub(crate) const BLOCK: usize = 32;
/// Largest magnitude of activations that fit into a byte.
const BYTE_MAX: i32 = 127;

/// Bytes that are put together on the host and uploaded as one. Every part is aligned to 16 bytes.
#[derive(Default)]
struct Blob(Vec<u8>);

impl Blob {
    /// Appends values and returns their offset.
    fn push<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Result<u64, OutOfMemory> {
        let (at, bytes) = (self.0.len().next_multiple_of(16), bytemuck::cast_slice(values));
        let len = at + bytes.len();
        if self.0.capacity() < len {
            let doubled = len.max(2 * self.0.capacity());
            memory::reserve_all(&mut self.0, doubled)?;
        }
        self.0.resize(at, 0);
        self.0.extend_from_slice(bytes);
        Ok(at as u64)
    }
}

/// Why a model cannot come to a device.
#[derive(Debug)]
pub(crate) enum PackError {
    /// The host is out of memory.
    Host(OutOfMemory),
    /// An error of the driver.
    Device(DriverError),
}

impl From<OutOfMemory> for PackError {
    fn from(error: OutOfMemory) -> Self {
        Self::Host(error)
    }
}

impl From<DriverError> for PackError {
    fn from(error: DriverError) -> Self {
        Self::Device(error)
    }
}

impl PackError {
    /// Turns this into an error of the backend; `of_device` turns those of the driver.
    pub(crate) fn or(self, of_device: impl FnOnce(DriverError) -> BackendError) -> BackendError {
        match self {
            Self::Host(error) => error.into(),
            Self::Device(error) => of_device(error),
        }
    }
}

/// Addresses of the function tables.
#[derive(Clone, Copy)]
pub(crate) struct FunctionTables {
    gelu: u64,
    half_tanh: u64,
    pub(crate) exp: [u64; 2],
}

/// A layer under construction. Addresses are offsets in the first blob until [`Packer::finish`].
pub(crate) struct Draft {
    plan: Plan,
    terms: Vec<Term>,
    steps: Vec<Step>,
}

/// Puts parameters together and uploads them.
#[derive(Default)]
pub(crate) struct Packer {
    data: Blob,
    drafts: Vec<Draft>,
}

/// `Epilogue` of `layer.h`.
const LINEAR: i32 = 0;
const GELU: i32 = 1;
const LATENT: i32 = 2;
const HALF_TANH: i32 = 3;
const SAMPLE: i32 = 4;
/// Of an inverse normalization: the activation times the root of its norm (SPEC 4.11).
const ROOT: i32 = 5;
/// Of a dividing normalization: the activation divided by the root (SPEC 4.12).
const RECIPROCAL: i32 = 6;

/// The number of an epilogue in the kernels, and the table that it reads.
const fn epilogue(epilogue: Epilogue, tables: FunctionTables) -> (i32, u64) {
    match epilogue {
        Epilogue::Linear => (LINEAR, 0),
        Epilogue::Gelu => (GELU, tables.gelu),
        Epilogue::Latent => (LATENT, 0),
        Epilogue::HalfTanh => (HALF_TANH, tables.half_tanh),
        Epilogue::Pixel => (SAMPLE, 0),
    }
}

/// The most groups of the k axis in one step: a row of taps, or some chunks of channels. More groups make fewer barriers and take more shared memory.
const fn groups(side: usize, planes: usize) -> usize {
    if side == 1 { 4 / planes } else { side }
}

/// The number of chunks of the term that has most.
fn chunks(terms: &[Option<(usize, bool)>]) -> usize {
    terms.iter().flatten().map(|(channels, _)| channels.div_ceil(BLOCK)).max().unwrap_or(0)
}

/// Lists the steps of terms, in the order of their weights. A term is its channels and whether its activations are beyond a byte; none for an identity.
fn steps(terms: &[Option<(usize, bool)>], side: usize, groups: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for (term, (channels, wide)) in terms.iter().enumerate().filter_map(|(i, term)| term.map(|term| (i, term))) {
        let chunks = channels.div_ceil(BLOCK);
        let wide = if wide { Step::WIDE_TERM } else { 0 };
        let mut add = |chunk: usize, tap: usize, count: usize, flags: i32| {
            let (channel, tap, count) = (narrow(chunk * BLOCK), tap as i16, count as i16);
            steps.push(Step { term: narrow(term), channel, tap, count, flags: flags | wide });
        };
        if side == 1 {
            (0..chunks).step_by(groups).for_each(|chunk| add(chunk, 0, groups.min(chunks - chunk), Step::NEW_PATCH));
        } else {
            let taps = side * side;
            for (chunk, tap) in (0..chunks).flat_map(|c| (0..taps).step_by(groups).map(move |t| (c, t))) {
                add(chunk, tap, groups.min(taps - tap), if tap == 0 { Step::NEW_PATCH } else { 0 });
            }
        }
        if let Some(last) = steps.last_mut() {
            last.flags |= Step::END_OF_TERM;
        }
    }
    steps
}

/// Returns the values, followed by zeros up to `len`.
fn padded<T: Copy + Default>(values: &[T], len: usize) -> Result<Vec<T>, OutOfMemory> {
    memory::collect(len, values.iter().copied().chain(std::iter::repeat(T::default())).take(len))
}

impl Packer {
    /// Appends values and returns their offset.
    pub(crate) fn push<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Result<u64, OutOfMemory> {
        self.data.push(values)
    }

    /// Appends the tables.
    pub(crate) fn functions(&mut self, functions: &Functions) -> Result<FunctionTables, OutOfMemory> {
        Ok(FunctionTables {
            gelu: self.push(&functions.gelu)?,
            half_tanh: self.push(&functions.half_tanh)?,
            exp: [self.push(&functions.exp_coarse)?, self.push(&functions.exp_fine)?],
        })
    }

    /// Appends a layer: one draft for each of `views`, which are its levels. `maxima` are the largest magnitudes of its inputs.
    /// `shuffle` says that its outputs are in the order of [`mlic_model::nodes::Layer::by_phase`] and go to four positions.
    pub(crate) fn layer(
        &mut self,
        views: &[LayerView<'_>],
        maxima: &[i32],
        tables: FunctionTables,
        shuffle: bool,
    ) -> Result<(), OutOfMemory> {
        let Some(LayerView { spec, weights, .. }) = views.first() else { return Ok(()) };
        let side = spec.kernel.size();
        let taps = side * side;
        // If one term has weights of 16 bits, all terms of the layer are packed as words.
        let planes = if weights.iter().any(|w| matches!(w, Weights::Words(_))) { 2 } else { 1 };
        let is_dense = matches!(spec.kernel, Kernel::Dense { .. });
        let columns = spec.outputs.next_multiple_of(if is_dense { BLOCK } else { 8 });
        let inputs: Vec<Option<(usize, bool)>> =
            spec.terms.iter().zip(maxima).map(|(t, max)| (!t.identity).then_some((t.channels, *max > BYTE_MAX))).collect();
        // In a layer without neighbours, a group is a chunk.
        let groups = if side == 1 { groups(side, planes).min(chunks(&inputs)) } else { groups(side, planes) };
        let steps = if is_dense && groups > 0 { steps(&inputs, side, groups) } else { Vec::new() };
        // Weights do not depend on the level.
        let of_term = |(own, term): (&Weights<'_>, &TermSpec)| match spec.kernel {
            Kernel::Depthwise { .. } => self.push(&depthwise(*own, taps, spec.outputs, columns)?),
            Kernel::Dense { .. } => self.push(&dense(*own, planes, taps, term.channels, spec.outputs, columns)?),
        };
        let own: Vec<u64> = weights.iter().zip(&spec.terms).map(of_term).collect::<Result<_, _>>()?;
        for view in views {
            let mut terms = Vec::with_capacity(spec.terms.len());
            for ((term, weights), multipliers) in spec.terms.iter().zip(&own).zip(&view.level.multipliers) {
                terms.push(Term {
                    weights: *weights,
                    multipliers: self.push(&padded(multipliers, columns)?)?,
                    first: narrow(term.first_channel),
                    channels: narrow(term.channels),
                    identity: term.identity.into(),
                    reserved: 0,
                });
            }
            let (epilogue, table) = epilogue(spec.epilogue, tables);
            let args = LayerArgs {
                terms: 0,
                bias: self.push(&padded(&view.level.bias, columns)?)?,
                table,
                out: 0,
                out2: 0,
                factors: 0,
                multipliers: 0,
                // If no term has weights, none are copied, but their address is read.
                weights: own.first().copied().unwrap_or(0),
                steps: 0,
                term_count: narrow(terms.len()),
                outputs: narrow(spec.outputs),
                side: narrow(side),
                in_height: 0,
                in_width: 0,
                out_width: 0,
                first: 0,
                end: 0,
                half: 0,
                shuffle: shuffle.into(),
                stride: 0,
                shift: view.level.shift as i32,
                max: view.max,
                epilogue,
                output: view.level.output.into(),
                columns: narrow(columns),
                warps_m: 0,
                warps_n: 0,
                warps_k: 0,
                step_count: narrow(steps.len()),
                groups: if steps.is_empty() { 0 } else { narrow(groups) },
                pitch: 0,
                patch: 0,
                patches: match taps.div_ceil(groups.max(1)) {
                    _ if steps.is_empty() => 0,
                    // Two patches, one read and one written, where reading takes as many steps as copies run ahead.
                    count if side > 1 && count >= STAGES - 1 => 2,
                    _ => narrow(STAGES),
                },
                side_inverse: (1 << 16) / narrow(side) + 1,
                reserved: 0,
                strides: [0; MAX_TERMS],
                inputs: [0; MAX_TERMS],
            };
            let is_single = terms.iter().filter(|t| t.identity == 0).count() == 1;
            let dense = is_dense.then_some(Dense { planes, is_single });
            self.drafts.push(Draft { plan: Plan { args, dense }, terms, steps: steps.clone() });
        }
        Ok(())
    }

    /// Makes the layer appended last end in a product with the root of its sums if `inverse`, else in a division by that root.
    pub(crate) fn end_in_root(&mut self, inverse: bool, multipliers: &[i32], output: RequantArg) -> Result<(), OutOfMemory> {
        let (multipliers, epilogue) = (self.push(multipliers)?, if inverse { ROOT } else { RECIPROCAL });
        if let Some(Draft { plan, .. }) = self.drafts.last_mut() {
            plan.args = LayerArgs { epilogue, multipliers, output, ..plan.args };
        }
        Ok(())
    }

    /// Uploads everything. Returns the layers in the order in which they came, the address of offset 0, and the memory that must be kept for them.
    pub(crate) fn finish(self, device: &Device) -> Result<(Vec<Plan>, u64, [Memory; 2]), PackError> {
        let Self { data, mut drafts } = self;
        let data = device.upload(&data.0)?;
        let mut blob = Blob::default();
        for Draft { plan, terms, steps } in &mut drafts {
            terms.iter_mut().flat_map(|t| [&mut t.weights, &mut t.multipliers]).for_each(|at| *at += data.address);
            plan.args.terms = blob.push(terms)?;
            // Kernels read ahead.
            steps.resize(steps.len() + STAGES + 1, bytemuck::Zeroable::zeroed());
            plan.args.steps = blob.push(steps)?;
        }
        let terms = device.upload(&blob.0)?;
        let place = |Draft { plan, .. }: Draft| {
            let args = LayerArgs {
                terms: plan.args.terms + terms.address,
                weights: plan.args.weights + data.address,
                steps: plan.args.steps + terms.address,
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

/// Splits weights into `count` planes of bytes. Of two planes, the high bytes come before the low ones, which count as unsigned.
fn planes(weights: Weights<'_>, count: usize) -> Result<Vec<Vec<i8>>, OutOfMemory> {
    let plane = |shift: usize| match weights {
        Weights::Bytes(bytes) => memory::collect(bytes.len(), bytes.iter().map(|w| (i16::from(*w) >> shift) as i8)),
        Weights::Words(words) => memory::collect(words.len(), words.iter().map(|w| (w >> shift) as i8)),
    };
    (0..count).rev().map(|i| plane(8 * i)).collect()
}

/// Reorders weights from `[output][tap]` to `[tap][output]`, with outputs padded with zeros.
fn depthwise(weights: Weights<'_>, taps: usize, outputs: usize, columns: usize) -> Result<Vec<i8>, OutOfMemory> {
    let at = |tap: usize, output: usize| if output < outputs { weights.at(output * taps + tap) as i8 } else { 0 };
    memory::collect(taps * columns, (0..taps).flat_map(|tap| (0..columns).map(move |output| at(tap, output))))
}

/// Reorders weights from `[output][tap][channel]` to `[chunk][tap][32 outputs][plane][pair of tiles][lane][tile of the pair][8 channels]`, the order
/// of `dense.h`: lane `4 g + q` has, of tile t, output `8 (g / 2) + 2 t + g % 2` of the 32, and channels 8 q to 8 q + 7 of the chunk.
fn dense(
    weights: Weights<'_>,
    planes_of: usize,
    taps: usize,
    channels: usize,
    outputs: usize,
    columns: usize,
) -> Result<Vec<i8>, OutOfMemory> {
    let mut packed = Vec::new();
    if weights.is_empty() {
        return Ok(packed);
    }
    let planes = planes(weights, planes_of)?;
    memory::reserve(&mut packed, planes_of * taps * channels.next_multiple_of(BLOCK) * columns)?;
    for (chunk, tap) in (0..channels.div_ceil(BLOCK)).flat_map(|c| (0..taps).map(move |t| (c, t))) {
        for (block, plane) in (0..columns / BLOCK).flat_map(|b| planes.iter().map(move |p| (b, p))) {
            for (pair, lane, of_pair) in (0..2).flat_map(|p| (0..32).flat_map(move |l| (0..2).map(move |t| (p, l, t)))) {
                let (group, quad, tile) = (lane / 4, lane % 4, 2 * pair + of_pair);
                let output = block * BLOCK + group / 2 * 8 + 2 * tile + group % 2;
                let first = chunk * BLOCK + 8 * quad;
                let row = (output * taps + tap) * channels;
                let is_there = |channel: usize| output < outputs && channel < channels;
                let at = |channel| if is_there(channel) { plane.get(row + channel).copied() } else { None };
                packed.extend((first..first + 8).map(|channel| at(channel).unwrap_or_default()));
            }
        }
    }
    Ok(packed)
}

/// A model on a device.
pub(crate) struct PackedModel {
    /// Plans by layer, then by level.
    plans: Vec<Plan>,
    levels: usize,
    pub(crate) exp: [u64; 2],
    pub(crate) thresholds: u64,
    /// Position biases of each window attention.
    pub(crate) position_biases: Vec<u64>,
    /// None for a model without an integer synthesis.
    pub(crate) synthesis: Option<PackedSynthesis>,
    // What the addresses point into.
    _parts: [Memory; 2],
}

impl PackedModel {
    pub(crate) fn new(device: &Device, model: &Model) -> Result<Self, BackendError> {
        let no_room = |e: PackError| {
            e.or(|e| BackendError::NotAvailable { backend: "cuda", reason: format!("the model: {}", device::describe(e)) })
        };
        let (parameters, layout, levels) = (model.parameters(), model.layout(), model.config().scale_levels);
        let mut packer = Packer::default();
        let tables = packer.functions(&parameters.functions)?;
        let thresholds = packer.push(&parameters.thresholds)?;
        let biases = parameters.local_attentions.iter().map(|a| packer.push(&a.bias));
        let biases: Vec<u64> = biases.collect::<Result<_, _>>()?;
        for id in (0..layout.layers.len()).map(LayerId) {
            let views = (0..levels).map(|level| model.layer(id, level).ok_or_else(|| no_layer(id)));
            let views: Vec<LayerView<'_>> = views.collect::<Result<_, _>>()?;
            let terms = views.first().map_or(&[][..], |view| &view.spec.terms);
            let maxima: Vec<i32> = terms.iter().map(|t| source_max(parameters, layout, t.source)).collect();
            packer.layer(&views, &maxima, tables, false)?;
        }
        let (plans, base, parts) = packer.finish(device).map_err(no_room)?;
        let synthesis = model
            .exact_synthesis()
            .map(|own| PackedSynthesis::new(device, &parameters.functions, own))
            .transpose()
            .map_err(no_room)?;
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

    /// The plan of a layer at a level.
    pub(crate) fn plan(&self, id: LayerId, level: usize) -> Option<&Plan> {
        if level < self.levels { self.plans.get(id.0 * self.levels + level) } else { None }
    }
}

/// The names of the epilogues in `layer.h`.
#[cfg(test)]
pub(crate) const EPILOGUES: [(&str, i32); 7] = [
    ("LINEAR", LINEAR),
    ("GELU", GELU),
    ("LATENT", LATENT),
    ("HALF_TANH", HALF_TANH),
    ("SAMPLE", SAMPLE),
    ("ROOT", ROOT),
    ("RECIPROCAL", RECIPROCAL),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_walk_all_channels_and_taps() {
        let of = |s: &Step| (s.term, s.channel, s.tap, s.count, s.flags);
        let [new, end, wide] = [Step::NEW_PATCH, Step::END_OF_TERM, Step::WIDE_TERM];
        let terms = [Some((40, true)), None, Some((8, false))];
        let threes: Vec<_> = steps(&terms, 3, 5).iter().map(of).collect();
        let expected = [
            (0, 0, 0, 5, new | wide),
            (0, 0, 5, 4, wide),
            (0, 32, 0, 5, new | wide),
            (0, 32, 5, 4, end | wide),
            (2, 0, 0, 5, new),
            (2, 0, 5, 4, end),
        ];
        assert_eq!(threes, expected);
        let ones: Vec<_> = steps(&[Some((300, false))], 1, 4).iter().map(of).collect();
        assert_eq!(ones, [(0, 0, 0, 4, new), (0, 128, 0, 4, new), (0, 256, 0, 2, new | end)]);
    }

    #[test]
    fn every_weight_is_packed_once() {
        let (taps, channels, outputs, columns) = (9, 40, 5, 32);
        let weights = vec![1_i8; taps * channels * outputs];
        let packed = dense(Weights::Bytes(&weights), 1, taps, channels, outputs, columns).unwrap();
        assert_eq!(packed.len(), taps * 64 * columns);
        assert_eq!(packed.iter().map(|w| i32::from(*w)).sum::<i32>(), (taps * channels * outputs) as i32);
        let mut one = vec![0_i8; taps * channels * outputs];
        one[(3 * taps + 2) * channels + 37] = 7; // output 3, tap 2, channel 37
        let packed = dense(Weights::Bytes(&one), 1, taps, channels, outputs, columns).unwrap();
        // Chunk 1, channel 5 of it: quad 0. Output 3: group 1, tile 1: pair 0, second of it.
        let at = (taps + 2) * 1024 + 4 * 16 + 8 + 5;
        assert_eq!(packed.iter().position(|w| *w == 7), Some(at));
    }

    #[test]
    fn words_are_a_signed_and_an_unsigned_byte() {
        let words = [0x1234, -1, -0x1234, 32_767, -32_767, 0x80];
        let [high, low] = planes(Weights::Words(&words), 2).unwrap().try_into().unwrap();
        let back: Vec<i32> = high.iter().zip(&low).map(|(h, l)| i32::from(*h) * 256 + i32::from(*l as u8)).collect();
        assert_eq!(back, words.map(i32::from));
        let [high, low] = planes(Weights::Bytes(&[-1, 127, -127]), 2).unwrap().try_into().unwrap();
        assert_eq!((high, low), (vec![-1, 0, -1], vec![-1, 127, -127]));
    }
}
