//! The bytes of a stream: a checksummed header, the payload, optional sections (SPEC 6.1, 6.2).
//!
//! | bytes | field | |
//! |---|---|---|
//! | 3 | magic | `D1 4D 4C` |
//! | 1 | version | 1 |
//! | 1 | flags | bits 0-2: log2 of the lane count, 0 to 6; bit 4: gray image; bit 5: sections follow; others 0 |
//! | 6 | model id | [`ModelId`] |
//! | 1-3 | width | varint, 1 to [`MAX_SIDE`] |
//! | 1-3 | height | varint, 1 to [`MAX_SIDE`]; width x height at most [`MAX_PIXELS`] |
//! | 1 | quality | |
//! | 4 | symbol checksum | `u32`: [`SymbolChecksum`] of all symbols in coding order |
//! | 4 | payload checksum | `u32`: CRC-32 of the payload |
//! | 1-4 | payload length | varint, below 2^28 |
//! | 2 | header checksum | `u16`: low half of the CRC-32 of all bytes before it |
//! | | payload | [`crate::rans`] |
//!
//! With flag bit 5 the sections follow: their count (one byte, 1 to [`MAX_SECTION_COUNT`]), then for each
//!
//! | bytes | field | |
//! |---|---|---|
//! | 1 | kind | 1 ICC, 2 EXIF, 3 XMP; others have no meaning and are passed over |
//! | 1-4 | length | varint, at most [`MAX_SECTION_LEN`] |
//! | 4 | checksum | `u32`: CRC-32 of kind, length (as written) and contents |
//! | length | contents | |
//!
//! Then the stream ends. Numbers are little-endian; CRC-32 is the IEEE one; a varint is LEB128 in its shortest form.
//!
//! A header is trusted only if its checksum matches, so the order of the checks is: magic, version, form of the varints,
//! header checksum, flags and limits. Nothing is allocated before that.

use crate::limits::{MAX_PIXELS, MAX_SECTION_LEN, MAX_SIDE};
use crate::rans::MAX_LANES_LOG2;
use alloc::vec::Vec;

use crate::memory::{self, OutOfMemory};

/// First bytes of every stream.
pub const MAGIC: [u8; 3] = [0xD1, b'M', b'L'];
/// The version this crate reads and writes.
pub const VERSION: u8 = 1;
/// Longest header, checksum included, in bytes.
pub const MAX_HEADER_LEN: usize = 32;
/// Longest payload, in bytes.
pub const MAX_PAYLOAD_LEN: u64 = (1 << 28) - 1;
/// Most sections of a stream.
pub const MAX_SECTION_COUNT: u64 = 16;

const FLAG_LANES: u8 = 0b0000_0111;
const FLAG_GRAY: u8 = 0b0001_0000;
const FLAG_SECTIONS: u8 = 0b0010_0000;
const FLAGS_KNOWN: u8 = FLAG_LANES | FLAG_GRAY | FLAG_SECTIONS;
/// Longest varint that is read, in bytes: all limits are below 2^35.
const MAX_VARINT_LEN: usize = 5;

const _: () = {
    let sides = 2 * varint_len(MAX_SIDE as u64);
    let fixed = MAGIC.len() + 1 + 1 + ModelId::LEN + 1 + 4 + 4 + 2;
    assert!(fixed + sides + varint_len(MAX_PAYLOAD_LEN) <= MAX_HEADER_LEN);
};

