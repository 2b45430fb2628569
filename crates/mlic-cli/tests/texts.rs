//! Completions and manual pages, which the program writes itself.

mod common;

use common::Place;

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
    }
    place.fails(&["man", "in.ppm"], 9, &["cannot write: in.ppm: "]);
}
