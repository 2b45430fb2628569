//! A package with an integer analysis: every instruction set, every number of threads and the definition write the same stream, without any
//! float executor. `mlic-conform encode` checks that other architectures write it too.

use std::sync::Arc;

use mlic::image::Image;
use mlic::{Codec, CodecOptions, Error, Model};
use mlic_backend::cpu::CpuBackend;
use mlic_backend::integer::Kernels;
use mlic_backend::{Backend, BackendError, Stage};
use mlic_conform::record::{Recorder, Recording};
use mlic_kernels::cpu::Isa;

use crate::common::{picture, tiny, tiny_integer};

fn backend(model: &Arc<Model>, kernels: Kernels, threads: usize) -> Arc<dyn Backend> {
    Arc::new(CpuBackend::new(Arc::clone(model), kernels, threads, None).unwrap())
}

fn codec(model: &Arc<Model>, kernels: Kernels, threads: usize) -> Codec {
    Codec::from_backend(backend(model, kernels, threads), CodecOptions::default()).unwrap()
}

/// Calls a codec on this backend; returns also a recording of its passes.
fn recorded<T>(backend: Arc<dyn Backend>, call: impl FnOnce(&Codec) -> T) -> (T, Recording) {
    let recorder = Arc::new(Recorder::new(backend));
    let called = call(&Codec::from_backend(Arc::clone(&recorder) as Arc<dyn Backend>, CodecOptions::default()).unwrap());
    (called, recorder.recording())
}

#[test]
fn streams_are_the_same_whatever_encodes() {
    let model = Arc::new(tiny_integer());
    assert_eq!(model.id(), tiny().id(), "the analysis is no part of the id");
    for (width, height) in [(1, 1), (90, 70), (65, 200)] {
        let image = picture(width, height);
        for quality in [mlic::Quality::LOWEST, mlic::Quality::HIGHEST] {
            let reference = backend(&model, Kernels::Reference, 1);
            let (own, encoding) = recorded(reference, |codec| codec.encode(&image, quality).unwrap());
            assert_eq!(own.report.stages[0].stage, Stage::ExactAnalysis);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                for threads in [1, 3] {
                    let codec = codec(&model, Kernels::Fast(isa), threads);
                    let got = codec.encode(&image, quality).unwrap();
                    assert_eq!(got.stream, own.stream, "{}, {threads} threads, {width}x{height} at {quality}", isa.name());
                }
            }
            let best = backend(&model, Kernels::best(), 1);
            let (latents, decoding) = recorded(best, |codec| codec.decode_latents(&own.stream).unwrap());
            assert_eq!((&decoding.z, &decoding.passes), (&encoding.z, &encoding.passes), "{width}x{height} at {quality}");
            assert_eq!(latents.y_hat.data, decoding.y_hat.unwrap());
        }
    }
}

/// With random weights refinement makes nothing better, but what it computes on the way decides which candidate is written.
#[test]
fn refined_streams_are_the_same_whatever_encodes() {
    let model = Arc::new(tiny_integer());
    let refining = CodecOptions::default().with_effort(2);
    let encode = |codec: Codec, image: &Image| {
        codec.with_options(refining.clone()).unwrap().encode(image, mlic::Quality::HIGHEST).unwrap()
    };
    for (width, height) in [(1, 1), (90, 70)] {
        let image = picture(width, height);
        let own = encode(codec(&model, Kernels::Reference, 1), &image);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let got = encode(codec(&model, Kernels::Fast(isa), 3), &image);
            assert_eq!(got.stream, own.stream, "{}, {width}x{height}", isa.name());
        }
        codec(&model, Kernels::best(), 1).decode_latents(&own.stream).unwrap();
    }
}

#[test]
fn a_float_analysis_needs_an_executor() {
    let error = codec(&Arc::new(tiny()), Kernels::best(), 1).encode(&picture(9, 9), mlic::Quality::LOWEST).unwrap_err();
    assert!(matches!(error, Error::Backend(BackendError::NotAvailable { .. })), "{error}");
}
