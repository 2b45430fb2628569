//! The stages of MLIC++ on a device.
//!
//! [`Backend`] is what a device offers; [`entropy::EntropyModel`] is MEM++ written once over the operators of [`ops::Ops`],
//! for integers ([`integer::IntegerOps`]: the product) and for float (the quantizer); [`mod@walk`] is the one loop over the
//! passes that encoding, decoding and measuring share; [`dead_zone`] is how an encoder rounds; [`contract`] is the suite that makes a
//! backend right; [`cpu`] is the backend of every CPU, [`analysis`] the integer encoder's part of it.

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
