//! `gpu_bench PACKAGE [WIDTHxHEIGHT...]`: time of the exact part on a GPU, and dense layers against the rate of the device.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the program")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::{Backend, BackendError, Stage};
use mlic_core::schedule::{LatentSize, passes};
use mlic_cuda::measure::{Shape, dense_rate};
use mlic_cuda::{CudaBackend, Options};
use mlic_model::Model;

/// Times of one picture: hyper synthesis, parameters, commits, exact synthesis if the model has one.
type Times = [Duration; 4];

fn picture(backend: &CudaBackend, size: LatentSize) -> Result<Times, BackendError> {
    let (model, mut random) = (backend.model(), Random(1));
    let z = Fill::Small.symbols(&mut random, z_count(model, &size));
    let quality = model.quality_steps() / 2;
    let mut times = Times::default();
    let start = Instant::now();
    let mut session = backend.entropy(size, quality, &z)?;
    times[0] = start.elapsed();
    for pass in passes(model.config().slices) {
        let start = Instant::now();
        let parameters = session.parameters(pass)?;
        times[1] += start.elapsed();
        let symbols = Fill::Small.symbols(&mut random, parameters.means.len());
        let start = Instant::now();
        session.commit(pass, &symbols)?;
        times[2] += start.elapsed();
    }
    let y_hat = session.y_hat()?;
    if model.exact_synthesis().is_some() {
        let start = Instant::now();
        backend.exact_synthesis(quality, &y_hat)?;
        times[3] = start.elapsed();
    }
    Ok(times)
}

fn pictures(backend: &CudaBackend, width: u32, height: u32) -> Result<(), BackendError> {
    let Some(size) = LatentSize::of_image(width, height) else { return Ok(()) };
    // The first allocates, the second may record what later ones repeat.
    for round in 0..5 {
        let milliseconds = picture(backend, size)?.map(|t| format!("{:9.3}", t.as_secs_f64() * 1e3));
        println!("{width}x{height} picture {round}: h_s, parameters, commits, exact g_s in ms: {}", milliseconds.join(" "));
    }
    Ok(())
}

fn rates() -> Result<(), BackendError> {
    for (name, wide) in [("int8", false), ("int16", true)] {
        let shape = Shape { side: 3, channels: 192, height: 128, width: 192, wide };
        let rate = dense_rate(0, shape, 200)?;
        let tera = rate.achieved / 1e12;
        let of = rate
            .peak
            .map_or_else(|| "peak not known".to_owned(), |p| format!("{:.1} % of {:.1}", 100.0 * rate.achieved / p, p / 1e12));
        println!("{name} 3x3 192 to 192 at 128x192: {tera:.2} T byte products/s, {of}");
    }
    Ok(())
}

fn main() -> Result<(), BackendError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (package, sizes) = arguments.split_first().unwrap();
    let backend = CudaBackend::new(Arc::new(Model::open(package)?), Options::default())?;
    println!("{}", backend.device(Stage::Passes));
    for size in sizes {
        let (width, height) = size.split_once('x').unwrap();
        pictures(&backend, width.parse().unwrap(), height.parse().unwrap())?;
    }
    if std::env::var_os("MLIC_SKIP_RATES").is_none() { rates() } else { Ok(()) }
}
