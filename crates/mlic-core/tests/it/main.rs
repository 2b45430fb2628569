//! Tests of the entropy coder and the container.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
mod redundancy;
mod round_trips;
