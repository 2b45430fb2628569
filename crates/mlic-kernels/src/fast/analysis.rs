//! The integer analysis strip by strip (SPEC 5.8), as the synthesis is computed: memory grows with the width of the picture, not with its height.

use mlic_core::memory::OutOfMemory;
use mlic_model::analysis::{self, SAMPLES_SCALE};
use mlic_model::parameters::Requant;
use rayon::prelude::*;

use super::quantize::quantize_into;
use super::synthesis::{Fill, Nodes, Plan, Walk, Window};
use super::tables::Tables;
use crate::cpu::Isa;
use crate::map::{Map, Picture};

/// An integer `g_a` or `h_a` with its weights packed for one instruction set.
#[derive(Debug, Clone)]
pub struct Analysis {
    isa: Isa,
    /// Of `h_a`.
    requant: Option<Requant>,
    nodes: Nodes,
}

impl Analysis {
    /// Packs the weights.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, own: &analysis::Analysis) -> Result<Self, OutOfMemory> {
        let requant = own.quantizer().map(|quantizer| quantizer.requant);
        Ok(Self { isa, requant, nodes: Nodes::new(isa, own.shapes(), own.nodes())? })
    }

    /// [`crate::reference::analysis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn analyze(&self, tables: &Tables, picture: &Picture<'_>, padded: [usize; 2]) -> Result<Map<i32>, OutOfMemory> {
        let plan = Plan::of_analysis(padded.map(|side| side / SAMPLES_SCALE), rayon::current_num_threads());
        self.analyze_by(tables, picture, padded, plan)
    }

    /// The same by a plan: no result depends on it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn analyze_by(
        &self,
        tables: &Tables,
        picture: &Picture<'_>,
        padded: [usize; 2],
        plan: Plan,
    ) -> Result<Map<i32>, OutOfMemory> {
        let row_len = 3 * padded[1];
        self.run(tables, padded, plan, &|end, window: &mut Window| {
            let first = window.end();
            let rows = window.append(end, row_len)?;
            rows.par_chunks_exact_mut(row_len).enumerate().for_each(|(i, to)| picture.padded_row(first + i, to));
            Ok(())
        })
    }

    /// [`crate::reference::hyper_analysis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn hyper_analyze(&self, tables: &Tables, y: &Map<i32>) -> Result<Map<i32>, OutOfMemory> {
        let plan = Plan::of_analysis([y.height, y.width].map(|side| side / analysis::LATENT_SCALE), rayon::current_num_threads());
        self.hyper_analyze_by(tables, y, plan)
    }

    /// The same by a plan, of rows of z: no result depends on it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn hyper_analyze_by(&self, tables: &Tables, y: &Map<i32>, plan: Plan) -> Result<Map<i32>, OutOfMemory> {
        let Some(requant) = self.requant else { unreachable!("h_a has a quantizer") };
        let row_len = y.width * y.channels;
        self.run(tables, [y.height, y.width], plan, &|end, window: &mut Window| {
            let part = &y.data[window.end() * row_len..end * row_len];
            let rows = window.append(end, row_len)?;
            quantize_into(self.isa, part, requant, self.nodes.shapes[0].max, rows);
            Ok(())
        })
    }

    /// `input` are the rows and columns of node 0.
    fn run(&self, tables: &Tables, input: [usize; 2], plan: Plan, fill: &Fill<'_>) -> Result<Map<i32>, OutOfMemory> {
        let Nodes { shapes, nodes, .. } = &self.nodes;
        let (first, last, node) = (shapes[0], shapes[nodes.len()], &nodes[nodes.len() - 1]);
        let size @ [height, width] = input.map(|side| side / first.scale);
        let mut out = Map::zeros(height, width, last.channels)?;
        let row_len = (width * last.channels).max(1);
        let (part_rows, strip_rows) = (plan.rows_of(height), plan.strip_rows.max(1));
        let walk = Walk { nodes: &self.nodes, tables, size, threads: plan.threads };
        out.data.par_chunks_mut(part_rows * row_len).enumerate().try_for_each(|(part, out)| {
            let mut first = part * part_rows;
            let mut windows = self.nodes.windows(first);
            for out in out.chunks_mut(strip_rows * row_len) {
                let rows = first..first + out.len() / row_len;
                first = rows.end;
                walk.strip(rows.end, &mut windows, fill, &mut |_, _| ())?;
                node.latents(&walk.inputs(nodes.len(), &windows), rows, plan.threads, out)?;
                walk.forget(&mut windows);
            }
            Ok(())
        })?;
        Ok(out)
    }
}
