//! A backend that records what passes through it, so that a decoding that ends in an error still shows where it went astray. It always requests
//! means, which a decoder never does. Whether decoding without means gives the same is checked without this backend ([`crate::observe::decode_alone`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlic_backend::digest::Digest;
use mlic_backend::{Backend, BackendError, EntropySession, FloatTransform, PassParameters, Planes, Stage};
use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::{Map, Picture};
use mlic_model::Model;

/// What one pass determined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassRecord {
    /// The pass.
    pub pass: Pass,
    /// Means and scale indices.
    pub parameters: PassParameters,
    /// Symbols; none when the pass was not completed.
    pub symbols: Option<Vec<i32>>,
}

/// What a decoding determined, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Symbols of z.
    pub z: Option<Vec<i32>>,
    /// Passes, in walk order.
    pub passes: Vec<PassRecord>,
    /// `y_hat`.
    pub y_hat: Option<Vec<i32>>,
    /// Exact pixels, as [`crate::observe::exact_pixels`] gives them.
    pub pixels: Option<Vec<u8>>,
}

impl PassRecord {
    /// Digest of the means.
    #[must_use]
    pub fn means(&self) -> Digest {
        Digest::of_i32(&self.parameters.means)
    }

    /// Digest of the scale indices.
    #[must_use]
    pub fn scale_indices(&self) -> Digest {
        Digest::of_bytes(&self.parameters.scale_indices)
    }

    /// Digest of the symbols.
    #[must_use]
    pub fn symbols(&self) -> Option<Digest> {
        self.symbols.as_deref().map(Digest::of_i32)
    }
}

/// A backend and the recording of its latest entropy session.
pub struct Recorder {
    backend: Arc<dyn Backend>,
    recording: Arc<Mutex<Recording>>,
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Makes a recorder for a backend.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, recording: Arc::default() }
    }

    /// Returns what has been recorded.
    #[must_use]
    pub fn recording(&self) -> Recording {
        lock(&self.recording).clone()
    }
}

impl Backend for Recorder {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn device(&self, stage: Stage) -> String {
        self.backend.device(stage)
    }

    fn model(&self) -> &Model {
        self.backend.model()
    }

    fn threads(&self) -> usize {
        self.backend.threads()
    }

    fn transform_bytes(&self, transform: FloatTransform, size: [usize; 2]) -> Result<u64, BackendError> {
        self.backend.transform_bytes(transform, size)
    }

    fn transform(&self, transform: FloatTransform, input: &Planes) -> Result<Planes, BackendError> {
        self.backend.transform(transform, input)
    }

    fn exact_analysis(&self, picture: &Picture<'_>) -> Result<Map<i32>, BackendError> {
        self.backend.exact_analysis(picture)
    }

    fn exact_hyper_analysis(&self, y: &Map<i32>) -> Result<Map<i32>, BackendError> {
        self.backend.exact_hyper_analysis(y)
    }

    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>, BackendError> {
        self.backend.exact_synthesis(quality, y_hat)
    }

    fn entropy<'a>(
        &'a self,
        size: LatentSize,
        quality: u8,
        z_symbols: &[i32],
    ) -> Result<Box<dyn EntropySession + 'a>, BackendError> {
        *lock(&self.recording) = Recording { z: Some(z_symbols.to_vec()), ..Recording::default() };
        let session = self.backend.entropy(size, quality, z_symbols)?;
        Ok(Box::new(Session { session, recording: &self.recording }))
    }
}

struct Session<'a> {
    session: Box<dyn EntropySession + 'a>,
    recording: &'a Mutex<Recording>,
}

impl EntropySession for Session<'_> {
    fn parameters_into(&mut self, pass: Pass, _: bool, to: &mut PassParameters) -> Result<(), BackendError> {
        self.session.parameters_into(pass, true, to)?;
        lock(self.recording).passes.push(PassRecord { pass, parameters: to.clone(), symbols: None });
        Ok(())
    }

    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError> {
        if let Some(record) = lock(self.recording).passes.last_mut() {
            record.symbols = Some(symbols.to_vec());
        }
        self.session.commit(pass, symbols)
    }

    fn y_hat(&self) -> Result<Map<i32>, BackendError> {
        let y_hat = self.session.y_hat()?;
        lock(self.recording).y_hat = Some(y_hat.data.clone());
        Ok(y_hat)
    }
}
