//! Figures of merit: PSNR, MS-SSIM, BD-rate, each as the published results compute it.

mod bd_rate;
mod ms_ssim;

use thiserror::Error;

pub use self::bd_rate::{RatePoint, bd_rate};
pub use self::ms_ssim::ms_ssim;
use crate::image::Image;

/// Why a metric cannot be computed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The pictures differ in size.
    #[error("pictures of {left:?} and {right:?} pixels cannot be compared")]
    SizeMismatch {
        /// Width and height of the first.
        left: (u32, u32),
        /// Width and height of the second.
        right: (u32, u32),
    },
    /// A picture does not have as many samples as its size needs.
    #[error("a picture of {width}x{height} pixels has {got} samples")]
    Samples {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Its samples.
        got: usize,
    },
    /// A rate-distortion curve with too few points for a BD-rate.
    #[error("{got} rate-distortion points of {curve}, a BD-rate needs {least}")]
    TooFewPoints {
        /// `the anchor` or `the test`.
        curve: &'static str,
        /// Points given.
        got: usize,
        /// Points needed.
        least: usize,
    },
    /// A rate that is not positive, or a figure that is infinite or not a number.
    #[error("{curve} has a point of {bpp} bpp at {psnr} dB")]
    BadPoint {
        /// `the anchor` or `the test`.
        curve: &'static str,
        /// Its rate.
        bpp: f64,
        /// Its quality.
        psnr: f64,
    },
    /// Two points of one curve at the same quality: the rate is no function of it.
    #[error("{curve} has two points at {psnr} dB")]
    RepeatedQuality {
        /// `the anchor` or `the test`.
        curve: &'static str,
        /// The quality, in dB.
        psnr: f64,
    },
    /// The curves share no range of quality.
    #[error("no common quality: the anchor spans {anchor:?} dB, the test {test:?} dB")]
    NoOverlap {
        /// Lowest and highest quality of the anchor, in dB.
        anchor: (f64, f64),
        /// Lowest and highest quality of the test, in dB.
        test: (f64, f64),
    },
}

/// Peak signal-to-noise ratio in dB over all samples of 8-bit RGB; infinite for equal pictures.
///
/// # Errors
/// [`MetricsError::SizeMismatch`], [`MetricsError::Samples`].
pub fn psnr(a: &Image, b: &Image) -> Result<f64, MetricsError> {
    check_sizes(a, b)?;
    let mean = squared_error(a, b) as f64 / a.rgb.len() as f64;
    Ok(10.0 * (255.0 * 255.0 / mean).log10())
}

/// Sum of the squared differences of all samples of two pictures of the same size.
pub(crate) fn squared_error(a: &Image, b: &Image) -> u64 {
    a.rgb.iter().zip(&b.rgb).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum()
}

fn check_sizes(a: &Image, b: &Image) -> Result<(), MetricsError> {
    let (left, right) = ((a.width, a.height), (b.width, b.height));
    if left != right {
        return Err(MetricsError::SizeMismatch { left, right });
    }
    match [a, b].into_iter().find(|image| image.rgb.is_empty() || image.rgb.len() as u64 != 3 * image.pixels()) {
        None => Ok(()),
        Some(bad) => Err(MetricsError::Samples { width: bad.width, height: bad.height, got: bad.rgb.len() }),
    }
}

#[cfg(test)]
mod tests;
