//! Allocations whose size comes from outside: from a picture, a stream or a package. A failed one is an error, not the end of the process.

use alloc::vec::Vec;

use bytemuck::Zeroable;

/// An allocation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of memory are wanted, and there is not as much")]
pub struct OutOfMemory {
    /// Size of the allocation that failed, in bytes; saturates.
    pub bytes: usize,
}

impl OutOfMemory {
    /// The error of an allocation of `len` elements.
    const fn of<T>(len: usize) -> Self {
        Self { bytes: len.saturating_mul(size_of::<T>()) }
    }
}

/// Allocates `len` zeros.
///
/// # Errors
/// [`OutOfMemory`].
pub fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>, OutOfMemory> {
    bytemuck::try_zeroed_vec(len).map_err(|()| OutOfMemory::of::<T>(len))
}

/// Reserves room for `additional` elements beyond the current length, and asks for no more.
///
/// # Errors
/// [`OutOfMemory`].
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<(), OutOfMemory> {
    let len = vec.len().saturating_add(additional);
    vec.try_reserve_exact(additional).map_err(|_| OutOfMemory::of::<T>(len))
}

/// Reserves room for `len` elements in all.
///
/// # Errors
/// [`OutOfMemory`].
pub fn reserve_all<T>(vec: &mut Vec<T>, len: usize) -> Result<(), OutOfMemory> {
    reserve(vec, len.saturating_sub(vec.len()))
}

/// Appends one element; a full vector first grows to at least twice its capacity.
///
/// # Errors
/// [`OutOfMemory`].
pub fn push<T>(vec: &mut Vec<T>, value: T) -> Result<(), OutOfMemory> {
    if vec.len() == vec.capacity() {
        reserve(vec, vec.len().max(16))?;
    }
    vec.push(value);
    Ok(())
}

/// Collects an iterator of `len` elements.
///
/// # Errors
/// [`OutOfMemory`].
pub fn collect<T>(len: usize, values: impl IntoIterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut out = Vec::new();
    reserve(&mut out, len)?;
    out.extend(values);
    Ok(out)
}

/// Copies a slice into a vector.
///
/// # Errors
/// [`OutOfMemory`].
pub fn copy<T: Copy>(values: &[T]) -> Result<Vec<T>, OutOfMemory> {
    collect(values.len(), values.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_an_error() {
        assert_eq!(zeros::<u64>(usize::MAX).unwrap_err(), OutOfMemory { bytes: usize::MAX });
        assert_eq!(zeros::<u16>(usize::MAX / 4).unwrap_err(), OutOfMemory { bytes: usize::MAX / 4 * 2 });
        assert_eq!(reserve(&mut alloc::vec![0_u8], usize::MAX).unwrap_err(), OutOfMemory { bytes: usize::MAX });
        assert_eq!(collect(usize::MAX / 2, [0_u16]).unwrap_err(), OutOfMemory { bytes: usize::MAX - 1 });
    }

    #[test]
    fn what_can_be_had_is_as_asked_for() {
        assert_eq!(zeros::<i16>(3).unwrap(), [0; 3]);
        assert_eq!(copy(&[1, 2]).unwrap(), [1, 2]);
        let mut vec = collect(2, 0..2).unwrap();
        push(&mut vec, 2).unwrap();
        assert_eq!(vec, [0, 1, 2]);
        reserve_all(&mut vec, 100).unwrap();
        assert!(vec.capacity() >= 100 && vec.len() == 3);
    }
}
