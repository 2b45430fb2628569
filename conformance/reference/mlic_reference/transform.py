"""The structure of a transform section (SPEC 5.6). It is checked, not computed: float pixels are no part of this decoder."""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .errors import PackageRefusal

MAGIC = b"MLGR"
VERSION = 1
NODES_MAX = 4096
CHANNELS_MAX = 65536
KERNEL_MAX = 31
FACTOR_MAX = 1024
INPUT, CONVOLUTION, NORMALIZATION, GELU, SHUFFLE, SUM = range(6)
OPERANDS = {INPUT: 0, CONVOLUTION: 1, NORMALIZATION: 1, GELU: 1, SHUFFLE: 1, SUM: 2}
NUMBERS = {INPUT: 0, CONVOLUTION: 5, NORMALIZATION: 2, GELU: 0, SHUFFLE: 1, SUM: 0}
TENSOR_TYPES = {0: "<f4", 1: "<f2"}


@dataclass(frozen=True)
class Value:
    """Channels of a node's value and its size relative to the input."""

    channels: int
    scale: Fraction


def check(section, inputs, outputs, scale):
    """Refuses a section that is not a transform of these channels, to `scale` times the size."""
    result = _Graph(section).read(inputs)
    _rule(result == Value(outputs, scale), f"output of {result.channels} channels at {result.scale} times the size")


def _rule(condition, what):
    if not condition:
        raise PackageRefusal(f"transform: {what}")


def _within(value, limit, what):
    _rule(1 <= value <= limit, f"{what} {value}")


class _Graph:
    def __init__(self, section):
        self.section, self.offset = section, 0
        self.values = []

    def read(self, inputs):
        """The value of the output node."""
        _rule(self._take(len(MAGIC)) == MAGIC, "magic")
        version, channels, count, output = self._numbers(4)
        _rule(version == VERSION, f"version {version}")
        _rule(channels == inputs, f"{channels} input channels")
        _within(count, NODES_MAX, "number of nodes")
        _rule(output < count, f"output node {output}")
        for _ in range(count):
            value = self._node(channels)
            _rule(max(value.scale.as_integer_ratio()) <= FACTOR_MAX, f"size {value.scale}")
            self.values.append(value)
            stride = math.lcm(*(known.scale.denominator for known in self.values))
            _rule(stride <= FACTOR_MAX, f"common stride {stride}")
        _rule(self.offset == len(self.section), "bytes after the last node")
        return self.values[output]

    def _node(self, input_channels):
        opcode = self._take(1)[0]
        _rule(opcode in OPERANDS, f"opcode {opcode}")
        _rule((opcode == INPUT) == (not self.values), "node 0 is the input and no other is")
        operands = self._numbers(OPERANDS[opcode])
        _rule(all(operand < len(self.values) for operand in operands), "operand that is no earlier node")
        operands = [self.values[operand] for operand in operands]
        numbers = self._numbers(NUMBERS[opcode])
        if opcode == INPUT:
            return Value(input_channels, Fraction(1))
        if opcode == CONVOLUTION:
            return self._convolution(*operands, *numbers)
        if opcode == NORMALIZATION:
            return self._normalization(*operands, *numbers)
        if opcode == SHUFFLE:
            return self._shuffle(*operands, *numbers)
        _rule(all(operand == operands[0] for operand in operands), "sum of different shapes")
        return operands[0]

    def _convolution(self, x, inputs, outputs, kernel, stride, groups):
        _within(outputs, CHANNELS_MAX, "output channels")
        _rule(inputs == x.channels, "input channels of a convolution")
        _within(kernel, KERNEL_MAX, "kernel")
        _rule(kernel % 2 == 1, "even kernel")
        _within(stride, FACTOR_MAX, "stride")
        _within(groups, inputs, "groups")
        _rule(inputs % groups == 0 and outputs % groups == 0, "groups do not divide the channels")
        for count in (outputs * (inputs // groups) * kernel**2, outputs):
            _rule(np.isfinite(self._tensor(count)).all(), "weight that is not finite")
        return Value(outputs, x.scale / stride)

    def _normalization(self, x, channels, inverse):
        _rule(channels == x.channels, "channels of a normalization")
        _rule(inverse in (0, 1), "inverse")
        gamma, beta = self._tensor(channels**2), self._tensor(channels)
        _rule((np.isfinite(gamma) & (gamma >= 0)).all(), "gamma")
        _rule((np.isfinite(beta) & (beta > 0)).all(), "beta")
        return x

    @staticmethod
    def _shuffle(x, factor):
        _within(factor, FACTOR_MAX, "factor of a shuffle")
        _rule(x.channels % factor**2 == 0, "channels of a shuffle")
        return Value(x.channels // factor**2, x.scale * factor)

    def _take(self, count):
        part = self.section[self.offset:self.offset + count]
        _rule(len(part) == count, "section ends early")
        self.offset += count
        return part

    def _numbers(self, count):
        return struct.unpack(f"<{count}I", self._take(4 * count))

    def _tensor(self, count):
        kind = self._take(1)[0]
        _rule(kind in TENSOR_TYPES, f"tensor type {kind}")
        dtype = np.dtype(TENSOR_TYPES[kind])
        return np.frombuffer(self._take(count * dtype.itemsize), dtype)
