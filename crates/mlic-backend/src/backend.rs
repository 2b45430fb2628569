//! What a device offers to the codec.

use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::{Map, OutOfMemory, Picture, map};
use mlic_model::package::SectionKind;
use mlic_model::{Model, ModelError};

/// A stage cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend cannot be used on this machine.
    #[error("backend {backend} is not available: {reason}")]
    NotAvailable {
        /// Which backend.
        backend: &'static str,
        /// Why.
        reason: String,
    },
    /// The system has no threads for it.
    #[error("no thread can be started: {reason}")]
    Threads {
        /// What it says.
        reason: String,
    },
    /// An input does not have the shape that the stage needs.
    #[error("{stage}: input of {got} elements, {need} needed")]
    Shape {
        /// Which stage.
        stage: Stage,
        /// Elements given.
        got: usize,
        /// Elements needed.
        need: usize,
    },
    /// A pass was asked for out of order.
    #[error("{pass} is not the next pass")]
    Order {
        /// The pass asked for.
        pass: Pass,
    },
    /// The model lacks an operator that the walk needs: a defect of the package reader.
    #[error("the model has no operator {name}")]
    Operator {
        /// The operator.
        name: String,
    },
    /// Exact pixels of a model whose package has no integer synthesis.
    #[error("model {model} has no integer synthesis: its pixels cannot be exact")]
    NotExact {
        /// Name of the model.
        model: String,
    },
    /// An integer analysis of a model whose package has a float one.
    #[error("model {model} has no integer analysis")]
    NoExactAnalysis {
        /// Name of the model.
        model: String,
    },
    /// The model's part for this stage cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is no room for a tensor of the picture, or for the weights of the model.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The device, which is another than the processor, has no room for what a stage needs.
    #[error("{stage} on {backend}: the device has not as much memory as is needed")]
    DeviceMemory {
        /// Which backend.
        backend: &'static str,
        /// Which stage.
        stage: Stage,
    },
    /// The device failed.
    #[error("{stage} on {backend}: {message}")]
    Device {
        /// Which backend.
        backend: &'static str,
        /// Which stage.
        stage: Stage,
        /// What it said.
        message: String,
    },
}

/// Whether a tensor with `got` elements has this size and so many channels; `is_shaped` says what is known of its sides and channels.
///
/// # Errors
/// [`BackendError::Shape`].
pub fn check_shape(
    stage: Stage,
    got: usize,
    is_shaped: bool,
    [height, width]: [usize; 2],
    channels: usize,
) -> Result<(), BackendError> {
    let need = map::elements(height, width, channels).unwrap_or(usize::MAX);
    if is_shaped && got == need { Ok(()) } else { Err(BackendError::Shape { stage, got, need }) }
}

/// A stage of the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Analysis: image to y.
    Analysis,
    /// Hyper analysis: y to z.
    HyperAnalysis,
    /// Analysis in integers: the stream is exact.
    ExactAnalysis,
    /// Hyper analysis in integers.
    ExactHyperAnalysis,
    /// Hyper synthesis: z to `hyper_params`.
    HyperSynthesis,
    /// The networks of the passes.
    Passes,
    /// Entropy coding.
    Rans,
    /// Synthesis: `y_hat` to image.
    Synthesis,
    /// The same in integers: the image is exact.
    ExactSynthesis,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Analysis => "g_a",
            Self::HyperAnalysis => "h_a",
            Self::ExactAnalysis => "exact g_a",
            Self::ExactHyperAnalysis => "exact h_a",
            Self::HyperSynthesis => "h_s",
            Self::Passes => "passes",
            Self::Rans => "rans",
            Self::Synthesis => "g_s",
            Self::ExactSynthesis => "exact g_s",
        })
    }
}

/// A float tensor, channels first: `[channels][height][width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Planes {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Elements; the length is the product of the three.
    pub data: Vec<f32>,
}

/// What the entropy model predicts for one pass: the Gaussian of each symbol, in coding order
/// (row, packed column, channel).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassParameters {
    /// Means in latent fixed point.
    pub means: Vec<i32>,
    /// Scale indices.
    pub scale_indices: Vec<u8>,
}

/// The entropy model of one image, advanced pass by pass: [`Self::parameters`], then [`Self::commit`], for each pass in order.
pub trait EntropySession {
    /// Runs the networks up to the parameters of this pass, which go into memory that may be there already. Where means are not wanted, there
    /// may be none.
    ///
    /// # Errors
    /// [`BackendError::Order`] when it is not this pass's turn, or what the device says.
    fn parameters_into(&mut self, pass: Pass, with_means: bool, to: &mut PassParameters) -> Result<(), BackendError>;

    /// The same with means, into memory of their own.
    ///
    /// # Errors
    /// As [`Self::parameters_into`].
    fn parameters(&mut self, pass: Pass) -> Result<PassParameters, BackendError> {
        let mut parameters = PassParameters::default();
        self.parameters_into(pass, true, &mut parameters)?;
        Ok(parameters)
    }

