//! Bytes that begin where a line of the cache does.

use mlic_core::memory::OutOfMemory;

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
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data[self.first..]
    }

    /// Room for so many bytes.
    pub(super) fn reserve(&mut self, len: usize) -> Result<(), OutOfMemory> {
        reserve_all(&mut self.data, len + LINE)
    }

    /// Replaces them by what is appended; then zeros follow, up to `len` bytes in all.
    #[inline(always)]
    pub(super) fn refill(&mut self, len: usize, append: impl FnOnce(&mut Vec<u8>)) {
        self.data.clear();
        self.data.reserve(len + LINE);
        self.first = self.data.as_ptr().align_offset(LINE).min(LINE);
        self.data.resize(self.first, 0);
        append(&mut self.data);
        self.data.resize(self.first + len, 0);
    }

    /// Replaces them by zeros, to be changed.
    pub(super) fn zeros(&mut self, len: usize) -> Result<&mut [u8], OutOfMemory> {
        self.reserve(len)?;
        self.refill(len, |_| {});
        Ok(&mut self.data[self.first..])
    }
}
