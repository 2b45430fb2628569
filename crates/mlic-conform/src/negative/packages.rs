//! Model packages that must be refused: every rule of SPEC 2 and every obligation of 4.9 that a package can break.
//!
//! SPEC does not name the errors of a package; the codes are those of `mlic::ModelError::code()`: `not-a-package`,
//! `unsupported-version`, `truncated` and `oversized` (lengths), `checksum`, `id-mismatch`, `section` (directory), `json` (form of
//! a text), `config` (2.2), `parameter` (a value out of its own range, 2.5 to 2.9), `overflow` (4.9), `graph` (5.6).

use std::ops::Range;

use mlic_model::model::Parts;
use mlic_model::package::{self, SectionKind};
use mlic_model::parameters::{Requant, StoredCdf};
use mlic_model::{Config, Model};

use super::exact::Section;
use super::transforms::Transform;
use crate::damage::flip;
use crate::error::ConformError;
use crate::packages::Probe;
use crate::store::Store;

/// A package that must be refused, or accepted.
#[derive(Debug, Clone, Copy)]
pub struct PackageCase {
    /// Name.
    pub name: &'static str,
    /// Code of the error that must come of it; none if it must be accepted.
    pub code: Option<&'static str>,
    /// What is wrong.
    pub why: &'static str,
    /// Whether only sections 5 to 7 are wrong, which a decoder need not read (SPEC 2.1).
    pub(super) unread: bool,
    pub(super) make: Make,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Make {
    /// The bytes of a sound package, changed.
    Bytes(fn(&Sound) -> Vec<u8>),
    /// The text of the configuration, changed; all checksums are right.
    Text(&'static str, &'static str),
    /// A section, changed; all checksums are right.
    Section(SectionKind, fn(&mut Vec<u8>)),
    /// The values of a package, changed; all checksums are right.
    Values(Shape, fn(&mut Parts)),
    /// An exact synthesis, changed; all checksums are right.
    Exact(fn(&mut Section)),
    /// A transform g_s, changed; all checksums are right.
    Transform(fn(&mut Transform)),
    /// An integer g_a and an integer h_a, changed; all checksums are right.
    Analyses(fn(&mut [Section; 2])),
    /// Metadata; all checksums are right.
    Metadata(fn() -> Vec<u8>),
    /// A configuration, changed, with everything else matching it; all checksums are right.
    Config(fn(&mut Config)),
}

/// The package whose values are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A small package of two latent slices.
    Small,
    /// A small package with gains, two levels of activation scales, and two heads of two channels.
    Gains,
    /// A package of one latent slice.
    Least,
    /// A package of one latent slice of 20 channels, with 600 hidden channels.
    Wide,
}

impl PartialEq for PackageCase {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The sound packages that the cases are made from.
pub struct Sound {
    bytes: Vec<u8>,
    /// The small package with an exact synthesis.
    exact: Vec<u8>,
    sections: Vec<(SectionKind, Vec<u8>)>,
    /// Sections of the package with one latent slice.
    least_sections: Vec<(SectionKind, Vec<u8>)>,
    store: Store,
    small: Parts,
    least: Parts,
    gains: Parts,
    wide: Parts,
    gains_sections: Vec<(SectionKind, Vec<u8>)>,
}

const HEADER: usize = 64;
const ENTRY: usize = 24;
const ALIGNMENT: usize = 64;
/// Offset of the stride of a transform's first convolution, which is its second node (SPEC 5.6).
const STRIDE_AT: usize = 38;

impl Sound {
    /// Makes the packages.
    ///
    /// # Errors
    /// Any error of [`Probe::parts`].
    pub fn new(store: &Store) -> Result<Self, ConformError> {
        let fixed = Probe::Fixed.config();
        let small = Config { latent: 2, window: 3, ep_hidden: vec![2], lrp_hidden: vec![vec![1], vec![1]], ..fixed.clone() };
        let small = Config { cc_hidden: vec![2], hs_hidden: [2, 2], ..small };
        let small = Probe::Fixed.parts_with(store, small)?;
        let bytes = small.to_package()?;
        let sections = sections_of(&bytes)?;
        let least = Probe::Fixed.parts_with(store, least())?;
        let least_sections = sections_of(&least.to_package()?)?;
        let exact = with_exact(&sections, Section::sound().bytes());
        // The package that the cases change must itself be sound.
        Model::from_bytes(exact.clone())?;
        let wide = Config { latent: 20, slices: 1, window: 3, ep_hidden: vec![600], lrp_hidden: vec![vec![2]], ..fixed };
        let wide = Probe::Fixed.parts_with(store, wide)?;
        let (gain_levels, scale_levels, quality_steps) = (2, 2, 200);
        let gains = Config { latent: 8, heads: 2, gain_levels, scale_levels, quality_steps, ..small.config.clone() };
        let gains = Probe::Fixed.parts_with(store, gains)?;
        let gains_sections = sections_of(&gains.to_package()?)?;
        Ok(Self { sections, least_sections, gains_sections, store: store.clone(), small, least, gains, wide, bytes, exact })
    }

    fn cut(&self, len: usize) -> Vec<u8> {
        self.bytes.get(..len).unwrap_or(&self.bytes).to_vec()
    }

    /// The small package with its bytes changed, and correct checksums of directory and header.
    fn sealed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        sealed(self.bytes.clone(), change)
    }

    /// The same for the package with an exact synthesis.
    fn sealed_exact(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        sealed(self.exact.clone(), change)
    }

