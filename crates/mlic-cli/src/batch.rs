//! Several inputs in one call: each is tried, and the first failure is what the call ends with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::console;
use crate::exit::Failure;
use crate::files::is_dash;

/// Failures so far.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    first: Option<Failure>,
}

impl Batch {
    /// Takes a failure: it is printed now. Returns its text.
    pub(crate) fn failed(&mut self, failure: Failure) -> String {
        console::error(&failure);
        let text = failure.to_string();
        self.first.get_or_insert(failure.silent());
        text
    }

    /// How the call ends.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.first.map_or(Ok(()), Err)
    }
}

/// Each input with the path of its output: `output` if that is no folder, else the name of the input with this extension, in that folder
/// or beside the input.
///
/// # Errors
/// Wrong usage: outputs that are not one for each input.
pub(crate) fn pairs<'a>(
    inputs: &'a [PathBuf],
    output: Option<&Path>,
    extension: &str,
) -> Result<Vec<(&'a Path, PathBuf)>, Failure> {
    let folder = output.filter(|path| path.is_dir());
    if inputs.len() > 1 {
        if let Some(path) = output.filter(|_| folder.is_none()) {
            return Err(Failure::usage(path.display(), "several inputs need a folder that exists"));
        }
        if inputs.iter().any(|path| is_dash(path)) {
            return Err(Failure::usage("-", "standard input is read alone"));
        }
    }
    let path_of = |input: &Path| match (output, folder) {
        (_, Some(folder)) if !is_dash(input) => folder.join(input.file_name().unwrap_or_default()).with_extension(extension),
        (Some(path), _) => path.to_path_buf(),
        (None, _) if is_dash(input) => PathBuf::from("-"),
        (None, _) => input.with_extension(extension),
    };
    let mut taken = BTreeMap::new();
    let mut all = Vec::with_capacity(inputs.len());
    for input in inputs {
        let path = path_of(input);
        if let Some(other) = taken.insert(resolved(&path), input) {
            let cause = format!("{} and {} would both be written to it", other.display(), input.display());
            return Err(Failure::usage(path.display(), cause));
        }
        all.push((input.as_path(), path));
    }
    Ok(all)
}

/// Works on each input and its output; a failure does not keep the others.
///
/// # Errors
/// The first failure; all have been printed.
pub(crate) fn each(
    pairs: Vec<(&Path, PathBuf)>,
    mut work: impl FnMut((&Path, &Path)) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    for (input, output) in pairs {
        if let Err(failure) = work((input, &output)) {
            batch.failed(failure);
        }
    }
    batch.end()
}

/// A path in the one form of its folder.
fn resolved(path: &Path) -> PathBuf {
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folder = folder.and_then(|folder| folder.canonicalize().ok());
    folder.zip(path.file_name()).map_or_else(|| path.to_path_buf(), |(folder, name)| folder.join(name))
}
