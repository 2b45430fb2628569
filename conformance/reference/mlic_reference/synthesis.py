"""The exact synthesis: section 8 of a package (SPEC 2.9) and what it computes (SPEC 5.7). The integer analysis (SPEC 2.10) has a
similar format; it is read, not computed."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from . import layout, operators
from .errors import refuse_unless
from .fixed_point import LATENT_MAX, round_shift, saturate
from .parameters import Cursor, LayerParameters, QuantizerParameters, layer_level

VERSION = 1
LAYER = 1
KERNELS = (1, 3, 5)
WEIGHTS = {1: ("<i1", 127), 2: ("<i2", 32767)}
"""Type and largest magnitude of the weights by their width b."""
NODES_MAX = 255
TERMS_MAX = 4
OUTPUTS_MAX = 2**14
SCALE_MAX = 16
BETA_MAX = 2**61
PICTURE_CHANNELS, SAMPLE_MAX = 3, 255
LATENT_STEP, HYPER_STEP = 16, 4
"""Pixels between positions of y, positions of y between positions of z."""
LUMA, LUMA_SUM = np.array([299, 587, 114]), 1000


@dataclass(frozen=True)
class Form:
    """What differs between the formats of SPEC 2.9 and 2.10. `steps` has, by the byte of `shuffle`, the factor by which a layer
    multiplies the scale."""

    name: str
    magic: bytes
    normalization: int
    last: str
    steps: dict


SYNTHESIS = Form("exact synthesis", b"MLIS", 2, "pixel", {0: Fraction(1), 1: Fraction(2)})
ANALYSIS = Form("integer analysis", b"MLIA", 3, "latent", {1: Fraction(1), 2: Fraction(1, 2)})


@dataclass
class Normalization:
    """SPEC 4.11, or 4.12 if it `divides`. `gamma` is int64 [channel][channel], `beta` and `multiplier` int64 [channel]."""

    gamma: np.ndarray
    beta: np.ndarray
    multiplier: np.ndarray
    shift: int
    output_shift: int
    max: int
    divides: bool = False


@dataclass
class Node:
    """`channels` and `scale` (SPEC 2.9) are those of its map, after pixel shuffle; no element exceeds `max`. Node 0 has no
    operation."""

    channels: int
    scale: int
    max: int
    reads: list = field(default_factory=list)
    operation: LayerParameters | Normalization = None
    shuffle: bool = False


@dataclass
class Synthesis:
    quantizer: QuantizerParameters
    nodes: list


@dataclass
class Analyses:
    """Nodes of g_a and of h_a; `quantizer` is that of h_a."""

    analysis: list
    quantizer: QuantizerParameters
    hyper_analysis: list


def read_synthesis(section, latent):
    """The nodes of the section for y_hat of `latent` channels. The obligations of SPEC 4.9 are proved elsewhere."""
    cursor = _begin(section, SYNTHESIS)
    quantizer = QuantizerParameters(cursor.max(), [cursor.requant()])
    nodes = _nodes(cursor, SYNTHESIS, Node(latent, 1, quantizer.max))
    last = nodes[-1]
    refuse_unless((last.channels, last.scale, last.max) == (PICTURE_CHANNELS, SCALE_MAX, SAMPLE_MAX),
                  f"samples of {last.channels} channels at {last.scale} times the size up to {last.max}")
    return Synthesis(quantizer, nodes)


def read_analyses(analysis, hyper_analysis, latent, hyper):
    """Reads both sections, for y of `latent` and z of `hyper` channels."""
    g_a = _nodes(_begin(analysis, ANALYSIS), ANALYSIS, Node(PICTURE_CHANNELS, LATENT_STEP, SAMPLE_MAX))
    cursor = _begin(hyper_analysis, ANALYSIS)
    quantizer = QuantizerParameters(cursor.max(), [cursor.requant()])
    h_a = _nodes(cursor, ANALYSIS, Node(latent, HYPER_STEP, quantizer.max))
    for nodes, channels in ((g_a, latent), (h_a, hyper)):
        refuse_unless((nodes[-1].channels, nodes[-1].scale) == (channels, 1),
                      f"latents of {nodes[-1].channels} channels at {nodes[-1].scale} times the size")
    return Analyses(g_a, quantizer, h_a)


def _begin(section, form):
    cursor = Cursor(section, form.name)
    refuse_unless(section[:len(form.magic)] == form.magic, f"{form.name}: magic")
    cursor.offset = len(form.magic)
    cursor.number("<u4", VERSION, VERSION, "version")
    return cursor


def _nodes(cursor, form, first):
    """All nodes to the end of the section; `first` is node 0."""
    count = cursor.number("<u4", 1, NODES_MAX, "number of nodes")
    nodes = [first]
    for number in range(1, count + 1):
        name = f"{form.name}: node {number}"
        nodes.append(_node(cursor, form, nodes, name))
        refuse_unless(nodes[-1].scale <= SCALE_MAX, f"{name}: scale {nodes[-1].scale}")
        refuse_unless(_is_last(nodes[-1], form) == (number == count), f"{name}: {form.last}s are those of the last node")
    refuse_unless(cursor.offset == len(cursor.data), f"{form.name}: bytes after the last node")
    return nodes


def _is_last(node, form):
    return isinstance(node.operation, LayerParameters) and node.operation.layer.epilogue == form.last


def _node(cursor, form, nodes, name):
    opcode = cursor.number("u1", 0, None, f"{name}: opcode")
    refuse_unless(opcode in (LAYER, form.normalization), f"{name}: opcode {opcode}")
    return _layer(cursor, form, nodes, name) if opcode == LAYER else _normalization(cursor, nodes, name, form is ANALYSIS)


def _earlier(cursor, nodes):
    return cursor.number("<u4", 0, len(nodes) - 1, "earlier node")


def _layer(cursor, form, nodes, name):
    side = cursor.number("u1", 1, 5, "kernel")
    refuse_unless(side in KERNELS, f"{name}: kernel {side}")
    epilogue = ("lin", "gelu", form.last)[cursor.number("u1", 0, 2, "epilogue")]
    step = form.steps.get(cursor.number("u1", 0, max(form.steps), "shuffle or stride"))
    refuse_unless(step is not None, f"{name}: stride")
    shuffle = step == 2
    kind, weight_max = WEIGHTS[cursor.number("u1", 1, 2, "width of weights")]
    count = cursor.number("u1", 1, TERMS_MAX, "number of terms")
    outputs = cursor.number("<u4", 1, OUTPUTS_MAX, "outputs")
    refuse_unless(not shuffle or outputs % 4 == 0, f"{name}: shuffle of {outputs} outputs")
    reads = [(_earlier(cursor, nodes), bool(cursor.number("u1", 0, 1, "identity"))) for _ in range(count)]
    terms = tuple(layout.Term(f"node {node}", 0, nodes[node].channels, identity) for node, identity in reads)
    refuse_unless(all(term.channels == outputs for term in terms if term.identity), f"{name}: channels of an identity term")
    scales = {nodes[node].scale for node, _ in reads}
    refuse_unless(len(scales) == 1, f"{name}: reads maps of different size")
    scale = scales.pop() * step
    refuse_unless(scale.denominator == 1, f"{name}: scale {scale}")
    spec = layout.Layer(name, terms, str(side), outputs, epilogue)
    parameters = LayerParameters(spec, cursor.max(), [layer_level(cursor, spec)])
    for shape in map(spec.weight_shape, terms):
        weights = None if shape is None else cursor.array(kind, shape, -weight_max, weight_max, "weight").astype(np.int16)
        parameters.weights.append(weights)
    return Node(outputs // 4 if shuffle else outputs, int(scale), parameters.max, [node for node, _ in reads], parameters, shuffle)


def _normalization(cursor, nodes, name, divides=False):
    number = _earlier(cursor, nodes)
    source = nodes[number]
    largest, shift, output_shift = cursor.max(), cursor.shift(), cursor.shift()
    gamma = cursor.array("<i2", (source.channels, source.channels), 0, None, f"{name}: gamma")
    beta = cursor.array("<i8", source.channels, 0, BETA_MAX, f"{name}: beta")
    multiplier = cursor.array("<i4", source.channels, 0, None, f"{name}: multiplier")
    operation = Normalization(gamma, beta, multiplier, shift, output_shift, largest, divides)
    return Node(source.channels, source.scale, largest, [number], operation)


def samples(y_hat, model, quality):
    """SPEC 5.7: R, G, B [16 rows, 16 columns, 3] of y_hat [row, column, M]."""
    nodes = model.synthesis.nodes
    last_use = {read: number for number, node in enumerate(nodes) for read in node.reads}
    maps = {0: _quantized(y_hat, model, quality)}
    for number, node in enumerate(nodes[1:], start=1):
        maps[number] = _compute(node, [maps[read] for read in node.reads], nodes, model.tables)
        for read in set(node.reads):
            if last_use[read] == number:
                del maps[read]
    return maps[len(nodes) - 1]


def _quantized(y_hat, model, quality):
    """The map of node 0."""
    steps = model.configuration.quality_steps
    gains = np.array([operators.gain(model.inverse_gain, c, quality, steps, model.tables) for c in range(y_hat.shape[2])],
                     np.int64)
    # |y_hat| is below 2^27 and a gain below 2^30: the product does not leave 64 bits.
    return operators.quantize(saturate(round_shift(y_hat * gains, 16), LATENT_MAX), model.synthesis.quantizer, 0)


def _compute(node, inputs, nodes, tables):
    bounds = [nodes[read].max for read in node.reads]
    if isinstance(node.operation, Normalization):
        return operators.normalization(inputs[0], node.operation, bounds[0])
    x = operators.layer(node.operation, 0, inputs, bounds, tables)
    return operators.shuffle(x) if node.shuffle else x


def picture(rgb, header):
    """The top left part, [height, width, 3], or [height, width, 1] with the gray flag (SPEC 5.6)."""
    cropped = rgb[:header.height, :header.width]
    return (cropped @ LUMA[:, None] + LUMA_SUM // 2) // LUMA_SUM if header.gray else cropped
