"""Export a model of seeded random weights, with what mlicpp.py computes on seeded inputs.

    python golden.py SHAPE OUT_DIR [--bytes]        SHAPE: tiny, tiny3, edge, full, full-2023

OUT_DIR is an export directory (see export.py) with two more files: transforms.safetensors, inputs and outputs of g_a, h_a
and g_s; and, for tiny and tiny3, path.safetensors, every step of the entropy path over a latent of 8 x 12. All weights are rounded
to f16. With --bytes, the weights of the layers that training with `--bytes` rounds are rounded in the same way, to measure what such a model costs.
crates/mlic-builder/tests/golden/tiny was made with `tiny`.
"""
import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save

sys.path.insert(1, str(Path(__file__).parent / "training"))

import fast
from export import export
from mlicpp import EDGE, FULL, FULL_2023, Config, LocalContext, MLICPlusPlus

TINY = Config(transform=(6, 8, 12), latent=64, hyper=16, slices=2, ep_hidden=(20, 16, 12), lrp_hidden=(12, 10),
              cc_hidden=(12, 10), hs_hidden=(12, 16), levels=4, synthesis=12)
"""32 channels per latent slice, because heads of the global context are counted in 32s; everything else as narrow as useful."""

TINY3 = replace(TINY, latent=96, slices=3)
"""A slice that follows two others, and two heads in its global context; half as large again."""

SHAPES = {"tiny": (TINY, (64, 128)), "tiny3": (TINY3, (64, 128)), "edge": (EDGE, (256, 192)), "full": (FULL, (256, 192)),
          "full-2023": (FULL_2023, (256, 192))}


def randomize(model):
    """Random weights that keep activations of order one and the window attention's logits of order a few."""
    for name, p in model.named_parameters():
        part = name.split(".")
        if part[0] == "entropy_bottleneck":
            if part[1] == "quantiles":
                p.data += torch.randn(p.shape[0], 1, 1)
            else:
                p.data += 0.1 * torch.randn_like(p)
        elif "gain" in part[0]:
            p.data += 0.1 * torch.randn_like(p)
        elif part[-1] == "gamma":
            small = 0.1 if "igdn" in part else 1.0  # the inverse grows with the square of its input
            p.data = (small * (p.data**2 + 0.3 * torch.rand_like(p) / len(p))).sqrt()
        elif part[-1] == "beta":
            p.data *= 0.7 + 0.6 * torch.rand_like(p)
        elif part[-1] == "relative_position_table":
            p.data = 0.5 * torch.randn_like(p)
        elif part[-2] in ("norm1", "norm2"):
            p.data = (1.0 if part[-1] == "weight" else 0.0) + 0.3 * torch.randn_like(p)
        elif part[-1] == "bias":
            p.data = 0.2 * torch.randn_like(p)
        else:
            fan_in = p[0].numel()
            after_gelu = part[0] == "h_s" or part[0][:8] in ("entropy_", "channel_", "lrp_anch", "lrp_nona")
            gain = 1.8 if "qkv_proj" in part else 1.3 if after_gelu else 1.0
            p.data = gain * torch.randn_like(p) / fan_in**0.5


def attention_logits(module, inputs):
    """Standard deviation of q.k over all pairs of positions, bias and mask aside."""
    x = inputs[0]
    d = module.dim // module.heads
    q, k, _ = module.qkv_proj(module.norm1(x.flatten(2).transpose(1, 2))).reshape(-1, 3, d, module.heads).unbind(1)
    return torch.einsum("pdh,rdh->hpr", q * d**-0.5, k).std()


def transforms(model, size):
    x = torch.rand(1, 3, *size)
    y = model.g_a(x)
    return {"x": x, "y": y, "z": model.h_a(y), "x_hat": model.g_s(y)}


def entropy_path(model, height, width):
    """Every step from z_hat to y_hat for a random y, which counts as multiplied by its gain already."""
    cfg = model.cfg
    symbols = (2 * torch.randn(1, cfg.hyper, height // 4, width // 4)).round()
    medians = model.entropy_bottleneck.medians()[:, None, None]
    inverse_hyper_gain = model.gains(torch.tensor([1.5]))[3]
    trace = {"y": 3 * torch.randn(1, cfg.latent, height, width), "z_hat": (symbols + medians) * inverse_hyper_gain}
    trace["hyper"] = model.h_s(trace["z_hat"])
    logits = []
    hooks = [m.register_forward_pre_hook(lambda m, i: logits.append(attention_logits(m, i)))
             for m in model.modules() if isinstance(m, LocalContext)]
    trace["y_hat"], _ = model.condition(trace["y"], trace["hyper"], trace.__setitem__)
    for hook in hooks:
        hook.remove()
    print("attention logits, standard deviation per slice:", [round(float(v), 2) for v in logits])
    return trace


def write(tensors, path):
    path.write_bytes(save({k: v.detach().float().contiguous() for k, v in tensors.items()}))
    for name, v in tensors.items():
        print(f"{path.name} {name} {list(v.shape)} mean {v.mean():.3f} std {v.std():.3f}")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bytes", action="store_true", help="round layers to bytes as training with --bytes does")
    args = parser.parse_args()
    torch.manual_seed(20231115)
    torch.set_num_threads(1)
    cfg, size = SHAPES[args.shape]
    model = MLICPlusPlus(cfg)
    randomize(model)
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    state = {k: v for k, v in state.items() if not k.endswith("relative_position_index")}
    if args.bytes:
        state = fast.in_bytes(state)
    tiny = args.shape.startswith("tiny")
    with torch.enable_grad():
        got, model = export(state, args.out, args.shape, torch.float16 if tiny else torch.float32)
    assert got.lrp_widths(1) == tuple(cfg.lrp_widths(1)) and got.synthesis in (cfg.synthesis, 0), got
    write(transforms(model, size), args.out / "transforms.safetensors")
    if tiny:
        write(entropy_path(model, 8, 12), args.out / "path.safetensors")


if __name__ == "__main__":
    sys.exit(main())
