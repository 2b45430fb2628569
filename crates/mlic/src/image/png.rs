//! PNG, through the `png` crate itself: `image` does not reach chunks after the pixels and reads no EXIF or XMP there.

use std::io::Cursor;

use mlic_core::limits::MAX_SECTION_LEN;
use mlic_core::memory;
use png::{ColorType, Transformations};

use super::raw::{Found, Raw};
use super::{ImageError, ReadOptions, check_size};
use crate::metadata::MetadataKind;

const FORMAT: &str = "PNG";
/// Keyword of the iTXt chunk that holds XMP.
pub(super) const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
/// Largest memory for rows and chunks, in bytes, beside the samples. A chunk is charged twice: as it grows and as it
/// is kept. 65535 pixels of 8 bytes take half a MiB.
const WORK_BYTES: usize = 4 * MAX_SECTION_LEN as usize;
/// Most types of chunks that a note names: a file can have as many types as chunks.
const MAX_NAMED: usize = 8;
/// Most chunks of text: the parser keeps an object for each, which [`WORK_BYTES`] does not count.
const MAX_TEXTS: usize = 1000;
/// Deflate expands a byte to at most this many: a file too short for its size is refused before pixels are allocated.
const DEFLATE_RATIO: u64 = 1032;
/// Chunks that change neither the pixels nor anything that is kept.
const SILENT: [&[u8; 4]; 11] =
    [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"iCCP", b"eXIf", b"hIST", b"sPLT", b"sBIT", b"bKGD", b"tIME"];
/// Values of gAMA and cHRM for sRGB, in units of 1e-5. A picture without these chunks is taken to be sRGB.
const SRGB_GAMMA: [u32; 1] = [45_455];
const SRGB_PRIMARIES: [u32; 8] = [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000];
/// How far gAMA and cHRM may be from these values: writers round them, and nobody sees it.
const SRGB_TOLERANCE: u32 = 500;
/// Value of cICP for sRGB: primaries and transfer function of sRGB, RGB, full range.
const SRGB_CODES: [u8; 4] = [1, 13, 0, 1];

/// Reads a PNG file; if its text and profile are beyond the limit, without them.
pub(super) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Raw, ImageError> {
    match read_chunks(bytes, options, true) {
        Err(ImageError::WorkLimit { .. }) => read_chunks(bytes, options, false),
        result => result,
    }
}

fn read_chunks(bytes: &[u8], options: &ReadOptions, with_texts: bool) -> Result<Raw, ImageError> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: WORK_BYTES });
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(!with_texts);
    decoder.set_ignore_iccp_chunk(!with_texts);
    let info = decoder.read_header_info().map_err(|e| wrap(bytes, e))?;
    check_size(info.width, info.height, options.max_pixels)?;
    if (info.raw_bytes() as u64).div_ceil(DEFLATE_RATIO) > bytes.len() as u64 {
        return Err(ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 });
    }
    let chunks = Chunks::walk(bytes);
    if chunks.animation {
        return Err(ImageError::AnimationUnsupported { format: FORMAT });
    }
    if chunks.texts > MAX_TEXTS {
        return Err(ImageError::FormatUnsupported { format: format!("PNG with more than {MAX_TEXTS} chunks of text") });
    }
    let mut reader = decoder.read_info().map_err(|e| wrap(bytes, e))?;
    let mut raw = Raw { width: reader.info().width, height: reader.info().height, ..Raw::default() };
    let (color, depth) = reader.output_color_type();
    raw.channels = color.samples();
    raw.wide = depth == png::BitDepth::Sixteen;
    if color == ColorType::Indexed {
        return Err(ImageError::FormatUnsupported { format: "PNG with a palette that does not expand".into() });
    }
    // Bounded by the limits on pixels: at most 8 bytes for each.
    raw.data = memory::zeros(reader.output_buffer_size().unwrap_or_default())?;
    reader.next_frame(&mut raw.data).map_err(|e| wrap(bytes, e))?;
    reader.finish().map_err(|e| wrap(bytes, e))?;
    if raw.wide {
        raw.data.as_chunks_mut::<2>().0.iter_mut().for_each(|b| *b = u16::from_be_bytes(*b).to_ne_bytes());
    }
    let info = reader.info();
    raw.attach(MetadataKind::Icc, Found::new(owned(&info.icc_profile), chunks.icc), options.metadata)?;
    raw.attach_exif(Found::new(owned(&info.exif_metadata), chunks.exif), options.metadata)?;
    raw.attach(MetadataKind::Xmp, xmp(info, chunks.xmp), options.metadata)?;
    raw.check_colors(&chunks.colors(), options.metadata)?;
    raw.note_not_kept(&chunks.not_kept, options.metadata);
    Ok(raw)
}

