//! The integer analysis: `g_a` from samples of the picture to y, and `h_a` from y after its gain to z, in the arithmetic of the integer synthesis,
//! so that a stream too is the same whichever machine encodes (SPEC 2.10, 5.8). Only encoders read it.
//!
//! A list of [nodes](crate::nodes): layers may take every second row and column, normalizations divide. Node 0 is the padded picture, or
//! y quantized; the last node is in latent fixed point. There are no levels.

use crate::error::ModelError;
use crate::layout::Epilogue;
use crate::nodes::{Form, Node, NodeShape, Quantizer, refuse};
use crate::wire::Reader;

/// Rows of the padded picture per row of y.
pub const SAMPLES_SCALE: usize = 16;
/// Rows of y per row of z.
pub const LATENT_SCALE: usize = 4;

/// Node 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Samples of red, green and blue: of `g_a`.
    Samples,
    /// y after its gain, quantized: of `h_a`.
    Latent(Quantizer),
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
        let shapes = Form::Analysis.shapes(first, &nodes)?;
        let is_latent = matches!(nodes.last(), Some(Node::Layer(layer)) if layer.spec.epilogue == Epilogue::Latent);
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
        Form::Analysis.read_start(&mut r)?;
        let input = match samples {
            true => Input::Samples,
            false => Input::Latent(Quantizer::read(&mut r)?),
        };
        let nodes = Form::Analysis.read_nodes(&mut r, channels)?;
        r.finish()?;
        Self::new(input, channels, outputs, nodes)
    }

    /// The bytes of the section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut w = Form::Analysis.write_start();
        if let Input::Latent(quantizer) = &self.input {
            quantizer.write(&mut w);
        }
        Form::Analysis.write_nodes(&mut w, &self.nodes);
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
        self.nodes.iter().map(Node::parameter_count).sum()
    }
}
