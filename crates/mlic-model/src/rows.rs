//! Which rows of each node of an integer transform a strip of the last node needs. An executor that goes through a picture strip by strip
//! computes only these, and forgets the rows of a node that no later row reads.

use crate::layout::NodeIndex;
use crate::nodes::{Node, NodeShape, Reach};

/// The rows that flow from node to node. Rows are counted in a node's own map; node 0 is the input of the transform.
#[derive(Debug, Clone)]
pub struct RowFlow {
    /// Shapes of all nodes, that of node 0 first.
    shapes: Vec<NodeShape>,
    /// One for each node from node 1 on.
    readers: Vec<Reader>,
}

#[derive(Debug, Clone)]
struct Reader {
    inputs: Vec<NodeIndex>,
    reach: Reach,
    is_needed: bool,
}

impl RowFlow {
    /// The flow through `nodes`; `shapes` are those of all nodes, that of node 0 first.
    #[must_use]
    pub fn new(shapes: &[NodeShape], nodes: &[Node]) -> Self {
        let mut is_needed = vec![false; shapes.len()];
        if let Some(last) = is_needed.last_mut() {
            *last = true;
        }
        for (i, node) in nodes.iter().enumerate().rev() {
            if is_needed.get(i + 1) == Some(&true) {
                for input in node.inputs() {
                    set(&mut is_needed, input, |_| true);
                }
            }
        }
        let reader =
            |(node, is_needed): (&Node, bool)| Reader { inputs: node.inputs().collect(), reach: node.reach(), is_needed };
        let readers = nodes.iter().zip(is_needed.into_iter().skip(1)).map(reader).collect();
        Self { shapes: shapes.to_vec(), readers }
    }

    /// Shapes of all nodes, that of node 0 first.
    #[must_use]
    pub fn shapes(&self) -> &[NodeShape] {
        &self.shapes
    }

    /// Whether this node is the last one, or the last one needs it.
    #[must_use]
    pub fn is_needed(&self, node: usize) -> bool {
        node.checked_sub(1).is_none_or(|at| self.readers.get(at).is_some_and(|reader| reader.is_needed))
    }

    /// The nodes that a node reads; none for node 0.
    #[must_use]
    pub fn inputs(&self, node: usize) -> &[NodeIndex] {
        node.checked_sub(1).and_then(|at| self.readers.get(at)).map_or(&[], |reader| &reader.inputs)
    }

    fn needed(&self) -> impl DoubleEndedIterator<Item = (usize, &Reader)> {
        self.readers.iter().enumerate().map(|(i, reader)| (i + 1, reader)).filter(|(_, reader)| reader.is_needed)
    }

    /// For each node, the end of the rows that it must have computed so that the last node has its rows before `end`; 0 where no row is needed. A
    /// map of scale 1 has `height` rows.
    #[must_use]
    pub fn ends(&self, height: usize, end: usize) -> Vec<usize> {
        let mut ends = vec![0; self.shapes.len()];
        if let Some(last) = ends.last_mut() {
            *last = end;
        }
        for (i, Reader { inputs, reach, .. }) in self.needed().rev() {
            // A shuffled row comes with its neighbour.
            let own = ends.get(i).map_or(0, |end| end.next_multiple_of(reach.up));
            set(&mut ends, NodeIndex(i), |_| own);
            let read = reach.of(&(0..own)).end;
            for &input in inputs {
                let rows = self.shapes.get(input.0).map_or(0, |shape| height * shape.scale);
                set(&mut ends, input, |end| end.max(read.min(rows)));
            }
        }
        ends
    }

    /// For each node, the first row that the last node needs for its rows from `first` on; 0 where none is needed.
    #[must_use]
    pub fn firsts(&self, first: usize) -> Vec<usize> {
        let mut firsts = vec![usize::MAX; self.shapes.len()];
        if let Some(last) = firsts.last_mut() {
            *last = first;
        }
        for (i, Reader { inputs, reach, .. }) in self.needed().rev() {
            let own = firsts.get(i).map_or(0, |first| first / reach.up * reach.up);
            set(&mut firsts, NodeIndex(i), |_| own);
            let read = reach.of(&(own..own)).start;
            for &input in inputs {
                set(&mut firsts, input, |first| first.min(read));
            }
        }
        firsts.into_iter().map(|first| if first == usize::MAX { 0 } else { first }).collect()
    }

    /// The first row of `node` that is read by rows still to be computed, where each node `i` has its rows before `end(i)`; `usize::MAX` if none is.
    #[must_use]
    pub fn first_read(&self, node: usize, end: impl Fn(usize) -> usize) -> usize {
        let readers = self.needed().filter(|(_, reader)| reader.inputs.contains(&NodeIndex(node)));
        readers.map(|(i, reader)| reader.reach.of(&(end(i)..end(i))).start).min().unwrap_or(usize::MAX)
    }
}

fn set<T: Copy>(of: &mut [T], NodeIndex(node): NodeIndex, to: impl FnOnce(T) -> T) {
    if let Some(value) = of.get_mut(node) {
        *value = to(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Epilogue, Kernel, LayerSpec, TermSpec};
    use crate::nodes::{Layer, Resize};
    use crate::parameters::{LayerLevel, Requant};

    fn layer(input: usize, size: usize, resize: Resize) -> Node {
        let spec = LayerSpec {
            name: String::new(),
            terms: vec![TermSpec::node(NodeIndex(input), 1, false)],
            kernel: Kernel::Dense { size },
            outputs: 1,
            epilogue: Epilogue::Linear,
        };
        let output = Requant { multiplier: 1, shift: 0 };
        let level = LayerLevel { shift: 0, multipliers: vec![vec![1]], bias: vec![0], output };
        Node::Layer(Layer { spec, max: 1, level, weights: Vec::new(), resize })
    }

    /// Node 1 (3x3) and node 3 (a shuffle of node 1) are needed; node 2 reads both and is read by nothing; node 4 is the last (5x5).
    fn flow() -> RowFlow {
        let nodes =
            [layer(0, 3, Resize::None), layer(1, 5, Resize::None), layer(1, 3, Resize::Shuffle), layer(3, 5, Resize::None)];
        let shapes = [1, 1, 1, 2, 2].map(|scale| NodeShape { channels: 1, scale, max: 1 });
        RowFlow::new(&shapes, &nodes)
    }

    #[test]
    fn a_node_that_nothing_reads_needs_nothing_and_holds_nothing() {
        let flow = flow();
        assert_eq!([0, 1, 2, 3, 4].map(|i| flow.is_needed(i)), [true, true, false, true, true]);
        // Rows 0 to 7 of node 4 read rows to 9 of node 3, those to 5 of node 1 and to 6 of the input.
        assert_eq!(flow.ends(100, 8), [7, 6, 0, 10, 8]);
        // Rows that a picture does not have are not needed.
        assert_eq!(flow.ends(6, 8), [6, 6, 0, 10, 8]);
        // Were node 2 a reader, all rows of node 1 would be kept for it.
        let there = [7, 6, 0, 10, 8];
        assert_eq!([0, 1, 2, 3, 4].map(|i| flow.first_read(i, |node| there[node])), [5, 4, usize::MAX, 6, usize::MAX]);
    }

    #[test]
    fn a_part_begins_with_what_its_first_row_reads() {
        assert_eq!(flow().firsts(8), [1, 2, 0, 6, 8]);
        assert_eq!(flow().firsts(0), [0, 0, 0, 0, 0]);
    }
}
