"""The entropy networks and their order (SPEC 5.3)."""

import numpy as np

from . import operators
from .checkerboard import ANCHOR, NON_ANCHOR, merge, only, pack, unpack
from .fixed_point import LATENT_MAX, LATENT_ONE, saturate
from .layout import PROJECTIONS


class EntropyNetworks:
    """The walk over the passes of one stream. Names of methods and variables are those of SPEC 5.3.

    Maps are int64 [row, column, channel]. Call `begin`, then for each slice and half `parameters` and `commit`."""

    def __init__(self, model, quality):
        self.model = model
        self.configuration = model.configuration
        self.quality = quality
        self.level = model.configuration.level(quality)
        self.hyper = None
        self.slice = []
        self.y_hat = []
        self.anchors = None
        self.inter = self.channel = None
        self.mean = None

    def begin(self, symbols):
        """Computes the hyper parameters from the symbols of z, [row, column, hyper channel]."""
        model, steps = self.model, self.configuration.quality_steps
        gains = np.array([operators.gain(model.inverse_hyper_gain, c, self.quality, steps, model.tables)
                          for c in range(self.configuration.hyper)], np.int64)
        u = self._quantize("Q(z)", operators.z_latent(symbols, model.median, gains))
        u = operators.shuffle(self._layer("h_s.up0", self._layer("h_s.conv0", u)))
        u = operators.shuffle(self._layer("h_s.up1", self._layer("h_s.conv1", u)))
        self.hyper = self._layer("h_s.out", u)

    def parameters(self, i, half):
        """Means and scale indices of a pass, packed [row, packed column, channel of the slice]."""
        prefix = f"slice{i}."
        if half == ANCHOR:
            if i > 0:
                self.channel = self._chain(prefix + "channel_context", *self.slice)
                self.inter = self._global_inter(prefix + "global_inter_context.", self.slice)
            contexts, network = [], "entropy_parameters_anchor"
        else:
            k = self._quantize(f"Q({i})", unpack(self.anchors, ANCHOR))
            contexts, network = [self._local_context(i, k)], "entropy_parameters_nonanchor"
            if i > 0:
                contexts.append(self._global_intra(prefix + "global_intra_context.", self.slice[i - 1], k))
        if i > 0:
            contexts += [pack(self.inter, half), pack(self.channel, half)]
        both = self._chain(prefix + network, *contexts, pack(self.hyper, half))
        s = self.configuration.slice_channels
        scale, self.mean = both[:, :, :s], both[:, :, s:]
        return self.mean, operators.scale_index(scale, self.model.threshold)

    def commit(self, i, half, symbols):
        """Takes the symbols of the pass whose parameters were last asked for."""
        y = saturate(self.mean + LATENT_ONE * symbols, LATENT_MAX)
        full = unpack(y, ANCHOR) if half == ANCHOR else merge(self.anchors, y)
        name = f"slice{i}.lrp_" + ("anchor" if half == ANCHOR else "nonanchor")
        c = self._quantize(f"Q({i})", full)
        y = saturate(y + pack(self._chain(name, self.hyper, *self.slice, c), half), LATENT_MAX)
        if half == ANCHOR:
            self.anchors = y
            return
        self.y_hat.append(merge(self.anchors, y))
        self.slice.append(self._quantize(f"Q({i})", self.y_hat[i]))

    def _global_inter(self, context, x):
        p = [self._layer(f"{context}{name}.depthwise", self._layer(f"{context}{name}.pointwise", *x))
             for name in PROJECTIONS]
        a = self._layer(context + "reprojection", self._linear_attention(context + "attention", *p))
        return self._layer(context + "out", self._layer(context + "mlp.1", self._layer(context + "mlp.0", a)), a)

    def _local_context(self, i, k):
        context = f"slice{i}.local_context."
        v = self._norm(context + "norm1", k)
        f = self._layer(context + "fusion", self._window_attention(i, *(self._layer(context + p, v) for p in PROJECTIONS)))
        return self._layer(context + "out", self._layer(context + "fc1", self._norm(context + "norm2", f)), f)

    def _global_intra(self, context, y, k):
        def projection(name, x, half):
            return pack(self._layer(f"{context}{name}.depthwise", self._layer(f"{context}{name}.pointwise", x)), half)

        attended = self._linear_attention(
            context + "attention", projection("queries", only(y, NON_ANCHOR), NON_ANCHOR),
            projection("keys", only(y, ANCHOR), ANCHOR), projection("values", k, ANCHOR))
        a = self._layer(context + "reprojection", unpack(attended, NON_ANCHOR))
        hidden = pack(self._layer(context + "mlp.1", self._layer(context + "mlp.0", a)), NON_ANCHOR)
        return self._layer(context + "out", hidden, pack(a, NON_ANCHOR))

    def _quantize(self, name, latents):
        return operators.quantize(latents, self.model.quantizers[name], self.level)

    def _layer(self, name, *inputs):
        parameters = self.model.layers[name]
        bounds = [self.model.max_of(term.tensor) for term in parameters.layer.terms]
        return operators.layer(parameters, self.level, inputs, bounds, self.model.tables)

    def _chain(self, name, *inputs):
        index = 0
        while f"{name}.{index}" in self.model.layers:
            inputs = [self._layer(f"{name}.{index}", *inputs)]
            index += 1
        return inputs[0]

    def _norm(self, name, x):
        return operators.layer_norm(x, self.model.norms[name].epsilon[self.level])

    def _linear_attention(self, name, q, k, v):
        return operators.linear_attention(q, k, v, self.model.linear_attentions[name], self.level, self.model.tables)

    def _window_attention(self, i, q, k, v):
        name = f"WA({i})"
        return operators.window_attention(q, k, v, self.model.window_attentions[name], self.configuration.window,
                                          self.level, self.model.max_of(name), self.model.tables)
