//! The rows of the inputs that a band of output rows reads, in the form that the matrix product reads: with zeros around them, in bytes where
//! products are of bytes.

use std::ops::Range;

use mlic_core::memory::OutOfMemory;

use super::aligned::Aligned;
use super::pack::{Split, Term, Weights, halves, limbs};
use crate::arch::{Job, SIDE, Simd};
use crate::map::Rows;

/// Elements of one input around a band. The neighbourhood of position (row, col) of the band begins, at its top left, with element
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
    /// Planes of bytes: the activations themselves, their upper and lower bytes, or their limbs. For a matrix unit, there is room after them.
    Planes([&'a [u8]; 3]),
}

/// Memory for one staged input; kept from band to band.
#[derive(Default)]
pub(super) struct Buffer {
    wide: Aligned<i16>,
    planes: [Aligned<u8>; 3],
}

/// Bytes of room after a plane: a block of a matrix unit reads a fixed number of positions, and whole groups of the last one's channels.
const fn room(term: &Term) -> usize {
    2 * SIDE * (term.padded + 1)
}

impl Buffer {
    /// Makes room for what [`Stage`] makes of a term for `rows` rows of `width` positions.
    pub(super) fn reserve(&mut self, term: &Term, size: usize, rows: usize, width: usize) -> Result<(), OutOfMemory> {
        let len = (rows + size - 1) * (width + size - 1) * term.padded;
        let planes = |planes: &mut [Aligned<u8>], len| planes.iter_mut().try_for_each(|plane| plane.reserve(len));
        match &term.weights {
            Weights::Pairs(_) if size == 1 && term.padded == term.channels => Ok(()),
            Weights::Matrix(packed) => planes(&mut self.planes[..packed.split.count()], len + room(term)),
            Weights::Halves { .. } => planes(&mut self.planes[..2], len),
            Weights::Limbs(_) => planes(&mut self.planes, len),
            Weights::Quads { .. } => planes(&mut self.planes[..1], len),
            Weights::Winograd(_) => self.wide.reserve(len + (width + size) * term.padded),
            _ => self.wide.reserve(len),
        }
    }
}

/// Stages the channels of one term for some output rows.
pub(super) struct Stage<'a, 't> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) input: Rows<'a>,
    pub(super) term: &'t Term,
    /// Side of the kernel.
    pub(super) size: usize,
    pub(super) rows: Range<usize>,
}

impl<'a> Job for Stage<'a, '_> {
    type Output = Staged<'a>;

    #[inline(always)]
    fn run<S: Simd, const P: usize, const V: usize>(self, _: S) -> Staged<'a> {
        let Self { buffer, input, term, size, rows } = self;
        let row_len = (input.width + size - 1) * term.padded;
        let position_len = term.padded;
        let rows_len = (rows.len() + size - 1) * row_len;
        let staging = Staging { input, term, size, rows: rows.clone() };
        let [upper, lower, both] = &mut buffer.planes;
        let data = match term.weights {
            Weights::Pairs(_) if size == 1 && term.padded == term.channels => {
                let (position_len, row_len) = (input.channels, input.width * input.channels);
                let data = &input.data[(rows.start - input.first) * row_len + term.first..(rows.end - input.first) * row_len];
                return Staged { data: Data::Wide(data), row_len, position_len };
            }
            Weights::Matrix(ref packed) => {
                let len = rows_len + room(term);
                match packed.split {
                    Split::Sums => staging.fill(upper.of_len(len), Lower),
                    Split::Bytes => {
                        staging.fill(upper.of_len(len), Upper);
                        staging.fill(lower.of_len(len), Lower);
                    }
                    Split::Limbs => staging.fill_limbs([upper, lower, both], len),
                }
                Data::Planes([upper, lower, both])
            }
            Weights::Limbs(_) => {
                staging.fill_limbs([upper, lower, both], rows_len);
                Data::Planes([upper, lower, both])
            }
            Weights::Halves { .. } => {
                staging.fill(upper.of_len(rows_len), UpperHalf);
                staging.fill(lower.of_len(rows_len), Lower);
                Data::Planes([upper, lower, &[]])
            }
            Weights::Quads { .. } => {
                staging.fill(upper.of_len(rows_len), Moved(S::BYTE_ZERO));
                Data::Bytes(upper)
            }
            _ => {
                let wide = &mut buffer.wide;
                // Where the number of rows or columns is odd, the last tiles read one more row or position.
                let more = if matches!(term.weights, Weights::Winograd(_)) { rows.len() % 2 * row_len + position_len } else { 0 };
                let len = rows_len + more;
                staging.fill(wide.of_len(len), Whole);
                Data::Wide(wide)
            }
        };
        Staged { data, row_len, position_len }
    }
}

