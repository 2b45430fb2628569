//! Quantizes the float transforms (SPEC 2.9, 2.10): turns their graphs into layers and normalizations, with scales from calibration.
//!
//! A convolution absorbs the GELU and the pixel shuffle after it; sums become layers of identity terms. Activations have 14 bits. Weights have as
//! many bits as the 32-bit accumulators leave room for: up to 13, about 11 where a sum has 1,728 products. In the entropy networks a wrong bit costs
//! a fraction of a bit; here every rounding is noise, in the picture, where it must not be seen at 40 dB, or, in an analysis, in y.
//!
//! An analysis needs more precision: in a smooth picture everything but the mean is small, and errors of the weights disturb it in proportion to
//! the mean. Activations of an analysis have 16 bits. Its weights of more than a byte are two terms of bytes, the second for what the first leaves,
//! so that the sums of each term fit 32 bits.
//!
//! A layer whose weights training has rounded to bytes is stored in bytes, which are exactly those weights.

use mlic_backend::Planes;
use mlic_model::analysis::{Analysis, HyperAnalysis};
use mlic_model::graph::{self, Conv2d, Graph, NodeId, Op};
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::nodes::{Gdn, Layer, MAX_GAMMA_SUM, MAX_NORM, Node, OwnedWeights, Quantizer, RECIPROCAL, Resize};
use mlic_model::parameters::Requant;
use mlic_model::real::{LATENT_STEP, PREACT_STEP, SAMPLE_STEP};
use mlic_model::synthesis::Synthesis;
use mlic_tract::Transform;

use crate::error::BuildError;
use crate::quantize::{WIDE_MAX, layer_level, requant};
use crate::weights;
pub use crate::weights::WeightWidth;

/// Factor of room above the largest activation seen in calibration.
const HEADROOM: f64 = 1.5;

/// Largest magnitude of every channel of every node of a float graph.
#[derive(Debug, Clone)]
pub struct Observed(Vec<Vec<f32>>);

impl Observed {
    /// Runs a graph on some inputs and records the largest magnitudes.
    ///
    /// # Errors
    /// [`BuildError::Transform`].
    pub fn new(graph: &Graph, inputs: impl IntoIterator<Item = Planes>, threads: usize) -> Result<Self, BuildError> {
        let transform = Transform::new(graph.clone())?;
        let channels = (0..graph.nodes().len() as u32).map(|i| graph.channels(NodeId(i)) as usize);
        let mut largest: Vec<Vec<f32>> = channels.map(|n| vec![0.0; n]).collect();
        for input in inputs {
            let values = transform.run_all(&input.data, input.channels, input.height, input.width, threads)?;
            for (largest, values) in largest.iter_mut().zip(values) {
                let area = (values.len() / largest.len().max(1)).max(1);
                for (largest, plane) in largest.iter_mut().zip(values.chunks_exact(area)) {
                    *largest = plane.iter().fold(*largest, |m, v| m.max(v.abs()));
                }
            }
        }
        Ok(Self(largest))
    }

    fn channels(&self, id: NodeId) -> &[f32] {
        self.0.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Real value of one integer step of a node's activations, which are at most `max`.
    fn step(&self, id: NodeId, max: i32) -> f64 {
        let largest = self.channels(id).iter().fold(0.0_f32, |m, v| m.max(*v));
        f64::from(largest).max(1e-3) * HEADROOM / f64::from(max)
    }
}

/// Largest magnitude of an activation of an analysis: the largest that splits into two signed bytes (`256 a + b`) on every processor.
const ANALYSIS_MAX: i32 = 32_639;

/// Quantizes a synthesis.
///
/// # Errors
/// [`BuildError::NoIntegerForm`] for a graph that has no integer form, [`BuildError::Scale`], [`BuildError::Model`].
pub fn quantize(graph: &Graph, observed: &Observed, width: WeightWidth) -> Result<Synthesis, BuildError> {
    let (quantizer, input) = latent_input("g_s", observed, WIDE_MAX)?;
    let nodes = Converter::convert("g_s", Target::Samples, graph, observed, width, input)?;
    Ok(Synthesis::new(graph.input_channels() as usize, quantizer, nodes)?)
}

/// Quantizes a `g_a`, which reads samples.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_analysis(graph: &Graph, observed: &Observed, width: WeightWidth) -> Result<Analysis, BuildError> {
    let input = Made { at: NodeIndex(0), step: SAMPLE_STEP, max: 255 };
    let nodes = Converter::convert("g_a", Target::Latents, graph, observed, width, input)?;
    Ok(Analysis::new(graph.output_channels() as usize, nodes)?)
}

