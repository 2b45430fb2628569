//! Records the distribution of every tensor's activations over images, per level of activation scales.

use mlic_backend::entropy::EntropyModel;
use mlic_backend::{BackendError, Planes};
use mlic_core::schedule::passes;
use mlic_kernels::Map;

use crate::float::{FloatModel, FloatOps, Record};

/// Bins per octave.
const PER_OCTAVE: f32 = 16.0;
/// Lowest magnitude with a bin of its own: 2^-20.
const LOWEST_LOG2: f32 = -20.0;
/// Number of bins, which reach up to 2^20.
const BINS: usize = 40 * 16;

/// Distribution of magnitudes, in logarithmic bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: Vec<u64>,
    largest: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BINS], largest: 0.0 }
    }
}

impl Histogram {
    /// Counts the magnitudes of values.
    pub fn add(&mut self, values: &[f32]) {
        for v in values.iter().map(|v| v.abs()).filter(|v| *v > 0.0) {
            let bin = ((v.log2() - LOWEST_LOG2) * PER_OCTAVE).clamp(0.0, (BINS - 1) as f32) as usize;
            self.counts[bin] += 1;
            self.largest = self.largest.max(v);
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.largest = self.largest.max(other.largest);
    }

    /// Largest magnitude seen.
    #[must_use]
    pub const fn largest(&self) -> f32 {
        self.largest
    }

    /// The magnitude that the largest integer, `max`, should stand for: that with the least squared error of rounding and clipping together.
    #[must_use]
    pub fn best_clip(&self, max: i32) -> f64 {
        let center = |bin: usize| f64::from(((bin as f32 + 0.5) / PER_OCTAVE + LOWEST_LOG2).exp2());
        let error = |clip: f64| -> f64 {
            let rounding = (clip / f64::from(max)).powi(2) / 12.0;
            let of = |(bin, count): (usize, &u64)| {
                let over = (center(bin) - clip).max(0.0);
                *count as f64 * if over > 0.0 { over * over } else { rounding.min(center(bin).powi(2)) }
            };
            self.counts.iter().enumerate().map(of).sum()
        };
        let largest = f64::from(self.largest).max(1e-6);
        let candidates = (0..64).map(|i| largest * (-f64::from(i) / 16.0).exp2());
        candidates.map(|clip| (error(clip), clip)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(largest, |(_, clip)| clip)
    }
}

/// One image at one quality, ready for the entropy model: y after its gain and the symbols of z.
#[derive(Debug, Clone)]
pub struct Sample {
    /// y after its gain, `[height][width][M]`.
    pub y: Map<f32>,
    /// z before the hyper synthesis: reconstructed, after the inverse gain, `[height][width][N]`.
    pub z_hat: Map<f32>,
    /// Symbols of z.
    pub z_symbols: Vec<i32>,
}

/// Channels-last map of channels-first planes.
#[must_use]
pub fn to_map(planes: &Planes) -> Map<f32> {
    let area = planes.height * planes.width;
    let data = (0..area).flat_map(|p| (0..planes.channels).map(move |c| c * area + p)).map(|i| planes.data[i]).collect();
    Map { height: planes.height, width: planes.width, channels: planes.channels, data }
}

/// Channels-first planes of a channels-last map.
#[must_use]
pub fn to_planes(map: &Map<f32>) -> Planes {
    let area = map.height * map.width;
    let data = (0..map.channels).flat_map(|c| (0..area).map(move |p| p * map.channels + c)).map(|i| map.data[i]).collect();
    Planes { channels: map.channels, height: map.height, width: map.width, data }
}

/// One pass of the float entropy model: its Gaussians and the elements of y that it codes.
pub struct FloatPass {
    /// Scales, packed.
    pub scale: Map<f32>,
    /// Means, packed.
    pub mean: Map<f32>,
    /// Elements of y, packed.
    pub y: Vec<f32>,
}

/// Runs the float entropy model over a sample; `symbols` chooses the symbols that each pass codes.
///
/// # Errors
/// Errors of the operators.
pub fn run_float<'m>(
    model: &'m FloatModel,
    ops: FloatOps<'m>,
    sample: &Sample,
    mut symbols: impl FnMut(&FloatPass) -> Vec<i32>,
) -> Result<EntropyModel<'m, FloatOps<'m>>, BackendError> {
    let mut entropy = EntropyModel::new(&model.layout, ops, &sample.z_hat)?;
    for pass in passes(model.config.slices) {
        let gaussian = entropy.parameters(pass)?;
        let mut y = Vec::new();
        sample.y.select_pass(pass, model.config.slice_channels(), &mut y).map_err(BackendError::from)?;
        let coded = symbols(&FloatPass { scale: gaussian.scale, mean: gaussian.mean.copy().map_err(BackendError::from)?, y });
        entropy.commit(pass, &coded)?;
    }
    Ok(entropy)
}

/// `round(y - mean)` for every element.
#[must_use]
pub fn nearest_symbols(pass: &FloatPass) -> Vec<i32> {
    pass.y.iter().zip(&pass.mean.data).map(|(y, m)| (y - m).round() as i32).collect()
}

/// Counts activations over samples of one level.
///
/// # Errors
/// Errors of the operators.
pub fn record(model: &FloatModel, samples: &[Sample]) -> Result<Record, BackendError> {
    let mut all = Record::new();
    for sample in samples {
        let mut entropy = run_float(model, FloatOps::recording(model), sample, nearest_symbols)?;
        for (source, histogram) in entropy.ops_mut().take_record() {
            all.entry(source).or_default().merge(&histogram);
        }
    }
    Ok(all)
}

/// Merges the records of both ends of a level's range, or returns the only record there is.
#[must_use]
pub fn merged(ends: &[Record], level: usize) -> Record {
    let mut all = Record::new();
    for end in ends.iter().skip(level.min(ends.len() - 1)).take(2) {
        for (source, histogram) in end {
            all.entry(*source).or_default().merge(histogram);
        }
    }
    all
}
