//! Imports the ONNX files of the transforms as float graphs.
//!
//! tract-onnx reads the protobuf. Operators that PyTorch writes as one node are mapped one by one; the two that it writes as
//! several nodes (GELU: Div, Erf, Add, Mul; GDN: Mul, Conv, Sqrt, Div or Mul) are recognized node by node.

use mlic_model::graph::{Conv2d, Gdn, Graph, GraphError, Node, NodeId, Op};
use std::collections::HashMap;
use std::path::Path;
use tract_onnx::Onnx;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::Framework;

/// Why an ONNX file is not a transform.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Not readable as ONNX.
    #[error("{path}: {message}")]
    Read {
        /// The file.
        path: String,
        /// tract's reason.
        message: String,
    },
    /// An operator, or a form of it, that no transform has.
    #[error("ONNX node {node:?} ({op}): {reason}")]
    Unsupported {
        /// The node's name, or its first output's.
        node: String,
        /// Its operator.
        op: String,
        /// What is unsupported about it.
        reason: String,
    },
    /// A graph without exactly one float input of known channels, or without exactly one output.
    #[error("ONNX graph: {reason}")]
    Interface {
        /// What is wrong with it.
        reason: String,
    },
    /// The nodes do not fit together.
    #[error("imported graph: {0}")]
    Graph(#[from] GraphError),
}

/// Reads a transform from an ONNX file.
///
/// # Errors
/// When the file is not ONNX, or contains an operator that no transform has; the error names the node.
pub fn import(path: impl AsRef<Path>) -> Result<Graph, ImportError> {
    let path = path.as_ref();
    let read = |message: String| ImportError::Read { path: path.display().to_string(), message };
    let onnx = tract_onnx::onnx();
    let model = onnx.proto_model_for_path(path).map_err(|e| read(format!("{e:#}")))?;
    let graph = model.graph.as_ref().ok_or_else(|| read("no graph".into()))?;
    let folder = path.parent().and_then(Path::to_str);
    Importer { onnx: &onnx, folder, nodes: vec![], values: HashMap::new() }.graph(graph)
}

/// A constant of the file.
#[derive(Debug, Clone)]
struct Constant {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// What a name in the file stands for.
#[derive(Debug, Clone)]
enum Value {
    Node(NodeId),
    Constant(Constant),
    /// `x / sqrt 2`
    OverRoot2(NodeId),
    /// `erf(x / sqrt 2)`
    Erf(NodeId),
    /// `1 + erf(x / sqrt 2)`
    ErfPlus1(NodeId),
    /// `x / 2`
    Half(NodeId),
    /// `x (1 + erf(x / sqrt 2))`
    TwiceGelu(NodeId),
    /// `x^2`
    Square(NodeId),
    /// `beta + gamma x^2`
    Norm(NodeId, Box<Conv2d>),
    /// `sqrt(beta + gamma x^2)`
    Root(NodeId, Box<Conv2d>),
    /// `1 / sqrt(beta + gamma x^2)`
    InverseRoot(NodeId, Box<Conv2d>),
}

struct Importer<'a> {
    onnx: &'a Onnx,
    /// Folder of external tensors.
    folder: Option<&'a str>,
    nodes: Vec<Node>,
    values: HashMap<String, Value>,
}

