//! Divisive normalization and its inverse (SPEC 4.11, 4.12). The sums of squares are a layer that reads the upper and the lower 15 bits of the squares, with
//! the gammas as the weights of both.

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

use mlic_core::fixed::half_of;
use mlic_core::memory::{self, OutOfMemory};
use mlic_model::model::Weights;
use mlic_model::nodes::{Gdn, RECIPROCAL, SQUARE_LOW_BITS};
use mlic_model::proof::MAX_ACTIVATION;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::constants::{Constants, Rounding};
use super::epilogue::{Root, clamp};
use super::gammas::Gammas;
use super::layer::{Order, Part, Positions, band_rows};
use super::pack::Layer;
use super::square::{Sums, Terms};
use crate::arch::{Job, MAX_LANES, Simd, run};
use crate::cpu::Isa;
use crate::map::Rows;

/// A normalization with its gammas packed.
#[derive(Debug, Clone)]
pub(super) struct PackedGdn {
    sums: SumsOfSquares,
    scaling: Scaling,
}

/// How a normalization makes its sums of squares.
#[derive(Debug, Clone)]
enum SumsOfSquares {
    Layer(Box<SquareLayer>),
    Gammas(Gammas),
}

/// A layer that makes sums of squares.
#[derive(Debug, Clone)]
struct SquareLayer {
    layer: Layer,
    constants: Constants,
    /// How to round the sums in 32 bits, where they fit.
    sums: Option<SquareSums>,
}

/// How activations and roots become the result.
#[derive(Debug, Clone)]
pub(super) struct Scaling {
    channels: usize,
    /// One multiplier per channel, with zeros up to whole vectors.
    multipliers: Vec<i32>,
    /// The rounding of the result, and (`half`) what it adds.
    rounding: Rounding,
    half: i64,
    max: i32,
    /// Reciprocals of all roots, for dividing by a root; `None` for an inverse normalization, which multiplies by roots.
    reciprocals: Option<&'static Reciprocals>,
}

/// The reciprocal of every root: roots have 16 bits.
type Reciprocals = [i32; 1 << 16];

fn reciprocals() -> &'static Reciprocals {
    static ALL: OnceLock<Box<Reciprocals>> = OnceLock::new();
    ALL.get_or_init(|| Box::new(std::array::from_fn(|root| RECIPROCAL / (root as i32).max(1))))
}

impl PackedGdn {
    /// Packs a normalization for inputs of magnitude at most `max`.
    pub(super) fn new(isa: Isa, gdn: &Gdn, max: i32) -> Result<Self, OutOfMemory> {
        let sums = match Gammas::new(isa, gdn, max)? {
            Some(gammas) => SumsOfSquares::Gammas(gammas),
            None => SumsOfSquares::Layer(Box::new(SquareLayer::new(isa, gdn, max)?)),
        };
        let mut multipliers = gdn.multipliers.clone();
        multipliers.resize(gdn.channels().next_multiple_of(MAX_LANES), 0);
        let (rounding, half) = (Rounding::of_shift(gdn.output_shift), half_of(gdn.output_shift));
        let reciprocals = if gdn.inverse { None } else { Some(reciprocals()) };
        let scaling = Scaling { channels: gdn.channels(), multipliers, rounding, half, max: gdn.max, reciprocals };
        Ok(Self { sums, scaling })
    }

    /// Computes rows of the output, in bands for `threads` threads.
    pub(super) fn run(&self, input: Rows<'_>, rows: Range<usize>, threads: usize, out: &mut [i16]) -> Result<(), OutOfMemory> {
        let Self { sums, scaling } = self;
        let len = input.width * input.channels;
        let rows_len = band_rows(rows.len(), input.width, 8 * input.channels, threads);
        out.par_chunks_mut((rows_len * len).max(1)).enumerate().try_for_each(|(i, out)| {
            let first = rows.start + i * rows_len - input.first;
            let x = &input.data[first * len..][..out.len()];
            match sums {
                SumsOfSquares::Gammas(gammas) => gammas.run(scaling, x, out),
                SumsOfSquares::Layer(layer) => {
                    let mut scratch = SCRATCH.take();
                    let roots = layer.roots(x, &mut scratch)?;
                    run(layer.layer.isa, Scale { scaling, x, roots, out });
                    SCRATCH.set(scratch);
                    Ok(())
                }
            }
        })
    }
}

