//! What integer transforms are made of: the synthesis ([`crate::synthesis`], SPEC 2.9) and the analyses ([`crate::analysis`], SPEC 2.10).
//!
//! A transform is a list of nodes, each of which reads earlier ones: linear layers ([`crate::layout::LayerSpec`]), which may change the size of their
//! maps, and divisive normalizations. Node 0 is the input. Residual connections are layers of identity terms alone. There are no levels of
//! activation scales.

use std::ops::Range;

use mlic_core::fixed::{half_of, isqrt};
use mlic_core::memory::{self, OutOfMemory};

use crate::error::ModelError;
use crate::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, Source, TermSpec};
use crate::model::{LayerView, Weights, contains};
use crate::parameters::{LayerLevel, Requant, many};
use crate::proof;
use crate::synthesis::SCALE;
use crate::wire::{Reader, Writer};

const VERSION: u32 = 1;
/// Most nodes, node 0 included.
pub const MAX_NODES: u32 = 256;
/// Most channels of a node.
pub const MAX_CHANNELS: u32 = 1 << 14;
/// Most terms of a layer.
pub const MAX_TERMS: u8 = 4;
/// Largest sum of the gammas of one channel: with it, the weighted sums over the 15-bit halves of squared activations fit 32 bits.
pub const MAX_GAMMA_SUM: i64 = (1 << 16) - 1;
/// Largest beta.
pub const MAX_BETA: i64 = 1 << 61;
/// Number of lower bits of a square that are split off as a factor of their own: 15, so that both parts are activations.
pub const SQUARE_LOW_BITS: u32 = 15;
/// The argument of the square root saturates to this value.
pub const MAX_NORM: i64 = i32::MAX as i64;
/// The reciprocal of a root r is this value divided by r (SPEC 4.12).
pub const RECIPROCAL: i32 = i32::MAX;

const LAYER: u8 = 1;

/// The two kinds of transform, with the rules in which their nodes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Layers may shuffle, normalizations are inverse; the last node is the picture.
    Synthesis,
    /// Layers may have a stride, normalizations divide; the last node, and no other, is in latent fixed point.
    Analysis,
}

impl Form {
    const fn magic(self) -> [u8; 4] {
        match self {
            Self::Synthesis => *b"MLIS",
            Self::Analysis => *b"MLIA",
        }
    }

    /// First part of the names of the transform's operators.
    const fn name(self) -> &'static str {
        match self {
            Self::Synthesis => "exact_g_s",
            Self::Analysis => "exact_analysis",
        }
    }

    /// The epilogue with code 2, which is that of the last node.
    const fn last(self) -> Epilogue {
        match self {
            Self::Synthesis => Epilogue::Pixel,
            Self::Analysis => Epilogue::Latent,
        }
    }

    /// Scale of the last node, and what the node holds.
    const fn end(self) -> (usize, &'static str) {
        match self {
            Self::Synthesis => (SCALE, "samples"),
            Self::Analysis => (1, "latents"),
        }
    }

    /// The values of a layer's resize byte, 0 or 1 in a synthesis and 1 or 2 in an analysis, and what they mean.
    const fn resizes(self) -> [(u8, Resize); 2] {
        match self {
            Self::Synthesis => [(0, Resize::None), (1, Resize::Shuffle)],
            Self::Analysis => [(1, Resize::None), (2, Resize::Stride)],
        }
    }

    /// Opcode of the transform's normalizations, and whether they are inverse ones.
    const fn normalization(self) -> (u8, bool) {
        match self {
            Self::Synthesis => (2, true),
            Self::Analysis => (3, false),
        }
    }
}

/// Weights of one term of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedWeights {
    /// -127 to 127.
    Bytes(Vec<i8>),
    /// -32767 to 32767.
    Words(Vec<i16>),
}

impl OwnedWeights {
    /// The weights as an executor reads them.
    #[must_use]
    pub fn view(&self) -> Weights<'_> {
        match self {
            Self::Bytes(w) => Weights::Bytes(w),
            Self::Words(w) => Weights::Words(w),
        }
    }
}

