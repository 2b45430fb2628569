//! Thirty bytes can claim 2^28 pixels: a stream that would cost too much is refused by its header, with a code of its own. So is encoding that would
//! cost too much.

use std::sync::Arc;
use std::time::Duration;

use mlic::container::{self, Header};
use mlic::image::Image;
use mlic::{BackendChoice, Codec, CodecOptions, Error, ErrorKind, Limits, Model, Place, Stage};

use crate::common::{file, tiny, tiny_integer};

fn codec(max_pixels: u64, max_memory_bytes: u64) -> Codec {
    let limits = Limits::default().with_max_pixels(max_pixels).with_max_memory_bytes(max_memory_bytes);
    Codec::new(tiny(), options(1).with_limits(limits)).unwrap()
}

fn options(threads: usize) -> CodecOptions {
    CodecOptions::default().with_backend(BackendChoice::Integer).with_threads(threads)
}

/// A sound container whose payload is no more than the initial state of one lane.
fn claim(codec: &Codec, width: u32, height: u32) -> Vec<u8> {
    let (model_id, quality, symbol_checksum) = (codec.model().id(), 0, 0);
    let header = Header { model_id, width, height, quality, gray: false, lanes_log2: 0, symbol_checksum };
    container::write(&header, &[0xff; 6], &[]).unwrap()
}

fn refusal(codec: &Codec, width: u32, height: u32) -> Error {
    codec.decode_latents(&claim(codec, width, height)).unwrap_err()
}

#[test]
fn too_many_pixels_are_refused() {
    let error = refusal(&codec(1 << 20, u64::MAX), 1024, 1025);
    assert!(matches!(error, Error::Pixels { width: 1024, height: 1025, limit: 0x10_0000 }), "{error}");
    assert_eq!((error.code(), error.kind()), ("pixel-budget", ErrorKind::Budget));
    let error = refusal(&codec(u64::MAX, 1 << 30), 16_384, 16_384);
    assert_eq!((error.code(), error.kind()), ("memory-budget", ErrorKind::Budget));
}

#[test]
fn too_long_is_refused() {
    let model = file("conformance/models/edge-cases-fixed.mlicpkg");
    let stream = std::fs::read(file("conformance/edge-cases-fixed/walk-320x576-s0-l0.mlic")).unwrap();
    let decode = |seconds: f64| {
        let limits = Limits::default().with_max_time(Duration::from_secs_f64(seconds));
        Codec::new(Model::open(&model).unwrap(), options(1).with_limits(limits)).unwrap().decode(&stream)
    };
    let error = decode(1e-9).unwrap_err();
    assert!(matches!(&error, Error::Time { before: Place::Stage(Stage::HyperSynthesis), .. }), "{error}");
    assert_eq!((error.code(), error.kind()), ("time-budget", ErrorKind::Budget));
    assert!(decode(3600.0).is_ok());
}

#[test]
fn too_much_memory_is_refused() {
    let tight = codec(u64::MAX, 1 << 20);
    let Error::Memory { needed_bytes, limit_bytes: 0x10_0000 } = refusal(&tight, 1024, 1024) else { panic!("not refused") };
    assert_ne!(refusal(&codec(u64::MAX, needed_bytes), 1024, 1024).code(), "memory-budget", "what is needed is enough");
    assert_eq!(refusal(&codec(u64::MAX, needed_bytes - 1), 1024, 1024).code(), "memory-budget");
}

#[test]
fn a_picture_is_refused_with_one_number_from_the_start() {
    let stream = std::fs::read(file("conformance/smoke/noise-128x64-q33.mlic")).unwrap();
    let decode = |limit| codec(u64::MAX, limit).decode(&stream);
    let Err(Error::Memory { needed_bytes, .. }) = decode(1) else { panic!("not refused") };
    let Err(Error::Memory { needed_bytes: again, .. }) = decode(needed_bytes - 1) else { panic!("not refused") };
    assert_eq!(again, needed_bytes);
    assert!(decode(needed_bytes).is_ok());
}

#[test]
fn more_threads_need_more() {
    let model = Arc::new(tiny());
    let needed = |threads| {
        let options = options(threads).with_limits(Limits::default().with_max_memory_bytes(1));
        let codec = Codec::new(Arc::clone(&model), options).unwrap();
        let Error::Memory { needed_bytes, .. } = refusal(&codec, 1024, 1024) else { panic!("not refused") };
        needed_bytes
    };
    assert!(needed(7) > needed(1));
}

#[test]
fn limits_hold_for_encoding_too() {
    let model = Arc::new(tiny_integer());
    let image = Image::from_rgb(90, 70, vec![60; 3 * 90 * 70]).unwrap();
    let encode_at = |effort, limits| {
        let options = options(1).with_limits(limits).with_effort(effort);
        Codec::new(Arc::clone(&model), options).unwrap().encode(&image, mlic::Quality::LOWEST)
    };
    let encode = |limits| encode_at(0, limits);
    let memory = |limit| encode(Limits::default().with_max_memory_bytes(limit));
    let error = memory(1).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("memory-budget", ErrorKind::Budget));
    let Error::Memory { needed_bytes, limit_bytes: 1 } = error else { panic!("{error}") };
    assert!(memory(needed_bytes - 1).is_err() && memory(needed_bytes).is_ok());
    let refined = encode_at(1, Limits::default().with_max_memory_bytes(needed_bytes)).unwrap_err();
    assert_eq!(refined.code(), "memory-budget", "refinement holds more");
    let error = encode(Limits::default().with_max_time(Duration::from_nanos(1))).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("time-budget", ErrorKind::Budget));
    assert!(encode(Limits::default().with_max_time(Duration::from_secs(3600))).is_ok());
}

#[test]
fn more_than_is_allowed_and_more_than_there_is_are_told_apart() {
    let claim = |limit| refusal(&codec(u64::MAX, limit), 16_384, 16_384).to_string();
    assert!(claim(1 << 20).ends_with("MiB of memory are needed: at most 1 MiB are allowed here"), "{}", claim(1 << 20));
}
