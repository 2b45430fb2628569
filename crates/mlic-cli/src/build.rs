//! `mlic model build`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mlic::image::{Image, ReadOptions};
use mlic::metadata::MetadataPolicy;
use mlic::{Planes, planes_of};
use mlic_builder::build::Activations;
use mlic_builder::synthesis::WeightWidth;
use mlic_builder::{BuildError, BuildOptions, Built, Export};
use mlic_model::graph::Dtype;
use mlic_output::{Destination, Output};

use crate::args::{Global, MaxPixels, WriteArgs};
use crate::batch::{self, Inputs};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::progress::Progress;

/// Fewest pixels in all that calibration accepts, those of one picture of 64x64: fewer say nothing about a model's activations.
const LEAST_PIXELS: u64 = 64 * 64;
/// Fewer pixels in all than this are worth a warning. For the edge model with int16 activations, calibration on the middle 4096 pixels of one photograph cost
/// 1.3 dB at q 50 and 3.8 dB at q 100 compared with 65536 pixels of four photographs; even more pixels gained nothing. Other models and photographs vary.
const ENOUGH_PIXELS: u64 = 1 << 18;

/// Most columns and rows of a picture that are used. Calibration holds the outputs of all nodes of a transform at once: for the edge model, more
/// than a kilobyte per pixel.
const MAX_SIDE: u32 = 1024;

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Directory written by models/export.py
    #[arg(value_name = "EXPORT")]
    export: PathBuf,
    /// Pictures, and directories of pictures, to calibrate on, of each at most the middle 1024x1024 pixels; one that cannot be read ends the build
    #[arg(long = "images", value_name = "PATH", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Package to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
    /// Use this many of the pictures, evenly chosen
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(24).unwrap_or(NonZeroUsize::MIN))]
    count: NonZeroUsize,
    /// Width of activations
    #[arg(long, value_enum, default_value_t = ActivationsArg::Auto)]
    activations: ActivationsArg,
    /// int8 in these networks only, with commas between, as `--activations auto` names them
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "activations")]
    int8_in: Vec<String>,
    /// Growth of the bits of y, in the two pictures with most to code, that int8 activations may cost, in percent
    #[arg(long, value_name = "PERCENT", value_parser = growth, default_value_t = 0.05)]
    budget: f64,
    /// Weights of the integer synthesis, for exact pixels; float ones are then made of it too
    #[arg(long, value_enum, default_value_t = ExactArg::Int16)]
    exact_weights: ExactArg,
    /// Weights of the integer analysis, for streams that are the same whichever machine encodes [default: int16; float with --exact-weights none]
    #[arg(long, value_enum)]
    analysis: Option<AnalysisArg>,
    /// Element type of float transforms
    #[arg(long, value_enum, default_value_t = TransformsArg::F16)]
    transforms: TransformsArg,
    #[command(flatten)]
    pixels: MaxPixels,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ActivationsArg {
    /// int8 where it costs next to nothing
    Auto,
    /// int8 everywhere
    Int8,
    /// int16 everywhere
    Int16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExactArg {
    /// Up to 13 bits in int16; 8 in layers whose weights training has rounded to bytes
    Int16,
    /// 8 bits: smaller and faster, with noise that is seen at high quality
    Int8,
    /// Float synthesis only; pixels are never exact
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AnalysisArg {
    /// 13 bits, in two terms of bytes; one in layers whose weights training has rounded to bytes
    Int16,
    /// 8 bits: smaller and faster, but far from the float analysis at high quality
    Int8,
    /// No integer analysis: encoding needs the float executor
    Float,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransformsArg {
    /// Half precision
    F16,
    /// Single precision
    F32,
}

fn growth(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|value| (0.0..=100.0).contains(value));
    value.ok_or_else(|| "a number from 0 to 100 is needed".into())
}

/// The failure of a step of the builder.
pub(crate) fn failed(what: &'static str, place: &Path, error: &BuildError) -> Failure {
    let exit = match error {
        BuildError::NoImages | BuildError::Network { .. } => Exit::Usage,
        BuildError::Io { .. } | BuildError::NotAnExport => Exit::Input,
        _ => Exit::Model,
    };
    Failure::from_error(exit, what, place.display(), error)
}

/// Reads a picture as it is, without its metadata.
pub(crate) fn picture(path: &Path, max: MaxPixels, global: &Global) -> Result<Image, Failure> {
    files::read_unchanged(path, &ReadOptions::default().with_metadata(MetadataPolicy::Strip), max, global)
}

/// Reads as many of the pictures as are asked for. All must be readable, because whoever chose them counts on them.
fn pictures(args: &BuildArgs, global: &Global) -> Result<Vec<(PathBuf, Image)>, Failure> {
    let paths = Inputs::expand_all(&args.images, &batch::PICTURES)?;
    let (mut images, mut cut) = (Vec::new(), 0);
    for path in evenly(&paths, args.count.get()) {
        let mut image = picture(path, args.pixels, global)?;
        cut += usize::from(cut_to_middle(&mut image));
        images.push((path.clone(), image));
    }
    if cut > 0 {
        let found = format!("{cut} of {} pictures", images.len());
        console::note(global, found, format_args!("only the middle {MAX_SIDE}x{MAX_SIDE} pixels are used of what is larger"));
    }
    Ok(images)
}

/// Crops a picture to its middle [`MAX_SIDE`] columns and rows; returns whether it had more.
fn cut_to_middle(image: &mut Image) -> bool {
    let [width, height] = [image.width, image.height].map(|side| side.min(MAX_SIDE));
    if [width, height] == [image.width, image.height] {
        return false;
    }
    let [left, top] = [(image.width - width) / 2, (image.height - height) / 2];
    let rows = image.rgb.chunks_exact(3 * image.width as usize).skip(top as usize).take(height as usize);
    let samples = rows.flat_map(|row| row.iter().skip(3 * left as usize).take(3 * width as usize));
    image.rgb = samples.copied().collect();
    [image.width, image.height] = [width, height];
    true
}

/// `count` of the items, evenly chosen, or all if there are no more.
fn evenly<T>(all: &[T], count: usize) -> impl Iterator<Item = &T> {
    let count = count.min(all.len());
    (0..count).filter_map(move |i| all.get(i * all.len() / count))
}

/// Refuses fewer than [`LEAST_PIXELS`] pixels in all, and warns of fewer than [`ENOUGH_PIXELS`]. Returns the number.
fn check_pixels(images: &[(PathBuf, Image)], global: &Global) -> Result<u64, Failure> {
    let pixels: u64 = images.iter().map(|(_, image)| image.pixels()).sum();
    let found = format!("{} pictures of {pixels} pixels in all", images.len());
    if pixels < LEAST_PIXELS {
        let cause = format!("at least {LEAST_PIXELS} pixels are needed, 24 pictures of 320x320 are enough");
        return Err(Failure::new(Exit::Input, "cannot calibrate on", found, cause));
    }
    if pixels < ENOUGH_PIXELS {
        console::note(global, found, "the package may be poor, 24 pictures of 320x320 are enough");
    }
    Ok(pixels)
}

/// The samples of a picture as transforms take them.
pub(crate) fn planes(path: &Path, image: &Image) -> Result<Planes, Failure> {
    planes_of(image).map_err(|error| Failure::from_codec("cannot use", path.display(), &error))
}

/// Builds a package.
pub(crate) fn build(args: &BuildArgs, global: &Global) -> Result<(), Failure> {
    let output = Output::new(Destination::from_argument(&args.output), args.write.force);
    files::check(&output)?;
    let export = Export::open(&args.export).map_err(|error| failed("cannot read export", &args.export, &error))?;
    let images = pictures(args, global)?;
    let pixels = check_pixels(&images, global)?;
    let planes = images.iter().map(|(path, image)| planes(path, image)).collect::<Result<Vec<_>, _>>()?;
    let provenance = BTreeMap::from([
        ("builder".to_owned(), format!("mlic {}", env!("CARGO_PKG_VERSION"))),
        ("calibration".to_owned(), format!("{} images, {pixels} pixels", planes.len())),
    ]);
    let options = BuildOptions {
        activations: match args.activations {
            _ if !args.int8_in.is_empty() => Activations::NarrowIn(args.int8_in.clone()),
            ActivationsArg::Auto => Activations::Auto,
            ActivationsArg::Int8 => Activations::Narrow,
            ActivationsArg::Int16 => Activations::Wide,
        },
        budget: args.budget / 100.0,
        exact_weights: match args.exact_weights {
            ExactArg::Int16 => Some(WeightWidth::Words),
            ExactArg::Int8 => Some(WeightWidth::Bytes),
            ExactArg::None => None,
        },
        analysis_weights: match (args.analysis, args.exact_weights) {
            (Some(AnalysisArg::Float), _) | (None, ExactArg::None) => None,
            (Some(AnalysisArg::Int8), _) => Some(WeightWidth::Bytes),
            (Some(AnalysisArg::Int16) | None, _) => Some(WeightWidth::Words),
        },
        transform_dtype: match args.transforms {
            TransformsArg::F16 => Dtype::F16,
            TransformsArg::F32 => Dtype::F32,
        },
        threads: global.thread_count(),
        provenance,
    };
    let progress = Progress::uncounted(global);
    let log = |line: &str| {
        progress.aside(|| console::verbose(global, format_args!("{}: {line}", args.export.display())));
        progress.message(line.to_owned());
    };
    let built = files::on_threads(global, || {
        mlic_builder::build(&export, &planes, &options, &mut |line| log(line))
            .map_err(|error| failed("cannot build from", &args.export, &error))
    })?;
    drop(progress);
    files::write(&output, built.model.as_bytes())?;
    console::note(global, output.destination(), summary(&built));
    Ok(())
}

/// Name, id and size of a package, the width of its activations, and what they cost if the build measured it.
fn summary(built: &Built) -> String {
    let Built { model, growth } = built;
    let activations = model.metadata().provenance.get("activations").map_or("", String::as_str);
    let growth = growth.map_or_else(String::new, |growth| format!(", {:+.3} % bits", 100.0 * growth));
    format!("{} {}, {} bytes; {activations}{growth}", model.name(), model.id(), model.as_bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_asked_for_are_chosen_evenly() {
        let all: Vec<usize> = (0..25).collect();
        let chosen: Vec<usize> = evenly(&all, 24).copied().collect();
        assert_eq!(chosen, (0..24).map(|i| i * 25 / 24).collect::<Vec<_>>());
        assert_eq!(evenly(&all, 5).copied().collect::<Vec<_>>(), [0, 5, 10, 15, 20]);
        assert_eq!(evenly(&all, 100).count(), 25);
        assert_eq!(evenly(&all[..0], 3).count(), 0);
    }

    #[test]
    fn of_large_pictures_the_middle_is_left() {
        let rgb = (0..1030_u32).flat_map(|x| [(x % 256) as u8, (x / 256) as u8, 7]).collect::<Vec<_>>().repeat(2);
        let mut wide = Image::from_rgb(1030, 2, rgb.clone()).unwrap();
        let whole = Image::from_rgb(1030, 2, rgb).unwrap();
        assert!(cut_to_middle(&mut wide));
        assert_eq!((wide.width, wide.height, wide.rgb.len()), (1024, 2, 3 * 2 * 1024));
        assert!([0, 3 * 1024].iter().all(|row| wide.rgb[*row..row + 3 * 1024] == whole.rgb[3 * 3..3 * 1027]));
        let mut high = Image::from_rgb(1, 1027, whole.rgb[..3 * 1027].to_vec()).unwrap();
        assert!(cut_to_middle(&mut high));
        assert_eq!((high.width, high.height), (1, 1024));
        assert_eq!(high.rgb, whole.rgb[3..3 * 1025]);
        let before = high.clone();
        assert!(!cut_to_middle(&mut high) && high == before);
    }
}
