//! `mlic model build` and `mlic model cost`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mlic::image::{Image, ReadOptions};
use mlic::metadata::MetadataPolicy;
use mlic::metrics::{RatePoint, bd_rate, psnr};
use mlic::output::{Destination, Output};
use mlic::{Model, Planes, image_of, planes_of, quality_from_percent};
use mlic_builder::build::{Activations, Encoder, RealGains, level_of, synthesize};
use mlic_builder::float::FloatModel;
use mlic_builder::synthesis::WeightWidth;
use mlic_builder::{BuildError, BuildOptions, Export, bottleneck, cost as measured};
use mlic_model::graph::Dtype;
use mlic_model::model::Gain;
use serde_json::{Value, json};

use crate::args::Global;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files;

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Folder written by models/export.py
    #[arg(value_name = "EXPORT")]
    export: PathBuf,
    /// Pictures, and directories of pictures, to calibrate on
    #[arg(long = "images", value_name = "PATH", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Package to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Use this many of the pictures, evenly chosen
    #[arg(long, value_name = "N", default_value_t = 24)]
    count: usize,
    /// Width of activations
    #[arg(long, value_enum, default_value_t = ActivationsArg::Auto)]
    activations: ActivationsArg,
    /// int8 in these networks only, with commas between, as `--activations auto` names them
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "activations")]
    int8_in: Vec<String>,
    /// Growth of bits that int8 activations may cost, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.05)]
    budget: f64,
    /// Weights of the integer synthesis, for exact pixels; float ones are then made of it too
    #[arg(long, value_enum, default_value_t = ExactArg::Int16)]
    exact_weights: ExactArg,
    /// Weights of the integer analysis, for streams that are the same whichever machine encodes; without --exact-weights none: int16
    #[arg(long, value_enum)]
    analysis: Option<AnalysisArg>,
    /// Element type of float transforms
    #[arg(long, value_enum, default_value_t = TransformsArg::F16)]
    transforms: TransformsArg,
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
    /// Up to 13 bits in int16; 8 in layers whose weights a training has rounded to bytes
    Int16,
    /// 8 bits: smaller and faster, with noise that is seen at high quality
    Int8,
    /// No integer synthesis but the float one: pixels are never exact
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AnalysisArg {
    /// 13 bits, in two terms of bytes; one in layers whose weights a training has rounded to bytes
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

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Folder written by models/export.py, from which the package was built
    #[arg(value_name = "EXPORT")]
    export: PathBuf,
    /// Pictures, and directories of pictures
    #[arg(value_name = "PATH", required = true)]
    images: Vec<PathBuf>,
    /// Qualities, 0 to 100, with commas between
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "0,25,50,75,100")]
    qualities: Vec<f32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn failed(what: &'static str, place: &Path, error: &BuildError) -> Failure {
    let exit = match error {
        BuildError::NoImages | BuildError::Network { .. } => Exit::Usage,
        BuildError::Io { .. } => Exit::Input,
        _ => Exit::Model,
    };
    Failure::from_error(exit, what, place.display(), error)
}

fn pictures(paths: &[PathBuf], count: usize, global: &Global) -> Result<Vec<(PathBuf, Image)>, Failure> {
    let mut options = ReadOptions::default();
    options.metadata = MetadataPolicy::Strip;
    let all = crate::eval::pictures(paths)?;
    let step = all.len().div_ceil(count.max(1)).max(1);
    all.into_iter().step_by(step).map(|path| files::read_picture(&path, &options, global).map(|image| (path, image))).collect()
}

fn planes(path: &Path, image: &Image) -> Result<Planes, Failure> {
    planes_of(image).map_err(|error| Failure::from_codec("cannot use", path.display(), &error))
}

fn threads(global: &Global) -> usize {
    if global.threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { global.threads }
}

/// Builds a package.
pub(crate) fn build(args: &BuildArgs, global: &Global) -> Result<(), Failure> {
    let output = Output::new(Destination::from_argument(&args.output), global.force);
    let unwritable = |error| Failure::from_error(Exit::Output, "cannot write", args.output.display(), &error);
    output.check().map_err(unwritable)?;
    let export = Export::open(&args.export).map_err(|error| failed("cannot read export", &args.export, &error))?;
    let images = pictures(&args.images, args.count, global)?;
    let planes = images.iter().map(|(path, image)| planes(path, image)).collect::<Result<Vec<_>, _>>()?;
    let provenance = BTreeMap::from([
        ("builder".to_owned(), format!("mlic {}", env!("CARGO_PKG_VERSION"))),
        ("calibration".to_owned(), format!("{} images", planes.len())),
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
        threads: threads(global),
        provenance,
    };
    let mut log = |line: &str| console::note(global, args.export.display(), line);
    let package = mlic_builder::build(&export, &planes, &options, &mut log)
        .map_err(|error| failed("cannot build from", &args.export, &error))?;
    output.write(&package).map_err(unwritable)
}

/// Bits and quality of one picture at one quality, float and integer.
struct Row {
    quality: f32,
    bpp: [f64; 2],
    psnr: [f64; 2],
}

/// Measures the cost of integers.
pub(crate) fn cost(args: &CostArgs, global: &Global) -> Result<(), Failure> {
    let wrong = |error: BuildError| failed("cannot measure", &args.export, &error);
    let export = Export::open(&args.export).map_err(wrong)?;
    let model = files::model(global.model.as_deref(), global)?;
    let float = FloatModel::load(&export).map_err(wrong)?;
    let bench = Bench::new(&export, &model, &float, threads(global)).map_err(wrong)?;
    let mut rows = Vec::new();
    for (path, image) in pictures(&args.images, usize::MAX, global)? {
        let y = bench.encoder.analysis(&planes(&path, &image)?).map_err(wrong)?;
        for percent in &args.qualities {
            let quality = quality_from_percent(*percent, model.quality_steps())
                .ok_or_else(|| Failure::usage(percent, "a quality is 0 to 100"))?;
            rows.push(bench.row(&image, &y, *percent, quality).map_err(wrong)?);
        }
        console::note(global, path.display(), "measured");
    }
    let report = summary(&args.qualities, &rows);
    if args.json { console::stdout(&format!("{report:#}\n")) } else { console::stdout(&table(&report)) }
}

/// What measuring needs, prepared once.
struct Bench<'a> {
    model: &'a Model,
    float: &'a FloatModel,
    integers: measured::Integers<'a>,
    encoder: Encoder,
    gains: RealGains,
    medians: Vec<f64>,
    g_s: mlic_builder::PlaneTransform,
    threads: usize,
}

