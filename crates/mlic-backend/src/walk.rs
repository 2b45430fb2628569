//! The one loop over the passes. Encoding, decoding and measuring differ in their [`PassSink`].

use mlic_core::memory;
use mlic_core::schedule::{Pass, passes};

use crate::backend::{BackendError, EntropySession, PassParameters};
use crate::dead_zone::DeadZone;

/// What is done with the symbols of a pass.
pub trait PassSink {
    /// Why the walk may stop.
    type Error: From<BackendError>;

    /// Whether the sink reads the means.
    fn needs_means(&self) -> bool {
        true
    }

    /// Fills in the symbols of one pass, which are zero on entry, in coding order: row, packed column, channel.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn pass(&mut self, pass: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), Self::Error>;

    /// Does any further work with the symbols of a pass. The device has them by then and need not wait for this work.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn record(&mut self, pass: Pass, parameters: &PassParameters, symbols: &[i32]) -> Result<(), Self::Error> {
        let _ = (pass, parameters, symbols);
        Ok(())
    }
}

/// Takes an entropy model through all passes.
///
/// # Errors
/// The first error of the model or of the sink.
pub fn walk<S: PassSink>(session: &mut dyn EntropySession, slice_count: usize, sink: &mut S) -> Result<(), S::Error> {
    let (mut parameters, mut symbols) = (PassParameters::default(), Vec::new());
    for pass in passes(slice_count) {
        session.parameters_into(pass, sink.needs_means(), &mut parameters)?;
        let count = parameters.scale_indices.len();
        symbols.clear();
        memory::reserve(&mut symbols, count).map_err(BackendError::from)?;
        symbols.resize(count, 0);
        sink.pass(pass, &parameters, &mut symbols)?;
        session.commit(pass, &symbols)?;
        sink.record(pass, &parameters, &symbols)?;
    }
    Ok(())
}

/// Chooses the symbols that an encoder codes: the symbol of `y - mean` that its dead zone gives, or zero where the scale index is below `skip_below`,
/// so that nothing is coded (SPEC 5.4).
///
/// `y` holds this half of the latent slice in latent fixed point, in coding order.
pub fn choose_symbols(y: &[i32], parameters: &PassParameters, skip_below: u8, dead_zone: &DeadZone, symbols: &mut [i32]) {
    let predicted = parameters.means.iter().zip(&parameters.scale_indices);
    for ((symbol, y), (mean, scale_index)) in symbols.iter_mut().zip(y).zip(predicted) {
        *symbol = if *scale_index < skip_below { 0 } else { dead_zone.symbol(y.saturating_sub(*mean), *scale_index) };
    }
}
