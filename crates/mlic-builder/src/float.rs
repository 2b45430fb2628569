//! The entropy networks in float, run by the codec's own walk: the yardstick for the integer networks.

use std::collections::HashMap;

use mlic_backend::ops::Ops;
use mlic_backend::{BackendError, Stage};
use mlic_core::checkerboard::Parity;
use mlic_kernels::Map;
use mlic_model::config::Config;
use mlic_model::layout::{
    Chain, Epilogue, Kernel, LayerId, LayerSpec, Layout, LinearAttentionId, LocalAttentionId, NormId, QuantizerId, Source,
};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

use crate::calibrate::Histogram;
use crate::error::BuildError;
use crate::export::{Export, Tensor};

/// A layer's float weights in the order of the package: per term `[output][row][col][channel]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatLayer {
    /// Weights per term; empty for an identity term.
    pub weights: Vec<Vec<f32>>,
    /// Bias per output.
    pub bias: Vec<f32>,
}

/// Float parameters of the entropy networks, arranged as the layout says.
#[derive(Debug)]
pub struct FloatModel {
    /// Shape of the networks.
    pub config: Config,
    /// Operators of the networks.
    pub layout: Layout,
    /// Parameters of the layers, in layout order.
    pub layers: Vec<FloatLayer>,
    /// Relative position bias per latent slice, `[head][(2 window - 1)^2]`.
    pub position_bias: Vec<Vec<f32>>,
}

/// Epsilon of every layer normalization.
pub const NORM_EPSILON: f64 = 1e-5;

/// A convolution of the checkpoint: weights `[outputs][inputs][row][col]` and bias.
struct Conv {
    outputs: usize,
    inputs: usize,
    taps: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Conv {
    fn load(export: &Export, name: &str, outputs: usize, inputs: usize, size: usize) -> Result<Self, BuildError> {
        let weights = export.tensor(&format!("{name}.weight"), &[outputs, inputs, size, size])?.data;
        let bias = export.tensor(&format!("{name}.bias"), &[outputs])?.data;
        Ok(Self { outputs, inputs, taps: size * size, weights, bias })
    }

    fn linear(export: &Export, name: &str, outputs: usize, inputs: usize) -> Result<Self, BuildError> {
        let weights = export.tensor(&format!("{name}.weight"), &[outputs, inputs])?.data;
        let bias = export.tensor(&format!("{name}.bias"), &[outputs])?.data;
        Ok(Self { outputs, inputs, taps: 1, weights, bias })
    }

    /// Weights for input channels `first..first + count`, channels last.
    fn term(&self, first: usize, count: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.outputs * count * self.taps);
        for per_output in self.weights.chunks_exact(self.inputs * self.taps) {
            for tap in 0..self.taps {
                out.extend((first..first + count).map(|c| per_output[c * self.taps + tap]));
            }
        }
        out
    }

    /// Splits the convolution of a concatenation into one term per concatenated input.
    fn split(&self, spec: &LayerSpec) -> FloatLayer {
        let mut first = 0;
        let mut term = |channels: usize| {
            let weights = self.term(first, channels);
            first += channels;
            weights
        };
        FloatLayer { weights: spec.terms.iter().map(|t| term(t.channels)).collect(), bias: self.bias.clone() }
    }

    /// Absorbs the scale and shift of the layer normalization before this linear layer.
    fn fold_norm(mut self, scale: &Tensor, shift: &Tensor) -> Self {
        for (weights, bias) in self.weights.chunks_exact_mut(self.inputs).zip(&mut self.bias) {
            *bias += weights.iter().zip(&shift.data).map(|(w, s)| w * s).sum::<f32>();
            weights.iter_mut().zip(&scale.data).for_each(|(w, s)| *w *= s);
        }
        self
    }

