//! What one image size needs beside the model: device buffers, and the memory that crosses to the host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::DriverError;
use mlic_core::schedule::LatentSize;
use mlic_model::Config;

use crate::device::{Device, Pinned};
use crate::memory::Pool;

/// Workspaces that are kept for the next image of their size.
const KEPT: usize = 4;

/// All that crosses between host and device in a pass, in memory that both see.
pub(crate) struct Host {
    symbols: Pinned<i32>,
    means: Pinned<i32>,
    indices: Pinned<u8>,
}

impl Host {
    /// Symbols for the device, of z or of a pass: their address there. None when they are too many.
    pub(crate) fn write_symbols(&mut self, symbols: &[i32]) -> Option<u64> {
        self.symbols.as_mut_slice().get_mut(..symbols.len())?.copy_from_slice(symbols);
        Some(self.symbols.address)
    }

    /// The most symbols of a pass.
    pub(crate) fn capacity(&self) -> usize {
        self.symbols.as_slice().len()
    }

    /// Where the device writes means and scale indices of a pass.
    pub(crate) const fn addresses(&self) -> [u64; 2] {
        [self.means.address, self.indices.address]
    }

    /// Means and scale indices of a pass, once the device is done.
    pub(crate) fn read(&self, count: usize) -> (Vec<i32>, Vec<u8>) {
        let first = |n: usize| n.min(count);
        let (means, indices) = (self.means.as_slice(), self.indices.as_slice());
        (means[..first(means.len())].to_vec(), indices[..first(indices.len())].to_vec())
    }
}

/// Memory of one image size, for one session at a time.
#[derive(Clone)]
pub(crate) struct Workspace {
    size: [usize; 2],
    pub(crate) pool: Arc<Pool>,
    host: Arc<Mutex<Host>>,
}

impl Workspace {
    fn new(device: &Arc<Device>, config: &Config, size: LatentSize) -> Result<Self, DriverError> {
        let count = (size.half_len() * config.slice_channels()).max(size.z[0] * size.z[1] * config.hyper);
        let symbols = Pinned::new(device, count)?;
        let host = Host { symbols, means: Pinned::new(device, count)?, indices: Pinned::new(device, count)? };
        Ok(Self { size: size.y, pool: Pool::new(device), host: Arc::new(Mutex::new(host)) })
    }

    pub(crate) fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workspaces that no session uses.
#[derive(Default)]
pub(crate) struct Workspaces(Mutex<Vec<Workspace>>);

impl Workspaces {
    fn idle(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for images of this size.
    pub(crate) fn take(&self, device: &Arc<Device>, config: &Config, size: LatentSize) -> Result<Workspace, DriverError> {
        let mut idle = self.idle();
        let found = idle.iter().position(|w| w.size == size.y).map(|at| idle.remove(at));
        drop(idle);
        found.map_or_else(|| Workspace::new(device, config, size), Ok)
    }

    /// Keeps one for the next image; the one that was given back first makes room.
    pub(crate) fn give_back(&self, workspace: Workspace) {
        let mut idle = self.idle();
        if idle.len() >= KEPT {
            idle.remove(0);
        }
        idle.push(workspace);
    }

    /// Frees the memory of all that no session uses.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }
}
