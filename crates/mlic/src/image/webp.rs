//! WebP, through the `image` crate.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::webp::WebPDecoder;

use super::raw::{Found, Raw};
use super::{ImageError, ReadOptions};
use crate::metadata::MetadataKind;

const FORMAT: &str = "WebP";

pub(super) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Raw, ImageError> {
    let bytes = checked(bytes)?;
    let wrap = |e| ImageError::from_decoder(FORMAT, bytes.len(), e);
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(wrap)?;
    let icc = decoder.icc_profile().map_err(wrap)?;
    let exif = decoder.exif_metadata().map_err(wrap)?;
    let xmp = decoder.xmp_metadata().map_err(wrap)?;
    let mut raw = Raw::from_decoder(FORMAT, bytes.len(), decoder, options)?;
    raw.attach(MetadataKind::Icc, Found::new(icc, false), options.metadata)?;
    raw.attach_exif(Found::new(exif, false), options.metadata)?;
    raw.attach(MetadataKind::Xmp, Found::new(xmp, false), options.metadata)?;
    Ok(raw)
}

/// Returns the bytes of the RIFF container alone, because the parser reads on after its end. Checks that every chunk ends within the container and that
/// every frame is as large as the canvas: the parser allocates what a chunk's header claims, decodes a lossy frame at the frame's own size, and compares
/// afterwards. Refuses animations, whose frames are chunks within chunks.
fn checked(bytes: &[u8]) -> Result<&[u8], ImageError> {
    let truncated = || ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 };
    let riff_len = bytes.get(4..8).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b) as usize);
    let end = riff_len.and_then(|len| len.checked_add(8)).ok_or_else(truncated)?;
    let riff = bytes.get(..end).ok_or_else(truncated)?;
    let mut rest = riff.get(12..).ok_or_else(truncated)?;
    let mut canvas = None;
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, len @ ..] = *head;
        let len = u32::from_le_bytes(len) as usize;
        let chunk = body.get(..len).ok_or_else(truncated)?;
        match &[a, b, c, d] {
            b"VP8X" => canvas = canvas.or_else(|| canvas_size(body)),
            b"ANMF" => return Err(ImageError::AnimationUnsupported { format: FORMAT }),
            b"VP8 " => check_frame(canvas, frame_size(chunk))?,
            _ => {}
        }
        rest = body.get(len + (len & 1)..).unwrap_or_default();
    }
    Ok(riff)
}

/// Columns and rows of the canvas, from the bytes that begin with a `VP8X` chunk's body, whatever length the chunk claims, as the parser reads them: each
/// 24 bits, less one.
fn canvas_size(bytes: &[u8]) -> Option<[u32; 2]> {
    let [w0, w1, w2, h0, h1, h2] = *bytes.get(4..)?.first_chunk()?;
    Some([[w0, w1, w2, 0], [h0, h1, h2, 0]].map(|side| u32::from_le_bytes(side) + 1))
}

/// Columns and rows in a `VP8 ` chunk, after three bytes of tag and three of start code: each 14 bits, below two bits for upscaling.
fn frame_size(chunk: &[u8]) -> Option<[u32; 2]> {
    let [w0, w1, h0, h1] = *chunk.get(6..)?.first_chunk()?;
    Some([[w0, w1], [h0, h1]].map(|side| u32::from(u16::from_le_bytes(side) & 0x3fff)))
}

/// Refuses a frame whose size differs from its canvas. A frame without a canvas is its own canvas; the parser refuses a frame without a size.
fn check_frame(canvas: Option<[u32; 2]>, frame: Option<[u32; 2]>) -> Result<(), ImageError> {
    match (canvas, frame) {
        (Some(canvas), Some(frame)) if canvas != frame => {
            let ([width, height], [columns, rows]) = (frame, canvas);
            let source = format!("a frame of {width}x{height} on a canvas of {columns}x{rows}").into();
            Err(ImageError::Damaged { format: FORMAT, source })
        }
        _ => Ok(()),
    }
}
