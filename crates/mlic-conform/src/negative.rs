//! What a decoder must refuse: streams and model packages, each with the error that SPEC gives it, written by hand.

mod packages;
mod streams;

pub use packages::{PACKAGES, PackageCase, Sound};
pub use streams::{Base, STREAMS, StreamCase};
