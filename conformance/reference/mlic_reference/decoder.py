"""Decoding: the order of SPEC 5.1, symbols of 5.4, truncated streams of 5.5."""

from dataclasses import dataclass, field

import numpy as np

from . import container, rans, synthesis
from .checkerboard import ANCHOR, NON_ANCHOR
from .digest import digest, symbol_checksum
from .entropy import EntropyNetworks
from .errors import Refusal

PADDING = 64
HALVES = (ANCHOR, NON_ANCHOR)


@dataclass
class Pass:
    """One pass: maps [row, packed column, channel of the slice]. A refusal may leave `symbols` absent."""

    slice_index: int
    half: str
    means: np.ndarray
    scale_indices: np.ndarray
    symbols: np.ndarray = None

    def digests(self):
        return {
            "slice": self.slice_index,
            "parity": self.half,
            "means": digest(self.means, "<i4"),
            "scale_indices": digest(self.scale_indices, "u1"),
            "symbols": None if self.symbols is None else digest(self.symbols, "<i4"),
        }


@dataclass
class Decoding:
    """What a stream determines. `whole_slices` is None unless the stream is truncated; if it is
    refused, `refusal` is set, and what comes later in the walk is absent."""

    stream: container.Stream = None
    z: np.ndarray = None
    passes: list = field(default_factory=list)
    y_hat: np.ndarray = None
    pixels: np.ndarray = None
    """[height, width, 3 or 1], if the package has an exact synthesis."""
    whole_slices: int = None
    refusal: Refusal = None

    def digests(self):
        """Digests of SPEC 7 by name; None for what is absent."""
        return {
            "z": None if self.z is None else digest(self.z, "<i4"),
            "passes": [p.digests() for p in self.passes],
            "y_hat": None if self.y_hat is None else digest(self.y_hat, "<i4"),
            "pixels": None if self.pixels is None else digest(self.pixels, "u1"),
            "whole_slices": self.whole_slices,
        }


def decode(data, model):
    """Decodes a stream, bytes, with a package.Model. A refusal is in the result, with what was decoded before it."""
    decoding = Decoding()
    try:
        _decode(data, model, decoding)
    except Refusal as refusal:
        decoding.refusal = refusal
    return decoding


def _decode(data, model, decoding):
    """SPEC 5.1."""
    stream = decoding.stream = container.parse(data)
    header, config = stream.header, model.configuration
    if header.model != model.id:
        raise Refusal("wrong-model", f"stream of model {header.model}, package {model.id}")
    if header.quality > config.quality_steps:
        raise Refusal("quality", f"quality {header.quality} of {config.quality_steps}")
    if stream.damage is not None and not stream.is_truncated:
        raise stream.damage
    source = _SymbolSource(stream)
    decoding.z = _z_symbols(source, header, model)
    networks = EntropyNetworks(model, header.quality)
    networks.begin(decoding.z)
    for i in range(config.slices):
        for half in HALVES:
            means, scale_indices = networks.parameters(i, half)
            this = Pass(i, half, means, scale_indices)
            decoding.passes.append(this)
            this.symbols = source.pass_symbols(scale_indices, model.y_tables, config.skip_below)
            networks.commit(i, half, this.symbols)
    _check_end(source, decoding)
    if stream.is_truncated:
        decoding.whole_slices = source.whole_passes // len(HALVES)
    decoding.y_hat = np.concatenate(networks.y_hat, axis=2)
    if model.synthesis is not None:
        decoding.pixels = synthesis.picture(synthesis.samples(decoding.y_hat, model, header.quality), header)


def _z_symbols(source, header, model):
    """Symbols of z [row, column, channel], each with the table of its channel."""
    rows, columns = -(-header.height // PADDING), -(-header.width // PADDING)
    tables = model.z_tables
    return np.array(source.z_symbols(tables, rows * columns), np.int64).reshape(rows, columns, len(tables))


def _check_end(source, decoding):
    """SPEC 5.1 step 5, with the exceptions of 5.5."""
    if source.discarding:
        return
    expected = decoding.stream.header.symbol_checksum
    computed = symbol_checksum([decoding.z, *(p.symbols for p in decoding.passes)])
    if computed != expected:
        raise Refusal("desync", f"symbols have checksum {computed:#010x}, the header says {expected:#010x}")
    if not decoding.stream.payload_is_cut:
        source.coder.seal()


class _SymbolSource:
    """Symbols in coding order, as far as the payload determines them (SPEC 5.4, 5.5)."""

    def __init__(self, stream):
        self.is_cut = stream.payload_is_cut
        self.discarding = False
        self.whole_passes = 0
        try:
            self.coder = rans.Decoder(stream.payload, stream.header.lanes_log2)
        except Refusal as refusal:
            self._raise_unless_cut(refusal)
            raise _no_picture() from refusal

    def z_symbols(self, tables, positions):
        try:
            return [self.coder.symbol(table) for _ in range(positions) for table in tables]
        except Refusal as refusal:
            self._raise_unless_cut(refusal)
            raise _no_picture() from refusal

    def pass_symbols(self, scale_indices, tables, skip_below):
        """Symbols of a pass; all are 0 in the first pass that is not whole and in every later one."""
        symbols = np.zeros(scale_indices.shape, np.int64)
        if self.discarding:
            return symbols
        try:
            decoded = [self.coder.symbol(tables[index]) if index >= skip_below else 0
                       for index in scale_indices.ravel().tolist()]
        except Refusal as refusal:
            self._raise_unless_cut(refusal)
            self.discarding = True
            return symbols
        self.whole_passes += 1
        symbols.flat = decoded
        return symbols

    def _raise_unless_cut(self, refusal):
        """Running out of words is no error where the payload is cut off; everything else always is."""
        if not (self.is_cut and refusal.code == "rans-exhausted"):
            raise refusal


def _no_picture():
    return Refusal("no-picture", "the stream ends before all of z is determined")