fn owned(bytes: &Option<std::borrow::Cow<'_, [u8]>>) -> Option<Vec<u8>> {
    bytes.as_ref().map(|b| b.to_vec())
}

fn xmp(info: &png::Info<'_>, present: bool) -> Found {
    let text = info.utf8_text.iter().find(|chunk| chunk.keyword == XMP_KEYWORD).cloned().and_then(|mut chunk| {
        chunk.decompress_text_with_limit(WORK_BYTES).ok()?;
        chunk.get_text().ok()
    });
    Found::new(text.map(String::into_bytes), present)
}

fn wrap(bytes: &[u8], error: png::DecodingError) -> ImageError {
    match error {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: FORMAT, have_bytes: bytes.len() as u64 }
        }
        png::DecodingError::LimitsExceeded => ImageError::WorkLimit { format: FORMAT },
        e => ImageError::Damaged { format: FORMAT, source: Box::new(e) },
    }
}

/// Which chunks the file has. The parser skips ancillary chunks that it cannot read, without saying so.
#[derive(Debug, Default)]
struct Chunks {
    icc: bool,
    exif: bool,
    xmp: bool,
    animation: bool,
    /// Chunks of text, of any kind.
    texts: usize,
    /// There is an sRGB chunk, which overrides gAMA and cHRM.
    srgb: bool,
    /// There is a cICP chunk, which overrides all others.
    code: bool,
    /// Whether cICP, gAMA and cHRM declare colours other than sRGB's.
    other_code: bool,
    other_gamma: bool,
    other_primaries: bool,
    /// Types of chunks whose content is lost, each once: at most [`MAX_NAMED`], then `others`.
    not_kept: Vec<String>,
}

impl Chunks {
    fn walk(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut rest = bytes.get(8..).unwrap_or_default();
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let [a, b, c, d, kind @ ..] = *head;
            let len = u32::from_be_bytes([a, b, c, d]) as usize;
            if kind == *b"IEND" {
                break;
            }
            found.chunk(&kind, body.get(..len).unwrap_or(body));
            rest = len.checked_add(4).and_then(|skip| body.get(skip..)).unwrap_or_default();
        }
        found
    }

    /// The chunks that declare colours other than sRGB's. Precedence has cICP before all others, then a profile, then sRGB, then the rest.
    fn colors(&self) -> Vec<&'static str> {
        let rest = !(self.code || self.icc || self.srgb);
        let all = [(self.other_code, "cICP"), (rest && self.other_gamma, "gAMA"), (rest && self.other_primaries, "cHRM")];
        all.into_iter().filter_map(|(is_other, chunk)| is_other.then_some(chunk)).collect()
    }

    fn chunk(&mut self, kind: &[u8; 4], body: &[u8]) {
        self.texts += usize::from([b"tEXt", b"zTXt", b"iTXt"].contains(&kind));
        match kind {
            b"iCCP" => self.icc = true,
            b"eXIf" => self.exif = true,
            b"acTL" => self.animation = true,
            b"iTXt" if body.strip_prefix(XMP_KEYWORD.as_bytes()).is_some_and(|rest| rest.starts_with(b"\0")) => self.xmp = true,
            b"sRGB" => self.srgb = true,
            b"cICP" => (self.code, self.other_code) = (true, body != SRGB_CODES),
            b"gAMA" => self.other_gamma = !is_about(body, &SRGB_GAMMA),
            b"cHRM" => self.other_primaries = !is_about(body, &SRGB_PRIMARIES),
            _ if SILENT.contains(&kind) => {}
            _ => {
                let name = if self.not_kept.len() < MAX_NAMED { kind.escape_ascii().to_string() } else { "others".into() };
                if !self.not_kept.contains(&name) {
                    self.not_kept.push(name);
                }
            }
        }
    }
}

/// Whether a chunk holds these numbers, within [`SRGB_TOLERANCE`].
fn is_about(body: &[u8], numbers: &[u32]) -> bool {
    let (found, rest) = body.as_chunks::<4>();
    let near = |(found, number): (&[u8; 4], &u32)| u32::from_be_bytes(*found).abs_diff(*number) <= SRGB_TOLERANCE;
    rest.is_empty() && found.len() == numbers.len() && found.iter().zip(numbers).all(near)
}
