//! Streams of chosen symbols, for cases that no picture brings about; nothing in them depends on float arithmetic.

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
    /// The symbol that costs least, so that many take few bytes.
    Cheapest,
    /// For each table by itself: its edges, escapes of every length on both sides, then any symbol.
    Walk,
}

impl Symbols {
    /// Returns the symbol for the `nth` use of a table, counted from 0.
    fn choose(self, table: &CdfTable, nth: usize, random: &mut Random) -> i32 {
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
            Self::Cheapest => cheapest(table),
            Self::Walk => match nth {
                0 => low,
                1 => high,
                2 => low + (high - low) / 2,
                3..20 => escaped(table, (1 << (nth - 3)) | 1),
                20..37 => escaped(table, 1 << (nth - 20)),
                _ if random.below(4) == 0 => Fill::Lengths.symbol(random),
                _ => low + random.below((high - low) as u32 + 1) as i32,
            },
        }
    }
}

/// Returns the first symbol of the widest bin, the escape aside.
fn cheapest(table: &CdfTable) -> i32 {
    let slots = |bin: &usize| table.interval(*bin).map_or(0, |interval| interval.freq());
    let widest = (0..table.escape_bin()).rev().max_by_key(slots);
    widest.and_then(|bin| table.symbol_of_bin(bin)).unwrap_or(table.min_symbol())
}

/// Returns the symbol that a number behind the escape stands for (SPEC 6.3); the table's lowest where that is beyond the largest symbol.
#[must_use]
pub fn escaped(table: &CdfTable, number: u32) -> i32 {
    let steps = (number / 2) as i32;
    let symbol = if number % 2 == 1 { table.max_symbol() + 1 + steps } else { table.min_symbol() - steps };
    if symbol.abs() <= MAX_SYMBOL { symbol } else { table.min_symbol() }
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
    /// How its symbols are chosen.
    pub symbols: Symbols,
    /// Binary logarithm of the lane count.
    pub lanes_log2: u8,
    /// Seed of the symbols.
    pub seed: u64,
}

struct Sink<'a> {
    model: &'a Model,
    symbols: Symbols,
    random: Random,
    /// How often each table has been used: the tables of z, then those of y.
    uses: Vec<usize>,
    encoder: Encoder,
    checksum: SymbolChecksum,
}

impl Sink<'_> {
    fn code(&mut self, number: usize, table: &CdfTable) -> Result<i32, ConformError> {
        let uses = self.uses.get_mut(number).map_or(0, |uses| std::mem::replace(uses, *uses + 1));
        let symbol = self.symbols.choose(table, uses, &mut self.random);
        self.encoder.push(table, symbol)?;
        Ok(symbol)
    }

    fn z(&mut self, count: usize) -> Result<Vec<i32>, ConformError> {
        let tables = self.model.z_cdfs().iter().enumerate().cycle();
        let symbols = tables.take(count).map(|(number, table)| self.code(number, table)).collect::<Result<Vec<_>, _>>()?;
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
                *symbol = self.code(self.model.z_cdfs().len() + usize::from(*index), table)?;
            }
        }
        self.checksum.update(symbols);
        Ok(())
    }
}

/// Returns a stream of chosen symbols.
///
/// # Errors
/// [`ConformError`] when the size is beyond a limit, or the backend fails.
pub fn craft(backend: &dyn Backend, crafted: Crafted) -> Result<Vec<u8>, ConformError> {
    let Crafted { width, height, quality, symbols, lanes_log2, seed } = crafted;
    let too_large = mlic::Error::Size { width, height, max_side: MAX_SIDE, max_pixels: MAX_PIXELS };
    let size = LatentSize::of_image(width, height).ok_or(too_large)?;
    let model = backend.model();
    let uses = vec![0; model.z_cdfs().len() + model.y_cdfs().len()];
    let mut sink = Sink { model, symbols, random: Random(seed), uses, encoder: Encoder::new(), checksum: SymbolChecksum::new() };
    let z = sink.z(z_count(model, &size))?;
    let mut session = backend.entropy(size, quality, &z)?;
    walk(session.as_mut(), model.config().slices, &mut sink)?;
    let payload = sink.encoder.finish_with_lanes(lanes_log2)?;
    let symbol_checksum = sink.checksum.finish();
    let header = Header { model_id: model.id(), width, height, quality, gray: false, lanes_log2, symbol_checksum };
    Ok(container::write(&header, &payload.bytes, &[])?)
}
