//! Each stage and each pass of the edge model for 768x512, on one thread, for every instruction set of this machine: best of several runs.
//! `MLIC_PACKAGE` names another package.
//!
//! The symbols are made up: their values do not change the amount of work.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run stops")]

use std::sync::Arc;
use std::time::Instant;

use mlic_backend::Backend;
use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::cpu::CpuBackend;
use mlic_backend::integer::Kernels;
use mlic_core::schedule::{LatentSize, passes};
use mlic_kernels::cpu::Isa;
use mlic_kernels::{Map, Picture};
use mlic_model::Model;

const ROUNDS: usize = 5;

/// Least milliseconds so far of each step.
#[derive(Default)]
struct Times(Vec<(String, f64)>);

impl Times {
    fn step<T>(&mut self, name: impl Into<String>, run: impl FnOnce() -> T) -> T {
        let (name, start) = (name.into(), Instant::now());
        let result = run();
        let ms = start.elapsed().as_secs_f64() * 1e3;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, least)) => *least = least.min(ms),
            None => self.0.push((name, ms)),
        }
        result
    }
}

/// Takes a picture through the exact stages.
fn run(model: &Arc<Model>, isa: Isa, size: LatentSize, times: &mut Times) {
    let backend = times.step("packing", || CpuBackend::new(model.clone(), Kernels::Fast(isa), 1, None).unwrap());
    let mut random = Random(1);
    if model.has_exact_analysis() {
        let rgb: Vec<u8> = (0..3 * 768 * 512).map(|i| (i / 96 % 200 + random.below(20) as usize) as u8).collect();
        let picture = Picture::new(512, 768, &rgb).unwrap();
        times.step("packing the analysis", || backend.exact_analysis(&Picture::new(1, 1, &[0; 3]).unwrap()).unwrap());
        let y = times.step("g_a, exact", || backend.exact_analysis(&picture).unwrap());
        times.step("h_a, exact", || backend.exact_hyper_analysis(&y).unwrap());
    }
    let z = Fill::Small.symbols(&mut random, z_count(model, &size));
    let mut session = times.step("h_s", || backend.entropy(size, 0, &z).unwrap());
    for (i, pass) in passes(model.config().slices).enumerate() {
        let parameters = times.step(format!("pass {i}: contexts"), || session.parameters(pass).unwrap());
        let symbols = Fill::Small.symbols(&mut random, parameters.means.len());
        times.step(format!("pass {i}: symbols"), || session.commit(pass, &symbols).unwrap());
    }
    let y_hat: Map<i32> = session.y_hat().unwrap();
    if model.exact_synthesis().is_some() {
        let smallest = Map::zeros(1, 1, model.config().latent).unwrap();
        times.step("packing g_s", || backend.exact_synthesis(0, &smallest).unwrap());
        times.step("g_s, exact", || backend.exact_synthesis(0, &y_hat).unwrap());
    }
}

fn main() {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/edge/edge.mlicpkg");
    let given = std::env::var_os("MLIC_PACKAGE").unwrap_or_else(|| package.into());
    let model = Arc::new(Model::open(given).unwrap());
    let size = LatentSize::of_image(768, 512).unwrap();
    let is_test = std::env::args().any(|a| a == "--test");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available() && !(is_test && *isa == Isa::Scalar)) {
        let mut times = Times::default();
        (0..if is_test { 1 } else { ROUNDS }).for_each(|_| run(&model, isa, size, &mut times));
        println!("{}: 768x512, one thread, milliseconds, least of {ROUNDS}", isa.name());
        times.0.iter().for_each(|(name, ms)| println!("  {name:18} {ms:8.2}"));
        let of = |what: &str| times.0.iter().filter(|(name, _)| name.contains(what)).map(|(_, ms)| ms).sum::<f64>();
        println!("  {:18} {:8.2}", "all passes", of("pass "));
    }
}
