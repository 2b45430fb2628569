//! Float graphs of the transforms `g_a`, `h_a` and `g_s`: plain data, checked as a whole, with a byte form.
//!
//! A graph has one input node, which is node 0, and every other node reads earlier ones. Convolutions are "same" padded
//! (odd kernel, zero padding of half of it), so an output has `ceil(size / stride)` positions and one scale describes the graph.
//!
//! Bytes, little endian: `MLGR`, version u32, input channels u32, node count u32, output node u32, then the nodes: opcode u8,
//! input node ids u32, the operator's own numbers u32, its tensors. A tensor is a dtype byte and as many values as the
//! operator's numbers say.

use std::ops::Range;

use half::f16;
use mlic_core::memory::{self, OutOfMemory};

const MAGIC: [u8; 4] = *b"MLGR";
const VERSION: u32 = 1;

/// Most nodes of a graph.
pub const MAX_NODES: u32 = 4096;
/// Most channels of a tensor.
pub const MAX_CHANNELS: u32 = 1 << 16;
/// Largest kernel side.
pub const MAX_KERNEL: u32 = 31;
/// Largest stride, pixel-shuffle factor, numerator or denominator of a scale, and common stride of all nodes ([`Graph::stride`]).
pub const MAX_FACTOR: u32 = 1 << 10;

/// Why bytes or nodes are not a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The bytes end inside something.
    #[error("graph ends inside {what}: {needed_bytes} bytes needed at offset {offset}, {left_bytes} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// Number of bytes needed.
        needed_bytes: u64,
        /// Number of bytes left.
        left_bytes: usize,
    },
    /// Not a graph of this version.
    #[error("not a graph: {what} is {got:#x}")]
    Header {
        /// The field.
        what: &'static str,
        /// Its value.
        got: u32,
    },
    /// Bytes after the last node.
    #[error("{left_bytes} bytes after the last node")]
    Trailing {
        /// Number of bytes.
        left_bytes: usize,
    },
    /// There is no memory for a tensor.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A number outside its range.
    #[error("node {node}: {what} is {got}, outside {min} to {max}")]
    Range {
        /// The node.
        node: u32,
        /// The field.
        what: &'static str,
        /// Its value.
        got: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A number that disagrees with another part of the graph.
    #[error("node {node}: {what} is {got}, expected {expected}")]
    Mismatch {
        /// The node.
        node: u32,
        /// The field.
        what: &'static str,
        /// Its value.
        got: u64,
        /// What the rest of the graph says.
        expected: u64,
    },
    /// A tensor value that is not finite, or out of the operator's domain.
    #[error("node {node}: {what}[{index}] is not allowed")]
    Value {
        /// The node.
        node: u32,
        /// The tensor.
        what: &'static str,
        /// Position in it.
        index: usize,
    },
    /// Operands whose sizes differ for this input.
    #[error("node {node}: operand sizes differ for an input of {height}x{width}")]
    Size {
        /// The node.
        node: u32,
        /// Input rows.
        height: u64,
        /// Input columns.
        width: u64,
    },
}

/// How weights are stored; biases and GDN constants are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; a tensor with a value beyond its range stays f32.
    F16,
}

/// A node's index in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Two-dimensional convolution, "same" zero padding of `kernel / 2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    /// Input channels.
    pub input: u32,
    /// Output channels.
    pub output: u32,
    /// Kernel side, odd.
    pub kernel: u32,
    /// Stride in both directions.
    pub stride: u32,
    /// Groups; divides both channel counts.
    pub groups: u32,
    /// [output, input / groups, kernel, kernel]
    pub weight: Vec<f32>,
    /// `[output]`
    pub bias: Vec<f32>,
}

impl Conv2d {
    /// Multiplications per output position.
    pub fn macs_per_position(&self) -> u64 {
        let per_output = u64::from(self.input) / u64::from(self.groups.max(1));
        u64::from(self.output) * per_output * u64::from(self.kernel) * u64::from(self.kernel)
    }
}

