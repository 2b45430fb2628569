//! Normalizations by a matrix unit, in one pass: squares are four unsigned bytes, gammas two, and the sums of their products are separated by the power of
//! 256 by which they count. Everything from there to the result stays in registers.

use std::cell::Cell;

use mlic_core::memory::OutOfMemory;
use mlic_model::nodes::Gdn;

use super::aligned::Aligned;
use super::gdn::{Scaling, SquareSums};
use super::pack::{BLOCK, GROUP, OUTPUTS};
use super::root::isqrt;
use crate::arch::{Job, Matrix, Powers, Simd, Tiles, run};
use crate::cpu::Isa;

/// Positions of one operand of the unit: as many as outputs.
const SIDE: usize = OUTPUTS;
/// Positions whose bytes are made at once: they stay in the nearest cache.
const POSITIONS: usize = 4 * SIDE;
/// Bits of the lower part of a square.
const LOW_BITS: u32 = 16;
/// Most channels: for these, sums of products of two bytes stay far below 32 bits.
const MAX_CHANNELS: usize = 1 << 12;

/// Gammas as a matrix unit reads them.
#[derive(Debug, Clone)]
pub(super) struct Gammas {
    matrix: Matrix,
    channels: usize,
    /// Number of groups of channels.
    groups: usize,
    /// `[16 outputs][group][lower or upper byte][quad of the group][output][member of the quad]`
    weights: Aligned<u8>,
    sums: SquareSums,
}

impl Gammas {
    /// Packs gammas; `None` where no matrix unit may be used, with too many channels, or where sums may have more than 32 bits.
    pub(super) fn new(isa: Isa, gdn: &Gdn, max: i32) -> Result<Option<Self>, OutOfMemory> {
        let channels = gdn.channels();
        // The unit is asked for only where it is to be used: the system then keeps its state for every thread.
        let is_wanted = isa == Isa::Amx && channels <= MAX_CHANNELS;
        let Some(matrix) = is_wanted.then(Matrix::detect).flatten() else { return Ok(None) };
        let Some(sums) = SquareSums::new(gdn, max, LOW_BITS)? else { return Ok(None) };
        let groups = channels.div_ceil(GROUP);
        let mut weights = Aligned::zeros(channels.div_ceil(OUTPUTS) * groups * 2 * BLOCK)?;
        for (o, gammas) in gdn.gamma.chunks_exact(channels.max(1)).enumerate() {
            for (c, gamma) in gammas.iter().enumerate() {
                let operand = (o / OUTPUTS * groups + c / GROUP) * 2;
                let at = c % GROUP / 4 * GROUP + o % OUTPUTS * 4 + c % 4;
                for (byte, v) in gamma.to_le_bytes().into_iter().enumerate() {
                    weights[(operand + byte) * BLOCK + at] = v;
                }
            }
        }
        Ok(Some(Self { matrix, channels, groups, weights, sums }))
    }

    /// Normalizes the activations of some positions.
    pub(super) fn run(&self, scaling: &Scaling, x: &[i16], out: &mut [i16]) -> Result<(), OutOfMemory> {
        let mut planes = PLANES.take();
        planes.iter_mut().try_for_each(|plane| plane.reserve(POSITIONS * self.groups * GROUP))?;
        run(Isa::Amx, Band { gammas: self, scaling, x, planes: &mut planes, out });
        PLANES.set(planes);
        Ok(())
    }
}

thread_local! {
    /// The bytes of squares, the lowest first, in memory of this thread that is kept from band to band.
    static PLANES: Cell<[Aligned<u8>; 4]> = Cell::default();
}

struct Band<'a> {
    gammas: &'a Gammas,
    scaling: &'a Scaling,
    x: &'a [i16],
    planes: &'a mut [Aligned<u8>; 4],
    out: &'a mut [i16],
}

