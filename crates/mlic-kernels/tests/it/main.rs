//! The fast operators against their definition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agree;
mod analysis;
mod common;
mod synthesis;
