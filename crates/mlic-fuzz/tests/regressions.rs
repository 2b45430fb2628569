//! Runs the targets on inputs that once broke a property or a budget (`fuzz/regressions/TARGET/`, named by their cause), and on every seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use mlic_fuzz::seeds::{other_package, seeds, small_package};
use mlic_fuzz::{TARGETS, target};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn regressions_hold() {
    let mut count = 0;
    for directory in files(&repository().join("fuzz/regressions")) {
        let name = directory.file_name().unwrap().to_str().unwrap();
        let run = target(name).unwrap_or_else(|| panic!("fuzz/regressions/{name} is of no target"));
        for file in files(&directory) {
            println!("{}", file.display());
            run(&std::fs::read(&file).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "there are regressions");
}

#[test]
fn seeds_hold() {
    let smoke = repository().join("conformance/smoke");
    let streams: Vec<_> = files(&smoke)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "mlic"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .filter(|(_, bytes)| bytes.len() < 1024)
        .collect();
    assert!(!streams.is_empty());
    for (name, run) in TARGETS {
        for (seed, bytes) in seeds(name, &streams) {
            println!("{name} {seed}");
            run(&bytes);
        }
    }
}

#[test]
fn the_small_packages_are_accepted() {
    let packages = [small_package(), other_package()];
    assert!(packages.iter().all(|package| package.len() < 1 << 15), "{:?} bytes", packages.each_ref().map(Vec::len));
    let [small, other] = packages.map(|package| mlic_model::Model::from_bytes(package).unwrap());
    assert!(small.exact_synthesis().is_some_and(|own| own.nodes().len() > 5), "with an integer synthesis");
    assert!(small.has_float_synthesis() && small.has_exact_analysis());
    assert!(other.exact_synthesis() == small.exact_synthesis());
    assert!(!other.has_float_synthesis() && !other.has_exact_analysis());
}

/// Every seed is of use: none is empty, and no two of a target are the same. (Pictures are exempt: some formats make the same file of two kinds of them.)
#[test]
fn seeds_differ() {
    for (name, _) in TARGETS.into_iter().filter(|(name, _)| *name != "image") {
        let seeds = seeds(name, &[]);
        assert!(seeds.iter().all(|(_, bytes)| !bytes.is_empty()), "{name}");
        for (i, (first, bytes)) in seeds.iter().enumerate() {
            for (second, others) in &seeds[i + 1..] {
                assert!(first != second && bytes != others, "{name}: {first} and {second}");
            }
        }
    }
}

/// Every target has its program under `fuzz/`, and no program is without its target.
#[test]
fn every_target_is_fuzzed() {
    let programs: Vec<String> = files(&repository().join("fuzz/fuzz_targets"))
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(programs, names);
}
