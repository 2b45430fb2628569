"""One step of training: forward, backward, Adam, with gradients clipped by group; on a GPU recorded once as a CUDA graph and replayed."""
import pathlib
import re

import torch

import fast
import rd

NAMES = ("loss", "bpp_y", "bpp_z", "psnr", "psnr_top", "norm")
# Where a change of a weight changes a picture tens of times less than on the way that carries it: faster, and the picture does not shake.
BRANCHES = re.compile(r"g_a\.analysis_transform\.[135]\.conv|g_s\.synthesis_transform\.\d\.(subpel_conv|conv)")
TRANSFORM = ("g_a", "g_s", "gain", "inverse_gain")
KIND = {"g_a": "transforms", "g_s": "transforms", "gain": "gains", "inverse_gain": "gains", "entropy_bottleneck": "prior",
        "h_a": "hyper", "h_s": "hyper", "hyper_gain": "hyper", "inverse_hyper_gain": "hyper"}


def groups(net, a, role):
    """Parameter groups with their own rate; what the role does not train is frozen. The quantiles have their own optimizer."""
    by, of = {}, {"transforms": a.lr_transforms, "branches": a.lr_branches, "gains": a.lr_gains, "hyper": a.lr_hyper, "prior": 5 * a.lr_hyper, "entropy": a.lr}
    for name, p in net.named_parameters():
        top = name.split(".")[0]
        trained = role == "joint" or (role == "transforms") == (top in TRANSFORM)
        if name.endswith("quantiles"):
            continue
        p.requires_grad_(trained)
        if trained:
            by.setdefault("branches" if BRANCHES.match(name) else KIND.get(top, "entropy"), []).append(p)
    return [{"params": v, "base": of[k]} for k, v in by.items()]


def in_bf16(precision, device):
    """Whether steps are computed in bfloat16: as asked, or where the hardware does."""
    if precision != "auto":
        return precision == "bf16"
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


class Step:
    """Trains `net` on batches of n crops of size x size. `before`: a step of other shape whose optimizers are kept."""

    def __init__(self, net, measure, role, a, n, size, before=None):
        self.net, self.measure, self.role, self.a = net, measure, role, a
        self.cuda, self.bf16 = a.device == "cuda", in_bf16(a.precision, a.device)
        self.x = torch.zeros(n, 3, size, size, device=a.device).contiguous(memory_format=torch.channels_last)
        self.q = torch.zeros(n, device=a.device)
        self.total = torch.zeros(len(NAMES), device=a.device)
        self.count, self.counted, self.graph, self.record = 0, 0, None, self.cuda
        if before:
            self.opt, self.aux, self.half, self.rest = before.opt, before.aux, before.half, before.rest
            return
        lr = torch.tensor(0.0, device=a.device) if self.cuda else 0.0
        g = [{**g, "lr": lr.clone() if self.cuda else lr} for g in groups(net, a, role)]
        self.opt = torch.optim.Adam(g, fused=True, betas=(0.9, 0.99), capturable=self.cuda)
        self.aux = torch.optim.Adam([net.entropy_bottleneck.quantiles], 1e-2)
        self.half = fast.HalfWeights(net) if self.cuda and self.bf16 else None
        halved = {id(p) for p in self.half.whole} if self.half else ()
        self.rest = [p for g in self.opt.param_groups for p in g["params"] if id(p) not in halved]

    def set_rate(self, factor):
        """Sets all learning rates to `factor` of their base."""
        for g in self.opt.param_groups:
            if self.cuda:
                g["lr"].fill_(g["base"] * factor)
            else:
                g["lr"] = g["base"] * factor

    def restart(self):
        """Forgets what the optimizer has seen."""
        for state in self.opt.state.values():
            for v in state.values():
                v.zero_()

    def _body(self):
        # oneDNN of torch 2.15 corrupts the heap in float32 backward passes on AVX2, and the plain kernels are faster than its bfloat16 there.
        before = torch.backends.mkldnn.enabled
        torch.backends.mkldnn.enabled = before and self.bf16
        try:
            self._step()
        finally:
            torch.backends.mkldnn.enabled = before

    def _step(self):
        for p in self.rest:
            p.grad = None
        if self.half:
            self.half.refresh()
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=not self.cuda):
            ry, rz, mse = self.measure(self.net, self.x, self.q)
        loss = rd.loss(ry + rz, mse, self.q).mean()
        loss.backward()
        if self.half:
            self.half.gradients()
        # One group's large gradients do not shrink another's.
        norm = torch.stack([torch.nn.utils.clip_grad_norm_(g["params"], self.a.clip) for g in self.opt.param_groups]).norm()
        self.opt.found_inf = (~torch.isfinite(norm)).float()        # then the step does nothing
        self.opt.step()
        psnr = -10 * mse.detach().log10()
        self.total += torch.stack([loss.detach(), ry.detach().mean(), rz.detach().mean(), psnr.mean(), psnr[-1], norm])

    def __call__(self, x):
        """One step on crops x; a level of quality is drawn for each, one from each n-th of the range."""
        n = len(x)
        self.x.copy_(x)
        self.q.copy_((torch.arange(n, device=x.device) + torch.rand(n, device=x.device)) * (rd.TOP / n))
        if self.graph:
            self.graph.replay()
        elif self.record and self.count >= 3:
            self._capture()
        else:
            self._body()
        self.count += 1
        self.counted += 1
        if self.role != "transforms" and self.count % 4 == 0:
            self.aux.zero_grad(set_to_none=True)
            self.net.entropy_bottleneck.loss().backward(inputs=[self.net.entropy_bottleneck.quantiles])
            self.aux.step()

    def _capture(self):
        torch.cuda.synchronize()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._body()
        torch.cuda.current_stream().wait_stream(side)
        graph, self.record = torch.cuda.CUDAGraph(), False
        try:
            with torch.cuda.graph(graph):
                self._body()
        except RuntimeError as e:
            print(f"no CUDA graph, steps are launched one kernel at a time: {e}", flush=True)
            return
        self.graph = graph

    def seen(self):
        """Means since the last call."""
        m = (self.total / max(self.counted, 1)).tolist()
        self.total.zero_()
        self.counted = 0
        return dict(zip(NAMES, (round(v, 4) for v in m)))
