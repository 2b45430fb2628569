//! What fails: with which exit code and which words, and that nothing is left behind.

use crate::common::{self, Place, TINY, is_file, png_with, ppm};
use mlic_core::container::{self, ModelId, Section};
use mlic_model::package::{self, SectionKind};

#[test]
fn wrong_usage_is_2() {
    let place = Place::new();
    for arguments in [
        ["encode"].as_slice(),
        &["frobnicate"],
        &[],
        &["encode", "in.ppm", "-q", "101"],
        &["encode", "in.ppm", "-q", "nan"],
        &["encode", "in.ppm", "--background", "red"],
        &["encode", "in.ppm", "--quiet", "-v"],
        &["encode", "in.ppm", "-j", "257"],
        &["encode", "in.ppm", "--max-memory", "512X"],
        &["eval", "in.ppm", "--anchor-codec", "x"],
        &["decode", "in.ppm", "--backend", "abacus"],
        // Options that the command would ignore.
        &["info", "in.ppm", "--max-memory", "1G"],
        &["model", "info", "--backend", "cpu"],
        &["man", "pages", "--model", TINY],
        &["info", "in.ppm", "--force"],
        &["--version", "encode", "in.ppm"],
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("error: "), "{}", ended.stderr);
    }
    place.fails(&["decode", "x.mlic", "-o", "out.jpg"], 2, &["wrong usage: out.jpg: ", ".png, .ppm, .pgm or .pnm"]);
    place.fails(&["decode", "x.mlic", "-o", "out.png", "--format", "ppm"], 2, &["the name says png, --format says ppm"]);
    place.put("picture", &ppm(48, 40));
    place.fails(&["encode", "picture", "-o", "picture", "--force"], 2, &["picture: it is the input too"]);
    assert_eq!(place.get("picture"), ppm(48, 40));
    // Other programs take the last operand for the output.
    place.fails(&["encode", "in.ppm", "out.mlic"], 2, &["out.mlic: this is an input (-o OUT names the output)"]);
    place.fails(&["decode", "in.mlic", "out.png"], 2, &["out.png: this is an input (-o OUT names the output)"]);
    place.fails(&["encode", "in.ppm", "-o", "out.png"], 2, &["out.png: a stream would be taken for a picture"]);
    let folder = ["wrong usage: absent: several inputs, or a directory of them, need a directory that exists"];
    place.fails(&["encode", "in.ppm", "gray.pgm", "-o", "absent"], 2, &folder);
    place.fails(&["encode", "in.ppm", "-"], 2, &["-: standard input is read alone"]);
    place.fails(&["info", "in.ppm", "-"], 2, &["-: standard input is read alone"]);
    std::fs::create_dir(place.path("one")).unwrap();
    place.put("one/in.ppm", &ppm(48, 40));
    place.fails(&["encode", "one", "-o", "absent"], 2, &folder);
    place.fails(
        &["encode", "in.ppm", "./in.png"],
        2,
        &["wrong usage: ./in.mlic: in.ppm and ./in.png would both be written to it"],
    );
}

