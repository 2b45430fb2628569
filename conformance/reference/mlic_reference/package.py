"""Model packages (SPEC 2): container, parameters, weights and tables."""

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from . import configuration, layout, proof, transform
from .errors import PackageRefusal, refuse_unless
from .parameters import MAX_MAX, Cursor, QuantizerParameters, layer_parameters
from .rans import Table
from .synthesis import Analyses, Synthesis, read_analyses, read_synthesis

MAGIC = b"MLICPKG\0"
FORMAT_VERSION = 1
SECTION_COUNTS = (7, 8)
"""Numbers of sections without and with the exact synthesis."""
DIRECTORY_OFFSET = 64
CONTENTS_OFFSET = 256
ALIGNMENT = 64
PACKAGE_BYTES_MAX = 2**30
WEIGHTS_MAX = 2**29
PICTURE_CHANNELS = 3
LATENT_STEP = 16
"""Pixels between positions of y."""
INTEGER_ANALYSIS = b"MLIA"
HYPER_STEP = 4
"""Positions of y between positions of z."""
CONFIGURATION, PARAMETERS, WEIGHTS, SYNTHESIS, ANALYSIS, HYPER_ANALYSIS, METADATA, EXACT_SYNTHESIS = range(1, 9)
NORMATIVE = (CONFIGURATION, PARAMETERS, WEIGHTS, SYNTHESIS, EXACT_SYNTHESIS)

# SPEC 1.3.
MAX_METADATA_LEN = 1 << 20
MAX_METADATA_DEPTH = 127
POSITION_BIAS_MAX = 2**26 - 1
TABLE_MAX = 2**27 - 1
GAIN_LOG2_MAX = 12 * 65536
SCALE_TABLES = 64


@dataclass
class NormParameters:
    norm: layout.Norm
    epsilon: list


@dataclass
class LinearAttentionParameters:
    """`levels` has (query, key, output) requants."""

    attention: layout.LinearAttention
    max: int
    levels: list


@dataclass
class WindowAttentionParameters:
    """`position_bias` is int64 [heads][(2 w - 1)^2]."""

    attention: layout.WindowAttention
    position_bias: np.ndarray
    levels: list


@dataclass
class Tables:
    """The function tables of SPEC 2.7."""

    gelu: np.ndarray
    half_tanh: np.ndarray
    exp_coarse: np.ndarray
    exp_fine: np.ndarray
    exp2_coarse: np.ndarray
    exp2_fine: np.ndarray


@dataclass
class Model:
    """A package that was verified. Dictionaries are keyed by the names of SPEC 2.4."""

    id: str
    configuration: configuration.Configuration
    layers: dict
    quantizers: dict
    norms: dict
    linear_attentions: dict
    window_attentions: dict
    tables: Tables
    gain: list
    """For encoders only, like `hyper_gain`."""
    inverse_gain: list
    hyper_gain: list
    inverse_hyper_gain: list
    threshold: np.ndarray
    y_tables: list
    z_tables: list
    median: np.ndarray
    synthesis: Synthesis = None
    """None if the package has no section 8."""
    analyses: Analyses = None
    """None if sections 5 and 6 are float."""

    def max_of(self, tensor):
        """max(X) of SPEC 4.9: the declared largest magnitude of a tensor."""
        if tensor in self.norms:
            return MAX_MAX
        if tensor in self.window_attentions:
            context = self.window_attentions[tensor].attention.context
            return self.layers[f"{context}.values"].max
        for producers in (self.layers, self.quantizers, self.linear_attentions):
            if tensor in producers:
                return producers[tensor].max
        raise KeyError(tensor)


