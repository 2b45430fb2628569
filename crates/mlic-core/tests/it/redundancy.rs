//! How far rANS stays from the ideal cost. Float is allowed here: it only judges the result.

use crate::common::{Random, SCALE_COUNT, draw, scale, tables};
use mlic_core::rans::Encoder;

/// The bits that a source of 2^20 symbols costs beyond its ideal, per ideal bit.
fn redundancy(name: &str, choose: impl FnMut(&mut Random) -> usize) -> f64 {
    let tables = tables();
    let symbols = draw(&tables, 1 << 20, choose);
    let mut encoder = Encoder::new();
    for &(index, symbol) in &symbols {
        let table = tables.get(index).expect("chosen among the tables");
        encoder.push(table, symbol).expect("symbols are in range");
    }
    let ideal = encoder.cost_q16(0) as f64 / 65536.0;
    let redundancy = payload_bits(encoder) / ideal - 1.0;
    println!("{name:16} {:7.4} bits per symbol, redundancy {:.5} %", ideal / symbols.len() as f64, 100.0 * redundancy);
    redundancy
}

/// Bits of a payload of one lane, without the roughly 5 bytes that a lane costs whatever it holds: of its initial state
/// only what exceeds 2^32 counts.
fn payload_bits(encoder: Encoder) -> f64 {
    let bytes = encoder.finish_with_lanes(0).expect("one lane").bytes;
    let (state, words) = bytes.split_at(6);
    let state = state.iter().rev().fold(0.0, |high, &byte| 256.0 * high + f64::from(byte));
    8.0 * words.len() as f64 + f64::log2(state) - 32.0
}

/// States stay 2^16 times above the probability denominator, so that rounding in them costs next to nothing; with
/// 32-bit states it was 0.15 % at low rates.
#[test]
fn redundancy_is_bounded() {
    for index in [8, 16, 20, 24, 32, 40, 63] {
        assert!(redundancy(&format!("scale {:.3}", scale(index)), |_| index) < 0.0005);
    }
    assert!(redundancy("scales to 3.4", |random| random.bits() as usize % 28) < 0.0001);
    assert!(redundancy("all scales", |random| random.bits() as usize % SCALE_COUNT) < 0.0001);
}
