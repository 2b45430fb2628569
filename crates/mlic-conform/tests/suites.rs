//! The suites pass on the backends of this machine, and cover what they claim to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a failure here is a failed test")]

mod common;

use common::{data, fast, model, not_passed, run_on, tract, with};
use mlic_backend::integer::Kernels;
use mlic_conform::manifest::Expect;
use mlic_conform::{Level, Manifest};
use mlic_kernels::cpu::Isa;

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
    let report = run_on("core", tract(model("core")), Level::L4);
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

fn manifests() -> Vec<Manifest> {
    data().suites().iter().map(|name| data().suite(name).unwrap().manifest).collect()
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
    assert!(bytes < 3 << 20, "{bytes} bytes");
}
