//! Interleaved rANS over one sequence of words (SPEC 6.3).
//!
//! States are 48-bit, in `2^32..2^48` when normalized; words are 16-bit, little-endian. Coded interval number j (bypass
//! intervals count) belongs to lane `j mod lanes`. All lanes share one sequence of words, in the order in which the
//! decoder needs them. A payload is one initial decoder state (6 bytes, little-endian) per lane, then the words.
//!
//! A normalized state is at least 2^16 times the probability denominator, so that rounding in it costs next to nothing
//! (`tests/it/redundancy.rs`), and a state never lacks more than one word.
//!
//! A lane that falls below 2^32 is renormalized *before its next interval is taken*, not after the last one. The order of
//! the words is the same either way, but this way every symbol that the bytes determine is returned before
//! [`RansError::Exhausted`] is: a prefix of the bytes yields a prefix of the symbols, never a wrong one.

use crate::cdf::{CdfTable, ESCAPE_LEN_BITS, Interval, MAX_ESCAPE_LEN, PROB_BITS};
use crate::limits::MAX_SYMBOL;
use crate::memory::{self, OutOfMemory};
use alloc::vec::Vec;
use core::hint::select_unpredictable;

/// Most lanes, as a power of two.
pub const MAX_LANES_LOG2: u8 = 6;
/// Most lanes that [`Encoder::finish`] chooses, as a power of two.
pub const MAX_CHOSEN_LANES_LOG2: u8 = 5;
/// Fewest intervals per lane, as a power of two, once [`lanes_log2_for`] chooses more than one lane.
pub const INTERVALS_PER_LANE_LOG2: u32 = 16;

const MAX_LANES: usize = 1 << MAX_LANES_LOG2;
/// Symbols that a decoder takes at once where it can: as many as the words in one 64-bit load can renormalize.
const SIMPLE: usize = 4;
const WORD_BITS: u32 = 16;
const WORD_LEN: usize = 2;
const STATE_LEN: usize = 6;
/// Binary logarithm of the smallest normalized state.
const STATE_MIN_BITS: u32 = 32;
/// Smallest normalized state; the state of every lane after the last symbol.
const STATE_MIN: u64 = 1 << STATE_MIN_BITS;
/// First number above the range of states.
const STATE_END: u64 = STATE_MIN << WORD_BITS;

const _: () = assert!(PROB_BITS == WORD_BITS, "one word renormalizes a state: freq * (state >> 16) is at least 2^16");
const _: () = assert!(STATE_END == 1 << (8 * STATE_LEN), "the bytes of a state hold no number that is too large");

/// Why symbols could not be encoded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RansError {
    /// The lane count is beyond what the format allows.
    #[error("2^{got} lanes, at most 2^{limit} are allowed")]
    LaneCount {
        /// Binary logarithm of the lane count.
        got: u8,
        /// [`MAX_LANES_LOG2`].
        limit: u8,
    },
    /// The next symbol needs bytes beyond the end of the payload.
    #[error("payload of {have} bytes ends before the next symbol, which needs {need}")]
    Exhausted {
        /// Length of the payload, in bytes.
        have: usize,
        /// Length of the payload that the symbol needs, in bytes.
        need: usize,
    },
    /// An initial state is below 2^32. None can be too large: a state has six bytes.
    #[error("initial state {state:#x} of lane {lane} is below 2^32")]
    BadState {
        /// Lane of the state.
        lane: usize,
        /// The state.
        state: u64,
    },
    /// The length of an escape is beyond what a symbol can need.
    #[error("escape of {got} bits, at most {limit} are allowed")]
    BadEscape {
        /// Number of bits that the escape declares.
        got: u32,
        /// [`MAX_ESCAPE_LEN`].
        limit: u32,
    },
    /// The table index of a symbol is not below the number of tables.
    #[error("table {index} of {count}")]
    NoTable {
        /// The index.
        index: u8,
        /// Number of tables.
        count: usize,
    },
    /// A symbol is outside ±[`MAX_SYMBOL`].
    #[error("symbol {got} is outside ±{limit}")]
    SymbolRange {
        /// The symbol.
        got: i32,
        /// [`MAX_SYMBOL`].
        limit: i32,
    },
    /// A lane does not end in the state 2^32 in which the encoder began: the symbols are not those that were encoded.
    #[error("lane {lane} ends in state {state:#x}, not in 2^32")]
    NotSealed {
        /// Lane of the state.
        lane: usize,
        /// The state after the last symbol.
        state: u64,
    },
    /// Bytes are left after the last symbol.
    #[error("{count} bytes are left after the last symbol")]
    Unread {
        /// Number of bytes.
        count: usize,
    },
    /// An encoder has no memory for its symbols.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl RansError {
    /// A stable name of the variant, for conformance manifests.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LaneCount { .. } => "rans-lane-count",
            Self::Exhausted { .. } => "rans-exhausted",
            Self::BadState { .. } => "rans-bad-state",
            Self::BadEscape { .. } => "rans-bad-escape",
            Self::NoTable { .. } => "rans-no-table",
            Self::SymbolRange { .. } => "rans-symbol-range",
            Self::NotSealed { .. } => "rans-not-sealed",
            Self::Unread { .. } => "rans-unread",
            Self::OutOfMemory(_) => "out-of-memory",
        }
    }
}

