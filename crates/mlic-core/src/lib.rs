//! What both ends of an MLIC++ stream must agree on: integers and bytes, nothing else.
//!
//! Everything here is exact: no float type occurs in this crate, so each function gives the same bits on every
//! processor. `docs/SPEC.md` is the normative text; clause numbers in the items below refer to it.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic, clippy::disallowed_types, clippy::indexing_slicing)]

extern crate alloc;

pub mod cdf;
pub mod checkerboard;
pub mod container;
pub mod fixed;
pub mod limits;
pub mod memory;
pub mod rans;
pub mod schedule;
