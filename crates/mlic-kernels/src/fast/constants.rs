//! What stands between the accumulators of a layer and its epilogue: multipliers, bias and the one rounding (SPEC 4.2), in the order in which
//! vectors read them.

use mlic_core::fixed::half_of;
use mlic_core::memory::OutOfMemory;
use mlic_model::parameters::LayerLevel;

use super::aligned::Aligned;
use super::epilogue::Epilogue;
use super::layer::Positions;
use super::pack::Layer;
use crate::arch::{Job, Simd, run};

/// How 64-bit sums become 32-bit values. The sums already include what rounding adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// By this shift of their upper halves. Every result fits, so that nothing is saturated in 64 bits.
    Upper(u32),
    /// By this shift, with saturation.
    Whole(u32),
}

impl Rounding {
    /// The rounding of sums that are to be shifted by `shift` bits.
    pub(super) const fn of_shift(shift: u32) -> Self {
        match shift {
            ..32 => Self::Whole(shift),
            // A shift of an upper half by 31 leaves nothing but the sign.
            32..=63 => Self::Upper(shift - 32),
            _ => Self::Upper(31),
        }
    }

    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, s: S, even: S::I64, odd: S::I64) -> S::I32 {
        match self {
            Self::Upper(shift) => s.shift_right_each(s.upper(even, odd), s.splat(shift as i32)),
            Self::Whole(shift) => s.saturate(s.shift_right_wide(even, shift), s.shift_right_wide(odd, shift), i32::MAX),
        }
    }
}

/// The constants of all outputs of a layer at one level of activation scales, with zeros beyond the last output.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    /// The positions of the output that the constants are for.
    pub(super) at: Positions,
    pub(super) rounding: Rounding,
    /// No rounded sum has a larger magnitude, whatever the accumulators.
    pub(super) largest: i64,
    /// Bits by which accumulators are shifted to the left before they are multiplied.
    spare: u32,
    terms: usize,
    /// `[vector][bias with what rounding adds, then the multipliers of each term][even lanes, odd lanes]`; multipliers in the lower halves.
    values: Aligned<i64>,
}

/// The lanes of the vector that begins at `first`, even lanes before odd ones.
fn in_halves(first: usize, lanes: usize) -> impl Iterator<Item = usize> + Clone {
    (first..first + lanes).step_by(2).chain((first + 1..first + lanes).step_by(2))
}

impl Constants {
    /// The constants of a layer that is used at these positions.
    pub(super) fn new(layer: &Layer, level: &LayerLevel, at: Positions) -> Result<Self, OutOfMemory> {
        run(layer.isa, Prepare { layer, level, at })
    }

    /// The rounding by upper halves of a layer's sums, and the bits by which multipliers and bias are shifted to the left for it; `None` if the shifted
    /// numbers do not fit. The accumulators, and the bias with them, are shifted by `spare` bits besides.
    fn choose(level: &LayerLevel, spare: u32) -> Option<(Rounding, u32)> {
        let shift = level.shift + spare;
        let more = 32_u32.saturating_sub(shift);
        let (bias, multipliers) = magnitudes(level);
        let multipliers = multipliers.map(|m| m << more);
        let fits = multipliers.clone().all(|m| m <= i32::MAX.into());
        let sum = (bias << (spare + more)) + multipliers.map(|m| m << 31).sum::<i128>();
        (fits && sum <= i64::MAX.into()).then_some((Rounding::of_shift(shift + more), more))
    }

    /// The constants of block number `block`, of `vectors` vectors with `vector_len` outputs each.
    pub(super) fn block(&self, block: usize, vector_len: usize, vectors: usize) -> &[i64] {
        let len = (1 + self.terms) * vector_len * vectors;
        &self.values[block * len..][..len]
    }

