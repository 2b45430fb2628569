//! `gpu_pictures PACKAGE [--rounds N] [--quality PERCENT] [--backend NAME] [WIDTHxHEIGHT...]`: times of whole pictures, from stream to samples and
//! from samples to stream, both in memory of the host and entropy coding included.
//!
//! The picture is drawn here, the same each time. Every decoded picture is compared with what its latents give.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the program")]

use std::time::Instant;

use mlic::image::Image;
use mlic::{BackendChoice, Codec, CodecOptions, Quality, Report};
use mlic_backend::contract::Random;
use mlic_model::Model;

/// A picture of smooth shades, edges and grain, with about as many nonzero symbols as a photograph.
fn picture(width: u32, height: u32) -> Image {
    let mut random = Random(1);
    let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
    for row in 0..height {
        for col in 0..width {
            let shade = (row / 3 + col / 5) % 200;
            let edge = if (row / 37 + col / 53).is_multiple_of(3) { 40 } else { 0 };
            let grain = random.below(9);
            rgb.extend([shade + edge + grain, 240 - shade + grain, (shade * edge) % 120 + grain].map(|v| v.min(255) as u8));
        }
    }
    Image::from_rgb(width, height, rgb).unwrap()
}

/// Median, least and largest of the times of rounds, in milliseconds; the first two do not count.
fn of_rounds(mut seconds: Vec<f64>) -> String {
    seconds.drain(..2.min(seconds.len().saturating_sub(1)));
    seconds.sort_by(f64::total_cmp);
    let at = |i: usize| seconds.get(i).map_or(0.0, |s| s * 1e3);
    format!("{:8.2} ({:.2} to {:.2})", at(seconds.len() / 2), at(0), at(seconds.len() - 1))
}

/// Median time of each stage, in milliseconds; the first two rounds do not count.
fn stages(reports: &[Report]) -> String {
    let count = reports.last().map_or(0, |r| r.stages.len());
    let stage = |i: usize| {
        let name = reports.last().map_or_else(String::new, |r| r.stages[i].stage.to_string());
        let mut all: Vec<f64> = reports.iter().skip(2).map(|r| r.stages[i].seconds * 1e3).collect();
        all.sort_by(f64::total_cmp);
        format!("{name} {:.2}", all.get(all.len() / 2).copied().unwrap_or(0.0))
    };
    (0..count).map(stage).collect::<Vec<_>>().join(", ")
}

fn measure(codec: &Codec, width: u32, height: u32, quality: Quality, rounds: usize) -> Result<(), mlic::Error> {
    let image = picture(width, height);
    let (mut times, mut reports, mut stream) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let encoded = codec.encode(&image, quality)?;
        times.push(start.elapsed().as_secs_f64());
        stream = encoded.stream;
        reports.push(encoded.report);
    }
    let bits = 8.0 * stream.len() as f64 / f64::from(width * height);
    println!("{width}x{height} encode {} ms, {bits:.3} bits per pixel; {}", of_rounds(times), stages(&reports));
    let expected = codec.synthesize(&codec.decode_latents(&stream)?)?;
    let (mut times, mut reports) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let decoded = codec.decode(&stream)?;
        times.push(start.elapsed().as_secs_f64());
        assert!(decoded.image.rgb == expected.rgb, "a picture is not what its latents give");
        reports.push(decoded.report);
    }
    println!("{width}x{height} decode {} ms; {}", of_rounds(times), stages(&reports));
    Ok(())
}

fn main() -> Result<(), mlic::Error> {
    let mut arguments = std::env::args().skip(1);
    let package = arguments.next().unwrap();
    let (mut rounds, mut quality, mut backend, mut sizes) = (7, Quality::default(), BackendChoice::Cuda, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().unwrap().parse().unwrap(),
            "--quality" => quality = arguments.next().unwrap().parse().unwrap(),
            "--backend" => backend = arguments.next().unwrap().parse()?,
            size => sizes.push(size.split_once('x').map(|(w, h)| (w.parse().unwrap(), h.parse().unwrap())).unwrap()),
        }
    }
    let model = Model::open(package).unwrap();
    let codec = Codec::new(model, CodecOptions::default().with_backend(backend))?;
    println!("{}, quality {quality}, medians of {} after 2", codec.backend().device(mlic_backend::Stage::Passes), rounds - 2);
    sizes.into_iter().try_for_each(|(width, height)| measure(&codec, width, height, quality, rounds))
}