/// How a layer changes the rows and columns of its maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Not at all.
    None,
    /// Doubles them, by a pixel shuffle after the epilogue, which leaves a quarter of the outputs as channels. In a synthesis only.
    Shuffle,
    /// Halves them: the layer is computed at every second row and column, from the first on. In an analysis only.
    Stride,
}

/// A linear layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Shape and inputs; every source is a [`Source::Node`].
    pub spec: LayerSpec,
    /// Largest magnitude of the output.
    pub max: i32,
    /// Multipliers and bias.
    pub level: LayerLevel,
    /// Weights of each term.
    pub weights: Vec<OwnedWeights>,
    /// How the layer changes rows and columns.
    pub resize: Resize,
}

impl Layer {
    /// The nodes it reads.
    pub fn inputs(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.spec.terms.iter().filter_map(|term| if let Source::Node(at) = term.source { Some(at) } else { None })
    }

    /// Whether a pixel shuffle follows.
    #[must_use]
    pub const fn shuffles(&self) -> bool {
        matches!(self.resize, Resize::Shuffle)
    }

    /// Output rows per row before the pixel shuffle: 2 with a shuffle, else 1.
    #[must_use]
    pub const fn up(&self) -> usize {
        if self.shuffles() { 2 } else { 1 }
    }

    /// Input rows from one computed row to the next: 1, or 2 with a stride.
    #[must_use]
    pub const fn stride(&self) -> usize {
        if matches!(self.resize, Resize::Stride) { 2 } else { 1 }
    }

    /// Channels of its output.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.spec.outputs / if self.shuffles() { 4 } else { 1 }
    }

    /// Whether the layer has weights, that is, whether not all its terms are identity terms.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        self.weights.iter().any(|weights| !weights.view().is_empty())
    }

    /// Whether all weights of the layer are bytes.
    #[must_use]
    pub fn is_of_bytes(&self) -> bool {
        self.weights.iter().all(|weights| matches!(weights, OwnedWeights::Bytes(_)))
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.spec.weight_count() + self.spec.outputs as u64
    }

    /// What an executor needs.
    #[must_use]
    pub fn view(&self) -> LayerView<'_> {
        let weights = self.weights.iter().map(OwnedWeights::view).collect();
        LayerView { spec: &self.spec, max: self.max, level: &self.level, weights }
    }

    /// The same layer with its outputs, four per channel, in the order row offset, column offset, channel: outputs that a pixel shuffle puts side by
    /// side then already lie side by side.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn by_phase(&self) -> Result<Self, OutOfMemory> {
        let order: Vec<usize> = (0..4).flat_map(|phase| (phase..self.spec.outputs).step_by(4)).collect();
        fn reordered<T: Copy>(order: &[usize], values: &[T]) -> Result<Vec<T>, OutOfMemory> {
            let (len, mut out) = (values.len() / order.len().max(1), Vec::new());
            memory::reserve(&mut out, values.len())?;
            order
                .iter()
                .filter_map(|o| values.get(o * len..(o + 1) * len))
                .for_each(|of_output| out.extend_from_slice(of_output));
            Ok(out)
        }
        let weights = self.weights.iter().map(|w| match w {
            OwnedWeights::Bytes(w) => reordered(&order, w).map(OwnedWeights::Bytes),
            OwnedWeights::Words(w) => reordered(&order, w).map(OwnedWeights::Words),
        });
        let weights = weights.collect::<Result<_, _>>()?;
        let mut level = self.level.clone();
        level.bias = reordered(&order, &level.bias)?;
        for multipliers in &mut level.multipliers {
            *multipliers = reordered(&order, multipliers)?;
        }
        Ok(Self { spec: self.spec.clone(), max: self.max, level, weights, resize: self.resize })
    }
}

/// The conversion from latent fixed point to the activations of node 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantizer {
    /// Largest magnitude of the activations.
    pub max: i32,
    /// The change of scale.
    pub requant: Requant,
}

impl Quantizer {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, ModelError> {
        Ok(Self { max: r.i32()?, requant: Requant::read(r)? })
    }

    pub(crate) fn write(self, w: &mut Writer) {
        w.i32s([self.max]);
        self.requant.write(w);
    }