#[test]
fn input_that_is_no_usable_picture_is_3() {
    let place = Place::new();
    place.fails(&["encode", "absent.png"], 3, &["cannot read: absent.png: ", "No such file"]);
    place.fails(&["decode", "absent.mlic"], 3, &["cannot read: absent.mlic: ", "No such file"]);
    place.put("text.png", b"hello");
    place.fails(&["encode", "text.png"], 3, &["cannot read: text.png: not a PNG, JPEG, WebP, PPM, PGM, PBM or PAM file"]);
    if cfg!(unix) {
        // The input has no end, but its first bytes tell what it is not.
        place.fails(&["encode", "/dev/zero", "-o", "out.mlic"], 3, &["cannot read: /dev/zero: not a PNG, JPEG, "]);
        place.fails(&["decode", "/dev/zero", "-o", "out.png"], 4, &["/dev/zero: not an MLIC++ stream"]);
    }
    place.put("half.ppm", &ppm(48, 40)[..1000]);
    place.fails(&["encode", "half.ppm"], 3, &["half.ppm: truncated PNM file: it ends after 1000 bytes"]);
    place.put("big.ppm", b"P6 70000 1 255\n");
    place.fails(&["encode", "big.ppm"], 3, &["big.ppm: 70000x1 is too large: at most 65535 pixels per side"]);
    place.put("alpha.png", &png_with(6, 8, &[9, 8, 7, 100], None));
    place.fails(&["encode", "alpha.png"], 3, &["alpha.png: the alpha channel is not opaque", "(--background RRGGBB)"]);
    place.put("deep.png", &png_with(0, 16, &[1, 2], None));
    place.fails(&["encode", "deep.png"], 3, &["deep.png: 16 bits per sample", "(--reduce-depth)"]);
    place.put("moving.png", &png_with(2, 8, &[1, 2, 3], Some((b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]))));
    place.fails(&["encode", "moving.png"], 3, &["moving.png: animated PNG"]);
    place.put("two.ppm", &ppm(48, 40).repeat(2));
    place.fails(&["encode", "two.ppm"], 3, &["two.ppm: several pictures in one PNM file: a stream holds one"]);
    place.put("profile.png", &png_with(2, 8, &[1, 2, 3], Some((b"iCCP", b"x\0\0damaged"))));
    place.fails(
        &["encode", "profile.png"],
        3,
        &["the ICC profile is there and cannot be read", "(--metadata fit leaves it out)"],
    );
    place.put("wide.png", &png_with(2, 8, &[1, 2, 3], Some((b"cICP", &[9, 16, 0, 1]))));
    place.fails(
        &["encode", "wide.png"],
        3,
        &["wide.png: the file declares colours other than those of sRGB (cICP)", "(--metadata fit takes"],
    );
    std::fs::create_dir(place.path("empty")).unwrap();
    place.fails(&["eval", "empty"], 3, &["cannot read: empty: no file ends in png"]);
    place.fails(&["encode", "empty"], 3, &["cannot read: empty: no file ends in png"]);
    place.fails(&["decode", "empty"], 3, &["cannot read: empty: no file ends in mlic"]);
    // An empty directory does not keep other inputs from being tried.
    place.put("good.ppm", &ppm(48, 40));
    let ended = place.run(&["encode", "good.ppm", "empty"]);
    assert_eq!(ended.code, 3);
    ended.has_error(&["cannot read: empty: no file ends in png"]);
    assert!(!place.get("good.mlic").is_empty());
    let json = place.run(&["eval", "--json", "-q", "50", "empty", "good.ppm"]).json();
    assert_eq!((&json["failed"][0]["path"], &json["images"][0]["path"]), (&"empty".into(), &"good.ppm".into()));
    place.put("anchor.json", b"{}");
    place.fails(&["eval", "in.ppm", "--anchor", "anchor.json"], 3, &["anchor.json: not a file of anchors"]);
}

#[test]
fn what_is_no_stream_is_4() {
    let place = Place::new();
    place.fails(&["decode", "in.ppm", "-o", "out.png"], 4, &["cannot decode: in.ppm: not an MLIC++ stream"]);
    place.fails(&["info", "in.ppm"], 4, &["in.ppm: neither a stream nor a model package"]);
    let mut stream = place.stream();
    stream[3] = 99;
    place.put("later.mlic", &stream);
    place.fails(&["decode", "later.mlic"], 4, &["later.mlic: ", "version 99"]);
}

#[test]
fn a_damaged_stream_is_5_wherever_it_is_damaged() {
    let place = Place::new();
    let stream = place.stream();
    let header_len = container::parse(&stream).unwrap().header_len;
    for (name, at) in [("header", 12), ("start", header_len), ("middle", stream.len() / 2), ("end", stream.len() - 1)] {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x10;
        place.put("bad.mlic", &damaged);
        place.fails(&["decode", "bad.mlic"], 5, &["cannot decode: bad.mlic: ", "checksum"]);
        assert_eq!(place.run(&["info", "bad.mlic"]).code, 5, "{name}");
    }
    place.run(&["info", "bad.mlic"]).has_error(&["damaged stream: bad.mlic: payload checksum"]);
    place.put("bad.mlic", &[stream.as_slice(), b"more"].concat());
    place.fails(&["decode", "bad.mlic"], 5, &["4 bytes follow the end"]);
}

