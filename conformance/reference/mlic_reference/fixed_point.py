"""Fixed point arithmetic (SPEC 3) on Python integers and on numpy arrays of int64.

Python integers are exact. An array is exact as long as it does not leave 64 bits, which numpy does not notice; so every
function here that could leave them checks the bound of its argument first.
"""

import numpy as np

from .errors import require

I32_MAX = 2**31 - 1
I64_MAX = 2**63 - 1
EXACT_FLOAT = 2**53
"""Integers of at most this magnitude, and sums of them that stay below it in every partial sum, are exact in binary64."""

LATENT_MAX = 2**27 - 1
PREACT_MAX = 2**30 - 1
LOGIT_MAX = 2**26 - 1
ACTIVATION_MAX = 32767
LATENT_ONE = 4096
"""One in the unit of latents, 2^-12."""


def magnitude(values):
    """The largest absolute value, as a Python integer."""
    if not isinstance(values, np.ndarray):
        return abs(int(values))
    return max(int(values.max()), -int(values.min())) if values.size else 0


def half(shift):
    """half(n) of SPEC 4.9: what round_shift adds."""
    return 1 << (shift - 1) if shift > 0 else 0


def round_shift(values, shift):
    """SPEC 3.1: to nearest, ties toward plus infinity. `>>` is floor for Python integers and for numpy's int64."""
    return (values + half(shift)) >> shift


def requant(values, parameters):
    """SPEC 3.1, with parameters = (multiplier, shift)."""
    multiplier, shift = parameters
    require(magnitude(values) * multiplier + half(shift) <= I64_MAX, "requant leaves 64 bits")
    return round_shift(values * multiplier, shift)


def saturate(values, limit):
    """SPEC 3.2."""
    return np.clip(values, -limit, limit) if isinstance(values, np.ndarray) else min(max(values, -limit), limit)


def divide(numerators, denominators):
    """SPEC 3.3. `//` is floor for Python integers and for numpy's int64."""
    require(magnitude(numerators) + magnitude(denominators) // 2 <= I64_MAX, "divide leaves 64 bits")
    return (numerators + denominators // 2) // denominators


def isqrt(values):
    """SPEC 3.4 of an array, 0 <= values < 2^63.

    The root in binary64 is off by at most one after truncation, which one step in each direction corrects. (r + 1)^2 may be
    2^63 and a little more, so squares are unsigned."""
    values = values.astype(np.uint64)
    root = np.sqrt(values.astype(np.float64)).astype(np.uint64)
    root -= (root * root > values).astype(np.uint64)
    root += ((root + np.uint64(1)) ** 2 <= values).astype(np.uint64)
    return root.astype(np.int64)


def exact_product(left, right, bound):
    """The matrix product of two integer arrays, computed in floating point, which is far faster than numpy's product of
    integers.

    `bound` is at least sum |left| |right| of every element. Below 2^53 every product and every partial sum, in any order and
    with or without fused operations, is an integer that binary64 holds exactly."""
    require(bound < EXACT_FLOAT, "matrix product is not exact in binary64")
    return np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