impl<'a> Bench<'a> {
    fn new(export: &Export, model: &'a Model, float: &'a FloatModel, threads: usize) -> Result<Self, BuildError> {
        let encoder = Encoder::new(export.g_a.clone(), export.h_a.clone(), threads)?;
        let (gains, medians) = (RealGains::load(export)?, bottleneck::z_tables(export)?.0);
        let g_s = mlic_builder::PlaneTransform::new(export.g_s.clone())?;
        Ok(Self { model, float, integers: measured::Integers::new(model)?, encoder, gains, medians, g_s, threads })
    }

    fn row(&self, image: &Image, y: &Planes, percent: f32, quality: u8) -> Result<Row, BuildError> {
        let level = level_of(self.model.config(), quality);
        let sample = self.encoder.sample(&self.gains, &self.medians, y, level)?;
        let z_bits = measured::z_bits(self.model, &sample);
        let pixels = f64::from(image.width) * f64::from(image.height);
        let gains = self.gains.of(Gain::InverseY, level);
        let coded = [measured::float(self.float, self.model, &sample)?, self.integers.code(quality, &sample)?];
        let mut row = Row { quality: percent, bpp: [0.0; 2], psnr: [0.0; 2] };
        for (i, coded) in coded.iter().enumerate() {
            row.bpp[i] = (coded.bits + z_bits) / pixels;
            let x_hat = synthesize(&self.g_s, &gains, &coded.y_hat, self.threads)?;
            let picture = image_of(&x_hat, image.width, image.height).ok();
            row.psnr[i] = picture.and_then(|p| psnr(image, &p).ok()).unwrap_or(f64::NAN);
        }
        Ok(row)
    }
}

fn summary(qualities: &[f32], rows: &[Row]) -> Value {
    let mut points: [Vec<RatePoint>; 2] = [Vec::new(), Vec::new()];
    let mut table = Vec::new();
    for quality in qualities {
        let here: Vec<&Row> = rows.iter().filter(|r| r.quality == *quality).collect();
        let mean = |of: &dyn Fn(&Row) -> f64| here.iter().map(|r| of(r)).sum::<f64>() / here.len().max(1) as f64;
        let bpp = [mean(&|r| r.bpp[0]), mean(&|r| r.bpp[1])];
        let psnr = [mean(&|r| r.psnr[0]), mean(&|r| r.psnr[1])];
        for i in 0..2 {
            points[i].push(RatePoint { bpp: bpp[i], psnr: psnr[i] });
        }
        table.push(json!({
            "quality": quality,
            "float": { "bpp": bpp[0], "psnr_rgb": psnr[0] },
            "integer": { "bpp": bpp[1], "psnr_rgb": psnr[1] },
            "bits_percent": 100.0 * (bpp[1] / bpp[0] - 1.0),
            "psnr_db": psnr[1] - psnr[0],
        }));
    }
    let growth: f64 = table.iter().filter_map(|row| row["bits_percent"].as_f64()).sum::<f64>() / table.len().max(1) as f64;
    json!({
        "images": rows.len() / qualities.len().max(1),
        "qualities": table,
        "mean_bits_percent": growth,
        "bd_rate_percent": bd_rate(&points[0], &points[1]).ok(),
    })
}

fn table(report: &Value) -> String {
    use std::fmt::Write;
    let mut out = String::from("quality  float bpp     dB  integer bpp     dB    bits %       dB\n");
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    for row in report["qualities"].as_array().into_iter().flatten() {
        let side = |name: &str| (number(&row[name]["bpp"]), number(&row[name]["psnr_rgb"]));
        let ((fb, fp), (ib, ip)) = (side("float"), side("integer"));
        let (bits, db) = (number(&row["bits_percent"]), number(&row["psnr_db"]));
        let _ = writeln!(out, "{:7} {fb:10.4} {fp:6.2} {ib:12.4} {ip:6.2} {bits:+9.4} {db:+8.4}", number(&row["quality"]));
    }
    let bd = report["bd_rate_percent"].as_f64().map_or_else(|| "undefined".to_owned(), |v| format!("{v:+.4} %"));
    let _ = writeln!(
        out,
        "{} images; mean change in bits {:+.4} %, BD-rate {bd}",
        report["images"],
        number(&report["mean_bits_percent"])
    );
    out
}