    pub(crate) fn check(self, what: &'static str) -> Result<(), ModelError> {
        proof::check_max(what, 0, self.max)?;
        let worst = i128::from(mlic_core::fixed::LATENT_MAX);
        proof::requantized(what, "requantization", worst, self.requant)
    }
}

/// Constants of a divisive normalization with `norm_c = sum over j of gamma_cj x_j^2 + beta_c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gdn {
    /// The node it reads.
    pub input: NodeIndex,
    /// Whether this is the inverse normalization of a synthesis, `x_c * sqrt(norm_c)` (SPEC 4.11), or that of an analysis, `x_c / sqrt(norm_c)` (SPEC 4.12).
    pub inverse: bool,
    /// Largest magnitude of the output.
    pub max: i32,
    /// `[channel][input channel]`, not negative.
    pub gamma: Vec<i16>,
    /// Per channel.
    pub beta: Vec<i64>,
    /// Shift of the sums.
    pub shift: u32,
    /// Per channel: from the product with the root, or the quotient by it, to activations.
    pub multipliers: Vec<i32>,
    /// Shift of the products with `multipliers`.
    pub output_shift: u32,
}

impl Gdn {
    /// Channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.beta.len()
    }

    /// The sums of squares as a linear layer that reads two nodes of their own: the upper parts of the squares, and their lower
    /// [`SQUARE_LOW_BITS`] bits, both as activations. Its weights are the gammas.
    #[must_use]
    pub fn sums_of_squares(&self) -> (LayerSpec, LayerLevel) {
        let channels = self.channels();
        let spec = LayerSpec {
            name: "sums of squares".into(),
            terms: [0, 1].map(|part| TermSpec::node(NodeIndex(part), channels, false)).into(),
            kernel: Kernel::Dense { size: 1 },
            outputs: channels,
            epilogue: Epilogue::Linear,
        };
        let level = LayerLevel {
            shift: self.shift,
            multipliers: vec![vec![1 << SQUARE_LOW_BITS; channels], vec![1; channels]],
            bias: self.beta.clone(),
            output: Requant { multiplier: 0, shift: 0 },
        };
        (spec, level)
    }

    /// Number of gammas and betas.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        (self.gamma.len() + self.beta.len()) as u64
    }
}

/// A node that computes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A linear layer.
    Layer(Layer),
    /// A divisive normalization.
    Gdn(Gdn),
}

impl Node {
    /// The nodes it reads.
    pub fn inputs(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        let (layer, gdn) = match self {
            Self::Layer(layer) => (Some(layer), None),
            Self::Gdn(gdn) => (None, Some(gdn.input)),
        };
        layer.into_iter().flat_map(Layer::inputs).chain(gdn)
    }

    /// Which rows of its inputs the node needs for which rows of its output.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        match self {
            Self::Layer(layer) => Reach { halo: layer.spec.kernel.size() / 2, up: layer.up(), stride: layer.stride() },
            Self::Gdn(_) => Reach { halo: 0, up: 1, stride: 1 },
        }
    }

    /// Channels of its output.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::Layer(layer) => layer.channels(),
            Self::Gdn(gdn) => gdn.channels(),
        }
    }

    /// Numbers that were trained: weights, biases, gammas and betas.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        match self {
            Self::Layer(layer) => layer.parameter_count(),
            Self::Gdn(gdn) => gdn.parameter_count(),
        }
    }

    /// Multiply-adds per position of the input or, with a stride, per position of the output.
    #[must_use]
    pub fn macs_per_position(&self) -> u64 {
        match self {
            Self::Layer(layer) => layer.spec.weight_count(),
            Self::Gdn(gdn) => gdn.gamma.len() as u64,
        }
    }
}

/// Which rows (and columns) of its inputs a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Neighbours on each side.
    pub halo: usize,
    /// Output rows per row before the pixel shuffle: 2 with a shuffle, else 1.
    pub up: usize,
    /// Input rows from one computed row to the next: 1, or 2 with a stride.
    pub stride: usize,
}

