//! Copies between memory of the caller and the device, through pinned memory that is allocated once for a size. Pinned memory crosses the bus while
//! both sides work; other memory is copied by the driver piece by piece while both wait.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use cudarc::driver::CudaEvent;
use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

use crate::device::{Device, Pinned};

/// Bytes of a piece of data that is not cut into strips.
const PIECE: usize = 2 << 20;

/// Pinned memory and the mark behind the copy that uses it.
struct Block {
    memory: Pinned<u8>,
    done: CudaEvent,
}

/// Two blocks that are used in turn, and the stream of their copies.
struct Ring {
    stream: Device,
    blocks: [Option<Block>; 2],
    next: usize,
}

impl Ring {
    /// Takes memory of at least this size that no copy uses any more, and the number of its place.
    fn take(&mut self, bytes: usize) -> Result<(usize, Pinned<u8>), DriverError> {
        let at = self.next;
        self.next = (at + 1) % self.blocks.len();
        if let Some(Block { memory, done }) = self.blocks.get_mut(at).and_then(Option::take) {
            done.synchronize()?;
            if memory.len() >= bytes {
                return Ok((at, memory));
            }
        }
        Ok((at, Pinned::new(&self.stream, bytes)?))
    }

    fn put(&mut self, at: usize, memory: Pinned<u8>) -> Result<(), DriverError> {
        let done = self.stream.mark()?;
        if let Some(place) = self.blocks.get_mut(at) {
            *place = Some(Block { memory, done });
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Copies end before their memory is freed; on a device that failed, none is under way.
        let _ = self.stream.synchronize();
    }
}

/// Copies in both directions.
pub(crate) struct Staging {
    up: Ring,
    down: Ring,
}

/// A copy from the device that has been queued and not yet taken.
pub(crate) struct Fetched {
    at: usize,
    bytes: usize,
}

impl Staging {
    /// Makes streams of its own beside that of the device; pinned memory is allocated on first use.
    pub(crate) fn new(device: &Device) -> Result<Self, DriverError> {
        let ring = || Ok(Ring { stream: device.fork()?, blocks: [None, None], next: 0 });
        Ok(Self { up: ring()?, down: ring()? })
    }

    /// Queues copies to device memory; later work of `device` waits for them. `bytes` may change as soon as this returns.
    ///
    /// # Safety
    /// There is device memory of at least this size at the address, kept until a mark of `device` behind this is reached, and no work under way uses it.
    pub(crate) unsafe fn send(&mut self, device: &Device, bytes: &[u8], address: u64) -> Result<(), DriverError> {
        for (piece, at) in bytes.chunks(PIECE).zip((address..).step_by(PIECE)) {
            let (place, mut memory) = self.up.take(piece.len())?;
            // SAFETY: `take` has waited for the copy that used it.
            if let Some(to) = unsafe { memory.as_mut_slice() }.get_mut(..piece.len()) {
                to.copy_from_slice(piece);
            }
            // SAFETY: the caller's promise, for a piece; the memory goes into the ring, which waits for the mark behind this.
            let queued = unsafe { self.up.stream.send(&memory, piece.len(), at) };
            self.up.put(place, memory)?;
            queued?;
        }
        device.wait(&self.up.stream.mark()?)
    }

    /// Queues a copy from device memory behind all work of `device` so far. At most two copies are under way.
    ///
    /// # Safety
    /// There is device memory of at least this size at the address, and until [`Self::take`] no work that `device` gets writes to it.
    pub(crate) unsafe fn fetch(&mut self, device: &Device, address: u64, bytes: usize) -> Result<Fetched, DriverError> {
        self.down.stream.wait(&device.mark()?)?;
        let (at, mut memory) = self.down.take(bytes)?;
        // SAFETY: the caller's promise; the memory goes into the ring, which waits for the mark behind this.
        let queued = unsafe { self.down.stream.fetch(address, bytes, &mut memory) };
        self.down.put(at, memory)?;
        queued.map(|()| Fetched { at, bytes })
    }

    /// Waits for a copy from the device and appends what it brought to `to`.
    pub(crate) fn take<T: bytemuck::Pod>(&self, fetched: &Fetched, to: &mut Vec<T>) -> Result<(), DriverError> {
        let block = self.down.blocks.get(fetched.at).and_then(Option::as_ref);
        let block = block.ok_or(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE))?;
        block.done.synchronize()?;
        // SAFETY: the copy that writes it is done.
        let all = unsafe { block.memory.as_slice() };
        to.extend_from_slice(bytemuck::cast_slice(all.get(..fetched.bytes).unwrap_or_default()));
        Ok(())
    }

    /// Appends all of a piece of device memory to `to`, part by part, each while the next one is copied.
    ///
    /// # Safety
    /// There is device memory of at least this size at the address.
    pub(crate) unsafe fn take_all<T: bytemuck::Pod>(
        &mut self,
        device: &Device,
        address: u64,
        bytes: usize,
        to: &mut Vec<T>,
    ) -> Result<(), DriverError> {
        let mut before = None;
        for start in (0..bytes).step_by(PIECE) {
            // SAFETY: the caller's promise, for a piece.
            let fetched = unsafe { self.fetch(device, address + start as u64, PIECE.min(bytes - start)) }?;
            if let Some(before) = before.replace(fetched) {
                self.take(&before, to)?;
            }
        }
        before.map_or(Ok(()), |last| self.take(&last, to))
    }
}
