//! Pictures in memory, and the files they are read from and written to.
//!
//! Reading changes nothing silently: what a stream cannot carry (alpha, more than 8 bits, CMYK, animation) is refused
//! by name, or converted because [`ReadOptions`] asks for it, and then [`Image::notes`] says so. The format is found
//! from the content. Dimensions are checked against [`mlic_core::limits`] before any pixel is decoded.
//!
//! ```
//! use mlic::image::{Image, OutputFormat, ReadOptions, read_image, write_image};
//!
//! let image = Image::from_rgb(2, 1, vec![255, 0, 0, 0, 0, 255])?;
//! let png = write_image(&image, OutputFormat::Png)?;
//! assert_eq!(read_image(&png, &ReadOptions::default())?, image);
//! # Ok::<(), mlic::image::ImageError>(())
//! ```

mod error;
mod jpeg;
mod png;
mod pnm;
mod raw;
mod webp;
mod write;

use mlic_core::limits::{MAX_PIXELS, MAX_SIDE};
use mlic_core::memory;

pub use self::error::ImageError;
pub use self::write::{OutputFormat, PictureFile, write_image};
use crate::budget::DEFAULT_MAX_PIXELS;
use crate::metadata::{Metadata, MetadataPolicy};

/// A picture: 8-bit RGB and what travels with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// Columns, 1..=[`MAX_SIDE`].
    pub width: u32,
    /// Rows, 1..=[`MAX_SIDE`].
    pub height: u32,
    /// `width * height * 3` samples, row-major, R G B interleaved.
    pub rgb: Vec<u8>,
    /// Whether the source has one channel: R = G = B in what was read, and writing gives one channel again.
    pub gray: bool,
    /// ICC, EXIF and XMP.
    pub metadata: Metadata,
    /// What reading changed or left out, one sentence each, for people.
    pub notes: Vec<String>,
}

/// What [`read_image`] may do beyond taking pixels as they are.
///
/// ```
/// use mlic::image::ReadOptions;
/// use mlic::metadata::MetadataPolicy;
///
/// let options = ReadOptions::default().with_background([255; 3]).with_reduce_depth(true).with_metadata(MetadataPolicy::Fit).with_max_pixels(1);
/// # assert_eq!((options.background, options.reduce_depth), (Some([255; 3]), true));
/// # assert_eq!((options.metadata, options.max_pixels), (MetadataPolicy::Fit, 1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Colour to flatten alpha onto (in the file's own, non-linear samples). None: alpha that is not opaque is an error.
    pub background: Option<[u8; 3]>,
    /// Round 16-bit samples to 8 bits. Without it they are an error, unless each is exact in 8 bits.
    pub reduce_depth: bool,
    /// What happens to ICC, EXIF and XMP.
    pub metadata: MetadataPolicy,
    /// Largest number of pixels, at most [`MAX_PIXELS`]; [`DEFAULT_MAX_PIXELS`] unless set.
    pub max_pixels: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { background: None, reduce_depth: false, metadata: MetadataPolicy::Keep, max_pixels: DEFAULT_MAX_PIXELS }
    }
}

impl ReadOptions {
    /// Sets [`Self::background`].
    #[must_use]
    pub const fn with_background(self, background: [u8; 3]) -> Self {
        Self { background: Some(background), ..self }
    }

    /// Sets [`Self::reduce_depth`].
    #[must_use]
    pub const fn with_reduce_depth(self, reduce_depth: bool) -> Self {
        Self { reduce_depth, ..self }
    }

    /// Sets [`Self::metadata`].
    #[must_use]
    pub const fn with_metadata(self, metadata: MetadataPolicy) -> Self {
        Self { metadata, ..self }
    }

    /// Sets [`Self::max_pixels`].
    #[must_use]
    pub const fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }
}

impl Image {
    /// A colour picture from row-major RGB samples.
    ///
    /// # Errors
    /// [`ImageError::Empty`], [`ImageError::SideLimit`], [`ImageError::PixelLimit`] for the size; [`ImageError::SampleCount`] if `rgb` does not have
    /// as many samples as the size needs.
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, ImageError> {
        let pixels = check_size(width, height, MAX_PIXELS)?;
        check_samples(rgb.len(), pixels * 3)?;
        Ok(Self { width, height, rgb, gray: false, metadata: Metadata::default(), notes: Vec::new() })
    }

    /// A gray picture from row-major samples.
    ///
    /// # Errors
    /// As [`Self::from_rgb`], and [`ImageError::OutOfMemory`].
    pub fn from_gray(width: u32, height: u32, gray: &[u8]) -> Result<Self, ImageError> {
        let pixels = check_size(width, height, MAX_PIXELS)?;
        check_samples(gray.len(), pixels)?;
        let rgb = memory::collect(3 * gray.len(), gray.iter().flat_map(|&v| [v; 3]))?;
        Ok(Self { width, height, rgb, gray: true, metadata: Metadata::default(), notes: Vec::new() })
    }

    /// Number of pixels.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Whether a file that begins with `head` is of a format that [`read_image`] reads; [`HEAD_LEN`] bytes are enough to tell.
pub fn is_picture(head: &[u8]) -> bool {
    use ::image::ImageFormat::{Jpeg, Png, Pnm, WebP};
    matches!(::image::guess_format(head), Ok(Png | Jpeg | WebP | Pnm))
}

/// Number of bytes at the beginning of a file that tell its format.
pub const HEAD_LEN: usize = 16;

/// Reads a PNG, JPEG, WebP, PGM, PPM, PBM or PAM file.
///
/// # Errors
/// [`ImageError`] for a file that is not a picture, is damaged or cut, is beyond the limits, or would lose what `options` do not allow to be lost. The
/// entropy-coded data of JPEG has no checksum: damage in it may only show in the picture.
pub fn read_image(bytes: &[u8], options: &ReadOptions) -> Result<Image, ImageError> {
    let raw = match ::image::guess_format(bytes) {
        Ok(::image::ImageFormat::Png) => png::read(bytes, options)?,
        Ok(::image::ImageFormat::Jpeg) => jpeg::read(bytes, options)?,
        Ok(::image::ImageFormat::WebP) => webp::read(bytes, options)?,
        Ok(::image::ImageFormat::Pnm) => pnm::read(bytes, options)?,
        Ok(other) => return Err(ImageError::FormatUnsupported { format: format!("{other:?}").to_uppercase() }),
        Err(_) => return Err(ImageError::NotAnImage),
    };
    raw.into_image(options)
}

/// Returns the number of pixels, if that and both sides are within their limits.
fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<u64, ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { width, height });
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(ImageError::SideLimit { width, height, limit: MAX_SIDE });
    }
    let (pixels, limit) = (u64::from(width) * u64::from(height), max_pixels.min(MAX_PIXELS));
    if pixels > limit {
        return Err(ImageError::PixelLimit { width, height, pixels, limit });
    }
    Ok(pixels)
}

fn check_samples(got: usize, want: u64) -> Result<(), ImageError> {
    if got as u64 == want { Ok(()) } else { Err(ImageError::SampleCount { got: got as u64, want }) }
}

#[cfg(test)]
mod tests;
