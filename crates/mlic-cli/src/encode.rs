//! `mlic encode`.

use std::path::Path;
use std::time::Instant;

use mlic::Codec;

use crate::args::{EncodeArgs, Global, Size};
use crate::batch::{self, Inputs};
use crate::console;
use crate::exit::Failure;
use crate::files;
use crate::progress::Progress;
use crate::quality;

pub(crate) fn run(args: &EncodeArgs, global: &Global) -> Result<(), Failure> {
    batch::check_operands(&args.inputs, args.output.as_deref(), &batch::STREAMS)?;
    let inputs = Inputs::expand(&args.inputs, &batch::PICTURES)?;
    if let Some(path) = args.output.as_deref().filter(|path| !path.is_dir() && batch::has_extension(path, &batch::PICTURES)) {
        return Err(Failure::usage(path.display(), "a stream would be taken for a picture: .mlic is usual"));
    }
    let outputs = inputs.outputs(args.output.as_deref(), "mlic")?;
    let codec = files::codec(args.encoder.options(), &args.codec, global)?;
    if codec.model().quality_steps() == 0 && args.quality.is_some() {
        console::note(global, "-q", "this model has one quality only");
    }
    batch::each(inputs, &outputs, |pair| encode(&codec, pair, args, global))
}

fn encode(codec: &Codec, (input, output): (&Path, &Path), args: &EncodeArgs, global: &Global) -> Result<(), Failure> {
    let name = files::input_name(input);
    let output = files::output(input, output, args.write)?;
    let image = files::read_picture(input, &args.read.options(args.metadata.into()), args.codec.pixels, global)?;
    let steps = codec.model().quality_steps();
    let start = Instant::now();
    let progress = Progress::new(global);
    let told = |event| progress.event(event);
    let watched = codec.watched(&told);
    let encoded = match args.target_size {
        None => watched.encode(&image, args.quality.unwrap_or_default()),
        Some(Size(limit)) => watched.encode_within(&image, limit),
    };
    let encoded = encoded.map_err(|e| Failure::from_codec("cannot encode", &name, &e))?;
    drop(progress);
    files::write(&output, &encoded.stream)?;
    let bpp = 8.0 * encoded.stream.len() as f64 / image.pixels() as f64;
    let (len, seconds) = (encoded.stream.len(), start.elapsed().as_secs_f64());
    let (width, height, quality) = (image.width, image.height, quality::describe(encoded.quality, Some(steps)));
    console::verbose(global, format_args!("{name}: {width}x{height}, quality {quality}"));
    console::verbose(global, format_args!("{}: {len} bytes, {bpp:.4} bpp, {seconds:.3} s", output.destination()));
    for time in &encoded.report.stages {
        console::verbose(global, format_args!("{}: {:.3} s on {}", time.stage, time.seconds, time.device));
    }
    Ok(())
}
