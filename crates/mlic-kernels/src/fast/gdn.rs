//! Divisive normalization and its inverse (SPEC 4.11, 4.12): the sums of squares are a layer on the upper and the lower 15 bits of the squares, whose weights
//! are the gammas of both.

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::analysis::RECIPROCAL;
use mlic_model::layout::{Epilogue as Kind, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::model::{LayerView, Weights};
use mlic_model::parameters::{LayerLevel, Requant};
use mlic_model::proof::MAX_ACTIVATION;
use mlic_model::synthesis::Gdn;
use rayon::prelude::*;

use super::constants::Rounding;
use super::epilogue::{Root, clamp};
use super::layer::{Order, Part, Positions, at_least, band_rows};
use super::pack::Layer;
use super::square::Sums;
use super::tables::half;
use crate::arch::{Job, MAX_LANES, Simd, run};
use crate::cpu::Isa;
use crate::map::Rows;

/// Bits of the lower part of a square.
const LOW_BITS: u32 = 15;
const LOW_MASK: i64 = (1 << LOW_BITS) - 1;

/// A normalization with its gammas packed.
#[derive(Debug, Clone)]
pub(super) struct PackedGdn {
    isa: Isa,
    layer: Layer,
    spec: LayerSpec,
    level: LayerLevel,
    /// Where they fit 32 bits.
    sums: Option<SquareSums>,
    /// Up to whole vectors, zeros beyond the channels.
    multipliers: Vec<i32>,
    output_shift: u32,
    max: i32,
    /// What roots divide by; none of an inverse one, where they multiply.
    reciprocals: Option<&'static Reciprocals>,
}

/// Of every root: it has 16 bits.
type Reciprocals = [i32; 1 << 16];

fn reciprocals() -> &'static Reciprocals {
    static ALL: OnceLock<Box<Reciprocals>> = OnceLock::new();
    ALL.get_or_init(|| Box::new(std::array::from_fn(|root| RECIPROCAL / (root as i32).max(1))))
}

impl PackedGdn {
    /// The inverse one, of inputs of at most this magnitude.
    pub(super) fn new(isa: Isa, gdn: &Gdn, max: i32) -> Result<Self, OutOfMemory> {
        let channels = gdn.channels();
        let term = TermSpec::node(NodeIndex(0), channels, false);
        let kernel = Kernel::Dense { size: 1 };
        let spec =
            LayerSpec { name: "sum of squares".into(), terms: vec![term; 2], kernel, outputs: channels, epilogue: Kind::Linear };
        let weights = Weights::Words(&gdn.gamma);
        let layer = Layer::new(isa, &spec, &[weights; 2], &[MAX_ACTIVATION; 2])?;
        let level = LayerLevel {
            shift: gdn.shift,
            multipliers: vec![vec![1 << LOW_BITS; channels], vec![1; channels]],
            bias: gdn.beta.clone(),
            output: Requant { multiplier: 0, shift: 0 },
        };
        let mut multipliers = gdn.multipliers.clone();
        multipliers.resize(channels.next_multiple_of(MAX_LANES), 0);
        let sums = SquareSums::new(gdn, max)?;
        Ok(Self { isa, layer, spec, level, sums, multipliers, output_shift: gdn.output_shift, max: gdn.max, reciprocals: None })
    }

    /// The one that divides.
    pub(super) fn divisive(isa: Isa, gdn: &Gdn, max: i32) -> Result<Self, OutOfMemory> {
        Ok(Self { reciprocals: Some(reciprocals()), ..Self::new(isa, gdn, max)? })
    }

    /// The rows of the output.
    pub(super) fn run(&self, input: Rows<'_>, rows: Range<usize>, out: &mut [i16]) -> Result<(), OutOfMemory> {
        let len = input.width * input.channels;
        let rows_len = band_rows(rows.len(), input.width, 8 * input.channels);
        out.par_chunks_mut((rows_len * len).max(1)).enumerate().try_for_each(|(i, out)| {
            let first = rows.start + i * rows_len - input.first;
            let mut scratch = SCRATCH.take();
            self.band(&input.data[first * len..][..out.len()], &mut scratch, out)?;
            SCRATCH.set(scratch);
            Ok(())
        })
    }

