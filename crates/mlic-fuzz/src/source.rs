//! Decisions made from the bytes of an input.

use mlic_backend::contract::Random;

/// How the elements of a tensor are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Random,
    Zero,
    Most,
    Least,
    Alternating,
}

impl Fill {
    const ALL: [Self; 5] = [Self::Random, Self::Zero, Self::Most, Self::Least, Self::Alternating];
}

/// A source of decisions. Each is made from one or more bytes of the input, so that a fuzzer can change them one by one.
/// After the end of the bytes, and for the contents of tensors, numbers come from a generator that the first eight bytes seed.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    rest: &'a [u8],
    random: Random,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let (seed, rest) = bytes.split_at(bytes.len().min(8));
        let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        Self { rest, random: Random(seed) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left of the input.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                *byte
            }
            None => self.random.next() as u8,
        }
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `limit`, which is 1 to 256.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// A number from `low` to `high`, which are at most 255 apart.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Integers within `low..=high`, filled in one of five ways.
    pub(crate) fn integers(&mut self, count: usize, low: i64, high: i64) -> Vec<i64> {
        let fill = self.one_of(&Fill::ALL);
        self.filled(fill, count, low, high)
    }

    /// Random integers within `low..=high`.
    pub(crate) fn random_integers(&mut self, count: usize, low: i64, high: i64) -> Vec<i64> {
        self.filled(Fill::Random, count, low, high)
    }

    fn filled(&mut self, fill: Fill, count: usize, low: i64, high: i64) -> Vec<i64> {
        let span = (high - low) as u64 + 1;
        let random = &mut self.random;
        let value = |i: usize| match fill {
            Fill::Random => low + (random.next() % span) as i64,
            Fill::Zero => 0_i64.clamp(low, high),
            Fill::Most => high,
            Fill::Least => low,
            Fill::Alternating => [low, high][i % 2],
        };
        (0..count).map(value).collect()
    }
}