impl Reach {
    /// The input rows from which output rows `rows` are computed; they may end beyond the last row of the input.
    #[must_use]
    pub fn of(self, rows: &Range<usize>) -> Range<usize> {
        let (first, end) = (rows.start / self.up, rows.end.div_ceil(self.up));
        (first * self.stride).saturating_sub(self.halo)..(end * self.stride + self.halo + 1).saturating_sub(self.stride)
    }
}

/// Shape of the output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeShape {
    /// Channels.
    pub channels: usize,
    /// Rows per row of y (of z in `h_a`), columns per column: a power of two.
    pub scale: usize,
    /// Largest magnitude of an element.
    pub max: i32,
}

/// All nodes of a transform, verified as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The last one is a layer.
    nodes: Vec<Node>,
    shapes: Vec<NodeShape>,
}

impl Nodes {
    /// The nodes; the first is number 1.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The last node, and those before it.
    #[must_use]
    pub fn split_last(&self) -> (&Layer, &[Node]) {
        match self.nodes.split_last() {
            Some((Node::Layer(last), before)) => (last, before),
            _ => unreachable!("the last node is a layer"),
        }
    }

    /// Shapes of all nodes, that of node 0 first.
    #[must_use]
    pub fn shapes(&self) -> &[NodeShape] {
        &self.shapes
    }

    /// Numbers that were trained: weights, biases, gammas and betas.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.nodes.iter().map(Node::parameter_count).sum()
    }
}

fn refuse(index: usize, problem: impl Into<String>) -> ModelError {
    ModelError::Parameter { what: "node of an integer transform", index, problem: problem.into() }
}

impl Form {
    /// Reads and checks the first bytes of a section and its version.
    pub(crate) fn read_start(self, r: &mut Reader<'_>) -> Result<(), ModelError> {
        let magic = self.magic();
        if r.take(magic.len())? != magic {
            return Err(refuse(0, format!("the section does not begin with {}", magic.escape_ascii())));
        }
        let version = r.u32()?;
        if version == VERSION { Ok(()) } else { Err(refuse(0, format!("version {version}, this program reads {VERSION}"))) }
    }

    /// Whether a section is of this form.
    pub(crate) fn begins(self, section: &[u8]) -> bool {
        section.starts_with(&self.magic())
    }

    /// Begins a section.
    pub(crate) fn write_start(self) -> Writer {
        let mut w = Writer(self.magic().to_vec());
        w.u32s([VERSION]);
        w
    }

    /// Reads nodes; node 0 has `channels` channels.
    pub(crate) fn read_nodes(self, r: &mut Reader<'_>, channels: usize) -> Result<Vec<Node>, ModelError> {
        let (count, limit) = (r.u32()?, MAX_NODES - 1);
        if !(1..=limit).contains(&count) {
            return Err(refuse(0, format!("{count} nodes, must be 1 to {limit}")));
        }
        let (mut channels, mut nodes) = (vec![channels], Vec::new());
        let (normalization, inverse) = self.normalization();
        for _ in 0..count {
            let node = match r.u8()? {
                LAYER => Node::Layer(self.read_layer(r, &channels)?),
                opcode if opcode == normalization => Node::Gdn(read_gdn(r, &channels, inverse)?),
                other => return Err(refuse(channels.len(), format!("opcode {other}, must be {LAYER} or {normalization}"))),
            };
            channels.push(node.channels());
            nodes.push(node);
        }
        Ok(nodes)
    }

    pub(crate) fn write_nodes(self, w: &mut Writer, nodes: &[Node]) {
        w.u32s([nodes.len() as u32]);
        for node in nodes {
            match node {
                Node::Layer(layer) => self.write_layer(w, layer),
                Node::Gdn(gdn) => write_gdn(w, self.normalization().0, gdn),
            }
        }
    }

