//! What goes in comes out, from every prefix and for every lane count; bytes that nobody wrote only give errors.

use mlic_core::cdf::CdfTable;
use mlic_core::container::{ContainerError, Header, ModelId, Section, SectionKind, parse, write};
use mlic_core::limits::MAX_SYMBOL;
use mlic_core::rans::{Decoder, Encoder, MAX_LANES_LOG2, RansError, SymbolCoder};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// Any table: few or many bins, anywhere within the range of symbols.
fn any_table() -> impl Strategy<Value = CdfTable> {
    (btree_set(1u16.., 1..200), any::<prop::sample::Index>()).prop_map(|(inner, at)| {
        let starts: Vec<u16> = core::iter::once(0).chain(inner).collect();
        let positions = 2 * MAX_SYMBOL as usize + 3 - starts.len();
        CdfTable::new(at.index(positions) as i32 - MAX_SYMBOL, &starts).unwrap()
    })
}

/// Any symbol, mostly those of the table and those near it.
fn any_symbol(table: &CdfTable) -> impl Strategy<Value = i32> + use<> {
    let (low, high) = (table.min_symbol(), table.max_symbol());
    prop_oneof![
        6 => low..=high,
        2 => (low - 40).max(-MAX_SYMBOL)..=(high + 40).min(MAX_SYMBOL),
        1 => -MAX_SYMBOL..=MAX_SYMBOL,
    ]
}

/// Tables, and symbols, each with the index of its table.
fn any_source(most: usize) -> impl Strategy<Value = (Vec<CdfTable>, Vec<(usize, i32)>)> {
    vec(any_table(), 1..5).prop_flat_map(move |tables| {
        let one = (0..tables.len()).prop_flat_map({
            let tables = tables.clone();
            move |index| (Just(index), any_symbol(&tables[index]))
        });
        (Just(tables), vec(one, 0..most))
    })
}

fn encoder_of(tables: &[CdfTable], symbols: &[(usize, i32)]) -> Encoder {
    let mut encoder = Encoder::new();
    for &(index, symbol) in symbols {
        encoder.push(&tables[index], symbol).expect("symbols are in range");
    }
    encoder
}

/// The symbols as far as they decode, and why they end. Checks that decoding all at once gives the same as one by one.
fn decode(payload: &[u8], lanes_log2: u8, tables: &[CdfTable], symbols: &[(usize, i32)]) -> (Vec<i32>, Result<(), RansError>) {
    let mut decoded = Vec::new();
    let mut walk = || {
        let mut decoder = Decoder::new(payload, lanes_log2)?;
        for &(index, _) in symbols {
            decoded.push(decoder.pull(&tables[index])?);
        }
        decoder.seal()
    };
    let end = walk();
    let indices: Vec<u8> = symbols.iter().map(|(index, _)| *index as u8).collect();
    let mut at_once = vec![i32::MIN; symbols.len()];
    let end_at_once = Decoder::new(payload, lanes_log2).and_then(|mut decoder| {
        decoder.code_all(tables, &indices, &mut at_once)?;
        decoder.seal()
    });
    let (reached, beyond) = at_once.split_at(decoded.len());
    assert_eq!((reached, &end_at_once), (decoded.as_slice(), &end));
    assert!(beyond.iter().all(|symbol| *symbol == i32::MIN));
    (decoded, end)
}

#[test]
fn tables_that_are_not_there_are_named() {
    let table = CdfTable::new(0, &[0, 1, 2]).unwrap();
    let none = Err(RansError::NoTable { index: 1, count: 1 });
    let tables = std::slice::from_ref(&table);
    assert_eq!(Encoder::new().code_all(tables, &[0, 1], &mut [0, 0]), none);
    let mut decoder = Decoder::new(&[0xff; 6], 0).unwrap();
    assert_eq!(decoder.code_all(tables, &[1], &mut [0]), none);
}

