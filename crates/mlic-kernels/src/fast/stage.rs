//! The rows of the inputs that a band of output rows reads, in the form that the matrix product reads: with zeros around them, in bytes where
//! products are of bytes.

use std::ops::Range;

use mlic_core::memory::OutOfMemory;

use super::aligned::Aligned;
use super::layer::reserve_all;
use super::pack::{Term, Weights, halves};
use crate::arch::{Factors, SIDE, Simd};
use crate::map::Rows;

/// Elements of one input around a band. Position (row, col) of the band begins, with the top left of its neighbourhood, at
/// `row * row_len + col * position_len`.
#[derive(Clone, Copy)]
pub(super) struct Staged<'a> {
    pub(super) data: Data<'a>,
    pub(super) row_len: usize,
    pub(super) position_len: usize,
}

/// Elements of a staged input.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    Wide(&'a [i16]),
    Bytes(&'a [u8]),
    /// Bytes, or upper bytes and lower bytes; for a matrix unit with room after them.
    Planes([&'a [u8]; 2]),
}

/// Memory for one staged input; kept from band to band.
#[derive(Default)]
pub(super) struct Buffer {
    wide: Vec<i16>,
    bytes: Vec<u8>,
    planes: [Aligned; 2],
}

/// A block of a matrix unit reads so many positions, and whole groups of the last one's channels.
const fn room(term: &Term) -> usize {
    2 * SIDE * (term.padded + 1)
}

impl Buffer {
    /// Room for what [`stage`] makes of a term for so many output rows.
    pub(super) fn reserve(&mut self, term: &Term, size: usize, rows: usize, width: usize) -> Result<(), OutOfMemory> {
        let len = (rows + size - 1) * (width + size - 1) * term.padded;
        let planes = |planes: &mut [Aligned], len| planes.iter_mut().try_for_each(|plane| plane.reserve(len));
        match &term.weights {
            Weights::Pairs(_) if size == 1 && term.padded == term.channels => Ok(()),
            Weights::Squares(squares) if squares.products.activations == Factors::Words => {
                planes(&mut self.planes, len + room(term))
            }
            Weights::Squares(_) => planes(&mut self.planes[..1], len + room(term)),
            Weights::Halves { .. } => planes(&mut self.planes, len),
            Weights::Quads { .. } => reserve_all(&mut self.bytes, len),
            _ => reserve_all(&mut self.wide, len),
        }
    }
}

/// Stages the channels of one term for these output rows.
#[inline(always)]
pub(super) fn stage<'a, S: Simd>(
    _: S,
    buffer: &'a mut Buffer,
    input: Rows<'a>,
    term: &Term,
    size: usize,
    rows: Range<usize>,
) -> Staged<'a> {
    let row_len = (input.width + size - 1) * term.padded;
    let position_len = term.padded;
    match term.weights {
        Weights::Pairs(_) if size == 1 && term.padded == term.channels => {
            let (position_len, row_len) = (input.channels, input.width * input.channels);
            let data = &input.data[(rows.start - input.first) * row_len + term.first..(rows.end - input.first) * row_len];
            Staged { data: Data::Wide(data), row_len, position_len }
        }
        Weights::Squares(ref squares) => {
            let [upper, lower] = &mut buffer.planes;
            let room = room(term);
            let rows_len = (rows.len() + size - 1) * row_len;
            let is_words = squares.products.activations == Factors::Words;
            let shift = if is_words { 8 } else { 0 };
            upper.refill(rows_len + room, |to| fill(to, input, term, size, rows.clone(), 0, |v| (v >> shift) as u8));
            if is_words {
                lower.refill(rows_len + room, |to| fill(to, input, term, size, rows, 0, |v| v as u8));
            }
            Staged { data: Data::Planes([upper.bytes(), lower.bytes()]), row_len, position_len }
        }
        Weights::Halves { .. } => {
            let [upper, lower] = &mut buffer.planes;
            let rows_len = (rows.len() + size - 1) * row_len;
            upper.refill(rows_len, |to| fill(to, input, term, size, rows.clone(), 0, |v| halves(v.into())[0] as u8));
            lower.refill(rows_len, |to| fill(to, input, term, size, rows, 0, |v| v as u8));
            Staged { data: Data::Planes([upper.bytes(), lower.bytes()]), row_len, position_len }
        }
        Weights::Quads { .. } => {
            let bytes = &mut buffer.bytes;
            bytes.clear();
            fill(bytes, input, term, size, rows, S::BYTE_ZERO, |v| (v as u8).wrapping_add(S::BYTE_ZERO));
            Staged { data: Data::Bytes(bytes), row_len, position_len }
        }
        _ => {
            let wide = &mut buffer.wide;
            wide.clear();
            fill(wide, input, term, size, rows, 0, |v| v);
            Staged { data: Data::Wide(wide), row_len, position_len }
        }
    }
}

#[inline(always)]
fn fill<T: Copy>(
    to: &mut Vec<T>,
    input: Rows<'_>,
    term: &Term,
    size: usize,
    rows: Range<usize>,
    zero: T,
    convert: impl Fn(i16) -> T + Copy,
) {
    let half = size / 2;
    for row in rows.start..rows.end + size - 1 {
        let Some(row) = row.checked_sub(half).filter(|r| *r < input.height) else {
            to.resize(to.len() + (input.width + size - 1) * term.padded, zero);
            continue;
        };
        to.resize(to.len() + half * term.padded, zero);
        for at in input.row(row).chunks_exact(input.channels) {
            to.extend(at[term.first..term.first + term.channels].iter().map(|v| convert(*v)));
            to.resize(to.len() + term.padded - term.channels, zero);
        }
        to.resize(to.len() + half * term.padded, zero);
    }
}
