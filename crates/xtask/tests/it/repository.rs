//! The repository is what its documents say.

use std::collections::BTreeSet;

use xtask::{arrows, floats, mutants};

#[test]
fn crates_are_those_of_the_table() {
    let findings = arrows::differences(&arrows::actual().unwrap(), &arrows::declared().unwrap());
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn exact_sources_hold_no_float() {
    let found = floats::scan().unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_scan_sees_floats() {
    assert_eq!(floats::floats("let x = 1.5 + y as f32; // 2.5"), ["1.5", "f32"]);
    assert_eq!(floats::floats("let x: f64 = 1e3_f64;").len(), 2);
    assert!(floats::floats("a.0.1 + b[0..1].len() /* */ - \"1.5 f32\".len()").is_empty());
    assert!(floats::floats("self.0 .0; 1..2").is_empty());
}

#[test]
fn unsafe_files_are_those_of_architecture() {
    let text = std::fs::read_to_string(xtask::root().join("ARCHITECTURE.md")).unwrap();
    let item = text.split("\n- ").find(|item| item.starts_with("**unsafe**")).unwrap();
    let quoted =
        item.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit('/').next().filter(|name| name.ends_with(".rs")));
    let listed: BTreeSet<String> = quoted.map(str::to_owned).collect();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(xtask::root().join("crates")).unwrap() {
        floats::sources(&entry.unwrap().path().join("src"), &mut files).unwrap();
    }
    let allow = concat!("allow(unsafe", "_code");
    let is_unsafe = |path: &&std::path::PathBuf| std::fs::read_to_string(path).unwrap().contains(allow);
    let found: Vec<String> =
        files.iter().filter(is_unsafe).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found.len(), listed.len(), "{found:?}");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), listed);
}

#[test]
fn mutants_follow_the_sources() {
    for mutant in mutants::MUTANTS {
        let text = std::fs::read_to_string(xtask::root().join(mutant.file)).unwrap();
        assert_eq!(text.matches(mutant.from).count(), 1, "{}: {}", mutant.name, mutant.file);
        assert_ne!(mutant.from, mutant.to);
    }
}
