//! From a checkpoint to a package.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod analysis;
mod common;
mod damage;
mod golden;
mod one_synthesis;
mod onnx;
mod synthesis;
mod transforms;
mod wide_slices;
