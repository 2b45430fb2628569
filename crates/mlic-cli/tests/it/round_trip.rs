//! What works: names, formats, pipes, metadata, information, measurement.

use std::collections::BTreeMap;

use crate::common::{Place, TINY, pgm, png_size, png_with, ppm};
use mlic_core::container::{self, Section, SectionKind};
use mlic_model::package;

#[test]
fn names_follow_the_input_and_pictures_keep_their_size() {
    let place = Place::new();
    let ended = place.ok(&["encode", "in.ppm"]);
    assert_eq!((ended.stdout.as_slice(), ended.stderr.as_str()), (b"".as_slice(), ""));
    place.ok(&["decode", "in.mlic"]);
    assert_eq!(png_size(&place.get("in.png")), (48, 40, 2));
    place.ok(&["decode", "in.mlic", "-o", "out.pnm"]);
    assert!(place.get("out.pnm").starts_with(b"P6\n48 40\n255\n"));
    assert_eq!(place.get("out.pnm").len(), ppm(48, 40).len());
    assert_eq!(place.names(), ["gray.pgm", "in.mlic", "in.png", "in.ppm", "out.pnm"]);
}

#[test]
fn gray_stays_gray() {
    let place = Place::new();
    place.ok(&["encode", "gray.pgm", "-q", "80"]);
    place.ok(&["decode", "gray.mlic"]);
    assert_eq!(png_size(&place.get("gray.png")), (40, 33, 0));
    place.ok(&["decode", "gray.mlic", "-o", "out.pgm"]);
    assert_eq!(place.get("out.pgm").len(), pgm(40, 33).len());
}

#[test]
fn pipes_carry_the_same_bytes_as_files() {
    let place = Place::new();
    let stream = place.stream();
    place.ok(&["decode", "in.mlic"]);
    let piped = place.run_with(&["encode", "-"], &ppm(48, 40));
    assert_eq!((piped.code, &piped.stdout), (0, &stream));
    let piped = place.run_with(&["decode", "-", "-o", "-"], &stream);
    assert_eq!((piped.code, &piped.stdout), (0, &place.get("in.png")));
    let piped = place.run_with(&["decode", "-", "--format", "ppm"], &stream);
    assert!(piped.stdout.starts_with(b"P6\n48 40\n255\n"));
    assert_eq!(place.run_with(&["info", "-"], &stream).stdout, place.ok(&["info", "in.mlic"]).stdout);
}

#[test]
fn threads_and_repetition_change_nothing() {
    let place = Place::new();
    let stream = place.stream();
    place.ok(&["-j", "1", "encode", "in.ppm", "-o", "one.mlic"]);
    place.ok(&["encode", "in.ppm", "-o", "three.mlic", "-j", "3"]);
    assert_eq!(place.get("one.mlic"), stream);
    assert_eq!(place.get("three.mlic"), stream);
}

#[test]
fn an_unknown_instruction_set_is_told_once_where_networks_run() {
    let place = Place::new();
    let stderr = |arguments: &[&str]| {
        let ended = place.command(arguments).env("MLIC_CPU", "nonsense").output().unwrap();
        assert!(ended.status.success());
        String::from_utf8(ended.stderr).unwrap()
    };
    let warning = stderr(&["encode", "in.ppm", "gray.pgm"]);
    assert!(warning.starts_with("mlic: warning: MLIC_CPU=nonsense is not one of scalar, "), "{warning}");
    assert_eq!(warning.lines().count(), 1, "{warning}");
    assert_eq!(stderr(&["info", "in.mlic"]), "");
}

