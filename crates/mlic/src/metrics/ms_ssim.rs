//! MS-SSIM (Wang, Simoncelli, Bovik 2003) as `pytorch_msssim` computes it, which CompressAI's tables use.

use super::{MetricsError, check_sizes};
use crate::image::Image;

/// Weight of each scale.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// Taps of the Gaussian window.
const TAPS: usize = 11;
const SIGMA: f64 = 1.5;
/// (K1 * 255)^2 and (K2 * 255)^2 with K1 = 0.01, K2 = 0.03.
const C1: f64 = 2.55 * 2.55;
const C2: f64 = 7.65 * 7.65;
/// A picture must be larger than this on both sides: the window has to fit the smallest scale.
const LEAST_SIDE: u32 = (TAPS as u32 - 1) << (WEIGHTS.len() - 1);

/// MS-SSIM of 8-bit RGB: five scales, per channel, then the mean of the three. `None` if a side has at most 160 pixels.
///
/// # Errors
/// [`MetricsError::SizeMismatch`], [`MetricsError::Samples`].
pub fn ms_ssim(a: &Image, b: &Image) -> Result<Option<f64>, MetricsError> {
    check_sizes(a, b)?;
    if a.width.min(a.height) <= LEAST_SIDE {
        return Ok(None);
    }
    let sum: f64 = (0..3).map(|channel| channel_ms_ssim(Plane::channel(a, channel), Plane::channel(b, channel))).sum();
    Ok(Some(sum / 3.0))
}

fn channel_ms_ssim(mut a: Plane, mut b: Plane) -> f64 {
    let mut product = 1.0;
    for (scale, weight) in WEIGHTS.into_iter().enumerate() {
        let (ssim, contrast) = ssim(&a, &b);
        let last = scale + 1 == WEIGHTS.len();
        product *= if last { ssim } else { contrast }.max(0.0).powf(weight);
        if !last {
            (a, b) = (a.halved(), b.halved());
        }
    }
    product
}

/// One channel at one scale. Samples are multiples of 4^-scale below 256: exact in f32.
struct Plane {
    width: usize,
    samples: Vec<f32>,
}

impl Plane {
    fn channel(image: &Image, channel: usize) -> Self {
        let samples = image.rgb.iter().skip(channel).step_by(3).map(|&v| f32::from(v)).collect();
        Self { width: image.width as usize, samples }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.samples.chunks_exact(self.width)
    }

    /// Means of 2x2. An odd side is padded with a zero before its first row or column, which counts in the mean.
    fn halved(&self) -> Self {
        let height = self.samples.len() / self.width;
        let (out_width, out_height) = (self.width.div_ceil(2), height.div_ceil(2));
        let (pad_x, pad_y) = (self.width % 2, height % 2);
        let mut samples = vec![0.0; out_width * out_height];
        for (y, row) in self.rows().enumerate() {
            let out = samples.chunks_exact_mut(out_width).nth((y + pad_y) / 2).unwrap_or_default();
            for (x, &v) in row.iter().enumerate() {
                if let Some(sum) = out.get_mut((x + pad_x) / 2) {
                    *sum += v / 4.0;
                }
            }
        }
        Self { width: out_width, samples }
    }
}

/// The windowed moments of one row: E[a], E[b], E[aa], E[bb], E[ab].
const MOMENTS: usize = 5;
type Moments = [f64; MOMENTS];

/// Means of the SSIM map and of its contrast-structure factor, over the positions where the window fits.
fn ssim(a: &Plane, b: &Plane) -> (f64, f64) {
    let window = window();
    let columns = a.width + 1 - TAPS;
    // Horizontally filtered rows, the last TAPS of them, oldest first.
    let mut rows: std::collections::VecDeque<Vec<Moments>> = std::collections::VecDeque::with_capacity(TAPS);
    let (mut ssim_sum, mut contrast_sum, mut count) = (0.0, 0.0, 0usize);
    for (row_a, row_b) in a.rows().zip(b.rows()) {
        let mut filtered = if rows.len() == TAPS { rows.pop_front().unwrap_or_default() } else { Vec::new() };
        filter_row(row_a, row_b, &window, &mut filtered);
        rows.push_back(filtered);
        if rows.len() < TAPS {
            continue;
        }
        let mut sums = vec![[0.0; MOMENTS]; columns];
        for (row, weight) in rows.iter().zip(window) {
            for (sum, moments) in sums.iter_mut().zip(row) {
                add(sum, moments, weight);
            }
        }
        for moments in sums {
            let (ssim, contrast) = compare(moments);
            ssim_sum += ssim;
            contrast_sum += contrast;
            count += 1;
        }
    }
    (ssim_sum / count as f64, contrast_sum / count as f64)
}

fn filter_row(a: &[f32], b: &[f32], window: &[f64; TAPS], out: &mut Vec<Moments>) {
    out.clear();
    out.extend(a.windows(TAPS).zip(b.windows(TAPS)).map(|(a, b)| {
        let mut sum = [0.0; MOMENTS];
        for ((&a, &b), &weight) in a.iter().zip(b).zip(window) {
            let (a, b) = (f64::from(a), f64::from(b));
            add(&mut sum, &[a, b, a * a, b * b, a * b], weight);
        }
        sum
    }));
}

fn add(sum: &mut Moments, moments: &Moments, weight: f64) {
    sum.iter_mut().zip(moments).for_each(|(sum, moment)| *sum += moment * weight);
}

/// SSIM and its contrast-structure factor at one position.
fn compare([mean_a, mean_b, aa, bb, ab]: Moments) -> (f64, f64) {
    let (var_a, var_b, covar) = (aa - mean_a * mean_a, bb - mean_b * mean_b, ab - mean_a * mean_b);
    let contrast = (2.0 * covar + C2) / (var_a + var_b + C2);
    ((2.0 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1) * contrast, contrast)
}

/// The Gaussian window, of sum 1.
fn window() -> [f64; TAPS] {
    let tap = |i: usize| (-(i as f64 - (TAPS / 2) as f64).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    let taps: [f64; TAPS] = std::array::from_fn(tap);
    let sum: f64 = taps.iter().sum();
    taps.map(|t| t / sum)
}
