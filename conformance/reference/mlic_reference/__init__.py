"""Reference decoder of MLIC++ streams, written from docs/SPEC.md alone.

It stops at `y_hat`: pixels (SPEC 5.6) are close, not exact, and no part of it.
"""

NAME = "mlic-reference"
VERSION = "1.0.0"
