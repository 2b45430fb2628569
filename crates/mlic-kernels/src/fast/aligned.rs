//! Numbers that begin where a line of the cache does: a vector that lies in two lines takes twice as long to read.

use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;
use mlic_core::memory::{self, OutOfMemory};

/// Bytes of a line.
const LINE: usize = 64;

/// A slice from the beginning of a line on; a copy may lie elsewhere, and is slower.
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

    /// So many zeros.
    pub(super) fn zeros(len: usize) -> Result<Self, OutOfMemory> {
        let data = memory::zeros(len + Self::MORE)?;
        Ok(Self { first: first(&data), data })
    }

    /// Room for so many elements.
    pub(super) fn reserve(&mut self, len: usize) -> Result<(), OutOfMemory> {
        memory::reserve_all(&mut self.data, len + Self::MORE)
    }

    /// The first `len` elements, for which there is room. What they are is not defined: all are to be written.
    pub(super) fn of_len(&mut self, len: usize) -> &mut [T] {
        if self.data.len() < len + Self::MORE {
            self.data.resize(len + Self::MORE, T::zeroed());
            self.first = first(&self.data);
        }
        &mut self[..len]
    }

    /// The same, once there is room.
    pub(super) fn at_least(&mut self, len: usize) -> Result<&mut [T], OutOfMemory> {
        self.reserve(len)?;
        Ok(self.of_len(len))
    }
}

/// The first element at the beginning of a line, where there is one.
fn first<T>(data: &[T]) -> usize {
    data.as_ptr().align_offset(LINE).min(data.len())
}