    /// The output of a layer that adds two inputs, element by element.
    #[inline(always)]
    pub(super) fn sums<S: Simd, E: Epilogue>(&self, s: S, epilogue: E, inputs: [&[i16]; 2], outputs: usize, out: &mut [E::Out]) {
        let spare = s.splat(self.spare as i32);
        let input = |from: &[i16]| s.shift_left_each(s.load_i16(from), spare);
        let [a, b] = inputs.map(|input| input.chunks_exact(outputs));
        for ((a, b), out) in a.zip(b).zip(out.chunks_exact_mut(outputs)) {
            let [a, b] = [a, b].map(|input| input.chunks_exact(S::LANES));
            let out = out.chunks_exact_mut(S::LANES);
            for (((a, b), out), constants) in a.zip(b).zip(out).zip(self.values.chunks_exact(3 * S::LANES)) {
                let mut total = Total::<S>::new(s, constants);
                total.add(s, input(a), &constants[S::LANES..]);
                total.add(s, input(b), &constants[2 * S::LANES..]);
                epilogue.store(s, epilogue.apply(s, self.rounding.apply(s, total.even, total.odd)), out);
            }
        }
    }
}

/// The 64-bit sums of a vector of outputs.
pub(super) struct Total<S: Simd> {
    pub(super) even: S::I64,
    pub(super) odd: S::I64,
}

impl<S: Simd> Total<S> {
    /// Begins with the bias.
    #[inline(always)]
    pub(super) fn new(s: S, bias: &[i64]) -> Self {
        Self { even: s.load_wide(bias), odd: s.load_wide(&bias[S::LANES / 2..]) }
    }

    /// Adds the products of accumulators and multipliers.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, sums: S::I32, multipliers: &[i64]) {
        self.even = s.add_wide(self.even, s.mul_wide(s.even(sums), s.load_wide(multipliers)));
        self.odd = s.add_wide(self.odd, s.mul_wide(s.odd(sums), s.load_wide(&multipliers[S::LANES / 2..])));
    }
}

/// Largest magnitudes over all outputs: of the bias with what rounding adds, and of the multipliers of each term.
fn magnitudes(level: &LayerLevel) -> (i128, impl Iterator<Item = i128> + Clone) {
    let bias = level.bias.iter().map(|b| b.unsigned_abs()).max().unwrap_or(0);
    let multipliers = level.multipliers.iter().map(|m| m.iter().map(|m| m.unsigned_abs()).max().unwrap_or(0).into());
    (i128::from(bias) + i128::from(half_of(level.shift)), multipliers)
}

/// A bound on the magnitude of a layer's rounded sums, whatever its 32-bit accumulators hold.
fn largest(level: &LayerLevel) -> i64 {
    let (bias, multipliers) = magnitudes(level);
    let sum = bias + multipliers.map(|m| m << 31).sum::<i128>();
    i64::try_from((sum >> level.shift.min(127)) + 1).unwrap_or(i64::MAX)
}

struct Prepare<'a> {
    layer: &'a Layer,
    level: &'a LayerLevel,
    at: Positions,
}

impl Job for Prepare<'_> {
    type Output = Result<Constants, OutOfMemory>;

    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, _: S) -> Self::Output {
        let Self { layer, level, at } = self;
        // An input of 16 bits leaves 16 bits of an accumulator to spare.
        let with_spare = if layer.only_adds(at) { Constants::choose(level, 16).map(|chosen| (chosen, 16)) } else { None };
        let chosen = with_spare.or_else(|| Constants::choose(level, 0).map(|chosen| (chosen, 0)));
        let ((rounding, more), spare) = chosen.unwrap_or(((Rounding::Whole(level.shift), 0), 0));
        let outputs = layer.outputs.next_multiple_of(layer.block);
        let bias = |o: usize| level.bias.get(o).map_or(0, |b| (b + half_of(level.shift)) << (spare + more));
        let multiplier = |m: &[i32], o: usize| m.get(o).map_or(0, |m| i64::from(*m) << more);
        let terms = level.multipliers.len();
        let mut values = Aligned::zeros(outputs * (1 + terms))?;
        let vectors = values.chunks_exact_mut((1 + terms) * S::LANES);
        for (first, values) in (0..outputs).step_by(S::LANES).zip(vectors) {
            let lanes = in_halves(first, S::LANES);
            let (own, multipliers) = values.split_at_mut(S::LANES);
            own.iter_mut().zip(lanes.clone()).for_each(|(to, o)| *to = bias(o));
            for (to, m) in multipliers.chunks_exact_mut(S::LANES).zip(&level.multipliers) {
                to.iter_mut().zip(lanes.clone()).for_each(|(to, o)| *to = multiplier(m, o));
            }
        }
        Ok(Constants { at, rounding, largest: largest(level), spare, terms, values })
    }
}