/// Quantizes an `h_a`, which reads latents.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_hyper_analysis(graph: &Graph, observed: &Observed, width: WeightWidth) -> Result<HyperAnalysis, BuildError> {
    let (quantizer, input) = latent_input("h_a", observed, Target::Latents.max(width))?;
    let nodes = Converter::convert("h_a", Target::Latents, graph, observed, width, input)?;
    Ok(HyperAnalysis::new(quantizer, graph.input_channels() as usize, graph.output_channels() as usize, nodes)?)
}

/// The quantizer from latents to node 0, and node 0 itself.
fn latent_input(name: &str, observed: &Observed, max: i32) -> Result<(Quantizer, Made), BuildError> {
    let step = observed.step(NodeId(0), max);
    let quantizer = Quantizer { max, requant: requant(name, LATENT_STEP / step)? };
    Ok((quantizer, Made { at: NodeIndex(0), step, max }))
}

/// What a transform computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Samples, in a synthesis: its normalizations are inverse ones.
    Samples,
    /// Latents, in an analysis: its layers may have stride 2, and its normalizations divide.
    Latents,
}

impl Target {
    /// Largest magnitude of an activation within the transform, with weights of this width.
    const fn max(self, width: WeightWidth) -> i32 {
        match (self, width) {
            (Self::Latents, WeightWidth::Words) => ANALYSIS_MAX,
            _ => WIDE_MAX,
        }
    }
}

/// An integer node that stands for a float one.
#[derive(Debug, Clone, Copy)]
struct Made {
    at: NodeIndex,
    /// Real value of one step.
    step: f64,
    max: i32,
}

struct Converter<'a> {
    /// Name of the transform.
    name: &'static str,
    target: Target,
    graph: &'a Graph,
    observed: &'a Observed,
    width: WeightWidth,
    /// Per float node, the integer node that stands for it, once there is one.
    made: Vec<Option<Made>>,
    /// Per float node, whether the layer of an earlier node has absorbed it.
    taken: Vec<bool>,
    nodes: Vec<Node>,
}

/// What a layer absorbs of the float nodes after it.
#[derive(Clone, Copy)]
struct After {
    gelu: bool,
    /// Pixel shuffle, or the layer's own stride.
    resize: Resize,
    /// The float node whose value the layer has.
    last: NodeId,
}

impl<'a> Converter<'a> {
    /// Converts the nodes of a graph after its input.
    fn convert(
        name: &'static str,
        target: Target,
        graph: &'a Graph,
        observed: &'a Observed,
        width: WeightWidth,
        input: Made,
    ) -> Result<Vec<Node>, BuildError> {
        let count = graph.nodes().len();
        let (made, taken) = (vec![None; count], vec![false; count]);
        let mut converter = Self { name, target, graph, observed, width, made, taken, nodes: Vec::new() };
        converter.made[0] = Some(input);
        for id in (1..count as u32).map(NodeId) {
            converter.node(id)?;
        }
        Ok(converter.nodes)
    }

    fn node(&mut self, id: NodeId) -> Result<(), BuildError> {
        if self.taken[id.0 as usize] {
            return Ok(());
        }
        let node = &self.graph.nodes()[id.0 as usize];
        let channels = self.graph.channels(id) as usize;
        match &node.op {
            Op::Conv2d(conv) => self.convolution(id, conv, node.inputs[0]),
            Op::Gelu => self.identity(After { gelu: true, resize: Resize::None, last: id }, &node.inputs, channels),
            Op::PixelShuffle { factor: 2 } => {
                self.identity(After { gelu: false, resize: Resize::Shuffle, last: id }, &node.inputs, 4 * channels)
            }
            Op::Add => self.identity(After { gelu: false, resize: Resize::None, last: id }, &node.inputs, channels),
            Op::Gdn(gdn) if gdn.inverse == (self.target == Target::Samples) => self.gdn(id, gdn, node.inputs[0]),
            other => Err(self.unsupported(id, format!("{} has no integer form", name(other)))),
        }
    }

    fn input(&self, id: NodeId) -> Result<Made, BuildError> {
        self.made[id.0 as usize].ok_or_else(|| self.unsupported(id, "is read before it is there"))
    }

