"""Respaces the levels of quality of a trained checkpoint so that each step of q multiplies the bits by about the same factor.

    python evaluate.py CHECKPOINT --tiles tiles.tar --json EVAL.json
    python levels.py CHECKPOINT EVAL.json OUT.pt [--first BPP]

--first cuts off what has fewer bits on the held-out tiles; q 0 is there.
A level is a set of gains, and gains between levels are interpolated in the logarithm; so new levels are read off between old ones and
nothing else changes. OUT.pt has the lambdas of its levels, with which training goes on.
"""
import argparse
import json
import math
import pathlib
import sys

import torch

import checkpoint
import rd

GAINS = ("gain", "inverse_gain", "hyper_gain", "inverse_hyper_gain")


def measured(report, count):
    """The rows of what evaluate.py wrote, which must be of a checkpoint's `count` levels, each once and in order."""
    if "levels" not in report:
        raise ValueError("it has no `levels`: evaluate.py --json writes them")
    rows, want = report["levels"], list(range(count))
    if (have := [r["level"] for r in rows]) != want:
        raise ValueError(f"it has levels {', '.join(f'{v:g}' for v in have)}, and those of the checkpoint are {', '.join(map(str, want))}: "
                         "evaluate.py measures all of them without --levels")
    return rows


def positions(rows, first=0.0):
    """Old levels (real numbers) at which log bits are evenly spaced, from `first` bits per pixel or the fewest there are.
    rows: as `measured` gives them."""
    bits = [math.log(r["bpp"]) for r in rows]
    if any(b <= a for a, b in zip(bits, bits[1:])):
        raise ValueError(f"bits must grow with every level: {[r['bpp'] for r in rows]}")
    lowest = math.log(max(first, rows[0]["bpp"]))
    if lowest >= bits[-1]:
        raise ValueError(f"{first} bits per pixel are not below the most, {rows[-1]['bpp']}")
    out = []
    for k in range(len(bits)):
        want = lowest + (bits[-1] - lowest) * k / (len(bits) - 1)
        lo = max(i for i in range(len(bits) - 1) if bits[i] <= want + 1e-12)
        out.append(lo + (want - bits[lo]) / (bits[lo + 1] - bits[lo]))
    return out


def respace(state, at):
    """Gains of `state` read at the old levels `at`."""
    for name in GAINS:
        old, rows = state[name], []
        for t in at:
            lo = min(int(t), len(old) - 2)
            rows.append(torch.lerp(old[lo], old[lo + 1], t - lo))
        state[name] = torch.stack(rows)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("checkpoint")
    a.add_argument("eval")
    a.add_argument("out")
    a.add_argument("--first", type=float, default=0.0, metavar="BPP")
    a = a.parse_args()
    try:
        state, step, lambdas = checkpoint.load(a.checkpoint)
        rd.use(lambdas)
    except (OSError, ValueError) as e:
        sys.exit(f"levels: {e}")
    try:
        at = positions(measured(json.loads(pathlib.Path(a.eval).read_text()), len(state["gain"])), a.first)
    except (OSError, ValueError) as e:
        sys.exit(f"levels: {a.eval}: {e}")
    respace(state, at)
    checkpoint.save(a.out, state, step, half=True, lambdas=rd.lam(torch.tensor(at)).tolist())
    print("old levels:", ", ".join(f"{t:.3f}" for t in at))


if __name__ == "__main__":
    main()
