//! The two halves of the checkerboard and their half-width storage (SPEC 5.2).
//!
//! A map is `height x width x channels`, channels last. `pack` keeps the positions of one parity: row `r` of the packed
//! map holds, in order, the columns `c` of row `r` with the wanted parity. Widths are even (images are padded to 64).

use alloc::vec::Vec;

use crate::memory::{self, OutOfMemory};

/// One half of the checkerboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parity {
    /// Positions with `(row + col)` odd: decoded first.
    Anchor,
    /// Positions with `(row + col)` even: decoded second, with the anchors as context.
    NonAnchor,
}

impl Parity {
    /// Both halves in decoding order.
    pub const BOTH: [Self; 2] = [Self::Anchor, Self::NonAnchor];

    /// Returns whether a position belongs to this half.
    #[must_use]
    pub const fn contains(self, row: usize, col: usize) -> bool {
        let odd = (row + col) % 2 == 1;
        match self {
            Self::Anchor => odd,
            Self::NonAnchor => !odd,
        }
    }

    /// The column of the first position of this half in a row; the others follow in steps of two.
    #[must_use]
    pub const fn first_col(self, row: usize) -> usize {
        match self {
            Self::Anchor => 1 - row % 2,
            Self::NonAnchor => row % 2,
        }
    }
}

/// Packs the positions of one half: `height x width x channels` to `height x width/2 x channels`. `full` has whole rows of an even width;
/// of an odd one, rows lack a position.
///
/// # Errors
/// [`OutOfMemory`].
pub fn pack<T: Copy>(full: &[T], width: usize, channels: usize, parity: Parity) -> Result<Vec<T>, OutOfMemory> {
    debug_assert!(width.is_multiple_of(2), "halves of rows of {width}");
    let (row_len, channels) = ((width * channels).max(1), channels.max(1));
    debug_assert!(full.len().is_multiple_of(row_len), "rows of {row_len} in {}", full.len());
    let mut out = Vec::new();
    memory::reserve(&mut out, full.len() / 2)?;
    for (row, line) in full.chunks_exact(row_len).enumerate() {
        // Every row gives `width / 2` positions, even if the width is odd.
        for at in line.chunks_exact(channels).skip(parity.first_col(row)).step_by(2).take(width / 2) {
            out.extend_from_slice(at);
        }
    }
    Ok(out)
}

/// Writes a packed half into its positions of a full map; the other half is left as it is.
pub fn unpack_into<T: Copy>(packed: &[T], full: &mut [T], width: usize, channels: usize, parity: Parity) {
    let row_len = width * channels;
    if row_len == 0 {
        return;
    }
    let mut from = packed.chunks_exact(channels);
    for (row, line) in full.chunks_exact_mut(row_len).enumerate() {
        for (to, from) in line.chunks_exact_mut(channels).skip(parity.first_col(row)).step_by(2).zip(&mut from) {
            to.copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn anchors_are_odd() {
        assert!(Parity::Anchor.contains(0, 1) && Parity::Anchor.contains(1, 0));
        assert!(Parity::NonAnchor.contains(0, 0) && Parity::NonAnchor.contains(3, 3));
        for row in 0..4 {
            for parity in Parity::BOTH {
                assert!(parity.contains(row, parity.first_col(row)));
            }
        }
    }

    #[test]
    fn pack_keeps_row_order() {
        let full: Vec<u32> = (0..16).collect();
        assert_eq!(pack(&full, 4, 1, Parity::Anchor).unwrap(), [1, 3, 4, 6, 9, 11, 12, 14]);
        assert_eq!(pack(&full, 4, 1, Parity::NonAnchor).unwrap(), [0, 2, 5, 7, 8, 10, 13, 15]);
        assert_eq!(pack(&full, 4, 2, Parity::Anchor).unwrap(), [2, 3, 6, 7, 8, 9, 12, 13]);
    }

    #[test]
    fn unpack_undoes_pack() {
        let full: Vec<u32> = (0..48).collect();
        let mut back = vec![0; 48];
        for parity in Parity::BOTH {
            unpack_into(&pack(&full, 4, 3, parity).unwrap(), &mut back, 4, 3, parity);
        }
        assert_eq!(back, full);
    }
}
