//! The suites pass on the backends of this machine, and cover what they claim to.

use std::sync::Arc;

use crate::common::{data, fast, model, not_passed, run_on, with};
use mlic_backend::integer::Kernels;
use mlic_conform::manifest::Expect;
use mlic_conform::{Level, Manifest, Models, bless, coverage, suites};
use mlic_kernels::cpu::Isa;
use mlic_model::Model;

#[test]
fn smoke_passes_on_every_instruction_set() {
    let model = model("smoke");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let report = run_on("smoke", with(Kernels::Fast(isa), model.clone()), Level::L4);
        assert!(report.is_pass(), "{}: {}", isa.name(), not_passed(&report));
    }
}

#[test]
fn smoke_passes_on_the_reference() {
    let report = run_on("smoke", with(Kernels::Reference, model("smoke")), Level::L4);
    assert!(report.is_pass(), "{}", not_passed(&report));
}

#[cfg(feature = "embedded-model")]
#[test]
fn core_passes_on_tract() {
    let report = run_on("core", crate::common::tract(model("core")), Level::L4);
    assert!(report.is_pass(), "{}", not_passed(&report));
}

#[test]
fn lower_levels_leave_out_what_they_cannot_judge() {
    let model = model("smoke");
    let total = data().suite("smoke").unwrap().manifest.vectors.len();
    for level in Level::ALL {
        let report = run_on("smoke", with(fast(), model.clone()), level);
        assert!(report.is_pass(), "{level}: {}", not_passed(&report));
        assert_eq!(report.vectors.len() + report.left_out, total);
        assert_eq!(report.left_out == 0, level > Level::L0, "{level}");
    }
}

#[test]
fn edge_cases_pass_on_every_instruction_set_and_on_the_reference() {
    for suite in ["edge-cases", "edge-cases-scales", "edge-cases-fixed", "edge-cases-ties", "negative"] {
        let model = model(suite);
        let sets = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Kernels::Fast);
        for kernels in sets.chain([Kernels::Reference]) {
            let report = run_on(suite, with(kernels, model.clone()), Level::L4);
            assert!(report.is_pass(), "{suite} on {kernels:?}: {}", not_passed(&report));
        }
    }
}

/// Suites without pictures do not depend on float arithmetic: they are the same wherever they are made.
#[test]
fn suites_are_what_their_recipes_make() {
    for suite in ["edge-cases-scales", "edge-cases-fixed", "edge-cases-ties", "negative"] {
        let (store, recipe) = (data(), suites::find(suite).unwrap());
        let package = bless::package(recipe.package.unwrap(), &store).unwrap();
        let files =
            bless::bless(&recipe, Arc::new(Model::from_bytes(package).unwrap()), &store, bless::Known::Remade, 0).unwrap();
        for (path, bytes) in &files {
            let there = store.read(path).unwrap();
            if path.ends_with("manifest.json") {
                let [made, there] = [bytes.as_slice(), &there].map(|bytes| Manifest::parse(bytes).unwrap());
                assert_eq!((&made.model, &made.vectors), (&there.model, &there.vectors), "{suite}");
            } else {
                assert!(there == bytes.as_slice(), "{path} is another");
            }
        }
    }
}

#[test]
fn manifests_hold_the_vectors_of_their_recipes() {
    let recipes = suites::all();
    assert_eq!(data().suites().len(), recipes.len());
    for recipe in recipes {
        let manifest = data().suite(recipe.suite).unwrap().manifest;
        let names: Vec<&String> = manifest.vectors.iter().map(|vector| &vector.name).collect();
        assert_eq!(names, recipe.vectors.iter().map(|vector| &vector.name).collect::<Vec<_>>(), "{}", recipe.suite);
    }
}

#[test]
fn the_adversarial_suites_reach_the_whole_list() {
    let names = ["edge-cases", "edge-cases-scales", "edge-cases-fixed", "edge-cases-ties", "negative", "smoke"];
    let coverage = coverage::measure(&data(), &Models::default(), &names.map(str::to_owned), 2).unwrap();
    assert!(coverage.is_complete(), "{}", coverage.to_text());
}

#[test]
fn a_suite_too_few_is_seen() {
    let coverage = coverage::measure(&data(), &Models::default(), &["edge-cases-fixed".to_owned()], 1).unwrap();
    assert!(coverage.failed.is_empty());
    let missing = |name: &str| coverage.missing.iter().any(|item| item.name == name);
    assert!(!coverage.is_complete() && missing("quality 200") && missing("scale at threshold 62") && !missing("window of 7"));
}

#[test]
fn the_list_names_each_case_once() {
    let (items, mut seen) = (coverage::items(), std::collections::BTreeSet::new());
    assert!(items.iter().all(|item| seen.insert(item.name.clone())));
    // Every exclusion names an item of the list.
    assert_eq!(items.iter().filter(|item| item.excluded.is_some()).count(), coverage::EXCLUDED.len());
}

#[test]
fn the_negative_suite_refuses_a_lot() {
    let negative = data().suite("negative").unwrap().manifest;
    let refused = negative.vectors.iter().filter(|vector| !matches!(vector.expect, Expect::Decodes(_))).count();
    assert!(refused >= 480, "{refused} refusals");
}

fn manifests() -> Vec<Manifest> {
    ["smoke", "core"].iter().map(|name| data().suite(name).unwrap().manifest).collect()
}

#[test]
fn suites_hold_what_they_promise() {
    for manifest in manifests() {
        let decodes: Vec<_> =
            manifest.vectors.iter().filter_map(|v| if let Expect::Decodes(d) = &v.expect { Some(d) } else { None }).collect();
        let name = &manifest.suite;
        assert!(decodes.len() >= 14, "{name}: {} streams", decodes.len());
        assert!(manifest.vectors.len() - decodes.len() >= 8, "{name}");
        assert!(decodes.iter().any(|d| (d.header.width, d.header.height) == (1, 1)), "{name}");
        assert!(decodes.iter().any(|d| d.header.gray) && decodes.iter().any(|d| d.header.sections.len() == 3), "{name}");
        assert!(decodes.iter().filter(|d| d.whole_slices.is_some()).count() >= 2, "{name}");
        assert!((0..=4).all(|lanes| decodes.iter().any(|d| d.header.lanes_log2 == lanes)), "{name}");
        let top = decodes.iter().map(|d| d.header.quality).max().unwrap_or(0);
        let qualities: std::collections::BTreeSet<u8> = decodes.iter().map(|d| d.header.quality).collect();
        assert!(qualities.contains(&0) && qualities.len() >= 5, "{name}: {qualities:?} of {top}");
    }
}

#[test]
fn the_data_is_small() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let folders = std::fs::read_dir(root).unwrap().flatten().filter(|e| e.path().is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
    let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 12 << 20, "{bytes} bytes");
}
