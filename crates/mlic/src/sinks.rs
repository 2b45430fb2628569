//! The sinks of encoding and decoding for the one walk over the passes.

use mlic_backend::dead_zone::DeadZone;
use mlic_backend::walk::choose_symbols;
use mlic_backend::{PassParameters, PassSink};
use mlic_core::container::SymbolChecksum;
use mlic_core::memory::{self, OutOfMemory};
use mlic_core::rans::{Decoder, Encoder, RansError, SymbolCoder};
use mlic_core::schedule::Pass;
use mlic_kernels::Map;
use mlic_model::Model;

use crate::codec::ProgressEvent;
use crate::error::{Error, Place};
use crate::watched::Watch;

/// Called with each pass and its symbols; its error ends the walk.
pub(crate) type Observer<'a> = dyn FnMut(Pass, &PassParameters, &[i32]) -> Result<(), Error> + 'a;

/// Codes symbols of z in coding order: row, column, channel.
pub(crate) fn code_z(model: &Model, coder: &mut impl SymbolCoder, symbols: &mut [i32]) -> Result<(), RansError> {
    for at in symbols.chunks_mut(model.z_cdfs().len().max(1)) {
        for (symbol, table) in at.iter_mut().zip(model.z_cdfs()) {
            coder.code(table, symbol)?;
        }
    }
    Ok(())
}

/// The coded symbols of a pass, those whose scale index is not below the skip threshold, side by side. The next pass reuses the memory.
#[derive(Default)]
pub(crate) struct Coded {
    skip_below: u8,
    indices: Vec<u8>,
    symbols: Vec<i32>,
}

impl Coded {
    /// An empty one for the passes of a model.
    pub(crate) fn of(model: &Model) -> Self {
        Self { skip_below: model.config().skip_below, ..Self::default() }
    }

    /// Collects the symbols that are coded. Each symbol is written, and overwritten by the next if it is not coded: a branch would be too irregular to
    /// be predicted.
    fn gather(&mut self, indices: &[u8], symbols: &[i32]) -> Result<(), OutOfMemory> {
        let room = indices.len().saturating_sub(self.indices.len());
        memory::reserve(&mut self.indices, room)?;
        memory::reserve(&mut self.symbols, room)?;
        self.indices.resize(indices.len(), 0);
        self.symbols.resize(indices.len(), 0);
        let mut count = 0;
        for (index, symbol) in indices.iter().zip(symbols) {
            if let (Some(to), Some(coded)) = (self.indices.get_mut(count), self.symbols.get_mut(count)) {
                (*to, *coded) = (*index, *symbol);
            }
            count += usize::from(*index >= self.skip_below);
        }
        self.indices.truncate(count);
        self.symbols.truncate(count);
        Ok(())
    }

    /// Codes the collected symbols with the tables of their scale indices.
    fn code(&mut self, model: &Model, coder: &mut impl SymbolCoder) -> Result<(), RansError> {
        coder.code_all(model.y_cdfs(), &self.indices, &mut self.symbols)
    }

    /// Puts the collected symbols back where they came from; the others stay as they are.
    fn scatter(&self, indices: &[u8], symbols: &mut [i32]) {
        let mut count = 0;
        for (index, symbol) in indices.iter().zip(symbols) {
            let (is_coded, next) = (*index >= self.skip_below, self.symbols.get(count).copied().unwrap_or(0));
            *symbol = if is_coded { next } else { *symbol };
            count += usize::from(is_coded);
        }
    }
}

/// Chooses symbols, records them for the entropy coder and measures them.
pub(crate) struct EncodeSink<'a> {
    pub(crate) model: &'a Model,
    /// y after its gain.
    pub(crate) y: &'a Map<i32>,
    /// The values of y that a pass codes; the next pass reuses the memory.
    pub(crate) half: Vec<i32>,
    pub(crate) dead_zone: &'a DeadZone,
    pub(crate) encoder: Encoder,
    /// Information content of z and of each pass, in units of 2^-16 bits.
    pub(crate) costs_q16: Vec<u64>,
    pub(crate) checksum: SymbolChecksum,
    pub(crate) coded: Coded,
    pub(crate) watch: Watch<'a>,
    pub(crate) observer: &'a mut Observer<'a>,
}

