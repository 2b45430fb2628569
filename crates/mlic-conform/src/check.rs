//! Judges one vector on one backend.

use std::sync::Arc;

use mlic::{Codec, CodecOptions, Latents, PixelMode};
use mlic_backend::Backend;
use mlic_core::container::{self, ContainerError};
use mlic_core::schedule::LatentSize;
use mlic_model::Model;

use crate::compare::{Comparison, Pictures, compare, compare_header, divergence, ended_in_error};
use crate::error::ConformError;
use crate::manifest::{Decodes, Expect, HeaderFields, HexDigest, Level, Refused};
use crate::observe::{Computed, Message, Refusal, decode_alone, observe, observe_pixels};
use crate::verdict::{Divergence, Place, Verdict};

/// One stream in this many, by symbol checksum, is decoded alone where that takes an additional run of the passes.
const ONE_IN: u32 = 7;
/// For these streams, the largest number of pixels, sides padded, up to which the exact pixels are computed from `y_hat` too.
const TWICE_PIXELS: usize = 4096;

/// A vector with its files read.
#[derive(Debug, Clone)]
pub struct Job {
    /// The stream.
    pub stream: Vec<u8>,
    /// The result that it must give.
    pub expect: Expect,
    /// The reference picture of level 4, as PNG.
    pub picture: Option<Vec<u8>>,
}

/// A verdict, and what the decoder computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// What the decoder computed; none when there was no decoding, or the decoder's own failure or limit ended it.
    pub computed: Option<Computed>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, computed: None }
    }
}

impl Judged {
    /// Returns the verdict that follows from comparing a decoder's message.
    pub(crate) fn new(message: &Message, outcome: Result<Comparison, ConformError>) -> Self {
        let mut computed = message.computed();
        let verdict = match outcome {
            Ok(comparison) => {
                if let Some(computed) = &mut computed {
                    (computed.pixels, computed.picture) = (comparison.pixels, comparison.picture);
                }
                match (comparison.first, comparison.absent.as_slice()) {
                    (Some(found), _) => Verdict::Fail(found),
                    (None, []) => Verdict::Pass,
                    (None, absent) => Verdict::NotSupported(format!("the decoder does not say: {}", absent.join(", "))),
                }
            }
            Err(error) => error.into(),
        };
        Self { verdict, computed }
    }
}

impl From<ConformError> for Verdict {
    fn from(error: ConformError) -> Self {
        if error.is_not_available() { Self::NotSupported(error.chain()) } else { Self::Error(error.chain()) }
    }
}

/// Judges a vector on a backend, up to a level.
#[must_use]
pub fn check(job: &Job, backend: &Arc<dyn Backend>, level: Level) -> Judged {
    match &job.expect {
        Expect::Refused(refused) => check_refused(&job.stream, refused, backend, level),
        Expect::PackageRefused(refused) => check_package(&job.stream, &refused.code),
        Expect::PackageTaken {} => check_package(&job.stream, TAKEN),
        Expect::Decodes(decodes) => check_decodes(job, decodes, backend, level),
    }
}

/// Returns the container's error, from the header or from what follows it.
fn container_error(stream: &[u8]) -> Option<ContainerError> {
    container::parse(stream).map_or_else(Some, |parsed| parsed.damage)
}

fn check_refused(stream: &[u8], refused: &Refused, backend: &Arc<dyn Backend>, level: Level) -> Judged {
    if level == Level::L0 {
        let error = container_error(stream).map(|error| Refusal { code: error.code().to_owned(), message: None });
        let message = Message { error, ..Message::default() };
        return Judged::new(&message, Ok(compare_refusal(&message, refused))).verdict.into();
    }
    let message = observe(stream, backend).0;
    Judged::new(&message, Ok(compare_refusal(&message, refused)))
}

/// What stands for an error code where a package must be accepted.
const TAKEN: &str = "a model";

/// Judges a package that must be refused with this code, or accepted if the code is [`TAKEN`].
fn check_package(package: &[u8], code: &str) -> Judged {
    let got = Model::from_bytes(package.to_vec()).err().map_or(TAKEN, |error| error.code());
    let first = (got != code).then(|| divergence(Level::L0, Place::Outcome, code, got));
    first.map_or(Verdict::Pass, Verdict::Fail).into()
}