def load(data):
    """Reads and verifies a package from bytes. Raises PackageRefusal."""
    digest, sections = container(data)
    config = configuration.parse(sections[CONFIGURATION])
    model = _parameters(sections[PARAMETERS], config, layout.layout(config), digest[:6].hex())
    _weights(sections[WEIGHTS], model)
    # May be empty if the exact synthesis takes its place (2.1).
    if sections[SYNTHESIS] or EXACT_SYNTHESIS not in sections:
        transform.check(sections[SYNTHESIS], config.latent, PICTURE_CHANNELS, Fraction(LATENT_STEP))
    # A decoder need not read these sections.
    if sections[ANALYSIS].startswith(INTEGER_ANALYSIS):
        model.analyses = read_analyses(sections[ANALYSIS], sections[HYPER_ANALYSIS], config.latent, config.hyper)
    else:
        transform.check(sections[ANALYSIS], PICTURE_CHANNELS, config.latent, Fraction(1, LATENT_STEP))
        transform.check(sections[HYPER_ANALYSIS], config.latent, config.hyper, Fraction(1, HYPER_STEP))
    metadata(sections[METADATA])
    if EXACT_SYNTHESIS in sections:
        model.synthesis = read_synthesis(sections[EXACT_SYNTHESIS], config.latent)
    proof.check(model)
    return model


