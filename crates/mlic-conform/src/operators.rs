//! Finds the first operator whose result differs, in the entropy networks or in the exact synthesis.
//!
//! Both decodings run the operators of the CPU, each with its own kernels, on the same symbols, so that only the kernels can make a difference.

use std::fmt;
use std::sync::Arc;

use mlic_backend::BackendError;
use mlic_backend::digest::Digest;
use mlic_backend::entropy::EntropyModel;
use mlic_backend::integer::{IntegerOps, Kernels, PackedModel};
use mlic_backend::ops::Ops;
use mlic_core::checkerboard::Parity;
use mlic_core::container::Header;
use mlic_core::schedule::{LatentSize, Pass, passes};
use mlic_kernels::Map;
use mlic_model::Model;
use mlic_model::layout::{Epilogue, LayerId, Layout, LinearAttentionId, LocalAttentionId, NormId, QuantizerId};
use mlic_model::nodes::Node;

use crate::explain::Side;
use crate::verdict::{Place, Tensor};

type Result<T> = std::result::Result<T, BackendError>;

/// The first operator whose result differs, and the first element that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Which operator.
    pub operator: String,
    /// Row, column (packed where the tensor is) and channel.
    pub position: [usize; 3],
    /// The value, and that of the reference.
    pub values: [i32; 2],
    /// How many elements differ, and how many there are.
    pub differing: (usize, usize),
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([row, col, channel], [got, expected]) = (self.position, self.values);
        writeln!(f, "first operator that differs: {}, row {row}, column {col}, channel {channel}", self.operator)?;
        writeln!(f, "  {got}, not {expected}; {} of {} elements differ", self.differing.0, self.differing.1)
    }
}

/// The result of an operator.
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

/// The result of one operator, as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its name.
    pub operator: String,
    /// Digest of its elements.
    pub digest: Digest,
    /// How many elements there are.
    pub len: usize,
}

/// Receives the name and the result of an operator.
type Note<'n> = dyn FnMut(String, Given) + 'n;

/// Operators whose results are all noted.
struct Noting<'m, 'n, O> {
    ops: O,
    layout: &'m Layout,
    /// The pass in which they run; none before the first.
    pass: Option<Pass>,
    note: &'n mut Note<'n>,
}

impl<O> Noting<'_, '_, O> {
    fn note(&mut self, name: String, given: Given) {
        let name = match self.pass {
            Some(pass) => format!("{name}, in {pass}"),
            None => name,
        };
        (self.note)(name, given);
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

impl<O: Ops<Map = Map<i16>, Latent = Map<i32>>> Ops for Noting<'_, '_, O> {
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

/// The symbols that both decodings are given, and the picture that they are for.
#[derive(Debug, Clone, Copy)]
pub struct Symbols<'a> {
    /// The stream's header.
    pub header: &'a Header,
    /// Sizes of the picture's tensors.
    pub size: LatentSize,
    /// The reference decoding, whose symbols they are.
    pub decoding: &'a Side,
}

impl Symbols<'_> {
    fn values(&self, place: &Place) -> Option<&[i32]> {
        self.decoding.values.iter().find(|values| values.place == *place).map(|values| values.values.as_slice())
    }

    fn y_hat(&self, model: &Model) -> Option<Map<i32>> {
        let ([height, width], data) = (self.size.y, self.values(&Place::YHat)?);
        Map::from_vec(height, width, model.config().latent, data.to_vec())
    }
}

/// Returns the first operator of the entropy networks whose result with `got` differs from that with `expected`, on these symbols.
///
/// # Errors
/// Any error of the operators.
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
    let (one, other) = (noted(model, symbols, got())?, noted(model, symbols, expected())?);
    let Some(index) = one.iter().zip(&other).position(|(one, other)| one.digest != other.digest) else {
        return Ok(None);
    };
    let given = given(model, symbols, got(), index)?.zip(given(model, symbols, expected(), index)?);
    let name = one.get(index).map_or_else(String::new, |noted| noted.operator.clone());
    Ok(given.and_then(|(one, other)| parting(name, &one, &other)))
}

