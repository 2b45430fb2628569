"""Starts the hyperprior as a coarse picture: z carries the KLT of 4 x 4 positions of y's leading channels, linear all the way.

    python hyper.py CHECKPOINT --tiles tiles.tar OUT.pt

The leading channels of the block transform are the means of 16 x 16 pixels, in three colours. They vary over the picture ten times as much as
around their neighbours, but nothing in the first latent slice can learn that soon: a random z costs more than it says and dies, and the window
attention normalizes each position, which takes its magnitude away. So the way is set here, as `klt.py` does for the transforms:
h_a gathers 2 x 2 positions twice, h_s spreads them again, and the entropy parameters of the first slice take the result as their mean. GELU is
passed exactly by pairs, gelu(t) - gelu(-t) = t; everything on the way has unit variance at the middle level. Of the trained units those that say least are replaced.
"""
import argparse
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import checkpoint
import tiles as tile_set
from klt import klt, tap
from mlicpp import EDGE, EntropyBottleneck, MLICPlusPlus

CHANNELS = 3             # of y
KEPT = (8, 5, 5)         # coefficients of 4 x 4 positions, per channel
STEP = 3.0               # of z, in what the coefficients that are kept leave
PRIORS = (0.5, 1, 2, 4, 8, 16, 32, 64)      # scales among which the prior of a coefficient is chosen


