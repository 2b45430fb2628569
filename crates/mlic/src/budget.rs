//! What a codec may spend on one stream or picture, whatever that says of itself.

use std::time::{Duration, Instant};

use mlic_backend::memory::{Windows, encoding_bytes, entropy_bytes, exact_analysis_bytes, exact_synthesis_bytes};
use mlic_backend::{Backend, BackendError, FloatTransform};
use mlic_core::memory;
use mlic_core::schedule::LatentSize;

use crate::codec::size_of;
use crate::error::{Error, Place};

/// Most pixels of a picture that is read or decoded, unless the caller says otherwise: 8192 x 8192.
pub const DEFAULT_MAX_PIXELS: u64 = 1 << 26;
/// Most memory for encoding or decoding, unless the caller says otherwise: 16 GiB.
pub const DEFAULT_MAX_MEMORY_BYTES: u64 = 16 << 30;

/// What [`Codec`](crate::Codec) may spend on decoding one stream, or on encoding one picture. What needs more is refused
/// ([`Error::Pixels`], [`Error::Memory`]) from its size, before anything is allocated by it; what takes longer ends in [`Error::Time`].
///
/// Bytes bound nothing: thirty of them can be a whole stream of a picture of 2^28 pixels, since symbols that are as expected cost next to
/// nothing. Pixels bound the work, as the networks do the same at every position, and with the model the memory; how long the work takes
/// depends on the machine, which is what `max_time` is for.
///
/// ```
/// use mlic::Limits;
///
/// let limits = Limits::default().with_max_pixels(1 << 20).with_max_memory_bytes(1 << 30);
/// # assert_eq!((limits.max_pixels, limits.max_memory_bytes, limits.max_time), (1 << 20, 1 << 30, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most pixels of a picture that is decoded. One that is encoded is there already.
    pub max_pixels: u64,
    /// Most bytes beside the model, the stream and the picture that is encoded, by `mlic_backend::memory`: for decoding a bound of what is
    /// exact and an estimate of the float synthesis, for encoding an estimate. Of a backend on a GPU, neither memory of the device nor pinned
    /// memory of the host is counted, which on a device that shares the host's memory is the same memory; it keeps some for the next picture.
    pub max_memory_bytes: u64,
    /// Longest time; none is no limit. It is looked at before each pass and before the synthesis, none of which is interrupted; in encoding first
    /// after the analysis.
    pub max_time: Option<Duration>,
}

/// When the time for a stream is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// What is to be done next may begin.
    ///
    /// # Errors
    /// [`Error::Time`].
    pub(crate) fn check(&self, before: impl Into<Place>) -> Result<(), Error> {
        match self.limit.filter(|limit| self.start.elapsed() >= *limit) {
            Some(limit) => Err(Error::Time { limit, before: before.into() }),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: DEFAULT_MAX_PIXELS, max_memory_bytes: DEFAULT_MAX_MEMORY_BYTES, max_time: None }
    }
}

impl Limits {
    /// The same with another number of pixels.
    #[must_use]
    pub const fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// The same with other memory.
    #[must_use]
    pub const fn with_max_memory_bytes(self, max_memory_bytes: u64) -> Self {
        Self { max_memory_bytes, ..self }
    }

    /// The same with a longest time, or without one.
    #[must_use]
    pub fn with_max_time(self, max_time: impl Into<Option<Duration>>) -> Self {
        Self { max_time: max_time.into(), ..self }
    }

