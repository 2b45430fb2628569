//! One digest for a whole suite.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::io;

/// Number of hexadecimal digits that are shown of a digest.
const SHOWN_DIGITS: usize = 16;

/// A suite of this repository.
pub struct Suite {
    /// Its combined digest: [`digest_of`].
    pub digest: String,
    /// Number of its vectors; all can be judged at [`Self::level`].
    pub vectors: usize,
    /// The level up to which everything is exact: [`level_of`].
    pub level: u8,
}

/// Finds a suite by its name.
///
/// # Errors
/// When its manifest cannot be read.
pub fn find(name: &str) -> Result<Suite, String> {
    let path = crate::root().join("conformance").join(name).join("manifest.json");
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let manifest: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let digest = digest_of(&manifest).ok_or_else(|| format!("{}: not a manifest with vectors", path.display()))?;
    Ok(Suite { digest, vectors: manifest["vectors"].as_array().map_or(0, Vec::len), level: level_of(&manifest) })
}

/// The level up to which a suite is exact: 4 where everything that decodes has exact pixels, else 3.
#[must_use]
pub fn level_of(manifest: &Value) -> u8 {
    let decodes = || manifest["vectors"].as_array().into_iter().flatten().filter_map(|vector| vector["expect"].get("decodes"));
    if decodes().next().is_some() && decodes().all(|decodes| decodes["pixels"].is_string()) { 4 } else { 3 }
}

/// SHA-256 over the model id and, for each vector in order, its name, the SHA-256 of its stream, and everything exact that is
/// expected of it: header, symbols, means and scale indices of each pass, `y_hat`, pixels where they are exact, or the code of the refusal.
///
/// Float pictures do not count. A platform that passes all vectors at the suite's level has computed exactly these values.
#[must_use]
pub fn digest_of(manifest: &Value) -> Option<String> {
    let vectors = manifest["vectors"].as_array().filter(|vectors| !vectors.is_empty())?;
    let mut hash = Sha256::new();
    hash.update(manifest["model"]["id"].as_str()?);
    for vector in vectors {
        let mut expect = vector["expect"].clone();
        if let Some(decodes) = expect.get_mut("decodes").and_then(Value::as_object_mut) {
            decodes.remove("picture");
        }
        // One line for each, so that none can be read as part of its neighbour.
        hash.update(format!("\n{}\n{}\n{expect}", vector["name"].as_str()?, vector["stream"]["sha256"].as_str()?));
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().chars().take(SHOWN_DIGITS).collect())
}