    /// Verifies nodes, the first of which is number 1. Node 0 has the shape `first`, and the last node must have `channels` channels.
    pub(crate) fn verified(self, first: NodeShape, nodes: Vec<Node>, channels: usize) -> Result<Nodes, ModelError> {
        let mut shapes = vec![first];
        for (i, node) in nodes.iter().enumerate() {
            shapes.push(match node {
                Node::Layer(layer) => self.layer_shape(&shapes, layer, i + 1 == nodes.len())?,
                Node::Gdn(gdn) => self.gdn_shape(&shapes, gdn)?,
            });
        }
        let (scale, what) = self.end();
        let is_end = matches!(nodes.last(), Some(Node::Layer(layer)) if layer.spec.epilogue == self.last());
        match shapes.last() {
            Some(last) if is_end && (last.channels, last.scale) == (channels, scale) => Ok(Nodes { nodes, shapes }),
            other => {
                let problem = format!("the last node must be {what} of {channels} channels at scale {scale}: {other:?}");
                Err(refuse(nodes.len(), problem))
            }
        }
    }

    fn read_layer(self, r: &mut Reader<'_>, channels: &[usize]) -> Result<Layer, ModelError> {
        let here = channels.len();
        let [size, epilogue, resize, width, terms] = [r.u8()?, r.u8()?, r.u8()?, r.u8()?, r.u8()?];
        let epilogue = match epilogue {
            0 => Epilogue::Linear,
            1 => Epilogue::Gelu,
            2 => self.last(),
            other => return Err(refuse(here, format!("epilogue {other}, must be 0 to 2"))),
        };
        let known = self.resizes().into_iter().find(|(byte, _)| *byte == resize).filter(|_| matches!(size, 1 | 3 | 5));
        let Some((_, resize)) = known.filter(|_| matches!(width, 1 | 2) && (1..=MAX_TERMS).contains(&terms)) else {
            let problem =
                format!("kernel {size}, change of size {resize}, {width} bytes per weight, {terms} terms: out of range");
            return Err(refuse(here, problem));
        };
        let outputs = r.u32()?;
        if !(1..=MAX_CHANNELS).contains(&outputs) {
            return Err(refuse(here, format!("{outputs} outputs, must be 1 to {MAX_CHANNELS}")));
        }
        let terms = many(terms.into(), |_| {
            let (at, channels) = operand(r, channels)?;
            let identity = r.u8()?;
            if identity > 1 {
                return Err(refuse(here, format!("identity flag {identity}, must be 0 or 1")));
            }
            Ok(TermSpec::node(at, channels, identity == 1))
        })?;
        let kernel = Kernel::Dense { size: size.into() };
        let spec = LayerSpec { name: format!("{}.{here}", self.name()), terms, kernel, outputs: outputs as usize, epilogue };
        let (max, level) = (r.i32()?, LayerLevel::read(r, &spec)?);
        let weights = many(spec.terms.len(), |term| {
            let len = spec.weights_per_output(term).saturating_mul(spec.outputs);
            Ok(match width {
                1 => OwnedWeights::Bytes(memory::copy(bytemuck::cast_slice(r.take(len)?))?),
                _ => OwnedWeights::Words(r.i16s(len)?),
            })
        })?;
        Ok(Layer { spec, max, level, weights, resize })
    }

    fn write_layer(self, w: &mut Writer, layer: &Layer) {
        let resize =
            self.resizes().into_iter().find_map(|(byte, resize)| (resize == layer.resize).then_some(byte)).unwrap_or(u8::MAX);
        let spec = &layer.spec;
        let epilogue = match spec.epilogue {
            Epilogue::Gelu => 1,
            Epilogue::Linear => 0,
            _ => 2,
        };
        let width = if layer.weights.iter().any(|w| matches!(w, OwnedWeights::Words(_))) { 2 } else { 1 };
        w.u8s([LAYER, spec.kernel.size() as u8, epilogue, resize, width, spec.terms.len() as u8]);
        w.u32s([spec.outputs as u32]);
        for term in &spec.terms {
            let at = if let Source::Node(at) = term.source { at.0 as u32 } else { u32::MAX };
            w.u32s([at]);
            w.u8s([term.identity.into()]);
        }
        w.i32s([layer.max]);
        layer.level.write(w, spec.epilogue);
        for weights in &layer.weights {
            match weights {
                OwnedWeights::Bytes(bytes) if width == 1 => w.u8s(bytes.iter().map(|v| *v as u8)),
                OwnedWeights::Bytes(bytes) => w.i16s(bytes.iter().copied().map(i16::from)),
                OwnedWeights::Words(words) => w.i16s(words.iter().copied()),
            }
        }
    }

