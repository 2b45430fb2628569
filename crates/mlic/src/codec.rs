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
    /// The executor. [`Codec::new`] alone reads this.
    pub backend: BackendChoice,
    /// Threads; 0 means all cores. No result depends on it. They are the codec's own, and all who call it at once share them: several pictures at a time
    /// take no more threads than one. A caller on a thread of a rayon pool waits as elsewhere, without beginning other jobs of that pool.
    /// [`Codec::new`] alone reads this.
    pub threads: usize,
    /// How pictures are made of latents.
    pub pixels: PixelMode,
    /// What becomes of the metadata of streams that are decoded. A stream that is damaged after its payload alone (a section, or bytes after the
    /// last) is [`Error::Tail`] to [`MetadataPolicy::Keep`], and [truncated](Truncation) if it is cut there; to [`Fit`](MetadataPolicy::Fit) it has the
    /// sections that are right, and a note in [`Image::notes`]; [`Strip`](MetadataPolicy::Strip) sees nothing of it.
    pub metadata: MetadataPolicy,
    /// Rounds of refinement in encoding: after each the encoder looks at what the decoder would make of the stream, and moves the latents by what is
    /// missing (SPEC 5.9). A round costs a decoding and an analysis; of all rounds the best is written.
    pub effort: u8,
    /// How symbols are chosen in encoding.
    pub rounding: Rounding,
    /// What it may spend.
    pub limits: Limits,
}

impl CodecOptions {
    /// The same with another executor.
    #[must_use]
    pub const fn with_backend(self, backend: BackendChoice) -> Self {
        Self { backend, ..self }
    }

    /// The same on so many threads.
    #[must_use]
    pub const fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same making its pictures this way.
    #[must_use]
    pub const fn with_pixels(self, pixels: PixelMode) -> Self {
        Self { pixels, ..self }
    }

    /// The same with another policy for metadata.
    #[must_use]
    pub const fn with_metadata(self, metadata: MetadataPolicy) -> Self {
        Self { metadata, ..self }
    }

    /// The same encoding with so many rounds of refinement.
    #[must_use]
    pub const fn with_effort(self, effort: u8) -> Self {
        Self { effort, ..self }
    }

    /// The same encoding with symbols chosen this way.
    #[must_use]
    pub const fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// The same with other limits.
    #[must_use]
    pub const fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

/// How a picture is made of latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PixelMode {
    /// Exact where the model has an integer synthesis: the faster one on every processor with products of integers, and the same
    /// everywhere. Float elsewhere.
    #[default]
    Auto,
    /// In integers (SPEC 5.7): every sample the same on every machine.
    Exact,
    /// In float, within the tolerance of conformance level 4.
    Float,
}

/// How an encoder chooses the symbols of y.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rounding {
    /// By rate and distortion together: the symbol next to the nearest one, toward zero, where the bits that it saves are worth more than its error (SPEC 5.8).
    #[default]
    RateDistortion,
    /// The nearest, as the published code does: more bytes, and a better picture. At equal PSNR streams of photographs are up to 3 % larger; a
    /// model of one quality has no other point than this to choose.
    Nearest,
}

/// Information content of one part of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartBits {
    /// Which: the header, z, every pass, the coder, metadata.
    pub part: Place,
    /// Bits.
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
    /// What ran it.
    pub device: String,
}

/// What a call did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Bits by part; only an encoder knows them.
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
    /// Index of its quality, 0 to [`Model::quality_steps`].
    pub quality: u8,
    /// Bits and times.
    pub report: Report,
}

/// How far a stream that was cut goes.
///
/// The checksums of payload and symbols are of whole payloads (SPEC 5.5): nothing says that the bytes of a cut one are those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncation {
    /// Latent slices whose symbols are all there.
    pub whole_slices: usize,
    /// Latent slices of the model.
    pub slice_count: usize,
    /// The payload is all there, and right: the picture is that of the whole stream, only metadata are cut.
    pub is_payload_whole: bool,
    /// Bytes there.
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
    /// Latent fixed point, `[H/16][W/16][M]`.
    pub y_hat: Map<i32>,
    /// The stream was cut.
    pub truncation: Option<Truncation>,
}

/// A decoded picture.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// The picture.
    pub image: Image,
    /// The stream was cut: the picture is made of the latent slices that are whole.
    pub truncation: Option<Truncation>,
    /// Times.
    pub report: Report,
}

/// What a codec is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressEvent {
    /// A stage has begun.
    Stage(Stage),
    /// A pass is done.
    Pass {
        /// Which, from 0.
        index: usize,
        /// Of how many.
        count: usize,
    },
}

/// Takes what a codec says while it runs, on whichever thread that does, and says whether it goes on.
pub type Progress<'a> = dyn Fn(ProgressEvent) -> ControlFlow<()> + Sync + 'a;

/// An encoder and decoder with its model on its backend. A clone shares both, and so does one [with other options](Self::with_options).
#[derive(Clone)]
pub struct Codec {
    backend: Arc<dyn Backend>,
    options: CodecOptions,
    /// Made when the first picture is encoded.
    encoding: Arc<OnceCell<ForEncoding>>,
}