/// Returns z and the results of all operators of the entropy networks on these symbols, in the order in which they are computed.
///
/// # Errors
/// Any error of the operators.
pub fn noted<O>(model: &Model, symbols: Symbols<'_>, ops: O) -> Result<Vec<Noted>>
where
    O: Ops<Map = Map<i16>, Latent = Map<i32>>,
{
    let mut noted = Vec::new();
    walk(model, symbols, ops, &mut |operator, given| {
        noted.push(Noted { operator, digest: Digest::of_i32(&given.data), len: given.data.len() });
    })?;
    Ok(noted)
}

/// Returns one of these results by its index.
fn given<O>(model: &Model, symbols: Symbols<'_>, ops: O, index: usize) -> Result<Option<Given>>
where
    O: Ops<Map = Map<i16>, Latent = Map<i32>>,
{
    let (mut at, mut kept) = (0, None);
    walk(model, symbols, ops, &mut |_, given| {
        if at == index {
            kept = Some(given);
        }
        at += 1;
    })?;
    Ok(kept)
}

/// Takes operators through the passes as far as there are symbols. The names that are noted say in which pass each operator ran.
fn walk<'n, O>(model: &Model, symbols: Symbols<'_>, ops: O, note: &'n mut Note<'n>) -> Result<()>
where
    O: Ops<Map = Map<i16>, Latent = Map<i32>>,
{
    let Symbols { header, size, .. } = symbols;
    let z = model.z_latent(symbols.values(&Place::Z).unwrap_or_default(), header.quality)?;
    let Some(z) = Map::from_vec(size.z[0], size.z[1], model.config().hyper, z) else { return Ok(()) };
    note("z".to_owned(), z.clone());
    let mut entropy = EntropyModel::new(model.layout(), Noting { ops, layout: model.layout(), pass: None, note }, &z)?;
    for pass in passes(model.config().slices) {
        entropy.ops_mut().pass = Some(pass);
        entropy.parameters(pass)?;
        let Some(own) = symbols.values(&Place::Pass { pass, tensor: Tensor::Symbols }) else { break };
        entropy.commit(pass, own)?;
    }
    Ok(())
}

/// Computes one node of a synthesis by its number; none if the node is not computed.
pub type NodeOf<'a> = dyn Fn(usize) -> Result<Option<Map<i16>>> + 'a;

/// Returns the first node of a model's exact synthesis whose result differs.
///
/// # Errors
/// Any error of `got` or `expected`.
pub fn in_synthesis(model: &Model, got: &NodeOf<'_>, expected: &NodeOf<'_>) -> Result<Option<Parting>> {
    for (node, name) in nodes(model) {
        let (Some(one), Some(other)) = (got(node)?, expected(node)?) else { continue };
        if let Some(parting) = parting(name, &widened(&one), &widened(&other)) {
            return Ok(Some(parting));
        }
    }
    Ok(None)
}

/// Numbers and names of the nodes of a model's exact synthesis.
fn nodes(model: &Model) -> impl Iterator<Item = (usize, String)> {
    let nodes = model
        .exact_synthesis()
        .into_iter()
        .flat_map(|own| std::iter::once("the quantizer".to_owned()).chain(own.nodes().iter().map(described)));
    nodes.enumerate().map(|(node, what)| (node, format!("node {node} of the exact synthesis, {what}")))
}

/// Describes a node in words.
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

/// Compares the model's own operators on this CPU with two kinds of kernels, and returns the first that differs, in the passes or else in the synthesis.
///
/// # Errors
/// Any error of the operators.
pub fn between(model: &Model, symbols: Symbols<'_>, kernels: [Kernels; 2]) -> Result<Option<Parting>> {
    let [one, other] = kernels.map(|kernels| PackedModel::new(model, kernels).map(Arc::new));
    let (one, other) = (one?, other?);
    let quality = symbols.header.quality;
    let ops = |packed: &Arc<PackedModel>| IntegerOps::new(model, Arc::clone(packed), quality);
    if let Some(parting) = in_passes(model, symbols, || ops(&one), || ops(&other))? {
        return Ok(Some(parting));
    }
    let Some(y_hat) = symbols.y_hat(model) else { return Ok(None) };
    let node = |packed: &Arc<PackedModel>, node| packed.synthesis_node(model, quality, &y_hat, node);
    in_synthesis(model, &|i| node(&one, i), &|i| node(&other, i))
}

/// Gives `step`, in order, everything that a decoding computes from its symbols on: z, the results of the operators of the entropy networks, and the nodes
/// of the exact synthesis that are read.
///
/// # Errors
/// Any error of the operators.
pub fn trace(model: &Model, symbols: Symbols<'_>, kernels: Kernels, step: &mut dyn FnMut(String, Map<i32>)) -> Result<()> {
    let (packed, quality) = (Arc::new(PackedModel::new(model, kernels)?), symbols.header.quality);
    walk(model, symbols, IntegerOps::new(model, Arc::clone(&packed), quality), &mut |name, given| step(name, given))?;
    let Some(y_hat) = symbols.y_hat(model) else { return Ok(()) };
    for (node, name) in nodes(model) {
        if let Some(map) = packed.synthesis_node(model, quality, &y_hat, node)? {
            step(name, widened(&map));
        }
    }
    Ok(())
}
