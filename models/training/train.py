"""Trains a variable-rate MLIC++ for a given time.

    python train.py --tiles tiles.tar --out RUN --minutes 120 --workers 2 [--resume RUN/mean.pt]      # processors
    python train.py --tiles tiles.tar --out RUN --minutes 8 --device cuda --batch 32 --size 256       # one GPU

Leaves last.pt and mean.pt (mean of the recent weights), log-*.jsonl and eval.json in RUN. On processors each worker is one
single-threaded process. Workers never wait for one another: every few steps each adds what it learned since its last
exchange to shared weights and goes on from there, so a worker starved of its core slows nobody. On a GPU a step is one CUDA graph.
"""
import argparse
import json
import math
import os
import sys
import tarfile
import time

try:
    import torch
    import torch.multiprocessing as mp
except ImportError as e:
    sys.exit(f"PyTorch 2.4 or later is needed (pip install torch): {e}")

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import checkpoint
import evaluate
import fast
import hyper
import klt
import rd
import tiles as tile_set
from mlicpp import EDGE, MLICPlusPlus
from step import Step, in_bf16


def arguments(argv=None):
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--tiles", required=True, help=".tar of images, .npy, or synthetic:N")
    a.add_argument("--out", required=True)
    a.add_argument("--resume", help="checkpoint; without one the transforms start as a block transform")
    a.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    a.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of a step; auto: bf16 on GPUs and on processors that compute in it (AMX, AVX512-BF16), else fp32")
    a.add_argument("--minutes", type=float, default=60)
    a.add_argument("--workers", type=int, default=1)
    a.add_argument("--roles", choices=("joint", "split", "entropy"), default="joint",
                   help="split: worker 0 trains the entropy networks, the others the transforms; entropy: all train the entropy networks")
    a.add_argument("--bytes", action="store_true", help="layers that are bytes in the package learn with such weights where that matters, and two thirds of the entropy networks with six bits (fast.IN_BYTES, IN_SIX_BITS); saved so at the end")
    a.add_argument("--batch", type=int, default=8)
    a.add_argument("--batch-transforms", type=int, help="of workers that train transforms only [default: --batch]")
    a.add_argument("--size", type=int, default=192)
    a.add_argument("--steps", type=int, default=0, help="stop after this many steps of each worker, whatever the time")
    a.add_argument("--last-part", type=float, default=0.0, help="part of the time, at its end, with --last-size and --last-batch")
    a.add_argument("--last-size", type=int, default=320)
    a.add_argument("--last-batch", type=int, default=4)
    a.add_argument("--shrink", type=float, default=0.0, help="probability of a batch at 3/4 scale")
    a.add_argument("--detail", type=float, default=0.0, help="part of the draws that prefers tiles with much detail")
    a.add_argument("--lr", type=float, default=3e-4, help="of the entropy networks")
    a.add_argument("--lr-hyper", type=float, default=1e-4, help="of h_a, h_s and their gains; five times that for the prior of z")
    a.add_argument("--lr-gains", type=float, default=1e-3)
    a.add_argument("--lr-transforms", type=float, default=6e-5)
    a.add_argument("--lr-branches", type=float, default=2e-4, help="of the residual branches of the transforms, which bear more")
    a.add_argument("--final", type=float, default=0.02, help="last learning rate as a part of the first")
    a.add_argument("--flat", type=float, default=0.5, help="part of the time before the rate decays (cosine)")
    a.add_argument("--warmup", type=int, default=100)
    a.add_argument("--exchange", type=int, default=10, help="steps between exchanges with the shared weights")
    a.add_argument("--mix", type=float, default=0.6, help="part of a worker's change that the shared weights take")
    a.add_argument("--horizon", type=float, default=200, help="steps that mean.pt remembers")
    a.add_argument("--clip", type=float, default=1.0)
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--pause-file", help="while this file exists no worker computes")
    a.add_argument("--save-minutes", type=float, default=4)
    a.add_argument("--log-steps", type=int, default=10)
    a.add_argument("--eval-count", type=int, default=0, help="held-out tiles measured at the end")
    a.add_argument("--split-mib", type=int, default=0, help="cut the final float16 checkpoint into parts of this size")
    return a.parse_args(argv)


