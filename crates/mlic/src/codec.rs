//! Encoder and decoder.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use mlic_backend::dead_zone::{BIT_WORTH_Q16, DeadZone};
use mlic_backend::memory::refinement_bytes;
use mlic_backend::{Backend, BackendError, Stage};
use mlic_core::container::{Header, ModelId};
use mlic_core::limits::{MAX_PIXELS, MAX_SECTION_LEN, MAX_SIDE};
use mlic_core::schedule::LatentSize;
use mlic_kernels::Map;
use mlic_model::Model;
use once_cell::sync::OnceCell;

use crate::backend::{BackendChoice, backend};
use crate::budget::{self, AnalysisShape, Limits};
use crate::error::{Error, Place};
use crate::image::{Image, ImageError};
use crate::metadata::MetadataPolicy;
use crate::pixels;
use crate::quality::Quality;
use crate::watched::{Goal, Watched};

/// How a codec runs.
///
/// ```
/// use mlic::metadata::MetadataPolicy;
/// use mlic::{BackendChoice, CodecOptions, Limits, PixelMode};
///
/// let options = CodecOptions::default().with_backend(BackendChoice::Integer).with_threads(2).with_pixels(PixelMode::Exact);
/// let options = options.with_metadata(MetadataPolicy::Fit).with_limits(Limits::default().with_max_pixels(1 << 24));
/// # assert_eq!((options.metadata, options.limits.max_pixels), (MetadataPolicy::Fit, 1 << 24));
/// # assert_eq!((options.backend, options.threads, options.pixels), (BackendChoice::Integer, 2, PixelMode::Exact));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CodecOptions {
    /// The executor of the networks. Only [`Codec::new`] reads this.
    pub backend: BackendChoice,
    /// Number of threads; 0 means all cores. No result depends on it. The threads belong to the codec and serve all concurrent calls: several pictures
    /// at a time take no more threads than one. A caller on a thread of a rayon pool waits without starting other jobs of that pool.
    /// Only [`Codec::new`] reads this.
    pub threads: usize,
    /// How pictures are made from latents.
    pub pixels: PixelMode,
    /// What happens to the metadata of decoded streams. If a stream is damaged only after its payload (in a section, or by bytes after the last one),
    /// [`MetadataPolicy::Keep`] gives [`Error::Tail`], or a [truncated](Truncation) result if the stream is cut there; [`Fit`](MetadataPolicy::Fit)
    /// keeps the intact sections and adds a note to [`Image::notes`]; [`Strip`](MetadataPolicy::Strip) ignores the damage.
    pub metadata: MetadataPolicy,
    /// Rounds of refinement in encoding. In each round the encoder looks at what a decoder would make of its stream, and moves the latents by what is
    /// missing (SPEC 5.9). A round costs a decoding and an analysis; the best stream of all rounds is written.
    pub effort: u8,
    /// How the encoder chooses symbols.
    pub rounding: Rounding,
    /// What the codec may spend on one stream or picture.
    pub limits: Limits,
}

impl CodecOptions {
    /// Sets [`Self::backend`].
    #[must_use]
    pub const fn with_backend(self, backend: BackendChoice) -> Self {
        Self { backend, ..self }
    }

    /// Sets [`Self::threads`].
    #[must_use]
    pub const fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Sets [`Self::pixels`].
    #[must_use]
    pub const fn with_pixels(self, pixels: PixelMode) -> Self {
        Self { pixels, ..self }
    }

    /// Sets [`Self::metadata`].
    #[must_use]
    pub const fn with_metadata(self, metadata: MetadataPolicy) -> Self {
        Self { metadata, ..self }
    }

    /// Sets [`Self::effort`].
    #[must_use]
    pub const fn with_effort(self, effort: u8) -> Self {
        Self { effort, ..self }
    }

    /// Sets [`Self::rounding`].
    #[must_use]
    pub const fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Sets [`Self::limits`].
    #[must_use]
    pub const fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

/// How a picture is made from latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PixelMode {
    /// Exact where the model has an integer synthesis, else float. Exact pixels are the same everywhere, and faster on every processor with
    /// instructions for integer products.
    #[default]
    Auto,
    /// In integers (SPEC 5.7): every sample is the same on every machine.
    Exact,
    /// In float, within the tolerance of conformance level 4.
    Float,
}