impl SquareLayer {
    fn new(isa: Isa, gdn: &Gdn, max: i32) -> Result<Self, OutOfMemory> {
        let (spec, level) = gdn.sums_of_squares();
        let layer = Layer::new(isa, &spec, &[Weights::Words(&gdn.gamma); 2], &[MAX_ACTIVATION; 2])?;
        let constants = Constants::new(&layer, &level, Positions::All)?;
        Ok(Self { layer, constants, sums: SquareSums::new(gdn, max, SQUARE_LOW_BITS)? })
    }

    fn roots<'s>(&self, x: &[i16], scratch: &'s mut Scratch) -> Result<&'s [i32], OutOfMemory> {
        let Self { layer, constants, sums } = self;
        let channels = layer.outputs;
        let (upper, lower) = (scratch.upper.at_least(x.len())?, scratch.lower.at_least(x.len())?);
        let roots = scratch.roots.at_least(x.len())?;
        run(layer.isa, Squares { x, upper, lower });
        let width = x.len() / channels;
        let rows = |data| Rows { height: 1, width, channels, first: 0, data };
        let inputs = [rows(upper), rows(lower)];
        let part = Part { layer, constants, inputs: &inputs, rows: 0..1, threads: 1 };
        part.run(Root { sums: sums.as_ref() }, Order::Plain, roots)?;
        Ok(roots)
    }
}

/// Rounded sums of squares in 32 bits: where the shift is at most the number of bits of the lower parts, the sums of the upper parts need no rounding.
#[derive(Debug, Clone)]
pub(super) struct SquareSums {
    /// Bits by which the sums of the upper parts are shifted to the left, and those of the lower ones to the right.
    shifts: [i32; 2],
    /// Sums of the upper parts from here on give 2^31 or more, where they are shifted.
    limit: i32,
    /// Upper and (`lower`) lower bits of beta with what rounding adds, padded to whole vectors.
    upper: Vec<i32>,
    lower: Vec<i32>,
}

impl SquareSums {
    /// Prepares rounding for lower parts of `low_bits` bits. `None` where the shift is larger than that, or where the sum of the upper parts may have more
    /// than 31 bits, or more than 32 if it is not shifted.
    pub(super) fn new(gdn: &Gdn, max: i32, low_bits: u32) -> Result<Option<Self>, OutOfMemory> {
        let channels = gdn.channels();
        let beta = |c: usize| gdn.beta.get(c).map_or(0, |b| b + half_of(gdn.shift));
        let largest = |(c, gammas): (usize, &[i16])| {
            let gammas: i64 = gammas.iter().map(|g| i64::from(*g)).sum();
            i128::from(beta(c)) + i128::from(gammas) * i128::from(max).pow(2)
        };
        let bits = if gdn.shift == low_bits { 32 } else { 31 };
        let fits = |sum: i128| (0..1 << bits).contains(&(sum >> low_bits));
        if gdn.shift > low_bits || !gdn.gamma.chunks_exact(channels.max(1)).enumerate().map(largest).all(fits) {
            return Ok(None);
        }
        let padded = channels.next_multiple_of(2 * MAX_LANES);
        let left = low_bits - gdn.shift;
        Ok(Some(Self {
            shifts: [left as i32, gdn.shift as i32],
            limit: if left == 0 { i32::MAX } else { 1 << (31 - left) },
            upper: memory::collect(padded, (0..padded).map(|c| (beta(c) >> low_bits) as i32))?,
            lower: memory::collect(padded, (0..padded).map(|c| (beta(c) & ((1 << low_bits) - 1)) as i32))?,
        }))
    }