def container(data):
    """SPEC 2.1, 2.3: the hash of the normative part and the sections by kind."""
    refuse_unless(CONTENTS_OFFSET <= len(data) <= PACKAGE_BYTES_MAX, "size of the file")
    magic, version, count, length, digest, directory_crc, header_crc = struct.unpack_from("<8sIIQ32sII", data)
    refuse_unless(magic == MAGIC, "magic")
    refuse_unless(zlib.crc32(data[:60]) == header_crc, "header checksum")
    refuse_unless(version == FORMAT_VERSION, "format version")
    refuse_unless(count in SECTION_COUNTS, "number of sections")
    refuse_unless(length == len(data), "length of the file")
    entry = struct.Struct("<IIQQ")
    directory = data[DIRECTORY_OFFSET:DIRECTORY_OFFSET + count * entry.size]
    refuse_unless(zlib.crc32(directory) == directory_crc, "directory checksum")
    sections, normative, end = {}, hashlib.sha256(), DIRECTORY_OFFSET + len(directory)
    for index, (kind, crc, offset, size) in enumerate(entry.iter_unpack(directory)):
        refuse_unless(kind == index + 1, "order of sections")
        start = CONTENTS_OFFSET if index == 0 else -(-end // ALIGNMENT) * ALIGNMENT
        refuse_unless(offset == start and start + size <= len(data), f"place of section {kind}")
        refuse_unless(not any(data[end:start]), f"padding before section {kind}")
        end = start + size
        contents = data[start:end]
        refuse_unless(zlib.crc32(contents) == crc, f"checksum of section {kind}")
        sections[kind] = contents
        if kind in NORMATIVE:
            normative.update(struct.pack("<IQ", kind, size))
            normative.update(contents)
    refuse_unless(end == len(data), "bytes after the last section")
    refuse_unless(normative.digest() == digest, "hash of the normative part")
    return digest, sections


def metadata(text):
    """Section 7, SPEC 2.1: an object with a name."""
    refuse_unless(len(text) <= MAX_METADATA_LEN, "metadata too long")
    try:
        # Objects become lists of their members, so that a member that is there twice is not lost.
        members = json.loads(text.decode("utf-8"), parse_int=float, object_pairs_hook=list)
        refuse_unless(_depth(members) <= MAX_METADATA_DEPTH, "metadata is nested too deep")
        # Refuses infinities, and halves of surrogate pairs.
        json.dumps(members, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise PackageRefusal(f"metadata is not JSON: {error}") from error
    refuse_unless(text.startswith(b"{") and isinstance(dict(members).get("name"), str), "metadata without a name")


def _depth(value):
    """How deep arrays and objects are nested."""
    if isinstance(value, tuple):
        return _depth(value[1])
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _parameters(data, config, net, model_id):
    """SPEC 2.5, in its order."""
    cursor, levels = Cursor(data), range(config.scale_levels)
    layers = {layer.name: layer_parameters(cursor, layer, levels) for layer in net.layers}
    quantizers = {name: QuantizerParameters(cursor.max(), [cursor.requant() for _ in levels]) for name in net.quantizers}
    norms = {norm.name: NormParameters(norm, [cursor.number("<i8", 1, None, "epsilon") for _ in levels])
             for norm in net.norms}
    linear = {attention.name: LinearAttentionParameters(
        attention, cursor.max(), [(cursor.requant(), cursor.requant(), cursor.requant()) for _ in levels])
        for attention in net.linear_attentions}
    bias_shape = (config.heads, (2 * config.window - 1) ** 2)
    window = {attention.name: WindowAttentionParameters(
        attention, cursor.array("<i4", bias_shape, -POSITION_BIAS_MAX, POSITION_BIAS_MAX, "position bias"),
        [cursor.requant() for _ in levels]) for attention in net.window_attentions}
    tables = _function_tables(cursor)
    gains = [cursor.array("<i4", (config.gain_levels, width), -GAIN_LOG2_MAX, GAIN_LOG2_MAX, "gain").tolist()
             for width in (config.latent, config.latent, config.hyper, config.hyper)]
    threshold = cursor.array("<i4", 63, 0, TABLE_MAX, "threshold")
    refuse_unless((np.diff(threshold) > 0).all(), "thresholds do not increase")
    y_tables = [_symbol_table(cursor) for _ in range(SCALE_TABLES)]
    z_tables = [_symbol_table(cursor) for _ in range(config.hyper)]
    median = cursor.array("<i4", config.hyper, -TABLE_MAX, TABLE_MAX, "median")
    refuse_unless(cursor.offset == len(data), "parameters are too long")
    return Model(model_id, config, layers, quantizers, norms, linear, window, tables, *gains, threshold, y_tables, z_tables,
                 median)


def _function_tables(cursor):
    """The function tables of SPEC 2.7."""
    tables = Tables(
        gelu=cursor.array("<i2", 513, 0, 4095, "gelu"),
        half_tanh=cursor.array("<i2", 513, 0, 2048, "half_tanh"),
        exp_coarse=cursor.array("<u2", 256, 0, 32767, "exp_coarse"),
        exp_fine=cursor.array("<u2", 64, 0, 32768, "exp_fine"),
        exp2_coarse=cursor.array("<u4", 256, 2**30, 2**31 - 1, "exp2_coarse"),
        exp2_fine=cursor.array("<u4", 256, 2**30, 2**31 - 1, "exp2_fine"))
    refuse_unless(tables.exp_coarse[0] == 32767 and tables.exp_fine[0] == 32768, "exp_neg(0)")
    return tables


def _symbol_table(cursor):
    """A symbol table of SPEC 2.7."""
    min_symbol = cursor.number("<i4", -32767, 32767, "min_symbol")
    bins = cursor.number("<u2", 2, 65535, "bins")
    starts = cursor.array("<u2", bins, what="start")
    refuse_unless(starts[0] == 0 and (np.diff(starts) > 0).all(), "starts of a symbol table")
    table = Table(min_symbol, starts.tolist())
    refuse_unless(table.max_symbol <= 32767, "max_symbol")
    return table


def _weights(data, model):
    """SPEC 2.6: fills in the weights of every layer."""
    shapes = [(parameters, [parameters.layer.weight_shape(term) for term in parameters.layer.terms])
              for parameters in model.layers.values()]
    total = sum(_size(shape) for _, terms in shapes for shape in terms)
    refuse_unless(total <= WEIGHTS_MAX, "number of weights")
    refuse_unless(total == len(data), "length of the weights section")
    values = np.frombuffer(data, np.int8)
    refuse_unless(not (values == -128).any(), "weight of -128")
    offset = 0
    for parameters, terms in shapes:
        for shape in terms:
            size = _size(shape)
            parameters.weights.append(None if shape is None else values[offset:offset + size].reshape(shape))
            offset += size


def _size(shape):
    return 0 if shape is None else int(np.prod(shape, dtype=object))
