//! Entropy-coded data of JPEG: bits between markers, and the Huffman codes in them (ITU-T T.81, annexes C and F).

use thiserror::Error;

/// What is wrong with the data of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Flaw {
    #[error("its data end early")]
    Ended,
    #[error("a code that means nothing there")]
    Code,
    #[error("no restart marker, or another than the next")]
    Restart,
    #[error("data follow the last block")]
    Left,
}

/// Some writers fill the end of the data with zeros, to a length that suits them.
const MAX_PADDING_BITS: u32 = 8 * 4;

/// Bits of a scan up to a marker.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    /// What is not in `buffer`.
    rest: &'a [u8],
    /// From the top bit on, zeros below.
    buffer: u64,
    /// How many of them.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data, buffer: 0, count: 0 }
    }

    /// As many whole bytes as there is room for, up to a marker.
    fn refill(&mut self) {
        while self.count <= 56 {
            let (byte, rest) = match self.rest {
                [0xff, 0, rest @ ..] => (0xff, rest),
                [] | [0xff, ..] => return,
                [byte, rest @ ..] => (*byte, rest),
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.rest = rest;
        }
    }

    /// The next `len` bits.
    pub(super) fn take(&mut self, len: u8) -> Result<u32, Flaw> {
        let len = u32::from(len);
        if len > 16 {
            return Err(Flaw::Code);
        }
        if self.count < len {
            self.refill();
        }
        let left = self.count.checked_sub(len).ok_or(Flaw::Ended)?;
        let value = (self.buffer >> 48) as u32 >> (16 - len);
        (self.buffer, self.count) = (self.buffer << len, left);
        Ok(value)
    }

    /// Goes past `len` bits.
    pub(super) fn skip(&mut self, len: u32) -> Result<(), Flaw> {
        (0..len).step_by(16).try_for_each(|at| self.take((len - at).min(16) as u8).map(|_| ()))
    }

    /// The symbol of the next code.
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Flaw> {
        if self.count < 16 {
            self.refill();
        }
        let (len, symbol) = table.find((self.buffer >> 48) as u16).ok_or(Flaw::Code)?;
        self.take(len).map(|_| symbol)
    }

    /// Goes past restart marker `number`, which must be what follows the bits that fill a byte.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), Flaw> {
        self.refill();
        let fill = self.rest.iter().take_while(|byte| **byte == 0xff).count();
        match self.rest.get(fill..) {
            Some([marker, rest @ ..]) if fill > 0 && self.count < 8 && *marker == 0xd0 + number => {
                *self = Self::new(rest);
                Ok(())
            }
            _ => Err(Flaw::Restart),
        }
    }

    /// Refuses what is more than padding: a byte that is begun, a few bytes of 0, any of FF, and a restart marker before nothing.
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        self.refill();
        let rest = match self.rest {
            [0xff, 0xd0..=0xd7, rest @ ..] => rest,
            rest => rest,
        };
        let is_padding =
            self.count < MAX_PADDING_BITS && self.buffer << (self.count % 8) == 0 && rest.iter().all(|byte| *byte == 0xff);
        if is_padding { Ok(()) } else { Err(Flaw::Left) }
    }
}

/// A table of codes of 1 to 16 bits.
#[derive(Debug)]
pub(super) struct Table {
    /// Length and symbol of the code that begins with these 8 bits; length 0: it is longer, or there is none.
    short: [(u8, u8); 256],
    /// By length less one: the first code, how many there are, and where the symbols begin.
    lens: [(u32, u32, usize); 16],
    symbols: Vec<u8>,
}

impl Table {
    /// The table at the beginning of `bytes`, and what follows it.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = bytes.split_first_chunk::<16>()?;
        let (symbols, rest) = rest.split_at_checked(counts.iter().map(|count| usize::from(*count)).sum())?;
        let mut table = Self { short: [(0, 0); 256], lens: [(0, 0, 0); 16], symbols: symbols.to_vec() };
        let (mut code, mut at) = (0, 0);
        for (len, (count, entry)) in (1_u8..).zip(counts.iter().zip(&mut table.lens)) {
            let count = u32::from(*count);
            *entry = (code, count, at);
            for (code, symbol) in (code..code + count).zip(symbols.get(at..).unwrap_or_default()) {
                let width = 8_usize.checked_sub(usize::from(len)).map_or(0, |bits| 1 << bits);
                let short = table.short.iter_mut().skip(code as usize * width).take(width);
                short.for_each(|entry| *entry = (len, *symbol));
            }
            (code, at) = ((code + count) << 1, at + count as usize);
        }
        Some((table, rest))
    }

    /// Length and symbol of the code that `word` begins with.
    fn find(&self, word: u16) -> Option<(u8, u8)> {
        let short = self.short.get(usize::from(word >> 8)).copied().filter(|(len, _)| *len > 0);
        short.or_else(|| {
            (9..=16_u8).zip(self.lens.get(8..)?).find_map(|(len, (first, count, at))| {
                let index = (u32::from(word) >> (16 - len)).checked_sub(*first).filter(|index| index < count)?;
                self.symbols.get(at + index as usize).map(|symbol| (len, *symbol))
            })
        })
    }
}
