//! Where suites and models are read from: a folder, the program itself, or memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlic_model::package::hex;
use mlic_model::{Model, ModelError};
use sha2::{Digest as _, Sha256};

use crate::error::ConformError;
use crate::manifest::{FileRef, Manifest, ModelRef, Vector};

/// Path and contents of every data file that was in `conformance/` when the program was built.
static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
/// Length limit of the files that are read, in bytes; the longest are model packages.
pub const MAX_FILE_LEN: u64 = 1 << 30;

/// Conformance data. Paths within it have the form `FOLDER/FILE`.
#[derive(Debug, Clone)]
pub enum Store {
    /// A folder like `conformance/`.
    Folder(PathBuf),
    /// What was built into the program.
    Embedded,
    /// Files in memory, in front of another store.
    Memory {
        /// Contents of the files, by path.
        files: BTreeMap<String, Vec<u8>>,
        /// The store that is asked for all other files.
        behind: Box<Store>,
    },
}

/// Name of the manifest in a suite's folder.
pub const MANIFEST: &str = "manifest.json";

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Store {
    /// Returns the data that was built into the program.
    #[must_use]
    pub const fn embedded() -> Self {
        Self::Embedded
    }

    /// Returns the contents of a file.
    ///
    /// # Errors
    /// [`ConformError::Missing`], [`ConformError::Io`], or [`ConformError::Input`] for what is no file or too long.
    pub fn read(&self, path: &str) -> Result<Cow<'_, [u8]>, ConformError> {
        let missing = || ConformError::Missing { file: path.to_owned() };
        match self {
            Self::Folder(root) => read_at_most(&root.join(path), MAX_FILE_LEN).map(Cow::Owned),
            Self::Embedded => {
                let found = EMBEDDED.iter().find(|(name, _)| *name == path);
                found.map(|(_, bytes)| Cow::Borrowed(*bytes)).ok_or_else(missing)
            }
            Self::Memory { files, behind } => match files.get(path) {
                Some(bytes) => Ok(Cow::Borrowed(bytes.as_slice())),
                None => behind.read(path),
            },
        }
    }

    /// Names of the suites: folders with a manifest, sorted.
    #[must_use]
    pub fn suites(&self) -> Vec<String> {
        let of_path = |path: &str| path.strip_suffix(MANIFEST)?.strip_suffix('/').map(str::to_owned);
        let names: BTreeSet<String> = match self {
            Self::Folder(root) => {
                let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
                let suites = entries.filter(|entry| entry.path().join(MANIFEST).is_file());
                suites.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Self::Embedded => EMBEDDED.iter().filter_map(|(path, _)| of_path(path)).collect(),
            Self::Memory { files, behind } => files.keys().filter_map(|path| of_path(path)).chain(behind.suites()).collect(),
        };
        names.into_iter().collect()
    }

    /// Reads the manifest of a suite.
    ///
    /// # Errors
    /// [`ConformError::UnknownSuite`], [`ConformError::Manifest`] when its manifest is damaged, or what [`Self::read`] says.
    pub fn suite(&self, name: &str) -> Result<Suite<'_>, ConformError> {
        let known = self.suites();
        if !known.iter().any(|suite| suite == name) {
            return Err(ConformError::UnknownSuite { name: name.to_owned(), known: listed(&known) });
        }
        let file = format!("{name}/{MANIFEST}");
        let bytes = self.read(&file)?;
        let damaged = |problem| ConformError::Manifest { file: file.clone(), problem };
        let manifest = Manifest::parse(&bytes).map_err(damaged)?;
        if manifest.suite != name {
            return Err(damaged(format!("the suite calls itself {}", manifest.suite)));
        }
        Ok(Suite { manifest, sha256: sha256(&bytes), not_selected: 0, store: self })
    }
}

