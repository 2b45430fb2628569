//! An evaluation as a table for people.

use std::fmt::Write;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::report::{Evaluation, Figures, Mean, StageSeconds};

/// Renders an evaluation as text; with details, also where bits and time go.
pub(super) fn render(evaluation: &Evaluation, with_details: bool) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut out, evaluation, with_details);
    out
}

fn write(out: &mut String, evaluation: &Evaluation, with_details: bool) -> std::fmt::Result {
    let Evaluation { program, model, backend, threads, effort, rounding, .. } = evaluation;
    let rounding = rounding.to_possible_value();
    let rounding = rounding.as_ref().map_or("", PossibleValue::get_name);
    writeln!(
        out,
        "{program}, model {} {}, backend {backend}, threads {threads}, effort {effort}, rounding {rounding}\n",
        model.name, model.id
    )?;
    let mean_name = format!("mean of {}", evaluation.images.len());
    let names = || evaluation.images.iter().map(|image| image.path.as_str()).chain([mean_name.as_str(), "picture"]);
    let width = names().map(|name| name.chars().count()).max().unwrap_or_default();
    writeln!(
        out,
        "{:width$}  {:>11}  {:>5}  {:>8}  {:>7}  {:>7}  {:>8}  {:>8}",
        "picture", "pixels", "q", "bpp", "PSNR", "MS-SSIM", "enc s", "dec s"
    )?;
    for image in &evaluation.images {
        let size = format!("{}x{}", image.width, image.height);
        for p in &image.points {
            row(out, width, [&image.path, &size], p.percent, &p.figures)?;
        }
    }
    for m in &evaluation.means {
        row(out, width, [&mean_name, ""], m.percent, &m.figures)?;
    }
    if !evaluation.failed.is_empty() {
        writeln!(out, "\nnot in the means, since they could not be measured: {}", evaluation.failed.len())?;
    }
    if !evaluation.bd_rates.is_empty() {
        writeln!(out, "\nBD-rate of the means against")?;
    }
    for bd_rate in &evaluation.bd_rates {
        match (bd_rate.percent, &bd_rate.error) {
            (Some(percent), _) => writeln!(out, "  {}: {percent:+.2} %", bd_rate.anchor)?,
            (None, error) => writeln!(out, "  {}: none: {}", bd_rate.anchor, error.as_deref().unwrap_or_default())?,
        }
    }
    evaluation.means.iter().filter(|_| with_details).try_for_each(|mean| details(out, mean))
}

fn row(out: &mut String, width: usize, [name, size]: [&str; 2], percent: f32, figures: &Figures) -> std::fmt::Result {
    let Figures { bpp, psnr_rgb, ms_ssim, encode_seconds, decode_seconds } = figures;
    let ms_ssim = ms_ssim.map_or("-".into(), |value| format!("{value:.5}"));
    write!(out, "{name:width$}  {size:>11}  {percent:>5}  {bpp:>8.4}  {psnr_rgb:>7.3}  {ms_ssim:>7}")?;
    writeln!(out, "  {encode_seconds:>8.3}  {decode_seconds:>8.3}")
}

/// Writes where bits and time go at one quality.
fn details(out: &mut String, mean: &Mean) -> std::fmt::Result {
    writeln!(out, "\nat q {}", mean.percent)?;
    let total: f64 = mean.bits.iter().map(|part| part.bits).sum();
    for part in &mean.bits {
        writeln!(out, "  {:<24}  {:>12.0} bits  {:>5.1} %", part.part, part.bits, 100.0 * part.bits / total)?;
    }
    for (way, stages) in [("encode", &mean.encode_stages), ("decode", &mean.decode_stages)] {
        for StageSeconds { stage, device, seconds } in stages {
            writeln!(out, "  {:<24}  {seconds:>12.4} s     {device}", format!("{way} {stage}"))?;
        }
    }
    Ok(())
}