/// Divisive normalization: `x / sqrt(beta + gamma x^2)`, or `x * sqrt(...)` when inverse.
#[derive(Debug, Clone, PartialEq)]
pub struct Gdn {
    /// Channels.
    pub channels: u32,
    /// Multiply instead of divide.
    pub inverse: bool,
    /// [channels, channels], not negative.
    pub gamma: Vec<f32>,
    /// `[channels]`, positive.
    pub beta: Vec<f32>,
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// The graph's input; node 0 and no other.
    Input {
        /// Its channels.
        channels: u32,
    },
    /// Convolution.
    Conv2d(Conv2d),
    /// Divisive normalization.
    Gdn(Gdn),
    /// `x / 2 (1 + erf(x / sqrt 2))`.
    Gelu,
    /// [c r^2, h, w] to [c, h r, w r]; channel `c r^2 + i r + j` becomes row offset i, column offset j.
    PixelShuffle {
        /// r
        factor: u32,
    },
    /// Sum of two nodes.
    Add,
}

impl Op {
    fn input_count(&self) -> usize {
        match self {
            Self::Input { .. } => 0,
            Self::Add => 2,
            Self::Conv2d(_) | Self::Gdn(_) | Self::Gelu | Self::PixelShuffle { .. } => 1,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Input { .. } => 0,
            Self::Conv2d(_) => 1,
            Self::Gdn(_) => 2,
            Self::Gelu => 3,
            Self::PixelShuffle { .. } => 4,
            Self::Add => 5,
        }
    }
}

/// An operator and the earlier nodes it reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// As many as the operator takes.
    pub inputs: Vec<NodeId>,
}

/// Output size over input size, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Positions of the output ...
    pub numerator: u32,
    /// ... per this many positions of the input.
    pub denominator: u32,
}

impl Scale {
    const ONE: Self = Self { numerator: 1, denominator: 1 };

    fn times(self, up: u32, down: u32) -> Option<Self> {
        let (n, d) = (self.numerator.checked_mul(up)?, self.denominator.checked_mul(down)?);
        let g = gcd(n, d).max(1);
        Some(Self { numerator: n / g, denominator: d / g }).filter(|s| s.numerator.max(s.denominator) <= MAX_FACTOR)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Least common multiple; saturates.
fn lcm(a: u32, b: u32) -> u32 {
    (a / gcd(a, b).max(1)).saturating_mul(b)
}

/// Size of a node's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Channels.
    pub channels: u32,
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

/// A graph seen from outside: channels of its input and of its result, and how their sizes relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Channels of the input.
    pub input_channels: u32,
    /// Channels of the result.
    pub output_channels: u32,
    /// Output size over input size.
    pub scale: Scale,
}

/// A checked graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    output: NodeId,
    /// Channels and scale of every node; same length as `nodes`.
    facts: Vec<Fact>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fact {
    channels: u32,
    scale: Scale,
}

impl Graph {
    /// Checks nodes and makes them a graph.
    ///
    /// # Errors
    /// When an operator is malformed, reads a later node, or disagrees with its operands about channels or scale.
    pub fn new(nodes: Vec<Node>, output: NodeId) -> Result<Self, GraphError> {
        nodes.iter().zip(0..).try_for_each(|(node, id)| check_tensors(id, &node.op))?;
        Self::without_tensors(nodes, output)
    }

    /// Checks everything but tensors.
    fn without_tensors(nodes: Vec<Node>, output: NodeId) -> Result<Self, GraphError> {
        let count = range_usize(0, "node count", nodes.len(), 1, MAX_NODES)?;
        let mut facts = Vec::with_capacity(nodes.len());
        let mut stride = 1;
        for (id, node) in (0..count).zip(&nodes) {
            let fact = fact(id, node, &facts)?;
            stride = range(id, "common stride", lcm(stride, fact.scale.denominator), 1, MAX_FACTOR)?;
            facts.push(fact);
        }
        range(count - 1, "output node", output.0, 0, count - 1)?;
        Ok(Self { nodes, output, facts })
    }

    /// The nodes, in an order that can be evaluated.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes by value, for a backend that takes over the weights.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// The same graph without weights, biases and constants. Sizes and memory follow from it once an executor has taken over the tensors.
    #[must_use]
    pub fn without_weights(&self) -> Self {
        let bare = |op: &Op| match op {
            Op::Conv2d(c) => {
                let Conv2d { input, output, kernel, stride, groups, .. } = *c;
                Op::Conv2d(Conv2d { input, output, kernel, stride, groups, weight: Vec::new(), bias: Vec::new() })
            }
            Op::Gdn(g) => Op::Gdn(Gdn { gamma: Vec::new(), beta: Vec::new(), ..*g }),
            other => other.clone(),
        };
        let nodes = self.nodes.iter().map(|node| Node { op: bare(&node.op), inputs: node.inputs.clone() }).collect();
        Self { nodes, output: self.output, facts: self.facts.clone() }
    }

