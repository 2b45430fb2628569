//! Conformance suites: does a decoder read MLIC++ streams as `docs/SPEC.md` says?
//!
//! A suite is a folder of streams with a [`manifest`], which states for each stream either the digests of everything that decoding it
//! determines, or the error that it must give. [`run()`] takes any [`mlic_backend::Backend`] through a suite and names the first
//! difference: level, pass and tensor; [`run_decoder`] does the same with another program ([`External`]). [`report`] writes the
//! results and puts several machines side by side; [`explain`] and [`dump`] go down to single numbers. [`bless()`] generates the suites.
//!
//! | level | compares |
//! |---|---|
//! | L0 | the container: header fields, sections, or the container's error |
//! | L1 | symbols of z and of each pass |
//! | L2 | means and scale indices of each pass |
//! | L3 | `y_hat` |
//! | L4 | exact pixels; a float picture within the tolerance that the vector states |
//!
//! ```
//! use std::sync::Arc;
//! use mlic::{BackendChoice, backend};
//! use mlic_conform::{Level, Models, Options, Store, run};
//!
//! let store = Store::embedded();
//! for name in store.suites().iter().filter(|name| *name == "smoke") {
//!     let suite = store.suite(name)?;
//!     let model = Models::default().find(&store, &suite.manifest.model)?;
//!     let report = run(&suite, backend(model, BackendChoice::Auto, 1)?, &Options { level: Level::L3, ..Options::default() });
//!     assert!(report.is_pass());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod baseline;
pub mod bless;
pub mod check;
pub mod compare;
pub mod coverage;
pub mod craft;
pub mod damage;
pub mod dump;
pub mod encode;
pub mod error;
pub mod explain;
pub mod external;
pub mod files;
pub mod manifest;
pub mod negative;
pub mod observe;
pub mod operators;
pub mod packages;
pub mod record;
pub mod report;
pub mod run;
pub mod scene;
pub mod select;
pub mod store;
pub mod suites;
pub mod verdict;

pub use baseline::Baseline;
pub use bless::bless;
pub use error::ConformError;
pub use external::External;
pub use manifest::{Level, Manifest};
pub use run::{Decoder, Options, Plan, run, run_decoder};
pub use store::{Models, Store, Suite};
pub use verdict::Verdict;
