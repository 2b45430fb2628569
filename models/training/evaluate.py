"""Rate and distortion of a checkpoint on the held-out tiles, per level of quality: float networks, estimated bits.

    python evaluate.py CHECKPOINT --tiles tiles.tar [--json OUT.json] [--count 32] [--levels 0,3.5,7]
"""
import argparse
import json
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import checkpoint
import fast
import rd
import tiles as tile_set
from mlicpp import EDGE, MLICPlusPlus


def held_out(data, numbers, count):
    """(count, 3, h, w) uint8: held-out tiles, evenly chosen."""
    _, index = tile_set.split(numbers)
    return data[index[torch.linspace(0, len(index) - 1, min(count, len(index))).long()]].permute(0, 3, 1, 2)


@torch.no_grad()
def evaluate(net, images, levels, batch=4, device="cpu"):
    """One row per level: means over the images. images: (n, 3, h, w) uint8."""
    was = net.training
    net.eval()
    rows = []
    for level in levels:
        parts = []
        for chunk in images.split(batch):
            x = (chunk.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
            q = torch.full((len(x),), float(level), device=device)
            o = net(x, q)
            o["x_hat"] = o["x_hat"].clamp(0, 1)
            ry, rz, mse = rd.rate_distortion(o, x)
            parts.append(torch.stack([ry, rz, -10 * mse.log10(), rd.loss(ry + rz, mse, q)]))
        ry, rz, psnr, loss = torch.cat(parts, 1).mean(1).tolist()
        rows.append({"level": level, "bpp": round(ry + rz, 4), "bpp_z": round(rz, 4), "psnr": round(psnr, 3), "loss": round(loss, 4)})
    net.train(was)
    return rows


def load(path):
    net = MLICPlusPlus(EDGE)
    state, step, lambdas = checkpoint.load(path)
    rd.use(lambdas)
    checkpoint.fill(net, state)
    return fast.use(net.to(memory_format=torch.channels_last)), step


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("checkpoint")
    a.add_argument("--tiles", required=True)
    a.add_argument("--json")
    a.add_argument("--count", type=int, default=32)
    a.add_argument("--levels", default="0,1,2,3,4,5,6,7")
    a = a.parse_args()
    torch.set_num_threads(1)
    try:
        net, step = load(a.checkpoint)
    except (OSError, ValueError) as e:
        sys.exit(f"evaluate: {e}")
    rows = evaluate(net, held_out(*tile_set.load(a.tiles), a.count), [float(v) for v in a.levels.split(",")])
    for r in rows:
        print(json.dumps(r))
    print(json.dumps({"step": step, "mean_loss": round(sum(r["loss"] for r in rows) / len(rows), 4)}))
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"step": step, "tiles": a.count, "levels": rows}, f, indent=1)


if __name__ == "__main__":
    main()