    /// Takes the symbols of the pass (as many as [`PassParameters::scale_indices`], in the same order), reconstructs this half of the
    /// latent slice and adds the latent residual prediction.
    ///
    /// # Errors
    /// [`BackendError::Order`], [`BackendError::Shape`], or what the device says.
    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError>;

    /// `y_hat` of the latent slices that are complete, then zeros: `[height][width][M]` in latent fixed point.
    ///
    /// # Errors
    /// What the device says.
    fn y_hat(&self) -> Result<Map<i32>, BackendError>;

    /// What [`Backend::exact_synthesis`] makes of [`Self::y_hat`] when all slices are complete, where the device can make it without `y_hat` going
    /// through the host; none where it cannot: see [`exact_samples`].
    ///
    /// # Errors
    /// As [`Backend::exact_synthesis`].
    fn exact_samples(&self) -> Result<Option<Map<u8>>, BackendError> {
        Ok(None)
    }
}

/// Exact synthesis of what a session of this backend has come to. Where `y_hat` goes through the host, the session ends before, with all of its memory.
///
/// # Errors
/// As [`Backend::exact_synthesis`].
pub fn exact_samples(backend: &dyn Backend, session: Box<dyn EntropySession + '_>, quality: u8) -> Result<Map<u8>, BackendError> {
    if let Some(samples) = session.exact_samples()? {
        return Ok(samples);
    }
    let y_hat = session.y_hat()?;
    drop(session);
    backend.exact_synthesis(quality, &y_hat)
}

/// A float transform of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatTransform {
    /// `g_a`: a picture `[3, H, W]` in 0..1, sides multiples of 64, to y `[M, H/16, W/16]`.
    Analysis,
    /// `h_a`: y to z `[N, H/64, W/64]`.
    HyperAnalysis,
    /// `g_s`: `y_hat` after the inverse gain to the picture `[3, H, W]`.
    Synthesis,
}

impl FloatTransform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Analysis, Self::HyperAnalysis, Self::Synthesis];

    /// The stage that it is.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Analysis => Stage::Analysis,
            Self::HyperAnalysis => Stage::HyperAnalysis,
            Self::Synthesis => Stage::Synthesis,
        }
    }

    /// The section that has it.
    #[must_use]
    pub const fn section(self) -> SectionKind {
        match self {
            Self::Analysis => SectionKind::Analysis,
            Self::HyperAnalysis => SectionKind::HyperAnalysis,
            Self::Synthesis => SectionKind::Synthesis,
        }
    }
}

/// A device with a model on it.
pub trait Backend: Send + Sync {
    /// Short name: `reference`, `integer`, `tract`, `cuda`; the processor's says which kernels and which float executor it has.
    fn name(&self) -> &'static str;

    /// What runs a stage, for reports: processor and instruction set, or GPU.
    fn device(&self, stage: Stage) -> String;

    /// The model.
    fn model(&self) -> &Model;

    /// Threads of this machine that it computes on: what bounds of memory count.
    fn threads(&self) -> usize;

    /// An estimate of the bytes that a float transform holds at a time for an input of this height and width
    /// ([`memory::transform_bytes`](crate::memory::transform_bytes)).
    ///
    /// # Errors
    /// [`BackendError::Model`] when the transform is refused, or what its executor says.
    fn transform_bytes(&self, transform: FloatTransform, size: [usize; 2]) -> Result<u64, BackendError> {
        crate::cpu::transform_bytes(self.model(), None, transform, size)
    }

    /// Runs a float transform.
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] of a backend that has none, or what the device says.
    fn transform(&self, transform: FloatTransform, input: &Planes) -> Result<Planes, BackendError>;

    /// Exact analysis: a picture to y before its gain, `[H/16][W/16][M]` in latent fixed point, sides padded to multiples of 64 (SPEC 5.8).
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`] when the model has a float one, or what the device says.
    fn exact_analysis(&self, picture: &Picture<'_>) -> Result<Map<i32>, BackendError>;

    /// Exact hyper analysis: y after its gain to z before its own, `[H/64][W/64][N]` in latent fixed point (SPEC 5.8).
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`], [`BackendError::Shape`], or what the device says.
    fn exact_hyper_analysis(&self, y: &Map<i32>) -> Result<Map<i32>, BackendError>;

    /// Exact synthesis: `y_hat` as [`EntropySession::y_hat`] gives it to samples of red, green, blue, `[16 height][16 width][3]` (SPEC 5.7).
    ///
    /// # Errors
    /// [`BackendError::NotExact`] when the model has no integer synthesis, [`BackendError::Shape`], or what the device says.
    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>, BackendError>;

    /// Exact: starts the entropy model from the symbols of z (channels last) and runs the hyper synthesis.
    ///
    /// # Errors
    /// [`BackendError::Shape`], or what the device says.
    fn entropy<'a>(
        &'a self,
        size: LatentSize,
        quality: u8,
        z_symbols: &[i32],
    ) -> Result<Box<dyn EntropySession + 'a>, BackendError>;
}
