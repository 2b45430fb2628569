"""The operators of the entropy networks and of the exact synthesis (SPEC 4). Maps are int64 arrays [row, column, channel]."""

import numpy as np

from . import checkerboard
from .errors import require
from .fixed_point import (ACTIVATION_MAX, I32_MAX, I64_MAX, LATENT_MAX, LATENT_ONE, LOGIT_MAX, PREACT_MAX, divide,
                          exact_product, isqrt, magnitude, requant, round_shift, saturate)

TABLE_END = 131072
"""8 in Q14: where the tables of GELU and half tanh end."""
EXP_END = 16384
"""16 in Q10: where exp_neg is 0."""
GAMMA_SUM_MAX = 65535
"""Largest sum of the gammas of a channel (SPEC 4.9)."""


def quantize(latents, quantizer, level):
    """SPEC 4.1."""
    return saturate(requant(latents, quantizer.levels[level]), quantizer.max)


def layer(parameters, level, inputs, input_bounds, tables):
    """SPEC 4.2: a layer applied to the maps of its terms, whose elements are at most `input_bounds`.

    `proof` has shown that the sum fits 64 bits for inputs within their bounds."""
    spec, at_level = parameters.layer, parameters.levels[level]
    total = at_level.bias
    for term, weights, multipliers, x, bound in zip(
            spec.terms, parameters.weights, at_level.multipliers, inputs, input_bounds, strict=True):
        require(magnitude(x) <= bound, f"{spec.name} reads more than its producer may give")
        selected = x[:, :, term.first:term.first + term.channels]
        total = total + _accumulate(spec, weights, selected) * multipliers
    return _epilogue(spec, parameters.max, at_level, round_shift(total, at_level.shift), tables)


def _accumulate(spec, weights, x):
    """acc_t of SPEC 4.2 at all positions, [row, column, output]."""
    if weights is None:
        return x
    rows, columns, _ = x.shape
    side, margin = spec.side, spec.side // 2
    padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)))
    acc = np.zeros((rows, columns, spec.outputs), np.int64)
    for i in range(side):
        for j in range(side):
            shifted = padded[i:i + rows, j:j + columns]
            if spec.kernel == "dw3":
                acc += shifted * weights[:, i, j]
            else:
                # SPEC 4.9 bounds the sum of magnitudes, so that every partial sum is exact too.
                acc += exact_product(shifted, weights[:, i, j, :].T, I32_MAX)
    require(magnitude(acc) <= I32_MAX, f"{spec.name}: accumulator leaves 32 bits")
    return acc


def _epilogue(spec, largest, at_level, v, tables):
    if spec.epilogue == "lin":
        return saturate(v, largest)
    if spec.epilogue == "gelu":
        return saturate(requant(gelu(saturate(v, PREACT_MAX), tables), at_level.output), largest)
    if spec.epilogue == "latent":
        return saturate(v, LATENT_MAX)
    if spec.epilogue == "pixel":
        return np.clip(v, 0, largest)
    return half_tanh(saturate(v, PREACT_MAX), tables)


