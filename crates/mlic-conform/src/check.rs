//! One vector against one backend.

use std::sync::Arc;

use mlic::image::{Image, ReadOptions, read_image};
use mlic::{Codec, Latents};
use mlic_backend::Backend;
use mlic_backend::digest::Digest;
use mlic_core::container::{self, ContainerError};
use mlic_model::Model;

use crate::error::{ConformError, chain};
use crate::manifest::{Decodes, Expect, HeaderFields, Level, PassDigests, PictureRef, Refused};
use crate::record::{PassRecord, Recorder, Recording};
use crate::verdict::{Divergence, Place, Tensor, Verdict};

/// A vector with its files read.
#[derive(Debug, Clone)]
pub struct Job {
    /// The stream.
    pub stream: Vec<u8>,
    /// What must come of it.
    pub expect: Expect,
    /// The picture of level 4, as PNG.
    pub picture: Option<Vec<u8>>,
}

/// Judges a vector.
#[must_use]
pub fn check(job: &Job, backend: Arc<dyn Backend>, level: Level) -> Verdict {
    let outcome = match &job.expect {
        Expect::Refused(refused) => check_refused(&job.stream, refused, backend, level),
        Expect::PackageRefused(refused) => Ok(check_package(&job.stream, &refused.code)),
        Expect::Decodes(decodes) => check_decodes(job, decodes, backend, level),
    };
    match outcome {
        Ok(None) => Verdict::Pass,
        Ok(Some(divergence)) => Verdict::Fail(divergence),
        Err(error) if error.is_not_available() => Verdict::NotSupported(error.chain()),
        Err(error) => Verdict::Error(error.chain()),
    }
}

type Outcome = Result<Option<Divergence>, ConformError>;

fn divergence(level: Level, place: Place, expected: impl ToString, got: impl ToString) -> Divergence {
    Divergence { level, place, expected: expected.to_string(), got: got.to_string(), error: None }
}

/// The container's error, from the header or from what follows it.
fn container_error(stream: &[u8]) -> Option<ContainerError> {
    container::parse(stream).map_or_else(Some, |parsed| parsed.damage)
}

fn check_refused(stream: &[u8], refused: &Refused, backend: Arc<dyn Backend>, level: Level) -> Outcome {
    let got = if level == Level::L0 {
        container_error(stream).map(|error| error.code())
    } else {
        Codec::with_backend(backend).decode_latents(stream, &|_| ()).err().map(|error| error.code())
    };
    let got = got.unwrap_or("a decoding without error");
    Ok((got != refused.code).then(|| divergence(refused.level, Place::Outcome, &refused.code, got)))
}

/// A package that must be refused, with this code.
fn check_package(package: &[u8], code: &str) -> Option<Divergence> {
    let got = Model::from_bytes(package.to_vec()).err().map_or("a model", |error| error.code());
    (got != code).then(|| divergence(Level::L0, Place::Outcome, code, got))
}

fn check_decodes(job: &Job, expected: &Decodes, backend: Arc<dyn Backend>, level: Level) -> Outcome {
    if let Some(found) = check_header(&job.stream, expected) {
        return Ok(Some(found));
    }
    if level == Level::L0 {
        return Ok(None);
    }
    let recorder = Arc::new(Recorder::new(backend));
    let codec = Codec::with_backend(Arc::clone(&recorder) as Arc<dyn Backend>);
    let result = codec.decode_latents(&job.stream, &|_| ());
    let recording = recorder.recording();
    let found = compare_passes(&recording, expected, level);
    let latents = match result {
        Ok(latents) => latents,
        Err(error) => return ended_in_error(found, error),
    };
    let found = found.or_else(|| check_complete(&recording, expected));
    if let Some(found) = found.or_else(|| compare_latents(&latents, expected, level)) {
        return Ok(Some(found));
    }
    match (&expected.picture, &job.picture) {
        (Some(picture), Some(png)) if level >= Level::L4 => compare_picture(&codec.synthesize(&latents)?, picture, png),
        (Some(picture), None) if level >= Level::L4 => Err(ConformError::Missing { file: picture.image.file.clone() }),
        _ => Ok(None),
    }
}

/// A device's failure is an error, a refusal of the stream is a failure, unless either is the consequence of a difference.
fn ended_in_error(found: Option<Divergence>, error: mlic::Error) -> Outcome {
    let text = chain(&error);
    match (found, error) {
        (Some(found), _) => Ok(Some(Divergence { error: Some(text), ..found })),
        (None, error @ (mlic::Error::Backend(_) | mlic::Error::Model(_))) => Err(error.into()),
        (None, error) => {
            let found = divergence(Level::L1, Place::Outcome, "a decoding without error", error.code());
            Ok(Some(Divergence { error: Some(text), ..found }))
        }
    }
}

/// The header of a stream as manifests hold it; with the whole of the container's error when there is none.
///
/// # Errors
/// [`ContainerError`] for a stream that decodes to nothing.
pub fn header_fields(stream: &[u8]) -> Result<HeaderFields, ContainerError> {
    let parsed = container::parse(stream)?;
    let header = parsed.header;
    Ok(HeaderFields {
        model: header.model_id.to_string(),
        width: header.width,
        height: header.height,
        quality: header.quality,
        gray: header.gray,
        lanes_log2: header.lanes_log2,
        symbol_checksum: header.symbol_checksum,
        payload_bytes: parsed.payload_len,
        sections: parsed.sections.iter().map(|section| (section.kind.0, section.bytes.len())).collect(),
    })
}

