"""Trains a variable-rate MLIC++ for a given time.

    python train.py --tiles tiles.tar --out RUN --minutes 120 --workers 2 [--resume RUN/last.pt]

On CPU each worker is one single-threaded process. Workers never wait for one another: every few steps each adds what it
learned since its last exchange to shared weights and goes on from there, so a worker starved of its core slows nobody.
"""
import argparse
import json
import math
import os
import sys
import time

import numpy as np
import torch
import torch.multiprocessing as mp

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import fast
import klt
import rd
import tiles as tile_set
from mlicpp import EDGE, MLICPlusPlus


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--tiles", required=True, help=".tar of images or .npy")
    a.add_argument("--out", required=True)
    a.add_argument("--resume", help="checkpoint; without one the transforms start as a block transform")
    a.add_argument("--minutes", type=float, default=60)
    a.add_argument("--workers", type=int, default=1)
    a.add_argument("--batch", type=int, default=8)
    a.add_argument("--size", type=int, default=192)
    a.add_argument("--lr", type=float, default=1e-3, help="of the entropy networks")
    a.add_argument("--lr-transforms", type=float, default=4e-4)
    a.add_argument("--final", type=float, default=0.02, help="last learning rate as a part of the first")
    a.add_argument("--flat", type=float, default=0.5, help="part of the time before the rate decays (cosine)")
    a.add_argument("--warmup", type=int, default=100)
    a.add_argument("--exchange", type=int, default=10, help="steps between exchanges with the shared weights")
    a.add_argument("--mix", type=float, default=0.6, help="part of a worker's change that the shared weights take")
    a.add_argument("--roles", choices=("joint", "split"), default="joint",
                   help="split: worker 0 trains the entropy networks, the others the transforms")
    a.add_argument("--clip", type=float, default=1.0)
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--pause-file", help="while this file exists no worker computes")
    a.add_argument("--save-minutes", type=float, default=4)
    return a.parse_args()


def load_net(path):
    net = MLICPlusPlus(EDGE)
    step = 0
    if path:
        ck = torch.load(path, map_location="cpu")
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in ck["state_dict"].items()})
        step = ck.get("step", 0)
    return net, step


ROLES = {"joint": rd.joint, "entropy": rd.entropy_only, "transforms": rd.transforms_only}


def groups(net, a, role):
    """Parameter groups with their own rate, the quantiles apart; only what the role trains."""
    quick = ("entropy_bottleneck", "gain", "inverse_gain", "hyper_gain", "inverse_hyper_gain")
    by = {"transforms": [], "quick": [], "entropy": []}
    for n, p in net.named_parameters():
        top = n.split(".")[0]
        transform = top in ("g_a", "g_s", "gain", "inverse_gain")
        if n.endswith("quantiles") or role == "transforms" and not transform or role == "entropy" and transform:
            p.requires_grad_(n.endswith("quantiles"))
            continue
        by["transforms" if top in ("g_a", "g_s") else "quick" if top in quick else "entropy"].append(p)
    rate = {"transforms": a.lr_transforms, "quick": 2 * a.lr, "entropy": a.lr}
    return [{"params": v, "lr": rate[k], "base": rate[k]} for k, v in by.items() if v]


def flatten(params):
    return torch.cat([p.detach().reshape(-1) for p in params])


def unflatten(flat, params):
    with torch.no_grad():
        for p, v in zip(params, flat.split([p.numel() for p in params])):
            p.copy_(v.view(p.shape))


class Shared:
    """Weights in shared memory, with the mean of their recent past beside them."""

    def __init__(self, net, workers):
        flat = flatten(net.parameters())
        self.now, self.mean = flat.clone().share_memory_(), flat.clone().share_memory_()
        self.steps = torch.zeros(workers, dtype=torch.long).share_memory_()
        self.lock = mp.get_context("spawn").Lock()

    def exchange(self, params, base, mix, steps, worker, horizon=200.0):
        """Adds mix * (params - base) to the shared weights and loads them into params; returns the new base."""
        mine = flatten(params)
        with self.lock:
            self.now.add_(mine.sub_(base), alpha=mix)
            self.mean.lerp_(self.now, min(1.0, steps / horizon))
            self.steps[worker] += steps
            base.copy_(self.now)
        unflatten(base, params)
        return base


def save(net, shared, which, path, step):
    flat = getattr(shared, which)
    with shared.lock:
        flat = flat.clone()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    names = [n for n, _ in net.named_parameters()]
    for n, v in zip(names, flat.split([p.numel() for p in net.parameters()])):
        state[n] = v.view_as(state[n])
    torch.save({"state_dict": state, "step": step}, path + ".tmp")
    os.replace(path + ".tmp", path)