impl Job for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, s: S) {
        let Self { gammas, scaling, x, planes, out } = self;
        let channels = gammas.channels;
        let tiles = gammas.matrix.tiles();
        // While the unit fills one of them, vectors read the other.
        let (mut now, mut before) = (Powers::default(), Powers::default());
        let (mut now, mut before) = (&mut now, &mut before);
        for (x, out) in x.chunks(POSITIONS * channels).zip(out.chunks_mut(POSITIONS * channels)) {
            gammas.squares(x, planes);
            let (mut at_before, mut block_before) = (0..0, 0);
            for first in (0..x.len() / channels).step_by(SIDE) {
                for block in 0..channels.div_ceil(OUTPUTS) {
                    gammas.multiply(&tiles, planes, first, block, now);
                    gammas.finish(s, scaling, before, &x[at_before.clone()], block_before, &mut out[at_before]);
                    std::mem::swap(&mut now, &mut before);
                    (at_before, block_before) = (first * channels..x.len().min((first + SIDE) * channels), block);
                }
            }
            gammas.finish(s, scaling, before, &x[at_before.clone()], block_before, &mut out[at_before]);
        }
    }
}

impl Gammas {
    /// Makes the bytes of the squares of some positions.
    #[inline(always)]
    fn squares(&self, x: &[i16], planes: &mut [Aligned<u8>; 4]) {
        let padded = self.groups * GROUP;
        let [a, b, c, d] = planes.each_mut().map(|plane| plane.of_len(POSITIONS * padded).chunks_exact_mut(padded));
        for ((((x, a), b), c), d) in x.chunks_exact(self.channels).zip(a).zip(b).zip(c).zip(d) {
            for plane in [&mut *a, &mut *b, &mut *c, &mut *d] {
                plane[x.len()..].fill(0);
            }
            let len = x.len().min(padded);
            let (x, a, b, c, d) = (&x[..len], &mut a[..len], &mut b[..len], &mut c[..len], &mut d[..len]);
            for i in 0..len {
                let square = i32::from(x[i]) * i32::from(x[i]);
                let (lower, upper) = (square as u16, (square >> 16) as u16);
                (a[i], b[i], c[i], d[i]) = (lower as u8, (lower >> 8) as u8, upper as u8, (upper >> 8) as u8);
            }
        }
    }

    /// Makes the sums of 16 positions and 16 outputs.
    #[inline(always)]
    fn multiply(&self, tiles: &Tiles, planes: &[Aligned<u8>; 4], first: usize, block: usize, to: &mut Powers) {
        let (padded, len) = (self.groups * GROUP, self.groups * 2 * BLOCK);
        let planes = planes.each_ref().map(|plane| &plane[first * padded..]);
        tiles.multiply_unsigned(planes, padded, self.groups, &self.weights[block * len..][..len], to);
    }

    /// Finishes the sums of some positions for 16 of their channels.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, scaling: &Scaling, sums: &Powers, x: &[i16], block: usize, out: &mut [i16]) {
        let positions = x.chunks_exact(self.channels).zip(out.chunks_exact_mut(self.channels));
        for (slot, (x, out)) in positions.enumerate().take(SIDE) {
            for first in (block * OUTPUTS..self.channels.min((block + 1) * OUTPUTS)).step_by(S::LANES) {
                let at = slot * OUTPUTS + first % OUTPUTS;
                let [a, b, c, d, e] = &sums.0;
                let (a, b, c) = (s.load(&a[at..]), s.load(&b[at..]), s.load(&c[at..]));
                let (d, e) = (s.load(&d[at..]), s.load(&e[at..]));
                let lower = s.add(a, s.shift_left::<8>(s.and(b, s.splat(255))));
                let upper = s.add(s.add(s.shift_right::<8>(b), c), s.add(s.shift_left::<8>(d), s.shift_left::<16>(e)));
                let root = isqrt(s, self.sums.value(s, first / S::LANES, upper, lower));
                scaling.scale(s, first, x, root, out);
            }
        }
    }
}