/// What a walk over the symbols of a stream does with each of them: encode or decode.
pub trait SymbolCoder {
    /// Codes one symbol: [`Encoder`] reads it, [`Decoder`] writes it.
    ///
    /// # Errors
    /// [`RansError`]; `symbol` is then left as it was, and the coder is of no further use.
    fn code(&mut self, table: &CdfTable, symbol: &mut i32) -> Result<(), RansError>;

    /// Codes symbols in order, `symbols[i]` with the table `tables[indices[i]]`. If `indices` and `symbols` differ in length, the extra elements of
    /// the longer one are left alone.
    ///
    /// # Errors
    /// As [`Self::code`], and [`RansError::NoTable`]; symbols before the one that failed have been coded.
    fn code_all(&mut self, tables: &[CdfTable], indices: &[u8], symbols: &mut [i32]) -> Result<(), RansError> {
        indices.iter().zip(symbols).try_for_each(|(index, symbol)| self.code(table(tables, *index)?, symbol))
    }
}

fn table(tables: &[CdfTable], index: u8) -> Result<&CdfTable, RansError> {
    tables.get(usize::from(index)).ok_or(RansError::NoTable { index, count: tables.len() })
}

/// Binary logarithm of the lane count for a number of coded intervals.
///
/// One lane below 2 * 2^[`INTERVALS_PER_LANE_LOG2`] intervals, then twice the lanes for twice the intervals, at most
/// 2^[`MAX_CHOSEN_LANES_LOG2`]. A lane costs about 5 bytes, so that more lanes never cost more than 0.0006 bits per
/// interval. This is a rule of the encoder only: a stream declares its lanes.
#[must_use]
pub const fn lanes_log2_for(interval_count: usize) -> u8 {
    let Some(log2) = (interval_count >> INTERVALS_PER_LANE_LOG2).checked_ilog2() else { return 0 };
    if log2 < MAX_CHOSEN_LANES_LOG2 as u32 { log2 as u8 } else { MAX_CHOSEN_LANES_LOG2 }
}

/// Encoded symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Binary logarithm of the lane count, which the decoder must be told.
    pub lanes_log2: u8,
    /// Initial states, then words.
    pub bytes: Vec<u8>,
}

/// Records symbols in decoding order; encodes them, last to first, at the end.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    intervals: Vec<Interval>,
}

impl Encoder {
    /// An encoder without symbols.
    #[must_use]
    pub const fn new() -> Self {
        Self { intervals: Vec::new() }
    }

    /// Number of intervals so far: one per symbol, up to two more per escape.
    #[must_use]
    pub const fn interval_count(&self) -> usize {
        self.intervals.len()
    }

    /// Information content of the intervals from index `start` on, in units of 2^-16 bits.
    #[must_use]
    pub fn cost_q16(&self, start: usize) -> u64 {
        self.intervals.iter().skip(start).map(|interval| u64::from(interval.cost_q16())).sum()
    }

    /// Appends a symbol.
    ///
    /// # Errors
    /// [`RansError::SymbolRange`] when it is outside ±[`MAX_SYMBOL`], [`RansError::OutOfMemory`].
    pub fn push(&mut self, table: &CdfTable, symbol: i32) -> Result<(), RansError> {
        check_symbol(symbol)?;
        let bin = table.bin_of_symbol(symbol);
        if let Some(interval) = table.interval(bin.unwrap_or(table.escape_bin())) {
            memory::push(&mut self.intervals, interval)?;
        }
        if bin.is_none() {
            self.push_escape(table.escape_number(symbol) as u32)?;
        }
        Ok(())
    }