#[test]
fn a_stream_of_damaged_metadata_is_5_unless_told_to_do_without() {
    let place = Place::new();
    place.put("with.png", &png_with(2, 8, &[1, 2, 3], Some((b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0"))));
    place.ok(&["encode", "with.png", "-o", "bad.mlic"]);
    let mut stream = place.get("bad.mlic");
    *stream.last_mut().unwrap() ^= 1;
    place.put("bad.mlic", &stream);
    let refused = [
        "cannot decode: bad.mlic: what follows the payload is damaged: checksum of section 0",
        "(--metadata fit leaves that out)",
    ];
    place.fails(&["decode", "bad.mlic"], 5, &refused);
    let ended = place.ok(&["decode", "bad.mlic", "--metadata", "fit"]);
    assert!(ended.stderr.contains("note: bad.mlic: damaged metadata left out: checksum of section 0"), "{}", ended.stderr);
    assert_eq!(common::png_size(&place.get("bad.png")), (1, 1, 2));
    let ended = place.ok(&["decode", "bad.mlic", "--metadata", "strip", "-o", "bare.png"]);
    assert_eq!((ended.stderr.lines().count(), place.get("bare.png")), (1, place.get("bad.png")));
    assert!(ended.stderr.contains("note: bad.mlic: what follows the payload is damaged: a profile or"), "{}", ended.stderr);
    // If the stream is cut in its metadata, the picture is complete.
    place.put("cut.mlic", &stream[..stream.len() - 1]);
    let ended = place.run(&["decode", "cut.mlic"]);
    assert_eq!((ended.code, place.get("cut.png")), (6, place.get("bad.png")), "{}", ended.stderr);
    ended.has_error(&["incomplete metadata: cut.mlic: ", "the picture is complete", "--metadata fit takes it as it is"]);
    let ended = place.ok(&["decode", "cut.mlic", "--metadata", "fit", "-o", "fit.png"]);
    assert!(ended.stderr.contains("note: cut.mlic: damaged metadata left out: "), "{}", ended.stderr);
    assert_eq!(place.get("fit.png"), place.get("bad.png"));
}

#[test]
fn a_quality_above_the_models_is_5() {
    let place = Place::new();
    let stream = place.stream();
    let parsed = container::parse(&stream).unwrap();
    let header = container::Header { quality: 255, ..parsed.header };
    place.put("bad.mlic", &container::write(&header, parsed.payload, &[]).unwrap());
    place.fails(&["decode", "bad.mlic"], 5, &["cannot decode: bad.mlic: quality 255, the model has 0 to "]);
    let info = place.ok(&["info", "bad.mlic"]);
    assert!(info.text().contains("quality: index 255, above the model's "), "{}", info.text());
}

#[test]
fn a_truncated_stream_gives_a_picture_and_6() {
    let place = Place::new();
    let stream = place.stream();
    place.put("cut.mlic", &stream[..stream.len() - 5]);
    let ended = place.run(&["decode", "cut.mlic"]);
    assert_eq!(ended.code, 6, "{}", ended.stderr);
    ended.has_error(&[
        "incomplete picture: cut.mlic: truncated: ",
        " slices whole",
        "cut.png has the picture as far as the bytes go",
    ]);
    assert_eq!(common::png_size(&place.get("cut.png")), (48, 40, 2));
    let piped = place.run_with(&["decode", "-"], &stream[..stream.len() - 5]);
    assert_eq!((piped.code, &piped.stdout), (6, &place.get("cut.png")));
    let info = place.run(&["info", "cut.mlic"]);
    assert_eq!(info.code, 6);
    info.has_error(&["incomplete stream: cut.mlic: "]);
}

#[test]
fn a_stream_that_ends_in_its_header_is_6_without_a_picture() {
    let place = Place::new();
    let stream = place.stream();
    place.put("cut.mlic", &stream[..10]);
    place.fails(&["decode", "cut.mlic"], 6, &["cannot decode: cut.mlic: ", "truncated in the model id"]);
}

#[test]
fn a_stream_for_another_model_is_7_and_names_it() {
    let place = Place::new();
    let stream = place.stream();
    let parsed = container::parse(&stream).unwrap();
    let header = container::Header { model_id: ModelId([0xab; 6]), ..parsed.header };
    let sections: Vec<Section<'_>> = parsed.sections;
    place.put("other.mlic", &container::write(&header, parsed.payload, &sections).unwrap());
    place.fails(&["decode", "other.mlic"], 7, &["cannot decode: other.mlic: ", "abababababab", "--model PACKAGE"]);
}

#[test]
fn a_stream_beyond_the_limits_is_11_and_says_how_to_allow_it() {
    let place = Place::new();
    place.put("s.mlic", &place.stream());
    let hint = "(--max-pixels N allows more)";
    place.fails(&["decode", "s.mlic", "--max-pixels", "1919"], 11, &["cannot decode: s.mlic: ", "at most 1919 pixels", hint]);
    place.ok(&["decode", "s.mlic", "-o", "within.ppm", "--max-memory", "512M"]);
    place.fails(
        &["decode", "s.mlic", "--max-memory", "64K"],
        11,
        &["cannot decode: s.mlic: ", "(--max-memory SIZE allows more)"],
    );
    let hint_of_time = ["longer than 0.000001 s", "ended before h_s", "(--max-seconds S allows more)"];
    place.fails(&["decode", "s.mlic", "--max-seconds", "1e-6"], 11, &hint_of_time);
    assert_eq!(place.run(&["decode", "s.mlic", "--max-seconds=-1"]).code, 2);
    assert_eq!(place.run(&["decode", "s.mlic", "-o", "in-time.ppm", "--max-seconds", "600"]).code, 0);
    place.fails(&["encode", "in.ppm", "-o", "t.mlic", "--max-pixels", "1919"], 11, &["in.ppm: 48x40 is too large", hint]);
    // No limit allows so many pixels.
    place.put("huge.ppm", b"P6 65535 65535 255\n");
    for limit in ["1919", "268435456"] {
        let ended = place.run(&["encode", "huge.ppm", "--max-pixels", limit]);
        assert_eq!((ended.code, ended.stderr.contains("--max-pixels")), (3, false), "{}", ended.stderr);
        assert!(ended.stderr.contains("huge.ppm: 65535x65535 is too large"), "{}", ended.stderr);
    }
}

#[test]
fn a_model_package_that_is_none_is_8() {
    let place = Place::new();
    place.put("model", b"not a package");
    place.fails(&["encode", "in.ppm", "--model", "model"], 8, &["cannot use model: model: "]);
    place.fails(&["model", "verify", "model"], 8, &["cannot use model: model: "]);
    place.fails(&["--version", "--model", "model"], 8, &["cannot use model: model: "]);
    let package = std::fs::read(TINY).unwrap();
    place.put("cut.mlicpkg", &package[..package.len() / 2]);
    place.fails(&["info", "cut.mlicpkg"], 8, &["cannot inspect: cut.mlicpkg: model package truncated"]);
    let mut damaged = package.clone();
    damaged[package.len() / 2] ^= 1;
    place.put("bad.mlicpkg", &damaged);
    place.fails(&["info", "bad.mlicpkg"], 8, &["cannot inspect: bad.mlicpkg: model package "]);
    let piped = place.run_with(&["info", "-"], &package[..7]);
    assert_eq!(piped.code, 8, "{}", piped.stderr);
}

#[test]
fn a_model_package_that_cannot_be_read_is_3_and_named_once() {
    let place = Place::new();
    for command in [["encode", "in.ppm", "--model", "absent"].as_slice(), &["model", "verify", "absent"], &["info", "absent"]] {
        let ended = place.run(command);
        assert_eq!(ended.code, 3, "{}", ended.stderr);
        assert_eq!(ended.stderr, "mlic: error: cannot read: absent: No such file or directory (os error 2)\n");
    }
    std::fs::create_dir(place.path("folder")).unwrap();
    place.fails(&["encode", "in.ppm", "--model", "folder"], 3, &["cannot read: folder: Is a directory"]);
}

#[test]
fn exact_pixels_of_a_model_without_them_are_8() {
    let place = Place::new();
    let whole = std::fs::read(TINY).unwrap();
    let parsed = package::parse(&whole).unwrap();
    let without = parsed.sections().filter(|(kind, _)| *kind != SectionKind::ExactSynthesis);
    let without: Vec<_> = without.map(|(kind, range)| (kind, whole[range].to_vec())).collect();
    place.put("model", &package::write(&without));
    place.ok(&["encode", "in.ppm", "-o", "s.mlic", "--model", "model"]);
    let decode = ["decode", "s.mlic", "-o", "out.png", "--model", "model", "--pixels", "exact"];
    place.fails(&decode, 8, &["cannot use: --pixels exact: model tiny has no integer synthesis"]);
}

#[test]
fn output_that_exists_or_cannot_be_written_is_9() {
    let place = Place::new();
    let stream = place.stream();
    place.put("in.png", b"precious");
    place.fails(&["decode", "in.mlic"], 9, &["cannot write: in.png: the file exists", "(--force overwrites it)"]);
    assert_eq!(place.get("in.png"), b"precious");
    place.fails(&["encode", "in.ppm"], 9, &["in.mlic: the file exists"]);
    assert_eq!(place.get("in.mlic"), stream);
    place.fails(&["decode", "in.mlic", "-o", "absent/out.png"], 9, &["there is no directory `absent`"]);
    // Found before the input, which is not a stream, is read.
    place.fails(&["decode", "gray.pgm", "-o", "absent/"], 9, &["cannot write: absent/: there is no directory `absent/`"]);
    place.fails(&["encode", "in.ppm", "-o", "absent/"], 9, &["cannot write: absent/: there is no directory `absent/`"]);
    std::fs::create_dir_all(place.path("taken/in.png")).unwrap();
    place.fails(&["decode", "in.mlic", "-o", "taken", "--force"], 9, &["taken/in.png: it is a directory"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_found_before_the_work() {
    let place = Place::new();
    place.put("text.png", b"hello");
    // Found before the input, which is not a picture, is read.
    place.fails(&["encode", "text.png", "-o", "/proc/x.mlic"], 9, &["cannot write: /proc/x.mlic: "]);
}

#[test]
fn a_failure_leaves_the_old_output_in_place() {
    let place = Place::new();
    let mut stream = place.stream();
    let last = stream.len() - 1;
    stream[last] ^= 1;
    place.put("in.mlic", &stream);
    place.put("in.png", b"precious");
    place.fails(&["decode", "in.mlic", "--force"], 5, &["checksum"]);
    assert_eq!(place.get("in.png"), b"precious");
    assert!(is_file(&place.path("in.png")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_9_and_devices_are_not_replaced() {
    let place = Place::new();
    place.stream();
    place.fails(&["decode", "in.mlic", "-o", "/dev/full"], 9, &["cannot write: /dev/full: ", "No space left"]);
    place.ok(&["decode", "in.mlic", "-o", "/dev/null"]);
    assert!(!is_file(std::path::Path::new("/dev/null")));
}

#[cfg(unix)]
#[test]
fn a_limit_on_files_is_9_and_leaves_nothing() {
    let place = Place::new();
    place.stream();
    let before = place.names();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -f 1; exec \"$0\" decode in.mlic", env!("CARGO_BIN_EXE_mlic")]).current_dir(place.path(""));
    let ended = limited.output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(9), "{stderr}");
    assert!(stderr.contains("cannot write: in.png: ") && stderr.contains("File too large"), "{stderr}");
    assert_eq!(place.names(), before);
}

#[cfg(unix)]
#[test]
fn control_characters_of_a_name_do_not_reach_the_terminal() {
    let place = Place::new();
    let ended = place.run(&["encode", "a\x1b[31m\nb.png"]);
    ended.has_error(&["a\\u{1b}[31m\\nb.png"]);
}

/// A package may say anything about itself.
#[test]
fn control_characters_of_a_package_do_not_reach_the_terminal() {
    let place = Place::new();
    let whole = std::fs::read(TINY).unwrap();
    let parsed = package::parse(&whole).unwrap();
    let said = r#"{"name":"a\u001b]0;b\u0007\nok","provenance":{"made\u009b2J":"by\u007f\u001b[31m\nid: 0"}}"#;
    let section = |(kind, range): (SectionKind, std::ops::Range<usize>)| {
        (kind, if kind == SectionKind::Metadata { said.into() } else { whole[range].to_vec() })
    };
    place.put("model", &package::write(&parsed.sections().map(section).collect::<Vec<_>>()));
    let printed = |arguments: &[&str]| {
        let text = place.ok(arguments).text().to_owned();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{arguments:?}: {text:?}");
        text
    };
    let info = printed(&["model", "info", "model"]);
    assert!(info.contains("\nname: a\\u{1b}]0;b\\u{7}\\nok\n"), "{info}");
    assert!(info.contains("\nprovenance.made\\u{9b}2J: by\\u{7f}\\u{1b}[31m\\nid: 0\n"), "{info}");
    assert!(printed(&["model", "verify", "model"]).starts_with("ok: a\\u{1b}]0;b\\u{7}\\nok "));
    assert!(printed(&["--version", "--model", "model"]).contains("(model a\\u{1b}]0;b\\u{7}\\nok "));
    let json: serde_json::Value = serde_json::from_str(&printed(&["info", "model", "--json"])).unwrap();
    assert_eq!(
        (&json["name"], &json["provenance"]["made\u{9b}2J"]),
        (&"a\u{1b}]0;b\u{7}\nok".into(), &"by\u{7f}\u{1b}[31m\nid: 0".into())
    );
}
