"""The transforms of a package as float layers in the order of their networks, for `from_package.py`: [`Conv` or `Normalization`, ...].

Integers become real numbers by inverting `Converter` of crates/mlic-builder/src/synthesis.rs. A step is the real value of one unit of an activation; samples are 0 to 1.
"""
import math
import struct
from dataclasses import dataclass

import numpy as np
from mlic_reference import package, transform
from mlic_reference.parameters import LayerParameters

LATENT_UNIT, PREACT_UNIT, SAMPLE_UNIT = 1 / 4096, 1 / 16384, 1 / 255
RECIPROCAL = 2**31 - 1          # of an integer normalization that divides (SPEC 4.12)
UNITS = {"latent": LATENT_UNIT, "pixel": SAMPLE_UNIT, "gelu": PREACT_UNIT}


class Refusal(Exception):
    """The package has a part that does not come from a network of `mlicpp.py`."""


@dataclass
class Conv:
    """weight [outputs, inputs, side, side], bias [outputs]."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass
class Normalization:
    """gamma [channels, channels] and beta [channels] of the divisive sum."""

    gamma: np.ndarray
    beta: np.ndarray


def requant(pair):
    """The real number that a multiplier and a shift stand for."""
    return pair[0] / 2.0 ** pair[1]


def g_a(sections, integers):
    """`integers` are the package's analyses in integers, or None."""
    if integers is None:
        return graph(sections[package.ANALYSIS])
    return layers(integers.analysis, SAMPLE_UNIT, inverse=False)


def h_a(sections, integers):
    if integers is None:
        return graph(sections[package.HYPER_ANALYSIS])
    return layers(integers.hyper_analysis, LATENT_UNIT / requant(integers.quantizer.levels[0]), inverse=False)


def g_s(sections, exact):
    """The layers of the float form where there is one, else those of the integers."""
    if sections[package.SYNTHESIS]:
        return graph(sections[package.SYNTHESIS])
    return layers(exact.nodes, LATENT_UNIT / requant(exact.quantizer.levels[0]), inverse=True)


def graph(section):
    """The layers of a float transform (SPEC 5.6), which `package.load` has checked."""
    offset = len(transform.MAGIC)
    found = []

    def numbers(count):
        nonlocal offset
        offset += 4 * count
        return struct.unpack_from(f"<{count}I", section, offset - 4 * count)

    def tensor(*shape):
        nonlocal offset
        dtype, count = np.dtype(transform.TENSOR_TYPES[section[offset]]), math.prod(shape)
        values = np.frombuffer(section, dtype, count, offset + 1).astype(float).reshape(shape)
        offset += 1 + count * dtype.itemsize
        return values

    _, _, count, _ = numbers(4)
    for _ in range(count):
        opcode = section[offset]
        offset += 1
        numbers(transform.OPERANDS[opcode])
        shape = numbers(transform.NUMBERS[opcode])
        if opcode == transform.CONVOLUTION:
            inputs, outputs, side, _, groups = shape
            found.append(Conv(tensor(outputs, inputs // groups, side, side), tensor(outputs)))
        elif opcode == transform.NORMALIZATION:
            found.append(Normalization(tensor(shape[0], shape[0]), tensor(shape[0])))
    return found


def layers(nodes, first, inverse):
    """Integer nodes as float layers. `first`: the step of node 0; inverse: normalizations multiply by the root."""
    steps = _steps(nodes, first)
    found = []
    for number, node in enumerate(nodes[1:], start=1):
        if _is_layer(node):
            continue
        read = node.reads[0]
        if steps[read] is not None or steps[number] is None:
            raise Refusal(f"node {number}: a normalization whose input has another reader")
        steps[read] = _step_before(node.operation, steps[number], inverse)
    if None in steps:
        raise Refusal(f"node {steps.index(None)}: nothing says what its step is")
    for number, node in enumerate(nodes[1:], start=1):
        if not _is_layer(node):
            found.append(normalization(node.operation, steps[node.reads[0]], steps[number], inverse))
        elif (conv := convolution(node, steps, number)) is not None:
            found.append(conv)
    return found


def _is_layer(node):
    return isinstance(node.operation, LayerParameters)


def _steps(nodes, first):
    """The step of each node as far as epilogues and sums determine it; None where they do not: before normalizations."""
    steps = [first] + [_own_step(node) for node in nodes[1:]]
    ties = [tie for number, node in enumerate(nodes) if _is_layer(node) for tie in _ties(node, number)]
    for _ in nodes:
        for number, read, ratio in ties:
            if steps[read] is None and steps[number] is not None:
                steps[read] = steps[number] * ratio
            elif steps[number] is None and steps[read] is not None:
                steps[number] = steps[read] / ratio
    return steps


def _own_step(node):
    if not _is_layer(node) or node.operation.layer.epilogue == "lin":
        return None
    unit = UNITS[node.operation.layer.epilogue]
    return unit / requant(node.operation.levels[0].output) if node.operation.layer.epilogue == "gelu" else unit


def _ties(node, number):
    """(node, node read, ratio of the second's step to the first's) for each identity term; none for a GELU, since the terms fix the step of its input."""
    parameters = node.operation
    if parameters.layer.epilogue == "gelu":
        return
    for read, term, multipliers in zip(node.reads, parameters.layer.terms, parameters.levels[0].multipliers):
        if term.identity:
            yield number, read, identity_ratio(multipliers, parameters.levels[0].shift, f"node {number}")


def identity_ratio(multipliers, shift, name):
    """The factor of an identity term, which is the same for all channels."""
    if np.ptp(multipliers) > 1e-4 * multipliers.max():
        raise Refusal(f"{name}: an identity term with a factor for each channel")
    return float(np.median(multipliers)) / 2.0**shift


def _step_before(operation, step, inverse):
    """The free step before a normalization, chosen such that the median of beta is 1, with which training begins."""
    beta = np.median(normalization(operation, 1.0, step, inverse).beta)
    if not beta > 0:
        raise Refusal("a normalization whose beta is 0")
    return math.sqrt(beta) if inverse else 1 / math.sqrt(beta)


def normalization(operation, step_in, step_out, inverse):
    """gamma and beta of an integer normalization: the inverse of `Converter::gdn`, whose documentation defines `area`."""
    root = step_out / step_in * operation.multiplier / 2.0**operation.output_shift
    area = 1 / root**2 if inverse else (root * RECIPROCAL) ** 2
    scale = area * 2.0**operation.shift
    return Normalization(operation.gamma / (step_in**2 * scale[:, None]), operation.beta / scale)


def convolution(node, steps, number):
    """The convolution of a layer, with its terms of bytes added up; None for a layer that only adds."""
    parameters, level = node.operation, node.operation.levels[0]
    unit = UNITS.get(parameters.layer.epilogue, steps[number])
    dense = [i for i, term in enumerate(parameters.layer.terms) if not term.identity]
    if not dense:
        return None
    if len(dense) != len(node.reads) or len(set(node.reads)) > 1:
        raise Refusal(f"node {number}: a layer of several inputs")
    weight = sum(parameters.weights[i] * (level.multipliers[i] / 2.0**level.shift * unit / steps[node.reads[i]]).reshape(-1, 1, 1, 1)
                 for i in dense)
    return Conv(weight.transpose(0, 3, 1, 2), level.bias / 2.0**level.shift * unit)
