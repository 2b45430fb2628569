//! The integer analysis: `g_a` from samples of the picture to y, and `h_a` from y after its gain to z, in the arithmetic of the integer synthesis,
//! so that a stream too is the same whichever machine encodes (SPEC 2.10, 5.8). Only encoders read it.
//!
//! A list of nodes as in [`crate::synthesis`]; layers may take every second row and column, normalizations divide. Node 0 is the padded picture, or
//! y quantized; the last node is in latent fixed point. There are no levels.

use crate::error::ModelError;
use crate::layout::{Epilogue, NodeIndex};
use crate::proof;
use crate::synthesis::{self, Form, Gdn, LAYER, Layer, NodeShape, Quantizer, VERSION, refuse};
use crate::wire::{Reader, Writer};

/// First bytes of a section.
pub(crate) const MAGIC: [u8; 4] = *b"MLIA";
const GDN: u8 = 3;
const FORM: Form = Form { name: "exact_analysis", last: Epilogue::Latent, resizes: 1..=2 };
/// Rows of the padded picture per row of y.
pub const SAMPLES_SCALE: usize = 16;
/// Rows of y per row of z.
pub const LATENT_SCALE: usize = 4;
/// The reciprocal of a root r is this, divided by r (SPEC 4.12).
pub const RECIPROCAL: i32 = i32::MAX;

/// Node 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Samples of red, green and blue: of `g_a`.
    Samples,
    /// y after its gain, quantized: of `h_a`.
    Latent(Quantizer),
}

/// A node that computes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A linear layer at every `stride`-th row and column, 1 or 2; without a shuffle.
    Layer {
        /// Its numbers.
        layer: Layer,
        /// 1 or 2.
        stride: usize,
    },
    /// A divisive normalization (SPEC 4.12).
    Gdn(Gdn),
}

impl Node {
    /// The nodes it reads.
    pub fn inputs(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        let (layer, gdn) = match self {
            Self::Layer { layer, .. } => (Some(layer), None),
            Self::Gdn(gdn) => (None, Some(gdn.input)),
        };
        layer.into_iter().flat_map(Layer::inputs).chain(gdn)
    }
}

/// An integer `g_a` or `h_a`, verified as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    input: Input,
    nodes: Vec<Node>,
    shapes: Vec<NodeShape>,
}

impl Analysis {
    /// Verifies these nodes (the first is number 1), which make `channels` into `outputs` channels.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] or [`ModelError::Overflow`].
    pub fn new(input: Input, channels: usize, outputs: usize, nodes: Vec<Node>) -> Result<Self, ModelError> {
        let first = match &input {
            Input::Samples => NodeShape { channels, scale: SAMPLES_SCALE, max: 255 },
            Input::Latent(quantizer) => {
                quantizer.check("quantizer of an integer analysis")?;
                NodeShape { channels, scale: LATENT_SCALE, max: quantizer.max }
            }
        };
        let mut shapes = vec![first];
        for (i, node) in nodes.iter().enumerate() {
            let shape = match node {
                Node::Layer { layer, stride } => layer_shape(&shapes, layer, *stride, i + 1 == nodes.len())?,
                Node::Gdn(gdn) => gdn_shape(&shapes, gdn)?,
            };
            shapes.push(shape);
        }
        let is_latent = matches!(nodes.last(), Some(Node::Layer { layer, .. }) if layer.spec.epilogue == Epilogue::Latent);
        match shapes.last() {
            Some(last) if is_latent && last.scale == 1 && last.channels == outputs => Ok(Self { input, nodes, shapes }),
            other => {
                Err(refuse(nodes.len(), format!("the last node must be latents of {outputs} channels at scale 1: {other:?}")))
            }
        }
    }

    /// Reads and verifies a section: that of `g_a` if `samples`, else that of `h_a`.
    ///
    /// # Errors
    /// [`ModelError::Truncated`], [`ModelError::Oversized`], and those of [`Self::new`].
    pub fn read(bytes: &[u8], samples: bool, channels: usize, outputs: usize) -> Result<Self, ModelError> {
        let mut r = Reader::new(if samples { "exact g_a" } else { "exact h_a" }, bytes);
        synthesis::read_start(&mut r, MAGIC)?;
        let input = match samples {
            true => Input::Samples,
            false => Input::Latent(Quantizer::read(&mut r)?),
        };
        let count = synthesis::read_node_count(&mut r)?;
        let mut known = vec![channels];
        let mut nodes = Vec::new();
        for _ in 0..count {
            let (node, channels) = read_node(&mut r, &known)?;
            known.push(channels);
            nodes.push(node);
        }
        r.finish()?;
        Self::new(input, channels, outputs, nodes)
    }

