//! The repository is what its documents say.

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
fn mutants_follow_the_sources() {
    for mutant in mutants::MUTANTS {
        let text = std::fs::read_to_string(xtask::root().join(mutant.file)).unwrap();
        assert_eq!(text.matches(mutant.from).count(), 1, "{}: {}", mutant.name, mutant.file);
        assert_ne!(mutant.from, mutant.to);
    }
}
