//! Decoded samples in the form of their file format, and their conversion to an [`Image`].

use image::{ColorType, ImageDecoder, Limits};
use mlic_core::limits::{MAX_SECTION_LEN, MAX_SIDE};
use mlic_core::memory;

use super::{Image, ImageError, ReadOptions, check_size};
use crate::metadata::{ICC_LEFT_OUT, Metadata, MetadataKind, MetadataPolicy, TURNED};

/// Samples in native byte order, not yet 8-bit RGB.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA.
    pub(super) channels: usize,
    /// Samples are u16 in native byte order, two bytes each.
    pub(super) wide: bool,
    pub(super) data: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) notes: Vec<String>,
}

/// A part of the metadata as its format gave it.
pub(super) enum Found {
    /// Not in the file.
    Absent,
    /// Read.
    Bytes(Vec<u8>),
    /// In the file, but not readable.
    Unreadable,
}

impl Found {
    /// From what a parser gave; `present` says whether the file has such a part.
    pub(super) fn new(parsed: Option<Vec<u8>>, present: bool) -> Self {
        match parsed {
            Some(bytes) if !bytes.is_empty() => Self::Bytes(bytes),
            Some(_) => Self::Absent,
            None if present => Self::Unreadable,
            None => Self::Absent,
        }
    }
}