    /// Time runs from now on.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline { start: Instant::now(), limit: self.max_time }
    }

    /// Sizes of the tensors of a picture that is within these limits.
    ///
    /// # Errors
    /// [`Error::Size`] beyond the format, [`Error::Pixels`] beyond these limits.
    pub(crate) fn size(&self, width: u32, height: u32) -> Result<LatentSize, Error> {
        let size = size_of(width, height)?;
        let (pixels, limit) = (u64::from(width) * u64::from(height), self.max_pixels);
        if pixels <= limit { Ok(size) } else { Err(Error::Pixels { width, height, limit }) }
    }

    /// So much memory is within these limits, and can be had just now.
    ///
    /// What is reserved here is given back at once: an allocator that cannot give it says so now, where it is an error, and not in
    /// the midst of the networks, where it would end the process.
    ///
    /// # Errors
    /// [`Error::Memory`] beyond these limits, [`Error::OutOfMemory`] when there is not as much.
    pub(crate) fn check_memory(&self, needed_bytes: u64) -> Result<(), Error> {
        let limit_bytes = self.max_memory_bytes;
        if needed_bytes > limit_bytes {
            return Err(Error::Memory { needed_bytes, limit_bytes });
        }
        let bytes = usize::try_from(needed_bytes).unwrap_or(usize::MAX);
        Ok(memory::reserve(&mut Vec::<u8>::new(), bytes)?)
    }
}

/// What the passes of a decoder need.
pub(crate) fn of_latents(backend: &dyn Backend, size: LatentSize) -> u64 {
    entropy_bytes(backend.model(), size, backend.threads())
}

/// What a decoder needs down to the picture: the passes' memory is free when the synthesis begins.
///
/// # Errors
/// [`Error::Model`] when the transform is refused, [`Error::Backend`] when there is no integer synthesis and it is asked for.
pub(crate) fn of_picture(backend: &dyn Backend, size: LatentSize, exact: bool) -> Result<u64, Error> {
    Ok(of_latents(backend, size).max(of_synthesis(backend, size, exact)?))
}

/// What the synthesis alone needs.
///
/// # Errors
/// As [`of_picture`].
pub(crate) fn of_synthesis(backend: &dyn Backend, size: LatentSize, exact: bool) -> Result<u64, Error> {
    let model = backend.model();
    if exact {
        let own = model.exact_synthesis().ok_or_else(|| BackendError::NotExact { model: model.name().to_owned() })?;
        return Ok(exact_synthesis_bytes(&Windows::of_synthesis(own), size, backend.threads()));
    }
    transform_bytes(backend, FloatTransform::Synthesis, size.y)
}

/// What a float transform needs, by the graph that the backend runs: it is made of the package once.
fn transform_bytes(backend: &dyn Backend, transform: FloatTransform, size: [usize; 2]) -> Result<u64, Error> {
    backend.transform_bytes(transform, size).map_err(|error| match error {
        BackendError::Model(refused) => refused.into(),
        other => other.into(),
    })
}

/// How an encoder makes latents, as far as its memory goes: read from the package once.
#[derive(Debug)]
pub(crate) enum AnalysisShape {
    Exact(Box<[Windows; 2]>),
    Float,
}

impl AnalysisShape {
    /// Of the backend's model.
    ///
    /// # Errors
    /// [`Error::Model`] when the transforms are refused.
    pub(crate) fn of(backend: &dyn Backend) -> Result<Self, Error> {
        let exact = backend.model().exact_analysis()?;
        Ok(exact.map_or(Self::Float, |own| Self::Exact(Box::new([&*own.g_a, &*own.h_a].map(Windows::of_analysis)))))
    }

    /// What an encoder needs: the analysis' memory is free when the passes begin.
    ///
    /// # Errors
    /// [`Error::Model`] when a transform is refused.
    pub(crate) fn encoder_bytes(&self, backend: &dyn Backend, size: LatentSize) -> Result<u64, Error> {
        let (model, threads) = (backend.model(), backend.threads());
        let analysis = match self {
            Self::Exact(windows) => exact_analysis_bytes(windows, size, threads),
            Self::Float => {
                let of_y = transform_bytes(backend, FloatTransform::HyperAnalysis, size.y)?;
                transform_bytes(backend, FloatTransform::Analysis, size.padded)?.max(of_y)
            }
        };
        Ok(analysis.max(encoding_bytes(model, size, threads)))
    }
}
