//! Memory that pictures leave for later ones of the same size.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::device::Device;

/// Values that nobody uses, each for one size, in the order in which they were given back.
pub(crate) struct Idle<T> {
    kept: Mutex<Vec<([usize; 2], T)>>,
    /// The most values that are kept.
    limit: usize,
}

impl<T> Idle<T> {
    /// Starts empty. Only one value is kept where device memory is what all other programs use too.
    pub(crate) fn new(device: &Device) -> Self {
        Self { kept: Mutex::default(), limit: if device.is_integrated { 1 } else { 4 } }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<([usize; 2], T)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a value for this size. If there is none and no room for another, the oldest is freed, since the caller is about to make one.
    pub(crate) fn take(&self, size: [usize; 2]) -> Option<T> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(own, _)| *own == size);
        let taken = at.or((kept.len() >= self.limit).then_some(0)).map(|at| kept.remove(at));
        // Freeing waits for the device; other threads need not wait for that.
        drop(kept);
        taken.filter(|_| at.is_some()).map(|(_, one)| one)
    }

    /// Keeps a value for the next picture. If there is no room, the oldest of another size is freed, or else the oldest.
    pub(crate) fn give_back(&self, size: [usize; 2], one: T) {
        let mut kept = self.kept();
        let other = kept.iter().position(|(own, _)| *own != size).unwrap_or(0);
        let evicted = (kept.len() >= self.limit).then(|| kept.remove(other));
        kept.push((size, one));
        drop(kept);
        drop(evicted);
    }

    /// Frees all.
    pub(crate) fn clear(&self) {
        let freed = std::mem::take(&mut *self.kept());
        drop(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(limit: usize) -> Idle<u32> {
        Idle { kept: Mutex::default(), limit }
    }

    fn left(idle: &Idle<u32>) -> Vec<u32> {
        idle.kept().iter().map(|(_, one)| *one).collect()
    }

    #[test]
    fn each_is_for_its_size() {
        let idle = idle(4);
        (0..5).for_each(|i| idle.give_back([64 * i as usize, 64], i));
        assert_eq!(left(&idle), [1, 2, 3, 4]);
        assert_eq!(idle.take([128, 64]), Some(2));
        assert_eq!((idle.take([128, 64]), left(&idle)), (None, vec![1, 3, 4]), "there is room for a new one");
        idle.clear();
        assert_eq!(left(&idle), [0; 0]);
    }

    #[test]
    fn another_size_makes_room() {
        let (one, many) = (idle(1), idle(2));
        one.give_back([1, 1], 1);
        assert_eq!((one.take([2, 2]), left(&one)), (None, vec![]), "before a new one is made");
        for (size, i) in [([1, 1], 1), ([2, 2], 2), ([1, 1], 3), ([1, 1], 4)] {
            many.give_back(size, i);
        }
        assert_eq!(left(&many), [3, 4]);
    }
}