/// Names of suites, for a message.
pub(crate) fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`ConformError::Io`], or [`ConformError::Input`] for what is no file or too long.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, ConformError> {
    use std::io::Read;
    let wrong = |problem| ConformError::Input { path: path.to_owned(), problem };
    if !std::fs::metadata(path).map_err(ConformError::io(path))?.is_file() {
        return Err(wrong("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(ConformError::io(path))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ConformError::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(wrong(format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// A suite: its manifest, and the store that holds its files.
#[derive(Debug, Clone)]
pub struct Suite<'a> {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest file, which identifies everything else in the suite.
    pub sha256: String,
    /// Number of vectors that [`Self::select`] has removed.
    pub not_selected: usize,
    store: &'a Store,
}

impl Suite<'_> {
    /// Keeps the vectors for which `keep` returns true, and counts the others.
    pub fn select(&mut self, keep: impl FnMut(&Vector) -> bool) {
        let before = self.manifest.vectors.len();
        self.manifest.vectors.retain(keep);
        self.not_selected += before - self.manifest.vectors.len();
    }

    /// Reads a file of the suite, and checks that it is the one that the manifest means.
    ///
    /// # Errors
    /// [`ConformError::FileDigest`] when it is another, or what [`Store::read`] says.
    pub fn read(&self, file: &FileRef) -> Result<Vec<u8>, ConformError> {
        let path = format!("{}/{}", self.manifest.suite, file.file);
        let bytes = self.store.read(&path)?.into_owned();
        let got = sha256(&bytes);
        if got == file.sha256 {
            Ok(bytes)
        } else {
            Err(ConformError::FileDigest { file: path, got, expected: file.sha256.clone() })
        }
    }
}

/// Model packages given by the user, which take precedence over those of the data and of the program.
#[derive(Debug, Clone, Default)]
pub struct Models {
    given: Vec<Arc<Model>>,
}

/// The model of the program: [`mlic::default_model`].
///
/// # Errors
/// [`ConformError::Model`] when it is refused, [`ConformError::Missing`] when it is neither embedded nor installed.
pub fn default_model() -> Result<Arc<Model>, ConformError> {
    mlic::default_model().map(Arc::new).map_err(|error| match error {
        ModelError::Io { path, .. } => ConformError::Missing { file: path.display().to_string() },
        refused => refused.into(),
    })
}

impl Models {
    /// Opens packages.
    ///
    /// # Errors
    /// [`ConformError::Model`] when one cannot be read, [`ConformError::Input`] when it is refused.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ConformError> {
        let open = |path: &PathBuf| match Model::open(path) {
            Ok(model) => Ok(Arc::new(model)),
            Err(error @ ModelError::Io { .. }) => Err(error.into()),
            Err(error) => Err(ConformError::Input { path: path.clone(), problem: mlic::error::chain(&error) }),
        };
        Ok(Self { given: paths.iter().map(open).collect::<Result<_, ConformError>>()? })
    }

    /// Returns the first package that the user gave.
    #[must_use]
    pub fn first(&self) -> Option<Arc<Model>> {
        self.given.first().cloned()
    }

    /// Returns the model that a suite needs.
    ///
    /// # Errors
    /// [`ConformError::NoModel`] when no available model has its id; [`ConformError::Model`] when a package is refused.
    pub fn find(&self, store: &Store, wanted: &ModelRef) -> Result<Arc<Model>, ConformError> {
        let is_it = |model: &&Arc<Model>| model.id().to_string() == wanted.id;
        if let Some(model) = self.given.iter().find(is_it) {
            return Ok(Arc::clone(model));
        }
        let own = match &wanted.package {
            Some(package) => Arc::new(Model::from_bytes(store.read(package)?.into_owned())?),
            None => default_model()?,
        };
        if is_it(&&own) {
            return Ok(own);
        }
        let have: Vec<String> = self.given.iter().chain([&own]).map(|model| model.id().to_string()).collect();
        Err(ConformError::NoModel { wanted: wanted.id.clone(), name: wanted.name.clone(), have: have.join(", ") })
    }
}
