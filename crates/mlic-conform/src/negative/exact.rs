//! Exact syntheses that must be refused: every field of SPEC 2.9 and every obligation of 4.9 that such a section can break. Integer analyses (2.10),
//! which a decoder need not read, stand beside them.
//!
//! Sections are written here field by field, so that each field may hold anything.

use mlic_model::package::SectionKind;

use super::packages::{Name, PackageCase, analyses, bytes, exact};

/// A section, field by field (SPEC 2.9).
#[derive(Debug, Clone)]
pub(super) struct Section {
    magic: [u8; 4],
    version: u32,
    /// Whether the section has a quantizer; that of g_a has none.
    quantizer: bool,
    max: i32,
    multiplier: i32,
    shift: u8,
    /// Number of nodes that the section states; the actual number if none.
    count: Option<u32>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Layer(Layer),
    Normalization(Normalization),
}

#[derive(Debug, Clone)]
struct Layer {
    opcode: u8,
    size: u8,
    epilogue: u8,
    shuffle: u8,
    width: u8,
    /// Number of terms that the node states; the actual number if none.
    term_count: Option<u8>,
    /// Number of outputs that the node states; the actual number if none.
    output_count: Option<u32>,
    outputs: u32,
    /// Number of each input node, and its identity flag.
    terms: Vec<(u32, u8)>,
    max: i32,
    shift: u8,
    output: (i32, u8),
    multiplier: i32,
    bias: i64,
    /// Weights of all terms that are not identities.
    weights: Vec<i16>,
}

#[derive(Debug, Clone)]
struct Normalization {
    opcode: u8,
    node: u32,
    max: i32,
    shift: u8,
    output_shift: u8,
    gamma: Vec<i16>,
    beta: Vec<i64>,
    multiplier: Vec<i32>,
}

const GELU: u8 = 1;
const PIXEL: u8 = 2;
/// Epilogue of an analysis that gives latents.
const LATENT: u8 = 2;

fn layer(size: u8, epilogue: u8, shuffle: u8, outputs: u32, terms: &[(u32, u8)], weights: usize) -> Layer {
    let weights = (0..weights).map(|i| [3, -2, 1, 0, -1][i % 5]).collect();
    let max = if epilogue == PIXEL { 255 } else { 100 };
    let terms = terms.to_vec();
    let (opcode, width, term_count, output_count) = (1, 1, None, None);
    let (shift, output, multiplier, bias) = (2, (5, 9), 3, 1);
    Layer {
        opcode,
        size,
        epilogue,
        shuffle,
        width,
        term_count,
        output_count,
        outputs,
        terms,
        max,
        shift,
        output,
        multiplier,
        bias,
        weights,
    }
}

fn normalization(node: u32, max: i32) -> Normalization {
    let gamma = vec![4, 1, 0, 0, 2, 1, 1, 0, 3];
    Normalization { opcode: 2, node, max, shift: 1, output_shift: 9, gamma, beta: vec![9, 0, 1], multiplier: vec![7, 9, 3] }
}

impl Section {
    /// A sound section, for y of two channels.
    pub(super) fn sound() -> Self {
        let nodes = vec![
            Node::Layer(layer(3, GELU, 1, 12, &[(0, 0)], 12 * 9 * 2)),
            Node::Normalization(normalization(1, 90)),
            Node::Layer(Layer { width: 2, ..layer(5, 0, 0, 3, &[(2, 0), (1, 1)], 3 * 25 * 3) }),
            Node::Layer(layer(1, 0, 1, 8, &[(3, 0)], 8 * 3)),
            Node::Layer(layer(1, GELU, 1, 8, &[(4, 0)], 8 * 2)),
            Node::Layer(layer(3, PIXEL, 1, 12, &[(5, 0)], 12 * 9 * 2)),
        ];
        Self { magic: *b"MLIS", version: 1, quantizer: true, max: 100, multiplier: 1, shift: 9, count: None, nodes }
    }