    /// The rounded sums from a layer whose two terms are the parts, for vector number `at` of the channels.
    #[inline(always)]
    pub(super) fn of_terms<S: Simd, T: Terms>(&self, s: S, at: usize, sums: Sums<'_, T>) -> S::I32 {
        self.value(s, at, sums.of(s, 0), sums.of(s, 1))
    }

    /// The rounded sums from the sums of the upper and of the lower parts, limited to 2^31 - 1.
    ///
    /// The gammas of an output add up to at most 2^16, so that a sum of lower parts leaves room for the lower bits of beta.
    #[inline(always)]
    pub(super) fn value<S: Simd>(&self, s: S, at: usize, upper: S::I32, lower: S::I32) -> S::I32 {
        let upper = s.min(s.add(upper, s.load(&self.upper[at * S::LANES..])), s.splat(self.limit));
        let lower = s.add(lower, s.load(&self.lower[at * S::LANES..]));
        let (left, right) = (s.splat(self.shifts[0]), s.splat(self.shifts[1]));
        let sum = s.add(s.shift_left_each(upper, left), s.shift_right_each(lower, right));
        // A sum of 32 bits looks negative.
        s.and(s.or(sum, s.less(sum, s.splat(0))), s.splat(i32::MAX))
    }
}

thread_local! {
    /// The working memory of this thread, kept from band to band.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Working memory of one thread.
#[derive(Default)]
struct Scratch {
    upper: Aligned<i16>,
    lower: Aligned<i16>,
    roots: Aligned<i32>,
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
            *upper = (square >> SQUARE_LOW_BITS) as i16;
            *lower = (square & ((1 << SQUARE_LOW_BITS) - 1)) as i16;
        }
    }
}

/// Multiplies activations by roots, or divides them by roots, into activations.
struct Scale<'a> {
    scaling: &'a Scaling,
    x: &'a [i16],
    roots: &'a [i32],
    out: &'a mut [i16],
}

impl Job for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const POSITIONS: usize, const VECTORS: usize>(self, s: S) {
        let Self { scaling, x, roots, out } = self;
        let channels = scaling.channels;
        for ((x, roots), out) in x.chunks_exact(channels).zip(roots.chunks_exact(channels)).zip(out.chunks_exact_mut(channels)) {
            for c in (0..channels).step_by(S::LANES) {
                let mut last = [0; MAX_LANES];
                let roots = &roots[c..];
                let root = if let Some(roots) = roots.get(..S::LANES) {
                    s.load(roots)
                } else {
                    last[..roots.len()].copy_from_slice(roots);
                    s.load(&last)
                };
                scaling.scale(s, c, x, root, out);
            }
        }
    }
}

impl Scaling {
    /// Scales one vector of channels of a position, from channel `first` on. A product of an activation and a root, or a multiplier, is below 2^31.
    #[inline(always)]
    pub(super) fn scale<S: Simd>(&self, s: S, first: usize, x: &[i16], root: S::I32, out: &mut [i16]) {
        let (x, out) = (&x[first..], &mut out[first..]);
        if x.len() >= S::LANES {
            s.store_i16(self.scaled(s, first, s.load_i16(x), root), out);
        } else {
            let (mut whole, mut scaled) = ([0; MAX_LANES], [0; MAX_LANES]);
            whole[..x.len()].copy_from_slice(x);
            s.store_i16(self.scaled(s, first, s.load_i16(&whole), root), &mut scaled);
            out.copy_from_slice(&scaled[..out.len()]);
        }
    }

    #[inline(always)]
    fn scaled<S: Simd>(&self, s: S, first: usize, x: S::I32, root: S::I32) -> S::I32 {
        let multipliers = s.load(&self.multipliers[first..]);
        let (factor, m) = match self.reciprocals {
            None => (root, multipliers),
            Some(reciprocals) => (multipliers, s.gather(reciprocals, root)),
        };
        let product = s.mul(x, factor);
        let half = s.splat_wide(self.half);
        let even = s.add_wide(s.mul_wide(s.even(product), s.even(m)), half);
        let odd = s.add_wide(s.mul_wide(s.odd(product), s.odd(m)), half);
        clamp(s, self.rounding.apply(s, even, odd), self.max)
    }
}

