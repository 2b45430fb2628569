//! Streams that must be refused. Every check of SPEC 6.1 to 6.3 is broken on its own, with all others kept; two defects at once test the order of
//! the checks. Similar streams that decode stand beside them.

use std::sync::Arc;

use mlic::{Codec, CodecOptions};
use mlic_backend::Backend;
use mlic_core::cdf::CdfTable;
use mlic_core::container::{self, Header, ModelId, Section, SectionKind, SymbolChecksum};
use mlic_core::limits::MAX_SECTION_LEN;

use crate::craft::escaped;
use crate::damage::{FLAGS_AT, WIDTH_AT, flip, other, quality_at, raw, varint_len};
use crate::error::ConformError;
use crate::manifest::Level::{self, L0, L1};
use crate::record::Recorder;

/// A stream that must be refused, or must decode.
#[derive(Debug, Clone, Copy)]
pub struct StreamCase {
    /// Name.
    pub name: &'static str,
    /// Code of the error that must come of it; none if it decodes.
    pub code: Option<&'static str>,
    /// The lowest level at which the error shows.
    pub level: Level,
    /// What is wrong.
    pub why: &'static str,
    /// Name of the vector that it is made from.
    pub of: &'static str,
    make: fn(&Base) -> Vec<u8>,
}

/// The vector that most cases are made from.
const SOUND: &str = "sound-64x64-s60-l1";
/// A vector whose last symbol may be replaced by one of a single slot.
const SINGLE_SLOT: &str = "sound-1x1-s35-l0";

impl PartialEq for StreamCase {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl StreamCase {
    /// The same case, made from another vector.
    const fn of(self, of: &'static str) -> Self {
        Self { of, ..self }
    }

    /// Makes the stream.
    #[must_use]
    pub fn make(&self, base: &Base) -> Vec<u8> {
        (self.make)(base)
    }
}

/// The slots of a bin: the first, and how many.
type Interval = (u32, u32);
/// State of every lane of a sound stream after the last symbol.
const SEALED: u64 = 1 << 32;

/// A sound stream without sections, and everything that it consists of.
pub struct Base {
    stream: Vec<u8>,
    header: Header,
    header_len: usize,
    /// Tables and symbols in coding order; those of z first.
    script: Vec<(CdfTable, i32)>,
    z_count: usize,
    /// All symbols, including those that are not coded.
    symbols: Vec<i32>,
    /// Index in `symbols` of the last that is coded.
    last_coded: usize,
}

impl Base {
    /// Takes a sound stream apart.
    ///
    /// # Errors
    /// When the stream is not sound.
    pub fn new(backend: &Arc<dyn Backend>, stream: &[u8]) -> Result<Self, ConformError> {
        let parsed = container::parse(stream)?;
        let recorder = Arc::new(Recorder::new(Arc::clone(backend)));
        Codec::from_backend(Arc::clone(&recorder) as Arc<dyn Backend>, CodecOptions::default())?.decode_latents(stream)?;
        let (recording, model) = (recorder.recording(), backend.model());
        let z = recording.z.unwrap_or_default();
        let mut script: Vec<(CdfTable, i32)> = model.z_cdfs().iter().cycle().cloned().zip(z.iter().copied()).collect();
        let (z_count, mut symbols, mut last_coded) = (z.len(), z, 0);
        for pass in recording.passes {
            for (symbol, index) in pass.symbols.unwrap_or_default().into_iter().zip(pass.parameters.scale_indices) {
                if index >= model.config().skip_below
                    && let Some(table) = model.y_cdfs().get(usize::from(index))
                {
                    last_coded = symbols.len();
                    script.push((table.clone(), symbol));
                }
                symbols.push(symbol);
            }
        }
        let (header, header_len) = (parsed.header, parsed.header_len);
        Ok(Self { stream: stream.to_vec(), header, header_len, script, z_count, symbols, last_coded })
    }

    fn payload(&self) -> &[u8] {
        self.stream.get(self.header_len..).unwrap_or_default()
    }

    fn lane_bytes(&self) -> usize {
        6 << self.header.lanes_log2
    }

    /// The first `len` bytes of the stream.
    fn cut(&self, len: usize) -> Vec<u8> {
        self.stream.get(..len).unwrap_or(&self.stream).to_vec()
    }

    fn height_at(&self) -> usize {
        WIDTH_AT + varint_len(&self.stream, WIDTH_AT)
    }

    fn quality_at(&self) -> usize {
        quality_at(&self.stream)
    }

    fn payload_len_at(&self) -> usize {
        payload_len_at(&self.stream)
    }

    /// The stream with the id of another model.
    fn of_another(&self) -> Self {
        let header = Header { model_id: other(self.header.model_id), ..self.header };
        Self { stream: self.sound(header, self.payload()), header, script: Vec::new(), symbols: Vec::new(), ..*self }
    }

    /// The stream with its header changed, and a correct header checksum.
    fn head(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        raw(&self.stream, self.header_len, change)
    }

    /// The stream with another varint at this offset of the header, and a correct header checksum.
    fn varint(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let end = at + varint_len(&self.stream, at);
        self.head(|head| drop(head.splice(at..end, bytes.iter().copied())))
    }

    /// The stream with other width and height, as varints, and a correct header checksum.
    fn sides(&self, width: &[u8], height: &[u8]) -> Vec<u8> {
        self.head(|head| drop(head.splice(WIDTH_AT..self.quality_at(), width.iter().chain(height).copied())))
    }

