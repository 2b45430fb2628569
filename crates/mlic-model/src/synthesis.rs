//! The integer synthesis: `g_s` from `y_hat` to the samples of the picture in the arithmetic of the entropy path, so that the picture too is
//! the same everywhere (SPEC 2.9, 5.7).
//!
//! A list of nodes, each of which reads earlier ones: linear layers ([`crate::layout::LayerSpec`], with or without a pixel shuffle after
//! them) and inverse divisive normalizations. Node 0 is `y_hat` after its inverse gain, quantized; the last node is the picture. Residual
//! connections are layers of identity terms alone. There are no levels: after the inverse gain the range of y hardly depends on quality.

use std::ops::RangeInclusive;

use mlic_core::memory;

use crate::error::ModelError;
use crate::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, Source, TermSpec};
use crate::model::{LayerView, Weights, contains};
use crate::parameters::{LayerLevel, Requant, many};
use crate::proof;
use crate::wire::{Reader, Writer};

const MAGIC: [u8; 4] = *b"MLIS";
pub(crate) const VERSION: u32 = 1;
/// Most nodes, the quantizer included.
pub const MAX_NODES: u32 = 256;
/// Most channels of a node.
pub const MAX_CHANNELS: u32 = 1 << 14;
/// Most terms of a layer.
pub const MAX_TERMS: u8 = 4;
/// Positions of the picture per position of y, each way.
pub const SCALE: usize = 16;
/// Largest sum of the gammas of one channel: the squares of activations, in halves of 15 bits, then have 32-bit sums.
pub const MAX_GAMMA_SUM: i64 = (1 << 16) - 1;
/// Largest beta.
pub const MAX_BETA: i64 = 1 << 61;
/// The argument of the square root saturates to this value.
pub const MAX_NORM: i64 = i32::MAX as i64;

pub(crate) const LAYER: u8 = 1;
const INVERSE_GDN: u8 = 2;
/// What a section of the integer synthesis holds in its layers.
const FORM: Form = Form { name: "exact_g_s", last: Epilogue::Pixel, resizes: 0..=1 };

/// What the layers of a synthesis and of an analysis differ in.
pub(crate) struct Form {
    /// First part of their names.
    pub(crate) name: &'static str,
    /// Epilogue 2, that of the last node.
    pub(crate) last: Epilogue,
    /// Byte that says how the size changes.
    pub(crate) resizes: RangeInclusive<u8>,
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
    /// As an executor reads them.
    #[must_use]
    pub fn view(&self) -> Weights<'_> {
        match self {
            Self::Bytes(w) => Weights::Bytes(w),
            Self::Words(w) => Weights::Words(w),
        }
    }
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
    /// Per term.
    pub weights: Vec<OwnedWeights>,
    /// Pixel shuffle by two after the epilogue.
    pub shuffle: bool,
}

impl Layer {
    /// The nodes it reads.
    pub fn inputs(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.spec.terms.iter().filter_map(|term| if let Source::Node(at) = term.source { Some(at) } else { None })
    }

    /// Whether it has weights: whether not all its terms are identity terms.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        self.weights.iter().any(|weights| !weights.view().is_empty())
    }

    /// Whether all its weights are of one byte.
    #[must_use]
    pub fn is_of_bytes(&self) -> bool {
        self.weights.iter().all(|weights| matches!(weights, OwnedWeights::Bytes(_)))
    }

    /// Weights and biases.
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
}

/// Latent fixed point to the activations of node 0.
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
        proof::requantized(what, "requantization", worst, self.requant).map(|_| ())
    }
}

/// Constants of a divisive normalization with `norm_c = sum over j of gamma_cj x_j^2 + beta_c`: of an inverse one (SPEC 4.11),
/// `x_c * sqrt(norm_c)`, or in an analysis of the other (SPEC 4.12), `x_c / sqrt(norm_c)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gdn {
    /// The node it reads.
    pub input: NodeIndex,
    /// Largest magnitude of the output.
    pub max: i32,
    /// `[channel][input channel]`, not negative.
    pub gamma: Vec<i16>,
    /// Per channel.
    pub beta: Vec<i64>,
    /// Shift of the sums.
    pub shift: u32,
    /// Per channel: product with the root, or quotient by it, to activations.
    pub multipliers: Vec<i32>,
    /// Shift of these products.
    pub output_shift: u32,
}

impl Gdn {
    /// Channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.beta.len()
    }

    /// Gammas and betas.
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
    /// An inverse divisive normalization.
    InverseGdn(Gdn),
}

