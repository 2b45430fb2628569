//! Dumps: files with every number of the exact path of one decoding. With them, a decoder that has no digests, or none of this program's
//! backends, is compared number by number.
//!
//! All numbers are little-endian. A header of 48 bytes: `MLICDUMP`, u32 format, u32 number of records, SHA-256 of the stream.
//! Then the records, in walk order and each at most once: u8 kind, u8 zero, u16 pass, u32 count, and `count` values.
//!
//! | kind | values | pass | order of the values |
//! |---|---|---|---|
//! | 0 | symbols of z, i32 | 0 | row, column, channel |
//! | 1 | means, i32 | index of the pass | row, packed column, channel of the latent slice |
//! | 2 | scale indices, u8 | index of the pass | the same |
//! | 3 | symbols, i32 | index of the pass | the same |
//! | 4 | `y_hat`, i32 | 0 | row, column, channel |
//! | 5 | exact pixels, u8 | 0 | row, column, channel of the cropped picture; one channel if it is gray |
//!
//! Records may be absent; what is absent is not compared.

use mlic_core::container::{self, Header};
use mlic_core::schedule::{LatentSize, Pass, passes};
use mlic_model::Model;
use sha2::{Digest as _, Sha256};

use crate::error::ConformError;
use crate::record::Recording;
use crate::verdict::{Place, Tensor};

/// Version of the dump format that this program reads and writes.
pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"MLICDUMP";
const HEADER_LEN: usize = 48;
const RECORD_HEADER_LEN: usize = 8;

/// The values of one tensor, in coding order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// [`Place::Z`], [`Place::Pass`], [`Place::YHat`] or [`Place::Pixels`].
    pub place: Place,
    /// The values.
    pub values: Vec<i32>,
}

/// Returns the sizes of the tensors of a picture.
///
/// # Errors
/// [`ConformError::Codec`] for a picture beyond the limits.
pub fn size_of(header: &Header) -> Result<LatentSize, ConformError> {
    let Header { width, height, .. } = *header;
    let (max_side, max_pixels) = (mlic::limits::MAX_SIDE, mlic::limits::MAX_PIXELS);
    let size = LatentSize::of_image(width, height);
    Ok(size.ok_or(mlic::Error::Size { width, height, max_side, max_pixels })?)
}

/// Shapes of the tensors that decoding one stream determines: height, width and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    z: [usize; 3],
    half: [usize; 3],
    y: [usize; 3],
    /// None if the model has no exact synthesis.
    pixels: Option<[usize; 3]>,
    slices: usize,
}

impl Shape {
    /// Returns the shapes for a stream and its model.
    ///
    /// # Errors
    /// [`ConformError::Container`] for a stream without a header, [`ConformError::Codec`] for one beyond the limits.
    pub fn of(stream: &[u8], model: &Model) -> Result<Self, ConformError> {
        let (header, config) = (container::parse(stream)?.header, model.config());
        let size = size_of(&header)?;
        let ([z_height, z_width], [height, width]) = (size.z, size.y);
        Ok(Self {
            z: [z_height, z_width, config.hyper],
            half: [height, width / 2, config.slice_channels()],
            y: [height, width, config.latent],
            pixels: model
                .exact_synthesis()
                .map(|_| [header.height as usize, header.width as usize, if header.gray { 1 } else { 3 }]),
            slices: config.slices,
        })
    }

    const fn of_place(&self, place: &Place) -> [usize; 3] {
        match place {
            Place::Z => self.z,
            Place::Pass { .. } => self.half,
            Place::Pixels => match self.pixels {
                Some(shape) => shape,
                None => [0; 3],
            },
            _ => self.y,
        }
    }

    /// Returns the number of values of a tensor.
    #[must_use]
    pub fn count(&self, place: &Place) -> usize {
        self.of_place(place).iter().product()
    }

    /// Returns row, column and channel of a value, in the full map rather than the packed one.
    #[must_use]
    pub fn position(&self, place: &Place, index: usize) -> [usize; 3] {
        let [_, width, channels] = self.of_place(place);
        let (at, channel) = (index / channels.max(1), index % channels.max(1));
        let (row, col) = (at / width.max(1), at % width.max(1));
        match place {
            Place::Pass { pass, .. } => [row, 2 * col + pass.parity.first_col(row), channel],
            _ => [row, col, channel],
        }
    }

