//! MLIC++ on NVIDIA GPUs: the exact networks as integer kernels.
//!
//! [`CudaBackend`] implements [`mlic_backend::ops::Ops`] with the kernels of `kernels/` and reuses the entropy model that all backends
//! share. The driver is loaded at run time: nothing of CUDA is needed to build or to start, and a machine without a usable GPU gets
//! [`mlic_backend::BackendError::NotAvailable`] with the reason. See README.md for the plan of launches and buffers.
//!
//! ```
//! use mlic_cuda::{CudaBackend, Options};
//! # fn model() -> std::sync::Arc<mlic_model::Model> {
//! #     let bytes = include_bytes!("../../../conformance/models/edge-cases-fixed.mlicpkg");
//! #     std::sync::Arc::new(mlic_model::Model::from_static(bytes).unwrap())
//! # }
//! match CudaBackend::new(model(), Options::default()) {
//!     Ok(backend) => println!("{}", mlic_backend::Backend::device(&backend, mlic_backend::Stage::Passes)),
//!     Err(reason) => println!("{reason}"),
//! }
//! ```

mod args;
mod backend;
mod device;
mod exact;
mod idle;
mod images;
mod layer;
pub mod measure;
mod memory;
mod ops;
mod packed;
mod session;
mod staging;
mod workspace;

pub use backend::{CudaBackend, Options};
pub use device::OLDEST_DRIVER;
