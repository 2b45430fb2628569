//! What a codec may spend on one stream or picture, whatever the stream or picture claims.

use std::time::{Duration, Instant};

use mlic_backend::memory::{Windows, encoding_bytes, entropy_bytes, exact_analysis_bytes, exact_synthesis_bytes};
use mlic_backend::{Backend, BackendError, FloatTransform};
use mlic_core::memory;
use mlic_core::schedule::LatentSize;

use crate::codec::size_of;
use crate::error::{Error, Place};

/// Default limit on the pixels of a picture that is read or decoded: 8192 x 8192.
pub const DEFAULT_MAX_PIXELS: u64 = 1 << 26;
/// Default limit on the memory for encoding or decoding: 16 GiB.
pub const DEFAULT_MAX_MEMORY_BYTES: u64 = 16 << 30;

/// What [`Codec`](crate::Codec) may spend on decoding one stream, or on encoding one picture. A picture that needs more is refused
/// ([`Error::Pixels`], [`Error::Memory`]) by its size, before anything is allocated for it; a call that takes longer ends in [`Error::Time`].
///
/// The length of a stream bounds nothing: thirty bytes can be a whole stream of a picture of 2^28 pixels, since symbols that are as expected
/// cost next to nothing. The number of pixels bounds the work, as the networks do the same at every position, and, for a given model, the
/// memory. How long the work takes depends on the machine, which is what `max_time` is for.
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
    /// Most pixels of a decoded picture. Encoding is not limited: its picture is in memory already.
    pub max_pixels: u64,
    /// Most bytes of memory beside the model, the stream and the picture to encode, by `mlic_backend::memory`: for decoding, a bound of the
    /// exact parts and an estimate of the float synthesis; for encoding, an estimate. For a backend on a GPU, neither device memory nor pinned
    /// host memory is counted (on a device that shares the host's memory, both are the same memory); the backend keeps some for the next picture.
    pub max_memory_bytes: u64,
    /// Longest time of a call; `None` is no limit. The time is checked before each pass and before the synthesis, none of which is interrupted;
    /// in encoding, first after the analysis.
    pub max_time: Option<Duration>,
}

/// When the time of a call is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// Checks that there is time left to begin what comes next.
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
    /// Sets [`Self::max_pixels`].
    #[must_use]
    pub const fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Sets [`Self::max_memory_bytes`].
    #[must_use]
    pub const fn with_max_memory_bytes(self, max_memory_bytes: u64) -> Self {
        Self { max_memory_bytes, ..self }
    }

    /// Sets or removes [`Self::max_time`].
    #[must_use]
    pub fn with_max_time(self, max_time: impl Into<Option<Duration>>) -> Self {
        Self { max_time: max_time.into(), ..self }
    }

    /// The deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline { start: Instant::now(), limit: self.max_time }
    }

    /// Sizes of the tensors of a picture, provided that its pixels are within these limits.
    ///
    /// # Errors
    /// [`Error::Size`] beyond the format, [`Error::Pixels`] beyond these limits.
    pub(crate) fn size(&self, width: u32, height: u32) -> Result<LatentSize, Error> {
        let size = size_of(width, height)?;
        let (pixels, limit) = (u64::from(width) * u64::from(height), self.max_pixels);
        if pixels <= limit { Ok(size) } else { Err(Error::Pixels { width, height, limit }) }
    }

    /// Checks that this much memory is within these limits and available now.
    ///
    /// The memory is reserved and freed at once: an allocator that cannot provide it says so here, where that is an error, and not in
    /// the midst of the networks, where it would end the process.
    ///
    /// # Errors
    /// [`Error::Memory`] beyond these limits, [`Error::OutOfMemory`] when not as much is available.
    pub(crate) fn check_memory(&self, needed_bytes: u64) -> Result<(), Error> {
        let limit_bytes = self.max_memory_bytes;
        if needed_bytes > limit_bytes {
            return Err(Error::Memory { needed_bytes, limit_bytes });
        }
        let bytes = usize::try_from(needed_bytes).unwrap_or(usize::MAX);
        Ok(memory::reserve(&mut Vec::<u8>::new(), bytes)?)
    }
}

/// Bytes that the passes of a decoder need.
pub(crate) fn of_latents(backend: &dyn Backend, size: LatentSize) -> u64 {
    entropy_bytes(backend.model(), size, backend.threads())
}

/// Bytes that a decoder needs down to the picture: the memory of the passes is free when the synthesis begins.
///
/// # Errors
/// [`Error::Model`] when the transform is refused, [`Error::Backend`] when an integer synthesis is asked for and there is none.
pub(crate) fn of_picture(backend: &dyn Backend, size: LatentSize, exact: bool) -> Result<u64, Error> {
    Ok(of_latents(backend, size).max(of_synthesis(backend, size, exact)?))
}

/// Bytes that the synthesis alone needs.
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

/// Bytes that a float transform needs, by the graph that the backend runs, which is made from the package once.
fn transform_bytes(backend: &dyn Backend, transform: FloatTransform, size: [usize; 2]) -> Result<u64, Error> {
    backend.transform_bytes(transform, size).map_err(|error| match error {
        BackendError::Model(refused) => refused.into(),
        other => other.into(),
    })
}

/// The form of an encoder's analysis, as far as its memory depends on it: read from the package once.
#[derive(Debug)]
pub(crate) enum AnalysisShape {
    Exact(Box<[Windows; 2]>),
    Float,
}

impl AnalysisShape {
    /// The form of the analysis of the backend's model.
    ///
    /// # Errors
    /// [`Error::Model`] when the transforms are refused.
    pub(crate) fn of(backend: &dyn Backend) -> Result<Self, Error> {
        let exact = backend.model().exact_analysis()?;
        Ok(exact.map_or(Self::Float, |own| Self::Exact(Box::new([&*own.g_a, &*own.h_a].map(Windows::of_analysis)))))
    }

    /// Bytes that an encoder needs: the memory of the analysis is free when the passes begin.
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