/// The form in which an activation is staged.
trait Form: Copy {
    type Out: Copy;
    fn of(self, v: i16) -> Self::Out;
}

/// Upper byte, signed, where the lower byte is unsigned.
#[derive(Clone, Copy)]
struct Upper;

/// Upper byte where the lower byte is signed too ([`halves`]).
#[derive(Clone, Copy)]
struct UpperHalf;

/// One of the [`limbs`] of an activation.
#[derive(Clone, Copy)]
struct Limb<const PART: usize>;

/// Lower byte: the whole activation, if it fits a byte.
#[derive(Clone, Copy)]
struct Lower;

/// Lower byte plus the byte that stands for zero.
#[derive(Clone, Copy)]
struct Moved(u8);

/// The activation itself.
#[derive(Clone, Copy)]
struct Whole;

impl Form for Upper {
    type Out = u8;
    #[inline(always)]
    fn of(self, v: i16) -> u8 {
        (v >> 8) as u8
    }
}

impl Form for UpperHalf {
    type Out = u8;
    #[inline(always)]
    fn of(self, v: i16) -> u8 {
        halves(v.into())[0] as u8
    }
}

impl<const PART: usize> Form for Limb<PART> {
    type Out = u8;
    #[inline(always)]
    fn of(self, v: i16) -> u8 {
        limbs(v)[PART] as u8
    }
}

impl Form for Lower {
    type Out = u8;
    #[inline(always)]
    fn of(self, v: i16) -> u8 {
        v as u8
    }
}

impl Form for Moved {
    type Out = u8;
    #[inline(always)]
    fn of(self, v: i16) -> u8 {
        (v as u8).wrapping_add(self.0)
    }
}

impl Form for Whole {
    type Out = i16;
    #[inline(always)]
    fn of(self, v: i16) -> i16 {
        v
    }
}

/// Converts a slice, in one loop that becomes vector code where it is called.
#[inline(always)]
fn convert<F: Form>(form: F, to: &mut [F::Out], from: &[i16]) {
    for (to, v) in to.iter_mut().zip(from) {
        *to = form.of(*v);
    }
}

/// What is staged: the rows of the input around some rows of the output.
struct Staging<'a> {
    input: Rows<'a>,
    term: &'a Term,
    size: usize,
    rows: Range<usize>,
}

impl Staging<'_> {
    /// Writes `len` bytes of each of the [`limbs`].
    #[inline(always)]
    fn fill_limbs(&self, [upper, lower, both]: [&mut Aligned<u8>; 3], len: usize) {
        self.fill(upper.of_len(len), Limb::<0>);
        self.fill(lower.of_len(len), Limb::<1>);
        self.fill(both.of_len(len), Limb::<2>);
    }

    /// Writes all of `to`: `[row][column][channel]` with zeros around the map, after the channels of each position, and at the end.
    #[inline(always)]
    fn fill<F: Form>(&self, to: &mut [F::Out], form: F) {
        let Self { input, term, size, ref rows } = *self;
        let (half, zero) = (size / 2, form.of(0));
        let margin = half * term.padded;
        let mut lines = to.chunks_exact_mut((input.width + size - 1) * term.padded);
        for (row, line) in (rows.start..rows.end + size - 1).zip(&mut lines) {
            let Some(row) = row.checked_sub(half).filter(|r| *r < input.height) else {
                line.fill(zero);
                continue;
            };
            let (before, line) = line.split_at_mut(margin);
            let (line, after) = line.split_at_mut(input.width * term.padded);
            before.fill(zero);
            after.fill(zero);
            let is_shuffled = matches!(term.weights, Weights::Shuffled);
            if term.padded == input.channels && term.padded == term.channels && !is_shuffled {
                convert(form, line, input.row(row));
                continue;
            }
            for (to, from) in line.chunks_exact_mut(term.padded).zip(input.row(row).chunks_exact(input.channels)) {
                let (to, padding) = to.split_at_mut(term.channels);
                let from = &from[term.first..term.first + term.channels];
                if is_shuffled {
                    let quarters = to.chunks_exact_mut((from.len() / 4).max(1));
                    for (phase, to) in quarters.enumerate() {
                        to.iter_mut().zip(from.iter().skip(phase).step_by(4)).for_each(|(to, v)| *to = form.of(*v));
                    }
                } else {
                    convert(form, to, from);
                }
                padding.fill(zero);
            }
        }
        let end = (rows.len() + size - 1) * (input.width + size - 1) * term.padded;
        to[end..].fill(zero);
    }
}
