//! Exit codes and reports of the program.

use crate::cli::{self, changed, code, complained, conform};
use serde_json::Value;

#[test]
fn the_embedded_smoke_suite_is_the_default_and_passes() {
    let output = conform(&["run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for expected in
        ["mlic-conform 0.", "backend tract", "suite smoke, model ", "passes: cpu", "g_s: cpu", "threads", std::env::consts::ARCH]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.ends_with("\npass\n"), "{text}");
}

#[test]
fn reports_are_json_too() {
    let output = conform(&["run", "smoke", "--backend", "reference", "--level", "2", "--format", "json", "-j", "2"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((&report["backend"], &report["level"], &report["pass"]), (&"reference".into(), &2.into(), &true.into()));
    let suite = &report["suites"][0];
    assert_eq!(suite["counts"]["pass"].as_u64().unwrap() as usize, suite["vectors"].as_array().unwrap().len());
    assert!(suite["model"]["id"].as_str().unwrap().len() == 12 && suite["devices"]["passes"].is_string());
    assert!(report["host"]["arch"].is_string() && report["program"]["version"].is_string());
}

#[test]
fn a_vector_that_does_not_pass_gives_1() {
    // One digit of one digest of the last pass.
    let at = |text: &str| text.rfind("\"means\": \"").unwrap() + 10;
    let root = changed(|text| {
        let digit = if text[at(&text)..].starts_with('0') { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at(&text)], &text[at(&text) + 1..])
    });
    let output = conform(&["run", "--suite-dir", root.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fail: L2 at pass 3 (slice 1 non-anchor), means") && text.ends_with("NOT PASSED\n"), "{text}");
}

#[test]
fn data_that_cannot_be_used_is_never_a_pass() {
    let root = changed(|text| text[..text.len() / 2].to_owned());
    let output = conform(&["run", "--suite-dir", root.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("smoke/manifest.json"));
    let root = changed(|text| text.replace("tiny.mlicpkg", "none.mlicpkg"));
    assert_eq!(code(&["run", "--suite-dir", root.path().to_str().unwrap()]), 1);
    let root = changed(|text| text);
    std::fs::write(root.path().join("models/tiny.mlicpkg"), b"no package").unwrap();
    assert_eq!(code(&["run", "--suite-dir", root.path().to_str().unwrap()]), 1);
}

#[test]
fn wrong_usage_gives_2() {
    assert_eq!(code(&[]), 2);
    assert_eq!(code(&["run", "nonsense"]), 2);
    assert_eq!(code(&["run", "--level", "5"]), 2);
    assert_eq!(code(&["run", "--backend", "abacus"]), 2);
    let output = conform(&["run", "--suite-dir", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no directory /nonexistent"));
    for command in
        [&["run"][..], &["explain", "flat-1x1-q0"], &["bless"], &["encode"], &["decode", "--package", "x", "--stream", "x"]]
    {
        let (code, text) = complained(&[command, &["-j", "257"]].concat());
        assert!(code == 2 && text.contains("'257' for '--jobs <N>': 257 is not in 0..=256"), "{command:?}: {text}");
    }
    for arguments in [&["run", "--write-baseline", "-"][..], &["explain", "flat-1x1-q0", "--write-dump", "-"]] {
        let (code, text) = complained(arguments);
        assert!(code == 2 && text.contains("it is written to a file only"), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (code, text) = complained(&["run", "-o", &path("f"), "--write-baseline", &path("./f")]);
    assert!(code == 2 && text.contains("report and baseline would both be written to it"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(self::code(&["bless", "nonsense"]), 2);
    assert_eq!(self::code(&["explain", "nonsense"]), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_is_not_lost_silently() {
    use std::process::{Command, Stdio};
    for arguments in [&["list"][..], &["run", "--vector", "flat-1x1-q0", "--level", "0"], &["completions", "bash"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(cli::PROGRAM).args(arguments).stdout(full).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {text}");
        assert!(text.starts_with("mlic-conform: error: standard output: ") && text.contains("No space left"), "{text}");
        // Nor does an exit code change because its message cannot be written.
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = Command::new(cli::PROGRAM).args(["run", "nonsense"]).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(2));
        // A reader that has gone away has seen enough.
        let mut child = Command::new(cli::PROGRAM).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn list_and_explain_describe() {
    let list = String::from_utf8(conform(&["list"]).stdout).unwrap();
    assert!(list.contains("smoke: ") && !list.contains("flat-1x1-q0") && list.lines().count() == 7, "{list}");
    let one = String::from_utf8(conform(&["list", "edge-cases-f*"]).stdout).unwrap();
    assert!(one.starts_with("edge-cases-fixed: ") && one.lines().count() > 6 && !one.contains("smoke"), "{one}");
    assert_eq!((code(&["list", "nonsense"]), code(&["explain", "edge-cases-fixed/flat-1x1-q0"])), (2, 2));
    let (code, text) = complained(&["explain", "negative/package-bit-weights"]);
    assert!(code == 2 && text.contains("package-bit-weights: a model package that must be refused or taken"), "{text}");
    let output = conform(&["explain", "smoke/flat-1x1-q0"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("no number differs in the "), "{text}");
}

#[test]
fn completions_and_manual_pages_are_those_of_the_commands() {
    let output = conform(&["completions", "bash"]);
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("write-baseline"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("pages");
    assert_eq!(code(&["man", pages.to_str().unwrap()]), 0);
    assert!(std::fs::read_to_string(pages.join("mlic-conform-run.1")).unwrap().contains("baseline"));
    let (again, text) = complained(&["man", pages.to_str().unwrap()]);
    assert!(again == 3 && text.contains("(--force overwrites it)"), "{text}");
    assert_eq!(code(&["man", pages.to_str().unwrap(), "--force"]), 0);
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(code(&["man", folder.path().join("file").to_str().unwrap()]), 3);
}

#[test]
fn a_picture_or_suite_that_is_there_is_replaced_by_force_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    assert_eq!(code(&["draw", "smoke", folder]), 0);
    let drawn = std::fs::read_dir(folder).unwrap().count();
    assert!(drawn > 0);
    assert_eq!((code(&["draw", "smoke", folder]), code(&["draw", "smoke", folder, "--force"])), (3, 0));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), drawn);
    let (without, text) = complained(&["draw", "negative", folder, "--force"]);
    assert!(without == 2 && text.contains("suite negative has no pictures to draw"), "{text}");
    let root = changed(|text| text + "\n");
    let manifest = || std::fs::read(root.path().join("smoke/manifest.json")).unwrap();
    let (before, suite_dir) = (manifest(), ["--suite-dir", root.path().to_str().unwrap()]);
    let (code, text) = complained(&[&["bless", "smoke"], &suite_dir[..]].concat());
    assert!(code == 3 && text.contains("manifest.json: the file exists and is left as it was (--force"), "{text}");
    assert_eq!(manifest(), before);
    assert_eq!(self::code(&[&["bless", "smoke", "--keep", "--force"], &suite_dir[..]].concat()), 2);
    assert_eq!(self::code(&[&["bless", "smoke", "--keep"], &suite_dir[..]].concat()), 0);
    assert_ne!(manifest(), before, "nothing is missing, and the manifest has its form");
}

#[test]
fn a_decoded_picture_is_beside_its_stream() {
    let root = tempfile::tempdir().unwrap();
    let folder = cli::folder();
    let stream = root.path().join("x.mlic");
    std::fs::copy(folder.join("smoke/flat-1x1-q0.mlic"), &stream).unwrap();
    let (package, stream) = (folder.join("models/tiny.mlicpkg"), stream.to_str().unwrap());
    let decode = ["decode", "--package", package.to_str().unwrap(), "--stream", stream];
    assert_eq!((code(&[&decode[..], &["--picture"]].concat()), code(&[&decode[..], &["--force"]].concat())), (0, 2));
    let picture = format!("{stream}.ppm");
    std::fs::write(&picture, "there").unwrap();
    let (code, text) = complained(&[&decode[..], &["--picture"]].concat());
    assert!(code == 3 && text.contains("x.mlic.ppm: the file exists"), "{text}");
    assert_eq!(std::fs::read(&picture).unwrap(), b"there");
    assert_eq!(self::code(&[&decode[..], &["--picture", "--force"]].concat()), 0);
    assert!(std::fs::read(&picture).unwrap().starts_with(b"P6\n1 1\n"));
}
