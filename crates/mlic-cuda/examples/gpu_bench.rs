//! `gpu_bench PACKAGE [--kernels] [--rates] [WIDTHxHEIGHT...]`: time of the exact part on a GPU by stage, without entropy coding; with `--kernels`
//! the longest kernels of the first and the last size, with `--rates` dense layers against the rate of the device, and with several shapes of
//! blocks. Whole pictures are timed by the example `gpu_pictures` of `mlic`.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the program")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::{Backend, BackendError, PassParameters, Stage, exact_samples};
use mlic_core::schedule::{LatentSize, passes};
use mlic_cuda::measure::{Shape, Warps, backend_with, dense_rate, kernel_times};
use mlic_cuda::{CudaBackend, Options};
use mlic_kernels::Picture;
use mlic_model::Model;

/// Times of one picture: hyper synthesis, parameters, commits, exact pixels to the host if the model has them.
type Times = [Duration; 4];

fn picture(backend: &CudaBackend, size: LatentSize) -> Result<Times, BackendError> {
    let (model, mut random) = (backend.model(), Random(1));
    let z = Fill::Small.symbols(&mut random, z_count(model, &size));
    let quality = model.quality_steps() / 2;
    let mut times = Times::default();
    let start = Instant::now();
    let mut session = backend.entropy(size, quality, &z)?;
    times[0] = start.elapsed();
    let mut parameters = PassParameters::default();
    for pass in passes(model.config().slices) {
        let start = Instant::now();
        session.parameters_into(pass, false, &mut parameters)?;
        times[1] += start.elapsed();
        let symbols = Fill::Small.symbols(&mut random, parameters.scale_indices.len());
        let start = Instant::now();
        session.commit(pass, &symbols)?;
        times[2] += start.elapsed();
    }
    if model.exact_synthesis().is_some() {
        let start = Instant::now();
        exact_samples(backend, session, quality)?;
        times[3] = start.elapsed();
    }
    Ok(times)
}

fn pictures(backend: &CudaBackend, width: u32, height: u32, rounds: usize) -> Result<(), BackendError> {
    let Some(size) = LatentSize::of_image(width, height) else { return Ok(()) };
    // The first picture allocates, the second may record, and later ones may replay that.
    for round in 0..rounds {
        let milliseconds = picture(backend, size)?.map(|t| format!("{:9.3}", t.as_secs_f64() * 1e3));
        println!("{width}x{height} picture {round}: h_s, parameters, commits, exact g_s in ms: {}", milliseconds.join(" "));
    }
    Ok(())
}

/// Blocks that dense layers are measured with; none stands for those that are chosen.
const WARPS: [Option<Warps>; 12] = [
    None,
    Some([4, 3, 1, 2]),
    Some([4, 1, 1, 2]),
    Some([2, 3, 1, 2]),
    Some([2, 1, 1, 2]),
    Some([4, 3, 1, 1]),
    Some([4, 2, 1, 1]),
    Some([4, 1, 1, 1]),
    Some([2, 3, 1, 1]),
    Some([2, 1, 1, 1]),
    Some([1, 1, 1, 1]),
    Some([1, 1, 3, 1]),
];

fn named(warps: Option<Warps>) -> String {
    warps.map_or_else(|| "as chosen".to_owned(), |[m, n, k, blocks]| format!("{m}x{n}x{k} warps of 32x{}", 32 * blocks))
}

fn rates() -> Result<(), BackendError> {
    for (name, wide, words) in [("int8", false, false), ("int16 on int8", true, false), ("int16 on int16", true, true)] {
        // For words there are only warps of 32 by 32.
        for warps in WARPS.into_iter().filter(|w| !words || w.is_none_or(|[.., blocks]| blocks == 1)) {
            let shape = Shape { side: 3, channels: 192, height: 128, width: 192, wide, words };
            let rate = dense_rate(0, shape, warps, 50)?;
            let tera = rate.achieved / 1e12;
            let of = rate.peak.map_or_else(
                || "peak not known".to_owned(),
                |p| format!("{:.1} % of {:.1}", 100.0 * rate.achieved / p, p / 1e12),
            );
            println!("{name} 3x3 192 to 192 at 128x192, {}: {tera:.2} T byte products/s, {of}", named(warps));
        }
    }
    Ok(())
}

/// The kernels that take the most time of a picture.
fn table(model: &Arc<Model>, width: u32, height: u32) -> Result<(), BackendError> {
    let Some(size) = LatentSize::of_image(width, height) else { return Ok(()) };
    let times = kernel_times(Arc::clone(model), None, |backend| picture(backend, size).map(|_| ()))?;
    let sum: f64 = times.iter().map(|t| t.milliseconds).sum();
    let launches: usize = times.iter().map(|t| t.count).sum();
    println!("{width}x{height}: {launches} launches, {sum:.3} ms without the gaps between them; ms, launches, kernel:");
    for time in times.iter().take(25) {
        println!("{:9.3} {:4} {}", time.milliseconds, time.count, time.name);
    }
    Ok(())
}

/// Times the encoder's transforms; the first round brings them to the device.
fn analyses(backend: &CudaBackend, width: u32, height: u32) -> Result<(), BackendError> {
    let mut random = Random(3);
    let rgb: Vec<u8> = (0..3 * width * height).map(|_| random.below(256) as u8).collect();
    let Some(picture) = Picture::new(height as usize, width as usize, &rgb) else { return Ok(()) };
    for round in 0..4 {
        let start = Instant::now();
        let y = backend.exact_analysis(&picture)?;
        let middle = Instant::now();
        backend.exact_hyper_analysis(&y)?;
        let times = [middle - start, middle.elapsed()].map(|t| format!("{:9.3}", t.as_secs_f64() * 1e3));
        println!("{width}x{height} picture {round}: exact g_a, h_a in ms: {}", times.join(" "));
    }
    Ok(())
}

fn main() -> Result<(), BackendError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, arguments): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|a| a.starts_with("--"));
    let with = |option: &str| options.iter().any(|o| o == option);
    let (package, sizes) = arguments.split_first().unwrap();
    let model = Arc::new(Model::open(package)?);
    let sizes: Vec<(u32, u32)> =
        sizes.iter().map(|size| size.split_once('x').map(|(w, h)| (w.parse().unwrap(), h.parse().unwrap())).unwrap()).collect();
    let backend = CudaBackend::new(Arc::clone(&model), Options::default())?;
    println!("{}", backend.device(Stage::Passes));
    for (width, height) in &sizes {
        pictures(&backend, *width, *height, 5)?;
        if model.has_exact_analysis() {
            analyses(&backend, *width, *height)?;
        }
    }
    if with("--kernels") {
        for (width, height) in sizes.first().into_iter().chain(sizes.last().filter(|_| sizes.len() > 1)) {
            table(&model, *width, *height)?;
        }
    }
    if !with("--rates") {
        return Ok(());
    }
    rates()?;
    // Whole pictures with other blocks than those that are chosen for each layer.
    let Some((width, height)) = sizes.get(1).or(sizes.first()) else { return Ok(()) };
    for warps in WARPS.into_iter().flatten().filter(|[m, _, _, blocks]| *m > 1 && *blocks == 1) {
        println!("{}", named(Some(warps)));
        pictures(&backend_with(Arc::clone(&model), Some(warps))?, *width, *height, 2)?;
    }
    Ok(())
}
