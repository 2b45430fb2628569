//! With a GPU, on an emulated driver, and without either.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod contract;
mod no_device;
mod repeated;
