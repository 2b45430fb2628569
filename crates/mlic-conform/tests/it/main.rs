//! The program and its library: what passes, what must not, and what is said of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cli;
mod common;
mod damaged_data;
mod dumps;
mod encoders;
#[cfg(unix)]
mod external;
mod faults;
mod pixels;
mod program;
mod reports;
mod selection;
mod suites;
