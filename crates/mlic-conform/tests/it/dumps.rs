//! Two decodings number by number, on two backends or against a file.

use crate::cli::{code, complained, file, said, str_of};

const VECTOR: &str = "glyphs-64x64-q50";

fn explain(arguments: &[&str]) -> (i32, String) {
    said(&[&["explain", VECTOR, "--backend", "integer"], arguments].concat())
}

/// The dump of a decoding, and the folder that it is in.
fn dump() -> (tempfile::TempDir, String, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("dump").to_str().unwrap().to_owned();
    let (code, text) = explain(&["--write-dump", &path]);
    assert_eq!((code, text.as_str()), (0, "15 tensors of the decoding on integer\n"));
    let bytes = std::fs::read(&path).unwrap();
    (root, path, bytes)
}

#[test]
fn two_backends_are_compared() {
    let (code, text) = explain(&["--against", "reference"]);
    assert!(code == 0 && text.contains("no number differs in the 15 tensors that integer and reference both have"), "{text}");
    let (code, text) = said(&["explain", "bad-magic", "--backend", "integer"]);
    assert!(code == 0 && text.contains("integer ended in") && text.contains("reference ended in"), "{text}");
}

/// The digests of the suites are those of the last step of each decision.
#[test]
fn steps_are_shown_by_name_and_digest() {
    let (code, text) = said(&["trace", VECTOR]);
    assert_eq!(code, 0);
    assert_eq!(said(&["trace", VECTOR, "--backend", "integer", "-j", "1"]), (0, text.clone()));
    let names: Vec<&str> = text.lines().map(|line| line.splitn(3, "  ").nth(2).unwrap()).collect();
    assert_eq!(names[..3], ["z", "quantizer of z", "h_s.conv0"]);
    assert!(names.contains(&"slice1.local_context.queries, in slice 1 non-anchor"), "{names:?}");
    let (code, text) = said(&["trace", VECTOR, "--values", "h_s.out"]);
    let values: Vec<&str> = text.lines().filter(|line| line.starts_with("  row ")).collect();
    let step = text.lines().find(|line| line.ends_with("  h_s.out")).unwrap();
    let [height, width, channels]: [usize; 3] =
        [0, 1, 2].map(|i| step.split("  ").nth(1).unwrap().split('x').nth(i).unwrap().parse().unwrap());
    assert_eq!((code, values.len()), (0, height * width));
    let bytes: Vec<i32> =
        values.iter().flat_map(|line| line.split(": ").nth(1).unwrap().split(' ').map(|v| v.parse().unwrap())).collect();
    assert_eq!(bytes.len(), height * width * channels);
    assert!(step.starts_with(&mlic_backend::digest::Digest::of_i32(&bytes).to_string()));
    assert_eq!(code_of_trace(&["--values", "h_s.nothing"]), 2);
    let (code, text) = said(&["trace", "bad-desync"]);
    assert!(code == 0 && text.lines().last().unwrap().starts_with("ended in: desync"), "{text}");
}

fn code_of_trace(arguments: &[&str]) -> i32 {
    code(&[&["trace", VECTOR], arguments].concat())
}

#[test]
fn a_dump_that_is_there_is_replaced_by_force_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = file(&root, "dump", "what was there");
    let write = ["explain", VECTOR, "--backend", "integer", "--write-dump", &path];
    let (code, text) = complained(&write);
    assert!(code == 3 && text.contains("dump: the file exists and is left as it was (--force overwrites it)"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
    assert_eq!(said(&[&write[..], &["--force"]].concat()).0, 0);
    assert!(std::fs::read(&path).unwrap().starts_with(b"MLICDUMP"));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "no temporary file is left");
    assert_eq!(code_of(&["--force"]), 2);
}

#[test]
fn a_dump_compares_equal_with_its_own_decoding() {
    let (_root, path, bytes) = dump();
    assert_eq!(&bytes[..12], b"MLICDUMP\x01\0\0\0");
    let (code, text) = explain(&["--dump", &path]);
    assert!(code == 0 && text.contains("no number differs in the 15 tensors"), "{text}");
}

