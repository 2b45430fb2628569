"""The operators that a configuration determines, in their order (SPEC 2.4)."""

from dataclasses import dataclass, field

DENSE_SIDES = {"1": 1, "3": 3, "5": 5}
DEPTHWISE = "dw3"
PROJECTIONS = ("queries", "keys", "values")


@dataclass(frozen=True)
class Term:
    """What a layer reads: channels `first` to `first + channels - 1` of a tensor."""

    tensor: str
    first: int
    channels: int
    identity: bool


@dataclass(frozen=True)
class Layer:
    name: str
    terms: tuple
    kernel: str
    outputs: int
    epilogue: str

    @property
    def side(self):
        return 3 if self.kernel == DEPTHWISE else DENSE_SIDES[self.kernel]

    def weight_shape(self, term):
        """Dimensions of the weights of a term (SPEC 2.6), None for an identity term."""
        if term.identity:
            return None
        if self.kernel == DEPTHWISE:
            return (self.outputs, self.side, self.side)
        return (self.outputs, self.side, self.side, term.channels)


@dataclass(frozen=True)
class Norm:
    name: str
    source: str
    channels: int


@dataclass(frozen=True)
class LinearAttention:
    name: str
    context: str
    channels: int
    heads: int


@dataclass(frozen=True)
class WindowAttention:
    name: str
    context: str
    channels: int
    heads: int


@dataclass
class Layout:
    """All operators. `channels` gives the channels of every tensor that a layer may read."""

    layers: list = field(default_factory=list)
    quantizers: list = field(default_factory=list)
    norms: list = field(default_factory=list)
    linear_attentions: list = field(default_factory=list)
    window_attentions: list = field(default_factory=list)
    channels: dict = field(default_factory=dict)

    def quantizer(self, name, channels):
        self.quantizers.append(name)
        self.channels[name] = channels

    def layer(self, name, terms, kernel, outputs, epilogue="lin"):
        """Terms are tensor names, `+name` for an identity term, or (name, first, channels)."""
        resolved = tuple(self._term(term, outputs) for term in terms)
        self.layers.append(Layer(name, resolved, kernel, outputs, epilogue))
        self.channels[name] = outputs
        return name

    def _term(self, term, outputs):
        if isinstance(term, tuple):
            return Term(*term, identity=False)
        if term.startswith("+"):
            return Term(term[1:], 0, outputs, identity=True)
        return Term(term, 0, self.channels[term], identity=False)

    def chain(self, name, terms, kernel, hidden, outputs, last):
        for index, width in enumerate(hidden):
            terms = [self.layer(f"{name}.{index}", terms, kernel, width, "gelu")]
        return self.layer(f"{name}.{len(hidden)}", terms, kernel, outputs, last)

    def norm(self, name, source):
        self.norms.append(Norm(name, source, self.channels[source]))
        self.channels[name] = self.channels[source]
        return name

    def linear_attention(self, name, context, channels, heads):
        self.linear_attentions.append(LinearAttention(name, context, channels, heads))
        self.channels[name] = channels
        return name

    def window_attention(self, name, context, channels, heads):
        self.window_attentions.append(WindowAttention(name, context, channels, heads))
        self.channels[name] = channels
        return name


def layout(c):
    """The layout of a Configuration."""
    net = Layout()
    net.quantizer("Q(z)", c.hyper)
    for i in range(c.slices):
        net.quantizer(f"Q({i})", c.slice_channels)
    _hyper_synthesis(net, c)
    for i in range(c.slices):
        _slice(net, c, i)
    return net


def _hyper_synthesis(net, c):
    a, b = c.hs_hidden
    net.layer("h_s.conv0", ["Q(z)"], "3", a, "gelu")
    net.layer("h_s.up0", ["h_s.conv0"], "3", 4 * a, "gelu")
    net.layer("h_s.conv1", [("h_s.up0", 0, a)], "3", b, "gelu")
    net.layer("h_s.up1", ["h_s.conv1"], "3", 4 * b, "gelu")
    net.layer("h_s.out", [("h_s.up1", 0, b)], "3", 2 * c.latent)


def _slice(net, c, i):
    """The second table of SPEC 2.4, row by row."""
    s, prefix = c.slice_channels, f"slice{i}."
    earlier = [f"Q({j})" for j in range(i)]
    common = ["h_s.out"]
    if i > 0:
        channel = net.chain(prefix + "channel_context", earlier, "3", c.cc_hidden, 4 * s, "lin")
        common = [_inter_context(net, c, i, prefix + "global_inter_context", earlier), channel, "h_s.out"]
    contexts = [_local_context(net, c, i, prefix + "local_context")]
    if i > 0:
        contexts.append(_intra_context(net, c, i, prefix + "global_intra_context"))
    net.chain(prefix + "entropy_parameters_anchor", common, "1", c.ep_hidden, 2 * s, "latent")
    net.chain(prefix + "entropy_parameters_nonanchor", contexts + common, "1", c.ep_hidden, 2 * s, "latent")
    for half in ("anchor", "nonanchor"):
        terms = [("h_s.out", c.latent, c.latent), *earlier, f"Q({i})"]
        net.chain(f"{prefix}lrp_{half}", terms, "3", c.lrp_hidden[i], s, "tanh")


def _projection(net, name, terms, channels):
    pointwise = net.layer(f"{name}.pointwise", terms, "1", channels)
    net.layer(f"{name}.depthwise", [pointwise], DEPTHWISE, channels)


def _inter_context(net, c, i, name, earlier):
    s, d = c.slice_channels, c.slice_channels * i
    for projection in PROJECTIONS:
        _projection(net, f"{name}.{projection}", earlier, d)
    attention = net.linear_attention(f"{name}.attention", name, d, d // c.inter_head_channels)
    reprojection = net.layer(f"{name}.reprojection", [attention], "5", 3 * s)
    net.layer(f"{name}.mlp.0", [reprojection], "1", 4 * s, "gelu")
    net.layer(f"{name}.mlp.1", [f"{name}.mlp.0"], DEPTHWISE, 4 * s, "gelu")
    return net.layer(f"{name}.out", [f"{name}.mlp.1", reprojection], "1", 2 * s)


def _local_context(net, c, i, name):
    s = c.slice_channels
    norm1 = net.norm(f"{name}.norm1", f"Q({i})")
    for projection in PROJECTIONS:
        net.layer(f"{name}.{projection}", [norm1], "1", s)
    window = net.window_attention(f"WA({i})", name, c.window**2 * s, c.heads)
    fusion = net.layer(f"{name}.fusion", [window], "1", 2 * s)
    norm2 = net.norm(f"{name}.norm2", fusion)
    net.layer(f"{name}.fc1", [norm2], "1", 4 * s, "gelu")
    return net.layer(f"{name}.out", [f"{name}.fc1", f"+{fusion}"], "1", 2 * s)


def _intra_context(net, c, i, name):
    s = c.slice_channels
    for projection, source in zip(PROJECTIONS, (f"Q({i - 1})", f"Q({i - 1})", f"Q({i})"), strict=True):
        _projection(net, f"{name}.{projection}", [source], s)
    attention = net.linear_attention(f"{name}.attention", name, s, c.heads)
    reprojection = net.layer(f"{name}.reprojection", [attention], "5", 2 * s)
    net.layer(f"{name}.mlp.0", [reprojection], "1", 4 * s, "gelu")
    net.layer(f"{name}.mlp.1", [f"{name}.mlp.0"], DEPTHWISE, 4 * s, "gelu")
    return net.layer(f"{name}.out", [f"{name}.mlp.1", f"+{reprojection}"], "1", 2 * s)
