//! Encoding, decoding and measuring with one of 64 tables per symbol.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion generates the entry points; a failed benchmark stops")]

#[path = "../tests/it/common.rs"]
mod common;

use common::{SCALE_COUNT, draw, tables};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mlic_core::cdf::CdfTable;
use mlic_core::rans::{Decoder, Encoder, SymbolCoder};
use std::hint::black_box;

const SYMBOL_COUNT: usize = 1 << 18;

fn walk(coder: &mut impl SymbolCoder, tables: &[CdfTable], indices: &[u8], symbols: &mut [i32]) {
    coder.code_all(tables, indices, symbols).unwrap();
}

/// Symbols whose scale indices are uniform below `scale_count`: 64 are all scales, 28 those below 3.4, as at low rates.
fn rans(criterion: &mut Criterion, scale_count: usize) {
    let tables = tables();
    let drawn = draw(&tables, SYMBOL_COUNT, |random| random.bits() as usize % scale_count);
    let (indices, mut symbols): (Vec<u8>, Vec<i32>) = drawn.into_iter().map(|(index, symbol)| (index as u8, symbol)).unzip();
    let mut group = criterion.benchmark_group(format!("rans, {scale_count} scales"));
    group.throughput(Throughput::Elements(SYMBOL_COUNT as u64));
    let mut encoder = Encoder::new();
    walk(&mut encoder, &tables, &indices, &mut symbols);
    for lanes_log2 in [0, 1, 2, 3, 5] {
        let payload = encoder.clone().finish_with_lanes(lanes_log2).unwrap().bytes;
        let mut decoded = symbols.clone();
        group.bench_function(BenchmarkId::new("decode", 1 << lanes_log2), |bencher| {
            bencher.iter(|| walk(&mut Decoder::new(black_box(&payload), lanes_log2).unwrap(), &tables, &indices, &mut decoded));
        });
    }
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            let mut encoder = Encoder::new();
            walk(&mut encoder, &tables, &indices, &mut symbols);
            encoder.finish().unwrap()
        });
    });
    group.bench_function("cost", |bencher| bencher.iter(|| encoder.cost_q16(0)));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    rans(criterion, SCALE_COUNT);
    rans(criterion, 28);
}

criterion_group!(benches, all);
criterion_main!(benches);