    /// The same, with the hash of the package without the exact synthesis.
    fn sealed_exact_unhashed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        self.sealed_exact(|file| {
            file[24..56].copy_from_slice(&self.bytes[24..56]);
            change(file);
        })
    }

    /// Changes a number in an entry of the directory, by offset: 0 kind, 4 checksum, 8 offset, 16 length; checksums are right.
    fn entry(&self, index: usize, field: usize, change: impl FnOnce(u32) -> u32) -> Vec<u8> {
        let at = HEADER + ENTRY * index + field;
        self.sealed(|file| {
            let old = u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
            file[at..at + 4].copy_from_slice(&change(old).to_le_bytes());
        })
    }

    /// Returns the offset of a section.
    fn start(&self, kind: SectionKind) -> usize {
        start(&self.bytes, kind)
    }

    fn with_section(&self, kind: SectionKind, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut sections = self.sections.clone();
        if let Some((_, bytes)) = sections.iter_mut().find(|(k, _)| *k == kind) {
            change(bytes);
        }
        package::write(&sections)
    }

    /// The small package with an exact synthesis, and with these contents of section 4.
    fn with_synthesis(&self, synthesis: &[u8]) -> Vec<u8> {
        with_exact(&replaced(&self.sections, [(SectionKind::Synthesis, synthesis.to_vec())]), Section::sound().bytes())
    }

    /// The package of one latent slice, with other contents of one section.
    pub(super) fn least(&self, kind: SectionKind, contents: impl Into<Vec<u8>>) -> Vec<u8> {
        package::write(&replaced(&self.least_sections, [(kind, contents.into())]))
    }

    /// Returns the text of the configuration of the package of one latent slice.
    pub(super) fn least_config(&self) -> String {
        config_of(&self.least_sections)
    }

    /// A package with another configuration, and with everything else matching it.
    fn of(&self, change: fn(&mut Config)) -> Result<Vec<u8>, ConformError> {
        let mut config = least();
        change(&mut config);
        Ok(Probe::Fixed.parts_with(&self.store, config)?.to_package()?)
    }

    fn text(&self, from: &str, to: &str) -> Vec<u8> {
        with_text(&self.sections, from, to)
    }
}

/// The configuration of a package of one latent slice.
fn least() -> Config {
    let (latent, hyper, slices, window) = (2, 1, 1, 3);
    let (ep_hidden, lrp_hidden, cc_hidden, hs_hidden) = (vec![1], vec![vec![1]], vec![1], [1, 1]);
    Config { latent, hyper, slices, window, ep_hidden, lrp_hidden, cc_hidden, hs_hidden, ..Probe::Fixed.config() }
}

