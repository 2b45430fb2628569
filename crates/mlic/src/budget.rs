//! What a decoder may spend on one stream, whatever the stream says of itself.

use std::time::{Duration, Instant};

use mlic_backend::BackendError;
use mlic_backend::memory::{entropy_bytes, exact_synthesis_bytes, transform_bytes};
use mlic_core::schedule::LatentSize;
use mlic_model::Model;
use mlic_model::package::SectionKind;

use crate::codec::size_of;
use crate::error::Error;

/// Most pixels of a picture that is read or decoded, unless the caller says otherwise: 8192 x 8192.
pub const DEFAULT_MAX_PIXELS: u64 = 1 << 26;
/// Most memory for decoding, unless the caller says otherwise: 16 GiB.
pub const DEFAULT_MAX_MEMORY_BYTES: u64 = 16 << 30;

/// What [`Codec`](crate::Codec) may spend on decoding one stream. A stream that needs more is refused ([`Error::Pixels`],
/// [`Error::Memory`]) from its header, before anything is allocated by it; one that takes longer ends in [`Error::Time`].
///
/// Both are needed: thirty bytes can be a whole stream of a picture of 2^28 pixels, since symbols that are as expected cost next to
/// nothing. Pixels bound the work too, as the networks do the same at every position; how long that takes depends on the machine, which
/// is what `max_time` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// Most pixels.
    pub max_pixels: u64,
    /// Most bytes beside the model and the stream, by `mlic_backend::memory`: a bound for what is exact, an estimate for
    /// the float synthesis.
    pub max_memory_bytes: u64,
    /// Longest time; none is no limit. It is looked at before each pass and before the synthesis, none of which is interrupted.
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
    pub(crate) fn check(&self, before: impl std::fmt::Display) -> Result<(), Error> {
        match self.limit.filter(|limit| self.start.elapsed() >= *limit) {
            Some(limit) => Err(Error::Time { limit, before: before.to_string() }),
            None => Ok(()),
        }
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_pixels: DEFAULT_MAX_PIXELS, max_memory_bytes: DEFAULT_MAX_MEMORY_BYTES, max_time: None }
    }
}

impl DecodeLimits {
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

    /// The memory for latents of this size is within these limits, and can be had just now.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn check_latents(&self, model: &Model, size: LatentSize) -> Result<(), Error> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        self.check_memory(entropy_bytes(model, size, threads))
    }

    /// As [`Self::check_latents`], for the synthesis. A model without an integer synthesis is refused where that is asked for.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Model`] when the transform is refused, [`Error::Backend`] when there is no integer synthesis.
    pub(crate) fn check_synthesis(&self, model: &Model, size: LatentSize, exact: bool) -> Result<(), Error> {
        if exact {
            let not_exact = || BackendError::NotExact { model: model.name().to_owned() };
            let own = model.exact_synthesis().ok_or_else(not_exact)?;
            return self.check_memory(exact_synthesis_bytes(own, size));
        }
        let graph = model.transform(SectionKind::Synthesis)?;
        self.check_memory(transform_bytes(&graph, size.y[0], size.y[1]))
    }

    /// What is reserved here is given back at once: an allocator that cannot give it says so now, where it is an error, and not in
    /// the midst of the networks, where it would end the process.
    fn check_memory(&self, needed_bytes: u64) -> Result<(), Error> {
        let refused = Error::Memory { needed_bytes, limit_bytes: self.max_memory_bytes };
        let Some(len) = usize::try_from(needed_bytes).ok().filter(|_| needed_bytes <= self.max_memory_bytes) else {
            return Err(refused);
        };
        Vec::<u8>::new().try_reserve_exact(len).map_err(|_| refused)
    }
}