impl Node {
    /// The nodes it reads.
    pub fn inputs(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        let (layer, gdn) = match self {
            Self::Layer(layer) => (Some(layer), None),
            Self::InverseGdn(gdn) => (None, Some(gdn.input)),
        };
        layer.into_iter().flat_map(Layer::inputs).chain(gdn)
    }

    /// Rows (and columns) of neighbours on each side that it reads.
    #[must_use]
    pub const fn halo(&self) -> usize {
        match self {
            Self::Layer(layer) => layer.spec.kernel.size() / 2,
            Self::InverseGdn(_) => 0,
        }
    }
}

/// Shape of the output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeShape {
    /// Channels.
    pub channels: usize,
    /// Rows per row of y, columns per column: a power of two.
    pub scale: usize,
    /// Largest magnitude of an element.
    pub max: i32,
}

/// The integer synthesis of a model, verified as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthesis {
    quantizer: Quantizer,
    nodes: Vec<Node>,
    shapes: Vec<NodeShape>,
}

pub(crate) fn refuse(index: usize, problem: impl Into<String>) -> ModelError {
    ModelError::Parameter { what: "node of an integer transform", index, problem: problem.into() }
}

impl Synthesis {
    /// Verifies these nodes (the first is number 1) for y with so many channels.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] or [`ModelError::Overflow`].
    pub fn new(latent: usize, quantizer: Quantizer, nodes: Vec<Node>) -> Result<Self, ModelError> {
        quantizer.check("quantizer of the integer synthesis")?;
        let mut shapes = vec![NodeShape { channels: latent, scale: 1, max: quantizer.max }];
        for (i, node) in nodes.iter().enumerate() {
            let shape = match node {
                Node::Layer(layer) => layer_shape(&shapes, layer, i + 1 == nodes.len())?,
                Node::InverseGdn(gdn) => gdn_shape(&shapes, gdn)?,
            };
            shapes.push(shape);
        }
        let is_picture = matches!(nodes.last(), Some(Node::Layer(l)) if l.spec.epilogue == Epilogue::Pixel);
        match shapes.last() {
            Some(NodeShape { channels: 3, scale: SCALE, .. }) if is_picture => Ok(Self { quantizer, nodes, shapes }),
            other => Err(refuse(
                nodes.len(),
                format!("the last node must be samples of 3 channels at {SCALE} times the size: {other:?}"),
            )),
        }
    }

    /// Reads and verifies the section.
    ///
    /// # Errors
    /// [`ModelError::Truncated`], [`ModelError::Oversized`], and those of [`Self::new`].
    pub fn read(bytes: &[u8], latent: usize) -> Result<Self, ModelError> {
        let mut r = Reader::new("exact g_s", bytes);
        read_start(&mut r, MAGIC)?;
        let quantizer = Quantizer::read(&mut r)?;
        let count = read_node_count(&mut r)?;
        let mut channels = vec![latent];
        let mut nodes = Vec::new();
        for _ in 0..count {
            let node = read_node(&mut r, &channels)?;
            channels.push(match &node {
                Node::Layer(layer) if layer.shuffle => layer.spec.outputs / 4,
                Node::Layer(layer) => layer.spec.outputs,
                Node::InverseGdn(gdn) => gdn.channels(),
            });
            nodes.push(node);
        }
        r.finish()?;
        Self::new(latent, quantizer, nodes)
    }

    /// The bytes of the section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut w = Writer(MAGIC.to_vec());
        w.u32s([VERSION]);
        self.quantizer.write(&mut w);
        w.u32s([self.nodes.len() as u32]);
        self.nodes.iter().for_each(|node| write_node(&mut w, node));
        w.0
    }

    /// The quantizer of `y_hat`.
    #[must_use]
    pub const fn quantizer(&self) -> Quantizer {
        self.quantizer
    }

    /// The nodes; the first is number 1.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Shapes of all nodes, that of the quantizer first.
    #[must_use]
    pub fn shapes(&self) -> &[NodeShape] {
        &self.shapes
    }

    /// Numbers that were trained: weights, biases, gammas and betas.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        let count = |node: &Node| match node {
            Node::Layer(layer) => layer.parameter_count(),
            Node::InverseGdn(gdn) => gdn.parameter_count(),
        };
        self.nodes.iter().map(count).sum()
    }

    /// The layers that have weights.
    pub fn weighted_layers(&self) -> impl Iterator<Item = &Layer> {
        let layers = self.nodes.iter().filter_map(|node| if let Node::Layer(layer) = node { Some(layer) } else { None });
        layers.filter(|layer| layer.has_weights())
    }

    /// Multiply-adds for one position of y.
    #[must_use]
    pub fn macs_per_position(&self) -> u64 {
        let positions = |scale: usize| (scale * scale) as u64;
        let macs = |(node, shape): (&Node, &NodeShape)| match node {
            Node::Layer(l) => l.spec.weight_count() * positions(shape.scale / if l.shuffle { 2 } else { 1 }),
            Node::InverseGdn(g) => (g.gamma.len() as u64) * positions(shape.scale),
        };
        self.nodes.iter().zip(self.shapes.iter().skip(1)).map(macs).sum()
    }
}

