//! Maps: tensors of height x width x channels, channels last.

use bytemuck::Zeroable;
use mlic_core::checkerboard::{self, Parity};
use mlic_core::limits::PADDING_MULTIPLE;
use mlic_core::memory::{self, OutOfMemory};
use mlic_core::schedule::Pass;

/// Number of elements of a map of this shape; `None` if it overflows.
#[must_use]
pub const fn elements(height: usize, width: usize, channels: usize) -> Option<usize> {
    match height.checked_mul(width) {
        Some(positions) => positions.checked_mul(channels),
        None => None,
    }
}

/// A tensor of `height x width x channels` elements in that order. A packed map holds one checkerboard half: its width is
/// half that of the full map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map<T> {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels of one position.
    pub channels: usize,
    /// Elements, `[height][width][channels]`. Their number is the product of the three sides.
    pub data: Vec<T>,
}

impl<T: Copy + Zeroable> Map<T> {
    /// A map of zeros.
    ///
    /// # Errors
    /// [`OutOfMemory`], as in every function that makes a new map.
    pub fn zeros(height: usize, width: usize, channels: usize) -> Result<Self, OutOfMemory> {
        let len = height.saturating_mul(width).saturating_mul(channels);
        Ok(Self { height, width, channels, data: memory::zeros(len)? })
    }

    /// A map of these elements; `None` if their number is not `height * width * channels`.
    #[must_use]
    pub fn from_vec(height: usize, width: usize, channels: usize, data: Vec<T>) -> Option<Self> {
        (Some(data.len()) == elements(height, width, channels)).then_some(Self { height, width, channels, data })
    }

    /// Elements of one position.
    #[must_use]
    pub fn at(&self, row: usize, col: usize) -> &[T] {
        let start = (row * self.width + col) * self.channels;
        &self.data[start..start + self.channels]
    }

    /// Mutable elements of one position.
    pub fn at_mut(&mut self, row: usize, col: usize) -> &mut [T] {
        let start = (row * self.width + col) * self.channels;
        &mut self.data[start..start + self.channels]
    }

    /// Elements of one position; `None` outside the map.
    #[must_use]
    pub fn get(&self, row: isize, col: isize) -> Option<&[T]> {
        let inside = (0..self.height as isize).contains(&row) && (0..self.width as isize).contains(&col);
        inside.then(|| self.at(row as usize, col as usize))
    }

    /// A copy.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn copy(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { data: memory::copy(&self.data)?, ..*self })
    }

    /// One checkerboard half of a full map, whose width is even.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn pack(&self, parity: Parity) -> Result<Self, OutOfMemory> {
        let data = checkerboard::pack(&self.data, self.width, self.channels, parity)?;
        Ok(Self { height: self.height, width: self.width / 2, channels: self.channels, data })
    }

    /// The full map with this packed half at the positions of `parity` and zeros elsewhere.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn unpack(&self, parity: Parity) -> Result<Self, OutOfMemory> {
        let mut full = Self::zeros(self.height, 2 * self.width, self.channels)?;
        checkerboard::unpack_into(&self.data, &mut full.data, full.width, self.channels, parity);
        Ok(full)
    }

    /// The full map of two packed halves.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn merge(anchors: &Self, non_anchors: &Self) -> Result<Self, OutOfMemory> {
        let mut full = anchors.unpack(Parity::Anchor)?;
        checkerboard::unpack_into(&non_anchors.data, &mut full.data, full.width, full.channels, Parity::NonAnchor);
        Ok(full)
    }

    /// Pixel shuffle by two: channel `4c + 2i + j` goes to channel c of position (2 row + i, 2 col + j) (SPEC 4.2).
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn shuffle(&self) -> Result<Self, OutOfMemory> {
        let channels = self.channels / 4;
        let mut out = Self::zeros(2 * self.height, 2 * self.width, channels)?;
        for row in 0..out.height {
            for col in 0..out.width {
                let from = self.at(row / 2, col / 2);
                let phase = 2 * (row % 2) + col % 2;
                let to = out.at_mut(row, col);
                to.iter_mut().zip(from.iter().skip(phase).step_by(4)).for_each(|(to, from)| *to = *from);
            }
        }
        Ok(out)
    }

    /// Channels `first..first + count` of each position.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn select(&self, first: usize, count: usize) -> Result<Self, OutOfMemory> {
        let values = self.data.chunks_exact(self.channels.max(1)).flat_map(|at| &at[first..first + count]).copied();
        let data = memory::collect(self.height * self.width * count, values)?;
        Ok(Self { height: self.height, width: self.width, channels: count, data })
    }

    /// Writes to `to` what a pass codes of a map of latents whose slices have `slice_channels` channels: one half of one slice, packed (SPEC 5.4).
    /// Previous elements of `to` are removed; its memory is reused.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn select_pass(&self, pass: Pass, slice_channels: usize, to: &mut Vec<T>) -> Result<(), OutOfMemory> {
        let of_slice = pass.slice_index * slice_channels..(pass.slice_index + 1) * slice_channels;
        to.clear();
        memory::reserve(to, self.height * (self.width / 2) * slice_channels)?;
        for (row, line) in self.data.chunks_exact((self.width * self.channels).max(1)).enumerate() {
            let positions = line.chunks_exact(self.channels).skip(pass.parity.first_col(row)).step_by(2);
            positions.for_each(|at| to.extend_from_slice(&at[of_slice.clone()]));
        }
        Ok(())
    }

    /// Writes the values of a pass to the elements that [`Self::select_pass`] reads. Elements for which there is no value stay as they are.
    pub fn fill_pass(&mut self, pass: Pass, slice_channels: usize, mut values: impl Iterator<Item = T>) {
        let of_slice = pass.slice_index * slice_channels..(pass.slice_index + 1) * slice_channels;
        for (row, line) in self.data.chunks_exact_mut((self.width * self.channels).max(1)).enumerate() {
            let positions = line.chunks_exact_mut(self.channels).skip(pass.parity.first_col(row)).step_by(2);
            positions.for_each(|at| at[of_slice.clone()].iter_mut().zip(&mut values).for_each(|(to, v)| *to = v));
        }
    }

    /// Replaces the channels from `first` on with those of `values`, a map with the same positions: the inverse of [`Self::select`].
    pub fn set_channels(&mut self, first: usize, values: &Self) {
        let places = self.data.chunks_exact_mut(self.channels.max(1));
        for (to, from) in places.zip(values.data.chunks_exact(values.channels.max(1))) {
            to[first..first + values.channels].copy_from_slice(from);
        }
    }
}

