//! Errors that keep a suite from being read, run or made.

use std::path::PathBuf;

use mlic_backend::BackendError;
use mlic_core::container::ContainerError;
use mlic_core::rans::RansError;
use mlic_model::ModelError;
use thiserror::Error;

/// Why a suite cannot be used. No error ever counts as a pass.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConformError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The conformance data has no such file.
    #[error("there is no file {file}")]
    Missing {
        /// Path within the conformance data.
        file: String,
    },
    /// There is no such suite.
    #[error("there is no suite {name} (there are: {known})")]
    UnknownSuite {
        /// The name.
        name: String,
        /// Names of the suites that there are.
        known: String,
    },
    /// There is no such folder of suites.
    #[error("there is no directory {}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such external program.
    #[error("there is no program {program}")]
    NoProgram {
        /// The program, as the command line names it.
        program: String,
    },
    /// The suite has no such vector.
    #[error("there is no vector {name}")]
    UnknownVector {
        /// The name.
        name: String,
    },
    /// A manifest is not of the form that this program reads.
    #[error("{file}: {problem}")]
    Manifest {
        /// Path within the conformance data.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The SHA-256 of a file is not the one in the manifest.
    #[error("{file} has SHA-256 {got}, the manifest says {expected}")]
    FileDigest {
        /// Path within the conformance data.
        file: String,
        /// SHA-256 of the file.
        got: String,
        /// SHA-256 in the manifest.
        expected: String,
    },
    /// No available model has the required id.
    #[error("model {wanted} ({name}) is not at hand; there is {have}")]
    NoModel {
        /// Id of the required model.
        wanted: String,
        /// Name of the required model.
        name: String,
        /// Ids of the available models.
        have: String,
    },
    /// A vector cannot be made as its recipe says.
    #[error("{vector}: {problem}")]
    Recipe {
        /// The vector.
        vector: String,
        /// What is wrong.
        problem: String,
    },
    /// A suite that has just been blessed does not pass.
    #[error("{suite} does not pass on {backend} after blessing: {problem}")]
    Blessing {
        /// The suite.
        suite: String,
        /// The backend.
        backend: String,
        /// How many vectors do not pass, and the first of their verdicts.
        problem: String,
    },
    /// A decoder failed, or said nothing that can be compared.
    #[error("{problem}")]
    Decoder {
        /// What went wrong.
        problem: String,
    },
    /// A decoder has a limit of its own, as SPEC 1.3 permits, and the stream needs more.
    #[error("a limit of the decoder: {problem}")]
    OwnLimit {
        /// Which limit.
        problem: String,
    },
    /// This platform cannot start another program.
    #[error("this platform has no processes, and so no external decoders")]
    NoProcesses,
    /// A file that a user gave is not of the form that this program reads.
    #[error("{}: {problem}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A report or another file cannot be written.
    #[error("{destination}")]
    Output {
        /// Where to.
        destination: String,
        /// The cause.
        source: mlic_output::OutputError,
    },
    /// The request makes no sense.
    #[error("{problem}")]
    Usage {
        /// Why.
        problem: String,
    },
    /// The codec failed.
    #[error(transparent)]
    Codec(#[from] mlic::Error),
    /// A backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A model package cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Symbols cannot be coded.
    #[error(transparent)]
    Rans(#[from] RansError),
    /// A stream cannot be written.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A reference picture cannot be read or written.
    #[error(transparent)]
    Image(#[from] mlic::image::ImageError),
}

impl ConformError {
    /// Returns a function that makes [`Self::Io`] for this file.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }

    /// Whether something is lacking on this machine or in this program, rather than wrong.
    #[must_use]
    pub const fn is_not_available(&self) -> bool {
        matches!(
            self,
            Self::Codec(mlic::Error::Backend(BackendError::NotAvailable { .. }))
                | Self::Backend(BackendError::NotAvailable { .. })
                | Self::OwnLimit { .. }
                | Self::NoProcesses
        )
    }

    /// The message with all its sources.
    #[must_use]
    pub fn chain(&self) -> String {
        mlic::error::chain(self)
    }
}
