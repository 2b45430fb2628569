//! `cargo xtask cross`: what can be tested without another architecture.

use std::collections::BTreeSet;

use serde_json::json;
use xtask::cross::platform::PLATFORMS;
use xtask::cross::record::{self, Record, Run};
use xtask::cross::{Options, Records, SUITES, document, packages, run, suite};

fn parse(args: &[&str]) -> Result<Options, String> {
    Options::parse(args.iter().map(|arg| (*arg).to_owned()))
}

fn names(options: &Options) -> Vec<&str> {
    options.platforms.iter().map(|p| p.name).collect()
}

#[test]
fn platforms_are_named_one_by_one_or_by_family() {
    assert_eq!(names(&parse(&["s390x", "aarch64-a78ae"]).unwrap()), ["aarch64-a78ae", "s390x"]);
    assert_eq!(names(&parse(&["aarch64"]).unwrap()), ["aarch64-a57", "aarch64-a78ae", "aarch64-max"]);
    assert_eq!(parse(&[]).unwrap().platforms.len(), PLATFORMS.len());
    assert!(parse(&["aarch64-a7"]).unwrap_err().contains("s390x"));
    assert!(parse(&["--sute"]).is_err());
    assert!(parse(&["--suite"]).is_err());
}

#[test]
fn the_document_is_made_of_the_records() {
    let made = document::text(&record::read().unwrap()).unwrap();
    let kept = std::fs::read_to_string(document::path()).unwrap();
    assert!(made == kept, "docs/PLATFORMS.md is not what `cargo xtask cross --document` makes");
}

fn record(digest: &str, passed: usize) -> Record {
    let others = if passed == 2 { Vec::new() } else { vec!["flat: fail".to_owned()] };
    let run = Run {
        suite: "smoke".into(),
        backend: "integer".into(),
        device: "cpu s390x, scalar".into(),
        level: suite::find("smoke").unwrap().level,
        digest: digest.into(),
        vectors: 2,
        passed,
        others,
        seconds: 1,
        date: "2026-01-31".into(),
        commit: "0123abc".into(),
    };
    Record { compiler: "rustc 1.95.0".into(), runs_on: "QEMU".into(), runs: vec![run] }
}

#[test]
fn only_a_full_pass_earns_the_digest() {
    let of = |record: &Record| document::text(&Records::from([("s390x".to_owned(), record.clone())])).unwrap();
    let digest = suite::find("smoke").unwrap().digest;
    assert!(of(&record(&digest, 2)).contains(&format!("| `{digest}` 2/2 |")));
    let failed = record(&digest, 1);
    assert!(!failed.is_pass());
    assert!(of(&failed).contains("**1/2**: flat: fail") && !of(&failed).contains(&digest));
    assert!(of(&record("0000", 2)).contains("`0000` 2/2, earlier suite"));
    let mut lower = record(&digest, 2);
    lower.runs[0].level -= 1;
    assert!(of(&lower).contains("2/2, earlier suite"));
    // A vector that was left out is not a pass either.
    let mut left_out = record(&digest, 2);
    left_out.runs[0].vectors = 3;
    assert!(!left_out.is_pass());
}

#[test]
fn suites_that_were_not_run_stay_recorded() {
    let earlier = record("0000", 1);
    let mut core = record("1111", 2);
    (core.runs[0].suite, core.runs[0].commit) = ("core".into(), "4567def".into());
    let merged = core.clone().merged(Some(&earlier));
    assert_eq!(merged.runs, [core.runs[0].clone(), earlier.runs[0].clone()]);
    let text = document::text(&Records::from([("s390x".to_owned(), merged.clone())])).unwrap();
    assert!(text.contains("| 2026-01-31, 0123abc; core: 2026-01-31, 4567def |"), "{text}");
    // A suite that is run again replaces its earlier run, whatever its result.
    let again = record("2222", 2).merged(Some(&merged));
    assert_eq!(again.runs.iter().map(|run| run.digest.as_str()).collect::<Vec<_>>(), ["2222", "1111"]);
    // With another emulator or compiler, earlier runs say nothing about this record.
    let other = Record { runs_on: "another".into(), ..core };
    assert_eq!(other.clone().merged(Some(&earlier)), other);
    assert_eq!(other.clone().merged(None), other);
}

