"""Reference decoder of MLIC++ streams, written from docs/SPEC.md alone.

Pixels are made where they are exact (SPEC 5.7). Where they are close (SPEC 5.6), it stops at `y_hat`.
"""

NAME = "mlic-reference"
VERSION = "1.1.0"
