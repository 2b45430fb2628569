//! The bytes of a package: mapped from a file, embedded in the program, or owned.
#![allow(unsafe_code, reason = "mapping a file is unsafe in memmap2; this is the only place")]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memmap2::Mmap;
use mlic_core::memory;

use crate::error::ModelError;
use crate::model::Model;
use crate::package::{MAGIC, MAX_PACKAGE_LEN};

/// Bytes that live as long as the model.
#[derive(Debug)]
pub(crate) enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Reads a file: its first bytes and, if they are those of a package, at most `MAX_PACKAGE_LEN` more.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_path_buf(), source };
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len().min(MAX_PACKAGE_LEN);
        let mut bytes = Vec::new();
        // One byte more than the file has, so that its end is found without more memory.
        memory::reserve(&mut bytes, usize::try_from(len + 1).unwrap_or(usize::MAX))?;
        file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut bytes).map_err(io)?;
        if bytes == MAGIC {
            file.take(MAX_PACKAGE_LEN).read_to_end(&mut bytes).map_err(io)?;
        }
        Ok(Self::Owned(bytes))
    }

    /// Maps a file, or reads it where the platform has no mapping (WebAssembly).
    ///
    /// # Safety
    /// That of [`Model::map`].
    unsafe fn map(path: &Path) -> Result<Self, ModelError> {
        if cfg!(not(any(unix, windows))) {
            return Self::read(path);
        }
        let io = |source| ModelError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the mapping is read-only here, and the caller promises that nobody changes the file while the mapping lives. No kind of mapping
        // rules out such changes: even a private one may show what is written to pages that were not touched yet.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }
}

impl Model {
    /// Maps and verifies a package, where [`Self::open`] reads it: the first picture comes sooner, and processes share the memory.
    ///
    /// # Errors
    /// Any [`ModelError`].
    ///
    /// # Safety
    /// The memory of the model is that of the file: as long as the model lives, nobody, in whichever process, may write to the file or truncate it.
    /// Otherwise verified bytes would change under references to them, or SIGBUS would end the process. A newer package may replace the file by a rename.
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        // SAFETY: the caller's promise.
        Self::new(unsafe { Bytes::map(path.as_ref()) }?)
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

    /// A file that nobody changes.
    fn map(path: &Path) -> Result<Bytes, ModelError> {
        // SAFETY: the file is part of the repository, or does not exist.
        unsafe { Bytes::map(path) }
    }

    #[test]
    #[cfg(any(unix, windows))]
    fn a_file_reads_as_it_maps() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/models/tiny.mlicpkg");
        let (mapped, read) = (map(&path).unwrap(), Bytes::read(&path).unwrap());
        assert!(matches!(mapped, Bytes::Mapped(_)) && matches!(read, Bytes::Owned(_)));
        assert_eq!(mapped.as_ref(), read.as_ref());
        assert!(read.as_ref().starts_with(&MAGIC));
    }

    #[test]
    fn a_missing_file_is_an_error_either_way() {
        let path = Path::new("no such file");
        assert!(matches!(map(path), Err(ModelError::Io { .. })));
        assert!(matches!(Bytes::read(path), Err(ModelError::Io { .. })));
    }

    /// `/dev/zero` has no length of its own.
    #[test]
    #[cfg(target_os = "linux")]
    fn what_never_ends_is_no_package() {
        assert!(matches!(Model::open("/dev/zero"), Err(ModelError::NotAPackage { .. })));
    }
}