def blocks(y):
    """(n, c, 16): 4 x 4 positions of y in nested order, coarse position first."""
    n, c, h, w = y.shape
    t = y[..., :h // 4 * 4, :w // 4 * 4].reshape(n, c, h // 4, 2, 2, w // 4, 2, 2)
    return t.permute(0, 2, 5, 1, 3, 6, 4, 7).reshape(-1, c, 16)


class Seen:
    """Mean and deviation of every input channel of the convolutions in `modules` while it is open."""

    def __init__(self, *modules):
        self.layers = [m for module in modules for m in module.modules() if isinstance(m, torch.nn.Conv2d)]

    def __enter__(self):
        self.hooks = [l.register_forward_pre_hook(self.note) for l in self.layers]

    def __exit__(self, *_):
        for h in self.hooks:
            h.remove()

    @staticmethod
    def note(layer, inputs):
        x = inputs[0].float().transpose(0, 1).flatten(1)
        layer.seen = x.mean(1), x.std(1)


def weakest(layer, count):
    """The `count` inputs that move `layer` least."""
    power = layer.weight.detach().square().sum((0, *range(2, layer.weight.dim())))
    return (power.sqrt() * layer.seen[1]).argsort()[:count].tolist()


def replace(layer, rows, columns=()):
    """Clears the given outputs of a layer, and of all outputs what varies with the given inputs: their mean stays in the bias."""
    columns, rows = list(columns), list(rows)
    layer.bias += layer.weight[:, columns].flatten(2).sum(2) @ layer.seen[0][columns] if layer.weight.dim() == 4 and columns else 0
    layer.weight[:, columns] = 0
    layer.weight[rows] = 0
    layer.bias[rows] = 0


def centre(layer, row, pair, value):
    """Adds value * (plus - minus) of a pair of inputs to a row at the middle of the kernel."""
    at = tuple(k // 2 for k in layer.kernel_size)
    for column, sign in zip(pair, (1, -1)):
        layer.weight[(row, column, *at)] += sign * value


def pairs(units):
    return list(zip(units[::2], units[1::2]))


def carry(layer, before, after):
    """Pairs to pairs, unchanged."""
    replace(layer, sum(after, ()), sum(before, ()))
    for b, a in zip(before, after):
        centre(layer, a[0], b, 1.0), centre(layer, a[1], b, -1.0)


def analysis(net, bases, z_of, unit, step):
    """h_a: channel c of y, of deviation unit[c], to coefficients bases[c] (k, 16) in steps of step[c], in channels z_of[c]."""
    r = net.h_a.reduction
    one, two, cells, again = (pairs(weakest(r[i], 2 * n)) for i, n in ((2, CHANNELS), (4, CHANNELS), (6, 4 * CHANNELS), (8, 4 * CHANNELS)))
    replace(r[0], sum(one, ()))
    for c, pair in enumerate(one):
        r[0].weight[pair[0], c, 1, 1], r[0].weight[pair[1], c, 1, 1] = 1 / unit[c], -1 / unit[c]
    carry(r[2], one, two)
    replace(r[4], sum(cells, ()), sum(two, ()))
    for c, b in enumerate(two):
        for fine in range(4):
            for to, sign in zip(cells[4 * c + fine], (1.0, -1.0)):
                tap(r[4], sign, to, b[0], fine), tap(r[4], -sign, to, b[1], fine)
    carry(r[6], cells, again)
    replace(r[8], sum(z_of, []), sum(again, ()))
    for c, basis in enumerate(bases):
        for k, z in enumerate(z_of[c]):
            for coarse in range(4):
                for fine in range(4):
                    for at, sign in zip(again[4 * c + fine], (1, -1)):
                        tap(r[8], sign * basis[k, 4 * coarse + fine] * unit[c] / step[c], z, at, coarse)


def synthesis(net, bases, z_of, unit, step):
    """h_s: the transpose, to the first channels of the second half of its output, in deviations of y."""
    s, m = net.h_s.increase, net.cfg.latent
    coefficients = sum(z_of, [])
    first = pairs(weakest(s[2][0], 2 * len(coefficients)))
    cells, again, last = (pairs(weakest(l, 2 * n)) for l, n in ((s[4], 4 * CHANNELS), (s[6][0], 4 * CHANNELS), (s[8], CHANNELS)))
    replace(s[0], sum(first, ()), coefficients)
    scales = [step[c] / unit[c] for c in range(CHANNELS) for _ in z_of[c]]
    for z, pair, scale in zip(coefficients, first, scales):
        s[0].weight[pair[0], z, 1, 1], s[0].weight[pair[1], z, 1, 1] = scale, -scale
    shuffled = lambda units: [4 * u + p for u in units for p in range(4)]
    replace(s[2][0], shuffled(sum(cells, ())), sum(first, ()))
    at = 0
    for c, basis in enumerate(bases):
        for k in range(len(basis)):
            for coarse in range(4):
                for fine in range(4):
                    for to, sign in zip(cells[4 * c + fine], (1, -1)):
                        centre(s[2][0], 4 * to + coarse, first[at], sign * basis[k, 4 * coarse + fine])
            at += 1
    carry(s[4], cells, again)
    replace(s[6][0], shuffled(sum(last, ())), sum(again, ()))
    for c in range(CHANNELS):
        for fine in range(4):
            for to, sign in zip(last[c], (1, -1)):
                centre(s[6][0], 4 * to + fine, again[4 * c + fine], sign)
    replace(s[8], range(m, m + CHANNELS), sum(last, ()))
    for c, pair in enumerate(last):
        centre(s[8], m + c, pair, 1.0)


def parameters(fusion, offset, mean_row, unit, left):
    """Entropy parameters of the first slice: mean c is input `offset` + c in units of unit[c]; its scale shrinks to `left`[c] of itself."""
    layers = [fusion[i] for i in (0, 2, 4, 6)]
    units = [pairs(weakest(l, 2 * CHANNELS)) for l in layers[1:]]
    replace(layers[0], sum(units[0], ()), range(offset, offset + CHANNELS))
    for c, pair in enumerate(units[0]):
        layers[0].weight[pair[0], offset + c, 0, 0], layers[0].weight[pair[1], offset + c, 0, 0] = 1.0, -1.0
    carry(layers[1], units[0], units[1])
    carry(layers[2], units[1], units[2])
    replace(layers[3], range(mean_row, mean_row + CHANNELS), sum(units[2], ()))
    for c, pair in enumerate(units[2]):
        centre(layers[3], mean_row + c, pair, unit[c])
        layers[3].weight[c] *= left[c]
        layers[3].bias[c] *= left[c]


def forget(net):
    """Nothing else that was trained reads the channels of h_s that now mean something else."""
    m, s = net.cfg.latent, net.sc
    for i in range(net.cfg.slices):
        for lrp in (net.lrp_anchor[i], net.lrp_nonanchor[i]):
            replace(lrp.lrp_transform[0], (), range(CHANNELS))
        if i:
            for parameters, at in ((net.entropy_parameters_anchor[i], 6 * s + m), (net.entropy_parameters_nonanchor[i], 10 * s + m)):
                replace(parameters.fusion[0], (), range(at, at + CHANNELS))


def priors(net, z, channels):
    """Of fresh priors, for each of `channels` the one of the scale that codes z (n, N) best."""
    fresh = [EntropyBottleneck(net.cfg.hyper, init_scale=s) for s in PRIORS]
    bits = torch.stack([-torch.log2(f.likelihood(z.t()[None, :, None].round())).mean((0, 2, 3)) for f in fresh])
    best = bits.argmin(0)
    for c in channels:
        for (name, mine), other in zip(net.entropy_bottleneck.named_parameters(), fresh[best[c]].parameters()):
            mine[c] = other[c]
    return bits.min(0)[0][channels]


@torch.no_grad()
def start(net, data, index, batches=6):
    """Sets the linear way through z in `net`. data, index: as `tiles.load` and `tiles.split` give them."""
    levels, m, s = net.cfg.levels, net.cfg.latent, net.sc
    crops = [tile_set.crops(data, index, 8, min(256, data.shape[1] // 64 * 64)) for _ in range(batches)]
    y = torch.cat([net.g_a(x)[:, :CHANNELS].float() for x in crops])
    with Seen(net.h_a, net.h_s, net.entropy_parameters_anchor, net.entropy_parameters_nonanchor, net.lrp_anchor, net.lrp_nonanchor):
        net(crops[0], torch.linspace(0, levels - 1, 8))
    b = blocks(y)
    covariance = [b[:, c].t() @ b[:, c] / len(b) for c in range(CHANNELS)]
    bases = [klt(cov, k) for cov, k in zip(covariance, KEPT)]
    rest = [(b[:, c] - b[:, c] @ e.t() @ e).std() for c, e in enumerate(bases)]
    rest = torch.stack(rest)
    deviation = y.transpose(0, 1).flatten(1).std(1)
    left = 1.4 * rest / deviation
    free = weakest(net.h_s.increase[0], sum(KEPT))
    z_of = [free[sum(KEPT[:c]):sum(KEPT[:c + 1])] for c in range(CHANNELS)]
    gain = net.gain[:, :CHANNELS].exp()
    middle = levels // 2
    unit, step = deviation * gain[middle], STEP * rest * gain[middle]
    analysis(net, bases, z_of, unit, step), synthesis(net, bases, z_of, unit, step), forget(net)
    parameters(net.entropy_parameters_anchor[0].fusion, m, s, unit, left)
    parameters(net.entropy_parameters_nonanchor[0].fusion, 2 * s + m, s, unit, left)
    relative = torch.cat([(gain[:, c] / gain[middle, c])[:, None].expand(levels, KEPT[c]) for c in range(CHANNELS)], 1)
    net.hyper_gain[:, free], net.inverse_hyper_gain[:, free] = -relative.log(), relative.log()
    z = torch.zeros(len(b), net.cfg.hyper)
    z[:, free] = torch.cat([b[:, c] @ e.t() / (STEP * rest[c]) for c, e in enumerate(bases)], 1)
    return priors(net, z, free)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("checkpoint")
    a.add_argument("out")
    a.add_argument("--tiles", required=True)
    a.add_argument("--seed", type=int, default=0)
    a = a.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    net = MLICPlusPlus(EDGE)
    try:
        state, step, lambdas = checkpoint.load(a.checkpoint)
        checkpoint.fill(net, state)
    except (OSError, ValueError) as e:
        sys.exit(f"hyper: {e}")
    data, numbers = tile_set.load(a.tiles)
    bits = start(net, data, tile_set.split(numbers)[0])
    print(f"{bits.sum().item():.1f} bits of z per 64 x 64 pixels: " + " ".join(f"{b:.2f}" for b in bits))
    checkpoint.save(a.out, net.state_dict(), step, lambdas=lambdas)


if __name__ == "__main__":
    main()
