//! The calls, on references and slices.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use mlic::container::{Header, MAX_HEADER_LEN, SectionKind, parse};
use mlic::image::{Image, ImageError};
use mlic::metadata::{Metadata, MetadataPolicy};
use mlic::{
    BackendChoice, Codec, CodecOptions, ErrorKind, Limits, MAX_THREADS, Model, OutOfMemory, ProgressEvent, Quality, Rounding,
    Stage, Truncation, default_model,
};

use crate::status::Failure;

/// `mlic_codec`.
#[derive(Debug)]
pub struct Handle {
    codec: Codec,
    pub(crate) model_id: CString,
}

/// The settings in `mlic_options`.
pub(crate) struct Options<'a> {
    pub(crate) model_path: Option<&'a CStr>,
    pub(crate) backend: Option<&'a CStr>,
    pub(crate) max_pixels: u64,
    pub(crate) max_memory_bytes: u64,
    pub(crate) max_milliseconds: u64,
    pub(crate) threads: u32,
    pub(crate) effort: u32,
    pub(crate) rounding: u32,
}

/// The caller's function for each step. Its arguments are the stage, the number of passes done, and the number of all passes.
pub(crate) type Step<'a> = dyn Fn(&CStr, u32, u32) -> ControlFlow<()> + Sync + 'a;

impl Handle {
    pub(crate) fn new(options: &Options<'_>) -> Result<Self, Failure> {
        let threads = usize::try_from(options.threads).ok().filter(|threads| *threads <= MAX_THREADS.into());
        let threads = threads.ok_or_else(|| Failure::usage(format!("{} threads: at most {MAX_THREADS}", options.threads)))?;
        let effort = u8::try_from(options.effort);
        let effort = effort.map_err(|_| Failure::usage(format!("effort {}: at most {}", options.effort, u8::MAX)))?;
        let rounding = match options.rounding {
            0 => Rounding::RateDistortion,
            1 => Rounding::Nearest,
            other => return Err(Failure::usage(format!("rounding {other}: 0 or 1"))),
        };
        let backend = match options.backend {
            Some(name) => name.to_string_lossy().parse()?,
            None => BackendChoice::Auto,
        };
        let max_time = Some(options.max_milliseconds).filter(|limit| *limit > 0).map(Duration::from_millis);
        let limits = Limits::default().with_max_pixels(options.max_pixels).with_max_memory_bytes(options.max_memory_bytes);
        let own = CodecOptions::default().with_backend(backend).with_threads(threads).with_effort(effort).with_rounding(rounding);
        let own = own.with_metadata(MetadataPolicy::Strip).with_limits(limits.with_max_time(max_time));
        let open = || options.model_path.map_or_else(default_model, |path| Model::open(path_of(path)));
        let codec = Codec::new(mlic::on_threads(threads, open)??, own)?;
        let model_id = CString::new(codec.model().id().to_string()).unwrap_or_default();
        Ok(Self { codec, model_id })
    }

    pub(crate) fn quality_steps(&self) -> u32 {
        self.codec.model().quality_steps().into()
    }

    pub(crate) fn encode(&self, image: &Image, goal: Goal, step: &Step<'_>) -> Result<Vec<u8>, Failure> {
        let told = |event| tell(step, event);
        let watched = self.codec.watched(&told);
        let encoded = match goal {
            Goal::Quality(percent) => {
                let quality = Quality::new(percent).map_err(|error| Failure::usage(error.to_string()))?;
                watched.encode(image, quality)
            }
            Goal::Within(limit_bytes) => watched.encode_within(image, limit_bytes),
        };
        Ok(encoded?.stream)
    }

    /// Decodes a stream to a picture; if the stream is truncated, also says how far it goes.
    pub(crate) fn decode(&self, stream: &[u8], step: &Step<'_>) -> Result<(Image, Option<Truncation>), Failure> {
        let decoded = self.codec.watched(&|event| tell(step, event)).decode(stream)?;
        Ok((decoded.image, decoded.truncation))
    }

    pub(crate) fn slice_count(&self) -> usize {
        self.codec.model().config().slices
    }
}

/// What the encoder aims at.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// A quality in percent.
    Quality(f32),
    /// The highest quality whose stream has at most this many bytes.
    Within(u64),
}

fn tell(step: &Step<'_>, event: ProgressEvent) -> ControlFlow<()> {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (stage, pass, pass_count) = match event {
        ProgressEvent::Pass { index, count: all } => (Stage::Passes, count(index + 1), count(all)),
        ProgressEvent::Stage(stage) => (stage, 0, 0),
        _ => return ControlFlow::Continue(()),
    };
    let name = CString::new(stage.to_string()).unwrap_or_default();
    step(&name, pass, pass_count)
}

