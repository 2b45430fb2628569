//! The integer synthesis: `g_s` from `y_hat` to the samples of the picture in the arithmetic of the entropy path, so that the picture too is
//! the same everywhere (SPEC 2.9, 5.7).
//!
//! It is a list of [nodes](crate::nodes): node 0 is `y_hat` after its inverse gain, quantized; the last node is the picture. There are no levels of
//! activation scales: after the inverse gain the range of y hardly depends on quality.

use std::ops::Deref;

use crate::error::ModelError;
use crate::nodes::{Form, Layer, Node, NodeShape, Nodes, Quantizer};
use crate::wire::Reader;

/// Rows of the picture per row of y, columns per column.
pub const SCALE: usize = 16;

/// The integer synthesis of a model, verified as a whole. The `scale` of a node counts rows per row of y.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthesis {
    quantizer: Quantizer,
    nodes: Nodes,
}

impl Deref for Synthesis {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

impl Synthesis {
    /// Verifies `nodes` (the first is number 1) for y with `latent` channels.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] or [`ModelError::Overflow`].
    pub fn new(latent: usize, quantizer: Quantizer, nodes: Vec<Node>) -> Result<Self, ModelError> {
        quantizer.check("quantizer of the integer synthesis")?;
        let y = NodeShape { channels: latent, scale: 1, max: quantizer.max };
        Ok(Self { quantizer, nodes: Form::Synthesis.verified(y, nodes, 3)? })
    }

    /// Reads and verifies the section.
    ///
    /// # Errors
    /// [`ModelError::Truncated`], [`ModelError::Oversized`], and those of [`Self::new`].
    pub fn read(bytes: &[u8], latent: usize) -> Result<Self, ModelError> {
        let mut r = Reader::new("exact g_s", bytes);
        Form::Synthesis.read_start(&mut r)?;
        let quantizer = Quantizer::read(&mut r)?;
        let nodes = Form::Synthesis.read_nodes(&mut r, latent)?;
        r.finish()?;
        Self::new(latent, quantizer, nodes)
    }

    /// The bytes of the section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut w = Form::Synthesis.write_start();
        self.quantizer.write(&mut w);
        Form::Synthesis.write_nodes(&mut w, self.nodes());
        w.0
    }

    /// The quantizer of `y_hat`.
    #[must_use]
    pub const fn quantizer(&self) -> Quantizer {
        self.quantizer
    }

    /// The layers that have weights.
    pub fn weighted_layers(&self) -> impl Iterator<Item = &Layer> {
        let layers = self.nodes().iter().filter_map(|node| if let Node::Layer(layer) = node { Some(layer) } else { None });
        layers.filter(|layer| layer.has_weights())
    }

    /// Multiply-adds for one position of y.
    #[must_use]
    pub fn macs_per_position(&self) -> u64 {
        let macs = |(node, shape): (&Node, &NodeShape)| node.macs_per_position() * (shape.scale / node.reach().up).pow(2) as u64;
        self.nodes().iter().zip(self.shapes().iter().skip(1)).map(macs).sum()
    }
}
