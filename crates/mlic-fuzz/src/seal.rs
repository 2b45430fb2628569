//! Makes checksums right again after contents were changed, so that the code behind the checks is reached.

use mlic_core::container::{self, ModelId, Section, SectionKind};
use mlic_model::package;

/// Offset of the model id in a stream.
const ID_AT: usize = 5;

/// The stream with the right magic, version, header checksum and payload checksum, and with the right checksums of sections as far as
/// sections are found. `None` if there is no whole header.
#[must_use]
pub fn stream(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    bytes.get_mut(..4)?.copy_from_slice(&[0xd1, b'M', b'L', container::VERSION]);
    let sides = varint_end(&bytes, varint_end(&bytes, ID_AT + ModelId::LEN)?)?;
    let payload_checksum_at = sides + 1 + 4;
    let length_at = payload_checksum_at + 4;
    let end = varint_end(&bytes, length_at)?;
    let length = bytes.get(length_at..end)?.iter().rev().fold(0_usize, |v, b| v << 7 | usize::from(b & 0x7f));
    let payload = bytes.get(end + 2..)?;
    let payload = payload.get(..length).unwrap_or(payload);
    let checksum = crc32fast::hash(payload);
    put(&mut bytes, payload_checksum_at, checksum);
    header(&mut bytes, end);
    sections(&mut bytes, end + 2 + length);
    Some(bytes)
}

/// Writes the checksum of a header that ends at `end`.
fn header(bytes: &mut [u8], end: usize) {
    let checksum = crc32fast::hash(&bytes[..end]) as u16;
    bytes[end..end + 2].copy_from_slice(&checksum.to_le_bytes());
}

/// The stream with another symbol checksum, sealed by [`stream`].
#[must_use]
pub fn with_symbol_checksum(bytes: &[u8], checksum: u32) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let sides = varint_end(&bytes, varint_end(&bytes, ID_AT + ModelId::LEN)?)?;
    put(&mut bytes, sides + 1, checksum);
    stream(&bytes)
}

/// The stream with another model id, sealed by [`stream`].
#[must_use]
pub fn with_model(bytes: &[u8], id: ModelId) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    bytes.get_mut(ID_AT..ID_AT + ModelId::LEN)?.copy_from_slice(&id.0);
    stream(&bytes)
}

/// The stream with `metadata` as its only section, an ICC profile. `None` if the stream does not parse or cannot be written.
#[must_use]
pub fn rewritten(bytes: &[u8], metadata: &[u8]) -> Option<Vec<u8>> {
    let stream = container::parse(bytes).ok()?;
    container::write(&stream.header, stream.payload, &[Section { kind: SectionKind::ICC, bytes: metadata }]).ok()
}

/// Writes the checksums of the sections that begin after the count at `at`, as far as they are whole.
fn sections(bytes: &mut [u8], at: usize) {
    let mut at = at + 1;
    while let Some(end) = varint_end(bytes, at + 1) {
        let head = bytes[at..end].to_vec();
        let length = head[1..].iter().rev().fold(0_usize, |v, b| v << 7 | usize::from(b & 0x7f));
        let Some(contents) = bytes.get(end + 4..).and_then(|rest| rest.get(..length)) else { break };
        let checksum = crc32fast::hash(&[head.as_slice(), contents].concat());
        put(bytes, end, checksum);
        at = end + 4 + length;
    }
}

/// Where a varint at `at` ends; `None` if it has more than four bytes or is cut off.
fn varint_end(bytes: &[u8], at: usize) -> Option<usize> {
    let len = 1 + bytes.get(at..)?.iter().take(4).position(|b| b & 0x80 == 0)?;
    Some(at + len)
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..4)) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// The contents of the sections of a sound package.
///
/// # Panics
/// When the package is not sound.
#[must_use]
pub fn package_sections(bytes: &[u8]) -> Vec<(package::SectionKind, Vec<u8>)> {
    let parsed = package::parse(bytes).expect("a sound package");
    parsed.sections().map(|(kind, range)| (kind, bytes[range].to_vec())).collect()
}
