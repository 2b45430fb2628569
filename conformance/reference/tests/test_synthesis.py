"""The exact synthesis (SPEC 2.9, 4.9, 4.11, 5.7): its section, and its samples one number at a time."""

import math
import struct
import types
import unittest

import numpy as np

from mlic_reference import operators, package, synthesis
from mlic_reference.errors import PackageRefusal
from tests import packages
from tests.test_operators import at, clipped, rounded

RNG = np.random.default_rng(2)
GOOD = {"magic": b"MLIS", "version": 1, "max": 900, "multiplier": 3, "shift": 9, "nodes": 6}


def layer(k, epilogue, outputs, reads, shuffle=0, b=1, max=255, shift=12, bias=None, multiplier=None, weight=None):
    """A layer node: its fields and, drawn at random, its numbers. `reads` has (node, identity, channels)."""
    epilogues = {"lin": 0, "gelu": 1, "pixel": 2}
    node = {"k": k, "epilogue": epilogues.get(epilogue, epilogue), "shuffle": shuffle, "b": b, "outputs": outputs,
            "reads": reads, "max": max, "shift": shift, "output": (1500, 18)}
    node["multipliers"] = [RNG.integers(1, 40, outputs) if multiplier is None else np.full(outputs, multiplier) for _ in reads]
    node["bias"] = RNG.integers(-10**5, 10**6, outputs) if bias is None else np.full(outputs, bias)
    limit = 127 if b == 1 else 2000
    node["weights"] = [None if identity else RNG.integers(-limit, limit + 1, (outputs, k, k, channels))
                       for _, identity, channels in reads]
    if weight is not None:
        node["weights"][0].flat[-1] = weight
    return node


def layer_bytes(node):
    data = bytes([1, node["k"], node["epilogue"], node["shuffle"], node["b"], len(node["reads"])])
    data += struct.pack("<I", node["outputs"]) + b"".join(struct.pack("<IB", n, i) for n, i, _ in node["reads"])
    data += struct.pack("<iB", node["max"], node["shift"])
    data += struct.pack("<iB", *node["output"]) if node["epilogue"] == 1 else b""
    data += b"".join(m.astype("<i4").tobytes() for m in node["multipliers"]) + node["bias"].astype("<i8").tobytes()
    kind = "<i1" if node["b"] == 1 else "<i2"
    return data + b"".join(w.astype(kind).tobytes() for w in node["weights"] if w is not None)


def normalization(read, n, gamma=None, beta=5000, multiplier=None, max=400, shift=3, output_shift=14):
    node = {"read": read, "max": max, "shift": shift, "output_shift": output_shift,
            "gamma": RNG.integers(0, 300, (n, n)), "beta": np.full(n, beta),
            "multiplier": RNG.integers(1, 60, n) if multiplier is None else np.full(n, multiplier)}
    if gamma is not None:
        node["gamma"][0] = gamma
    return node


def normalization_bytes(node):
    return (struct.pack("<BIiBB", 2, node["read"], node["max"], node["shift"], node["output_shift"])
            + node["gamma"].astype("<i2").tobytes() + node["beta"].astype("<i8").tobytes()
            + node["multiplier"].astype("<i4").tobytes())


def nodes(latent):
    """Every kernel, epilogue, width, identity and shuffle, to 16 times the size."""
    return [layer(3, "gelu", 16, [(0, 0, latent)], shuffle=1, max=300),
            normalization(1, 4, max=700),
            layer(5, "lin", 4, [(2, 0, 4), (1, 1, 4), (1, 0, 4)], b=2, shift=16, max=500),
            layer(1, "lin", 16, [(3, 0, 4)], shuffle=1, shift=8),
            layer(1, "gelu", 16, [(4, 0, 4)], shuffle=1, shift=6),
            layer(3, "pixel", 12, [(5, 0, 4)], shuffle=1, bias=200000, shift=11)]


def section(parts, **fields):
    f = GOOD | {"nodes": len(parts)} | fields
    head = f["magic"] + struct.pack("<IiiBI", f["version"], f["max"], f["multiplier"], f["shift"], f["nodes"])
    return head + b"".join(part if isinstance(part, bytes) else
                           layer_bytes(part) if "k" in part else normalization_bytes(part) for part in parts)


def load(contents):
    return package.load(packages.assemble([*packages.sections()[:7], contents]))


