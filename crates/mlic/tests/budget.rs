//! Thirty bytes can claim 2^28 pixels: what they would cost is refused from the header, by a code of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mlic::container::{self, Header};
use mlic::{BackendChoice, Codec, DecodeLimits, Error, ErrorKind, Model};

fn conformance(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance").join(file)
}

fn codec(max_pixels: u64, max_memory_bytes: u64) -> Codec {
    let model = Arc::new(Model::open(conformance("models/tiny.mlicpkg")).unwrap());
    let mut limits = DecodeLimits::default();
    (limits.max_pixels, limits.max_memory_bytes) = (max_pixels, max_memory_bytes);
    Codec::with_backend(mlic::backend(model, BackendChoice::Integer, 1).unwrap()).decode_limits(limits)
}

/// A sound container whose payload is no more than the initial state of one lane.
fn claim(codec: &Codec, width: u32, height: u32) -> Vec<u8> {
    let (model_id, quality, symbol_checksum) = (codec.model().id(), 0, 0);
    let header = Header { model_id, width, height, quality, gray: false, lanes_log2: 0, symbol_checksum };
    container::write(&header, &[0xff; 6], &[]).unwrap()
}

fn refusal(codec: &Codec, width: u32, height: u32) -> Error {
    codec.decode_latents(&claim(codec, width, height), &|_| ()).unwrap_err()
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
    let model = conformance("models/edge-cases-fixed.mlicpkg");
    let stream = std::fs::read(conformance("edge-cases-fixed/walk-320x576-s0-l0.mlic")).unwrap();
    let decode = |seconds: f64| {
        let mut limits = DecodeLimits::default();
        limits.max_time = Some(Duration::from_secs_f64(seconds));
        let backend = mlic::backend(Arc::new(Model::open(&model).unwrap()), BackendChoice::Integer, 1).unwrap();
        Codec::with_backend(backend).decode_limits(limits).decode(&stream, &|_| ())
    };
    let error = decode(1e-9).unwrap_err();
    assert!(matches!(&error, Error::Time { before, .. } if before == "slice 0 anchor"), "{error}");
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
