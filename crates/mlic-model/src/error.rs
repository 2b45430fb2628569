//! Why a package is refused.

use std::path::PathBuf;

use mlic_core::memory::OutOfMemory;

use crate::graph::GraphError;

/// A model package, or a part of one, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be opened, read or mapped.
    #[error("model package {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The first bytes are not those of a package.
    #[error("not a model package: it begins with {got:02x?}")]
    NotAPackage {
        /// First bytes found.
        got: Vec<u8>,
    },
    /// The package is of another format version.
    #[error("model package of format version {got}; this program reads version {supported}")]
    UnsupportedVersion {
        /// Version found.
        got: u32,
        /// Version supported.
        supported: u32,
    },
    /// Bytes are missing.
    #[error("model package truncated in {part}: {need} bytes needed, {have} there")]
    Truncated {
        /// What was being read.
        part: &'static str,
        /// Bytes there.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
    /// There are more bytes than the package declares, or than a package may have.
    #[error("model package oversized in {part}: {have} bytes, at most {need} are allowed")]
    Oversized {
        /// What was being read.
        part: &'static str,
        /// Bytes there.
        have: u64,
        /// Bytes allowed.
        need: u64,
    },
    /// A checksum does not match.
    #[error("model package damaged: checksum of {part} is {got:08x}, declared {declared:08x}")]
    Checksum {
        /// Which part.
        part: &'static str,
        /// Computed.
        got: u32,
        /// Declared.
        declared: u32,
    },
    /// The hash of the normative sections is not the declared model id.
    #[error("model package contradicts itself: its normative part hashes to {got}, it declares {declared}")]
    IdMismatch {
        /// Computed hash, hexadecimal.
        got: String,
        /// Declared hash, hexadecimal.
        declared: String,
    },
    /// A section is missing, doubled, unknown, out of place, or empty where it may not be.
    #[error("model package: section {kind}: {problem}")]
    Section {
        /// The section's kind.
        kind: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// The configuration or metadata is not the JSON it should be.
    #[error("model package: {part} cannot be read: {message}")]
    Json {
        /// Which section.
        part: &'static str,
        /// The parser's message.
        message: String,
    },
    /// A field of the configuration is out of its range or contradicts another.
    #[error("model configuration: {field} is {got}, must be {must}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        got: String,
        /// The rule.
        must: &'static str,
    },
    /// A table or parameter is out of range or contradicts the configuration.
    #[error("model package: {what} {index}: {problem}")]
    Parameter {
        /// Which table.
        what: &'static str,
        /// Which element.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// An integer operation could overflow with these parameters.
    #[error("model package: {operation} of {operator} can reach {worst}, limit {limit}")]
    Overflow {
        /// Name of the layer or operator.
        operator: String,
        /// Which operation.
        operation: &'static str,
        /// Largest magnitude that can occur.
        worst: i128,
        /// Largest magnitude allowed.
        limit: i128,
    },
    /// A float transform cannot be used.
    #[error("model package: transform {name}")]
    Graph {
        /// `g_a`, `h_a` or `g_s`.
        name: &'static str,
        /// The cause.
        source: GraphError,
    },
    /// There is no memory for a part of the package.
    #[error("model package")]
    OutOfMemory(#[from] OutOfMemory),
}

impl ModelError {
    /// The allocation that failed, if one did.
    #[must_use]
    pub const fn out_of_memory(&self) -> Option<OutOfMemory> {
        match self {
            Self::OutOfMemory(e) | Self::Graph { source: GraphError::OutOfMemory(e), .. } => Some(*e),
            _ => None,
        }
    }

    /// A stable name of the variant, for conformance manifests.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::NotAPackage { .. } => "not-a-package",
            Self::UnsupportedVersion { .. } => "unsupported-version",
            Self::Truncated { .. } => "truncated",
            Self::Oversized { .. } => "oversized",
            Self::Checksum { .. } => "checksum",
            Self::IdMismatch { .. } => "id-mismatch",
            Self::Section { .. } => "section",
            Self::Json { .. } => "json",
            Self::Config { .. } => "config",
            Self::Parameter { .. } => "parameter",
            Self::Overflow { .. } => "overflow",
            Self::OutOfMemory(_) | Self::Graph { source: GraphError::OutOfMemory(_), .. } => "out-of-memory",
            Self::Graph { .. } => "graph",
        }
    }
}