    /// Appends the number after an escape: how many bits follow its leading one, then those bits.
    fn push_escape(&mut self, number: u32) -> Result<(), OutOfMemory> {
        let len = number.ilog2();
        memory::push(&mut self.intervals, Interval::uniform(len, ESCAPE_LEN_BITS))?;
        if len > 0 {
            memory::push(&mut self.intervals, Interval::uniform(number - (1 << len), len))?;
        }
        Ok(())
    }

    /// Encodes all symbols, with the lane count of [`lanes_log2_for`].
    ///
    /// # Errors
    /// [`RansError::OutOfMemory`].
    pub fn finish(self) -> Result<Payload, RansError> {
        let lanes_log2 = lanes_log2_for(self.intervals.len());
        self.finish_with_lanes(lanes_log2)
    }

    /// Encodes all symbols with a given lane count.
    ///
    /// # Errors
    /// [`RansError::LaneCount`] when `lanes_log2` is above [`MAX_LANES_LOG2`], [`RansError::OutOfMemory`].
    pub fn finish_with_lanes(self, lanes_log2: u8) -> Result<Payload, RansError> {
        check_lanes(lanes_log2)?;
        Ok(Payload { lanes_log2, bytes: encode(&self.intervals, lanes_log2)? })
    }
}

impl SymbolCoder for Encoder {
    fn code(&mut self, table: &CdfTable, symbol: &mut i32) -> Result<(), RansError> {
        self.push(table, *symbol)
    }
}

/// Encodes from the last interval to the first; `lanes_log2` is at most [`MAX_LANES_LOG2`].
#[allow(clippy::indexing_slicing, reason = "states has MAX_LANES = 64 entries and the index is masked to at most 63")]
fn encode(intervals: &[Interval], lanes_log2: u8) -> Result<Vec<u8>, OutOfMemory> {
    let lanes = 1usize << lanes_log2;
    let mut states = [STATE_MIN; MAX_LANES];
    let mut words = Vec::new();
    for (j, interval) in intervals.iter().enumerate().rev() {
        let state = &mut states[j & (lanes - 1) & (MAX_LANES - 1)];
        let freq = u64::from(interval.freq());
        if *state >> STATE_MIN_BITS >= freq {
            memory::push(&mut words, *state as u16)?;
            *state >>= WORD_BITS;
        }
        *state = ((*state / freq) << PROB_BITS) + *state % freq + u64::from(interval.start());
    }
    let mut bytes = Vec::new();
    memory::reserve(&mut bytes, lanes * STATE_LEN + words.len() * WORD_LEN)?;
    bytes.extend(states.iter().take(lanes).flat_map(|state| state.to_le_bytes().into_iter().take(STATE_LEN)));
    bytes.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    Ok(bytes)
}

/// The state after a normalized `state` whose slot lies at offset `inside` of an interval of `freq` slots.
///
/// It is at least 2^16, because `state >> 16` is; and below 2^48, because `inside < freq < 2^16` and `state >> 16 < 2^32`.
#[inline(always)]
fn next_state(state: u64, freq: u16, inside: u16) -> u64 {
    u64::from(freq) * (state >> PROB_BITS) + u64::from(inside)
}

/// Progress of a group of symbols that are decoded at once.
struct Simple {
    /// The next words of the payload, the first in the lowest bits.
    words: u64,
    /// Number of bits taken from `words` so far.
    read_bits: u32,
    /// Whether all symbols returned so far are right: none needed a search.
    is_simple: bool,
}

impl Simple {
    /// Decodes the next symbol, from the lane in `state`; the result is right only while `is_simple` holds.
    #[inline(always)]
    fn step(&mut self, state: &mut u64, table: &CdfTable) -> i32 {
        let is_short = *state < STATE_MIN;
        let normal = select_unpredictable(is_short, (*state << WORD_BITS) | (self.words & 0xffff), *state);
        let bits = WORD_BITS * u32::from(is_short);
        self.words >>= bits;
        self.read_bits += bits;
        let found = table.look_up(normal as u16);
        self.is_simple &= found.freq > 0;
        *state = next_state(normal, found.freq, found.inside);
        found.symbol
    }
}