    /// Sound sections of g_a and h_a, for y of two channels and z of one.
    pub(super) fn analyses() -> [Self; 2] {
        let divisive = |node| Node::Normalization(Normalization { opcode: 3, ..normalization(node, 90) });
        let g_a = vec![
            Node::Layer(layer(3, GELU, 2, 3, &[(0, 0)], 3 * 9 * 3)),
            divisive(1),
            Node::Layer(Layer { width: 2, ..layer(1, 0, 1, 3, &[(2, 0), (1, 1)], 3 * 3) }),
            Node::Layer(layer(5, 0, 2, 3, &[(3, 0)], 3 * 25 * 3)),
            Node::Layer(layer(3, GELU, 2, 3, &[(4, 0)], 3 * 9 * 3)),
            Node::Layer(layer(3, LATENT, 2, 2, &[(5, 0)], 2 * 9 * 3)),
        ];
        let h_a = vec![
            Node::Layer(layer(3, GELU, 2, 3, &[(0, 0)], 3 * 9 * 2)),
            divisive(1),
            Node::Layer(layer(1, LATENT, 2, 1, &[(2, 0)], 3)),
        ];
        [(false, g_a), (true, h_a)].map(|(quantizer, nodes)| Self { magic: *b"MLIA", quantizer, nodes, ..Self::sound() })
    }

    /// Inserts before the last node a layer of kernel 1 that no other node reads. Its terms have `channels` channels in all.
    fn beside(&mut self, shuffle: u8, outputs: u32, terms: &[(u32, u8)], channels: u32) -> &mut Layer {
        let at = self.nodes.len() - 1;
        self.nodes.insert(at, Node::Layer(layer(1, 0, shuffle, outputs, terms, (outputs * channels) as usize)));
        match self.nodes.get_mut(at) {
            Some(Node::Layer(layer)) => layer,
            _ => unreachable!("a layer was inserted"),
        }
    }

    /// Adds layers that no other node reads, up to `count` nodes.
    fn up_to(&mut self, count: usize) {
        while self.nodes.len() < count {
            self.beside(0, 1, &[(0, 0)], 2);
        }
    }

    /// The largest bias that the first output of node 4 may have.
    fn room_of_sum(&self) -> i64 {
        let Some(Node::Layer(own)) = self.nodes.get(3) else { return 0 };
        let magnitude: i64 = own.weights.iter().take(3).map(|weight| i64::from(weight.unsigned_abs())).sum();
        i64::MAX - 100 * magnitude * i64::from(own.multiplier) - (1 << own.shift >> 1)
    }

    /// The largest magnitude that the first term of node 3 adds to a sum.
    fn first_term(&self) -> i64 {
        let Some(Node::Layer(own)) = self.nodes.get(2) else { return 0 };
        let magnitude = |weights: &[i16]| weights.iter().map(|weight| i64::from(weight.unsigned_abs())).sum();
        let magnitude: i64 = own.weights.chunks(3 * 25).map(magnitude).max().unwrap_or(0);
        90 * magnitude * i64::from(own.multiplier)
    }

    /// Changes the layer with this node number, from 1; a case that changes nothing is an error of its own.
    fn layer(&mut self, number: usize, change: impl FnOnce(&mut Layer)) {
        if let Some(Node::Layer(layer)) = self.nodes.get_mut(number - 1) {
            change(layer);
        }
    }