    /// Selects outputs, in the order given.
    fn select(&self, outputs: impl Iterator<Item = usize>) -> Self {
        let per_output = self.inputs * self.taps;
        let order: Vec<usize> = outputs.collect();
        Self {
            outputs: order.len(),
            weights: order.iter().flat_map(|o| &self.weights[o * per_output..(o + 1) * per_output]).copied().collect(),
            bias: order.iter().map(|o| self.bias[*o]).collect(),
            ..*self
        }
    }
}

/// Loads the layers one by one, each into its place in the layout.
struct Loader<'a> {
    export: &'a Export,
    layout: &'a Layout,
    layers: Vec<FloatLayer>,
}

impl Loader<'_> {
    fn spec(&self, id: LayerId) -> &LayerSpec {
        &self.layout.layers[id.0]
    }

    fn conv(&self, id: LayerId, name: &str) -> Result<Conv, BuildError> {
        let spec = self.spec(id);
        let inputs = match spec.kernel {
            Kernel::Dense { .. } => spec.terms.iter().filter(|t| !t.identity).map(|t| t.channels).sum(),
            Kernel::Depthwise { .. } => 1,
        };
        Conv::load(self.export, name, spec.outputs, inputs, spec.kernel.size())
    }

    /// Loads a layer that is one convolution of the checkpoint.
    fn plain(&mut self, id: LayerId, name: &str) -> Result<(), BuildError> {
        let conv = self.conv(id, name)?;
        self.layers[id.0] = match self.spec(id).kernel {
            Kernel::Dense { .. } => conv.split(self.spec(id)),
            Kernel::Depthwise { .. } => FloatLayer { weights: vec![conv.weights], bias: conv.bias },
        };
        Ok(())
    }

    /// Loads an `nn.Sequential` of convolutions with GELU between them.
    fn chain(&mut self, chain: &Chain, name: &str) -> Result<(), BuildError> {
        chain.ids().enumerate().try_for_each(|(i, id)| self.plain(id, &format!("{name}.{}", 2 * i)))
    }

    fn global(&mut self, ids: &mlic_model::layout::GlobalContextIds, name: &str, skip: bool) -> Result<(), BuildError> {
        for (i, what) in ["queries", "keys", "values"].into_iter().enumerate() {
            self.plain(ids.projections.pointwise[i], &format!("{name}.{what}.0"))?;
            self.plain(ids.projections.depthwise[i], &format!("{name}.{what}.1"))?;
        }
        self.plain(ids.reprojection, &format!("{name}.reprojection"))?;
        self.plain(ids.mlp[0], &format!("{name}.mlp.0"))?;
        self.plain(ids.mlp[1], &format!("{name}.mlp.2"))?;
        let spec = self.spec(ids.out).clone();
        let (hidden, attended) = (spec.terms[0].channels, spec.terms[1].channels);
        let mlp = Conv::load(self.export, &format!("{name}.mlp.4"), spec.outputs, hidden, 1)?;
        let mut layer = FloatLayer { weights: vec![mlp.term(0, hidden), Vec::new()], bias: mlp.bias };
        if skip {
            let skip = Conv::load(self.export, &format!("{name}.skip"), spec.outputs, attended, 1)?;
            layer.weights[1] = skip.term(0, attended);
            layer.bias.iter_mut().zip(skip.bias).for_each(|(b, s)| *b += s);
        }
        self.layers[ids.out.0] = layer;
        Ok(())
    }

    /// Loads the window attention network and returns its position bias. The checkpoint orders the channels of queries, keys and values as
    /// `(head_dim, heads)`; here they are `(heads, head_dim)`, the order that the checkpoint's attention output already has.
    fn local(&mut self, i: usize, config: &Config) -> Result<Vec<f32>, BuildError> {
        let ids = &self.layout.slices[i].local;
        let (name, s, heads) = (format!("local_context.{i}"), config.slice_channels(), config.heads);
        let vector = |what: &str, len: usize| self.export.tensor(&format!("{name}.{what}"), &[len]);
        let qkv = Conv::linear(self.export, &format!("{name}.qkv_proj"), 3 * s, s)?;
        let qkv = qkv.fold_norm(&vector("norm1.weight", s)?, &vector("norm1.bias", s)?);
        let head_channels = s / heads;
        for (part, id) in ids.qkv.into_iter().enumerate() {
            let order = (0..s).map(|c| part * s + (c % head_channels) * heads + c / head_channels);
            self.layers[id.0] = qkv.select(order).split(self.spec(id));
        }
        self.layers[ids.fusion.0] = self.fusion(&name, s, config.window)?;
        let fc1 = Conv::linear(self.export, &format!("{name}.mlp.fc1"), 4 * s, 2 * s)?;
        let fc1 = fc1.fold_norm(&vector("norm2.weight", 2 * s)?, &vector("norm2.bias", 2 * s)?);
        self.layers[ids.fc1.0] = fc1.split(self.spec(ids.fc1));
        let fc2 = Conv::linear(self.export, &format!("{name}.mlp.fc2"), 2 * s, 4 * s)?;
        self.layers[ids.out.0] = FloatLayer { weights: vec![fc2.term(0, 4 * s), Vec::new()], bias: fc2.bias };
        let table_len = (2 * config.window - 1).pow(2);
        let table = self.export.tensor(&format!("{name}.relative_position_table"), &[table_len, heads])?.data;
        Ok((0..heads).flat_map(|h| table.iter().skip(h).step_by(heads).copied()).collect())
    }

    /// Multiplies the window's convolution and the projection after it into one layer: there is nothing between them.
    fn fusion(&self, name: &str, s: usize, window: usize) -> Result<FloatLayer, BuildError> {
        let fusion = Conv::load(self.export, &format!("{name}.fusion"), 2 * s, s, window)?;
        let proj = Conv::linear(self.export, &format!("{name}.proj"), 2 * s, 2 * s)?;
        let rows = fusion.term(0, s);
        let len = s * window * window;
        let mut layer = FloatLayer { weights: vec![vec![0.0; 2 * s * len]], bias: proj.bias.clone() };
        for (o, out) in layer.weights[0].chunks_exact_mut(len).enumerate() {
            for (row, (factor, bias)) in rows.chunks_exact(len).zip(proj.weights[o * 2 * s..].iter().zip(&fusion.bias)) {
                out.iter_mut().zip(row).for_each(|(out, w)| *out += factor * w);
                layer.bias[o] += factor * bias;
            }
        }
        Ok(layer)
    }
}