    /// Absorbs the GELU and the pixel shuffle after a node, if each is the only reader of its input.
    fn after(&mut self, id: NodeId) -> After {
        let mut after = After { gelu: false, resize: Resize::None, last: id };
        loop {
            let readers = (0_u32..).zip(self.graph.nodes()).filter(|(_, n)| n.inputs.contains(&after.last));
            let readers: Vec<_> = readers.collect();
            let [(next, node)] = readers.as_slice() else { return after };
            match node.op {
                _ if after.last == self.graph.output() => return after,
                Op::Gelu if !after.gelu => after.gelu = true,
                Op::PixelShuffle { factor: 2 } if after.resize == Resize::None => after.resize = Resize::Shuffle,
                _ => return after,
            }
            after.last = NodeId(*next);
            self.taken[*next as usize] = true;
        }
    }

    fn convolution(&mut self, id: NodeId, conv: &Conv2d, input: NodeId) -> Result<(), BuildError> {
        let size = conv.kernel as usize;
        let strides = if self.target == Target::Samples { 1..=1 } else { 1..=2 };
        if !strides.contains(&conv.stride) || conv.groups != 1 || !matches!(size, 1 | 3 | 5) {
            let problem = format!(
                "kernel {size}, stride {}, {} groups: only 1, 3 or 5, {strides:?}, 1 have an integer form",
                conv.stride, conv.groups
            );
            return Err(self.unsupported(id, problem));
        }
        let from = self.input(input)?;
        let terms = match (self.target, self.width) {
            (Target::Latents, WeightWidth::Words) => weights::split(conv, from.max),
            _ => vec![weights::single(conv, self.width, from.max)],
        };
        let (weights, steps): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
        let term = TermSpec::node(from.at, conv.input as usize, false);
        let spec = self.spec(id, vec![term; weights.len()], Kernel::Dense { size }, conv.output as usize);
        let (mut after, inputs) = (self.after(id), vec![from.step; weights.len()]);
        after.resize = match (conv.stride, after.resize) {
            (1, resize) => resize,
            (_, Resize::None) => Resize::Stride,
            _ => return Err(self.unsupported(id, "a pixel shuffle after a stride has no integer form")),
        };
        self.layer(after, spec, &conv.bias, weights, &steps, &inputs)
    }

    /// Makes a layer of identity terms.
    fn identity(&mut self, after: After, inputs: &[NodeId], outputs: usize) -> Result<(), BuildError> {
        let from = inputs.iter().map(|id| self.input(*id)).collect::<Result<Vec<_>, _>>()?;
        let term = |m: &Made| TermSpec::node(m.at, outputs, true);
        let spec = self.spec(after.last, from.iter().map(term).collect(), Kernel::Dense { size: 1 }, outputs);
        let none = vec![OwnedWeights::Bytes(Vec::new()); from.len()];
        let steps: Vec<f64> = from.iter().map(|m| m.step).collect();
        self.layer(after, spec, &vec![0.0; outputs], none, &vec![vec![1.0; outputs]; from.len()], &steps)
    }

    fn spec(&self, id: NodeId, terms: Vec<TermSpec>, kernel: Kernel, outputs: usize) -> LayerSpec {
        LayerSpec { name: format!("{}.{}", self.name, id.0), terms, kernel, outputs, epilogue: Epilogue::Linear }
    }

    fn layer(
        &mut self,
        after: After,
        mut spec: LayerSpec,
        bias: &[f32],
        weights: Vec<OwnedWeights>,
        steps: &[Vec<f64>],
        inputs: &[f64],
    ) -> Result<(), BuildError> {
        let end = (after.last == self.graph.output()).then_some(self.target);
        let none = Requant { multiplier: 0, shift: 0 };
        let most = self.target.max(self.width);
        let step = self.observed.step(after.last, most);
        let (epilogue, step, unit, output, max) = match (end, after.gelu) {
            (Some(_), true) => return Err(self.unsupported(after.last, "an output after GELU has no integer form")),
            (Some(Target::Samples), _) => (Epilogue::Pixel, SAMPLE_STEP, SAMPLE_STEP, none, 255),
            (Some(Target::Latents), _) => (Epilogue::Latent, LATENT_STEP, LATENT_STEP, none, most),
            (None, true) => (Epilogue::Gelu, step, PREACT_STEP, requant(&spec.name, PREACT_STEP / step)?, most),
            (None, false) => (Epilogue::Linear, step, step, none, most),
        };
        spec.epilogue = epilogue;
        let level = layer_level(&spec, bias, steps, inputs, unit, output)?;
        self.add(after.last, Node::Layer(Layer { spec, max, level, weights, resize: after.resize }), step, max);
        Ok(())
    }