#[test]
fn suites_are_compared_as_far_as_they_are_exact() {
    let manifest = |pixels: serde_json::Value| {
        let decodes = |pixels| json!({ "expect": { "decodes": { "y_hat": "1", "pixels": pixels } } });
        json!({ "vectors": [decodes("1".into()), json!({ "expect": { "refused": {} } }), decodes(pixels)] })
    };
    assert_eq!(suite::level_of(&manifest("2".into())), 4);
    assert_eq!(suite::level_of(&manifest(serde_json::Value::Null)), 3);
    assert_eq!(suite::level_of(&json!({ "vectors": [{ "expect": { "refused": {} } }] })), 3);
    for name in ["edge-cases", "edge-cases-scales", "edge-cases-fixed", "edge-cases-ties", "negative"] {
        assert_eq!(suite::find(name).unwrap().level, 4, "{name}");
    }
}

#[test]
fn a_suite_digest_depends_on_everything_exact_and_on_no_picture() {
    let manifest = |y_hat: &str, picture: &str| {
        let decodes = json!({ "y_hat": y_hat, "picture": { "image": picture } });
        json!({ "model": { "id": "m" }, "vectors": [{ "name": "a", "stream": { "sha256": "0" }, "expect": { "decodes": decodes } }] })
    };
    let digest = |manifest| suite::digest_of(&manifest).unwrap();
    assert_eq!(digest(manifest("1", "x")), digest(manifest("1", "y")));
    assert_ne!(digest(manifest("1", "x")), digest(manifest("2", "x")));
    let mut renamed = manifest("1", "x");
    renamed["vectors"][0]["name"] = "b".into();
    assert_ne!(digest(renamed), digest(manifest("1", "x")));
    let mut pixels = manifest("1", "x");
    pixels["vectors"][0]["expect"]["decodes"]["pixels"] = "3".into();
    assert_ne!(digest(pixels), digest(manifest("1", "x")));
    assert_eq!(suite::digest_of(&json!({ "model": { "id": "m" }, "vectors": [] })), None);
}

#[test]
fn reports_are_of_the_suite_that_was_asked_for() {
    let vector = json!({ "name": "a", "verdict": "pass" });
    let report = json!({ "suites": [{ "suite": "smoke", "devices": { "passes": "cpu" }, "vectors": [vector] }] });
    assert_eq!(run::verdicts(&report, "smoke"), Some(("cpu".into(), vec![("a".into(), "pass".into())])));
    assert_eq!(run::verdicts(&report, "core"), None);
    assert_eq!(run::verdicts(&json!({ "suites": [] }), "smoke"), None);
}

#[test]
fn the_best_kernels_of_a_platform_must_have_run() {
    let is_other = |name: &str, backend: &str, device: &str| {
        run::device_is_other(PLATFORMS.iter().find(|p| p.name == name).unwrap(), backend, device)
    };
    for (name, device) in [
        ("x86_64-avx2", "cpu x86_64, avx2"),
        ("aarch64-a57", "cpu aarch64, neon"),
        ("aarch64-a78ae", "cpu aarch64, dotprod"),
        ("aarch64-max", "cpu aarch64, i8mm"),
        ("s390x", "cpu s390x, scalar"),
        ("wasm32", "cpu wasm32, scalar"),
    ] {
        assert!(!is_other(name, "integer", device), "{name}");
        assert!(is_other(name, "integer", "cpu, other") && !is_other(name, "reference", "cpu, reference"), "{name}");
    }
    assert!(is_other("aarch64-max", "integer", "cpu aarch64, dotprod"));
    assert!(is_other("aarch64-a57", "integer", "cpu aarch64, dotprod"));
}

#[test]
fn a_suite_of_debian_may_have_a_mirror_of_its_own() {
    let named = |suite: &str, set: &[(&str, &str)]| {
        packages::named_mirror(suite, |name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    };
    let both = [("MLIC_CROSS_MIRROR", "all"), ("MLIC_CROSS_MIRROR_BULLSEYE", "own")];
    assert_eq!(named("bullseye", &both).as_deref(), Some("own"));
    assert_eq!(named("testing", &both).as_deref(), Some("all"));
    assert_eq!(named("bullseye", &[("MLIC_CROSS_MIRROR_BULLSEYE", ""), both[0]]).as_deref(), Some("all"));
    assert_eq!(named("testing", &both[1..]), None);
}

#[test]
fn every_suite_of_the_repository_is_run() {
    let folders = std::fs::read_dir(xtask::root().join("conformance")).unwrap();
    let suites = folders.map(|entry| entry.unwrap()).filter(|entry| entry.path().join("manifest.json").is_file());
    let names: BTreeSet<String> = suites.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(names, SUITES.map(str::to_owned).into());
}
