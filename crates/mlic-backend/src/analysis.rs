//! The integer analysis of a model on this CPU (SPEC 5.8): from a picture to y, from y to z.

use mlic_kernels::{Map, Picture, fast, reference};
use mlic_model::Model;
use mlic_model::analysis::{Analysis, LATENT_SCALE};
use mlic_model::model::Gain;
use once_cell::sync::OnceCell;

use crate::backend::{BackendError, Stage, check_shape};
use crate::integer::Kernels;

/// What `g_a` and `h_a` of one model run on: made when they are first asked for, since a decoder never does.
#[derive(Debug)]
pub struct PackedAnalysis {
    kernels: Kernels,
    transforms: OnceCell<Transforms>,
}

/// `g_a` and `h_a`.
#[derive(Debug)]
enum Transforms {
    Reference([Analysis; 2]),
    Fast([fast::Analysis; 2], Box<fast::Tables>),
}

impl PackedAnalysis {
    /// Nothing yet.
    #[must_use]
    pub const fn new(kernels: Kernels) -> Self {
        Self { kernels, transforms: OnceCell::new() }
    }

    fn transforms(&self, model: &Model) -> Result<&Transforms, BackendError> {
        // Nothing in here is parallel: who waits is no help.
        self.transforms.get_or_try_init(|| {
            let own = model.exact_analysis()?.ok_or_else(|| BackendError::NoExactAnalysis { model: model.name().to_owned() })?;
            Ok(match self.kernels {
                Kernels::Reference => Transforms::Reference(own),
                Kernels::Fast(isa) => {
                    let tables = fast::Tables::new(&model.parameters().functions);
                    Transforms::Fast([fast::Analysis::new(isa, &own[0])?, fast::Analysis::new(isa, &own[1])?], Box::new(tables))
                }
            })
        })
    }

    /// y after its gain, of `model`, which is always the same one. Runs on the current rayon pool.
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`], [`BackendError::OutOfMemory`].
    pub fn analyze(&self, model: &Model, quality: u8, picture: &Picture<'_>) -> Result<Map<i32>, BackendError> {
        let padded = picture.size().map(|side| side.next_multiple_of(64));
        let y = match self.transforms(model)? {
            Transforms::Reference([g_a, _]) => reference::analysis(&model.parameters().functions, g_a, picture, padded)?,
            Transforms::Fast([g_a, _], tables) => g_a.analyze(tables, picture, padded)?,
        };
        Ok(Map { data: model.with_gain(Gain::Y, &y.data, quality)?, ..y })
    }

    /// z after its gain, of y after its gain.
    ///
    /// # Errors
    /// [`BackendError::NoExactAnalysis`], [`BackendError::Shape`].
    pub fn hyper_analyze(&self, model: &Model, quality: u8, y: &Map<i32>) -> Result<Map<i32>, BackendError> {
        let transforms = self.transforms(model)?;
        check_latent(model, y)?;
        let z = match transforms {
            Transforms::Reference([_, h_a]) => reference::hyper_analysis(&model.parameters().functions, h_a, y)?,
            Transforms::Fast([_, h_a], tables) => h_a.hyper_analyze(tables, y)?,
        };
        Ok(Map { data: model.with_gain(Gain::Z, &z.data, quality)?, ..z })
    }
}

/// Whether z can be made of y: it has its channels, and whole rows and columns of z.
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
