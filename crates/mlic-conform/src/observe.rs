//! What a decoder reports about a stream: external decoders print a [`Message`], and the results of this program's own backends take the same form.

use std::path::PathBuf;
use std::sync::Arc;

use mlic::error::chain;
use mlic::image::Image;
use mlic::{Codec, CodecOptions, Latents, PixelMode};
use mlic_backend::Backend;
use mlic_backend::digest::Digest;
use mlic_core::checkerboard::Parity;
use serde::{Deserialize, Serialize};

use crate::check::header_fields;
use crate::manifest::{HeaderFields, HexDigest};
use crate::record::{PassRecord, Recorder};
use crate::verdict::Place;

/// What a decoder prints for one stream. Every member but `decoder` may be absent; what is absent has not been compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Name and version of the decoder.
    pub decoder: String,
    /// L0: header fields and sections, in the form of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderFields>,
    /// L1: digest of the symbols of z.
    #[serde(default)]
    pub z: Option<HexDigest>,
    /// L1 and L2: every pass, in walk order.
    #[serde(default)]
    pub passes: Option<Vec<PassMessage>>,
    /// L3: digest of `y_hat`.
    #[serde(default)]
    pub y_hat: Option<HexDigest>,
    /// For a truncated stream, the number of latent slices whose symbols are all there.
    #[serde(default)]
    pub whole_slices: Option<usize>,
    /// L4: digest of the samples of the picture, where they are exact (SPEC 5.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<HexDigest>,
    /// L4 in float: path of a PPM or PGM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PathBuf>,
    /// Why the stream or the package was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Digests of one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassMessage {
    /// Index of the latent slice.
    pub slice: usize,
    /// `anchor` or `non-anchor`.
    pub parity: Half,
    /// L2: means.
    #[serde(default)]
    pub means: Option<HexDigest>,
    /// L2: scale indices.
    #[serde(default)]
    pub scale_indices: Option<HexDigest>,
    /// L1: symbols.
    #[serde(default)]
    pub symbols: Option<HexDigest>,
}

/// A [`Parity`] in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Half {
    /// [`Parity::Anchor`].
    Anchor,
    /// [`Parity::NonAnchor`].
    NonAnchor,
}

/// Why a stream was not decoded, or not completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Error code: that of `mlic::Error::code()`.
    pub code: String,
    /// Message for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a decoder computed for a vector, for comparing machines with one another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Computed {
    /// `decoded`, or the code of the refusal.
    pub outcome: String,
    /// One digest for z and all passes: see [`Message::walk_digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk: Option<HexDigest>,
    /// Digest of `y_hat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y_hat: Option<HexDigest>,
    /// For a truncated stream, the number of latent slices whose symbols are all there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_slices: Option<usize>,
    /// Digest of the exact pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<HexDigest>,
    /// How far the float picture is from the expected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureDifference>,
}

/// Differences between the samples of two pictures, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureDifference {
    /// Largest difference.
    pub max_difference: u8,
    /// Mean difference.
    pub mean_difference: f64,
}

impl Refusal {
    /// Whether the decoder itself failed, rather than refused the stream.
    #[must_use]
    pub fn is_of_the_decoder(&self) -> bool {
        matches!(self.code.as_str(), "backend" | "model" | "out-of-memory" | "unknown-backend")
    }

    /// Whether the stream needs more than a limit of the decoder's own (SPEC 1.3).
    #[must_use]
    pub fn is_own_limit(&self) -> bool {
        matches!(self.code.as_str(), "pixel-budget" | "memory-budget" | "time-budget")
    }

    /// Returns the message, or the code if there is none.
    #[must_use]
    pub fn text(&self) -> String {
        self.message.clone().unwrap_or_else(|| self.code.clone())
    }
}

impl From<&mlic::Error> for Refusal {
    fn from(error: &mlic::Error) -> Self {
        Self { code: error.code().to_owned(), message: Some(chain(error)) }
    }
}

impl From<Parity> for Half {
    fn from(parity: Parity) -> Self {
        match parity {
            Parity::Anchor => Self::Anchor,
            Parity::NonAnchor => Self::NonAnchor,
        }
    }
}

impl From<&PassRecord> for PassMessage {
    fn from(record: &PassRecord) -> Self {
        Self {
            slice: record.pass.slice_index,
            parity: record.pass.parity.into(),
            means: Some(record.means().into()),
            scale_indices: Some(record.scale_indices().into()),
            symbols: record.symbols().map(Into::into),
        }
    }
}

impl Message {
    /// Returns a message that states only why there is no decoding.
    #[must_use]
    pub fn refused(decoder: String, refusal: Refusal) -> Self {
        Self { decoder, error: Some(refusal), ..Self::default() }
    }

    /// Returns the digest of the digests of z and of each pass's means, scale indices and symbols, 16 bytes each, in walk order; none
    /// if any of them is absent.
    #[must_use]
    pub fn walk_digest(&self) -> Option<Digest> {
        let passes = self.passes.as_deref().filter(|passes| !passes.is_empty())?;
        let in_pass = |p: &PassMessage| [p.means, p.scale_indices, p.symbols];
        let mut bytes = Vec::with_capacity(16 + 48 * passes.len());
        for digest in std::iter::once(self.z).chain(passes.iter().flat_map(in_pass)) {
            bytes.extend(digest?.0.0);
        }
        Some(Digest::of_bytes(&bytes))
    }

