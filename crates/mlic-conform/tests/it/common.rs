//! What the tests share.

use std::path::PathBuf;
use std::sync::Arc;

use mlic_backend::Backend;
use mlic_backend::integer::Kernels;
use mlic_conform::report::SuiteReport;
use mlic_conform::{Level, Models, Options, Store, run};
use mlic_model::Model;
use mlic_tract::backend;

/// `conformance/`, as it is now.
pub(crate) fn data() -> Store {
    Store::Folder(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance"))
}

/// The model of a suite.
pub(crate) fn model(suite: &str) -> Arc<Model> {
    let store = data();
    let suite = store.suite(suite).unwrap();
    Models::default().find(&store, &suite.manifest.model).unwrap()
}

#[cfg(feature = "embedded-model")]
pub(crate) fn tract(model: Arc<Model>) -> Arc<dyn Backend> {
    Arc::new(backend(model, fast(), 0).unwrap())
}

pub(crate) fn with(kernels: Kernels, model: Arc<Model>) -> Arc<dyn Backend> {
    Arc::new(backend(model, kernels, 0).unwrap())
}

pub(crate) fn fast() -> Kernels {
    Kernels::best()
}

pub(crate) fn options(level: Level) -> Options {
    Options { level, jobs: 2, ..Options::default() }
}

pub(crate) fn run_on(suite: &str, backend: Arc<dyn Backend>, level: Level) -> SuiteReport {
    run(&data().suite(suite).unwrap(), backend, &options(level))
}

/// What did not pass, one line each.
pub(crate) fn not_passed(report: &SuiteReport) -> String {
    let bad = report.vectors.iter().filter(|vector| !vector.verdict.is_pass());
    bad.map(|vector| format!("{}: {}\n", vector.name, vector.verdict)).collect()
}
