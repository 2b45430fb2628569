"""Vectorised operators against the formulas of SPEC 4 and 5.2, one number at a time."""

import math
import unittest

import numpy as np

from mlic_reference import checkerboard, layout, operators, package
from mlic_reference.parameters import LayerLevel, LayerParameters
from tests import packages

RNG = np.random.default_rng(1)


def maps(rows, columns, channels, largest):
    return RNG.integers(-largest, largest + 1, (rows, columns, channels))


def at(x, r, c, n):
    """Outside its rows and columns a map is zero (SPEC 1.2)."""
    return int(x[r, c, n]) if 0 <= r < x.shape[0] and 0 <= c < x.shape[1] else 0


def rounded(v, n):
    return v if n == 0 else (v + (1 << (n - 1))) >> n


def clipped(v, limit):
    return min(max(v, -limit), limit)


class Layers(unittest.TestCase):
    def test_dense_and_identity_terms(self):
        terms = (layout.Term("A", 2, 3, False), layout.Term("B", 1, 4, True))
        self._compare(layout.Layer("dense", terms, "3", 4, "lin"))

    def test_depthwise_term(self):
        self._compare(layout.Layer("depthwise", (layout.Term("A", 0, 5, False),), "dw3", 5, "lin"))

    def _compare(self, spec):
        inputs = [maps(4, 5, 6, 1000) for _ in spec.terms]
        weights = [None if t.identity else RNG.integers(-127, 128, spec.weight_shape(t)).astype(np.int8) for t in spec.terms]
        level = LayerLevel(9, None, [RNG.integers(0, 900, spec.outputs) for _ in spec.terms],
                           RNG.integers(-10**6, 10**6, spec.outputs))
        parameters = LayerParameters(spec, 30000, [level], weights)
        got = operators.layer(parameters, 0, inputs, [1000] * len(inputs), None)
        for r, c, o in np.ndindex(got.shape):
            total = int(level.bias[o])
            for term, weight, multiplier, x in zip(spec.terms, weights, level.multipliers, inputs, strict=True):
                total += self._term(spec, term, weight, x, r, c, o) * int(multiplier[o])
            self.assertEqual(got[r, c, o], clipped(rounded(total, 9), 30000))

    @staticmethod
    def _term(spec, term, weight, x, r, c, o):
        if term.identity:
            return at(x, r, c, term.first + o)
        taps, h = range(spec.side), spec.side // 2
        if spec.kernel == "dw3":
            return sum(int(weight[o, i, j]) * at(x, r + i - h, c + j - h, term.first + o) for i in taps for j in taps)
        return sum(int(weight[o, i, j, n]) * at(x, r + i - h, c + j - h, term.first + n)
                   for i in taps for j in taps for n in range(term.channels))

    def test_shuffle(self):
        x = maps(2, 3, 8, 99)
        y = operators.shuffle(x)
        for r, c, n, i, j in np.ndindex(2, 3, 2, 2, 2):
            self.assertEqual(y[2 * r + i, 2 * c + j, n], x[r, c, 4 * n + 2 * i + j])


