//! What a decoder must refuse: streams and model packages, each with the error that SPEC gives it, written by hand.

mod exact;
mod packages;
mod streams;

pub use packages::{PACKAGES, PackageCase, Sound};

/// Every package that must be refused.
pub fn packages() -> impl Iterator<Item = &'static PackageCase> {
    PACKAGES.iter().chain(exact::EXACT)
}
pub use streams::{Base, STREAMS, StreamCase};
