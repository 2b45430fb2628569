//! The façade as its users see it. `allocation` is a program of its own, for its allocator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod budget;
mod cancel;
mod common;
mod encode;
#[cfg(feature = "embedded-model")]
#[cfg(feature = "tract")]
mod one_synthesis;
mod pictures;
mod pools;
#[cfg(feature = "embedded-model")]
mod refinement;
mod sizes;