#[cfg(unix)]
fn path_of(path: &CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(path.to_bytes()).into()
}

/// The path, which is UTF-8 here.
#[cfg(not(unix))]
fn path_of(path: &CStr) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// Copies `len` bytes of the caller's, given in parts. Fails if there is no memory for the copy.
pub(crate) fn copy<'a>(len: usize, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, Failure> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(len).map_err(|_| OutOfMemory { bytes: len })?;
    parts.into_iter().for_each(|part| copy.extend_from_slice(part));
    Ok(copy)
}

/// Makes a picture from rows of samples.
pub(crate) fn picture<'a>(
    [width, height, channels]: [u32; 3],
    rows: impl Iterator<Item = &'a [u8]>,
    metadata: Metadata,
) -> Result<Image, Failure> {
    if width == 0 || height == 0 {
        // There may be so many rows without samples that walking over them takes too long.
        return Err(ImageError::Empty { width, height }.into());
    }
    // The product cannot overflow: these samples are in memory.
    let samples = copy([width, height, channels].into_iter().map(|n| n as usize).product(), rows)?;
    let mut image = match channels {
        1 => Image::from_gray(width, height, &samples),
        _ => Image::from_rgb(width, height, samples),
    }?;
    image.metadata = metadata;
    Ok(image)
}

/// Reads the header of a stream, whatever follows it.
pub(crate) fn header(stream: &[u8]) -> Result<Header, Failure> {
    Ok(parse(&stream[..stream.len().min(MAX_HEADER_LEN)])?.header)
}

/// Finds metadata of a kind in a stream.
pub(crate) fn metadata(stream: &[u8], kind: u32) -> Result<Option<&[u8]>, Failure> {
    let kinds = [SectionKind::ICC, SectionKind::EXIF, SectionKind::XMP];
    let unknown = || Failure::usage(format!("metadata of kind {kind}: 1 (ICC), 2 (EXIF) or 3 (XMP)"));
    let kind = kinds.into_iter().find(|known| u32::from(known.0) == kind).ok_or_else(unknown)?;
    let parsed = parse(stream)?;
    // Of several sections of one kind, the last counts (SPEC 6.2).
    match (parsed.sections.iter().rfind(|section| section.kind == kind), parsed.damage) {
        (Some(section), _) => Ok(Some(section.bytes)),
        (None, Some(damage)) => Err(damage.into()),
        (None, None) => Ok(None),
    }
}

/// Checks that a canvas of `[width, height, channels]` fits the picture of this header.
pub(crate) fn check_canvas([width, height, channels]: [u32; 3], header: &Header) -> Result<(), Failure> {
    if [width, height] != [header.width, header.height] {
        let (w, h) = (header.width, header.height);
        return Err(Failure::usage(format!("a canvas of {width} x {height} for a picture of {w} x {h}")));
    }
    if channels == 1 && !header.gray {
        return Err(Failure::usage("a canvas of one channel for a picture in colour"));
    }
    Ok(())
}

/// The samples of a picture in three channels or, for a gray picture only, in one.
pub(crate) fn samples(image: Image, channels: u32) -> Vec<u8> {
    let mut samples = image.rgb;
    if channels == 1 {
        let len = samples.len() / 3;
        (0..len).for_each(|i| samples[i] = samples[3 * i]);
        samples.truncate(len);
    }
    samples
}

/// The failure of decoding a truncated stream.
pub(crate) fn truncated(truncation: &Truncation) -> Failure {
    let Truncation { whole_slices, slice_count, have_bytes, need_bytes, .. } = truncation;
    let message = format!(
        "the stream ends after {have_bytes} of {need_bytes} bytes: {whole_slices} of {slice_count} latent slices are whole"
    );
    Failure::of(ErrorKind::Truncated, message)
}

#[cfg(test)]
mod tests {
    use mlic::container::{ModelId, Section, write};

    use super::*;

    #[test]
    fn of_several_of_one_kind_the_last_counts() {
        let own =
            Header { model_id: ModelId([0; 6]), width: 1, height: 1, quality: 0, gray: false, lanes_log2: 0, symbol_checksum: 0 };
        let section = |bytes| Section { kind: SectionKind::ICC, bytes };
        let stream = write(&own, b"payload", &[section(b"first"), section(b"last")]).unwrap();
        assert_eq!(metadata(&stream, 1).unwrap(), Some(&b"last"[..]));
        assert_eq!(metadata(&stream, 2).unwrap(), None);
        assert_eq!(header(&stream).unwrap(), own);
    }
}
