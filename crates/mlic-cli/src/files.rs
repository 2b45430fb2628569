//! Files and models that commands read.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use mlic::container::{self, MAX_HEADER_LEN, MAX_PAYLOAD_LEN, MAX_SECTION_COUNT};
use mlic::image::{HEAD_LEN, Image, ImageError, ReadOptions, is_picture, read_image};
use mlic::limits::{MAX_PIXELS, MAX_SECTION_LEN};
use mlic::{BackendError, Codec, CodecOptions, Error, Limits, Model, ModelError};
use mlic_model::package::{self, MAX_PACKAGE_LEN};
use mlic_output::{Destination, Output, OutputError};

use crate::args::{CodecArgs, Global, MaxPixels, WriteArgs};
use crate::console;
use crate::exit::{Exit, Failure};

/// Bytes of the longest picture file that is read under a limit on pixels: every sample at its widest, with metadata.
const fn max_picture_len(max_pixels: u64) -> u64 {
    let pixels = if max_pixels < MAX_PIXELS { max_pixels } else { MAX_PIXELS };
    8 * pixels + 16 * MAX_SECTION_LEN
}
/// Bytes of the longest stream: every part at its limit. A section has at most 16 bytes before its contents.
const MAX_STREAM_LEN: u64 = MAX_HEADER_LEN as u64 + MAX_PAYLOAD_LEN + MAX_SECTION_COUNT * (MAX_SECTION_LEN + 16);

/// Whether an argument means standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// How messages name an input.
pub(crate) fn input_name(path: &Path) -> String {
    if is_dash(path) { "standard input".into() } else { path.display().to_string() }
}

/// Reads a stream. If a file does not begin like one, only its first bytes are read.
pub(crate) fn read_stream(path: &Path) -> Result<Vec<u8>, Failure> {
    let magic = container::MAGIC;
    read_limited(path, magic.len() as u64, |head| if head == magic { Some(MAX_STREAM_LEN) } else { None })
}

/// The bytes of a stream or of a package.
pub(crate) enum Content {
    Stream(Vec<u8>),
    Package(Vec<u8>),
}

/// Reads a stream or a package, told apart by the first bytes, each up to its own limit.
pub(crate) fn read_stream_or_package(path: &Path) -> Result<Content, Failure> {
    let is_package = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().zip(&package::MAGIC).all(|(a, b)| a == b);
    let limit = |head: &[u8]| Some(if is_package(head) { MAX_PACKAGE_LEN } else { MAX_STREAM_LEN });
    let bytes = read_limited(path, package::MAGIC.len() as u64, limit)?;
    Ok(if is_package(&bytes) { Content::Package(bytes) } else { Content::Stream(bytes) })
}

/// Reads a picture, for commands with options that change it. Notes what reading changed.
pub(crate) fn read_picture(path: &Path, options: &ReadOptions, max: MaxPixels, global: &Global) -> Result<Image, Failure> {
    use mlic::image::ImageError as E;
    read_with(path, options, max, global, |error| match error {
        E::AlphaUnsupported => Some("--background RRGGBB"),
        E::DepthUnsupported { .. } => Some("--reduce-depth"),
        E::MetadataLimit { .. } | E::MetadataUnreadable { .. } => Some("--metadata fit leaves it out"),
        E::ColorSpaceUnsupported { .. } => Some("--metadata fit takes them for those of sRGB"),
        _ => None,
    })
}

/// Reads a picture, for commands without options that change it.
#[cfg(feature = "builder")]
pub(crate) fn read_unchanged(path: &Path, options: &ReadOptions, max: MaxPixels, global: &Global) -> Result<Image, Failure> {
    use mlic::image::ImageError as E;
    read_with(path, options, max, global, |error| match error {
        E::AlphaUnsupported => Some("flatten it first"),
        E::DepthUnsupported { .. } => Some("round it to 8 bits first"),
        _ => None,
    })
}

fn read_with(
    path: &Path,
    options: &ReadOptions,
    max: MaxPixels,
    global: &Global,
    hint: impl Fn(&ImageError) -> Option<&'static str>,
) -> Result<Image, Failure> {
    let limit = |head: &[u8]| is_picture(head).then(|| max_picture_len(max.limit));
    let bytes = read_limited(path, HEAD_LEN as u64, limit)?;
    let options = options.clone().with_max_pixels(max.limit);
    let image = read_image(&bytes, &options).map_err(|error| {
        let failure = |exit| Failure::from_error(exit, "cannot read", input_name(path), &error);
        match (&error, hint(&error)) {
            // If no picture may have so many pixels, raising the user's limit does not help.
            (ImageError::PixelLimit { pixels, .. }, _) if *pixels <= MAX_PIXELS => {
                failure(Exit::Budget).hint("--max-pixels N allows more")
            }
            (ImageError::OutOfMemory(_), _) => failure(Exit::Budget),
            (_, Some(hint)) => failure(Exit::Input).hint(hint),
            _ => failure(Exit::Input),
        }
    })?;
    image.notes.iter().for_each(|note| console::note(global, input_name(path), note));
    Ok(image)
}

/// Reads any file of up to `limit` bytes.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    read_limited(path, 0, |_| Some(limit))
}

