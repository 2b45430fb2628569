"""Tiles of photographs: reading, the held-out part, and batches of augmented crops made on the device."""
import io
import os
import re
import tarfile

import numpy as np
import torch
import torch.nn.functional as F

HELD_OUT = range(1600, 1728)     # numbers of tiles; those of one photograph are neighbours
GUARD = 8                        # a photograph has at most 8 tiles: none of it is on both sides
SYNTHETIC_SIDE = 128


def numbers(path):
    """Those that `load` gives, without the tiles."""
    if path.startswith("synthetic:"):
        return np.arange(int(path.split(":")[1]))
    if path.endswith(".npy"):
        return _of_npy(path, np.load(path, mmap_mode="r"))
    with tarfile.open(path) as t:
        return _of_names(m.name for m in _members(t))


def side(path):
    """The shorter side of the tiles that `load` gives, without all of them."""
    if path.startswith("synthetic:"):
        return SYNTHETIC_SIDE
    if path.endswith(".npy"):
        return min(np.load(path, mmap_mode="r").shape[1:3])
    from PIL import Image
    with tarfile.open(path) as t:
        return min(Image.open(io.BytesIO(t.extractfile(_members(t)[0]).read())).size)


def to_npy(path, out):
    """Writes the tiles of `path` as OUT.npy and their numbers as OUT.numbers.npy: a .tar that was thinned has not all of them."""
    data, numbers = load(path)
    np.save(out, data.numpy())
    np.save(_numbers_of(out), numbers)


def _numbers_of(path):
    return path.removesuffix(".npy") + ".numbers.npy"


def _of_npy(path, data):
    if not os.path.exists(own := _numbers_of(path)):
        raise ValueError(f"{own} is missing, by whose numbers photographs are held out; tiles.to_npy writes both")
    numbers = np.load(own)
    if numbers.shape != (len(data),):
        raise ValueError(f"{own} is of other tiles: numbers {list(numbers.shape)}, and there are {len(data)} tiles")
    return numbers


def _members(tar):
    return sorted((m for m in tar if m.isfile()), key=lambda m: m.name)


def _of_names(names):
    found = [(name, re.findall(r"\d+", name)) for name in names]
    if unnumbered := next((name for name, digits in found if not digits), None):
        raise ValueError(f"{unnumbered}: a tile whose name has no number; pack_tiles.py writes them")
    return np.array([int(digits[-1]) for _, digits in found])


def load(path):
    """(tiles (n, h, w, 3) uint8, their numbers) from a .npy of `to_npy` (memory-mapped), a .tar of NUMBER.jpg, or `synthetic:N`."""
    if path.startswith("synthetic:"):
        return synthetic(int(path.split(":")[1]))
    if path.endswith(".npy"):
        data = torch.from_numpy(np.load(path, mmap_mode="c"))
        return data, _of_npy(path, data)
    from PIL import Image
    with tarfile.open(path) as t:
        members = _members(t)
        data = np.stack([np.asarray(Image.open(io.BytesIO(t.extractfile(m).read())).convert("RGB")) for m in members])
    return torch.from_numpy(data), _of_names(m.name for m in members)


def synthetic(n, size=SYNTHETIC_SIDE):
    """Smooth noise with edges: for trying the program, not for training."""
    g = torch.Generator().manual_seed(1)
    x = sum(F.interpolate(torch.randn(n, 3, s, s, generator=g), (size, size), mode="bicubic") for s in (2, 8, 32))
    x = torch.where(x[:, :1] > 0, x, 1 - x)
    return (x * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous(), np.arange(n)


def split(numbers):
    """(training, held-out) positions, by photograph: HELD_OUT, or the last tenth of tiles that do not reach beyond it. Of so few that their
    neighbours are all, a photograph may be on both sides. Fewer than two tiles are refused."""
    if len(numbers) < 2:
        raise ValueError(f"{len(numbers)} tiles: one is held out, and one more is needed to learn from")
    last = np.sort(numbers)[-max(1, len(numbers) // 10):]
    for first, stop in ((HELD_OUT.start, HELD_OUT.stop), (last[0], last[-1] + 1)):
        held = (numbers >= first) & (numbers < stop)
        near = (numbers >= first - GUARD) & (numbers < stop + GUARD)
        if held.any() and not near.all() and numbers.max() >= stop - 1:
            break
    else:
        near = held
    return torch.from_numpy(np.flatnonzero(~near)), torch.from_numpy(np.flatnonzero(held))


def weights(tiles, index, detail):
    """Probability of each tile: `detail` of it goes by the mean difference of neighbouring samples, the rest is the same for all. Where
    a picture is smooth there is little to learn, and most tiles are."""
    step = lambda t: sum((t.narrow(d, 1, t.shape[d] - 1) - t.narrow(d, 0, t.shape[d] - 1)).abs().mean((1, 2, 3)) for d in (1, 2))
    e = torch.cat([step(tiles[i].float()) for i in index.split(64)])
    return detail * e / e.sum() + (1 - detail) / len(e)


def crops(tiles, index, n, size, shrink=0.0, probability=None):
    """(n, 3, size, size) float crops in [0, 1], channels last, flipped and transposed at random, with probability
    `shrink` the whole batch at 3/4 scale, or as near to it as tiles are large. tiles: (t, h, w, 3) uint8 on any device; index: the tiles to
    draw from, all alike or with the `probability` of each."""
    dev, (h, w) = tiles.device, tiles.shape[1:3]
    take = min(size * 4 // 3, h, w) if torch.rand(()) < shrink else size
    ints = lambda hi: torch.randint(hi, (n, 1), device=dev)
    coin = lambda: torch.rand(n, 1, device=dev) < 0.5
    r = torch.arange(take, device=dev)[None]
    rows = torch.where(coin(), r, take - 1 - r) + ints(h - take + 1)
    cols = torch.where(coin(), r, take - 1 - r) + ints(w - take + 1)
    pick = index[ints(len(index)).squeeze(1) if probability is None else torch.multinomial(probability, n, replacement=True)]
    x = tiles[pick[:, None, None], rows[:, :, None], cols[:, None, :]]
    x = torch.where(coin()[:, :, None, None], x, x.transpose(1, 2))
    x = x.permute(0, 3, 1, 2).float() / 255
    if take != size:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return x.contiguous(memory_format=torch.channels_last)