impl EncodeSink<'_> {
    /// Codes and measures the symbols of z.
    pub(crate) fn z(&mut self, symbols: &mut [i32]) -> Result<(), Error> {
        let failed = |source| Error::payload(Place::Z, source);
        code_z(self.model, &mut self.encoder, symbols).map_err(failed)?;
        self.costs_q16.push(self.encoder.cost_q16(0));
        self.checksum.update(symbols);
        Ok(())
    }
}

impl PassSink for EncodeSink<'_> {
    type Error = Error;

    fn pass(&mut self, pass: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), Error> {
        self.watch.check(pass)?;
        self.y.select_pass(pass, self.model.config().slice_channels(), &mut self.half)?;
        choose_symbols(&self.half, parameters, self.model.config().skip_below, self.dead_zone, symbols);
        Ok(())
    }

    fn record(&mut self, pass: Pass, parameters: &PassParameters, symbols: &[i32]) -> Result<(), Error> {
        let failed = |source| Error::payload(pass, source);
        self.coded.gather(&parameters.scale_indices, symbols)?;
        let start = self.encoder.interval_count();
        self.coded.code(self.model, &mut self.encoder).map_err(failed)?;
        self.costs_q16.push(self.encoder.cost_q16(start));
        self.checksum.update(symbols);
        (self.observer)(pass, parameters, symbols)
    }
}

/// Decodes symbols. In a truncated stream, the symbols of the first pass that is not whole and of all passes after it are zero.
pub(crate) struct DecodeSink<'a, 'b> {
    pub(crate) model: &'a Model,
    pub(crate) decoder: Decoder<'a>,
    pub(crate) checksum: SymbolChecksum,
    pub(crate) coded: Coded,
    /// The payload is known to be cut.
    pub(crate) cut: bool,
    pub(crate) whole_passes: usize,
    pub(crate) exhausted: bool,
    pub(crate) watch: Watch<'b>,
}

impl DecodeSink<'_, '_> {
    /// Checks that the symbols are those that were encoded and that the payload is used up, as far as it is present. Returns the number of latent
    /// slices whose symbols were all there.
    pub(crate) fn finish(self, declared: u32) -> Result<usize, Error> {
        if !self.exhausted {
            let got = self.checksum.finish();
            if got != declared {
                return Err(Error::Desync { got, declared });
            }
            if !self.cut {
                self.decoder.seal().map_err(|source| Error::payload(Place::End, source))?;
            }
        }
        Ok(self.whole_passes / 2)
    }
}

impl PassSink for DecodeSink<'_, '_> {
    type Error = Error;

    fn needs_means(&self) -> bool {
        false
    }

    fn pass(&mut self, pass: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), Error> {
        self.watch.check(pass)?;
        if !self.exhausted {
            self.coded.gather(&parameters.scale_indices, symbols)?;
            match self.coded.code(self.model, &mut self.decoder) {
                Ok(()) => {
                    self.coded.scatter(&parameters.scale_indices, symbols);
                    self.whole_passes += 1;
                }
                Err(RansError::Exhausted { .. }) if self.cut => {
                    self.exhausted = true;
                }
                Err(source) => return Err(Error::payload(pass, source)),
            }
        }
        Ok(())
    }

    fn record(&mut self, pass: Pass, _: &PassParameters, symbols: &[i32]) -> Result<(), Error> {
        self.checksum.update(symbols);
        self.watch.tell(ProgressEvent::Pass { index: pass.index(), count: 2 * self.model.config().slices })
    }
}
