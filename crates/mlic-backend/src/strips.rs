//! Strips in which a float transform is computed: rows of a picture, with as many rows around them as their output depends on, so that memory grows
//! with the width of a picture and not with its height.

use std::ops::Range;

use mlic_model::graph::Graph;

/// Positions in a strip, about, of the larger of input and output.
const POSITIONS: usize = 1 << 20;
/// Least rows in a strip, of the larger of input and output: the rows around a strip, some 60 on either side, are computed again.
const MIN_ROWS: usize = 256;

/// How the input of a transform is cut into strips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strips {
    up: usize,
    down: usize,
    /// Strips of the input begin at a multiple of this.
    stride: usize,
    /// Rows of the input before and after `stride` of them that their output depends on; multiples of `stride`.
    halo: [usize; 2],
}

/// Rows of the input that make up a strip, alone and with those around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    /// The strip.
    pub own: Range<usize>,
    /// The strip and the rows around it that its output depends on.
    pub with_halo: Range<usize>,
}

impl Strips {
    /// How the input of this transform is cut.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let (up, down, stride) = (graph.scale().numerator as usize, graph.scale().denominator as usize, graph.stride() as usize);
        // Far from any edge: the rows around the output of the input's rows 0 to `stride`.
        let reads = graph.reads(0..(stride * up / down) as i64);
        let halo = [-reads.start, reads.end - stride as i64].map(|n| (n.max(0) as usize).next_multiple_of(stride));
        Self { up, down, stride, halo }
    }

    /// Rows of the output for so many rows of the input, and likewise columns.
    #[must_use]
    pub const fn side(&self, input: usize) -> usize {
        (input * self.up).div_ceil(self.down)
    }

    /// Rows of the input in a strip, a multiple of the stride.
    #[must_use]
    pub fn rows(&self, width: usize) -> usize {
        let rows = (POSITIONS / width.max(self.side(width)).max(1)).max(MIN_ROWS);
        (rows * self.down / self.up.max(self.down)).next_multiple_of(self.stride)
    }

    /// Whether an input can be cut into strips of `rows` rows: `rows` and both sides are multiples of the stride, and the input has more rows than that.
    #[must_use]
    pub fn can_cut(&self, height: usize, width: usize, rows: usize) -> bool {
        rows > 0 && rows < height && [height, width, rows].iter().all(|n| n % self.stride == 0)
    }

    /// Cuts an input into strips of `rows` rows each; the last may have fewer.
    pub fn cut(&self, height: usize, rows: usize) -> impl Iterator<Item = Strip> {
        let [before, after] = self.halo;
        (0..height).step_by(rows.max(1)).map(move |start| {
            let own = start..(start + rows).min(height);
            let with_halo = own.start.saturating_sub(before)..(own.end + after).min(height);
            Strip { own, with_halo }
        })
    }
}