    /// The node whose value is the result.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// Channels of the input.
    pub fn input_channels(&self) -> u32 {
        self.facts.first().map_or(0, |f| f.channels)
    }

    /// Channels of a node's output; 0 for a node that does not exist.
    pub fn channels(&self, id: NodeId) -> u32 {
        self.facts.get(id.0 as usize).map_or(0, |f| f.channels)
    }

    /// Channels of the result.
    pub fn output_channels(&self) -> u32 {
        self.channels(self.output)
    }

    /// Output size over input size: 1/16 for `g_a`, 1/4 for `h_a`, 16 for `g_s`.
    pub fn scale(&self) -> Scale {
        self.facts.get(self.output.0 as usize).map_or(Scale::ONE, |f| f.scale)
    }

    /// Input rows after which every node begins a row of its own. A part of the input must begin at a multiple of this to give a part of the
    /// output. At most [`MAX_FACTOR`].
    pub fn stride(&self) -> u32 {
        self.facts.iter().map(|f| f.scale.denominator).fold(1, lcm)
    }

    /// Number of weights, biases and constants.
    pub fn parameter_count(&self) -> u64 {
        let tensors = |op: &Op| match op {
            Op::Conv2d(c) => c.weight.len() + c.bias.len(),
            Op::Gdn(g) => g.gamma.len() + g.beta.len(),
            _ => 0,
        };
        self.nodes.iter().map(|n| tensors(&n.op) as u64).sum()
    }

    /// Output size of every node for an input of `height` x `width`.
    ///
    /// # Errors
    /// When operands of a sum differ in size, which an input that is a multiple of the strides never causes.
    pub fn sizes(&self, height: u64, width: u64) -> Result<Vec<Size>, GraphError> {
        let mut sizes: Vec<Size> = Vec::with_capacity(self.nodes.len());
        for ((id, node), fact) in (0u32..).zip(&self.nodes).zip(&self.facts) {
            let mut operands = node.inputs.iter().filter_map(|i| sizes.get(i.0 as usize));
            let (h, w) = operands.next().map_or((height, width), |s| (s.height, s.width));
            if operands.any(|s| (s.height, s.width) != (h, w)) {
                return Err(GraphError::Size { node: id, height, width });
            }
            let (h, w) = match &node.op {
                Op::Conv2d(c) => (h.div_ceil(u64::from(c.stride)), w.div_ceil(u64::from(c.stride))),
                Op::PixelShuffle { factor } => (h.saturating_mul(u64::from(*factor)), w.saturating_mul(u64::from(*factor))),
                _ => (h, w),
            };
            sizes.push(Size { channels: fact.channels, height: h, width: w });
        }
        Ok(sizes)
    }

    /// Input rows on which output rows `rows` depend; they may reach beyond the input, into its padding. The same holds for columns.
    pub fn reads(&self, rows: Range<i64>) -> Range<i64> {
        let mut needed: Vec<Option<Range<i64>>> = vec![None; self.nodes.len()];
        if let Some(own) = needed.get_mut(self.output.0 as usize) {
            *own = Some(rows);
        }
        for (id, node) in self.nodes.iter().enumerate().rev() {
            let Some(own) = needed.get(id).cloned().flatten() else { continue };
            let reads = match &node.op {
                Op::Conv2d(c) => {
                    let (stride, half) = (i64::from(c.stride), i64::from(c.kernel / 2));
                    own.start * stride - half..(own.end - 1) * stride + half + 1
                }
                Op::PixelShuffle { factor } => {
                    let factor = i64::from(*factor);
                    own.start.div_euclid(factor)..(own.end + factor - 1).div_euclid(factor)
                }
                _ => own,
            };
            for input in &node.inputs {
                if let Some(all) = needed.get_mut(input.0 as usize) {
                    let before = all.clone().unwrap_or_else(|| reads.clone());
                    *all = Some(before.start.min(reads.start)..before.end.max(reads.end));
                }
            }
        }
        needed.into_iter().next().flatten().unwrap_or(0..0)
    }

