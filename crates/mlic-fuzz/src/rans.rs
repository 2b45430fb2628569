//! Entropy coder: any symbols return from any tables, a prefix of the bytes gives a prefix of the symbols, and bytes that
//! decode as a whole are the bytes that an encoder writes.

use mlic_core::cdf::CdfTable;
use mlic_core::limits::MAX_SYMBOL;
use mlic_core::rans::{Decoder, Encoder, MAX_LANES_LOG2, RansError};

use crate::source::Source;

/// Most symbols that are decoded from arbitrary bytes.
const MAX_SYMBOLS: usize = 1 << 14;

pub(crate) fn target(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let tables: Vec<CdfTable> = (0..source.between(1, 4)).filter_map(|_| table(&mut source)).collect();
    let lanes_log2 = source.byte() % (MAX_LANES_LOG2 + 1);
    if tables.is_empty() {
        return;
    }
    if source.below(2) == 0 {
        any_bytes(&tables, lanes_log2, source.rest());
    } else {
        any_symbols(&tables, lanes_log2, &mut source);
    }
}

/// A table with any first symbol and any starts; `None` if it is refused.
fn table(source: &mut Source<'_>) -> Option<CdfTable> {
    let min_symbol = if source.below(2) == 0 { -(source.below(8) as i32) } else { source.u32() as i32 % 40_000 };
    let bins = source.between(2, 12);
    let mut starts: Vec<u16> = match source.below(4) {
        0 => (0..bins as u16).collect(),
        1 => (0..bins).map(|k| if k == 0 { 0 } else { (65_536 - bins + k) as u16 }).collect(),
        _ => (0..bins).map(|_| source.u32() as u16).collect(),
    };
    if source.below(8) > 0 {
        starts.sort_unstable();
        starts.dedup();
        starts[0] = 0;
    }
    CdfTable::new(min_symbol, &starts).ok()
}

fn any_bytes(tables: &[CdfTable], lanes_log2: u8, payload: &[u8]) {
    let Ok(mut decoder) = Decoder::new(payload, lanes_log2) else { return };
    let mut symbols = Vec::new();
    for table in tables.iter().cycle().take(MAX_SYMBOLS) {
        match decoder.pull(table) {
            Ok(symbol) => symbols.push(symbol),
            Err(_) => {
                assert!(decoder.pull(table).is_err(), "no symbol follows an error");
                break;
            }
        }
        assert!(symbols.iter().last().is_none_or(|s| s.abs() <= MAX_SYMBOL));
        if decoder.clone().seal().is_ok() {
            assert_eq!(encode(tables, lanes_log2, &symbols), payload, "sealed bytes are those of the encoder");
            break;
        }
    }
}

fn any_symbols(tables: &[CdfTable], lanes_log2: u8, source: &mut Source<'_>) {
    let mut symbols = Vec::new();
    while !source.is_empty() {
        let symbol = if source.below(4) > 0 { source.byte() as i8 as i32 } else { source.u32() as i32 >> source.below(32) };
        symbols.push(symbol.clamp(-MAX_SYMBOL, MAX_SYMBOL));
    }
    let payload = encode(tables, lanes_log2, &symbols);
    let mut decoder = Decoder::new(&payload, lanes_log2).unwrap();
    for (symbol, table) in symbols.iter().zip(tables.iter().cycle()) {
        assert_eq!(decoder.pull(table), Ok(*symbol));
    }
    decoder.seal().unwrap();
    costs_its_bits(tables, lanes_log2, &symbols, payload.len());
    cut(tables, lanes_log2, &symbols, &payload);
}

/// Checks that a payload is no longer than its symbols cost, plus a state and a word (64 bits) per lane, one more word, and the coder's redundancy.
fn costs_its_bits(tables: &[CdfTable], lanes_log2: u8, symbols: &[i32], payload_len: usize) {
    let costs = symbols.iter().zip(tables.iter().cycle()).map(|(symbol, table)| u64::from(table.cost(*symbol)));
    let (ideal_bits, bits) = ((costs.sum::<u64>() >> 16) as usize, 8 * payload_len);
    let most = ideal_bits + ideal_bits / 1000 + symbols.len() / 1000 + (64 << lanes_log2) + 16;
    assert!(bits <= most, "{bits} bits for a cost of {ideal_bits} in {} lanes", 1 << lanes_log2);
}

/// Checks that half of a payload gives a prefix of the symbols.
fn cut(tables: &[CdfTable], lanes_log2: u8, symbols: &[i32], payload: &[u8]) {
    let Ok(mut decoder) = Decoder::new(&payload[..payload.len() / 2], lanes_log2) else { return };
    for (symbol, table) in symbols.iter().zip(tables.iter().cycle()) {
        match decoder.pull(table) {
            Ok(got) => assert_eq!(got, *symbol),
            Err(error) => {
                assert!(matches!(error, RansError::Exhausted { .. }), "{error}");
                break;
            }
        }
    }
}

fn encode(tables: &[CdfTable], lanes_log2: u8, symbols: &[i32]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for (symbol, table) in symbols.iter().zip(tables.iter().cycle()) {
        encoder.push(table, *symbol).unwrap();
    }
    encoder.finish_with_lanes(lanes_log2).unwrap().bytes
}