impl FloatModel {
    /// Arranges the tensors of an export.
    ///
    /// # Errors
    /// [`BuildError::Tensor`] for a tensor that is missing or has the wrong shape.
    pub fn load(export: &Export) -> Result<Self, BuildError> {
        let config = export.config.clone();
        let layout = Layout::new(&config);
        let mut loader = Loader { export, layout: &layout, layers: vec![FloatLayer::default(); layout.layers.len()] };
        let h_s = &layout.h_s;
        for (id, name) in [(h_s.conv0, "0"), (h_s.up0, "2.0"), (h_s.conv1, "4"), (h_s.up1, "6.0"), (h_s.out, "8")] {
            loader.plain(id, &format!("h_s.increase.{name}"))?;
        }
        let mut position_bias = Vec::with_capacity(config.slices);
        for (i, slice) in layout.slices.iter().enumerate() {
            if let Some(channel) = &slice.channel {
                loader.chain(channel, &format!("channel_context.{i}.fushion"))?;
            }
            if let Some(inter) = &slice.inter {
                loader.global(inter, &format!("global_inter_context.{i}"), true)?;
            }
            if let Some(intra) = &slice.intra {
                loader.global(intra, &format!("global_intra_context.{i}"), false)?;
            }
            position_bias.push(loader.local(i, &config)?);
            for (half, name) in ["anchor", "nonanchor"].into_iter().enumerate() {
                loader.chain(&slice.entropy_parameters[half], &format!("entropy_parameters_{name}.{i}.fusion"))?;
                loader.chain(&slice.lrp[half], &format!("lrp_{name}.{i}.lrp_transform"))?;
            }
        }
        let layers = loader.layers;
        Ok(Self { config, layout, layers, position_bias })
    }
}

