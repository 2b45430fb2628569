//! Level 4 where pixels are exact: on every backend, through the protocol, in dumps.

use crate::cli::{self, code, copy, file, folder, manifest, report, said, str_of, vector, verdict};
use serde_json::Value;

const SUITE: &str = "edge-cases-fixed";
const VECTOR: &str = "extreme-65x200-s0-l2";

#[test]
fn exact_pixels_need_no_float_transforms() {
    let manifest = manifest(&folder(), SUITE);
    let expected = manifest["vectors"].as_array().unwrap().iter().find(|vector| vector["name"] == VECTOR).unwrap();
    for backend in ["integer", "reference"] {
        let (code, report) = report(&[SUITE, "--level", "4", "--backend", backend]);
        assert_eq!(code, 0, "{report}");
        assert_eq!(vector(&report, VECTOR)["computed"]["pixels"], expected["expect"]["decodes"]["pixels"]);
        assert!(report["suites"][0]["devices"]["exact g_s"].as_str().unwrap().starts_with("cpu "), "{report}");
    }
    let (_, lower) = report(&[SUITE, "--level", "3", "--backend", "integer"]);
    assert!(vector(&lower, VECTOR)["computed"]["pixels"].is_null());
}

/// Verdict and reason, at level 4, of a decoder that prints what this program prints, edited by `sed`.
#[cfg(unix)]
fn external(edit: &str) -> (String, String) {
    let root = tempfile::tempdir().unwrap();
    let script = file(&root, "decoder", format!("{} decode --backend integer \"$@\" | sed '{edit}'", cli::PROGRAM));
    let command = format!("sh {script}");
    let (_, report) = report(&[SUITE, "--vector", VECTOR, "--level", "4", "--external", &command]);
    let reason = vector(&report, VECTOR)["reason"].as_str().unwrap_or_default().to_owned();
    (verdict(&report, VECTOR).to_owned(), reason)
}

#[cfg(unix)]
#[test]
fn other_programs_say_their_digest() {
    assert_eq!(external("s/x/x/").0, "pass");
    let (verdict, reason) = external(r#"s/"pixels":"[0-9a-f]*"/"pixels":"00000000000000000000000000000000"/"#);
    assert!(verdict == "fail" && reason.contains("L4 at pixels"), "{reason}");
    let (verdict, reason) = external(r#"s/"pixels":"[0-9a-f]*",*//; s/,}/}/"#);
    assert!(verdict == "not supported" && reason.contains("pixels"), "{verdict}: {reason}");
    assert_eq!(external(r#"s/"pixels":"[0-9a-f]*"/"pixels":"0123"/"#).0, "error");
}

#[test]
fn the_manifest_must_have_exactly_these_pixels() {
    let root = copy(SUITE);
    let run = |change: &dyn Fn(&mut Value)| {
        let mut manifest = manifest(&folder(), SUITE);
        for vector in manifest["vectors"].as_array_mut().unwrap() {
            change(&mut vector["expect"]["decodes"]);
        }
        std::fs::write(root.path().join(SUITE).join("manifest.json"), manifest.to_string()).unwrap();
        let (code, report) = report(&[SUITE, "--suite-dir", str_of(root.path()), "--backend", "integer"]);
        (code, vector(&report, VECTOR)["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(run(&|_| ()), (0, String::new()));
    let (code, reason) = run(&|decodes| drop(decodes.as_object_mut().unwrap().remove("pixels")));
    assert!(code == 1 && reason.contains("no exact pixels"), "{reason}");
    let (code, reason) = run(&|decodes| decodes["pixels"] = "0".repeat(32).into());
    assert!(code == 1 && reason.contains("L4 at pixels"), "{reason}");
}

#[test]
fn dumps_have_samples() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("dump").to_str().unwrap().to_owned();
    let explain =
        |arguments: &[&str]| said(&[&["explain", &format!("{SUITE}/{VECTOR}"), "--backend", "integer"], arguments].concat());
    assert_eq!(explain(&["--write-dump", &path]).0, 0);
    assert_eq!(explain(&["--dump", &path]).0, 0);
    let mut bytes = std::fs::read(&path).unwrap();
    // The second sample from the end: green, in the last column and row.
    let at = bytes.len() - 2;
    bytes[at] ^= 3;
    let (code, text) = explain(&["--dump", &file(&root, "other", bytes)]);
    assert!(code == 1 && text.contains("first difference: pixels, row 199, column 64, channel 1"), "{text}");
    assert_eq!(code_of(&["--dump", "/nonexistent"]), 3);
}

fn code_of(arguments: &[&str]) -> i32 {
    code(&[&["explain", &format!("{SUITE}/{VECTOR}"), "--backend", "integer"], arguments].concat())
}

#[test]
fn machines_whose_pixels_differ_are_found() {
    let root = tempfile::tempdir().unwrap();
    let (_, one) = report(&[SUITE, "--vector", VECTOR, "--backend", "integer"]);
    let mut other = one.clone();
    let one = file(&root, "one.json", one.to_string());
    assert_eq!(code(&["report", &one, &one]), 0);
    other["suites"][0]["vectors"][0]["computed"]["pixels"] = "0".repeat(32).into();
    let (code, text) = said(&["report", &one, &file(&root, "other.json", other.to_string())]);
    assert!(code == 1 && text.contains("DIFFER") && text.contains("00000000"), "{text}");
}
