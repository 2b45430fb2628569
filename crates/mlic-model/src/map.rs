//! The bytes of a package: mapped from a file, embedded in the program, or owned.
#![allow(unsafe_code, reason = "mapping a file is unsafe in memmap2; this is the only place")]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::ModelError;

/// Bytes that live as long as the model.
#[derive(Debug)]
pub(crate) enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Bytes {
    /// The bytes of a file: mapped, or read where the platform has no mapping (WebAssembly).
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        if cfg!(any(unix, windows)) { Self::map(path) } else { Self::read(path) }
    }

    fn read(path: &Path) -> Result<Self, ModelError> {
        std::fs::read(path).map(Self::Owned).map_err(|source| ModelError::Io { path: path.to_path_buf(), source })
    }

    fn map(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the mapping is read-only here, but its memory is the file's: a process that writes to the file while it is mapped changes bytes
        // that were verified, and one that truncates it ends this process by SIGBUS. That nobody does is what `Model::open` asks of its caller; no
        // kind of mapping rules it out, since a private one too may show what is written to pages that were not touched yet. Reading a copy, which
        // `Model::from_bytes` takes, would (about 30 ms and 26 MB for the edge package).
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(unix, windows))]
    fn a_file_reads_as_it_maps() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let (mapped, read) = (Bytes::map(&path).unwrap(), Bytes::read(&path).unwrap());
        assert!(matches!(mapped, Bytes::Mapped(_)) && matches!(read, Bytes::Owned(_)));
        assert_eq!(mapped.as_ref(), read.as_ref());
        assert!(!read.as_ref().is_empty());
    }

    #[test]
    fn a_missing_file_is_an_error_either_way() {
        let path = Path::new("no such file");
        assert!(matches!(Bytes::open(path), Err(ModelError::Io { .. })));
        assert!(matches!(Bytes::read(path), Err(ModelError::Io { .. })));
    }
}