/// Largest magnitude and distribution of the activations of each tensor.
pub type Record = HashMap<Source, Histogram>;

/// Float operators; with a record, every activation is counted.
pub struct FloatOps<'m> {
    model: &'m FloatModel,
    record: Option<Record>,
}

impl<'m> FloatOps<'m> {
    /// Operators of a model.
    #[must_use]
    pub const fn new(model: &'m FloatModel) -> Self {
        Self { model, record: None }
    }

    /// Operators that count the activations of every tensor.
    #[must_use]
    pub fn recording(model: &'m FloatModel) -> Self {
        Self { model, record: Some(Record::new()) }
    }

    /// Takes the record, which ends the recording; empty if there is none.
    pub fn take_record(&mut self) -> Record {
        self.record.take().unwrap_or_default()
    }

    fn note(&mut self, source: Source, map: Map<f32>) -> Map<f32> {
        if let Some(record) = &mut self.record {
            record.entry(source).or_default().add(&map.data);
        }
        map
    }

    /// Computes a layer's sums, before its epilogue, at all positions.
    fn sums(&self, id: LayerId, inputs: &[&Map<f32>]) -> Result<Map<f32>, BackendError> {
        let (spec, layer) = (&self.model.layout.layers[id.0], &self.model.layers[id.0]);
        let (height, width) = inputs.first().map_or((0, 0), |m| (m.height, m.width));
        let mut out = Map::zeros(height, width, spec.outputs)?;
        let row_len = (width * spec.outputs).max(1);
        out.data.par_chunks_mut(row_len).enumerate().for_each(|(row, out)| {
            out.chunks_exact_mut(spec.outputs).for_each(|at| at.copy_from_slice(&layer.bias));
            for (term, input) in inputs.iter().enumerate() {
                add_term(spec, term, &layer.weights[term], input, row, out);
            }
        });
        Ok(out)
    }

    fn activated(&self, id: LayerId, inputs: &[&Map<f32>]) -> Result<Map<f32>, BackendError> {
        let mut out = self.sums(id, inputs)?;
        if self.model.layout.layers[id.0].epilogue == Epilogue::Gelu {
            out.data.par_iter_mut().for_each(|v| *v = gelu(*v));
        }
        Ok(out)
    }
}

/// Adds one term of a layer to one row of outputs.
fn add_term(spec: &LayerSpec, term: usize, weights: &[f32], input: &Map<f32>, row: usize, out: &mut [f32]) {
    let (t, size, width) = (spec.terms[term], spec.kernel.size(), input.width);
    let channels = t.first_channel..t.first_channel + t.channels;
    if t.identity {
        for (col, out) in out.chunks_exact_mut(spec.outputs).enumerate() {
            out.iter_mut().zip(&input.at(row, col)[channels.clone()]).for_each(|(o, a)| *o += a);
        }
        return;
    }
    let mut patches = Vec::with_capacity(width * size * size * t.channels);
    for col in 0..width {
        for tap in 0..size * size {
            let at = |p: usize, offset: usize| (p + offset) as isize - (size / 2) as isize;
            match input.get(at(row, tap / size), at(col, tap % size)) {
                Some(a) => patches.extend_from_slice(&a[channels.clone()]),
                None => patches.resize(patches.len() + t.channels, 0.0),
            }
        }
    }
    let len = size * size * t.channels;
    match spec.kernel {
        Kernel::Dense { .. } => {
            let shapes = (
                ArrayView2::from_shape((width, len), &patches),
                ArrayView2::from_shape((spec.outputs, len), weights),
                ArrayViewMut2::from_shape((width, spec.outputs), out),
            );
            if let (Ok(a), Ok(w), Ok(mut o)) = shapes {
                general_mat_mul(1.0, &a, &w.t(), 1.0, &mut o);
            }
        }
        Kernel::Depthwise { .. } => {
            for (patch, out) in patches.chunks_exact(len).zip(out.chunks_exact_mut(spec.outputs)) {
                for (c, (out, w)) in out.iter_mut().zip(weights.chunks_exact(size * size)).enumerate() {
                    *out += w.iter().enumerate().map(|(tap, w)| w * patch[tap * t.channels + c]).sum::<f32>();
                }
            }
        }
    }
}

