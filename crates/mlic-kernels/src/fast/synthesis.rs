//! The integer synthesis strip by strip (SPEC 5.7).

use mlic_core::memory::{self, OutOfMemory};
use mlic_model::parameters::Requant;
use mlic_model::synthesis::{self, SCALE};

use super::nodes::Nodes;
use super::plan::Plan;
use super::tables::Tables;
use super::walk::Walk;
use crate::cpu::Isa;
use crate::map::Map;

/// The integer synthesis of a model with its weights packed for one instruction set.
#[derive(Debug, Clone)]
pub struct Synthesis {
    requant: Requant,
    nodes: Nodes,
}

impl Synthesis {
    /// Packs the weights.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(isa: Isa, own: &synthesis::Synthesis) -> Result<Self, OutOfMemory> {
        Ok(Self { requant: own.quantizer().requant, nodes: Nodes::new(isa, own, own.nodes())? })
    }

    /// [`crate::reference::synthesis`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run(&self, tables: &Tables, latent: &Map<i32>) -> Result<Map<u8>, OutOfMemory> {
        let plan = Plan::of_synthesis([latent.height, latent.width], rayon::current_num_threads());
        self.run_by(tables, latent, plan.on(self.nodes.isa, latent.width))
    }

    /// [`Self::run`] with the given plan, on which the result does not depend.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn run_by(&self, tables: &Tables, latent: &Map<i32>, plan: Plan) -> Result<Map<u8>, OutOfMemory> {
        let (size, last) = ([latent.height, latent.width], self.nodes.nodes.len());
        let fill = self.nodes.quantizing(latent, self.requant);
        self.nodes.run(tables, size, plan, &fill, &|walk, windows, rows, samples| {
            let own = windows[last].since(rows.start, walk.row_len(last));
            samples.iter_mut().zip(own).for_each(|(to, v)| *to = *v as u8);
            Ok(())
        })
    }

    /// The output of one node (0 is the quantizer), to find where two implementations diverge. `None` if there is no such node, or if the
    /// last node does not need it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn node(&self, tables: &Tables, latent: &Map<i32>, node: usize) -> Result<Option<Map<i16>>, OutOfMemory> {
        let Some(shape) = self.nodes.flow.shapes().get(node) else { return Ok(None) };
        let size = [latent.height, latent.width];
        let [height, width] = size.map(|side| shape.scale * side);
        let mut data = Vec::new();
        memory::reserve(&mut data, height * width * shape.channels)?;
        let (fill, strip_rows) = (self.nodes.quantizing(latent, self.requant), Plan::of_synthesis(size, 1).strip_rows);
        let walk = Walk { nodes: &self.nodes, tables, size, threads: 1 };
        let (mut windows, mut seen) = (walk.windows(0), 0);
        for first in (0..latent.height).step_by(strip_rows) {
            walk.strip(SCALE * latent.height.min(first + strip_rows), &mut windows, &fill)?;
            data.extend_from_slice(windows[node].since(seen, walk.row_len(node)));
            seen = windows[node].end();
            walk.forget(&mut windows);
        }
        Ok(Map::from_vec(height, width, shape.channels, data))
    }
}