#[cfg(test)]
mod tests {
    use mlic_model::layout::NodeIndex;

    use super::*;
    use crate::map::Map;
    use crate::reference;

    /// Sums of squares around 2^31, up to the largest upper parts that 32 bits hold, and beyond, where 64 bits are used.
    #[test]
    fn sums_of_squares_are_limited() {
        let channels = 3;
        for (shift, most, is_wide) in [
            (0, 1_i64 << 32, false),
            (11, 1 << 43, false),
            (9, 1 << 46, false),
            (15, 1 << 47, false),
            (14, (1 << 46) + (1 << 15), true),
            (16, 1 << 48, true),
        ] {
            // The largest sum is just below `most`, of which the gammas are at most half.
            let max = 200;
            let gammas = 900 * i64::from(max) * i64::from(max);
            let beta = most - 1 - half_of(shift) - gammas;
            let gdn = Gdn {
                input: NodeIndex(0),
                inverse: true,
                max: 8191,
                gamma: vec![300; channels * channels],
                beta: vec![beta, beta / 2, 0],
                shift,
                multipliers: vec![1 << 20; channels],
                output_shift: 30,
            };
            let data: Vec<i16> = (0..channels * 70).map(|i| [200, -200, 7, 0, -199][i % 5]).collect();
            let input = Map { height: 7, width: 10, channels, data };
            let expected = reference::gdn(&gdn, &input).unwrap();
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let packed = PackedGdn::new(isa, &gdn, max).unwrap();
                if let SumsOfSquares::Layer(layer) = &packed.sums {
                    assert_eq!(layer.sums.is_none(), is_wide, "shift {shift}");
                }
                let mut out = vec![0; input.data.len()];
                packed.run(Rows::from(&input), 0..7, 1, &mut out).unwrap();
                assert_eq!(out, expected.data, "{} with shift {shift}", isa.name());
            }
        }
    }

    /// Channels that do and do not fill vectors, tiles and groups, at one position and at more than are computed at once, with both ends of 16 bits.
    #[test]
    fn every_number_of_channels() {
        for (channels, width) in [(1, 1), (2, 65), (15, 3), (16, 16), (17, 70), (64, 17), (65, 2), (96, 64), (130, 33)] {
            let gamma: Vec<i16> = (0..channels * channels)
                .map(|i| match (i / channels, i % channels) {
                    (row, col) if row == col => i16::MAX,
                    (row, col) if col == (row + 1) % channels => 32_000 - (row as i16),
                    (_, col) => (col % 2) as i16,
                })
                .collect();
            let inverse = Gdn {
                input: NodeIndex(0),
                inverse: true,
                max: 8191,
                gamma,
                beta: (0..channels as i64).map(|c| c << 30).collect(),
                shift: 16,
                multipliers: (0..channels as i32).map(|c| (1 << 15) + c).collect(),
                output_shift: 32,
            };
            let data =
                (0..channels * width).map(|i| [32_767, -32_767, 0, 1, -8191, 255, 256, (i % 32_749) as i16][i * 7 % 8]).collect();
            let input = Map { height: 1, width, channels, data };
            for gdn in [Gdn { inverse: false, ..inverse.clone() }, inverse] {
                let expected = reference::gdn(&gdn, &input).unwrap();
                for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                    let mut out = vec![0; input.data.len()];
                    PackedGdn::new(isa, &gdn, 32_767).unwrap().run(Rows::from(&input), 0..1, 1, &mut out).unwrap();
                    assert_eq!(out, expected.data, "{}: {channels} channels, inverse: {}", isa.name(), gdn.inverse);
                }
            }
        }
    }
}
