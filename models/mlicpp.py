"""The float definition of MLIC++: configurable widths, variable-rate gain, and the 2023 generation of published weights.

Module attribute names follow the published MLIC++ checkpoints, so one importer reads both. `export.py` fills a `Config`
from the shapes of a checkpoint; `golden.py` records what these modules compute.
"""
from dataclasses import dataclass
import math
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    transform: tuple = (192, 192, 192)   # widths at 1/2, 1/4, 1/8 resolution
    latent: int = 320                    # M, channels of y at 1/16
    hyper: int = 192                     # N, channels of z at 1/64
    slices: int = 10
    window: int = 5
    ep_hidden: tuple = (320, 256, 128)
    lrp_hidden: tuple = (224, 128)       # of every slice, or one tuple per slice; 2 widths, or 3 in the 2023 generation
    cc_hidden: tuple = (192, 128)
    hs_hidden: tuple = (320, 480)        # widths at 1/32 and 1/16 in the hyper synthesis
    levels: int = 0                      # gain levels; 0 = fixed rate (published checkpoints)
    heads: int = 2                       # local attention heads
    intra_heads: int = 2                 # heads of the global context within a latent slice
    synthesis: int = 0                   # width after g_s's first block; 0 = latent, hyper in the 2023 generation

    def lrp_widths(self, i):
        """Hidden widths of the latent residual prediction of latent slice i."""
        return self.lrp_hidden[i] if isinstance(self.lrp_hidden[0], (tuple, list)) else self.lrp_hidden


def lrp_2023(latent, slices):
    """Hidden widths of the 2023 generation: in - d/4, in - d/2, in - 3d/4 with d = in - out, per slice."""
    s = latent // slices
    ins = [latent + (i + 1) * s for i in range(slices)]
    return tuple(tuple(i - (i - s) * k // 4 for k in (1, 2, 3)) for i in ins)


EDGE = Config(transform=(64, 96, 128), latent=192, hyper=128, slices=6, ep_hidden=(192, 128, 96),
              lrp_hidden=(96, 64), cc_hidden=(128, 96), hs_hidden=(128, 160), levels=8)
FULL = Config()
FULL_2023 = Config(lrp_hidden=lrp_2023(320, 10), synthesis=192)


def c1(i, o, s=1):
    return nn.Conv2d(i, o, 1, s)


def c3(i, o, s=1):
    return nn.Conv2d(i, o, 3, s, 1)


def up(i, o, r=2):
    return nn.Sequential(nn.Conv2d(i, o * r * r, 3, padding=1), nn.PixelShuffle(r))


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bound):
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx, g):
        x, bound = ctx.saved_tensors
        return g * ((x >= bound) | (g < 0)), None


def lower_bound(x, bound):
    """max(x, bound) whose gradient still pulls x up from below the bound."""
    return _LowerBound.apply(x, torch.as_tensor(bound, dtype=x.dtype, device=x.device))


def quantize_ste(x):
    return x + (x.round() - x).detach()


class GDN(nn.Module):
    """Generalized divisive normalization (Balle et al. 2016), non-negative by square reparametrization."""

    PEDESTAL = 2.0 ** -36

    def __init__(self, c, inverse=False):
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(c) + self.PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(0.1 * torch.eye(c) + self.PEDESTAL))

    def constants(self):
        """(gamma, beta) as the divisive sum uses them."""
        beta = lower_bound(self.beta, (1e-6 + self.PEDESTAL) ** 0.5) ** 2 - self.PEDESTAL
        gamma = lower_bound(self.gamma, self.PEDESTAL ** 0.5) ** 2 - self.PEDESTAL
        return gamma, beta

    def forward(self, x):
        gamma, beta = self.constants()
        with torch.autocast(x.device.type, enabled=False):
            n = F.conv2d((x * x).float(), gamma[:, :, None, None], beta)
            n = n.sqrt() if self.inverse else n.rsqrt()
        return x * n.to(x.dtype)


