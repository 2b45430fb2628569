//! What one image size needs besides the model: device buffers, and the memory that crosses to the host.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::DriverError;
use mlic_backend::PassParameters;
use mlic_core::memory::{self, OutOfMemory};
use mlic_core::schedule::LatentSize;
use mlic_model::Config;

use crate::device::{Device, Graph, Pinned};
use crate::idle::Idle;
use crate::memory::{Pool, Tensor};
use crate::staging::Staging;

/// Everything that crosses between host and device in a pass, in memory that both see.
pub(crate) struct Host {
    symbols: Pinned<i32>,
    means: Pinned<i32>,
    indices: Pinned<u8>,
    /// Levels of activation scales that a session has run at.
    seen: HashSet<usize>,
    /// What sessions at a level have recorded.
    recorded: HashMap<usize, Recorded>,
    /// Staging for data larger than that of a pass; none before its first use.
    staging: Option<Staging>,
}

/// The launches of an image as graphs, complete or not yet.
#[derive(Default)]
pub(crate) struct Recorded {
    /// By step: 0 is the hyper synthesis, then parameters and commit of each pass.
    pub(crate) graphs: HashMap<usize, Graph>,
    /// Addresses of scales and means, by step.
    pub(crate) gaussians: HashMap<usize, [u64; 2]>,
    /// Addresses of the latent slices of `y_hat`.
    pub(crate) y_hat: Vec<u64>,
}

/// How a session is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each kernel is launched.
    Eager,
    /// Each step is recorded and then launched as one.
    Record,
    /// Each step is launched as it was recorded.
    Replay,
}

impl Host {
    /// The first session at a level runs eagerly: for one image, recording does not pay. The second records.
    pub(crate) fn mode(&mut self, level: usize, steps: usize) -> Mode {
        if self.recorded.get(&level).is_some_and(|r| r.graphs.len() == steps) {
            return Mode::Replay;
        }
        self.recorded.remove(&level);
        if self.seen.insert(level) { Mode::Eager } else { Mode::Record }
    }

    /// What has been recorded at a level.
    pub(crate) fn recorded(&mut self, level: usize) -> &mut Recorded {
        self.recorded.entry(level).or_default()
    }

    /// Writes symbols, of z or of a pass, for the device and returns their address there; none if they are too many.
    ///
    /// # Safety
    /// The device is done with the symbols before: it has been waited for since.
    pub(crate) unsafe fn write_symbols(&mut self, symbols: &[i32]) -> Option<u64> {
        // SAFETY: the caller's promise.
        unsafe { self.symbols.as_mut_slice() }.get_mut(..symbols.len())?.copy_from_slice(symbols);
        Some(self.symbols.address)
    }

    /// Queues a copy of what [`Self::write_symbols`] took to the whole of a tensor of as many elements.
    pub(crate) fn send_symbols(&self, device: &Device, to: &Tensor<i32>) -> Result<(), DriverError> {
        // SAFETY: the tensor has room; the workspace keeps both, and `write_symbols` is not called again before the device is waited for.
        unsafe { device.send(&self.symbols, to.len() * size_of::<i32>(), to.address()) }
    }

    /// Returns the staging for data larger than that of a pass.
    pub(crate) fn staging(&mut self, device: &Device) -> Result<&mut Staging, DriverError> {
        match &mut self.staging {
            Some(staging) => Ok(staging),
            none => Ok(none.insert(Staging::new(device)?)),
        }
    }

    /// The most symbols that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.symbols.len()
    }

    /// Where the device writes means and scale indices of a pass.
    pub(crate) const fn addresses(&self) -> [u64; 2] {
        [self.means.address, self.indices.address]
    }

    /// Copies means, if they are wanted, and scale indices of a pass to `to`.
    ///
    /// # Safety
    /// The device is done with the kernel that writes them.
    pub(crate) unsafe fn read(&self, count: usize, with_means: bool, to: &mut PassParameters) -> Result<(), OutOfMemory> {
        // SAFETY: the caller's promise, for both.
        let (means, indices) = unsafe { (self.means.as_slice(), self.indices.as_slice()) };
        copy_to(&mut to.means, means, if with_means { count } else { 0 })?;
        copy_to(&mut to.scale_indices, indices, count)
    }
}

/// Replaces the contents of a vector by the first `count` elements of `from`.
fn copy_to<T: Copy>(to: &mut Vec<T>, from: &[T], count: usize) -> Result<(), OutOfMemory> {
    to.clear();
    memory::reserve(to, count)?;
    to.extend_from_slice(from.get(..count).unwrap_or(from));
    Ok(())
}

/// Memory of one image size, for one session at a time.
#[derive(Clone)]
pub(crate) struct Workspace {
    size: [usize; 2],
    pub(crate) device: Arc<Device>,
    pub(crate) pool: Arc<Pool>,
    /// z in latent fixed point.
    pub(crate) z: Tensor<i32>,
    /// All slices side by side, on their way to the host. Not taken from the pool at that time, because memory that recorded launches use looks free there.
    pub(crate) y_hat: Tensor<i32>,
    host: Arc<Mutex<Host>>,
}

impl Workspace {
    fn new(device: &Device, config: &Config, size: LatentSize) -> Result<Self, DriverError> {
        let count = (size.half_len() * config.slice_channels()).max(size.z[0] * size.z[1] * config.hyper);
        let device = Arc::new(device.fork()?);
        let pool = Pool::new(&device);
        let z = Tensor::new(&pool, [size.z[0], size.z[1], config.hyper])?;
        let y_hat = Tensor::new(&pool, [size.y[0], size.y[1], config.latent])?;
        let (means, indices) = (Pinned::new(&device, count)?, Pinned::new(&device, count)?);
        let (seen, recorded) = (HashSet::new(), HashMap::new());
        let host = Host { symbols: Pinned::new(&device, count)?, means, indices, seen, recorded, staging: None };
        Ok(Self { size: size.y, device, pool, z, y_hat, host: Arc::new(Mutex::new(host)) })
    }

    pub(crate) fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workspaces that no session uses.
pub(crate) struct Workspaces {
    idle: Idle<Workspace>,
}

impl Workspaces {
    pub(crate) fn new(device: &Device) -> Self {
        Self { idle: Idle::new(device) }
    }

    /// Takes a workspace for images of this size.
    pub(crate) fn take(&self, device: &Device, config: &Config, size: LatentSize) -> Result<Workspace, DriverError> {
        self.idle.take(size.y).map_or_else(|| Workspace::new(device, config, size), Ok)
    }

    /// Keeps a workspace for the next image.
    pub(crate) fn give_back(&self, workspace: Workspace) {
        self.idle.give_back(workspace.size, workspace);
    }

    /// Frees all workspaces that no session uses.
    pub(crate) fn clear(&self) {
        self.idle.clear();
    }
}
