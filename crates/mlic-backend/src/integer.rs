//! The exact operators on this CPU: the reference definition or the fast ones, behind one type.

use std::sync::Arc;

use mlic_core::checkerboard::Parity;
use mlic_core::fixed::{LATENT_MAX, LATENT_ONE, saturate};
use mlic_core::memory;
use mlic_core::schedule::{LatentSize, Pass};
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast;
use mlic_kernels::function::scale_index;
use mlic_kernels::reference::{self, LocalAttentionShape};
use mlic_kernels::{Map, OutOfMemory};
use mlic_model::Model;
use mlic_model::config::Config;
use mlic_model::layout::{Epilogue, LayerId, LinearAttentionId, LocalAttentionId, NormId, QuantizerId, TermSpec};
use mlic_model::model::{Gain, LayerView};
use mlic_model::parameters::{Functions, Requant};
use mlic_model::proof::source_max;
use mlic_model::synthesis::Synthesis;
use once_cell::sync::OnceCell;
use rayon::prelude::*;

use crate::backend::{BackendError, EntropySession, PassParameters, Stage, check_shape};
use crate::entropy::EntropyModel;
use crate::ops::Ops;

/// Which implementation of the operators runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// The definition.
    Reference,
    /// Threads and vector code.
    Fast(Isa),
}

impl Kernels {
    /// The fast kernels with the best instruction set of this processor.
    #[must_use]
    pub fn best() -> Self {
        Self::Fast(Isa::best())
    }
}

/// A model in the form that the kernels read: made once, when the model is brought to a device, and used for every image.
#[derive(Debug)]
pub struct PackedModel(Executor);

/// What runs the operators.
#[derive(Debug)]
enum Executor {
    /// The definition, which reads the package.
    Reference,
    Fast(Box<FastModel>),
}

/// A model for the fast kernels.
#[derive(Debug)]
struct FastModel {
    isa: Isa,
    /// All layers of the entropy networks, by their ids.
    layers: Vec<fast::Layer>,
    /// Empty until the synthesis is first needed, and always for a model without one.
    synthesis: OnceCell<fast::Synthesis>,
    tables: fast::Tables,
}

impl FastModel {
    fn new(model: &Model, isa: Isa) -> Result<Self, BackendError> {
        let layers = (0..model.layout().layers.len()).into_par_iter().map(|i| pack(model, LayerId(i), isa));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self { isa, layers, synthesis: OnceCell::new(), tables: fast::Tables::new(&model.parameters().functions) })
    }

    fn layer(&self, id: LayerId) -> Result<&fast::Layer, BackendError> {
        self.layers.get(id.0).ok_or_else(|| no_layer(id))
    }

    /// Returns the packed synthesis. The first caller packs the weights; others wait until that is done.
    fn synthesis(&self, own: &Synthesis) -> Result<&fast::Synthesis, OutOfMemory> {
        // Nothing in here is parallel: a thread that waits could not help.
        self.synthesis.get_or_try_init(|| fast::Synthesis::new(self.isa, own))
    }
}

impl PackedModel {
    /// Packs the weights of the entropy networks for these kernels, layers in parallel on the current rayon pool. The weights of the synthesis are
    /// packed when they are first needed.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`].
    pub fn new(model: &Model, kernels: Kernels) -> Result<Self, BackendError> {
        Ok(Self(match kernels {
            Kernels::Reference => Executor::Reference,
            Kernels::Fast(isa) => Executor::Fast(Box::new(FastModel::new(model, isa)?)),
        }))
    }

    /// Packs the weights of the integer synthesis of `model`, unless that has been done or these kernels read them as they are.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn prepare_synthesis(&self, model: &Model) -> Result<(), OutOfMemory> {
        match (&self.0, model.exact_synthesis()) {
            (Executor::Fast(packed), Some(own)) => packed.synthesis(own).map(drop),
            _ => Ok(()),
        }
    }

    /// Runs the integer synthesis of `model`, which must be the model that was packed.
    ///
    /// # Errors
    /// [`BackendError::NotExact`], [`BackendError::Shape`], [`BackendError::OutOfMemory`].
    pub fn synthesize(&self, model: &Model, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>, BackendError> {
        let (own, latent) = synthesis_input(model, quality, y_hat)?;
        Ok(match &self.0 {
            Executor::Reference => reference::synthesis(&model.parameters().functions, own, &latent)?,
            Executor::Fast(packed) => packed.synthesis(own)?.run(&packed.tables, &latent)?,
        })
    }

    /// Returns the output of one node of the integer synthesis, 0 being the quantizer, to find where two kinds of kernels differ. None if there is no
    /// such node, or if the fast kernels skip it because no other node reads it.
    ///
    /// # Errors
    /// As [`Self::synthesize`].
    pub fn synthesis_node(
        &self,
        model: &Model,
        quality: u8,
        y_hat: &Map<i32>,
        node: usize,
    ) -> Result<Option<Map<i16>>, BackendError> {
        let (own, latent) = synthesis_input(model, quality, y_hat)?;
        Ok(match &self.0 {
            Executor::Reference => reference::synthesis_nodes(&model.parameters().functions, own, &latent)?.into_iter().nth(node),
            Executor::Fast(packed) => packed.synthesis(own)?.node(&packed.tables, &latent, node)?,
        })
    }
}

