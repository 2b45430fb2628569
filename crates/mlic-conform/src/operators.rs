//! Which operator is the first to give something else: of the entropy networks, and of the exact synthesis.
//!
//! Both decodings run the operators of the CPU with kernels of their own, on the same symbols, so that what differs is what the kernels compute.

use std::fmt;
use std::sync::Arc;

use mlic_backend::BackendError;
use mlic_backend::digest::Digest;
use mlic_backend::entropy::EntropyModel;
use mlic_backend::integer::{IntegerOps, Kernels, PackedModel};
use mlic_backend::ops::Ops;
use mlic_core::checkerboard::Parity;
use mlic_core::container::Header;
use mlic_core::schedule::{LatentSize, passes};
use mlic_kernels::Map;
use mlic_model::Model;
use mlic_model::layout::{Epilogue, LayerId, Layout, LinearAttentionId, LocalAttentionId, NormId, QuantizerId};
use mlic_model::nodes::Node;

use crate::explain::Side;
use crate::verdict::{Place, Tensor};

type Result<T> = std::result::Result<T, BackendError>;

/// The first operator that gives something else, and the first element of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Which operator.
    pub operator: String,
    /// Row, column (packed where the tensor is) and channel.
    pub position: [usize; 3],
    /// The value, and the one to go by.
    pub values: [i32; 2],
    /// Elements that differ, and their number.
    pub differing: (usize, usize),
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([row, col, channel], [got, expected]) = (self.position, self.values);
        writeln!(f, "first operator that differs: {}, row {row}, column {col}, channel {channel}", self.operator)?;
        writeln!(f, "  {got}, not {expected}; {} of {} elements differ", self.differing.0, self.differing.1)
    }
}

/// What an operator gave.
type Given = Map<i32>;

fn parting(operator: String, got: &Given, expected: &Given) -> Option<Parting> {
    let mut all = got.data.iter().zip(&expected.data).enumerate().filter(|(_, (got, expected))| got != expected);
    let (index, (value, other)) = all.next()?;
    let (at, channel) = (index / got.channels.max(1), index % got.channels.max(1));
    let position = [at / got.width.max(1), at % got.width.max(1), channel];
    Some(Parting { operator, position, values: [*value, *other], differing: (1 + all.count(), got.data.len()) })
}

fn widened(map: &Map<i16>) -> Given {
    let Map { height, width, channels, .. } = *map;
    Map { height, width, channels, data: map.data.iter().map(|v| (*v).into()).collect() }
}

/// What one operator gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its name.
    pub operator: String,
    /// Digest of its elements.
    pub digest: Digest,
    /// How many elements there are.
    pub len: usize,
}

/// Operators that note what each of them gives: the digest of everything, and the values of one.
pub struct Noting<'m, O> {
    ops: O,
    layout: &'m Layout,
    noted: Vec<Noted>,
    /// Which one is kept, and what it gave.
    wanted: Option<usize>,
    kept: Option<Given>,
}

impl<'m, O> Noting<'m, O> {
    fn new(ops: O, layout: &'m Layout, wanted: Option<usize>) -> Self {
        Self { ops, layout, noted: Vec::new(), wanted, kept: None }
    }

    fn note(&mut self, name: String, given: Given) {
        self.noted.push(Noted { operator: name, digest: Digest::of_i32(&given.data), len: given.data.len() });
        if self.wanted == Some(self.noted.len() - 1) {
            self.kept = Some(given);
        }
    }

    fn map(&mut self, name: String, map: Map<i16>) -> Map<i16> {
        self.note(name, widened(&map));
        map
    }

    fn latent(&mut self, name: String, map: Map<i32>) -> Map<i32> {
        self.note(name, map.clone());
        map
    }

    fn layer_name(&self, id: LayerId) -> String {
        self.layout.layers.get(id.0).map_or_else(|| format!("layer {}", id.0), |spec| spec.name.clone())
    }
}