    fn normalization(&mut self, change: impl FnOnce(&mut Normalization)) {
        if let Some(Node::Normalization(normalization)) = self.nodes.get_mut(1) {
            change(normalization);
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        if self.quantizer {
            out.extend(self.max.to_le_bytes());
            out.extend(self.multiplier.to_le_bytes());
            out.push(self.shift);
        }
        out.extend(self.count.unwrap_or(self.nodes.len() as u32).to_le_bytes());
        for node in &self.nodes {
            match node {
                Node::Layer(layer) => layer.write(&mut out),
                Node::Normalization(normalization) => normalization.write(&mut out),
            }
        }
        out
    }
}

impl Layer {
    fn write(&self, out: &mut Vec<u8>) {
        let count = self.term_count.unwrap_or(self.terms.len() as u8);
        out.extend([self.opcode, self.size, self.epilogue, self.shuffle, self.width, count]);
        out.extend(self.output_count.unwrap_or(self.outputs).to_le_bytes());
        for (node, identity) in &self.terms {
            out.extend(node.to_le_bytes());
            out.push(*identity);
        }
        out.extend(self.max.to_le_bytes());
        out.push(self.shift);
        if self.epilogue == GELU {
            out.extend(self.output.0.to_le_bytes());
            out.push(self.output.1);
        }
        let outputs = self.outputs as usize;
        out.extend(std::iter::repeat_n(self.multiplier.to_le_bytes(), outputs * self.terms.len()).flatten());
        out.extend(std::iter::repeat_n(self.bias.to_le_bytes(), outputs).flatten());
        match self.width {
            2 => out.extend(self.weights.iter().flat_map(|weight| weight.to_le_bytes())),
            _ => out.extend(self.weights.iter().map(|weight| *weight as u8)),
        }
    }
}

impl Normalization {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.opcode);
        out.extend(self.node.to_le_bytes());
        out.extend(self.max.to_le_bytes());
        out.extend([self.shift, self.output_shift]);
        out.extend(self.gamma.iter().flat_map(|gamma| gamma.to_le_bytes()));
        out.extend(self.beta.iter().flat_map(|beta| beta.to_le_bytes()));
        out.extend(self.multiplier.iter().flat_map(|multiplier| multiplier.to_le_bytes()));
    }
}

const fn parameter(name: Name, why: Name, change: fn(&mut Section)) -> PackageCase {
    exact(name, "parameter", why, change)
}

const fn overflow(name: Name, why: Name, change: fn(&mut Section)) -> PackageCase {
    exact(name, "overflow", why, change)
}

/// Sets the weights of one output, whose inputs reach 32767.
fn accumulator(section: &mut Section, weights: [i16; 3]) {
    section.normalization(|n| n.max = 32_767);
    section.layer(3, |l| {
        l.weights.fill(0);
        l.weights[..3].copy_from_slice(&weights);
    });
}

