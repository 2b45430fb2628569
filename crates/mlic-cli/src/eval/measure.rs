//! One picture at one quality.

use std::path::Path;
use std::time::Instant;

use mlic::image::Image;
use mlic::metrics::{ms_ssim, psnr};
use mlic::{Codec, Decoded, Error};

use super::Asked;
use super::report::{Figures, Part, Point, StageSeconds};
use crate::exit::{Exit, Failure};

pub(super) fn point(codec: &Codec, image: &Image, asked: Asked, path: &Path) -> Result<Point, Failure> {
    let fail = |what| move |error: Error| Failure::from_codec(what, path.display(), &error);
    let start = Instant::now();
    let encoded = codec.encode(image, asked.quality).map_err(fail("cannot encode"))?;
    let encode_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let decoded = codec.decode(&encoded.stream).map_err(fail("cannot decode what was encoded"))?;
    let decode_seconds = start.elapsed().as_secs_f64();
    check(image, &decoded, path)?;
    let metric = |error| Failure::from_error(Exit::Other, "cannot measure", path.display(), &error);
    Ok(Point {
        percent: asked.quality.percent(),
        quality: asked.step,
        bytes: encoded.stream.len(),
        figures: Figures {
            bpp: 8.0 * encoded.stream.len() as f64 / image.pixels() as f64,
            psnr_rgb: psnr(image, &decoded.image).map_err(metric)?,
            ms_ssim: ms_ssim(image, &decoded.image).map_err(metric)?,
            encode_seconds,
            decode_seconds,
        },
        encode_stages: encoded.report.stages.iter().map(StageSeconds::new).collect(),
        decode_stages: decoded.report.stages.iter().map(StageSeconds::new).collect(),
        bits: encoded.report.bits.iter().map(|part| Part { part: part.part.to_string(), bits: part.bits }).collect(),
    })
}

/// Checks that a decoded picture is complete, with size, gray and metadata of the original. Its symbols are the encoder's, as a checksum has shown.
fn check(image: &Image, decoded: &Decoded, path: &Path) -> Result<(), Failure> {
    let carried = |image: &Image| (image.width, image.height, image.gray);
    let same = carried(image) == carried(&decoded.image) && image.metadata == decoded.image.metadata;
    if same && decoded.truncation.is_none() {
        return Ok(());
    }
    Err(Failure::new(Exit::Damaged, "the stream is not what was encoded", path.display(), "size, gray or metadata differ"))
}
