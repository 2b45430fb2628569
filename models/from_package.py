"""Convert a package to a checkpoint from which `training/train.py --resume` and `export.py` can continue.

    python from_package.py MODEL.mlicpkg OUT.pt [--lambdas 0.0007,0.0013,...]

It inverts `mlic model build`: whole numbers times their scales are the weights with which the package computes. The package's function does not
determine all weights, so some are chosen. Scales and shifts of normalizations and the projection after a window's fusion, which `build` multiplies
into the layers after and before them, are identities. Steps that nothing fixes are those with which the sizes of all weights are, in the logarithm,
as near as possible to those with which PyTorch begins. A convolution before a normalization is such that the median of beta is 1. The prior of z is
fitted to its tables.
--lambdas: the Lagrangian weight of 255^2 mse at each level, which a package does not have; without it `train.py` takes those of `rd.py`.
"""
import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent / "training"), str(Path(__file__).parents[1] / "conformance" / "reference")]
import checkpoint
import export
from mlic_reference import package
from mlic_reference.errors import PackageRefusal
from mlic_reference.layout import DEPTHWISE, PROJECTIONS
from mlicpp import GDN, EntropyBottleneck, position_index
from package_transforms import LATENT_UNIT, PREACT_UNIT, Conv, Refusal, g_a, g_s, h_a, identity_ratio, requant

NORM_EPSILON = 1e-5
NORM_UNIT = 65536               # epsilons of normalizations are in units of 1 / NORM_UNIT
ATTENTION_UNIT = 1 / 1024       # of logits
UNITS = {"gelu": PREACT_UNIT, "latent": LATENT_UNIT, "tanh": PREACT_UNIT}
GAINS = ("gain", "inverse_gain", "hyper_gain", "inverse_hyper_gain")
FIT_STEPS = 1500
SAME = 1e-3                     # largest relative difference between levels: integers have 18 binary digits of each weight
MLP_HEAD = (("mlp.0", "mlp.0"), ("mlp.2", "mlp.1"), ("reprojection", "reprojection"))


class Steps:
    """Real value of one unit of every tensor of the entropy networks, at one level of activation scales: the inverse of the
    builder's `Scales`. The logarithm of a step is a number plus a sum of free variables: {tensor: (number, {free variable: factor})}."""

    def __init__(self, model, level):
        self.model, self.level, self.log = model, level, {}
        self._fixed()
        self._attentions()
        self._linear()
        self._balance()

    def of(self, tensor):
        return math.exp(self.log[tensor][0])

    def unit(self, parameters):
        """Real value of one unit of a layer's sum."""
        return UNITS.get(parameters.layer.epilogue) or self.of(parameters.layer.name)

    def _set(self, tensor, step, free=None):
        self.log[tensor] = (math.log(step), free or {})

    def _fixed(self):
        for name, q in self.model.quantizers.items():
            self._set(name, LATENT_UNIT / requant(q.levels[self.level]))
        for name, p in self.model.layers.items():
            if p.layer.epilogue == "gelu":
                self._set(name, PREACT_UNIT / requant(p.levels[self.level].output))
        for name, p in self.model.norms.items():
            self._set(name, LATENT_UNIT)
            epsilon, source = p.epsilon[self.level], p.norm.source
            if source not in self.log:
                if not 1 < epsilon < 1 << 60:
                    raise Refusal(f"{name}: an epsilon of {epsilon} does not say what the step before it is")
                self._set(source, math.sqrt(NORM_EPSILON * NORM_UNIT * p.norm.channels**2 / epsilon))

    def _attentions(self):
        for name, p in self.model.linear_attentions.items():
            context = p.attention.context
            query, key, output = (requant(r) for r in p.levels[self.level])
            self._set(f"{context}.queries.depthwise", query * ATTENTION_UNIT)
            self._set(f"{context}.keys.depthwise", key * ATTENTION_UNIT)
            values = f"{context}.values.depthwise"
            self._set(values, 1, {values: 1})
            self._set(name, LATENT_UNIT / output, {values: 1})
        for name, p in self.model.window_attentions.items():
            context, c = p.attention.context, self.model.configuration
            product = requant(p.levels[self.level]) * ATTENTION_UNIT * math.sqrt(c.slice_channels / c.heads)
            free, values = f"{context}.queries", f"{context}.values"
            self._set(free, math.sqrt(product), {free: 1})
            self._set(f"{context}.keys", math.sqrt(product), {free: -1})
            self._set(values, 1, {values: 1})
            self._set(name, 1, {values: 1})

    def _linear(self):
        """Steps of layers without an epilogue: an identity term fixes them, without one they are free."""
        for name, p in self.model.layers.items():
            if p.layer.epilogue != "lin":
                continue
            level = p.levels[self.level]
            ties = [(t.tensor, identity_ratio(m, level.shift, name)) for t, m in zip(p.layer.terms, level.multipliers) if t.identity]
            if ties and name not in self.log:
                log, free = self.log[ties[0][0]]
                self.log[name] = (log - math.log(ties[0][1]), free)
            elif name not in self.log:
                self._set(name, 1, {name: 1})

    def _balance(self):
        """Solves for the free variables: least squares of log(root mean square of a layer's weights / that at PyTorch's start) over all terms."""
        free = sorted({f for _, factors in self.log.values() for f in factors})
        rows, sides = [], []
        for p in self.model.layers.values():
            out = (math.log(UNITS[p.layer.epilogue]), {}) if p.layer.epilogue in UNITS else self.log[p.layer.name]
            start = -0.5 * math.log(3 * fan_in(p))
            for term, weight in zip(p.layer.terms, weights(p, self.level)):
                size = 0 if weight is None else np.sqrt(np.mean(weight**2))
                if size > 0:
                    source = self.log[term.tensor]
                    rows.append([out[1].get(f, 0) - source[1].get(f, 0) for f in free])
                    sides.append(start - math.log(size) - out[0] + source[0])
        found = dict(zip(free, np.linalg.lstsq(np.array(rows, float), np.array(sides), rcond=None)[0]))
        self.log = {t: (log + sum(k * found[f] for f, k in factors.items()), {}) for t, (log, factors) in self.log.items()}