/// What is wrong with a stream, or with what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The first bytes are not [`MAGIC`].
    #[error("not an MLIC++ stream")]
    NotAStream,
    /// The version is not [`VERSION`].
    #[error("stream version {got}, supported is {VERSION}")]
    UnsupportedVersion {
        /// The version.
        got: u8,
    },
    /// The file ends too early.
    #[error("truncated in the {what}: {have} bytes, at least {need} needed")]
    Truncated {
        /// The field in which it ends.
        what: &'static str,
        /// Length of the file, in bytes.
        have: usize,
        /// Least length that the file must have, as far as is known, in bytes.
        need: usize,
    },
    /// A varint is not in its shortest form.
    #[error("{what} at byte {offset} is not in its shortest form")]
    NonCanonicalVarint {
        /// The field.
        what: &'static str,
        /// Where the varint begins.
        offset: usize,
    },
    /// A varint has more bytes than any allowed value needs.
    #[error("{what} at byte {offset} is longer than {MAX_VARINT_LEN} bytes")]
    VarintTooLong {
        /// The field.
        what: &'static str,
        /// Where the varint begins.
        offset: usize,
    },
    /// The header is damaged.
    #[error("header checksum is {got:#06x}, stored is {stored:#06x}")]
    HeaderChecksum {
        /// The checksum in the stream.
        stored: u16,
        /// The checksum of the bytes.
        got: u16,
    },
    /// Flag bits without a meaning are set.
    #[error("reserved flag bits {got:#010b} are set")]
    ReservedBits {
        /// The reserved bits that are set.
        got: u8,
    },
    /// A value is above its limit.
    #[error("{what} is {got}, at most {limit} is allowed")]
    Limit {
        /// The field.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The largest value that is allowed.
        limit: u64,
    },
    /// A value that must be positive is zero.
    #[error("{what} is zero")]
    Zero {
        /// The field.
        what: &'static str,
    },
    /// The payload is damaged.
    #[error("payload checksum is {got:#010x}, stored is {stored:#010x}")]
    PayloadChecksum {
        /// The checksum in the stream.
        stored: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// A section is damaged.
    #[error("checksum of section {index} is {got:#010x}, stored is {stored:#010x}")]
    SectionChecksum {
        /// Number of the section, from 0.
        index: usize,
        /// The checksum in the stream.
        stored: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// The file goes on after the end of the stream.
    #[error("{count} bytes follow the end of the stream at byte {offset}")]
    TrailingBytes {
        /// Number of bytes.
        count: usize,
        /// Where the stream ends.
        offset: usize,
    },
    /// There is no memory for the stream to be written.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl ContainerError {
    /// A stable name of the variant, for conformance manifests.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAStream => "not-a-stream",
            Self::UnsupportedVersion { .. } => "unsupported-version",
            Self::Truncated { .. } => "truncated",
            Self::NonCanonicalVarint { .. } => "non-canonical-varint",
            Self::VarintTooLong { .. } => "varint-too-long",
            Self::HeaderChecksum { .. } => "header-checksum",
            Self::ReservedBits { .. } => "reserved-bits",
            Self::Limit { .. } => "limit",
            Self::Zero { .. } => "zero",
            Self::PayloadChecksum { .. } => "payload-checksum",
            Self::SectionChecksum { .. } => "section-checksum",
            Self::TrailingBytes { .. } => "trailing-bytes",
            Self::OutOfMemory(_) => "out-of-memory",
        }
    }
}

/// Names a model: the first bytes of the digest of its package's normative part. Displayed as 12 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub [u8; 6]);

impl ModelId {
    /// Length in bytes.
    pub const LEN: usize = 6;
}

