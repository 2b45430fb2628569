//! Numbers aligned to cache lines: a vector that lies in two lines takes twice as long to read.

use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;
use mlic_core::memory::{self, OutOfMemory};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A slice that begins at a cache line. A clone may begin elsewhere, and is then slower.
#[derive(Debug, Clone)]
pub(super) struct Aligned<T> {
    data: Vec<T>,
    first: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { data: Vec::new(), first: 0 }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.first..]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.first..]
    }
}

impl<T: Zeroable + Clone> Aligned<T> {
    /// Elements of a line.
    const MORE: usize = LINE / size_of::<T>();

    /// A slice of `len` zeros.
    pub(super) fn zeros(len: usize) -> Result<Self, OutOfMemory> {
        let data = memory::zeros(len + Self::MORE)?;
        Ok(Self { first: first(&data), data })
    }

    /// Makes room for `len` elements.
    pub(super) fn reserve(&mut self, len: usize) -> Result<(), OutOfMemory> {
        memory::reserve_all(&mut self.data, len + Self::MORE)
    }

    /// The first `len` elements, for which there is room. Their values are unspecified: the caller must write all of them.
    pub(super) fn of_len(&mut self, len: usize) -> &mut [T] {
        if self.data.len() < len + Self::MORE {
            self.data.resize(len + Self::MORE, T::zeroed());
            self.first = first(&self.data);
        }
        &mut self[..len]
    }

    /// Makes room and returns [`Self::of_len`].
    pub(super) fn at_least(&mut self, len: usize) -> Result<&mut [T], OutOfMemory> {
        self.reserve(len)?;
        Ok(self.of_len(len))
    }
}

/// Index of the first element at the beginning of a cache line; the length if there is none.
fn first<T>(data: &[T]) -> usize {
    data.as_ptr().align_offset(LINE).min(data.len())
}
