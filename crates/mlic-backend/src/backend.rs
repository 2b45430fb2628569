//! What a device offers to the codec.

use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::{Map, OutOfMemory, Picture, map};
use mlic_model::package::SectionKind;
use mlic_model::{Model, ModelError};

/// Why a stage cannot be run.
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
    /// The system cannot start a thread.
    #[error("no thread can be started: {reason}")]
    Threads {
        /// What the system says.
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
    /// Exact pixels were asked of a model whose package has no integer synthesis.
    #[error("model {model} has no integer synthesis: its pixels cannot be exact")]
    NotExact {
        /// Name of the model.
        model: String,
    },
    /// An integer analysis was asked of a model whose package has a float one.
    #[error("model {model} has no integer analysis")]
    NoExactAnalysis {
        /// Name of the model.
        model: String,
    },
    /// The model's part for this stage cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The host has no memory for a tensor of the picture or for the weights of the model.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A device other than the processor lacks the memory that a stage needs.
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
        /// What the device said.
        message: String,
    },
}

/// Checks that a tensor has `height x width` positions of `channels` channels: that it has as many elements (`got`), and that what is known of its
/// sides and channels agrees (`is_shaped`).
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
    /// Synthesis in integers: the image is exact.
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
    /// Elements: the product of the three.
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
    /// Runs the networks up to the parameters of this pass and writes them to `to`, whose contents are replaced and whose memory is reused. Without
    /// `with_means`, the means may be missing.
    ///
    /// # Errors
    /// [`BackendError::Order`] when it is not this pass's turn, or an error of the device.
    fn parameters_into(&mut self, pass: Pass, with_means: bool, to: &mut PassParameters) -> Result<(), BackendError>;

    /// Like [`Self::parameters_into`] with means, but into newly allocated memory.
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
    /// [`BackendError::Order`], [`BackendError::Shape`], or an error of the device.
    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError>;

    /// Returns `y_hat`, `[height][width][M]` in latent fixed point. The channels of latent slices that are not complete are zero.
    ///
    /// # Errors
    /// An error of the device.
    fn y_hat(&self) -> Result<Map<i32>, BackendError>;

    /// Returns what [`Backend::exact_synthesis`] makes of [`Self::y_hat`] when all slices are complete, if the device can do that without bringing
    /// `y_hat` to the host, and none if it cannot. [`exact_samples`] covers both cases.
    ///
    /// # Errors
    /// As [`Backend::exact_synthesis`].
    fn exact_samples(&self) -> Result<Option<Map<u8>>, BackendError> {
        Ok(None)
    }
}

/// Runs the exact synthesis on the `y_hat` of a session of this backend. If `y_hat` has to go through the host, the session is dropped first, which
/// frees all of its memory.
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
    /// All transforms.
    pub const ALL: [Self; 3] = [Self::Analysis, Self::HyperAnalysis, Self::Synthesis];

    /// The stage that runs this transform.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Analysis => Stage::Analysis,
            Self::HyperAnalysis => Stage::HyperAnalysis,
            Self::Synthesis => Stage::Synthesis,
        }
    }

    /// The section of a package that holds this transform.
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
    /// Short name: `reference`, `integer`, `tract` or `cuda`. The name of the CPU backend says which kernels and which float executor it uses.
    fn name(&self) -> &'static str;

    /// What runs a stage, for reports: processor and instruction set, or GPU.
    fn device(&self, stage: Stage) -> String;

    /// The model.
    fn model(&self) -> &Model;

    /// Number of threads of this machine that the backend computes on, as bounds on memory count them.
    fn threads(&self) -> usize;

    /// Estimates the bytes that a float transform holds at a time for an input of this height and width
    /// ([`memory::transform_bytes`](crate::memory::transform_bytes)).
    ///
    /// # Errors
    /// [`BackendError::Model`] when the transform is refused, or an error of its executor.
    fn transform_bytes(&self, transform: FloatTransform, size: [usize; 2]) -> Result<u64, BackendError> {
        crate::cpu::transform_bytes(self.model(), None, transform, size)
    }

    /// Runs a float transform.
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] when the backend has no float transforms, or an error of the device.
    fn transform(&self, transform: FloatTransform, input: &Planes) -> Result<Planes, BackendError>;

    /// Exact analysis: from a picture, its sides padded to multiples of 64, to y before its gain, `[H/16][W/16][M]` in latent fixed point (SPEC 5.8).
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`] when the model's analysis is a float one, or an error of the device.
    fn exact_analysis(&self, picture: &Picture<'_>) -> Result<Map<i32>, BackendError>;

    /// Exact hyper analysis: from y after its gain to z before its gain, `[H/64][W/64][N]` in latent fixed point (SPEC 5.8).
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`], [`BackendError::Shape`], or an error of the device.
    fn exact_hyper_analysis(&self, y: &Map<i32>) -> Result<Map<i32>, BackendError>;

    /// Exact synthesis: from `y_hat`, as [`EntropySession::y_hat`] returns it, to samples of red, green and blue, `[16 height][16 width][3]` (SPEC 5.7).
    ///
    /// # Errors
    /// [`BackendError::NotExact`] when the model has no integer synthesis, [`BackendError::Shape`], or an error of the device.
    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>, BackendError>;

    /// Starts the entropy model, which is exact, from the symbols of z (channels last), and runs the hyper synthesis.
    ///
    /// # Errors
    /// [`BackendError::Shape`], or an error of the device.
    fn entropy<'a>(
        &'a self,
        size: LatentSize,
        quality: u8,
        z_symbols: &[i32],
    ) -> Result<Box<dyn EntropySession + 'a>, BackendError>;
}
