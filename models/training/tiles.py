"""Tiles of photographs: reading, the held-out part, and batches of augmented crops on the device."""
import io
import tarfile

import numpy as np
import torch

HELD_OUT = slice(1600, 1728)     # tiles of one photograph are neighbours
GUARD = 8                        # a photograph has at most 8 tiles: none of it on both sides


def load(path):
    """(n, h, w, 3) uint8 from .npy (memory-mapped) or a .tar of images, in order of their names."""
    if path.endswith(".npy"):
        return np.load(path, mmap_mode="r")
    from PIL import Image
    with tarfile.open(path) as t:
        members = sorted((m for m in t if m.isfile()), key=lambda m: m.name)
        return np.stack([np.asarray(Image.open(io.BytesIO(t.extractfile(m).read())).convert("RGB")) for m in members])


def split(tiles):
    """(training, held-out) index arrays, by photograph."""
    n = len(tiles)
    lo, hi = (HELD_OUT.start, HELD_OUT.stop) if n >= 2000 else (n - n // 8, n)
    index = np.arange(n)
    return index[(index < lo - GUARD) | (index >= hi + GUARD)], index[lo:hi]


def batch(tiles, index, n, size, rng):
    """(n, 3, size, size) float crops in [0, 1], channels last, flipped and transposed at random."""
    out = np.empty((n, size, size, 3), np.uint8)
    for k in range(n):
        t = tiles[index[rng.integers(len(index))]]
        y, x = rng.integers(t.shape[0] - size + 1), rng.integers(t.shape[1] - size + 1)
        c = t[y:y + size, x:x + size]
        if rng.random() < 0.5:
            c = c[:, ::-1]
        if rng.random() < 0.5:
            c = c.transpose(1, 0, 2)
        out[k] = c
    return torch.from_numpy(out).permute(0, 3, 1, 2).to(torch.float32).div_(255)
