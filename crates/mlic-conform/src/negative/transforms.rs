//! Transforms g_s that must be refused: every rule of SPEC 5.6 that a section 4 can break. In most, a node that no other node reads breaks the rule,
//! so that nothing else is wrong.
//!
//! Sections are written here field by field, so that each field may hold anything.

use super::packages::{PackageCase, transform};

/// A section, field by field (SPEC 5.6).
#[derive(Debug, Clone)]
pub(super) struct Transform {
    /// Channels of the input.
    input: u32,
    output: u32,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    opcode: u8,
    operands: Vec<u32>,
    numbers: Vec<u32>,
    tensors: Vec<Tensor>,
}

/// Type, and the values as bits: 16 bits each if the type is odd, otherwise 32.
type Tensor = (u8, Vec<u32>);

fn singles(values: &[f32]) -> Tensor {
    (0, values.iter().map(|value| value.to_bits()).collect())
}

/// 1, -1 and 1 by turns, in 16 bits each.
fn halves(count: u32) -> Tensor {
    (1, (0..count).map(|i| if i % 3 == 1 { 0xbc00 } else { 0x3c00 }).collect())
}

/// A convolution of node `from`, from `input` to `output` channels.
fn convolution(from: u32, input: u32, output: u32, [kernel, stride, groups]: [u32; 3]) -> Node {
    let tensors = vec![halves(output * (input / groups.max(1)) * kernel * kernel), halves(output)];
    Node { opcode: 1, operands: vec![from], numbers: vec![input, output, kernel, stride, groups], tensors }
}

fn normalization(from: u32, channels: u32, inverse: u32) -> Node {
    let gamma: Vec<f32> = (0..channels * channels).map(|i| [0.5, 0.0, 0.25][i as usize % 3]).collect();
    let tensors = vec![singles(&gamma), singles(&vec![1.0; channels as usize])];
    Node { opcode: 2, operands: vec![from], numbers: vec![channels, inverse], tensors }
}

fn gelu(from: u32) -> Node {
    Node { opcode: 3, operands: vec![from], numbers: Vec::new(), tensors: Vec::new() }
}

fn shuffle(from: u32, factor: u32) -> Node {
    Node { opcode: 4, operands: vec![from], numbers: vec![factor], tensors: Vec::new() }
}

fn sum(a: u32, b: u32) -> Node {
    Node { opcode: 5, operands: vec![a, b], numbers: Vec::new(), tensors: Vec::new() }
}

impl Transform {
    /// A sound section for y of two channels, with every operator.
    pub(super) fn sound() -> Self {
        let input = Node { opcode: 0, operands: Vec::new(), numbers: Vec::new(), tensors: Vec::new() };
        let nodes = vec![
            input,
            convolution(0, 2, 12, [1, 1, 1]),
            shuffle(1, 2),
            normalization(2, 3, 1),
            gelu(3),
            sum(4, 2),
            convolution(5, 3, 48, [1, 1, 3]),
            shuffle(6, 4),
            convolution(7, 3, 12, [3, 1, 1]),
            shuffle(8, 2),
        ];
        Self { input: 2, output: 9, nodes }
    }

