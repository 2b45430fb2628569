"""Fixed point and tables (SPEC 3, 4.3 to 4.5)."""

import math
import random
import unittest
from fractions import Fraction

import numpy as np

from mlic_reference import fixed_point, operators
from mlic_reference.errors import WidthExceeded
from tests import packages


class FixedPoint(unittest.TestCase):
    def test_round_shift_is_nearest_with_ties_up(self):
        for shift in range(5):
            for value in range(-40, 41):
                expected = math.floor(Fraction(value, 1 << shift) + Fraction(1, 2)) if shift else value
                self.assertEqual(fixed_point.round_shift(value, shift), expected)
                self.assertEqual(fixed_point.round_shift(np.array([value]), shift).tolist(), [expected])

    def test_divide_is_floor_of_the_shifted_numerator(self):
        for numerator in range(-30, 31):
            for denominator in range(1, 9):
                expected = math.floor(Fraction(numerator + denominator // 2, denominator))
                self.assertEqual(fixed_point.divide(np.array([numerator]), np.array([denominator])).tolist(), [expected])

    def test_isqrt_at_squares_and_at_the_end_of_its_range(self):
        roots = [0, 1, 2, 3, 2**16, 94906265, 94906267, 2**31, 3037000498, 3037000499]
        values = {v for r in roots for v in (r * r - 1, r * r, r * r + 1) if 0 <= v < 2**63} | {2**63 - 1, 2**62, 2**53 + 1}
        values = sorted(values)
        self.assertEqual(fixed_point.isqrt(np.array(values, np.int64)).tolist(), [math.isqrt(v) for v in values])

    def test_leaving_64_bits_is_an_error(self):
        fixed_point.requant(np.array([-(2**32)]), (2**30, 10))
        with self.assertRaises(WidthExceeded):
            fixed_point.requant(np.array([-(2**32)]), (2**31 - 1, 62))
        with self.assertRaises(WidthExceeded):
            fixed_point.exact_product(np.ones((1, 1), np.int64), np.ones((1, 1), np.int64), 2**53)


class Functions(unittest.TestCase):
    def setUp(self):
        self.tables = packages.tiny().tables

    def test_lookups_against_one_number_at_a_time(self):
        xs = [0, 1, 255, 256, 257, 131071, 131072, 2**30 - 1] + [random.Random(1).randrange(150000) for _ in range(200)]
        xs += [-x for x in xs]
        array = np.array(xs, np.int64)
        self.assertEqual(operators.gelu(array, self.tables).tolist(), [self._gelu(x) for x in xs])
        self.assertEqual(operators.half_tanh(array, self.tables).tolist(), [self._half_tanh(x) for x in xs])

    def _lerp(self, table, a):
        k, low = a >> 8, int(table[a >> 8])
        return low + (((int(table[k + 1]) - low) * (a % 256) + 128) >> 8)

    def _gelu(self, x):
        return max(x, 0) - (self._lerp(self.tables.gelu, abs(x)) if abs(x) < 131072 else 0)

    def _half_tanh(self, x):
        table = self.tables.half_tanh
        u = self._lerp(table, abs(x)) if abs(x) < 131072 else int(table[512])
        return -u if x < 0 else u

    def test_functions_are_what_their_names_say(self):
        for x in np.linspace(-9, 9, 301):
            fixed = np.array([round(x * 2**14)])
            self.assertAlmostEqual(int(operators.gelu(fixed, self.tables)[0]) / 2**14, x * math.erfc(-x / 2**0.5) / 2, delta=2e-3)
            self.assertAlmostEqual(int(operators.half_tanh(fixed, self.tables)[0]) / 2**12, math.tanh(x) / 2, delta=1e-3)
        for d in (0, 1, 63, 64, 700, 5000, 16383, 16384, 10**6):
            got = int(operators.exp_neg(np.array([d]), self.tables)[0])
            self.assertAlmostEqual(got / 32767, math.exp(-d / 1024), delta=1e-4)
        for v in (-12 * 65536, -65537, -1, 0, 1, 40000, 12 * 65536):
            self.assertAlmostEqual(operators.exp2(v, self.tables) / 2 ** (16 + v / 65536), 1, delta=2**-4 if v < 0 else 2**-16)

    def test_scale_index_counts_lesser_thresholds(self):
        threshold = np.arange(0, 630, 10)
        scales = np.array([-5, 0, 1, 10, 11, 619, 620, 621])
        expected = [sum(t < s for t in threshold.tolist()) for s in scales.tolist()]
        self.assertEqual(operators.scale_index(scales, threshold).tolist(), expected)
