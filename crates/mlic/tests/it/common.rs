//! Models and pictures that several tests use.

use std::path::PathBuf;

use mlic::Model;
use mlic::image::Image;
use mlic_backend::probe;

/// A file of the repository.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// A small random model: fast, and as demanding of the integers as a trained one.
pub(crate) fn tiny() -> Model {
    Model::open(file("conformance/models/tiny.mlicpkg")).unwrap()
}

/// [`tiny`] with an integer analysis in place of the float one.
pub(crate) fn tiny_integer() -> Model {
    Model::from_bytes(probe::with_integer_analysis(&tiny()).unwrap()).unwrap()
}

/// A slope with noise on it.
pub(crate) fn picture(width: u32, height: u32) -> Image {
    let sample = |i: u32| (i.wrapping_mul(2_654_435_761) >> 27) as u8 * 4 + (i / 3 % width * 90 / width) as u8;
    Image::from_rgb(width, height, (0..3 * width * height).map(sample).collect()).unwrap()
}
