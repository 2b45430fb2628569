//! MLIC++ (arXiv 2307.15421) as a codec whose streams decode to the same latents on every machine.
//!
//! [`Codec`] encodes an [`image::Image`] to a stream and back. The entropy path is integer arithmetic defined in
//! `docs/SPEC.md`: what one machine writes, every other reads. This crate is the only versioned API of the project.
//!
//! ```no_run
//! use mlic::{Codec, CodecOptions, default_model, image};
//!
//! let codec = Codec::new(default_model()?, CodecOptions::default())?;
//! let picture = image::read_image(&std::fs::read("in.png")?, &image::ReadOptions::default())?;
//! let stream = codec.encode(&picture, 100, &|_| ())?.stream;
//! let decoded = codec.decode(&stream, &|_| ())?;
//! assert_eq!((decoded.image.width, decoded.image.height), (picture.width, picture.height));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};

mod admission;
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
pub use mlic_backend::{Backend, BackendError, Planes, Stage};
pub use mlic_core::container::ContainerError;
pub use mlic_core::memory::OutOfMemory;
pub use mlic_core::rans::RansError;
pub use mlic_core::{container, limits};
pub use mlic_model::{Model, ModelError};
pub use pixels::{image_of, luma, planes_of};

/// The model that is part of the program.
///
/// # Errors
/// [`ModelError`] when the program was damaged; the package is verified like any other.
#[cfg(feature = "embedded-model")]
pub fn embedded_model() -> Result<Model, ModelError> {
    static EDGE: &[u8] = include_bytes!("../../../models/edge/edge.mlicpkg");
    Model::from_static(EDGE)
}

/// The model of a program: the embedded one or, without the feature `embedded-model`, [`installed_model_path`].
///
/// # Errors
/// [`ModelError::Io`] when it is not installed, any other [`ModelError`] when it was damaged.
pub fn default_model() -> Result<Model, ModelError> {
    #[cfg(feature = "embedded-model")]
    return embedded_model();
    #[cfg(not(feature = "embedded-model"))]
    Model::open(installed_model_path())
}

/// Where a model is installed: `../share/mlic/edge.mlicpkg`, seen from the folder of the running program.
#[must_use]
pub fn installed_model_path() -> PathBuf {
    let program = std::env::current_exe().ok();
    let prefix = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    prefix.unwrap_or(Path::new("/usr")).join("share/mlic/edge.mlicpkg")
}
