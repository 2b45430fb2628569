//! The integer analysis of a model on this CPU (SPEC 5.8): from a picture to y, from y to z.

use mlic_kernels::{Map, Picture, fast, reference};
use mlic_model::Model;
use mlic_model::analysis::{Analyses, LATENT_SCALE};
use once_cell::sync::OnceCell;

use crate::backend::{BackendError, Stage, check_shape};
use crate::integer::Kernels;

/// `g_a` and `h_a` of one model in the form that its kernels read, made on first use, since a decoder never needs them.
#[derive(Debug)]
pub struct PackedAnalysis {
    kernels: Kernels,
    transforms: OnceCell<Transforms>,
}

/// `g_a` and `h_a` for one kind of kernels.
#[derive(Debug)]
enum Transforms {
    Reference(Analyses),
    Fast(Box<FastAnalyses>),
}

/// `g_a` and `h_a` for the fast kernels.
#[derive(Debug)]
struct FastAnalyses {
    g_a: fast::Analysis,
    h_a: fast::HyperAnalysis,
    tables: fast::Tables,
}

impl PackedAnalysis {
    /// Makes an empty value; the first use packs the transforms.
    #[must_use]
    pub const fn new(kernels: Kernels) -> Self {
        Self { kernels, transforms: OnceCell::new() }
    }

    fn transforms(&self, model: &Model) -> Result<&Transforms, BackendError> {
        // Nothing in here is parallel: a thread that waits could not help.
        self.transforms.get_or_try_init(|| {
            let own = model.exact_analysis()?.ok_or_else(|| BackendError::NoExactAnalysis { model: model.name().to_owned() })?;
            Ok(match self.kernels {
                Kernels::Reference => Transforms::Reference(own),
                Kernels::Fast(isa) => Transforms::Fast(Box::new(FastAnalyses {
                    g_a: fast::Analysis::new(isa, &own.g_a)?,
                    h_a: fast::HyperAnalysis::new(isa, &own.h_a)?,
                    tables: fast::Tables::new(&model.parameters().functions),
                })),
            })
        })
    }

    /// Computes y before its gain, on the current rayon pool. `model` must be the same in all calls.
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`], [`BackendError::OutOfMemory`].
    pub fn analyze(&self, model: &Model, picture: &Picture<'_>) -> Result<Map<i32>, BackendError> {
        Ok(match self.transforms(model)? {
            Transforms::Reference(own) => reference::analysis(&model.parameters().functions, &own.g_a, picture)?,
            Transforms::Fast(own) => own.g_a.run(&own.tables, picture)?,
        })
    }

    /// Computes z before its gain from y after its gain.
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`], [`BackendError::Shape`].
    pub fn hyper_analyze(&self, model: &Model, y: &Map<i32>) -> Result<Map<i32>, BackendError> {
        let transforms = self.transforms(model)?;
        check_latent(model, y)?;
        Ok(match transforms {
            Transforms::Reference(own) => reference::hyper_analysis(&model.parameters().functions, &own.h_a, y)?,
            Transforms::Fast(own) => own.h_a.run(&own.tables, y)?,
        })
    }
}

/// Checks that z can be computed from y: that y has the model's channels, and sides that are multiples of `LATENT_SCALE`.
///
/// # Errors
/// [`BackendError::Shape`].
pub fn check_latent(model: &Model, y: &Map<i32>) -> Result<(), BackendError> {
    let latent = model.config().latent;
    let whole = |side: usize| side.checked_next_multiple_of(LATENT_SCALE).unwrap_or(usize::MAX);
    let size = [y.height, y.width].map(whole);
    let is_shaped = y.channels == latent && [y.height, y.width] == size;
    check_shape(Stage::ExactHyperAnalysis, y.data.len(), is_shaped, size, latent)
}