/// Returns the integer synthesis of a model and its input, `y_hat` after the inverse gain.
fn synthesis_input<'m>(model: &'m Model, quality: u8, y_hat: &Map<i32>) -> Result<(&'m Synthesis, Map<i32>), BackendError> {
    let own = model.exact_synthesis().ok_or_else(|| BackendError::NotExact { model: model.name().to_owned() })?;
    check_y_hat(model, y_hat)?;
    Ok((own, with_gain(model, Gain::InverseY, y_hat, quality)?))
}

/// Applies a gain to latents; the result is still in latent fixed point (SPEC 5.7, 5.8).
///
/// # Errors
/// [`OutOfMemory`].
pub fn with_gain(model: &Model, which: Gain, latents: &Map<i32>, quality: u8) -> Result<Map<i32>, OutOfMemory> {
    Ok(Map { data: model.with_gain(which, &latents.data, quality)?, ..*latents })
}

/// Checks that a picture can be made of `y_hat`: that it has the model's channels, and as many elements as its shape says.
///
/// # Errors
/// [`BackendError::Shape`].
pub fn check_y_hat(model: &Model, y_hat: &Map<i32>) -> Result<(), BackendError> {
    let latent = model.config().latent;
    check_shape(Stage::ExactSynthesis, y_hat.data.len(), y_hat.channels == latent, [y_hat.height, y_hat.width], latent)
}

/// Packs a layer. Weights do not depend on the level of activation scales, so any level will do.
fn pack(model: &Model, id: LayerId, isa: Isa) -> Result<fast::Layer, BackendError> {
    let view = model.layer(id, 0).ok_or_else(|| no_layer(id))?;
    let max_of = |t: &TermSpec| source_max(model.parameters(), model.layout(), t.source);
    let maxima: Vec<i32> = view.spec.terms.iter().map(max_of).collect();
    // The last layer of latent residual prediction is needed at one half (SPEC 5.3), all other dense 3x3 layers at all positions.
    let pack = if view.spec.epilogue == Epilogue::HalfTanh { fast::Layer::new } else { fast::Layer::for_all_positions };
    Ok(pack(isa, view.spec, &view.weights, &maxima)?)
}

/// The error for a model that lacks a layer of its layout.
#[must_use]
pub fn no_layer(id: LayerId) -> BackendError {
    BackendError::Operator { name: format!("layer {}", id.0) }
}

/// Integer operators of one model at one level of activation scales.
#[derive(Debug, Clone)]
pub struct IntegerOps<'m> {
    model: &'m Model,
    packed: Arc<PackedModel>,
    level: usize,
}

impl<'m> IntegerOps<'m> {
    /// Operators for a quality. `packed` must be of this model.
    #[must_use]
    pub fn new(model: &'m Model, packed: Arc<PackedModel>, quality: u8) -> Self {
        Self { model, packed, level: model.config().scale_level(quality) }
    }

    fn view(&self, id: LayerId) -> Result<LayerView<'m>, BackendError> {
        self.model.layer(id, self.level).ok_or_else(|| no_layer(id))
    }

    fn functions(&self) -> &'m Functions {
        &self.model.parameters().functions
    }

    /// Returns the parameters of one operator at this level, or an error that names the operator.
    fn find<T>(&self, what: &str, index: usize, found: Option<T>) -> Result<T, BackendError> {
        found.ok_or_else(|| BackendError::Operator { name: format!("{what} {index} at level {}", self.level) })
    }
}

