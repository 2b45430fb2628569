//! The repository is what its documents say.

use std::collections::BTreeSet;

use xtask::{arrows, floats, licences, mutants};

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
    assert_eq!(floats::floats("1e3 + 1_0E6 - 1e-3 * 2. / 1f64"), ["1e3", "1_0E6", "1e", "2.", "1f64"]);
    assert_eq!(floats::floats("0.5..2.5; f(2.)"), ["0.5..2.5", "2."]);
    assert!(floats::floats("0x1e3 + 0x1f64 + 0b1 + 1u64 + 2.max(3) + 4..; x.1.0; e3; 0..5.min(n)").is_empty());
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
fn a_copy_to_break_has_the_listed_files_and_no_others() {
    let base = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("copy_tree");
    let (from, to) = (base.join("from"), base.join("to"));
    let _ = std::fs::remove_dir_all(&base);
    let there = [to.join("a/changed"), to.join("b/c/moved"), to.join("was/folder"), to.join("was-file")];
    let ours = ["a/same", "a/changed", "unlisted", "was", "was-file/now"].map(|name| from.join(name));
    for path in ours.into_iter().chain(there) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, path.to_str().unwrap()).unwrap();
    }
    let listed = ["a/same", "a/changed", "was", "was-file/now"];
    mutants::copy_tree(&from, listed.into_iter(), &to).unwrap();
    for name in listed {
        assert_eq!(std::fs::read(to.join(name)).unwrap(), std::fs::read(from.join(name)).unwrap(), "{name}");
    }
    assert!(!to.join("unlisted").exists() && !to.join("b").exists());
    assert!(mutants::copy_tree(&from, ["none"].into_iter(), &to).unwrap_err().contains("none"));
}

#[test]
fn mutants_follow_the_sources() {
    for mutant in mutants::MUTANTS {
        let text = std::fs::read_to_string(xtask::root().join(mutant.file)).unwrap();
        assert_eq!(text.matches(mutant.from).count(), 1, "{}: {}", mutant.name, mutant.file);
        assert_ne!(mutant.from, mutant.to);
    }
}

#[test]
fn licences_are_allowed() {
    let refused = licences::refused().unwrap();
    assert!(refused.is_empty(), "{refused:#?}");
    let allowed = ["MIT", "Zlib"];
    for (expression, is_allowed) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("none", false),
        ("Apache-2.0/MIT", true),
        ("GPL-3.0 OR Zlib", true),
        ("MIT AND Zlib", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ("(MIT OR Apache-2.0) AND Zlib", true),
        ("GPL-3.0 AND MIT OR MIT AND Zlib", true),
    ] {
        assert_eq!(licences::is_allowed(expression, &allowed), is_allowed, "{expression}");
    }
}
