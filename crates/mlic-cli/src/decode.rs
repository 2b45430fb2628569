//! `mlic decode`.

use std::path::Path;
use std::time::Instant;

use mlic::container::{self, SectionKind};
use mlic::image::{Image, OutputFormat, PictureFile};
use mlic::metadata::{ICC_LEFT_OUT, Metadata, MetadataKind, TURNED};
use mlic::{Codec, CodecOptions, Truncation};
use mlic_output::Output;

use crate::args::{DecodeArgs, Global, MetadataArg};
use crate::batch::{self, Inputs};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::progress::Progress;

pub(crate) fn run(args: &DecodeArgs, global: &Global) -> Result<(), Failure> {
    batch::check_operands(&args.inputs, args.output.as_deref(), &batch::PICTURES)?;
    let format = output_format(args)?;
    let inputs = Inputs::expand(&args.inputs, &batch::STREAMS)?;
    let outputs = inputs.outputs(args.output.as_deref(), format.extension())?;
    let options = CodecOptions::default().with_pixels(args.pixels.mode()).with_metadata(args.metadata.into());
    let codec = files::codec(options, &args.codec, global)?;
    let end = batch::each(inputs, &outputs, |pair| decode(&codec, format, pair, args, global));
    // Freeing its memory would take time, and the process is about to end anyway.
    std::mem::forget(codec);
    end
}

fn decode(
    codec: &Codec,
    format: OutputFormat,
    (input, path): (&Path, &Path),
    args: &DecodeArgs,
    global: &Global,
) -> Result<(), Failure> {
    let name = files::input_name(input);
    let output = files::output(input, path, args.write)?;
    let stream = files::read_stream(input)?;
    let start = Instant::now();
    let progress = Progress::new(global);
    let decoded = codec.watched(&|event| progress.event(event)).decode(&stream);
    let decoded = decoded.map_err(|e| Failure::from_codec("cannot decode", &name, &e))?;
    drop(progress);
    decoded.image.notes.iter().for_each(|note| console::note(global, &name, note));
    if let MetadataArg::Strip = args.metadata {
        note_stripped(&stream, &name, global);
    }
    let (width, height) = (decoded.image.width, decoded.image.height);
    write_picture(decoded.image, format, &output, path, global)?;
    console::verbose(
        global,
        format_args!("{name}: {width}x{height}, {} bytes, {:.3} s", stream.len(), start.elapsed().as_secs_f64()),
    );
    for time in &decoded.report.stages {
        console::verbose(global, format_args!("{}: {:.3} s on {}", time.stage, time.seconds, time.device));
    }
    decoded.truncation.map_or(Ok(()), |truncation| Err(truncated(&name, &truncation, &output)))
}

/// The format that the extension of the output or `--format` names, or PNG. Extension and `--format` must not contradict each other.
fn output_format(args: &DecodeArgs) -> Result<OutputFormat, Failure> {
    let asked = args.format.map(OutputFormat::from);
    let Some(path) = args.output.as_deref().filter(|path| path.extension().is_some() && !path.is_dir()) else {
        return Ok(asked.unwrap_or(OutputFormat::Png));
    };
    match (OutputFormat::from_path(path), asked) {
        (Some(named), Some(asked)) if named != asked => {
            Err(Failure::usage(path.display(), format_args!("the name says {named}, --format says {asked}")))
        }
        (Some(format), _) | (None, Some(format)) => Ok(format),
        (None, None) => Err(Failure::usage(path.display(), "pictures are written as .png, .ppm, .pgm or .pnm, or give --format")),
    }
}

/// Notes what a user who strips metadata may not know of: the picture looks different without a profile or an orientation.
fn note_stripped(stream: &[u8], name: &str, global: &Global) {
    let Ok(stream) = container::parse(stream) else { return };
    if stream.tail_damage().is_some() {
        console::note(global, name, "what follows the payload is damaged: a profile or an orientation in it is lost");
    }
    for section in &stream.sections {
        let mut metadata = Metadata::default();
        match section.kind {
            SectionKind::ICC => console::note(global, name, ICC_LEFT_OUT),
            SectionKind::EXIF => metadata.exif = Some(section.bytes.to_vec()),
            _ => {}
        }
        if metadata.is_turned() {
            console::note(global, name, format_args!("EXIF left out{TURNED}"));
        }
    }
}

fn write_picture(mut image: Image, format: OutputFormat, output: &Output, path: &Path, global: &Global) -> Result<(), Failure> {
    for kind in format.cannot_keep(&image) {
        let turned = kind == MetadataKind::Exif && image.metadata.is_turned();
        let then = if turned { TURNED } else { "" };
        let why = match (format, kind) {
            (OutputFormat::Png, MetadataKind::Icc) => "it is for other colours than the picture has".into(),
            (OutputFormat::Png, MetadataKind::Xmp) => "it is not UTF-8".into(),
            _ => format!("{format} cannot carry it"),
        };
        console::note(global, output.destination(), format_args!("{kind} left out: {why}{then}"));
        image.metadata.set(kind, None);
    }
    if !image.gray && batch::has_extension(path, &["pgm"]) {
        return Err(
            Failure::usage(output.destination(), "the picture has colours, which a PGM file cannot hold").hint("name it .ppm")
        );
    }
    let file = PictureFile::new(&image, format)
        .map_err(|error| Failure::from_codec("cannot write", output.destination(), &error.into()))?;
    files::write_with(output, |to| file.write_to(to))
}

fn truncated(name: &str, truncation: &Truncation, output: &Output) -> Failure {
    let Truncation { whole_slices, slice_count, have_bytes, need_bytes, is_payload_whole, .. } = truncation;
    if *is_payload_whole {
        let cause =
            format!("truncated: {have_bytes} of {need_bytes} bytes; the picture is complete, the metadata after it is not");
        return Failure::new(Exit::Truncated, "incomplete metadata", name, cause)
            .hint(format!("{} has the picture; --metadata fit takes it as it is", output.destination()));
    }
    let cause = format!("truncated: {have_bytes} of {need_bytes} bytes, {whole_slices} of {slice_count} slices whole");
    Failure::new(Exit::Truncated, "incomplete picture", name, cause)
        .hint(format!("{} has the picture as far as the bytes go", output.destination()))
}
