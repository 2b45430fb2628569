"""Header, payload and sections of a stream (SPEC 6.1, 6.2)."""

import zlib
from dataclasses import dataclass

from .errors import Refusal

MAGIC = bytes([0xD1, 0x4D, 0x4C])
VERSION = 1
FLAG_LANES = 0b0000_0111
FLAG_GRAY = 0b0001_0000
FLAG_SECTIONS = 0b0010_0000
FLAG_RESERVED = 0b1100_1000

SIDE_MAX = 65535
PIXELS_MAX = 2**28
LANES_LOG2_MAX = 6
PAYLOAD_END = 2**28
VARINT_BYTES_MAX = 5
SECTIONS_MAX = 16
SECTION_BYTES_MAX = 2**24


@dataclass(frozen=True)
class Header:
    model: str
    width: int
    height: int
    quality: int
    gray: bool
    lanes_log2: int
    symbol_checksum: int
    payload_checksum: int
    payload_bytes: int
    has_sections: bool


@dataclass(frozen=True)
class Stream:
    """A parsed stream. `sections` has (kind, contents) of each whole section, in order; `payload` is as much of the payload
    as the file has; `damage` is the first damage of SPEC 6.1, a Refusal, or None."""

    header: Header
    payload: bytes
    sections: tuple
    damage: Refusal

    @property
    def is_truncated(self):
        return self.damage is not None and self.damage.code == "truncated"

    @property
    def payload_is_cut(self):
        return len(self.payload) < self.header.payload_bytes


class _Reader:
    def __init__(self, data, offset=0):
        self.data, self.offset = data, offset

    def take(self, count):
        part = self.data[self.offset:self.offset + count]
        if len(part) < count:
            raise Refusal("truncated", f"file ends at {len(self.data)}, within a field at {self.offset}")
        self.offset += count
        return part

    def number(self, count):
        return int.from_bytes(self.take(count), "little")

    def varint(self):
        value = 0
        for index in range(VARINT_BYTES_MAX):
            byte = self.number(1)
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte == 0 and index > 0:
                    raise Refusal("non-canonical-varint", "varint is not in its shortest form")
                return value
        raise Refusal("varint-too-long", f"varint of more than {VARINT_BYTES_MAX} bytes")


def parse(data):
    """Reads a stream from bytes. Raises Refusal for a bad header; other damage is in the result."""
    header, offset = _header(data)
    payload = data[offset:offset + header.payload_bytes]
    sections = []
    try:
        _after_header(data, offset, header, payload, sections)
        damage = None
    except Refusal as refusal:
        damage = refusal
    return Stream(header, payload, tuple(sections), damage)


def _header(data):
    """SPEC 6.1: the header and its length, in the order of checks given there."""
    reader = _Reader(data)
    there = data[:len(MAGIC)]
    if there != MAGIC[:len(there)]:
        raise Refusal("not-a-stream", "magic")
    reader.take(len(MAGIC))
    version = reader.number(1)
    if version != VERSION:
        raise Refusal("unsupported-version", f"version {version}")
    flags = reader.number(1)
    model = reader.take(6).hex()
    width, height = reader.varint(), reader.varint()
    quality = reader.number(1)
    symbol_checksum, payload_checksum = reader.number(4), reader.number(4)
    payload_bytes = reader.varint()
    computed = zlib.crc32(data[:reader.offset]) & 0xFFFF
    if reader.number(2) != computed:
        raise Refusal("header-checksum", "header checksum")
    lanes_log2 = flags & FLAG_LANES
    _check(flags & FLAG_RESERVED == 0, "reserved-bits", f"flags {flags:#04x}")
    _check(payload_bytes < PAYLOAD_END, "limit", f"payload of {payload_bytes} bytes")
    _check(max(width, height) < 2**32, "limit", f"{width} x {height}")
    _check(lanes_log2 <= LANES_LOG2_MAX, "limit", f"2^{lanes_log2} lanes")
    for side, value in (("width", width), ("height", height)):
        _check(value <= SIDE_MAX, "limit", f"{side} {value}")
        _check(value > 0, "zero", side)
    _check(width * height <= PIXELS_MAX, "limit", f"{width} x {height} pixels")
    header = Header(model, width, height, quality, flags & FLAG_GRAY != 0, lanes_log2, symbol_checksum,
                    payload_checksum, payload_bytes, flags & FLAG_SECTIONS != 0)
    return header, reader.offset


def _after_header(data, offset, header, payload, sections):
    """SPEC 6.1, 6.2: payload and sections; appends the sections that are whole, raises the first damage."""
    reader = _Reader(data, offset)
    reader.take(header.payload_bytes)
    _check(zlib.crc32(payload) == header.payload_checksum, "payload-checksum", "payload checksum")
    if header.has_sections:
        count = reader.number(1)
        _check(count <= SECTIONS_MAX, "limit", f"{count} sections")
        _check(count > 0, "zero", "number of sections")
        for _ in range(count):
            sections.append(_section(reader))
    _check(reader.offset == len(data), "trailing-bytes", f"{len(data) - reader.offset} bytes after the stream")


def _section(reader):
    start = reader.offset
    kind = reader.number(1)
    size = reader.varint()
    _check(size <= SECTION_BYTES_MAX, "limit", f"section of {size} bytes")
    head = reader.data[start:reader.offset]
    checksum = reader.number(4)
    contents = reader.take(size)
    _check(zlib.crc32(head + contents) == checksum, "section-checksum", f"section of kind {kind}")
    return kind, contents


def _check(condition, code, message):
    if not condition:
        raise Refusal(code, message)
