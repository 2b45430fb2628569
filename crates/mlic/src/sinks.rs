//! What encoding and decoding do in the one walk over the passes.

use mlic_backend::dead_zone::DeadZone;
use mlic_backend::walk::choose_symbols;
use mlic_backend::{PassParameters, PassSink};
use mlic_core::container::SymbolChecksum;
use mlic_core::memory;
use mlic_core::rans::{Cost, Decoder, Encoder, RansError, SymbolCoder};
use mlic_core::schedule::Pass;
use mlic_kernels::Map;
use mlic_model::Model;

use crate::budget::Deadline;
use crate::error::Error;

/// Called with each pass and its symbols.
pub(crate) type Observer<'a> = dyn FnMut(Pass, &PassParameters, &[i32]) + 'a;

/// Codes symbols of z in coding order: row, column, channel.
pub(crate) fn code_z(model: &Model, coder: &mut impl SymbolCoder, symbols: &mut [i32]) -> Result<(), RansError> {
    for at in symbols.chunks_mut(model.z_cdfs().len().max(1)) {
        for (symbol, table) in at.iter_mut().zip(model.z_cdfs()) {
            coder.code(table, symbol)?;
        }
    }
    Ok(())
}

/// Codes symbols of y with the tables of their scale indices; those below the skip threshold stay as they are.
fn code_y(model: &Model, coder: &mut impl SymbolCoder, indices: &[u8], symbols: &mut [i32]) -> Result<(), RansError> {
    let skip_below = model.config().skip_below;
    if skip_below == 0 {
        return coder.code_all(model.y_cdfs(), indices, symbols);
    }
    let is_coded = |index: &u8| *index >= skip_below;
    let coded_indices = memory::collect(indices.len(), indices.iter().copied().filter(is_coded))?;
    let coded = || indices.iter().map(is_coded);
    let chosen = symbols.iter().zip(coded()).filter_map(|(symbol, coded)| coded.then_some(*symbol));
    let mut coded_symbols = memory::collect(coded_indices.len(), chosen)?;
    coder.code_all(model.y_cdfs(), &coded_indices, &mut coded_symbols)?;
    let places = symbols.iter_mut().zip(coded()).filter_map(|(symbol, coded)| coded.then_some(symbol));
    places.zip(coded_symbols).for_each(|(to, symbol)| *to = symbol);
    Ok(())
}

/// Chooses symbols, records them for the entropy coder and measures them.
pub(crate) struct EncodeSink<'a> {
    pub(crate) model: &'a Model,
    /// y after its gain.
    pub(crate) y: &'a Map<i32>,
    pub(crate) dead_zone: DeadZone,
    pub(crate) encoder: Encoder,
    pub(crate) cost: Cost,
    pub(crate) checksum: SymbolChecksum,
    pub(crate) observer: &'a mut Observer<'a>,
}

impl EncodeSink<'_> {
    /// Takes the symbols of z.
    pub(crate) fn z(&mut self, symbols: &mut [i32]) -> Result<(), Error> {
        let failed = |source| Error::payload(None, source);
        self.cost.begin_part();
        code_z(self.model, &mut self.encoder, symbols).map_err(failed)?;
        code_z(self.model, &mut self.cost, symbols).map_err(failed)?;
        self.checksum.update(symbols);
        Ok(())
    }
}

impl PassSink for EncodeSink<'_> {
    type Error = Error;

    fn pass(&mut self, pass: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), Error> {
        let channels = self.model.config().slice_channels();
        let y = self.y.select(pass.slice_index * channels, channels)?.pack(pass.parity)?;
        choose_symbols(&y.data, parameters, self.model.config().skip_below, &self.dead_zone, symbols);
        let failed = |source| Error::payload(Some(pass), source);
        self.cost.begin_part();
        code_y(self.model, &mut self.encoder, &parameters.scale_indices, symbols).map_err(failed)?;
        code_y(self.model, &mut self.cost, &parameters.scale_indices, symbols).map_err(failed)?;
        self.checksum.update(symbols);
        (self.observer)(pass, parameters, symbols);
        Ok(())
    }
}

/// Decodes symbols. In a truncated stream, the first pass that is not whole and all after it are zero.
pub(crate) struct DecodeSink<'a, 'b> {
    pub(crate) model: &'a Model,
    pub(crate) decoder: Decoder<'a>,
    pub(crate) checksum: SymbolChecksum,
    /// The payload is known to be cut.
    pub(crate) cut: bool,
    pub(crate) whole_passes: usize,
    pub(crate) exhausted: bool,
    pub(crate) deadline: Deadline,
    /// The observer reads the means.
    pub(crate) with_means: bool,
    pub(crate) observer: &'b mut Observer<'b>,
}

impl PassSink for DecodeSink<'_, '_> {
    type Error = Error;

    fn needs_means(&self) -> bool {
        self.with_means
    }

    fn pass(&mut self, pass: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), Error> {
        self.deadline.check(pass)?;
        if !self.exhausted {
            match code_y(self.model, &mut self.decoder, &parameters.scale_indices, symbols) {
                Ok(()) => self.whole_passes += 1,
                Err(RansError::Exhausted { .. }) if self.cut => {
                    self.exhausted = true;
                    symbols.fill(0);
                }
                Err(source) => return Err(Error::payload(Some(pass), source)),
            }
        }
        self.checksum.update(symbols);
        (self.observer)(pass, parameters, symbols);
        Ok(())
    }
}
