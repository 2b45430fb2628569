//! The backend.

use std::sync::Arc;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;
use mlic_backend::analysis::check_latent;
use mlic_backend::cpu::{FloatTransforms, run_float, transform_bytes};
use mlic_backend::integer::{check_y_hat, z_latent};
use mlic_backend::{Backend, BackendError, EntropySession, FloatTransform, Planes, Stage};
use mlic_core::memory;
use mlic_core::schedule::LatentSize;
use mlic_kernels::{Map, Picture};
use mlic_model::Model;
use mlic_model::analysis::{Analyses, LATENT_SCALE, SAMPLES_SCALE};
use mlic_model::model::Gain;
use mlic_model::synthesis::SCALE;
use once_cell::sync::OnceCell;

use crate::device::{self, Device};
use crate::exact::{Latent, PackedAnalysis, PackedHyperAnalysis, PackedSynthesis};
use crate::packed::{PackError, PackedModel};
use crate::session::Session;
use crate::workspace::Workspaces;

/// How a backend is made.
#[derive(Default)]
pub struct Options {
    /// Index of the device in the list of the driver.
    pub ordinal: usize,
    /// Runs dense layers on `dp4a` even if the device has `mma`, for comparison.
    pub without_mma: bool,
    /// Threads for what runs on the CPU (0: all cores).
    pub threads: usize,
    /// Executor of the float transforms on the CPU. Without it, the backend decodes to `y_hat` and exact pixels, and encodes if the package has an
    /// integer analysis.
    pub float: Option<Box<dyn FloatTransforms>>,
}

/// A model on a GPU.
///
/// From the symbols of z to `y_hat`, and on to exact pixels, everything runs on the device, in integers, exact against `mlic_kernels::reference`;
/// so does the integer analysis. The float transforms run on the CPU.
pub struct CudaBackend {
    pub(crate) model: Arc<Model>,
    pub(crate) packed: PackedModel,
    pub(crate) workspaces: Workspaces,
    float: Option<Box<dyn FloatTransforms>>,
    /// Integer `g_a` and `h_a`, brought to the device on first use, since a decoder never needs them.
    analysis: OnceCell<(PackedAnalysis, PackedHyperAnalysis)>,
    threads: usize,
    pub(crate) device: Arc<Device>,
}

/// Turns an error of the driver into an error of a stage.
pub(crate) fn device_error(stage: Stage, error: DriverError) -> BackendError {
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => BackendError::DeviceMemory { backend: "cuda", stage },
        _ => BackendError::Device { backend: "cuda", stage, message: device::describe(error) },
    }
}

impl CudaBackend {
    /// Opens a GPU and brings the model to it.
    ///
    /// # Errors
    /// [`BackendError::NotAvailable`] with the reason: no driver, one that is too old, no device, none that the kernels are for, too
    /// little memory for the model.
    pub fn new(model: Arc<Model>, options: Options) -> Result<Self, BackendError> {
        let device = Device::open(options.ordinal, options.without_mma)?;
        Self::on(Arc::new(device), model, options)
    }

