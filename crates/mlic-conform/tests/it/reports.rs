//! Reports in every form, and several side by side.

use crate::cli::{self, code, complained, file, report, said, str_of, with_wrong_y_hat};
use roxmltree::{Document, Node};
use serde_json::{Value, json};
use tempfile::TempDir;

const SMALL: [&str; 4] = ["--level", "3", "--vector", "flat-*"];

fn run<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["run"], &SMALL[..], arguments].concat()
}

#[test]
fn a_report_is_bound_to_program_data_and_machine() {
    let (_, report) = report(&SMALL);
    let host = &report["host"];
    assert_eq!((&host["arch"], &host["os"]), (&json!(std::env::consts::ARCH), &json!(std::env::consts::OS)));
    assert_eq!(host["pointer_bits"], usize::BITS);
    assert_eq!(host["endian"], if cfg!(target_endian = "big") { "big" } else { "little" });
    assert!(host["instruction_set"].is_string() && report["program"]["version"] == env!("CARGO_PKG_VERSION"));
    let suite = &report["suites"][0];
    let manifest = std::fs::read(cli::folder().join("smoke/manifest.json")).unwrap();
    assert_eq!(suite["manifest_sha256"], mlic_conform::store::sha256(&manifest));
    assert!(suite["devices"]["passes"].as_str().unwrap().contains(std::env::consts::ARCH));
    for vector in cli::vectors(&report) {
        let computed = &vector["computed"];
        assert!(computed["outcome"] == "decoded" && computed["walk"].as_str().unwrap().len() == 32, "{vector}");
        assert!(vector["seconds"].as_f64().unwrap() >= 0.0);
    }
}

#[test]
fn the_walk_digest_is_that_of_the_manifest() {
    let (_, report) = report(&SMALL);
    let manifest = cli::manifest(&cli::folder(), "smoke");
    for vector in manifest["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let Some(found) = cli::vectors(&report).iter().find(|found| found["name"] == name) else { continue };
        let decodes = &vector["expect"]["decodes"];
        let mut digests = decodes["z"].as_str().unwrap().to_owned();
        for pass in decodes["passes"].as_array().unwrap() {
            digests += &["means", "scale_indices", "symbols"].map(|tensor| pass[tensor].as_str().unwrap()).concat();
        }
        let bytes = (0..digests.len()).step_by(2).map(|at| u8::from_str_radix(&digests[at..at + 2], 16).unwrap());
        let walk = &mlic_conform::store::sha256(&bytes.collect::<Vec<u8>>())[..32];
        assert_eq!((&found["computed"]["walk"], &found["computed"]["y_hat"]), (&json!(walk), &decodes["y_hat"]));
    }
}

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    node.attribute(name).unwrap()
}

fn find<'a, 'i>(document: &'a Document<'i>, tag: &str) -> Vec<Node<'a, 'i>> {
    document.descendants().filter(|node| node.has_tag_name(tag)).collect()
}

