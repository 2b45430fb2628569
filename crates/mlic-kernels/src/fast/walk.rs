//! Computes nodes strip by strip: every node keeps the rows that are still to be read, and computes each row once. Memory grows with the width of the
//! picture and the height of a strip, not with the height of the picture.

use std::ops::Range;

use mlic_core::memory::OutOfMemory;
use mlic_model::layout::NodeIndex;

use super::aligned::Aligned;
use super::nodes::Nodes;
use super::tables::Tables;
use crate::map::Rows;

/// The rows of a node that are at hand.
pub(super) struct Window {
    rows: Range<usize>,
    /// The elements of the rows, followed by spare room.
    data: Aligned<i16>,
}

impl Window {
    /// Forgets the rows before `first`.
    fn forget(&mut self, first: usize, row_len: usize) {
        let first = first.clamp(self.rows.start, self.rows.end);
        self.data.copy_within((first - self.rows.start) * row_len..self.rows.len() * row_len, 0);
        self.rows.start = first;
    }

    /// The first row that is not at hand yet.
    pub(super) const fn end(&self) -> usize {
        self.rows.end
    }

    /// Elements of the rows from `first` on.
    pub(super) fn since(&self, first: usize, row_len: usize) -> &[i16] {
        &self.data[(first - self.rows.start) * row_len..self.rows.len() * row_len]
    }

    /// Appends the rows before `end` that are not at hand yet, and returns their elements, all of which the caller must write.
    pub(super) fn append(&mut self, end: usize, row_len: usize) -> Result<&mut [i16], OutOfMemory> {
        let start = self.rows.len() * row_len;
        let len = (end - self.rows.start) * row_len;
        if self.data.len() < len {
            // Zeros are pages of the system that nothing has touched yet: the threads that write them fault them in, not this one. There is
            // room for two more rows, because later strips keep rows before their own and the first strip does not.
            let mut longer = Aligned::zeros(len + 2 * row_len)?;
            longer[..start].copy_from_slice(&self.data[..start]);
            self.data = longer;
        }
        self.rows.end = end;
        Ok(&mut self.data[start..len])
    }

    /// Marks the rows before `end` as computed, but not kept here.
    pub(super) fn pass(&mut self, end: usize) {
        self.rows = end..end;
    }
}

/// Appends the rows of node 0 before the given one.
pub(super) type Fill<'f> = dyn Fn(usize, &mut Window) -> Result<(), OutOfMemory> + Sync + 'f;

/// What computing nodes takes besides their windows; the parts of a picture share it.
pub(super) struct Walk<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) tables: &'a Tables,
    /// Rows and columns of a map of scale 1.
    pub(super) size: [usize; 2],
    /// Threads that compute a part.
    pub(super) threads: usize,
}

impl Walk<'_> {
    /// Empty windows of all nodes. Each begins at the first row that the last node needs for its rows from `first` on.
    pub(super) fn windows(&self, first: usize) -> Vec<Window> {
        let firsts = self.nodes.flow.firsts(first).into_iter();
        firsts.map(|first| Window { rows: first..first, data: Aligned::default() }).collect()
    }

    /// Elements of a row of a node.
    pub(super) fn row_len(&self, node: usize) -> usize {
        let shape = self.nodes.flow.shapes()[node];
        shape.scale * self.size[1] * shape.channels
    }

    /// Computes the rows that the last node needs for its rows before `end`, and the last node's own rows if they are kept.
    pub(super) fn strip(&self, end: usize, windows: &mut [Window], fill: &Fill<'_>) -> Result<(), OutOfMemory> {
        let flow = &self.nodes.flow;
        let ends = flow.ends(self.size[0], end);
        fill(ends[0], &mut windows[0])?;
        for (i, node) in (1..).zip(&self.nodes.nodes).filter(|(i, _)| flow.is_needed(*i)) {
            let (before, own) = windows.split_at_mut(i);
            let rows = own[0].rows.end..ends[i];
            let inputs = self.inputs(i, before);
            let out = own[0].append(rows.end, self.row_len(i))?;
            node.run(self.tables, &inputs, rows, self.threads, out)?;
        }
        Ok(())
    }

    /// Forgets what no later row reads.
    pub(super) fn forget(&self, windows: &mut [Window]) {
        for i in 0..windows.len() {
            let first = self.nodes.flow.first_read(i, |reader| windows[reader].rows.end);
            windows[i].forget(first, self.row_len(i));
        }
    }

    /// The rows at hand of each input of a node, without those that were forgotten.
    pub(super) fn inputs<'w>(&self, node: usize, windows: &'w [Window]) -> Vec<Rows<'w>> {
        let [height, width] = self.size;
        let rows = |&NodeIndex(at): &NodeIndex| {
            let (shape, window) = (&self.nodes.flow.shapes()[at], &windows[at]);
            let (height, width, channels) = (height * shape.scale, width * shape.scale, shape.channels);
            Rows { height, width, channels, first: window.rows.start, data: window.since(window.rows.start, width * channels) }
        };
        self.nodes.flow.inputs(node).iter().map(rows).collect()
    }
}