class Attention(unittest.TestCase):
    def setUp(self):
        self.tables = packages.tiny().tables

    def _exp(self, d):
        t = self.tables
        return rounded(int(t.exp_coarse[d >> 6]) * int(t.exp_fine[d % 64]), 15) if d < 16384 else 0

    @staticmethod
    def _normalize(e):
        g = 2**40 // sum(e)
        return [rounded(x * g, 25) for x in e]

    def test_window_attention(self):
        window, heads, s, largest = 3, 2, 4, 500
        q, k, v = (maps(4, 6, s, largest) for _ in range(3))
        bias = RNG.integers(-3000, 3000, (heads, (2 * window - 1) ** 2))
        parameters = package.WindowAttentionParameters(layout.WindowAttention("WA", "", 0, heads), bias, [(40, 12)])
        got = operators.window_attention(q, k, v, parameters, window, 0, largest, self.tables)
        self.assertEqual(got.shape, (4, 3, window**2 * s))
        for r, packed in np.ndindex(4, 3):
            expected = self._window(q, k, v, bias, r, 2 * packed + r % 2, window, heads, largest)
            self.assertEqual(got[r, packed].tolist(), expected)

    def _window(self, q, k, v, bias, centre_row, centre_column, w, heads, largest):
        places = [(centre_row + a // w - w // 2, centre_column + a % w - w // 2) for a in range(w * w)]
        anchor = [0 <= r < q.shape[0] and 0 <= c < q.shape[1] and (r + c) % 2 == 1 for r, c in places]
        s, out = q.shape[2], [0] * (w * w * q.shape[2])
        for g in range(heads):
            head = range(g * s // heads, (g + 1) * s // heads)
            for a in range(w * w):
                attended = [b for b in range(w * w) if anchor[b] or not anchor[a]]
                logits = []
                for b in attended:
                    rel = (a // w - b // w + w - 1) * (2 * w - 1) + (a % w - b % w + w - 1)
                    dot = sum(at(q, *places[a], i) * at(k, *places[b], i) for i in head)
                    logits.append(clipped(rounded(dot * 40, 12) + int(bias[g, rel]), 2**26 - 1))
                t = self._normalize([self._exp(max(logits) - x) for x in logits])
                for i in head:
                    summed = sum(x * at(v, *places[b], i) for x, b in zip(t, attended, strict=True))
                    out[a * s + i] = clipped(rounded(summed, 15), largest)
        return out

    def test_linear_attention(self):
        heads, channels, largest = 2, 6, 700
        q, k, v = (maps(3, 4, channels, largest) for _ in range(3))
        requants = ((90, 6), (70, 6), (1, 10))
        parameters = package.LinearAttentionParameters(layout.LinearAttention("LA", "", channels, heads), 300, [requants])
        got = operators.linear_attention(q, k, v, parameters, 0, self.tables).reshape(-1, channels)
        flat_q, flat_k, flat_v = (x.reshape(-1, channels).tolist() for x in (q, k, v))
        for g in range(heads):
            head = range(g * channels // heads, (g + 1) * channels // heads)
            context = {i: self._context(i, head, flat_k, flat_v, requants[1]) for i in head}
            for p, query in enumerate(flat_q):
                highest = max(query[i] for i in head)
                a = self._normalize([self._exp(rounded((highest - query[i]) * 90, 6)) for i in head])
                for j in head:
                    summed = rounded(sum(x * context[i][j] for x, i in zip(a, head, strict=True)), 15)
                    self.assertEqual(got[p, j], clipped(rounded(summed * 1, 10), 300))

    def _context(self, i, head, k, v, key):
        highest = max(p[i] for p in k)
        e = [self._exp(rounded((highest - p[i]) * key[0], key[1])) for p in k]
        return {j: ((sum(x * p[j] for x, p in zip(e, v, strict=True)) << 12) + sum(e) // 2) // sum(e) for j in head}

    def test_layer_norm(self):
        x = np.concatenate([maps(2, 3, 7, 32767), np.full((2, 3, 7), -32767)])
        got = operators.layer_norm(x, 3)
        for r, c, n in np.ndindex(got.shape):
            d = [7 * int(v) - int(x[r, c].sum()) for v in x[r, c]]
            root = math.isqrt((sum(v * v for v in d) << 16) // 7 + 3)
            self.assertEqual(got[r, c, n], clipped(((d[n] << 20) + root // 2) // root, 32767))


class Checkerboard(unittest.TestCase):
    def test_halves_are_where_row_plus_column_says(self):
        x = maps(5, 6, 2, 100)
        for half, odd in ((checkerboard.ANCHOR, 1), (checkerboard.NON_ANCHOR, 0)):
            packed = checkerboard.pack(x, half)
            for r in range(5):
                columns = [c for c in range(6) if (r + c) % 2 == odd]
                self.assertEqual(packed[r].tolist(), x[r, columns].tolist())
            only = checkerboard.only(x, half)
            for r, c in np.ndindex(5, 6):
                self.assertEqual(only[r, c].tolist(), x[r, c].tolist() if (r + c) % 2 == odd else [0, 0])
        halves = (checkerboard.pack(x, half) for half in (checkerboard.ANCHOR, checkerboard.NON_ANCHOR))
        self.assertTrue((checkerboard.merge(*halves) == x).all())
