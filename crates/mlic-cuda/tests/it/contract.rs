//! The contract of a backend, on the small packages: on a GPU, or on the emulated driver (`emu/test.sh`).

use std::sync::Arc;

use crate::common::{Shapes, package};
use mlic_backend::cpu::CpuBackend;
use mlic_backend::integer::Kernels;
use mlic_backend::{BackendError, backend_contract};
use mlic_cuda::{CudaBackend, Options};

fn cuda(name: &str, without_mma: bool) -> Result<CudaBackend, BackendError> {
    let model = package(name);
    let float = Some(Box::new(Shapes(Arc::clone(&model))) as _);
    CudaBackend::new(model, Options { without_mma, float, threads: 1, ..Options::default() })
}

fn reference(name: &str) -> Result<CpuBackend, BackendError> {
    let model = package(name);
    CpuBackend::new(Arc::clone(&model), Kernels::Reference, 1, Some(Box::new(Shapes(model))))
}

backend_contract!(tiny, "cuda", cuda("tiny", false), reference("tiny"));
backend_contract!(tiny_without_mma, "cuda", cuda("tiny", true), reference("tiny"));
backend_contract!(edge_cases, "cuda", cuda("edge-cases", false), reference("edge-cases"));
backend_contract!(edge_cases_scales, "cuda", cuda("edge-cases-scales", false), reference("edge-cases-scales"));
backend_contract!(edge_cases_fixed, "cuda", cuda("edge-cases-fixed", false), reference("edge-cases-fixed"));
backend_contract!(edge_cases_ties, "cuda", cuda("edge-cases-ties", false), reference("edge-cases-ties"));

/// The small package with integer analyses.
fn integer() -> Arc<mlic_model::Model> {
    let bytes = mlic_backend::probe::with_integer_analysis(&package("tiny")).unwrap();
    Arc::new(mlic_model::Model::from_bytes(bytes).unwrap())
}

backend_contract!(
    integer_analysis,
    "cuda",
    CudaBackend::new(integer(), Options { float: Some(Box::new(Shapes(integer())) as _), threads: 1, ..Options::default() }),
    CpuBackend::new(integer(), Kernels::Reference, 1, Some(Box::new(Shapes(integer()))))
);

/// Any other package, too large for the definition and therefore compared with the fast kernels of this processor.
#[test]
fn given_package() {
    let Some(path) = std::env::var_os("MLIC_PACKAGE") else { return eprintln!("not run: MLIC_PACKAGE names no package") };
    let model = Arc::new(mlic_model::Model::open(path).unwrap());
    let float = |model: &Arc<_>| Some(Box::new(Shapes(Arc::clone(model))) as _);
    let backend = CudaBackend::new(Arc::clone(&model), Options { float: float(&model), ..Options::default() });
    let against = CpuBackend::new(Arc::clone(&model), Kernels::best(), 0, float(&model));
    if let Some(breach) = mlic_backend::contract::verdict("cuda", backend, against) {
        panic!("{breach}");
    }
}