    /// A stream with this header and payload, and correct checksums.
    fn sound(&self, header: Header, payload: &[u8]) -> Vec<u8> {
        container::write(&header, payload, &[]).unwrap_or_default()
    }

    /// The stream with one section, then changed as bytes: number of sections, kind, length, checksum (4 bytes), contents.
    fn section(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let section = Section { kind: SectionKind::ICC, bytes: b"contents" };
        let whole = container::write(&self.header, self.payload(), &[section]).unwrap_or_default();
        let (stream, tail) = whole.split_at(self.stream.len());
        let mut tail = tail.to_vec();
        change(&mut tail);
        [stream, &tail].concat()
    }

    /// The stream with two sections, of which the first has a wrong checksum, and the second is changed as bytes: kind, length, checksum, contents.
    fn two_sections(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        self.section(|tail| {
            let mut second = tail[1..].to_vec();
            change(&mut second);
            (tail[0], tail[5]) = (2, tail[5] ^ 1);
            tail.extend(second);
        })
    }

    fn intervals(&self, count: usize) -> Vec<Interval> {
        self.script.iter().take(count).flat_map(|(table, symbol)| intervals(table, *symbol)).collect()
    }

    /// The first `count` symbols, then other intervals; the rest of the payload is noise.
    fn then(&self, count: usize, last: &[Interval]) -> Vec<u8> {
        let mut all = self.intervals(count);
        all.extend(last);
        self.sound(self.header, &encode(&all, self.header.lanes_log2, |_| SEALED + 0x1234_5678))
    }

    /// The first `count` symbols, then an escape that announces `len` bits.
    fn escape_len(&self, count: usize, len: u32) -> Vec<u8> {
        self.then(count, &[self.escape(count), uniform(len, 5), uniform(0, 16)])
    }

    /// The first `count` symbols, then an escape and `number`, one of the largest: beyond every symbol.
    fn escape_number(&self, count: usize, number: u32) -> Vec<u8> {
        self.then(count, &[self.escape(count), uniform(16, 5), uniform(number & 0xffff, 16)])
    }

    /// The first `count` symbols, then the escape that stands for `symbol`.
    fn escape_symbol(&self, count: usize, symbol: i32) -> Vec<u8> {
        let Some((table, _)) = self.script.get(count) else { return Vec::new() };
        let (low, high) = (table.min_symbol(), table.max_symbol());
        let number = if symbol > high { 2 * (symbol - high - 1) + 1 } else { 2 * (low - symbol) };
        self.then(count, &escape(table, number as u32))
    }

    /// The right symbols except for the last, whose one slot makes its lane read a word for the seal; that word is missing from the file.
    fn without_seal(&self, symbol_checksum: impl FnOnce(u32) -> u32) -> Vec<u8> {
        let Some((table, _)) = self.script.last() else { return Vec::new() };
        let Some(found) = (0..table.escape_bin()).find(|found| bin(table, *found).1 == 1) else { return Vec::new() };
        let mut all = self.intervals(self.script.len() - 1);
        all.push(bin(table, found));
        let mut symbols = self.symbols.clone();
        symbols[self.last_coded] = table.symbol_of_bin(found).unwrap_or_default();
        let mut checksum = SymbolChecksum::new();
        checksum.update(&symbols);
        let header = Header { symbol_checksum: symbol_checksum(checksum.finish()), ..self.header };
        let mut stream = self.sound(header, &encode(&all, header.lanes_log2, |_| SEALED));
        stream.truncate(stream.len() - 2);
        stream
    }

    /// The stream with end states that are no seal.
    fn unsealed(&self) -> Vec<u8> {
        self.ends_in(|_| SEALED + 1)
    }

    /// The same, with more bytes in the payload.
    fn unsealed_with(&self, more: &[u8]) -> Vec<u8> {
        let stream = self.unsealed();
        self.sound(self.header, &[&stream[header_len(&stream)..], more].concat())
    }

    /// A stream with this payload, but the last lane begins at 0.
    fn last_lane_at_0(&self, payload: &[u8]) -> Vec<u8> {
        let mut payload = payload.to_vec();
        payload[self.lane_bytes() - 6..self.lane_bytes()].fill(0);
        self.sound(self.header, &payload)
    }

    /// Returns the interval of the escape in the table that comes after the first `count` symbols.
    fn escape(&self, count: usize) -> Interval {
        self.script.get(count).map_or((0, 1), |(table, _)| bin(table, table.escape_bin()))
    }