/// Reads any file, up to the length that `limit` returns for the first `head` bytes. If it returns `None`, only these are read.
fn read_limited(path: &Path, head: u64, limit: impl FnOnce(&[u8]) -> Option<u64>) -> Result<Vec<u8>, Failure> {
    let failure = |exit, cause: &dyn Display| Failure::new(exit, "cannot read", input_name(path), cause);
    let mut bytes = Vec::new();
    let read = || -> io::Result<u64> {
        let mut file: Box<dyn Read> = if is_dash(path) { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
        file.by_ref().take(head).read_to_end(&mut bytes)?;
        let Some(limit) = limit(&bytes) else { return Ok(head) };
        file.take((limit + 1).saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
        Ok(limit)
    };
    let limit = read().map_err(|e| match e.kind() {
        io::ErrorKind::OutOfMemory => failure(Exit::Budget, &e),
        _ => failure(Exit::Input, &e),
    })?;
    if bytes.len() as u64 > limit { Err(failure(Exit::Input, &format_args!("more than {limit} bytes"))) } else { Ok(bytes) }
}

/// The output for an input, checked to be writable as far as that can be known.
pub(crate) fn output(input: &Path, path: &Path, args: WriteArgs) -> Result<Output, Failure> {
    if !is_dash(path) && !is_dash(input) && same_file(input, path) {
        return Err(Failure::usage(path.display(), "it is the input too"));
    }
    let output = Output::new(Destination::from_argument(path), args.force);
    check(&output)?;
    Ok(output)
}

/// Checks for what can be known to fail before there is something to write.
pub(crate) fn check(output: &Output) -> Result<(), Failure> {
    output.check().map_err(|error| output_failure(output, &error))
}

/// Writes all of the bytes or, to a file, nothing.
pub(crate) fn write(output: &Output, bytes: &[u8]) -> Result<(), Failure> {
    write_with(output, |to| to.write_all(bytes))
}

/// Writes what `write` produces, all of it or, to a file, nothing.
pub(crate) fn write_with(output: &Output, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    output.write_with(write).map_err(|error| output_failure(output, &error))
}

fn output_failure(output: &Output, error: &OutputError) -> Failure {
    let failure = Failure::from_error(Exit::Output, "cannot write", output.destination(), error);
    match error {
        OutputError::Exists => failure.hint("--force overwrites it"),
        OutputError::Io { source } if source.kind() == io::ErrorKind::BrokenPipe => failure.silent(),
        _ => failure,
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let is_file = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    is_file(a).is_some_and(|a| is_file(b).is_some_and(|b| a == b))
}

/// Makes a codec with these options and those of the command line.
pub(crate) fn codec(options: CodecOptions, args: &CodecArgs, global: &Global) -> Result<Codec, Failure> {
    let limits = Limits::default().with_max_pixels(args.pixels.limit).with_max_memory_bytes(args.max_memory.0);
    let limits = limits.with_max_time(args.max_seconds);
    let options = options.with_backend(args.backend).with_threads(global.threads).with_limits(limits);
    Codec::new(model(global.model.as_deref(), global)?, options).map_err(|error| match error {
        Error::Backend(BackendError::NotExact { .. }) => Failure::from_codec("cannot use", "--pixels exact", &error),
        Error::Backend(BackendError::NotAvailable { backend, reason }) => {
            Failure::new(Exit::Backend, "not available", format_args!("backend {backend}"), reason)
        }
        error => Failure::from_codec("cannot start", format_args!("backend {}", args.backend), &error),
    })
}

/// Loads a model package, or the model of this program.
pub(crate) fn model(package: Option<&Path>, global: &Global) -> Result<Model, Failure> {
    on_threads(global, || package.map_or_else(own_model, package_at))
}

/// Runs work whose parallel loops use as many threads as the user asked for.
pub(crate) fn on_threads<R: Send>(global: &Global, work: impl FnOnce() -> Result<R, Failure> + Send) -> Result<R, Failure> {
    mlic::on_threads(global.threads, work)
        .map_err(|error| Failure::from_codec("cannot start", format_args!("{} threads", global.threads), &error))?
}

/// Loads the model package that was asked for, else the model of this program, if it has one.
pub(crate) fn model_in_use(global: &Global) -> Result<Option<Model>, Failure> {
    match &global.model {
        Some(package) => model(Some(package), global).map(Some),
        None => Ok(model(None, global).ok()),
    }
}

fn own_model() -> Result<Model, Failure> {
    mlic::default_model().map_err(|error| {
        let is_full = error.out_of_memory().is_some();
        let failure = model_failure("of this program", error);
        if is_full { failure } else { failure.hint("--model PACKAGE") }
    })
}

fn package_at(path: &Path) -> Result<Model, Failure> {
    // Standard input and pipes have no length, so that they are read up to a limit.
    let model = if path.is_file() { Model::open(path) } else { Model::from_bytes(read_bytes(path, MAX_PACKAGE_LEN)?) };
    model.map_err(|error| match error {
        ModelError::Io { source, .. } => Failure::new(Exit::Input, "cannot read", path.display(), source),
        error => model_failure(input_name(path), error),
    })
}

pub(crate) fn model_failure(place: impl Display, error: ModelError) -> Failure {
    match error {
        ModelError::Io { .. } => Failure::from_error(Exit::Input, "cannot use model", place, &error),
        error => Failure::from_codec("cannot use model", place, &error.into()),
    }
}
