//! Integer cumulative tables: which interval of 2^16 slots a symbol owns (SPEC 2.7, 6.3).
//!
//! A table has n bins. Bin `i < n - 1` stands for the symbol `min_symbol + i`; the last bin is the escape, after which
//! any other symbol is coded as a number. Each bin owns at least one slot, so that every symbol can be coded.

use crate::limits::MAX_SYMBOL;
use crate::memory::{self, OutOfMemory};
use alloc::vec::Vec;
use core::hint::select_unpredictable;

/// Probabilities are multiples of 2^-16.
pub const PROB_BITS: u32 = 16;
/// Fewest bins of a table: one symbol and the escape.
pub const MIN_BINS: usize = 2;
/// Most bins of a table: a package stores their number in 16 bits (SPEC 2.7).
pub const MAX_BINS: usize = (1 << PROB_BITS) - 1;
/// Uniform bits after an escape that say how many further bits follow.
pub const ESCAPE_LEN_BITS: u32 = 5;
/// Most further bits after an escape: enough for every symbol within ±[`MAX_SYMBOL`] and every table.
pub const MAX_ESCAPE_LEN: u32 = 16;

/// Fewest and most buckets of a table's lookup in the decoder, as powers of two. A bucket takes eight bytes.
const BUCKETS_LOG2: [u32; 2] = [4, 10];
/// Buckets are halved until fewer than one in 2^`UNDECIDED_LOG2` slots needs a search.
const UNDECIDED_LOG2: u32 = 5;

/// Why a cumulative table was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdfError {
    /// The number of bins is outside [`MIN_BINS`]`..=`[`MAX_BINS`].
    #[error("table has {got} bins, allowed are {MIN_BINS} to {MAX_BINS}")]
    BinCount {
        /// Number of bins.
        got: usize,
    },
    /// The first cumulative value is not zero.
    #[error("first cumulative value is {got}, must be 0")]
    FirstStart {
        /// The value.
        got: u16,
    },
    /// A cumulative value is not above the one before it.
    #[error("cumulative value of bin {bin} is not above the one before it")]
    NotIncreasing {
        /// The later of the two bins.
        bin: usize,
    },
    /// A symbol of the table is beyond what a stream can carry.
    #[error("symbols {min_symbol}..={max_symbol} are not within ±{MAX_SYMBOL}")]
    SymbolRange {
        /// Smallest symbol of the table.
        min_symbol: i64,
        /// Largest symbol of the table.
        max_symbol: i64,
    },
    /// There is no memory for the table.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The slots of one bin: `start..start + freq` of 2^16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    start: u16,
    /// At least 1; at most 65535, because a table has two bins and uniform intervals carry at least one bit.
    freq: u16,
}

impl Interval {
    /// The interval of the `bits` low bits of `value`, all values equally probable. `bits` is 1 to 16.
    pub(crate) const fn uniform(value: u32, bits: u32) -> Self {
        let shift = PROB_BITS - bits;
        Self { start: (value << shift) as u16, freq: 1 << shift }
    }

    /// First slot.
    #[must_use]
    pub const fn start(self) -> u16 {
        self.start
    }

    /// Number of slots, 1 to 65535.
    #[must_use]
    pub const fn freq(self) -> u16 {
        self.freq
    }

    /// Information content in units of 2^-16 bits, within 0.51 units of the exact value.
    #[must_use]
    pub const fn cost_q16(self) -> u32 {
        (PROB_BITS << 16) - log2_q16(self.freq as u32)
    }
}

/// An integer cumulative table, with a lookup for the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdfTable {
    min_symbol: i32,
    /// The n bin starts, strictly increasing from 0, then the end 2^16, stored as 0: wrapping differences are the frequencies.
    bounds: Vec<u16>,
    /// Slots per bucket, as a power of two; 1 to 15.
    bucket_log2: u32,
    /// One for each `2^bucket_log2` slots; together they cover all 2^16.
    buckets: Vec<Bucket>,
}