    fn layer_shape(self, shapes: &[NodeShape], layer: &Layer, last: bool) -> Result<NodeShape, ModelError> {
        let (here, outputs) = (shapes.len(), layer.spec.outputs);
        let sources = layer.spec.terms.iter();
        let read = inputs(shapes, sources.map(|t| if let Source::Node(at) = t.source { at } else { NodeIndex(usize::MAX) }))?;
        let scale = read.first().map_or(1, |s| s.scale) * layer.up();
        let is_allowed = self.resizes().into_iter().any(|(_, resize)| resize == layer.resize);
        if !is_allowed || !(layer.stride()..=SCALE).contains(&scale) || (layer.shuffles() && outputs % 4 != 0) {
            return Err(refuse(here, format!("scale {scale} from {outputs} outputs, {:?}, is out of range", layer.resize)));
        }
        check_layer(here, &read, layer)?;
        let is_end = last && (self == Self::Analysis || layer.max == 255);
        match layer.spec.epilogue {
            Epilogue::Linear | Epilogue::Gelu => {}
            own if own == self.last() && is_end => {}
            _ => return Err(refuse(here, "samples, with a largest value of 255, and latents are of the last node alone")),
        }
        Ok(NodeShape { channels: layer.channels(), scale: scale / layer.stride(), max: layer.max })
    }

    fn gdn_shape(self, shapes: &[NodeShape], gdn: &Gdn) -> Result<NodeShape, ModelError> {
        let here = shapes.len();
        if gdn.inverse != self.normalization().1 {
            return Err(refuse(here, "a normalization of the other kind of transform"));
        }
        let operator = format!("{}.{here}", self.name());
        let read = check_norms(shapes, gdn, &operator)?;
        if gdn.inverse {
            let worst = i128::from(read.max) * i128::from(isqrt(MAX_NORM as u64));
            for multiplier in &gdn.multipliers {
                let requant = Requant { multiplier: *multiplier, shift: gdn.output_shift };
                proof::requantized(&operator, "product with the root", worst, requant)?;
            }
        } else {
            if gdn.output_shift > 62 || gdn.multipliers.iter().any(|m| *m < 0) {
                return Err(refuse(here, "multiplier or shift of a quotient is out of range"));
            }
            // The reciprocal has 31 bits too, so that its product with the numerator has 62.
            let largest = gdn.multipliers.iter().copied().max().unwrap_or(0);
            let claim = proof::Claim { operator: &operator, operation: "32-bit numerator" };
            claim.at_most(i128::from(read.max) * i128::from(largest), i32::MAX.into())?;
        }
        Ok(NodeShape { max: gdn.max, ..read })
    }
}

/// Reads the index of an earlier node; returns it with the node's channels.
fn operand(r: &mut Reader<'_>, channels: &[usize]) -> Result<(NodeIndex, usize), ModelError> {
    let at = r.u32()? as usize;
    let earlier = channels.get(at).map(|n| (NodeIndex(at), *n));
    earlier.ok_or_else(|| refuse(channels.len(), format!("reads node {at}, which is not before it")))
}

fn read_gdn(r: &mut Reader<'_>, channels: &[usize], inverse: bool) -> Result<Gdn, ModelError> {
    let (input, n) = operand(r, channels)?;
    let (max, shift, output_shift) = (r.i32()?, u32::from(r.u8()?), u32::from(r.u8()?));
    let gamma = r.i16s(n * n)?;
    let (beta, multipliers) = (r.i64s(n)?, r.i32s(n)?);
    Ok(Gdn { input, inverse, max, gamma, beta, shift, multipliers, output_shift })
}

fn write_gdn(w: &mut Writer, opcode: u8, gdn: &Gdn) {
    w.u8s([opcode]);
    w.u32s([gdn.input.0 as u32]);
    w.i32s([gdn.max]);
    w.u8s([gdn.shift as u8, gdn.output_shift as u8]);
    w.i16s(gdn.gamma.iter().copied());
    w.i64s(gdn.beta.iter().copied());
    w.i32s(gdn.multipliers.iter().copied());
}

