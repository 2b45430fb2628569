//! Files that are written completely or not at all, and replace others only with permission.

use std::path::{Path, PathBuf};

use mlic_output::{Destination, Output};

use crate::error::ConformError;

/// Prepares a file to be written, and checks that it can be, as far as that can be known before the work is done. An existing file is replaced only
/// with `overwrite`.
///
/// # Errors
/// [`ConformError::Output`].
pub fn output(path: &Path, overwrite: bool) -> Result<Output, ConformError> {
    let output = Output::new(Destination::File(path.to_owned()), overwrite);
    output.check().map_err(failed(&output))?;
    Ok(output)
}

/// Writes a prepared file.
///
/// # Errors
/// [`ConformError::Output`]; a file that was there is then unchanged.
pub fn write(output: &Output, bytes: &[u8]) -> Result<(), ConformError> {
    output.write(bytes).map_err(failed(output))
}

/// Whether two paths lead to one file, which need not exist.
#[must_use]
pub fn is_same(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = || Some(folder.canonicalize().ok()?.join(path.file_name()?));
        path.canonicalize().ok().or_else(named).unwrap_or_else(|| path.to_owned())
    };
    resolved(a) == resolved(b)
}

/// Writes files in this order, once each is known to be writable. Their folders are made before that.
///
/// # Errors
/// [`ConformError::Io`] of a folder, [`ConformError::Output`] of a file. Every file is then complete, be it old or new.
pub fn write_all<B: AsRef<[u8]>>(files: &[(PathBuf, B)], overwrite: bool) -> Result<(), ConformError> {
    let mut outputs = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(ConformError::io(folder))?;
        }
        outputs.push((output(path, overwrite)?, bytes));
    }
    outputs.iter().try_for_each(|(output, bytes)| write(output, bytes.as_ref()))
}

fn failed(output: &Output) -> impl FnOnce(mlic_output::OutputError) -> ConformError {
    let destination = output.destination().to_string();
    |source| ConformError::Output { destination, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_written_or_none() {
        let root = tempfile::tempdir().unwrap();
        let files = ["a/one", "a/two"].map(|name| (root.path().join(name), name));
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(&files[1].0, "there").unwrap();
        let error = write_all(&files, false).unwrap_err();
        assert!(error.chain().ends_with("a/two: the file exists and is left as it was"), "{}", error.chain());
        assert_eq!((files[0].0.exists(), std::fs::read(&files[1].0).unwrap().as_slice()), (false, b"there".as_slice()));
        write_all(&files, true).unwrap();
        assert!(files.iter().all(|(path, name)| std::fs::read(path).unwrap() == name.as_bytes()));
        assert_eq!(std::fs::read_dir(root.path().join("a")).unwrap().count(), 2);
    }
}
