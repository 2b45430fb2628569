//! The stages of MLIC++ on a device.
//!
//! [`Backend`] is the interface of a device. [`entropy::EntropyModel`] is MEM++, written once over the operators of [`ops::Ops`] and used with
//! integers ([`integer::IntegerOps`]: the product) and with float (the quantizer). [`mod@walk`] is the one loop over the passes that encoding,
//! decoding and measuring share, and [`dead_zone`] is how an encoder rounds. [`cpu`] is the backend of every CPU, with the integer analysis of an
//! encoder in [`analysis`]. [`contract`] is the suite that decides whether a backend is right.

pub mod analysis;
pub mod backend;
pub mod contract;
pub mod cpu;
pub mod dead_zone;
pub mod digest;
pub mod entropy;
pub mod integer;
pub mod memory;
pub mod ops;
pub mod probe;
pub mod strips;
pub mod walk;
mod windows;

pub use backend::{
    Backend, BackendError, EntropySession, FloatTransform, PassParameters, Planes, Stage, check_shape, exact_samples,
};
pub use walk::{PassSink, walk};
