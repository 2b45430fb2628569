//! Errors of the codec, and their kinds.

use std::fmt;
use std::time::Duration;

use mlic_backend::{BackendError, Stage};
use mlic_core::container::{ContainerError, ModelId};
use mlic_core::memory::OutOfMemory;
use mlic_core::rans::RansError;
use mlic_core::schedule::Pass;
use mlic_model::ModelError;
use thiserror::Error;

use crate::image::ImageError;

/// A part of a stream, or of the work on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// What comes before the payload.
    Header,
    /// The symbols of z.
    Z,
    /// A pass and its symbols.
    Pass(Pass),
    /// Bits of the entropy coder beyond the information of its symbols.
    Coder,
    /// The end of the payload.
    End,
    /// What follows the payload.
    Metadata,
    /// A stage.
    Stage(Stage),
    /// The picture of `y_hat`, however it is made.
    Picture,
}

impl From<Pass> for Place {
    fn from(pass: Pass) -> Self {
        Self::Pass(pass)
    }
}

impl From<Stage> for Place {
    fn from(stage: Stage) -> Self {
        Self::Stage(stage)
    }
}

/// `header`, `z`, `slice 0 anchor`, ..., `rans`, `end`, `metadata`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Z => f.write_str("z"),
            Self::Pass(pass) => pass.fmt(f),
            Self::Coder => f.write_str("rans"),
            Self::End => f.write_str("end"),
            Self::Metadata => f.write_str("metadata"),
            Self::Stage(stage) => stage.fmt(f),
            Self::Picture => f.write_str("the synthesis"),
        }
    }
}

/// Why the codec failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a stream, or not a whole and intact one.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The payload is whole and right, but what follows it is not: [`MetadataPolicy::Fit`](crate::metadata::MetadataPolicy::Fit) and
    /// [`Strip`](crate::metadata::MetadataPolicy::Strip) decode such a stream.
    #[error("what follows the payload is damaged")]
    Tail {
        /// The cause.
        source: ContainerError,
    },
    /// The stream needs another model.
    #[error("the stream needs model {wanted}, this is model {have}")]
    WrongModel {
        /// The stream's model.
        wanted: ModelId,
        /// The model at hand.
        have: ModelId,
    },
    /// The quality index is above the model's, which no encoder writes.
    #[error("quality {got}, the model has 0 to {limit}")]
    Quality {
        /// The index given.
        got: u8,
        /// The largest of the model.
        limit: u8,
    },
    /// The entropy coder found bytes that no encoder writes.
    #[error("entropy-coded data of {at}")]
    Payload {
        /// Which part of the stream.
        at: Place,
        /// The cause.
        source: RansError,
    },
    /// The stream ends before the hyper-latent is whole: there is no picture in it.
    #[error("the stream ends within z, before any latent slice: {have} of {need} payload bytes")]
    NoPicture {
        /// Payload bytes present.
        have: u64,
        /// Payload bytes declared.
        need: u64,
    },
    /// The decoded symbols are not the encoded ones, though every byte is right: the decoder has drifted.
    #[error("desync: the decoded symbols have checksum {got:08x}, the stream declares {declared:08x}")]
    Desync {
        /// Computed.
        got: u32,
        /// Declared.
        declared: u32,
    },
    /// The picture exceeds a limit of the format.
    #[error("image of {width} x {height} pixels: at most {max_side} per side and {max_pixels} in all")]
    Size {
        /// Columns given.
        width: u32,
        /// Rows given.
        height: u32,
        /// Largest side.
        max_side: u32,
        /// Most pixels.
        max_pixels: u64,
    },
    /// The picture has more pixels than the caller allows.
    #[error("image of {width} x {height} pixels: at most {limit} pixels are allowed here")]
    Pixels {
        /// Columns given.
        width: u32,
        /// Rows given.
        height: u32,
        /// Limit of the caller.
        limit: u64,
    },
    /// More memory would be needed than the caller allows.
    #[error("up to {} MiB of memory are needed: at most {} MiB are allowed here", needed_bytes.div_ceil(1 << 20), limit_bytes >> 20)]
    Memory {
        /// Bytes needed, by the sizes of picture and model.
        needed_bytes: u64,
        /// Limit of the caller.
        limit_bytes: u64,
    },
    /// Even at the lowest quality the stream is longer than the caller allows ([`Codec::encode_within`](crate::Codec::encode_within)).
    #[error("{least_bytes} bytes at the lowest quality: at most {limit_bytes} are wanted")]
    StreamSize {
        /// Bytes at the lowest quality.
        least_bytes: u64,
        /// Limit of the caller.
        limit_bytes: u64,
    },
    /// The call takes longer than the caller allows.
    #[error("it takes longer than {} s, the most that is allowed here: ended before {before}", limit.as_secs_f64())]
    Time {
        /// Limit of the caller.
        limit: Duration,
        /// The step that was not begun: a pass, or another stage.
        before: Place,
    },
    /// The callback of [`Codec::watched`](crate::Codec::watched) ended the call.
    #[error("cancelled")]
    Cancelled,
    /// There is no memory for picture and stream as a whole, or for a part of them, though the limits allow it.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The package cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A stage failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// There is no backend of this name.
    #[error("there is no backend {name}: auto, cuda, tract, integer or reference")]
    UnknownBackend {
        /// The name given.
        name: String,
    },
    /// A picture cannot be read, written or coded.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Kind of an error: one value for each thing that a caller would do about it. Its number is the exit code of the program `mlic` and the status of
