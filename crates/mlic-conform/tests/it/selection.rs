//! What runs, what is expected of it, and when a run ends early.

use crate::cli::{self, code, complained, file, report, said, str_of, vectors, verdict, with_wrong_y_hat};
use serde_json::{Value, json};

/// The first vector of the suite.
const FIRST: &str = "flat-1x1-q0";

#[test]
fn vectors_are_selected_by_name_and_pattern() {
    let names = |arguments: &[&str]| {
        let (code, report) = report(&[&["smoke", "--level", "3"], arguments].concat());
        assert_eq!(code, 0, "{report}");
        let suite = &report["suites"][0];
        let names: Vec<String> = vectors(&report).iter().map(|vector| vector["name"].as_str().unwrap().to_owned()).collect();
        assert!(suite["not_selected"].as_u64().unwrap() > 0);
        names
    };
    assert_eq!(names(&["--vector", FIRST]), [FIRST]);
    assert_eq!(names(&["--vector", "smoke/flat-1x1-q?"]), [FIRST]);
    assert_eq!(names(&["--vector", "bad-cut-*", "--vector", FIRST]), [FIRST, "bad-cut-header", "bad-cut-in-z"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_found_before_anything_runs() {
    let root = tempfile::tempdir().unwrap();
    let ran = root.path().join("ran");
    let external = format!("touch {}", str_of(&ran));
    for output in [["--output", "/proc/r.json"], ["--write-baseline", "/proc/r.json"]] {
        let arguments = [&["run", "--vector", FIRST, "--external", &external], &output[..]].concat();
        let (code, text) = complained(&arguments);
        assert!(code == 3 && text.contains("/proc/r.json: "), "{text}");
        assert!(!ran.exists());
    }
}

#[test]
fn suites_are_selected_by_pattern_and_run_once() {
    let (_, report) = report(&["s?oke", "smoke", "--vector", FIRST, "--level", "3"]);
    assert_eq!(vectors(&report).len(), 1);
}

#[test]
fn a_pattern_without_a_match_is_wrong_usage() {
    let (code, text) = complained(&["run", "smoke", "--vector", FIRST, "--vector", "nonsense-*"]);
    assert!(code == 2 && text.contains("nonsense-*"), "{text}");
    let (code, text) = complained(&["run", "nonsense*"]);
    assert!(code == 2 && text.contains("smoke"), "{text}");
}

#[test]
fn a_suite_without_selected_vectors_does_not_pass() {
    // A level at which the only selected vector cannot be judged.
    let (code, text) = said(&["run", "--vector", "bad-desync", "--level", "0"]);
    assert!(code == 1 && text.contains("none was run") && text.ends_with("NOT PASSED\n"), "{text}");
}

#[test]
fn a_suite_that_has_none_of_the_vectors_drops_out() {
    let (code, all) = report(&["*", "--vector", "cut-0-*", "--level", "3"]);
    let suites: Vec<&str> = all["suites"].as_array().unwrap().iter().map(|suite| suite["suite"].as_str().unwrap()).collect();
    assert_eq!((code, suites), (0, vec!["core", "edge-cases", "smoke"]), "{all}");
}

#[test]
fn fail_fast_leaves_the_rest_not_run() {
    let root = with_wrong_y_hat("noise-2x3-q100");
    let arguments = ["--suite-dir", str_of(root.path()), "--level", "3", "-j", "1"];
    let (code, all) = report(&arguments);
    assert_eq!((code, all["suites"][0]["counts"]["fail"].as_u64()), (1, Some(1)));
    assert_eq!(all["suites"][0]["counts"]["not run"], 0);
    let (code, report) = report(&[&arguments[..], &["--fail-fast"]].concat());
    let counts = &report["suites"][0]["counts"];
    assert_eq!((code, &counts["pass"], &counts["fail"]), (1, &json!(1), &json!(1)));
    assert_eq!(counts["not run"].as_u64().unwrap() as usize, vectors(&report).len() - 2);
    assert_eq!(report["pass"], false);
}

fn baseline(entries: &[(&str, &str)]) -> String {
    let entry = |(vector, verdict): &(&str, &str)| json!({ "vector": vector, "verdict": verdict, "reason": "known" });
    json!({ "format": 1, "expected": entries.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

#[test]
fn a_baseline_decides_the_exit_code_in_both_directions() {
    let (root, text) = (with_wrong_y_hat(FIRST), tempfile::tempdir().unwrap());
    let (wrong, right) = (str_of(root.path()), cli::folder());
    let run = |folder: &str, entries: &[(&str, &str)]| {
        let file = file(&text, "baseline.json", baseline(entries));
        report(&["--suite-dir", folder, "--level", "3", "--vector", "flat-*", "--baseline", &file])
    };
    // An expected failure: as expected, and still no pass.
    let (code, found) = run(wrong, &[("smoke/flat-1x1-q0", "fail")]);
    assert_eq!((code, &found["as_expected"], &found["pass"]), (0, &json!(true), &json!(false)));
    assert_eq!(cli::vector(&found, FIRST)["expected"], json!({ "verdict": "fail", "reason": "known" }));
    // An unexpected failure.
    let (code, found) = run(wrong, &[]);
    assert_eq!((code, &found["as_expected"]), (1, &json!(false)));
    // An unexpected pass.
    let (code, found) = run(str_of(&right), &[("smoke/flat-1x1-q0", "fail")]);
    assert_eq!((code, &found["as_expected"], &found["pass"]), (1, &json!(false), &json!(true)));
    // Another verdict than the expected one.
    assert_eq!(run(wrong, &[("smoke/flat-1x1-q0", "timeout")]).0, 1);
    // What is expected of vectors that are not selected does not count.
    assert_eq!(run(str_of(&right), &[("smoke/bad-desync", "fail")]).0, 0);
}

#[test]
fn fail_fast_goes_on_after_what_is_expected() {
    let (root, text) = (with_wrong_y_hat(FIRST), tempfile::tempdir().unwrap());
    let file = file(&text, "baseline.json", baseline(&[("smoke/flat-1x1-q0", "fail")]));
    let arguments = ["--suite-dir", str_of(root.path()), "--level", "3", "-j", "1", "--fail-fast", "--baseline", &file];
    let (code, report) = report(&arguments);
    assert_eq!((code, report["suites"][0]["counts"]["not run"].as_u64()), (0, Some(0)));
}

#[test]
fn a_baseline_that_names_nothing_or_is_none_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = |contents: &str| complained(&["run", "--level", "0", "--baseline", &file(&root, "baseline.json", contents)]);
    let (code, text) = run(&baseline(&[("smoke/nonsense", "fail")]));
    assert!(code == 2 && text.contains("smoke/nonsense"), "{text}");
    for contents in ["", "[]", &baseline(&[("smoke/flat-1x1-q0", "pass")]), &baseline(&[("smoke/flat-1x1-q0", "no")])] {
        let (code, text) = run(contents);
        assert!(code == 3 && text.contains("baseline.json"), "{contents}: {text}");
    }
    assert_eq!(cli::code(&["run", "--baseline", "/nonexistent"]), 3);
}

#[test]
fn a_baseline_is_written_and_then_true() {
    let (root, text) = (with_wrong_y_hat(FIRST), tempfile::tempdir().unwrap());
    let path = text.path().join("baseline.json");
    let arguments = ["run", "--suite-dir", str_of(root.path()), "--level", "3"];
    // Writing a baseline does not make the run a success.
    assert_eq!(code(&[&arguments[..], &["--write-baseline", str_of(&path)]].concat()), 1);
    let mut written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let entry = &mut written["expected"][0];
    assert_eq!((&entry["vector"], &entry["verdict"]), (&json!("smoke/flat-1x1-q0"), &json!("fail")));
    assert!(entry["reason"].as_str().unwrap().contains("L3 at y_hat"));
    let (code, text) = said(&[&arguments[..], &["--baseline", str_of(&path)]].concat());
    assert!(code == 0 && text.ends_with("as expected, NOT PASSED\n"), "{text}");
    // A reason that someone has edited stays.
    entry["reason"] = "ticket".into();
    std::fs::write(&path, written.to_string()).unwrap();
    let both = ["--baseline", str_of(&path), "--write-baseline", str_of(&path)];
    assert_eq!(cli::code(&[&arguments[..], &both].concat()), 3);
    assert_eq!(said(&[&arguments[..], &both, &["--force"]].concat()).0, 0);
    assert!(std::fs::read_to_string(&path).unwrap().contains("ticket"));
    assert_eq!(cli::code(&["run", "--write-baseline", str_of(&path), "--fail-fast"]), 2);
}

#[test]
fn an_expected_timeout_is_not_a_pass() {
    let root = tempfile::tempdir().unwrap();
    let file = file(&root, "baseline.json", baseline(&[("smoke/flat-1x1-q0", "timeout")]));
    let (code, report) = report(&["--level", "3", "--vector", FIRST, "--baseline", &file]);
    assert_eq!((code, verdict(&report, FIRST)), (1, "pass"));
}
