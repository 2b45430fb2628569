//! MLIC++ (arXiv 2307.15421) as a codec whose streams decode to the same latents on every machine.
//!
//! [`Codec`] encodes an [`image::Image`] to a stream and decodes it again. The entropy path is integer arithmetic, defined in
//! `docs/SPEC.md`: what one machine writes, every other reads. This crate is the only versioned API of the project.
//!
//! ```
//! use mlic::image::Image;
//! use mlic::{Codec, CodecOptions, Quality, default_model};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(feature = "embedded-model")] {
//! let codec = Codec::new(default_model()?, CodecOptions::default())?;
//! let picture = Image::from_rgb(64, 48, (0..3 * 64 * 48).map(|i| (i / 90) as u8).collect())?;
//! let stream = codec.encode(&picture, Quality::HIGHEST)?.stream;
//! let decoded = codec.decode(&stream)?;
//! assert!(decoded.truncation.is_none(), "a stream that was cut gives a picture too, as far as it goes");
//! let decoded = decoded.image;
//! assert_eq!((decoded.width, decoded.height), (64, 48));
//! assert!(mlic::metrics::psnr(&picture, &decoded)? > 30.0);
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! [`CodecOptions`] configure a codec; [`Codec::watched`] reports progress and lets a call be cancelled.
//! [`image::read_image`] and [`image::write_image`] read and write picture files; `examples/in_memory.rs` goes from one to the other.
//!
//! | feature | default | |
//! |---|---|---|
//! | `embedded-model` | yes | [`default_model`] is part of the program (25 MB); without the feature, it is at [`installed_model_path`] |
//! | `tract` | yes | float transforms on [tract](https://docs.rs/tract-core): [`PixelMode::Float`], and packages whose analysis is in float |
//! | `cuda` | yes | [`BackendChoice::Cuda`]: NVIDIA GPUs, whose driver is loaded at run time |
//!
//! Some names are re-exported from the crates below this one. The versioned API includes of these: opening a [`Model`], and its `id`, `name` and
//! `quality_steps`; what reads and writes streams in [`container`] and [`limits`]; and the errors. Everything else in them, and [`Backend`] with the
//! types that it takes, is for work on the project itself and changes with it.
//!
//! An [`Error`] says what is wrong, by how much, and which limit applies; [`Error::kind`] tells what to do about it, and [`error::chain`] gives the
//! error with all its causes in one line.

use std::path::{Path, PathBuf};

mod admission;
pub mod backend;
pub mod budget;
pub mod codec;
mod encoder;
pub mod error;
pub mod image;
pub mod metadata;
pub mod metrics;
mod pixels;
mod quality;
mod sinks;
mod watched;

pub use backend::{BackendChoice, MAX_THREADS, backend, cpu_warning, on_threads};
pub use budget::Limits;
pub use codec::{
    Codec, CodecOptions, Decoded, Encoded, Latents, PartBits, PixelMode, Progress, ProgressEvent, Report, Rounding, StageTime,
    Truncation,
};
pub use error::{Error, ErrorKind, Place};
pub use mlic_backend::{Backend, BackendError, Planes, Stage};
pub use mlic_core::checkerboard::Parity;
pub use mlic_core::container::ContainerError;
pub use mlic_core::memory::OutOfMemory;
pub use mlic_core::rans::RansError;
pub use mlic_core::schedule::Pass;
pub use mlic_core::{container, limits};
pub use mlic_kernels::Map;
pub use mlic_model::{Model, ModelError};
#[cfg(feature = "embedded-model")]
use mlic_model::{model::verified_by_a_test, package::NormativeHash};
pub use pixels::{image_of, luma, planes_of};
pub use quality::{Quality, QualityError};
pub use watched::Watched;

#[cfg(feature = "embedded-model")]
static EDGE: &[u8] = include_bytes!("../../../models/edge/edge.mlicpkg");
/// Hash of the embedded package, which `tests` verify as a whole.
#[cfg(feature = "embedded-model")]
#[rustfmt::skip]
const EDGE_HASH: NormativeHash = [
    0xa0, 0x56, 0x70, 0xe3, 0xe1, 0xee, 0xb4, 0xbc, 0xe7, 0x89, 0x41, 0xfa, 0xc2, 0xe7, 0x54, 0x58,
    0xfa, 0x56, 0x0c, 0x16, 0x37, 0xad, 0xf4, 0x05, 0xdd, 0xad, 0xf0, 0x85, 0x68, 0xf9, 0xde, 0x36,
];

/// The model that is part of the program. Each call verifies its checksums; a test verifies the whole package.
///
/// # Errors
/// [`ModelError`] when the program was damaged.
#[cfg(feature = "embedded-model")]
pub fn embedded_model() -> Result<Model, ModelError> {
    verified_by_a_test(EDGE, &EDGE_HASH)
}

/// The model of a program: the embedded one or, without the feature `embedded-model`, the one at [`installed_model_path`].
///
/// # Errors
/// [`ModelError::Io`] when it is not installed, any other [`ModelError`] when it was damaged.
pub fn default_model() -> Result<Model, ModelError> {
    #[cfg(feature = "embedded-model")]
    return embedded_model();
    #[cfg(not(feature = "embedded-model"))]
    Model::open(installed_model_path())
}

/// Path of an installed model: `../share/mlic/edge.mlicpkg`, relative to the folder of the running program.
#[must_use]
pub fn installed_model_path() -> PathBuf {
    let program = std::env::current_exe().ok();
    let prefix = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    prefix.unwrap_or(Path::new("/usr")).join("share/mlic/edge.mlicpkg")
}

#[cfg(all(test, feature = "embedded-model"))]
mod tests {
    use super::*;

    /// What [`embedded_model`] takes for granted.
    #[test]
    fn the_embedded_model_is_verified_as_a_whole() {
        assert_eq!(Model::from_static(EDGE).unwrap().hash(), EDGE_HASH);
        assert_eq!(embedded_model().unwrap().hash(), EDGE_HASH);
    }
}
