//! Makes tract models from a graph, each for one input size.

use crate::ops::{Gelu, Normalize, PixelShuffle, Square, Sum};
use mlic_model::graph::{Conv2d, Gdn, Graph, Node, NodeId, Op};
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::nn::DataFormat;

/// A graph whose tensors tract can share between plans.
#[derive(Debug)]
pub(crate) struct Recipe {
    steps: Vec<Step>,
    output: NodeId,
    pub(crate) input_channels: usize,
}

#[derive(Debug)]
struct Step {
    kind: Kind,
    inputs: Vec<NodeId>,
}

#[derive(Debug)]
enum Kind {
    Input,
    Conv(ConvStep),
    /// The 1x1 convolution of the squares, and whether the normalization is inverse.
    Gdn(ConvStep, bool),
    Gelu,
    PixelShuffle(usize),
    Add,
}

#[derive(Debug)]
struct ConvStep {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    weight: Arc<Tensor>,
    bias: Arc<Tensor>,
}

impl Recipe {
    pub(crate) fn new(graph: Graph) -> TractResult<Self> {
        let (output, input_channels) = (graph.output(), graph.input_channels() as usize);
        let steps = graph.into_nodes().into_iter().map(Step::new).collect::<TractResult<_>>()?;
        Ok(Self { steps, output, input_channels })
    }

    /// The nodes of the graph.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        (0..self.steps.len() as u32).map(NodeId)
    }

    /// An optimized model for inputs of [1, channels, height, width] that computes the output alone.
    pub(crate) fn model(&self, channels: usize, height: usize, width: usize) -> TractResult<TypedModel> {
        self.model_of(channels, height, width, [self.output])
    }

    /// Like [`Self::model`], but computes the nodes `wanted`.
    pub(crate) fn model_of(
        &self,
        channels: usize,
        height: usize,
        width: usize,
        wanted: impl IntoIterator<Item = NodeId>,
    ) -> TractResult<TypedModel> {
        let mut model = TypedModel::default();
        let mut outlets: Vec<OutletId> = Vec::with_capacity(self.steps.len());
        for (i, step) in self.steps.iter().enumerate() {
            let of = |id: &NodeId| outlets.get(id.0 as usize).copied().context("operand");
            let inputs = step.inputs.iter().map(of).collect::<TractResult<Vec<_>>>()?;
            let name = format!("n{i}");
            let outlet = match &step.kind {
                Kind::Input => tvec!(model.add_source(name, f32::fact([1, channels, height, width]))?),
                Kind::Conv(c) => c.wire(&mut model, &name, &inputs)?,
                Kind::Gdn(c, inverse) => {
                    let squares = model.wire_node(format!("{name}.square"), Square, &inputs)?;
                    let norm = c.wire(&mut model, &format!("{name}.norm"), &squares)?;
                    let operands = [&inputs[..], &norm[..]].concat();
                    model.wire_node(name, Normalize { inverse: *inverse }, &operands)?
                }
                Kind::Gelu => model.wire_node(name, Gelu, &inputs)?,
                Kind::PixelShuffle(factor) => model.wire_node(name, PixelShuffle { factor: *factor }, &inputs)?,
                Kind::Add => model.wire_node(name, Sum, &inputs)?,
            };
            outlets.push(*outlet.first().context("outlet")?);
        }
        let outlet = |id: NodeId| outlets.get(id.0 as usize).copied().context("output");
        model.select_output_outlets(&wanted.into_iter().map(outlet).collect::<TractResult<Vec<_>>>()?)?;
        model.into_optimized()
    }
}

impl Step {
    fn new(node: Node) -> TractResult<Self> {
        let kind = match node.op {
            Op::Input { .. } => Kind::Input,
            Op::Conv2d(c) => Kind::Conv(ConvStep::new(c)?),
            Op::Gdn(Gdn { channels, inverse, gamma, beta }) => {
                let (input, output) = (channels, channels);
                let conv = Conv2d { input, output, kernel: 1, stride: 1, groups: 1, weight: gamma, bias: beta };
                Kind::Gdn(ConvStep::new(conv)?, inverse)
            }
            Op::Gelu => Kind::Gelu,
            Op::PixelShuffle { factor } => Kind::PixelShuffle(factor as usize),
            Op::Add => Kind::Add,
            other => bail!("operator {other:?} is not known"),
        };
        Ok(Self { kind, inputs: node.inputs })
    }
}

impl ConvStep {
    fn new(c: Conv2d) -> TractResult<Self> {
        let [input, output, kernel, stride, groups] = [c.input, c.output, c.kernel, c.stride, c.groups].map(|v| v as usize);
        let weight = Tensor::from_shape(&[output, input / groups.max(1), kernel, kernel], &c.weight)?.into_arc_tensor();
        let bias = Tensor::from_shape(&[output], &c.bias)?.into_arc_tensor();
        Ok(Self { input, output, kernel, stride, groups, weight, bias })
    }

    fn wire(&self, model: &mut TypedModel, name: &str, input: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let x = *input.first().context("operand")?;
        let weight = model.add_const(format!("{name}.weight"), self.weight.clone())?;
        let bias = model.add_const(format!("{name}.bias"), self.bias.clone())?;
        let pad = self.kernel / 2;
        let pool_spec = PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec!(self.kernel, self.kernel),
            padding: PaddingSpec::Explicit(tvec!(pad, pad), tvec!(pad, pad)),
            dilations: None,
            strides: Some(tvec!(self.stride, self.stride)),
            input_channels: self.input,
            output_channels: self.output,
        };
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: self.groups, q_params: None };
        model.wire_node(name, conv, &[x, weight, bias])
    }
}