def flatten(params):
    return torch.cat([p.detach().reshape(-1) for p in params])


def unflatten(flat, params):
    with torch.no_grad():
        for p, v in zip(params, flat.split([p.numel() for p in params])):
            p.copy_(v.view(p.shape))


class Shared:
    """Weights that all workers share, with the mean of their recent past beside them."""

    def __init__(self, net, a):
        flat = flatten(net.parameters()).to(a.device)
        place = torch.Tensor.share_memory_ if a.device == "cpu" else (lambda t: t)
        self.now, self.mean = place(flat.clone()), place(flat.clone())
        self.steps = torch.zeros(a.workers, dtype=torch.long).share_memory_()
        self.lock = mp.get_context("spawn").Lock()

    def exchange(self, params, base, mix, steps, worker, horizon):
        """Adds mix * (params - base) to the shared weights and loads them into params and base."""
        mine = flatten(params)
        with self.lock:
            self.now.add_(mine.sub_(base), alpha=mix)
            self.mean.lerp_(self.now, min(1.0, steps / horizon))
            self.steps[worker] += steps
            base.copy_(self.now)
        unflatten(base, params)


def save(net, shared, a, step, final=False):
    """last.pt and mean.pt; in parts mean.pt alone."""
    for which, name in (("now", "last"), ("mean", "mean"))[bool(a.split_mib):]:
        with shared.lock:
            flat = getattr(shared, which).clone()
        state = {k: v.detach().cpu().clone() for k, v in net.state_dict().items()}
        for (n, p), v in zip(net.named_parameters(), flat.cpu().split([p.numel() for p in net.parameters()])):
            state[n] = v.view(p.shape)
        path = os.path.join(a.out, name + ".pt")
        checkpoint.save(path, fast.in_bytes(state) if final and a.bytes else state, step, half=final or a.split_mib > 0, lambdas=a.lambdas)
        if a.split_mib:
            checkpoint.cut(path, a.split_mib << 20)


def go_on(pause_file, parent):
    """Sleeps while the file exists. False once the process that started this worker is gone; parent: None in the process that the user started."""
    is_wanted = lambda: parent in (None, os.getppid())
    while pause_file and os.path.exists(pause_file) and is_wanted():
        time.sleep(1)
    return is_wanted()


def rate(a, f, step):
    """Factor of the learning rates at part f of the time: warm-up, flat, cosine."""
    fall = 0.0 if f < a.flat else (f - a.flat) / (1 - a.flat)
    return min(1.0, (step + 1) / max(a.warmup, 1)) * (a.final + (1 - a.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, fall))))


def role_of(a, rank):
    return a.roles if a.roles != "split" else "transforms" if rank else "entropy"


def worker(rank, a, shared, start_step, t0, parent):
    torch.set_num_threads(1 if a.device == "cpu" else 8)
    torch.manual_seed(a.seed * 1000 + rank + start_step)
    rd.use(a.lambdas)
    role = role_of(a, rank)
    mix = a.mix if a.workers > 1 and a.roles != "split" else 1.0
    data, numbers = tile_set.load(a.tiles)
    data, index = data.to(a.device), tile_set.split(numbers)[0].to(a.device)
    probability = tile_set.weights(data, index, a.detail) if a.detail else None
    net = MLICPlusPlus(EDGE).to(a.device)
    base = shared.now.clone()
    params = list(net.parameters())
    unflatten(base, params)
    net = fast.use(net.to(memory_format=torch.channels_last), a.bytes)
    log = open(os.path.join(a.out, f"log-{rank}.jsonl"), "a")
    step, stage, one, best, saved, mark = 0, None, None, math.inf, time.time(), time.time()
    while (f := (time.time() - t0) / (a.minutes * 60)) < 1 and go_on(a.pause_file, parent) and (step < a.steps or not a.steps):
        if stage != (now := f >= 1 - a.last_part):
            stage = now
            n, size = (a.last_batch, a.last_size) if stage else (role == "transforms" and a.batch_transforms or a.batch, a.size)
            one, best = Step(net, rd.MEASURES[role], role, a, n, size, one), math.inf
        one.set_rate(rate(a, f, step))
        one(tile_set.crops(data, index, n, size, a.shrink, probability))
        step += 1
        if step % a.exchange == 0:
            shared.exchange(params, base, mix, a.exchange, rank, a.horizon)
        if step % a.log_steps == 0:
            row = {"minute": round((time.time() - t0) / 60, 2), "step": start_step + int(shared.steps.sum()), "role": role,
                   **one.seen(), "rate": round(rate(a, f, step), 4), "s": round((time.time() - mark) / a.log_steps, 3)}
            mark = time.time()
            if not row["loss"] < 1.5 * best and a.workers == 1:
                row["went_back"] = True
                base.copy_(shared.now.copy_(shared.mean))
                unflatten(base, params)
                one.restart()
            best = min(best, row["loss"])
            print(json.dumps(row), file=log, flush=True)
        if rank == 0 and time.time() - saved > a.save_minutes * 60:
            saved = time.time()
            save(net, shared, a, start_step + int(shared.steps.sum()))
    shared.exchange(params, base, mix, step % a.exchange, rank, a.horizon)