/// A picture to be encoded: 8-bit samples of red, green and blue.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    height: usize,
    width: usize,
    rgb: &'a [u8],
}

impl<'a> Picture<'a> {
    /// A picture of these samples, `[height][width][3]`; `None` if there are none or their number does not match the size.
    #[must_use]
    pub fn new(height: usize, width: usize, rgb: &'a [u8]) -> Option<Self> {
        let len = height.checked_mul(width)?.checked_mul(3)?;
        (len > 0 && rgb.len() == len).then_some(Self { height, width, rgb })
    }

    /// Rows and columns.
    #[must_use]
    pub const fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Rows and columns after padding (SPEC 5.8), for which y and z have whole numbers of rows and columns.
    #[must_use]
    pub fn padded(&self) -> [usize; 2] {
        self.size().map(|side| side.next_multiple_of(PADDING_MULTIPLE as usize))
    }

    /// The samples, `[height][width][3]`.
    #[must_use]
    pub const fn rgb(&self) -> &'a [u8] {
        self.rgb
    }

    /// Writes a row of the padded picture, which repeats its last row and column without end: as many samples as `to` has room for (SPEC 5.8).
    pub fn padded_row(&self, row: usize, to: &mut [i16]) {
        let row = &self.rgb[3 * self.width * row.min(self.height - 1)..][..3 * self.width];
        let (to, padding) = to.split_at_mut(row.len().min(to.len()));
        to.iter_mut().zip(row).for_each(|(to, sample)| *to = (*sample).into());
        padding.iter_mut().zip(row[row.len() - 3..].iter().cycle()).for_each(|(to, sample)| *to = (*sample).into());
    }
}

/// Consecutive rows of a map of activations: the part of the map that is at hand.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Rows of the whole map.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels of one position.
    pub channels: usize,
    /// Index, in the whole map, of the first row in `data`.
    pub first: usize,
    /// Elements, `[row - first][width][channels]`.
    pub data: &'a [i16],
}

impl<'a> Rows<'a> {
    /// Elements of row `row` of the whole map, which must be at hand.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [i16] {
        let len = self.width * self.channels;
        &self.data[(row - self.first) * len..][..len]
    }
}

impl<'a> From<&'a Map<i16>> for Rows<'a> {
    fn from(map: &'a Map<i16>) -> Self {
        let Map { height, width, channels, ref data } = *map;
        Self { height, width, channels, first: 0, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlic_core::schedule::passes;

    #[test]
    fn sides_whose_product_wraps_make_no_map() {
        let side = 1 << (usize::BITS / 2);
        assert_eq!(elements(side, side, 1), None);
        assert_eq!(elements(side / 2, side, 1), Some(1 << (usize::BITS - 1)));
        assert_eq!(Map::<u8>::from_vec(side, side, 3, Vec::new()), None);
    }

    #[test]
    fn shuffle_interleaves() {
        let map = Map { height: 1, width: 2, channels: 8, data: (0..16).collect::<Vec<i32>>() };
        let out = map.shuffle().unwrap();
        assert_eq!((out.height, out.width, out.channels), (2, 4, 2));
        assert_eq!(out.data, [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15]);
    }

    #[test]
    fn channels_go_back_where_they_come_from() {
        let map = Map { height: 1, width: 2, channels: 3, data: vec![1, 2, 3, 4, 5, 6] };
        let mut out = Map::zeros(1, 2, 3).unwrap();
        [(0, 1), (1, 2)].into_iter().for_each(|(first, count)| out.set_channels(first, &map.select(first, count).unwrap()));
        assert_eq!(out, map);
    }

    #[test]
    fn a_pass_has_one_half_of_its_slice() {
        let map = Map { height: 3, width: 4, channels: 6, data: (0..72).collect::<Vec<i32>>() };
        let mut half = vec![7; 99];
        let mut filled = Map::zeros(3, 4, 6).unwrap();
        for pass in passes(3) {
            map.select_pass(pass, 2, &mut half).unwrap();
            assert_eq!(half, map.select(2 * pass.slice_index, 2).unwrap().pack(pass.parity).unwrap().data, "{pass}");
            filled.fill_pass(pass, 2, half.iter().copied());
        }
        assert_eq!(filled, map);
    }

    #[test]
    fn two_halves_are_a_map() {
        let map = Map { height: 2, width: 2, channels: 1, data: vec![1, 2, 3, 4] };
        assert_eq!(map.pack(Parity::Anchor).unwrap().unpack(Parity::Anchor).unwrap().data, [0, 2, 3, 0]);
        let halves = Parity::BOTH.map(|parity| map.pack(parity).unwrap());
        assert_eq!(Map::merge(&halves[0], &halves[1]).unwrap(), map);
    }
}
