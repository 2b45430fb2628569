"""Rate, distortion and their balance over the levels of quality."""
import functools
import math

import torch
import torch.nn.functional as F

import fast
from mlicpp import quantize_ste

LAMBDAS = [0.0002, 0.0007, 0.0022, 0.0065, 0.0168, 0.0372, 0.0825, 0.1825]     # for even steps of log bits: wider where bits are few
TOP = len(LAMBDAS) - 1
_in_use = list(LAMBDAS)


def use(lambdas):
    """The lambdas of the levels from now on in this process; None: those of this file."""
    if lambdas and len(lambdas) != len(LAMBDAS):
        raise ValueError(f"{len(lambdas)} lambdas, and training has {len(LAMBDAS)} levels")
    _in_use[:] = lambdas or LAMBDAS
    _log_lambdas.cache_clear()


@functools.lru_cache
def _log_lambdas(device):
    return torch.tensor(_in_use, device=device).log()


def lam(q):
    """Lagrangian weight of 255^2 mse at level q (float, 0..7): log-linear between levels."""
    t = _log_lambdas(q.device)
    lo = q.floor().clamp(0, TOP - 1).long()
    return torch.lerp(t[lo], t[lo + 1], q - lo).exp()


def rate_distortion(out, x):
    """(bits per pixel of y, of z, mean square error), one of each per image."""
    px = x.shape[-1] * x.shape[-2]
    bits = [(-torch.log2(out["likelihoods"][k])).flatten(1).sum(1) / px for k in ("y", "z")]
    return (*bits, (out["x_hat"] - x).square().flatten(1).mean(1))


def loss(bpp, mse, q):
    """Per image; scaled so that every level weighs about the same."""
    l = lam(q)
    return (bpp + l * 255 ** 2 * mse) * (0.013 / l).sqrt()


def joint(net, x, q):
    """(bpp of y, bpp of z, mse) per image: everything learns."""
    return rate_distortion(net(x, q), x)


def entropy_only(net, x, q):
    """As `joint` for fixed transforms: distortion is that of the latents, which orthonormal transforms keep."""
    with torch.no_grad():
        y = net.g_a(x).float()
    y_hat, y, likelihoods = fast.entropy_pass(net, y, q)
    px = x.shape[-1] * x.shape[-2]
    bits = [(-torch.log2(likelihoods[k])).flatten(1).sum(1) / px for k in ("y", "z")]
    error = (y_hat - y) * net.gains(q)[1].detach()
    return (*bits, error.square().flatten(1).sum(1) / (3 * px))


def transforms_only(net, x, q):
    """As `joint` without entropy networks: the rate is that of Gaussians of each latent's local energy."""
    g, ig, _, _ = net.gains(q)
    y = net.g_a(x).float() * g
    energy = F.avg_pool2d(F.pad(y.square(), (1, 1, 1, 1), mode="replicate"), 3, 1)
    bits = 0.5 * torch.log2(1 + 2 * math.pi * math.e * energy)
    px = x.shape[-1] * x.shape[-2]
    x_hat = net.g_s(quantize_ste(y) * ig).float()
    rate = bits.flatten(1).sum(1) / px
    return rate, torch.zeros_like(rate), (x_hat - x).square().flatten(1).mean(1)


MEASURES = {"joint": joint, "entropy": entropy_only, "transforms": transforms_only}