/// The first two bins in a run of slots, packed into one word: enough to decide nearly all lookups.
///
/// The fields, from the lowest bits: start and frequency of the bin that owns the bucket's first slot, frequency of the next bin, symbol of the
/// first bin. Both intervals are whole: they may lie mostly outside the bucket. A frequency is 0 where it decides nothing: that of the escape,
/// and that of the next bin if more than two bins own slots of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket(u64);

impl Bucket {
    fn new(start: u16, first_freq: u16, second_freq: u16, symbol: i16) -> Self {
        let words = [start, first_freq, second_freq, symbol as u16];
        Self(words.iter().rev().fold(0, |all, word| all << 16 | u64::from(*word)))
    }

    const fn start(self) -> u16 {
        self.0 as u16
    }

    const fn first_freq(self) -> u16 {
        (self.0 >> 16) as u16
    }

    const fn second_freq(self) -> u16 {
        (self.0 >> 32) as u16
    }

    const fn symbol(self) -> i32 {
        (self.0.cast_signed() >> 48) as i32
    }
}

/// The result of looking up a slot in its bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// The symbol.
    pub(crate) symbol: i32,
    /// Frequency of the symbol; 0 if the slot needs a search, and then the other fields mean nothing.
    pub(crate) freq: u16,
    /// Offset of the slot in the symbol's interval.
    pub(crate) inside: u16,
}

impl CdfTable {
    /// Creates a table from the first slot of every bin; the last bin, the escape, ends at 2^16.
    ///
    /// # Errors
    /// [`CdfError`] unless there are [`MIN_BINS`] to [`MAX_BINS`] starts, strictly increasing from 0, and all symbols are within
    /// ±[`MAX_SYMBOL`]; [`CdfError::OutOfMemory`].
    pub fn new(min_symbol: i32, starts: &[u16]) -> Result<Self, CdfError> {
        check_starts(starts)?;
        check_symbols(min_symbol, starts.len())?;
        let bounds = memory::collect(starts.len() + 1, starts.iter().copied().chain([0]))?;
        let mut table = Self { min_symbol, bounds, bucket_log2: 0, buckets: Vec::new() };
        for count_log2 in BUCKETS_LOG2[0]..=BUCKETS_LOG2[1] {
            table.bucket_log2 = PROB_BITS - count_log2;
            let (buckets, undecided) = table.buckets_of(table.bucket_log2)?;
            table.buckets = buckets;
            if undecided >> (PROB_BITS - UNDECIDED_LOG2) == 0 {
                break;
            }
        }
        Ok(table)
    }

    /// Smallest symbol that has a bin of its own.
    #[must_use]
    pub const fn min_symbol(&self) -> i32 {
        self.min_symbol
    }

    /// Largest symbol that has a bin of its own.
    #[must_use]
    pub const fn max_symbol(&self) -> i32 {
        self.min_symbol + self.escape_bin() as i32 - 1
    }

    /// Number of bins, the escape included.
    #[must_use]
    pub const fn bin_count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Index of the escape: the last bin.
    #[must_use]
    pub const fn escape_bin(&self) -> usize {
        self.bounds.len() - 2
    }

    /// First slots of all bins, as given to [`CdfTable::new`].
    #[must_use]
    pub fn starts(&self) -> &[u16] {
        self.bounds.split_last().map_or(&[], |(_, starts)| starts)
    }

    /// The slots of a bin; `None` if there is no such bin.
    #[must_use]
    pub fn interval(&self, bin: usize) -> Option<Interval> {
        let start = *self.bounds.get(bin)?;
        let end = *self.bounds.get(bin.checked_add(1)?)?;
        Some(Interval { start, freq: end.wrapping_sub(start) })
    }

    /// The bin of a symbol; `None` if the symbol is coded as an escape.
    #[must_use]
    pub fn bin_of_symbol(&self, symbol: i32) -> Option<usize> {
        let bin = usize::try_from(i64::from(symbol) - i64::from(self.min_symbol)).ok()?;
        (bin < self.escape_bin()).then_some(bin)
    }

    /// The symbol of a bin; `None` for the escape and beyond.
    #[must_use]
    pub const fn symbol_of_bin(&self, bin: usize) -> Option<i32> {
        if bin < self.escape_bin() { Some(self.min_symbol + bin as i32) } else { None }
    }