    /// Returns the place of every tensor of a decoding, in walk order.
    fn places(&self) -> impl Iterator<Item = Place> {
        let in_pass =
            |pass: Pass| [Tensor::Means, Tensor::ScaleIndices, Tensor::Symbols].map(|tensor| Place::Pass { pass, tensor });
        std::iter::once(Place::Z)
            .chain(passes(self.slices).flat_map(in_pass))
            .chain([Place::YHat])
            .chain(self.pixels.map(|_| Place::Pixels))
    }

    /// Returns the length of the longest dump, in bytes.
    #[must_use]
    pub fn max_dump_len(&self) -> u64 {
        let record = |place: Place| (RECORD_HEADER_LEN + self.count(&place) * width(&place)) as u64;
        HEADER_LEN as u64 + self.places().map(record).sum::<u64>()
    }
}

/// Length of one value in the file, in bytes.
const fn width(place: &Place) -> usize {
    if matches!(place, Place::Pass { tensor: Tensor::ScaleIndices, .. } | Place::Pixels) { 1 } else { 4 }
}

/// Kind and pass of a record, as the file stores them.
fn kind(place: &Place) -> (u8, u16) {
    match place {
        Place::Pass { pass, tensor } => {
            let kind = match tensor {
                Tensor::Means => 1,
                Tensor::ScaleIndices => 2,
                Tensor::Symbols => 3,
            };
            (kind, pass.index() as u16)
        }
        Place::YHat => (4, 0),
        Place::Pixels => (5, 0),
        _ => (0, 0),
    }
}

/// Returns every tensor that a decoding determined, in walk order.
#[must_use]
pub fn values(recording: &Recording) -> Vec<Values> {
    let mut all = Vec::new();
    let mut put = |place: Place, values: Option<Vec<i32>>| all.extend(values.map(|values| Values { place, values }));
    put(Place::Z, recording.z.clone());
    for record in &recording.passes {
        let place = |tensor| Place::Pass { pass: record.pass, tensor };
        put(place(Tensor::Means), Some(record.parameters.means.clone()));
        put(place(Tensor::ScaleIndices), Some(record.parameters.scale_indices.iter().map(|i| i32::from(*i)).collect()));
        put(place(Tensor::Symbols), record.symbols.clone());
    }
    put(Place::YHat, recording.y_hat.clone());
    put(Place::Pixels, recording.pixels.as_ref().map(|pixels| pixels.iter().copied().map(i32::from).collect()));
    all
}

/// Returns the dump of these tensors of a decoding of the stream.
#[must_use]
pub fn write(stream: &[u8], all: &[Values]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(FORMAT.to_le_bytes());
    out.extend((all.len() as u32).to_le_bytes());
    out.extend(Sha256::digest(stream));
    for Values { place, values } in all {
        let (kind, pass) = kind(place);
        out.extend([kind, 0]);
        out.extend(pass.to_le_bytes());
        out.extend((values.len() as u32).to_le_bytes());
        match width(place) {
            1 => out.extend(values.iter().map(|value| *value as u8)),
            _ => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        }
    }
    out
}

struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], String> {
        let offset = self.len - self.rest.len();
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| format!("the file ends at byte {}, within {len} bytes that begin at {offset}", self.len))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.bytes(N)?.try_into().map_err(|_| format!("fewer than {N} bytes"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }
}

/// Reads the dump of a decoding of this stream.
///
/// # Errors
/// What is wrong with the dump.
pub fn parse(bytes: &[u8], stream: &[u8], shape: &Shape) -> Result<Vec<Values>, String> {
    let mut reader = Reader { rest: bytes, len: bytes.len() };
    if reader.bytes(MAGIC.len())? != MAGIC {
        return Err("it does not begin with MLICDUMP".to_owned());
    }
    let (format, count) = (reader.u32()?, reader.u32()?);
    if format != FORMAT {
        return Err(format!("format {format}, this program reads {FORMAT}"));
    }
    if reader.array::<32>()?.as_slice() != Sha256::digest(stream).as_slice() {
        return Err("it is of another stream: the SHA-256 at byte 16 is not the stream's".to_owned());
    }
    let mut places = shape.places();
    let mut all = Vec::new();
    for index in 0..count {
        let record = record(&mut reader, &mut places, shape);
        all.push(record.map_err(|problem| format!("record {index}: {problem}"))?);
    }
    if !reader.rest.is_empty() {
        return Err(format!("{} bytes after the last record", reader.rest.len()));
    }
    Ok(all)
}

