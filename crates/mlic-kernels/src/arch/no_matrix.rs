//! No matrix unit: no value of [`Matrix`] is ever made.

use super::{Activations, Beside, Block, Powers, SIDE};

/// Proof that the unit may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix(());

impl Matrix {
    pub(crate) const fn detect() -> Option<Self> {
        None
    }

    pub(crate) const fn tiles(self) -> Tiles {
        Tiles(())
    }
}

/// The tiles of this thread.
pub(crate) struct Tiles(());

impl Tiles {
    pub(crate) const ROUND: usize = 0;

    pub(crate) const fn spin(&self, _: usize) {}

    pub(crate) fn multiply(&self, _: Activations, _: Block<'_>, _: &mut [i32; SIDE * SIDE], other: &mut impl Beside) {
        other.some();
    }

    pub(crate) fn multiply_unsigned(&self, _: [&[u8]; 4], _: usize, _: usize, _: &[u8], _: &mut Powers) {}
}