    /// The stream with the right symbols, and other end states of the lanes.
    fn ends_in(&self, state: fn(usize) -> u64) -> Vec<u8> {
        let all = self.intervals(usize::MAX);
        self.sound(self.header, &encode(&all, self.header.lanes_log2, state))
    }
}

/// Changes a stream so that it states two bytes of payload more than are there.
fn cut(stream: &[u8]) -> Vec<u8> {
    let Ok(parsed) = container::parse(stream) else { return Vec::new() };
    let varint = varint(parsed.payload_len as u32 + 2);
    raw(stream, parsed.header_len, |head| {
        head.truncate(payload_len_at(head));
        head.extend(varint);
    })
}

/// Changes a stream so that it says that sections follow.
fn with_flag(stream: &[u8]) -> Vec<u8> {
    raw(stream, header_len(stream), |head| head[FLAGS_AT] |= 0x20)
}

fn header_len(stream: &[u8]) -> usize {
    container::parse(stream).map_or(0, |parsed| parsed.header_len)
}

/// Offset of the payload length, after the quality and two checksums.
fn payload_len_at(stream: &[u8]) -> usize {
    quality_at(stream) + 9
}

fn varint(value: u32) -> Vec<u8> {
    let len = (value.max(1).ilog2() / 7) as usize;
    (0..=len).map(|i| (value >> (7 * i)) as u8 & 0x7f | if i < len { 0x80 } else { 0 }).collect()
}

fn bin(table: &CdfTable, bin: usize) -> Interval {
    table.interval(bin).map_or((0, 1), |interval| (u32::from(interval.start()), u32::from(interval.freq())))
}

const fn uniform(value: u32, bits: u32) -> Interval {
    (value << (16 - bits), 1 << (16 - bits))
}

/// Returns the intervals of a symbol (SPEC 6.3), even those that the encoder would not write.
fn intervals(table: &CdfTable, symbol: i32) -> Vec<Interval> {
    if let Some(found) = table.bin_of_symbol(symbol) {
        return vec![bin(table, found)];
    }
    let number = (1..1 << 17).find(|number| escaped(table, *number) == symbol).unwrap_or(1);
    escape(table, number)
}

/// Returns the intervals of the escape and of the number behind it.
fn escape(table: &CdfTable, number: u32) -> Vec<Interval> {
    let len = number.ilog2();
    let mut out = vec![bin(table, table.escape_bin()), uniform(len, 5)];
    if len > 0 {
        out.push(uniform(number - (1 << len), len));
    }
    out
}

/// Encodes a payload whose lanes end in the states given by `end`, even those that an encoder would not choose (SPEC 6.3, encoding).
fn encode(intervals: &[Interval], lanes_log2: u8, end: impl Fn(usize) -> u64) -> Vec<u8> {
    let lanes = 1_usize << lanes_log2;
    let mut states: Vec<u64> = (0..lanes).map(end).collect();
    let mut words = Vec::new();
    for (j, (start, freq)) in intervals.iter().map(|(s, f)| (u64::from(*s), u64::from(*f))).enumerate().rev() {
        let Some(state) = states.get_mut(j % lanes) else { continue };
        if *state >> 32 >= freq {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / freq) << 16) + *state % freq + start;
    }
    let states = states.iter().flat_map(|state| state.to_le_bytes().into_iter().take(6));
    states.chain(words.iter().rev().flat_map(|word| word.to_le_bytes())).collect()
}

const fn case(name: &'static str, code: &'static str, level: Level, why: &'static str, make: fn(&Base) -> Vec<u8>) -> StreamCase {
    StreamCase { name, code: Some(code), level, why, of: SOUND, make }
}

const fn decodes(name: &'static str, why: &'static str, make: fn(&Base) -> Vec<u8>) -> StreamCase {
    StreamCase { name, code: None, level: L1, why, of: SOUND, make }
}