    fn band(&self, x: &[i16], scratch: &mut Scratch, out: &mut [i16]) -> Result<(), OutOfMemory> {
        let channels = self.spec.outputs;
        let (upper, lower) = (at_least(&mut scratch.upper, x.len())?, at_least(&mut scratch.lower, x.len())?);
        let roots = at_least(&mut scratch.roots, x.len())?;
        run(self.isa, Squares { x, upper, lower });
        let width = x.len() / channels;
        let rows = |data| Rows { height: 1, width, channels, first: 0, data };
        let inputs = [rows(upper), rows(lower)];
        let view = LayerView { spec: &self.spec, max: MAX_ACTIVATION, level: &self.level, weights: Vec::new() };
        let part = Part { layer: &self.layer, view: &view, inputs: &inputs, at: Positions::All, rows: 0..1 };
        part.run(Root { sums: self.sums.as_ref() }, Order::Plain, roots)?;
        run(self.isa, Scale { gdn: self, x, roots, out });
        Ok(())
    }
}

/// Rounded sums of squares in 32 bits: what the upper halves of the squares give needs no rounding where the shift is at most theirs.
#[derive(Debug, Clone)]
pub(super) struct SquareSums {
    /// Bits by which the sums of the upper halves are shifted to the left, and those of the lower ones to the right.
    shifts: [i32; 2],
    /// Upper and lower bits of beta and of what rounding adds, up to whole vectors.
    upper: Vec<i32>,
    lower: Vec<i32>,
}

impl SquareSums {
    /// None where a sum may have more than 32 bits.
    fn new(gdn: &Gdn, max: i32) -> Result<Option<Self>, OutOfMemory> {
        let channels = gdn.channels();
        let beta = |c: usize| gdn.beta.get(c).map_or(0, |b| b + half(gdn.shift));
        let largest = |(c, gammas): (usize, &[i16])| {
            let gammas: i64 = gammas.iter().map(|g| i64::from(*g)).sum();
            i128::from(beta(c)) + i128::from(gammas) * i128::from(max).pow(2)
        };
        let fits = |sum: i128| (0..1 << 32).contains(&(sum >> gdn.shift));
        if gdn.shift > LOW_BITS || !gdn.gamma.chunks_exact(channels.max(1)).enumerate().map(largest).all(fits) {
            return Ok(None);
        }
        let padded = channels.next_multiple_of(2 * MAX_LANES);
        Ok(Some(Self {
            shifts: [(LOW_BITS - gdn.shift) as i32, gdn.shift as i32],
            upper: memory::collect(padded, (0..padded).map(|c| (beta(c) >> LOW_BITS) as i32))?,
            lower: memory::collect(padded, (0..padded).map(|c| (beta(c) & LOW_MASK) as i32))?,
        }))
    }

    /// Those of vector number `at` of the channels, limited to 2^31 - 1.
    ///
    /// A sum of lower halves, of at most 2^16 gammas in all, leaves room for the lower bits of beta.
    #[inline(always)]
    pub(super) fn value<S: Simd>(&self, s: S, at: usize, sums: Sums<'_>) -> S::I32 {
        let &[upper, lower] = sums.places else { return s.splat(0) };
        let upper = s.add(upper.load(s, sums), s.load(&self.upper[at * S::LANES..]));
        let lower = s.add(lower.load(s, sums), s.load(&self.lower[at * S::LANES..]));
        let [left, right] = self.shifts.map(|shift| s.splat(shift));
        let sum = s.add(s.shift_left_each(upper, left), s.shift_right_each(lower, right));
        // A sum of 32 bits looks negative.
        s.and(s.or(sum, s.less(sum, s.splat(0))), s.splat(i32::MAX))
    }
}

thread_local! {
    /// Of this thread, kept from band to band.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Working memory of one thread.
#[derive(Default)]
struct Scratch {
    upper: Vec<i16>,
    lower: Vec<i16>,
    roots: Vec<i32>,
}

/// The upper and the lower bits of the squares of activations.
struct Squares<'a> {
    x: &'a [i16],
    upper: &'a mut [i16],
    lower: &'a mut [i16],
}