/// Compares a decoder's message with the refusal that a stream must give.
pub(crate) fn compare_refusal(got: &Message, refused: &Refused) -> Comparison {
    let code = got.error.as_ref().map_or("a decoding without error", |refusal| refusal.code.as_str());
    let first = (code != refused.code).then(|| divergence(refused.level, Place::Outcome, &refused.code, code));
    Comparison { first, ..Comparison::default() }
}

fn check_decodes(job: &Job, expected: &Decodes, backend: &Arc<dyn Backend>, level: Level) -> Judged {
    if let Some(found) = check_container(&job.stream, expected) {
        return Verdict::Fail(found).into();
    }
    if level == Level::L0 {
        return Verdict::Pass.into();
    }
    let (message, result) = observe(&job.stream, backend);
    let result = result.map_err(ConformError::from);
    if let Err(error) = result.as_ref()
        && error.is_not_available()
    {
        return Verdict::NotSupported(error.chain()).into();
    }
    let float = || Codec::from_backend(Arc::clone(backend), CodecOptions::default().with_pixels(PixelMode::Float));
    let synthesize = |latents: &Latents| float()?.synthesize(latents);
    let is_one = expected.header.symbol_checksum.is_multiple_of(ONE_IN);
    let size = LatentSize::of_image(expected.header.width, expected.header.height);
    let is_twice = is_one && size.is_some_and(|size| size.padded[0] * size.padded[1] <= TWICE_PIXELS);
    let (to, wanted) = match &expected.pixels {
        Some(pixels) if level == Level::L4 => (Place::Pixels, pixels),
        _ => (Place::YHat, &expected.y_hat),
    };
    let mut alone = None;
    let pixels = || {
        let Ok(latents) = &result else { return Ok(None) };
        let own = (to == Place::Pixels).then(|| decode_alone(&job.stream, backend, &to));
        // For most streams the pixels are not computed from `y_hat` again, unless something differs and it must be found out what.
        let is_known = matches!(&own, Some(Ok(pixels)) if pixels == wanted) && !is_twice;
        let pixels = if is_known { Some(*wanted) } else { observe_pixels(latents, backend)? };
        alone = own;
        Ok(pixels)
    };
    let pictures = Pictures { pixels, float: || Ok(result.as_ref().ok().map(synthesize).transpose()?) };
    let mut outcome = compare(&message, pictures, expected, job.picture.as_deref(), level);
    if let Ok(Comparison { first: first @ None, .. }) = &mut outcome {
        let alone = alone.or_else(|| (is_one && to == Place::YHat).then(|| decode_alone(&job.stream, backend, &to)));
        match alone.map_or(Ok(None), |got| compare_alone(got, to, wanted, level)) {
            Ok(found) => *first = found,
            Err(error) => outcome = Err(error),
        }
    }
    Judged::new(&message, outcome)
}

/// Judges the calls of a decoder alone, after the watched decoding has given what is expected.
fn compare_alone(
    got: Result<HexDigest, mlic::Error>,
    to: Place,
    expected: &HexDigest,
    level: Level,
) -> Result<Option<Divergence>, ConformError> {
    let of = if to == Place::Pixels { Level::L4 } else { Level::L3 };
    let found = match got {
        Ok(got) if of > level || got == *expected => return Ok(None),
        Ok(got) => divergence(of, to, expected, got),
        Err(error) => ended_in_error(None, &Refusal::from(&error))?,
    };
    Ok(Some(Divergence { place: Place::Alone(Box::new(found.place)), ..found }))
}

/// Returns the header fields and sections of a stream, in the form of a manifest.
///
/// # Errors
/// [`ContainerError`] for a stream without a complete and valid header.
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

/// Compares at level 0: the header, and damage, which must be there if and only if it is expected.
fn check_container(stream: &[u8], expected: &Decodes) -> Option<Divergence> {
    let got = match header_fields(stream) {
        Ok(got) => got,
        Err(error) => return Some(divergence(Level::L0, Place::Outcome, "a header", error.code())),
    };
    let damage = container_error(stream).map(|error| error.code());
    let allowed = expected.whole_slices.map(|_| "truncated");
    if damage != allowed {
        let (allowed, damage) = (format!("{allowed:?}"), format!("{damage:?}"));
        return Some(divergence(Level::L0, Place::Header("damage"), allowed, damage));
    }
    compare_header(&got, &expected.header)
}