fn unsupported(node: &NodeProto, reason: impl Into<String>) -> ImportError {
    let name = if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
    ImportError::Unsupported { node: name, op: node.op_type.clone(), reason: reason.into() }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// The value that all entries of an integer list attribute share.
fn uniform(node: &NodeProto, name: &str, default: i64) -> Result<u32, ImportError> {
    let list = attribute(node, name).map_or(&[][..], |a| &a.ints);
    let first = list.first().copied().unwrap_or(default);
    match u32::try_from(first) {
        Ok(v) if list.iter().all(|x| *x == first) => Ok(v),
        _ => Err(unsupported(node, format!("{name} {list:?}"))),
    }
}

fn is(constant: &Constant, value: f32) -> bool {
    matches!(constant.values[..], [v] if (v - value).abs() < 1e-6)
}

impl Importer<'_> {
    fn graph(mut self, graph: &GraphProto) -> Result<Graph, ImportError> {
        for t in &graph.initializer {
            let constant = self.constant(t).map_err(|reason| ImportError::Interface { reason })?;
            self.values.insert(t.name.clone(), Value::Constant(constant));
        }
        self.input(graph)?;
        for node in &graph.node {
            let value = self.node(node)?;
            let [output] = &node.output[..] else { return Err(unsupported(node, "several outputs")) };
            self.values.insert(output.clone(), value);
        }
        let [output] = &graph.output[..] else {
            return Err(ImportError::Interface { reason: format!("{} outputs", graph.output.len()) });
        };
        match self.values.get(&output.name) {
            Some(Value::Node(id)) => Ok(Graph::new(self.nodes, *id)?),
            other => Err(ImportError::Interface { reason: format!("output {:?} is {}", output.name, describe(other)) }),
        }
    }

    fn input(&mut self, graph: &GraphProto) -> Result<(), ImportError> {
        let inputs: Vec<_> = graph.input.iter().filter(|i| !self.values.contains_key(&i.name)).collect();
        let [input] = inputs[..] else {
            return Err(ImportError::Interface { reason: format!("{} inputs", inputs.len()) });
        };
        let reason = || ImportError::Interface { reason: format!("channels of input {:?} are unknown", input.name) };
        let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Err(reason());
        };
        let dims = tensor.shape.as_ref().map_or(&[][..], |s| &s.dim);
        let channels = match dims {
            [_, c, _, _] => match &c.value {
                Some(dimension::Value::DimValue(v)) => u32::try_from(*v).ok(),
                _ => None,
            },
            _ => None,
        };
        let channels = channels.ok_or_else(reason)?;
        let id = self.push(Op::Input { channels }, &[]);
        self.values.insert(input.name.clone(), id);
        Ok(())
    }

    fn push(&mut self, op: Op, inputs: &[NodeId]) -> Value {
        self.nodes.push(Node { op, inputs: inputs.to_vec() });
        Value::Node(NodeId(self.nodes.len() as u32 - 1))
    }

    fn constant(&self, t: &TensorProto) -> Result<Constant, String> {
        // FLOAT, FLOAT16, DOUBLE
        if ![1, 10, 11].contains(&t.data_type) {
            return Err(format!("tensor {:?} has data type {}", t.name, t.data_type));
        }
        let tensor = tract_onnx::tensor::load_tensor(&*self.onnx.provider, t, self.folder);
        let read = || -> tract_onnx::prelude::TractResult<Constant> {
            let tensor = tensor?.cast_to::<f32>()?.into_owned();
            let values = tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
            Ok(Constant { shape: tensor.shape().to_vec(), values })
        };
        read().map_err(|e| format!("tensor {:?}: {e:#}", t.name))
    }

    fn operand(&self, node: &NodeProto, i: usize) -> Result<&Value, ImportError> {
        let name = node.input.get(i).ok_or_else(|| unsupported(node, format!("no input {i}")))?;
        self.values.get(name).ok_or_else(|| unsupported(node, format!("input {name:?} is not defined before")))
    }

    fn node(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        if !matches!(&node.domain[..], "" | "ai.onnx") {
            return Err(unsupported(node, format!("domain {:?}", node.domain)));
        }
        match &node.op_type[..] {
            "Constant" => {
                let t = attribute(node, "value").and_then(|a| a.t.as_ref());
                let t = t.ok_or_else(|| unsupported(node, "no tensor value"))?;
                self.constant(t).map(Value::Constant).map_err(|reason| unsupported(node, reason))
            }
            "Identity" => self.operand(node, 0).cloned(),
            "Conv" => self.conv(node),
            "DepthToSpace" => self.depth_to_space(node),
            "Gelu" => match (self.operand(node, 0)?, attribute(node, "approximate").map_or(&b"none"[..], |a| &a.s)) {
                (&Value::Node(x), b"none") => Ok(self.push(Op::Gelu, &[x])),
                _ => Err(unsupported(node, "approximate, or not of a tensor")),
            },
            "Erf" | "Sqrt" | "Reciprocal" => self.unary(node),
            "Add" | "Mul" | "Div" => self.binary(node),
            "Pow" => match (self.operand(node, 0)?, self.operand(node, 1)?) {
                (Value::Node(x), Value::Constant(c)) if is(c, 2.0) => Ok(Value::Square(*x)),
                _ => Err(unsupported(node, "exponent other than 2")),
            },
            _ => Err(unsupported(node, "operator is not one of a transform's")),
        }
    }

    fn unary(&self, node: &NodeProto) -> Result<Value, ImportError> {
        match (&node.op_type[..], self.operand(node, 0)?) {
            ("Erf", Value::OverRoot2(x)) => Ok(Value::Erf(*x)),
            ("Sqrt", Value::Norm(x, c)) => Ok(Value::Root(*x, c.clone())),
            ("Reciprocal", Value::Root(x, c)) => Ok(Value::InverseRoot(*x, c.clone())),
            (_, other) => Err(unsupported(node, format!("of {}, is no part of GELU or GDN", describe(Some(other))))),
        }
    }

    fn binary(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        use Value::{Constant as C, ErfPlus1, Half, InverseRoot, Node as N, OverRoot2, Root, TwiceGelu};
        let (a, b) = (self.operand(node, 0)?.clone(), self.operand(node, 1)?.clone());
        // Put sums and products into one order: a plain tensor first, a constant second.
        let swap = matches!(a, C(_)) || (matches!(b, N(_)) && !matches!(a, N(_)));
        let (a, b) = if swap && node.op_type != "Div" { (b, a) } else { (a, b) };
        let root2 = std::f32::consts::SQRT_2;
        let value = match (&node.op_type[..], a, b) {
            ("Add", N(x), N(y)) => self.push(Op::Add, &[x, y]),
            ("Add", Value::Erf(x), C(c)) if is(&c, 1.0) => ErfPlus1(x),
            ("Div", N(x), C(c)) if is(&c, root2) => OverRoot2(x),
            ("Mul", N(x), C(c)) if is(&c, 1.0 / root2) => OverRoot2(x),
            ("Mul", N(x), C(c)) if is(&c, 0.5) => Half(x),
            ("Mul", N(x), ErfPlus1(y)) if x == y => TwiceGelu(x),
            ("Mul", TwiceGelu(x), C(c)) if is(&c, 0.5) => self.push(Op::Gelu, &[x]),
            ("Mul", Half(x), ErfPlus1(y)) | ("Mul", ErfPlus1(y), Half(x)) if x == y => self.push(Op::Gelu, &[x]),
            ("Mul", N(x), N(y)) if x == y => Value::Square(x),
            ("Mul", N(x), Root(y, c)) if x == y => self.gdn(x, *c, true),
            ("Mul", N(x), InverseRoot(y, c)) | ("Div", N(x), Root(y, c)) if x == y => self.gdn(x, *c, false),
            (_, a, b) => {
                let (a, b) = (describe(Some(&a)), describe(Some(&b)));
                return Err(unsupported(node, format!("of {a} and {b}, is no sum of tensors and no part of GELU or GDN")));
            }
        };
        Ok(value)
    }

    fn gdn(&mut self, x: NodeId, c: Conv2d, inverse: bool) -> Value {
        self.push(Op::Gdn(Gdn { channels: c.output, inverse, gamma: c.weight, beta: c.bias }), &[x])
    }

    fn conv(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        let Value::Constant(weight) = self.operand(node, 1)?.clone() else {
            return Err(unsupported(node, "weight is not constant"));
        };
        let &[output, per_group, kernel, kernel_w] = &weight.shape[..] else {
            return Err(unsupported(node, format!("weight of shape {:?}", weight.shape)));
        };
        let [output, per_group, kernel, kernel_w] = [output, per_group, kernel, kernel_w].map(|v| v as u32);
        let groups = u32::try_from(attribute(node, "group").map_or(1, |a| a.i));
        let groups = groups.map_err(|_| unsupported(node, "negative group"))?;
        let auto_pad = attribute(node, "auto_pad").map_or(&b"NOTSET"[..], |a| &a.s);
        if kernel != kernel_w || auto_pad != b"NOTSET" || uniform(node, "dilations", 1)? != 1 {
            return Err(unsupported(node, format!("{kernel}x{kernel_w} kernel, dilated, or automatic padding")));
        }
        let pad = uniform(node, "pads", 0)?;
        if pad * 2 + 1 != kernel {
            return Err(unsupported(node, format!("padding {pad} of a {kernel}x{kernel} kernel")));
        }
        let bias = match node.input.get(2).map(|name| self.values.get(name)) {
            None => vec![0.0; output as usize],
            Some(Some(Value::Constant(b))) => b.values.clone(),
            Some(_) => return Err(unsupported(node, "bias is not constant")),
        };
        let (stride, input) = (uniform(node, "strides", 1)?, per_group.saturating_mul(groups));
        let conv = Conv2d { input, output, kernel, stride, groups, weight: weight.values, bias };
        match *self.operand(node, 0)? {
            Value::Node(x) => Ok(self.push(Op::Conv2d(conv), &[x])),
            Value::Square(x) if (kernel, stride, groups) == (1, 1, 1) && input == output => Ok(Value::Norm(x, Box::new(conv))),
            ref other => Err(unsupported(node, format!("of {}", describe(Some(other))))),
        }
    }

    fn depth_to_space(&mut self, node: &NodeProto) -> Result<Value, ImportError> {
        let mode = attribute(node, "mode").map_or(&b"DCR"[..], |a| &a.s);
        let factor = attribute(node, "blocksize").and_then(|a| u32::try_from(a.i).ok());
        match (self.operand(node, 0)?, mode, factor) {
            (&Value::Node(x), b"CRD", Some(factor)) => Ok(self.push(Op::PixelShuffle { factor }, &[x])),
            _ => Err(unsupported(node, "mode is not CRD, no block size, or not of a tensor")),
        }
    }
}

fn describe(value: Option<&Value>) -> String {
    match value {
        None => "undefined".into(),
        Some(Value::Node(_)) => "a tensor".into(),
        Some(Value::Constant(c)) => format!("a constant of shape {:?}", c.shape),
        Some(_) => "an unfinished part of GELU or GDN".into(),
    }
}