    /// Like [`Self::new`], on an opened GPU.
    pub(crate) fn on(device: Arc<Device>, model: Arc<Model>, options: Options) -> Result<Self, BackendError> {
        let packed = PackedModel::new(&device, &model)?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores() } else { options.threads };
        let workspaces = Workspaces::new(&device);
        Ok(Self { model, packed, workspaces, float: options.float, analysis: OnceCell::new(), threads, device })
    }

    /// Frees the memory that earlier pictures left for later ones.
    pub(crate) fn forget(&self) {
        self.workspaces.clear();
        self.packed.synthesis.iter().for_each(PackedSynthesis::clear);
        if let Some((g_a, h_a)) = self.analysis.get() {
            g_a.clear();
            h_a.clear();
        }
    }

    /// Runs a step. If the device has no room, frees what earlier images left, none of which the launches of this image use, and tries once more.
    pub(crate) fn with_room<T>(&self, mut step: impl FnMut() -> Result<T, BackendError>) -> Result<T, BackendError> {
        match step() {
            Err(BackendError::DeviceMemory { .. }) => {
                self.forget();
                step()
            }
            result => result,
        }
    }

    /// Returns the integer `g_a` and `h_a`, which the first call brings to the device.
    fn integer_analysis(&self, stage: Stage) -> Result<&(PackedAnalysis, PackedHyperAnalysis), BackendError> {
        self.analysis.get_or_try_init(|| {
            let none = || BackendError::NoExactAnalysis { model: self.model.name().to_owned() };
            let Analyses { g_a, h_a } = self.model.exact_analysis()?.ok_or_else(none)?;
            let functions = &self.model.parameters().functions;
            let failed = |e: PackError| e.or(|e| device_error(stage, e));
            self.with_room(|| {
                let g_a = PackedAnalysis::new(&self.device, functions, &g_a).map_err(failed)?;
                Ok((g_a, PackedHyperAnalysis::new(&self.device, functions, &h_a).map_err(failed)?))
            })
        })
    }

    /// Makes a map of this shape, whose elements `work` appends to an empty vector.
    fn filled<T: bytemuck::Zeroable + Copy>(
        &self,
        stage: Stage,
        [height, width, channels]: [usize; 3],
        mut work: impl FnMut(&mut Vec<T>) -> Result<(), DriverError>,
    ) -> Result<Map<T>, BackendError> {
        let (mut data, need) = (Vec::new(), height * width * channels);
        memory::reserve(&mut data, need)?;
        self.with_room(|| {
            data.clear();
            work(&mut data).map_err(|e| device_error(stage, e))
        })?;
        let got = data.len();
        Map::from_vec(height, width, channels, data).ok_or(BackendError::Shape { stage, got, need })
    }

    /// Computes exact pixels of a latent, whose shape is right, on the stream of `device`.
    pub(crate) fn pixels(&self, device: &Arc<Device>, latent: Latent<'_>) -> Result<Map<u8>, BackendError> {
        let not_exact = || BackendError::NotExact { model: self.model.name().to_owned() };
        let packed = self.packed.synthesis.as_ref().ok_or_else(not_exact)?;
        let shape = [SCALE * latent.height, SCALE * latent.width, 3];
        self.filled(Stage::ExactSynthesis, shape, |samples| packed.run(device, latent, samples))
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn device(&self, stage: Stage) -> String {
        let arch = std::env::consts::ARCH;
        match (stage, &self.float) {
            (Stage::ExactAnalysis | Stage::ExactHyperAnalysis, _) if !self.model.has_exact_analysis() => "none".to_owned(),
            (
                Stage::HyperSynthesis | Stage::Passes | Stage::ExactSynthesis | Stage::ExactAnalysis | Stage::ExactHyperAnalysis,
                _,
            ) => {
                format!("{}, {}", self.device.description, if self.device.has_mma { "mma" } else { "dp4a" })
            }
            (Stage::Rans, _) => format!("cpu {arch}"),
            (_, Some(float)) => format!("cpu {arch}, {} f32", float.name()),
            (_, None) => "none".to_owned(),
        }
    }

    fn model(&self) -> &Model {
        &self.model
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn transform_bytes(&self, transform: FloatTransform, size: [usize; 2]) -> Result<u64, BackendError> {
        transform_bytes(&self.model, self.float.as_deref(), transform, size)
    }

    fn transform(&self, transform: FloatTransform, input: &Planes) -> Result<Planes, BackendError> {
        run_float(self.float.as_deref(), self.name(), transform, input, self.threads)
    }

    fn exact_analysis(&self, picture: &Picture<'_>) -> Result<Map<i32>, BackendError> {
        let stage = Stage::ExactAnalysis;
        let (g_a, _) = self.integer_analysis(stage)?;
        let [height, width] = picture.padded().map(|side| side / SAMPLES_SCALE);
        self.filled(stage, [height, width, self.model.config().latent], |y| g_a.run(&self.device, picture, y))
    }

    fn exact_hyper_analysis(&self, y: &Map<i32>) -> Result<Map<i32>, BackendError> {
        let stage = Stage::ExactHyperAnalysis;
        let (_, h_a) = self.integer_analysis(stage)?;
        check_latent(&self.model, y)?;
        let shape = [y.height / LATENT_SCALE, y.width / LATENT_SCALE, self.model.config().hyper];
        self.filled(stage, shape, |z| h_a.run(&self.device, y, z))
    }

    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>, BackendError> {
        if self.packed.synthesis.is_some() {
            check_y_hat(&self.model, y_hat)?;
        }
        self.pixels(&self.device, Latent::of(y_hat, &self.model.gain(Gain::InverseY, quality)))
    }

    fn entropy<'a>(
        &'a self,
        size: LatentSize,
        quality: u8,
        z_symbols: &[i32],
    ) -> Result<Box<dyn EntropySession + 'a>, BackendError> {
        // The kernels trust what `z_latent` checks.
        let z = z_latent(&self.model, size, quality, z_symbols)?;
        let session = self.with_room(|| Session::new(self, size, quality, &z.data))?;
        Ok(Box::new(session))
    }
}
