//! MLIC++ (arXiv 2307.15421) as a codec whose streams decode to the same latents on every machine.
//!
//! [`Codec`] encodes an [`image::Image`] to a stream and back. The entropy path is integer arithmetic defined in
//! `docs/SPEC.md`: what one machine writes, every other reads. This crate is the only versioned API of the project.
//!
//! ```no_run
//! use mlic::{Codec, CodecOptions, embedded_model, image};
//!
//! let codec = Codec::new(embedded_model()?, CodecOptions::default())?;
//! let picture = image::read_image(&std::fs::read("in.png")?, &image::ReadOptions::default())?;
//! let stream = codec.encode(&picture, 100, &|_| ())?.stream;
//! let decoded = codec.decode(&stream, &|_| ())?;
//! assert_eq!((decoded.image.width, decoded.image.height), (picture.width, picture.height));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backend;
pub mod budget;
pub mod codec;
pub mod error;
pub mod image;
pub mod metadata;
pub mod metrics;
pub mod output;
mod pixels;
mod sinks;

pub use backend::{BackendChoice, backend};
pub use budget::DecodeLimits;
pub use codec::{
    Codec, CodecOptions, Decoded, Encoded, Latents, PartBits, PixelMode, ProgressEvent, Report, StageTime, Trace, Truncation,
    quality_from_percent,
};
pub use error::{Error, ErrorKind};
pub use mlic_backend::{Planes, Stage};
pub use mlic_core::{container, limits};
pub use mlic_model::{Model, ModelError};
pub use pixels::{image_of, planes_of};

/// The model that is part of the program.
///
/// # Errors
/// [`ModelError`] when the program was damaged; the package is verified like any other.
#[cfg(feature = "embedded-model")]
pub fn embedded_model() -> Result<Model, ModelError> {
    static EDGE: &[u8] = include_bytes!("../../../models/edge/edge.mlicpkg");
    Model::from_static(EDGE)
}
