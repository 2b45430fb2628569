//! `mlic encode`.

use std::path::Path;
use std::time::Instant;

use mlic::{Codec, CodecOptions, Encoded, Quality};

use crate::args::{EncodeArgs, Global, Size};
use crate::batch::{self, Inputs};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::progress::Progress;
use crate::quality;

pub(crate) fn run(args: &EncodeArgs, global: &Global) -> Result<(), Failure> {
    batch::check_operands(&args.inputs, args.output.as_deref(), &batch::STREAMS)?;
    let inputs = Inputs::expand(&args.inputs, &batch::PICTURES)?;
    if let Some(path) = args.output.as_deref().filter(|path| !path.is_dir() && batch::has_extension(path, &batch::PICTURES)) {
        return Err(Failure::usage(path.display(), "a stream would be taken for a picture: .mlic is usual"));
    }
    let pairs = inputs.pairs(args.output.as_deref(), "mlic")?;
    let codec = files::codec(CodecOptions::default().with_effort(args.effort.rounds), &args.codec, global)?;
    if codec.model().quality_steps() == 0 && args.quality.is_some() {
        console::note(global, "-q", "this model has one quality only");
    }
    batch::each(pairs, |pair| encode(&codec, pair, args, global))
}

fn encode(codec: &Codec, (input, output): (&Path, &Path), args: &EncodeArgs, global: &Global) -> Result<(), Failure> {
    let name = files::input_name(input);
    let output = files::output(input, output, args.write)?;
    let image = files::read_picture(input, &args.read.options(args.metadata.into()), args.codec.pixels, global)?;
    let steps = codec.model().quality_steps();
    let start = Instant::now();
    let progress = Progress::new(global);
    let at = |quality| {
        let encoded = codec.watched(&|event| progress.event(event)).encode(&image, quality);
        encoded.map_err(|e| Failure::from_codec("cannot encode", &name, &e))
    };
    let (quality, encoded) = match args.target_size {
        None => {
            let quality = args.quality.unwrap_or_default();
            (quality, at(quality)?)
        }
        Some(Size(limit)) => highest_within(limit, steps, at)?.map_err(|least| {
            let cause = format!("{least} bytes at the lowest quality, where at most {limit} are wanted");
            Failure::new(Exit::Budget, "cannot encode", &name, cause)
        })?,
    };
    drop(progress);
    files::write(&output, &encoded.stream)?;
    let bpp = 8.0 * encoded.stream.len() as f64 / image.pixels() as f64;
    let (len, seconds) = (encoded.stream.len(), start.elapsed().as_secs_f64());
    let (width, height, quality) = (image.width, image.height, quality::describe(quality.index(steps), Some(steps)));
    console::verbose(global, format_args!("{name}: {width}x{height}, quality {quality}"));
    console::verbose(global, format_args!("{}: {len} bytes, {bpp:.4} bpp, {seconds:.3} s", output.destination()));
    for time in &encoded.report.stages {
        console::verbose(global, format_args!("{}: {:.3} s on {}", time.stage, time.seconds, time.device));
    }
    Ok(())
}

/// The stream of the highest quality that has at most `limit` bytes, or the length of that of the lowest. Streams grow with quality.
fn highest_within(
    limit: u64,
    steps: u8,
    encode: impl Fn(Quality) -> Result<Encoded, Failure>,
) -> Result<Result<(Quality, Encoded), usize>, Failure> {
    let qualities: Vec<Quality> = (0..=steps).filter_map(|index| Quality::of_index(index, steps)).collect();
    // Those before `low` fit, those from `high` on do not.
    let (mut low, mut high, mut found) = (0, qualities.len(), Err(0));
    while low < high {
        let middle = low.midpoint(high);
        let encoded = encode(qualities[middle])?;
        let len = encoded.stream.len();
        if len as u64 <= limit {
            low = middle + 1;
            found = Ok((qualities[middle], encoded));
        } else {
            high = middle;
            found = found.map_err(|_| len);
        }
    }
    Ok(found)
}
