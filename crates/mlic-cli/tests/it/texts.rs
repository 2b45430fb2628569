//! Completions and manual pages, which the program writes itself.

use crate::common::{self, Place};

#[test]
fn completions_know_the_commands_and_backends() {
    let place = Place::new();
    for shell in ["bash", "fish", "zsh"] {
        let ended = place.run(&["completions", shell]);
        let script = String::from_utf8(ended.stdout).unwrap();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        for word in ["encode", "decode", "max-memory", "integer"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(place.run(&["completions", "cmd.exe"]).code, 2);
}

#[test]
fn every_command_has_a_page() {
    let place = Place::new();
    assert_eq!(place.run(&["man", "new/pages"]).code, 0);
    for page in ["mlic.1", "mlic-encode.1", "mlic-decode.1", "mlic-eval.1", "mlic-model-verify.1", "mlic-completions.1"] {
        let text = String::from_utf8(place.get(&format!("new/pages/{page}"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
        assert!(text.contains(concat!("\"mlic ", env!("CARGO_PKG_VERSION"), "\" \"MLIC++ image codec\"")), "{page}: {text}");
        for part in [".SH \"EXIT STATUS\"", ".SH \"SEE ALSO\"", ".SH \"COMMON OPTIONS\"", "backend not available"] {
            assert_eq!(text.matches(part).count(), 1, "{page}: {part}\n{text}");
        }
    }
    place.put("new/pages/mlic.1", b"mine");
    place.fails(&["man", "new/pages"], 9, &["cannot write: new/pages/", "the file exists", "(--force overwrites it)"]);
    assert_eq!(place.get("new/pages/mlic.1"), b"mine");
    assert_eq!(place.run(&["man", "new/pages", "--force"]).code, 0);
    assert_ne!(place.get("new/pages/mlic.1"), b"mine");
    place.fails(&["man", "in.ppm"], 9, &["cannot write: in.ppm: "]);
}

/// Checks that docs/JSON.md names every member that is printed.
#[test]
fn members_of_json_are_documented() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/JSON.md")).unwrap();
    let section = |title: &str| text.split("\n## ").find(|part| part.starts_with(title)).unwrap().to_owned();
    let place = Place::new();
    place.stream();
    place.put("anchor.json", br#"{"codecs": {"x": {"bpp": [1], "psnr_rgb": [2]}}}"#);
    let eval = ["eval", "--json", "in.ppm", "absent.png", "-q", "50", "--anchor", "anchor.json"];
    for (title, arguments) in [
        ("`info` of a stream", ["info", "--json", "in.mlic"].as_slice()),
        ("`info` of several files", &["info", "--json", "in.mlic", "absent.mlic"]),
        ("`info` of a package", &["model", "info", "--json", common::TINY]),
        ("`eval`", &eval),
    ] {
        let (json, section) = (place.run(arguments).json(), section(title));
        let mut members: Vec<&String> = json.as_object().unwrap().keys().collect();
        let parts = ["images", "means", "failed", "bd_rates"].iter().filter_map(|part| json[part][0].as_object());
        members.extend(parts.flat_map(|part| part.keys()));
        let missing: Vec<_> = members
            .iter()
            .filter(|member| !["`", "[]`"].iter().any(|end| section.contains(&format!("`{member}{end}"))))
            .collect();
        assert!(missing.is_empty(), "{title}: {missing:?}");
    }
}
