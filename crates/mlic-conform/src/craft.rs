//! Streams of chosen symbols: what no picture brings about, with nothing in them that depends on float arithmetic.

use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::{Backend, PassParameters, PassSink, walk};
use mlic_core::cdf::CdfTable;
use mlic_core::container::{self, Header, SymbolChecksum};
use mlic_core::limits::{MAX_PIXELS, MAX_SIDE, MAX_SYMBOL};
use mlic_core::rans::Encoder;
use mlic_core::schedule::{LatentSize, Pass};
use mlic_model::Model;

use crate::error::ConformError;

/// How symbols are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbols {
    /// Without regard to the tables.
    Fill(Fill),
    /// First and last symbol of the table, the two beside them, which are escapes, and zero.
    TableEdges,
}

impl Symbols {
    fn choose(self, table: &CdfTable, random: &mut Random) -> i32 {
        let (low, high) = (table.min_symbol(), table.max_symbol());
        match self {
            Self::Fill(fill) => fill.symbol(random),
            Self::TableEdges => match random.below(5) {
                0 => low,
                1 => low - 1,
                2 => high,
                3 => high + 1,
                _ => 0,
            }
            .clamp(-MAX_SYMBOL, MAX_SYMBOL),
        }
    }
}

/// A stream to be crafted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crafted {
    /// Width of the picture.
    pub width: u32,
    /// Height of the picture.
    pub height: u32,
    /// Quality.
    pub quality: u8,
    /// Its symbols.
    pub symbols: Symbols,
    /// Binary logarithm of the lane count.
    pub lanes_log2: u8,
    /// Of the symbols.
    pub seed: u64,
}

struct Sink<'a> {
    model: &'a Model,
    symbols: Symbols,
    random: Random,
    encoder: Encoder,
    checksum: SymbolChecksum,
}

impl Sink<'_> {
    fn z(&mut self, count: usize) -> Result<Vec<i32>, ConformError> {
        let tables = self.model.z_cdfs().iter().cycle();
        let mut symbols = Vec::with_capacity(count);
        for table in tables.take(count) {
            let symbol = self.symbols.choose(table, &mut self.random);
            self.encoder.push(table, symbol)?;
            symbols.push(symbol);
        }
        self.checksum.update(&symbols);
        Ok(symbols)
    }
}

impl PassSink for Sink<'_> {
    type Error = ConformError;

    fn pass(&mut self, _: Pass, parameters: &PassParameters, symbols: &mut [i32]) -> Result<(), ConformError> {
        let skip_below = self.model.config().skip_below;
        let coded = symbols.iter_mut().zip(&parameters.scale_indices).filter(|(_, index)| **index >= skip_below);
        for (symbol, index) in coded {
            if let Some(table) = self.model.y_cdfs().get(usize::from(*index)) {
                *symbol = self.symbols.choose(table, &mut self.random);
                self.encoder.push(table, *symbol)?;
            }
        }
        self.checksum.update(symbols);
        Ok(())
    }
}

/// The stream of chosen symbols.
///
/// # Errors
/// [`ConformError`] when the size is beyond a limit, or the backend fails.
pub fn craft(backend: &dyn Backend, crafted: Crafted) -> Result<Vec<u8>, ConformError> {
    let Crafted { width, height, quality, symbols, lanes_log2, seed } = crafted;
    let too_large = mlic::Error::Size { width, height, max_side: MAX_SIDE, max_pixels: MAX_PIXELS };
    let size = LatentSize::of_image(width, height).ok_or(too_large)?;
    let model = backend.model();
    let mut sink = Sink { model, symbols, random: Random(seed), encoder: Encoder::new(), checksum: SymbolChecksum::new() };
    let z = sink.z(z_count(model, &size))?;
    let mut session = backend.entropy(size, quality, &z)?;
    walk(session.as_mut(), model.config().slices, &mut sink)?;
    let payload = sink.encoder.finish_with_lanes(lanes_log2)?;
    let symbol_checksum = sink.checksum.finish();
    let header = Header { model_id: model.id(), width, height, quality, gray: false, lanes_log2, symbol_checksum };
    Ok(container::write(&header, &payload.bytes, &[])?)
}
