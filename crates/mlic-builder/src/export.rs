//! The folder that `models/export.py` writes: configuration, ONNX transforms, float tensors of the entropy networks.

use std::path::{Path, PathBuf};

use mlic_model::config::{Config, MAX_SLICE_CHANNELS};
use mlic_model::graph::{Graph, Scale};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::error::BuildError;

/// `config.json` of an export.
#[derive(Debug, Clone, Deserialize)]
struct Shape {
    name: String,
    latent: usize,
    hyper: usize,
    slices: usize,
    window: usize,
    heads: usize,
    intra_heads: usize,
    ep_hidden: Vec<usize>,
    lrp_hidden: Vec<Vec<usize>>,
    cc_hidden: Vec<usize>,
    hs_hidden: [usize; 2],
    levels: usize,
}

/// A float tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub data: Vec<f32>,
}

/// A trained model, in float.
#[derive(Debug)]
pub struct Export {
    /// Name of the model.
    pub name: String,
    /// Shape of the entropy networks.
    pub config: Config,
    /// Analysis transform.
    pub g_a: Graph,
    /// Hyper analysis transform.
    pub h_a: Graph,
    /// Synthesis transform.
    pub g_s: Graph,
    bytes: Vec<u8>,
    path: PathBuf,
}

/// Channels that a latent slice may have: the global context between slices has heads of [`INTER_HEAD_CHANNELS`], and a package has at most
/// [`MAX_SLICE_CHANNELS`].
const SLICE_CHANNELS: [usize; 2] = [INTER_HEAD_CHANNELS, MAX_SLICE_CHANNELS];

/// Channels per head of the global context between slices, as in `models/mlicpp.py`.
const INTER_HEAD_CHANNELS: usize = 32;

/// Highest quality of a variable-rate stream; the lowest is 0.
pub const QUALITY_STEPS: u8 = 200;

impl Export {
    /// Reads an export folder.
    ///
    /// # Errors
    /// [`BuildError`] names the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Self, BuildError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|source| BuildError::Io { path, source })
        };
        let format = |name: &str, message: String| BuildError::Format { path: folder.join(name), message };
        // Most likely a checkpoint, an ONNX file, or a folder with one. A path that does not exist gets its own error below.
        if folder.exists() && !folder.join("config.json").exists() {
            return Err(BuildError::NotAnExport);
        }
        let shape: Shape = serde_json::from_slice(&read("config.json")?).map_err(|e| format("config.json", e.to_string()))?;
        let name = shape.name.clone();
        let config = shape.into_config().map_err(|message| format("config.json", message))?;
        config.validate()?;
        let transform = |name: &str, ([from, to], needed): ([usize; 2], Scale)| {
            let path = folder.join(name);
            let graph = crate::onnx::import(&path).map_err(|source| BuildError::Import { path, source })?;
            let (channels, scale) = ([graph.input_channels() as usize, graph.output_channels() as usize], graph.scale());
            if channels == [from, to] && scale == needed {
                return Ok(graph);
            }
            let got = format!("{} to {} channels at {}/{}", channels[0], channels[1], scale.numerator, scale.denominator);
            let needed = format!("{from} to {to} at {}/{}", needed.numerator, needed.denominator);
            let message = format!("{got} of the size; the configuration needs {needed}");
            Err(format(name, message))
        };
        let bytes = read("entropy.safetensors")?;
        let path = folder.join("entropy.safetensors");
        SafeTensors::deserialize(&bytes).map_err(|e| format("entropy.safetensors", e.to_string()))?;
        let [g_a, h_a, g_s] = config.transforms().map(|(_, channels, scale)| (channels, scale));
        let (g_a, h_a, g_s) = (transform("g_a.onnx", g_a)?, transform("h_a.onnx", h_a)?, transform("g_s.onnx", g_s)?);
        Ok(Self { name, config, g_a, h_a, g_s, bytes, path })
    }

    /// Reads a tensor, which must have this shape.
    ///
    /// # Errors
    /// [`BuildError::Tensor`] when it is missing, has another shape, another element type than f16 or f32, or an element that is not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, BuildError> {
        let problem = |problem: String| BuildError::Tensor { name: name.to_owned(), problem };
        let all = SafeTensors::deserialize(&self.bytes)
            .map_err(|e| BuildError::Format { path: self.path.clone(), message: e.to_string() })?;
        let view = all.tensor(name).map_err(|e| problem(e.to_string()))?;
        if view.shape() != shape {
            return Err(problem(format!("has shape {:?}, the configuration needs {shape:?}", view.shape())));
        }
        let data: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => view.data().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => return Err(problem(format!("has element type {other:?}, f16 or f32 needed"))),
        };
        if let Some(i) = data.iter().position(|v| !v.is_finite()) {
            return Err(problem(format!("element {i} is not finite")));
        }
        Ok(Tensor { shape: shape.to_vec(), data })
    }
}

impl Shape {
    /// Makes the configuration of a package, which has one number of heads (SPEC 2.2) for the window attention and the context within a latent slice.
    fn into_config(self) -> Result<Config, String> {
        let variable = self.levels > 0;
        if self.intra_heads != self.heads {
            return Err(format!("heads {}, intra_heads {}: a package has one number for both", self.heads, self.intra_heads));
        }
        let Self { latent, slices, .. } = self;
        let channels = latent.checked_div(slices).filter(|_| latent.is_multiple_of(slices));
        if let Some(channels) = channels.filter(|channels| !SLICE_CHANNELS.contains(channels)) {
            let [few, many] = SLICE_CHANNELS;
            return Err(format!(
                "{channels} channels in a latent slice ({latent} in {slices} slices): a package has {few} or {many}"
            ));
        }
        Ok(Config {
            latent: self.latent,
            hyper: self.hyper,
            slices: self.slices,
            window: self.window,
            heads: self.heads,
            inter_head_channels: INTER_HEAD_CHANNELS,
            ep_hidden: self.ep_hidden,
            lrp_hidden: self.lrp_hidden,
            cc_hidden: self.cc_hidden,
            hs_hidden: self.hs_hidden,
            gain_levels: self.levels,
            scale_levels: if variable { self.levels } else { 1 },
            quality_steps: if variable { QUALITY_STEPS } else { 0 },
            skip_below: 1,
        })
    }
}
