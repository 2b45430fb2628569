"""Starts the transforms as a block transform: g_a and g_s as the KLT of 16 x 16 blocks and its transpose.

Random transforms take thousands of steps to find what is known beforehand. The linear way through both is set here; every other
channel and every residual branch keeps a small random start, so that training leaves the block transform from the first step on.
GELU is passed exactly by pairs, gelu(t) - gelu(-t) = t, and nearly by a bias, gelu(t + 3) - 3, for weak features.
"""
import numpy as np
import torch

import rd
from mlicpp import EntropyBottleneck

BRANCH = 0.05          # scale of the last convolution of a residual branch
BIAS = 3.0
MIDDLE = 6.7           # a gain in the middle of the levels, for the scale of the entropy networks
Z_SCALE = 4.0          # of h_a's last layer, for a z that says something from the start
BASE = 62.0            # gain of orthonormal coefficients per square root of lambda: where uniform steps of one cost as much as they gain


def patches(tiles, size, rng, n=60000):
    """(n, size*size*3) patches around 0, ordered as nested 2 x 2 blocks of channels last: what stacked stride-2 taps see."""
    out = np.empty((n, size, size, 3), np.float32)
    for i in range(n):
        t = tiles[rng.integers(len(tiles))]
        y, x = rng.integers(t.shape[0] - size + 1), rng.integers(t.shape[1] - size + 1)
        out[i] = t[y:y + size, x:x + size]
    return nest(torch.from_numpy(out / 255 - 0.5).permute(0, 3, 1, 2)).flatten(1)


def nest(x):
    """b, c, h, w to b, c', 1, 1 by repeated 2 x 2 gathering; new channel = position * channels + channel."""
    while x.shape[-1] > 1:
        x = torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)
    return x


def klt(c, k):
    """The k strongest eigenvectors of covariance c as rows."""
    w, v = torch.linalg.eigh(c.double())
    return v.flip(1)[:, :k].t().float()