/// Exact syntheses, in the order of SPEC 2.9, then 4.9.
pub(super) static EXACT: &[PackageCase] = &[
    parameter("exact-magic", "the exact synthesis is none", |s| s.magic[3] = b'R'),
    parameter("exact-version-2", "an exact synthesis of version 2", |s| s.version = 2),
    parameter("exact-version-0", "an exact synthesis of version 0", |s| s.version = 0),
    parameter("exact-max-0", "a largest activation of 0 of the quantizer", |s| s.max = 0),
    parameter("exact-max-32768", "a largest activation of 32768 of the quantizer", |s| s.max = 32_768),
    parameter("exact-quantizer-multiplier", "a negative multiplier of the quantizer", |s| s.multiplier = -1),
    parameter("exact-quantizer-shift", "a shift of 63 of the quantizer", |s| s.shift = 63),
    parameter("exact-nodes-0", "no node", |s| s.count = Some(0)),
    parameter("exact-nodes-256", "256 nodes", |s| s.count = Some(256)),
    parameter("exact-opcode-0", "an operator 0", |s| s.layer(3, |l| l.opcode = 0)),
    parameter("exact-opcode-3", "an operator 3", |s| s.layer(3, |l| l.opcode = 3)),
    parameter("exact-kernel-2", "a kernel of even side", |s| s.layer(3, |l| l.size = 2)),
    parameter("exact-kernel-7", "a kernel of side 7", |s| s.layer(3, |l| l.size = 7)),
    parameter("exact-epilogue", "an epilogue 3", |s| s.layer(3, |l| l.epilogue = 3)),
    parameter("exact-shuffle-2", "a shuffle flag of 2", |s| s.layer(4, |l| l.shuffle = 2)),
    parameter("exact-width-0", "weights of no byte", |s| s.layer(3, |l| l.width = 0)),
    parameter("exact-width-3", "weights of 3 bytes", |s| s.layer(3, |l| l.width = 3)),
    parameter("exact-terms-0", "a layer without terms", |s| s.layer(3, |l| l.term_count = Some(0))),
    parameter("exact-terms-5", "a layer of five terms", |s| s.layer(3, |l| l.terms = vec![(1, 1); 5])),
    parameter("exact-outputs-0", "a layer without outputs", |s| s.layer(3, |l| l.output_count = Some(0))),
    parameter("exact-outputs-16385", "a layer of 2^14 + 1 outputs", |s| {
        s.layer(3, |l| l.output_count = Some((1 << 14) + 1));
    }),
    parameter("exact-order", "a node that reads itself", |s| s.layer(3, |l| l.terms[0].0 = 3)),
    parameter("exact-order-later", "a node that reads a later one", |s| s.layer(3, |l| l.terms[1].0 = 4)),
    parameter("exact-order-normalization", "a normalization that reads itself", |s| s.normalization(|n| n.node = 2)),
    parameter("exact-identity-2", "an identity flag of 2", |s| s.layer(3, |l| l.terms[1].1 = 2)),
    parameter("exact-identity-channels", "an identity term of three channels for four outputs", |s| {
        s.layer(3, |l| {
            l.outputs = 4;
            l.weights.extend([1; 75]);
        });
        // The layer after it would fit.
        s.layer(4, |l| l.weights.extend([1; 8]));
    }),
    parameter("exact-shuffle-outputs", "a shuffle of six outputs", |s| {
        s.layer(4, |l| {
            l.outputs = 6;
            l.weights.truncate(18);
        });
        s.layer(5, |l| l.weights.truncate(8));
    }),
    parameter("exact-sizes", "terms of different sizes", |s| s.layer(3, |l| l.terms[1].0 = 0)),
    parameter("exact-scale-32", "a map of 32 times the size", |s| {
        s.nodes.insert(5, Node::Layer(layer(1, 0, 1, 8, &[(5, 0)], 8 * 2)));
        s.layer(7, |l| l.terms[0].0 = 6);
    }),
    parameter("exact-layer-max-0", "a largest activation of 0", |s| s.layer(1, |l| l.max = 0)),
    parameter("exact-layer-max-32768", "a largest activation of 32768", |s| s.layer(4, |l| l.max = 32_768)),
    parameter("exact-layer-shift", "a shift of 63", |s| s.layer(4, |l| l.shift = 63)),
    parameter("exact-layer-multiplier", "a negative multiplier", |s| s.layer(4, |l| l.multiplier = -1)),
    parameter("exact-gelu-multiplier", "a negative multiplier after GELU", |s| s.layer(1, |l| l.output.0 = i32::MIN)),
    parameter("exact-gelu-shift", "a shift of 63 after GELU", |s| s.layer(5, |l| l.output.1 = 63)),
    parameter("exact-weight-128", "a weight of -128", |s| s.layer(1, |l| l.weights[215] = -128)),
    parameter("exact-weight-32768", "a weight of -32768", |s| s.layer(3, |l| l.weights[0] = i16::MIN)),
    parameter("exact-normalization-max-0", "a largest activation of 0 of a normalization", |s| s.normalization(|n| n.max = 0)),
    parameter("exact-normalization-max-32768", "a largest activation of 32768 of a normalization", |s| {
        s.normalization(|n| n.max = 32_768);
    }),
    parameter("exact-normalization-shift", "a shift of 63 of the squares", |s| s.normalization(|n| n.shift = 63)),
    parameter("exact-normalization-output-shift", "a shift of 63 of the output", |s| s.normalization(|n| n.output_shift = 63)),
    parameter("exact-gamma", "a negative gamma", |s| s.normalization(|n| n.gamma[2] = -1)),
    parameter("exact-beta-negative", "a negative beta", |s| s.normalization(|n| n.beta[1] = -1)),
    parameter("exact-beta-large", "a beta of 2^61 + 1", |s| s.normalization(|n| n.beta[0] = (1 << 61) + 1)),
    parameter("exact-normalization-multiplier", "a negative multiplier of a normalization", |s| {
        s.normalization(|n| n.multiplier[1] = -1);
    }),
    parameter("exact-pixel-before", "samples before the last node", |s| {
        s.layer(4, |l| {
            (l.epilogue, l.max) = (PIXEL, 255);
        });
    }),
    parameter("exact-last-linear", "the last node gives activations", |s| s.layer(6, |l| l.epilogue = 0)),
    parameter("exact-last-normalization", "the last node is a normalization", |s| {
        s.layer(6, |l| l.epilogue = 0);
        s.nodes.push(Node::Normalization(normalization(6, 255)));
    }),
    parameter("exact-last-channels", "samples of four channels", |s| {
        s.layer(6, |l| {
            l.outputs = 16;
            l.weights.extend([0; 72]);
        });
    }),
    parameter("exact-last-scale", "samples at 8 times the size", |s| {
        s.layer(6, |l| {
            (l.outputs, l.shuffle) = (3, 0);
            l.weights.truncate(54);
        });
    }),
    parameter("exact-last-max-254", "samples of at most 254", |s| s.layer(6, |l| l.max = 254)),
    parameter("exact-last-max-256", "samples of at most 256", |s| s.layer(6, |l| l.max = 256)),
    exact("exact-cut", "truncated", "the last weight is missing", |s| {
        s.layer(6, |l| l.weights.truncate(12 * 9 * 2 - 1));
    }),
    exact("exact-cut-node", "truncated", "the last node is missing", |s| {
        s.count = Some(6);
        s.nodes.pop();
    }),
    exact("exact-more", "oversized", "a weight too many", |s| s.layer(6, |l| l.weights.push(0))),
    overflow("exact-accumulator", "32767 times 32767 + 32767 + 5 exceeds 32 bits", |s| accumulator(s, [32_767, 32_767, 5])),
    overflow("exact-accumulator-negative", "the same with negative weights", |s| accumulator(s, [-32_767, -32_767, -5])),
    overflow("exact-sum", "a bias of 2^63 - 1 and anything more", |s| s.layer(4, |l| l.bias = i64::MAX)),
    overflow("exact-sum-negative", "a bias of -2^63, whose magnitude has no 64 bits", |s| s.layer(1, |l| l.bias = i64::MIN)),
    overflow("exact-gamma-sum", "gammas of 65536", |s| s.normalization(|n| n.gamma[3..6].copy_from_slice(&[32_767, 2, 32_767]))),
    parameter("exact-nodes-built-256", "256 nodes, and all are there", |s| s.up_to(256)),
    parameter("exact-opcode-built-0", "an operator 0 that is a normalization in all else", |s| s.normalization(|n| n.opcode = 0)),
    parameter("exact-opcode-built-3", "an operator 3 that is a normalization in all else", |s| s.normalization(|n| n.opcode = 3)),
    parameter("exact-opcode-beside", "an operator 3 that is a layer in all else", |s| s.beside(0, 1, &[(0, 0)], 2).opcode = 3),
    parameter("exact-shuffle-beside", "a shuffle flag of 2, of a node that no other reads", |s| {
        s.beside(2, 4, &[(0, 0)], 2).max = 9
    }),
    parameter("exact-shuffle-outputs-beside", "a shuffle of three outputs, of a node that no other reads", |s| {
        s.beside(1, 3, &[(0, 0)], 2).max = 9;
    }),
    parameter("exact-sizes-beside", "terms of different sizes that fit in all else", |s| {
        s.beside(0, 1, &[(0, 0), (1, 0)], 5).max = 9;
    }),
    parameter("exact-scale-beside", "a map of 32 times the size, which no other node reads", |s| {
        s.beside(1, 4, &[(5, 0)], 2).max = 9;
        s.beside(1, 4, &[(6, 0)], 1).max = 9;
    }),
    parameter("exact-pixel-beside", "samples before the last node, which no other reads", |s| {
        let own = s.beside(0, 3, &[(5, 0)], 2);
        (own.epilogue, own.max) = (PIXEL, 255);
    }),
    parameter(
        "exact-last-linear-255",
        "the last node gives activations, with a largest one of 255 and all else of samples",
        |s| {
            s.layer(6, |l| (l.epilogue, l.max) = (0, 255));
        },
    ),
    parameter("exact-terms-built-5", "a layer of five terms, and all lengths fit", |s| {
        s.beside(0, 1, &[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)], 10).max = 9;
    }),
    parameter("exact-terms-built-0", "a layer without terms, and all lengths fit", |s| s.beside(0, 1, &[], 0).max = 9),
    parameter("exact-outputs-built-0", "a layer without outputs, and all lengths fit", |s| s.beside(0, 0, &[(0, 0)], 2).max = 9),
    parameter("exact-outputs-built-16385", "a layer of 2^14 + 1 outputs, and all lengths fit", |s| {
        s.beside(0, (1 << 14) + 1, &[(0, 0)], 2).max = 9;
    }),
    parameter("exact-identity-beside", "an identity term of three channels for two outputs, and all lengths fit", |s| {
        s.beside(0, 2, &[(3, 1)], 0).max = 9;
    }),
    parameter("exact-kernel-built-7", "a kernel of side 7, and all lengths fit", |s| {
        let own = s.beside(0, 1, &[(0, 0)], 98);
        own.size = 7;
    }),
    parameter("exact-kernel-built-2", "a kernel of side 2, and all lengths fit", |s| s.beside(0, 1, &[(0, 0)], 8).size = 2),
    overflow("exact-sum-by-one", "the sum of a layer reaches 2^63", |s| {
        let room = s.room_of_sum();
        s.layer(4, |l| l.bias = room + 1);
    }),
    overflow("exact-accumulator-by-one", "2^17 times 2^14 is 2^31", |s| {
        accumulator(s, [32_767, 32_767, 4]);
        s.normalization(|n| n.max = 1 << 14);
        s.layer(3, |l| l.weights[3..5].fill(32_767));
    }),
    overflow("exact-sum-of-first", "the sum of a layer reaches 2^63 by its last term alone, an identity", |s| {
        let room = i64::MAX - s.first_term() - 2;
        s.layer(3, |l| l.bias = room);
    }),
    overflow("exact-sum-of-last", "the sum of a layer reaches 2^63 by its first term alone", |s| {
        s.layer(3, |l| l.bias = i64::MAX - 100 * i64::from(l.multiplier) - 2);
    }),
    overflow("exact-gamma-by-one", "gammas of 65536 in all", |s| {
        s.normalization(|n| n.gamma[6..9].copy_from_slice(&[32_767, 32_767, 2]));
    }),
    exact("sound-exact-nodes", "overflow", "255 nodes of an exact synthesis; sound", |s| s.up_to(255)).sound(),
    exact(
        "sound-exact-sum",
        "overflow",
        "the sum of a layer of an exact synthesis reaches 2^63 - 1, and gammas 65535; sound",
        |s| {
            let room = s.room_of_sum();
            s.layer(4, |l| l.bias = -room);
            s.normalization(|n| n.gamma[6..9].copy_from_slice(&[32_767, 32_767, 1]));
        },
    )
    .sound(),
    exact("sound-exact-accumulator", "overflow", "32767 times 65538 is 2^31 - 2; sound", |s| accumulator(s, [32_767, 32_767, 4]))
        .sound(),
    exact("sound-exact-limits", "overflow", "an exact synthesis with every number at its limit; sound", |s| {
        (s.max, s.multiplier, s.shift) = (32_767, i32::MAX, 62);
        s.normalization(|n| {
            (n.max, n.shift, n.output_shift) = (32_767, 62, 62);
            n.beta[0] = 1 << 61;
            (n.multiplier[0], n.multiplier[1]) = (i32::MAX, 0);
        });
        s.layer(4, |l| (l.max, l.shift, l.multiplier) = (32_767, 62, i32::MAX));
        s.layer(5, |l| (l.max, l.output) = (1, (i32::MAX, 62)));
        s.layer(6, |l| l.weights[0] = -127);
        let own = s.beside(0, 1, &[(0, 0), (0, 0), (0, 0), (0, 0)], 8);
        (own.width, own.weights[7]) = (2, -32_767);
    })
    .sound(),
    exact("sound-exact-outputs", "overflow", "a node of 2^14 outputs; sound", |s| s.beside(0, 1 << 14, &[(0, 0)], 2).max = 9)
        .sound(),
];

