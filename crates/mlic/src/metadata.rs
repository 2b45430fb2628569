//! Metadata beside the pixels: ICC profile, EXIF and XMP, as the bytes they came in.

use std::fmt;

use mlic_core::container::SectionKind;

/// Metadata of an image, uninterpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// ICC profile, uncompressed.
    pub icc: Option<Vec<u8>>,
    /// EXIF from its TIFF header on (no `Exif\0\0` before it). The orientation stays here; pixels are not turned.
    pub exif: Option<Vec<u8>>,
    /// XMP packet; it is UTF-8 if the source kept to that.
    pub xmp: Option<Vec<u8>>,
}

/// Note for a profile that is left out.
pub const ICC_LEFT_OUT: &str = "ICC profile left out: the colours will be taken for those of sRGB";
/// End of a note that EXIF is left out, for a picture that [is turned](Metadata::is_turned).
pub const TURNED: &str = "; it has the orientation: the picture may lie on its side";

/// One part of [`Metadata`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetadataKind {
    /// ICC profile.
    Icc,
    /// EXIF.
    Exif,
    /// XMP.
    Xmp,
}

/// What happens to metadata when an image is read or a stream is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataPolicy {
    /// Keep all of it, or fail.
    #[default]
    Keep,
    /// Keep what can be read and is within the section limit, and drop the rest with a note. If a stream is damaged or cut only after its payload, keep
    /// its intact sections.
    Fit,
    /// Keep none of it. Notes name what changes how a picture file looks: its colours, its orientation. What follows the payload of a stream is ignored.
    Strip,
}

impl MetadataKind {
    /// All kinds, in the order in which [`Metadata::parts`] gives them.
    pub const ALL: &'static [Self] = &[Self::Icc, Self::Exif, Self::Xmp];

    /// Kind of the section of a stream that holds this part.
    pub(crate) const fn section(self) -> SectionKind {
        match self {
            Self::Icc => SectionKind::ICC,
            Self::Exif => SectionKind::EXIF,
            Self::Xmp => SectionKind::XMP,
        }
    }
}

impl fmt::Display for MetadataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icc => "ICC profile",
            Self::Exif => "EXIF",
            Self::Xmp => "XMP",
        })
    }
}

impl Metadata {
    /// The part of that kind.
    pub fn get(&self, kind: MetadataKind) -> Option<&[u8]> {
        match kind {
            MetadataKind::Icc => self.icc.as_deref(),
            MetadataKind::Exif => self.exif.as_deref(),
            MetadataKind::Xmp => self.xmp.as_deref(),
        }
    }

    /// Whether EXIF says that the picture is to be turned or mirrored before it is shown.
    pub fn is_turned(&self) -> bool {
        use image::metadata::Orientation;
        let orientation = self.exif.as_deref().and_then(Orientation::from_exif_chunk);
        orientation.is_some_and(|orientation| orientation != Orientation::NoTransforms)
    }

    /// Sets or clears the part of that kind.
    pub fn set(&mut self, kind: MetadataKind, bytes: Option<Vec<u8>>) {
        let part = match kind {
            MetadataKind::Icc => &mut self.icc,
            MetadataKind::Exif => &mut self.exif,
            MetadataKind::Xmp => &mut self.xmp,
        };
        *part = bytes;
    }

    /// The parts that are present.
    pub fn parts(&self) -> impl Iterator<Item = (MetadataKind, &[u8])> {
        MetadataKind::ALL.iter().filter_map(|&kind| Some((kind, self.get(kind)?)))
    }

    /// Whether no part is present.
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orientation_is_found_in_exif() {
        let exif = |orientation: u8| {
            let tag = [0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
            Some([b"II*\0\x08\0\0\0\x01\0".as_slice(), &tag, &[0; 4]].concat())
        };
        let turned = |exif| Metadata { exif, ..Metadata::default() }.is_turned();
        assert!(turned(exif(6)) && turned(exif(2)));
        assert!(!turned(exif(1)) && !turned(None) && !turned(Some(b"II*\0turned left".to_vec())));
    }
}