    /// Adds a node that no other node reads, and returns its number.
    fn beside(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// Returns one value of a tensor, as bits.
    fn value(&mut self, node: usize, tensor: usize, at: usize) -> &mut u32 {
        &mut self.nodes[node].tensors[tensor].1[at]
    }

    /// Adds nodes that make a map of one channel and `2^doublings` times the size, and returns the number of that map's node.
    fn large(&mut self, doublings: u32) -> u32 {
        let mut at = self.beside(convolution(0, 2, 1, [1, 1, 1]));
        for _ in 0..doublings {
            at = self.beside(convolution(at, 1, 4, [1, 1, 1]));
            at = self.beside(shuffle(at, 2));
        }
        at
    }

    /// Adds GELUs that no other node reads, up to `count` nodes.
    fn up_to(&mut self, count: usize) {
        self.nodes.resize(count, gelu(0));
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = b"MLGR".to_vec();
        let head = [1, self.input, self.nodes.len() as u32, self.output];
        out.extend(head.iter().flat_map(|number| number.to_le_bytes()));
        for node in &self.nodes {
            out.push(node.opcode);
            out.extend(node.operands.iter().chain(&node.numbers).flat_map(|number| number.to_le_bytes()));
            for (kind, bits) in &node.tensors {
                out.push(*kind);
                let len = if *kind % 2 == 1 { 2 } else { 4 };
                out.extend(bits.iter().flat_map(|bits| bits.to_le_bytes().into_iter().take(len)));
            }
        }
        out
    }
}

/// Transforms, in the order of SPEC 5.6.
pub(super) static TRANSFORMS: &[PackageCase] = &[
    transform("synthesis-first", "node 0 of g_s is not the input", |t| t.nodes[0] = gelu(0)),
    PackageCase {
        code: Some("config"),
        ..transform("synthesis-input-3", "a sound g_s for y of three channels, of which the package has two", |t| {
            (t.input, t.nodes[1]) = (3, convolution(0, 3, 12, [1, 1, 1]));
        })
    },
    transform("synthesis-input-twice", "a second input", |t| {
        let input = t.nodes[0].clone();
        t.beside(input);
    }),
    transform("synthesis-nodes-4097", "4097 nodes", |t| t.up_to(4097)),
    transform("synthesis-order", "a node that reads itself", |t| {
        t.beside(gelu(10));
    }),
    transform("synthesis-order-later", "a node that reads the next one", |t| {
        t.beside(gelu(11));
        t.beside(gelu(0));
    }),
    transform("synthesis-order-sum", "a sum whose second operand is itself", |t| {
        t.beside(sum(0, 10));
    }),
    transform("synthesis-tensor", "a tensor of type 2 whose values have 32 bits", |t| t.nodes[3].tensors[0].0 = 2),
    transform("synthesis-tensor-16", "a tensor of type 3 whose values have 16 bits", |t| t.nodes[1].tensors[0].0 = 3),
    transform("synthesis-infinite-16", "a weight of 16 bits that is infinite", |t| *t.value(1, 0, 3) = 0x7c00),
    transform("synthesis-nan-16", "a bias of 16 bits that is no number", |t| *t.value(1, 1, 11) = 0xfe01),
    transform("synthesis-infinite-32", "a weight of 32 bits that is infinite", |t| {
        t.nodes[8].tensors[0] = singles(&[0.5; 324]);
        *t.value(8, 0, 323) = f32::NEG_INFINITY.to_bits();
    }),
    transform("synthesis-nan-32", "a bias of 32 bits that is no number", |t| {
        t.nodes[8].tensors[1] = singles(&[f32::NAN; 12]);
    }),
    transform("synthesis-gamma-infinite", "a gamma that is infinite", |t| *t.value(3, 0, 1) = f32::INFINITY.to_bits()),
    transform("synthesis-gamma", "a negative gamma", |t| *t.value(3, 0, 8) = (-0.25_f32).to_bits()),
    transform("synthesis-beta-infinite", "a beta that is infinite", |t| *t.value(3, 1, 0) = f32::INFINITY.to_bits()),
    transform("synthesis-beta-negative", "a negative beta", |t| *t.value(3, 1, 2) = (-1.0_f32).to_bits()),
    transform("synthesis-beta-0", "a beta of 0", |t| *t.value(3, 1, 1) = 0),
    transform("synthesis-inverse", "a normalization that is neither inverse nor not", |t| {
        t.beside(normalization(2, 3, 2));
    }),
    transform("synthesis-normalization-channels", "a normalization of two of three channels", |t| {
        t.beside(normalization(2, 2, 1));
    }),
    transform("synthesis-input-channels", "a convolution of two of three channels", |t| {
        t.beside(convolution(2, 2, 1, [1, 1, 1]));
    }),
    transform("synthesis-output-channels", "a convolution to no channels", |t| {
        t.beside(convolution(2, 3, 0, [1, 1, 1]));
    }),
    transform("synthesis-kernel-0", "a kernel of no side", |t| {
        t.beside(convolution(2, 3, 1, [0, 1, 1]));
    }),
    transform("synthesis-kernel-2", "a kernel of even side", |t| {
        t.beside(convolution(2, 3, 1, [2, 1, 1]));
    }),
    transform("synthesis-kernel-33", "a kernel of side 33", |t| {
        t.beside(convolution(0, 2, 2, [33, 1, 2]));
    }),
    transform("synthesis-stride-0", "a stride of 0", |t| {
        t.beside(convolution(2, 3, 1, [1, 0, 1]));
    }),
    transform("synthesis-groups-0", "no groups", |t| {
        t.beside(convolution(2, 3, 1, [1, 1, 0]));
    }),
    transform("synthesis-groups-input", "two groups of three input channels", |t| {
        t.beside(convolution(2, 3, 2, [1, 1, 2]));
    }),
    transform("synthesis-groups-output", "three groups of four output channels", |t| {
        t.beside(convolution(2, 3, 4, [1, 1, 3]));
    }),
    transform("synthesis-shuffle", "a shuffle by 2 of five channels", |t| {
        let five = t.beside(convolution(2, 3, 5, [1, 1, 1]));
        t.beside(shuffle(five, 2));
    }),
    transform("synthesis-shuffle-once", "a shuffle by 4 of eight channels", |t| {
        let eight = t.beside(convolution(2, 3, 8, [1, 1, 1]));
        t.beside(shuffle(eight, 4));
    }),
    transform("synthesis-shuffle-0", "a shuffle by 0", |t| {
        t.beside(shuffle(2, 0));
    }),
    transform("synthesis-sum-channels", "a sum of two and of three channels", |t| {
        let two = t.beside(convolution(2, 3, 2, [1, 1, 1]));
        t.beside(sum(two, 2));
    }),
    transform("synthesis-sum-sizes", "a sum of maps of different sizes", |t| {
        let three = t.beside(convolution(0, 2, 3, [1, 1, 1]));
        t.beside(sum(2, three));
    }),
    transform("synthesis-size-2048", "a map of 2048 times the size", |t| {
        t.large(11);
    }),
    transform("synthesis-size-less", "a map of a 1025th of the size", |t| {
        let fifth = t.beside(convolution(0, 2, 1, [1, 5, 1]));
        t.beside(convolution(fifth, 1, 1, [1, 205, 1]));
    }),
    transform("synthesis-denominators", "denominators of 1023 and 1024, which have no common multiple up to 1024", |t| {
        t.beside(convolution(0, 2, 1, [1, 1023, 1]));
        t.beside(convolution(0, 2, 1, [1, 1024, 1]));
    }),
    transform("sound-synthesis", "every operator of a transform; sound", |_| ()).sound(),
    transform("sound-synthesis-nodes", "4096 nodes; sound", |t| t.up_to(4096)).sound(),
    transform(
        "sound-synthesis-limits",
        "a transform with kernels, strides, groups, sizes and denominators at their limits; sound",
        |t| {
            t.beside(convolution(0, 2, 2, [31, 1024, 2]));
            let small = t.beside(convolution(0, 2, 1, [1, 1024, 1]));
            t.beside(convolution(0, 2, 1, [1, 512, 1]));
            let large = t.large(10);
            t.beside(sum(large, large));
            t.beside(shuffle(small, 1));
            // Of size 1 in lowest terms.
            let one = t.beside(convolution(large, 1, 2, [1, 1024, 1]));
            t.beside(sum(0, one));
            *t.value(3, 0, 0) = 1;
            *t.value(3, 1, 0) = f32::MAX.to_bits();
            *t.value(1, 0, 0) = 0xfbff;
        },
    )
    .sound(),
];
