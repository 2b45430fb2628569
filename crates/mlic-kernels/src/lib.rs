//! The integer operators of MLIC++, for the entropy networks and the integer transforms.
//!
//! [`mod@reference`] is the definition: scalar, naive, readable, and the same as `docs/SPEC.md` clause 4 line by line. [`fast`]
//! computes the same numbers with threads and vector instructions; property tests check that the two agree. No float type
//! occurs in this crate.
#![deny(clippy::float_arithmetic, clippy::disallowed_types)]

mod arch;
pub mod cpu;
pub mod fast;
pub mod function;
pub mod map;
pub mod peak;
pub mod reference;

pub use bytemuck::Zeroable;
pub use map::{Map, Picture};
pub use mlic_core::memory::OutOfMemory;
