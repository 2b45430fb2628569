//! `mlic model build` and `mlic model cost`, with the tiny checkpoint of the builder's tests.

use crate::common::{Place, TINY, png_with, ppm};

const EXPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../mlic-builder/tests/golden/tiny");

/// A place with a folder `set` of three pictures.
fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("set")).unwrap();
    (0..3).for_each(|i| place.put(&format!("set/{i}.ppm"), &ppm(64 + i, 64)));
    place
}

#[test]
fn a_build_says_what_it_made_and_of_how_much() {
    let place = place();
    let build = ["model", "build", EXPORT, "--images", "set", "-o", "new.mlicpkg", "--count", "2", "--activations", "int16"];
    let ended = place.ok(&build);
    let info = place.ok(&["model", "info", "new.mlicpkg", "--json"]).json();
    let bytes = place.get("new.mlicpkg").len();
    let [few, made] = ended.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{}", ended.stderr) };
    assert!(few.contains("2 pictures of 8256 pixels in all: the package may be poor"), "{few}");
    let expected = format!("new.mlicpkg: tiny {}, {bytes} bytes; 0 of ", info["id"].as_str().unwrap());
    assert!(made.contains(&expected), "`{expected}` is not in `{made}`");
    assert_eq!(info["provenance"]["calibration"], "2 images, 8256 pixels");
    place.fails(&build, 9, &["new.mlicpkg: the file exists and is left as it was (--force overwrites it)"]);
    let verbose = place.ok(&[&build[..], &["-v", "--force"]].concat());
    assert!(verbose.stderr.contains("calibrated on 2 images at level"), "{}", verbose.stderr);

    let cost = ["model", "cost", EXPORT, "in.ppm", "-q", "50"];
    let table = place.ok(&[&cost[..], &["--model", "new.mlicpkg"]].concat());
    assert!(table.text().starts_with("package tiny "), "{}", table.text());
    let some = place.run(&[&cost[..], &["absent.png", "--json", "--model", "new.mlicpkg"]].concat());
    let json = some.json();
    assert_eq!((some.code, &json["images"], &json["failed"][0]["path"]), (3, &1.into(), &"absent.png".into()), "{}", some.stderr);
    let none = place.run(&["model", "cost", EXPORT, "absent.png", "--json", "--model", "new.mlicpkg"]);
    let json = none.json();
    assert_eq!((none.code, &json["images"], &json["mean_bits_percent"]), (3, &0.into(), &serde_json::Value::Null), "{json}");
}

#[test]
fn a_model_of_one_rate_is_measured_once_and_large_pictures_in_the_middle() {
    let place = place();
    copy_with(&place, "\"levels\": 4", "\"levels\": 0");
    place.put("set/wide.ppm", &ppm(1100, 64));
    let build = ["model", "build", "other", "--images", "set", "-o", "one.mlicpkg", "--activations", "int16", "-j", "1"];
    let ended = place.ok(&build);
    let note = "1 of 4 pictures: only the middle 1024x1024 pixels are used of what is larger";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
    let info = place.ok(&["model", "info", "one.mlicpkg", "--json"]).json();
    assert_eq!(info["provenance"]["calibration"], format!("4 images, {} pixels", (64 + 65 + 66 + 1024) * 64));
    let cost = place.ok(&["model", "cost", "other", "in.ppm", "--json", "--model", "one.mlicpkg", "-j", "1"]);
    assert_eq!(cost.json()["qualities"].as_array().unwrap().len(), 1);
    assert!(cost.stderr.contains("5 qualities are 1 of this model"), "{}", cost.stderr);
}

/// Copies the export to a folder `other` of a place.
fn copy(place: &Place) {
    std::fs::create_dir(place.path("other")).unwrap();
    for file in ["config.json", "entropy.safetensors", "g_a.onnx", "h_a.onnx", "g_s.onnx"] {
        place.put(&format!("other/{file}"), &std::fs::read(format!("{EXPORT}/{file}")).unwrap());
    }
}

/// Copies the export like [`copy`], with `from` replaced by `to` in its configuration.
fn copy_with(place: &Place, from: &str, to: &str) {
    copy(place);
    let config = String::from_utf8(place.get("other/config.json")).unwrap();
    place.put("other/config.json", config.replace(from, to).as_bytes());
}

