"""Write a trained MLIC++ checkpoint as the files that `mlic-builder` reads.

    python export.py CHECKPOINT.pt OUT_DIR [--name NAME] [--force]

A checkpoint in parts, CHECKPOINT.pt.0 and so on, is named without their numbers. Every width comes from the shapes of the checkpoint's tensors. OUT_DIR receives config.json, g_a.onnx, h_a.onnx, g_s.onnx
(float transforms, dynamic height and width, GDN's reparametrization folded) and entropy.safetensors (all other tensors,
under their checkpoint names). Anything missing, unknown or of the wrong shape is named, and the exit status is 1.
An OUT_DIR that has anything in it is left as it is unless --force is given.
"""
import argparse
import copy
import json
import re
import sys
import warnings
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save

from mlicpp import GDN, Config, MLICPlusPlus
from training import checkpoint

OPSET = 17
TRANSFORMS = {"g_a": ("x", 3, 16), "h_a": ("y", None, 4), "g_s": ("y_hat", None, 1)}
"""Name: (input name, input channels or None for the latent's, what height and width are a multiple of)."""


SLICE_CHANNELS = (32, 64)
"""Channels of a latent slice: the global context between slices has heads of 32 channels, and a package has at most 64 channels in a slice."""


class ExportError(Exception):
    """The checkpoint is not an MLIC++ of a known generation."""


