//! The codec for C: `include/mlic.h` says what each function does and demands, and `tests/c/` has a program that uses all of them.
//!
//! [`abi`] contains what C sees and all of the unsafe code, but no decisions: it turns what C passes into slices and references. No panic crosses it: if there
//! is one, although there should be none, the call returns a status.

pub mod abi;
mod calls;
mod status;
