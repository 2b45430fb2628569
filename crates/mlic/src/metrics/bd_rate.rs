//! The Bjøntegaard delta of rate, with the piecewise cubic interpolation that JVET and CompressAI use.

use super::MetricsError;

/// Least number of points of a curve.
const LEAST_POINTS: usize = 4;

/// One point of a rate-distortion curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePoint {
    /// Bits per pixel.
    pub bpp: f64,
    /// Quality in dB.
    pub psnr: f64,
}

/// Mean difference of rate, in percent of the anchor's, at equal quality: negative where the test needs fewer bits.
///
/// The log of the rate is interpolated over quality by monotone piecewise cubics (PCHIP: Fritsch and Butland 1984, with
/// three-point end slopes) and averaged over the range of quality that both curves span.
///
/// # Errors
/// [`MetricsError::TooFewPoints`], [`MetricsError::BadPoint`], [`MetricsError::RepeatedQuality`], [`MetricsError::NoOverlap`].
pub fn bd_rate(anchor: &[RatePoint], test: &[RatePoint]) -> Result<f64, MetricsError> {
    let (anchor, test) = (Pchip::new("the anchor", anchor)?, Pchip::new("the test", test)?);
    let (from, to) = (anchor.range.0.max(test.range.0), anchor.range.1.min(test.range.1));
    if from >= to {
        return Err(MetricsError::NoOverlap { anchor: anchor.range, test: test.range });
    }
    let mean_log = (test.integral(from, to) - anchor.integral(from, to)) / (to - from);
    Ok(100.0 * mean_log.exp_m1())
}

/// ln(bpp) as a function of quality.
struct Pchip {
    pieces: Vec<Piece>,
    range: (f64, f64),
}

/// A cubic between two points: `value + t * (slope + t * (square + t * cube))` with `t` from `start`.
struct Piece {
    start: f64,
    end: f64,
    coefficients: [f64; 4],
}

impl Pchip {
    fn new(curve: &'static str, points: &[RatePoint]) -> Result<Self, MetricsError> {
        if points.len() < LEAST_POINTS {
            return Err(MetricsError::TooFewPoints { curve, got: points.len(), least: LEAST_POINTS });
        }
        if let Some(&RatePoint { bpp, psnr }) = points.iter().find(|p| !(p.bpp > 0.0 && p.bpp.is_finite() && p.psnr.is_finite()))
        {
            return Err(MetricsError::BadPoint { curve, bpp, psnr });
        }
        let mut knots: Vec<(f64, f64)> = points.iter().map(|p| (p.psnr, p.bpp.ln())).collect();
        knots.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(((psnr, _), _)) = pairs(&knots).find(|(a, b)| a.0 == b.0) {
            return Err(MetricsError::RepeatedQuality { curve, psnr: *psnr });
        }
        let slopes = slopes(&knots);
        let pieces = pairs(&knots).zip(pairs(&slopes)).map(|(knots, slopes)| Piece::new(knots, slopes)).collect();
        let range = knots.first().zip(knots.last()).map(|(first, last)| (first.0, last.0)).unwrap_or_default();
        Ok(Self { pieces, range })
    }

    fn integral(&self, from: f64, to: f64) -> f64 {
        self.pieces.iter().map(|piece| piece.integral(from.max(piece.start), to.min(piece.end))).sum()
    }
}

impl Piece {
    fn new((&(start, value), &(end, next)): (&(f64, f64), &(f64, f64)), (&slope, &next_slope): (&f64, &f64)) -> Self {
        let width = end - start;
        let chord = (next - value) / width;
        let square = (3.0 * chord - 2.0 * slope - next_slope) / width;
        let cube = (slope + next_slope - 2.0 * chord) / (width * width);
        Self { start, end, coefficients: [value, slope, square, cube] }
    }

    fn integral(&self, from: f64, to: f64) -> f64 {
        if from >= to {
            return 0.0;
        }
        let [value, slope, square, cube] = self.coefficients;
        let primitive = |x: f64| {
            let t = x - self.start;
            t * (value + t * (slope / 2.0 + t * (square / 3.0 + t * cube / 4.0)))
        };
        primitive(to) - primitive(from)
    }
}

/// Slope at each knot: weighted harmonic mean of its two chords, zero at an extremum.
fn slopes(knots: &[(f64, f64)]) -> Vec<f64> {
    let chords: Vec<Chord> = pairs(knots).map(|(a, b)| Chord { width: b.0 - a.0, slope: (b.1 - a.1) / (b.0 - a.0) }).collect();
    let first = chords.first().zip(chords.get(1)).map(|(near, far)| end_slope(near, far));
    let last = chords.last().zip(chords.iter().nth_back(1)).map(|(near, far)| end_slope(near, far));
    let inner = pairs(&chords).map(|(left, right)| inner_slope(left, right));
    first.into_iter().chain(inner).chain(last).collect()
}

struct Chord {
    width: f64,
    slope: f64,
}

fn inner_slope(left: &Chord, right: &Chord) -> f64 {
    if left.slope * right.slope <= 0.0 {
        return 0.0;
    }
    let (w_left, w_right) = (2.0 * right.width + left.width, right.width + 2.0 * left.width);
    (w_left + w_right) / (w_left / left.slope + w_right / right.slope)
}

/// Three-point estimate at an end, held to the shape of the data.
fn end_slope(near: &Chord, far: &Chord) -> f64 {
    let slope = ((2.0 * near.width + far.width) * near.slope - near.width * far.slope) / (near.width + far.width);
    if slope * near.slope <= 0.0 {
        0.0
    } else if near.slope * far.slope <= 0.0 && slope.abs() > 3.0 * near.slope.abs() {
        3.0 * near.slope
    } else {
        slope
    }
}

/// Each item with its successor.
fn pairs<T>(items: &[T]) -> impl Iterator<Item = (&T, &T)> {
    items.iter().zip(items.iter().skip(1))
}
