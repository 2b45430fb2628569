//! The order in which the symbols of a stream are coded (SPEC 5.1).

use crate::checkerboard::Parity;

/// One step of the entropy model: one checkerboard half of one latent slice. The unit of digests and of desync reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pass {
    /// Index of the latent slice.
    pub slice_index: usize,
    /// Half of the checkerboard.
    pub parity: Parity,
}

impl Pass {
    /// Position of this pass in [`passes`].
    #[must_use]
    pub const fn index(self) -> usize {
        2 * self.slice_index + matches!(self.parity, Parity::NonAnchor) as usize
    }
}

impl core::fmt::Display for Pass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let half = match self.parity {
            Parity::Anchor => "anchor",
            Parity::NonAnchor => "non-anchor",
        };
        write!(f, "slice {} {half}", self.slice_index)
    }
}

/// All passes over y in coding order: slice after slice, anchors before non-anchors.
pub fn passes(slice_count: usize) -> impl Iterator<Item = Pass> + Clone {
    (0..slice_count).flat_map(|slice_index| Parity::BOTH.into_iter().map(move |parity| Pass { slice_index, parity }))
}

/// Sizes of the tensors of one image, in positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentSize {
    /// Height and width of the image after padding, in pixels.
    pub padded: [usize; 2],
    /// Height and width of y: 1/16 of the padded image.
    pub y: [usize; 2],
    /// Height and width of z: 1/64 of the padded image.
    pub z: [usize; 2],
}

impl LatentSize {
    /// Sizes for an image of `width x height` pixels; `None` if they are not within the limits of SPEC 1.3.
    #[must_use]
    pub fn of_image(width: u32, height: u32) -> Option<Self> {
        use crate::limits::{MAX_PIXELS, MAX_SIDE, PADDING_MULTIPLE};
        let fits = (1..=MAX_SIDE).contains(&width)
            && (1..=MAX_SIDE).contains(&height)
            && u64::from(width) * u64::from(height) <= MAX_PIXELS;
        let padded = [height, width].map(|side| side.next_multiple_of(PADDING_MULTIPLE) as usize);
        fits.then(|| Self::of_z(padded.map(|side| side / 64)))
    }

    /// Sizes for a z of this height and width.
    #[must_use]
    pub fn of_z(z: [usize; 2]) -> Self {
        Self { padded: z.map(|side| 64 * side), y: z.map(|side| 4 * side), z }
    }

    /// Number of positions in one half of y.
    #[must_use]
    pub const fn half_len(&self) -> usize {
        self.y[0] * (self.y[1] / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn passes_are_in_order() {
        let all: Vec<Pass> = passes(3).collect();
        assert_eq!(all.len(), 6);
        for (i, pass) in all.iter().enumerate() {
            assert_eq!(pass.index(), i);
        }
        assert_eq!(all[1].parity, Parity::NonAnchor);
    }

    #[test]
    fn sizes_are_padded() {
        let size = LatentSize::of_image(1, 65).unwrap();
        assert_eq!((size.padded, size.y, size.z), ([128, 64], [8, 4], [2, 1]));
        assert!(LatentSize::of_image(0, 5).is_none() && LatentSize::of_image(65_535, 65_535).is_none());
    }
}
