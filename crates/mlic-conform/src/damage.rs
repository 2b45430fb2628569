//! Streams that a decoder must refuse, made by damaging sound ones.

use mlic_core::container::{self, ContainerError, Header, ModelId, Stream};

use crate::manifest::Level::{self, L0, L1};
use crate::manifest::Refused;

/// Offsets in the header (SPEC 6.1).
const VERSION_AT: usize = 3;
pub(crate) const FLAGS_AT: usize = 4;
pub(crate) const WIDTH_AT: usize = 11;
/// Length of the header's own checksum.
const HEADER_CHECKSUM_LEN: usize = 2;
/// Length of the initial state of a lane, in bytes.
const STATE_LEN: usize = 6;

/// The kind of vector that a damage is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suits {
    /// Any vector.
    Plain,
    /// A vector whose z takes more bytes than the initial states.
    LongZ,
    /// A vector with sections.
    Sections,
}

/// A damage to a stream, and the error that must come of it. Written by hand from SPEC, not observed.
#[derive(Debug, Clone, Copy)]
pub struct Damage {
    /// Name of the vector.
    pub name: &'static str,
    /// Code of the error that must come of it.
    pub code: &'static str,
    /// The lowest level at which the error shows.
    pub level: Level,
    /// Why it matters.
    pub why: &'static str,
    /// The kind of vector that it is done to.
    pub suits: Suits,
    make: fn(&Sound<'_>) -> Result<Vec<u8>, ContainerError>,
}

impl PartialEq for Damage {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A stream without damage.
struct Sound<'a> {
    bytes: &'a [u8],
    stream: Stream<'a>,
    quality_steps: u8,
}

impl Sound<'_> {
    /// The first `len` bytes of the stream.
    fn cut(&self, len: usize) -> Vec<u8> {
        self.bytes.get(..len).unwrap_or_default().to_vec()
    }

    /// The stream with a header that is changed as bytes, and a correct header checksum.
    fn raw(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        raw(self.bytes, self.stream.header_len, change)
    }

    /// The stream with another header, and correct checksums.
    fn headed(&self, header: Header) -> Result<Vec<u8>, ContainerError> {
        container::write(&header, self.stream.payload, &self.stream.sections)
    }

    /// The stream with another payload, and correct checksums.
    fn paid(&self, payload: &[u8]) -> Result<Vec<u8>, ContainerError> {
        container::write(&self.stream.header, payload, &self.stream.sections)
    }
}