/// How an encoder chooses the symbols of y.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rounding {
    /// By rate and distortion together: the nearest symbol, or the next one toward zero where the bits saved are worth more than the error (SPEC 5.8).
    #[default]
    RateDistortion,
    /// The nearest symbol, as in the published code: more bytes, and a better picture. At equal PSNR, streams of photographs are up to 3 % larger. For
    /// a model of one quality this is the only other operating point.
    Nearest,
}

/// Information content of one part of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartBits {
    /// The part: header, z, a pass, the coder, or metadata.
    pub part: Place,
    /// Its bits.
    pub bits: f64,
}

/// Time of one stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The device that ran it.
    pub device: String,
}

/// Where the bits and the time of a call went.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Bits by part, known only to an encoder; empty from a decoder.
    pub bits: Vec<PartBits>,
    /// Time by stage.
    pub stages: Vec<StageTime>,
}

/// An encoded picture.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encoded {
    /// The stream.
    pub stream: Vec<u8>,
    /// Quality index of the stream, 0 to [`Model::quality_steps`].
    pub quality: u8,
    /// Bits and times.
    pub report: Report,
}

/// How far a truncated stream goes.
///
/// The checksums of payload and symbols cover whole payloads (SPEC 5.5): nothing shows that the bytes of a truncated one are those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncation {
    /// Number of latent slices whose symbols are all present.
    pub whole_slices: usize,
    /// Number of latent slices of the model.
    pub slice_count: usize,
    /// Whether the payload is complete and intact: then the picture is that of the whole stream, and only metadata is cut.
    pub is_payload_whole: bool,
    /// Bytes present.
    pub have_bytes: u64,
    /// Bytes of the whole stream.
    pub need_bytes: u64,
}

/// The exact part of decoding: everything up to the synthesis.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Latents {
    /// The stream's header.
    pub header: Header,
    /// Symbols of z, `[H/64][W/64][N]`.
    pub z_symbols: Vec<i32>,
    /// `y_hat` in latent fixed point, `[H/16][W/16][M]`.
    pub y_hat: Map<i32>,
    /// Present if the stream was cut.
    pub truncation: Option<Truncation>,
}

/// A decoded picture.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// The picture.
    pub image: Image,
    /// Present if the stream was cut: the picture is then made from the latent slices that are whole.
    pub truncation: Option<Truncation>,
    /// Times.
    pub report: Report,
}

/// A step of a codec's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressEvent {
    /// A stage has begun.
    Stage(Stage),
    /// A pass is done.
    Pass {
        /// Index of the pass, from 0.
        index: usize,
        /// Number of passes.
        count: usize,
    },
}

/// Callback that a codec calls with each event, on whichever thread it runs; the result says whether the codec goes on.
pub type Progress<'a> = dyn Fn(ProgressEvent) -> ControlFlow<()> + Sync + 'a;

/// An encoder and decoder: a model on a backend. Clones share both, and so do codecs [with other options](Self::with_options).
#[derive(Clone)]
pub struct Codec {
    backend: Arc<dyn Backend>,
    options: CodecOptions,
    /// Made when the first picture is encoded.
    encoding: Arc<OnceCell<ForEncoding>>,
}

/// What an encoder derives from its model.
struct ForEncoding {
    analysis: AnalysisShape,
    /// Dead zone of [`Rounding::RateDistortion`].
    dead_zone: DeadZone,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("backend", &self.backend.name()).field("model", &self.backend.model().id()).finish()
    }
}

pub(crate) fn size_of(width: u32, height: u32) -> Result<LatentSize, Error> {
    LatentSize::of_image(width, height).ok_or(Error::Size { width, height, max_side: MAX_SIDE, max_pixels: MAX_PIXELS })
}