def infer(state):
    """The `Config` whose modules have the shapes of this state dict."""

    def shape(key, rank=4):
        if key not in state:
            raise ExportError(f"missing tensor {key}")
        if state[key].dim() != rank:
            raise ExportError(f"{key}: rank {state[key].dim()}, expected {rank}")
        return state[key].shape

    def width(key, rank=4):
        return int(shape(f"{key}.weight", rank)[0])

    def count(prefix):
        found = {int(m[1]) for k in state if (m := re.match(rf"{prefix}\.(\d+)\.", k))}
        if not found or found != set(range(len(found))):
            raise ExportError(f"{prefix}.*: indices {sorted(found)} are not 0, 1, 2, ...")
        return len(found)

    def hidden(prefix):
        found = sorted(int(m[1]) for k in state if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.weight$", k)))
        return tuple(width(f"{prefix}.{i}") for i in found[:-1])

    latent, slices = width("g_a.analysis_transform.6"), count("entropy_parameters_anchor")
    if slices < 2 or latent % slices:
        raise ExportError(f"{latent} latent channels in {slices} slices")
    if latent // slices not in SLICE_CHANNELS:
        raise ExportError(f"{latent // slices} channels in a latent slice ({latent} in {slices} slices): a package has {' or '.join(map(str, SLICE_CHANNELS))}")
    side, heads = shape("local_context.0.relative_position_table", 2)
    gain = "gain" in state
    lrp = tuple(hidden(f"lrp_anchor.{i}.lrp_transform") for i in range(slices))
    first = width("g_s.synthesis_transform.0.conv1")
    cfg = Config(
        transform=tuple(width(f"g_a.analysis_transform.{i}.conv1") for i in (0, 2, 4)),
        latent=latent,
        hyper=width("h_a.reduction.8"),
        slices=slices,
        window=(round(side**0.5) + 1) // 2,
        ep_hidden=hidden("entropy_parameters_anchor.0.fusion"),
        lrp_hidden=lrp,
        cc_hidden=hidden("channel_context.1.fushion"),
        hs_hidden=(width("h_s.increase.0"), width("h_s.increase.4")),
        levels=int(shape("gain", 2)[0]) if gain else 0,
        heads=int(heads),
        synthesis=0 if first == latent else first,
    )
    if cfg.heads != cfg.intra_heads:
        raise ExportError(f"local_context.*: {cfg.heads} heads, and the context within a slice has {cfg.intra_heads}: a package has one number for both")
    for name, got, want in [("ep_hidden", cfg.ep_hidden, (3,)), ("cc_hidden", cfg.cc_hidden, (2,))] + [
        (f"lrp_hidden of slice {i}", w, (2, 3)) for i, w in enumerate(lrp)
    ]:
        if len(got) not in want:
            raise ExportError(f"{name}: {len(got)} widths {list(got)}, expected {' or '.join(map(str, want))}")
    return cfg


def build(state):
    """(config, model in eval mode) of a state dict; every tensor has a place and every place a tensor."""
    cfg = infer(state)
    model = MLICPlusPlus(cfg).eval()
    want = checkpoint.parameters(model.state_dict())
    wrong = [f"missing tensor {k} {list(v.shape)}" for k, v in want.items() if k not in state]
    wrong += [f"unknown tensor {k} {list(v.shape)}" for k, v in state.items() if k not in want]
    wrong += [
        f"{k}: shape {list(state[k].shape)}, expected {list(v.shape)}"
        for k, v in want.items()
        if k in state and state[k].shape != v.shape
    ]
    wrong += [f"{k}: not finite" for k, v in state.items() if not bool(v.isfinite().all())]
    if wrong:
        raise ExportError("\n".join(wrong))
    model.load_state_dict(state, strict=False)
    return cfg, model


class FoldedGDN(nn.Module):
    """GDN with gamma and beta as constants."""

    def __init__(self, gdn):
        super().__init__()
        gamma, beta = (t.detach().clone() for t in gdn.constants())
        self.inverse = gdn.inverse
        self.register_buffer("gamma", gamma[:, :, None, None])
        self.register_buffer("beta", beta)

    def forward(self, x):
        n = F.conv2d(x * x, self.gamma, self.beta).sqrt()
        return x * n if self.inverse else x / n


def fold(module):
    """A copy of the module with every GDN folded."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, GDN):
                setattr(parent, name, FoldedGDN(child))
    return module


def write_onnx(model, name, path):
    """One transform as ONNX with symbolic height and width."""
    tensor, channels, multiple = TRANSFORMS[name]
    channels = channels or model.cfg.latent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            fold(getattr(model, name)), (torch.zeros(1, channels, 4 * multiple, 4 * multiple),), str(path),
            input_names=[tensor], output_names=["out"], opset_version=OPSET, dynamo=False,
            dynamic_axes={tensor: {2: "h", 3: "w"}, "out": {2: "h_out", 3: "w_out"}},
        )


def describe(cfg, name):
    """config.json: what cannot be read off a single tensor's shape."""
    return {
        "name": name,
        "transform": list(cfg.transform),
        "latent": cfg.latent,
        "hyper": cfg.hyper,
        "slices": cfg.slices,
        "window": cfg.window,
        "heads": cfg.heads,
        "intra_heads": cfg.intra_heads,
        "ep_hidden": list(cfg.ep_hidden),
        "lrp_hidden": [list(cfg.lrp_widths(i)) for i in range(cfg.slices)],
        "cc_hidden": list(cfg.cc_hidden),
        "hs_hidden": list(cfg.hs_hidden),
        "levels": cfg.levels,
    }


def export(state, out, name, dtype=torch.float32):
    """Write the export directory of a state dict; returns (config, model)."""
    cfg, model = build(state)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # config.json is written last: without it, an unfinished folder is no export.
    (out / "config.json").unlink(missing_ok=True)
    for transform in TRANSFORMS:
        write_onnx(model, transform, out / f"{transform}.onnx")
    rest = {k: v.to(dtype).contiguous().clone() for k, v in sorted(state.items()) if k.split(".")[0] not in TRANSFORMS}
    (out / "entropy.safetensors").write_bytes(save(rest))
    (out / "config.json").write_text(json.dumps(describe(cfg, name), indent=2) + "\n")
    return cfg, model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", help="model name; the checkpoint's file name if not given")
    parser.add_argument("--force", action="store_true", help="overwrite an export that is in OUT")
    args = parser.parse_args()
    name = args.name or args.checkpoint.name.split(".")[0]
    try:
        if not args.force and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
            raise ExportError(f"{args.out} is there and not empty, and left as it is: --force overwrites an export in it")
        cfg, model = export(checkpoint.load(args.checkpoint)[0], args.out, name)
    except (ExportError, OSError, RuntimeError, ValueError) as e:
        print(f"export: {e}", file=sys.stderr)
        return 1
    print(json.dumps(describe(cfg, name)), f"{sum(p.numel() for p in model.parameters()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