/// The shapes that a node reads, which must be of one scale.
fn inputs(shapes: &[NodeShape], at: impl Iterator<Item = NodeIndex>) -> Result<Vec<NodeShape>, ModelError> {
    let here = shapes.len();
    let found: Option<Vec<NodeShape>> = at.map(|i| shapes.get(i.0).copied()).collect();
    let found = found.ok_or_else(|| refuse(here, "reads a node that is not before it"))?;
    match found.first() {
        Some(first) if found.iter().all(|s| s.scale == first.scale) => Ok(found),
        _ => Err(refuse(here, "inputs of different sizes")),
    }
}

/// Checks everything about layer `here` that does not depend on the kind of its transform; `found` are the shapes that its terms read.
fn check_layer(here: usize, found: &[NodeShape], layer: &Layer) -> Result<(), ModelError> {
    let spec = &layer.spec;
    let whole = spec.terms.iter().zip(found).all(|(t, s)| t.first_channel == 0 && t.channels == s.channels);
    let lens = (0..spec.terms.len()).map(|t| spec.weights_per_output(t).saturating_mul(spec.outputs));
    let complete = layer.weights.iter().map(|w| w.view().len()).eq(lens);
    let level = &layer.level;
    let parameters = level.bias.len() == spec.outputs
        && level.multipliers.len() == spec.terms.len()
        && level.multipliers.iter().all(|m| m.len() == spec.outputs);
    if !whole || !complete || !parameters || matches!(spec.kernel, Kernel::Depthwise { .. }) {
        return Err(refuse(here, "terms, weights and parameters do not fit each other"));
    }
    let smallest = layer.weights.iter().any(|w| match w {
        OwnedWeights::Bytes(w) => contains(w, i8::MIN),
        OwnedWeights::Words(w) => contains(w, i16::MIN),
    });
    if smallest {
        return Err(refuse(here, "a weight is the smallest number of its type"));
    }
    proof::check_max("node of an integer transform", here, layer.max)?;
    proof::shape(spec, &spec.terms)?;
    let maxima: Vec<i32> = found.iter().map(|s| s.max).collect();
    proof::layer(spec, std::slice::from_ref(level), &maxima, layer.weights.iter().map(OwnedWeights::view))
}

/// Checks everything up to the norms; returns the shape of the node that is read.
fn check_norms(shapes: &[NodeShape], gdn: &Gdn, operator: &str) -> Result<NodeShape, ModelError> {
    let here = shapes.len();
    let found = inputs(shapes, std::iter::once(gdn.input))?;
    let Some(read @ NodeShape { channels, max, .. }) = found.first().copied() else { return Err(refuse(here, "reads nothing")) };
    if gdn.beta.len() != channels || gdn.multipliers.len() != channels || gdn.gamma.len() != channels * channels {
        return Err(refuse(here, "gamma, beta and multipliers do not fit the input"));
    }
    proof::check_max("node of an integer transform", here, gdn.max)?;
    if gdn.gamma.iter().any(|g| *g < 0) || gdn.beta.iter().any(|b| !(0..=MAX_BETA).contains(b)) || gdn.shift > 62 {
        return Err(refuse(here, "gamma, beta or shift is out of range"));
    }
    let sums = gdn.gamma.chunks_exact(channels.max(1)).map(|row| row.iter().map(|g| i64::from(*g)).sum::<i64>());
    let worst = sums.max().unwrap_or(0);
    let claim = |operation| proof::Claim { operator, operation };
    claim("sum of gammas").at_most(worst.into(), MAX_GAMMA_SUM.into())?;
    let beta = gdn.beta.iter().copied().max().unwrap_or(0);
    let sum = i128::from(worst) * i128::from(max) * i128::from(max) + i128::from(beta) + i128::from(half_of(gdn.shift));
    claim("64-bit sum of squares").at_most(sum, i64::MAX.into())?;
    Ok(read)
}