impl Codec {
    /// Creates a codec for a model, which several codecs may share.
    ///
    /// # Errors
    /// [`Error::Backend`] when the backend is not available, or as [`Self::from_backend`].
    pub fn new(model: impl Into<Arc<Model>>, options: CodecOptions) -> Result<Self, Error> {
        Self::from_backend(backend(model.into(), options.backend, options.threads)?, options)
    }

    /// Creates a codec on an existing backend, whatever backend and number of threads the options name.
    ///
    /// # Errors
    /// [`BackendError::NotExact`] for [`PixelMode::Exact`] with a model that has no integer synthesis.
    pub fn from_backend(backend: Arc<dyn Backend>, options: CodecOptions) -> Result<Self, Error> {
        Self { backend, options: options.clone(), encoding: Arc::default() }.with_options(options)
    }

    /// Returns this codec with other options, except that its backend and threads stay the same. This costs nothing: the model is shared.
    ///
    /// # Errors
    /// As [`Self::from_backend`].
    pub fn with_options(&self, options: CodecOptions) -> Result<Self, Error> {
        if options.pixels == PixelMode::Exact && !self.has_exact_pictures() {
            return Err(BackendError::NotExact { model: self.model().name().to_owned() }.into());
        }
        let CodecOptions { backend, threads, .. } = self.options;
        Ok(Self { options: CodecOptions { backend, threads, ..options }, ..self.clone() })
    }

    /// The options of this codec.
    #[must_use]
    pub const fn options(&self) -> &CodecOptions {
        &self.options
    }

    /// Whether the model can make exact pictures. Refinement then uses them, so that a stream does not depend on the machine.
    pub(crate) fn has_exact_pictures(&self) -> bool {
        self.model().exact_synthesis().is_some()
    }

    /// Whether pictures are exact: whether every machine makes the same picture from a stream.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        match self.options.pixels {
            PixelMode::Auto => self.has_exact_pictures(),
            PixelMode::Exact => true,
            PixelMode::Float => false,
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        self.backend.model()
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    pub(crate) fn check_quality(&self, quality: u8) -> Result<(), Error> {
        let limit = self.model().quality_steps();
        if quality <= limit { Ok(()) } else { Err(Error::Quality { got: quality, limit }) }
    }

    pub(crate) fn check_model(&self, wanted: ModelId) -> Result<(), Error> {
        let have = self.model().id();
        if wanted == have { Ok(()) } else { Err(Error::WrongModel { wanted, have }) }
    }

    /// Sizes of the tensors of a picture, provided that decoding it up to `goal` is within the limits.
    pub(crate) fn check_size(&self, width: u32, height: u32, goal: Goal) -> Result<LatentSize, Error> {
        let (backend, limits) = (self.backend(), &self.options.limits);
        let size = limits.size(width, height)?;
        limits.check_memory(match goal {
            Goal::Latents => budget::of_latents(backend, size),
            Goal::Picture => budget::of_picture(backend, size, self.is_exact())?,
        })?;
        Ok(size)
    }

    fn for_encoding(&self) -> Result<&ForEncoding, Error> {
        self.encoding.get_or_try_init(|| {
            let dead_zone = DeadZone::new(self.model().y_cdfs(), BIT_WORTH_Q16)?;
            Ok(ForEncoding { analysis: AnalysisShape::of(self.backend())?, dead_zone })
        })
    }

    /// The dead zone with which an encoder rounds.
    pub(crate) fn dead_zone(&self) -> Result<&DeadZone, Error> {
        match self.options.rounding {
            Rounding::RateDistortion => Ok(&self.for_encoding()?.dead_zone),
            Rounding::Nearest => Ok(const { &DeadZone::none() }),
        }
    }

    /// Sizes of the tensors of a picture, provided that it can be encoded within the limits.
    pub(crate) fn check_picture(&self, image: &Image) -> Result<LatentSize, Error> {
        let size = pixels::check(image)?;
        for (kind, bytes) in image.metadata.parts() {
            let (len_bytes, limit_bytes) = (bytes.len() as u64, MAX_SECTION_LEN);
            if len_bytes > limit_bytes {
                return Err(ImageError::MetadataLimit { kind, len_bytes, limit_bytes }.into());
            }
        }
        let mut needed_bytes = self.for_encoding()?.analysis.encoder_bytes(self.backend(), size)?;
        if self.options.effort > 0 {
            let synthesis = budget::of_synthesis(self.backend(), size, self.has_exact_pictures())?;
            needed_bytes = needed_bytes.max(synthesis).saturating_add(refinement_bytes(self.model(), size));
        }
        self.options.limits.check_memory(needed_bytes)?;
        Ok(size)
    }