/// Decodes symbols from a payload, or from any prefix of one.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    payload: &'a [u8],
    /// Offset in `payload` of the next word; never beyond its end.
    at: usize,
    /// Lane of the next interval, below the lane count.
    lane: usize,
    /// Lane count minus one, below `MAX_LANES`.
    lane_mask: usize,
    /// Each in 2^16..2^48; one below `STATE_MIN` stays there until the lane's next interval is taken.
    states: [u64; MAX_LANES],
}

impl<'a> Decoder<'a> {
    /// Creates a decoder that stands before the first symbol.
    ///
    /// # Errors
    /// [`RansError::LaneCount`], [`RansError::Exhausted`] when the initial states are cut off, or
    /// [`RansError::BadState`].
    pub fn new(payload: &'a [u8], lanes_log2: u8) -> Result<Self, RansError> {
        check_lanes(lanes_log2)?;
        let lanes = 1usize << lanes_log2;
        let need = lanes * STATE_LEN;
        let initial = payload.get(..need).ok_or(RansError::Exhausted { have: payload.len(), need })?;
        let mut states = [STATE_MIN; MAX_LANES];
        for (state, &[a, b, c, d, e, f]) in states.iter_mut().zip(initial.as_chunks::<STATE_LEN>().0) {
            *state = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        }
        if let Some((lane, &state)) = states.iter().enumerate().find(|&(_, &state)| state < STATE_MIN) {
            return Err(RansError::BadState { lane, state });
        }
        Ok(Self { payload, at: need, lane: 0, lane_mask: lanes - 1, states })
    }

    /// Decodes the next symbol.
    ///
    /// # Errors
    /// [`RansError::Exhausted`] when the symbol is not determined by the bytes that are there; all symbols returned
    /// before are right. [`RansError::BadEscape`] or [`RansError::SymbolRange`] when the bytes are no symbol. After an
    /// error every further call returns an error.
    #[inline]
    pub fn pull(&mut self, table: &CdfTable) -> Result<i32, RansError> {
        let state = self.renormalize()?;
        let found = table.look_up(state as u16);
        if found.freq > 0 {
            self.advance(next_state(state, found.freq, found.inside));
            return Ok(found.symbol);
        }
        self.pull_searched(table, state)
    }

    /// Decodes the symbol of a normalized state that the lookup leaves undecided: an escape, or one with too many neighbours.
    fn pull_searched(&mut self, table: &CdfTable, state: u64) -> Result<i32, RansError> {
        let (bin, interval) = table.find(state as u16);
        self.advance(next_state(state, interval.freq(), (state as u16).wrapping_sub(interval.start())));
        match table.symbol_of_bin(bin) {
            Some(symbol) => Ok(symbol),
            None => self.pull_escape(table),
        }
    }

    /// Checks that the payload ends with the symbols decoded so far: all lanes are back in the state 2^32, all bytes are read.
    ///
    /// # Errors
    /// [`RansError::NotSealed`], [`RansError::Unread`], or [`RansError::Exhausted`] when only the last words are missing.
    pub fn seal(mut self) -> Result<(), RansError> {
        for _ in 0..=self.lane_mask {
            let (lane, state) = (self.lane, self.renormalize()?);
            if state != STATE_MIN {
                return Err(RansError::NotSealed { lane, state });
            }
            self.lane = (self.lane + 1) & self.lane_mask;
        }
        match self.payload.len() - self.at {
            0 => Ok(()),
            count => Err(RansError::Unread { count }),
        }
    }

    /// The normalized state of the current lane, with one more word if it lacked one. Changes nothing but the offset.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "states has MAX_LANES = 64 entries and the index is masked to at most 63")]
    fn renormalize(&mut self) -> Result<u64, RansError> {
        let state = self.states[self.lane & (MAX_LANES - 1)];
        // Whether a word is missing cannot be predicted, so nothing branches on it except at the end of the payload.
        let is_short = state < STATE_MIN;
        let word = self.payload.get(self.at..self.at + WORD_LEN).and_then(|word| word.first_chunk::<WORD_LEN>());
        if is_short && word.is_none() {
            return Err(self.exhausted());
        }
        self.at += WORD_LEN * usize::from(is_short);
        let longer = (state << WORD_BITS) | u64::from(word.map_or(0, |word| u16::from_le_bytes(*word)));
        Ok(select_unpredictable(is_short, longer, state))
    }

