//! Bytes that begin where a line of the cache does.

use mlic_core::memory::{self, OutOfMemory};

use super::layer::reserve_all;

/// Bytes of a line.
const LINE: usize = 64;

/// Bytes from the beginning of a line on; a copy may lie elsewhere, and is slower.
#[derive(Debug, Clone, Default)]
pub(super) struct Aligned {
    data: Vec<u8>,
    first: usize,
}

impl Aligned {
    /// The bytes, and perhaps more after them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data[self.first..]
    }

    /// Room for so many bytes.
    pub(super) fn reserve(&mut self, len: usize) -> Result<(), OutOfMemory> {
        reserve_all(&mut self.data, len + LINE)
    }

    /// Makes it at least so long. What these bytes are then is not defined: all are to be written.
    pub(super) fn of_len(&mut self, len: usize) -> &mut [u8] {
        if self.data.len() < len + LINE {
            self.data.resize(len + LINE, 0);
            self.align();
        }
        &mut self.data[self.first..][..len]
    }

    /// Replaces them by zeros, to be changed.
    pub(super) fn zeros(&mut self, len: usize) -> Result<&mut [u8], OutOfMemory> {
        self.data = memory::zeros(len + LINE)?;
        self.align();
        Ok(&mut self.data[self.first..][..len])
    }

    fn align(&mut self) {
        self.first = self.data.as_ptr().align_offset(LINE).min(LINE);
    }
}