/// Reads the next record, whose place must be among those left in `places`.
fn record(reader: &mut Reader<'_>, places: &mut impl Iterator<Item = Place>, shape: &Shape) -> Result<Values, String> {
    let [kind_byte, zero, low, high] = reader.array()?;
    let (pass, count) = (u16::from_le_bytes([low, high]), reader.u32()? as usize);
    let named = format!("kind {kind_byte} of pass {pass}");
    if zero != 0 {
        return Err(format!("{named}: byte 1 is {zero}, not 0"));
    }
    let place = places.find(|place| kind(place) == (kind_byte, pass));
    let place = place.ok_or_else(|| format!("{named} is out of walk order, or there is no such thing"))?;
    let want = shape.count(&place);
    if count != want {
        return Err(format!("{place} has {count} values, the stream's sizes give {want}"));
    }
    let bytes = reader.bytes(count * width(&place))?;
    let values = match width(&place) {
        1 => bytes.iter().map(|byte| i32::from(*byte)).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk)).collect(),
    };
    Ok(Values { place, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { z: [1, 1, 2], half: [4, 2, 1], y: [4, 4, 2], pixels: Some([40, 3, 3]), slices: 2 };

    fn all() -> Vec<Values> {
        let mut next = 0..;
        let mut of = |place: Place| {
            let values = next.by_ref().take(SHAPE.count(&place)).map(|value| value % 64).collect();
            Values { place, values }
        };
        SHAPE.places().map(&mut of).collect()
    }

    #[test]
    fn a_dump_is_read_as_it_was_written() {
        let bytes = write(b"stream", &all());
        assert_eq!(parse(&bytes, b"stream", &SHAPE), Ok(all()));
        assert_eq!(bytes.len() as u64, SHAPE.max_dump_len());
        let some: Vec<Values> = all().into_iter().skip(3).step_by(4).collect();
        assert_eq!(parse(&write(b"stream", &some), b"stream", &SHAPE), Ok(some));
    }

    #[test]
    fn a_damaged_dump_is_refused() {
        let bytes = write(b"stream", &all());
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len], b"stream", &SHAPE).is_err(), "{len}");
        }
        let refused = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            parse(&bytes, b"stream", &SHAPE).unwrap_err()
        };
        assert!(refused(0, b'm').contains("MLICDUMP"));
        assert!(refused(8, 2).contains("format 2"));
        assert!(refused(12, 14).contains("after the last record"));
        assert!(refused(16, !bytes[16]).contains("another stream"));
        assert!(refused(48, 9).contains("kind 9"));
        assert!(refused(49, 1).contains("byte 1"));
        assert!(refused(50, 1).contains("walk order"));
        assert!(refused(52, 3).contains("3 values"));
        let twice = [all()[0].clone(), all()[0].clone()];
        assert!(parse(&write(b"stream", &twice), b"stream", &SHAPE).unwrap_err().contains("walk order"));
    }

    #[test]
    fn positions_are_those_of_the_full_map() {
        use mlic_core::checkerboard::Parity;
        let place = |parity| Place::Pass { pass: Pass { slice_index: 0, parity }, tensor: Tensor::Means };
        // The first anchor is at row 0, column 1.
        assert_eq!(SHAPE.position(&place(Parity::Anchor), 0), [0, 1, 0]);
        assert_eq!(SHAPE.position(&place(Parity::NonAnchor), 0), [0, 0, 0]);
        assert_eq!(SHAPE.position(&place(Parity::Anchor), 3), [1, 2, 0]);
        assert_eq!(SHAPE.position(&Place::YHat, 11), [1, 1, 1]);
        assert_eq!(SHAPE.position(&Place::Pixels, 11), [1, 0, 2]);
    }
}