#[test]
fn several_inputs_are_each_tried_and_the_first_failure_counts() {
    let place = Place::new();
    std::fs::create_dir(place.path("out.d")).unwrap();
    place.put("bad.png", b"no picture");
    let ended = place.run(&["encode", "in.ppm", "bad.png", "absent.png", "gray.pgm", "-o", "out.d"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
    assert_eq!(place.get("out.d/in.mlic"), place.stream());
    place.put("out.d/no.mlic", b"no stream");
    let ended = place.run(&["decode", "out.d/no.mlic", "out.d/absent.mlic", "out.d/in.mlic", "out.d/gray.mlic"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    place.ok(&["decode", "in.mlic", "-o", "out.d", "--force"]);
    place.ok(&["decode", "out.d/gray.mlic", "-o", "out.d", "--format", "ppm"]);
    assert_eq!(png_size(&place.get("out.d/in.png")), (48, 40, 2));
    assert_eq!(png_size(&place.get("out.d/gray.png")), (40, 33, 0));
    assert!(place.get("out.d/gray.ppm").starts_with(b"P5"));
}

#[test]
fn directories_stand_for_their_files() {
    let place = Place::new();
    for folder in ["set", "streams", "pictures"] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    place.put("set/a.ppm", &ppm(48, 40));
    place.put("set/b.PGM", &pgm(40, 33));
    place.put("set/readme.txt", b"no picture");
    place.ok(&["encode", "set", "in.ppm", "-o", "streams"]);
    place.put("streams/readme.txt", b"no stream");
    place.ok(&["decode", "streams", "-o", "pictures"]);
    assert_eq!(png_size(&place.get("pictures/a.png")), (48, 40, 2));
    assert_eq!(png_size(&place.get("pictures/b.png")), (40, 33, 0));
    assert_eq!(place.get("pictures/in.png"), place.get("pictures/a.png"));
    assert_eq!(place.path("pictures").read_dir().unwrap().count(), 3);
}

#[test]
fn eval_goes_on_after_a_picture_that_cannot_be_read() {
    let place = Place::new();
    place.put("bad.png", b"no picture");
    let ended = place.run(&["eval", "--json", "bad.png", "in.ppm", "absent.png", "-q", "50", "-j", "2"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("mlic: error: cannot read: ")).count(), 2, "{}", ended.stderr);
    let json = ended.json();
    assert_eq!((&json["format"], &json["threads"], &json["images"][0]["path"]), (&1.into(), &2.into(), &"in.ppm".into()));
    assert_eq!(json["means"][0]["bpp"], json["images"][0]["points"][0]["bpp"]);
    let failed: Vec<_> = json["failed"].as_array().unwrap().iter().map(|failed| failed["path"].as_str().unwrap()).collect();
    assert_eq!(failed, ["bad.png", "absent.png"]);
    assert_ne!(json["backend"], "auto");
    let none = place.run(&["eval", "bad.png"]);
    assert_eq!((none.code, none.stdout.as_slice()), (3, b"".as_slice()));
    none.has_error(&["bad.png: not a PNG"]);
    let none = place.run(&["eval", "bad.png", "--json"]);
    assert_eq!(none.code, 3);
    let json = none.json();
    assert_eq!((&json["images"], &json["means"], &json["format"]), (&serde_json::json!([]), &serde_json::json!([]), &1.into()));
    assert_eq!(json["failed"][0]["path"], "bad.png");
}

#[test]
fn force_overwrites_and_leaves_nothing_else() {
    let place = Place::new();
    place.put("out.mlic", b"precious");
    place.ok(&["encode", "in.ppm", "-o", "out.mlic", "--force"]);
    assert_eq!(place.get("out.mlic"), place.stream());
    assert_eq!(place.names(), ["gray.pgm", "in.mlic", "in.ppm", "out.mlic"]);
}

#[test]
fn exif_travels_through_the_stream() {
    let place = Place::new();
    place.put("in.png", &png_with(2, 8, &[9, 8, 7], Some((b"eXIf", b"II*\0turned left"))));
    place.ok(&["encode", "in.png"]);
    assert_eq!(place.ok(&["info", "--json", "in.mlic"]).json()["sections"]["exif_bytes"], 15);
    place.ok(&["decode", "in.mlic", "-o", "out.png"]);
    assert!(place.get("out.png").windows(19).any(|w| w == b"eXIfII*\0turned left"));
    let ended = place.ok(&["decode", "in.mlic", "-o", "out.ppm"]);
    assert_eq!(ended.stderr, "mlic: note: out.ppm: EXIF left out: ppm cannot carry it\n");
    let turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    place.put("turned.png", &png_with(2, 8, &[9, 8, 7], Some((b"eXIf", turned))));
    place.ok(&["encode", "turned.png"]);
    let ended = place.ok(&["decode", "turned.mlic", "--format", "ppm"]);
    assert!(ended.stderr.ends_with("cannot carry it; it has the orientation: the picture may lie on its side\n"));
    let strip = |name: &str, out: &str| place.ok(&["decode", name, "-o", out, "--metadata", "strip"]).stderr;
    assert_eq!(strip("in.mlic", "bare.png"), "");
    let lost = "mlic: note: turned.mlic: EXIF left out; it has the orientation: the picture may lie on its side\n";
    assert_eq!(strip("turned.mlic", "turned-bare.png"), lost);
    let mut profiled = place.get("in.mlic");
    let parsed = container::parse(&profiled).unwrap();
    let profile = Section { kind: SectionKind::ICC, bytes: b"profile" };
    profiled = container::write(&parsed.header, parsed.payload, &[profile]).unwrap();
    place.put("profiled.mlic", &profiled);
    let lost = "mlic: note: profiled.mlic: ICC profile left out: the colours will be taken for those of sRGB\n";
    assert_eq!(strip("profiled.mlic", "profiled.png"), lost);
    let ended = place.ok(&["encode", "in.png", "-o", "bare.mlic", "--metadata", "strip"]);
    assert_eq!(ended.stderr, "");
    let ended = place.ok(&["encode", "turned.png", "-o", "turned-bare.mlic", "--metadata", "strip"]);
    assert_eq!(ended.stderr, "mlic: note: turned.png: EXIF left out; it has the orientation: the picture may lie on its side\n");
    assert_eq!(place.ok(&["info", "--json", "bare.mlic"]).json()["sections"], serde_json::json!({}));
}

#[test]
fn leave_to_change_a_picture_is_taken_and_noted() {
    let place = Place::new();
    place.put("alpha.png", &png_with(6, 8, &[9, 8, 7, 100], None));
    let ended = place.ok(&["encode", "alpha.png", "--background", "ffffff"]);
    assert_eq!(ended.stderr, "mlic: note: alpha.png: alpha flattened onto #ffffff\n");
    place.put("deep.png", &png_with(0, 16, &[1, 2], None));
    assert_eq!(place.ok(&["encode", "deep.png", "--reduce-depth", "--quiet"]).stderr, "");
    place.put("opaque.png", &png_with(6, 8, &[9, 8, 7, 255], None));
    assert!(place.ok(&["encode", "opaque.png"]).stderr.contains("opaque everywhere: left out"));
}

#[test]
fn info_names_the_header_and_the_model() {
    let place = Place::new();
    let len = place.stream().len();
    let json = place.ok(&["info", "--json", "in.mlic"]).json();
    assert_eq!((&json["kind"], &json["width"], &json["height"]), (&"stream".into(), &48.into(), &40.into()));
    assert_eq!(json["format"], 1);
    assert_eq!((&json["bytes"], &json["gray"], &json["damage"]), (&len.into(), &false.into(), &serde_json::Value::Null));
    let version = place.ok(&["--version"]);
    assert!(version.text().starts_with("mlic "));
    assert!(version.text().contains(json["model"].as_str().unwrap()), "{}", version.text());
    assert_eq!((&json["quality"], &json["quality_percent"]), (&100.into(), &50.0.into()));
    let text = place.ok(&["info", "in.mlic"]);
    assert!(text.text().contains("\nwidth: 48\n"), "{}", text.text());
    assert!(text.text().contains("\nquality: 50 (index 100 of 200)\n"), "{}", text.text());
    let elsewhere = place.ok(&["info", "--json", "in.mlic", "--model", TINY]).json();
    assert_eq!((&elsewhere["quality"], &elsewhere["quality_percent"]), (&100.into(), &serde_json::Value::Null));
    let model = place.ok(&["model", "info", "--json"]).json();
    assert_eq!(model["id"], json["model"]);
    assert!(place.ok(&["model", "verify"]).text().starts_with("ok: "));
}

#[test]
fn info_of_several_files_goes_on_after_those_that_are_damaged_or_absent() {
    let place = Place::new();
    let mut damaged = place.stream();
    *damaged.last_mut().unwrap() ^= 1;
    place.put("bad.mlic", &damaged);
    let files = ["info", "in.mlic", "bad.mlic", "absent.mlic", TINY];
    let ended = place.run(&[&files[..], &["--json"]].concat());
    assert_eq!((ended.code, ended.stderr.lines().count()), (5, 2), "{}", ended.stderr);
    let json = ended.json();
    let paths = |list: &str| json[list].as_array().unwrap().iter().map(|file| file["path"].clone()).collect::<Vec<_>>();
    assert_eq!(paths("files"), ["in.mlic", "bad.mlic", TINY]);
    assert_eq!(paths("failed"), ["bad.mlic", "absent.mlic"]);
    assert_eq!(
        (&json["format"], &json["files"][0]["width"], &json["files"][2]["kind"]),
        (&1.into(), &48.into(), &"model".into())
    );
    let text = place.run(&files);
    assert!(
        text.text().starts_with("path: in.mlic\nkind: stream\nwidth: 48\n") && text.text().contains("\n\npath: bad.mlic\n"),
        "{}",
        text.text()
    );
}

#[test]
fn info_reads_packages_from_files_and_pipes() {
    let place = Place::new();
    let package = std::fs::read(TINY).unwrap();
    let known = place.ok(&["model", "info", TINY, "--json"]);
    assert_eq!(place.ok(&["info", TINY, "--json"]).json(), known.json());
    assert_eq!(place.run_with(&["info", "-"], &package).stdout, place.ok(&["info", TINY]).stdout);
    assert!(place.run_with(&["model", "verify", "-"], &package).text().starts_with("ok: tiny "));
}

#[test]
fn the_float_synthesis_may_be_the_integer_one() {
    let place = Place::new();
    let model = mlic::Model::open(TINY).unwrap();
    let parsed = package::parse(model.as_bytes()).unwrap();
    let section = |(kind, range): (package::SectionKind, std::ops::Range<usize>)| {
        (kind, if kind == package::SectionKind::Synthesis { Vec::new() } else { model.as_bytes()[range].to_vec() })
    };
    place.put("one", &package::write(&parsed.sections().map(section).collect::<Vec<_>>()));
    place.put("both", model.as_bytes());
    for (name, form) in [("one", "of the integer synthesis"), ("both", "float")] {
        let info = place.ok(&["model", "info", name, "--json"]).json();
        assert_eq!(info["transforms"]["g_s"]["form"], form);
        assert_eq!(info["transforms"]["exact g_s"]["layers_of_bytes"], 0);
        assert!(place.ok(&["model", "verify", name]).text().ends_with(&format!("g_s {form}\n")));
        place.ok(&["encode", "in.ppm", "-o", "in.mlic", "--force", "--model", name]);
        for pixels in ["exact", "float"] {
            let out = format!("{name}-{pixels}.ppm");
            place.ok(&["decode", "in.mlic", "-o", &out, "--model", name, "--pixels", pixels]);
        }
    }
    assert_eq!(place.get("one-exact.ppm"), place.get("both-exact.ppm"));
    let (one, both) = (place.get("one-float.ppm"), place.get("both-float.ppm"));
    let differences = one.iter().zip(&both).map(|(a, b)| a.abs_diff(*b));
    assert!(one != place.get("one-exact.ppm") && differences.max() <= Some(1), "the same picture, about");
}

#[test]
fn verbose_tells_sizes_and_times_on_standard_error() {
    let place = Place::new();
    let ended = place.ok(&["-v", "encode", "in.ppm"]);
    assert!(ended.stdout.is_empty());
    assert!(ended.stderr.contains("in.ppm: 48x40, quality 50 (index 100 of 200)\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(" bpp, "), "{}", ended.stderr);
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let place = Place::new();
    let help = place.ok(&["--help"]);
    for text in ["encode", "decode", "info", "eval", "model", "10  backend not available", "6  truncated stream"] {
        assert!(help.text().contains(text), "{text}");
    }
    let help = place.ok(&["encode", "--help"]);
    assert!(help.text().contains("At the same -q the stream is larger and the picture better"), "{}", help.text());
    for command in [["decode"].as_slice(), &["model", "verify"]] {
        let help = place.ok(&[command, &["--help"]].concat());
        assert!(help.text().contains("Common options:") && help.text().contains("10  backend not available"), "{}", help.text());
    }
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let place = Place::new();
    place.stream();
    for arguments in
        [["info", "in.mlic"].as_slice(), &["decode", "in.mlic", "-o", "-"], &["--help"], &["eval", "in.ppm", "-q", "50"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(arguments).stdout(writer).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panick"), "{stderr}");
        assert!(!stderr.contains("error"), "{stderr}");
        let code = if arguments[0] == "decode" { 9 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    }
}

const ANCHOR: &str = r#"{"_about": "x", "codecs": {
    "near": {"bpp": [0.01, 1, 10, 100], "psnr_rgb": [1, 20, 50, 90]},
    "far": {"bpp": [1, 2, 3, 4], "psnr_rgb": [901, 902, 903, 904]}}}"#;

#[test]
fn eval_measures_files_and_directories() {
    let place = Place::new();
    std::fs::create_dir(place.path("set")).unwrap();
    place.put("set/a.ppm", &ppm(176, 164));
    place.put("set/readme.txt", b"no picture");
    place.put("anchor.json", ANCHOR.as_bytes());
    let arguments = ["eval", "--json", "set", "in.ppm", "-q", "90,0,30,60", "--anchor", "anchor.json"];
    let json = place.ok(&arguments).json();
    let images = json["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0]["path"], "set/a.ppm");
    let means = json["means"].as_array().unwrap();
    assert_eq!(means.len(), 4);
    for pair in means.windows(2) {
        assert!(pair[0]["bpp"].as_f64().unwrap() < pair[1]["bpp"].as_f64().unwrap(), "{pair:?}");
    }
    for point in images.iter().flat_map(|image| image["points"].as_array().unwrap()) {
        let parts: BTreeMap<_, _> = point["bits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p["part"].as_str().unwrap(), p["bits"].as_f64().unwrap()))
            .collect();
        assert!(parts.values().all(|bits| *bits >= 0.0), "{parts:?}");
        // Bits that the symbols do not account for: the state of one lane, 48 bits of which symbols may fill 16, and rounding.
        assert!((31.5..48.5).contains(&parts["rans"]), "{parts:?}");
    }
    assert!(images[0]["points"][0]["ms_ssim"].is_f64());
    assert!(images[1]["points"][0]["ms_ssim"].is_null() && means[0]["ms_ssim"].is_null());
    let rates = json["bd_rates"].as_array().unwrap();
    assert_eq!((&rates[0]["anchor"], &rates[1]["anchor"]), (&"far".into(), &"near".into()));
    assert!(rates[0]["error"].as_str().unwrap().contains("no common quality"));
    assert!(rates[1]["percent"].is_f64(), "{}", rates[1]);
}

#[test]
fn eval_prints_a_table() {
    let place = Place::new();
    place.put("anchor.json", ANCHOR.as_bytes());
    let ended = place.ok(&["eval", "in.ppm", "gray.pgm", "-q", "10,90", "--anchor", "anchor.json", "--anchor-codec", "near"]);
    for text in ["in.ppm", "48x40", "mean of 2", "MS-SSIM", "near: none: 2 rate-distortion points of the test"] {
        assert!(ended.text().contains(text), "`{text}` is not in\n{}", ended.text());
    }
    assert!(!ended.text().contains("far:") && !ended.text().contains("at q 90"));
    assert!(place.ok(&["eval", "in.ppm", "-q", "90", "-v"]).text().contains("at q 90"));
}

#[test]
fn a_size_is_reached_by_quality() {
    let place = Place::new();
    let quality = |name: &str| place.ok(&["info", "--json", name]).json()["quality"].as_u64().unwrap();
    place.ok(&["encode", "in.ppm", "-q", "60", "-o", "own.mlic"]);
    let len = place.get("own.mlic").len();
    for (limit, name) in [(len, "same.mlic"), (len - 1, "less.mlic"), (usize::MAX, "most.mlic")] {
        place.ok(&["encode", "in.ppm", "--target-size", &limit.to_string(), "-o", name]);
        assert!(place.get(name).len() <= limit);
        let percent = (quality(name) as f64 / 2.0).to_string();
        place.ok(&["encode", "in.ppm", "-q", &percent, "-o", "alone.mlic", "--force"]);
        assert_eq!(place.get("alone.mlic"), place.get(name), "quality {percent} of a search");
    }
    assert!(quality("same.mlic") >= 120 && quality("less.mlic") < quality("same.mlic") && quality("most.mlic") == 200);
    let least = place.ok(&["encode", "in.ppm", "-q", "0", "-o", "-"]).stdout.len();
    let cause = format!("cannot encode: in.ppm: {least} bytes at the lowest quality: at most 20 are wanted");
    place.fails(&["encode", "in.ppm", "--target-size", "20", "-o", "none.mlic"], 11, &[&cause]);
    place.ok(&["encode", "in.ppm", "--target-size", "100000", "--model", TINY, "-o", "fixed.mlic"]);
}
