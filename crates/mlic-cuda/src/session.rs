//! The entropy model of one image on the device.
//!
//! The launches of a step (hyper synthesis; parameters of a pass; commit of a pass) depend only on the size and the level of the image, because all
//! addresses are those of the workspace. The second image of a size and level records them as graphs, and later images replay these.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use cudarc::driver::result::DriverError;
use mlic_backend::entropy::EntropyModel;
use mlic_backend::{BackendError, EntropySession, PassParameters, Stage};
use mlic_core::memory;
use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::Map;
use mlic_model::model::Gain;

use crate::args::{ParametersArgs, PlaceArgs};
use crate::backend::{CudaBackend, device_error};
use crate::device;
use crate::exact::{Latent, Values};
use crate::layer::narrow;
use crate::memory::Tensor;
use crate::ops::{CudaOps, Latents};
use crate::workspace::{Mode, Workspace};

/// A workspace that is given back when the session ends.
struct Lease<'a> {
    backend: &'a CudaBackend,
    workspace: Workspace,
    level: usize,
    mode: Mode,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // The next session writes to the host memory of the workspace. After a failure nothing of this device works, and the next session says so.
        if self.workspace.device.synchronize().is_ok() {
            self.backend.workspaces.give_back(self.workspace.clone());
        }
    }
}

impl Lease<'_> {
    fn failed(&self, error: DriverError) -> BackendError {
        device_error(Stage::Passes, error)
    }

    /// Runs, records or replays the work of a step, as the mode says.
    fn run(&self, step: usize, work: impl FnOnce() -> Result<(), BackendError>) -> Result<(), BackendError> {
        match self.mode {
            Mode::Eager => work(),
            Mode::Replay => self.launch(step),
            Mode::Record => {
                let graph = self.workspace.device.record(work).map_err(|e| self.failed(e))??;
                self.workspace.host().recorded(self.level).graphs.insert(step, graph);
                self.launch(step)
            }
        }
    }

    fn launch(&self, step: usize) -> Result<(), BackendError> {
        let missing = || not_recorded(step);
        let mut host = self.workspace.host();
        let graph = host.recorded(self.level).graphs.get_mut(&step).ok_or_else(missing)?;
        // SAFETY: the workspace keeps what was recorded with its memory, and this session has the workspace for itself.
        unsafe { graph.launch() }.map_err(|e| device_error(Stage::Passes, e))
    }
}

/// How far a session is that has no [`EntropyModel`], because it only replays.
#[derive(Default)]
struct Turn {
    next: usize,
    /// The parameters of the next pass are being computed, or have been.
    is_ahead: bool,
    /// The parameters of the next pass have been asked for.
    has_parameters: bool,
}

/// What runs the networks.
enum Networks<'a> {
    Model(Box<EntropyModel<'a, CudaOps<'a>>>),
    Recorded(Turn),
}

/// The entropy model of one image.
pub(crate) struct Session<'a> {
    // Before the lease, so that its tensors go back first.
    networks: Networks<'a>,
    lease: Lease<'a>,
    size: LatentSize,
    quality: u8,
}

/// The error for a step that is missing from a recorded image.
fn not_recorded(step: usize) -> BackendError {
    BackendError::Device { backend: "cuda", stage: Stage::Passes, message: format!("step {step} is not recorded") }
}

/// Number of graphs of an image: one for the hyper synthesis, then two for each pass.
const fn steps(slices: usize) -> usize {
    1 + 4 * slices
}

