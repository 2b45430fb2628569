//! Why a picture could not be read or written.

use ::image::error::UnsupportedErrorKind;
use mlic_core::memory::OutOfMemory;
use thiserror::Error;

use crate::metadata::MetadataKind;

/// A cause from the crate that parses the format.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a picture could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The content is none of the formats.
    #[error("not a PNG, JPEG, WebP, PPM, PGM, PBM or PAM file")]
    NotAnImage,
    /// A picture format that is not read here, or a variant that is not read of one that is.
    #[error("{format} is not supported: convert it to PNG, JPEG, WebP, PPM, PGM, PBM or PAM")]
    FormatUnsupported {
        /// Name of the format, or of the feature.
        format: String,
    },
    /// The file breaks the rules of its format.
    #[error("damaged {format} file")]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// What the parser found.
        source: Source,
    },
    /// The file ends before the picture does.
    #[error("truncated {format} file: it ends after {have_bytes} bytes, before the picture does")]
    Truncated {
        /// Name of the format.
        format: &'static str,
        /// Length of the file.
        have_bytes: u64,
    },
    /// A side is zero.
    #[error("empty picture: {width}x{height}")]
    Empty {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A side is too long.
    #[error("{width}x{height} is too large: at most {limit} pixels per side")]
    SideLimit {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The largest side.
        limit: u32,
    },
    /// Too many pixels.
    #[error("{width}x{height} is too large: {pixels} pixels, at most {limit}")]
    PixelLimit {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Their product.
        pixels: u64,
        /// The largest product.
        limit: u64,
    },
    /// There is no memory for the samples.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// Reading takes more memory, beside the samples, than files of this format need.
    #[error("reading this {format} file takes more memory than a picture of its size should: write it anew")]
    WorkLimit {
        /// Name of the format.
        format: &'static str,
    },
    /// Alpha that is not opaque, and no background colour to flatten it onto.
    #[error("the alpha channel is not opaque and a stream has none: give a background colour to flatten it")]
    AlphaUnsupported,
    /// More than 8 bits per sample that matter, and no permission to round them.
    #[error("{bits} bits per sample, a stream has 8")]
    DepthUnsupported {
        /// Bits per sample.
        bits: u8,
    },
    /// A bit depth that cannot be read at all.
    #[error("{format} with {bits} bits per sample cannot be read: convert it to 8 bits")]
    DepthUnreadable {
        /// Name of the format.
        format: &'static str,
        /// Bits per sample.
        bits: u8,
    },
    /// A colour model other than gray and RGB.
    #[error("{color} colours are not supported: convert the picture to RGB")]
    ColorUnsupported {
        /// Name of the colour model.
        color: &'static str,
    },
    /// More than one frame.
    #[error("animated {format}: a stream holds one picture, extract one frame")]
    AnimationUnsupported {
        /// Name of the format.
        format: &'static str,
    },
    /// Several pictures one after the other in a file.
    #[error("several pictures in one {format} file: a stream holds one, extract it")]
    SeveralPictures {
        /// Name of the format.
        format: &'static str,
    },
    /// Chunks say that the colours are not those of sRGB, which no stream can carry.
    #[error(
        "the file declares colours other than those of sRGB ({chunks}), which a stream cannot carry: convert the picture, or give it an ICC profile"
    )]
    ColorSpaceUnsupported {
        /// The chunks that say so.
        chunks: String,
    },
    /// Metadata that does not fit a section of a stream.
    #[error("{kind} of {len_bytes} bytes, a section holds at most {limit_bytes}")]
    MetadataLimit {
        /// Which part.
        kind: MetadataKind,
        /// Its length.
        len_bytes: u64,
        /// Largest length.
        limit_bytes: u64,
    },
    /// Metadata that is present but cannot be read.
    #[error("the {kind} is there and cannot be read: damaged, or over {limit_bytes} bytes")]
    MetadataUnreadable {
        /// Which part.
        kind: MetadataKind,
        /// Largest length that was tried.
        limit_bytes: u64,
    },
    /// The sample count does not fit the size.
    #[error("{got} samples, the size needs {want}")]
    SampleCount {
        /// Samples given.
        got: u64,
        /// Samples needed.
        want: u64,
    },
    /// The writer of the format failed.
    #[error("cannot write {format}")]
    Write {
        /// Name of the format.
        format: &'static str,
        /// What the writer says.
        source: Source,
    },
}

impl ImageError {
    /// Converts an error of the `image` crate's parser of `format`, for a file of `have_bytes` bytes.
    pub(super) fn from_decoder(format: &'static str, have_bytes: usize, error: ::image::ImageError) -> Self {
        match error {
            ::image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Truncated { format, have_bytes: have_bytes as u64 }
            }
            ::image::ImageError::Limits(_) => Self::WorkLimit { format },
            ::image::ImageError::Unsupported(e) => Self::FormatUnsupported {
                format: match e.kind() {
                    UnsupportedErrorKind::GenericFeature(feature) => format!("{format} with {feature}"),
                    UnsupportedErrorKind::Color(color) => format!("{format} with {color:?} samples"),
                    _ => format!("this kind of {format}"),
                },
            },
            e => Self::Damaged { format, source: Box::new(e) },
        }
    }
}