    #[cold]
    fn exhausted(&self) -> RansError {
        RansError::Exhausted { have: self.payload.len(), need: self.at + WORD_LEN }
    }

    /// Stores the state of the current lane and goes on to the next lane.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "states has MAX_LANES = 64 entries and the index is masked to at most 63")]
    fn advance(&mut self, state: u64) {
        self.states[self.lane & (MAX_LANES - 1)] = state;
        self.lane = (self.lane + 1) & self.lane_mask;
    }

    /// Decodes the next four symbols if all are simple; otherwise returns `None` and changes nothing. They are simple if eight bytes are left, and
    /// none is an escape or needs a search. `LANES` is the number of lanes that four symbols use: 1, 2 or 4, at most the lane count. It must divide
    /// the current lane.
    ///
    /// This is [`Self::pull`] four times, but with the states in registers and a single look at the payload.
    #[inline]
    #[allow(clippy::indexing_slicing, reason = "an index mod LANES is below LANES")]
    fn pull_simple<const LANES: usize>(&mut self, [a, b, c, d]: [&CdfTable; SIMPLE]) -> Option<[i32; SIMPLE]> {
        let words = u64::from_le_bytes(*self.payload.get(self.at..)?.first_chunk()?);
        let place = self.states.get_mut(self.lane..)?.first_chunk_mut::<LANES>()?;
        let (mut states, mut four) = (*place, Simple { words, read_bits: 0, is_simple: true });
        let symbols = [
            four.step(&mut states[0], a),
            four.step(&mut states[1 % LANES], b),
            four.step(&mut states[2 % LANES], c),
            four.step(&mut states[3 % LANES], d),
        ];
        if !four.is_simple {
            return None;
        }
        *place = states;
        self.lane = (self.lane + SIMPLE) & self.lane_mask;
        self.at += (four.read_bits / 8) as usize;
        Some(symbols)
    }

