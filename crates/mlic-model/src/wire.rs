//! Little-endian reading and writing of package sections. Every length is checked before it is used.

use mlic_core::memory;

use crate::error::ModelError;

/// A cursor over the bytes of one section.
pub(crate) struct Reader<'a> {
    part: &'static str,
    rest: &'a [u8],
    len: usize,
}

macro_rules! scalar {
    ($one:ident, $many:ident, $type:ty) => {
        #[allow(dead_code, reason = "one pair per width; not every section needs each")]
        pub(crate) fn $one(&mut self) -> Result<$type, ModelError> {
            let bytes = self.take(size_of::<$type>())?;
            bytes.try_into().map(<$type>::from_le_bytes).map_err(|_| self.missing(size_of::<$type>()))
        }

        #[allow(dead_code, reason = "one pair per width; not every section needs each")]
        pub(crate) fn $many(&mut self, count: usize) -> Result<Vec<$type>, ModelError> {
            let len = count.checked_mul(size_of::<$type>()).ok_or_else(|| self.missing(usize::MAX))?;
            let (numbers, _) = self.take(len)?.as_chunks();
            Ok(memory::collect(count, numbers.iter().copied().map(<$type>::from_le_bytes))?)
        }
    };
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(part: &'static str, bytes: &'a [u8]) -> Self {
        Self { part, rest: bytes, len: bytes.len() }
    }

    fn missing(&self, want: usize) -> ModelError {
        let need = (self.len - self.rest.len()).saturating_add(want) as u64;
        ModelError::Truncated { part: self.part, have: self.len as u64, need }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], ModelError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or_else(|| self.missing(len))?;
        self.rest = tail;
        Ok(head)
    }

    scalar!(u8, u8s, u8);
    scalar!(u16, u16s, u16);
    scalar!(i16, i16s, i16);
    scalar!(u32, u32s, u32);
    scalar!(i32, i32s, i32);
    scalar!(i64, i64s, i64);

    /// Checks that every byte has been read.
    pub(crate) fn finish(self) -> Result<(), ModelError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let (have, rest) = (self.len as u64, self.rest.len() as u64);
        Err(ModelError::Oversized { part: self.part, have, need: have - rest })
    }
}

/// Appends numbers in little-endian order.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

macro_rules! put {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&mut self, values: impl IntoIterator<Item = $type>) {
            for v in values {
                self.0.extend_from_slice(&v.to_le_bytes());
            }
        }
    };
}

impl Writer {
    put!(u8s, u8);
    put!(u16s, u16);
    put!(i16s, i16);
    put!(u32s, u32);
    put!(i32s, i32);
    put!(i64s, i64);
}
