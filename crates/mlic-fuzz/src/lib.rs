//! Properties that must hold for any bytes from outside: one function per fuzz target.
//!
//! `fuzz/` runs these functions under libFuzzer, `tests/regressions.rs` runs them on every input of `fuzz/regressions/`.
//! A function returns when its properties hold and panics when one does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken property is reported by a panic: that is what a fuzzer looks for"
)]

mod container;
mod decode;
mod differential;
mod exact;
mod generate;
mod image;
mod package;
mod rans;
#[cfg(test)]
mod real;
pub mod seal;
pub mod seeds;
mod source;
mod structured;

/// A function that checks a property of any bytes; it panics if the property does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("container", container::target),
    ("rans", rans::target),
    ("package", package::target),
    ("decode", decode::target),
    ("image", image::target),
    ("differential", differential::target),
    ("structured", structured::target),
];

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|(known, _)| *known == name).map(|(_, run)| run)
}
