//! Digests of what a pass decides. Conformance vectors hold them, and desync reports compare them (SPEC 7).

use sha2::{Digest as _, Sha256};

/// First half of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Digest of integers as little-endian 32-bit values.
    #[must_use]
    pub fn of_i32(values: &[i32]) -> Self {
        let mut hash = Sha256::new();
        let mut bytes = [[0; 4]; 256];
        for part in values.chunks(bytes.len()) {
            bytes.iter_mut().zip(part).for_each(|(to, v)| *to = v.to_le_bytes());
            hash.update(bytes[..part.len()].as_flattened());
        }
        Self::finish(hash)
    }

    /// Digest of bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(bytes);
        Self::finish(hash)
    }

    fn finish(hash: Sha256) -> Self {
        let full: [u8; 32] = hash.finalize().into();
        let mut first = [0; 16];
        first.copy_from_slice(&full[..16]);
        Self(first)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&mlic_model::package::hex(&self.0))
    }
}
