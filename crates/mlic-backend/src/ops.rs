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

    /// Latent values to activations.
    ///
    /// # Errors
    /// What the device says; so for every operator.
    fn quantize(&mut self, id: QuantizerId, latent: &Self::Latent) -> Result<Self::Map, BackendError>;

    /// A layer with activations as output, at all positions.
    ///
    /// # Errors
    /// What the device says.
    fn layer(&mut self, id: LayerId, inputs: &[&Self::Map]) -> Result<Self::Map, BackendError>;

    /// A layer on full inputs, evaluated and packed at one half.
    ///
    /// # Errors
    /// What the device says.
    fn layer_at(&mut self, id: LayerId, inputs: &[&Self::Map], parity: Parity) -> Result<Self::Map, BackendError>;

    /// The last layer of entropy parameters: (scale, mean), each with the channels of a latent slice.
    ///
    /// # Errors
    /// What the device says.
    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Self::Map]) -> Result<(Self::Latent, Self::Latent), BackendError>;

    /// The last layer of latent residual prediction on full inputs, packed at one half.
    ///
    /// # Errors
    /// What the device says.
    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Self::Map], parity: Parity) -> Result<Self::Latent, BackendError>;

    /// Pixel shuffle by two.
    ///
    /// # Errors
    /// What the device says.
    fn shuffle(&mut self, map: &Self::Map) -> Result<Self::Map, BackendError>;

    /// Layer normalization of each position.
    ///
    /// # Errors
    /// What the device says.
    fn norm(&mut self, id: NormId, map: &Self::Map) -> Result<Self::Map, BackendError>;

    /// Global linear attention of queries, keys, values.
    ///
    /// # Errors
    /// What the device says.
    fn linear_attention(&mut self, id: LinearAttentionId, qkv: [&Self::Map; 3]) -> Result<Self::Map, BackendError>;

    /// Window attention of full queries, keys, values; packed at the non-anchors.
    ///
    /// # Errors
    /// What the device says.
    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Self::Map; 3]) -> Result<Self::Map, BackendError>;

    /// One half of a full map.
    ///
    /// # Errors
    /// What the device says.
    fn pack(&mut self, map: &Self::Map, parity: Parity) -> Result<Self::Map, BackendError>;

    /// The full map of a packed half, zeros elsewhere.
    ///
    /// # Errors
    /// What the device says.
    fn unpack(&mut self, map: &Self::Map, parity: Parity) -> Result<Self::Map, BackendError>;

    /// A full latent tensor from packed halves; a missing half is zero.
    ///
    /// # Errors
    /// What the device says.
    fn merge(&mut self, anchors: &Self::Latent, non_anchors: Option<&Self::Latent>) -> Result<Self::Latent, BackendError>;

    /// `mean + symbol`, for packed latents.
    ///
    /// # Errors
    /// What the device says.
    fn reconstruct(&mut self, mean: &Self::Latent, symbols: &[i32]) -> Result<Self::Latent, BackendError>;

    /// Sum of two latents of one shape.
    ///
    /// # Errors
    /// What the device says.
    fn add(&mut self, a: &Self::Latent, b: &Self::Latent) -> Result<Self::Latent, BackendError>;

    /// The results of two computations that need nothing of each other: one after the other, unless the device does better.
    fn both<A: Send, B: Send>(&mut self, a: impl FnOnce(&mut Self) -> A + Send, b: impl FnOnce(&mut Self) -> B + Send) -> (A, B)
    where
        Self: Sized,
    {
        (a(self), b(self))
    }
}