#[test]
fn transforms_of_another_configuration_are_refused() {
    let place = place();
    copy(&place);
    for (file, other, what) in [
        ("h_a.onnx", "g_a.onnx", "3 to 64 channels at 1/16 of the size; the configuration needs 64 to 16 at 1/4"),
        ("g_s.onnx", "h_a.onnx", "64 to 16 channels at 1/4 of the size; the configuration needs 64 to 3 at 16/1"),
    ] {
        let [own, wrong] = [file, other].map(|file| place.get(&format!("other/{file}")));
        place.put(&format!("other/{file}"), &wrong);
        place.fails(&["model", "build", "other", "--images", "set", "-o", "new.mlicpkg"], 8, &[file, what]);
        place.put(&format!("other/{file}"), &own);
    }
}

#[test]
fn a_package_is_compared_with_the_export_it_may_come_from() {
    let place = place();
    copy_with(&place, "\"tiny\"", "\"other\"");
    let cost = ["model", "cost", "other", "in.ppm", "-q", "50", "--json", "--model", TINY];
    place.fails(&cost, 8, &["cannot compare: package tiny with export other: ", "--any-name compares them"]);
    let json = place.ok(&[&cost[..], &["--any-name"]].concat()).json();
    assert_eq!(
        (&json["format"], &json["package"]["name"], &json["export"]["name"]),
        (&1.into(), &"tiny".into(), &"other".into())
    );
    if cfg!(feature = "embedded-model") {
        place.fails(&["model", "cost", EXPORT, "in.ppm", "--any-name"], 8, &["export tiny: their networks have other shapes"]);
    }
}

#[test]
fn what_cannot_be_built_is_refused_before_any_work() {
    let place = place();
    place.put("one.ppm", &ppm(1, 1));
    let fails = |more: &[&str], code: i32, texts: &[&str]| {
        place.fails(&[&["model", "build", EXPORT, "-o", "new.mlicpkg"], more].concat(), code, texts);
    };
    fails(&["--images", "one.ppm"], 3, &["cannot calibrate on: 1 pictures of 1 pixels in all: at least 4096"]);
    // No option of these commands changes a picture.
    place.put("alpha.png", &png_with(6, 8, &[9, 8, 7, 100], None));
    fails(&["--images", "alpha.png"], 3, &["the alpha channel is not opaque", "(flatten it first)"]);
    place.put("deep.png", &png_with(0, 16, &[1, 2], None));
    fails(&["--images", "deep.png"], 3, &["16 bits per sample", "(round it to 8 bits first)"]);
    fails(&["--images", "set", "--max-pixels", "4095"], 11, &["set/0.ppm: 64x64 is too large", "(--max-pixels N allows more)"]);
    fails(&["--images", "set", "absent.png"], 3, &["cannot read: absent.png: "]);
    fails(&["--images", "set", "--model", TINY], 2, &["--model: this command uses no model package"]);
    for unheeded in [["--max-memory", "1K"], ["--max-seconds", "0"], ["--backend", "cuda"]] {
        for command in
            [["model", "build", EXPORT, "-o", "new.mlicpkg", "--images", "set"].as_slice(), &["model", "cost", EXPORT, "set"]]
        {
            let ended = place.run(&[command, &unheeded[..]].concat());
            assert_eq!(ended.code, 2, "{}", ended.stderr);
            assert!(ended.stderr.contains("unexpected argument '--"), "{}", ended.stderr);
        }
    }
    let networks = ["there is no network nosuch: ", "entropy_parameters"];
    fails(&["--images", "set", "--int8-in", "nosuch"], 2, &networks);
    for wrong in [["--count", "0"], ["--budget=-1", "--quiet"], ["--budget", "nan"]] {
        let ended = place.run(&[&["model", "build", EXPORT, "-o", "new.mlicpkg", "--images", "set"], &wrong[..]].concat());
        assert_eq!(ended.code, 2, "{}", ended.stderr);
    }
}

#[test]
fn what_is_no_export_leads_on() {
    let place = place();
    place.put("checkpoint.pt", b"PK");
    std::fs::create_dir(place.path("empty")).unwrap();
    let lead = "not a folder written by models/export.py: run that on the checkpoint first";
    for export in ["checkpoint.pt", "empty"] {
        let build = ["model", "build", export, "--images", "set", "-o", "new.mlicpkg"];
        place.fails(&build, 3, &[&format!("cannot read export: {export}: {lead}")]);
    }
    place.fails(&["model", "build", "absent", "--images", "set", "-o", "new.mlicpkg"], 3, &["No such file"]);
}