    /// Encodes a picture.
    ///
    /// # Errors
    /// [`Error::Size`] or [`Error::Image`] for a picture that no stream can hold; [`Error::Memory`], [`Error::Time`] beyond the
    /// limits of this codec; or an error of the backend.
    pub fn encode(&self, image: &Image, quality: Quality) -> Result<Encoded, Error> {
        self.watched(&unwatched).encode(image, quality)
    }

    /// Encodes a picture at the highest quality whose stream has at most `limit_bytes` bytes; [`Encoded::quality`] names that quality.
    ///
    /// The picture is analysed once, and a binary search tries about eight qualities. Streams grow with quality, except that refined ones now and then
    /// do not: then a higher quality that fits may be missed.
    ///
    /// # Errors
    /// [`Error::StreamSize`] when no quality fits, or those of [`Self::encode`].
    pub fn encode_within(&self, image: &Image, limit_bytes: u64) -> Result<Encoded, Error> {
        self.watched(&unwatched).encode_within(image, limit_bytes)
    }

    /// Decodes a stream.
    ///
    /// The pixels of a truncated stream are not verified: neither checksum can be tested without the whole payload, so damage before the cut may show as
    /// a wrong picture. A caller who cannot accept that should refuse any result with a [`Decoded::truncation`].
    ///
    /// # Errors
    /// Damage of a whole stream is an error; truncation after z is not: see [`Decoded::truncation`].
    pub fn decode(&self, stream: &[u8]) -> Result<Decoded, Error> {
        self.watched(&unwatched).decode(stream)
    }

    /// Decodes a stream to its latents: the exact part of decoding.
    ///
    /// # Errors
    /// Damage is an error; truncation after z is not: see [`Latents::truncation`]. The symbols of a truncated payload are not checked: damage in it is
    /// found only by chance.
    pub fn decode_latents(&self, stream: &[u8]) -> Result<Latents, Error> {
        self.watched(&unwatched).decode_latents(stream)
    }

    /// Makes the picture of `y_hat`: the last part of decoding. A picture that is not exact ([`Self::is_exact`]) depends on the backend, within the
    /// tolerance of conformance level 4. No picture depends on the number of threads.
    ///
    /// # Errors
    /// [`Error::WrongModel`] and [`Error::Quality`] for latents that are not this model's, those of this codec's limits, or an error of the
    /// backend.
    pub fn synthesize(&self, latents: &Latents) -> Result<Image, Error> {
        self.watched(&unwatched).synthesize(latents)
    }

    /// Returns the calls of this codec with a callback that is told of each step and may end the call. If it breaks at an event, the call returns
    /// [`Error::Cancelled`], and the codec works as before. A flag that another thread sets can end a call in this way:
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    ///
    /// # use mlic::{Codec, Decoded, Error};
    /// fn decode(codec: &Codec, stream: &[u8], is_cancelled: &AtomicBool) -> Result<Decoded, Error> {
    ///     let progress = |_| if is_cancelled.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    ///     codec.watched(&progress).decode(stream)
    /// }
    /// ```
    ///
    /// The work between two events is not interrupted: a pass (a model has two per latent slice) or another stage, of which the analysis and the
    /// synthesis of the whole picture take longest.
    #[must_use]
    pub const fn watched<'a>(&'a self, progress: &'a Progress<'a>) -> Watched<'a> {
        Watched::new(self, progress)
    }
}

/// A [`Progress`] that never ends a call.
fn unwatched(_: ProgressEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_codecs_and_pass_errors_on() {
        const fn shared<T: Send + Sync + 'static>() {}
        const { shared::<Codec>() };
        const { shared::<Error>() };
    }
}
