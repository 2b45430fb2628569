//! Memory that the integer transforms hold while they are computed strip by strip: of every node, the rows that its readers still need.

use mlic_core::schedule::LatentSize;
use mlic_kernels::fast::Plan;
use mlic_model::layout::NodeIndex;
use mlic_model::nodes::{NodeShape, Nodes, Reach};

use crate::memory::{ACTIVATION, LATENT, product};

/// Most bytes of the inputs of a band of more than one row. A band is the rows that one thread computes at a time.
const BAND: u64 = 512 << 10;
/// Copies of a band that a thread holds: each of four terms staged for products, the result, and the result in another order.
const COPIES: u64 = 6;
/// Most channels of a group; channels are staged in groups.
const GROUP: u64 = 64;

/// The windows of an integer transform: for each of its nodes, the rows that are held.
#[derive(Debug, Clone)]
pub struct Windows {
    shapes: Vec<NodeShape>,
    /// Rows of each node that are held besides those of the strip.
    around: Vec<usize>,
    /// Largest side of the kernels that read each node.
    sides: Vec<usize>,
    /// Plan of the transform for maps of scale 1 with these rows and columns, on so many threads.
    plan: fn([usize; 2], usize) -> Plan,
}

impl Windows {
    /// Windows of an integer synthesis.
    #[must_use]
    pub fn of_synthesis(own: &Nodes) -> Self {
        Self::new(own, Plan::of_synthesis)
    }

    /// Windows of an integer analysis or hyper analysis.
    #[must_use]
    pub fn of_analysis(own: &Nodes) -> Self {
        Self::new(own, Plan::of_analysis)
    }

    fn new(own: &Nodes, plan: fn([usize; 2], usize) -> Plan) -> Self {
        let (shapes, nodes) = (own.shapes(), own.nodes());
        let (mut ahead, mut behind) = (vec![0_usize; shapes.len()], vec![0_usize; shapes.len()]);
        for (i, node) in nodes.iter().enumerate().rev() {
            let Reach { halo, up, stride } = node.reach();
            let own = ahead.get(i + 1).map_or(0, |rows| rows.div_ceil(up) * stride);
            for NodeIndex(input) in node.inputs() {
                if let (Some(ahead), Some(behind)) = (ahead.get_mut(input), behind.get_mut(input)) {
                    *ahead = (*ahead).max(own + halo);
                    *behind = (*behind).max(halo);
                }
            }
        }
        // A shuffled row comes with its neighbour.
        let around = ahead.iter().zip(&behind).map(|(ahead, behind)| ahead + behind + 2).collect();
        let sides = behind.iter().map(|halo| 2 * halo + 1).collect();
        Self { shapes: shapes.to_vec(), around, sides, plan }
    }

    /// An upper bound on the bytes that the fast kernels hold at a time, besides input and result, if a map of scale 1 has these rows
    /// and columns. It saturates.
    #[must_use]
    pub fn bytes(&self, [height, width]: [usize; 2], threads: usize) -> u64 {
        let plan = (self.plan)([height, width], threads);
        let strip = plan.strip_rows.min(height);
        let row = |shape: &NodeShape| (width * shape.scale) as u64 * shape.channels as u64 * ACTIVATION;
        let windows = self.shapes.iter().zip(&self.around).map(|(shape, around)| {
            let rows = (strip * shape.scale + around).min(height * shape.scale + 1);
            row(shape).saturating_mul(rows as u64)
        });
        // Windows of each part. One of them at a time is moved to a larger buffer.
        let (sum, largest) = windows.fold((0_u64, 0), |(sum, most), bytes| (sum.saturating_add(bytes), bytes.max(most)));
        let band = self.shapes.iter().zip(&self.sides).map(|(shape, side)| {
            let padded = (width * shape.scale + side) as u64 * (shape.channels as u64).next_multiple_of(GROUP) * ACTIVATION;
            let rows = strip * shape.scale + side;
            padded.saturating_mul(*side as u64).max(BAND).saturating_mul(threads.min(rows) as u64)
        });
        let band = band.max().unwrap_or(0).saturating_mul(COPIES);
        sum.saturating_add(largest).saturating_mul(height.div_ceil(plan.part_rows) as u64).saturating_add(band)
    }

    fn ends(&self) -> [u64; 2] {
        [self.shapes.first(), self.shapes.last()].map(|shape| shape.map_or(0, |s| s.channels as u64 * LATENT))
    }
}

/// An upper bound on the bytes that the integer synthesis holds at a time on the fast kernels, including the picture, and `y_hat` with and without
/// its gain.
#[must_use]
pub fn exact_synthesis_bytes(own: &Windows, size: LatentSize, threads: usize) -> u64 {
    let [latent, _] = own.ends();
    let latents = product(size.y).saturating_mul(2 * latent);
    latents.saturating_add(product(size.padded).saturating_mul(3)).saturating_add(own.bytes(size.y, threads))
}

/// An upper bound on the bytes that the integer analysis and hyper analysis hold at a time on the fast kernels, including y and z with and without
/// their gains. The picture belongs to the caller and is not included.
#[must_use]
pub fn exact_analysis_bytes([g_a, h_a]: &[Windows; 2], size: LatentSize, threads: usize) -> u64 {
    let [latent, hyper] = h_a.ends();
    let (y, z) = (product(size.y).saturating_mul(2 * latent), product(size.z).saturating_mul(2 * hyper));
    y.saturating_add(g_a.bytes(size.y, threads).max(h_a.bytes(size.z, threads).saturating_add(z)))
}
