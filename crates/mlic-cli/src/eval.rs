//! `mlic eval`: rate, quality and time over pictures, and a comparison with anchors.

mod anchor;
mod measure;
mod report;
mod table;

use std::path::Path;

use mlic::Quality;
use mlic::metadata::MetadataPolicy;

use crate::args::{EvalArgs, Global};
use crate::batch::{self, Batch, Inputs};
use crate::console;
use crate::exit::Failure;
use crate::files;
use crate::progress::Progress;
use report::{Evaluation, Failed, ImageResult, Mean};

/// A quality as the user gives it, and its index in the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) quality: Quality,
    pub(crate) step: u8,
}

pub(crate) fn run(args: &EvalArgs, global: &Global) -> Result<(), Failure> {
    let anchors = args.anchor.as_deref().map(|path| anchor::read(path, args.anchor_codec.as_deref())).transpose()?;
    let inputs = Inputs::expand(&args.paths, &batch::PICTURES)?;
    let paths = &inputs.paths;
    let options = args.encoder.options().with_pixels(args.pixels.mode());
    let codec = files::codec(options, &args.codec, global)?;
    let qualities = qualities(&args.qualities, codec.model().quality_steps(), global);
    // Metadata would count as bits of the picture.
    let options = args.read.options(MetadataPolicy::Strip);
    let progress = Progress::new(global);
    let measure = |index: usize, path: &Path| {
        let image = files::read_picture(path, &options, args.codec.pixels, global)?;
        let mut points = Vec::new();
        for (at, &quality) in qualities.iter().enumerate() {
            progress.step(index * qualities.len() + at, paths.len() * qualities.len());
            progress.message(format!("{} at {}", path.display(), quality.quality));
            points.push(measure::point(&codec, &image, quality, path)?);
        }
        Ok(ImageResult::new(path, &image, points))
    };
    let (mut images, mut failed, mut batch) = (Vec::new(), Vec::new(), Batch::default());
    for (path, failure) in inputs.failed {
        let error = progress.aside(|| batch.failed(failure));
        failed.push(Failed { path: path.display().to_string(), error });
    }
    for (index, path) in paths.iter().enumerate() {
        match measure(index, path) {
            Ok(image) => images.push(image),
            Err(failure) => {
                let error = progress.aside(|| batch.failed(failure));
                failed.push(Failed { path: path.display().to_string(), error });
            }
        }
    }
    drop(progress);
    if images.is_empty() && !args.json {
        return batch.end();
    }
    let means = if images.is_empty() { Vec::new() } else { Mean::over(&images, &qualities) };
    let bd_rates = anchor::compare(&anchors.unwrap_or_default(), &means);
    let evaluation = Evaluation::new(&codec, (global.thread_count(), &args.encoder), (images, failed), means, bd_rates);
    let text = if args.json { evaluation.json()? } else { table::render(&evaluation, global.verbose) };
    console::stdout(&text)?;
    batch.end()
}

/// The qualities in ascending order, each step of the model once.
pub(crate) fn qualities(asked: &[Quality], steps: u8, global: &Global) -> Vec<Asked> {
    let mut all: Vec<Asked> = asked.iter().map(|&quality| Asked { quality, step: quality.index(steps) }).collect();
    all.sort_by_key(|quality| quality.step);
    let asked = all.len();
    all.dedup_by_key(|quality| quality.step);
    if all.len() < asked {
        console::note(global, "-q", format_args!("{asked} qualities are {} of this model, each is measured once", all.len()));
    }
    all
}