#[test]
fn junit_is_well_formed_and_only_a_pass_is_green() {
    let root = with_wrong_y_hat("flat-1x1-q0");
    let (code, text) = said(&run(&["--suite-dir", str_of(root.path()), "--format", "junit"]));
    let document = Document::parse(&text).unwrap();
    let suite = find(&document, "testsuite")[0];
    assert_eq!((code, attribute(suite, "name"), attribute(suite, "tests")), (1, "smoke", "2"));
    assert_eq!((attribute(suite, "failures"), attribute(suite, "errors"), attribute(suite, "skipped")), ("1", "0", "0"));
    let failure = find(&document, "failure")[0];
    assert_eq!((attribute(failure, "type"), attribute(failure.parent().unwrap(), "name")), ("fail", "flat-1x1-q0"));
    assert!(attribute(failure, "message").contains("L3 at y_hat") && failure.text().unwrap().contains("L3 at y_hat"));
    let names: Vec<&str> = find(&document, "property").into_iter().map(|node| attribute(node, "name")).collect();
    for name in ["version", "platform", "backend", "threads", "model", "device passes"] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn junit_tells_expected_from_unexpected() {
    let (root, text) = (with_wrong_y_hat("flat-1x1-q0"), tempfile::tempdir().unwrap());
    let entry = json!({ "vector": "smoke/flat-1x1-q0", "verdict": "fail", "reason": "<known> & \"quoted\"" });
    let baseline = file(&text, "baseline.json", json!({ "format": 1, "expected": [entry] }).to_string());
    let junit = |folder: &str| said(&run(&["--suite-dir", folder, "--format", "junit", "--baseline", &baseline]));
    let (code, xml) = junit(str_of(root.path()));
    let document = Document::parse(&xml).unwrap();
    assert!(code == 0 && attribute(find(&document, "skipped")[0], "message").contains("<known> & \"quoted\""), "{xml}");
    assert!(find(&document, "failure").is_empty());
    let (code, xml) = junit(str_of(&cli::folder()));
    let document = Document::parse(&xml).unwrap();
    assert_eq!((code, attribute(find(&document, "failure")[0], "type")), (1, "unexpected pass"));
}

#[test]
fn a_suite_of_which_nothing_ran_is_red_in_junit() {
    let (code, xml) = said(&["run", "--vector", "bad-desync", "--level", "0", "--format", "junit"]);
    let document = Document::parse(&xml).unwrap();
    assert_eq!((code, attribute(find(&document, "testsuite")[0], "errors")), (1, "1"));
    assert_eq!(find(&document, "error").len(), 1);
}

#[test]
fn markdown_has_a_row_for_each_vector() {
    let (code, text) = said(&run(&["--format", "markdown"]));
    assert!(code == 0 && text.contains("\n### smoke\n") && text.contains("| flat-1x1-q0 | "), "{text}");
    let tables = text.lines().filter(|line| line.starts_with('|'));
    assert!(tables.clone().all(|line| line.ends_with('|')) && tables.count() == 3 + 4, "{text}");
}

#[test]
fn a_report_goes_to_a_file_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let path = file(&root, "report.json", "what was there");
    let (code, text) = complained(&run(&["--output", &path]));
    assert!(code == 3 && text.contains("report.json: the file exists and is left as it was"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
    let (code, text) = said(&run(&["--format", "json", "--output", &path, "--force"]));
    assert_eq!((code, text.as_str()), (0, ""));
    let report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(report["format"], 1);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "no temporary file is left");
    let (code, text) = complained(&run(&["--output", "/nonexistent/report.txt"]));
    assert!(code == 3 && text.contains("/nonexistent"), "{text}");
    assert!(said(&run(&["--output", "-"])).1.ends_with("\npass\n"));
}

/// A report of this machine, and one that claims to be of another, after `change`.
fn two(root: &TempDir, change: impl FnOnce(&mut Value)) -> [String; 2] {
    let (_, one) = report(&SMALL);
    let mut other = one.clone();
    (other["host"]["arch"], other["host"]["endian"]) = ("s390x".into(), "big".into());
    change(&mut other);
    [file(root, "one.json", one.to_string()), file(root, "other.json", other.to_string())]
}

fn first(report: &mut Value) -> &mut Value {
    &mut report["suites"][0]["vectors"][0]
}

#[test]
fn machines_that_agree_are_said_to() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] = two(&root, |_| ());
    for (format, lines) in [("text", "[2] s390x "), ("markdown", "| 2 | s390x ")] {
        let (code, text) = said(&["report", &one, &other, "--format", format]);
        assert!(code == 0 && text.contains(lines), "{text}");
        assert!(
            text.contains("2 vectors in 2 runs: all digests are equal wherever they were computed; every run passed"),
            "{text}"
        );
    }
    let (code, text) = said(&["report", &one, &other, "--format", "json"]);
    let matrix: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &matrix["agree"], matrix["runs"].as_array().unwrap().len()), (0, &json!(true), 2));
    let (code, xml) = said(&["report", &one, &other, "--format", "junit"]);
    let document = Document::parse(&xml).unwrap();
    assert!(code == 0 && attribute(find(&document, "testsuite")[1], "name").contains("s390x"), "{xml}");
    let output = root.path().join("PLATFORMS.md");
    assert_eq!(code_of_report(&[&one, "--format", "markdown", "-o", str_of(&output)]), 0);
    assert!(std::fs::read_to_string(output).unwrap().contains("### smoke"));
}

