//! The operators that the entropy model is made of.

use mlic_core::checkerboard::Parity;
use mlic_model::layout::{LayerId, LinearAttentionId, LocalAttentionId, NormId, QuantizerId};

use crate::backend::BackendError;

/// Operators on two kinds of tensors: activations ([`Ops::Map`]) and latent quantities ([`Ops::Latent`]), both
/// `height x width x channels`. A packed tensor holds one checkerboard half and has half the width.
pub trait Ops {
    /// Activations.
    type Map: Clone + Send + Sync;
    /// Latent quantities: y, mean, scale, residual.
    type Latent: Clone + Send + Sync;

    /// Quantizes latent values to activations.
    ///
    /// # Errors
    /// An error of the device, as for every operator.
    fn quantize(&mut self, id: QuantizerId, latent: &Self::Latent) -> Result<Self::Map, BackendError>;

    /// Applies a layer at all positions; the output is activations.
    ///
    /// # Errors
    /// An error of the device.
    fn layer(&mut self, id: LayerId, inputs: &[&Self::Map]) -> Result<Self::Map, BackendError>;

    /// Applies a layer to full inputs at the positions of one half; the output is packed.
    ///
    /// # Errors
    /// An error of the device.
    fn layer_at(&mut self, id: LayerId, inputs: &[&Self::Map], parity: Parity) -> Result<Self::Map, BackendError>;

    /// Applies the last layer of entropy parameters. Returns (scale, mean), each with the channels of a latent slice.
    ///
    /// # Errors
    /// An error of the device.
    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Self::Map]) -> Result<(Self::Latent, Self::Latent), BackendError>;

    /// Applies the last layer of latent residual prediction to full inputs at the positions of one half; the output is packed.
    ///
    /// # Errors
    /// An error of the device.
    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Self::Map], parity: Parity) -> Result<Self::Latent, BackendError>;

    /// Pixel shuffle by two.
    ///
    /// # Errors
    /// An error of the device.
    fn shuffle(&mut self, map: &Self::Map) -> Result<Self::Map, BackendError>;

    /// Layer normalization of each position.
    ///
    /// # Errors
    /// An error of the device.
    fn norm(&mut self, id: NormId, map: &Self::Map) -> Result<Self::Map, BackendError>;

    /// Global linear attention of queries, keys, values.
    ///
    /// # Errors
    /// An error of the device.
    fn linear_attention(&mut self, id: LinearAttentionId, qkv: [&Self::Map; 3]) -> Result<Self::Map, BackendError>;

    /// Window attention of full queries, keys, values; packed at the non-anchors.
    ///
    /// # Errors
    /// An error of the device.
    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Self::Map; 3]) -> Result<Self::Map, BackendError>;

    /// Packs one half of a full map.
    ///
    /// # Errors
    /// An error of the device.
    fn pack(&mut self, map: &Self::Map, parity: Parity) -> Result<Self::Map, BackendError>;

    /// Unpacks a half to a full map that is zero elsewhere.
    ///
    /// # Errors
    /// An error of the device.
    fn unpack(&mut self, map: &Self::Map, parity: Parity) -> Result<Self::Map, BackendError>;

    /// Merges packed halves into a full latent tensor; a missing half is zero.
    ///
    /// # Errors
    /// An error of the device.
    fn merge(&mut self, anchors: &Self::Latent, non_anchors: Option<&Self::Latent>) -> Result<Self::Latent, BackendError>;

    /// `mean + symbol`, for packed latents.
    ///
    /// # Errors
    /// An error of the device.
    fn reconstruct(&mut self, mean: &Self::Latent, symbols: &[i32]) -> Result<Self::Latent, BackendError>;

    /// Sum of two latents of one shape.
    ///
    /// # Errors
    /// An error of the device.
    fn add(&mut self, a: &Self::Latent, b: &Self::Latent) -> Result<Self::Latent, BackendError>;

    /// Runs two independent computations and returns their results: one after the other, unless the device does better.
    fn both<A: Send, B: Send>(&mut self, a: impl FnOnce(&mut Self) -> A + Send, b: impl FnOnce(&mut Self) -> B + Send) -> (A, B)
    where
        Self: Sized,
    {
        (a(self), b(self))
    }
}
