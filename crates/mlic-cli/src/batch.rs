//! Several inputs in one call: each is tried, and the call ends with the first failure.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::console;
use crate::exit::{Exit, Failure};
use crate::files::is_dash;

/// The failures of a call so far, of which the first is kept.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    first: Option<Failure>,
}

impl Batch {
    /// Records a failure and prints it. Returns its text.
    pub(crate) fn failed(&mut self, failure: Failure) -> String {
        console::error(&failure);
        let text = failure.to_string();
        self.first.get_or_insert(failure.silent());
        text
    }

    /// The result of the call: its first failure, if any.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.first.map_or(Ok(()), Err)
    }
}

/// Extensions of the pictures that are taken from a directory. A file named on the command line is taken whatever its extension.
pub(crate) const PICTURES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "ppm", "pgm", "pbm", "pnm", "pam"];
/// Extensions of the streams that are taken from a directory.
pub(crate) const STREAMS: [&str; 1] = ["mlic"];

/// The inputs of a command.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) paths: Vec<PathBuf>,
    /// Named directories that cannot be read or have no inputs.
    pub(crate) failed: Vec<(PathBuf, Failure)>,
    /// Whether several paths or a directory were named, so that there may be several inputs even if this time there is one.
    are_several: bool,
}

impl Inputs {
    /// Expands named paths: a file stands for itself, a directory for its files with these extensions, in order of their names.
    ///
    /// # Errors
    /// Standard input together with other inputs.
    pub(crate) fn expand(named: &[PathBuf], extensions: &[&str]) -> Result<Self, Failure> {
        let (mut paths, mut failed) = (Vec::new(), Vec::new());
        for path in named {
            let found = if path.is_dir() { directory(path, extensions) } else { Ok(vec![path.clone()]) };
            found.map_or_else(|failure| failed.push((path.clone(), failure)), |found| paths.extend(found));
        }
        let are_several = named.len() > 1 || named.iter().any(|path| path.is_dir());
        check_alone(&paths)?;
        Ok(Self { paths, failed, are_several })
    }

    /// Like [`Self::expand`], but one failure ends everything.
    ///
    /// # Errors
    /// As [`Self::expand`]; a directory that cannot be read or has no inputs.
    #[cfg(feature = "builder")]
    pub(crate) fn expand_all(named: &[PathBuf], extensions: &[&str]) -> Result<Vec<PathBuf>, Failure> {
        let Self { paths, failed, .. } = Self::expand(named, extensions)?;
        failed.into_iter().next().map_or(Ok(paths), |(_, failure)| Err(failure))
    }

    /// The output path of each input: `output` if it is given and not a folder, else the name of the input with this extension, in that folder
    /// or beside the input.
    ///
    /// # Errors
    /// Wrong usage, if the inputs do not have one output each.
    pub(crate) fn outputs(&self, output: Option<&Path>, extension: &str) -> Result<Vec<PathBuf>, Failure> {
        let folder = output.filter(|path| path.is_dir());
        if let Some(path) = output.filter(|_| self.are_several && folder.is_none()) {
            let cause = if is_dash(path) {
                "several inputs cannot go to standard output"
            } else {
                "several inputs, or a directory of them, need a directory that exists"
            };
            return Err(Failure::usage(path.display(), cause));
        }
        let path_of = |input: &Path| match (output, folder) {
            (_, Some(folder)) if !is_dash(input) => folder.join(input.file_name().unwrap_or_default()).with_extension(extension),
            (Some(path), _) => path.to_path_buf(),
            (None, _) if is_dash(input) => PathBuf::from("-"),
            (None, _) => input.with_extension(extension),
        };
        let mut taken = BTreeMap::new();
        let mut all = Vec::with_capacity(self.paths.len());
        for input in &self.paths {
            let path = path_of(input);
            if let Some(other) = taken.insert(resolved(&path), input) {
                let cause = format!("{} and {} would both be written to it", other.display(), input.display());
                return Err(Failure::usage(path.display(), cause));
            }
            all.push(path);
        }
        Ok(all)
    }
}

/// Whether a file name has one of these extensions, in upper or lower case.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// Refuses a last operand whose extension is that of what the command writes: it was meant as the output.
pub(crate) fn check_operands(inputs: &[PathBuf], output: Option<&Path>, written: &[&str]) -> Result<(), Failure> {
    match inputs {
        [_, .., last] if output.is_none() && has_extension(last, written) => {
            Err(Failure::usage(last.display(), "this is an input").hint("-o OUT names the output"))
        }
        _ => Ok(()),
    }
}

/// Refuses standard input together with other inputs.
pub(crate) fn check_alone(inputs: &[PathBuf]) -> Result<(), Failure> {
    match inputs {
        [_, _, ..] if inputs.iter().any(|path| is_dash(path)) => Err(Failure::usage("-", "standard input is read alone")),
        _ => Ok(()),
    }
}

fn directory(path: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let failure = |cause: &dyn Display| Failure::new(Exit::Input, "cannot read", path.display(), cause);
    let entries: Result<Vec<_>, _> = path.read_dir().and_then(Iterator::collect);
    let mut found: Vec<PathBuf> = entries.map_err(|e| failure(&e))?.into_iter().map(|entry| entry.path()).collect();
    // A link that leads nowhere is an input too.
    found.retain(|path| has_extension(path, extensions) && (path.is_file() || !path.exists()));
    found.sort();
    if found.is_empty() { Err(failure(&format_args!("no file ends in {}", extensions.join(", ")))) } else { Ok(found) }
}

/// Runs `work` on each input and its output. A failure, even of a directory, does not keep the other inputs from being tried.
///
/// # Errors
/// The first failure; all have been printed.
pub(crate) fn each(
    inputs: Inputs,
    outputs: &[PathBuf],
    mut work: impl FnMut((&Path, &Path)) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    for (_, failure) in inputs.failed {
        batch.failed(failure);
    }
    for (input, output) in inputs.paths.iter().zip(outputs) {
        if let Err(failure) = work((input, output)) {
            batch.failed(failure);
        }
    }
    batch.end()
}

/// A path with its folder in canonical form, so that paths of one file are equal.
fn resolved(path: &Path) -> PathBuf {
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folder = folder.and_then(|folder| folder.canonicalize().ok());
    folder.zip(path.file_name()).map_or_else(|| path.to_path_buf(), |(folder, name)| folder.join(name))
}