fn read_node(r: &mut Reader<'_>, channels: &[usize]) -> Result<Node, ModelError> {
    let here = channels.len();
    match r.u8()? {
        LAYER => {
            let (layer, resize) = read_layer(r, channels, &FORM)?;
            Ok(Node::Layer(Layer { shuffle: resize == 1, ..layer }))
        }
        INVERSE_GDN => read_gdn(r, channels).map(Node::InverseGdn),
        other => Err(refuse(here, format!("opcode {other}, must be {LAYER} or {INVERSE_GDN}"))),
    }
}

/// The first bytes of a section of nodes, and its version.
pub(crate) fn read_start(r: &mut Reader<'_>, magic: [u8; 4]) -> Result<(), ModelError> {
    if r.take(magic.len())? != magic {
        return Err(refuse(0, format!("the section does not begin with {}", magic.escape_ascii())));
    }
    let version = r.u32()?;
    if version == VERSION { Ok(()) } else { Err(refuse(0, format!("version {version}, this program reads {VERSION}"))) }
}

/// How many nodes follow.
pub(crate) fn read_node_count(r: &mut Reader<'_>) -> Result<u32, ModelError> {
    let count = r.u32()?;
    let limit = MAX_NODES - 1;
    if (1..=limit).contains(&count) { Ok(count) } else { Err(refuse(0, format!("{count} nodes, must be 1 to {limit}"))) }
}

/// An earlier node and its channels.
fn operand(r: &mut Reader<'_>, channels: &[usize]) -> Result<(NodeIndex, usize), ModelError> {
    let at = r.u32()? as usize;
    let earlier = channels.get(at).map(|n| (NodeIndex(at), *n));
    earlier.ok_or_else(|| refuse(channels.len(), format!("reads node {at}, which is not before it")))
}

pub(crate) fn read_gdn(r: &mut Reader<'_>, channels: &[usize]) -> Result<Gdn, ModelError> {
    let (input, n) = operand(r, channels)?;
    let (max, shift, output_shift) = (r.i32()?, u32::from(r.u8()?), u32::from(r.u8()?));
    let gamma = r.i16s(n * n)?;
    let (beta, multipliers) = (r.i64s(n)?, r.i32s(n)?);
    Ok(Gdn { input, max, gamma, beta, shift, multipliers, output_shift })
}

/// A layer without a shuffle, and how it changes the size.
pub(crate) fn read_layer(r: &mut Reader<'_>, channels: &[usize], form: &Form) -> Result<(Layer, u8), ModelError> {
    let here = channels.len();
    let [size, epilogue, resize, width, terms] = [r.u8()?, r.u8()?, r.u8()?, r.u8()?, r.u8()?];
    let epilogue = match epilogue {
        0 => Epilogue::Linear,
        1 => Epilogue::Gelu,
        2 => form.last,
        other => return Err(refuse(here, format!("epilogue {other}, must be 0 to 2"))),
    };
    let known = matches!(size, 1 | 3 | 5) && form.resizes.contains(&resize);
    if !known || !matches!(width, 1 | 2) || !(1..=MAX_TERMS).contains(&terms) {
        let problem = format!("kernel {size}, change of size {resize}, {width} bytes per weight, {terms} terms: out of range");
        return Err(refuse(here, problem));
    }
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
    let spec = LayerSpec { name: format!("{}.{here}", form.name), terms, kernel, outputs: outputs as usize, epilogue };
    let (max, level) = (r.i32()?, LayerLevel::read(r, &spec)?);
    let weights = many(spec.terms.len(), |term| {
        let len = spec.weights_per_output(term).saturating_mul(spec.outputs);
        Ok(match width {
            1 => OwnedWeights::Bytes(memory::copy(bytemuck::cast_slice(r.take(len)?))?),
            _ => OwnedWeights::Words(r.i16s(len)?),
        })
    })?;
    Ok((Layer { spec, max, level, weights, shuffle: false }, resize))
}