const fn wrong(name: Name, why: Name, change: fn(&mut [Section; 2])) -> PackageCase {
    analyses(name, "parameter", why, change)
}

/// Integer analyses, in the order of SPEC 2.10, then 4.9.
pub(super) static ANALYSES: &[PackageCase] = &[
    wrong("integer-analysis-version-2", "an integer g_a of version 2", |[g_a, _]| g_a.version = 2),
    wrong("integer-analysis-version-0", "an integer g_a of version 0", |[g_a, _]| g_a.version = 0),
    bytes("integer-analysis-alone", "parameter", "an integer g_a and a float h_a", |s| {
        s.least(SectionKind::Analysis, Section::analyses()[0].bytes())
    })
    .unread(),
    bytes("integer-hyper-analysis-alone", "parameter", "a float g_a and an integer h_a", |s| {
        s.least(SectionKind::HyperAnalysis, Section::analyses()[1].bytes())
    })
    .unread(),
    wrong("integer-hyper-analysis-max", "a largest activation of 0 of the quantizer", |[_, h_a]| h_a.max = 0),
    wrong("integer-analysis-opcode-2", "an inverse normalization", |[g_a, _]| g_a.normalization(|n| n.opcode = 2)),
    wrong("integer-analysis-stride-0", "a stride of 0", |[g_a, _]| g_a.beside(0, 1, &[(0, 0)], 3).max = 9),
    wrong("integer-analysis-stride-3", "a stride of 3", |[g_a, _]| g_a.beside(3, 1, &[(0, 0)], 3).max = 9),
    wrong("integer-analysis-half", "a map of half the size of y", |[g_a, _]| {
        g_a.beside(2, 1, &[(5, 0)], 3).max = 9;
        g_a.beside(2, 1, &[(6, 0)], 1).max = 9;
    }),
    wrong("integer-analysis-sizes", "terms of different sizes that fit in all else", |[g_a, _]| {
        g_a.beside(1, 1, &[(0, 0), (1, 0)], 6).max = 9;
    }),
    wrong("integer-analysis-latent-before", "latents before the last node", |[g_a, _]| {
        g_a.beside(1, 1, &[(0, 0)], 3).epilogue = LATENT;
    }),
    wrong("integer-analysis-last-channels", "one channel of y for two", |[g_a, _]| {
        g_a.layer(6, |l| {
            l.outputs = 1;
            l.weights.truncate(27);
        });
    }),
    wrong("integer-analysis-last-scale", "y of twice the size", |[g_a, _]| g_a.layer(6, |l| l.shuffle = 1)),
    wrong("integer-hyper-analysis-last-scale", "z of twice the size", |[_, h_a]| h_a.layer(3, |l| l.shuffle = 1)),
    analyses("integer-analysis-cut", "truncated", "the last weight is missing", |[g_a, _]| {
        g_a.layer(6, |l| l.weights.truncate(53));
    }),
    analyses("integer-hyper-analysis-more", "oversized", "a weight too many", |[_, h_a]| h_a.layer(3, |l| l.weights.push(0))),
    analyses("integer-analysis-sum", "overflow", "a bias of 2^63 - 1 and anything more", |[g_a, _]| {
        g_a.layer(1, |l| l.bias = i64::MAX);
    }),
    analyses("integer-hyper-analysis-sum", "overflow", "a bias of h_a of 2^63 - 1 and anything more", |[_, h_a]| {
        h_a.layer(1, |l| l.bias = i64::MAX);
    }),
    analyses("integer-analysis-quotient", "overflow", "the product of 100 and a multiplier exceeds 32 bits", |[g_a, _]| {
        g_a.normalization(|n| n.multiplier[2] = i32::MAX / 100 + 1);
    }),
    analyses("sound-integer-analysis", "overflow", "integer analyses; sound", |[g_a, _]| {
        g_a.normalization(|n| n.multiplier[2] = i32::MAX / 100);
    })
    .sound(),
];