fn sections_of(bytes: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, ConformError> {
    let parsed = package::parse(bytes)?;
    Ok(parsed.sections().map(|(kind, at)| (kind, bytes.get(at).unwrap_or_default().to_vec())).collect())
}

/// Returns the text of the configuration.
fn config_of(sections: &[(SectionKind, Vec<u8>)]) -> String {
    sections.first().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// The package with the text of its configuration changed.
fn with_text(sections: &[(SectionKind, Vec<u8>)], from: &str, to: &str) -> Vec<u8> {
    let config = config_of(sections).replacen(from, to, 1).into_bytes();
    package::write(&replaced(sections, [(SectionKind::Config, config)]))
}

/// Returns the sections, some of them with other contents.
fn replaced(
    sections: &[(SectionKind, Vec<u8>)],
    others: impl IntoIterator<Item = (SectionKind, Vec<u8>)>,
) -> Vec<(SectionKind, Vec<u8>)> {
    let mut sections = sections.to_vec();
    for (kind, contents) in others {
        if let Some((_, own)) = sections.iter_mut().find(|(own, _)| *own == kind) {
            *own = contents;
        }
    }
    sections
}

/// Changes the bytes of a package, and corrects the checksums of directory and header.
fn sealed(mut file: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut file);
    let count = usize::from(file[12]).clamp(7, 9);
    let directory = crc32fast::hash(&file[HEADER..HEADER + count * ENTRY]);
    file[56..60].copy_from_slice(&directory.to_le_bytes());
    let header = crc32fast::hash(&file[..60]);
    file[60..64].copy_from_slice(&header.to_le_bytes());
    file
}

/// Returns the offset of a section.
fn start(file: &[u8], kind: SectionKind) -> usize {
    let at = HEADER + ENTRY * (kind as usize - 1) + 8;
    usize::from(u16::from_le_bytes([file[at], file[at + 1]]))
}

/// The package with another byte before a section: it must end a gap.
fn before(file: &[u8], kind: SectionKind) -> Vec<u8> {
    flip(file, start(file, kind) - 1, 1)
}

/// The package with its sections 64 bytes later than they should be: checksums of directory and header are left as they are.
fn moved(file: &[u8], count: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    let first = HEADER + count * ENTRY;
    file.splice(first..first, [0; ALIGNMENT]);
    for entry in file[HEADER..first].chunks_exact_mut(ENTRY) {
        let offset = u16::from_le_bytes([entry[8], entry[9]]) + ALIGNMENT as u16;
        entry[8..10].copy_from_slice(&offset.to_le_bytes());
    }
    let len = file.len() as u64;
    file[16..24].copy_from_slice(&len.to_le_bytes());
    file
}

/// The small package with an exact synthesis and, after it, an empty section of kind 9, for which the directory is an entry longer.
fn nine_sections(sound: &Sound) -> Vec<u8> {
    let mut file = moved(&sound.exact, 8);
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    let (end, at) = ((file.len() as u64).to_le_bytes(), HEADER + 8 * ENTRY);
    file[16..24].copy_from_slice(&end);
    file[at..at + 4].copy_from_slice(&9_u32.to_le_bytes());
    file[at + 8..at + 16].copy_from_slice(&end);
    sealed(file, |file| file[12] = 9)
}

fn with_exact(sections: &[(SectionKind, Vec<u8>)], exact: Vec<u8>) -> Vec<u8> {
    package::write(&[sections, &[(SectionKind::ExactSynthesis, exact)]].concat())
}

impl PackageCase {
    /// The same case, but one that must be accepted.
    pub(super) const fn sound(self) -> Self {
        Self { code: None, unread: false, ..self }
    }

    /// The same case, wrong only in what a decoder need not read.
    pub(super) const fn unread(self) -> Self {
        Self { unread: true, ..self }
    }

    /// Whether SPEC lets a decoder accept the package, since it is wrong only in what a decoder need not read.
    #[must_use]
    pub fn may_be_taken(&self) -> bool {
        self.unread
    }

    /// Makes the package.
    ///
    /// # Errors
    /// [`ConformError::Recipe`] when the change changes nothing.
    pub fn make(&self, sound: &Sound) -> Result<Vec<u8>, ConformError> {
        let bytes = match self.make {
            Make::Bytes(make) => make(sound),
            Make::Text(from, to) => sound.text(from, to),
            Make::Section(kind, change) => sound.with_section(kind, change),
            Make::Exact(change) => {
                let mut section = Section::sound();
                change(&mut section);
                with_exact(&sound.sections, section.bytes())
            }
            Make::Transform(change) => {
                let mut transform = Transform::sound();
                change(&mut transform);
                sound.least(SectionKind::Synthesis, transform.bytes())
            }
            Make::Analyses(change) => {
                let mut sections = Section::analyses();
                change(&mut sections);
                let kinds = [SectionKind::Analysis, SectionKind::HyperAnalysis];
                package::write(&replaced(&sound.least_sections, kinds.into_iter().zip(sections.each_ref().map(Section::bytes))))
            }
            Make::Metadata(text) => sound.least(SectionKind::Metadata, text()),
            Make::Config(change) => sound.of(change)?,
            Make::Values(shape, change) => {
                let mut parts = match shape {
                    Shape::Least => sound.least.clone(),
                    Shape::Small => sound.small.clone(),
                    Shape::Gains => sound.gains.clone(),
                    Shape::Wide => sound.wide.clone(),
                };
                change(&mut parts);
                parts.to_package()?
            }
        };
        if self.code.is_some() && (bytes == sound.bytes || bytes == sound.exact) {
            return Err(ConformError::Recipe { vector: self.name.to_owned(), problem: "nothing is changed".into() });
        }
        Ok(bytes)
    }
}

pub(super) type Name = &'static str;

pub(super) const fn bytes(name: Name, code: Name, why: Name, make: fn(&Sound) -> Vec<u8>) -> PackageCase {
    PackageCase { name, code: Some(code), why, unread: false, make: Make::Bytes(make) }
}

pub(super) const fn taken(name: Name, why: Name, make: fn(&Sound) -> Vec<u8>) -> PackageCase {
    PackageCase { name, code: None, why, unread: false, make: Make::Bytes(make) }
}

pub(super) const fn taken_metadata(name: Name, why: Name, text: fn() -> Vec<u8>) -> PackageCase {
    PackageCase { name, code: None, why, unread: false, make: Make::Metadata(text) }
}

const fn config(name: Name, from: Name, to: Name, why: Name) -> PackageCase {
    PackageCase { name, code: Some("config"), why, unread: false, make: Make::Text(from, to) }
}

const fn json(name: Name, from: Name, to: Name, why: Name) -> PackageCase {
    PackageCase { name, code: Some("json"), why, unread: false, make: Make::Text(from, to) }
}

const fn section(name: Name, code: Name, why: Name, kind: SectionKind, change: fn(&mut Vec<u8>)) -> PackageCase {
    PackageCase { name, code: Some(code), why, unread: false, make: Make::Section(kind, change) }
}

pub(super) const fn transform(name: Name, why: Name, change: fn(&mut Transform)) -> PackageCase {
    PackageCase { name, code: Some("graph"), why, unread: false, make: Make::Transform(change) }
}

pub(super) const fn analyses(name: Name, code: Name, why: Name, change: fn(&mut [Section; 2])) -> PackageCase {
    PackageCase { name, code: Some(code), why, unread: true, make: Make::Analyses(change) }
}

pub(super) const fn exact(name: Name, code: Name, why: Name, change: fn(&mut Section)) -> PackageCase {
    PackageCase { name, code: Some(code), why, unread: false, make: Make::Exact(change) }
}

const fn value(name: Name, why: Name, change: fn(&mut Parts)) -> PackageCase {
    PackageCase { name, code: Some("parameter"), why, unread: false, make: Make::Values(Shape::Small, change) }
}

const fn gain(name: Name, why: Name, change: fn(&mut Parts)) -> PackageCase {
    PackageCase { name, code: Some("parameter"), why, unread: false, make: Make::Values(Shape::Gains, change) }
}

pub(super) const fn overflow(name: Name, why: Name, shape: Shape, change: fn(&mut Parts)) -> PackageCase {
    PackageCase { name, code: Some("overflow"), why, unread: false, make: Make::Values(shape, change) }
}

fn cdf(parts: &mut Parts, min_symbol: i32, starts: &[u16]) {
    parts.parameters.y_cdfs[63] = StoredCdf { min_symbol, starts: starts.to_vec() };
}

/// Returns the index of a layer by the end of its name.
pub(super) fn layer(parts: &Parts, name: &str) -> usize {
    let layout = mlic_model::Layout::new(&parts.config);
    layout.layers.iter().position(|spec| spec.name.ends_with(name)).unwrap_or(0)
}

pub(super) fn max(parts: &mut Parts, name: &str, max: i32) {
    let index = layer(parts, name);
    parts.parameters.layers[index].max = max;
}

/// Where the weights of a layer are.
pub(super) fn weights_of(parts: &Parts, name: &str) -> Range<usize> {
    let layout = mlic_model::Layout::new(&parts.config);
    let index = layer(parts, name);
    let start: usize = layout.layers.iter().take(index).map(|spec| spec.weights_len()).sum();
    start..start + layout.layers[index].weights_len()
}

/// Sets all weights of a layer.
fn fill(parts: &mut Parts, name: &str, weight: i8) {
    let range = weights_of(parts, name);
    parts.weights[range].fill(weight);
}

/// Largest magnitude of the logarithm of a gain, in units of 2^-16 (SPEC 2.8).
pub(super) const MAX_GAIN: i32 = 12 << 16;
/// Offset of the byte after a directory of seven sections.
const AFTER_DIRECTORY: usize = HEADER + 7 * ENTRY;

/// Sound packages of the shapes that the others are made from.
pub static TAKEN: &[PackageCase] = &[
    taken("sound", "the smallest package, sound", |s| s.bytes.clone()),
    taken("sound-one-synthesis", "sound, with an exact synthesis and an empty section 4", |s| s.with_synthesis(&[])),
];

/// Packages that must be refused, in the order of SPEC 2.1 to 2.8, 4.9, 5.6.
pub static PACKAGES: &[PackageCase] = &[
    bytes("empty", "not-a-package", "no byte at all", |_| Vec::new()),
    bytes("magic", "not-a-package", "the first byte of the magic", |s| flip(&s.bytes, 0, 1)),
    bytes("magic-end", "not-a-package", "the last byte of the magic is not zero", |s| flip(&s.bytes, 7, 1)),
    bytes("magic-cut", "not-a-package", "seven bytes of the magic", |s| s.cut(7)),
    bytes("magic-sealed", "not-a-package", "the first byte of the magic, with a right header checksum", |s| {
        s.sealed(|file| file[0] ^= 1)
    }),
    bytes("magic-end-sealed", "not-a-package", "the last byte of the magic, with a right header checksum", |s| {
        s.sealed(|file| file[7] ^= 0x20)
    }),
    bytes("version-2-sealed", "unsupported-version", "version 2, with a right header checksum", |s| s.sealed(|file| file[8] = 2)),
    bytes("version-0", "unsupported-version", "version 0", |s| flip(&s.bytes, 8, 1)),
    bytes("version-2", "unsupported-version", "version 2", |s| flip(&s.bytes, 8, 3)),
    bytes("version-0-sealed", "unsupported-version", "version 0, with a right header checksum", |s| s.sealed(|file| file[8] = 0)),
    bytes("header-cut", "truncated", "ends within the header", |s| s.cut(63)),
    bytes("header-bit", "checksum", "one bit of the number of sections", |s| flip(&s.bytes, 12, 1)),
    bytes("header-checksum", "checksum", "one bit of the header's checksum", |s| flip(&s.bytes, 63, 0x80)),
    bytes("length-less", "oversized", "a length that is one too small", |s| s.sealed(|file| file[16] -= 1)),
    bytes("length-more", "truncated", "a length that is one too large", |s| s.sealed(|file| file[16] += 1)),
    bytes("length-huge", "oversized", "a length beyond 2^30", |s| s.sealed(|file| file[19] = 0x41)),
    bytes("length-negative", "oversized", "a length of 2^63 and more", |s| s.sealed(|file| file[23] = 0x80)),
    bytes("cut", "truncated", "the last byte is missing", |s| s.cut(s.bytes.len() - 1)),
    bytes("cut-directory", "truncated", "ends within the directory", |s| s.cut(HEADER + 100)),
    bytes("trailing", "oversized", "a byte more", |s| [&s.bytes[..], &[0]].concat()),
    bytes("trailing-counted", "oversized", "a byte more, which the length of the file includes", |s| {
        sealed([&s.bytes[..], &[0]].concat(), |file| file[16] += 1)
    }),
    bytes("sections-6", "section", "six sections: there are no metadata", |s| {
        package::write(s.sections.split_last().map_or(&[], |(_, others)| others))
    }),
    bytes("sections-8", "section", "eight sections of which the last is of no kind", |s| s.sealed(|file| file[12] = 8)),
    bytes("sections-9", "section", "nine sections, the last of which is of kind 9 and empty", nine_sections),
    bytes("sections-8-kind", "section", "the eighth section is of kind 9, which the hash leaves out", |s| {
        s.sealed_exact_unhashed(|file| file[HEADER + 7 * ENTRY] = 9)
    }),
    bytes("sections-8-doubled", "section", "two sections of kind 7", |s| {
        s.sealed_exact_unhashed(|file| file[HEADER + 7 * ENTRY] = 7)
    }),
    bytes("sections-7-of-8", "oversized", "seven sections are listed, eight are there", |s| {
        s.sealed_exact_unhashed(|file| {
            file[12] = 7;
            file[HEADER + 7 * ENTRY..HEADER + 8 * ENTRY].fill(0);
        })
    }),
    bytes("exact-not-hashed", "id-mismatch", "a hash that leaves out the exact synthesis", |s| s.sealed_exact_unhashed(|_| ())),
    bytes("bit-exact", "checksum", "the last bit of the exact synthesis", |s| flip(&s.exact, s.exact.len() - 1, 0x80)),
    bytes("id", "id-mismatch", "one bit of the hash, with right checksums", |s| s.sealed(|file| file[24] ^= 1)),
    bytes("id-last", "id-mismatch", "the last bit of the hash, with right checksums", |s| s.sealed(|file| file[55] ^= 0x80)),
    bytes("directory-bit", "checksum", "one bit of the directory", |s| flip(&s.bytes, HEADER + 8, 1)),
    bytes("directory-checksum", "checksum", "one bit of the directory's checksum, with a right header", |s| {
        let mut file = flip(&s.bytes, 56, 1);
        let header = crc32fast::hash(&file[..60]);
        file[60..64].copy_from_slice(&header.to_le_bytes());
        file
    }),
    bytes("kind-unknown", "section", "the last section is of kind 9", |s| s.entry(6, 0, |_| 9)),
    bytes("kind-doubled", "section", "the first section calls itself the second", |s| s.entry(0, 0, |_| 2)),
    bytes("kind-swapped", "section", "section 6 comes before section 5", |s| {
        let mut sections = s.sections.clone();
        sections.swap(4, 5);
        package::write(&sections)
    }),
    bytes("section-checksum", "checksum", "one bit of the checksum of section 1, with a right directory", |s| {
        s.entry(0, 4, |c| c ^ 1)
    }),
    bytes("section-checksum-2", "checksum", "one bit of the checksum of section 2, with a right directory", |s| {
        s.entry(1, 4, |c| c ^ 2)
    }),
    bytes("section-checksum-3", "checksum", "one bit of the checksum of section 3, with a right directory", |s| {
        s.entry(2, 4, |c| c ^ 4)
    }),
    bytes("section-checksum-4", "checksum", "one bit of the checksum of section 4, with a right directory", |s| {
        s.entry(3, 4, |c| c ^ 8)
    }),
    bytes("section-checksum-last", "checksum", "the last bit of the checksum of section 8, with a right directory", |s| {
        s.sealed_exact(|file| file[HEADER + 7 * ENTRY + 7] ^= 0x80)
    }),
    bytes("offset-later", "section", "a section begins 64 bytes too late", |s| s.entry(1, 8, |offset| offset + 64)),
    bytes("offset-odd", "section", "a section does not begin at a multiple of 64", |s| s.entry(1, 8, |offset| offset + 1)),
    section("synthesis-empty", "section", "section 4 is empty, and there is no section 8", SectionKind::Synthesis, Vec::clear),
    bytes("offset-after-empty", "section", "section 4 is empty, and section 5 begins 64 bytes after it", |s| {
        let (empty, one_byte) = (s.with_synthesis(&[]), s.with_synthesis(&[0]));
        sealed(one_byte, |file| {
            file[24..56].copy_from_slice(&empty[24..56]);
            let at = HEADER + 3 * ENTRY;
            file[at + 4..at + 8].fill(0);
            file[at + 16..at + 24].fill(0);
        })
    }),
    bytes("offset-first", "section", "the first section begins within the directory", |s| s.entry(0, 8, |_| 64)),
    bytes("offset-first-later", "section", "every section begins 64 bytes too late", |s| sealed(moved(&s.bytes, 7), |_| ())),
    bytes("offset-last-later", "section", "the last section, which a decoder need not read, begins 64 bytes too late", |s| {
        s.entry(6, 8, |offset| offset + 64)
    }),
    bytes("section-beyond", "section", "the last section ends after the file", |s| s.entry(6, 16, |len| len + 1)),
    bytes("section-huge", "section", "a section whose end wraps around", |s| {
        s.sealed(|file| file[HEADER + 6 * ENTRY + 16..HEADER + 7 * ENTRY].fill(0xff))
    }),
    bytes("section-short", "oversized", "the file goes on after the last section", |s| {
        s.sealed(|file| {
            let at = HEADER + 6 * ENTRY;
            let len = file.len();
            file[at + 16] -= 1;
            let start = usize::from(u16::from_le_bytes([file[at + 8], file[at + 9]]));
            let checksum = crc32fast::hash(&file[start..len - 1]);
            file[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
        })
    }),
    bytes("gap-first", "section", "the byte after the directory is not zero", |s| flip(&s.bytes, AFTER_DIRECTORY, 1)),
    bytes("gap-first-end", "section", "the last byte before the first section is not zero", |s| flip(&s.bytes, 255, 0x80)),
    bytes("gap", "section", "the byte before section 2 is not zero", |s| before(&s.bytes, SectionKind::Parameters)),
    bytes("gap-weights", "section", "the byte before section 3 is not zero", |s| before(&s.bytes, SectionKind::Weights)),
    bytes("gap-synthesis", "section", "the byte before section 4 is not zero", |s| before(&s.bytes, SectionKind::Synthesis)),
    bytes("gap-analysis", "section", "the byte before section 5 is not zero", |s| before(&s.bytes, SectionKind::Analysis)),
    bytes("gap-hyper-analysis", "section", "the byte before section 6 is not zero", |s| {
        before(&s.bytes, SectionKind::HyperAnalysis)
    }),
    bytes("gap-metadata", "section", "the byte before section 7 is not zero", |s| {
        before(&package::write(&s.least_sections), SectionKind::Metadata)
    }),
    bytes("gap-exact", "section", "the byte before section 8 is not zero", |s| before(&s.exact, SectionKind::ExactSynthesis)),
    bytes("bit-configuration", "checksum", "one bit of the configuration", |s| {
        flip(&s.bytes, s.start(SectionKind::Config) + 12, 1)
    }),
    bytes("bit-parameters", "checksum", "one bit of the parameters", |s| {
        flip(&s.bytes, s.start(SectionKind::Parameters) + 99, 8)
    }),
    bytes("bit-weights", "checksum", "one bit of the weights", |s| flip(&s.bytes, s.start(SectionKind::Weights), 1)),
    bytes("bit-synthesis", "checksum", "one bit of g_s", |s| flip(&s.bytes, s.start(SectionKind::Synthesis) + 40, 1)),
    bytes("bit-analysis", "checksum", "one bit of g_a", |s| flip(&s.bytes, s.start(SectionKind::Analysis) + 40, 1)).unread(),
    bytes("bit-hyper-analysis", "checksum", "one bit of h_a", |s| flip(&s.bytes, s.start(SectionKind::HyperAnalysis) + 40, 1))
        .unread(),
    bytes("bit-metadata", "checksum", "the last bit of the file", |s| flip(&s.bytes, s.bytes.len() - 1, 0x80)).unread(),
    json("config-array", "{", "[", "the configuration is no object"),
    json("config-unknown", "\"latent\"", "\"more\":1,\"latent\"", "a member that does not exist"),
    json("config-missing", "\"window\":3,", "", "a member is missing"),
    json("config-twice", "\"window\":3", "\"window\":3,\"window\":3", "a member is there twice"),
    json("config-fraction", "\"window\":3", "\"window\":3.0", "a number with a fraction"),
    json("config-exponent", "\"window\":3", "\"window\":3e0", "a number with an exponent"),
    json("config-negative", "\"window\":3", "\"window\":-7", "a number below zero"),
    json("config-text", "\"window\":3", "\"window\":\"3\"", "a text for a number"),
    json("config-null", "\"window\":3", "\"window\":null", "null for a number"),
    json("config-true", "\"heads\":1", "\"heads\":true", "true for a number"),
    json("config-list", "\"heads\":1", "\"heads\":[1]", "an array for a number"),
    json("config-number", "\"ep_hidden\":[2]", "\"ep_hidden\":2", "a number for an array"),
    json("config-flat", "\"lrp_hidden\":[[1],[1]]", "\"lrp_hidden\":[1,1]", "numbers for arrays"),
    json("config-tail", "\"skip_below\":63}", "\"skip_below\":63}}", "something after the object"),
    json(
        "config-quality-256",
        "\"quality_steps\":0",
        "\"quality_steps\":256",
        "256 quality steps do not fit the byte of a stream",
    ),
    bytes("config-quality-256-gains", "json", "256 quality steps of a package with gains", |s| {
        with_text(&s.gains_sections, "\"quality_steps\":200", "\"quality_steps\":256")
    }),
    json("config-hs-1", "\"hs_hidden\":[2,2]", "\"hs_hidden\":[2]", "one width of the hyper synthesis"),
    json("config-hs-3", "\"hs_hidden\":[2,2]", "\"hs_hidden\":[2,2,2]", "three widths of the hyper synthesis"),
    config("latent-0", "\"latent\":2", "\"latent\":0", "no channels of y"),
    config("latent-4097", "\"latent\":2", "\"latent\":4097", "4097 channels of y"),
    config("slices-0", "\"slices\":2", "\"slices\":0", "no latent slices"),
    config("slices-65", "\"latent\":2,\"hyper\":2,\"slices\":2", "\"latent\":65,\"hyper\":2,\"slices\":65", "65 latent slices"),
    config("heads-0", "\"heads\":1", "\"heads\":0", "no heads"),
    config("inter-0", "\"inter_head_channels\":1", "\"inter_head_channels\":0", "heads without channels"),
    config("steps-fixed", "\"quality_steps\":0", "\"quality_steps\":1", "qualities at a fixed rate"),
    config("skip-64", "\"skip_below\":63", "\"skip_below\":64", "every scale index is below the limit of what is coded"),
    config(
        "weights",
        "\"cc_hidden\":[2],\"hs_hidden\":[2,2]",
        "\"cc_hidden\":[4096,4096,4096,4096],\"hs_hidden\":[2,4096]",
        "more than 2^29 weights",
    ),
    section("parameters-cut", "truncated", "the last byte of the parameters is missing", SectionKind::Parameters, |s| {
        s.truncate(s.len() - 1);
    }),
    section("parameters-more", "oversized", "a byte more of parameters", SectionKind::Parameters, |s| s.push(0)),
    section("weights-cut", "truncated", "the last weight is missing", SectionKind::Weights, |s| s.truncate(s.len() - 1)),
    section("weights-more", "oversized", "a weight more", SectionKind::Weights, |s| s.push(0)),
    value("weight-128", "a weight of -128", |p| p.weights[5] = -128),
    value("weight-128-last", "a last weight of -128", |p| {
        if let Some(last) = p.weights.last_mut() {
            *last = -128;
        }
    }),
    value("layer-max-0", "a largest activation of 0", |p| p.parameters.layers[0].max = 0),
    value("layer-max-32768", "a largest activation of 32768", |p| p.parameters.layers[3].max = 32_768),
    value("unused-max", "a largest activation of 0 where none is used", |p| max(p, "lrp_anchor.1", 0)),
    value("layer-multiplier", "a negative multiplier of a layer", |p| p.parameters.layers[1].levels[0].multipliers[0][0] = -1),
    value("layer-shift", "a shift of 63 in a layer", |p| p.parameters.layers[1].levels[0].shift = 63),
    value("gelu-multiplier", "a negative multiplier after GELU", |p| p.parameters.layers[0].levels[0].output.multiplier = -1),
    value("gelu-shift", "a shift of 63 after GELU", |p| p.parameters.layers[0].levels[0].output.shift = 63),
    value("quantizer-max", "a largest activation of 32768 of a quantizer", |p| p.parameters.quantizers[1].max = 32_768),
    value("quantizer-multiplier", "a negative multiplier of a quantizer", |p| {
        p.parameters.quantizers[0].levels[0].multiplier = -1
    }),
    value("quantizer-shift", "a shift of 63 in a quantizer", |p| p.parameters.quantizers[0].levels[0].shift = 63),
    value("quantizer-max-0", "a largest activation of 0 of a quantizer", |p| p.parameters.quantizers[0].max = 0),
    value("epsilon-0", "an epsilon of 0", |p| p.parameters.norms[0].epsilon[0] = 0),
    value("epsilon-negative", "a negative epsilon", |p| p.parameters.norms[1].epsilon[0] = i64::MIN),
    value("attention-max", "a largest activation of 0 of an attention", |p| p.parameters.linear_attentions[0].max = 0),
    value("attention-max-32768", "a largest activation of 32768 of an attention", |p| {
        p.parameters.linear_attentions[1].max = 32_768
    }),
    value("attention-query", "a negative multiplier of queries", |p| {
        p.parameters.linear_attentions[0].levels[0].query.multiplier = -1
    }),
    value("attention-key", "a shift of 63 of keys", |p| p.parameters.linear_attentions[1].levels[0].key.shift = 63),
    value("attention-output", "a negative multiplier of an attention's output", |p| {
        p.parameters.linear_attentions[1].levels[0].output = Requant { multiplier: i32::MIN, shift: 0 };
    }),
    value("window-multiplier", "a negative multiplier of logits", |p| p.parameters.local_attentions[0].levels[0].multiplier = -1),
    value("window-shift", "a shift of 63 of logits", |p| p.parameters.local_attentions[1].levels[0].shift = 63),
    value("window-bias-low", "a position bias of -2^26", |p| p.parameters.local_attentions[0].bias[3] = -(1 << 26)),
    value("window-bias", "a position bias of 2^26", |p| p.parameters.local_attentions[1].bias[7] = 1 << 26),
    value("window-bias-negative", "a position bias of -2^31", |p| p.parameters.local_attentions[1].bias[0] = i32::MIN),
    value("gelu-4096", "4096 in the table of GELU", |p| p.parameters.functions.gelu[512] = 4096),
    value("gelu-negative", "-1 in the table of GELU", |p| p.parameters.functions.gelu[0] = -1),
    value("tanh-2049", "2049 in the table of tanh", |p| p.parameters.functions.half_tanh[9] = 2049),
    value("tanh-negative", "-1 in the table of tanh", |p| p.parameters.functions.half_tanh[9] = -1),
    value("exp-coarse", "32768 in the coarse table of exp", |p| p.parameters.functions.exp_coarse[1] = 32_768),
    value("exp-coarse-0", "exp(0) is not 32767", |p| p.parameters.functions.exp_coarse[0] = 32_766),
    value("exp-fine", "32769 in the fine table of exp", |p| p.parameters.functions.exp_fine[63] = 32_769),
    value("exp-fine-0", "exp(0) is not 32768", |p| p.parameters.functions.exp_fine[0] = 32_767),
    value("exp2-low", "2^30 - 1 in the coarse table of exp2", |p| p.parameters.functions.exp2_coarse[255] = (1 << 30) - 1),
    value("exp2-coarse-high", "2^31 in the coarse table of exp2", |p| p.parameters.functions.exp2_coarse[7] = 1 << 31),
    value("exp2-fine-low", "2^30 - 1 in the fine table of exp2", |p| p.parameters.functions.exp2_fine[255] = (1 << 30) - 1),
    value("exp2-high", "2^31 in the fine table of exp2", |p| p.parameters.functions.exp2_fine[0] = 1 << 31),
    gain("gain-high", "a gain of 2^12 and a little", |p| p.parameters.gains.gain[0] = MAX_GAIN + 1),
    gain("gain-low", "a gain of 2^-12 less a little", |p| p.parameters.gains.gain[7] = -MAX_GAIN - 1),
    gain("inverse-gain-high", "an inverse gain of 2^12 and a little", |p| p.parameters.gains.inverse_gain[9] = MAX_GAIN + 1),
    gain("inverse-gain-low", "an inverse gain of 2^-12 less a little", |p| p.parameters.gains.inverse_gain[0] = -MAX_GAIN - 1),
    gain("hyper-gain-high", "a gain of z of 2^12 and a little", |p| p.parameters.gains.hyper_gain[3] = MAX_GAIN + 1),
    gain("hyper-gain-low", "a gain of z of 2^-12 less a little", |p| p.parameters.gains.hyper_gain[0] = -MAX_GAIN - 1),
    gain("inverse-hyper-gain-high", "an inverse gain of z of 2^12 and a little", |p| {
        p.parameters.gains.inverse_hyper_gain[3] = MAX_GAIN + 1
    }),
    gain("inverse-hyper-gain-low", "an inverse gain of z of 2^-12 less a little", |p| {
        p.parameters.gains.inverse_hyper_gain[0] = -MAX_GAIN - 1
    }),
    value("threshold-negative", "a threshold of -1", |p| p.parameters.thresholds[0] = -1),
    value("threshold-large", "a threshold of 2^27", |p| p.parameters.thresholds[62] = 1 << 27),
    value("threshold-equal", "two equal thresholds", |p| p.parameters.thresholds[30] = p.parameters.thresholds[31]),
    value("threshold-equal-first", "the first two thresholds are equal", |p| {
        p.parameters.thresholds[1] = p.parameters.thresholds[0]
    }),
    value("threshold-equal-last", "the last two thresholds are equal", |p| {
        p.parameters.thresholds[62] = p.parameters.thresholds[61]
    }),
    value("threshold-falls", "a threshold that is less than the one before it", |p| p.parameters.thresholds.swap(50, 51)),
    value("median-high", "a median of 2^27", |p| p.parameters.medians[0] = 1 << 27),
    value("median", "a median of -2^27", |p| p.parameters.medians[1] = -(1 << 27)),
    value("cdf-empty", "a table without bins", |p| cdf(p, 0, &[])),
    value("cdf-escape", "a table of the escape alone", |p| cdf(p, 0, &[0])),
    value("cdf-first", "a table that does not begin at 0", |p| cdf(p, 0, &[1, 2])),
    value("cdf-equal", "a bin without slots", |p| cdf(p, 0, &[0, 5, 5])),
    value("cdf-falls", "a bin that begins before the one before it", |p| cdf(p, 0, &[0, 5, 4])),
    value("cdf-low", "a symbol of -32768", |p| cdf(p, -32_768, &[0, 5])),
    value("cdf-high", "a symbol of 32768", |p| cdf(p, 32_767, &[0, 5, 6])),
    value("cdf-wraps", "a lowest symbol of 2^31 - 1", |p| cdf(p, i32::MAX, &[0, 5, 6])),
    value("cdf-z", "a table of z that does not begin at 0", |p| p.parameters.z_cdfs[1].starts[0] = 1),
    value("cdf-z-equal", "a bin of a table of z without slots", |p| {
        p.parameters.z_cdfs[0] = StoredCdf { min_symbol: 0, starts: vec![0, 5, 5] };
    }),
    value("cdf-z-low", "a symbol of z of -32768", |p| {
        p.parameters.z_cdfs[0] = StoredCdf { min_symbol: -32_768, starts: vec![0, 5] }
    }),
    value("cdf-z-high", "a symbol of z of 32768", |p| {
        p.parameters.z_cdfs[1] = StoredCdf { min_symbol: 32_767, starts: vec![0, 5, 6] };
    }),
    overflow("accumulator", "600 products of 127 and 32767 exceed 32 bits", Shape::Wide, |p| {
        max(p, "entropy_parameters_anchor.0", 32_767);
        fill(p, "entropy_parameters_anchor.1", 127);
    }),
    overflow("accumulator-negative", "600 products of -127 and 32767 exceed 32 bits", Shape::Wide, |p| {
        max(p, "entropy_parameters_anchor.0", 32_767);
        fill(p, "entropy_parameters_anchor.1", -127);
    }),
    overflow("accumulator-last-output", "600 products of 127 and 32767, of the last output alone", Shape::Wide, |p| {
        max(p, "entropy_parameters_anchor.0", 32_767);
        fill(p, "entropy_parameters_anchor.1", 1);
        let end = weights_of(p, "entropy_parameters_anchor.1").end;
        p.weights[end - 600..end].fill(127);
    }),
    overflow("weighted-sum-last-level", "a bias of 2^63 - 1 at the last level of the last layer", Shape::Gains, |p| {
        let last = p.parameters.layers.last_mut().and_then(|layer| layer.levels.last_mut());
        if let Some(bias) = last.and_then(|level| level.bias.last_mut()) {
            *bias = i64::MAX;
        }
    }),
    overflow("weighted-sum", "a bias of 2^63 - 1 and anything more", Shape::Small, |p| {
        p.parameters.layers[0].levels[0].bias[0] = i64::MAX;
    }),
    overflow("weighted-sum-negative", "a bias of -2^63, whose magnitude has no 64 bits", Shape::Small, |p| {
        p.parameters.layers[2].levels[0].bias[1] = i64::MIN;
    }),
    overflow("norm-variance", "the variance of 40 channels of 32767 exceeds 64 bits", Shape::Wide, |p| max(p, "fusion", 32_767)),
    overflow("norm-epsilon", "an epsilon of 2^63 - 1", Shape::Small, |p| p.parameters.norms[0].epsilon[0] = i64::MAX),
    overflow("window-logit", "20 products of 10363 and 10363 exceed 31 bits, by little", Shape::Wide, |p| {
        max(p, "local_context.queries", 10_363);
        max(p, "local_context.keys", 10_363);
    }),
    section("synthesis-magic", "graph", "g_s is no transform", SectionKind::Synthesis, |s| s[0] ^= 1),
    bytes("synthesis-beside-exact", "graph", "section 4 is no transform, beside a section 8", |s| s.with_synthesis(b"MLGS")),
    section("synthesis-version", "graph", "g_s of version 2", SectionKind::Synthesis, |s| s[4] = 2),
    section("synthesis-more", "graph", "a byte after the last node of g_s", SectionKind::Synthesis, |s| s.push(0)),
    section("synthesis-cut", "graph", "g_s ends within a node", SectionKind::Synthesis, |s| s.truncate(60)),
    section("synthesis-output", "graph", "an output node that does not exist", SectionKind::Synthesis, |s| s[16] = 9),
    section("synthesis-nodes", "graph", "4097 nodes", SectionKind::Synthesis, |s| s[13] = 0x10),
    section("synthesis-opcode", "graph", "an operator that does not exist", SectionKind::Synthesis, |s| s[20] = 6),
    section("analysis-magic", "graph", "g_a is no transform", SectionKind::Analysis, |s| s[0] ^= 1).unread(),
    section("hyper-analysis-magic", "graph", "h_a is no transform", SectionKind::HyperAnalysis, |s| s[0] ^= 1).unread(),
    PackageCase {
        name: "synthesis-channels",
        code: Some("config"),
        why: "g_s takes another number of channels than y has",
        unread: false,
        make: Make::Values(Shape::Small, |p| p.synthesis = p.hyper_analysis.clone()),
    },
    section("synthesis-scale", "config", "g_s makes a picture of half the size", SectionKind::Synthesis, |s| s[STRIDE_AT] = 2),
    section("analysis-scale", "config", "g_a gives twice the size of y", SectionKind::Analysis, |s| s[STRIDE_AT] = 8).unread(),
    section("hyper-analysis-scale", "config", "h_a gives half the size of z", SectionKind::HyperAnalysis, |s| s[STRIDE_AT] = 8)
        .unread(),
    section("metadata", "json", "metadata that are no object", SectionKind::Metadata, |s| s[0] = b'[').unread(),
];
