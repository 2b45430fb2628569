//! What the tests share.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a failure here is a failed test")]
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

use std::path::PathBuf;
use std::sync::Arc;

use mlic_backend::Backend;
use mlic_backend::integer::Kernels;
use mlic_conform::report::SuiteReport;
use mlic_conform::{Level, Models, Options, Store, run};
use mlic_model::Model;
use mlic_tract::backend;

/// `conformance/`, as it is now.
pub fn data() -> Store {
    Store::Folder(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance"))
}

/// The model of a suite.
pub fn model(suite: &str) -> Arc<Model> {
    let store = data();
    let suite = store.suite(suite).unwrap();
    Models::default().find(&store, &suite.manifest.model).unwrap()
}

pub fn tract(model: Arc<Model>) -> Arc<dyn Backend> {
    Arc::new(backend(model, fast(), 0).unwrap())
}

pub fn with(kernels: Kernels, model: Arc<Model>) -> Arc<dyn Backend> {
    Arc::new(backend(model, kernels, 0).unwrap())
}

pub fn fast() -> Kernels {
    Kernels::best()
}

pub fn options(level: Level) -> Options {
    Options { level, jobs: 2, ..Options::default() }
}

pub fn run_on(suite: &str, backend: Arc<dyn Backend>, level: Level) -> SuiteReport {
    run(&data().suite(suite).unwrap(), backend, &options(level))
}

/// What did not pass, one line each.
pub fn not_passed(report: &SuiteReport) -> String {
    let bad = report.vectors.iter().filter(|vector| !vector.verdict.is_pass());
    bad.map(|vector| format!("{}: {}\n", vector.name, vector.verdict)).collect()
}
