//! The contract suite: every instruction set of the CPU backend against the scalar definition, on the tiny model.
//!
//! An instruction set that this processor lacks is printed; `MLIC_REQUIRE=avx2,avxvnni,avx512vnni,amx` makes that a failure.

use std::path::Path;
use std::sync::Arc;

use mlic_backend::backend_contract;
use mlic_backend::cpu::CpuBackend;
use mlic_backend::integer::Kernels;
use mlic_backend::{Backend, BackendError};
use mlic_kernels::cpu::Isa;
use mlic_model::Model;

fn model() -> Result<Arc<Model>, BackendError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/models/tiny.mlicpkg");
    Ok(Arc::new(Model::open(path)?))
}

fn fast(isa: Isa, threads: usize) -> Result<CpuBackend, BackendError> {
    mlic_tract::backend(model()?, Kernels::Fast(isa), threads)
}

fn reference() -> Result<CpuBackend, BackendError> {
    mlic_tract::backend(model()?, Kernels::Reference, 1)
}

backend_contract!(scalar, "scalar", fast(Isa::Scalar, 1), reference());
backend_contract!(avx2, "avx2", fast(Isa::Avx2, 1), reference());
backend_contract!(avxvnni, "avxvnni", fast(Isa::AvxVnni, 1), reference());
backend_contract!(avx512vnni, "avx512vnni", fast(Isa::Avx512Vnni, 1), reference());
backend_contract!(amx, "amx", fast(Isa::Amx, 1), reference());
backend_contract!(three_threads, "threads", fast(Isa::best(), 3), reference());

/// The tiny model with integer analyses.
fn integer(kernels: Kernels, threads: usize) -> Result<CpuBackend, BackendError> {
    let package = mlic_backend::probe::with_integer_analysis(model()?.as_ref())?;
    mlic_tract::backend(Arc::new(Model::from_bytes(package)?), kernels, threads)
}

backend_contract!(integer_analysis, "scalar", integer(Kernels::Fast(Isa::Scalar), 1), integer(Kernels::Reference, 1));
backend_contract!(best_integer_analysis, "threads", integer(Kernels::Fast(Isa::best()), 3), integer(Kernels::Reference, 1));

/// The tiny model with only the integer synthesis, from which float pixels are computed too.
fn one_synthesis(kernels: Kernels, threads: usize) -> Result<CpuBackend, BackendError> {
    let package = mlic_backend::probe::with_one_synthesis(model()?.as_ref())?;
    mlic_tract::backend(Arc::new(Model::from_bytes(package)?), kernels, threads)
}

backend_contract!(one_g_s, "threads", one_synthesis(Kernels::Fast(Isa::best()), 3), one_synthesis(Kernels::Reference, 1));

#[test]
fn a_backend_reports_what_runs_it() {
    use mlic_backend::Stage;
    let backend = fast(Isa::Scalar, 1).unwrap();
    assert_eq!(backend.name(), "tract");
    assert!(backend.device(Stage::Passes).ends_with("scalar"));
    assert!(backend.device(Stage::Synthesis).contains("tract"));
}

#[test]
fn the_graph_that_memory_is_known_by_is_the_one_that_runs() {
    use mlic_backend::FloatTransform;
    use mlic_backend::cpu::FloatTransforms;
    use mlic_backend::memory::transform_bytes;
    let model = model().unwrap();
    let transforms = mlic_tract::TractTransforms::new(Arc::clone(&model));
    for transform in FloatTransform::ALL {
        let (own, graph) = (model.transform(transform.section()).unwrap(), transforms.graph(transform).unwrap().unwrap());
        assert!(std::ptr::eq(graph, transforms.graph(transform).unwrap().unwrap()), "made once");
        assert!(graph.parameter_count() == 0 && own.parameter_count() > 0);
        for (height, width) in [(64, 64), (4096, 64), (64, 4096)] {
            assert_eq!(transform_bytes(graph, height, width), transform_bytes(&own, height, width));
        }
    }
}
