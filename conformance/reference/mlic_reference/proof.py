"""The proof obligations of a package (SPEC 4.9), in Python integers, which have any width."""

import numpy as np

from .errors import PackageRefusal
from .fixed_point import ACTIVATION_MAX, I32_MAX, I64_MAX, LATENT_MAX, PREACT_MAX, half
from .operators import GAMMA_SUM_MAX
from .parameters import LayerParameters

ROOT_MAX = 46340
"""isqrt(2^31 - 1)."""


def check(model):
    """Raises PackageRefusal for the first obligation that fails."""
    for parameters in model.layers.values():
        _layer(parameters, [model.max_of(term.tensor) for term in parameters.layer.terms])
    for name, quantizer in model.quantizers.items():
        for requant in quantizer.levels:
            _requant(LATENT_MAX, requant, name)
    for name, parameters in model.norms.items():
        _norm(model, name, parameters)
    for name, parameters in model.linear_attentions.items():
        _linear_attention(model, name, parameters)
    for name, parameters in model.window_attentions.items():
        _window_attention(model, name, parameters)
    if model.synthesis is not None:
        _requant(LATENT_MAX, model.synthesis.quantizer.levels[0], "quantizer of the exact synthesis")
        _nodes(model.synthesis.nodes)
    if model.analyses is not None:
        _requant(LATENT_MAX, model.analyses.quantizer.levels[0], "quantizer of the integer analysis")
        _nodes(model.analyses.analysis)
        _nodes(model.analyses.hyper_analysis)


def _obliged(value, limit, name, what):
    if value > limit:
        raise PackageRefusal(f"{name}: {what} may leave its width")


def _requant(largest, requant, name):
    multiplier, shift = requant
    _obliged(largest * multiplier + half(shift), I64_MAX, name, "requant")


def _layer(parameters, input_bounds):
    """`input_bounds` has max(X_t) of each term."""
    layer, bounds = parameters.layer, []
    for largest, weights in zip(input_bounds, parameters.weights, strict=True):
        absolute = np.ones(layer.outputs, np.int64) if weights is None else \
            np.abs(weights.astype(np.int64)).reshape(layer.outputs, -1).sum(axis=1)
        accumulator = largest * absolute
        _obliged(int(accumulator.max()), I32_MAX, layer.name, "accumulator")
        bounds.append(accumulator.astype(object))
    for level in parameters.levels:
        total = sum(bound * multiplier for bound, multiplier in zip(bounds, level.multipliers, strict=True))
        total = total + abs(level.bias.astype(object)) + half(level.shift)
        _obliged(max(total), I64_MAX, layer.name, "sum")
        if level.output is not None:
            _requant(PREACT_MAX, level.output, layer.name)


def _norm(model, name, parameters):
    n, m = parameters.norm.channels, model.max_of(parameters.norm.source)
    for epsilon in parameters.epsilon:
        _obliged((n * (2 * n * m) ** 2 << 16) + epsilon, I64_MAX, name, "variance")
    _obliged((2 * n * m << 20) + 2**32, I64_MAX, name, "quotient")


def _linear_attention(model, name, parameters):
    context = parameters.attention.context
    queries, keys, values = (model.layers[f"{context}.{p}.depthwise"].max for p in ("queries", "keys", "values"))
    for query, key, output in parameters.levels:
        _requant(2 * queries, query, name)
        _requant(2 * keys, key, name)
        _requant((values + 1) * 2**13, output, name)
    exponentials = ACTIVATION_MAX * 2**21
    _obliged((exponentials * values << 12) + exponentials, I64_MAX, name, "context")


def _window_attention(model, name, parameters):
    attention = parameters.attention
    queries, keys, values = (model.layers[f"{attention.context}.{p}"].max for p in ("queries", "keys", "values"))
    window_squared = model.configuration.window**2
    head_channels = model.configuration.slice_channels // attention.heads
    dot = head_channels * queries * keys
    _obliged(dot, I32_MAX, name, "dot product")
    _obliged(values * (32768 + window_squared), I32_MAX, name, "weighted sum")
    for requant in parameters.levels:
        _requant(dot, requant, name)


def _nodes(nodes):
    for number, node in enumerate(nodes[1:], start=1):
        bounds = [nodes[read].max for read in node.reads]
        if isinstance(node.operation, LayerParameters):
            _layer(node.operation, bounds)
        else:
            _normalization(node.operation, bounds[0], f"node {number}")


def _normalization(parameters, m, name):
    sums = parameters.gamma.sum(axis=1).tolist()
    for total, beta, multiplier in zip(sums, parameters.beta.tolist(), parameters.multiplier.tolist(), strict=True):
        _obliged(total, GAMMA_SUM_MAX, name, "sum of gamma")
        _obliged(total * m**2 + beta + half(parameters.shift), I64_MAX, name, "sum of squares")
        if parameters.divides:
            _obliged(m * multiplier, I32_MAX, name, "numerator")
        else:
            _requant(ROOT_MAX * m, (multiplier, parameters.output_shift), name)