    /// The bytes of the section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut w = Writer(MAGIC.to_vec());
        w.u32s([VERSION]);
        if let Input::Latent(quantizer) = &self.input {
            quantizer.write(&mut w);
        }
        w.u32s([self.nodes.len() as u32]);
        for node in &self.nodes {
            match node {
                Node::Layer { layer, stride } => synthesis::write_layer(&mut w, layer, *stride as u8),
                Node::Gdn(gdn) => synthesis::write_gdn(&mut w, GDN, gdn),
            }
        }
        w.0
    }

    /// The quantizer of y; none of `g_a`.
    #[must_use]
    pub const fn quantizer(&self) -> Option<Quantizer> {
        match self.input {
            Input::Samples => None,
            Input::Latent(quantizer) => Some(quantizer),
        }
    }

    /// The nodes; the first is number 1.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Shapes of all nodes, that of node 0 first. `scale` counts rows per row of the last node; the largest value of the last means nothing.
    #[must_use]
    pub fn shapes(&self) -> &[NodeShape] {
        &self.shapes
    }

    /// Numbers that were trained: weights, biases, gammas and betas.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        let count = |node: &Node| match node {
            Node::Layer { layer, .. } => layer.parameter_count(),
            Node::Gdn(gdn) => gdn.parameter_count(),
        };
        self.nodes.iter().map(count).sum()
    }
}

/// A node, and its channels.
fn read_node(r: &mut Reader<'_>, known: &[usize]) -> Result<(Node, usize), ModelError> {
    match r.u8()? {
        LAYER => {
            let (layer, stride) = synthesis::read_layer(r, known, &FORM)?;
            let outputs = layer.spec.outputs;
            Ok((Node::Layer { layer, stride: stride.into() }, outputs))
        }
        GDN => {
            let gdn = synthesis::read_gdn(r, known)?;
            let channels = gdn.channels();
            Ok((Node::Gdn(gdn), channels))
        }
        other => Err(refuse(known.len(), format!("opcode {other}, must be {LAYER} or {GDN}"))),
    }
}

fn layer_shape(shapes: &[NodeShape], layer: &Layer, stride: usize, last: bool) -> Result<NodeShape, ModelError> {
    let here = shapes.len();
    let read = synthesis::read_by(shapes, layer)?;
    let scale = read.first().map_or(1, |s| s.scale);
    if !matches!(stride, 1 | 2) || scale < stride || layer.shuffle {
        return Err(refuse(here, format!("stride {stride} at scale {scale} is out of range")));
    }
    synthesis::check_layer(here, &read, layer)?;
    match layer.spec.epilogue {
        Epilogue::Linear | Epilogue::Gelu if !last => {}
        Epilogue::Latent if last => {}
        _ => return Err(refuse(here, "the last node, and no other, is in latent fixed point")),
    }
    Ok(NodeShape { channels: layer.spec.outputs, scale: scale / stride, max: layer.max })
}

fn gdn_shape(shapes: &[NodeShape], gdn: &Gdn) -> Result<NodeShape, ModelError> {
    let (read, operator) = synthesis::check_gdn(shapes, gdn, FORM.name)?;
    if gdn.output_shift > 62 || gdn.multipliers.iter().any(|m| *m < 0) {
        return Err(refuse(shapes.len(), "multiplier or shift of a quotient is out of range"));
    }
    // The reciprocal is of 31 bits too: the product of both has 62.
    let largest = gdn.multipliers.iter().copied().max().unwrap_or(0);
    let claim = proof::Claim { operator: &operator, operation: "32-bit numerator" };
    claim.at_most(i128::from(read.max) * i128::from(largest), i32::MAX.into())?;
    Ok(NodeShape { max: gdn.max, ..read })
}