def start(a):
    """Weights to begin with, their step, and the lambdas of their levels if they are not those of `rd.py`."""
    net = MLICPlusPlus(EDGE)
    if a.resume:
        state, step, lambdas = checkpoint.load(a.resume)
        checkpoint.fill(net, state)
        return net, step, lambdas
    data, numbers = tile_set.load(a.tiles)
    index = tile_set.split(numbers)[0]
    klt.start(net, data[index[:1500]].numpy(), a.seed)
    hyper.start(net, data, index)
    return net, 0, None


def final_evaluation(a):
    data, numbers = tile_set.load(a.tiles)
    images = evaluate.held_out(data, numbers, a.eval_count)
    result = {"tiles": len(images)}
    for name in ("last", "mean")[bool(a.split_mib):]:
        net, result["step"] = evaluate.load(os.path.join(a.out, name + ".pt"))
        result[name] = evaluate.evaluate(net.to(a.device), images, range(rd.TOP + 1), device=a.device)
    with open(os.path.join(a.out, "eval.json"), "w") as f:
        json.dump(result, f, indent=1)
    return result


def main(argv=None):
    a = arguments(argv)
    if tuple(int(v) for v in torch.__version__.split(".")[:2]) < (2, 4):
        sys.exit(f"torch {torch.__version__} is too old: 2.4 or later is needed for the fused optimizer, on processors and in graphs")
    if a.device == "cuda":
        if not torch.cuda.is_available():
            sys.exit(f"torch {torch.__version__} sees no GPU: --device cuda cannot run here")
        if a.workers > 1:
            sys.exit("--workers is for processors; one process drives the GPU")
    try:
        learn, held = tile_set.split(tile_set.numbers(a.tiles))
        side = tile_set.side(a.tiles)
    except (OSError, ValueError, tarfile.TarError) as e:
        sys.exit(f"train: {a.tiles}: {e}")
    for option, size in [("--size", a.size)] + [("--last-size", a.last_size)] * (a.last_part > 0):
        if size < 64 or size % 64:
            sys.exit(f"train: {option} {size}: crops must have a multiple of 64 pixels a side, the step of z")
        if size > side:
            sys.exit(f"train: {option} {size}: the tiles of {a.tiles} have only {side} pixels a side")
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(a.seed)
    try:
        net, step, a.lambdas = start(a)
        rd.use(a.lambdas)
    except (OSError, ValueError) as e:
        sys.exit(f"train: {e}")
    print(f"{len(learn)} tiles to learn from, {len(held)} held out; from step {step}, {'bf16' if in_bf16(a.precision, a.device) else 'fp32'} on {a.device}, "
          f"{a.minutes:g} minutes{f' or {a.steps} steps' if a.steps else ''}; log: {os.path.join(a.out, 'log-0.jsonl')}", flush=True)
    shared, t0 = Shared(net, a), time.time()
    if a.workers == 1:
        worker(0, a, shared, step, t0, None)
    else:
        mp.spawn(worker, (a, shared, step, t0, os.getpid()), nprocs=a.workers)
    save(net, shared, a, step + int(shared.steps.sum()), final=True)
    if a.eval_count:
        print(json.dumps(final_evaluation(a)))


if __name__ == "__main__":
    main()