    /// Multiplications of convolutions and normalizations for an input of `height` x `width`, saturating.
    ///
    /// # Errors
    /// As [`Graph::sizes`].
    pub fn macs(&self, height: u64, width: u64) -> Result<u64, GraphError> {
        let sizes = self.sizes(height, width)?;
        Ok(self.nodes.iter().zip(&sizes).fold(0u64, |sum, (node, s)| {
            let per_position = match &node.op {
                Op::Conv2d(c) => c.macs_per_position(),
                Op::Gdn(g) => u64::from(g.channels) * u64::from(g.channels),
                _ => 0,
            };
            sum.saturating_add(per_position.saturating_mul(s.height).saturating_mul(s.width))
        }))
    }

    /// The byte form, with weights stored as `dtype`.
    pub fn write(&self, dtype: Dtype) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for v in [VERSION, self.input_channels(), self.nodes.len() as u32, self.output.0] {
            put(&mut out, v);
        }
        for node in &self.nodes {
            out.push(node.op.code());
            node.inputs.iter().for_each(|id| put(&mut out, id.0));
            match &node.op {
                Op::Conv2d(c) => {
                    [c.input, c.output, c.kernel, c.stride, c.groups].into_iter().for_each(|v| put(&mut out, v));
                    put_tensor(&mut out, &c.weight, dtype);
                    put_tensor(&mut out, &c.bias, Dtype::F32);
                }
                Op::Gdn(g) => {
                    [g.channels, u32::from(g.inverse)].into_iter().for_each(|v| put(&mut out, v));
                    put_tensor(&mut out, &g.gamma, Dtype::F32);
                    put_tensor(&mut out, &g.beta, Dtype::F32);
                }
                Op::PixelShuffle { factor } => put(&mut out, *factor),
                Op::Input { .. } | Op::Gelu | Op::Add => {}
            }
        }
        out
    }

    /// Reads the byte form of a graph from untrusted bytes.
    ///
    /// # Errors
    /// When the bytes are not exactly one valid graph. Nothing is allocated for a tensor before its bytes are there.
    pub fn parse(bytes: &[u8]) -> Result<Self, GraphError> {
        Self::read(Reader { bytes, offset: 0, node: 0, is_check: false })
    }

    /// Checks what [`Self::parse`] checks, without keeping a tensor.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn check(bytes: &[u8]) -> Result<Outline, GraphError> {
        let checked = Self::read(Reader { bytes, offset: 0, node: 0, is_check: true });
        // A check finds errors in another order than parsing; the one that parsing finds first is reported.
        let graph = checked.or_else(|_| Self::parse(bytes))?;
        let (input_channels, output_channels) = (graph.input_channels(), graph.output_channels());
        Ok(Outline { input_channels, output_channels, scale: graph.scale() })
    }

    fn read(mut r: Reader<'_>) -> Result<Self, GraphError> {
        let magic = u32::from_le_bytes(r.array("magic")?);
        if magic != u32::from_le_bytes(MAGIC) {
            return Err(GraphError::Header { what: "magic", got: magic });
        }
        let version = r.number("version")?;
        if version != VERSION {
            return Err(GraphError::Header { what: "version", got: version });
        }
        let channels = r.number("input channels")?;
        let count = r.ranged("node count", 1, MAX_NODES)?;
        let output = NodeId(r.number("output node")?);
        let mut nodes = Vec::new();
        for id in 0..count {
            r.node = id;
            nodes.push(r.node(channels)?);
        }
        match r.left() {
            0 if r.is_check => Self::without_tensors(nodes, output),
            0 => Self::new(nodes, output),
            left_bytes => Err(GraphError::Trailing { left_bytes }),
        }
    }
}

fn range(node: u32, what: &'static str, got: u32, min: u32, max: u32) -> Result<u32, GraphError> {
    if (min..=max).contains(&got) {
        return Ok(got);
    }
    Err(GraphError::Range { node, what, got: got.into(), min: min.into(), max: max.into() })
}

fn range_usize(node: u32, what: &'static str, got: usize, min: u32, max: u32) -> Result<u32, GraphError> {
    let clipped = u32::try_from(got).unwrap_or(u32::MAX);
    range(node, what, clipped, min, max)
}

fn same(node: u32, what: &'static str, got: u64, expected: u64) -> Result<(), GraphError> {
    if got == expected { Ok(()) } else { Err(GraphError::Mismatch { node, what, got, expected }) }
}

