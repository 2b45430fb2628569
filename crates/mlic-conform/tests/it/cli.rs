//! The program, called as users call it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mlic-conform");

pub(crate) fn conform(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

pub(crate) fn code(arguments: &[&str]) -> i32 {
    conform(arguments).status.code().unwrap()
}

/// Exit code and standard output.
pub(crate) fn said(arguments: &[&str]) -> (i32, String) {
    let output = conform(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Exit code and standard error.
pub(crate) fn complained(arguments: &[&str]) -> (i32, String) {
    let output = conform(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Exit code and report of `run ... --format json`.
pub(crate) fn report(arguments: &[&str]) -> (i32, Value) {
    let arguments: Vec<&str> = ["run"].iter().chain(arguments).chain(&["--format", "json"]).copied().collect();
    let (code, text) = said(&arguments);
    (code, serde_json::from_str(&text).unwrap())
}

/// The vectors of the only suite of a report.
pub(crate) fn vectors(report: &Value) -> &Vec<Value> {
    assert_eq!(report["suites"].as_array().unwrap().len(), 1);
    report["suites"][0]["vectors"].as_array().unwrap()
}

pub(crate) fn vector<'a>(report: &'a Value, name: &str) -> &'a Value {
    vectors(report).iter().find(|vector| vector["name"] == name).unwrap()
}

pub(crate) fn verdict<'a>(report: &'a Value, name: &str) -> &'a str {
    vector(report, name)["verdict"].as_str().unwrap()
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

/// The manifest of a suite in a folder.
pub(crate) fn manifest(root: &Path, suite: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root.join(suite).join("manifest.json")).unwrap()).unwrap()
}

/// A folder with copies of a suite and of the models.
pub(crate) fn copy(suite: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in [suite, "models"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
        for entry in std::fs::read_dir(folder().join(name)).unwrap().flatten() {
            std::fs::copy(entry.path(), root.path().join(name).join(entry.file_name())).unwrap();
        }
    }
    root
}

/// A folder with the smoke suite, whose manifest `change` changed, and its model.
pub(crate) fn changed(change: impl FnOnce(String) -> String) -> TempDir {
    let root = copy("smoke");
    let manifest = root.path().join("smoke/manifest.json");
    std::fs::write(&manifest, change(std::fs::read_to_string(&manifest).unwrap())).unwrap();
    root
}

/// The same with a wrong digest of `y_hat` in one vector.
pub(crate) fn with_wrong_y_hat(name: &str) -> TempDir {
    changed(|text| {
        let mut manifest: Value = serde_json::from_str(&text).unwrap();
        let vectors = manifest["vectors"].as_array_mut().unwrap();
        let vector = vectors.iter_mut().find(|vector| vector["name"] == name).unwrap();
        vector["expect"]["decodes"]["y_hat"] = "0".repeat(32).into();
        manifest.to_string()
    })
}

pub(crate) fn file(root: &TempDir, name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = root.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}
