"""Digests (SPEC 7) and the symbol checksum (SPEC 6.4)."""

import hashlib
import zlib

import numpy as np

DIGEST_BYTES = 16


def digest(values, kind):
    """Digest of a map, whose elements are taken in map order as "<i4" or "u1" (`kind`)."""
    return hashlib.sha256(_fields(values, kind)).digest()[:DIGEST_BYTES].hex()


def symbol_checksum(maps):
    """CRC-32 of the symbols of z and of every pass, in their order."""
    crc = 0
    for symbols in maps:
        crc = zlib.crc32(_fields(symbols, "<i2"), crc)
    return crc


def _fields(values, kind):
    fields = np.ascontiguousarray(values).astype(kind)
    if not np.array_equal(fields, values):
        raise ArithmeticError(f"value does not fit {kind}")
    return fields.tobytes()
