"""rANS, container and package (SPEC 2, 6), and the order of errors."""

import json
import random
import struct
import unittest
import zlib

from mlic_reference import container, decoder, package, rans
from mlic_reference.errors import PackageRefusal, Refusal
from tests import packages

TABLE = rans.Table(-2, [0, 1, 20000, 50000, 65000, 65535])


def encode(intervals, lanes_log2):
    """The encoder of SPEC 6.3 (informative)."""
    states, words = [2**32] * (1 << lanes_log2), []
    for index in reversed(range(len(intervals))):
        (start, freq), lane = intervals[index], index % len(states)
        if states[lane] >> 32 >= freq:
            words.append(states[lane] % 2**16)
            states[lane] >>= 16
        states[lane] = ((states[lane] // freq) << 16) + states[lane] % freq + start
    return b"".join(s.to_bytes(6, "little") for s in states) + b"".join(w.to_bytes(2, "little") for w in reversed(words))


def intervals(table, value):
    """The intervals of a symbol, those of an escape included."""
    inside = table.min_symbol <= value <= table.max_symbol
    number = value - table.min_symbol if inside else table.escape
    first = [(table.starts[number], table.starts[number + 1] - table.starts[number])]
    if inside:
        return first
    e = 2 * (value - table.max_symbol) - 1 if value > table.max_symbol else 2 * (table.min_symbol - value)
    k = e.bit_length() - 1
    return first + [(k << 11, 1 << 11)] + ([((e - (1 << k)) << (16 - k), 1 << (16 - k))] if k else [])


class Rans(unittest.TestCase):
    def test_round_trip_seals_in_every_lane_count(self):
        draw = random.Random(1)
        symbols = [draw.randint(-6, 6) for _ in range(300)] + [32767, -32767, 2, 3, -2, -3, 0]
        for lanes_log2 in range(7):
            payload = encode([i for s in symbols for i in intervals(TABLE, s)], lanes_log2)
            coder = rans.Decoder(payload, lanes_log2)
            self.assertEqual([coder.symbol(TABLE) for _ in symbols], symbols)
            coder.seal()
            self.assert_code("rans-unread", self._sealed, payload + b"\0", symbols, lanes_log2)
            self.assert_code("rans-exhausted", self._sealed, payload[:-1], symbols, lanes_log2)
            self.assert_code("rans-not-sealed", self._sealed, payload, symbols[:-1], lanes_log2)

    def _sealed(self, payload, symbols, lanes_log2):
        coder = rans.Decoder(payload, lanes_log2)
        for _ in symbols:
            coder.symbol(TABLE)
        coder.seal()

    def assert_code(self, code, function, *arguments):
        with self.assertRaises(Refusal) as raised:
            function(*arguments)
        self.assertEqual(raised.exception.code, code)

    def test_errors_of_escapes_and_states(self):
        escape = intervals(TABLE, 3)[0]
        too_long = encode([escape, (17 << 11, 1 << 11)], 0)
        self.assert_code("rans-bad-escape", self._sealed, too_long, [0], 0)
        too_large = encode([escape, (16 << 11, 1 << 11), (65535, 1)], 0)
        self.assert_code("rans-symbol-range", self._sealed, too_large, [0], 0)
        self.assert_code("rans-bad-state", rans.Decoder, bytes(6), 0)
        self.assert_code("rans-exhausted", rans.Decoder, bytes(11), 1)


def varint(value):
    high = value >> 7
    return bytes([value & 0x7F | (0x80 if high else 0)]) + (varint(high) if high else b"")


def stream(payload=b"", flags=0, width=b"\1", height=b"\1", length=None, flip=0, after=b"", version=1):
    """A stream with good checksums, whatever its fields hold."""
    head = container.MAGIC + bytes([version, flags]) + bytes(6) + width + height + bytes([0]) + bytes(4)
    head += struct.pack("<I", zlib.crc32(payload)) + (varint(len(payload)) if length is None else length)
    return head + struct.pack("<H", zlib.crc32(head) & 0xFFFF ^ flip) + payload + after


def section(kind, contents, flip=0):
    head = bytes([kind]) + varint(len(contents))
    return head + struct.pack("<I", zlib.crc32(head + contents) ^ flip) + contents


class Container(unittest.TestCase):
    def code(self, data):
        try:
            damage = container.parse(data).damage
        except Refusal as refusal:
            return refusal.code
        return damage and damage.code

    def test_errors_in_their_order(self):
        cases = {
            "good": (stream(b"abc"), None),
            "nothing": (b"", "truncated"),
            "two bytes of another magic": (b"\xd1\0", "not-a-stream"),
            "version before the rest": (stream(version=2)[:4], "unsupported-version"),
            "end within a varint": (stream()[:11] + b"\x80\x80\x80\x80", "truncated"),
            "five bytes that go on": (stream()[:11] + b"\x80\x80\x80\x80\x80", "varint-too-long"),
            "long varint": (stream(width=b"\x81\0"), "non-canonical-varint"),
            "checksum before flags": (stream(flags=8, flip=1), "header-checksum"),
            "flags before payload length": (stream(flags=8, length=varint(2**28)), "reserved-bits"),
            "payload length before width": (stream(width=b"\0", length=varint(2**28)), "limit"),
            "huge height before zero width": (stream(width=b"\0", height=varint(2**32)), "limit"),
            "lanes before zero width": (stream(width=b"\0", flags=7), "limit"),
            "zero width before large height": (stream(width=b"\0", height=varint(65536)), "zero"),
            "pixels": (stream(width=varint(65535), height=varint(4097)), "limit"),
            "cut payload before its checksum": (stream(b"abc")[:-1], "truncated"),
            "payload checksum before sections": (stream(b"abc", flags=0x20)[:-1] + b"x", "payload-checksum"),
            "no section": (stream(flags=0x20, after=b"\0"), "zero"),
            "17 sections": (stream(flags=0x20, after=b"\x11"), "limit"),
            "large section before its end": (stream(flags=0x20, after=b"\1\1" + varint(2**24 + 1)), "limit"),
            "cut section": (stream(flags=0x20, after=b"\1" + section(1, b"icc")[:-1]), "truncated"),
            "section checksum before the end":
                (stream(flags=0x20, after=b"\1" + section(1, b"icc", 1) + b"x"), "section-checksum"),
            "bytes after sections": (stream(flags=0x20, after=b"\1" + section(9, b"") + b"x"), "trailing-bytes"),
        }
        for name, (data, expected) in cases.items():
            with self.subTest(name):
                self.assertEqual(self.code(data), expected)

    def test_model_comes_before_quality_and_damage(self):
        refusal = decoder.decode(stream(b"abc", after=b"x"), packages.tiny()).refusal
        self.assertEqual(refusal.code, "wrong-model")


class Package(unittest.TestCase):
    def test_every_byte_of_the_directory_counts(self):
        data = packages.TINY.read_bytes()
        for offset in [*range(0, 256), len(data) // 3, len(data) - 1]:
            altered = bytearray(data)
            altered[offset] ^= 1
            with self.subTest(offset), self.assertRaises(PackageRefusal):
                package.load(bytes(altered))
        for altered in (data[:-1], data + b"\0", data[:100], b""):
            with self.assertRaises(PackageRefusal):
                package.load(altered)

    def refused(self, kind, contents, message):
        altered = packages.sections()
        altered[kind - 1] = contents
        with self.subTest(message), self.assertRaisesRegex(PackageRefusal, message):
            package.load(packages.assemble(altered))

    def test_contents_against_their_rules(self):
        text, parameters, weights, *_ = packages.sections()
        self.assertEqual(packages.assemble(packages.sections()), packages.TINY.read_bytes())
        self.refused(1, b" " + text, "begin with an object")
        self.refused(1, text[:-1] + b',"heads":2}', "a member occurs twice")
        self.refused(1, text.replace(b'"skip_below":1', b'"skip_below":-0'), "sign")
        self.refused(1, text.replace(b'"skip_below":1', b'"skip_below":1.0'), "skip_below")
        self.refused(1, text.replace(b'"window":5', b'"window":4'), "window")
        self.refused(2, parameters[:-4] + struct.pack("<i", -(2**31)), "median too small")
        self.refused(2, parameters + b"\0", "too long")
        self.refused(3, b"\x80" + weights[1:], "weight of -128")
        self.refused(3, weights[:-1], "length of the weights")

    def test_what_else_is_in_the_metadata_has_limits(self):
        def read(more):
            package.metadata(b'{"more":%s,"more":0,"name":"a"}' % more)

        def nested(count):
            return b"[" * count + b"]" * count

        largest = (b"1.7976931348623158e308", b"-1.7976931348623158e308")
        for more in (*largest, b"1e-999", b"0e999", b'"\ud83d\ude00"', b"9" * 308, nested(126)):
            with self.subTest(more):
                read(more)
        halves = (b'"\ud800"', b'"\ude00\ud83d"', b'"\ud800\u0041"', b'{"\udc00":0}', b'["\ud800"]')
        beyond = (b"1.7976931348623159e308", b"179769313486231586e291", b"9" * 400)
        numbers = (*beyond, b"1e999", b"-1e999", b"[1e309]", b"NaN", b"Infinity", b"-Infinity")
        for more in (*halves, *numbers, nested(127), nested(100_000)):
            with self.subTest(more[:80]), self.assertRaisesRegex(PackageRefusal, "metadata is"):
                read(more)
        objects = b'{"name":"a","":'
        package.metadata(objects * 126 + b"{}" + b"}" * 126)
        with self.assertRaisesRegex(PackageRefusal, "nested too deep"):
            package.metadata(objects * 127 + b"{}" + b"}" * 127)
        for text in (b"7", b'["name"]', b"{}", b'{"name":["a"]}', b'{"name":"a","name":{}}'):
            with self.subTest(text), self.assertRaisesRegex(PackageRefusal, "without a name"):
                package.metadata(text)
        self.refused(7, b'{"name":"a","more":1e999}', "metadata is not JSON")

    def test_structure_of_the_synthesis(self):
        def graph(*nodes):
            return b"MLGR" + struct.pack("<4I", 1, 64, 1 + len(nodes), len(nodes)) + b"\0" + b"".join(nodes)

        def convolution(outputs, kernel=1, weight=0.0, stride=1):
            numbers = struct.pack("<6I", 0, 64, outputs, kernel, stride, 1)
            return b"\1" + numbers + b"\1" + struct.pack("<e", weight) * (64 * outputs) + b"\0" + bytes(4 * outputs)

        shuffle = b"\4" + struct.pack("<2I", 1, 16)
        good = packages.sections()
        good[3] = graph(convolution(768), shuffle)
        package.load(packages.assemble(good))
        self.refused(4, graph(convolution(768), shuffle) + b"\0", "bytes after the last node")
        self.refused(4, graph(convolution(768), shuffle)[:-1], "ends early")
        self.refused(4, graph(convolution(1024), shuffle), "output of 4 channels")
        self.refused(4, graph(convolution(3)), "at 1 times the size")
        self.refused(4, graph(convolution(768, kernel=2), shuffle), "even kernel")
        self.refused(4, graph(convolution(768, weight=float("nan")), shuffle), "not finite")
        self.refused(4, graph(shuffle), "no earlier node")
        self.refused(4, graph(convolution(768), shuffle, *(convolution(1, stride=n) for n in (32, 33))), "common stride 1056")

    def test_an_empty_synthesis_needs_an_exact_one(self):
        contents = packages.sections()
        contents[3] = b""
        model = package.load(packages.assemble(contents))
        self.assertNotEqual(model.id, packages.tiny().id)
        suite = packages.CONFORMANCE / "smoke"
        stream = (suite / "noise-2x3-q100.mlic").read_bytes()
        self.assertEqual(decoder.decode(stream, model).refusal.code, "wrong-model")
        vectors = json.loads((suite / "manifest.json").read_text())["vectors"]
        expected = next(v for v in vectors if v["name"] == "noise-2x3-q100")["expect"]["decodes"]
        model.id = packages.tiny().id
        digests = decoder.decode(stream, model).digests()
        self.assertEqual((digests["y_hat"], digests["pixels"]), (expected["y_hat"], expected["pixels"]))
        with self.assertRaisesRegex(PackageRefusal, "transform"):
            package.load(packages.assemble(contents[:7]))

    def test_proof_obligation_of_a_layer(self):
        _, parameters, *_ = packages.sections()
        # After the max of h_s.conv0: shift, requant of GELU (5 bytes), multipliers of one term, bias of the first output.
        bias = 4 + 1 + 5 + 4 * packages.tiny().layers["h_s.conv0"].layer.outputs
        self.refused(2, parameters[:bias] + struct.pack("<q", 2**63 - 1) + parameters[bias + 8:], "sum may leave")
