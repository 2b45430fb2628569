//! Writing pictures.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use mlic_core::memory;
use png::text_metadata::ITXtChunk;

use super::png::XMP_KEYWORD;
use super::{Image, ImageError, check_samples, check_size};
use crate::metadata::MetadataKind;
use crate::pixels::luma;

/// Most bytes of a PNM file before its samples.
const MAX_PNM_HEADER: usize = 32;

/// File format of a decoded picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputFormat {
    /// PNG, with ICC, EXIF and XMP.
    Png,
    /// Binary PPM, or PGM for a gray picture. No metadata.
    Ppm,
}

impl OutputFormat {
    /// The format that a file name asks for: `.png`, or `.ppm`, `.pgm`, `.pnm`, in any case.
    pub fn from_path(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.parse().ok()
    }

    /// The usual extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Ppm => "ppm",
        }
    }

    /// The parts of a picture's metadata that a file of this format cannot carry; [`PictureFile`] leaves them out. PPM carries
    /// none; PNG carries all but XMP that is not UTF-8 and ICC profiles for other colours than the file's.
    pub fn cannot_keep(self, image: &Image) -> Vec<MetadataKind> {
        let fits = |kind, bytes: &[u8]| match kind {
            MetadataKind::Icc => match color_space(bytes) {
                Some(b"GRAY") => image.gray,
                space => matches!(space, None | Some(b"RGB ")),
            },
            MetadataKind::Exif => true,
            MetadataKind::Xmp => std::str::from_utf8(bytes).is_ok(),
        };
        let parts = image.metadata.parts();
        parts.filter(|&(kind, bytes)| self != Self::Png || !fits(kind, bytes)).map(|(kind, _)| kind).collect()
    }
}

/// Colour space of the samples that a profile is for (ICC.1, 7.2.6).
fn color_space(profile: &[u8]) -> Option<&[u8; 4]> {
    profile.get(16..)?.first_chunk()
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

impl FromStr for OutputFormat {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self, ImageError> {
        match name.to_ascii_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "ppm" | "pgm" | "pnm" => Ok(Self::Ppm),
            _ => Err(ImageError::FormatUnsupported { format: format!("writing `{name}`") }),
        }
    }
}

/// A picture to be written as a file of some format.
///
/// A gray picture ([`Image::gray`]) is written with one channel: the BT.601 luma `(299 R + 587 G + 114 B + 500) / 1000`, which is
/// the sample itself where R = G = B. A PNG file with an RGB profile has three equal channels instead. PNG files hold the ICC profile (iCCP),
/// EXIF (eXIf) and XMP (iTXt), except those that [`OutputFormat::cannot_keep`] names.
#[derive(Debug)]
pub struct PictureFile<'a> {
    image: &'a Image,
    format: OutputFormat,
    /// One or three for each pixel.
    samples: Cow<'a, [u8]>,
    /// Parts of the metadata that are left out.
    left_out: Vec<MetadataKind>,
}

impl<'a> PictureFile<'a> {
    /// Prepares a picture for writing.
    ///
    /// # Errors
    /// As [`Image::from_rgb`] for size and samples; [`ImageError::OutOfMemory`].
    pub fn new(image: &'a Image, format: OutputFormat) -> Result<Self, ImageError> {
        let pixels = check_size(image.width, image.height, u64::MAX)?;
        check_samples(image.rgb.len(), pixels * 3)?;
        let luma = || image.rgb.as_chunks::<3>().0.iter().map(|at| luma(*at));
        let is_of_rgb = image.metadata.icc.as_deref().and_then(color_space) == Some(b"RGB ");
        let samples = match (image.gray, format) {
            (false, _) => Cow::Borrowed(image.rgb.as_slice()),
            (true, OutputFormat::Png) if is_of_rgb => {
                Cow::Owned(memory::collect(image.rgb.len(), luma().flat_map(|sample| [sample; 3]))?)
            }
            (true, _) => Cow::Owned(memory::collect(image.rgb.len() / 3, luma())?),
        };
        Ok(Self { image, format, samples, left_out: format.cannot_keep(image) })
    }

    fn is_gray(&self) -> bool {
        self.samples.len() < self.image.rgb.len()
    }

    /// Writes the file, without copying the samples.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        match self.format {
            OutputFormat::Png => self.write_png(to).map_err(|error| match error {
                png::EncodingError::IoError(error) => error,
                error => error.into(),
            }),
            OutputFormat::Ppm => {
                let magic = if self.is_gray() { "P5" } else { "P6" };
                write!(to, "{magic}\n{} {}\n255\n", self.image.width, self.image.height)?;
                to.write_all(&self.samples)
            }
        }
    }

    fn write_png(&self, to: &mut dyn Write) -> Result<(), png::EncodingError> {
        let mut info = png::Info::with_size(self.image.width, self.image.height);
        info.color_type = if self.is_gray() { png::ColorType::Grayscale } else { png::ColorType::Rgb };
        info.bit_depth = png::BitDepth::Eight;
        let kept = |kind| self.image.metadata.get(kind).filter(|_| !self.left_out.contains(&kind));
        info.icc_profile = kept(MetadataKind::Icc).map(Cow::Borrowed);
        info.exif_metadata = kept(MetadataKind::Exif).map(Cow::Borrowed);
        if let Some(text) = kept(MetadataKind::Xmp).and_then(|xmp| std::str::from_utf8(xmp).ok()) {
            info.utf8_text.push(ITXtChunk::new(XMP_KEYWORD, text));
        }
        let mut encoder = png::Encoder::with_info(to, info)?;
        // The default compression takes a fifth of the time of a whole decoding, for files that are a tenth smaller.
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.samples)?;
        writer.finish()
    }
}

/// Writes a picture to memory: returns the bytes of a [`PictureFile`].
///
/// # Errors
/// As [`PictureFile::new`]; [`ImageError::Write`].
pub fn write_image(image: &Image, format: OutputFormat) -> Result<Vec<u8>, ImageError> {
    let file = PictureFile::new(image, format)?;
    let mut bytes = Vec::new();
    if format == OutputFormat::Ppm {
        memory::reserve(&mut bytes, MAX_PNM_HEADER + file.samples.len())?;
    }
    let written = file.write_to(&mut bytes);
    written.map_err(|e| ImageError::Write { format: format.extension(), source: Box::new(e) })?;
    Ok(bytes)
}
