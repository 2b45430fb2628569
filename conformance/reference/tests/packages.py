"""The tiny package, loaded once."""

from functools import cache
from pathlib import Path

from mlic_reference import package

CONFORMANCE = Path(__file__).resolve().parents[2]
TINY = CONFORMANCE / "models" / "tiny.mlicpkg"


@cache
def tiny():
    return package.load(TINY.read_bytes())