impl Ops for IntegerOps<'_> {
    type Map = Map<i16>;
    type Latent = Map<i32>;

    fn quantize(&mut self, id: QuantizerId, latent: &Map<i32>) -> Result<Map<i16>, BackendError> {
        let parameters = self.find("quantizer", id.0, self.model.parameters().quantizers.get(id.0))?;
        let requant = *self.find("quantizer", id.0, parameters.levels.get(self.level))?;
        Ok(match &self.packed.0 {
            Executor::Reference => reference::quantize(latent, requant, parameters.max)?,
            Executor::Fast(packed) => fast::quantize(packed.isa, latent, requant, parameters.max)?,
        })
    }

    fn layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<Map<i16>, BackendError> {
        let view = self.view(id)?;
        Ok(match &self.packed.0 {
            Executor::Reference => reference::layer(&view, self.functions(), inputs)?,
            Executor::Fast(packed) => fast::layer(packed.layer(id)?, &view, &packed.tables, inputs, None)?,
        })
    }

    fn layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i16>, BackendError> {
        let view = self.view(id)?;
        Ok(match &self.packed.0 {
            Executor::Reference => reference::layer(&view, self.functions(), inputs)?.pack(parity)?,
            Executor::Fast(packed) => fast::layer(packed.layer(id)?, &view, &packed.tables, inputs, Some(parity))?,
        })
    }

    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<(Map<i32>, Map<i32>), BackendError> {
        let view = self.view(id)?;
        let both = match &self.packed.0 {
            Executor::Reference => reference::latent_layer(&view, inputs)?,
            Executor::Fast(packed) => fast::latent_layer(packed.layer(id)?, &view, inputs)?,
        };
        let half = both.channels / 2;
        Ok((both.select(0, half)?, both.select(half, half)?))
    }

    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i32>, BackendError> {
        let view = self.view(id)?;
        Ok(match &self.packed.0 {
            Executor::Reference => reference::residual_layer(&view, self.functions(), inputs)?.pack(parity)?,
            Executor::Fast(packed) => fast::residual_layer(packed.layer(id)?, &view, &packed.tables, inputs, Some(parity))?,
        })
    }

    fn shuffle(&mut self, map: &Map<i16>) -> Result<Map<i16>, BackendError> {
        Ok(map.shuffle()?)
    }

    fn norm(&mut self, id: NormId, map: &Map<i16>) -> Result<Map<i16>, BackendError> {
        let norm = self.model.parameters().norms.get(id.0).and_then(|n| n.epsilon.get(self.level));
        let epsilon = *self.find("norm", id.0, norm)?;
        Ok(match &self.packed.0 {
            Executor::Reference => reference::layer_norm(map, epsilon)?,
            Executor::Fast(packed) => fast::layer_norm(packed.isa, map, epsilon)?,
        })
    }

    fn linear_attention(&mut self, id: LinearAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>, BackendError> {
        let spec = self.find("linear attention", id.0, self.model.layout().linear_attentions.get(id.0))?;
        let parameters = self.find("linear attention", id.0, self.model.parameters().linear_attentions.get(id.0))?;
        let level = *self.find("linear attention", id.0, parameters.levels.get(self.level))?;
        Ok(match &self.packed.0 {
            Executor::Reference => reference::linear_attention(self.functions(), level, parameters.max, spec.heads, qkv)?,
            Executor::Fast(packed) => fast::linear_attention(packed.isa, &packed.tables, level, parameters.max, spec.heads, qkv)?,
        })
    }

    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>, BackendError> {
        let parameters = self.find("local attention", id.0, self.model.parameters().local_attentions.get(id.0))?;
        let slice = self.find("local attention", id.0, self.model.layout().slices.get(id.0))?;
        let requant: Requant = *self.find("local attention", id.0, parameters.levels.get(self.level))?;
        let config = self.model.config();
        let max = self.view(slice.local.qkv[2])?.max;
        let shape = LocalAttentionShape { requant, bias: &parameters.bias, window: config.window, heads: config.heads, max };
        Ok(match &self.packed.0 {
            Executor::Reference => reference::local_attention(self.functions(), &shape, qkv)?,
            Executor::Fast(packed) => fast::local_attention(packed.isa, &packed.tables, &shape, qkv)?,
        })
    }

    fn pack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>, BackendError> {
        Ok(map.pack(parity)?)
    }

    fn unpack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>, BackendError> {
        Ok(map.unpack(parity)?)
    }

    fn merge(&mut self, anchors: &Map<i32>, non_anchors: Option<&Map<i32>>) -> Result<Map<i32>, BackendError> {
        Ok(non_anchors.map_or_else(|| anchors.unpack(Parity::Anchor), |n| Map::merge(anchors, n))?)
    }

    fn reconstruct(&mut self, mean: &Map<i32>, symbols: &[i32]) -> Result<Map<i32>, BackendError> {
        if symbols.len() != mean.data.len() {
            return Err(BackendError::Shape { stage: Stage::Passes, got: symbols.len(), need: mean.data.len() });
        }
        let value =
            |(mean, symbol): (&i32, &i32)| saturate(i64::from(*mean) + i64::from(*symbol) * i64::from(LATENT_ONE), LATENT_MAX);
        Ok(Map { data: memory::collect(symbols.len(), mean.data.iter().zip(symbols).map(value))?, ..*mean })
    }

    fn add(&mut self, a: &Map<i32>, b: &Map<i32>) -> Result<Map<i32>, BackendError> {
        let sum = |(a, b): (&i32, &i32)| saturate(i64::from(*a) + i64::from(*b), LATENT_MAX);
        Ok(Map { data: memory::collect(a.data.len(), a.data.iter().zip(&b.data).map(sum))?, ..*a })
    }

    fn both<A: Send, B: Send>(&mut self, a: impl FnOnce(&mut Self) -> A + Send, b: impl FnOnce(&mut Self) -> B + Send) -> (A, B) {
        let mut other = self.clone();
        rayon::join(|| a(self), || b(&mut other))
    }
}