def shuffle(x):
    """Pixel shuffle of SPEC 4.2: [row, column, 4 n] to [2 row, 2 column, n]."""
    rows, columns, channels = x.shape
    blocks = x.reshape(rows, columns, channels // 4, 2, 2)
    return blocks.transpose(0, 3, 1, 4, 2).reshape(2 * rows, 2 * columns, channels // 4)


def lerp(table, a):
    """SPEC 4.3, for 0 <= a < 131072."""
    k = a >> 8
    return table[k] + round_shift((table[k + 1] - table[k]) * (a % 256), 8)


def gelu(x, tables):
    """SPEC 4.3."""
    a = np.abs(x)
    inside = a < TABLE_END
    return np.maximum(x, 0) - np.where(inside, lerp(tables.gelu, np.where(inside, a, 0)), 0)


def half_tanh(x, tables):
    """SPEC 4.4."""
    a = np.abs(x)
    inside = a < TABLE_END
    u = np.where(inside, lerp(tables.half_tanh, np.where(inside, a, 0)), tables.half_tanh[512])
    return np.where(x < 0, -u, u)


def exp_neg(d, tables):
    """SPEC 4.5, for d >= 0 in Q10."""
    require(not d.size or int(d.min()) >= 0, "exp_neg of a negative number")
    inside = d < EXP_END
    k = np.where(inside, d, 0)
    return np.where(inside, round_shift(tables.exp_coarse[k >> 6] * tables.exp_fine[k % 64], 15), 0)


def normalize(e):
    """SPEC 4.5 along the last axis. An exponential of 0 has weight 0."""
    g = 2**40 // e.sum(axis=-1, keepdims=True)
    return round_shift(e * g, 25)


def linear_attention(q, k, v, parameters, level, tables):
    """SPEC 4.5. The output has the shape of the queries."""
    query, key, output = parameters.levels[level]
    shape, heads = q.shape, parameters.attention.heads
    q, k, v = (x.reshape(-1, shape[-1]) for x in (q, k, v))
    out = np.empty_like(q)
    for channels in np.split(np.arange(shape[-1]), heads):
        context = _attention_context(k[:, channels], v[:, channels], key, tables)
        head = q[:, channels]
        a = normalize(exp_neg(requant(head.max(axis=1, keepdims=True) - head, query), tables))
        summed = exact_product(a, context, len(channels) * magnitude(a) * magnitude(context))
        out[:, channels] = saturate(requant(round_shift(summed, 15), output), parameters.max)
    return out.reshape(shape)


def _attention_context(k, v, key, tables):
    """ctx[i][j] of SPEC 4.5 for one head."""
    e = exp_neg(requant(k.max(axis=0) - k, key), tables)
    summed = exact_product(e.T, v, len(k) * ACTIVATION_MAX * magnitude(v))
    require(magnitude(summed) << 12 <= I64_MAX, "context leaves 64 bits")
    return divide(summed << 12, e.sum(axis=0)[:, None])


def layer_norm(x, epsilon):
    """SPEC 4.6."""
    n = x.shape[-1]
    d = n * x - x.sum(axis=-1, keepdims=True)
    largest = magnitude(d)
    require((n * largest**2 << 16) + epsilon <= I64_MAX, "variance leaves 64 bits")
    root = isqrt(((d * d).sum(axis=-1, keepdims=True) << 16) // n + epsilon)
    require(largest << 20 <= I64_MAX, "norm leaves 64 bits")
    return saturate(divide(d << 20, root), ACTIVATION_MAX)


def normalization(x, parameters, largest):
    """SPEC 4.11, of a map whose elements are at most `largest`.

    `proof` has shown that both sums fit 64 bits: gamma sums to at most 65535 and x^2 is below 2^30, so that the
    matrix product is below 2^46, and beta is at most 2^61."""
    require(magnitude(x) <= largest, "inverse normalization reads more than its producer may give")
    squares = exact_product(x * x, parameters.gamma.T, GAMMA_SUM_MAX * largest**2)
    v = np.minimum(round_shift(squares + parameters.beta, parameters.shift), I32_MAX)
    scaled = x * isqrt(v) * parameters.multiplier
    return saturate(round_shift(scaled, parameters.output_shift), parameters.max)


def window_attention(q, k, v, parameters, window, level, values_max, tables):
    """SPEC 4.7: takes full maps and returns a map packed at the non-anchors, with window^2 s channels. Computes one row at a time."""
    rows, columns, _ = q.shape
    margin = window // 2
    around = ((margin, margin), (margin, margin), (0, 0))
    padded = [np.pad(x, around) for x in (q, k, v)]
    parity = checkerboard.column_parity(rows, checkerboard.NON_ANCHOR)
    offsets = np.arange(window**2)
    relative = _relative_positions(window)
    bias = parameters.position_bias[:, relative]
    out = []
    for row in range(rows):
        centres = 2 * np.arange(columns // 2) + parity[row]
        # Row and column of every window position: [1, window^2] and [centre, window^2].
        r = (row + offsets // window - margin)[None, :]
        c = centres[:, None] + (offsets % window - margin)[None, :]
        inside = (0 <= r) & (r < rows) & (0 <= c) & (c < columns)
        anchor = inside & ((r + c) % 2 == 1)
        windows = [x[r + margin, c + margin] for x in padded]
        out.append(_windows(*windows, anchor, bias, parameters, level, values_max, tables))
    return np.stack(out)


def _relative_positions(window):
    """rel of SPEC 4.7, [a, b]."""
    a, b = np.arange(window**2)[:, None], np.arange(window**2)[None, :]
    return (a // window - b // window + window - 1) * (2 * window - 1) + (a % window - b % window + window - 1)


def _windows(q, k, v, anchor, bias, parameters, level, values_max, tables):
    """Attention within windows: q, k, v [centre, window position, channel], anchor [centre, window position]."""
    centres, positions, channels = q.shape
    heads = parameters.attention.heads

    def by_head(x):
        return x.reshape(centres, positions, heads, channels // heads).transpose(0, 2, 1, 3)

    q, k, v = by_head(q), by_head(k), by_head(v)
    dot = exact_product(q, k.transpose(0, 1, 3, 2), channels // heads * magnitude(q) * magnitude(k))
    require(magnitude(dot) <= I32_MAX, "dot product leaves 32 bits")
    # |dot| and the multiplier are below 2^31, a bias is below 2^26: the sum does not leave 64 bits.
    logits = saturate(requant(dot, parameters.levels[level]) + bias, LOGIT_MAX)
    # B of SPEC 4.7: [centre, 1, a, b]
    attended = (anchor[:, None, :] | ~anchor[:, :, None])[:, None]
    highest = np.where(attended, logits, -LOGIT_MAX - 1).max(axis=-1, keepdims=True)
    e = np.where(attended, exp_neg(np.where(attended, highest - logits, 0), tables), 0)
    t = normalize(e)
    summed = exact_product(t, v, positions * magnitude(t) * magnitude(v))
    out = saturate(round_shift(summed, 15), values_max)
    return out.transpose(0, 2, 1, 3).reshape(centres, positions * channels)


def exp2(v, tables):
    """SPEC 3.5, of a Python integer."""
    f = v % 65536
    m = round_shift(int(tables.exp2_coarse[f >> 8]) * int(tables.exp2_fine[f % 256]), 30)
    return round_shift(m, 14 - (v >> 16))


def gain(table, channel, quality, quality_steps, tables):
    """SPEC 4.8: the gain of a channel at a quality, in Q16. `table` is [gain level][channel] of Python integers."""
    levels = len(table)
    if levels == 0:
        return 65536
    low = min(quality * (levels - 1) // quality_steps, levels - 2)
    t = quality * (levels - 1) - low * quality_steps
    between = table[low][channel] * (quality_steps - t) + table[low + 1][channel] * t
    return exp2(divide(between, quality_steps), tables)


def z_latent(symbols, median, gains):
    """SPEC 4.8: latent values of symbols [row, column, channel]."""
    raw = saturate(LATENT_ONE * symbols + median, LATENT_MAX)
    require(magnitude(raw) * magnitude(gains) + 2**15 <= I64_MAX, "z leaves 64 bits")
    return saturate(round_shift(raw * gains, 16), LATENT_MAX)


def scale_index(scales, threshold):
    """SPEC 4.10: how many thresholds are less than each scale."""
    return np.searchsorted(threshold, scales, side="left")
