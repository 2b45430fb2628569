//! How an integer transform goes through a picture.

use crate::cpu::Isa;

/// Fewest positions of y in a strip, approximately: enough work for all threads of a part.
const STRIP_POSITIONS: usize = 160;
/// The counterpart of [`STRIP_POSITIONS`] for each thread, where a matrix unit does most of the work.
const MATRIX_STRIP_POSITIONS: usize = 48;
/// Fewest rows of y in a part: for each neighbour of a part, about two more rows are computed.
const PART_ROWS: usize = 12;
/// Most positions of y in the strips of all parts together, where there are several parts: each has windows of its own.
const PARTS_POSITIONS: usize = 512;

/// How a transform goes through a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Rows of y of a part. Parts are computed in parallel; each computes by itself the rows that it needs of its neighbours.
    pub part_rows: usize,
    /// Rows of y of a strip. Strips of a part follow one another.
    pub strip_rows: usize,
    /// Threads that compute a part.
    pub threads: usize,
}

impl Plan {
    /// A plan for the synthesis of a picture whose y has these rows and columns: one part per thread where that costs neither too much work nor too
    /// much memory.
    #[must_use]
    pub fn of_synthesis([height, width]: [usize; 2], threads: usize) -> Self {
        let whole = Self::of_analysis([height, width], threads);
        let most = (height / PART_ROWS).min(PARTS_POSITIONS / (whole.strip_rows * width).max(1));
        let parts = threads.min(most).max(1);
        Self { part_rows: height.div_ceil(parts).max(1), threads: threads.div_ceil(parts), ..whole }
    }

    /// A plan for the analysis: a single part, since parts would overlap most where most of the work is. Strips have even numbers of rows, because some
    /// layers are computed in pairs of rows.
    #[must_use]
    pub fn of_analysis([height, width]: [usize; 2], threads: usize) -> Self {
        Self { part_rows: height.max(1), strip_rows: STRIP_POSITIONS.div_ceil(width.max(1)).next_multiple_of(2), threads }
    }

    /// Adapts the plan of a synthesis to an instruction set: with a matrix unit, which takes rows as they come, strips are lower, so that more of them
    /// stays in the caches.
    pub(super) fn on(self, isa: Isa, width: usize) -> Self {
        if isa != Isa::Amx {
            return self;
        }
        let strip_rows = (MATRIX_STRIP_POSITIONS * self.threads).div_ceil(width.max(1));
        Self { strip_rows: strip_rows.min(self.strip_rows), ..self }
    }

    /// Rows of a part, at least one, where all parts together have `height` rows.
    pub(super) fn rows_of(self, height: usize) -> usize {
        self.part_rows.clamp(1, height.max(1))
    }
}