fn check_header(stream: &[u8], expected: &Decodes) -> Option<Divergence> {
    let differs = |field, expected: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug| {
        let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
        (expected != got).then(|| divergence(Level::L0, Place::Header(field), expected, got))
    };
    let got = match header_fields(stream) {
        Ok(got) => got,
        Err(error) => return Some(divergence(Level::L0, Place::Outcome, "a header", error.code())),
    };
    let damage = container_error(stream).map(|error| error.code());
    let allowed = expected.whole_slices.map(|_| "truncated");
    let want = &expected.header;
    differs("damage", &allowed, &damage)
        .or_else(|| differs("model", &want.model, &got.model))
        .or_else(|| differs("width", &want.width, &got.width))
        .or_else(|| differs("height", &want.height, &got.height))
        .or_else(|| differs("quality", &want.quality, &got.quality))
        .or_else(|| differs("gray", &want.gray, &got.gray))
        .or_else(|| differs("lanes_log2", &want.lanes_log2, &got.lanes_log2))
        .or_else(|| differs("symbol_checksum", &want.symbol_checksum, &got.symbol_checksum))
        .or_else(|| differs("payload_bytes", &want.payload_bytes, &got.payload_bytes))
        .or_else(|| differs("sections", &want.sections, &got.sections))
}

/// The first difference in walk order, of what the level compares.
fn compare_passes(got: &Recording, expected: &Decodes, level: Level) -> Option<Divergence> {
    let z = got.z.as_deref().map(Digest::of_i32);
    if let Some(z) = z.filter(|z| z.to_string() != expected.z.0) {
        return Some(divergence(Level::L1, Place::Z, &expected.z, z));
    }
    got.passes.iter().zip(&expected.passes).find_map(|(got, expected)| compare_pass(got, expected, level))
}

/// A decoding without error that did not go through every pass has not been compared.
fn check_complete(got: &Recording, expected: &Decodes) -> Option<Divergence> {
    let done = got.passes.iter().filter(|pass| pass.symbols.is_some()).count();
    let complete = got.z.is_some() && done == expected.passes.len() && got.passes.len() == done;
    (!complete)
        .then(|| divergence(Level::L1, Place::Outcome, format!("{} passes", expected.passes.len()), format!("{done} passes")))
}

fn compare_pass(got: &PassRecord, expected: &PassDigests, level: Level) -> Option<Divergence> {
    let tensors = [
        (Tensor::Means, Some(got.means()), &expected.means),
        (Tensor::ScaleIndices, Some(got.scale_indices()), &expected.scale_indices),
        (Tensor::Symbols, got.symbols(), &expected.symbols),
    ];
    let asked = tensors.into_iter().filter(|(tensor, ..)| tensor.level() <= level);
    let mut there = asked.filter_map(|(tensor, got, expected)| Some((tensor, got?, expected)));
    let first = there.find(|(_, got, expected)| got.to_string() != expected.0);
    first.map(|(tensor, digest, expected)| divergence(tensor.level(), Place::Pass { pass: got.pass, tensor }, expected, digest))
}

fn compare_latents(got: &Latents, expected: &Decodes, level: Level) -> Option<Divergence> {
    let whole = got.truncation.as_ref().map(|t| t.whole_slices);
    if whole != expected.whole_slices {
        let text = |whole: Option<usize>| whole.map_or_else(|| "a whole stream".to_owned(), |n| n.to_string());
        return Some(divergence(Level::L1, Place::WholeSlices, text(expected.whole_slices), text(whole)));
    }
    let y_hat = Digest::of_i32(&got.y_hat.data);
    let differs = level >= Level::L3 && y_hat.to_string() != expected.y_hat.0;
    differs.then(|| divergence(Level::L3, Place::YHat, &expected.y_hat, y_hat))
}

fn compare_picture(got: &Image, expected: &PictureRef, png: &[u8]) -> Outcome {
    let picture = read_image(png, &ReadOptions::default())?;
    let size = |image: &Image| (image.width, image.height, image.gray);
    if size(got) != size(&picture) {
        let text = |image: &Image| format!("{:?} (width, height, gray)", size(image));
        return Ok(Some(divergence(Level::L4, Place::Picture, text(&picture), text(got))));
    }
    // What has no colour is compared as it is written.
    let (largest, mean) = differences(got, &picture);
    let within = largest <= expected.max_difference && mean <= expected.mean_difference;
    let limits = format!("differences of at most {} and {} in the mean", expected.max_difference, expected.mean_difference);
    Ok((!within).then(|| divergence(Level::L4, Place::Picture, limits, format!("{largest} and {mean:.4}"))))
}

/// Largest and mean difference of the samples; of the luma for gray pictures, which is all that their files hold.
fn differences(got: &Image, expected: &Image) -> (u8, f64) {
    let samples = |image: &Image| if image.gray { luma(&image.rgb) } else { image.rgb.clone() };
    let (got, expected) = (samples(got), samples(expected));
    let each = || got.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each().map(u64::from).sum();
    (each().max().unwrap_or(0), sum as f64 / got.len().max(1) as f64)
}

/// BT.601 luma as `mlic::image::write_image` rounds it.
fn luma(rgb: &[u8]) -> Vec<u8> {
    let weigh = |&[r, g, b]: &[u8; 3]| ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b) + 500) / 1000) as u8;
    rgb.as_chunks::<3>().0.iter().map(weigh).collect()
}
