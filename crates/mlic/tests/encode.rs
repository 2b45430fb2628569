//! A package with an integer analysis: every instruction set, every number of threads and the definition write the same stream, without any
//! float executor. That it is the stream of other architectures too is for `mlic-conform encode` to say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use mlic::image::Image;
use mlic::{Codec, CodecOptions, Error, Model};
use mlic_backend::cpu::CpuBackend;
use mlic_backend::integer::Kernels;
use mlic_backend::probe::with_integer_analysis;
use mlic_backend::{BackendError, Stage};
use mlic_kernels::cpu::Isa;

fn tiny() -> Model {
    Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/models/tiny.mlicpkg")).unwrap()
}

fn codec(model: &Arc<Model>, kernels: Kernels, threads: usize) -> Codec {
    let backend = CpuBackend::new(Arc::clone(model), kernels, threads, None).unwrap();
    Codec::from_backend(Arc::new(backend), CodecOptions::default()).unwrap()
}

fn picture(width: u32, height: u32) -> Image {
    let sample = |i: u32| (i.wrapping_mul(2_654_435_761) >> 27) as u8 * 4 + (i / 3 % width * 90 / width) as u8;
    Image::from_rgb(width, height, (0..3 * width * height).map(sample).collect()).unwrap()
}

#[test]
fn streams_are_the_same_whatever_encodes() {
    let model = Arc::new(Model::from_bytes(with_integer_analysis(&tiny()).unwrap()).unwrap());
    assert_eq!(model.id(), tiny().id(), "the analysis is no part of the id");
    for (width, height) in [(1, 1), (90, 70), (65, 200)] {
        let image = picture(width, height);
        for quality in [mlic::Quality::LOWEST, mlic::Quality::HIGHEST] {
            let own = codec(&model, Kernels::Reference, 1).trace_encoding(&image, quality).unwrap();
            assert_eq!(own.report.stages[0].stage, Stage::ExactAnalysis);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                for threads in [1, 3] {
                    let codec = codec(&model, Kernels::Fast(isa), threads);
                    let got = codec.encode(&image, quality).unwrap();
                    assert_eq!(got.stream, own.stream, "{}, {threads} threads, {width}x{height} at {quality}", isa.name());
                }
            }
            let (decoded, _) = codec(&model, Kernels::best(), 1).trace(&own.stream).unwrap();
            assert_eq!(Some(decoded), own.trace, "{width}x{height} at {quality}");
        }
    }
}

/// Of random weights refinement makes nothing better, but what it computes on the way decides which candidate is written.
#[test]
fn refined_streams_are_the_same_whatever_encodes() {
    let model = Arc::new(Model::from_bytes(with_integer_analysis(&tiny()).unwrap()).unwrap());
    let refining = CodecOptions::default().with_effort(2);
    let encode = |codec: Codec, image: &Image| {
        codec.with_options(refining.clone()).unwrap().trace_encoding(image, mlic::Quality::HIGHEST).unwrap()
    };
    for (width, height) in [(1, 1), (90, 70)] {
        let image = picture(width, height);
        let own = encode(codec(&model, Kernels::Reference, 1), &image);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let got = encode(codec(&model, Kernels::Fast(isa), 3), &image);
            assert_eq!(got.stream, own.stream, "{}, {width}x{height}", isa.name());
        }
        let (decoded, _) = codec(&model, Kernels::best(), 1).trace(&own.stream).unwrap();
        assert_eq!(Some(decoded), own.trace, "{width}x{height}");
    }
}

#[test]
fn a_float_analysis_needs_an_executor() {
    let error = codec(&Arc::new(tiny()), Kernels::best(), 1).encode(&picture(9, 9), mlic::Quality::LOWEST).unwrap_err();
    assert!(matches!(error, Error::Backend(BackendError::NotAvailable { .. })), "{error}");
}
