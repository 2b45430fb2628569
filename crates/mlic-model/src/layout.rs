//! The entropy networks as a list: which layers there are, what each reads, and in which order the package stores them.
//!
//! The layout follows from the [`Config`] alone (SPEC 2.4). The walk over the passes addresses operators by the ids given
//! here, the package stores parameters in this order, and the overflow proof follows the sources named here.

use crate::config::Config;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub usize);
    };
}
id!(
    /// Index of a [`LayerSpec`] in [`Layout::layers`].
    LayerId
);
id!(
    /// Index of a conversion from latent fixed point to activations: 0 is that of z, 1 + i that of latent slice i.
    QuantizerId
);
id!(
    /// Index of a layer normalization in [`Layout::norms`].
    NormId
);
id!(
    /// Index of a linear attention in [`Layout::linear_attentions`].
    LinearAttentionId
);
id!(
    /// Index of a checkerboard window attention; there is one per latent slice.
    LocalAttentionId
);

id!(
    /// Index of a node of an integer synthesis or analysis, in the order of its section; node 0 is the input of the transform.
    NodeIndex
);

impl QuantizerId {
    /// z, the input of the hyper synthesis.
    pub const Z: Self = Self(0);
    /// Latent slice `index` of `y_hat`.
    #[must_use]
    pub const fn y(index: usize) -> Self {
        Self(1 + index)
    }
}

/// The operator that a tensor of activations comes from; it decides the tensor's scale and its largest magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Latent values converted to activations.
    Quantizer(QuantizerId),
    /// The output of a layer.
    Layer(LayerId),
    /// The output of a layer normalization: Q12, the same for all models.
    Norm(NormId),
    /// The output of a global linear attention.
    LinearAttention(LinearAttentionId),
    /// The output of a window attention, in the scale of its values.
    LocalAttention(LocalAttentionId),
    /// The output of a node of an integer synthesis or analysis, which have lists of their own: [`crate::synthesis`], [`crate::analysis`].
    Node(NodeIndex),
}

/// One input of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermSpec {
    /// The tensor.
    pub source: Source,
    /// First channel of the tensor that is read.
    pub first_channel: usize,
    /// Number of channels that are read.
    pub channels: usize,
    /// Whether the input is added as it is, without weights (a residual connection).
    pub identity: bool,
}

impl TermSpec {
    /// All channels of a node of an integer transform.
    #[must_use]
    pub const fn node(at: NodeIndex, channels: usize, identity: bool) -> Self {
        Self { source: Source::Node(at), first_channel: 0, channels, identity }
    }
}

/// The spatial form of a layer. Zero padding keeps the size; strides are a matter of [`crate::nodes::Resize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Each output reads all channels of a `size x size` neighbourhood.
    Dense {
        /// Side in positions: 1, 3 or 5.
        size: usize,
    },
    /// Output channel c reads channel c of a `size x size` neighbourhood.
    Depthwise {
        /// Side in positions.
        size: usize,
    },
}

impl Kernel {
    /// Side of the neighbourhood.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Dense { size } | Self::Depthwise { size } => size,
        }
    }
}

/// What follows the sums of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// Requantize to activations.
    Linear,
    /// Requantize to pre-activation fixed point, GELU, requantize to activations.
    Gelu,
    /// Requantize to latent fixed point: the last entropy parameters (scale, mean), or the last layer of an integer analysis.
    Latent,
    /// Requantize to pre-activation fixed point, `0.5 tanh`, result in latent fixed point: the latent residual.
    HalfTanh,
    /// Requantize to samples, clipped to 0 to 255: the last layer of the integer synthesis.
    Pixel,
}

/// One linear layer with several inputs: `sum over terms (weights * input) + bias`, then the epilogue (SPEC 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpec {
    /// Unique name, for reports.
    pub name: String,
    /// Inputs, in the order of the concatenation that they replace.
    pub terms: Vec<TermSpec>,
    /// Spatial form.
    pub kernel: Kernel,
    /// Output channels (before pixel shuffle).
    pub outputs: usize,
    /// What follows the sums.
    pub epilogue: Epilogue,
}

