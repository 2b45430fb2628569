//! Damaged conformance data is an error, never a pass.

use std::path::Path;

use crate::cli;
use crate::common::{data, fast, model, options, with};
use mlic_conform::{ConformError, Level, Manifest, Store, Verdict, run};
use serde_json::{Value, json};

const VECTOR: &str = "glyphs-64x64-q50";

/// A copy of the smoke suite with a single vector, to be damaged.
fn copy() -> tempfile::TempDir {
    let root = cli::copy("smoke");
    change(root.path(), |manifest| {
        let vectors = manifest["vectors"].as_array().unwrap().iter().filter(|v| v["name"] == VECTOR).cloned();
        manifest["vectors"] = vectors.collect::<Vec<Value>>().into();
    });
    root
}

fn change(root: &Path, change: impl FnOnce(&mut Value)) {
    let mut manifest = cli::manifest(root, "smoke");
    change(&mut manifest);
    std::fs::write(root.join("smoke/manifest.json"), manifest.to_string()).unwrap();
}

fn verdict(root: &Path) -> Verdict {
    let store = Store::Folder(root.to_path_buf());
    let report = run(&store.suite("smoke").unwrap(), with(fast(), model("smoke")), &options(Level::L4));
    assert_eq!(report.vectors.len(), 1);
    assert_eq!(report.is_pass(), report.vectors[0].verdict.is_pass());
    report.vectors[0].verdict.clone()
}

/// Where a difference must be reported, and the change that makes it.
type Wrong<'a> = (&'a str, &'a dyn Fn(&mut Value));

/// The expectations of the vector.
fn decodes(manifest: &mut Value) -> &mut Value {
    &mut manifest["vectors"][0]["expect"]["decodes"]
}

#[test]
fn the_copy_passes() {
    assert_eq!(verdict(copy().path()), Verdict::Pass);
}

#[test]
fn a_damaged_stream_or_picture_is_an_error() {
    for extension in ["mlic", "png"] {
        let root = copy();
        let path = root.path().join(format!("smoke/{VECTOR}.{extension}"));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(verdict(root.path()), Verdict::Error(reason) if reason.contains("SHA-256")), "{extension}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(verdict(root.path()), Verdict::Error(_)), "{extension}");
    }
}

#[test]
fn every_wrong_expectation_fails() {
    let zeros = || Value::from("0".repeat(32));
    let wrong: [Wrong<'_>; 12] = [
        ("L0 at header, width", &|d| d["header"]["width"] = 63.into()),
        ("L0 at header, model", &|d| d["header"]["model"] = "000000000000".into()),
        ("L0 at header, symbol_checksum", &|d| d["header"]["symbol_checksum"] = 1.into()),
        ("L0 at header, sections", &|d| d["header"]["sections"] = json!([[1, 2]])),
        ("L0 at header, damage", &|d| d["whole_slices"] = 1.into()),
        ("L1 at z", &|d| d["z"] = zeros()),
        ("L2 at pass 0 (slice 0 anchor), means", &|d| d["passes"][0]["means"] = zeros()),
        ("L2 at pass 3 (slice 1 non-anchor), scale_indices", &|d| d["passes"][3]["scale_indices"] = zeros()),
        ("L1 at pass 2 (slice 1 anchor), symbols", &|d| d["passes"][2]["symbols"] = zeros()),
        ("L3 at y_hat", &|d| d["y_hat"] = zeros()),
        ("L1 at outcome", &|d| {
            let passes = d["passes"].as_array_mut().unwrap();
            passes.extend(passes.clone());
        }),
        ("L4 at picture", &|d| {
            // Another picture, properly referenced.
            d["picture"]["image"] = json!({ "file": "other.png", "sha256": "" });
        }),
    ];
    for (place, change_it) in wrong {
        let root = copy();
        let other = std::fs::read(root.path().join("smoke/gradient-16x16-q50.png")).unwrap();
        std::fs::write(root.path().join("smoke/other.png"), &other).unwrap();
        change(root.path(), |manifest| {
            change_it(decodes(manifest));
            let image = &mut decodes(manifest)["picture"]["image"];
            if image["sha256"] == "" {
                image["sha256"] = mlic_conform::store::sha256(&other).into();
            }
        });
        let verdict = verdict(root.path());
        assert!(verdict.to_string().starts_with(&format!("fail: {place}")), "{place}: {verdict}");
    }
}

#[test]
fn a_tolerance_is_kept() {
    let root = copy();
    let picture = mlic::image::Image::from_rgb(64, 64, vec![128; 3 * 64 * 64]).unwrap();
    let png = mlic::image::write_image(&picture, mlic::image::OutputFormat::Png).unwrap();
    std::fs::write(root.path().join("smoke/gray.png"), &png).unwrap();
    let set = |max: u8, mean: f64| {
        change(root.path(), |manifest| {
            let picture = &mut decodes(manifest)["picture"];
            picture["image"] = json!({ "file": "gray.png", "sha256": mlic_conform::store::sha256(&png) });
            (picture["max_difference"], picture["mean_difference"]) = (max.into(), mean.into());
        });
        verdict(root.path()).is_pass()
    };
    assert_eq!([set(255, 255.0), set(0, 255.0), set(255, 0.0)], [true, false, false]);
}

#[test]
fn a_wrong_error_code_fails() {
    let root = copy();
    change(root.path(), |manifest| {
        manifest["vectors"][0]["expect"] = json!({ "refused": { "code": "desync", "level": 1 } });
    });
    assert!(matches!(verdict(root.path()), Verdict::Fail(_)));
}

#[test]
fn another_model_is_not_supported() {
    let root = copy();
    change(root.path(), |manifest| manifest["model"]["id"] = "000000000000".into());
    assert!(matches!(verdict(root.path()), Verdict::NotSupported(_)));
}

#[test]
fn damaged_manifests_are_refused() {
    let refused = |change_it: &dyn Fn(&mut Value)| {
        let root = copy();
        change(root.path(), change_it);
        let store = Store::Folder(root.path().to_path_buf());
        matches!(store.suite("smoke"), Err(ConformError::Manifest { .. }))
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|m| m["format"] = 2.into()));
    assert!(refused(&|m| m["vectors"] = json!([])), "no vectors");
    assert!(refused(&|m| m["unknown"] = 1.into()));
    assert!(refused(&|m| m["suite"] = "core".into()));
    assert!(refused(&|m| m["model"]["package"] = "../../tiny.mlicpkg".into()));
    assert!(refused(&|m| m["vectors"][0]["stream"]["file"] = "../a.mlic".into()));
    assert!(refused(&|m| m["vectors"][0]["stream"]["sha256"] = "00".into()));
    assert!(refused(&|m| m["vectors"][0]["expect"] = json!({})));
    assert!(refused(&|m| decodes(m)["passes"] = json!([])));
    assert!(refused(&|m| decodes(m)["y_hat"] = "xyz".into()));
    assert!(refused(&|m| decodes(m)["pixels"] = "0".into()));
    assert!(refused(&|m| {
        let vectors = m["vectors"].as_array_mut().unwrap();
        vectors.push(vectors[0].clone());
    }));
    assert!(Manifest::parse(b"").is_err());
}

#[test]
fn an_unknown_suite_is_named() {
    let store = data();
    assert!(matches!(store.suite("nonsense"), Err(ConformError::UnknownSuite { .. })));
    assert!(matches!(store.suite("models"), Err(ConformError::UnknownSuite { .. })), "a folder without a manifest");
}