class EntropyBottleneck(nn.Module):
    """Factorized prior with a learned cumulative per channel (Balle et al. 2018, appendix 6.1)."""

    def __init__(self, c, filters=(3, 3, 3, 3), init_scale=10.0):
        super().__init__()
        self.n = len(filters) + 1
        f = (1, *filters, 1)
        scale = init_scale ** (1 / self.n)
        for i in range(self.n):
            m = math.log(math.expm1(1 / scale / f[i + 1]))
            self.register_parameter(f"_matrix{i}", nn.Parameter(torch.full((c, f[i + 1], f[i]), m)))
            self.register_parameter(f"_bias{i}", nn.Parameter(torch.rand(c, f[i + 1], 1) - 0.5))
            if i < self.n - 1:
                self.register_parameter(f"_factor{i}", nn.Parameter(torch.zeros(c, f[i + 1], 1)))
        self.quantiles = nn.Parameter(torch.tensor([-init_scale, 0.0, init_scale]).repeat(c, 1, 1))
        self.target = math.log(2 / 1e-9 - 1)

    def medians(self):
        return self.quantiles[:, 0, 1].detach()

    def logits(self, x, frozen=False):
        for i in range(self.n):
            m, b = getattr(self, f"_matrix{i}"), getattr(self, f"_bias{i}")
            f = getattr(self, f"_factor{i}") if i < self.n - 1 else None
            if frozen:
                m, b, f = m.detach(), b.detach(), None if f is None else f.detach()
            x = F.softplus(m) @ x + b
            if f is not None:
                x = x + torch.tanh(f) * torch.tanh(x)
        return x

    def likelihood(self, x):
        b, c, h, w = x.shape
        v = x.permute(1, 0, 2, 3).reshape(c, 1, -1)
        lo, hi = self.logits(v - 0.5), self.logits(v + 0.5)
        s = -torch.sign(lo + hi).detach()
        p = (torch.sigmoid(s * hi) - torch.sigmoid(s * lo)).abs()
        return lower_bound(p, 1e-9).reshape(c, b, h, w).permute(1, 0, 2, 3)

    def loss(self):
        t = torch.tensor([-self.target, 0.0, self.target], device=self.quantiles.device)
        return (self.logits(self.quantiles, frozen=True) - t).abs().sum()


def gaussian_likelihood(y, scale, mean):
    s = lower_bound(scale, 0.11)
    v = (y - mean).abs()
    phi = lambda t: 0.5 * torch.erfc(-t * 2 ** -0.5)
    return lower_bound(phi((0.5 - v) / s) - phi((-0.5 - v) / s), 1e-9)


def uniform_noise(x, training):
    return x + torch.empty_like(x).uniform_(-0.5, 0.5) if training else x.round()