/// `mlic.h`, which have others too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// A picture that cannot be coded.
    Image = 3,
    /// Not a stream, or of a version that is not supported.
    NotAStream = 4,
    /// A damaged stream: a checksum, a forbidden value, a desync.
    Damaged = 5,
    /// A stream that ends before anything could be decoded.
    Truncated = 6,
    /// A stream for another model.
    WrongModel = 7,
    /// A model package that is refused.
    Model = 8,
    /// A backend that is not available.
    Backend = 10,
    /// More pixels, memory, time or bytes than the caller allows, or more memory than there is.
    Budget = 11,
    /// Ended by the callback of the call.
    Cancelled = 12,
    /// Anything else.
    Other = 1,
}

impl Error {
    /// The kind of the error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        if self.out_of_memory().is_some() {
            return ErrorKind::Budget;
        }
        match self {
            Self::Container(ContainerError::NotAStream | ContainerError::UnsupportedVersion { .. }) => ErrorKind::NotAStream,
            Self::Container(ContainerError::Truncated { .. }) | Self::NoPicture { .. } => ErrorKind::Truncated,
            Self::Container(_) | Self::Tail { .. } | Self::Payload { .. } | Self::Desync { .. } | Self::Quality { .. } => {
                ErrorKind::Damaged
            }
            Self::WrongModel { .. } => ErrorKind::WrongModel,
            Self::Model(_) | Self::Backend(BackendError::Model(_) | BackendError::NotExact { .. }) => ErrorKind::Model,
            Self::UnknownBackend { .. } | Self::Backend(BackendError::NotAvailable { .. }) => ErrorKind::Backend,
            Self::Image(_) | Self::Size { .. } => ErrorKind::Image,
            Self::Pixels { .. } | Self::Memory { .. } | Self::StreamSize { .. } | Self::Time { .. } | Self::OutOfMemory(_) => {
                ErrorKind::Budget
            }
            Self::Backend(BackendError::DeviceMemory { .. }) => ErrorKind::Budget,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Backend(_) => ErrorKind::Other,
        }
    }

    /// A stable name of the failure, for conformance manifests.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        if self.out_of_memory().is_some() {
            return "out-of-memory";
        }
        match self {
            Self::OutOfMemory(_) | Self::Backend(BackendError::DeviceMemory { .. }) => "out-of-memory",
            Self::Container(e) | Self::Tail { source: e } => e.code(),
            Self::WrongModel { .. } => "wrong-model",
            Self::Quality { .. } => "quality",
            Self::Payload { source, .. } => source.code(),
            Self::NoPicture { .. } => "no-picture",
            Self::Desync { .. } => "desync",
            Self::Size { .. } => "size",
            Self::Pixels { .. } => "pixel-budget",
            Self::Memory { .. } => "memory-budget",
            Self::StreamSize { .. } => "stream-size",
            Self::Time { .. } => "time-budget",
            Self::Cancelled => "cancelled",
            Self::Model(_) => "model",
            Self::Backend(_) => "backend",
            Self::UnknownBackend { .. } => "unknown-backend",
            Self::Image(_) => "image",
        }
    }

    /// The allocation that failed, wherever it was, if that is the cause.
    #[must_use]
    pub const fn out_of_memory(&self) -> Option<OutOfMemory> {
        match self {
            Self::OutOfMemory(e)
            | Self::Image(ImageError::OutOfMemory(e))
            | Self::Backend(BackendError::OutOfMemory(e))
            | Self::Container(ContainerError::OutOfMemory(e))
            | Self::Payload { source: RansError::OutOfMemory(e), .. } => Some(*e),
            Self::Model(e) | Self::Backend(BackendError::Model(e)) => e.out_of_memory(),
            _ => None,
        }
    }

    /// The error of a failure of the entropy coder at a place.
    pub(crate) fn payload(at: impl Into<Place>, source: RansError) -> Self {
        Self::Payload { at: at.into(), source }
    }
}

/// Joins the texts of an error and its sources with colons, leaving out a source whose text the one before already ends with.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_everything_once() {
        let error = Error::payload(Place::Z, RansError::Exhausted { have: 3, need: 8 });
        assert_eq!(error.to_string(), "entropy-coded data of z");
        assert_eq!(chain(&error), format!("entropy-coded data of z: {}", RansError::Exhausted { have: 3, need: 8 }));
        let error = Error::from(ModelError::OutOfMemory(OutOfMemory { bytes: 7 }));
        assert_eq!(chain(&error), "model package: 7 bytes of memory are wanted, and there is not as much");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Budget, "out-of-memory"));
    }

    #[test]
    fn a_full_device_is_a_matter_of_memory() {
        let full = Error::from(BackendError::DeviceMemory { backend: "cuda", stage: Stage::Passes });
        assert_eq!((full.kind(), full.code()), (ErrorKind::Budget, "out-of-memory"));
        assert_eq!(full.out_of_memory(), None, "no allocation of the host");
    }
}
