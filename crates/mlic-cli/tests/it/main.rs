//! The program as users call it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(feature = "builder")]
mod build;
mod common;
mod failures;
mod kodak;
mod round_trip;
mod texts;