def wait_while(path, parent):
    """Sleeps while the file exists; False once the parent process is gone."""
    while path and os.path.exists(path) and os.getppid() == parent:
        time.sleep(1)
    return os.getppid() == parent


def worker(rank, a, shared, start_step, t0):
    torch.set_num_threads(1)
    torch.manual_seed(a.seed * 1000 + rank + start_step)
    rng = np.random.default_rng([a.seed, rank, start_step])
    role = "joint" if a.roles == "joint" else "transforms" if rank else "entropy"
    measure = ROLES[role]
    mix = a.mix if a.workers > 1 and role == "joint" else 1.0
    data = tile_set.load(a.tiles)
    index, _ = tile_set.split(data)
    net = MLICPlusPlus(EDGE)
    base = shared.now.clone()
    unflatten(base, list(net.parameters()))
    net = fast.use(net.to(memory_format=torch.channels_last))
    params = list(net.parameters())
    opt = torch.optim.Adam(groups(net, a, role), fused=True, betas=(0.9, 0.99))
    aux = torch.optim.Adam([net.entropy_bottleneck.quantiles], 1e-2)
    main = [p for g in opt.param_groups for p in g["params"]]
    log = open(os.path.join(a.out, f"log-{rank}.jsonl"), "a")
    acc, last_save, mark = [], time.time(), time.time()
    step, parent = 0, os.getppid()
    while (f := (time.time() - t0) / (a.minutes * 60)) < 1:
        if not wait_while(a.pause_file, parent):
            return
        warm = min(1.0, (step + 1) / a.warmup)
        decay = 1.0 if f < a.flat else a.final + (1 - a.final) * 0.5 * (1 + math.cos(math.pi * (f - a.flat) / (1 - a.flat)))
        for g in opt.param_groups:
            g["lr"] = g["base"] * warm * decay
        x = tile_set.batch(data, index, a.batch, a.size, rng).contiguous(memory_format=torch.channels_last)
        q = (torch.arange(a.batch) + torch.rand(a.batch)) * (rd.TOP / a.batch)
        with torch.autocast("cpu", torch.bfloat16):
            ry, rz, mse = measure(net, x, q)
        loss = rd.loss(ry + rz, mse, q).mean()
        opt.zero_grad(set_to_none=True)
        aux.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(main, a.clip)
        if torch.isfinite(norm):
            opt.step()
        if role != "transforms":
            net.entropy_bottleneck.loss().backward()
            aux.step()
        step += 1
        acc.append((loss.detach(), ry.detach().mean(), rz.detach().mean(), -10 * mse.detach().log10().mean(),
                    -10 * mse.detach()[-1].log10(), norm))
        if step % a.exchange == 0:
            shared.exchange(params, base, mix, a.exchange, rank)
        if step % 10 == 0:
            m = torch.stack([torch.stack(t) for t in acc]).mean(0).tolist()
            acc = []
            row = dict(zip(("loss", "bpp_y", "bpp_z", "psnr", "psnr_top", "norm"), (round(v, 4) for v in m)))
            row = {"minute": round((time.time() - t0) / 60, 2), "step": start_step + int(shared.steps.sum()), "role": role, **row,
                   "lr": round(opt.param_groups[0]["lr"], 7), "s": round((time.time() - mark) / 10, 3)}
            mark = time.time()
            print(json.dumps(row), file=log, flush=True)
        if rank == 0 and time.time() - last_save > a.save_minutes * 60:
            last_save = time.time()
            for which, name in (("now", "last"), ("mean", "mean")):
                save(net, shared, which, os.path.join(a.out, name + ".pt"), start_step + int(shared.steps.sum()))
    shared.exchange(params, base, mix, step % a.exchange, rank)


def main():
    a = arguments()
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(a.seed)
    net, step = load_net(a.resume)
    if not a.resume:
        data = tile_set.load(a.tiles)
        klt.start(net, data[tile_set.split(data)[0][:1500]], np.random.default_rng(a.seed))
    shared = Shared(net, a.workers)
    t0 = time.time()
    mp.spawn(worker, (a, shared, step, t0), nprocs=a.workers)
    for which, name in (("now", "last"), ("mean", "mean")):
        save(net, shared, which, os.path.join(a.out, name + ".pt"), step + int(shared.steps.sum()))


if __name__ == "__main__":
    main()
