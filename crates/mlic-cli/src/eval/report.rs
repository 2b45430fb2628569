//! What an evaluation measured, as it goes into JSON.

use std::path::Path;

use mlic::Codec;
use mlic::codec::StageTime;
use mlic::image::Image;
use serde::Serialize;

use super::Asked;
use crate::args::{EncoderArgs, RoundingArg};
use crate::exit::{Exit, Failure};
use crate::info;

/// The whole evaluation. Infinite figures become `null` in JSON. The members are described in docs/JSON.md.
#[derive(Debug, Serialize)]
pub(super) struct Evaluation {
    pub(super) format: u32,
    pub(super) program: String,
    pub(super) model: ModelName,
    /// The backend that was used, not the one that was asked for.
    pub(super) backend: &'static str,
    pub(super) threads: usize,
    /// Rounds of refinement.
    pub(super) effort: u8,
    pub(super) rounding: RoundingArg,
    pub(super) images: Vec<ImageResult>,
    /// Pictures that could not be measured; they are in no mean.
    pub(super) failed: Vec<Failed>,
    pub(super) means: Vec<Mean>,
    pub(super) bd_rates: Vec<BdRate>,
}

/// A picture that could not be measured.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    pub(super) path: String,
    pub(super) error: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ModelName {
    pub(super) name: String,
    pub(super) id: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ImageResult {
    pub(super) path: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) gray: bool,
    pub(super) points: Vec<Point>,
}

/// One picture at one quality. There is a point only if decoding what was encoded passed its check.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    pub(super) percent: f32,
    pub(super) quality: u8,
    pub(super) bytes: usize,
    #[serde(flatten)]
    pub(super) figures: Figures,
    pub(super) encode_stages: Vec<StageSeconds>,
    pub(super) decode_stages: Vec<StageSeconds>,
    pub(super) bits: Vec<Part>,
}

/// The columns of the table.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) bpp: f64,
    /// In dB.
    pub(super) psnr_rgb: f64,
    /// Absent if the picture, or one of the pictures of a mean, is too small for it.
    pub(super) ms_ssim: Option<f64>,
    pub(super) encode_seconds: f64,
    pub(super) decode_seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct StageSeconds {
    pub(super) stage: String,
    pub(super) device: String,
    pub(super) seconds: f64,
}

/// Bits of one part of the stream.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Part {
    pub(super) part: String,
    pub(super) bits: f64,
}

/// Means over the pictures at one quality: of bpp, of dB, of seconds, of bits.
#[derive(Debug, Serialize)]
pub(super) struct Mean {
    pub(super) percent: f32,
    pub(super) quality: u8,
    #[serde(flatten)]
    pub(super) figures: Figures,
    pub(super) encode_stages: Vec<StageSeconds>,
    pub(super) decode_stages: Vec<StageSeconds>,
    pub(super) bits: Vec<Part>,
}

/// BD-rate of the means against one anchor, or why there is none.
#[derive(Debug, Serialize)]
pub(super) struct BdRate {
    pub(super) anchor: String,
    pub(super) percent: Option<f64>,
    pub(super) error: Option<String>,
}

impl Evaluation {
    pub(super) fn new(
        codec: &Codec,
        (threads, encoder): (usize, &EncoderArgs),
        (images, failed): (Vec<ImageResult>, Vec<Failed>),
        means: Vec<Mean>,
        bd_rates: Vec<BdRate>,
    ) -> Self {
        let program = format!("mlic {}", env!("CARGO_PKG_VERSION"));
        let model = ModelName { name: codec.model().name().to_string(), id: codec.model().id().to_string() };
        let backend = codec.backend().name();
        let EncoderArgs { effort, rounding } = *encoder;
        Self { format: info::FORMAT, program, model, backend, threads, effort, rounding, images, failed, means, bd_rates }
    }

    pub(super) fn json(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|error| Failure::from_error(Exit::Other, "cannot write", "JSON", &error))
    }
}

impl ImageResult {
    pub(super) fn new(path: &Path, image: &Image, points: Vec<Point>) -> Self {
        Self { path: path.display().to_string(), width: image.width, height: image.height, gray: image.gray, points }
    }
}

impl StageSeconds {
    pub(super) fn new(time: &StageTime) -> Self {
        Self { stage: time.stage.to_string(), device: time.device.clone(), seconds: time.seconds }
    }
}

impl Mean {
    /// The means at each of the qualities. Every picture has a point for each of them, in this order.
    pub(super) fn over(images: &[ImageResult], qualities: &[Asked]) -> Vec<Self> {
        let points = |at: usize| images.iter().filter_map(move |image| image.points.get(at)).collect::<Vec<_>>();
        qualities.iter().enumerate().map(|(at, &quality)| Self::of(quality, &points(at))).collect()
    }

    fn of(asked: Asked, points: &[&Point]) -> Self {
        let count = points.len() as f64;
        let stages = |stages: fn(&Point) -> &[StageSeconds]| {
            let all = points.iter().flat_map(|&point| stages(point));
            mean_by(all, count, |a, b| (&a.stage, &a.device) == (&b.stage, &b.device), |stage| &mut stage.seconds)
        };
        Self {
            percent: asked.quality.percent(),
            quality: asked.step,
            figures: Figures::mean(&points.iter().map(|point| &point.figures).collect::<Vec<_>>()),
            encode_stages: stages(|point| &point.encode_stages),
            decode_stages: stages(|point| &point.decode_stages),
            bits: mean_by(points.iter().flat_map(|point| &point.bits), count, |a, b| a.part == b.part, |part| &mut part.bits),
        }
    }
}

impl Figures {
    fn mean(all: &[&Self]) -> Self {
        let mean = |value: fn(&Self) -> f64| all.iter().map(|&figures| value(figures)).sum::<f64>() / all.len() as f64;
        let ms_ssim: Option<f64> = all.iter().map(|figures| figures.ms_ssim).sum();
        Self {
            bpp: mean(|figures| figures.bpp),
            psnr_rgb: mean(|figures| figures.psnr_rgb),
            ms_ssim: ms_ssim.map(|sum| sum / all.len() as f64),
            encode_seconds: mean(|figures| figures.encode_seconds),
            decode_seconds: mean(|figures| figures.decode_seconds),
        }
    }
}

/// Adds up the values of equal items and divides each sum by `count`. Items are in order of first appearance.
fn mean_by<'a, T: Clone + 'a>(
    items: impl Iterator<Item = &'a T>,
    count: f64,
    equal: fn(&T, &T) -> bool,
    value: fn(&mut T) -> &mut f64,
) -> Vec<T> {
    let mut sums: Vec<T> = Vec::new();
    for item in items {
        let mut item = item.clone();
        match sums.iter_mut().find(|sum| equal(sum, &item)) {
            Some(sum) => *value(sum) += *value(&mut item),
            None => sums.push(item),
        }
    }
    sums.iter_mut().for_each(|sum| *value(sum) /= count);
    sums
}
