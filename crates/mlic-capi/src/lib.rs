//! The codec for C: `include/mlic.h` says what each function does and demands, `tests/c/` has a program that uses all of them.
//!
//! [`abi`] has what C sees, all of the unsafe code, and nothing that decides; what it reads of C becomes slices and references there. Nothing panics across it:
//! what does, though nothing should, is a status.

pub mod abi;
mod calls;
mod status;