impl<O: Ops<Map = Map<i16>, Latent = Map<i32>>> Ops for Noting<'_, O> {
    type Map = Map<i16>;
    type Latent = Map<i32>;

    fn quantize(&mut self, id: QuantizerId, latent: &Map<i32>) -> Result<Map<i16>> {
        let map = self.ops.quantize(id, latent)?;
        let name = if id == QuantizerId::Z { "quantizer of z".to_owned() } else { format!("quantizer of slice {}", id.0 - 1) };
        Ok(self.map(name, map))
    }

    fn layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<Map<i16>> {
        let map = self.ops.layer(id, inputs)?;
        Ok(self.map(self.layer_name(id), map))
    }

    fn layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i16>> {
        let map = self.ops.layer_at(id, inputs, parity)?;
        Ok(self.map(format!("{} at a half", self.layer_name(id)), map))
    }

    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<(Map<i32>, Map<i32>)> {
        let (scale, mean) = self.ops.gaussian_layer(id, inputs)?;
        let name = self.layer_name(id);
        Ok((self.latent(format!("{name}, scale"), scale), self.latent(format!("{name}, mean"), mean)))
    }

    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i32>> {
        let map = self.ops.residual_layer_at(id, inputs, parity)?;
        Ok(self.latent(self.layer_name(id), map))
    }

    fn shuffle(&mut self, map: &Map<i16>) -> Result<Map<i16>> {
        let map = self.ops.shuffle(map)?;
        Ok(self.map("pixel shuffle".to_owned(), map))
    }

    fn norm(&mut self, id: NormId, map: &Map<i16>) -> Result<Map<i16>> {
        let map = self.ops.norm(id, map)?;
        let name = self.layout.norms.get(id.0).map_or_else(|| format!("norm {}", id.0), |spec| spec.name.clone());
        Ok(self.map(name, map))
    }

    fn linear_attention(&mut self, id: LinearAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>> {
        let map = self.ops.linear_attention(id, qkv)?;
        let found = self.layout.linear_attentions.get(id.0);
        Ok(self.map(found.map_or_else(|| format!("linear attention {}", id.0), |spec| spec.name.clone()), map))
    }

    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>> {
        let map = self.ops.local_attention(id, qkv)?;
        Ok(self.map(format!("slice{}.local_context.attention", id.0), map))
    }

    fn pack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>> {
        let map = self.ops.pack(map, parity)?;
        Ok(self.map("packing of a half".to_owned(), map))
    }

    fn unpack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>> {
        let map = self.ops.unpack(map, parity)?;
        Ok(self.map("unpacking of a half".to_owned(), map))
    }

    fn merge(&mut self, anchors: &Map<i32>, non_anchors: Option<&Map<i32>>) -> Result<Map<i32>> {
        let map = self.ops.merge(anchors, non_anchors)?;
        Ok(self.latent("merging of both halves".to_owned(), map))
    }

    fn reconstruct(&mut self, mean: &Map<i32>, symbols: &[i32]) -> Result<Map<i32>> {
        let map = self.ops.reconstruct(mean, symbols)?;
        Ok(self.latent("mean and symbols".to_owned(), map))
    }

    fn add(&mut self, a: &Map<i32>, b: &Map<i32>) -> Result<Map<i32>> {
        let map = self.ops.add(a, b)?;
        Ok(self.latent("sum with the residual".to_owned(), map))
    }
}

/// The symbols that both decodings are given, and for what picture.
#[derive(Debug, Clone, Copy)]
pub struct Symbols<'a> {
    /// The stream's header.
    pub header: &'a Header,
    /// Sizes of the picture's tensors.
    pub size: LatentSize,
    /// The decoding to go by.
    pub decoding: &'a Side,
}

impl Symbols<'_> {
    fn values(&self, place: &Place) -> Option<&[i32]> {
        self.decoding.values.iter().find(|values| values.place == *place).map(|values| values.values.as_slice())
    }
}

/// The first operator of the entropy networks that gives something else with `got` than with `expected`, on these symbols.
///
/// # Errors
/// What the operators say.
pub fn in_passes<A, B>(
    model: &Model,
    symbols: Symbols<'_>,
    got: impl Fn() -> A,
    expected: impl Fn() -> B,
) -> Result<Option<Parting>>
where
    A: Ops<Map = Map<i16>, Latent = Map<i32>>,
    B: Ops<Map = Map<i16>, Latent = Map<i32>>,
{
    let layout = model.layout();
    let one = walked(model, symbols, Noting::new(got(), layout, None))?;
    let other = walked(model, symbols, Noting::new(expected(), layout, None))?;
    let Some(index) = one.noted.iter().zip(&other.noted).position(|(one, other)| one.digest != other.digest) else {
        return Ok(None);
    };
    let one = walked(model, symbols, Noting::new(got(), layout, Some(index)))?;
    let other = walked(model, symbols, Noting::new(expected(), layout, Some(index)))?;
    let name = one.noted.get(index).map_or_else(String::new, |noted| noted.operator.clone());
    Ok(one.kept.zip(other.kept).and_then(|(one, other)| parting(name, &one, &other)))
}

