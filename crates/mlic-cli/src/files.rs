//! Files and models that commands read.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mlic::container::{MAX_HEADER_LEN, MAX_PAYLOAD_LEN, MAX_SECTION_COUNT};
use mlic::image::{Image, ReadOptions, read_image};
use mlic::limits::{MAX_PIXELS, MAX_SECTION_LEN};
use mlic::output::{Destination, Output};
use mlic::{Codec, CodecOptions, DecodeLimits, Model};

use crate::args::Global;
use crate::console;
use crate::exit::{Exit, Failure};

/// Longest picture file that is read for a limit on pixels: every sample at its widest, with metadata.
const fn max_picture_len(max_pixels: u64) -> u64 {
    let pixels = if max_pixels < MAX_PIXELS { max_pixels } else { MAX_PIXELS };
    8 * pixels + 16 * MAX_SECTION_LEN
}
/// Longest stream: every part at its limit. A section has at most 16 bytes before its contents.
const MAX_STREAM_LEN: u64 = MAX_HEADER_LEN as u64 + MAX_PAYLOAD_LEN + MAX_SECTION_COUNT * (MAX_SECTION_LEN + 16);

/// Whether an argument means standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// How messages name an input.
pub(crate) fn input_name(path: &Path) -> String {
    if is_dash(path) { "standard input".into() } else { path.display().to_string() }
}

/// The bytes of a stream.
pub(crate) fn read_stream(path: &Path) -> Result<Vec<u8>, Failure> {
    read_bytes(path, MAX_STREAM_LEN)
}

/// A picture; what reading changed is noted.
pub(crate) fn read_picture(path: &Path, options: &ReadOptions, global: &Global) -> Result<Image, Failure> {
    use mlic::image::ImageError as E;
    let bytes = read_bytes(path, max_picture_len(global.max_pixels))?;
    let mut options = options.clone();
    options.max_pixels = global.max_pixels;
    let image = read_image(&bytes, &options).map_err(|error| {
        let failure = Failure::from_error(Exit::Input, "cannot read", input_name(path), &error);
        match error {
            E::AlphaUnsupported => failure.hint("--background RRGGBB"),
            E::PixelLimit { limit, .. } if limit < MAX_PIXELS => failure.hint("--max-pixels N allows more"),
            E::DepthUnsupported { .. } => failure.hint("--reduce-depth"),
            E::MetadataLimit { .. } | E::MetadataUnreadable { .. } => failure.hint("--metadata fit leaves it out"),
            _ => failure,
        }
    })?;
    image.notes.iter().for_each(|note| console::note(global, input_name(path), note));
    Ok(image)
}

/// Any file, up to `limit` bytes.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if is_dash(path) {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };
    let failure = |cause: &dyn Display| Failure::new(Exit::Input, "cannot read", input_name(path), cause);
    read.map_err(|e| failure(&e))?;
    if bytes.len() as u64 > limit { Err(failure(&format_args!("more than {limit} bytes"))) } else { Ok(bytes) }
}

/// The output that a command names, or `input` with another extension; found writable as far as that can be known.
pub(crate) fn output(input: &Path, named: Option<&Path>, extension: &str, global: &Global) -> Result<Output, Failure> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None if is_dash(input) => PathBuf::from("-"),
        None => input.with_extension(extension),
    };
    if !is_dash(&path) && !is_dash(input) && same_file(input, &path) {
        return Err(Failure::usage(path.display(), "it is the input too"));
    }
    let output = Output::new(Destination::from_argument(&path), global.force);
    output.check().map_err(|error| output_failure(&output, &error))?;
    Ok(output)
}

/// Writes all of it or, to a file, nothing.
pub(crate) fn write(output: &Output, bytes: &[u8]) -> Result<(), Failure> {
    output.write(bytes).map_err(|error| output_failure(output, &error))
}

fn output_failure(output: &Output, error: &mlic::output::OutputError) -> Failure {
    let failure = Failure::from_error(Exit::Output, "cannot write", output.destination(), error);
    match error {
        mlic::output::OutputError::Exists => failure.hint("--force overwrites it"),
        _ => failure,
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let is_file = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    is_file(a).is_some_and(|a| is_file(b).is_some_and(|b| a == b))
}

/// The codec that the global options ask for.
pub(crate) fn codec(global: &Global) -> Result<Codec, Failure> {
    let options = CodecOptions { backend: global.backend, threads: global.threads, ..CodecOptions::default() };
    let mut limits = DecodeLimits::default();
    limits.max_pixels = global.max_pixels;
    limits.max_memory_bytes = global.max_memory.saturating_mul(1 << 20);
    limits.max_time = global.max_seconds;
    Codec::new(model(global.model.as_deref(), global)?, options)
        .map(|codec| codec.decode_limits(limits))
        .map_err(|error| Failure::from_codec("cannot start", format_args!("backend {}", global.backend), &error))
}

/// A model package, or the model of this program.
pub(crate) fn model(package: Option<&Path>, global: &Global) -> Result<Model, Failure> {
    let load = || package.map_or_else(mlic::default_model, Model::open);
    let loaded = mlic::on_threads(global.threads, load);
    let loaded =
        loaded.map_err(|error| Failure::from_codec("cannot start", format_args!("{} threads", global.threads), &error))?;
    loaded.map_err(|error| match package {
        Some(path) => Failure::from_error(Exit::Model, "cannot use model", path.display(), &error),
        None => Failure::from_error(Exit::Model, "cannot use model", "of this program", &error).hint("--model PACKAGE"),
    })
}
