//! Streams that a decoder must refuse, made from one that it must not.

use mlic_core::container::{self, ContainerError, Header, ModelId, Section, Stream};

use crate::manifest::{Level, Refused};

/// Offsets of the header (SPEC 6.1).
const VERSION_AT: usize = 3;
pub(crate) const FLAGS_AT: usize = 4;
pub(crate) const WIDTH_AT: usize = 11;
/// Length of the header's own checksum.
const HEADER_CHECKSUM_LEN: usize = 2;

/// What is done to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The first byte is another.
    Magic,
    /// The version is one higher.
    Version,
    /// One bit of the quality is flipped.
    HeaderBit,
    /// The bit of the payload's middle is flipped.
    PayloadBit,
    /// The last bit of the last section is flipped.
    SectionBit,
    /// The header is cut.
    CutHeader,
    /// The payload is cut after the initial states: within z.
    CutInZ,
    /// A byte more.
    Trailing,
    /// A reserved flag, with a right header checksum.
    ReservedFlag,
    /// More lanes than there may be, with a right header checksum.
    Lanes,
    /// Width zero, with a right header checksum.
    ZeroWidth,
    /// Width of 2^20, with a right header checksum.
    HugeWidth,
    /// Width with a needless byte, with a right header checksum.
    LongVarint,
    /// The id of another model, with right checksums.
    OtherModel,
    /// A quality beyond the model's, with right checksums.
    Quality,
    /// Another symbol checksum, with right checksums of header and payload.
    SymbolChecksum,
    /// The last word of the payload is missing, with right checksums.
    ShortPayload,
    /// A word more in the payload, with right checksums.
    LongPayload,
    /// An initial state of zero, with right checksums.
    BadState,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Magic,
        Self::Version,
        Self::HeaderBit,
        Self::PayloadBit,
        Self::SectionBit,
        Self::CutHeader,
        Self::CutInZ,
        Self::Trailing,
        Self::ReservedFlag,
        Self::Lanes,
        Self::ZeroWidth,
        Self::HugeWidth,
        Self::LongVarint,
        Self::OtherModel,
        Self::Quality,
        Self::SymbolChecksum,
        Self::ShortPayload,
        Self::LongPayload,
        Self::BadState,
    ];

    /// Name in vectors' names, the error that must come of it, and why it matters. Written by hand from SPEC, not observed.
    #[must_use]
    pub const fn describe(self) -> (&'static str, &'static str, Level, &'static str) {
        use Level::{L0, L1};
        match self {
            Self::Magic => ("bad-magic", "not-a-stream", L0, "the first byte is wrong"),
            Self::Version => ("version", "unsupported-version", L0, "a version that does not exist yet"),
            Self::HeaderBit => ("header-bit", "header-checksum", L0, "one flipped bit in the quality"),
            Self::PayloadBit => ("payload-bit", "payload-checksum", L0, "one flipped bit in the middle of the payload"),
            Self::SectionBit => ("section-bit", "section-checksum", L0, "one flipped bit in a section"),
            Self::CutHeader => ("cut-header", "truncated", L0, "the file ends within the header"),
            Self::CutInZ => ("cut-in-z", "no-picture", L1, "the file ends within z: there is no picture"),
            Self::Trailing => ("trailing", "trailing-bytes", L0, "a byte after the end"),
            Self::ReservedFlag => ("reserved-flag", "reserved-bits", L0, "a flag without meaning, in a sound header"),
            Self::Lanes => ("lanes", "limit", L0, "2^7 lanes, in a sound header"),
            Self::ZeroWidth => ("zero-width", "zero", L0, "width 0, in a sound header"),
            Self::HugeWidth => ("huge-width", "limit", L0, "width 2^20, in a sound header"),
            Self::LongVarint => ("long-varint", "non-canonical-varint", L0, "a width that is not in its shortest form"),
            Self::OtherModel => ("wrong-model", "wrong-model", L1, "a sound stream of a model that is not at hand"),
            Self::Quality => ("quality", "quality", L1, "a quality that the model does not have"),
            Self::SymbolChecksum => ("desync", "desync", L1, "only the symbol checksum differs: what a drifted decoder sees"),
            Self::ShortPayload => ("short-payload", "rans-exhausted", L1, "the payload lacks a word, and its checksum fits"),
            Self::LongPayload => ("long-payload", "rans-unread", L1, "the payload has a word more, and its checksum fits"),
            Self::BadState => ("bad-state", "rans-bad-state", L1, "an initial state below 2^32"),
        }
    }

    /// What must come of it.
    #[must_use]
    pub fn refused(self) -> Refused {
        let (_, code, level, _) = self.describe();
        Refused { code: code.to_owned(), level }
    }

    /// The damaged stream.
    ///
    /// # Errors
    /// [`ContainerError`] when the stream is not sound.
    pub fn apply(self, stream: &[u8], quality_steps: u8) -> Result<Vec<u8>, ContainerError> {
        let parsed = container::parse(stream)?;
        let (start, end) = (parsed.header_len, parsed.header_len + parsed.payload.len());
        let header = parsed.header;
        let state_len = 6 << header.lanes_log2;
        Ok(match self {
            Self::Magic => flip(stream, 0, 0xff),
            Self::Version => flip(stream, VERSION_AT, 3),
            Self::HeaderBit => flip(stream, quality_at(stream), 0x10),
            Self::PayloadBit => flip(stream, (start + end) / 2, 0x08),
            Self::SectionBit => flip(stream, stream.len() - 1, 0x01),
            Self::CutHeader => stream.get(..start - 3).unwrap_or_default().to_vec(),
            Self::CutInZ => stream.get(..start + state_len).unwrap_or_default().to_vec(),
            Self::Trailing => [stream, &[0]].concat(),
            Self::ReservedFlag => raw(stream, start, |head| head[FLAGS_AT] |= 0x80),
            Self::Lanes => raw(stream, start, |head| head[FLAGS_AT] |= 7),
            Self::ZeroWidth => raw(stream, start, |head| set_width(head, &[0])),
            Self::HugeWidth => raw(stream, start, |head| set_width(head, &[0x80, 0x80, 0x40])),
            Self::LongVarint => raw(stream, start, |head| set_width(head, &[0x81, 0x00])),
            Self::OtherModel => sound(&parsed, Header { model_id: other(header.model_id), ..header }, parsed.payload)?,
            Self::Quality => sound(&parsed, Header { quality: quality_steps.saturating_add(1), ..header }, parsed.payload)?,
            Self::SymbolChecksum => {
                sound(&parsed, Header { symbol_checksum: header.symbol_checksum ^ 0x8000_0001, ..header }, parsed.payload)?
            }
            Self::ShortPayload => {
                let short = parsed.payload.len().saturating_sub(2);
                sound(&parsed, header, parsed.payload.get(..short).unwrap_or_default())?
            }
            Self::LongPayload => sound(&parsed, header, &[parsed.payload, &[0x5a, 0xa5]].concat())?,
            Self::BadState => {
                let rest = parsed.payload.get(6..).unwrap_or_default();
                sound(&parsed, header, &[&[0; 6], rest].concat())?
            }
        })
    }
}