/// Everything that the operators of the entropy networks give on these symbols, in the order in which it is computed.
///
/// # Errors
/// What the operators say.
pub fn noted<O>(model: &Model, symbols: Symbols<'_>, ops: O) -> Result<Vec<Noted>>
where
    O: Ops<Map = Map<i16>, Latent = Map<i32>>,
{
    Ok(walked(model, symbols, Noting::new(ops, model.layout(), None))?.noted)
}

/// Takes operators through the passes as far as there are symbols; names say in which pass each operator ran.
fn walked<'m, O>(model: &'m Model, symbols: Symbols<'_>, ops: Noting<'m, O>) -> Result<Noting<'m, O>>
where
    O: Ops<Map = Map<i16>, Latent = Map<i32>>,
{
    let Symbols { header, size, .. } = symbols;
    let z = model.z_latent(symbols.values(&Place::Z).unwrap_or_default(), header.quality)?;
    let Some(z) = Map::from_vec(size.z[0], size.z[1], model.config().hyper, z) else { return Ok(ops) };
    let mut entropy = EntropyModel::new(model.layout(), ops, &z)?;
    let mut done = 0;
    for pass in passes(model.config().slices) {
        let own = symbols.values(&Place::Pass { pass, tensor: Tensor::Symbols });
        entropy.parameters(pass)?;
        if let Some(own) = own {
            entropy.commit(pass, own)?;
        }
        for Noted { operator, .. } in &mut entropy.ops_mut().noted[done..] {
            *operator = format!("{operator}, in {pass}");
        }
        done = entropy.ops().noted.len();
        if own.is_none() {
            break;
        }
    }
    Ok(entropy.into_ops())
}

/// One node of a synthesis by its number; none where it is not computed.
pub type NodeOf<'a> = dyn Fn(usize) -> Result<Option<Map<i16>>> + 'a;

/// The first node of the exact synthesis of a model that gives something else.
///
/// # Errors
/// What computes the nodes says.
pub fn in_synthesis(model: &Model, got: &NodeOf<'_>, expected: &NodeOf<'_>) -> Result<Option<Parting>> {
    let nodes = model.exact_synthesis().map_or(&[][..], |own| own.nodes());
    for node in 0..=nodes.len() {
        let (Some(one), Some(other)) = (got(node)?, expected(node)?) else { continue };
        let what = node.checked_sub(1).and_then(|i| nodes.get(i)).map_or_else(|| "the quantizer".to_owned(), described);
        if let Some(parting) = parting(format!("node {node} of the exact synthesis, {what}"), &widened(&one), &widened(&other)) {
            return Ok(Some(parting));
        }
    }
    Ok(None)
}

/// What a node is.
fn described(node: &Node) -> String {
    let inputs: Vec<String> = node.inputs().map(|input| input.0.to_string()).collect();
    let of = format!("of {} {}", if inputs.len() == 1 { "node" } else { "nodes" }, inputs.join(", "));
    match node {
        Node::Gdn(gdn) => format!("an inverse normalization of {} channels, {of}", gdn.channels()),
        Node::Layer(layer) => {
            let (size, outputs) = (layer.spec.kernel.size(), layer.spec.outputs);
            let epilogue = match layer.spec.epilogue {
                Epilogue::Gelu => " with gelu",
                Epilogue::Pixel => " to samples",
                _ => "",
            };
            let shuffle = if layer.shuffles() { " and pixel shuffle" } else { "" };
            format!("a {size}x{size} layer to {outputs} channels{epilogue}{shuffle}, {of}")
        }
    }
}

/// The model's own operators on this CPU with two kinds of kernels: the first that differs, in the passes or else in the synthesis.
///
/// # Errors
/// What the operators say.
pub fn between(model: &Model, symbols: Symbols<'_>, kernels: [Kernels; 2]) -> Result<Option<Parting>> {
    let [one, other] = kernels.map(|kernels| PackedModel::new(model, kernels).map(Arc::new));
    let (one, other) = (one?, other?);
    let quality = symbols.header.quality;
    let ops = |packed: &Arc<PackedModel>| IntegerOps::new(model, Arc::clone(packed), quality);
    if let Some(parting) = in_passes(model, symbols, || ops(&one), || ops(&other))? {
        return Ok(Some(parting));
    }
    let [height, width] = symbols.size.y;
    let y_hat = symbols.values(&Place::YHat).and_then(|data| Map::from_vec(height, width, model.config().latent, data.to_vec()));
    let (Some(y_hat), true) = (y_hat, model.exact_synthesis().is_some()) else { return Ok(None) };
    let node = |packed: &Arc<PackedModel>, node| packed.synthesis_node(model, quality, &y_hat, node);
    in_synthesis(model, &|i| node(&one, i), &|i| node(&other, i))
}