impl Raw {
    /// Reads the pixels of `decoder` from a file of `have_bytes` bytes, after checking the size against the limits.
    pub(super) fn from_decoder<D: ImageDecoder>(
        format: &'static str,
        have_bytes: usize,
        mut decoder: D,
        options: &ReadOptions,
    ) -> Result<Self, ImageError> {
        let wrap = |e| ImageError::from_decoder(format, have_bytes, e);
        let (width, height) = decoder.dimensions();
        check_size(width, height, options.max_pixels)?;
        let (channels, wide) = match decoder.color_type() {
            ColorType::L8 => (1, false),
            ColorType::La8 => (2, false),
            ColorType::Rgb8 => (3, false),
            ColorType::Rgba8 => (4, false),
            ColorType::L16 => (1, true),
            ColorType::La16 => (2, true),
            ColorType::Rgb16 => (3, true),
            ColorType::Rgba16 => (4, true),
            other => return Err(ImageError::FormatUnsupported { format: format!("{format} with {other:?} samples") }),
        };
        let mut limits = Limits::no_limits();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        // Room for the samples twice: the largest working copy that a decoder needs beside its output.
        limits.max_alloc = Some(decoder.total_bytes().saturating_mul(2).saturating_add(MAX_SECTION_LEN));
        decoder.set_limits(limits).map_err(wrap)?;
        let mut data = memory::zeros(usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX))?;
        decoder.read_image(&mut data).map_err(wrap)?;
        Ok(Self { width, height, channels, wide, data, ..Self::default() })
    }

    /// Takes a part of the metadata; one that cannot be kept is an error or a note, as `policy` says.
    pub(super) fn attach(&mut self, kind: MetadataKind, found: Found, policy: MetadataPolicy) -> Result<(), ImageError> {
        let problem = match found {
            Found::Absent => return Ok(()),
            found if policy == MetadataPolicy::Strip => {
                self.note_of_looks(kind, found);
                return Ok(());
            }
            Found::Bytes(bytes) if bytes.len() as u64 <= MAX_SECTION_LEN => {
                self.metadata.set(kind, Some(bytes));
                return Ok(());
            }
            Found::Bytes(bytes) => {
                ImageError::MetadataLimit { kind, len_bytes: bytes.len() as u64, limit_bytes: MAX_SECTION_LEN }
            }
            Found::Unreadable => ImageError::MetadataUnreadable { kind, limit_bytes: MAX_SECTION_LEN },
        };
        if policy == MetadataPolicy::Keep {
            return Err(problem);
        }
        self.notes.push(format!("left out: {problem}"));
        Ok(())
    }

    /// Notes a part that is left out, if the picture looks different without it: a caller who wants no metadata may not know of it.
    fn note_of_looks(&mut self, kind: MetadataKind, found: Found) {
        let exif = Metadata { exif: if let Found::Bytes(bytes) = found { Some(bytes) } else { None }, ..Metadata::default() };
        match kind {
            MetadataKind::Icc => self.notes.push(ICC_LEFT_OUT.into()),
            MetadataKind::Exif if exif.is_turned() => self.notes.push(format!("EXIF left out{TURNED}")),
            _ => {}
        }
    }

    /// Notes what else the file has that no stream carries, unless the caller wants no metadata.
    pub(super) fn note_not_kept<S: AsRef<str>>(&mut self, names: &[S], policy: MetadataPolicy) {
        if !names.is_empty() && policy != MetadataPolicy::Strip {
            let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
            self.notes.push(format!("not kept from the file: {}", names.join(", ")));
        }
    }

    /// Refuses colours other than sRGB's that a stream cannot carry, declared by `chunks`, if the caller wants all metadata; else notes them.
    pub(super) fn check_colors(&mut self, chunks: &[&str], policy: MetadataPolicy) -> Result<(), ImageError> {
        if chunks.is_empty() {
            return Ok(());
        }
        let chunks = chunks.join(" and ");
        if policy == MetadataPolicy::Keep {
            return Err(ImageError::ColorSpaceUnsupported { chunks });
        }
        self.notes.push(format!("left out: {chunks}, so that the colours will be taken for those of sRGB"));
        Ok(())
    }

    /// Attaches EXIF without the `Exif\0\0` that JPEG and some WebP files put before the TIFF header.
    pub(super) fn attach_exif(&mut self, found: Found, policy: MetadataPolicy) -> Result<(), ImageError> {
        let found = match found {
            Found::Bytes(bytes) => match bytes.strip_prefix(b"Exif\0\0") {
                Some(tiff) => Found::new(Some(tiff.to_vec()), true),
                None => Found::Bytes(bytes),
            },
            other => other,
        };
        self.attach(MetadataKind::Exif, found, policy)
    }

    /// Converts to 8-bit RGB, if `options` allow the changes that this takes.
    pub(super) fn into_image(mut self, options: &ReadOptions) -> Result<Image, ImageError> {
        let opaque = self.is_opaque();
        self.narrow(options)?;
        let alpha = self.channels.is_multiple_of(2);
        let background = match (alpha, opaque, options.background) {
            (false, ..) => None,
            (true, true, _) => {
                self.notes.push("the alpha channel is opaque everywhere: left out".into());
                None
            }
            (true, false, None) => return Err(ImageError::AlphaUnsupported),
            (true, false, Some(color)) => {
                let [r, g, b] = color;
                self.notes.push(format!("alpha flattened onto #{r:02x}{g:02x}{b:02x}"));
                Some(color)
            }
        };
        let gray = self.channels <= 2 && background.is_none_or(|[r, g, b]| r == g && g == b);
        let Self { data, .. } = &self;
        let len = 3 * (data.len() / self.channels);
        let rgb = match (self.channels, background) {
            (3, _) => self.data,
            (1, _) => memory::collect(len, data.iter().flat_map(|&v| [v; 3]))?,
            (2, None) => memory::collect(len, data.as_chunks::<2>().0.iter().flat_map(|&[v, _]| [v; 3]))?,
            (2, Some(onto)) => memory::collect(len, data.as_chunks::<2>().0.iter().flat_map(|&[v, a]| flatten([v; 3], a, onto)))?,
            (_, None) => memory::collect(len, data.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]))?,
            (_, Some(onto)) => {
                memory::collect(len, data.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| flatten([r, g, b], a, onto)))?
            }
        };
        let image = Image::from_rgb(self.width, self.height, rgb)?;
        Ok(Image { gray, metadata: self.metadata, notes: self.notes, ..image })
    }

    /// Whether there is no alpha channel, or one that is at its maximum everywhere.
    fn is_opaque(&self) -> bool {
        let sample_bytes = if self.wide { 2 } else { 1 };
        let pixel_bytes = self.channels * sample_bytes;
        self.channels % 2 == 1
            || self.data.chunks_exact(pixel_bytes).all(|p| p.iter().rev().take(sample_bytes).all(|&b| b == 0xff))
    }

    /// Reduces samples to 8 bits: exactly, or by rounding where that is allowed.
    fn narrow(&mut self, options: &ReadOptions) -> Result<(), ImageError> {
        if !self.wide {
            return Ok(());
        }
        let samples = || self.data.as_chunks::<2>().0.iter().map(|&b| u32::from(u16::from_ne_bytes(b)));
        let exact = samples().all(|v| v % 257 == 0);
        if !exact && !options.reduce_depth {
            return Err(ImageError::DepthUnsupported { bits: 16 });
        }
        let narrow = memory::collect(self.data.len() / 2, samples().map(|v| ((v + 128) / 257) as u8))?;
        let how = if exact { "exactly" } else { "by rounding" };
        self.data = narrow;
        self.wide = false;
        self.notes.push(format!("16-bit samples reduced to 8 bits {how}"));
        Ok(())
    }
}

/// Blends `color` over `onto` with weight `alpha` / 255, rounded, in the samples as they are.
fn flatten(color: [u8; 3], alpha: u8, onto: [u8; 3]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    let blend = |c: u8, b: u8| ((u32::from(c) * alpha + u32::from(b) * (255 - alpha) + 127) / 255) as u8;
    let ([r, g, b], [br, bg, bb]) = (color, onto);
    [blend(r, br), blend(g, bg), blend(b, bb)]
}
