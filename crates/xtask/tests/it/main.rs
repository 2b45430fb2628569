//! Tests of the repository and its chores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cross;
mod jetson;
mod repository;
