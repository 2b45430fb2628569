//! The model package: one file that holds a whole MLIC++ model, checksummed and proved before use.
//!
//! [`Model::open`] reads a package. Before it returns it verifies every checksum, the model id and each table, and makes the overflow proof of
//! [`proof`], on the current rayon pool if there is one. [`model::verified_by_a_test`] takes a package that was verified when the program was made.
//! `docs/SPEC.md` clause 2 defines the format.
#![deny(clippy::indexing_slicing)]

pub mod analysis;
pub mod config;
pub mod error;
pub mod graph;
pub mod layout;
mod map;
mod metadata;
pub mod model;
pub mod nodes;
pub mod package;
pub mod parameters;
pub mod proof;
pub mod real;
pub mod rows;
pub mod synthesis;
mod threads;
mod wire;

pub use config::Config;
pub use error::ModelError;
pub use layout::Layout;
pub use model::Model;
pub use parameters::Parameters;
