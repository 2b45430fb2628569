//! Tables and symbols like those of a stream: zero-mean Gaussians of 64 log-spaced scales from 0.11 to 256.
//! Float is allowed here: this only makes test data.

use mlic_core::cdf::{CdfTable, PROB_BITS};

/// Number of scales.
pub(crate) const SCALE_COUNT: usize = 64;
const ONE: f64 = (1 << PROB_BITS) as f64;
/// Slots of the escape.
const ESCAPE_FREQ: usize = 4;

/// A small deterministic generator (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The scale of a scale index.
pub(crate) fn scale(index: usize) -> f64 {
    0.11 * (256.0f64 / 0.11).powf(index as f64 / (SCALE_COUNT - 1) as f64)
}

/// The table of a zero-mean Gaussian, with bins as far as five scales from the mean.
pub(crate) fn gaussian(scale: f64) -> CdfTable {
    let reach = (5.0 * scale).ceil() as i32;
    let weights: Vec<f64> = (-reach..=reach).map(|v| (-0.5 * (f64::from(v) / scale).powi(2)).exp()).collect();
    let unit = (ONE - (weights.len() + ESCAPE_FREQ) as f64) / weights.iter().sum::<f64>();
    let mut freqs: Vec<usize> = weights.iter().map(|weight| 1 + (weight * unit) as usize).collect();
    let rest = (1 << PROB_BITS) - ESCAPE_FREQ - freqs.iter().sum::<usize>();
    freqs[reach as usize] += rest;
    let starts: Vec<u16> =
        freqs.iter().chain([&ESCAPE_FREQ]).scan(0, |at, freq| Some(core::mem::replace(at, *at + freq) as u16)).collect();
    CdfTable::new(-reach, &starts).unwrap()
}

/// The tables of all scales.
pub(crate) fn tables() -> Vec<CdfTable> {
    (0..SCALE_COUNT).map(|index| gaussian(scale(index))).collect()
}

/// Symbols drawn from the tables of the scale indices that `choose` gives; an escape becomes the nearest symbol outside.
pub(crate) fn draw(tables: &[CdfTable], count: usize, mut choose: impl FnMut(&mut Random) -> usize) -> Vec<(usize, i32)> {
    let mut random = Random(1);
    let draw = |_| {
        let index = choose(&mut random);
        let table = tables.get(index).unwrap();
        let (bin, _) = table.find(random.bits() as u16);
        (index, table.symbol_of_bin(bin).unwrap_or(table.max_symbol() + 1))
    };
    (0..count).map(draw).collect()
}
