"""The tiny package, loaded once, and packages made of altered sections."""

import hashlib
import struct
import zlib
from functools import cache
from pathlib import Path

from mlic_reference import package

CONFORMANCE = Path(__file__).resolve().parents[2]
TINY = CONFORMANCE / "models" / "tiny.mlicpkg"


@cache
def tiny():
    return package.load(TINY.read_bytes())


def sections():
    """Contents of the sections of the tiny package, in the order of their kinds."""
    data = TINY.read_bytes()
    count = struct.unpack_from("<I", data, 12)[0]
    entries = struct.iter_unpack("<IIQQ", data[64:64 + 24 * count])
    return [data[offset:offset + length] for _, _, offset, length in entries]


def assemble(contents):
    """A package of these sections with good checksums (SPEC 2.1, 2.3)."""
    directory, body, end, normative = b"", b"", 64 + 24 * len(contents), b""
    for kind, section in enumerate(contents, start=1):
        offset = max(256, -(-end // 64) * 64)
        body += bytes(offset - end) + section
        directory += struct.pack("<IIQQ", kind, zlib.crc32(section), offset, len(section))
        normative += struct.pack("<IQ", kind, len(section)) + section if kind in package.NORMATIVE else b""
        end = offset + len(section)
    head = b"MLICPKG\0" + struct.pack("<IIQ", 1, len(contents), end) + hashlib.sha256(normative).digest()
    head += struct.pack("<I", zlib.crc32(directory))
    return head + struct.pack("<I", zlib.crc32(head)) + directory + body