    /// The bin that owns a slot, and its interval.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "the bins of buckets do not decrease and the last bin is the escape, so that low <= bin <= high <= n - 1"
    )]
    pub fn find(&self, slot: u16) -> (usize, Interval) {
        let bucket = usize::from(slot) >> self.bucket_log2;
        let first_bin = |bucket: &Bucket| usize::from((bucket.symbol() - self.min_symbol) as u16);
        let low = self.buckets.get(bucket).map_or(0, first_bin);
        let high = self.buckets.get(bucket + 1).map_or(self.escape_bin(), first_bin);
        let bin = low + self.bounds[low + 1..=high].partition_point(|&start| start <= slot);
        let start = self.bounds[bin];
        (bin, Interval { start, freq: self.bounds[bin + 1].wrapping_sub(start) })
    }

    /// Looks up a slot in its bucket.
    #[inline(always)]
    #[allow(clippy::indexing_slicing, reason = "there are 2^16 >> bucket_log2 buckets")]
    pub(crate) fn look_up(&self, slot: u16) -> Found {
        let bucket = self.buckets[(u32::from(slot) >> self.bucket_log2) as usize];
        let (first, second) = (bucket.first_freq(), bucket.second_freq());
        let inside = slot.wrapping_sub(bucket.start());
        // Which of the two bins owns the slot cannot be predicted, so nothing branches on it.
        let is_second = inside >= first;
        Found {
            symbol: bucket.symbol() + i32::from(is_second),
            freq: select_unpredictable(is_second, second, first),
            inside: select_unpredictable(is_second, inside.wrapping_sub(first), inside),
        }
    }

    /// All buckets, of 2^`bucket_log2` slots each, and the number of slots that buckets of more than two bins leave undecided.
    fn buckets_of(&self, bucket_log2: u32) -> Result<(Vec<Bucket>, usize), OutOfMemory> {
        let end = |bin: usize| self.starts().get(bin + 1).map_or(1 << PROB_BITS, |start| usize::from(*start));
        let freq = |bin: usize| self.interval(bin).filter(|_| bin < self.escape_bin()).map_or(0, Interval::freq);
        let (mut bin, mut undecided) = (0, 0);
        let bucket = |first_slot: usize| {
            while end(bin) <= first_slot {
                bin += 1;
            }
            let end_slot = first_slot + (1 << bucket_log2);
            let is_crowded = end(bin + 1) < end_slot;
            undecided += if is_crowded { end_slot - end(bin) } else { 0 };
            let start = self.bounds.get(bin).copied().unwrap_or(0);
            Bucket::new(start, freq(bin), if is_crowded { 0 } else { freq(bin + 1) }, (self.min_symbol + bin as i32) as i16)
        };
        let first_slots = (0..1 << PROB_BITS).step_by(1 << bucket_log2);
        let buckets = memory::collect(first_slots.len(), first_slots.map(bucket))?;
        Ok((buckets, undecided))
    }

    /// Information content of a symbol, its escape included, in units of 2^-16 bits, within 0.51 units of the exact value.
    #[must_use]
    pub fn cost(&self, symbol: i32) -> u32 {
        let bin = self.bin_of_symbol(symbol);
        let own = self.interval(bin.unwrap_or(self.escape_bin())).map_or(0, Interval::cost_q16);
        let bypass_bits = if bin.is_some() { 0 } else { ESCAPE_LEN_BITS + self.escape_number(symbol).ilog2() };
        own + (bypass_bits << 16)
    }

    /// The number, at least 1, that is coded after the escape for a symbol without a bin.
    ///
    /// Odd numbers are symbols above the table, even ones symbols below it, nearest first: max+1, min-1, max+2, ...
    pub(crate) fn escape_number(&self, symbol: i32) -> u64 {
        let above = i64::from(symbol) - i64::from(self.max_symbol());
        let below = i64::from(self.min_symbol) - i64::from(symbol);
        if above > 0 { 2 * above.unsigned_abs() - 1 } else { 2 * below.unsigned_abs() }
    }

    /// Inverse of [`CdfTable::escape_number`]. `number` is at least 1 and below 2^17.
    pub(crate) const fn symbol_of_escape(&self, number: u32) -> i32 {
        let steps = (number / 2) as i32;
        if number % 2 == 1 { self.max_symbol() + 1 + steps } else { self.min_symbol - steps }
    }
}

