"""Numbers of layers and quantizers as sections store them (SPEC 2.5, 2.9)."""

from dataclasses import dataclass, field

import numpy as np

from . import layout
from .errors import refuse_unless

SHIFT_MAX = 62
MAX_MAX = 32767


@dataclass
class LayerLevel:
    """Parameters of a layer at one level. `output` is the requant after GELU, or None; `multipliers` has int64[outputs] per
    term, and `bias` is int64[outputs]."""

    shift: int
    output: tuple
    multipliers: list
    bias: np.ndarray


@dataclass
class LayerParameters:
    """`weights` has, per term, i8 of Layer.weight_shape, or None."""

    layer: layout.Layer
    max: int
    levels: list
    weights: list = field(default_factory=list)


@dataclass
class QuantizerParameters:
    max: int
    levels: list


class Cursor:
    """Reads little-endian numbers one after the other, each within a range."""

    def __init__(self, data, section="parameters"):
        self.data, self.offset, self.section = data, 0, section

    def array(self, kind, shape, low=None, high=None, what="value"):
        """int64 array of a shape, from fields of a numpy type such as "<i4"."""
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=object))
        refuse_unless(self.offset + count * dtype.itemsize <= len(self.data), f"{self.section} ends early")
        values = np.frombuffer(self.data, dtype, count, self.offset).astype(np.int64).reshape(shape)
        self.offset += count * dtype.itemsize
        refuse_unless(low is None or not count or values.min() >= low, f"{what} too small")
        refuse_unless(high is None or not count or values.max() <= high, f"{what} too large")
        return values

    def number(self, kind, low, high, what):
        return int(self.array(kind, (), low, high, what))

    def max(self):
        return self.number("<i4", 1, MAX_MAX, "max")

    def shift(self):
        return self.number("u1", 0, SHIFT_MAX, "shift")

    def requant(self):
        multiplier = self.number("<i4", 0, None, "multiplier")
        return multiplier, self.shift()


def layer_parameters(cursor, layer, levels):
    """A layer of SPEC 2.5, without its weights."""
    largest = cursor.max()
    return LayerParameters(layer, largest, [layer_level(cursor, layer) for _ in levels])


def layer_level(cursor, layer):
    shift = cursor.shift()
    output = cursor.requant() if layer.epilogue == "gelu" else None
    multipliers = [cursor.array("<i4", layer.outputs, 0, None, "multiplier") for _ in layer.terms]
    return LayerLevel(shift, output, multipliers, cursor.array("<i8", layer.outputs))
