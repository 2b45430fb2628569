//! What pictures leave to the next ones of their size.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::device::Device;

/// Things of a size that nobody uses, in the order in which they were given back.
pub(crate) struct Idle<T> {
    kept: Mutex<Vec<([usize; 2], T)>>,
    /// The most.
    limit: usize,
}

impl<T> Idle<T> {
    /// None yet. One is kept where the device takes the memory of all other programs.
    pub(crate) fn new(device: &Device) -> Self {
        Self { kept: Mutex::default(), limit: if device.is_integrated { 1 } else { 4 } }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<([usize; 2], T)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of this size. Where there is none and no room for another, the oldest is freed: the caller is about to make one.
    pub(crate) fn take(&self, size: [usize; 2]) -> Option<T> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(own, _)| *own == size);
        let taken = at.or((kept.len() >= self.limit).then_some(0)).map(|at| kept.remove(at));
        // Freeing waits for the device; others need not wait for that.
        drop(kept);
        taken.filter(|_| at.is_some()).map(|(_, one)| one)
    }

    /// Keeps one for the next picture. One of another size makes room, else the oldest.
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
