"""The two halves of a map (SPEC 5.2). Maps are int64 arrays [row, column, channel]."""

import numpy as np

ANCHOR = "anchor"
NON_ANCHOR = "non-anchor"


def column_parity(rows, half):
    """For each row, the parity of the columns of a half: packed column c is column 2 c + parity."""
    return (np.arange(rows) + (1 if half == ANCHOR else 0)) % 2


def _places(rows, columns, half):
    """Row and column indices of a half, each broadcast to [rows, columns / 2]."""
    return np.arange(rows)[:, None], 2 * np.arange(columns // 2)[None, :] + column_parity(rows, half)[:, None]


def pack(full, half):
    rows, columns, _ = full.shape
    return full[_places(rows, columns, half)]


def unpack(packed, half):
    rows, columns, channels = packed.shape
    full = np.zeros((rows, 2 * columns, channels), np.int64)
    full[_places(rows, 2 * columns, half)] = packed
    return full


def merge(anchors, non_anchors):
    return unpack(anchors, ANCHOR) + unpack(non_anchors, NON_ANCHOR)


def only(full, half):
    return unpack(pack(full, half), half)
