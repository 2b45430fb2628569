//! PBM, PGM, PPM and PAM, through the `image` crate.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::pnm::{PnmDecoder, PnmSubtype, SampleEncoding};

use super::raw::Raw;
use super::{ImageError, ReadOptions, check_size};

const FORMAT: &str = "PNM";

pub(super) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Raw, ImageError> {
    let mut cursor = Cursor::new(bytes);
    let decoder = PnmDecoder::new(&mut cursor).map_err(|e| ImageError::from_decoder(FORMAT, bytes.len(), e))?;
    let (width, height) = decoder.dimensions();
    let pixels = check_size(width, height, options.max_pixels)?;
    let samples = decoder.total_bytes();
    let least_bytes = match decoder.subtype() {
        PnmSubtype::Bitmap(SampleEncoding::Binary) => u64::from(width).div_ceil(8) * u64::from(height),
        PnmSubtype::Bitmap(SampleEncoding::Ascii) => pixels,
        PnmSubtype::Graymap(SampleEncoding::Ascii) | PnmSubtype::Pixmap(SampleEncoding::Ascii) => {
            samples / u64::from(decoder.color_type().bytes_per_pixel() / decoder.color_type().channel_count())
        }
        _ => samples,
    };
    if (bytes.len() as u64) < least_bytes {
        return Err(ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 });
    }
    // A bitmap declares no maximum: its samples are 0 and 1 by definition.
    let is_bitmap = matches!(decoder.subtype(), PnmSubtype::Bitmap(_));
    let maximum = header_maximum(bytes).filter(|_| !is_bitmap);
    let mut raw = Raw::from_decoder(FORMAT, bytes.len(), decoder, options)?;
    check_end(bytes.get(cursor.position() as usize..).unwrap_or_default())?;
    if let Some(maximum) = maximum.filter(|m| ![255, 65535].contains(m)) {
        let full = if raw.wide { 65535 } else { 255 };
        raw.notes.push(format!("samples scaled from 0..={maximum} to 0..={full}"));
    }
    Ok(raw)
}

/// Refuses anything but white space after the picture.
fn check_end(rest: &[u8]) -> Result<(), ImageError> {
    match rest.trim_ascii_start() {
        [] => Ok(()),
        [b'P', b'0'..=b'9', ..] => Err(ImageError::SeveralPictures { format: FORMAT }),
        more => {
            let source = format!("{} bytes follow the picture", more.len()).into();
            Err(ImageError::Damaged { format: FORMAT, source })
        }
    }
}

/// The largest sample value that the header declares.
fn header_maximum(bytes: &[u8]) -> Option<u32> {
    let (_, header) = PnmDecoder::new(Cursor::new(bytes)).ok()?.into_inner();
    Some(header.maximal_sample())
}
