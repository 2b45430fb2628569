//! The container of a model package: header, directory, aligned sections (SPEC 2.1).
//!
//! ```text
//! 0   magic "MLICPKG\0"            8
//! 8   format version u32           4
//! 12  section count u32            4
//! 16  length of the file u64       8
//! 24  SHA-256 of the normative     32    over kind u32, length u64 and bytes of sections 1 to 4 and 8, in that order
//! 56  directory checksum u32       4     crc32 over the directory entries
//! 60  header checksum u32          4     crc32 over bytes 0 to 59
//! 64  directory: kind u32, checksum u32, offset u64, length u64, per section
//! ..  sections in the order of the directory, each at the next multiple of 64
//! ```
//! Numbers are little-endian. Gaps are zero.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::threads::beside;
use crate::wire::{Reader, Writer};

/// First bytes of a package.
pub const MAGIC: [u8; 8] = *b"MLICPKG\0";
/// The format that this program reads and writes. The arithmetic of `docs/SPEC.md` is part of it.
pub const FORMAT_VERSION: u32 = 1;
/// Largest size of a package, in bytes.
pub const MAX_PACKAGE_LEN: u64 = 1 << 30;
/// Largest size of the configuration, in bytes: several times the longest one that has a meaning.
pub const MAX_CONFIG_LEN: u64 = 1 << 16;
/// Largest size of the metadata, in bytes.
pub const MAX_METADATA_LEN: u64 = 1 << 20;

const HEADER_LEN: usize = 64;
const ENTRY_LEN: usize = 24;
const ALIGNMENT: usize = 64;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum SectionKind {
    /// [`crate::Config`] as JSON. Normative.
    Config = 1,
    /// [`crate::Parameters`]. Normative.
    Parameters = 2,
    /// Weights of the entropy networks, int8. Normative.
    Weights = 3,
    /// Float synthesis transform. Part of the id, because the picture depends on it. Empty where the integer one in real numbers takes its place.
    Synthesis = 4,
    /// Analysis transform.
    Analysis = 5,
    /// Hyper analysis transform.
    HyperAnalysis = 6,
    /// Name and provenance as JSON.
    Metadata = 7,
    /// [`crate::synthesis::Synthesis`]: may be missing. Normative.
    ExactSynthesis = 8,
}

impl SectionKind {
    /// All kinds in the order of the file.
    pub const ALL: [Self; 8] = [
        Self::Config,
        Self::Parameters,
        Self::Weights,
        Self::Synthesis,
        Self::Analysis,
        Self::HyperAnalysis,
        Self::Metadata,
        Self::ExactSynthesis,
    ];
    /// Number of sections that every package has: the first ones of [`Self::ALL`].
    pub const REQUIRED: usize = 7;

    /// Whether the model id covers this section.
    #[must_use]
    pub const fn is_normative(self) -> bool {
        (self as u32) <= Self::Synthesis as u32 || matches!(self, Self::ExactSynthesis)
    }

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::Parameters => "parameters",
            Self::Weights => "weights",
            Self::Synthesis => "g_s",
            Self::Analysis => "g_a",
            Self::HyperAnalysis => "h_a",
            Self::Metadata => "metadata",
            Self::ExactSynthesis => "exact g_s",
        }
    }
}

/// SHA-256 over the normative sections; its first six bytes are the model id of streams.
pub type NormativeHash = [u8; 32];

