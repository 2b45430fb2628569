"""Compares what the authors' code computes with what mlicpp.py does, network by network, with the same weights.

    python models/check_authors.py CHECKOUT [--size 256x192] [--limit 1e-9] [--keep DIR]

CHECKOUT is a clone of the authors' repository. Each generation of networks that it has, the present one and that of 2023 (`*Old`), gets
seeded random weights, is saved by their functions as their training does, and is read by the code of `export.py`. On the same random picture

- `forward` of both is compared: input and output of every network, likelihoods and picture;
- their `compress` makes a stream, and what their `decompress` makes of it is compared with `forward` of mlicpp.py: the latent and the picture;
- the length of that stream is compared with the likelihoods of mlicpp.py.

Errors are relative and root mean square; of several latent slices, the largest error counts. Everything is computed in double precision: rounding
errors are then too small to change a symbol, and whatever is computed differently stands out. The exit status is 1 if anything is above its
limit. Besides requirements.txt it needs compressai, einops and timm. --keep leaves the checkpoints, double precision too, in DIR.
"""
import argparse
import math
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch

sys.path.insert(1, str(Path(__file__).parents[1] / "benches"))

from authors import code
from export import build
from golden import randomize
from training import checkpoint

STAGES = ("g_a", "h_a", "h_s", "channel_context", "global_inter_context", "entropy_parameters_anchor", "lrp_anchor", "local_context",
          "global_intra_context", "entropy_parameters_nonanchor", "lrp_nonanchor", "g_s")
"""Networks by their names in both models; all but the transforms are lists with a network per latent slice, of which the first may be None."""

GENERATIONS = {"present": "", "2023": "Old"}
"""By generation, the suffix of the names of those classes that differ."""

LENGTH = (0.01, 64)
"""How far the length of a stream may be from the likelihoods: a fraction, since only some scales have a table, plus bits for the coder's state."""


def networks(model):
    """(stage, network) of all slices."""
    for stage in STAGES:
        part = getattr(model, stage)
        for network in part if isinstance(part, torch.nn.ModuleList) else [part]:
            if network is not None:
                yield stage, network


def record(model, run):
    """The result of `run`, and for each stage the inputs and output of its networks, in the order of the calls."""
    calls = {stage: [] for stage in STAGES}
    hooks = [m.register_forward_hook(lambda _, x, y, stage=stage: calls[stage].append((*x, y))) for stage, m in networks(model)]
    result = run()
    for hook in hooks:
        hook.remove()
    return result, calls


def error(a, b):
    if a.shape != b.shape:
        raise SystemExit(f"check_authors: shapes {list(a.shape)} and {list(b.shape)} of what should be the same")
    relative = float((a - b).norm() / b.norm())
    return relative if math.isfinite(relative) else math.inf


def random_weights(model, x):
    """Weights with which every network matters. In latent slice i, channels of y and their scales are about 4 * 0.7^i, so that some symbols are rare and some large."""
    randomize(model)
    g_a, h_a = model.g_a.analysis_transform[-1], model.h_a.reduction[-1]
    sizes = torch.tensor([4 * 0.7**i for i in range(model.slice_num)])
    deviation, mean = torch.std_mean(model.g_a(x), (0, 2, 3))
    factor = sizes.repeat_interleave(model.slice_ch) / deviation
    g_a.weight.data *= factor.view(-1, 1, 1, 1)
    g_a.bias.data = (g_a.bias - mean) * factor
    h_a.weight.data *= 3 / model.h_a(model.g_a(x)).std()
    for size, *networks in zip(sizes, model.entropy_parameters_anchor, model.entropy_parameters_nonanchor):
        for last in (network.fusion[-1] for network in networks):
            last.weight.data *= 0.1 * size
            last.bias.data *= 0.1 * size
            last.bias.data[: model.slice_ch] += size


def save(model, path, wrapped):
    """Saves a checkpoint as their training writes it; wrapped: as with several GPUs."""
    from utils.optimizers import configure_optimizers
    from utils.utils import CustomDataParallel, save_checkpoint

    net = CustomDataParallel(model) if wrapped else model
    optimizers = configure_optimizers(net, SimpleNamespace(learning_rate=1e-4, aux_learning_rate=1e-3))
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizers[0], [450, 550])
    save_checkpoint({"epoch": 1, "state_dict": net.state_dict(), "loss": torch.tensor(1.0), "optimizer": optimizers[0].state_dict(),
                     "aux_optimizer": optimizers[1].state_dict(), "lr_scheduler": schedule.state_dict()}, False, str(path))


def compare(theirs, ours, x):
    """Prints every comparison and returns the errors; that of a stream whose length is too far off is infinite."""
    got, mine = record(ours, lambda: ours(x))
    want, reference = record(theirs, lambda: theirs(x))
    errors = []

    def line(name, worst, note=""):
        errors.append(worst)
        print(f"{name:32} {worst:8.1e}  {note}")

    for stage in STAGES:
        calls = list(zip(mine[stage], reference[stage], strict=True))
        worst = max(error(a, b) for call in calls for a, b in zip(*call, strict=True))
        sizes = [float(b[-1].std()) for _, b in calls]
        line(stage, worst, f"networks: {len(calls)}, standard deviation of what they give {min(sizes):.2g} to {max(sizes):.2g}")
    for name in "yz":
        line(f"likelihoods of {name}", error(got["likelihoods"][name], want["likelihoods"][f"{name}_likelihoods"]))
    line("x_hat", error(got["x_hat"], want["x_hat"]))
    coded = theirs.compress(x)
    decoded, again = record(theirs, lambda: theirs.decompress(coded["strings"], coded["shape"]))
    line("y_hat decoded from their stream", error(mine["g_s"][0][0], again["g_s"][0][0]))
    line("x_hat decoded from their stream", error(got["x_hat"], decoded["x_hat"]))
    for name, strings in zip("yz", coded["strings"]):
        bits, length = float(-got["likelihoods"][name].log2().sum()), 8 * len(strings[0])
        print(f"{name}: their stream has {length} bits, {length / bits - 1:+.2%} of the likelihoods of mlicpp.py")
        if not abs(length - bits) <= LENGTH[0] * bits + LENGTH[1]:
            errors.append(math.inf)
    return errors


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--size", default="256x192", help="of the picture, multiples of 64")
    parser.add_argument("--limit", type=float, default=1e-9)
    parser.add_argument("--keep", type=Path, help="a directory for the checkpoints")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    module, config = code(args.checkout)
    height, width = (int(side) for side in args.size.split("x"))
    errors = []
    for generation, suffix in GENERATIONS.items():
        classes = {name: getattr(module, name + suffix, None) for name in ("SynthesisTransform", "LatentResidualPrediction")}
        if None in classes.values():
            continue
        vars(module).update(classes)
        torch.manual_seed(20231115)
        x = torch.rand(1, 3, height, width)
        theirs = module.MLICPlusPlus(config).eval()
        random_weights(theirs, x)
        theirs.update(force=True)
        # mlicpp.py casts some steps to float32; here they must be in double precision like all others.
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            path = Path(args.keep or folder, f"{generation}.pth.tar")
            save(theirs, path, wrapped=suffix == "Old")
            _, ours = build(checkpoint.load(path)[0])
            print(f"{generation}: {sum(p.numel() for p in ours.parameters()):,} parameters")
            errors += compare(theirs, ours, x)
    above = sum(not e <= args.limit for e in errors)
    print(f"{above} of {len(errors)} errors are above {args.limit:.0e}")
    return int(above > 0 or not errors)


if __name__ == "__main__":
    sys.exit(main())