impl<'a> Session<'a> {
    /// Starts from z in latent fixed point and runs the hyper synthesis.
    pub(crate) fn new(backend: &'a CudaBackend, size: LatentSize, quality: u8, z: &[i32]) -> Result<Self, BackendError> {
        let stage = Stage::HyperSynthesis;
        let failed = |e| device_error(stage, e);
        let config = backend.model.config();
        let level = config.scale_level(quality);
        let workspace = backend.workspaces.take(&backend.device, config, size).map_err(failed)?;
        let mode = workspace.host().mode(level, steps(config.slices));
        let lease = Lease { backend, workspace, level, mode };
        let latent = &lease.workspace.z;
        // SAFETY: the session that had the workspace before has waited for the device.
        if z.len() != latent.len() || unsafe { lease.workspace.host().write_symbols(z) }.is_none() {
            return Err(BackendError::Shape { stage, got: z.len(), need: latent.len() });
        }
        lease.workspace.host().send_symbols(&lease.workspace.device, latent).map_err(failed)?;
        if mode == Mode::Replay {
            lease.launch(0)?;
            return Ok(Self { networks: Networks::Recorded(Turn::default()), lease, size, quality });
        }
        let mut started = None;
        lease.run(0, || {
            let ops = CudaOps { backend, workspace: lease.workspace.clone(), level, stage };
            started = Some(EntropyModel::new(backend.model.layout(), ops, latent)?);
            Ok(())
        })?;
        let mut model = started.ok_or_else(|| not_recorded(0))?;
        model.ops_mut().stage = Stage::Passes;
        Ok(Self { networks: Networks::Model(Box::new(model)), lease, size, quality })
    }

    /// Number of symbols of a pass.
    fn count(&self) -> usize {
        self.size.half_len() * self.lease.backend.model.config().slice_channels()
    }

    /// Addresses of the latent slices that are complete.
    fn slices(&self) -> Vec<u64> {
        match &self.networks {
            Networks::Model(model) => model.y_hat().iter().map(Tensor::address).collect(),
            Networks::Recorded(turn) => {
                self.lease.workspace.host().recorded(self.lease.level).y_hat.iter().take(turn.next / 2).copied().collect()
            }
        }
    }
}

impl Session<'_> {
    /// Runs the networks up to the parameters of a pass and returns the addresses of scales and means, which hold until the next step.
    fn gaussians(&mut self, pass: Pass) -> Result<[u64; 2], BackendError> {
        let (lease, step) = (&self.lease, 1 + 2 * pass.index());
        match &mut self.networks {
            Networks::Model(model) => {
                let mut addresses = [0; 2];
                lease.run(step, || {
                    let gaussian = model.parameters(pass)?;
                    addresses = [gaussian.scale.address(), gaussian.mean.address()];
                    Ok(())
                })?;
                if lease.mode == Mode::Record {
                    lease.workspace.host().recorded(lease.level).gaussians.insert(step, addresses);
                }
                Ok(addresses)
            }
            Networks::Recorded(turn) if turn.next != pass.index() => Err(BackendError::Order { pass }),
            Networks::Recorded(turn) => {
                if !std::mem::replace(&mut turn.is_ahead, true) {
                    lease.launch(step)?;
                }
                turn.has_parameters = true;
                let missing = || not_recorded(step);
                lease.workspace.host().recorded(lease.level).gaussians.get(&step).copied().ok_or_else(missing)
            }
        }
    }

    /// Puts the complete slices side by side in `y_hat` of the workspace and returns their number.
    fn gather(&self) -> Result<usize, DriverError> {
        let config = self.lease.backend.model.config();
        let channels = config.slice_channels();
        let count = self.size.y[0] * self.size.y[1] * channels;
        let workspace = &self.lease.workspace;
        let slices = self.slices();
        for (i, input) in slices.iter().copied().enumerate() {
            let (first, of) = (narrow(i * channels), narrow(config.latent));
            let (out, channels) = (workspace.y_hat.address(), narrow(channels));
            let args = PlaceArgs { input, out, count: count as i64, channels, of, first, reserved: 0 };
            // SAFETY: the slices have these positions and channels, and `y_hat` has room for all of them side by side.
            unsafe { workspace.device.launch_elements(&device::PLACE, count, &args) }?;
        }
        Ok(slices.len())
    }
}