impl LayerSpec {
    /// Number of weights of one output channel in one term.
    #[must_use]
    pub fn weights_per_output(&self, term: usize) -> usize {
        match (self.terms.get(term), self.kernel) {
            (Some(t), _) if t.identity => 0,
            (Some(t), Kernel::Dense { size }) => size * size * t.channels,
            (Some(_), Kernel::Depthwise { size }) => size * size,
            (None, _) => 0,
        }
    }

    /// Number of weights of all terms.
    #[must_use]
    pub fn weight_count(&self) -> u64 {
        (0..self.terms.len()).map(|t| self.weights_per_output(t) as u64 * self.outputs as u64).sum()
    }

    /// [`Self::weight_count`] as a length; a validated configuration bounds it.
    #[must_use]
    pub fn weights_len(&self) -> usize {
        self.weight_count() as usize
    }
}

/// A layer normalization over the channels of one position, without scale and shift (they are folded into the layers after it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormSpec {
    /// Unique name.
    pub name: String,
    /// The tensor it reads.
    pub source: Source,
    /// Channels.
    pub channels: usize,
}

/// A global linear attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearAttentionSpec {
    /// Unique name.
    pub name: String,
    /// Queries, keys and values.
    pub inputs: [LayerId; 3],
    /// Channels over all heads.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
}

/// Layers of the hyper synthesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperSynthesisIds {
    /// From z, at 1/64.
    pub conv0: LayerId,
    /// 1/64 to 1/32 by pixel shuffle.
    pub up0: LayerId,
    /// At 1/32.
    pub conv1: LayerId,
    /// 1/32 to 1/16 by pixel shuffle.
    pub up1: LayerId,
    /// To `hyper_params`.
    pub out: LayerId,
}

/// Queries, keys and values: each a 1x1 layer followed by a depthwise one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionIds {
    /// 1x1 layers of queries, keys, values.
    pub pointwise: [LayerId; 3],
    /// Depthwise layers of queries, keys, values.
    pub depthwise: [LayerId; 3],
}

/// A global context network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalContextIds {
    /// Queries, keys, values.
    pub projections: ProjectionIds,
    /// The attention.
    pub attention: LinearAttentionId,
    /// 5x5 layer after the attention.
    pub reprojection: LayerId,
    /// 1x1, then depthwise 3x3, both with GELU.
    pub mlp: [LayerId; 2],
    /// 1x1 layer of the MLP plus the skip connection.
    pub out: LayerId,
}

/// The checkerboard window attention network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalContextIds {
    /// Normalization before queries, keys, values.
    pub norm1: NormId,
    /// Queries, keys, values (1x1).
    pub qkv: [LayerId; 3],
    /// The attention.
    pub attention: LocalAttentionId,
    /// From all positions of the window to one: fusion and projection in one layer.
    pub fusion: LayerId,
    /// Normalization before the MLP.
    pub norm2: NormId,
    /// First layer of the MLP.
    pub fc1: LayerId,
    /// Second layer of the MLP plus the residual.
    pub out: LayerId,
}

/// Layers that are applied one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// All but the last, each with GELU.
    pub hidden: Vec<LayerId>,
    /// The last.
    pub last: LayerId,
}

impl Chain {
    /// All layers in order.
    pub fn ids(&self) -> impl Iterator<Item = LayerId> + '_ {
        self.hidden.iter().copied().chain([self.last])
    }
}

/// Operators of one latent slice. Index 0 of a pair is for the anchors, index 1 for the non-anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceIds {
    /// Channel context; none for slice 0.
    pub channel: Option<Chain>,
    /// Global inter context; none for slice 0.
    pub inter: Option<GlobalContextIds>,
    /// Local context.
    pub local: LocalContextIds,
    /// Global intra context; none for slice 0.
    pub intra: Option<GlobalContextIds>,
    /// Entropy parameters.
    pub entropy_parameters: [Chain; 2],
    /// Latent residual prediction.
    pub lrp: [Chain; 2],
}

