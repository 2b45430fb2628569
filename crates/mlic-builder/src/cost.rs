//! Measures what integers cost in bits: the same latents go through the float and the integer entropy networks, and are coded with the same
//! tables.

use std::sync::Arc;

use mlic_backend::dead_zone::DeadZone;
use mlic_backend::integer::{IntegerSession, Kernels, PackedModel};
use mlic_backend::walk::choose_symbols;
use mlic_backend::{BackendError, PassParameters, PassSink, walk};
use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::Map;
use mlic_kernels::function::scale_index;
use mlic_model::Model;
use mlic_model::config::Config;
use mlic_model::real::{LATENT_STEP, Q16_STEP, to_latent};

use crate::calibrate::{FloatPass, Sample, nearest_symbols, run_float};
use crate::float::{FloatModel, FloatOps};

/// Bits of y and the reconstructed latents of one image.
#[derive(Debug, Clone)]
pub struct Coded {
    /// Information content of the symbols of y, by the package's tables.
    pub bits: f64,
    /// Reconstructed y before the inverse gain, `[height][width][M]`.
    pub y_hat: Map<f32>,
}

/// Cost of symbols under the tables of their scale indices, in units of 2^-16 bits; skipped symbols cost nothing.
fn bits(model: &Model, scale_indices: &[u8], symbols: &[i32]) -> u64 {
    let tables = model.y_cdfs();
    let coded = scale_indices.iter().zip(symbols).filter(|(index, _)| **index >= model.config().skip_below);
    coded.filter_map(|(index, symbol)| tables.get(usize::from(*index)).map(|t| u64::from(t.cost(*symbol)))).sum()
}

fn to_bits(q16: u64) -> f64 {
    q16 as f64 * Q16_STEP
}

struct Measure<'a> {
    model: &'a Model,
    y: Map<i32>,
    /// The elements of y that the current pass codes.
    half: Vec<i32>,
    bits_q16: u64,
}

impl PassSink for Measure<'_> {
    type Error = BackendError;

    fn pass(&mut self, pass: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), BackendError> {
        let config: &Config = self.model.config();
        self.y.select_pass(pass, config.slice_channels(), &mut self.half)?;
        choose_symbols(&self.half, parameters, config.skip_below, &DeadZone::none(), symbols);
        self.bits_q16 += bits(self.model, &parameters.scale_indices, symbols);
        Ok(())
    }
}

/// The integer networks of a package, packed for this processor.
pub struct Integers<'m> {
    model: &'m Model,
    packed: Arc<PackedModel>,
}

impl<'m> Integers<'m> {
    /// Packs the networks of a package.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`].
    pub fn new(model: &'m Model) -> Result<Self, BackendError> {
        Ok(Self { model, packed: Arc::new(PackedModel::new(model, Kernels::best())?) })
    }

    /// Codes a sample with the integer networks.
    ///
    /// # Errors
    /// Errors of the backend.
    pub fn code(&self, quality: u8, sample: &Sample) -> Result<Coded, BackendError> {
        let model = self.model;
        let y = Map { data: sample.y.data.iter().map(|v| to_latent(*v)).collect(), ..empty(&sample.y) };
        let size = LatentSize::of_z([y.height / 4, y.width / 4]);
        let mut session = IntegerSession::new(model, Arc::clone(&self.packed), size, quality, &sample.z_symbols)?;
        let mut sink = Measure { model, y, half: Vec::new(), bits_q16: 0 };
        walk(&mut session, model.config().slices, &mut sink)?;
        let y_hat = mlic_backend::EntropySession::y_hat(&session)?;
        let data = y_hat.data.iter().map(|v| (f64::from(*v) * LATENT_STEP) as f32).collect();
        Ok(Coded { bits: to_bits(sink.bits_q16), y_hat: Map { data, ..empty(&sample.y) } })
    }
}

fn empty<A, B>(like: &Map<A>) -> Map<B> {
    Map { height: like.height, width: like.width, channels: like.channels, data: Vec::new() }
}

/// Codes a sample with the float networks, and the thresholds and tables of a package.
///
/// # Errors
/// Errors of the operators.
pub fn float(float: &FloatModel, model: &Model, sample: &Sample) -> Result<Coded, BackendError> {
    let (thresholds, skip_below) = (&model.parameters().thresholds, model.config().skip_below);
    let mut total = 0;
    let code = |pass: &FloatPass| {
        let indices: Vec<u8> = pass.scale.data.iter().map(|s| scale_index(thresholds, to_latent(*s))).collect();
        let nearest = nearest_symbols(pass).into_iter();
        let symbols: Vec<i32> = nearest.zip(&indices).map(|(s, i)| if *i < skip_below { 0 } else { s }).collect();
        total += bits(model, &indices, &symbols);
        symbols
    };
    let entropy = run_float(float, FloatOps::new(float), sample, code)?;
    let mut y_hat = Map::zeros(sample.y.height, sample.y.width, sample.y.channels)?;
    let slices = entropy.y_hat().iter().enumerate();
    slices.for_each(|(i, slice)| y_hat.set_channels(i * model.config().slice_channels(), slice));
    Ok(Coded { bits: to_bits(total), y_hat })
}

/// Bits of the symbols of z, the same for float and integer networks.
#[must_use]
pub fn z_bits(model: &Model, sample: &Sample) -> f64 {
    let tables = model.z_cdfs();
    let symbols = sample.z_symbols.chunks(tables.len().max(1)).flat_map(|at| at.iter().zip(tables));
    to_bits(symbols.map(|(symbol, table)| u64::from(table.cost(*symbol))).sum())
}
