"""A check that cannot fail is not a check: `verify` must see what was altered."""

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import unittest
from pathlib import Path

from mlic_reference import __main__, verify
from tests import packages

VECTOR, REFUSED, CUT = "noise-2x3-q100", "bad-desync", "cut-1-of-noise-128x64-q33"


class Verify(unittest.TestCase):
    def setUp(self):
        """A copy of three vectors of the smoke suite, to be altered."""
        root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (root / "models").mkdir()
        shutil.copy(packages.TINY, root / "models")
        self.folder = root / "smoke"
        self.folder.mkdir()
        source = packages.CONFORMANCE / "smoke"
        self.manifest = json.loads((source / "manifest.json").read_text())
        self.manifest["vectors"] = [v for v in self.manifest["vectors"] if v["name"] in (VECTOR, REFUSED, CUT)]
        self.vectors = {v["name"]: v for v in self.manifest["vectors"]}
        for vector in self.vectors.values():
            shutil.copy(source / vector["stream"]["file"], self.folder)

    def passes(self, *names):
        self.lines = []
        path = self.folder / "manifest.json"
        path.write_text(json.dumps(self.manifest))
        return verify.run([path], names=names, out=self.lines.append)

    def test_what_is_right_passes(self):
        self.assertTrue(self.passes())
        self.assertTrue(self.passes(VECTOR))

    def test_nothing_is_no_pass(self):
        self.assertFalse(self.passes("no-such-vector"))
        self.assertFalse(self.passes(VECTOR, "no-such-vector"))
        self.manifest["vectors"] = []
        self.assertFalse(self.passes())

    def test_every_altered_digest_fails_at_its_level(self):
        expected = self.vectors[VECTOR]["expect"]["decodes"]
        last = expected["passes"][-1]
        for level, members, name in ((1, expected, "z"), (3, expected, "y_hat"), (2, last, "means"),
                                     (2, last, "scale_indices"), (1, last, "symbols"), (0, expected["header"], "width")):
            with self.subTest(name):
                right, members[name] = members[name], "0" * 32
                self.assertFalse(self.passes())
                self.assertIn(f"first difference (L{level})", "".join(self.lines))
                members[name] = right
        expected["passes"].pop()
        self.assertFalse(self.passes())

    def test_wrong_ends_fail(self):
        self.vectors[CUT]["expect"]["decodes"]["whole_slices"] = 0
        self.assertFalse(self.passes(CUT))
        self.vectors[REFUSED]["expect"]["refused"]["code"] = "rans-unread"
        self.assertFalse(self.passes(REFUSED))
        self.vectors[VECTOR]["expect"] = {"refused": {"code": "desync", "level": 1}}
        self.assertFalse(self.passes(VECTOR))

    def test_altered_files_fail_and_packages_must_be_refused(self):
        vector = self.vectors[VECTOR]
        path = self.folder / vector["stream"]["file"]
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        self.assertFalse(self.passes(VECTOR))
        vector["stream"]["sha256"] = hashlib.sha256(data).hexdigest()
        self.assertFalse(self.passes(VECTOR))
        self.assertIn("payload-checksum", "".join(self.lines))
        vector["expect"] = {"package-taken": {}}
        self.assertFalse(self.passes(VECTOR))
        vector["expect"] = {"package-refused": {"code": "not-a-package"}}
        self.assertTrue(self.passes(VECTOR))
        shutil.copy(packages.TINY, path)
        vector["stream"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        self.assertFalse(self.passes(VECTOR))
        vector["expect"] = {"package-taken": {}}
        self.assertTrue(self.passes(VECTOR))
        self.manifest["model"]["id"] = "0" * 12
        self.assertFalse(self.passes(CUT))


class CommandLine(unittest.TestCase):
    def run_main(self, *arguments):
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            return __main__.main([str(a) for a in arguments]), out.getvalue()

    def stream(self, name):
        return packages.CONFORMANCE / "smoke" / f"{name}.mlic"

    def test_exit_codes_are_distinct(self):
        for name, code in ((VECTOR, 0), (REFUSED, 1), (CUT, 3), ("no-such-stream", 2)):
            self.assertEqual(self.run_main("decode", self.stream(name), "--package", packages.TINY)[0], code)

    def test_external_always_gives_a_verdict(self):
        for name, member in ((VECTOR, "y_hat"), (REFUSED, "error"), (CUT, "whole_slices")):
            code, text = self.run_main("external", "--package", packages.TINY, "--stream", self.stream(name))
            self.assertEqual(code, 0)
            self.assertIn(member, json.loads(text))
        code, text = self.run_main("external", "--package", self.stream(VECTOR), "--stream", self.stream(VECTOR))
        self.assertEqual((code, json.loads(text)["error"]["code"]), (0, "model"))