/// All cases, in the order of SPEC 6.1, 6.2, 5.1, 6.3, 5.5.
pub static STREAMS: &[StreamCase] = &[
    case("empty", "truncated", L0, "no byte at all", |_| Vec::new()),
    case("magic-0", "not-a-stream", L0, "the first byte of the magic", |b| flip(&b.stream, 0, 0x01)),
    case("magic-1", "not-a-stream", L0, "the second byte of the magic", |b| flip(&b.stream, 1, 0x01)),
    case("magic-2", "not-a-stream", L0, "the third byte of the magic", |b| flip(&b.stream, 2, 0x80)),
    case("magic-cut", "truncated", L0, "two right bytes of the magic", |b| b.cut(2)),
    case("magic-cut-wrong", "not-a-stream", L0, "two bytes, the second is wrong", |b| flip(&b.cut(2), 1, 0x20)),
    case("version-cut", "truncated", L0, "ends before the version", |b| b.cut(3)),
    case("version-0", "unsupported-version", L0, "version 0", |b| flip(&b.stream, 3, 1)),
    case("version-255", "unsupported-version", L0, "version 255", |b| flip(&b.stream, 3, 254)),
    case("version-alone", "unsupported-version", L0, "a wrong version and nothing after it", |b| flip(&b.cut(4), 3, 3)),
    case("flags-cut", "truncated", L0, "ends before the flags", |b| b.cut(FLAGS_AT)),
    case("id-cut", "truncated", L0, "ends within the model id", |b| b.cut(FLAGS_AT + 4)),
    case("width-cut", "truncated", L0, "ends before the width", |b| b.cut(WIDTH_AT)),
    case("width-cut-within", "truncated", L0, "ends within the varint of the width", |b| {
        [&b.cut(WIDTH_AT)[..], &[0x80]].concat()
    }),
    case("height-cut", "truncated", L0, "ends before the height", |b| b.cut(b.height_at())),
    case("quality-cut", "truncated", L0, "ends before the quality", |b| b.cut(b.quality_at())),
    case("symbol-checksum-cut", "truncated", L0, "ends within the symbol checksum", |b| b.cut(b.quality_at() + 3)),
    case("payload-checksum-cut", "truncated", L0, "ends within the payload checksum", |b| b.cut(b.quality_at() + 7)),
    case("payload-length-cut", "truncated", L0, "ends before the payload length", |b| b.cut(b.payload_len_at())),
    case("header-checksum-cut", "truncated", L0, "ends within the header checksum", |b| b.cut(b.header_len - 1)),
    case("width-varint", "non-canonical-varint", L0, "a width with a needless byte", |b| b.varint(WIDTH_AT, &[0x81, 0])),
    case("width-varint-zero", "non-canonical-varint", L0, "no width, in two bytes", |b| b.varint(WIDTH_AT, &[0x80, 0])),
    case("height-varint", "non-canonical-varint", L0, "a height with four needless bytes", |b| {
        b.varint(b.height_at(), &[0x81, 0x80, 0x80, 0x80, 0])
    }),
    case("length-varint", "non-canonical-varint", L0, "a payload length with a needless byte", |b| {
        b.varint(b.payload_len_at(), &[0x85, 0x81, 0])
    }),
    case("width-varint-long", "varint-too-long", L0, "five bytes of width, each says that more follow", |b| {
        b.varint(WIDTH_AT, &[0x81, 0x80, 0x80, 0x80, 0x80, 1])
    }),
    case(
        "width-varint-long-cut",
        "varint-too-long",
        L0,
        "the file ends after five bytes of width that say that more follow",
        |b| [&b.cut(WIDTH_AT)[..], &[0x80; 5]].concat(),
    ),
    case("height-varint-long", "varint-too-long", L0, "five bytes of height, each says that more follow", |b| {
        b.varint(b.height_at(), &[0xff, 0xff, 0xff, 0xff, 0xff, 1])
    }),
    case("length-varint-long", "varint-too-long", L0, "five bytes of length, each says that more follow", |b| {
        b.varint(b.payload_len_at(), &[0x80, 0x80, 0x80, 0x80, 0x80, 0])
    }),
    case(
        "varint-before-checksum",
        "non-canonical-varint",
        L0,
        "a needless byte and a wrong header checksum: the fields first",
        |b| {
            let mut stream = b.varint(WIDTH_AT, &[0x81, 0]);
            stream[FLAGS_AT] ^= 1;
            stream
        },
    ),
    case("header-flags", "header-checksum", L0, "one bit of the flags", |b| flip(&b.stream, FLAGS_AT, 0x10)),
    case("header-flags-reserved", "header-checksum", L0, "a reserved bit, but the checksum comes first", |b| {
        flip(&b.stream, FLAGS_AT, 0x80)
    }),
    case("header-id", "header-checksum", L0, "one bit of the model id", |b| flip(&b.stream, FLAGS_AT + 6, 0x40)),
    case("header-width", "header-checksum", L0, "one bit of the width", |b| flip(&b.stream, WIDTH_AT, 0x01)),
    case("header-height", "header-checksum", L0, "one bit of the height", |b| flip(&b.stream, b.height_at(), 0x02)),
    case("header-quality", "header-checksum", L0, "one bit of the quality", |b| flip(&b.stream, b.quality_at(), 0x80)),
    case("header-symbol-checksum", "header-checksum", L0, "one bit of the symbol checksum", |b| {
        flip(&b.stream, b.quality_at() + 4, 0x08)
    }),
    case("header-payload-checksum", "header-checksum", L0, "one bit of the payload checksum", |b| {
        flip(&b.stream, b.quality_at() + 5, 0x08)
    }),
    case("header-length", "header-checksum", L0, "one bit of the payload length", |b| flip(&b.stream, b.payload_len_at(), 0x01)),
    case("header-checksum-low", "header-checksum", L0, "its own low byte", |b| flip(&b.stream, b.header_len - 2, 0x01)),
    case("header-checksum-high", "header-checksum", L0, "its own high byte", |b| flip(&b.stream, b.header_len - 1, 0x80)),
    case("reserved-3", "reserved-bits", L0, "flag bit 3", |b| b.head(|head| head[FLAGS_AT] |= 0x08)),
    case("reserved-6", "reserved-bits", L0, "flag bit 6", |b| b.head(|head| head[FLAGS_AT] |= 0x40)),
    case("reserved-7", "reserved-bits", L0, "flag bit 7", |b| b.head(|head| head[FLAGS_AT] |= 0x80)),
    case("reserved-before-limits", "reserved-bits", L0, "a reserved bit, 2^7 lanes and no width: the bit first", |b| {
        let mut stream = b.head(|head| head[FLAGS_AT] |= 0x0f);
        stream = raw(&stream, b.header_len, |head| head[WIDTH_AT] = 0);
        stream
    }),
    case("reserved-before-length", "reserved-bits", L0, "a reserved bit and a payload of 2^28 bytes: the bit first", |b| {
        let stream = b.varint(b.payload_len_at(), &[0x80, 0x80, 0x80, 0x80, 1]);
        raw(&stream, b.header_len + 3, |head| head[FLAGS_AT] |= 8)
    }),
    case("checksum-before-lanes", "header-checksum", L0, "2^7 lanes and a wrong header checksum: the checksum first", |b| {
        flip(&b.head(|head| head[FLAGS_AT] |= 7), b.header_len - 1, 1)
    }),
    case("checksum-before-zero", "header-checksum", L0, "no width and a wrong header checksum: the checksum first", |b| {
        flip(&b.head(|head| head[WIDTH_AT] = 0), b.header_len - 1, 1)
    }),
    case("version-before-reserved", "unsupported-version", L0, "version 2 and a reserved bit: the version first", |b| {
        b.head(|head| (head[3], head[FLAGS_AT]) = (2, head[FLAGS_AT] | 8))
    }),
    case("length-limit", "limit", L0, "a payload of 2^28 bytes", |b| b.varint(b.payload_len_at(), &[0x80, 0x80, 0x80, 0x80, 1])),
    case("length-largest", "limit", L0, "a payload of 2^35 - 1 bytes", |b| {
        b.varint(b.payload_len_at(), &[0xff, 0xff, 0xff, 0xff, 0x7f])
    }),
    case("lanes-7", "limit", L0, "2^7 lanes", |b| b.head(|head| head[FLAGS_AT] |= 7)),
    case("lanes-before-width", "limit", L0, "2^7 lanes and no width: the lanes first", |b| {
        let stream = b.head(|head| head[FLAGS_AT] |= 7);
        raw(&stream, b.header_len, |head| head[WIDTH_AT] = 0)
    }),
    case("width-0", "zero", L0, "no width", |b| b.varint(WIDTH_AT, &[0])),
    case("height-0", "zero", L0, "no height", |b| b.varint(b.height_at(), &[0])),
    case("width-65536", "limit", L0, "a width of 65536", |b| b.varint(WIDTH_AT, &[0x80, 0x80, 4])),
    case("height-65536", "limit", L0, "a height of 65536", |b| b.varint(b.height_at(), &[0x80, 0x80, 4])),
    case("width-wraps", "limit", L0, "a width of 2^32 + 64, which 32 bits would take for 64", |b| {
        b.varint(WIDTH_AT, &[0xc0, 0x80, 0x80, 0x80, 0x10])
    }),
    case("height-wraps", "limit", L0, "a height of 2^32 + 64, which 32 bits would take for 64", |b| {
        b.varint(b.height_at(), &[0xc0, 0x80, 0x80, 0x80, 0x10])
    }),
    case("width-before-height", "zero", L0, "no width and a height of 65536: the width first", |b| {
        b.sides(&[0], &[0x80, 0x80, 4])
    }),
    case("wide-before-zero", "limit", L0, "a width of 65536 and no height: the width first", |b| b.sides(&[0x80, 0x80, 4], &[0])),
    case("pixels", "limit", L0, "16385 x 16384 pixels, one column more than 2^28", |b| {
        b.sides(&[0x81, 0x80, 1], &[0x80, 0x80, 1])
    }),
    case("length-before-zero", "limit", L0, "a payload of 2^28 bytes and no width: the payload first", |b| {
        let stream = b.varint(b.payload_len_at(), &[0x80, 0x80, 0x80, 0x80, 1]);
        raw(&stream, b.header_len + 3, |head| head[WIDTH_AT] = 0)
    }),
    case("height-wraps-before-zero", "limit", L0, "no width and a height of 2^32 + 64: what has no 32 bits comes first", |b| {
        b.sides(&[0], &[0xc0, 0x80, 0x80, 0x80, 0x10])
    }),
    case("height-2-32-before-zero", "limit", L0, "no width and a height of 2^32: what has no 32 bits comes first", |b| {
        b.sides(&[0], &[0x80, 0x80, 0x80, 0x80, 0x10])
    }),
    case("zero-before-height-32-bits", "zero", L0, "no width and a height of 2^32 - 1: the width first", |b| {
        b.sides(&[0], &[0xff, 0xff, 0xff, 0xff, 0xf])
    }),
    case("reserved-before-model", "reserved-bits", L0, "another model and a reserved bit: the bit first", |b| {
        b.of_another().head(|head| head[FLAGS_AT] |= 8)
    }),
    case("lanes-before-model", "limit", L0, "another model and 2^7 lanes: the lanes first", |b| {
        b.of_another().head(|head| head[FLAGS_AT] |= 7)
    }),
    case("zero-before-quality", "zero", L0, "a quality of 201 and no width: the width first", |b| {
        let stream = b.sound(Header { quality: 201, ..b.header }, b.payload());
        raw(&stream, b.header_len, |head| head[WIDTH_AT] = 0)
    }),
    case("zero-before-model", "zero", L0, "another model and no width: the width first", |b| {
        b.of_another().varint(WIDTH_AT, &[0])
    }),
    case("pixels-largest", "limit", L0, "65535 x 65535 pixels, whose product has 32 bits", |b| {
        b.sides(&[0xff, 0xff, 3], &[0xff, 0xff, 3])
    }),
    case("payload-first-bit", "payload-checksum", L0, "the first bit of the payload", |b| flip(&b.stream, b.header_len, 1)),
    case("payload-last-bit", "payload-checksum", L0, "the last bit of the payload", |b| {
        flip(&b.stream, b.stream.len() - 1, 0x80)
    }),
    case("payload-before-tail", "payload-checksum", L0, "a bit of the payload and a byte too many: the payload first", |b| {
        [&flip(&b.stream, b.header_len, 1)[..], &[0]].concat()
    }),
    case("trailing", "trailing-bytes", L0, "a byte after the payload", |b| [&b.stream[..], &[0]].concat()),
    case("trailing-sections", "trailing-bytes", L0, "a byte after the sections", |b| b.section(|tail| tail.push(0))),
    case("sections-0", "zero", L0, "sections, but none", |b| b.section(|tail| *tail = vec![0])),
    case("sections-17", "limit", L0, "17 sections", |b| b.section(|tail| tail[0] = 17)),
    case("sections-17-cut", "limit", L0, "the file ends after the number of sections, 17", |b| {
        b.section(|tail| *tail = vec![17])
    }),
    case("section-length", "limit", L0, "a section of one byte more than there may be", |b| {
        let len = MAX_SECTION_LEN as u32 + 1;
        let varint = [len | 0x80, (len >> 7) | 0x80, (len >> 14) | 0x80, len >> 21].map(|v| v as u8);
        b.section(|tail| drop(tail.splice(2..3, varint)))
    }),
    case("section-length-2-28", "limit", L0, "a section of 2^28 bytes", |b| {
        b.section(|tail| drop(tail.splice(2..3, [0x80, 0x80, 0x80, 0x80, 1])))
    }),
    case("section-length-cut", "limit", L0, "the file ends after a section length of one more than there may be", |b| {
        b.section(|tail| drop(tail.splice(2.., varint(MAX_SECTION_LEN as u32 + 1))))
    }),
    case("section-varint", "non-canonical-varint", L0, "a section length with a needless byte", |b| {
        b.section(|tail| drop(tail.splice(2..3, [0x88, 0])))
    }),
    case("section-varint-long", "varint-too-long", L0, "five bytes of section length, each says that more follow", |b| {
        b.section(|tail| drop(tail.splice(2..3, [0x88, 0x80, 0x80, 0x80, 0x80, 0])))
    }),
    case("section-kind", "section-checksum", L0, "one bit of a section's kind", |b| b.section(|tail| tail[1] ^= 4)),
    case("section-checksum", "section-checksum", L0, "one bit of a section's checksum", |b| b.section(|tail| tail[5] ^= 1)),
    case("section-contents", "section-checksum", L0, "one bit of a section's contents", |b| b.section(|tail| tail[9] ^= 1)),
    case("section-short", "section-checksum", L0, "a section length that is one too small", |b| b.section(|tail| tail[2] -= 1)),
    case(
        "section-checksum-before-varint",
        "section-checksum",
        L0,
        "a wrong section checksum, then a length with a needless byte",
        |b| b.two_sections(|second| drop(second.splice(1..2, [0x88, 0]))),
    ),
    case(
        "section-checksum-before-cut",
        "section-checksum",
        L0,
        "a wrong section checksum, then the file ends within a section",
        |b| b.two_sections(|second| second.truncate(9)),
    ),
    case(
        "section-checksum-before-trailing",
        "section-checksum",
        L0,
        "a wrong section checksum, then a byte after the sections",
        |b| b.two_sections(|second| second.push(0)),
    ),
    case("wrong-model", "wrong-model", L1, "one bit of the model id, with a right header checksum", |b| {
        let id = ModelId({
            let mut id = b.header.model_id.0;
            id[5] ^= 1;
            id
        });
        b.sound(Header { model_id: id, ..b.header }, b.payload())
    }),
    case("quality-201", "quality", L1, "one more than the largest quality", |b| {
        b.sound(Header { quality: 201, ..b.header }, b.payload())
    }),
    case("quality-255", "quality", L1, "the largest byte as quality", |b| {
        b.sound(Header { quality: 255, ..b.header }, b.payload())
    }),
    case("model-before-quality", "wrong-model", L1, "another model and a quality of 255: the model first", |b| {
        b.sound(Header { model_id: ModelId([0; 6]), quality: 255, ..b.header }, b.payload())
    }),
    case("model-before-payload", "wrong-model", L1, "another model and a bit of the payload: the model first", |b| {
        let stream = b.of_another().stream;
        flip(&stream, stream.len() - 1, 0x80)
    }),
    case("quality-before-payload", "quality", L1, "a quality of 201 and a bit of the payload: the quality first", |b| {
        let stream = b.sound(Header { quality: 201, ..b.header }, b.payload());
        flip(&stream, stream.len() - 1, 0x80)
    }),
    case("model-before-sections", "wrong-model", L1, "another model and 17 sections: the model first", |b| {
        let mut stream = with_flag(&b.of_another().stream);
        stream.push(17);
        stream
    }),
    case("quality-before-trailing", "quality", L1, "a quality of 201 and a byte after the payload: the quality first", |b| {
        [&b.sound(Header { quality: 201, ..b.header }, b.payload())[..], &[0]].concat()
    }),
    case("width-65535", "wrong-model", L1, "the largest width, which a header may have; of another model", |b| {
        b.of_another().varint(WIDTH_AT, &[0xff, 0xff, 3])
    }),
    case("height-65535", "wrong-model", L1, "the largest height, which a header may have; of another model", |b| {
        b.of_another().varint(b.height_at(), &[0xff, 0xff, 3])
    }),
    case("pixels-2-28", "wrong-model", L1, "16384 x 16384 pixels, as many as a header may have; of another model", |b| {
        b.of_another().sides(&[0x80, 0x80, 1], &[0x80, 0x80, 1])
    }),
    case("pixels-2-28-narrow", "wrong-model", L1, "4097 x 65519 pixels, fewer than 2^28; of another model", |b| {
        b.of_another().sides(&[0x81, 0x20], &[0xef, 0xff, 3])
    }),
    case("length-2-28", "wrong-model", L1, "a payload of 2^28 - 1 bytes, which a header may have; of another model", |b| {
        b.of_another().varint(b.payload_len_at(), &[0xff, 0xff, 0xff, 0x7f])
    }),
    case("desync", "desync", L1, "one bit of the symbol checksum", |b| {
        b.sound(Header { symbol_checksum: b.header.symbol_checksum ^ 1, ..b.header }, b.payload())
    }),
    case("desync-before-seal", "desync", L1, "a wrong symbol checksum and a wrong last state: the checksum first", |b| {
        let all = b.intervals(usize::MAX);
        let header = Header { symbol_checksum: !b.header.symbol_checksum, ..b.header };
        b.sound(header, &encode(&all, header.lanes_log2, |_| SEALED + 1))
    }),
    case("no-payload", "rans-exhausted", L1, "a payload of no bytes, with a right checksum", |b| b.sound(b.header, &[])),
    case("states-cut", "rans-exhausted", L1, "a payload that ends within the initial states", |b| {
        b.sound(b.header, &b.payload()[..b.lane_bytes() - 1])
    }),
    case("states-only", "rans-exhausted", L1, "a payload of initial states alone", |b| {
        b.sound(b.header, &b.payload()[..b.lane_bytes()])
    }),
    case("word-missing", "rans-exhausted", L1, "the last word is missing", |b| {
        b.sound(b.header, &b.payload()[..b.payload().len() - 2])
    }),
    case("half-word-missing", "rans-exhausted", L1, "the last byte is missing: half a word is none", |b| {
        b.sound(b.header, &b.payload()[..b.payload().len() - 1])
    }),
    case("state-first", "rans-bad-state", L1, "the first lane begins at 2^32 - 1", |b| {
        let rest = &b.payload()[6..];
        b.sound(b.header, &[&[0xff, 0xff, 0xff, 0xff, 0, 0], rest].concat())
    }),
    case("state-last", "rans-bad-state", L1, "the last lane begins at 0", |b| b.last_lane_at_0(b.payload())),
    case(
        "states-cut-before-state",
        "rans-exhausted",
        L1,
        "a payload that ends within the initial states, of which the first is 0",
        |b| b.sound(b.header, &[&[0; 6], &b.payload()[6..b.lane_bytes() - 1]].concat()),
    ),
    case(
        "state-before-escape",
        "rans-bad-state",
        L1,
        "the last lane begins at 0, and 17 bits behind the first escape of z",
        |b| {
            let stream = b.escape_len(0, 17);
            b.last_lane_at_0(&stream[header_len(&stream)..])
        },
    ),
    case("escape-17-z", "rans-bad-escape", L1, "17 bits behind the first escape of z", |b| b.escape_len(0, 17)),
    case("escape-31-z", "rans-bad-escape", L1, "31 bits behind a later escape of z", |b| b.escape_len(b.z_count - 1, 31)),
    case("escape-17-y", "rans-bad-escape", L1, "17 bits behind the first escape of y", |b| b.escape_len(b.z_count, 17)),
    case("escape-31-y", "rans-bad-escape", L1, "31 bits behind the last escape of y", |b| b.escape_len(b.script.len() - 1, 31)),
    case("range-above-z", "rans-symbol-range", L1, "the largest number above the first table of z", |b| {
        b.escape_number(0, (1 << 17) - 1)
    }),
    case("range-below-z", "rans-symbol-range", L1, "the largest number below the first table of z", |b| {
        b.escape_number(0, (1 << 17) - 2)
    }),
    case("range-above-y", "rans-symbol-range", L1, "the largest number above the first table of y", |b| {
        b.escape_number(b.z_count, (1 << 17) - 1)
    }),
    case("range-below-y", "rans-symbol-range", L1, "the largest number below the first table of y", |b| {
        b.escape_number(b.z_count, (1 << 17) - 2)
    }),
    case("symbol-32768-z", "rans-symbol-range", L1, "a symbol of z of 32768", |b| b.escape_symbol(0, 32_768)),
    case("symbol-low-z", "rans-symbol-range", L1, "a symbol of z of -32768", |b| b.escape_symbol(0, -32_768)),
    case("symbol-32768-y", "rans-symbol-range", L1, "a symbol of y of 32768", |b| b.escape_symbol(b.z_count, 32_768)),
    case("symbol-low-y", "rans-symbol-range", L1, "a symbol of y of -32768", |b| b.escape_symbol(b.z_count, -32_768)),
    case("seal-first", "rans-not-sealed", L1, "every lane ends in 2^32 + 1", Base::unsealed),
    case("seal-lane", "rans-not-sealed", L1, "one lane of several ends in 2^32 + 1", |b| {
        b.ends_in(|lane| SEALED + (lane as u64 & 1))
    }),
    case("seal-state", "rans-not-sealed", L1, "every lane ends in 2^48 - 1", |b| b.ends_in(|_| (1 << 48) - 1)),
    case("seal-before-unread", "rans-not-sealed", L1, "a wrong last state and a word too many: the state first", |b| {
        b.unsealed_with(&[1, 2])
    }),
    case(
        "seal-before-much-unread",
        "rans-not-sealed",
        L1,
        "a wrong last state and more words too many than there are lanes",
        |b| b.unsealed_with(&vec![1; 2 * b.lane_bytes()]),
    ),
    case(
        "seal-word-missing",
        "rans-exhausted",
        L1,
        "the payload lacks the word of the seal and states its length without it",
        |b| {
            let stream = b.without_seal(|checksum| checksum);
            let Ok(parsed) = container::parse(&stream) else { return Vec::new() };
            b.sound(parsed.header, &stream[parsed.header_len..])
        },
    )
    .of(SINGLE_SLOT),
    case("byte-unread", "rans-unread", L1, "a byte more in the payload: half a word", |b| {
        b.sound(b.header, &[b.payload(), &[0]].concat())
    }),
    case("word-unread", "rans-unread", L1, "a word more in the payload", |b| b.sound(b.header, &[b.payload(), &[0, 0]].concat())),
    case("cut-after-header", "no-picture", L1, "the file ends with the header", |b| b.cut(b.header_len)),
    case("cut-in-states", "no-picture", L1, "the file ends within the initial states", |b| {
        b.cut(b.header_len + b.lane_bytes() - 3)
    }),
    case("cut-after-states", "no-picture", L1, "the file ends with the initial states", |b| b.cut(b.header_len + b.lane_bytes())),
    case("cut-bad-state", "rans-bad-state", L1, "the file is cut and an initial state is 0: no truncation", |b| {
        let mut stream = b.cut(b.stream.len() - 4);
        stream[b.header_len..b.header_len + 6].fill(0);
        stream
    }),
    case("cut-bad-escape", "rans-bad-escape", L1, "the file is cut after an escape of 17 bits: no truncation", |b| {
        cut(&b.escape_len(0, 17))
    }),
    case("cut-bad-escape-y", "rans-bad-escape", L1, "the file is cut after an escape of 17 bits in the first pass", |b| {
        cut(&b.escape_len(b.z_count, 17))
    }),
    case("cut-bad-escape-last", "rans-bad-escape", L1, "the file is cut after an escape of 17 bits in the last pass", |b| {
        cut(&b.escape_len(b.script.len() - 1, 17))
    }),
    case("cut-range-z", "rans-symbol-range", L1, "the file is cut after a symbol of z of 32768", |b| {
        cut(&b.escape_symbol(0, 32_768))
    }),
    case("cut-range-y", "rans-symbol-range", L1, "the file is cut after a symbol of y of -32768", |b| {
        cut(&b.escape_symbol(b.z_count, -32_768))
    }),
    case(
        "cut-desync",
        "desync",
        L1,
        "cut after all that its symbols need, and the symbol checksum is wrong: every pass is whole",
        |b| {
            let header = Header { symbol_checksum: !b.header.symbol_checksum, ..b.header };
            let whole = b.sound(header, &[b.payload(), &[0, 0]].concat());
            whole[..whole.len() - 2].to_vec()
        },
    ),
    case("cut-seal-desync", "desync", L1, "only the seal's word is cut off, and the symbol checksum is wrong", |b| {
        b.without_seal(|checksum| !checksum)
    })
    .of(SINGLE_SLOT),
    decodes("cut-seal", "only the seal's word is cut off: every pass is whole", |b| b.without_seal(|checksum| checksum))
        .of(SINGLE_SLOT),
    decodes(
        "cut-seal-wrong",
        "the payload is cut, all passes are whole, and the last states are no seal: it is not tested",
        |b| cut(&b.unsealed()),
    ),
    decodes(
        "cut-byte-unread",
        "the payload is cut, and a byte of it is left after the last symbol: the seal is not tested",
        |b| cut(&b.sound(b.header, &[b.payload(), &[0]].concat())),
    ),
    decodes(
        "sections-missing",
        "sections follow, and the file ends with the payload: truncated, with nothing missing of the picture",
        |b| with_flag(&b.stream),
    ),
    decodes("section-2-24", "the file ends within a section of 2^24 bytes, as many as one may have", |b| {
        b.section(|tail| drop(tail.splice(2..3, varint(MAX_SECTION_LEN as u32))))
    }),
    case(
        "sections-missing-seal",
        "rans-not-sealed",
        L1,
        "the file ends where sections should follow: the seal is tested all the same",
        |b| with_flag(&b.unsealed()),
    ),
    case(
        "sections-missing-unread",
        "rans-unread",
        L1,
        "the file ends where sections should follow, and the payload has a word more",
        |b| with_flag(&b.sound(b.header, &[b.payload(), &[0, 0]].concat())),
    ),
    case(
        "sections-missing-desync",
        "desync",
        L1,
        "the file ends where sections should follow, and the symbol checksum is wrong",
        |b| with_flag(&b.sound(Header { symbol_checksum: !b.header.symbol_checksum, ..b.header }, b.payload())),
    ),
    case(
        "sections-missing-exhausted",
        "rans-exhausted",
        L1,
        "the file ends where sections should follow, and the last word of the payload is missing: no truncation",
        |b| with_flag(&b.sound(b.header, &b.payload()[..b.payload().len() - 2])),
    ),
    case(
        "sections-missing-payload",
        "payload-checksum",
        L0,
        "the file ends where sections should follow, and a bit of the payload is wrong",
        |b| {
            let stream = with_flag(&b.stream);
            flip(&stream, stream.len() - 1, 0x80)
        },
    ),
];