/// Exact GELU.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (x * crate::tables::normal_cdf(x)) as f32
}

fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|v| *v = (*v - largest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
}

impl Ops for FloatOps<'_> {
    type Map = Map<f32>;
    type Latent = Map<f32>;

    fn quantize(&mut self, id: QuantizerId, latent: &Map<f32>) -> Result<Map<f32>, BackendError> {
        Ok(self.note(Source::Quantizer(id), latent.clone()))
    }

    fn layer(&mut self, id: LayerId, inputs: &[&Map<f32>]) -> Result<Map<f32>, BackendError> {
        let out = self.activated(id, inputs)?;
        Ok(self.note(Source::Layer(id), out))
    }

    fn layer_at(&mut self, id: LayerId, inputs: &[&Map<f32>], parity: Parity) -> Result<Map<f32>, BackendError> {
        let out = self.activated(id, inputs)?.pack(parity)?;
        Ok(self.note(Source::Layer(id), out))
    }

    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Map<f32>]) -> Result<(Map<f32>, Map<f32>), BackendError> {
        let both = self.sums(id, inputs)?;
        let half = both.channels / 2;
        Ok((both.select(0, half)?, both.select(half, half)?))
    }

    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Map<f32>], parity: Parity) -> Result<Map<f32>, BackendError> {
        let mut out = self.sums(id, inputs)?.pack(parity)?;
        out.data.iter_mut().for_each(|v| *v = 0.5 * v.tanh());
        Ok(out)
    }

    fn shuffle(&mut self, map: &Map<f32>) -> Result<Map<f32>, BackendError> {
        Ok(map.shuffle()?)
    }

    fn norm(&mut self, _id: NormId, map: &Map<f32>) -> Result<Map<f32>, BackendError> {
        let mut out = map.clone();
        for at in out.data.chunks_exact_mut(map.channels) {
            let n = at.len() as f32;
            let mean = at.iter().sum::<f32>() / n;
            let variance = at.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
            let factor = 1.0 / (variance + NORM_EPSILON as f32).sqrt();
            at.iter_mut().for_each(|x| *x = (*x - mean) * factor);
        }
        Ok(out)
    }

    fn linear_attention(&mut self, id: LinearAttentionId, [q, k, v]: [&Map<f32>; 3]) -> Result<Map<f32>, BackendError> {
        let spec = &self.model.layout.linear_attentions[id.0];
        let count = spec.channels / spec.heads;
        let column = |c: usize| {
            let mut weights: Vec<f32> = k.data.iter().skip(c).step_by(spec.channels).copied().collect();
            softmax(&mut weights);
            let mut row = vec![0.0_f32; count];
            for (w, v) in weights.iter().zip(v.data.chunks_exact(spec.channels)) {
                row.iter_mut().zip(&v[c / count * count..]).for_each(|(r, v)| *r += w * v);
            }
            row
        };
        let context: Vec<Vec<f32>> = (0..spec.channels).into_par_iter().map(column).collect();
        let mut out = Map::zeros(q.height, q.width, spec.channels)?;
        for (out, q) in out.data.chunks_exact_mut(spec.channels).zip(q.data.chunks_exact(spec.channels)) {
            for head in 0..spec.heads {
                let range = head * count..(head + 1) * count;
                let mut weights = q[range.clone()].to_vec();
                softmax(&mut weights);
                for (w, row) in weights.iter().zip(&context[range.clone()]) {
                    out[range.clone()].iter_mut().zip(row).for_each(|(o, c)| *o += w * c);
                }
            }
        }
        Ok(self.note(Source::LinearAttention(id), out))
    }

    fn local_attention(&mut self, id: LocalAttentionId, [q, k, v]: [&Map<f32>; 3]) -> Result<Map<f32>, BackendError> {
        let (config, bias) = (&self.model.config, &self.model.position_bias[id.0]);
        let (w, count, channels) = (config.window, q.channels / config.heads, q.channels);
        let mut out = Map::zeros(q.height, q.width / 2, w * w * channels)?;
        let row_len = (out.width * out.channels).max(1);
        out.data.par_chunks_mut(row_len).enumerate().for_each(|(row, out)| {
            let zero = vec![0.0; channels];
            let columns = (Parity::NonAnchor.first_col(row)..q.width).step_by(2);
            for (out, col) in out.chunks_exact_mut(w * w * channels).zip(columns) {
                let place = |i: usize| ((row + i / w) as isize - (w / 2) as isize, (col + i % w) as isize - (w / 2) as isize);
                let read =
                    |map: &'_ Map<f32>, i: usize| map.get(place(i).0, place(i).1).map_or_else(|| zero.clone(), <[f32]>::to_vec);
                let inside = |i: usize| q.get(place(i).0, place(i).1).is_some();
                let is_anchor = |i: usize| inside(i) && Parity::Anchor.contains(place(i).0 as usize, place(i).1 as usize);
                let gather = |map: &Map<f32>| (0..w * w).map(|i| read(map, i)).collect::<Vec<_>>();
                let (q, k, v) = (gather(q), gather(k), gather(v));
                for head in 0..config.heads {
                    let range = head * count..(head + 1) * count;
                    for a in 0..w * w {
                        let mut logits: Vec<f32> = (0..w * w)
                            .map(|b| {
                                let dot: f32 = q[a][range.clone()].iter().zip(&k[b][range.clone()]).map(|(q, k)| q * k).sum();
                                let (rows, cols) = (a / w + w - 1 - b / w, a % w + w - 1 - b % w);
                                let bias = bias[head * (2 * w - 1).pow(2) + rows * (2 * w - 1) + cols];
                                let mask = if is_anchor(a) && is_anchor(b) { 0.0 } else { -100.0 };
                                dot / (count as f32).sqrt() + bias + mask
                            })
                            .collect();
                        softmax(&mut logits);
                        let out = &mut out[a * channels..(a + 1) * channels][range.clone()];
                        for (weight, v) in logits.iter().zip(&v) {
                            out.iter_mut().zip(&v[range.clone()]).for_each(|(o, v)| *o += weight * v);
                        }
                    }
                }
            }
        });
        Ok(out)
    }

    fn pack(&mut self, map: &Map<f32>, parity: Parity) -> Result<Map<f32>, BackendError> {
        Ok(map.pack(parity)?)
    }

    fn unpack(&mut self, map: &Map<f32>, parity: Parity) -> Result<Map<f32>, BackendError> {
        Ok(map.unpack(parity)?)
    }

    fn merge(&mut self, anchors: &Map<f32>, non_anchors: Option<&Map<f32>>) -> Result<Map<f32>, BackendError> {
        Ok(non_anchors.map_or_else(|| anchors.unpack(Parity::Anchor), |n| Map::merge(anchors, n))?)
    }

    fn reconstruct(&mut self, mean: &Map<f32>, symbols: &[i32]) -> Result<Map<f32>, BackendError> {
        if symbols.len() != mean.data.len() {
            return Err(BackendError::Shape { stage: Stage::Passes, got: symbols.len(), need: mean.data.len() });
        }
        Ok(Map { data: mean.data.iter().zip(symbols).map(|(m, s)| m + *s as f32).collect(), ..*mean })
    }

    fn add(&mut self, a: &Map<f32>, b: &Map<f32>) -> Result<Map<f32>, BackendError> {
        Ok(Map { data: a.data.iter().zip(&b.data).map(|(a, b)| a + b).collect(), ..*a })
    }
}