impl EntropySession for Session<'_> {
    fn parameters_into(&mut self, pass: Pass, with_means: bool, to: &mut PassParameters) -> Result<(), BackendError> {
        let [scale, mean] = self.gaussians(pass)?;
        let (lease, count) = (&self.lease, self.count());
        let workspace = &lease.workspace;
        let [means, indices] = workspace.host().addresses();
        let (thresholds, means) = (lease.backend.packed.thresholds, if with_means { means } else { 0 });
        let args = ParametersArgs { scale, mean, thresholds, means, indices, count: count as i64 };
        // SAFETY: scales and means are of the step before, as many as the symbols of a pass, for which the host's memory has room.
        let started = unsafe { workspace.device.launch_elements(&device::PARAMETERS, count, &args) };
        started.map_err(|e| lease.failed(e))?;
        workspace.device.synchronize().map_err(|e| lease.failed(e))?;
        // SAFETY: the device was waited for.
        Ok(unsafe { workspace.host().read(count, with_means, to) }?)
    }

    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError> {
        let need = self.count();
        let (lease, step) = (&self.lease, 2 + 2 * pass.index());
        match &mut self.networks {
            Networks::Model(model) => {
                lease.run(step, || model.commit(pass, symbols))?;
                if lease.mode == Mode::Record {
                    let slices = model.y_hat().iter().map(Latents::address).collect();
                    lease.workspace.host().recorded(lease.level).y_hat = slices;
                }
            }
            Networks::Recorded(turn) => {
                if turn.next != pass.index() || !turn.has_parameters {
                    return Err(BackendError::Order { pass });
                }
                let wrong = BackendError::Shape { stage: Stage::Passes, got: symbols.len(), need };
                // SAFETY: the parameters of this pass came after the symbols before, and the device was waited for then.
                if symbols.len() != need || unsafe { lease.workspace.host().write_symbols(symbols) }.is_none() {
                    return Err(wrong);
                }
                turn.has_parameters = false;
                lease.launch(step)?;
                turn.next += 1;
                // The device goes on while the host is busy with what it has decoded.
                turn.is_ahead = step + 1 < steps(lease.backend.model.config().slices);
                if turn.is_ahead {
                    lease.launch(step + 1)?;
                }
            }
        }
        Ok(())
    }

    fn y_hat(&self) -> Result<Map<i32>, BackendError> {
        let config = self.lease.backend.model.config();
        let ([height, width], stage) = (self.size.y, Stage::Passes);
        let complete = self.gather().map_err(|e| self.lease.failed(e))? * config.slice_channels();
        let workspace = &self.lease.workspace;
        let (all, need) = (&workspace.y_hat, height * width * config.latent);
        let mut data = Vec::new();
        memory::reserve(&mut data, need)?;
        let mut host = workspace.host();
        let staging = host.staging(&workspace.device).map_err(|e| self.lease.failed(e))?;
        // SAFETY: `y_hat` of the workspace has so many elements.
        let taken = unsafe { staging.take_all(&workspace.device, all.address(), need * size_of::<i32>(), &mut data) };
        taken.map_err(|e| self.lease.failed(e))?;
        // Nothing was written for slices that are not complete.
        if complete < config.latent {
            data.chunks_exact_mut(config.latent).for_each(|position| position[complete..].fill(0));
        }
        let got = data.len();
        Map::from_vec(height, width, config.latent, data).ok_or(BackendError::Shape { stage, got, need })
    }

    fn exact_samples(&self) -> Result<Option<Map<u8>>, BackendError> {
        let Lease { backend, workspace, .. } = &self.lease;
        let config = backend.model.config();
        if self.gather().map_err(|e| self.lease.failed(e))? < config.slices {
            return Ok(None);
        }
        let ([height, width], channels) = (self.size.y, config.latent);
        let gains = backend.model.gain(Gain::InverseY, self.quality);
        let values = Values::Device(workspace.y_hat.address());
        backend.pixels(&workspace.device, Latent { height, width, channels, values, gains: &gains }).map(Some)
    }
}
