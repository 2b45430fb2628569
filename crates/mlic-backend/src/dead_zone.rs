//! How an encoder rounds: to the symbol that costs least in bits and error together.

use mlic_core::cdf::CdfTable;
use mlic_core::fixed::{LATENT_FRAC_BITS, latent_to_symbol, round_shift};
use mlic_core::limits::MAX_SYMBOL;
use mlic_core::memory::{self, OutOfMemory};

/// The worth of a bit in squared steps of the quantizer, in units of 2^-16: 0.03.
///
/// Where quantization is fine, a bit is worth `2 ln 2 / 12 = 0.116`, since the error is `D = 1/12` and falls to a quarter with every further bit. A
/// smaller symbol, however, tells less to everything that is predicted from it, and this matters more the better the prediction is: on held-out
/// photographs a fourth of that worth saves most (0.02 and 0.04 are within 0.2 %; a model of few steps wanted half).
pub const BIT_WORTH_Q16: u32 = 1_966;

/// The magnitudes at which symbols begin, per scale index.
///
/// Of the nearest symbol r and the next toward zero, r is chosen if `(v - r)^2 + w bits(r) < (v - r + 1)^2 + w bits(r - 1)`, where w is the worth of
/// a bit, that is from `v = r - 1/2 + w (bits(r) - bits(r - 1)) / 2` on: rate-distortion optimized quantization, one symbol at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadZone {
    /// `[scale index][magnitude - 1]`, latent fixed point.
    begins: Vec<Vec<i32>>,
}

impl DeadZone {
    /// No dead zone: the nearest symbol.
    #[must_use]
    pub const fn none() -> Self {
        Self { begins: Vec::new() }
    }

    /// Makes the dead zones of the tables of y, by scale index, for a worth of a bit in units of 2^-16 squared steps.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(tables: &[CdfTable], bit_worth_q16: u32) -> Result<Self, OutOfMemory> {
        Ok(Self { begins: tables.iter().map(|table| begins(table, bit_worth_q16)).collect::<Result<_, _>>()? })
    }

    /// Returns the symbol of `v`, the difference of y and its mean in latent fixed point.
    #[must_use]
    #[inline]
    pub fn symbol(&self, v: i32, scale_index: u8) -> i32 {
        let nearest = latent_to_symbol(v).clamp(-MAX_SYMBOL, MAX_SYMBOL);
        let magnitude = nearest.unsigned_abs() as usize;
        let begin = self.begins.get(usize::from(scale_index)).and_then(|b| b.get(magnitude.wrapping_sub(1)));
        if begin.is_some_and(|begin| v.saturating_abs() < *begin) { nearest - nearest.signum() } else { nearest }
    }
}

/// Where each magnitude with a bin of its own begins, from 1 on: at the middle between it and the one below, or up to half a step above that.
fn begins(table: &CdfTable, bit_worth_q16: u32) -> Result<Vec<i32>, OutOfMemory> {
    let half = 1 << (LATENT_FRAC_BITS - 1);
    let mut below = i64::from(table.cost(0));
    let of = |magnitude: i32| {
        let own = i64::from(table.cost(magnitude));
        let more_q16 = own - std::mem::replace(&mut below, own);
        let shift = round_shift(more_q16 * i64::from(bit_worth_q16), 33 - LATENT_FRAC_BITS).clamp(0, i64::from(half));
        (magnitude << LATENT_FRAC_BITS) - half + shift as i32
    };
    memory::collect(table.max_symbol().max(0) as usize, (1..=table.max_symbol()).map(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs of 1, 3, 4 bits for 0, 1, 2 and the same for negative symbols.
    fn tables() -> Vec<CdfTable> {
        let widths = [4_096, 8_192, 32_768, 8_192, 4_096];
        let starts: Vec<u16> = widths.iter().scan(0, |at, w| Some(std::mem::replace(at, *at + w))).chain([57_344]).collect();
        vec![CdfTable::new(-2, &starts).unwrap()]
    }

    const STEP: i32 = 1 << LATENT_FRAC_BITS;

    #[test]
    fn without_a_dead_zone_the_nearest() {
        for v in [-3 * STEP, -STEP / 2 - 1, -STEP / 2, 0, STEP / 2, STEP, 5 * STEP / 2] {
            assert_eq!(DeadZone::none().symbol(v, 0), latent_to_symbol(v));
            assert_eq!(DeadZone::new(&tables(), 0).unwrap().symbol(v, 0), latent_to_symbol(v));
        }
    }

    #[test]
    fn a_symbol_begins_where_its_bits_are_worth_it() {
        // 2 bits more for 1 than for 0, 1 bit more for 2 than for 1; a bit is worth a quarter of a squared step
        let zone = DeadZone::new(&tables(), 1 << 14).unwrap();
        let first = STEP / 2 + STEP / 4;
        let second = 3 * STEP / 2 + STEP / 8;
        for sign in [1, -1] {
            assert_eq!([first - 2, first + 2, second - 2, second + 2].map(|v| zone.symbol(sign * v, 0) * sign), [0, 1, 1, 2]);
        }
    }

    #[test]
    fn never_further_than_the_next_toward_zero() {
        let zone = DeadZone::new(&tables(), 1 << 20).unwrap();
        for v in (-4 * STEP..4 * STEP).step_by(37) {
            let (chosen, nearest) = (zone.symbol(v, 0), latent_to_symbol(v));
            assert!(chosen == nearest || chosen == nearest - nearest.signum(), "{v}: {chosen}, nearest {nearest}");
        }
    }

    #[test]
    fn extremes_and_unknown_tables_are_nearest() {
        let zone = DeadZone::new(&tables(), 1 << 14).unwrap();
        assert_eq!(zone.symbol(i32::MAX, 0), MAX_SYMBOL);
        assert_eq!(zone.symbol(i32::MIN, 0), -MAX_SYMBOL);
        assert_eq!(zone.symbol(STEP / 2, 9), 1);
    }
}