proptest! {
    #[test]
    fn symbols_return((tables, symbols) in any_source(600), lanes_log2 in 0..=MAX_LANES_LOG2) {
        let payload = encoder_of(&tables, &symbols).finish_with_lanes(lanes_log2).unwrap();
        let (decoded, end) = decode(&payload.bytes, lanes_log2, &tables, &symbols);
        prop_assert_eq!(end, Ok(()));
        prop_assert!(decoded.iter().eq(symbols.iter().map(|(_, symbol)| symbol)));
    }

    #[test]
    fn every_prefix_gives_a_prefix_of_the_symbols((tables, symbols) in any_source(120), lanes_log2 in 0..=MAX_LANES_LOG2) {
        let payload = encoder_of(&tables, &symbols).finish_with_lanes(lanes_log2).unwrap().bytes;
        let mut longest = 0;
        for len in 0..payload.len() {
            let (decoded, end) = decode(&payload[..len], lanes_log2, &tables, &symbols);
            prop_assert!(matches!(end, Err(RansError::Exhausted { have, need }) if have == len && need > len), "{:?}", end);
            prop_assert!(decoded.iter().zip(&symbols).all(|(decoded, (_, symbol))| decoded == symbol));
            prop_assert!(decoded.len() >= longest);
            longest = decoded.len();
        }
    }

    #[test]
    fn payloads_are_about_as_long_as_measured((tables, symbols) in any_source(2000)) {
        let cost_q16: u64 = symbols.iter().map(|&(index, symbol)| u64::from(tables[index].cost(symbol))).sum();
        let encoder = encoder_of(&tables, &symbols);
        prop_assert_eq!(encoder.cost_q16(0), cost_q16);
        let slack = 32 + 32 + encoder.interval_count() as i64 / 8;
        let bits = 8 * encoder.finish_with_lanes(0).unwrap().bytes.len() as i64;
        let ideal = (cost_q16 >> 16) as i64;
        prop_assert!((bits - ideal).abs() <= slack, "{} {}", bits, ideal);
    }

    #[test]
    fn any_bytes_decode_to_symbols_or_errors(payload in vec(any::<u8>(), 0..400), lanes_log2 in 0u8..8, table in any_table()) {
        let Ok(mut decoder) = Decoder::new(&payload, lanes_log2) else { return Ok(()) };
        let mut failed = false;
        for _ in 0..2000 {
            match decoder.pull(&table) {
                Ok(symbol) => prop_assert!(!failed && (-MAX_SYMBOL..=MAX_SYMBOL).contains(&symbol)),
                Err(_) => failed = true,
            }
        }
        let _ = decoder.seal();
    }

    #[test]
    fn find_agrees_with_the_intervals(table in any_table(), slots in vec(any::<u16>(), 50)) {
        let total: u32 = (0..table.bin_count()).map(|bin| u32::from(table.interval(bin).unwrap().freq())).sum();
        prop_assert_eq!(total, 65536);
        for slot in slots {
            let (bin, interval) = table.find(slot);
            prop_assert_eq!(table.interval(bin), Some(interval));
            prop_assert!((interval.start()..=interval.start() + (interval.freq() - 1)).contains(&slot));
        }
    }
}

fn any_header() -> impl Strategy<Value = Header> {
    (any::<[u8; 6]>(), 1u32..=65_535, 1u32..=4096, any::<(u8, bool, u32)>(), 0..=MAX_LANES_LOG2).prop_map(
        |(id, width, height, (quality, gray, symbol_checksum), lanes_log2)| Header {
            model_id: ModelId(id),
            width,
            height,
            quality,
            gray,
            lanes_log2,
            symbol_checksum,
        },
    )
}

type OwnedSections = Vec<(u8, Vec<u8>)>;

fn any_stream() -> impl Strategy<Value = (Header, Vec<u8>, OwnedSections)> {
    (any_header(), vec(any::<u8>(), 0..200), vec((any::<u8>(), vec(any::<u8>(), 0..40)), 0..5))
}

fn written((header, payload, sections): &(Header, Vec<u8>, OwnedSections)) -> Vec<u8> {
    let sections: Vec<Section<'_>> = sections.iter().map(|(kind, bytes)| Section { kind: SectionKind(*kind), bytes }).collect();
    write(header, payload, &sections).expect("values are in range")
}

proptest! {
    #[test]
    fn streams_return(parts in any_stream()) {
        let bytes = written(&parts);
        let stream = parse(&bytes).unwrap();
        prop_assert_eq!(stream.damage, None);
        prop_assert!(stream.header_len <= 32);
        prop_assert_eq!((stream.header, stream.payload), (parts.0, parts.1.as_slice()));
        prop_assert_eq!(write(&stream.header, stream.payload, &stream.sections).unwrap(), bytes);
    }

    #[test]
    fn cut_streams_are_truncated(parts in any_stream()) {
        let bytes = written(&parts);
        for len in 0..bytes.len() {
            let error = parse(&bytes[..len]).map_or_else(Some, |stream| stream.damage);
            let truncated = matches!(error, Some(ContainerError::Truncated { have, need, .. }) if have == len && need > len);
            prop_assert!(truncated, "{:?}", error);
        }
    }

    #[test]
    fn flipped_bits_are_seen(parts in any_stream()) {
        let mut bytes = written(&parts);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&bytes).map_or_else(Some, |stream| stream.damage).is_some(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn any_bytes_parse_to_streams_or_errors(tail in vec(any::<u8>(), 0..120)) {
        let _ = parse(&tail);
        let _ = parse(&[&[0xD1, b'M', b'L', 1], tail.as_slice()].concat());
    }
}