/// The hash that identifies a model.
pub fn normative_hash<'a>(sections: impl IntoIterator<Item = (SectionKind, &'a [u8])>) -> NormativeHash {
    let mut hash = Sha256::new();
    for (kind, bytes) in sections.into_iter().filter(|(kind, _)| kind.is_normative()) {
        hash.update((kind as u32).to_le_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// The bytes of a package made of these sections: at most one of each kind, in the order of [`SectionKind::ALL`].
#[must_use]
pub fn write(sections: &[(SectionKind, Vec<u8>)]) -> Vec<u8> {
    let mut directory = Writer::default();
    let mut body = Vec::new();
    let start = (HEADER_LEN + ENTRY_LEN * sections.len()).next_multiple_of(ALIGNMENT);
    for (kind, bytes) in sections {
        body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
        directory.u32s([*kind as u32, crc32fast::hash(bytes)]);
        directory.i64s([(start + body.len()) as i64, bytes.len() as i64]);
        body.extend_from_slice(bytes);
    }
    let mut file = Writer(MAGIC.to_vec());
    file.u32s([FORMAT_VERSION, sections.len() as u32]);
    file.i64s([(start + body.len()) as i64]);
    file.u8s(normative_hash(sections.iter().map(|(kind, bytes)| (*kind, bytes.as_slice()))));
    file.u32s([crc32fast::hash(&directory.0)]);
    let checksum = crc32fast::hash(&file.0);
    file.u32s([checksum]);
    let mut file = file.0;
    file.append(&mut directory.0);
    file.resize(start, 0);
    file.append(&mut body);
    file
}

/// A package whose header, directory, checksums and hash have been verified.
#[derive(Debug)]
pub struct Parsed {
    /// SHA-256 of the normative sections.
    pub hash: NormativeHash,
    sections: Vec<Range<usize>>,
}

impl Parsed {
    /// Whether the package has this section.
    #[must_use]
    pub fn has(&self, kind: SectionKind) -> bool {
        self.sections.len() >= kind as usize
    }

    /// The sections of the package, in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = (SectionKind, Range<usize>)> + '_ {
        SectionKind::ALL.into_iter().zip(self.sections.iter().cloned())
    }

    /// Where a section lies in the file; an empty range if the package does not have it.
    #[must_use]
    pub fn range(&self, kind: SectionKind) -> Range<usize> {
        self.sections.get(kind as usize - 1).cloned().unwrap_or_default()
    }
}

fn checksum(part: &'static str, got: u32, declared: u32) -> Result<(), ModelError> {
    if got == declared { Ok(()) } else { Err(ModelError::Checksum { part, got, declared }) }
}

/// A package whose hash is still to be verified.
#[derive(Debug)]
pub(crate) struct Unhashed {
    declared: NormativeHash,
    sections: Vec<Range<usize>>,
}

impl Unhashed {
    /// Verifies the hash.
    pub(crate) fn verify(&self, file: &[u8]) -> Result<Parsed, ModelError> {
        let sections = self.sections.iter().filter_map(|at| file.get(at.clone()));
        self.declares(normative_hash(SectionKind::ALL.into_iter().zip(sections)))
    }

    /// Returns the package as verified if `hash` is the one that it declares.
    pub(crate) fn declares(&self, hash: NormativeHash) -> Result<Parsed, ModelError> {
        if hash != self.declared {
            return Err(ModelError::IdMismatch { got: hex(&hash), declared: hex(&self.declared) });
        }
        Ok(Parsed { hash, sections: self.sections.clone() })
    }

    /// The bytes of a section of `file`; `None` if the package does not have it.
    pub(crate) fn section<'f>(&self, file: &'f [u8], kind: SectionKind) -> Option<&'f [u8]> {
        file.get(self.sections.get(kind as usize - 1)?.clone())
    }
}

/// Verifies everything about a package but the meaning of its sections.
///
/// # Errors
/// Each kind of damage has its own [`ModelError`].
pub fn parse(file: &[u8]) -> Result<Parsed, ModelError> {
    unhashed(file)?.verify(file)
}

