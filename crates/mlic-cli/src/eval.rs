//! `mlic eval`: rate, quality and time over pictures, and what that is against an anchor.

mod anchor;
mod measure;
mod report;
mod table;

use std::path::{Path, PathBuf};

use mlic::metadata::MetadataPolicy;
use mlic::{CodecOptions, Quality};

use crate::args::{EvalArgs, Global};
use crate::batch::Batch;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::progress::Progress;
use report::{Evaluation, Failed, ImageResult, Mean};

/// Extensions of the files that are taken from a directory. A file named on the command line is taken in any case.
const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "webp", "ppm", "pgm", "pbm", "pnm", "pam"];

/// A quality as the user gives it and as the stream has it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    quality: Quality,
    step: u8,
}

pub(crate) fn run(args: &EvalArgs, global: &Global) -> Result<(), Failure> {
    let anchors = args.anchor.as_deref().map(|path| anchor::read(path, args.anchor_codec.as_deref())).transpose()?;
    let paths = pictures(&args.paths)?;
    let options = CodecOptions::default().with_pixels(args.pixels.mode()).with_effort(args.effort.rounds);
    let codec = files::codec(options, global)?;
    let qualities = qualities(&args.qualities, codec.model().quality_steps(), global);
    // Metadata would count as bits of the picture.
    let options = args.read.options(MetadataPolicy::Strip);
    let progress = Progress::new(global);
    let measure = |index: usize, path: &Path| {
        let image = files::read_picture(path, &options, global)?;
        let mut points = Vec::new();
        for (at, &quality) in qualities.iter().enumerate() {
            progress.step(index * qualities.len() + at, paths.len() * qualities.len());
            progress.message(format!("{} at {}", path.display(), quality.quality));
            points.push(measure::point(&codec, &image, quality, path)?);
        }
        Ok(ImageResult::new(path, &image, points))
    };
    let (mut images, mut failed, mut batch) = (Vec::new(), Vec::new(), Batch::default());
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
    let evaluation = Evaluation::new(&codec, (global.thread_count(), args.effort.rounds), (images, failed), means, bd_rates);
    let text = if args.json { evaluation.json()? } else { table::render(&evaluation) };
    console::stdout(&text)?;
    batch.end()
}

/// Files as named, and the pictures of named directories in order of their names.
pub(crate) fn pictures(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() { all.extend(directory(path)?) } else { all.push(path.clone()) }
    }
    Ok(all)
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failure = |cause: &dyn std::fmt::Display| Failure::new(Exit::Input, "cannot read", path.display(), cause);
    let entries: Result<Vec<_>, _> = path.read_dir().and_then(Iterator::collect);
    let mut found: Vec<PathBuf> = entries.map_err(|e| failure(&e))?.into_iter().map(|entry| entry.path()).collect();
    found.retain(|path| path.is_file() && has_picture_extension(path));
    found.sort();
    if found.is_empty() { Err(failure(&format_args!("no file ends in {}", EXTENSIONS.join(", ")))) } else { Ok(found) }
}

fn has_picture_extension(path: &Path) -> bool {
    path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// The qualities in ascending order, each step of the model once.
fn qualities(asked: &[Quality], steps: u8, global: &Global) -> Vec<Asked> {
    let mut all: Vec<Asked> = asked.iter().map(|&quality| Asked { quality, step: quality.index(steps) }).collect();
    all.sort_by_key(|quality| quality.step);
    let asked = all.len();
    all.dedup_by_key(|quality| quality.step);
    if all.len() < asked {
        console::note(global, "-q", format_args!("{asked} qualities are {} of this model, each is measured once", all.len()));
    }
    all
}