fn code_of_report(arguments: &[&str]) -> i32 {
    code(&[&["report"], arguments].concat())
}

#[test]
fn machines_that_differ_are_found_though_both_pass() {
    for member in ["walk", "y_hat"] {
        let root = tempfile::tempdir().unwrap();
        let [one, other] = two(&root, |report| first(report)["computed"][member] = "0".repeat(32).into());
        let (code, text) = said(&["report", &one, &other]);
        assert!(code == 1 && text.contains("DIFFER") && text.contains("1 vectors with DIFFERENT digests"), "{text}");
        assert!(text.contains("00000000"), "{text}");
    }
}

#[test]
fn runs_of_different_data_are_not_compared() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] = two(&root, |report| {
        report["suites"][0]["manifest_sha256"] = "1".repeat(64).into();
        first(report)["computed"]["y_hat"] = "0".repeat(32).into();
    });
    let (code, text) = complained(&["report", &one, &other]);
    assert!(code == 2 && text.contains("run 1 has no vector in common with another: suites of other models"), "{text}");
    // Two runs that have vectors in common do not hide a third that has none.
    let (code, text) = complained(&["report", &one, &one, &other, "--format", "junit"]);
    assert!(code == 2 && text.contains("run 3 has no vector in common"), "{text}");
    let [one, other] = two(&root, |report| report["suites"][0]["vectors"] = json!([]));
    assert_eq!(complained(&["report", &one, &other]).0, 2);
}

#[test]
fn runs_that_computed_nothing_are_not_equal() {
    let root = tempfile::tempdir().unwrap();
    let (code, report) = report(&["negative", "--vector", "package-empty"]);
    let path = file(&root, "one.json", report.to_string());
    assert_eq!((code, code_of_report(&[&path])), (0, 0));
    let (code, text) = complained(&["report", &path, &path]);
    assert!(code == 2 && text.contains("there is no vector of which two runs computed a digest"), "{text}");
}

#[test]
fn junit_has_a_failure_for_each_vector_that_differs() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] = two(&root, |report| first(report)["computed"]["y_hat"] = "0".repeat(32).into());
    let (code, xml) = said(&["report", &one, &other, "--format", "junit"]);
    let document = Document::parse(&xml).unwrap();
    let suite = find(&document, "testsuite")[2];
    assert_eq!((code, attribute(suite, "name"), attribute(suite, "failures")), (1, "smoke, runs side by side", "1"));
    let failure = find(&document, "failure")[0];
    assert_eq!((attribute(failure, "type"), attribute(failure.parent().unwrap(), "name")), ("differ", "flat-1x1-q0"));
    assert!(failure.text().unwrap().contains("[1] ") && failure.text().unwrap().contains(" 00000000"), "{xml}");
    assert_eq!(find(&document, "failure").len(), 1);
}

#[test]
fn suites_that_were_not_run_are_named() {
    let (_, report) = report(&SMALL);
    let all = ["core", "edge-cases", "edge-cases-fixed", "edge-cases-scales", "edge-cases-ties", "negative"];
    assert_eq!(report["not_run"], json!(all));
    let text = said(&run(&[])).1;
    assert!(text.ends_with(&format!("\n6 of 7 suites were not run: {}\n\npass\n", all.join(", "))), "{text}");
    let (_, report) = cli::report(&["*", "--level", "0"]);
    assert!(report["not_run"].is_null() && report["suites"].as_array().unwrap().len() == 7);
}

#[test]
fn what_is_not_a_report_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let [one, other] = two(&root, |report| report["format"] = 2.into());
    let (code, text) = complained(&["report", &one, &other]);
    assert!(code == 3 && text.contains("format 2"), "{text}");
    for contents in ["", "{}", r#"{"format": 1}"#] {
        assert_eq!(code_of_report(&[&file(&root, "none.json", contents)]), 3, "{contents}");
    }
    assert_eq!(code_of_report(&[str_of(root.path())]), 3, "a folder");
    assert_eq!(code_of_report(&["/nonexistent"]), 3);
    assert_eq!(code_of_report(&[]), 2);
}