#[test]
fn a_differing_number_is_named_with_both_values() {
    let (root, _, bytes) = dump();
    // The last value of y_hat: 4 x 4 positions. The record of the pixels follows it.
    let mut last = bytes.clone();
    let at = bytes.len() - (8 + 3 * 64 * 64) - 4;
    let value = i32::from_le_bytes(last[at..at + 4].try_into().unwrap());
    last[at..at + 4].copy_from_slice(&(value + 7).to_le_bytes());
    let (code, text) = explain(&["--dump", &file(&root, "last", last)]);
    assert!(code == 1 && text.contains("first difference: y_hat, row 3, column 3, channel "), "{text}");
    assert!(text.contains(&format!("integer has {value}, ")) && text.contains(&format!("has {}\n", value + 7)), "{text}");
    assert!(text.contains("1 of "), "{text}");
    // The last sample.
    let mut sample = bytes.clone();
    *sample.last_mut().unwrap() ^= 1;
    let (code, text) = explain(&["--dump", &file(&root, "sample", sample)]);
    assert!(code == 1 && text.contains("first difference: pixels, row 63, column 63, channel 2"), "{text}");
    // The first symbol of z.
    let mut first = bytes.clone();
    first[56] ^= 1;
    let (code, text) = explain(&["--dump", &file(&root, "first", first)]);
    assert!(code == 1 && text.contains("first difference: z, symbols, row 0, column 0, channel 0"), "{text}");
}

#[test]
fn a_part_of_a_decoding_is_compared_as_far_as_it_goes() {
    let (root, _, bytes) = dump();
    // z alone: one record.
    let len = 48 + 8 + 4 * u32::from_le_bytes(bytes[52..56].try_into().unwrap()) as usize;
    let mut z = bytes[..len].to_vec();
    z[12..16].copy_from_slice(&1u32.to_le_bytes());
    let (code, text) = explain(&["--dump", &file(&root, "z", &z)]);
    assert!(code == 0 && text.contains("in the 1 tensors"), "{text}");
    // A dump without records says nothing.
    z.truncate(48);
    z[12..16].copy_from_slice(&0u32.to_le_bytes());
    let (code, text) = complained(&["explain", VECTOR, "--backend", "integer", "--dump", &file(&root, "nothing", &z)]);
    assert!(code == 3 && text.contains("no tensor"), "{text}");
}

#[test]
fn what_is_not_a_dump_of_this_stream_is_refused() {
    let (root, path, bytes) = dump();
    let refused = |name: &str, contents: &[u8]| {
        let path = file(&root, name, contents);
        let (code, text) = complained(&["explain", VECTOR, "--backend", "integer", "--dump", &path]);
        assert_eq!(code, 3, "{name}: {text}");
        assert!(text.contains(name), "{text}");
        text
    };
    assert!(refused("empty", b"").contains("ends at byte 0"));
    assert!(refused("cut", &bytes[..bytes.len() - 1]).contains("record 14"));
    assert!(refused("longer", &[&bytes[..], b"x"].concat()).contains("bytes"));
    assert!(refused("text", &[b'x'; 100]).contains("MLICDUMP"));
    let (code, text) = complained(&["explain", "flat-1x1-q0", "--backend", "integer", "--dump", &path]);
    assert!(code == 3 && (text.contains("bytes") || text.contains("another stream")), "{text}");
    assert_eq!(code_of(&["--dump", str_of(root.path())]), 3);
    assert_eq!(code_of(&["--dump", "/nonexistent"]), 3);
    assert_eq!(code_of(&["--dump", &path, "--against", "reference"]), 2);
    assert_eq!(code_of(&["--dump", &path, "--write-dump", &path]), 2);
    assert_eq!(code_of(&["--write-dump", "/nonexistent/dump"]), 3);
}

fn code_of(arguments: &[&str]) -> i32 {
    code(&[&["explain", VECTOR, "--backend", "integer"], arguments].concat())
}
