//! Encoders (SPEC 5.8, 5.9): with an integer analysis, generated pictures give the same streams on every machine.

use std::sync::Arc;

use mlic::{BackendChoice, Codec, CodecOptions, Quality, backend};
use mlic_backend::digest::Digest;
use mlic_backend::probe::with_integer_analysis;
use mlic_model::Model;

use crate::error::ConformError;
use crate::scene::{Scene, draw};
use crate::store::Store;

/// The package to which an integer analysis is added.
const PACKAGE: &str = "models/tiny.mlicpkg";
/// Widths and heights of the pictures, in pixels.
const SIZES: [(u32, u32); 3] = [(1, 1), (150, 70), (65, 129)];
/// Scenes and rounds of refinement, and the digest of the streams at every size and three qualities.
const EXPECTED: [(Scene, u8, &str); 8] = [
    (Scene::Gradient, 0, "00ba748f78a560f751f84fc8ad42d257"),
    (Scene::Noise, 0, "5eff8930103a250b560313b29fa762cd"),
    (Scene::Glyphs, 0, "1d5369dd257dce0a7e928bb4728119da"),
    (Scene::Saturated, 0, "b1b451f021392ae256ad227140a47476"),
    (Scene::Gradient, 3, "80827dd126f8a577281afb015ba8dbff"),
    (Scene::Noise, 3, "fefb78fd686ae6ba1eec208fdd3ff7b7"),
    (Scene::Glyphs, 3, "f55aa39ba6965a1ca62e247254cb7071"),
    (Scene::Saturated, 3, "8b1016e7b4a9e33be44602cfea190821"),
];

/// The streams of one scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams {
    /// What the pictures show.
    pub scene: Scene,
    /// Rounds of refinement.
    pub effort: u8,
    /// Length of all streams together, in bytes.
    pub len: usize,
    /// Digest of the streams.
    pub got: String,
    /// Digest that the streams must have.
    pub expected: &'static str,
}

impl Streams {
    /// Whether the streams have the digest that they must have.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.got == self.expected
    }
}

/// Encodes every scene on a backend with this many threads.
///
/// # Errors
/// [`ConformError`] when the package cannot be read or something cannot be encoded.
pub fn encode(choice: BackendChoice, threads: usize) -> Result<Vec<Streams>, ConformError> {
    let tiny = Model::from_bytes(Store::embedded().read(PACKAGE)?.into_owned())?;
    let model = Arc::new(Model::from_bytes(with_integer_analysis(&tiny)?)?);
    let backend = backend(Arc::clone(&model), choice, threads)?;
    let one = |(scene, effort, expected): (Scene, u8, &'static str)| {
        let codec = Codec::from_backend(Arc::clone(&backend), CodecOptions::default().with_effort(effort))?;
        let mut bytes = Vec::new();
        for (seed, (width, height)) in (1..).zip(SIZES) {
            let image = draw(scene, width, height, seed)?;
            for quality in [Quality::LOWEST, Quality::default(), Quality::HIGHEST] {
                bytes.extend(codec.encode(&image, quality)?.stream);
            }
        }
        Ok(Streams { scene, effort, len: bytes.len(), got: Digest::of_bytes(&bytes).to_string(), expected })
    };
    EXPECTED.into_iter().map(one).collect()
}
