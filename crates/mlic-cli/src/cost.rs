//! `mlic model cost`: what integer entropy networks cost compared with the float ones that they were made from.

use std::path::{Path, PathBuf};

use clap::Args;
use mlic::image::Image;
use mlic::metrics::{RatePoint, bd_rate, psnr};
use mlic::{Model, Planes, Quality, image_of};
use mlic_builder::build::{Encoder, RealGains, level_of, synthesize};
use mlic_builder::float::FloatModel;
use mlic_builder::{BuildError, Export, bottleneck, cost as measured};
use mlic_model::model::Gain;
use serde_json::{Value, json};

use crate::args::{Global, MaxPixels};
use crate::batch::{self, Batch, Inputs};
use crate::build::{failed, picture, planes};
use crate::console;
use crate::eval::{self, Asked};
use crate::exit::{Exit, Failure};
use crate::{files, info};

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// Directory written by models/export.py, from which the package was built
    #[arg(value_name = "EXPORT")]
    export: PathBuf,
    /// Pictures, and directories of pictures
    #[arg(value_name = "PATH", required = true)]
    images: Vec<PathBuf>,
    /// Qualities, 0 to 100, separated by commas
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "0,25,50,75,100")]
    qualities: Vec<Quality>,
    /// Compare a package with an export of another name
    #[arg(long)]
    any_name: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pixels: MaxPixels,
}

/// Checks that a package and an export have the same shape and, unless `--any-name` is given, the same name.
fn check_pair(args: &CostArgs, export: &Export, model: &Model) -> Result<(), Failure> {
    let what = "cannot compare";
    let pair = format!("package {} with export {}", model.name(), export.name);
    if *model.config() != export.config {
        return Err(Failure::new(Exit::Model, what, pair, "their networks have other shapes"));
    }
    if model.name() != export.name && !args.any_name {
        let failure = Failure::new(Exit::Model, what, pair, "the package may have been built from another checkpoint");
        return Err(failure.hint("--model PACKAGE names it, --any-name compares them"));
    }
    Ok(())
}

/// Rate and PSNR of one picture at one quality, as `[float, integer]`.
struct Row {
    quality: f32,
    bpp: [f64; 2],
    psnr: [f64; 2],
}

/// Measures what integer networks cost.
pub(crate) fn run(args: &CostArgs, global: &Global) -> Result<(), Failure> {
    files::on_threads(global, || compare(args, global))
}

fn compare(args: &CostArgs, global: &Global) -> Result<(), Failure> {
    let wrong = |error: BuildError| failed("cannot measure", &args.export, &error);
    let export = Export::open(&args.export).map_err(wrong)?;
    let model = files::model(global.model.as_deref(), global)?;
    check_pair(args, &export, &model)?;
    let paths = Inputs::expand_all(&args.images, &batch::PICTURES)?;
    let qualities = eval::qualities(&args.qualities, model.quality_steps(), global);
    let float = FloatModel::load(&export).map_err(wrong)?;
    let bench = Bench::new(&export, &model, &float, global.thread_count()).map_err(wrong)?;
    let measure = |path: &Path| {
        let image = picture(path, args.pixels, global)?;
        let y = bench.encoder.analysis(&planes(path, &image)?).map_err(wrong)?;
        let row = |asked: &Asked| bench.row(&image, &y, asked.quality.percent(), asked.step);
        let rows = qualities.iter().map(row).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        console::verbose(global, format_args!("{}: measured", path.display()));
        Ok::<_, Failure>(rows)
    };
    let (mut rows, mut failed, mut batch) = (Vec::new(), Vec::new(), Batch::default());
    for path in &paths {
        match measure(path) {
            Ok(more) => rows.extend(more),
            Err(failure) => failed.push(json!({ "path": path.display().to_string(), "error": batch.failed(failure) })),
        }
    }
    if rows.is_empty() && !args.json {
        return batch.end();
    }
    let measured: Vec<_> = qualities.iter().filter(|_| !rows.is_empty()).map(|asked| asked.quality.percent()).collect();
    let mut report = summary(&measured, &rows);
    report["format"] = info::FORMAT.into();
    report["package"] = json!({ "name": model.name(), "id": model.id().to_string() });
    report["export"] = json!({ "name": export.name, "folder": args.export.display().to_string() });
    report["failed"] = failed.into();
    console::stdout(&if args.json { format!("{report:#}\n") } else { table(&report) })?;
    batch.end()
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
    let growth: f64 = table.iter().filter_map(|row| row["bits_percent"].as_f64()).sum::<f64>() / table.len() as f64;
    json!({
        "images": rows.len() / qualities.len().max(1),
        "qualities": table,
        "mean_bits_percent": growth,
        "bd_rate_percent": bd_rate(&points[0], &points[1]).ok(),
    })
}

fn table(report: &Value) -> String {
    use std::fmt::Write;
    let text = |of: &str, member: &str| report[of][member].as_str().unwrap_or_default().to_owned();
    let mut out = format!("package {} {}, ", text("package", "name"), text("package", "id"));
    let _ = writeln!(out, "export {} in {}\n", text("export", "name"), text("export", "folder"));
    out.push_str("quality  float bpp     dB  integer bpp     dB    bits %       dB\n");
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