fn write_node(w: &mut Writer, node: &Node) {
    match node {
        Node::Layer(layer) => write_layer(w, layer, layer.shuffle.into()),
        Node::InverseGdn(gdn) => write_gdn(w, INVERSE_GDN, gdn),
    }
}

pub(crate) fn write_gdn(w: &mut Writer, opcode: u8, gdn: &Gdn) {
    w.u8s([opcode]);
    w.u32s([gdn.input.0 as u32]);
    w.i32s([gdn.max]);
    w.u8s([gdn.shift as u8, gdn.output_shift as u8]);
    w.i16s(gdn.gamma.iter().copied());
    w.i64s(gdn.beta.iter().copied());
    w.i32s(gdn.multipliers.iter().copied());
}

pub(crate) fn write_layer(w: &mut Writer, layer: &Layer, resize: u8) {
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

/// The input shapes of a node, all of one scale.
fn inputs(shapes: &[NodeShape], at: impl Iterator<Item = NodeIndex>) -> Result<Vec<NodeShape>, ModelError> {
    let here = shapes.len();
    let found: Option<Vec<NodeShape>> = at.map(|i| shapes.get(i.0).copied()).collect();
    let found = found.ok_or_else(|| refuse(here, "reads a node that is not before it"))?;
    match found.first() {
        Some(first) if found.iter().all(|s| s.scale == first.scale) => Ok(found),
        _ => Err(refuse(here, "inputs of different sizes")),
    }
}

fn layer_shape(shapes: &[NodeShape], layer: &Layer, last: bool) -> Result<NodeShape, ModelError> {
    let (here, outputs) = (shapes.len(), layer.spec.outputs);
    let read = read_by(shapes, layer)?;
    let scale = read.first().map_or(1, |s| s.scale) * if layer.shuffle { 2 } else { 1 };
    if scale > SCALE || (layer.shuffle && outputs % 4 != 0) {
        return Err(refuse(here, format!("scale {scale} from {outputs} outputs is out of range")));
    }
    check_layer(here, &read, layer)?;
    match layer.spec.epilogue {
        Epilogue::Linear | Epilogue::Gelu => {}
        Epilogue::Pixel if last && layer.max == 255 => {}
        _ => return Err(refuse(here, "samples are of the last node alone, with a largest value of 255")),
    }
    let channels = if layer.shuffle { outputs / 4 } else { outputs };
    Ok(NodeShape { channels, scale, max: layer.max })
}

/// Shapes of the nodes that a layer reads, all of one scale.
pub(crate) fn read_by(shapes: &[NodeShape], layer: &Layer) -> Result<Vec<NodeShape>, ModelError> {
    let sources = layer.spec.terms.iter();
    inputs(shapes, sources.map(|t| if let Source::Node(at) = t.source { at } else { NodeIndex(usize::MAX) }))
}

/// Everything about node `here` that does not depend on what transform it is part of; it reads nodes of these shapes.
pub(crate) fn check_layer(here: usize, found: &[NodeShape], layer: &Layer) -> Result<(), ModelError> {
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

fn gdn_shape(shapes: &[NodeShape], gdn: &Gdn) -> Result<NodeShape, ModelError> {
    let (read, operator) = check_gdn(shapes, gdn, FORM.name)?;
    let root = mlic_core::fixed::isqrt(MAX_NORM as u64);
    for multiplier in &gdn.multipliers {
        let requant = Requant { multiplier: *multiplier, shift: gdn.output_shift };
        proof::requantized(&operator, "product with the root", i128::from(read.max) * i128::from(root), requant)?;
    }
    Ok(NodeShape { max: gdn.max, ..read })
}

/// Everything up to the norms; the shape of what is read, and a name for reports.
pub(crate) fn check_gdn(shapes: &[NodeShape], gdn: &Gdn, name: &str) -> Result<(NodeShape, String), ModelError> {
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
    let operator = format!("{name}.{here}");
    let sums = gdn.gamma.chunks_exact(channels.max(1)).map(|row| row.iter().map(|g| i64::from(*g)).sum::<i64>());
    let worst = sums.max().unwrap_or(0);
    let claim = |operation| proof::Claim { operator: &operator, operation };
    claim("sum of gammas").at_most(worst.into(), MAX_GAMMA_SUM.into())?;
    let beta = gdn.beta.iter().copied().max().unwrap_or(0);
    let sum = i128::from(worst) * i128::from(max) * i128::from(max) + i128::from(beta) + proof::half(gdn.shift);
    claim("64-bit sum of squares").at_most(sum, i64::MAX.into())?;
    Ok((read, operator))
}
