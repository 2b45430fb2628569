//! Backends by name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mlic_backend::cpu::CpuBackend;
use mlic_backend::integer::Kernels;
use mlic_backend::{Backend, BackendError};
use mlic_model::Model;

use crate::error::Error;

/// Largest number of threads that the programs accept on a command line: more gain nothing here, and some thousands stop a machine. The library accepts
/// any number that the system does.
pub const MAX_THREADS: u16 = 256;

/// Which executor runs the networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendChoice {
    /// This processor, with tract if it is built in ([`Self::resolved`]).
    #[default]
    Auto,
    /// The exact networks on an NVIDIA GPU, the float transforms on tract.
    Cuda,
    /// Float transforms on tract, the fast integer kernels on this CPU.
    Tract,
    /// The fast integer kernels alone: decoding to `y_hat` and exact pixels, and encoding where the package has an integer analysis.
    Integer,
    /// The scalar definition of the integer operators: slow, for conformance.
    Reference,
}

impl BackendChoice {
    /// Every choice.
    pub const ALL: &'static [Self] = &[Self::Auto, Self::Cuda, Self::Tract, Self::Integer, Self::Reference];

    /// The backend that [`Self::Auto`] stands for in this program: the processor. A GPU must be asked for by name: of its kernels, only those for sm_90
    /// have passed the conformance suites on silicon, and an encoder that was wrong elsewhere would write streams that nothing else reads.
    #[must_use]
    pub const fn resolved(self) -> Self {
        match self {
            Self::Auto if cfg!(feature = "tract") => Self::Tract,
            Self::Auto => Self::Integer,
            named => named,
        }
    }

    /// The name by which the choice is parsed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::Tract => "tract",
            Self::Integer => "integer",
            Self::Reference => "reference",
        }
    }
}

impl FromStr for BackendChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownBackend { name: name.into() };
        Self::ALL.iter().copied().find(|choice| choice.name() == name).ok_or_else(unknown)
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Creates the chosen backend for a model, on this many threads (0: all cores).
///
/// # Errors
/// [`BackendError::NotAvailable`]: a backend that was asked for by name and is not available is never replaced by another.
pub fn backend(model: Arc<Model>, choice: BackendChoice, threads: usize) -> Result<Arc<dyn Backend>, Error> {
    let fast = Kernels::best();
    let backend = match choice.resolved() {
        BackendChoice::Cuda => return Ok(cuda(model, threads)?),
        BackendChoice::Reference if cfg!(feature = "tract") => with_tract(model, Kernels::Reference, threads),
        BackendChoice::Reference => CpuBackend::new(model, Kernels::Reference, threads, None),
        BackendChoice::Integer => CpuBackend::new(model, fast, threads, None),
        BackendChoice::Auto | BackendChoice::Tract => with_tract(model, fast, threads),
    };
    Ok(Arc::new(backend?))
}

/// A warning that a program should show its user: that `MLIC_CPU` names no instruction set of this architecture, and that the slowest is therefore used.
#[must_use]
pub fn cpu_warning() -> Option<String> {
    mlic_kernels::cpu::warning()
}

/// Runs `work` with exactly this many threads (0: all cores) for its parallel loops. Loading a model uses the threads of the pool that it runs on, and only
/// one outside of any pool.
///
/// # Errors
/// [`BackendError::Threads`].
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
    Ok(mlic_backend::cpu::on_threads(threads, work)?)
}

#[cfg(feature = "cuda")]
fn cuda(model: Arc<Model>, threads: usize) -> Result<Arc<dyn Backend>, BackendError> {
    let float = float_transforms(&model);
    let options = mlic_cuda::Options { threads, float, ..mlic_cuda::Options::default() };
    Ok(Arc::new(mlic_cuda::CudaBackend::new(model, options)?))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: Arc<Model>, _: usize) -> Result<Arc<dyn Backend>, BackendError> {
    Err(BackendError::NotAvailable { backend: "cuda", reason: "this program was built without its feature `cuda`".into() })
}

#[cfg(all(feature = "cuda", feature = "tract"))]
fn float_transforms(model: &Arc<Model>) -> Option<Box<dyn mlic_backend::cpu::FloatTransforms>> {
    Some(Box::new(mlic_tract::TractTransforms::new(Arc::clone(model))))
}

#[cfg(all(feature = "cuda", not(feature = "tract")))]
fn float_transforms(_: &Arc<Model>) -> Option<Box<dyn mlic_backend::cpu::FloatTransforms>> {
    None
}

#[cfg(feature = "tract")]
fn with_tract(model: Arc<Model>, kernels: Kernels, threads: usize) -> Result<CpuBackend, BackendError> {
    mlic_tract::backend(model, kernels, threads)
}

#[cfg(not(feature = "tract"))]
fn with_tract(_: Arc<Model>, _: Kernels, _: usize) -> Result<CpuBackend, BackendError> {
    Err(BackendError::NotAvailable { backend: "tract", reason: "this program was built without its feature `tract`".into() })
}