/// All operators of the entropy networks of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Linear layers in package order.
    pub layers: Vec<LayerSpec>,
    /// Layer normalizations in package order.
    pub norms: Vec<NormSpec>,
    /// Linear attentions in package order.
    pub linear_attentions: Vec<LinearAttentionSpec>,
    /// Hyper synthesis.
    pub h_s: HyperSynthesisIds,
    /// Latent slices.
    pub slices: Vec<SliceIds>,
}

impl Layout {
    /// The layout of a validated configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Builder::new(config).build()
    }

    /// Channels of a tensor.
    #[must_use]
    pub fn channels(&self, config: &Config, source: Source) -> usize {
        match source {
            Source::Quantizer(QuantizerId::Z) => config.hyper,
            Source::Quantizer(_) => config.slice_channels(),
            Source::Layer(id) => self.layers.get(id.0).map_or(0, |l| l.outputs),
            Source::Norm(id) => self.norms.get(id.0).map_or(0, |n| n.channels),
            Source::LinearAttention(id) => self.linear_attentions.get(id.0).map_or(0, |a| a.channels),
            Source::LocalAttention(_) => config.slice_channels() * config.window * config.window,
            Source::Node(_) => 0,
        }
    }
}

/// Fluent construction of the term list of a layer.
#[derive(Clone, Default)]
struct Terms(Vec<TermSpec>);

impl Terms {
    fn of(source: Source, channels: usize) -> Self {
        Self::default().and(source, channels)
    }

    fn part(mut self, source: Source, first_channel: usize, channels: usize) -> Self {
        self.0.push(TermSpec { source, first_channel, channels, identity: false });
        self
    }

    fn and(self, source: Source, channels: usize) -> Self {
        self.part(source, 0, channels)
    }

    fn layer(self, id: LayerId, channels: usize) -> Self {
        self.and(Source::Layer(id), channels)
    }

    /// Latent slices `0..count`.
    fn slices(self, count: usize, channels: usize) -> Self {
        (0..count).fold(self, |t, i| t.and(Source::Quantizer(QuantizerId::y(i)), channels))
    }

    fn residual(mut self, id: LayerId, channels: usize) -> Self {
        self.0.push(TermSpec { source: Source::Layer(id), first_channel: 0, channels, identity: true });
        self
    }
}

struct Builder<'a> {
    config: &'a Config,
    layers: Vec<LayerSpec>,
    norms: Vec<NormSpec>,
    linear_attentions: Vec<LinearAttentionSpec>,
}

const DENSE1: Kernel = Kernel::Dense { size: 1 };
const DENSE3: Kernel = Kernel::Dense { size: 3 };
const DENSE5: Kernel = Kernel::Dense { size: 5 };
const DEPTHWISE3: Kernel = Kernel::Depthwise { size: 3 };

impl<'a> Builder<'a> {
    fn new(config: &'a Config) -> Self {
        Self { config, layers: Vec::new(), norms: Vec::new(), linear_attentions: Vec::new() }
    }

    fn build(mut self) -> Layout {
        let h_s = self.hyper_synthesis();
        let slices = (0..self.config.slices).map(|i| self.slice(i, h_s.out)).collect();
        let Self { layers, norms, linear_attentions, .. } = self;
        Layout { layers, norms, linear_attentions, h_s, slices }
    }

    fn layer(&mut self, name: String, terms: Terms, kernel: Kernel, outputs: usize, epilogue: Epilogue) -> LayerId {
        self.layers.push(LayerSpec { name, terms: terms.0, kernel, outputs, epilogue });
        LayerId(self.layers.len() - 1)
    }

    fn norm(&mut self, name: String, source: Source, channels: usize) -> NormId {
        self.norms.push(NormSpec { name, source, channels });
        NormId(self.norms.len() - 1)
    }