    fn pull_all<const LANES: usize>(
        &mut self,
        tables: &[CdfTable],
        indices: &[u8],
        symbols: &mut [i32],
    ) -> Result<(), RansError> {
        let count = indices.len().min(symbols.len());
        let mut done = 0;
        while done < count {
            if self.lane.is_multiple_of(LANES)
                && let Some(indices) = indices.get(done..).and_then(<[u8]>::first_chunk::<SIMPLE>)
                && let Some(symbols) = symbols.get_mut(done..).and_then(<[i32]>::first_chunk_mut::<SIMPLE>)
                && let [Some(a), Some(b), Some(c), Some(d)] = indices.map(|index| tables.get(usize::from(index)))
                && let Some(simple) = self.pull_simple::<LANES>([a, b, c, d])
            {
                *symbols = simple;
                done += SIMPLE;
            } else if let (Some(index), Some(symbol)) = (indices.get(done), symbols.get_mut(done)) {
                *symbol = self.pull(table(tables, *index)?)?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Decodes 1 to 16 uniform bits.
    fn pull_bits(&mut self, bits: u32) -> Result<u32, RansError> {
        let state = self.renormalize()?;
        let shift = PROB_BITS - bits;
        let slot = state & 0xffff;
        self.advance(((state >> PROB_BITS) << shift) + (slot & ((1 << shift) - 1)));
        Ok((slot >> shift) as u32)
    }

    /// Decodes the symbol that follows an escape.
    #[cold]
    fn pull_escape(&mut self, table: &CdfTable) -> Result<i32, RansError> {
        let len = self.pull_bits(ESCAPE_LEN_BITS)?;
        if len > MAX_ESCAPE_LEN {
            return Err(self.poison(RansError::BadEscape { got: len, limit: MAX_ESCAPE_LEN }));
        }
        let low = if len > 0 { self.pull_bits(len)? } else { 0 };
        let symbol = table.symbol_of_escape((1 << len) + low);
        check_symbol(symbol).map_err(|error| self.poison(error))?;
        Ok(symbol)
    }

    /// Returns `error`, and makes every further call fail for lack of a word: nothing after an error is a symbol.
    fn poison(&mut self, error: RansError) -> RansError {
        self.at = self.payload.len();
        self.states = [STATE_MIN >> WORD_BITS; MAX_LANES];
        error
    }
}

impl SymbolCoder for Decoder<'_> {
    #[inline]
    fn code(&mut self, table: &CdfTable, symbol: &mut i32) -> Result<(), RansError> {
        *symbol = self.pull(table)?;
        Ok(())
    }

    fn code_all(&mut self, tables: &[CdfTable], indices: &[u8], symbols: &mut [i32]) -> Result<(), RansError> {
        match self.lane_mask {
            0 => self.pull_all::<1>(tables, indices, symbols),
            1 => self.pull_all::<2>(tables, indices, symbols),
            _ => self.pull_all::<SIMPLE>(tables, indices, symbols),
        }
    }
}

fn check_symbol(got: i32) -> Result<(), RansError> {
    if (-MAX_SYMBOL..=MAX_SYMBOL).contains(&got) { Ok(()) } else { Err(RansError::SymbolRange { got, limit: MAX_SYMBOL }) }
}

fn check_lanes(got: u8) -> Result<(), RansError> {
    if got <= MAX_LANES_LOG2 { Ok(()) } else { Err(RansError::LaneCount { got, limit: MAX_LANES_LOG2 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> CdfTable {
        CdfTable::new(-2, &[0, 100, 20_000, 60_000, 65_000, 65_535]).unwrap()
    }

    fn encoded(symbols: &[i32], lanes_log2: u8) -> Vec<u8> {
        let mut encoder = Encoder::new();
        for &symbol in symbols {
            encoder.push(&table(), symbol).unwrap();
        }
        encoder.finish_with_lanes(lanes_log2).unwrap().bytes
    }

    /// A payload that holds the given intervals, for what [`Encoder::push`] would refuse to write.
    fn forged(intervals: &[Interval]) -> Vec<u8> {
        encode(intervals, 0).unwrap()
    }

    #[test]
    fn no_symbols_are_only_states() {
        assert_eq!(encoded(&[], 1), [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
        Decoder::new(&encoded(&[], 6), 6).unwrap().seal().unwrap();
    }

    #[test]
    fn bytes_are_what_the_definition_gives() {
        // from 2^32, symbol 0 (start 20000, freq 40000): 107374 * 2^16 + 7296 + 20000 = 0x1_a36e_6aa0
        assert_eq!(encoded(&[0], 0), [0xa0, 0x6a, 0x6e, 0xa3, 0x01, 0x00]);
        // before it symbol 2 (start 65000, freq 535): 13153064 * 535 + 520, so 13153064 * 2^16 + 65520 = 0xc8_b328_fff0
        assert_eq!(encoded(&[2, 0], 0), [0xf0, 0xff, 0x28, 0xb3, 0xc8, 0x00]);
        // before it an escape bin (freq 1): the low word 0xfff0 goes out, the state is 0xc8_b328 * 2^16 + 65535
        let escape = table().interval(5).unwrap();
        let intervals = [escape, table().interval(4).unwrap(), table().interval(2).unwrap()];
        assert_eq!(forged(&intervals), [0xff, 0xff, 0x28, 0xb3, 0xc8, 0x00, 0xf0, 0xff]);
    }

    #[test]
    fn every_escape_returns_on_every_lane_count() {
        let symbols: Vec<i32> = (0..15)
            .flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1])
            .flat_map(|v| [v, -v])
            .chain([-MAX_SYMBOL, MAX_SYMBOL])
            .collect();
        for lanes_log2 in 0..=MAX_LANES_LOG2 {
            let bytes = encoded(&symbols, lanes_log2);
            let mut decoder = Decoder::new(&bytes, lanes_log2).unwrap();
            for &symbol in &symbols {
                assert_eq!(decoder.pull(&table()), Ok(symbol));
            }
            decoder.seal().unwrap();
        }
    }

    #[test]
    fn bad_escapes_are_named_and_final() {
        let escape = table().interval(5).unwrap();
        for len in MAX_ESCAPE_LEN + 1..32 {
            let bytes = forged(&[escape, Interval::uniform(len, ESCAPE_LEN_BITS), escape]);
            let mut decoder = Decoder::new(&bytes, 0).unwrap();
            assert_eq!(decoder.pull(&table()), Err(RansError::BadEscape { got: len, limit: MAX_ESCAPE_LEN }));
            assert_eq!(decoder.pull(&table()).unwrap_err().code(), "rans-exhausted");
        }
        let bytes = forged(&[escape, Interval::uniform(16, ESCAPE_LEN_BITS), Interval::uniform(0xffff, 16)]);
        let mut decoder = Decoder::new(&bytes, 0).unwrap();
        assert_eq!(decoder.pull(&table()), Err(RansError::SymbolRange { got: 65_538, limit: MAX_SYMBOL }));
        assert!(decoder.pull(&table()).is_err());
    }

    #[test]
    fn out_of_range_symbols_are_refused() {
        for symbol in [i32::MIN, -MAX_SYMBOL - 1, MAX_SYMBOL + 1, i32::MAX] {
            assert_eq!(Encoder::new().push(&table(), symbol).unwrap_err().code(), "rans-symbol-range");
        }
    }

    #[test]
    fn bad_starts_are_refused() {
        assert_eq!(Decoder::new(&[0; 512], 7).unwrap_err(), RansError::LaneCount { got: 7, limit: 6 });
        assert_eq!(Encoder::new().finish_with_lanes(7).unwrap_err().code(), "rans-lane-count");
        assert_eq!(Decoder::new(&[0; 11], 1).unwrap_err(), RansError::Exhausted { have: 11, need: 12 });
        let states = [0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
        assert_eq!(Decoder::new(&states, 1).unwrap_err(), RansError::BadState { lane: 1, state: 0xffff_ffff });
        assert!(Decoder::new(&[0xff; 6], 0).is_ok());
    }

    #[test]
    fn the_seal_sees_what_is_left() {
        let bytes = encoded(&[0, 1, 0], 0);
        assert_eq!(Decoder::new(&bytes, 0).unwrap().seal().unwrap_err().code(), "rans-not-sealed");
        let longer = [bytes.as_slice(), &[0]].concat();
        let mut decoder = Decoder::new(&longer, 0).unwrap();
        for _ in 0..3 {
            decoder.pull(&table()).unwrap();
        }
        assert_eq!(decoder.seal(), Err(RansError::Unread { count: 1 }));
    }

    #[test]
    fn a_cut_after_the_last_symbol_shows_in_the_seal() {
        // the last interval has frequency 1, so the last word is needed by the seal only
        let table = CdfTable::new(0, &[0, 65_535]).unwrap();
        let one = CdfTable::new(0, &[0, 1]).unwrap();
        let mut encoder = Encoder::new();
        encoder.push(&table, 0).unwrap();
        encoder.push(&one, 0).unwrap();
        let bytes = encoder.finish().unwrap().bytes;
        let mut decoder = Decoder::new(&bytes[..bytes.len() - 1], 0).unwrap();
        assert_eq!((decoder.pull(&table), decoder.pull(&one)), (Ok(0), Ok(0)));
        assert_eq!(decoder.seal(), Err(RansError::Exhausted { have: 7, need: 8 }));
    }

    #[test]
    fn lanes_grow_with_intervals() {
        let k = 1 << INTERVALS_PER_LANE_LOG2;
        let counts = [0, 1, k, 2 * k - 1, 2 * k, 4 * k - 1, 4 * k, 16 * k, 32 * k - 1, 32 * k, usize::MAX];
        assert_eq!(counts.map(lanes_log2_for), [0, 0, 0, 0, 1, 1, 2, 4, 4, 5, 5]);
    }

    #[test]
    fn intervals_cost_what_their_symbols_do() {
        let of = |symbol| u64::from(table().cost(symbol));
        let mut encoder = Encoder::new();
        [0, 1].into_iter().for_each(|symbol| encoder.push(&table(), symbol).unwrap());
        let start = encoder.interval_count();
        assert_eq!((encoder.cost_q16(0), encoder.cost_q16(start)), (of(0) + of(1), 0));
        // The last two escape.
        [2, 3, 9].into_iter().for_each(|symbol| encoder.push(&table(), symbol).unwrap());
        assert_eq!(encoder.cost_q16(start), of(2) + of(3) + of(9));
        assert_eq!(encoder.cost_q16(usize::MAX), 0);
    }
}