impl core::fmt::Display for ModelId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The error of a text that is not a [`ModelId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a model id is 12 hexadecimal digits")]
pub struct ModelIdError;

impl core::str::FromStr for ModelId {
    type Err = ModelIdError;

    fn from_str(text: &str) -> Result<Self, ModelIdError> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(ModelIdError) };
        let pairs: &[[u8; 2]; Self::LEN] = pairs.try_into().map_err(|_| ModelIdError)?;
        let mut id = [0; Self::LEN];
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = 16 * hex_digit(*high)? + hex_digit(*low)?;
        }
        Ok(Self(id))
    }
}

fn hex_digit(digit: u8) -> Result<u8, ModelIdError> {
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(ModelIdError)
}

/// What a decoder must know before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The model that encoded the stream.
    pub model_id: ModelId,
    /// Width of the image, in pixels.
    pub width: u32,
    /// Height of the image, in pixels.
    pub height: u32,
    /// Quality; what it means is up to the model.
    pub quality: u8,
    /// Whether the image is gray.
    pub gray: bool,
    /// Binary logarithm of the lane count of the payload.
    pub lanes_log2: u8,
    /// [`SymbolChecksum`] of all symbols in coding order.
    pub symbol_checksum: u32,
}

impl Header {
    /// Refuses what the format cannot carry.
    fn check(&self) -> Result<(), ContainerError> {
        check_limit("lane count (log2)", self.lanes_log2.into(), MAX_LANES_LOG2.into())?;
        for (what, side) in [("width", self.width), ("height", self.height)] {
            check_limit(what, side.into(), MAX_SIDE.into())?;
            check_positive(what, side.into())?;
        }
        check_limit("pixel count", u64::from(self.width) * u64::from(self.height), MAX_PIXELS)
    }
}

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionKind(pub u8);

impl SectionKind {
    /// An ICC color profile.
    pub const ICC: Self = Self(1);
    /// EXIF metadata.
    pub const EXIF: Self = Self(2);
    /// An XMP packet.
    pub const XMP: Self = Self(3);
}

/// Bytes that travel with an image and that its decoding does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// What the bytes are.
    pub kind: SectionKind,
    /// The bytes, at most [`MAX_SECTION_LEN`].
    pub bytes: &'a [u8],
}

/// A parsed stream. Only its header is known to be right; `damage` tells about the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stream<'a> {
    /// The header.
    pub header: Header,
    /// Length of the header, in bytes: where the payload begins.
    pub header_len: usize,
    /// The payload, or the part of it that the file holds.
    pub payload: &'a [u8],
    /// Length of the payload as declared, in bytes.
    pub payload_len: usize,
    /// The first thing that is wrong after the header. [`ContainerError::Truncated`] leaves a usable prefix; with
    /// anything else a decoder gives up.
    pub damage: Option<ContainerError>,
    /// All sections that are whole and undamaged, in order.
    pub sections: Vec<Section<'a>>,
}

impl Stream<'_> {
    /// The first thing that is wrong after a payload that is itself whole and right. No sample depends on such damage.
    #[must_use]
    pub fn tail_damage(&self) -> Option<ContainerError> {
        let payload_is_right = self.payload.len() == self.payload_len;
        self.damage.filter(|damage| payload_is_right && !matches!(damage, ContainerError::PayloadChecksum { .. }))
    }
}

/// Writes a stream from its parts.
///
/// # Errors
/// [`ContainerError::Limit`] or [`ContainerError::Zero`] when the format cannot carry them, [`ContainerError::OutOfMemory`].
pub fn write(header: &Header, payload: &[u8], sections: &[Section<'_>]) -> Result<Vec<u8>, ContainerError> {
    header.check()?;
    check_limit("payload length", payload.len() as u64, MAX_PAYLOAD_LEN)?;
    check_limit("section count", sections.len() as u64, MAX_SECTION_COUNT)?;
    let sections_len: usize = sections.iter().map(|section| 1 + MAX_VARINT_LEN + 4 + section.bytes.len()).sum();
    let mut out = Vec::new();
    memory::reserve(&mut out, MAX_HEADER_LEN + payload.len() + 1 + sections_len)?;
    write_header(&mut out, header, payload.len(), crc32fast::hash(payload), !sections.is_empty());
    out.extend_from_slice(payload);
    if !sections.is_empty() {
        out.push(sections.len() as u8);
    }
    for section in sections {
        write_section(&mut out, section)?;
    }
    Ok(out)
}

/// Length of the header, in bytes, before a payload of `payload_len` bytes.
#[must_use]
pub fn header_len(header: &Header, payload_len: usize) -> usize {
    let mut out = Vec::with_capacity(MAX_HEADER_LEN);
    write_header(&mut out, header, payload_len, 0, false);
    out.len()
}

/// Writes the header to `out`, which is empty before.
fn write_header(out: &mut Vec<u8>, header: &Header, payload_len: usize, payload_checksum: u32, has_sections: bool) {
    let gray = if header.gray { FLAG_GRAY } else { 0 };
    let sections = if has_sections { FLAG_SECTIONS } else { 0 };
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.lanes_log2 | gray | sections]);
    out.extend_from_slice(&header.model_id.0);
    write_varint(out, header.width.into());
    write_varint(out, header.height.into());
    out.push(header.quality);
    out.extend_from_slice(&header.symbol_checksum.to_le_bytes());
    out.extend_from_slice(&payload_checksum.to_le_bytes());
    write_varint(out, payload_len as u64);
    let checksum = header_checksum(out);
    out.extend_from_slice(&checksum.to_le_bytes());
    debug_assert!(out.len() <= MAX_HEADER_LEN);
}

fn write_section(out: &mut Vec<u8>, section: &Section<'_>) -> Result<(), ContainerError> {
    check_limit("section length", section.bytes.len() as u64, MAX_SECTION_LEN)?;
    let mut head = Vec::with_capacity(1 + MAX_VARINT_LEN);
    head.push(section.kind.0);
    write_varint(&mut head, section.bytes.len() as u64);
    out.extend_from_slice(&head);
    out.extend_from_slice(&section_checksum(&head, section.bytes).to_le_bytes());
    out.extend_from_slice(section.bytes);
    Ok(())
}

/// Parses a stream into its parts.
///
/// # Errors
/// [`ContainerError`] when the header is not whole and right. Whatever is wrong after it is `damage` of the result.
pub fn parse(bytes: &[u8]) -> Result<Stream<'_>, ContainerError> {
    let mut reader = Reader { bytes, at: 0 };
    let raw = read_header(&mut reader)?;
    let payload_len = raw.payload_len as usize;
    let mut stream = Stream {
        header: raw.header,
        header_len: reader.at,
        payload: reader.rest(payload_len),
        payload_len,
        damage: None,
        sections: Vec::new(),
    };
    let payload = read_payload(&mut reader, &raw);
    let whole = !matches!(payload, Err(ContainerError::Truncated { .. }));
    let rest = if whole { read_tail(&mut reader, raw.has_sections, &mut stream.sections) } else { Ok(()) };
    stream.damage = payload.and(rest).err();
    Ok(stream)
}

/// A header, with the fields that only the parser needs.
struct RawHeader {
    header: Header,
    has_sections: bool,
    payload_checksum: u32,
    payload_len: u64,
}

fn read_header(reader: &mut Reader<'_>) -> Result<RawHeader, ContainerError> {
    read_magic(reader)?;
    let flags = reader.byte("flags")?;
    let model_id = ModelId(reader.array("model id")?);
    let [width, height] = [reader.varint("width")?, reader.varint("height")?];
    let quality = reader.byte("quality")?;
    let symbol_checksum = reader.u32("symbol checksum")?;
    let payload_checksum = reader.u32("payload checksum")?;
    let payload_len = reader.varint("payload length")?;
    check_header_checksum(reader)?;
    check_flags(flags)?;
    check_limit("payload length", payload_len, MAX_PAYLOAD_LEN)?;
    let header = Header {
        model_id,
        width: narrow("width", width)?,
        height: narrow("height", height)?,
        quality,
        gray: flags & FLAG_GRAY != 0,
        lanes_log2: flags & FLAG_LANES,
        symbol_checksum,
    };
    header.check()?;
    Ok(RawHeader { header, has_sections: flags & FLAG_SECTIONS != 0, payload_checksum, payload_len })
}

/// Reads magic and version. A file that ends within them is truncated only if the bytes that are there are right.
fn read_magic(reader: &mut Reader<'_>) -> Result<(), ContainerError> {
    if !reader.bytes.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic) {
        return Err(ContainerError::NotAStream);
    }
    reader.take(MAGIC.len(), "magic")?;
    match reader.byte("version")? {
        VERSION => Ok(()),
        got => Err(ContainerError::UnsupportedVersion { got }),
    }
}

fn check_header_checksum(reader: &mut Reader<'_>) -> Result<(), ContainerError> {
    let got = header_checksum(reader.bytes.get(..reader.at).unwrap_or_default());
    let stored = u16::from_le_bytes(reader.array("header checksum")?);
    if got == stored { Ok(()) } else { Err(ContainerError::HeaderChecksum { stored, got }) }
}

fn check_flags(flags: u8) -> Result<(), ContainerError> {
    match flags & !FLAGS_KNOWN {
        0 => Ok(()),
        got => Err(ContainerError::ReservedBits { got }),
    }
}

/// Checks the payload, and goes past it if it is whole, even if it is damaged.
fn read_payload(reader: &mut Reader<'_>, raw: &RawHeader) -> Result<(), ContainerError> {
    let got = crc32fast::hash(reader.take(raw.payload_len as usize, "payload")?);
    let stored = raw.payload_checksum;
    if got == stored { Ok(()) } else { Err(ContainerError::PayloadChecksum { stored, got }) }
}

/// Reads everything after the payload: the sections, then the end. A section with a wrong checksum is left out, and the next one is read where
/// it would begin; the first error is returned.
fn read_tail<'a>(reader: &mut Reader<'a>, has_sections: bool, sections: &mut Vec<Section<'a>>) -> Result<(), ContainerError> {
    let count = if has_sections { reader.byte("section count")? } else { 0 };
    check_limit("section count", count.into(), MAX_SECTION_COUNT)?;
    if has_sections {
        check_positive("section count", count.into())?;
    }
    let mut first = Ok(());
    for index in 0..usize::from(count) {
        match read_section(reader, index) {
            Ok(section) => sections.push(section),
            Err(error @ ContainerError::SectionChecksum { .. }) => first = first.and(Err(error)),
            Err(error) => return first.and(Err(error)),
        }
    }
    first.and(match reader.bytes.len() - reader.at {
        0 => Ok(()),
        count => Err(ContainerError::TrailingBytes { count, offset: reader.at }),
    })
}

fn read_section<'a>(reader: &mut Reader<'a>, index: usize) -> Result<Section<'a>, ContainerError> {
    let from = reader.at;
    let kind = SectionKind(reader.byte("section kind")?);
    let len = reader.varint("section length")?;
    check_limit("section length", len, MAX_SECTION_LEN)?;
    let head = reader.bytes.get(from..reader.at).unwrap_or_default();
    let stored = reader.u32("section checksum")?;
    let bytes = reader.take(len as usize, "section")?;
    let got = section_checksum(head, bytes);
    if got == stored { Ok(Section { kind, bytes }) } else { Err(ContainerError::SectionChecksum { index, stored, got }) }
}

fn header_checksum(bytes: &[u8]) -> u16 {
    crc32fast::hash(bytes) as u16
}

fn section_checksum(head: &[u8], contents: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(contents);
    hasher.finalize()
}

fn check_limit(what: &'static str, got: u64, limit: u64) -> Result<(), ContainerError> {
    if got <= limit { Ok(()) } else { Err(ContainerError::Limit { what, got, limit }) }
}

fn check_positive(what: &'static str, got: u64) -> Result<(), ContainerError> {
    if got > 0 { Ok(()) } else { Err(ContainerError::Zero { what }) }
}

/// A side as `u32`; one that does not fit is above the limit of sides anyway.
fn narrow(what: &'static str, got: u64) -> Result<u32, ContainerError> {
    u32::try_from(got).map_err(|_| ContainerError::Limit { what, got, limit: MAX_SIDE.into() })
}

/// Length of the shortest form of a varint, in bytes.
const fn varint_len(value: u64) -> usize {
    let mut len = 1;
    while value >> (7 * len) != 0 {
        len += 1;
    }
    len
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A position in a file.
struct Reader<'a> {
    bytes: &'a [u8],
    /// Never beyond the end of `bytes`.
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next `len` bytes, or as many as are left, without going past them.
    fn rest(&self, len: usize) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], ContainerError> {
        let need = self.at.saturating_add(len);
        let taken = self.bytes.get(self.at..need).ok_or(ContainerError::Truncated { what, have: self.bytes.len(), need })?;
        self.at = need;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ContainerError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, ContainerError> {
        self.array(what).map(|[byte]| byte)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ContainerError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// LEB128: seven bits per byte, low bits first, the high bit says that more follow.
    fn varint(&mut self, what: &'static str) -> Result<u64, ContainerError> {
        let offset = self.at;
        let mut value = 0;
        for index in 0..MAX_VARINT_LEN {
            let byte = self.byte(what)?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            match byte {
                0 if index > 0 => return Err(ContainerError::NonCanonicalVarint { what, offset }),
                0..0x80 => return Ok(value),
                _ => {}
            }
        }
        Err(ContainerError::VarintTooLong { what, offset })
    }
}

/// CRC-32 of symbols as little-endian `i16`, in coding order (SPEC 6.4).
///
/// ```
/// use mlic_core::container::SymbolChecksum;
/// let mut checksum = SymbolChecksum::new();
/// checksum.update(&[1, -1]);
/// checksum.update(&[0x0201]);
/// assert_eq!(checksum.finish(), crc32fast::hash(&[1, 0, 0xff, 0xff, 1, 2]));
/// ```
#[derive(Debug, Clone, Default)]
pub struct SymbolChecksum(crc32fast::Hasher);

impl SymbolChecksum {
    /// The checksum of no symbols.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends symbols within ±[`MAX_SYMBOL`](crate::limits::MAX_SYMBOL). How they are split over calls does not matter.
    pub fn update(&mut self, symbols: &[i32]) {
        let mut bytes = [[0; 2]; 128];
        for chunk in symbols.chunks(bytes.len()) {
            for (to, &symbol) in bytes.iter_mut().zip(chunk) {
                *to = (symbol as i16).to_le_bytes();
            }
            self.0.update(bytes.get(..chunk.len()).unwrap_or_default().as_flattened());
        }
    }

    /// The checksum of all symbols so far.
    #[must_use]
    pub fn finish(&self) -> u32 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    const HEADER: Header = Header {
        model_id: ModelId([0x01, 0x23, 0x45, 0x67, 0x89, 0xab]),
        width: 768,
        height: 5,
        quality: 37,
        gray: true,
        lanes_log2: 3,
        symbol_checksum: 0x1234_5678,
    };

    fn sample() -> Vec<u8> {
        let sections = [
            Section { kind: SectionKind::ICC, bytes: b"profile" },
            Section { kind: SectionKind(200), bytes: b"" },
            Section { kind: SectionKind::XMP, bytes: &[7; 200] },
        ];
        write(&HEADER, b"payload", &sections).unwrap()
    }

    /// The header of [`sample`], but without payload and sections, changed by `edit`, with its checksum made right again.
    fn with_header(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut header = write(&HEADER, &[], &[]).unwrap();
        header.truncate(header.len() - 2);
        edit(&mut header);
        let checksum = header_checksum(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        header
    }

    fn code_of(bytes: &[u8]) -> &'static str {
        match parse(bytes) {
            Ok(stream) => stream.damage.map_or("none", |damage| damage.code()),
            Err(error) => error.code(),
        }
    }

    #[test]
    fn bytes_are_as_in_the_table() {
        let bytes = write(&HEADER, b"payload", &[]).unwrap();
        let (head, tail) = bytes.split_at(14);
        assert_eq!(head, [0xD1, b'M', b'L', 1, 0x13, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x80, 0x06, 5]);
        assert_eq!(tail[..5], [37, 0x78, 0x56, 0x34, 0x12]);
        assert_eq!(tail[5..9], crc32fast::hash(b"payload").to_le_bytes());
        assert_eq!(tail[9], 7);
        assert_eq!(tail[10..12], (crc32fast::hash(&bytes[..24]) as u16).to_le_bytes());
        assert_eq!(&tail[12..], b"payload");
    }

    #[test]
    fn streams_return() {
        let bytes = sample();
        let stream = parse(&bytes).unwrap();
        assert_eq!((stream.header, stream.header_len, stream.payload), (HEADER, 26, b"payload".as_slice()));
        assert_eq!(header_len(&HEADER, 7), 26);
        assert_eq!((stream.payload_len, stream.damage, stream.sections.len()), (7, None, 3));
        assert_eq!(stream.sections[1], Section { kind: SectionKind(200), bytes: b"" });
        assert_eq!(write(&stream.header, stream.payload, &stream.sections).unwrap(), bytes);
    }

    #[test]
    fn every_prefix_is_truncated_and_keeps_what_is_there() {
        let bytes = sample();
        for len in 0..bytes.len() {
            match parse(&bytes[..len]) {
                Err(ContainerError::Truncated { have, need, .. }) => assert!(len < 26 && have == len && need > len),
                Ok(stream) => {
                    assert!(len >= 26);
                    assert_eq!(stream.payload, &b"payload"[..7.min(len - 26)]);
                    let damage = stream.damage.unwrap();
                    assert!(
                        matches!(damage, ContainerError::Truncated { have, need, .. } if have == len && need > len),
                        "{damage}"
                    );
                }
                Err(error) => panic!("{len}: {error}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = sample();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(code_of(&flipped), "none", "bit {bit}");
        }
    }

    #[test]
    fn damage_after_the_header_is_named() {
        let bytes = sample();
        let flipped = |at: usize| {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            flipped
        };
        assert_eq!(code_of(&flipped(26)), "payload-checksum");
        assert_eq!(parse(&flipped(26)).unwrap().sections.len(), 3);
        assert_eq!(code_of(&flipped(34)), "section-checksum");
        assert_eq!(parse(&flipped(bytes.len() - 1)).unwrap().sections.len(), 2);
        assert_eq!(code_of(&[bytes.as_slice(), &[0]].concat()), "trailing-bytes");
        let mut none = bytes[..34].to_vec();
        none[33] = 0;
        assert_eq!(code_of(&none), "zero");
        none[33] = 17;
        assert_eq!(code_of(&none), "limit");
        let long_section = [&bytes[..33], &[1, 1, 0x81, 0x80, 0x80, 0x08]].concat();
        assert_eq!(code_of(&long_section), "limit");
    }

    #[test]
    fn sections_are_read_past_one_that_is_damaged() {
        let bytes = sample();
        let tail = |bytes: &[u8]| {
            let stream = parse(bytes).unwrap();
            (stream.tail_damage().map(|damage| damage.code()), stream.sections.iter().map(|s| s.kind.0).collect::<Vec<_>>())
        };
        let flipped = |at: &[usize]| {
            let mut flipped = bytes.clone();
            at.iter().for_each(|at| flipped[*at] ^= 1);
            flipped
        };
        assert_eq!(tail(&bytes), (None, vec![1, 200, 3]));
        // The profile begins at byte 40; the packet is the last 200 bytes.
        assert_eq!(tail(&flipped(&[40])), (Some("section-checksum"), vec![200, 3]));
        assert_eq!(tail(&flipped(&[40, bytes.len() - 1])), (Some("section-checksum"), vec![200]));
        assert_eq!(tail(&flipped(&[40])[..bytes.len() - 1]), (Some("section-checksum"), vec![200]));
        assert_eq!(tail(&bytes[..bytes.len() - 1]), (Some("truncated"), vec![1, 200]));
        assert_eq!(tail(&[bytes.as_slice(), &[0]].concat()), (Some("trailing-bytes"), vec![1, 200, 3]));
        // Damage of the payload is no damage of the tail.
        assert_eq!(tail(&flipped(&[26, 40])), (None, vec![200, 3]));
        assert_eq!(tail(&bytes[..30]), (None, vec![]));
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        assert_eq!(
            (code_of(&[]), code_of(b"\xD1M"), code_of(b"\xD1N"), code_of(b"PNG")),
            ("truncated", "truncated", "not-a-stream", "not-a-stream")
        );
        assert_eq!(code_of(&[0xD1, b'M', b'L', 2]), "unsupported-version");
        let mut damaged = sample();
        damaged[20] ^= 0x40;
        assert_eq!(code_of(&damaged), "header-checksum");
    }

    #[test]
    fn what_the_header_may_not_say_is_refused() {
        assert_eq!(code_of(&with_header(|_| {})), "none");
        for bit in [3, 6, 7] {
            assert_eq!(parse(&with_header(|header| header[4] |= 1 << bit)), Err(ContainerError::ReservedBits { got: 1 << bit }));
        }
        assert_eq!(code_of(&with_header(|header| header[4] |= 7)), "limit");
        let with_width = |varint: &[u8]| code_of(&with_header(|header| drop(header.splice(11..13, varint.iter().copied()))));
        assert_eq!(with_width(&[0xff, 0xff, 0x03]), "none");
        assert_eq!(with_width(&[0x80, 0x80, 0x04]), "limit");
        assert_eq!(with_width(&[0xff, 0xff, 0xff, 0xff, 0x7f]), "limit");
        assert_eq!(with_width(&[0]), "zero");
        assert_eq!(with_width(&[0x80, 0]), "non-canonical-varint");
        assert_eq!(with_width(&[0x80, 0x86, 0]), "non-canonical-varint");
        assert_eq!(with_width(&[0xff; 5]), "varint-too-long");
        assert_eq!(code_of(&with_header(|header| drop(header.splice(13..14, [0xff, 0xff, 0x03])))), "none");
        let payload_len = |varint: &[u8]| code_of(&with_header(|header| drop(header.splice(23..24, varint.iter().copied()))));
        assert_eq!(payload_len(&[0xff, 0xff, 0xff, 0x7f]), "truncated");
        assert_eq!(payload_len(&[0x80, 0x80, 0x80, 0x80, 0x01]), "limit");
    }

    #[test]
    fn pixels_are_limited_before_anything_is_used() {
        let big = Header { width: 16_384, height: 16_385, ..HEADER };
        let error = ContainerError::Limit { what: "pixel count", got: 16_384 * 16_385, limit: MAX_PIXELS };
        assert_eq!(write(&big, &[], &[]), Err(error));
        assert_eq!(parse(&with_header(|header| drop(header.splice(11..14, [0x80, 0x80, 0x01, 0x81, 0x80, 0x01])))), Err(error));
    }

    #[test]
    fn the_writer_refuses_what_the_parser_would() {
        let code = |header: Header| write(&header, &[], &[]).unwrap_err().code();
        assert_eq!(code(Header { width: 0, ..HEADER }), "zero");
        assert_eq!(code(Header { height: 65_536, ..HEADER }), "limit");
        assert_eq!(code(Header { lanes_log2: 7, ..HEADER }), "limit");
        let section = Section { kind: SectionKind::ICC, bytes: &[] };
        assert!(write(&HEADER, &[], &[section; 16]).is_ok());
        assert_eq!(write(&HEADER, &[], &[section; 17]).unwrap_err().code(), "limit");
        let long = vec![0; 1 + MAX_SECTION_LEN as usize];
        assert_eq!(write(&HEADER, &[], &[Section { bytes: &long, ..section }]).unwrap_err().code(), "limit");
    }

    #[test]
    fn the_longest_header_has_32_bytes_and_sees_every_flipped_bit() {
        // both sides take 3 bytes, the payload length 4; the payload itself is not there
        let header = Header { width: 1 << 14, height: 1 << 14, lanes_log2: 6, ..HEADER };
        let mut bytes = write(&header, &[], &[]).unwrap();
        bytes.truncate(bytes.len() - 3);
        write_varint(&mut bytes, MAX_PAYLOAD_LEN);
        bytes.extend_from_slice(&header_checksum(&bytes.clone()).to_le_bytes());
        assert_eq!(bytes.len(), MAX_HEADER_LEN);
        assert_eq!(parse(&bytes).unwrap().payload_len as u64, MAX_PAYLOAD_LEN);
        // the checksum is linear: which flips it misses depends on the length and position alone
        for len in 1..MAX_HEADER_LEN {
            for bit in 0..8 * len {
                let mut flipped = vec![0; len];
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(header_checksum(&flipped), header_checksum(&vec![0; len]));
            }
        }
    }

    #[test]
    fn model_ids_return_as_text() {
        assert_eq!(HEADER.model_id.to_string(), "0123456789ab");
        assert_eq!("0123456789AB".parse(), Ok(HEADER.model_id));
        for text in ["", "0123456789a", "0123456789abc", "0123456789abcd", "0123456789ag", "+123456789ab", "0123456789é"] {
            assert_eq!(text.parse::<ModelId>(), Err(ModelIdError), "{text}");
        }
    }

    #[test]
    fn varints_are_as_long_as_announced() {
        for value in [0, 1, 127, 128, 16_383, 16_384, (1 << 28) - 1, 1 << 28, (1 << 35) - 1] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value));
            assert_eq!(Reader { bytes: &bytes, at: 0 }.varint("value"), Ok(value));
        }
    }

    #[test]
    fn symbol_checksums_do_not_depend_on_the_split() {
        let symbols: Vec<i32> = (-500..500).collect();
        let mut whole = SymbolChecksum::new();
        whole.update(&symbols);
        let mut parts = SymbolChecksum::new();
        for chunk in symbols.chunks(7) {
            parts.update(chunk);
        }
        assert_eq!(whole.finish(), parts.finish());
        assert_eq!(SymbolChecksum::new().finish(), 0);
    }
}