    fn hyper_synthesis(&mut self) -> HyperSynthesisIds {
        let (n, m, [a, b]) = (self.config.hyper, self.config.latent, self.config.hs_hidden);
        let z = Terms::of(Source::Quantizer(QuantizerId::Z), n);
        let conv0 = self.layer("h_s.conv0".into(), z, DENSE3, a, Epilogue::Gelu);
        let up0 = self.layer("h_s.up0".into(), Terms::default().layer(conv0, a), DENSE3, 4 * a, Epilogue::Gelu);
        let conv1 = self.layer("h_s.conv1".into(), Terms::default().layer(up0, a), DENSE3, b, Epilogue::Gelu);
        let up1 = self.layer("h_s.up1".into(), Terms::default().layer(conv1, b), DENSE3, 4 * b, Epilogue::Gelu);
        let out = self.layer("h_s.out".into(), Terms::default().layer(up1, b), DENSE3, 2 * m, Epilogue::Linear);
        HyperSynthesisIds { conv0, up0, conv1, up1, out }
    }

    /// A chain of dense layers with GELU between them.
    fn chain(&mut self, name: &str, input: Terms, kernel: Kernel, hidden: &[usize], outputs: usize, last: Epilogue) -> Chain {
        let (mut terms, mut ids) = (input, Vec::with_capacity(hidden.len()));
        for (i, width) in hidden.iter().enumerate() {
            let id = self.layer(format!("{name}.{i}"), terms, kernel, *width, Epilogue::Gelu);
            terms = Terms::default().layer(id, *width);
            ids.push(id);
        }
        let last = self.layer(format!("{name}.{}", hidden.len()), terms, kernel, outputs, last);
        Chain { hidden: ids, last }
    }

    fn slice(&mut self, i: usize, hyper: LayerId) -> SliceIds {
        let (m, s) = (self.config.latent, self.config.slice_channels());
        let (ep, lrp) = (self.config.ep_hidden.clone(), self.config.lrp_hidden.get(i).cloned().unwrap_or_default());
        let cc = self.config.cc_hidden.clone();
        let later = i > 0;
        let channel = later.then(|| {
            let (name, input) = (format!("slice{i}.channel_context"), Terms::default().slices(i, s));
            self.chain(&name, input, DENSE3, &cc, 4 * s, Epilogue::Linear)
        });
        let inter = later.then(|| self.inter(i));
        let local = self.local(i);
        let intra = later.then(|| self.intra(i));
        let shared = |terms: Terms| {
            let terms = inter.iter().fold(terms, |t, c| t.layer(c.out, 2 * s));
            channel.iter().fold(terms, |t, c| t.layer(c.last, 4 * s)).layer(hyper, 2 * m)
        };
        let anchor_in = shared(Terms::default());
        let nonanchor_in = shared(intra.iter().fold(Terms::default().layer(local.out, 2 * s), |t, c| t.layer(c.out, 2 * s)));
        let lrp_in = Terms::default().part(Source::Layer(hyper), m, m).slices(i + 1, s);
        let entropy_parameters = [(anchor_in, "anchor"), (nonanchor_in, "nonanchor")].map(|(input, half)| {
            self.chain(&format!("slice{i}.entropy_parameters_{half}"), input, DENSE1, &ep, 2 * s, Epilogue::Latent)
        });
        let lrp = ["anchor", "nonanchor"]
            .map(|half| self.chain(&format!("slice{i}.lrp_{half}"), lrp_in.clone(), DENSE3, &lrp, s, Epilogue::HalfTanh));
        SliceIds { channel, inter, local, intra, entropy_parameters, lrp }
    }

    fn projections(&mut self, name: &str, inputs: [Terms; 3], channels: usize) -> ProjectionIds {
        let [queries, keys, values] = inputs;
        let both = [(queries, "queries"), (keys, "keys"), (values, "values")].map(|(terms, what)| {
            let pointwise = self.layer(format!("{name}.{what}.pointwise"), terms, DENSE1, channels, Epilogue::Linear);
            let input = Terms::default().layer(pointwise, channels);
            [pointwise, self.layer(format!("{name}.{what}.depthwise"), input, DEPTHWISE3, channels, Epilogue::Linear)]
        });
        ProjectionIds { pointwise: both.map(|[pointwise, _]| pointwise), depthwise: both.map(|[_, depthwise]| depthwise) }
    }

    fn linear_attention(&mut self, name: &str, inputs: [LayerId; 3], channels: usize, heads: usize) -> LinearAttentionId {
        self.linear_attentions.push(LinearAttentionSpec { name: format!("{name}.attention"), inputs, channels, heads });
        LinearAttentionId(self.linear_attentions.len() - 1)
    }