pub(crate) fn flip(stream: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut out = stream.to_vec();
    if let Some(byte) = out.get_mut(at) {
        *byte ^= bits;
    }
    out
}

/// Length of the varint at an offset.
pub(crate) fn varint_len(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().skip(at).take_while(|byte| **byte >= 0x80).count()
}

/// Where the quality is.
pub(crate) fn quality_at(stream: &[u8]) -> usize {
    let height_at = WIDTH_AT + varint_len(stream, WIDTH_AT);
    height_at + varint_len(stream, height_at)
}

fn set_width(head: &mut Vec<u8>, varint: &[u8]) {
    let end = WIDTH_AT + varint_len(head, WIDTH_AT);
    head.splice(WIDTH_AT..end, varint.iter().copied());
}

/// A stream whose header is changed as bytes and whose header checksum is right again.
pub(crate) fn raw(stream: &[u8], header_len: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (head, rest) = stream.split_at(header_len);
    let mut out = head.get(..header_len - HEADER_CHECKSUM_LEN).unwrap_or_default().to_vec();
    change(&mut out);
    let checksum = crc32fast::hash(&out) as u16;
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(rest);
    out
}

/// A stream with other parts and right checksums.
fn sound(parsed: &Stream<'_>, header: Header, payload: &[u8]) -> Result<Vec<u8>, ContainerError> {
    let sections: &[Section<'_>] = &parsed.sections;
    container::write(&header, payload, sections)
}

/// The id of another model.
pub(crate) fn other(id: ModelId) -> ModelId {
    ModelId(id.0.map(|byte| !byte))
}
