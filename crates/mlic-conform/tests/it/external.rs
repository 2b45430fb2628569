//! Decoders that are other programs: scripts that behave in every wrong way, and this program itself.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cli::{self, PROGRAM, code, complained, file, report, said, str_of, vector, vectors, verdict};
use mlic_conform::negative::packages;
use serde_json::{Value, json};
use tempfile::TempDir;

const DECODES: &str = "glyphs-64x64-q50";
const REFUSED: &str = "bad-desync";

/// A folder with a script that is called with `--package PACKAGE --stream STREAM`.
struct Script {
    root: TempDir,
    command: String,
}

impl Script {
    fn new(lines: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let command = format!("sh '{}'", file(&root, "decoder.sh", lines));
        Self { root, command }
    }

    /// A script that prints what this program prints, edited by `sed`.
    fn edited(sed: &str) -> Self {
        Self::new(&format!("'{PROGRAM}' decode --backend integer \"$@\" | sed -E '{sed}'"))
    }

    fn run(&self, arguments: &[&str]) -> (i32, Value) {
        report(&[&["--external", &self.command, "--vector", DECODES, "--vector", REFUSED], arguments].concat())
    }

    /// Verdict and reason of the vector that decodes, at level 3.
    fn decodes(&self) -> (String, String) {
        let (code, report) = self.run(&["--level", "3"]);
        let found = vector(&report, DECODES);
        assert_eq!(code == 0, report["pass"] == true);
        (found["verdict"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap_or_default().to_owned())
    }
}

fn message(members: &Value) -> Script {
    let mut message = json!({ "decoder": "test 1" });
    message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Script::new(&format!("cat <<'END'\n{message}\nEND"))
}

fn expected() -> Value {
    let manifest = cli::manifest(&cli::folder(), "smoke");
    let vectors = manifest["vectors"].as_array().unwrap();
    vectors.iter().find(|vector| vector["name"] == DECODES).unwrap()["expect"]["decodes"].clone()
}

#[test]
fn this_program_is_a_decoder_of_the_protocol() {
    let external = format!("'{PROGRAM}' decode --backend reference");
    let selected = ["--level", "3", "--vector", "bad-*", "--vector", "flat-*", "--vector", "cut-*", "-j", "2"];
    let (code, there) = report(&[&selected[..], &["--external", &external]].concat());
    assert_eq!((code, &there["pass"], &there["backend"]), (0, &json!(true), &json!("external")), "{there}");
    assert_eq!(there["command"], external);
    let decoder = there["suites"][0]["devices"]["decoder"].as_str().unwrap();
    assert!(decoder.starts_with("mlic-conform ") && decoder.ends_with(" reference"), "{decoder}");
    let (_, here) = report(&selected);
    assert!(cli::vectors(&here).len() > 20);
    for (a, b) in cli::vectors(&here).iter().zip(cli::vectors(&there)) {
        assert_eq!((&a["name"], &a["computed"]), (&b["name"], &b["computed"]));
    }
}

#[test]
fn every_level_needs_the_header() {
    assert_eq!(Script::edited("").run(&["--level", "0"]).0, 0);
    for level in ["0", "1", "2", "3", "4"] {
        let (code, report) = Script::edited(r#"s/"header":\{[^}]*\},//"#).run(&["--level", level]);
        assert_eq!((code, verdict(&report, DECODES)), (1, "not supported"), "{level}");
        assert_eq!(vector(&report, DECODES)["reason"], "not supported: the decoder does not say: header", "{level}");
    }
    let (verdict, reason) = Script::edited(r#"s/"width":64/"width":65/"#).decodes();
    assert!(verdict == "fail" && reason.contains("L0 at header, width"), "{reason}");
}

#[test]
fn wrong_digests_are_named_in_walk_order() {
    let zeros = "0".repeat(32);
    for (member, place) in [
        ("z", "L1 at z, symbols"),
        ("means", "L2 at pass 0 (slice 0 anchor), means"),
        ("scale_indices", "L2 at pass 0 (slice 0 anchor), scale_indices"),
        ("symbols", "L1 at pass 0 (slice 0 anchor), symbols"),
        ("y_hat", "L3 at y_hat"),
    ] {
        let (verdict, reason) = Script::edited(&format!(r#"s/"{member}":"[0-9a-f]*"/"{member}":"{zeros}"/"#)).decodes();
        assert!(verdict == "fail" && reason.starts_with(&format!("fail: {place}:")), "{member}: {reason}");
    }
    let (verdict, reason) = Script::edited(r#"s/"slice":0,"parity":"anchor"/"slice":0,"parity":"non-anchor"/"#).decodes();
    assert!(verdict == "fail" && reason.contains("L1 at outcome"), "{reason}");
    let (verdict, reason) = Script::edited(r#"s/,\{"slice":1,"parity":"non-anchor"[^}]*\}//"#).decodes();
    assert!(verdict == "fail" && reason.contains("expected 4 passes, got 3 passes"), "{reason}");
    let (verdict, reason) = Script::edited(r#"s/"whole_slices":null/"whole_slices":1/"#).decodes();
    assert!(verdict == "fail" && reason.contains("L1 at whole slices"), "{reason}");
}

#[test]
fn what_a_decoder_does_not_say_is_never_a_pass() {
    let y_hat = expected()["y_hat"].clone();
    let (verdict, reason) = message(&json!({ "y_hat": y_hat })).decodes();
    assert_eq!(verdict, "not supported");
    assert!(reason.contains("header, z, means, scale_indices, symbols"), "{reason}");
    // Each member missing on its own.
    for (sed, missing) in [
        (r#"s/"z":"[0-9a-f]*"/"z":null/"#, "z"),
        (r#"s/"means":"[0-9a-f]*",//"#, "means"),
        (r#"s/"scale_indices":"[0-9a-f]*",//"#, "scale_indices"),
        (r#"s/"symbols":"[0-9a-f]*"/"symbols":null/"#, "symbols"),
        (r#"s/"passes":\[.*\],"y_hat"/"y_hat"/"#, "means, scale_indices, symbols"),
        (r#"s/"y_hat":"[0-9a-f]*"/"y_hat":null/"#, "y_hat"),
    ] {
        let (verdict, reason) = Script::edited(sed).decodes();
        assert_eq!((verdict.as_str(), reason.ends_with(&format!(": {missing}"))), ("not supported", true), "{sed}: {reason}");
    }
    // Members that are present are compared all the same.
    let (verdict, reason) = message(&json!({ "y_hat": "0".repeat(32) })).decodes();
    assert!(verdict == "fail" && reason.contains("L3 at y_hat"), "{reason}");
    // A lower level does not ask for more.
    let (_, report) = Script::edited(r#"s/"means":"[0-9a-f]*",//g"#).run(&["--level", "1"]);
    assert_eq!(cli::verdict(&report, DECODES), "pass");
}

/// The expected picture as PPM, with all samples moved up by this much.
fn ppm(root: &TempDir, by: u8) -> String {
    use mlic::image::{Image, OutputFormat, ReadOptions, read_image, write_image};
    let png = std::fs::read(cli::folder().join(format!("smoke/{DECODES}.png"))).unwrap();
    let picture = read_image(&png, &ReadOptions::default()).unwrap();
    let rgb = picture.rgb.iter().map(|sample| sample.saturating_add(by)).collect();
    let picture = Image::from_rgb(picture.width, picture.height, rgb).unwrap();
    file(root, "picture.ppm", write_image(&picture, OutputFormat::Ppm).unwrap())
}

/// Verdict and reason, at level 4, of a decoder that gives everything, with its picture at this path.
fn with_picture(path: &str) -> (String, String) {
    let (_, report) = Script::edited(&format!(r#"s|^\{{|{{"picture":"{path}",|"#)).run(&["--level", "4"]);
    let found = vector(&report, DECODES);
    if found["verdict"] == "pass" {
        assert_eq!(found["computed"]["picture"]["max_difference"], 0);
    }
    (found["verdict"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_picture_is_compared_at_level_4() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(with_picture(&ppm(&root, 0)).0, "pass");
    let (verdict, reason) = with_picture(&ppm(&root, 9));
    assert!(verdict == "fail" && reason.contains("L4 at picture"), "{reason}");
    let (verdict, reason) = with_picture(&file(&root, "small.ppm", b"P6\n1 1\n255\nabc"));
    assert!(verdict == "fail" && reason.contains("(1, 1, false)"), "{reason}");
    for (name, contents) in [("none.ppm", &b"P6\n64 64\n255\n"[..]), ("huge.ppm", &[b' '; 20_000])] {
        assert_eq!(with_picture(&file(&root, name, contents)).0, "error", "{name}");
    }
    assert_eq!(with_picture(str_of(root.path())).0, "error", "a folder");
    assert_eq!(with_picture("/nonexistent.ppm").0, "error");
    let (code, report) = Script::edited("").run(&["--level", "4"]);
    assert_eq!((code, cli::verdict(&report, DECODES)), (0, "pass"), "exact pixels without a float picture");
    let (code, report) = Script::edited(r#"s/,"pixels":"[0-9a-f]*"//"#).run(&["--level", "4"]);
    assert_eq!((code, cli::verdict(&report, DECODES)), (1, "not supported"), "neither");
}

#[test]
fn a_picture_alone_is_never_a_pass() {
    let root = tempfile::tempdir().unwrap();
    let run = |path: String| message(&json!({ "picture": path })).run(&["--level", "4"]).1;
    assert_eq!(verdict(&run(ppm(&root, 0)), DECODES), "not supported");
    assert_eq!(verdict(&run(ppm(&root, 9)), DECODES), "fail");
}

#[test]
fn error_codes_are_compared() {
    let refuses = |code: &str| message(&json!({ "error": { "code": code } })).run(&["--level", "3"]).1;
    let report = refuses("desync");
    assert_eq!((verdict(&report, REFUSED), verdict(&report, DECODES)), ("pass", "fail"));
    assert!(vector(&report, DECODES)["reason"].as_str().unwrap().contains("L1 at outcome"));
    assert_eq!(vector(&report, DECODES)["computed"]["outcome"], "desync");
    let report = refuses("truncated");
    assert_eq!(verdict(&report, REFUSED), "fail");
    assert!(vector(&report, REFUSED)["reason"].as_str().unwrap().contains("expected desync, got truncated"));
    // A decoder's own failure is not a refusal of the stream.
    let report = refuses("backend");
    assert_eq!((verdict(&report, REFUSED), verdict(&report, DECODES)), ("fail", "error"));
    // Nor is a limit of its own; a difference before that is still a difference.
    for code in ["pixel-budget", "memory-budget", "time-budget"] {
        let report = refuses(code);
        assert_eq!((verdict(&report, REFUSED), verdict(&report, DECODES)), ("fail", "not supported"), "{code}");
        assert!(vector(&report, DECODES)["reason"].as_str().unwrap().ends_with(&format!("a limit of the decoder: {code}")));
    }
    let report = message(&json!({ "z": "0".repeat(32), "error": { "code": "time-budget" } })).run(&["--level", "3"]).1;
    assert_eq!(verdict(&report, DECODES), "fail");
    // A decoder that accepts what must be refused.
    let report = message(&json!({ "y_hat": "0".repeat(32) })).run(&["--level", "3"]).1;
    assert_eq!(verdict(&report, REFUSED), "fail");
}

#[test]
fn what_a_decoder_did_not_come_to_differs_from_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| str_of(&root.path().join(name)).to_owned();
    let selected = ["run", "--level", "3", "--vector", DECODES, "--format", "json", "--force", "--output"];
    let [one, other, baseline] = ["one.json", "other.json", "baseline.json"].map(path);
    assert_eq!(code(&[&selected[..], &[&one]].concat()), 0);
    for (error, verdict) in [("memory-budget", "not supported"), ("backend", "error"), ("model", "error")] {
        let script = message(&json!({ "error": { "code": error } }));
        let run = |more: &[&str]| code(&[&selected[..], &[&other, "--external", &script.command], more].concat());
        assert_eq!(run(&["--write-baseline", &baseline]), 1, "{error}");
        let (code, text) = said(&["report", &one, &other]);
        assert!(code == 1 && text.contains(verdict) && text.contains("0 of 1 vectors pass"), "{error}: {text}");
        let equal = "all digests are equal wherever they were computed; 1 runs did NOT pass";
        assert!(text.contains(&format!("1 vectors in 2 runs: {equal}")), "{error}: {text}");
        assert_eq!(run(&["--baseline", &baseline]), 0, "{error}");
        let (code, text) = complained(&["report", &one, &other]);
        assert!(code == 2 && text.contains("no vector of which two runs computed a digest"), "{error}: {text}");
    }
    // A refusal of the stream is a result.
    let script = message(&json!({ "error": { "code": "desync" } }));
    assert_eq!(code(&[&selected[..], &[&other, "--external", &script.command]].concat()), 1);
    let (code, text) = said(&["report", &one, &other]);
    assert!(code == 1 && text.contains("1 vectors with DIFFERENT digests"), "{text}");
}

#[test]
fn a_sound_package_is_taken_by_going_on_to_the_stream() {
    let run = |decoder: &str| report(&["negative", "--external", decoder, "--vector", "package-sound*"]).1;
    for (code, verdict) in [("truncated", "pass"), ("model", "fail"), ("desync", "fail")] {
        let report = run(&message(&json!({ "error": { "code": code } })).command);
        assert_eq!(vectors(&report).len(), packages().filter(|case| case.code.is_none()).count());
        assert!(vectors(&report).iter().all(|vector| vector["verdict"] == verdict), "{code}: {report}");
    }
    assert_eq!(run(&format!("{PROGRAM} decode --backend integer"))["pass"], true);
}

/// The name of a script is taken as a whole, and this program does not know what a script runs on.
#[test]
fn a_program_is_its_whole_name_and_the_host_is_the_judges() {
    let script = message(&json!({ "error": { "code": "desync" } }));
    let path = str_of(&script.root.path().join("dec")).to_owned();
    std::fs::write(&path, "").unwrap();
    let (code, text) = complained(&["run", "--external", &format!("{path}.py")]);
    assert!(code == 3 && text.contains("dec.py"), "{text}");
    let (_, report) = script.run(&[]);
    assert!(report["host"]["arch"].is_string() && report["host"]["instruction_set"].is_null(), "{report}");
    let text = said(&["run", "--external", &script.command, "--vector", REFUSED]).1;
    assert!(text.contains(&format!(", judged on {} {}\n", std::env::consts::ARCH, std::env::consts::OS)), "{text}");
}

#[test]
fn a_decoder_need_not_read_what_encoders_alone_need() {
    let run = |code: &str| {
        let script = message(&json!({ "error": { "code": code } }));
        let arguments =
            ["negative", "--external", &script.command, "--vector", "package-*metadata", "--vector", "package-bit-weights"];
        report(&arguments).1
    };
    let names = ["package-metadata", "package-bit-metadata", "package-bit-weights"];
    for (code, verdicts) in [
        ("truncated", ["not supported", "not supported", "fail"]),
        ("model", ["pass"; 3]),
        ("desync", ["fail"; 3]),
        ("bad-package", ["fail"; 3]),
    ] {
        let report = run(code);
        assert_eq!(names.map(|name| verdict(&report, name)), verdicts, "{code}");
    }
}

#[test]
fn what_is_no_message_is_an_error() {
    for (lines, says) in [
        ("echo nonsense", "no message of the protocol"),
        ("true", "no message of the protocol"),
        (r#"echo '{"decoder": "test 1"}'"#, "neither an error nor anything decoded"),
        (r#"echo '{"decoder": "test 1", "error": {"code": "desync"}} {}'"#, "no message of the protocol"),
        (r#"echo '{"decoder": "test 1", "y-hat": ""}'"#, "y-hat"),
        (r#"printf '{"decoder": "\\u001b[31m", "error": {"code": "desync"}}'"#, "control characters"),
        (r"printf '\377\376'", "no message of the protocol"),
        (
            r#"echo '{"decoder": "test 1", "error": {"code": "desync"}}'; printf 'on \033fire' >&2; exit 3"#,
            "exit status: 3: on  fire",
        ),
        ("kill -9 $$", "signal: 9"),
    ] {
        let (verdict, reason) = Script::new(lines).decodes();
        let says = says.replace("  ", " ");
        assert!(verdict == "error" && reason.contains(&says), "{lines}: {verdict}: {reason}");
    }
}

#[test]
fn endless_output_is_cut_off() {
    for lines in ["exec yes", "yes | cat", "yes >&2 & exec yes"] {
        let start = Instant::now();
        let (verdict, reason) = Script::new(lines).decodes();
        assert!(verdict == "error" && reason.contains("more than 1048576 bytes"), "{reason}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_noisy_standard_error_does_not_block() {
    let script = Script::new(&format!("head -c 5000000 /dev/zero >&2; '{PROGRAM}' decode --backend integer \"$@\""));
    assert_eq!(script.decodes().0, "pass");
}

fn is_running(pid: &str) -> bool {
    // A zombie that init has not collected yet is not running either.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    let alive = Command::new("kill").args(["-0", pid]).output().unwrap().status.success();
    alive && state.as_deref() != Some("Z")
}

#[test]
fn a_decoder_that_hangs_is_killed_with_what_it_started() {
    // A decoder that hangs, one that hangs with its output closed, and one that leaves its output to a child that hangs, without and with a message.
    let says = format!("'{PROGRAM}' decode --backend integer \"$@\"; sleep 600 & echo $! > PID");
    for (lines, timeout, expected) in [
        ("sleep 600 & echo $! > PID; wait", "1", "timeout"),
        ("exec >&- 2>&-; sleep 600 & echo $! > PID; wait", "1", "timeout"),
        ("sleep 600 & echo $! > PID", "500", "error"),
        (says.as_str(), "500", "pass"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let pid = root.path().join("pid");
        let script = Script::new(&lines.replace("PID", str_of(&pid)));
        let arguments = ["--external", &script.command, "--vector", DECODES, "--timeout", timeout, "--level", "3"];
        let start = Instant::now();
        let (_, report) = report(&arguments);
        assert_eq!(verdict(&report, DECODES), expected, "{lines}");
        assert!(start.elapsed() < Duration::from_secs(60), "{lines}: it ended, and its vector did not");
        let pid = std::fs::read_to_string(pid).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_running(pid.trim()) {
            assert!(Instant::now() < deadline, "{lines}: {pid} still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_signal_ends_the_decoder_and_leaves_no_folder() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        // Ignored here, and so by child processes.
        if mlic_output::is_ignored(number) {
            eprintln!("not run: {signal} is ignored here");
            continue;
        }
        let (root, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pid = kept.path().join("pid");
        let script = Script::new(&format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", str_of(&pid)));
        let arguments = ["run", "--external", &script.command, "--vector", DECODES];
        let mut child = Command::new(PROGRAM).args(arguments).env("TMPDIR", root.path()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !pid.exists() {
            assert!(Instant::now() < deadline, "the decoder was not started");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        let pid = std::fs::read_to_string(pid).unwrap();
        while is_running(pid.trim()) {
            assert!(Instant::now() < deadline, "{signal}: {pid} still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_signal_stays_ignored() {
    let kept = tempfile::tempdir().unwrap();
    let done = kept.path().join("done");
    let script =
        Script::new(&format!("kill -HUP $PPID; sleep 0.2; touch {}; '{PROGRAM}' decode --backend integer \"$@\"", str_of(&done)));
    let line = format!("trap '' HUP; exec '{PROGRAM}' run --external \"$0\" --vector {DECODES} --level 3");
    let output = Command::new("sh").args(["-c", &line, &script.command]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(done.exists());
}

#[test]
fn files_are_handed_over_whole_and_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let kept_path = str_of(kept.path());
    let script = Script::new(&format!(
        "cp \"$2\" {kept_path}/package; cp \"$4\" {kept_path}/stream; test \"$1 $3\" = '--package --stream'"
    ));
    let arguments = ["run", "--external", &script.command, "--vector", DECODES];
    let output = Command::new(PROGRAM).args(arguments).env("TMPDIR", root.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no message of the protocol") && text.contains("; nothing was printed"), "{text}");
    let same = |a: &str, b: &str| std::fs::read(kept.path().join(a)).unwrap() == std::fs::read(cli::folder().join(b)).unwrap();
    assert!(same("package", "models/tiny.mlicpkg") && same("stream", &format!("smoke/{DECODES}.mlic")));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    assert!(script.root.path().exists());
}

#[test]
fn a_program_that_is_not_there_is_found_out_before_anything_runs() {
    for program in ["/nope", "./nope", "no-such-program-anywhere"] {
        let output = Command::new(PROGRAM).args(["run", "--external", program]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{text}");
        assert!(text.contains(&format!("there is no program {program}")), "{text}");
    }
}

#[test]
fn what_is_no_message_is_shown() {
    let (verdict, reason) = Script::new("echo 'Traceback: it is broken'").decodes();
    assert!(verdict == "error" && reason.contains("it begins with `Traceback: it is broken`"), "{reason}");
}

#[test]
fn wrong_usage_gives_2() {
    assert_eq!(code(&["run", "--external", ""]), 2);
    assert_eq!(code(&["run", "--external", "'unclosed"]), 2);
    assert_eq!(code(&["run", "--external", "true", "--backend", "integer"]), 2);
    assert_eq!(code(&["run", "--timeout", "0"]), 2);
    assert_eq!(code(&["decode", "--package", "x"]), 2);
}

#[test]
fn decode_says_what_it_refuses_and_fails_without_files() {
    let path = |name: &str| cli::folder().join(name).to_str().unwrap().to_owned();
    let (package, stream) = (path("models/tiny.mlicpkg"), path(&format!("smoke/{DECODES}.mlic")));
    let decode =
        |package: &str, stream: &str| said(&["decode", "--package", package, "--stream", stream, "--backend", "integer"]);
    let (code, text) = decode(&package, &stream);
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &message["y_hat"], &message["header"]), (0, &expected()["y_hat"], &expected()["header"]));
    let (code, text) = decode(&stream, &stream);
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &message["error"]["code"]), (0, &json!("model")));
    assert_eq!(decode(&package, "/nonexistent").0, 3);
    assert_eq!(decode("/nonexistent", &stream).0, 3);
}

#[test]
fn messages_may_come_from_elsewhere() {
    let kept = tempfile::tempdir().unwrap();
    let script = cli::folder().join("offline.sh");
    let command = format!("sh '{}' '{}'", str_of(&script), str_of(kept.path()));
    let arguments = ["smoke", "--level", "3", "--vector", "flat-*", "--vector", REFUSED, "--external", &command];
    let (code, report) = report(&arguments);
    assert!(code == 1 && vectors(&report).iter().all(|vector| vector["verdict"] == "error"), "{report}");
    let names = || kept.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let streams: Vec<_> = names().filter(|path| path.extension().is_some_and(|extension| extension == "mlic")).collect();
    assert_eq!((streams.len(), names().count()), (vectors(&report).len(), streams.len() + 1), "all of one package");
    for stream in streams {
        let package = str_of(&stream).rsplit_once('-').unwrap().0.to_owned() + ".mlicpkg";
        let decoded = cli::conform(&["decode", "--backend", "integer", "--package", &package, "--stream", str_of(&stream)]);
        std::fs::write(stream.with_extension("json"), decoded.stdout).unwrap();
    }
    let (code, report) = crate::cli::report(&arguments);
    assert_eq!(code, 0, "{report}");
}