    /// Returns what goes into reports; none if the decoder failed or reached a limit of its own, so that it has no result that others must match.
    #[must_use]
    pub fn computed(&self) -> Option<Computed> {
        if self.error.as_ref().is_some_and(|refusal| refusal.is_of_the_decoder() || refusal.is_own_limit()) {
            return None;
        }
        Some(Computed {
            outcome: self.error.as_ref().map_or_else(|| "decoded".to_owned(), |refusal| refusal.code.clone()),
            walk: self.walk_digest().map(Into::into),
            y_hat: self.y_hat,
            whole_slices: self.whole_slices,
            pixels: self.pixels,
            picture: None,
        })
    }
}

/// Decodes a stream up to `y_hat` on a backend.
///
/// The latents are returned for the synthesis; an error is stated in the message as well.
pub fn observe(stream: &[u8], backend: &Arc<dyn Backend>) -> (Message, Result<Latents, mlic::Error>) {
    let recorder = Arc::new(Recorder::new(Arc::clone(backend)));
    let codec = Codec::from_backend(Arc::clone(&recorder) as Arc<dyn Backend>, CodecOptions::default());
    let result = codec.and_then(|codec| codec.decode_latents(stream));
    let recording = recorder.recording();
    let latents = result.as_ref().ok();
    let message = Message {
        decoder: format!("mlic-conform {} {}", env!("CARGO_PKG_VERSION"), backend.name()),
        header: header_fields(stream).ok(),
        z: recording.z.as_deref().map(|z| Digest::of_i32(z).into()),
        passes: Some(recording.passes.iter().map(PassMessage::from).collect()),
        y_hat: latents.map(|latents| Digest::of_i32(&latents.y_hat.data).into()),
        whole_slices: latents.and_then(|latents| latents.truncation.as_ref().map(|t| t.whole_slices)),
        pixels: None,
        picture: None,
        error: result.as_ref().err().map(Refusal::from),
    };
    (message, result)
}

/// Decodes a stream on the backend itself, with exactly the calls of [`Codec::decode`] or, up to `y_hat`, of [`Codec::decode_latents`], and returns the
/// digest of the result. [`observe`] differs: it requests means, which a decoder does not, and never the samples of a session.
///
/// # Errors
/// Any error of the codec.
pub fn decode_alone(stream: &[u8], backend: &Arc<dyn Backend>, to: &Place) -> Result<HexDigest, mlic::Error> {
    let codec = |options| Codec::from_backend(Arc::clone(backend), options);
    let digest = match to {
        Place::Pixels => {
            let exact = CodecOptions::default().with_pixels(PixelMode::Exact);
            Digest::of_bytes(&samples(&codec(exact)?.decode(stream)?.image))
        }
        _ => Digest::of_i32(&codec(CodecOptions::default())?.decode_latents(stream)?.y_hat.data),
    };
    Ok(digest.into())
}

/// Returns the digest of the exact pixels of a decoding; none if the package has no exact synthesis.
///
/// # Errors
/// Any error of the backend.
pub fn observe_pixels(latents: &Latents, backend: &Arc<dyn Backend>) -> Result<Option<HexDigest>, mlic::Error> {
    Ok(exact_pixels(latents, backend)?.map(|pixels| Digest::of_bytes(&pixels).into()))
}

/// Returns the exact pixels of the cropped picture (SPEC 5.7, 7) by row, column and channel: red, green and blue, or one value for gray.
///
/// # Errors
/// Any error of the backend.
pub fn exact_pixels(latents: &Latents, backend: &Arc<dyn Backend>) -> Result<Option<Vec<u8>>, mlic::Error> {
    if backend.model().exact_synthesis().is_none() {
        return Ok(None);
    }
    let exact = CodecOptions::default().with_pixels(PixelMode::Exact);
    let image = Codec::from_backend(Arc::clone(backend), exact)?.synthesize(latents)?;
    Ok(Some(samples(&image)))
}

/// Returns the samples of a picture: red, green and blue or, if it is gray, the one value that all three have at each position (SPEC 5.6). The value is not
/// computed from the three, which would hide that a picture had not been made gray.
fn samples(image: &Image) -> Vec<u8> {
    if image.gray { image.rgb.iter().step_by(3).copied().collect() } else { image.rgb.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let digest = |byte: u8| Some(HexDigest(Digest([byte; 16])));
        let pass = |parity| PassMessage { slice: 0, parity, means: digest(1), scale_indices: digest(2), symbols: digest(3) };
        let passes = Some(vec![pass(Half::Anchor), pass(Half::NonAnchor)]);
        Message { decoder: "test".into(), z: digest(0xab), passes, ..Message::default() }
    }

    #[test]
    fn a_gray_picture_has_one_sample_at_each_position_as_it_is() {
        let mut image = Image::from_gray(3, 1, &[0, 77, 255]).unwrap();
        assert_eq!(samples(&image), [0, 77, 255]);
        image.rgb[4] = 78;
        assert_eq!(samples(&image), [0, 77, 255], "not made of the three");
        image.gray = false;
        assert_eq!(samples(&image), [0, 0, 0, 77, 78, 77, 255, 255, 255]);
    }

    #[test]
    fn the_walk_digest_is_over_the_bytes_of_all_digests_in_order() {
        let bytes: Vec<u8> = [0xab, 1, 2, 3, 1, 2, 3].into_iter().flat_map(|byte| [byte; 16]).collect();
        assert_eq!(message().walk_digest(), Some(Digest::of_bytes(&bytes)));
    }

    #[test]
    fn a_walk_digest_needs_every_part() {
        let without = |change: &dyn Fn(&mut Message)| {
            let mut message = message();
            change(&mut message);
            message.walk_digest()
        };
        assert_eq!(without(&|m| m.z = None), None);
        assert_eq!(without(&|m| m.passes = None), None);
        assert_eq!(without(&|m| m.passes = Some(vec![])), None);
        assert_eq!(without(&|m| m.passes.as_mut().unwrap()[1].means = None), None);
    }
}
