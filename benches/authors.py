"""Times the authors' MLIC++ in PyTorch and `mlic` on the same picture, cores and minutes: what counts is the ratio.

    python benches/authors.py CHECKOUT PACKAGE PICTURE [--mlic target/release/mlic] [--threads 2] [--runs 5]

CHECKOUT is a clone of the authors' repository (its folder `MLIC++`), PACKAGE a model package of the published shape, for instance of
seeded random weights:

    python models/golden.py full EXPORT && mlic model build EXPORT --images PICTURES -o PACKAGE

Both sides run whole: theirs `compress` and `decompress` in fp32, without reading or writing files; ours the program, from file to file, with the
package loaded and verified anew each time. Runs alternate; medians are printed. It needs torch, compressai and einops.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def authors(checkout):
    """Their model with seeded random weights: (compress, decompress), each of a padded picture."""
    sys.path.insert(0, str(checkout))
    import compressai.ops

    if not hasattr(compressai.ops, "ste_round"):  # renamed since
        compressai.ops.ste_round = compressai.ops.quantize_ste
    torch.cuda.synchronize = lambda *_: None  # called on every device
    from config.config import model_config
    from models.mlicpp import MLICPlusPlus

    torch.manual_seed(20231115)
    model = MLICPlusPlus(model_config()).eval()
    model.update(force=True)
    return model


def seconds(run):
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


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
    checkout = args.checkout / "MLIC++" if (args.checkout / "MLIC++").is_dir() else args.checkout
    model = authors(checkout.resolve())
    times = {"encode": ([], []), "decode": ([], [])}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        stream, out = Path(folder, "x.mlic"), Path(folder, "x.ppm")
        ours = [mlic, "--model", package, "-j", str(args.threads), "--force", "--quiet"]
        for run in range(args.runs + 1):
            theirs, coded = seconds(lambda: model.compress(x))
            mine, _ = seconds(lambda: subprocess.run([*ours, "encode", picture, "-o", stream, "--metadata", "strip"], check=True))
            their_decode, _ = seconds(lambda: model.decompress(coded["strings"], coded["shape"]))
            my_decode, _ = seconds(lambda: subprocess.run([*ours, "decode", stream, "-o", out], check=True))
            if run:  # the first warms up
                for name, pair in (("encode", (theirs, mine)), ("decode", (their_decode, my_decode))):
                    times[name][0].append(pair[0])
                    times[name][1].append(pair[1])
    isa = os.environ.get("MLIC_CPU", "best")
    print(f"{x.shape[3]}x{x.shape[2]}, {args.threads} threads, torch {torch.__version__}, MLIC_CPU={isa}, medians of {args.runs}")
    for name, (theirs, mine) in times.items():
        a, b = statistics.median(theirs), statistics.median(mine)
        ratios = [t / m for t, m in zip(theirs, mine)]
        print(f"{name}: theirs {a:.3f} s, ours {b:.3f} s, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