class Samples(unittest.TestCase):
    def setUp(self):
        self.latent = packages.tiny().configuration.latent
        self.nodes = nodes(self.latent)
        self.model = load(section(self.nodes))

    def test_against_the_formulas(self):
        y_hat = RNG.integers(-2**20, 2**20, (3, 2, self.latent))
        y_hat[0, 0, 0], y_hat[0, 0, 1] = 2**27 - 1, 1 - 2**27
        got = synthesis.samples(y_hat, self.model, 0)
        maps = [self._quantized(y_hat)]
        for node in self.nodes:
            maps.append(self._layer(node, maps) if "k" in node else self._normalization(node, maps))
        self.assertEqual(got.tolist(), maps[-1].tolist())
        self.assertEqual((maps[-1].min(), maps[-1].max()), (0, 255))
        for largest, x in zip((900, 300, 700, 500, 255, 255), maps, strict=False):
            self.assertLessEqual(abs(x).max(), largest)
            self.assertGreater(len(np.unique(x)), 4)

    def _quantized(self, y_hat):
        out = np.empty_like(y_hat)
        for r, c, n in np.ndindex(y_hat.shape):
            gain = operators.gain(self.model.inverse_gain, n, 0, self.model.configuration.quality_steps, self.model.tables)
            y = clipped(rounded(int(y_hat[r, c, n]) * gain, 16), 2**27 - 1)
            out[r, c, n] = clipped(rounded(y * 3, 9), 900)
        return out

    def _layer(self, node, maps):
        rows, columns, _ = maps[node["reads"][0][0]].shape
        out = np.empty((rows, columns, node["outputs"]), np.int64)
        for r, c, o in np.ndindex(out.shape):
            total = int(node["bias"][o])
            for (read, identity, channels), multiplier, weight in zip(
                    node["reads"], node["multipliers"], node["weights"], strict=True):
                h = node["k"] // 2
                total += int(multiplier[o]) * (at(maps[read], r, c, o) if identity else sum(
                    int(weight[o, i, j, n]) * at(maps[read], r + i - h, c + j - h, n)
                    for i in range(node["k"]) for j in range(node["k"]) for n in range(channels)))
            out[r, c, o] = self._epilogue(node, rounded(total, node["shift"]))
        if not node["shuffle"]:
            return out
        shuffled = np.empty((2 * rows, 2 * columns, node["outputs"] // 4), np.int64)
        for r, c, n in np.ndindex(shuffled.shape):
            shuffled[r, c, n] = out[r // 2, c // 2, 4 * n + 2 * (r % 2) + c % 2]
        return shuffled

    def _epilogue(self, node, v):
        if node["epilogue"] == 2:
            return min(max(v, 0), node["max"])
        if node["epilogue"] == 1:
            multiplier, shift = node["output"]
            v = rounded(self._gelu(clipped(v, 2**30 - 1)) * multiplier, shift)
        return clipped(v, node["max"])

    def _gelu(self, x):
        a, table = abs(x), self.model.tables.gelu.tolist()
        if a >= 131072:
            return max(x, 0)
        low, high = table[a >> 8], table[(a >> 8) + 1]
        return max(x, 0) - low - rounded((high - low) * (a % 256), 8)

    @staticmethod
    def _normalization(node, maps):
        x = maps[node["read"]]
        out = np.empty_like(x)
        for r, c, n in np.ndindex(x.shape):
            total = sum(int(g) * int(v) ** 2 for g, v in zip(node["gamma"][n], x[r, c], strict=True)) + int(node["beta"][n])
            root = math.isqrt(min(rounded(total, node["shift"]), 2**31 - 1))
            scaled = int(x[r, c, n]) * root * int(node["multiplier"][n])
            out[r, c, n] = clipped(rounded(scaled, node["output_shift"]), node["max"])
        return out

    def test_the_root_ends_at_31_bits(self):
        operation = synthesis.Normalization(np.array([[32767]]), np.array([2**61]), np.array([1]), 0, 0, 32767)
        got = operators.normalization(np.array([[[2]], [[-1]]]), operation, 2)
        self.assertEqual(got.ravel().tolist(), [32767, -32767])
        operation.output_shift = 16
        got = operators.normalization(np.array([[[2]], [[-1]]]), operation, 2)
        self.assertEqual(got.ravel().tolist(), [rounded(2 * 46340, 16), rounded(-46340, 16)])

    def test_pictures_are_cropped_and_made_gray(self):
        rgb = RNG.integers(0, 256, (64, 64, 3))
        header = types.SimpleNamespace(width=5, height=3, gray=False)
        self.assertEqual(synthesis.picture(rgb, header).tolist(), rgb[:3, :5].tolist())
        header.gray = True
        for r, c, n in np.ndindex(3, 5, 1):
            red, green, blue = rgb[r, c].tolist()
            self.assertEqual(synthesis.picture(rgb, header)[r, c, n], (299 * red + 587 * green + 114 * blue + 500) // 1000)


class Refusals(unittest.TestCase):
    def setUp(self):
        self.latent = packages.tiny().configuration.latent

    def refused(self, message, parts, **fields):
        with self.subTest(message), self.assertRaisesRegex(PackageRefusal, message):
            load(section(parts, **fields))

    def test_head(self):
        good = nodes(self.latent)
        self.refused("magic", good, magic=b"MLGR")
        self.refused("version", good, version=2)
        self.refused("max too", good, max=0)
        self.refused("multiplier too", good, multiplier=-1)
        self.refused("shift too", good, shift=63)
        self.refused("number of nodes", good, nodes=0)
        self.refused("node 5: pixels", good, nodes=5)
        self.refused("node 6: pixels", good, nodes=7)
        self.refused("ends early", [*good[:5], layer_bytes(good[5])[:-1]])
        self.refused("bytes after", [*good, b"\0"], nodes=6)

    def test_nodes(self):
        y_hat, two, three, four, five = (0, 0, self.latent), (2, 0, 4), (3, 0, 4), (4, 0, 4), (5, 0, 4)
        wide = layer(5, "lin", 4, [two], b=2)
        wide["weights"] = [np.full((4, 5, 5, 4), 32767)]
        for message, index, node in (
                ("opcode", 0, b"\0"),
                ("kernel", 0, layer(2, "gelu", 16, [y_hat], 1)),
                ("epilogue", 0, layer(3, 3, 16, [y_hat], 1)),
                ("node 1: shuffle", 0, layer(3, "gelu", 18, [y_hat], 1)),
                ("shuffle or stride too", 0, layer(3, "gelu", 16, [y_hat], 2)),
                ("sum of gamma", 1, normalization(1, 4, gamma=16384)),
                ("gamma", 1, normalization(1, 4, gamma=-1)),
                ("beta", 1, normalization(1, 4, beta=-1)),
                ("beta", 1, normalization(1, 4, beta=2**61 + 1)),
                ("multiplier", 1, normalization(1, 4, multiplier=-1)),
                ("shift", 1, normalization(1, 4, output_shift=63)),
                ("identity too", 2, layer(1, "lin", 4, [(2, 2, 4)])),
                ("earlier node", 2, layer(1, "lin", 4, [three])),
                ("different size", 2, layer(1, "lin", 4, [two, y_hat])),
                ("channels of an identity", 2, layer(1, "lin", 5, [(2, 1, 4)])),
                ("width of weights", 2, layer(1, "lin", 4, [two], b=0)),
                ("number of terms", 2, layer(1, "lin", 4, [])),
                ("number of terms", 2, layer(1, "lin", 4, [(2, 1, 4)] * 5)),
                ("outputs", 2, layer(1, "lin", 0, [two])),
                ("accumulator may", 2, wide),
                ("sum may", 2, layer(1, "lin", 4, [two], bias=2**63 - 1)),
                ("weight too small", 3, layer(1, "lin", 16, [three], 1, weight=-128)),
                ("weight too small", 3, layer(1, "lin", 16, [three], 1, b=2, weight=-32768)),
                ("pixels are those", 4, layer(1, "pixel", 16, [four], 1)),
                ("pixels are those", 5, layer(3, "lin", 12, [five], 1)),
                ("samples of 4", 5, layer(3, "pixel", 16, [five], 1)),
                ("samples of 3 channels at 8", 5, layer(3, "pixel", 3, [five])),
                ("up to 254", 5, layer(3, "pixel", 12, [five], 1, max=254))):
            parts = nodes(self.latent)
            parts[index] = node
            self.refused(message, parts)
