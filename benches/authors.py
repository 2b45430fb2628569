"""Times the authors' MLIC++ in PyTorch and `mlic` on the same picture, cores and minutes: what counts is the ratio.

    python benches/authors.py CHECKOUT PACKAGE PICTURE [--mlic target/release/mlic] [--threads 2] [--runs 5]

CHECKOUT is a clone of the authors' repository (its folder `MLIC++`), PACKAGE a model package of the published shape, for instance of
seeded random weights:

    python models/golden.py full EXPORT && mlic model build EXPORT --images PICTURES -o PACKAGE

Theirs is `compress` and `decompress` in fp32, with the model loaded and without files. Ours is the program, from file to file, and also only what comes after
the package is loaded, verified and packed, which is what theirs does: both ratios are printed. Runs alternate; times are medians. Needs torch, compressai,
einops and timm.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def code(checkout):
    """The authors' model module and its configuration, imported from a checkout so that today's CompressAI will do, and no GPU is needed."""
    folder = checkout / "MLIC++" if (checkout / "MLIC++").is_dir() else checkout
    sys.path.insert(0, str(folder.resolve()))
    import compressai.ops

    if not hasattr(compressai.ops, "ste_round"):  # renamed since
        compressai.ops.ste_round = compressai.ops.quantize_ste
    torch.cuda.synchronize = lambda *_: None  # called on every device
    from config.config import model_config
    from models import mlicpp

    return mlicpp, model_config()


def authors(checkout):
    """The authors' model with seeded random weights."""
    module, config = code(checkout)
    torch.manual_seed(20231115)
    model = module.MLICPlusPlus(config).eval()
    model.update(force=True)
    return model


def seconds(run):
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def ours(command):
    """Seconds of the whole program, and those after loading, as the program reports them."""
    whole, run = seconds(lambda: subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True))
    return whole, float(re.search(r"bytes, (?:[\d.]+ bpp, )?([\d.]+) s$", run.stderr, re.MULTILINE)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--mlic", type=Path, default=Path("target/release/mlic"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mlic, package, picture = args.mlic.resolve(), args.package.resolve(), args.picture.resolve()
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    bottom, right = -x.shape[2] % 64, -x.shape[3] % 64
    x = torch.nn.functional.pad(x, (0, right, 0, bottom))
    model = authors(args.checkout)
    times = {"encode": [], "decode": []}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        stream, out = Path(folder, "x.mlic"), Path(folder, "x.ppm")
        program = [mlic, "--model", package, "-j", str(args.threads), "-v"]
        for run in range(args.runs + 1):
            theirs, coded = seconds(lambda: model.compress(x))
            times["encode"].append((theirs, *ours([*program, "encode", "--force", picture, "-o", stream, "--metadata", "strip"])))
            theirs, _ = seconds(lambda: model.decompress(coded["strings"], coded["shape"]))
            times["decode"].append((theirs, *ours([*program, "decode", "--force", stream, "-o", out])))
    isa = os.environ.get("MLIC_CPU", "best")
    print(f"{x.shape[3]}x{x.shape[2]}, {args.threads} threads, torch {torch.__version__}, MLIC_CPU={isa}, medians of {args.runs}")
    for name, runs in times.items():
        theirs, whole, loaded = zip(*runs[1:])  # the first warms up

        def ratio(mine):
            ratios = [t / m for t, m in zip(theirs, mine)]
            return f"{statistics.median(mine):.3f} s, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

        print(f"{name}: theirs {statistics.median(theirs):.3f} s, ours {ratio(whole)}; after loading {ratio(loaded)}")


if __name__ == "__main__":
    main()
