//! JPEG, through the `image` crate, which decodes what it can of a damaged file and leaves the rest gray. Therefore a walk over the markers first checks that
//! the file has an end. Damage inside its scans shows as the parser decodes it.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::jpeg::JpegDecoder;

use super::raw::{Found, Raw};
use super::{ImageError, ReadOptions};
use crate::metadata::MetadataKind;

const FORMAT: &str = "JPEG";

/// Most pixels that a byte can code, since every block of 64 has at least one bit: a file too short for its size is refused before pixels are allocated.
const PIXELS_PER_BYTE: u64 = 8 * 64;

pub(super) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Raw, ImageError> {
    let markers = Markers::walk(bytes);
    if let Some(bits) = markers.bits.filter(|&bits| bits != 8) {
        return Err(ImageError::DepthUnreadable { format: FORMAT, bits });
    }
    if markers.components == Some(4) {
        return Err(ImageError::ColorUnsupported { color: "CMYK" });
    }
    if !markers.complete {
        return Err(ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 });
    }
    let wrap = |e| ImageError::from_decoder(FORMAT, bytes.len(), e);
    let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(wrap)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_PER_BYTE * bytes.len() as u64 {
        return Err(ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 });
    }
    let icc = decoder.icc_profile().map_err(wrap)?;
    let exif = decoder.exif_metadata().map_err(wrap)?;
    let xmp = decoder.xmp_metadata().map_err(wrap)?;
    let mut raw = Raw::from_decoder(FORMAT, bytes.len(), decoder, options)?;
    raw.attach(MetadataKind::Icc, Found::new(icc, markers.icc), options.metadata)?;
    raw.attach_exif(Found::new(exif, false), options.metadata)?;
    raw.attach(MetadataKind::Xmp, Found::new(xmp, false), options.metadata)?;
    raw.note_not_kept(&markers.not_kept, options.metadata);
    Ok(raw)
}

/// What the marker segments say.
#[derive(Debug, Default)]
struct Markers {
    /// Sample precision of the frame.
    bits: Option<u8>,
    /// Components of the frame.
    components: Option<u8>,
    /// The end-of-image marker follows the last scan.
    complete: bool,
    /// A piece of an ICC profile is there.
    icc: bool,
    /// Segments that no stream carries.
    not_kept: Vec<&'static str>,
}

impl Markers {
    fn walk(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        // After SOI. Outside entropy-coded data FF begins a marker; inside it FF 00 and FF D0..=D7 are data.
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some(at) = rest.windows(2).position(|w| matches!(*w, [0xff, m] if !matches!(m, 0 | 1 | 0xd0..=0xd7 | 0xff))) {
            let Some([_, marker, body @ ..]) = rest.get(at..) else { break };
            if *marker == 0xd9 {
                found.complete = true;
                break;
            }
            let Some(len) = body.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b))) else { break };
            let Some(segment) = body.get(2..len) else { break };
            found.segment(*marker, segment);
            rest = body.get(len..).unwrap_or_default();
        }
        found
    }

    fn segment(&mut self, marker: u8, segment: &[u8]) {
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                self.bits = segment.first().copied();
                self.components = segment.get(5).copied();
            }
            // The unit of the density; 0 if the density is only an aspect ratio.
            0xe0 if segment.starts_with(b"JFIF\0") && !matches!(segment.get(7), None | Some(0)) => self.note("density (JFIF)"),
            0xe1 if segment.starts_with(b"http://ns.adobe.com/xmp/extension/\0") => self.note("extended XMP"),
            0xe2 if segment.starts_with(b"ICC_PROFILE\0") => self.icc = true,
            0xe2 if segment.starts_with(b"MPF\0") => self.note("further pictures (MPF)"),
            0xed if segment.starts_with(b"Photoshop 3.0\0") => self.note("IPTC"),
            0xfe => self.note("comment"),
            _ => {}
        }
    }

    fn note(&mut self, what: &'static str) {
        if !self.not_kept.contains(&what) {
            self.not_kept.push(what);
        }
    }
}
