//! Nodes strip by strip: every node keeps the rows that are still to be read, and computes each row once. Memory grows with the width of the picture and the height of a
//! strip, not with the picture.

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
    /// Begins with the rows; what follows is room that has been used before.
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

    /// The rows from this one on.
    pub(super) fn since(&self, first: usize, row_len: usize) -> &[i16] {
        &self.data[(first - self.rows.start) * row_len..self.rows.len() * row_len]
    }

    /// Appends the rows before `end`, all of which are to be written.
    pub(super) fn append(&mut self, end: usize, row_len: usize) -> Result<&mut [i16], OutOfMemory> {
        let start = self.rows.len() * row_len;
        let len = (end - self.rows.start) * row_len;
        if self.data.len() < len {
            // Pages of the system that nothing has touched: the threads that write them take them, not this one. Later strips have rows before
            // them that the first has not.
            let mut longer = Aligned::zeros(len + 2 * row_len)?;
            longer[..start].copy_from_slice(&self.data[..start]);
            self.data = longer;
        }
        self.rows.end = end;
        Ok(&mut self.data[start..len])
    }

    /// The rows before `end` are done, and went elsewhere.
    pub(super) fn pass(&mut self, end: usize) {
        self.rows = end..end;
    }
}

/// Adds the rows of node 0 up to one.
pub(super) type Fill<'f> = dyn Fn(usize, &mut Window) -> Result<(), OutOfMemory> + Sync + 'f;

/// How nodes are computed: one part of a picture.
pub(super) struct Walk<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) tables: &'a Tables,
    /// Rows and columns of a map of scale 1.
    pub(super) size: [usize; 2],
    /// That take part.
    pub(super) threads: usize,
}

impl Walk<'_> {
    /// No rows of any node yet, each from the first one on that the last node needs for its row `first`.
    pub(super) fn windows(&self, first: usize) -> Vec<Window> {
        let firsts = self.nodes.flow.firsts(first).into_iter();
        firsts.map(|first| Window { rows: first..first, data: Aligned::default() }).collect()
    }

    /// Elements of a row of a node.
    pub(super) fn row_len(&self, node: usize) -> usize {
        let shape = self.nodes.flow.shapes()[node];
        shape.scale * self.size[1] * shape.channels
    }

    /// Computes what the last node needs for its rows up to this one; the last one too, if it is among the nodes.
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

    /// What is at hand of the inputs of a node, and no row that was forgotten.
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