/// All damages.
pub const DAMAGES: [Damage; 19] =
    [
        of("bad-magic", "not-a-stream", L0, "the first byte is wrong", |s| Ok(flip(s.bytes, 0, 0xff))),
        of("bad-version", "unsupported-version", L0, "a version that does not exist yet", |s| Ok(flip(s.bytes, VERSION_AT, 3))),
        of("bad-header-bit", "header-checksum", L0, "one flipped bit in the quality", |s| {
            Ok(flip(s.bytes, quality_at(s.bytes), 0x10))
        }),
        of("bad-payload-bit", "payload-checksum", L0, "one flipped bit in the middle of the payload", |s| {
            Ok(flip(s.bytes, s.stream.header_len + s.stream.payload.len() / 2, 0x08))
        }),
        of("bad-section-bit", "section-checksum", L0, "one flipped bit in a section", |s| {
            Ok(flip(s.bytes, s.bytes.len() - 1, 0x01))
        })
        .of(Suits::Sections),
        of("bad-cut-header", "truncated", L0, "the file ends within the header", |s| Ok(s.cut(s.stream.header_len - 3))),
        of("bad-cut-in-z", "no-picture", L1, "the file ends within z: there is no picture", |s| {
            Ok(s.cut(s.stream.header_len + (STATE_LEN << s.stream.header.lanes_log2)))
        })
        .of(Suits::LongZ),
        of("bad-trailing", "trailing-bytes", L0, "a byte after the end", |s| Ok([s.bytes, &[0]].concat())),
        of("bad-reserved-flag", "reserved-bits", L0, "a flag without meaning, in a sound header", |s| {
            Ok(s.raw(|head| head[FLAGS_AT] |= 0x80))
        }),
        of("bad-lanes", "limit", L0, "2^7 lanes, in a sound header", |s| Ok(s.raw(|head| head[FLAGS_AT] |= 7))),
        of("bad-zero-width", "zero", L0, "width 0, in a sound header", |s| Ok(s.raw(|head| set_width(head, &[0])))),
        of("bad-huge-width", "limit", L0, "width 2^20, in a sound header", |s| {
            Ok(s.raw(|head| set_width(head, &[0x80, 0x80, 0x40])))
        }),
        of("bad-long-varint", "non-canonical-varint", L0, "a width that is not in its shortest form", |s| {
            Ok(s.raw(|head| set_width(head, &[0x81, 0x00])))
        }),
        of("bad-wrong-model", "wrong-model", L1, "a sound stream of a model that is not at hand", |s| {
            s.headed(Header { model_id: other(s.stream.header.model_id), ..s.stream.header })
        }),
        of("bad-quality", "quality", L1, "a quality that the model does not have", |s| {
            s.headed(Header { quality: s.quality_steps.saturating_add(1), ..s.stream.header })
        }),
        of("bad-desync", "desync", L1, "only the symbol checksum differs: what a drifted decoder sees", |s| {
            s.headed(Header { symbol_checksum: s.stream.header.symbol_checksum ^ 0x8000_0001, ..s.stream.header })
        }),
        of("bad-short-payload", "rans-exhausted", L1, "the payload lacks a word, and its checksum fits", |s| {
            s.paid(s.stream.payload.get(..s.stream.payload.len().saturating_sub(2)).unwrap_or_default())
        }),
        of("bad-long-payload", "rans-unread", L1, "the payload has a word more, and its checksum fits", |s| {
            s.paid(&[s.stream.payload, &[0x5a, 0xa5]].concat())
        }),
        of("bad-state", "rans-bad-state", L1, "an initial state below 2^32", |s| {
            s.paid(&[&[0; STATE_LEN], s.stream.payload.get(STATE_LEN..).unwrap_or_default()].concat())
        }),
    ];

const fn of(
    name: &'static str,
    code: &'static str,
    level: Level,
    why: &'static str,
    make: fn(&Sound<'_>) -> Result<Vec<u8>, ContainerError>,
) -> Damage {
    Damage { name, code, level, why, suits: Suits::Plain, make }
}

impl Damage {
    /// The same damage, done to another kind of vector.
    const fn of(self, suits: Suits) -> Self {
        Self { suits, ..self }
    }

    /// Returns the refusal that must come of it.
    #[must_use]
    pub fn refused(&self) -> Refused {
        Refused { code: self.code.to_owned(), level: self.level }
    }

    /// Returns the damaged stream.
    ///
    /// # Errors
    /// [`ContainerError`] when the stream is not sound.
    pub fn apply(&self, stream: &[u8], quality_steps: u8) -> Result<Vec<u8>, ContainerError> {
        (self.make)(&Sound { bytes: stream, stream: container::parse(stream)?, quality_steps })
    }
}

pub(crate) fn flip(stream: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut out = stream.to_vec();
    if let Some(byte) = out.get_mut(at) {
        *byte ^= bits;
    }
    out
}

/// Returns the length in bytes of the varint at an offset.
pub(crate) fn varint_len(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().skip(at).take_while(|byte| **byte >= 0x80).count()
}

/// Returns the offset of the quality.
pub(crate) fn quality_at(stream: &[u8]) -> usize {
    let height_at = WIDTH_AT + varint_len(stream, WIDTH_AT);
    height_at + varint_len(stream, height_at)
}

fn set_width(head: &mut Vec<u8>, varint: &[u8]) {
    let end = WIDTH_AT + varint_len(head, WIDTH_AT);
    head.splice(WIDTH_AT..end, varint.iter().copied());
}

/// Returns the stream with a header that is changed as bytes, and a correct header checksum.
pub(crate) fn raw(stream: &[u8], header_len: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (head, rest) = stream.split_at(header_len);
    let mut out = head.get(..header_len - HEADER_CHECKSUM_LEN).unwrap_or_default().to_vec();
    change(&mut out);
    let checksum = crc32fast::hash(&out) as u16;
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(rest);
    out
}

/// Returns the id of another model.
pub(crate) fn other(id: ModelId) -> ModelId {
    ModelId(id.0.map(|byte| !byte))
}
