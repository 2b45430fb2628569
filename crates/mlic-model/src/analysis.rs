//! The integer analysis: `g_a` from samples of the picture to y, and `h_a` from y after its gain to z, in the arithmetic of the integer synthesis,
//! so that a stream too is the same whichever machine encodes (SPEC 2.10, 5.8). Only encoders read it.
//!
//! Both are lists of [nodes](crate::nodes): layers may take every second row and column, normalizations divide. Node 0 is the padded picture
//! in `g_a`, the quantized y in `h_a`; the last node is in latent fixed point. There are no levels of activation scales.

use std::ops::Deref;

use crate::error::ModelError;
use crate::nodes::{Form, Node, NodeShape, Nodes, Quantizer};
use crate::wire::Reader;

/// Rows of the padded picture per row of y.
pub const SAMPLES_SCALE: usize = 16;
/// Rows of y per row of z.
pub const LATENT_SCALE: usize = 4;

/// Both integer analyses of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyses {
    /// From samples to y.
    pub g_a: Analysis,
    /// From y to z.
    pub h_a: HyperAnalysis,
}

/// An integer `g_a`, verified as a whole. The `scale` of a node counts rows per row of y; `max` of the last node means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    nodes: Nodes,
}

/// An integer `h_a`, verified as a whole. The `scale` of a node counts rows per row of z; `max` of the last node means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperAnalysis {
    quantizer: Quantizer,
    nodes: Nodes,
}

impl Deref for Analysis {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

impl Deref for HyperAnalysis {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

impl Analysis {
    /// Verifies `nodes` (the first is number 1), which turn red, green and blue samples into y with `latent` channels.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] or [`ModelError::Overflow`].
    pub fn new(latent: usize, nodes: Vec<Node>) -> Result<Self, ModelError> {
        let samples = NodeShape { channels: 3, scale: SAMPLES_SCALE, max: 255 };
        Ok(Self { nodes: Form::Analysis.verified(samples, nodes, latent)? })
    }

    /// Reads and verifies the section.
    ///
    /// # Errors
    /// [`ModelError::Truncated`], [`ModelError::Oversized`], and those of [`Self::new`].
    pub fn read(bytes: &[u8], latent: usize) -> Result<Self, ModelError> {
        let mut r = Reader::new("exact g_a", bytes);
        Form::Analysis.read_start(&mut r)?;
        let nodes = Form::Analysis.read_nodes(&mut r, 3)?;
        r.finish()?;
        Self::new(latent, nodes)
    }

    /// The bytes of the section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut w = Form::Analysis.write_start();
        Form::Analysis.write_nodes(&mut w, self.nodes());
        w.0
    }
}

impl HyperAnalysis {
    /// Verifies `nodes` (the first is number 1), which turn y with `latent` channels into z with `hyper` channels.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] or [`ModelError::Overflow`].
    pub fn new(quantizer: Quantizer, latent: usize, hyper: usize, nodes: Vec<Node>) -> Result<Self, ModelError> {
        quantizer.check("quantizer of an integer analysis")?;
        let y = NodeShape { channels: latent, scale: LATENT_SCALE, max: quantizer.max };
        Ok(Self { quantizer, nodes: Form::Analysis.verified(y, nodes, hyper)? })
    }

    /// Reads and verifies the section.
    ///
    /// # Errors
    /// [`ModelError::Truncated`], [`ModelError::Oversized`], and those of [`Self::new`].
    pub fn read(bytes: &[u8], latent: usize, hyper: usize) -> Result<Self, ModelError> {
        let mut r = Reader::new("exact h_a", bytes);
        Form::Analysis.read_start(&mut r)?;
        let quantizer = Quantizer::read(&mut r)?;
        let nodes = Form::Analysis.read_nodes(&mut r, latent)?;
        r.finish()?;
        Self::new(quantizer, latent, hyper, nodes)
    }

    /// The bytes of the section.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut w = Form::Analysis.write_start();
        self.quantizer.write(&mut w);
        Form::Analysis.write_nodes(&mut w, self.nodes());
        w.0
    }

    /// The quantizer of y.
    #[must_use]
    pub const fn quantizer(&self) -> Quantizer {
        self.quantizer
    }
}