def weights(parameters, level):
    """Per term, weights in units of the layer's sum per unit of what is read; None for an identity term."""
    level = parameters.levels[level]
    return [None if w is None else w * (m / 2.0**level.shift).reshape(-1, *[1] * (w.ndim - 1))
            for w, m in zip(parameters.weights, level.multipliers)]


def fan_in(parameters):
    """Products per output of a layer's convolution."""
    layer = parameters.layer
    return layer.side**2 * (1 if layer.kernel == DEPTHWISE else sum(t.channels for t in layer.terms if not t.identity))


class Entropy:
    """Fills `state` with the entropy networks: the inverse of the builder's `FloatModel::load`."""

    def __init__(self, model, level):
        self.model, self.level, self.steps, self.state = model, level, Steps(model, level), {}
        c = model.configuration
        for index, name in (("0", "conv0"), ("2.0", "up0"), ("4", "conv1"), ("6.0", "up1"), ("8", "out")):
            self.plain(f"h_s.increase.{index}", f"h_s.{name}")
        for i in range(c.slices):
            self.slice(i, f"slice{i}")

    def put(self, name, weight, bias):
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = tensor(weight), tensor(bias)

    def real(self, layer):
        """(weights of each term that has any, [outputs, row, column, inputs], or [outputs, row, column] in a depthwise layer; bias)."""
        p = self.model.layers[layer]
        unit, level = self.steps.unit(p), p.levels[self.level]
        terms = [w * (unit / self.steps.of(t.tensor)) for t, w in zip(p.layer.terms, weights(p, self.level)) if w is not None]
        return terms, level.bias / 2.0**level.shift * unit

    def plain(self, name, layer):
        """A layer that is one convolution of the checkpoint."""
        terms, bias = self.real(layer)
        depthwise = self.model.layers[layer].layer.kernel == DEPTHWISE
        self.put(name, terms[0][:, None] if depthwise else channels_first(np.concatenate(terms, 3)), bias)

    def linear(self, name, layer):
        terms, bias = self.real(layer)
        self.put(name, terms[0][:, 0, 0], bias)

    def chain(self, name, layer, hidden):
        for j in range(len(hidden) + 1):
            self.plain(f"{name}.{2 * j}", f"{layer}.{j}")

    def slice(self, i, layer):
        c = self.model.configuration
        for half in ("anchor", "nonanchor"):
            self.chain(f"entropy_parameters_{half}.{i}.fusion", f"{layer}.entropy_parameters_{half}", c.ep_hidden)
            self.chain(f"lrp_{half}.{i}.lrp_transform", f"{layer}.lrp_{half}", c.lrp_hidden[i])
        self.local(f"local_context.{i}", f"{layer}.local_context", self.model.window_attentions[f"WA({i})"])
        if i:
            self.chain(f"channel_context.{i}.fushion", f"{layer}.channel_context", c.cc_hidden)
            self.common(f"global_inter_context.{i}", f"{layer}.global_inter_context", skip=True)
            self.common(f"global_intra_context.{i}", f"{layer}.global_intra_context", skip=False)

    def common(self, name, layer, skip):
        """A global context. The package has the sum of the biases of mlp.4 and skip: mlp.4 takes it."""
        for what in PROJECTIONS:
            self.plain(f"{name}.{what}.0", f"{layer}.{what}.pointwise")
            self.plain(f"{name}.{what}.1", f"{layer}.{what}.depthwise")
        for own, of_layer in MLP_HEAD:
            self.plain(f"{name}.{own}", f"{layer}.{of_layer}")
        terms, bias = self.real(f"{layer}.out")
        self.put(f"{name}.mlp.4", channels_first(terms[0]), bias)
        if skip:
            self.put(f"{name}.skip", channels_first(terms[1]), np.zeros_like(bias))

    def local(self, name, layer, attention):
        """The window attention: channels of queries, keys and values from (heads, head channels) back to (head channels, heads)."""
        c = self.model.configuration
        s, heads, w = c.slice_channels, c.heads, c.window
        order = np.arange(s).reshape(s // heads, heads).T.flatten()        # the checkpoint's channel of package channel k
        parts = [self.real(f"{layer}.{what}") for what in PROJECTIONS]
        back = np.argsort(order)
        self.put(f"{name}.qkv_proj", np.concatenate([terms[0][back, 0, 0] for terms, _ in parts]), np.concatenate([b[back] for _, b in parts]))
        for norm, channels in (("norm1", s), ("norm2", 2 * s)):
            self.put(f"{name}.{norm}", np.ones(channels), np.zeros(channels))
        terms, bias = self.real(f"{layer}.fusion")
        self.put(f"{name}.fusion", channels_first(terms[0].reshape(2 * s, w, w, s)), bias)
        self.put(f"{name}.proj", np.eye(2 * s), np.zeros(2 * s))
        self.linear(f"{name}.mlp.fc1", f"{layer}.fc1")
        self.linear(f"{name}.mlp.fc2", f"{layer}.out")
        self.state[f"{name}.relative_position_table"] = tensor(attention.position_bias.T * ATTENTION_UNIT)
        self.state[f"{name}.relative_position_index"] = position_index(w)


def entropy(model):
    """The state of the entropy networks, whose weights must be the same at every level of activation scales."""
    levels = model.configuration.scale_levels
    states = [Entropy(model, level).state for level in (levels // 2, 0, levels - 1)]
    for name, value in states[0].items():
        for other in states[1:]:
            if (value - other[name]).double().norm() > SAME * value.double().norm() + 1e-6:
                raise Refusal(f"{name} is not the same at every level of activation scales: no build of one network")
    return states[0]


def tensor(values):
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def channels_first(weight):
    return weight.transpose(0, 3, 1, 2)


def gains(model):
    """The gains as natural logarithms, [level, channel], from base-2 logarithms in units of 2^-16."""
    if not model.configuration.gain_levels:
        return {}
    return {name: tensor(np.array(getattr(model, name)) / 65536 * math.log(2)) for name in GAINS}


def transforms(model, sections):
    """The state of g_a, h_a and g_s: their layers in the order in which `mlicpp.py` computes them."""
    stages = [f"g_a.analysis_transform.{i}" for i in range(7)], [f"g_s.synthesis_transform.{i}" for i in range(8)]
    down, plain = ("conv1", "conv2", "gdn", "skip"), ("conv1", "conv2")
    up = ("subpel_conv.0", "conv", "igdn", "upsample.0")
    ga = [f"{s}.{n}" for i, s in enumerate(stages[0][:6]) for n in (plain if i % 2 else down)] + [stages[0][6]]
    gs = [f"{s}.{n}" for i, s in enumerate(stages[1][1:7]) for n in (plain if i % 2 else up)] + [f"{stages[1][7]}.0"]
    layers = g_s(sections, model.synthesis)
    first = ("conv1", "conv2", "skip")[:len(layers) - len(gs)]
    gs = [f"{stages[1][0]}.{n}" for n in first] + gs
    ha = [f"h_a.reduction.{i}" for i in range(0, 10, 2)]
    return {**named(ga, g_a(sections, model.analyses)), **named(ha, h_a(sections, model.analyses)), **named(gs, layers)}


def named(names, layers):
    kinds = [isinstance(layer, Conv) for layer in layers]
    if kinds != [not name.endswith("gdn") for name in names]:
        raise Refusal(f"{names[0].split('.')[0]}: {len(layers)} layers in the package, which are not the {len(names)} of mlicpp.py in their order")
    state = {}
    for name, layer in zip(names, layers):
        if isinstance(layer, Conv):
            state[f"{name}.weight"], state[f"{name}.bias"] = tensor(layer.weight), tensor(layer.bias)
        else:
            state[f"{name}.gamma"] = tensor(np.sqrt(layer.gamma + GDN.PEDESTAL))
            state[f"{name}.beta"] = tensor(np.sqrt(np.maximum(layer.beta, 1e-6) + GDN.PEDESTAL))
    return state


def tables(model):
    """(value of each symbol [channel, 1, symbol], its probability [channel, symbol], medians) of z; escapes left out."""
    most = max(t.escape for t in model.z_tables)
    probability = torch.zeros(len(model.z_tables), most)
    for row, t in zip(probability, model.z_tables):
        row[:t.escape] = torch.tensor(np.diff(t.starts)[:t.escape] / 65536)
    medians = torch.from_numpy(model.median * LATENT_UNIT).float()
    lowest = torch.tensor([t.min_symbol for t in model.z_tables])
    return (lowest[:, None] + torch.arange(most) + medians[:, None])[:, None], probability, medians


def divergence(prior, x, probability):
    """Bits per channel that coding with the prior costs more than with the tables."""
    low, high = prior.logits(x - 0.5), prior.logits(x + 0.5)
    sign = -torch.sign(low + high).detach()
    own = (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs()[:, 0].clamp_min(1e-12)
    return (probability * (probability.clamp_min(1e-9) / own).log2()).sum(1)


def fit_prior(model, steps):
    """(state of the factorized prior, bits per position of z that coding with it costs more than with the tables)."""
    torch.manual_seed(0)
    x, probability, medians = tables(model)
    prior = EntropyBottleneck(model.configuration.hyper)
    optimizer = torch.optim.Adam([p for n, p in prior.named_parameters() if n != "quantiles"], 2e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        divergence(prior, x, probability).sum().backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        prior.quantiles[:, 0] = torch.stack([quantile(prior, -prior.target), medians, quantile(prior, prior.target)], 1)
        left = divergence(prior, x, probability).sum().item()
    return {f"entropy_bottleneck.{k}": v for k, v in prior.state_dict().items()}, left


def quantile(prior, logit, bound=500.0):
    """Where each channel's cumulative has this logit, within +-bound."""
    low = torch.full((prior.quantiles.shape[0],), -bound)
    high = -low
    for _ in range(60):
        middle = (low + high) / 2
        below = prior.logits(middle[:, None, None])[:, 0, 0] < logit
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def state_of(data, fit_steps=None):
    """(state dict, bits by which the prior of z misses its tables) of a package, bytes."""
    model, (_, sections) = package.load(data), package.container(data)
    c = model.configuration
    if c.inter_head_channels != 32:
        raise Refusal(f"{c.inter_head_channels} channels per head of the global context, and mlicpp.py has 32")
    prior, left = fit_prior(model, fit_steps or FIT_STEPS)
    state = {**transforms(model, sections), **entropy(model), **gains(model), **prior}
    export.build(checkpoint.parameters(state))        # raises an ExportError that names what does not fit
    return state, left


def lambdas(text):
    values = [float(v) for v in text.split(",")]
    if len(values) < 2 or any(not 0 < a < b for a, b in zip(values, values[1:])):
        raise argparse.ArgumentTypeError("positive numbers that grow, one for each level")
    return values


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lambdas", type=lambdas)
    args = parser.parse_args(argv)
    try:
        state, left = state_of(args.package.read_bytes())
        if args.lambdas and len(args.lambdas) != len(state.get("gain", ())):
            raise Refusal(f"{len(args.lambdas)} lambdas for {len(state.get('gain', ()))} levels")
    except (Refusal, PackageRefusal, export.ExportError, OSError) as e:
        print(f"from_package: {args.package}: {e}", file=sys.stderr)
        return 1
    checkpoint.save(str(args.out), state, 0, lambdas=args.lambdas)
    print(f"{args.out}: {len(state)} tensors; the prior of z is {left:.3f} bits per position from its tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