    fn inter(&mut self, i: usize) -> GlobalContextIds {
        let s = self.config.slice_channels();
        let (name, d) = (format!("slice{i}.global_inter_context"), s * i);
        let input = Terms::default().slices(i, s);
        let projections = self.projections(&name, [input.clone(), input.clone(), input], d);
        let attention = self.linear_attention(&name, projections.depthwise, d, d / self.config.inter_head_channels);
        let attended = Terms::of(Source::LinearAttention(attention), d);
        let reprojection = self.layer(format!("{name}.reprojection"), attended, DENSE5, 3 * s, Epilogue::Linear);
        let mlp = self.mix(&name, reprojection, 3 * s, 4 * s);
        let out = Terms::default().layer(mlp[1], 4 * s).layer(reprojection, 3 * s);
        let out = self.layer(format!("{name}.out"), out, DENSE1, 2 * s, Epilogue::Linear);
        GlobalContextIds { projections, attention, reprojection, mlp, out }
    }

    fn intra(&mut self, i: usize) -> GlobalContextIds {
        let s = self.config.slice_channels();
        let name = format!("slice{i}.global_intra_context");
        let y = |index| Terms::of(Source::Quantizer(QuantizerId::y(index)), s);
        let projections = self.projections(&name, [y(i - 1), y(i - 1), y(i)], s);
        let attention = self.linear_attention(&name, projections.depthwise, s, self.config.heads);
        let attended = Terms::of(Source::LinearAttention(attention), s);
        let reprojection = self.layer(format!("{name}.reprojection"), attended, DENSE5, 2 * s, Epilogue::Linear);
        let mlp = self.mix(&name, reprojection, 2 * s, 4 * s);
        let out = Terms::default().layer(mlp[1], 4 * s).residual(reprojection, 2 * s);
        let out = self.layer(format!("{name}.out"), out, DENSE1, 2 * s, Epilogue::Linear);
        GlobalContextIds { projections, attention, reprojection, mlp, out }
    }

    /// 1x1 and depthwise 3x3, each with GELU: the hidden part of a context's MLP.
    fn mix(&mut self, name: &str, input: LayerId, channels: usize, hidden: usize) -> [LayerId; 2] {
        let input = Terms::default().layer(input, channels);
        let mlp0 = self.layer(format!("{name}.mlp.0"), input, DENSE1, hidden, Epilogue::Gelu);
        let mlp1 = self.layer(format!("{name}.mlp.1"), Terms::default().layer(mlp0, hidden), DEPTHWISE3, hidden, Epilogue::Gelu);
        [mlp0, mlp1]
    }

    fn local(&mut self, i: usize) -> LocalContextIds {
        let s = self.config.slice_channels();
        let name = format!("slice{i}.local_context");
        let norm1 = self.norm(format!("{name}.norm1"), Source::Quantizer(QuantizerId::y(i)), s);
        let normed = Terms::of(Source::Norm(norm1), s);
        let qkv = ["queries", "keys", "values"]
            .map(|what| self.layer(format!("{name}.{what}"), normed.clone(), DENSE1, s, Epilogue::Linear));
        let attention = LocalAttentionId(i);
        let attended = Terms::of(Source::LocalAttention(attention), s * self.config.window * self.config.window);
        let fusion = self.layer(format!("{name}.fusion"), attended, DENSE1, 2 * s, Epilogue::Linear);
        let norm2 = self.norm(format!("{name}.norm2"), Source::Layer(fusion), 2 * s);
        let fc1 = self.layer(format!("{name}.fc1"), Terms::of(Source::Norm(norm2), 2 * s), DENSE1, 4 * s, Epilogue::Gelu);
        let out = Terms::default().layer(fc1, 4 * s).residual(fusion, 2 * s);
        let out = self.layer(format!("{name}.out"), out, DENSE1, 2 * s, Epilogue::Linear);
        LocalContextIds { norm1, qkv, attention, fusion, norm2, fc1, out }
    }
}
