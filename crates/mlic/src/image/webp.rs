//! WebP, through the `image` crate.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::webp::WebPDecoder;

use super::raw::{Found, Raw};
use super::{ImageError, ReadOptions};
use crate::metadata::MetadataKind;

const FORMAT: &str = "WebP";

pub(super) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Raw, ImageError> {
    check_chunks(bytes)?;
    let wrap = |e| ImageError::from_decoder(FORMAT, bytes.len(), e);
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(wrap)?;
    if decoder.has_animation() {
        return Err(ImageError::AnimationUnsupported { format: FORMAT });
    }
    let icc = decoder.icc_profile().map_err(wrap)?;
    let exif = decoder.exif_metadata().map_err(wrap)?;
    let xmp = decoder.xmp_metadata().map_err(wrap)?;
    let mut raw = Raw::from_decoder(FORMAT, bytes.len(), decoder, options)?;
    raw.attach(MetadataKind::Icc, Found::new(icc, false), options.metadata)?;
    raw.attach_exif(Found::new(exif, false), options.metadata)?;
    raw.attach(MetadataKind::Xmp, Found::new(xmp, false), options.metadata)?;
    Ok(raw)
}

/// Every chunk of the RIFF container ends within the file: the parser allocates what a chunk's header claims.
fn check_chunks(bytes: &[u8]) -> Result<(), ImageError> {
    let truncated = || ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 };
    let riff_len = bytes.get(4..8).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b) as usize);
    let end = riff_len.and_then(|len| len.checked_add(8)).ok_or_else(truncated)?;
    let mut rest = bytes.get(12..end).ok_or_else(truncated)?;
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let [_, _, _, _, len @ ..] = *head;
        let len = u32::from_le_bytes(len) as usize;
        if len > body.len() {
            return Err(truncated());
        }
        rest = body.get(len + (len & 1)..).unwrap_or_default();
    }
    Ok(())
}