fn check_starts(starts: &[u16]) -> Result<(), CdfError> {
    if !(MIN_BINS..=MAX_BINS).contains(&starts.len()) {
        return Err(CdfError::BinCount { got: starts.len() });
    }
    if let Some(&got) = starts.first().filter(|&&start| start != 0) {
        return Err(CdfError::FirstStart { got });
    }
    let falls = starts.iter().zip(starts.iter().skip(1)).position(|(start, next)| next <= start);
    falls.map_or(Ok(()), |before| Err(CdfError::NotIncreasing { bin: before + 1 }))
}

fn check_symbols(min_symbol: i32, bin_count: usize) -> Result<(), CdfError> {
    let (min_symbol, most) = (i64::from(min_symbol), i64::from(MAX_SYMBOL));
    let max_symbol = min_symbol + bin_count as i64 - 2;
    if min_symbol < -most || max_symbol > most {
        return Err(CdfError::SymbolRange { min_symbol, max_symbol });
    }
    Ok(())
}

/// Binary logarithm in units of 2^-16: within 0.51 units of the exact value, and the nearest integer for all `v` up to 2^16. `v` is not 0.
///
/// Squaring the mantissa doubles its logarithm, whose integer part is the next bit. The mantissa starts exact, in units
/// of 2^-31; the truncation at each of the 17 squarings adds less than 2^-29 in all.
const fn log2_q16(v: u32) -> u32 {
    let exponent = v.ilog2();
    let mut mantissa = (v as u64) << (31 - exponent);
    let mut log = exponent;
    let mut bit = 0;
    while bit < 17 {
        mantissa = (mantissa * mantissa) >> 31;
        let carry = (mantissa >> 32) as u32;
        mantissa >>= carry;
        log = (log << 1) | carry;
        bit += 1;
    }
    (log + 1) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn refuses_what_is_not_a_table() {
        let new = |starts: &[u16]| CdfTable::new(0, starts).unwrap_err();
        assert_eq!(new(&[]), CdfError::BinCount { got: 0 });
        assert_eq!(new(&[0]), CdfError::BinCount { got: 1 });
        assert_eq!(new(&vec![0; 65536]), CdfError::BinCount { got: 65536 });
        assert_eq!(new(&[1, 2]), CdfError::FirstStart { got: 1 });
        assert_eq!(new(&[0, 5, 5]), CdfError::NotIncreasing { bin: 2 });
        assert_eq!(new(&[0, 5, 4]), CdfError::NotIncreasing { bin: 2 });
    }

    #[test]
    fn symbols_stay_in_range() {
        assert!(CdfTable::new(MAX_SYMBOL, &[0, 1]).is_ok());
        assert!(CdfTable::new(-MAX_SYMBOL, &[0, 1]).is_ok());
        for min_symbol in [i32::MIN, -MAX_SYMBOL - 1, MAX_SYMBOL + 1, i32::MAX] {
            assert!(matches!(CdfTable::new(min_symbol, &[0, 1]), Err(CdfError::SymbolRange { .. })), "{min_symbol}");
        }
        assert!(CdfTable::new(MAX_SYMBOL, &[0, 1, 2]).is_err());
    }

    #[test]
    fn largest_table_is_the_identity() {
        let starts: Vec<u16> = (0..u16::MAX).collect();
        let table = CdfTable::new(-MAX_SYMBOL, &starts).unwrap();
        assert_eq!((table.bin_count(), table.max_symbol()), (MAX_BINS, MAX_SYMBOL - 1));
        for slot in 0..u16::MAX - 1 {
            assert_eq!(table.find(slot), (usize::from(slot), Interval { start: slot, freq: 1 }));
        }
        assert_eq!(table.find(u16::MAX), (MAX_BINS - 1, Interval { start: u16::MAX - 1, freq: 2 }));
    }

    #[test]
    fn find_agrees_with_a_scan() {
        for starts in [vec![0, 1], vec![0, 65535], vec![0, 255, 256, 257, 511, 512, 513, 65280, 65534], vec![0, 3, 4, 5, 40_000]]
        {
            let table = CdfTable::new(-2, &starts).unwrap();
            for slot in 0..=u16::MAX {
                let bin = starts.iter().rposition(|&start| start <= slot).unwrap();
                let interval = table.interval(bin).unwrap();
                assert_eq!(table.find(slot), (bin, interval));
                let found = table.look_up(slot);
                let place = (Some(found.symbol), found.freq, found.inside);
                assert!(found.freq == 0 || place == (table.symbol_of_bin(bin), interval.freq, slot - interval.start));
            }
            let total: u32 = (0..starts.len()).map(|bin| u32::from(table.interval(bin).unwrap().freq())).sum();
            assert_eq!(total, 1 << PROB_BITS);
            assert_eq!((table.interval(starts.len()), table.interval(usize::MAX)), (None, None));
        }
    }

    #[test]
    fn few_slots_are_searched_for() {
        let even = |freq: u16| (0..u16::MAX / freq).map(|bin| bin * freq).collect::<Vec<u16>>();
        for (starts, most_buckets) in [(vec![0, 65_535], 16), (even(6000), 16), (even(300), 256), (even(64), 1024)] {
            let table = CdfTable::new(-2, &starts).unwrap();
            let last = *starts.last().unwrap();
            let undecided = (0..last).filter(|slot| table.look_up(*slot).freq == 0).count();
            assert!(undecided < 1 << (PROB_BITS - UNDECIDED_LOG2) && table.buckets.len() <= most_buckets);
        }
    }

    #[test]
    fn escapes_alternate_and_return() {
        let table = CdfTable::new(-1, &[0, 10, 20, 30]).unwrap();
        assert_eq!((table.min_symbol(), table.max_symbol(), table.escape_bin()), (-1, 1, 3));
        assert_eq!([2, -2, 3, -3].map(|symbol| table.escape_number(symbol)), [1, 2, 3, 4]);
        for symbol in (-MAX_SYMBOL..-1).chain(2..=MAX_SYMBOL) {
            assert_eq!(table.bin_of_symbol(symbol), None);
            assert_eq!(table.symbol_of_escape(table.escape_number(symbol) as u32), symbol);
        }
        for bin in 0..3 {
            assert_eq!(table.bin_of_symbol(table.symbol_of_bin(bin).unwrap()), Some(bin));
        }
        assert_eq!(table.symbol_of_bin(3), None);
    }

    #[test]
    fn every_escape_fits_its_length_field() {
        let lowest = CdfTable::new(-MAX_SYMBOL, &[0, 1]).unwrap();
        let highest = CdfTable::new(MAX_SYMBOL, &[0, 1]).unwrap();
        assert_eq!(lowest.escape_number(MAX_SYMBOL).ilog2(), MAX_ESCAPE_LEN);
        assert_eq!(highest.escape_number(-MAX_SYMBOL).ilog2(), MAX_ESCAPE_LEN);
    }

    #[test]
    fn logarithms_of_powers_are_exact_and_all_are_monotone() {
        for exponent in 0..=16 {
            assert_eq!(log2_q16(1 << exponent), exponent << 16);
        }
        // 65536 * log2(v), rounded, from 50 digits
        assert_eq!([3, 5, 7, 1000, 65535].map(log2_q16), [103_872, 152_170, 183_983, 653_118, 1_048_575]);
        assert!((1..65536).all(|v| log2_q16(v) <= log2_q16(v + 1)));
    }

    #[test]
    fn costs_count_bits() {
        let table = CdfTable::new(0, &[0, 32768, 49152, 65535]).unwrap();
        assert_eq!([0, 1].map(|symbol| table.cost(symbol)), [1 << 16, 2 << 16]);
        // escape bin 16 bits, length field 5 bits, then 0, 1, 1, 2 bits
        assert_eq!([3, -1, 4, -2].map(|symbol| table.cost(symbol) >> 16), [21, 22, 22, 23]);
        assert_eq!(table.cost(i32::MIN) >> 16, 16 + 5 + 32);
        assert_eq!(table.cost(i32::MAX) >> 16, 16 + 5 + 31);
    }
}