fn values(node: u32, what: &'static str, v: &[f32], domain: Domain) -> Result<(), GraphError> {
    match v.iter().position(|&x| !domain.contains(x)) {
        None => Ok(()),
        Some(index) => Err(GraphError::Value { node, what, index }),
    }
}

/// Channels and scale of node `id`, given those of the nodes before it.
fn fact(id: u32, node: &Node, before: &[Fact]) -> Result<Fact, GraphError> {
    same(id, "input count", node.inputs.len() as u64, node.op.input_count() as u64)?;
    let mut operands = Vec::with_capacity(2);
    for input in &node.inputs {
        let latest = id.saturating_sub(1);
        range(id, "operand", input.0, 0, latest)?;
        let Some(f) = before.get(input.0 as usize) else {
            return Err(GraphError::Range { node: id, what: "operand", got: input.0.into(), min: 0, max: latest.into() });
        };
        operands.push(*f);
    }
    let x = operands.first().copied().unwrap_or(Fact { channels: 0, scale: Scale::ONE });
    same(id, "input node", u64::from(matches!(node.op, Op::Input { .. })), u64::from(id == 0))?;
    let scaled = |up: u32, down: u32| {
        let max = u64::from(MAX_FACTOR);
        x.scale.times(up, down).ok_or(GraphError::Range { node: id, what: "scale", got: max + 1, min: 1, max })
    };
    match &node.op {
        Op::Input { channels } => Ok(Fact { channels: range(id, "channels", *channels, 1, MAX_CHANNELS)?, scale: Scale::ONE }),
        Op::Conv2d(c) => {
            conv_len(id, [c.input, c.output, c.kernel, c.stride, c.groups])?;
            same(id, "convolution input channels", c.input.into(), x.channels.into())?;
            Ok(Fact { channels: c.output, scale: scaled(1, c.stride)? })
        }
        Op::Gdn(g) => {
            range(id, "channels", g.channels, 1, MAX_CHANNELS)?;
            same(id, "normalization channels", g.channels.into(), x.channels.into())?;
            Ok(x)
        }
        Op::Gelu => Ok(x),
        Op::PixelShuffle { factor } => {
            let r = range(id, "factor", *factor, 1, MAX_FACTOR)?;
            same(id, "channels modulo factor squared", u64::from(x.channels % (r * r)), 0)?;
            Ok(Fact { channels: x.channels / (r * r), scale: scaled(r, 1)? })
        }
        Op::Add => {
            let y = operands.get(1).copied().unwrap_or(x);
            same(id, "channels of the second operand", y.channels.into(), x.channels.into())?;
            same(id, "scale numerator of the second operand", y.scale.numerator.into(), x.scale.numerator.into())?;
            same(id, "scale denominator of the second operand", y.scale.denominator.into(), x.scale.denominator.into())?;
            Ok(x)
        }
    }
}

/// Checks the numbers of a convolution, [input, output, kernel, stride, groups], before its tensors; returns the number of values in the weight.
fn conv_len(id: u32, [input, output, kernel, stride, groups]: [u32; 5]) -> Result<u64, GraphError> {
    range(id, "input channels", input, 1, MAX_CHANNELS)?;
    range(id, "output channels", output, 1, MAX_CHANNELS)?;
    range(id, "kernel", kernel, 1, MAX_KERNEL)?;
    same(id, "kernel modulo 2", u64::from(kernel % 2), 1)?;
    range(id, "stride", stride, 1, MAX_FACTOR)?;
    range(id, "groups", groups, 1, input.min(output))?;
    same(id, "input channels modulo groups", u64::from(input % groups), 0)?;
    same(id, "output channels modulo groups", u64::from(output % groups), 0)?;
    Ok(u64::from(output) * u64::from(input / groups) * u64::from(kernel * kernel))
}

/// Values that a tensor may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Domain {
    Finite,
    NotNegative,
    Positive,
}

impl Domain {
    fn contains(self, v: f32) -> bool {
        let is_inside = match self {
            Self::Finite => true,
            Self::NotNegative => v >= 0.0,
            Self::Positive => v > 0.0,
        };
        is_inside && v.is_finite()
    }
}