class ResidualBlock(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.conv2 = c3(i, o), c3(o, o)
        self.skip = c1(i, o) if i != o else None

    def forward(self, x):
        h = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return h + (x if self.skip is None else self.skip(x))


class ResidualBlockWithStride(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.conv2, self.gdn, self.skip = c3(i, o, 2), c3(o, o), GDN(o), c1(i, o, 2)

    def forward(self, x):
        return self.gdn(self.conv2(F.gelu(self.conv1(x)))) + self.skip(x)


class ResidualBlockUpsample(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.subpel_conv, self.conv, self.igdn, self.upsample = up(i, o), c3(o, o), GDN(o, inverse=True), up(i, o)

    def forward(self, x):
        return self.igdn(self.conv(F.gelu(self.subpel_conv(x)))) + self.upsample(x)


class AnalysisTransform(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        a, b, c = n
        self.analysis_transform = nn.Sequential(
            ResidualBlockWithStride(3, a), ResidualBlock(a, a),
            ResidualBlockWithStride(a, b), ResidualBlock(b, b),
            ResidualBlockWithStride(b, c), ResidualBlock(c, c), c3(c, m, 2))

    def forward(self, x):
        return self.analysis_transform(x)


class SynthesisTransform(nn.Module):
    def __init__(self, n, m, first=0):
        super().__init__()
        (a, b, c), f = n, first or m
        self.synthesis_transform = nn.Sequential(
            ResidualBlock(m, f), ResidualBlockUpsample(f, c), ResidualBlock(c, c),
            ResidualBlockUpsample(c, b), ResidualBlock(b, b),
            ResidualBlockUpsample(b, a), ResidualBlock(a, a), up(a, 3))

    def forward(self, x):
        return self.synthesis_transform(x)


class HyperAnalysis(nn.Module):
    def __init__(self, m, n):
        super().__init__()
        g = nn.GELU
        self.reduction = nn.Sequential(c3(m, n), g(), c3(n, n), g(), c3(n, n, 2), g(), c3(n, n), g(), c3(n, n, 2))

    def forward(self, x):
        return self.reduction(x)


class HyperSynthesis(nn.Module):
    def __init__(self, m, n, hidden):
        super().__init__()
        g, (a, b) = nn.GELU, hidden
        self.increase = nn.Sequential(c3(n, a), g(), up(a, a), g(), c3(a, b), g(), up(b, b), g(), c3(b, m * 2))

    def forward(self, x):
        return self.increase(x)


def position_index(w):
    c = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
    r = (c[:, :, None] - c[:, None, :]).permute(1, 2, 0) + w - 1
    return r[..., 0] * (2 * w - 1) + r[..., 1]


class MLP(nn.Module):
    def __init__(self, i, h, o):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(i, h), nn.Linear(h, o)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class LocalContext(nn.Module):
    """Checkerboard attention over w x w windows: anchors attend to anchors of their window."""

    def __init__(self, dim=32, window=5, heads=2):
        super().__init__()
        self.dim, self.w, self.heads = dim, window, heads
        self.qkv_proj = nn.Linear(dim, dim * 3)
        self.relative_position_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        self.proj = nn.Linear(dim * 2, dim * 2)
        self.mlp = MLP(dim * 2, dim * 4, dim * 2)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim * 2)
        self.register_buffer("relative_position_index", position_index(window))
        self.fusion = nn.Conv2d(dim, dim * 2, window)

    def forward(self, x):
        b, c, h, w = x.shape
        l, k, hd, nh = h * w, self.w, c // self.heads, self.heads
        t = self.norm1(x.flatten(2).transpose(1, 2))
        qkv = self.qkv_proj(t).reshape(b, h, w, 3 * c).permute(0, 3, 1, 2)
        win = F.unfold(qkv.float(), k, padding=k // 2).to(qkv.dtype)           # b, 3*c*k*k, l
        win = win.view(b, 3, hd, nh, k * k, l).permute(1, 0, 5, 3, 4, 2)       # 3, b, l, nh, k*k, hd
        q, kk, v = win[0], win[1], win[2]
        ck = torch.zeros(1, 1, h, w, device=x.device)
        ck[:, :, 0::2, 1::2] = 1
        ck[:, :, 1::2, 0::2] = 1
        m = F.unfold(ck, k, padding=k // 2)[0].t()                             # l, k*k
        mask = (m[:, :, None] * m[:, None, :] - 1) * 100
        bias = self.relative_position_table[self.relative_position_index.view(-1)].view(k * k, k * k, nh).permute(2, 0, 1)
        a = (q * hd ** -0.5) @ kk.transpose(-2, -1)
        a = (a.float() + bias + mask[None, :, None]).softmax(-1).to(v.dtype)
        o = (a @ v).reshape(b, l, nh, k, k, hd).permute(0, 1, 2, 5, 3, 4).reshape(b * l, c, k, k)
        o = self.proj(self.fusion(o).reshape(b, l, 2 * c))
        o = o + self.mlp(self.norm2(o))
        return o.transpose(1, 2).reshape(b, 2 * c, h, w)


class ChannelContext(nn.Module):
    def __init__(self, i, o, hid):
        super().__init__()
        g = nn.GELU
        self.fushion = nn.Sequential(c3(i, hid[0]), g(), c3(hid[0], hid[1]), g(), c3(hid[1], o * 4))

    def forward(self, x):
        return self.fushion(x)


def pw_dw(d):
    return nn.Sequential(c1(d, d), nn.Conv2d(d, d, 3, 1, 1, groups=d))


def mix(i, h, o):
    return nn.Sequential(c1(i, h), nn.GELU(), nn.Conv2d(h, h, 3, 1, 1, groups=h), nn.GELU(), c1(h, o))


def linear_attention(q, k, v, heads):
    """softmax(q) (softmax(k)^T v): cost linear in positions. q, k, v: b, d, n."""
    b, d, n = q.shape
    q, k, v = (t.float().reshape(b, heads, d // heads, n) for t in (q, k, v))
    ctx = k.softmax(-1) @ v.transpose(-2, -1)
    return (ctx.transpose(-2, -1) @ q.softmax(2)).reshape(b, d, n)


class LinearGlobalInterContext(nn.Module):
    def __init__(self, d, o, heads):
        super().__init__()
        self.heads = heads
        self.keys, self.queries, self.values = pw_dw(d), pw_dw(d), pw_dw(d)
        self.reprojection = nn.Conv2d(d, o * 3 // 2, 5, 1, 2)
        self.mlp = mix(o * 3 // 2, o * 2, o)
        self.skip = c1(o * 3 // 2, o)

    def forward(self, x):
        q, k, v = (f(x).flatten(2) for f in (self.queries, self.keys, self.values))
        a = self.reprojection(linear_attention(q, k, v, self.heads).reshape(x.shape))
        return self.skip(a) + self.mlp(a)


class LinearGlobalIntraContext(nn.Module):
    def __init__(self, d, heads=2):
        super().__init__()
        self.d, self.heads = d, heads
        self.keys, self.queries, self.values = pw_dw(d), pw_dw(d), pw_dw(d)
        self.reprojection = nn.Conv2d(d, d * 2, 5, 1, 2)
        self.mlp = mix(d * 2, d * 4, d * 2)

    def forward(self, prev, anchor):
        b, c, h, w = prev.shape
        q = squeeze(self.queries(nonanchor_only(prev)), 0).flatten(2)
        k = squeeze(self.keys(anchor_only(prev)), 1).flatten(2)
        v = squeeze(self.values(anchor), 1).flatten(2)
        a = linear_attention(q, k, v, self.heads).reshape(b, c, h, w // 2)
        a = self.reprojection(unsqueeze(a, 0))
        return a + self.mlp(a)


def ck_mask(x, parity):
    h, w = x.shape[-2:]
    i = torch.arange(h, device=x.device)[:, None] + torch.arange(w, device=x.device)[None]
    return ((i % 2) == parity).to(x.dtype)


def anchor_only(x):
    return x * ck_mask(x, 1)


def nonanchor_only(x):
    return x * ck_mask(x, 0)


def squeeze(x, parity):
    """Keep the checkerboard half (row + col) % 2 == parity: b, c, h, w/2."""
    out = torch.stack([x[..., 0::2, parity::2], x[..., 1::2, 1 - parity::2]], -2)
    return out.flatten(-3, -2)


def unsqueeze(x, parity):
    b, c, h, w = x.shape
    z = torch.zeros_like(x)
    even = torch.stack([x, z] if parity == 0 else [z, x], -1).flatten(-2)
    odd = torch.stack([z, x] if parity == 0 else [x, z], -1).flatten(-2)
    rows = torch.arange(h, device=x.device)[:, None] % 2 == 0
    return torch.where(rows, even, odd)


class EntropyParameters(nn.Module):
    def __init__(self, i, o, hid):
        super().__init__()
        g = nn.GELU
        a, b, c = hid
        self.fusion = nn.Sequential(c1(i, a), g(), c1(a, b), g(), c1(b, c), g(), c1(c, o))

    def forward(self, x):
        return self.fusion(x)


class LatentResidualPrediction(nn.Module):
    def __init__(self, i, o, hid):
        super().__init__()
        w = (i, *hid)
        hidden = [l for a, b in zip(w, w[1:]) for l in (c3(a, b), nn.GELU())]
        self.lrp_transform = nn.Sequential(*hidden, c3(w[-1], o))

    def forward(self, x):
        return 0.5 * torch.tanh(self.lrp_transform(x).float())


class MLICPlusPlus(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        m, n, s = cfg.latent, cfg.hyper, cfg.latent // cfg.slices
        self.sc = s
        self.g_a, self.g_s = AnalysisTransform(cfg.transform, m), SynthesisTransform(cfg.transform, m, cfg.synthesis)
        self.h_a, self.h_s = HyperAnalysis(m, n), HyperSynthesis(m, n, cfg.hs_hidden)
        self.entropy_bottleneck = EntropyBottleneck(n)
        r = range(cfg.slices)
        ep, lrp = cfg.ep_hidden, cfg.lrp_widths
        self.local_context = nn.ModuleList(LocalContext(s, cfg.window, cfg.heads) for _ in r)
        self.channel_context = nn.ModuleList(ChannelContext(s * i, s, cfg.cc_hidden) if i else None for i in r)
        self.global_inter_context = nn.ModuleList(LinearGlobalInterContext(s * i, s * 2, s * i // 32) if i else None for i in r)
        self.global_intra_context = nn.ModuleList(LinearGlobalIntraContext(s, cfg.intra_heads) if i else None for i in r)
        self.entropy_parameters_anchor = nn.ModuleList(EntropyParameters(2 * m + (6 * s if i else 0), 2 * s, ep) for i in r)
        self.entropy_parameters_nonanchor = nn.ModuleList(EntropyParameters(2 * m + (10 * s if i else 2 * s), 2 * s, ep) for i in r)
        self.lrp_anchor = nn.ModuleList(LatentResidualPrediction(m + (i + 1) * s, s, lrp(i)) for i in r)
        self.lrp_nonanchor = nn.ModuleList(LatentResidualPrediction(m + (i + 1) * s, s, lrp(i)) for i in r)
        if cfg.levels:
            g = torch.linspace(-1.2, 1.2, cfg.levels)[:, None]
            self.gain = nn.Parameter(g.repeat(1, m))            # log gain of y, per level and channel
            self.inverse_gain = nn.Parameter(-g.repeat(1, m))
            self.hyper_gain = nn.Parameter((g * 0.5).repeat(1, n))
            self.inverse_hyper_gain = nn.Parameter((-g * 0.5).repeat(1, n))

    def gains(self, q):
        """q: levels in [0, levels-1], one per image, log-linear interpolation. Four (b, c, 1, 1) gains."""
        lo = q.floor().clamp(0, self.cfg.levels - 2).long()
        t = (q - lo)[:, None]
        return [torch.lerp(p[lo], p[lo + 1], t).exp()[:, :, None, None]
                for p in (self.gain, self.inverse_gain, self.hyper_gain, self.inverse_hyper_gain)]

    def forward(self, x, q=None):
        y = self.g_a(x).float()
        g, ig, hg, ihg = self.gains(q) if q is not None else (1.0, 1.0, 1.0, 1.0)
        y = y * g
        z = self.h_a(y).float() * hg
        off = self.entropy_bottleneck.medians()[:, None, None]
        z_hat = quantize_ste(z - off) + off
        with torch.autocast(x.device.type, enabled=False):
            z_lik = self.entropy_bottleneck.likelihood(uniform_noise(z, True) if self.training else z_hat)
        z_hat = z_hat * ihg
        hyper = self.h_s(z_hat).float()
        y_hat, likelihood = self.condition(y, hyper)
        return {"x_hat": self.g_s(y_hat * ig).float(), "likelihoods": {"y": likelihood, "z": z_lik}}

    def condition(self, y, hyper, note=lambda name, tensor: None):
        """Latent slices in order: (y_hat, likelihood) of y given the hyper parameters; `note` sees every step by name."""
        means_h = hyper.chunk(2, 1)[1]
        done, all_scales, all_means = [], [], []
        for i, ys in enumerate(y.chunk(self.cfg.slices, 1)):
            def step(name, tensor):
                note(f"slice{i}.{name}", tensor)
                return tensor

            ctx = [hyper]
            if i:
                prev = torch.cat(done, 1)
                ctx = [step("inter", self.global_inter_context[i](prev)), step("chan", self.channel_context[i](prev)), hyper]
            p = step("anchor_params", self.entropy_parameters_anchor[i](torch.cat(ctx, 1)).float())
            sa, ma = p.chunk(2, 1)
            anc = step("anchor_rounded", anchor_only(quantize_ste(ys - ma) + ma))
            anc = step("anchor", anc + anchor_only(self.lrp_anchor[i](torch.cat([means_h] + done + [anc], 1))))
            near = [step("local", self.local_context[i](anc))]
            if i:
                near.append(step("intra", self.global_intra_context[i](done[-1], anc)))
            p = step("nonanchor_params", self.entropy_parameters_nonanchor[i](torch.cat(near + ctx, 1)).float())
            sn, mn = p.chunk(2, 1)
            mask = ck_mask(ys, 1)
            all_scales.append(sa * mask + sn * (1 - mask))
            all_means.append(ma * mask + mn * (1 - mask))
            full = step("rounded", anc + nonanchor_only(quantize_ste(ys - mn) + mn))
            full = full + nonanchor_only(self.lrp_nonanchor[i](torch.cat([means_h] + done + [full], 1)))
            done.append(step("y_hat", full))
        scales, means = torch.cat(all_scales, 1), torch.cat(all_means, 1)
        coded = uniform_noise(y, True) if self.training else quantize_ste(y - means) + means
        return torch.cat(done, 1), gaussian_likelihood(coded, scales, means)

    def aux_loss(self):
        return self.entropy_bottleneck.loss()