/// What an encoder makes of its model.
struct ForEncoding {
    analysis: AnalysisShape,
    /// That of [`Rounding::RateDistortion`].
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
    /// A codec with a model, which codecs may share.
    ///
    /// # Errors
    /// [`Error::Backend`] when the backend is not available, or as [`Self::from_backend`].
    pub fn new(model: impl Into<Arc<Model>>, options: CodecOptions) -> Result<Self, Error> {
        Self::from_backend(backend(model.into(), options.backend, options.threads)?, options)
    }

    /// A codec on a backend that is there. Which it is and how many threads it has the options have no say in.
    ///
    /// # Errors
    /// [`BackendError::NotExact`] of [`PixelMode::Exact`] with a model that has no integer synthesis.
    pub fn from_backend(backend: Arc<dyn Backend>, options: CodecOptions) -> Result<Self, Error> {
        Self { backend, options: options.clone(), encoding: Arc::default() }.with_options(options)
    }

    /// The same codec, on the same threads of the same backend, with other options but those two. It costs nothing: the model is shared.
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

    /// How it runs.
    #[must_use]
    pub const fn options(&self) -> &CodecOptions {
        &self.options
    }

    /// Whether pictures can be exact. Refinement looks at those then, so that a stream depends on no machine.
    pub(crate) fn has_exact_pictures(&self) -> bool {
        self.model().exact_synthesis().is_some()
    }

    /// Whether pictures are exact: whether every machine makes the same of a stream.
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

    /// Sizes of the tensors of a picture, when decoding it so far is within the limits.
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

    /// How an encoder rounds.
    pub(crate) fn dead_zone(&self) -> Result<&DeadZone, Error> {
        match self.options.rounding {
            Rounding::RateDistortion => Ok(&self.for_encoding()?.dead_zone),
            Rounding::Nearest => Ok(const { &DeadZone::none() }),
        }
    }

    /// Sizes of the tensors of a picture that can be encoded within the limits.
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
    /// [`Error::Size`] or [`Error::Image`] of a picture that no stream holds; [`Error::Memory`], [`Error::Time`] beyond the
    /// limits of this codec; or what the backend says.
    pub fn encode(&self, image: &Image, quality: Quality) -> Result<Encoded, Error> {
        self.watched(&unwatched).encode(image, quality)
    }

    /// Encodes a picture at the highest quality whose stream has at most so many bytes, which [`Encoded::quality`] names. About eight
    /// qualities are tried, by halves, of a picture that is analysed once: streams grow with quality, but for
    /// refined ones now and then, of which a higher one that fits may be missed.
    ///
    /// # Errors
    /// [`Error::StreamSize`] when there is none, or those of [`Self::encode`].
    pub fn encode_within(&self, image: &Image, limit_bytes: u64) -> Result<Encoded, Error> {
        self.watched(&unwatched).encode_within(image, limit_bytes)
    }

    /// Decodes a stream.
    ///
    /// The pixels of a stream that was cut are not authenticated: neither checksum can be tested without the whole payload, so that damage before the cut
    /// may show as a wrong picture. A caller who wants none of that refuses what has a [`Decoded::truncation`].
    ///
    /// # Errors
    /// Damage of a whole stream is an error; truncation after z is not: see [`Decoded::truncation`].
    pub fn decode(&self, stream: &[u8]) -> Result<Decoded, Error> {
        self.watched(&unwatched).decode(stream)
    }

    /// The exact part of decoding.
    ///
    /// # Errors
    /// Damage is an error; truncation after z is not: see [`Latents::truncation`]. What a cut payload gives is not checked: damage in it is found by chance only.
    pub fn decode_latents(&self, stream: &[u8]) -> Result<Latents, Error> {
        self.watched(&unwatched).decode_latents(stream)
    }

    /// The last part of decoding: the picture of `y_hat`. Where it is not exact ([`Self::is_exact`]) it depends on the backend within the
    /// tolerance of conformance level 4; it never depends on the number of threads.
    ///
    /// # Errors
    /// [`Error::WrongModel`] and [`Error::Quality`] of latents that are not this model's, those of this codec's limits, or what the backend
    /// says.
    pub fn synthesize(&self, latents: &Latents) -> Result<Image, Error> {
        self.watched(&unwatched).synthesize(latents)
    }

    /// The same calls, with someone who is told of each step and may end them: whoever breaks at an event gets [`Error::Cancelled`], and the codec is as
    /// good as before. So does a flag that another thread sets:
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
    /// What runs between two events is not interrupted: a pass, of which a model has two per latent slice, or another stage, the longest of which are
    /// the analysis and the synthesis of the whole picture.
    #[must_use]
    pub const fn watched<'a>(&'a self, progress: &'a Progress<'a>) -> Watched<'a> {
        Watched::new(self, progress)
    }
}

/// Goes on.
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
