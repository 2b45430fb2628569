//! Why a package cannot be built.

use std::path::PathBuf;

/// A step of building a package failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The path given as an export is not an export folder.
    #[error("not a folder written by models/export.py: run that on the checkpoint first")]
    NotAnExport,
    /// A file of the export cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file of the export is malformed, or does not fit the configuration.
    #[error("{path}: {message}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor is missing or has another shape than the configuration says.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// Name in the checkpoint.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A transform cannot be imported.
    #[error("{path}: {source}")]
    Import {
        /// The ONNX file.
        path: PathBuf,
        /// The cause.
        source: crate::onnx::ImportError,
    },
    /// A transform has no integer form.
    #[error("node {node} of {transform}: {problem}")]
    NoIntegerForm {
        /// Name of the transform: g_s, g_a or h_a.
        transform: &'static str,
        /// Number of the node in the float graph.
        node: u32,
        /// Why it has no integer form.
        problem: String,
    },
    /// No images to calibrate on, or none usable.
    #[error("calibration needs at least one image")]
    NoImages,
    /// There is no network of this name.
    #[error("there is no network {name}: {known}")]
    Network {
        /// The unknown name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A ratio of scales has no integer form.
    #[error("{operator}: scale {value:e} cannot be represented in integers")]
    Scale {
        /// The operator.
        operator: String,
        /// The ratio of scales.
        value: f64,
    },
    /// The resulting package is not valid.
    #[error(transparent)]
    Model(#[from] mlic_model::ModelError),
    /// A stage failed.
    #[error(transparent)]
    Backend(#[from] mlic_backend::BackendError),
    /// A float transform failed.
    #[error(transparent)]
    Transform(#[from] mlic_tract::TractError),
}