    /// Makes a normalization, whose integer norm is `v = norm * area`, where each channel's `area` makes its largest norm just fit. The root of v
    /// is then the root of the norm times the root of the area.
    fn gdn(&mut self, id: NodeId, gdn: &graph::Gdn, input: NodeId) -> Result<(), BuildError> {
        let (n, from) = (gdn.channels as usize, self.input(input)?);
        let squares: Vec<f64> = self.observed.channels(input).iter().map(|v| (f64::from(*v) * HEADROOM).powi(2)).collect();
        let norm =
            |row: &[f32], beta: &f32| row.iter().zip(&squares).map(|(g, s)| f64::from(*g) * s).sum::<f64>() + f64::from(*beta);
        let rows: Vec<&[f32]> = gdn.gamma.chunks_exact(n).collect();
        let areas: Vec<f64> = rows.iter().zip(&gdn.beta).map(|(row, beta)| MAX_NORM as f64 / norm(row, beta)).collect();
        // For each channel, the largest factor of its gammas, and the shift with which this factor gives just the channel's area.
        let factors: Vec<f64> = rows.iter().map(|row| gamma_factor(row)).collect();
        let unit = from.step * from.step;
        let shifts = factors.iter().zip(&areas).filter(|(f, _)| f.is_finite()).map(|(f, a)| (f / (unit * a)).log2());
        let (sum, count) = shifts.fold((0.0, 0), |(sum, count), s| (sum + s, count + 1));
        let shift = (sum / f64::from(count.max(1))).round().clamp(0.0, 40.0) as u32;
        let scale = f64::from(shift).exp2();
        let areas: Vec<f64> = factors.iter().zip(&areas).map(|(f, a)| a.min(f / (unit * scale))).collect();
        let max = self.target.max(self.width);
        let step = self.observed.step(id, max);
        // From products with the root, or with its reciprocal, to steps of the output.
        let ratio = |a: &f64| match self.target {
            Target::Samples => from.step / (a.sqrt() * step),
            Target::Latents => from.step * a.sqrt() / (f64::from(RECIPROCAL) * step),
        };
        let ratios: Vec<f64> = areas.iter().map(ratio).collect();
        let largest = ratios.iter().copied().fold(0.0, f64::max);
        // Multipliers have 30 bits or, in an analysis, as many as leave 31 bits for their products with activations.
        let bits = if self.target == Target::Samples { 30 } else { 31 - (i32::BITS - from.max.leading_zeros()) as i32 };
        let output_shift = bits - 1 - largest.log2().floor() as i32;
        if !(0..=62).contains(&output_shift) {
            return Err(BuildError::Scale { operator: format!("{}.{}", self.name, id.0), value: largest });
        }
        let gamma = rows
            .iter()
            .zip(&areas)
            .flat_map(|(row, a)| row.iter().map(move |g| (f64::from(*g) * unit * a * scale).round() as i16));
        let beta = gdn.beta.iter().zip(&areas).map(|(b, a)| (f64::from(*b) * a * scale).round() as i64);
        let node = Gdn {
            input: from.at,
            inverse: self.target == Target::Samples,
            max,
            gamma: gamma.collect(),
            beta: beta.collect(),
            shift,
            multipliers: ratios.iter().map(|r| (r * f64::from(output_shift).exp2()).round() as i32).collect(),
            output_shift: output_shift as u32,
        };
        self.add(id, Node::Gdn(node), step, max);
        Ok(())
    }

    fn unsupported(&self, id: NodeId, problem: impl Into<String>) -> BuildError {
        BuildError::NoIntegerForm { transform: self.name, node: id.0, problem: problem.into() }
    }

    fn add(&mut self, id: NodeId, node: Node, step: f64, max: i32) {
        self.nodes.push(node);
        self.made[id.0 as usize] = Some(Made { at: NodeIndex(self.nodes.len()), step, max });
    }
}

/// The largest factor that leaves the gammas of one channel, once rounded, in range; infinite if all are zero.
fn gamma_factor(row: &[f32]) -> f64 {
    let largest = row.iter().fold(0.0_f64, |m, g| m.max(f64::from(*g)));
    let sum: f64 = row.iter().map(|g| f64::from(*g)).sum();
    let room = MAX_GAMMA_SUM as f64 - row.len() as f64 / 2.0 - 1.0;
    (f64::from(i16::MAX) / largest).min(room / sum)
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Input { .. } => "a second input",
        Op::Gdn(_) => "a divisive normalization",
        Op::PixelShuffle { .. } => "a pixel shuffle by another factor than 2",
        _ => "this operator",
    }
}
