//! The format of `conformance/<suite>/manifest.json`.

use std::collections::BTreeSet;
use std::fmt;

use mlic_backend::digest::Digest;
use serde::{Deserialize, Serialize};

/// Version of the manifest format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// A level of comparison; each includes all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Level {
    /// Container.
    L0,
    /// Symbols.
    L1,
    /// Means and scale indices.
    L2,
    /// `y_hat`.
    L3,
    /// Pixels.
    L4,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [Self::L0, Self::L1, Self::L2, Self::L3, Self::L4];
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level as Self
    }
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::ALL.get(usize::from(number)).copied().ok_or_else(|| format!("{number} is not a level, 0 to 4"))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", *self as u8)
    }
}

/// The manifest of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format: [`FORMAT`].
    pub format: u32,
    /// Name of the suite and of its folder.
    pub suite: String,
    /// What the suite is for.
    pub why: String,
    /// The model that all its streams need.
    pub model: ModelRef,
    /// The program and the backends that the expectations come from.
    pub blessed: Blessed,
    /// The vectors.
    pub vectors: Vec<Vector>,
}

/// The model package that a suite needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Model id as streams carry it, 12 hexadecimal digits.
    pub id: String,
    /// Name, for people.
    pub name: String,
    /// Path of the package within the conformance data; none for the model that is part of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// The program version and the backends that agreed on the expectations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blessed {
    /// Version of the program that blessed the suite.
    pub version: String,
    /// Backends that agreed, each with the device that ran its passes.
    pub backends: Vec<String>,
}

/// A test vector: a stream or a package, and the result that it must give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Name, unique in the suite.
    pub name: String,
    /// What the vector is for.
    pub why: String,
    /// The stream, or the package that must be refused or accepted.
    pub stream: FileRef,
    /// The result that it must give.
    pub expect: Expect,
}

/// A file in the suite's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Name: letters, digits, `-`, `_` and `.`.
    pub file: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// The result that a stream or a package must give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// The stream decodes, with these results.
    Decodes(Box<Decodes>),
    /// The stream is refused.
    Refused(Refused),
    /// The file is a model package that must be refused.
    PackageRefused(PackageRefused),
    /// The file is a model package that must be accepted. A decoder shows that it accepts a package by going on to the stream.
    PackageTaken {},
}

/// The expected refusal of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Error code: that of `mlic::Error::code()`.
    pub code: String,
    /// The lowest level at which the refusal shows: 0 if the container alone gives it, else 1.
    pub level: Level,
}

/// The expected refusal of a model package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageRefused {
    /// Error code: that of `mlic::ModelError::code()`.
    pub code: String,
}

/// Everything that decoding a stream determines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decodes {
    /// L0: header fields and sections.
    pub header: HeaderFields,
    /// For a truncated stream, the number of latent slices whose symbols are all there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_slices: Option<usize>,
    /// L1: digest of the symbols of z.
    pub z: HexDigest,
    /// L1 and L2: digests of each pass, in walk order.
    pub passes: Vec<PassDigests>,
    /// L3: digest of `y_hat`.
    pub y_hat: HexDigest,
    /// L4: digest of the samples of the picture, if the package has an exact synthesis (SPEC 5.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<HexDigest>,
    /// L4 in float: the picture; none where float arithmetic determines nothing useful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureRef>,
}

/// Header fields and sections of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderFields {
    /// Model id in hexadecimal.
    pub model: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Quality.
    pub quality: u8,
    /// Whether the picture is gray.
    pub gray: bool,
    /// Binary logarithm of the lane count.
    pub lanes_log2: u8,
    /// Checksum of the symbols.
    pub symbol_checksum: u32,
    /// Length of the payload in bytes, as the header declares it.
    pub payload_bytes: usize,
    /// Kind, and length in bytes, of each section present.
    pub sections: Vec<(u8, usize)>,
}

/// Digests of the tensors of one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassDigests {
    /// Name of the pass, for people; only the order of the passes counts.
    pub pass: String,
    /// Means.
    pub means: HexDigest,
    /// Scale indices.
    pub scale_indices: HexDigest,
    /// Symbols.
    pub symbols: HexDigest,
}

/// A reference picture, and how close another must be to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureRef {
    /// The picture, as PNG.
    pub image: FileRef,
    /// Largest difference allowed in any sample.
    pub max_difference: u8,
    /// Largest mean difference allowed.
    pub mean_difference: f64,
    /// Why there is a tolerance.
    pub reason: String,
}

/// A [`Digest`], written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexDigest(pub Digest);