impl Job for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, _: S) {
        for ((x, upper), lower) in self.x.iter().zip(self.upper).zip(self.lower) {
            let square = i32::from(*x) * i32::from(*x);
            *upper = (square >> LOW_BITS) as i16;
            *lower = (square & ((1 << LOW_BITS) - 1)) as i16;
        }
    }
}

/// The products of activations and roots, or their quotients, as activations.
struct Scale<'a> {
    gdn: &'a PackedGdn,
    x: &'a [i16],
    roots: &'a [i32],
    out: &'a mut [i16],
}

impl Job for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        let Self { gdn, x, roots, out } = self;
        let channels = gdn.spec.outputs;
        let whole = channels / S::LANES * S::LANES;
        for ((x, roots), out) in x.chunks_exact(channels).zip(roots.chunks_exact(channels)).zip(out.chunks_exact_mut(channels)) {
            for c in (0..whole).step_by(S::LANES) {
                gdn.scale(s, c, &x[c..], &roots[c..], &mut out[c..]);
            }
            if whole < channels {
                let (mut last_x, mut last_roots, mut last) = ([0; MAX_LANES], [0; MAX_LANES], [0; MAX_LANES]);
                last_x[..channels - whole].copy_from_slice(&x[whole..]);
                last_roots[..channels - whole].copy_from_slice(&roots[whole..]);
                gdn.scale(s, whole, &last_x, &last_roots, &mut last);
                out[whole..].copy_from_slice(&last[..channels - whole]);
            }
        }
    }
}

impl PackedGdn {
    /// One vector of channels, from channel `first` on. A product of activation and root, or multiplier, is below 2^31.
    #[inline(always)]
    fn scale<S: Simd>(&self, s: S, first: usize, x: &[i16], roots: &[i32], out: &mut [i16]) {
        let (roots, multipliers) = (s.load(roots), s.load(&self.multipliers[first..]));
        let (factor, m) = match self.reciprocals {
            None => (roots, multipliers),
            Some(reciprocals) => (multipliers, s.gather(reciprocals, roots)),
        };
        let product = s.mul(s.load_i16(x), factor);
        let half = s.splat_wide(half(self.output_shift));
        let even = s.add_wide(s.mul_wide(s.even(product), s.even(m)), half);
        let odd = s.add_wide(s.mul_wide(s.odd(product), s.odd(m)), half);
        let v = Rounding::of_shift(self.output_shift).apply(s, even, odd);
        s.store_i16(clamp(s, v, self.max), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Map;
    use crate::reference;

    /// Sums of squares around 2^31, and up to the 2^32 that 32 bits hold; beyond that, 64 bits take their place.
    #[test]
    fn sums_of_squares_are_limited() {
        let channels = 3;
        for (shift, most, is_wide) in
            [(0, 1_i64 << 32, false), (11, 1 << 43, false), (15, 1 << 47, false), (14, (1 << 46) + 1, true), (16, 1 << 48, true)]
        {
            // The largest sum is just below `most`, of which the gammas are at most half.
            let max = 200;
            let gammas = 900 * i64::from(max) * i64::from(max);
            let beta = most - 1 - half(shift) - gammas;
            let gdn = Gdn {
                input: NodeIndex(0),
                max: 8191,
                gamma: vec![300; channels * channels],
                beta: vec![beta, beta / 2, 0],
                shift,
                multipliers: vec![1 << 20; channels],
                output_shift: 30,
            };
            let data: Vec<i16> = (0..channels * 70).map(|i| [200, -200, 7, 0, -199][i % 5]).collect();
            let input = Map { height: 7, width: 10, channels, data };
            let expected = reference::inverse_gdn(&gdn, &input).unwrap();
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let packed = PackedGdn::new(isa, &gdn, max).unwrap();
                assert_eq!(packed.sums.is_none(), is_wide, "shift {shift}");
                let mut out = vec![0; input.data.len()];
                packed.run(Rows::from(&input), 0..7, &mut out).unwrap();
                assert_eq!(out, expected.data, "{} with shift {shift}", isa.name());
            }
        }
    }
}
