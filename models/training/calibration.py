"""Writes training tiles as PNG for `mlic model build --images`: python calibration.py tiles.tar OUT [--count 24]"""
import argparse
import os

import torch
from PIL import Image

import tiles as tile_set


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("tiles")
    a.add_argument("out")
    a.add_argument("--count", type=int, default=24)
    a = a.parse_args()
    data, numbers = tile_set.load(a.tiles)
    index, _ = tile_set.split(numbers)
    os.makedirs(a.out, exist_ok=True)
    for i in index[torch.linspace(0, len(index) - 1, a.count).long()].tolist():
        Image.fromarray(data[i].numpy()).save(os.path.join(a.out, f"{numbers[i]:05d}.png"))


if __name__ == "__main__":
    main()