impl From<Digest> for HexDigest {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl TryFrom<String> for HexDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 16];
        let mut is_one = rest.is_empty() && pairs.len() == bytes.len();
        for (to, [high, low]) in bytes.iter_mut().zip(pairs) {
            match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => *to = (high << 4 | low) as u8,
                _ => is_one = false,
            }
        }
        if is_one { Ok(Self(Digest(bytes))) } else { Err(format!("digest {text:?} is not 32 lower-case hexadecimal digits")) }
    }
}

impl From<HexDigest> for String {
    fn from(digest: HexDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Expect {
    /// Whether the file is a model package rather than a stream.
    #[must_use]
    pub const fn is_of_a_package(&self) -> bool {
        matches!(self, Self::PackageRefused(_) | Self::PackageTaken {})
    }

    /// The lowest level at which the vector can be judged.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Decodes(_) => Level::L0,
            Self::Refused(refused) => refused.level,
            Self::PackageRefused(_) | Self::PackageTaken {} => Level::L0,
        }
    }
}

impl Manifest {
    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// What is wrong with the manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Returns the manifest as JSON.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn validate(&self) -> Result<(), String> {
        require(self.format == FORMAT, || format!("format {}, this program reads {FORMAT}", self.format))?;
        require(!self.vectors.is_empty(), || "no vectors".into())?;
        require(is_hex(&self.model.id, 12), || format!("model id {:?} is not 12 hexadecimal digits", self.model.id))?;
        if let Some(package) = &self.model.package {
            let plain = package.split('/').count() == 2 && package.split('/').all(is_plain);
            require(plain, || format!("package {package:?} is not FOLDER/FILE"))?;
        }
        let mut names = BTreeSet::new();
        self.vectors.iter().try_for_each(|vector| {
            require(names.insert(&vector.name), || format!("two vectors are called {}", vector.name))?;
            vector.validate().map_err(|problem| format!("vector {}: {problem}", vector.name))
        })
    }

    /// Returns the vector of this name.
    #[must_use]
    pub fn vector(&self, name: &str) -> Option<&Vector> {
        self.vectors.iter().find(|vector| vector.name == name)
    }
}

impl Vector {
    fn validate(&self) -> Result<(), String> {
        require(is_plain(&self.name), || "a name has letters, digits, - _ and . only".into())?;
        check_file(&self.stream.file, &self.stream.sha256)?;
        match &self.expect {
            Expect::Decodes(decodes) => decodes.validate(),
            Expect::Refused(refused) => {
                require(!refused.code.is_empty(), || "no error code".into())?;
                require(refused.level <= Level::L1, || "a refusal is seen at level 0 or 1".into())
            }
            Expect::PackageRefused(refused) => require(!refused.code.is_empty(), || "no error code".into()),
            Expect::PackageTaken {} => Ok(()),
        }
    }
}

impl Decodes {
    fn validate(&self) -> Result<(), String> {
        let even = !self.passes.is_empty() && self.passes.len().is_multiple_of(2);
        require(even, || format!("{} passes, each latent slice has two", self.passes.len()))?;
        let whole = self.whole_slices.unwrap_or(0);
        require(whole <= self.passes.len() / 2, || format!("{whole} whole slices of {}", self.passes.len() / 2))?;
        self.picture.as_ref().map_or(Ok(()), |p| {
            require(p.mean_difference >= 0.0, || "a mean difference is not negative".into())?;
            check_file(&p.image.file, &p.image.sha256)
        })
    }
}

fn require(ok: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(problem()) }
}

fn check_file(file: &str, sha256: &str) -> Result<(), String> {
    require(is_plain(file), || format!("file {file:?}: letters, digits, - _ and . only"))?;
    require(is_hex(sha256, 64), || format!("SHA-256 {sha256:?} is not 64 hexadecimal digits"))
}

/// Whether a name cannot lead out of its folder.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_32_lower_case_digits() {
        let text = "00ff0123456789abcdef0123456789ab";
        let digest: HexDigest = serde_json::from_value(text.into()).unwrap();
        assert_eq!((digest.0.0[1], digest.to_string().as_str()), (0xff, text));
        assert_eq!(serde_json::to_value(digest).unwrap(), text);
        for wrong in [&text[1..], &format!("{text}0"), &format!("{text}00"), &text.to_uppercase(), &text.replace("00", "é"), ""]
        {
            assert!(
                serde_json::from_value::<HexDigest>(wrong.into()).unwrap_err().to_string().contains("32 lower-case"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["", ".", "..", "a/b", "../a", ".hidden", "a b", "a\\b"] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(is_plain("flat-1x1_q0.mlic"));
    }

    #[test]
    fn levels_are_numbers() {
        assert_eq!(serde_json::to_string(&Level::L3).unwrap(), "3");
        assert_eq!(serde_json::from_str::<Level>("4").unwrap(), Level::L4);
        assert!(serde_json::from_str::<Level>("5").is_err());
        assert!(Level::L1 < Level::L2);
    }
}
