//! Verdicts on vectors.

use std::fmt;

use mlic_core::schedule::Pass;
use serde::{Deserialize, Serialize};

use crate::manifest::Level;

/// The result of judging a vector. Only [`Verdict::Pass`] counts as a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Everything that the level compares is as expected.
    Pass,
    /// Something differs.
    Fail(Divergence),
    /// The vector could not be judged: its files are damaged, or the backend failed.
    Error(String),
    /// No result in the time given, in seconds.
    Timeout(u64),
    /// The vector was not tried.
    NotRun(String),
    /// This machine or program cannot do what the vector needs.
    NotSupported(String),
}

/// The kind of a verdict, without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Verdict::Pass`].
    Pass,
    /// [`Verdict::Fail`].
    Fail,
    /// [`Verdict::Error`].
    Error,
    /// [`Verdict::Timeout`].
    Timeout,
    /// [`Verdict::NotRun`].
    #[serde(rename = "not run")]
    NotRun,
    /// [`Verdict::NotSupported`].
    #[serde(rename = "not supported")]
    NotSupported,
}

impl Kind {
    /// All kinds, in the order in which reports count them.
    pub const ALL: [Self; 6] = [Self::Pass, Self::Fail, Self::Error, Self::Timeout, Self::NotRun, Self::NotSupported];

    /// Name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::NotRun => "not run",
            Self::NotSupported => "not supported",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Verdict {
    /// Returns the kind of the verdict.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Pass => Kind::Pass,
            Self::Fail(_) => Kind::Fail,
            Self::Error(_) => Kind::Error,
            Self::Timeout(_) => Kind::Timeout,
            Self::NotRun(_) => Kind::NotRun,
            Self::NotSupported(_) => Kind::NotSupported,
        }
    }

    /// Name in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Whether it is a pass.
    #[must_use]
    pub const fn is_pass(&self) -> bool {
        matches!(self, Self::Pass)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str(self.name()),
            Self::Fail(divergence) => write!(f, "fail: {divergence}"),
            Self::Timeout(seconds) => write!(f, "timeout: no result after {seconds} s"),
            Self::Error(reason) | Self::NotRun(reason) | Self::NotSupported(reason) => write!(f, "{}: {reason}", self.name()),
        }
    }
}

/// The first difference between a decoding and a vector's expectations, in walk order: z, then for each pass means, scale indices, symbols, then
/// `y_hat`, the exact pixels and the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The level to which the first difference belongs.
    pub level: Level,
    /// Where the first difference is.
    pub place: Place,
    /// What was expected there.
    pub expected: String,
    /// What was found there.
    pub got: String,
    /// The error that ended the decoding, if any.
    pub error: Option<String>,
}

/// The place of a first difference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A field of the header.
    Header(&'static str),
    /// Symbols of z.
    Z,
    /// A tensor of a pass.
    Pass {
        /// The pass.
        pass: Pass,
        /// The tensor.
        tensor: Tensor,
    },
    /// The number of whole slices of a truncated stream.
    WholeSlices,
    /// How the decoding ended.
    Outcome,
    /// `y_hat`.
    YHat,
    /// The exact pixels.
    Pixels,
    /// The float picture.
    Picture,
    /// The outcome, `y_hat` or the exact pixels of a decoding that requests no means: see [`crate::observe::decode_alone`].
    Alone(Box<Place>),
}

/// A tensor that a pass determines; the variants are in the order of determination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tensor {
    /// Means.
    Means,
    /// Scale indices.
    ScaleIndices,
    /// Symbols.
    Symbols,
}

impl Tensor {
    /// Returns the level that compares the tensor.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Means | Self::ScaleIndices => Level::L2,
            Self::Symbols => Level::L1,
        }
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Means => "means",
            Self::ScaleIndices => "scale_indices",
            Self::Symbols => "symbols",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(field) => write!(f, "header, {field}"),
            Self::Z => f.write_str("z, symbols"),
            Self::Pass { pass, tensor } => write!(f, "pass {} ({pass}), {tensor}", pass.index()),
            Self::WholeSlices => f.write_str("whole slices"),
            Self::Outcome => f.write_str("outcome"),
            Self::YHat => f.write_str("y_hat"),
            Self::Pixels => f.write_str("pixels"),
            Self::Picture => f.write_str("picture"),
            Self::Alone(place) => write!(f, "{place} of the calls of a decoder alone, which asks for no means"),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: expected {}, got {}", self.level, self.place, self.expected, self.got)?;
        match &self.error {
            Some(error) => write!(f, "; the decoding ended in: {error}"),
            None => Ok(()),
        }
    }
}
