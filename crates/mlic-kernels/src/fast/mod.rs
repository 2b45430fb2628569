//! The operators of [`crate::reference`], faster: bands of rows or positions run in parallel on the current rayon pool, each in vector
//! code for one [`crate::cpu::Isa`]. What a band computes does not depend on the others: the number of threads changes no result.

mod aligned;
mod analysis;
mod band;
mod constants;
mod epilogue;
mod finish;
mod gammas;
mod gdn;
mod layer;
mod linear;
mod nodes;
mod norm;
mod pack;
mod plan;
mod quantize;
mod root;
mod scales;
mod softmax;
mod square;
mod stage;
mod synthesis;
mod tables;
mod tile;
mod walk;
mod window;
mod winograd;

pub use analysis::{Analysis, HyperAnalysis};
pub use layer::{latent_layer, layer, residual_layer};
pub use linear::{linear_attention, linear_attention_bytes};
pub use norm::layer_norm;
pub use pack::Layer;
pub use plan::Plan;
pub use quantize::quantize;
pub use scales::scale_indices;
pub use synthesis::Synthesis;
pub use tables::Tables;
pub use window::{local_attention, local_attention_bytes};
