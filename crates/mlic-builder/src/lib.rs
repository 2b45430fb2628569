//! From a trained MLIC++ checkpoint to a model package.
//!
//! `models/export.py` turns a PyTorch checkpoint into a folder: the transforms as ONNX, the entropy networks as safetensors.
//! [`Export`] reads the folder, [`float::FloatOps`] runs the codec's own walk in float, [`calibrate`] records activations over
//! images, [`quantize`] turns weights and scales into integers, and [`cost`] measures what these integers cost in bits.

pub mod bottleneck;
pub mod build;
pub mod calibrate;
pub mod cost;
pub mod error;
pub mod export;
pub mod float;
pub mod onnx;
pub mod quantize;
pub mod synthesis;
pub mod tables;
mod weights;

pub use build::{BuildOptions, Built, build};
pub use error::BuildError;
pub use export::Export;
pub use mlic_tract::PlaneTransform;