/// Verifies header, directory and checksums.
pub(crate) fn unhashed(file: &[u8]) -> Result<Unhashed, ModelError> {
    let (header, _) = file.split_at_checked(HEADER_LEN).unwrap_or((file, &[]));
    if !header.starts_with(&MAGIC) {
        return Err(ModelError::NotAPackage { got: header.iter().take(MAGIC.len()).copied().collect() });
    }
    let mut r = Reader::new("header", header);
    r.take(MAGIC.len())?;
    let version = r.u32()?;
    if version != FORMAT_VERSION {
        return Err(ModelError::UnsupportedVersion { got: version, supported: FORMAT_VERSION });
    }
    let count = r.u32()? as usize;
    let declared_len = r.i64()? as u64;
    let declared_hash = r.take(32)?;
    let directory_checksum = r.u32()?;
    let header_checksum = r.u32()?;
    checksum("header", crc32fast::hash(header.get(..HEADER_LEN - 4).unwrap_or_default()), header_checksum)?;
    let have = file.len() as u64;
    if declared_len > MAX_PACKAGE_LEN {
        return Err(ModelError::Oversized { part: "file", have: declared_len, need: MAX_PACKAGE_LEN });
    }
    if have > declared_len {
        return Err(ModelError::Oversized { part: "file", have, need: declared_len });
    }
    if have < declared_len {
        return Err(ModelError::Truncated { part: "file", have, need: declared_len });
    }
    if !(SectionKind::REQUIRED..=SectionKind::ALL.len()).contains(&count) {
        return Err(ModelError::Section { kind: count as u32, problem: "the directory must list each of 7 or 8 sections once" });
    }
    let sections = directory(file, count, directory_checksum)?;
    let mut declared = [0; 32];
    declared.iter_mut().zip(declared_hash).for_each(|(to, from)| *to = *from);
    Ok(Unhashed { declared, sections })
}

/// Reads the directory and verifies each section's place and checksum.
fn directory(file: &[u8], count: usize, declared: u32) -> Result<Vec<Range<usize>>, ModelError> {
    let len = ENTRY_LEN * count;
    let bytes = file.get(HEADER_LEN..HEADER_LEN + len).ok_or(ModelError::Truncated {
        part: "directory",
        have: file.len() as u64,
        need: (HEADER_LEN + len) as u64,
    })?;
    checksum("directory", crc32fast::hash(bytes), declared)?;
    let mut r = Reader::new("directory", bytes);
    let mut entries = Vec::with_capacity(count);
    let mut end = HEADER_LEN + len;
    let placed = SectionKind::ALL.into_iter().take(count).try_for_each(|kind| {
        let (range, sum) = entry(&mut r, file, kind, end)?;
        end = range.end;
        entries.push((kind, range, sum));
        Ok::<_, ModelError>(())
    });
    // A wrong checksum of a section is reported before a wrong place of the next one.
    checksums(file, &entries)?;
    placed?;
    if end != file.len() {
        return Err(ModelError::Oversized { part: "file", have: file.len() as u64, need: end as u64 });
    }
    Ok(entries.into_iter().map(|(_, range, _)| range).collect())
}

/// Reads place and checksum of a section, which begins after `end`.
fn entry(r: &mut Reader<'_>, file: &[u8], kind: SectionKind, end: usize) -> Result<(Range<usize>, u32), ModelError> {
    let (got, sum) = (r.u32()?, r.u32()?);
    let (offset, length) = (r.i64()? as u64, r.i64()? as u64);
    let problem = |problem| ModelError::Section { kind: got, problem };
    if got != kind as u32 {
        return Err(problem("missing, doubled, unknown or out of order"));
    }
    if offset != end.next_multiple_of(ALIGNMENT) as u64 {
        return Err(problem("does not begin at the next multiple of 64 after the one before"));
    }
    let stop =
        offset.checked_add(length).filter(|stop| *stop <= file.len() as u64).ok_or_else(|| problem("ends after the file"))?;
    let range = offset as usize..stop as usize;
    if file.get(end..range.start).is_none_or(|gap| gap.iter().any(|b| *b != 0)) {
        return Err(problem("gap before it is not zero"));
    }
    Ok((range, sum))
}

/// Verifies the checksums of these sections; reports the first that is wrong.
fn checksums(file: &[u8], entries: &[(SectionKind, Range<usize>, u32)]) -> Result<(), ModelError> {
    let check = |entries: &[(SectionKind, Range<usize>, u32)]| {
        entries.iter().try_for_each(|(kind, range, sum)| {
            checksum(kind.name(), crc32fast::hash(file.get(range.clone()).unwrap_or_default()), *sum)
        })
    };
    // The weights of the entropy networks are the third section, and about half of a package.
    let (first, rest) = entries.split_at(entries.len().min(3));
    let (first, rest) = beside(|| check(first), || check(rest));
    first.and(rest)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
