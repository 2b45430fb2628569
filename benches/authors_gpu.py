"""Times the networks of the authors' MLIC++ in PyTorch on a GPU: decoding, with random weights, in fp32 and under fp16 autocast.

    python benches/authors_gpu.py CHECKOUT PACKAGES [--sizes 768x512 1920x1080 ...] [--runs 3] [--limit 10] [--device cuda]

CHECKOUT is a clone of the authors' repository (its folder `MLIC++`), PACKAGES a folder with the sources of `compressai` (an unpacked wheel; only its
layers and operators, which are Python, are used). Besides these, only torch and numpy are needed.

What runs is their `decompress`. Its range coder is compiled code and is replaced by one that gives zeros: the times exclude entropy coding, but
include what `decompress` does for it (indices to lists and back). Sizes are padded to multiples of 64; once fp32 or fp16 fails or takes longer than the
limit, it is left out for the larger sizes. Times are medians after one warm-up run; memory is the most that PyTorch allocated, weights included.
"""
import argparse
import statistics
import sys
import time
import types
from pathlib import Path

import torch
from torch import nn


def module(name, path=None, **contents):
    """Makes and registers a module with this name and these contents."""
    made = types.ModuleType(name)
    made.__dict__.update(contents)
    if path is not None:
        made.__path__ = [str(path)]
    sys.modules[name] = made
    parent, _, last = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], last, made)
    return made


class Zeros:
    """A stand-in for the range decoder, which gives zeros."""

    def set_stream(self, _):
        pass

    def decode_stream(self, indexes, *_):
        return [0] * len(indexes)


class Gaussian(nn.Module):
    """What decoding needs of compressai's GaussianConditional, computed in the same steps."""

    def __init__(self, *_):
        super().__init__()
        self.register_buffer("scale_table", torch.exp(torch.linspace(-2.2072749, 5.5451774, 64)))
        self.quantized_cdf = self.cdf_length = self.offset = torch.zeros(1, 1)

    def build_indexes(self, scales):
        scales = torch.clamp_min(scales, 0.11)
        indexes = scales.new_full(scales.size(), len(self.scale_table) - 1).int()
        for s in self.scale_table[:-1]:
            indexes -= (scales <= s).int()
        return indexes


class Bottleneck(nn.Module):
    """Returns the given z instead of decoding one."""

    z = None

    def decompress(self, *_):
        return self.z


class Model(nn.Module):
    def __init__(self, *_, **__):
        super().__init__()
        self.entropy_bottleneck = Bottleneck()


def unused(*_, **__):
    raise RuntimeError("a function that decoding was thought not to use")


def authors(checkout, packages):
    """The authors' model with seeded random weights."""
    module("compressai", packages / "compressai")
    module("compressai.ans", BufferedRansEncoder=unused, RansDecoder=Zeros)
    module("compressai.models", CompressionModel=Model)
    module("compressai.entropy_models", GaussianConditional=Gaussian, EntropyModel=nn.Module)
    module("einops", rearrange=unused, repeat=unused)
    for name in ("timm", "timm.models", "torchvision"):
        module(name, "/nonexistent")
    module("timm.models.layers", to_2tuple=unused)
    module("torchvision.transforms", ToPILImage=unused)
    module("PIL", "/nonexistent")
    module("PIL.Image", Image=object)
    import compressai.ops

    compressai.ops.ste_round = compressai.ops.quantize_ste
    sys.path.insert(0, str(checkout))
    from config.config import model_config
    from models.mlicpp import MLICPlusPlus

    torch.manual_seed(20231115)
    return MLICPlusPlus(model_config()).eval()


def measure(model, device, width, height, runs, half, limit):
    """Median seconds of decoding, and peak bytes of GPU memory (0 elsewhere)."""
    rows, columns = (height + 63) // 64, (width + 63) // 64
    model.entropy_bottleneck.z = torch.randn(1, model.N, rows, columns, device=device).round()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        with torch.no_grad(), torch.autocast(device, dtype=torch.float16 if device == "cuda" else torch.bfloat16, enabled=half):
            model.decompress([[b""], [b""]], (rows, columns))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if times[-1] > limit:
            break
    return statistics.median(times[1:] or times), torch.cuda.max_memory_allocated() if device == "cuda" else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["768x512", "1920x1080", "3840x2160"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=10, help="seconds of one decoding")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if args.device != "cuda":
        torch.cuda.synchronize = lambda *_: None  # called on every device
    checkout = args.checkout / "MLIC++" if (args.checkout / "MLIC++").is_dir() else args.checkout
    model = authors(checkout.resolve(), args.packages.resolve()).to(args.device)
    count = sum(p.numel() for p in model.parameters())
    name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(f"{name}, torch {torch.__version__}, {count / 1e6:.1f} M parameters with their g_a and h_a; decoding without entropy coding", flush=True)
    kinds = {"fp32": False, ("fp16" if args.device == "cuda" else "bf16") + " autocast": True}
    for size in args.sizes:
        width, height = map(int, size.split("x"))
        for kind, half in list(kinds.items()):
            try:
                seconds, peak = measure(model, args.device, width, height, args.runs, half, args.limit)
            except RuntimeError as error:  # out of memory is one
                print(f"{size} {kind}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
                del kinds[kind]
                continue
            print(f"{size} {kind}: {1e3 * seconds:.1f} ms, {peak / 2**20:.0f} MiB at most", flush=True)
            if seconds > args.limit:
                del kinds[kind]
        if args.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
