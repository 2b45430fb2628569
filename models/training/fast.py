"""The functions of `mlicpp.py` arranged for training: faster, and fit for CUDA graphs. `test_training.py` holds both together."""
import functools
import re

import torch
import torch.nn.functional as F

import mlicpp
from mlicpp import LocalContext, quantize_ste, uniform_noise


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bound):
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ((x >= ctx.bound) | (g < 0)), None


def lower_bound(x, bound):
    """`mlicpp.lower_bound` for a bound that is a Python number: no copy to the device."""
    return _LowerBound.apply(x, bound)


@functools.lru_cache(8)
def window_index(b, h, w, k, device):
    """Rows of the zero-padded map (b, h+k-1, w+k-1) seen by each window: b * h * w * k * k."""
    hp, wp = h + k - 1, w + k - 1
    at = torch.arange(b * hp * wp, device=device).view(b, hp, wp)
    return at.unfold(1, k, 1).unfold(2, k, 1).reshape(-1)


@functools.lru_cache(8)
def window_mask(h, w, k, device):
    """(h * w, 1, k*k, k*k): 0 where query and key are both anchors, else -100."""
    ck = (torch.arange(h, device=device)[:, None] + torch.arange(w, device=device)) % 2
    m = F.unfold(ck[None, None].float(), k, padding=k // 2)[0].t()
    return ((m[:, :, None] * m[:, None, :] - 1) * 100)[:, None]


def local_context(self, x):
    """`LocalContext.forward`: windows gathered once as rows, the fusion of a window as one linear layer."""
    b, c, h, w = x.shape
    l, k, nh = h * w, self.w, self.heads
    hd, kk = c // nh, k * k
    t = self.norm1(x.permute(0, 2, 3, 1))
    qkv = F.pad(self.qkv_proj(t), (0, 0, k // 2, k // 2, k // 2, k // 2)).reshape(-1, 3 * c)
    win = qkv.index_select(0, window_index(b, h, w, k, x.device))
    q, key, v = win.view(b * l, kk, 3, hd, nh).permute(2, 0, 4, 1, 3).contiguous().unbind(0)
    bias = self.relative_position_table[self.relative_position_index.view(-1)].view(kk, kk, nh).permute(2, 0, 1)
    a = (q * hd ** -0.5) @ key.transpose(-2, -1)
    a = (a.view(b, l, nh, kk, kk) + (bias + window_mask(h, w, k, x.device))).softmax(-1).to(v.dtype)
    o = a.view(b * l, nh, kk, kk) @ v                                     # b*l, nh, kk, hd
    weight = self.fusion.weight.view(2 * c, nh, hd, kk).transpose(2, 3).reshape(2 * c, -1)
    o = self.proj(F.linear(o.reshape(b * l, -1), weight, self.fusion.bias))
    o = o + self.mlp(self.norm2(o))
    return o.view(b, h, w, 2 * c).permute(0, 3, 1, 2)


@functools.lru_cache(16)
def _ck_mask(h, w, parity, dtype, device):
    return ((torch.arange(h, device=device)[:, None] + torch.arange(w, device=device)) % 2 == parity).to(dtype)


def ck_mask(x, parity):
    """`mlicpp.ck_mask`, made once per size."""
    return _ck_mask(*x.shape[-2:], parity, x.dtype, x.device)


def whole(weight, most=127):
    """The weight as whole numbers of at most `most` with one scale per output, as `mlic model build` rounds it to bytes; gradients pass."""
    scale = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12).div(most).view(-1, *[1] * (weight.dim() - 1))
    return weight + ((weight / scale).round() * scale - weight).detach()


IN_BYTES = re.compile(r"h_s\.|entropy_parameters_(non)?anchor\.0\.|g_s\.synthesis_transform\.\d\.(subpel_conv\.0|conv[12]?)\.")     # learn with weights of bytes
IN_SIX_BITS = re.compile(r"(lrp_(non)?anchor|channel_context|global_int(er|ra)_context)\.")     # two thirds of the entropy networks: a smaller package
LATENT = re.compile(r"g_a\.analysis_transform\.6|h_a\.reduction\.8|entropy_parameters_(non)?anchor\.\d+\.fusion\.6")   # give y, z, scales, means


def largest(name, weight):
    """The largest whole number that a weight of this name may be; 0 where weights are not rounded."""
    if weight.dim() != 4 or weight.shape[1] == 1:
        return 0
    return 127 if IN_BYTES.match(name) else 31 if IN_SIX_BITS.match(name) else 0


def _conv(m, most, in_full, x):
    weight = whole(m.weight, most) if most else m.weight
    if not in_full:
        return m._conv_forward(x, weight, m.bias)
    with torch.autocast(x.device.type, enabled=False):
        return m._conv_forward(x.float(), weight, m.bias)


def use(net, in_bytes=False):
    """Replaces slow forwards in `net` by the ones here, and functions of `mlicpp` for good. What a quantizer or a likelihood
    sees is not rounded to bfloat16. in_bytes: the layers of IN_BYTES and IN_SIX_BITS compute with such weights, and learn what that needs."""
    mlicpp.lower_bound, mlicpp.ck_mask = lower_bound, ck_mask
    for name, m in net.named_modules():
        if isinstance(m, LocalContext):
            m.forward = functools.partial(local_context, m)
        elif isinstance(m, torch.nn.Conv2d):
            rounded, in_full = largest(name + ".", m.weight) if in_bytes else 0, bool(LATENT.fullmatch(name))
            m.most = 0 if in_full else rounded
            if rounded or in_full:
                m.forward = functools.partial(_conv, m, rounded, in_full)
    return net


class HalfWeights:
    """bfloat16 copies of the weights of convolutions and linear layers in place of those that autocast makes one at a time:
    all are made by one kernel, after rounding where weights are whole numbers, and their gradients go back in one. Other layers whose
    forward is replaced keep theirs."""

    def __init__(self, net):
        self.whole, self.half, self.most = [], [], []
        inside = {m.fusion for m in net.modules() if isinstance(m, LocalContext)}
        for m in net.modules():
            most = getattr(m, "most", 0)
            if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) and m not in inside and (most or "forward" not in vars(m)):
                weight, bias = self._copy(m.weight, most), self._copy(m.bias)
                m.forward = functools.partial(F.linear if isinstance(m, torch.nn.Linear) else m._conv_forward, weight=weight, bias=bias)
        for p in self.whole:
            p.grad = torch.zeros_like(p)

    def _copy(self, p, most=0):
        half = (whole(p, most) if most else p).detach().to(torch.bfloat16)
        if p.requires_grad:
            self.whole.append(p)
            self.half.append(half.requires_grad_())
            self.most.append(most)
        return half

    def refresh(self):
        """Copies the weights; their gradients start anew."""
        with torch.no_grad():
            new = [whole(p, most) if most else p for p, most in zip(self.whole, self.most)]
            torch._foreach_copy_([h.detach() for h in self.half], new)
        for h in self.half:
            h.grad = None

    def gradients(self):
        """Copies the gradients to the weights."""
        torch._foreach_copy_([p.grad for p in self.whole], [h.grad for h in self.half])


def in_bytes(state):
    """A state dict with the weights that `use(net, in_bytes=True)` computes with."""
    return {k: whole(v.float(), n) if (n := largest(k, v)) else v for k, v in state.items()}


def entropy_pass(net, y, q):
    """What `net` does between the transforms: (y_hat before the inverse gain, scaled y, likelihoods). y: (b, m, h, w) of g_a."""
    g, _, hg, ihg = net.gains(q)
    y = y * g
    z = net.h_a(y).float() * hg
    off = net.entropy_bottleneck.medians()[:, None, None]
    z_hat = quantize_ste(z - off) + off
    with torch.autocast(y.device.type, enabled=False):
        z_lik = net.entropy_bottleneck.likelihood(uniform_noise(z, True) if net.training else z_hat)
    y_hat, y_lik = net.condition(y, net.h_s(z_hat * ihg).float())
    return y_hat, y, {"y": y_lik, "z": z_lik}
