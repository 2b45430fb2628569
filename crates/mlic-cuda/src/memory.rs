//! Device memory of one image size, allocated once and reused.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::DriverError;

use crate::device::{Device, Memory};

/// Buffers that nothing uses, by size in bytes. Work on a device's stream is in order, so that a buffer may be used again as soon as the work that
/// uses it is queued.
pub(crate) struct Pool {
    device: Arc<Device>,
    free: Mutex<HashMap<usize, Vec<Memory>>>,
}

/// Rounds up to the next eighth of a power of two, so that strips of one picture that differ by a few rows share buffers.
fn rounded(bytes: usize) -> usize {
    let power = bytes.max(1).checked_next_power_of_two().unwrap_or(bytes);
    bytes.next_multiple_of((power / 16).max(256))
}

impl Pool {
    pub(crate) fn new(device: &Arc<Device>) -> Arc<Self> {
        Arc::new(Self { device: Arc::clone(device), free: Mutex::default() })
    }

    /// Number of buffers that nothing uses, and their bytes.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> [usize; 2] {
        let free = self.free.lock().unwrap();
        [free.values().map(Vec::len).sum(), free.iter().map(|(bytes, all)| bytes * all.len()).sum()]
    }

    /// Takes a buffer of at least this size.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer, DriverError> {
        let bytes = rounded(bytes);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&bytes).and_then(Vec::pop);
        let memory = free.map_or_else(|| self.device.allocate(bytes), Ok)?;
        Ok(Buffer { address: memory.address, bytes, memory: Some(memory), pool: Arc::clone(self) })
    }
}

/// A buffer of a pool, which gets the buffer back when it is dropped.
pub(crate) struct Buffer {
    pub(crate) address: u64,
    bytes: usize,
    memory: Option<Memory>,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Bytes that there is room for.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.entry(self.bytes).or_default().extend(self.memory.take());
    }
}

/// A tensor on the device: `[height][width][channels]`; a packed one has half the width.
pub(crate) struct Tensor<T> {
    buffer: Arc<Buffer>,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    element: PhantomData<T>,
}

// Not derived, because that would require `T: Clone`.
impl<T> Clone for Tensor<T> {
    fn clone(&self) -> Self {
        Self { buffer: Arc::clone(&self.buffer), element: PhantomData, ..*self }
    }
}

impl<T: bytemuck::Pod> Tensor<T> {
    pub(crate) fn new(pool: &Arc<Pool>, [height, width, channels]: [usize; 3]) -> Result<Self, DriverError> {
        let buffer = Arc::new(pool.take(height * width * channels * size_of::<T>())?);
        Ok(Self { buffer, height, width, channels, element: PhantomData })
    }

    pub(crate) fn address(&self) -> u64 {
        self.buffer.address
    }

    pub(crate) const fn positions(&self) -> usize {
        self.height * self.width
    }

    pub(crate) const fn len(&self) -> usize {
        self.positions() * self.channels
    }

    /// Sets the elements; false if there are not as many as the tensor has.
    pub(crate) fn write(&self, data: &[T]) -> Result<bool, DriverError> {
        if data.len() != self.len() {
            return Ok(false);
        }
        // SAFETY: the buffer has room for as many elements as the tensor has, and is of the pool of this device's stream.
        unsafe { self.buffer.pool.device.write(self.address(), bytemuck::cast_slice(data)) }?;
        Ok(true)
    }
}
