//! The integer analysis strip by strip (SPEC 5.8).

use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::{self, LATENT_SCALE, SAMPLES_SCALE};
use mlic_model::nodes;
use mlic_model::parameters::Requant;
use rayon::prelude::*;

use super::nodes::{Nodes, PackedLayer};
use super::plan::Plan;
use super::tables::Tables;
use super::walk::{Fill, Window};
use crate::cpu::Isa;
use crate::map::{Map, Picture};

/// An integer `g_a` with its weights packed for one instruction set.
#[derive(Debug, Clone)]
pub struct Analysis {
    latents: Latents,
}

/// An integer `h_a` with its weights packed for one instruction set.
#[derive(Debug, Clone)]
pub struct HyperAnalysis {
    requant: Requant,
    latents: Latents,
}

/// Nodes of a transform whose last node is in latent fixed point.
#[derive(Debug, Clone)]
struct Latents {
    before: Nodes,
    last: PackedLayer,
}

impl Latents {
    fn new(isa: Isa, own: &nodes::Nodes) -> Result<Self, OutOfMemory> {
        let (last, before) = own.split_last();
        Ok(Self { before: Nodes::new(isa, own, before)?, last: PackedLayer::new(isa, last, own.shapes())? })
    }

    /// Computes latents of this size.
    fn run(&self, tables: &Tables, size: [usize; 2], plan: Plan, fill: &Fill<'_>) -> Result<Map<i32>, OutOfMemory> {
        let last = self.before.nodes.len() + 1;
        self.before.run(tables, size, plan, fill, &|walk, windows, rows, out| {
            windows[last].pass(rows.end);
            self.last.latents(&walk.inputs(last, windows), rows, walk.threads, out)
        })
    }
}

impl Analysis {
    /// Packs the weights.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, own: &analysis::Analysis) -> Result<Self, OutOfMemory> {
        Ok(Self { latents: Latents::new(isa, own)? })
    }

    /// [`crate::reference::analysis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run(&self, tables: &Tables, picture: &Picture<'_>) -> Result<Map<i32>, OutOfMemory> {
        let size = picture.padded().map(|side| side / SAMPLES_SCALE);
        self.run_by(tables, picture, Plan::of_analysis(size, rayon::current_num_threads()))
    }

    /// [`Self::run`] with the given plan, on which the result does not depend.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run_by(&self, tables: &Tables, picture: &Picture<'_>, plan: Plan) -> Result<Map<i32>, OutOfMemory> {
        let padded = picture.padded();
        let row_len = 3 * padded[1];
        self.latents.run(tables, padded.map(|side| side / SAMPLES_SCALE), plan, &|end, window: &mut Window| {
            let first = window.end();
            let rows = window.append(end, row_len)?.par_chunks_exact_mut(row_len);
            rows.enumerate().for_each(|(i, row)| picture.padded_row(first + i, row));
            Ok(())
        })
    }
}

impl HyperAnalysis {
    /// Packs the weights.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, own: &analysis::HyperAnalysis) -> Result<Self, OutOfMemory> {
        Ok(Self { requant: own.quantizer().requant, latents: Latents::new(isa, own)? })
    }

    /// [`crate::reference::hyper_analysis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run(&self, tables: &Tables, y: &Map<i32>) -> Result<Map<i32>, OutOfMemory> {
        let size = [y.height, y.width].map(|side| side / LATENT_SCALE);
        self.run_by(tables, y, Plan::of_analysis(size, rayon::current_num_threads()))
    }

    /// [`Self::run`] with the given plan, in rows of z, on which the result does not depend.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run_by(&self, tables: &Tables, y: &Map<i32>, plan: Plan) -> Result<Map<i32>, OutOfMemory> {
        let size = [y.height, y.width].map(|side| side / LATENT_SCALE);
        self.latents.run(tables, size, plan, &self.latents.before.quantizing(y, self.requant))
    }
}