def tap(conv, w, rows, cols, pos):
    """Sets conv's kernel at 2 x 2 position pos (0..3; offsets 0 and +1 of a 3 x 3 kernel, or a 1 x 1) for rows x cols."""
    i, j = (1 + pos // 2, 1 + pos % 2) if conv.kernel_size[0] == 3 else (0, 0)
    conv.weight[rows, cols, i, j] = w


def analysis_stage(block, p, cov, pairs, gamma):
    """block passes p [x00; x01; x10; x11] in its first len(p) channels. cov: of the gathered input; pairs: features passed exactly."""
    k, n = p.shape[0], p.shape[1] // 4
    hid = block.conv1.out_channels
    a = p[:, n:]                                            # what the skip (position 0) cannot see
    c = cov[n:, n:].double()
    w, v = torch.linalg.eigh(c)
    root = (v * w.clamp(min=0).sqrt()) @ v.t()
    u, s, vt = torch.linalg.svd(a.double() @ root)
    f = min(int((s > 1e-6 * s[0]).sum()), hid - pairs)      # features: `pairs` of them by two channels, the rest by one
    pairs = min(pairs, f)
    f = min(f, hid - pairs)
    inv = (v * w.clamp(min=1e-9).rsqrt()) @ v.t()
    enc, dec = (vt[:f] @ inv).float(), (u[:, :f] * s[:f]).float()       # unit-variance features; back to outputs
    enc, dec = enc * 0.5, dec * 2                            # within the nearly linear range of the bias
    w1, b1 = block.conv1.weight, block.conv1.bias
    used = f + pairs
    w1[:used] = 0
    b1[:used] = 0
    block.conv2.weight[:k] = 0
    block.conv2.bias[:k] = 0
    for q in (1, 2, 3):
        e = enc[:, (q - 1) * n:q * n]
        tap(block.conv1, e, slice(0, f), slice(0, n), q)
        tap(block.conv1, -e[:pairs], slice(f, used), slice(0, n), q)
    block.conv2.weight[:k, :f, 1, 1] = dec
    block.conv2.weight[:k, f:used, 1, 1] = -dec[:, :pairs]
    b1[pairs:f] = BIAS
    block.conv2.bias[:k] = -BIAS * dec[:, pairs:].sum(1)
    block.skip.weight[:k] = 0
    block.skip.bias[:k] = 0
    block.skip.weight[:k, :n, 0, 0] = p[:, :n]
    block.gdn.gamma.copy_((gamma * torch.eye(hid) + block.gdn.PEDESTAL).sqrt())


def synthesis_stage(conv, p, first):
    """conv (sub-pixel, factor 2) gives p^T y in the first `first` channels of the four positions. p: k, 4 * first."""
    k, o = p.shape[0], conv.out_channels // 4
    w = conv.weight.view(o, 4, conv.in_channels, 3, 3)
    b = conv.bias.view(o, 4)
    w[:first] = 0
    b[:first] = 0
    w[:first, :, :k, 1, 1] = p.t().reshape(4, first, k).transpose(0, 1)


def start(net, tiles, seed):
    """Sets g_a and g_s of `net`, and scales its entropy networks to the latents that come of it."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        ga, gs = net.g_a.analysis_transform, net.g_s.synthesis_transform
        m, width = net.cfg.latent, net.cfg.transform[2]
        steps, x = [], patches(tiles, 16, rng, n := 30000)
        for groups, k in ((64, 12), (16, 48), (4, width), (1, m)):      # of 2 x 2, 4 x 4, 8 x 8, 16 x 16 pixels
            x = x.reshape(n * groups, -1)
            cov = x.t() @ x / len(x)
            steps.append((klt(cov, k), cov))
            x = x @ steps[-1][0].t()
        (p2, cov2), (p4, cov4), (p8, cov8), (p16, cov16) = steps
        for b in (ga[1], ga[3], ga[5], gs[0], gs[2], gs[4], gs[6]):
            b.conv2.weight.mul_(BRANCH), b.conv2.bias.zero_()
        analysis_stage(ga[0], p2, cov2, 9, 0.02)
        for conv in (ga[0].conv1, ga[0].skip):              # around mid-grey
            conv.bias.sub_(0.5 * conv.weight.sum((1, 2, 3)))
        analysis_stage(ga[2], p4, cov4, 36, 0.02)
        analysis_stage(ga[4], p8, cov8, 24, 1e-3)
        ga[6].weight.zero_(), ga[6].bias.zero_()
        for q in range(4):
            tap(ga[6], p16[:, q * width:(q + 1) * width], slice(None), slice(None), q)
        for b, p, first in ((gs[1], p16, width), (gs[3], p8, 48), (gs[5], p4, 12)):
            b.conv.weight.mul_(BRANCH), b.conv.bias.zero_()
            synthesis_stage(b.upsample[0], p, first)
        synthesis_stage(gs[7][0], p2, 3)
        gs[7][0].bias.fill_(0.5)
        g = torch.tensor(rd.LAMBDAS)[:, None].expand(-1, m).sqrt().mul(BASE).log()
        net.gain.copy_(g), net.inverse_gain.copy_(-g)
        std = MIDDLE * (p16 @ cov16 @ p16.t()).diagonal().clamp(min=0).sqrt()
        whiten(net, std)
    return std


def whiten(net, std):
    """Entropy networks see latents of unit variance and answer in units of each latent's deviation."""
    s, m = net.sc, net.cfg.latent
    inv = 1 / std.clamp(min=0.3)
    scale = lambda conv, d: conv.weight.mul_(d.view(1, -1, *[1] * (conv.weight.dim() - 2)))
    scale(net.h_a.reduction[0], inv)
    net.h_a.reduction[-1].weight.mul_(Z_SCALE)
    net.entropy_bottleneck.load_state_dict(EntropyBottleneck(net.cfg.hyper, init_scale=1.5).state_dict())
    for i in range(net.cfg.slices):
        here = std[i * s:(i + 1) * s].clamp(min=0.3)
        done, own = inv[:i * s], inv[i * s:(i + 1) * s]
        net.local_context[i].norm1.weight.copy_(here.square().mean().sqrt() / here)
        if i:
            scale(net.channel_context[i].fushion[0], done)
            for part in ("keys", "queries", "values"):
                scale(getattr(net.global_inter_context[i], part)[0], done)
                scale(getattr(net.global_intra_context[i], part)[0], own if part == "values" else inv[(i - 1) * s:i * s])
        for e in (net.entropy_parameters_anchor[i], net.entropy_parameters_nonanchor[i]):
            last = e.fusion[-1]
            last.weight.mul_(torch.cat([here, here])[:, None, None, None])
            last.bias.copy_(torch.cat([here, torch.zeros(s)]))
        for l in (net.lrp_anchor[i], net.lrp_nonanchor[i]):
            scale(l.lrp_transform[0], torch.cat([inv, done, own]))
