"""Compares this decoder with the vectors of a suite (conformance/README.md, SPEC 7) at levels L0 to L4.

L4 is compared where pixels are exact. Float pixels (SPEC 5.6) are no part of this decoder."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import decoder, package
from .errors import PackageRefusal, Refusal

LEVELS = (0, 1, 2, 3, 4)
MANIFEST_FORMAT = 1


class SuiteError(Exception):
    """A suite that cannot be used: it counts as failed."""


@dataclass
class Comparison:
    """What was compared of a vector at each level, and the differences, in the order of the walk."""

    compared: set = field(default_factory=set)
    differences: list = field(default_factory=list)

    def equal(self, level, what, got, expected):
        self.compared.add(level)
        if got != expected:
            self.differences.append((level, f"{what}: {got}, expected {expected}"))

    def verdict(self, level):
        if any(at == level for at, _ in self.differences):
            return "FAIL"
        return "ok" if level in self.compared else "-"


class Suite:
    """A manifest, its package and its streams."""

    def __init__(self, manifest_path, package_paths):
        self.folder = Path(manifest_path).resolve().parent
        try:
            manifest = json.loads(Path(manifest_path).read_text("utf-8"))
            if manifest["format"] != MANIFEST_FORMAT:
                raise SuiteError(f"manifest format {manifest['format']}")
            self.name, self.model_name = manifest["suite"], manifest["model"]["name"]
            self.vectors = {vector["name"]: vector for vector in manifest["vectors"]}
            if len(self.vectors) != len(manifest["vectors"]):
                raise SuiteError("two vectors of one name")
            self.model = self._model(manifest["model"], package_paths)
        except (OSError, ValueError, KeyError, TypeError, Refusal) as error:
            raise SuiteError(f"{manifest_path}: {type(error).__name__} {error}") from error

    def _model(self, wanted, package_paths):
        """The package that the manifest names or, if it names none, a given one or that of models/; its id must match."""
        if "package" in wanted:
            candidates = [self.folder.parent / wanted["package"]]
        else:
            name = wanted["name"]
            candidates = [*map(Path, package_paths), self.folder.parents[1] / "models" / name / f"{name}.mlicpkg"]
        for candidate in candidates:
            if candidate.is_file():
                model = package.load(candidate.read_bytes())
                if model.id == wanted["id"]:
                    return model
        raise SuiteError(f"no package of model {wanted['id']} among {', '.join(map(str, candidates))}")

    def compare(self, vector):
        """Decodes a vector and compares it with its expectation."""
        name = vector["stream"]["file"]
        if Path(name).name != name:
            raise SuiteError(f"stream {name} is outside the suite")
        data = (self.folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != vector["stream"]["sha256"]:
            raise SuiteError(f"{name} is not the stream of the manifest")
        [(outcome, expected)] = vector["expect"].items()
        if outcome == "decodes":
            return _compare_decoding(decoder.decode(data, self.model), expected)
        if outcome == "refused":
            return _compare_refusal(decoder.decode(data, self.model), expected)
        if outcome in ("package-refused", "package-taken"):
            return _compare_package(data, outcome)
        raise SuiteError(f"unknown outcome {outcome}")


def _compare_refusal(decoding, expected):
    comparison = Comparison()
    code = None if decoding.refusal is None else decoding.refusal.code
    # SPEC 5.1, step 1: these come before damage.
    if expected["level"] > 0 and expected["code"] not in ("wrong-model", "quality"):
        comparison.equal(0, "the container alone", _container_code(decoding), None)
    comparison.equal(expected["level"], "error", code, expected["code"])
    return comparison


def _compare_package(data, outcome):
    """SPEC does not tell the refusals of packages apart, so the code in the manifest is not compared."""
    comparison = Comparison()
    try:
        package.load(data)
        got = "package-taken"
    except PackageRefusal:
        got = "package-refused"
    comparison.equal(0, "package", got, outcome)
    return comparison


def _container_code(decoding):
    """Code of the error that the container shows, None if it is good or merely cut off."""
    stream = decoding.stream
    if stream is None:
        return decoding.refusal.code
    return None if stream.damage is None or stream.is_truncated else stream.damage.code


def _compare_decoding(decoding, expected):
    comparison = Comparison()
    comparison.equal(0, "error of the container", _container_code(decoding), None)
    if decoding.stream is None:
        return comparison
    for member, value in expected["header"].items():
        comparison.equal(0, f"header {member}", header_members(decoding.stream).get(member), value)
    digests = decoding.digests()
    comparison.equal(1, "z", digests["z"], expected["z"])
    for index, values in enumerate(expected["passes"]):
        _compare_pass(comparison, digests["passes"][index] if index < len(digests["passes"]) else {}, values)
    comparison.equal(1, "number of passes", len(digests["passes"]), len(expected["passes"]))
    comparison.equal(3, "y_hat", digests["y_hat"], expected["y_hat"])
    if decoding.pixels is not None or "pixels" in expected:
        comparison.equal(4, "pixels", digests["pixels"], expected.get("pixels"))
    comparison.equal(1, "error", decoding.refusal and decoding.refusal.code, None)
    comparison.equal(1, "whole slices", digests["whole_slices"], expected.get("whole_slices"))
    return comparison


def _compare_pass(comparison, got, expected):
    name = expected["pass"]
    comparison.equal(1, f"{name}: pass", f"slice {got.get('slice')} {got.get('parity')}", name)
    for level, member in ((2, "means"), (2, "scale_indices"), (1, "symbols")):
        comparison.equal(level, f"{name}: {member}", got.get(member), expected[member])


def header_members(stream):
    """Members of a header as manifests name them."""
    header = stream.header
    return {
        "model": header.model, "width": header.width, "height": header.height, "quality": header.quality,
        "gray": header.gray, "lanes_log2": header.lanes_log2, "symbol_checksum": header.symbol_checksum,
        "payload_bytes": header.payload_bytes,
        "sections": [[kind, len(contents)] for kind, contents in stream.sections],
    }


def run(manifest_paths, package_paths=(), names=(), out=print):
    """Runs suites, or the vectors named, and prints a table. True if something ran and all of it passed."""
    passed = failed = 0
    missing = set(names)
    for path in manifest_paths:
        try:
            suite = Suite(path, package_paths)
        except SuiteError as error:
            out(f"suite cannot be used: {error}")
            failed += 1
            continue
        missing -= set(suite.vectors)
        out(f"suite {suite.name}, model {suite.model_name} {suite.model.id}")
        out(f"{'vector':<36}" + "".join(f"{f'L{level}':<6}" for level in LEVELS) + "seconds")
        for name, vector in suite.vectors.items():
            if names and name not in names:
                continue
            if _run_vector(suite, vector, out):
                passed += 1
            else:
                failed += 1
    for name in sorted(missing):
        out(f"no vector {name}")
    out(f"{passed} passed, {failed} failed; pixels (L4) are compared where they are exact")
    return passed > 0 and failed == 0 and not missing


def _run_vector(suite, vector, out):
    started = time.perf_counter()
    try:
        comparison = suite.compare(vector)
    except (SuiteError, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
        out(f"{vector['name']:<36}error: {type(error).__name__} {error}")
        return False
    seconds = time.perf_counter() - started
    out(f"{vector['name']:<36}" + "".join(f"{comparison.verdict(level):<6}" for level in LEVELS) + f"{seconds:.2f}")
    for level, difference in comparison.differences[:1]:
        out(f"    first difference (L{level}): {difference}")
    return bool(comparison.compared) and not comparison.differences