/// Checks lengths and values of the tensors of an operator.
fn check_tensors(id: u32, op: &Op) -> Result<(), GraphError> {
    match op {
        Op::Conv2d(c) => {
            let len = conv_len(id, [c.input, c.output, c.kernel, c.stride, c.groups])?;
            same(id, "weight length", c.weight.len() as u64, len)?;
            same(id, "bias length", c.bias.len() as u64, c.output.into())?;
            values(id, "weight", &c.weight, Domain::Finite)?;
            values(id, "bias", &c.bias, Domain::Finite)
        }
        Op::Gdn(g) => {
            range(id, "channels", g.channels, 1, MAX_CHANNELS)?;
            same(id, "gamma length", g.gamma.len() as u64, u64::from(g.channels) * u64::from(g.channels))?;
            same(id, "beta length", g.beta.len() as u64, g.channels.into())?;
            values(id, "gamma", &g.gamma, Domain::NotNegative)?;
            values(id, "beta", &g.beta, Domain::Positive)
        }
        _ => Ok(()),
    }
}

fn put(out: &mut Vec<u8>, v: u32) {
    out.extend(v.to_le_bytes());
}

fn put_tensor(out: &mut Vec<u8>, v: &[f32], dtype: Dtype) {
    let fits = v.iter().all(|x| f16::from_f32(*x).is_finite());
    if dtype == Dtype::F16 && fits {
        out.push(1);
        out.extend(v.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
    } else {
        out.push(0);
        out.extend(v.iter().flat_map(|x| x.to_le_bytes()));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// The node being read, for messages.
    node: u32,
    /// Whether tensors are only checked, and left empty.
    is_check: bool,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    fn take(&mut self, what: &'static str, len: u64) -> Result<&'a [u8], GraphError> {
        let end = usize::try_from(len).ok().and_then(|n| self.offset.checked_add(n));
        match end.and_then(|e| self.bytes.get(self.offset..e).map(|b| (b, e))) {
            Some((b, e)) => {
                self.offset = e;
                Ok(b)
            }
            None => Err(GraphError::Truncated { what, offset: self.offset, needed_bytes: len, left_bytes: self.left() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GraphError> {
        let mut out = [0; N];
        self.take(what, N as u64)?.iter().zip(&mut out).for_each(|(b, o)| *o = *b);
        Ok(out)
    }

    fn number(&mut self, what: &'static str) -> Result<u32, GraphError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn ranged(&mut self, what: &'static str, min: u32, max: u32) -> Result<u32, GraphError> {
        let v = self.number(what)?;
        range(self.node, what, v, min, max)
    }

    fn operand(&mut self) -> Result<NodeId, GraphError> {
        let id = self.ranged("operand", 0, self.node.saturating_sub(1))?;
        Ok(NodeId(id))
    }

    fn tensor(&mut self, what: &'static str, len: u64, domain: Domain) -> Result<Vec<f32>, GraphError> {
        let [dtype] = self.array(what)?;
        match dtype {
            0 => {
                let (values, _) = self.take(what, len.saturating_mul(4))?.as_chunks::<4>();
                self.values(what, values.iter().map(|b| f32::from_le_bytes(*b)), domain)
            }
            1 => {
                let (values, _) = self.take(what, len.saturating_mul(2))?.as_chunks::<2>();
                // A number of 16 bits is finite unless its exponent is all ones.
                let is_special = |b: &[u8; 2]| u16::from_le_bytes(*b) & 0x7c00 == 0x7c00;
                if self.is_check && domain == Domain::Finite && !values.iter().any(is_special) {
                    return Ok(Vec::new());
                }
                self.values(what, values.iter().map(|b| f16::from_le_bytes(*b).to_f32()), domain)
            }
            got => Err(GraphError::Range { node: self.node, what: "dtype", got: got.into(), min: 0, max: 1 }),
        }
    }

    fn values(
        &self,
        what: &'static str,
        mut v: impl ExactSizeIterator<Item = f32>,
        domain: Domain,
    ) -> Result<Vec<f32>, GraphError> {
        if !self.is_check {
            return Ok(memory::collect(v.len(), v)?);
        }
        match v.position(|x| !domain.contains(x)) {
            None => Ok(Vec::new()),
            Some(index) => Err(GraphError::Value { node: self.node, what, index }),
        }
    }

    fn node(&mut self, input_channels: u32) -> Result<Node, GraphError> {
        let [code] = self.array("opcode")?;
        let inputs = match code {
            0 => vec![],
            5 => vec![self.operand()?, self.operand()?],
            _ => vec![self.operand()?],
        };
        let op = match code {
            0 => Op::Input { channels: input_channels },
            1 => Op::Conv2d(self.conv()?),
            2 => Op::Gdn(self.gdn()?),
            3 => Op::Gelu,
            4 => Op::PixelShuffle { factor: self.ranged("factor", 1, MAX_FACTOR)? },
            5 => Op::Add,
            got => return Err(GraphError::Range { node: self.node, what: "opcode", got: got.into(), min: 0, max: 5 }),
        };
        Ok(Node { op, inputs })
    }

    fn conv(&mut self) -> Result<Conv2d, GraphError> {
        let mut n = [0; 5];
        for v in &mut n {
            *v = self.number("convolution")?;
        }
        let len = conv_len(self.node, n)?;
        let [input, output, kernel, stride, groups] = n;
        let weight = self.tensor("weight", len, Domain::Finite)?;
        let bias = self.tensor("bias", output.into(), Domain::Finite)?;
        Ok(Conv2d { input, output, kernel, stride, groups, weight, bias })
    }

    fn gdn(&mut self) -> Result<Gdn, GraphError> {
        let channels = self.ranged("channels", 1, MAX_CHANNELS)?;
        let inverse = self.ranged("inverse", 0, 1)? == 1;
        let gamma = self.tensor("gamma", u64::from(channels) * u64::from(channels), Domain::NotNegative)?;
        let beta = self.tensor("beta", channels.into(), Domain::Positive)?;
        Ok(Gdn { channels, inverse, gamma, beta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(input: u32, output: u32, kernel: u32, stride: u32) -> Op {
        let len = (input * output * kernel * kernel) as usize;
        let weight = (0..len).map(|i| (i as f32 - 7.0) / 16.0).collect();
        Op::Conv2d(Conv2d { input, output, kernel, stride, groups: 1, weight, bias: vec![0.25; output as usize] })
    }

    fn node(op: Op, inputs: &[u32]) -> Node {
        Node { op, inputs: inputs.iter().map(|i| NodeId(*i)).collect() }
    }

    /// Down by 2 with a skip, GDN, GELU, then up by 4: every operator once.
    fn sample() -> Vec<Node> {
        let gdn = Gdn { channels: 4, inverse: false, gamma: vec![0.5; 16], beta: vec![1e-6; 4] };
        vec![
            node(Op::Input { channels: 3 }, &[]),
            node(conv(3, 4, 3, 2), &[0]),
            node(Op::Gdn(gdn), &[1]),
            node(conv(3, 4, 1, 2), &[0]),
            node(Op::Add, &[2, 3]),
            node(Op::Gelu, &[4]),
            node(conv(4, 32, 3, 1), &[5]),
            node(Op::PixelShuffle { factor: 4 }, &[6]),
        ]
    }

    #[test]
    fn round_trips_in_both_dtypes() {
        let g = Graph::new(sample(), NodeId(7)).unwrap();
        assert_eq!((g.input_channels(), g.output_channels()), (3, 2));
        assert_eq!(g.scale(), Scale { numerator: 2, denominator: 1 });
        for dtype in [Dtype::F32, Dtype::F16] {
            assert_eq!(Graph::parse(&g.write(dtype)).unwrap(), g);
        }
        assert!(g.write(Dtype::F16).len() < g.write(Dtype::F32).len());
    }

    #[test]
    fn a_value_beyond_f16_keeps_its_tensor_in_f32() {
        let mut nodes = sample();
        if let Op::Conv2d(c) = &mut nodes[1].op {
            c.weight[0] = 1e6;
        }
        let g = Graph::new(nodes, NodeId(7)).unwrap();
        assert_eq!(Graph::parse(&g.write(Dtype::F16)).unwrap(), g);
    }

    #[test]
    fn sizes_and_multiplications() {
        let g = Graph::new(sample(), NodeId(7)).unwrap();
        let sizes = g.sizes(5, 8).unwrap();
        assert_eq!((sizes[4].height, sizes[4].width), (3, 4));
        assert_eq!(sizes[7], Size { channels: 2, height: 12, width: 16 });
        let at_half = 3 * 4 * 9 + 16 + 3 * 4 + 4 * 32 * 9;
        assert_eq!(g.macs(5, 8).unwrap(), at_half * 12);
    }

    #[test]
    fn every_prefix_is_an_error_and_nothing_panics() {
        let g = Graph::new(sample(), NodeId(7)).unwrap();
        let bytes = g.write(Dtype::F16);
        for n in 0..bytes.len() {
            let error = Graph::parse(&bytes[..n]).unwrap_err();
            assert_eq!(Graph::check(&bytes[..n]), Err(error), "prefix of {n}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Graph::parse(&longer), Err(GraphError::Trailing { left_bytes: 1 }));
    }

    #[test]
    fn flipped_bytes_never_panic_and_a_check_finds_what_parsing_does() {
        let graph = Graph::new(sample(), NodeId(7)).unwrap();
        for bytes in [Dtype::F32, Dtype::F16].map(|dtype| graph.write(dtype)) {
            for i in 0..bytes.len() {
                for v in [0, 1, 0x7c, 0x7f, 0xff] {
                    let mut b = bytes.clone();
                    b[i] = v;
                    let outline = |g: Graph| {
                        let (input_channels, output_channels) = (g.input_channels(), g.output_channels());
                        Outline { input_channels, output_channels, scale: g.scale() }
                    };
                    let parsed = Graph::parse(&b).map(outline);
                    assert!(parsed.as_ref().is_ok_and(|outline| outline.output_channels > 0) || parsed.is_err());
                    assert_eq!(Graph::check(&b), parsed, "byte {i} is {v}");
                }
            }
        }
    }

    #[test]
    fn a_claimed_size_is_not_allocated() {
        let mut b = MAGIC.to_vec();
        [VERSION, MAX_CHANNELS, 2, 1].into_iter().for_each(|v| put(&mut b, v));
        b.extend([0, 1]);
        [0, MAX_CHANNELS, MAX_CHANNELS, 31, 1, 1].into_iter().for_each(|v| put(&mut b, v));
        b.push(0);
        assert!(matches!(Graph::parse(&b), Err(GraphError::Truncated { what: "weight", .. })));
    }

    #[test]
    fn malformed_graphs_are_named() {
        type Change = fn(&mut Vec<Node>);
        let cases: [(Change, &str); 7] = [
            (|n| n[4].inputs[1] = NodeId(4), "operand"),
            (|n| n[5].op = Op::Input { channels: 4 }, "input count"),
            (|n| n[3].op = conv(3, 4, 1, 1), "scale denominator"),
            (|n| n[3].op = conv(3, 5, 1, 2), "channels of the second"),
            (|n| n[6].op = conv(5, 32, 3, 1), "convolution input channels"),
            (|n| n[6].op = conv(4, 31, 3, 1), "modulo factor squared"),
            (|n| n[2].op = Op::Gdn(Gdn { channels: 4, inverse: false, gamma: vec![0.5; 16], beta: vec![0.0; 4] }), "beta[0]"),
        ];
        for (change, message) in cases {
            let mut nodes = sample();
            change(&mut nodes);
            let error = Graph::new(nodes, NodeId(7)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(Graph::new(sample(), NodeId(8)).is_err());
        assert!(Graph::new(vec![], NodeId(0)).is_err());
    }

    #[test]
    fn strides_without_a_common_one_are_refused() {
        let dangling = |strides: &[u32]| {
            let mut nodes = vec![node(Op::Input { channels: 1 }, &[])];
            nodes.extend(strides.iter().map(|stride| node(conv(1, 1, 1, *stride), &[0])));
            Graph::new(nodes, NodeId(0))
        };
        assert_eq!(dangling(&[2, 3, 1, 4]).map(|g| g.stride()), Ok(12));
        assert_eq!(dangling(&[1021]).map(|g| g.stride()), Ok(1021));
        for strides in [&[1021, 1019, 1013, 1009][..], &[32, 33]] {
            let error = dangling(strides).unwrap_err();
            assert!(matches!(error, GraphError::Range { node: 2, what: "common stride", max: 1024, .. }), "{error}");
        }
    }

    #[test]
    fn operands_of_different_size_are_named() {
        // The input itself, and the input after it went down by 2 and up by 2.
        let nodes = vec![
            node(Op::Input { channels: 4 }, &[]),
            node(conv(4, 16, 1, 2), &[0]),
            node(Op::PixelShuffle { factor: 2 }, &[1]),
            node(Op::Add, &[0, 2]),
        ];
        let g = Graph::new(nodes, NodeId(3)).unwrap();
        assert!(g.sizes(4, 4).is_ok());
        assert_eq!(g.sizes(5, 4), Err(GraphError::Size { node: 3, height: 5, width: 4 }));
    }
}