/// The entropy model of one image on this CPU.
pub struct IntegerSession<'m> {
    model: &'m Model,
    size: LatentSize,
    entropy: EntropyModel<'m, IntegerOps<'m>>,
}

impl<'m> IntegerSession<'m> {
    /// Starts from the symbols of z (channels last). `packed` must be of this model.
    ///
    /// # Errors
    /// [`BackendError::Shape`] when their number is not that of the image's z, [`BackendError::OutOfMemory`].
    pub fn new(
        model: &'m Model,
        packed: Arc<PackedModel>,
        size: LatentSize,
        quality: u8,
        z_symbols: &[i32],
    ) -> Result<Self, BackendError> {
        let z = z_latent(model, size, quality, z_symbols)?;
        let entropy = EntropyModel::new(model.layout(), IntegerOps::new(model, packed, quality), &z)?;
        Ok(Self { model, size, entropy })
    }
}

impl EntropySession for IntegerSession<'_> {
    fn parameters_into(&mut self, pass: Pass, with_means: bool, to: &mut PassParameters) -> Result<(), BackendError> {
        let gaussian = self.entropy.parameters(pass)?;
        let thresholds = &self.model.parameters().thresholds;
        let scales = &gaussian.scale.data;
        match &self.entropy.ops().packed.0 {
            Executor::Reference => {
                to.scale_indices.clear();
                memory::reserve(&mut to.scale_indices, scales.len())?;
                to.scale_indices.extend(scales.iter().map(|s| scale_index(thresholds, *s)));
            }
            Executor::Fast(packed) => fast::scale_indices(packed.isa, thresholds, scales, &mut to.scale_indices)?,
        }
        to.means.clear();
        if with_means {
            memory::reserve(&mut to.means, gaussian.mean.data.len())?;
            to.means.extend_from_slice(&gaussian.mean.data);
        }
        Ok(())
    }

    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError> {
        self.entropy.commit(pass, symbols)
    }

    fn y_hat(&self) -> Result<Map<i32>, BackendError> {
        Ok(y_hat(self.model.config(), self.size, self.entropy.y_hat())?)
    }
}

/// Returns the input of the hyper synthesis: [`Model::z_latent`] of as many symbols as an image of this size has.
///
/// # Errors
/// [`BackendError::Shape`] when there are more or fewer, or when the sizes of y and z do not belong together.
pub fn z_latent(model: &Model, size: LatentSize, quality: u8, symbols: &[i32]) -> Result<Map<i32>, BackendError> {
    let ([height, width], channels) = (size.z, model.config().hyper);
    let of_z = LatentSize::of_z(size.z);
    if size != of_z {
        let [got, need] = [size, of_z].map(|size| size.y[0] * size.y[1]);
        return Err(BackendError::Shape { stage: Stage::HyperSynthesis, got, need });
    }
    let z = Map::from_vec(height, width, channels, model.z_latent(symbols, quality)?);
    let (got, need) = (symbols.len(), height * width * channels);
    z.ok_or(BackendError::Shape { stage: Stage::HyperSynthesis, got, need })
}

/// Assembles `y_hat` from its latent slices; missing slices are zero.
///
/// # Errors
/// [`OutOfMemory`].
pub fn y_hat(config: &Config, size: LatentSize, slices: &[Map<i32>]) -> Result<Map<i32>, OutOfMemory> {
    let [height, width] = size.y;
    let mut out = Map::zeros(height, width, config.latent)?;
    slices.iter().enumerate().for_each(|(i, slice)| out.set_channels(i * config.slice_channels(), slice));
    Ok(out)
}
