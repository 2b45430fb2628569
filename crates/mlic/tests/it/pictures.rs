//! Pictures that a codec makes and takes: gray ones stay gray, and an incomplete one is an error, not a panic.

use std::sync::Arc;

use mlic::image::{ImageError, OutputFormat, ReadOptions, read_image, write_image};
use mlic::limits::MAX_SECTION_LEN;
use mlic::metadata::{MetadataKind, MetadataPolicy};
use mlic::metrics::psnr;
use mlic::{
    BackendChoice, BackendError, Codec, CodecOptions, Error, ErrorKind, Limits, Model, Planes, image_of, luma, planes_of,
};
use mlic_backend::FloatTransform;
use mlic_backend::Stage;
use mlic_backend::cpu::{CpuBackend, FloatTransforms};
use mlic_backend::integer::Kernels;

use crate::common::{file, picture, tiny, tiny_integer};

fn codec(model: Model) -> Codec {
    with(model, CodecOptions::default())
}

fn with(model: Model, options: CodecOptions) -> Codec {
    Codec::new(model, options.with_backend(BackendChoice::Integer).with_threads(1)).unwrap()
}

/// Stands in for networks, with planes of another shape than was asked for.
struct Short;

impl FloatTransforms for Short {
    fn name(&self) -> &'static str {
        "short"
    }

    fn run(&self, _: FloatTransform, input: &Planes, _: usize) -> Result<Planes, BackendError> {
        Ok(Planes { channels: 7, height: input.height, width: input.width, data: vec![0.5; 21] })
    }
}

#[test]
fn a_decoded_gray_picture_is_what_is_written_of_it() {
    let stream = std::fs::read(file("conformance/smoke/glyphs-129x97-q66-gray.mlic")).unwrap();
    let codec = codec(tiny());
    let decoded = codec.decode(&stream).unwrap().image;
    assert!(decoded.gray && decoded.rgb.chunks(3).all(|at| at == [luma([at[0], at[1], at[2]]); 3]));
    assert!(decoded.rgb.iter().max() > decoded.rgb.iter().min());
    let written = write_image(&decoded, OutputFormat::Png).unwrap();
    let read = read_image(&written, &ReadOptions::default()).unwrap();
    assert_eq!(psnr(&read, &decoded).unwrap(), f64::INFINITY, "what is measured is what is written");
    assert_eq!(codec.synthesize(&codec.decode_latents(&stream).unwrap()).unwrap(), decoded);
}

#[test]
fn a_picture_without_all_its_samples_is_refused() {
    let mut image = picture(40, 30);
    image.rgb.truncate(1);
    let refused = |error| assert!(matches!(error, Error::Image(ImageError::SampleCount { got: 1, want: 3600 })), "{error}");
    refused(planes_of(&image).unwrap_err());
    refused(codec(tiny()).encode(&image, mlic::Quality::LOWEST).unwrap_err());
    let exact = tiny_integer();
    refused(codec(exact).encode(&image, mlic::Quality::LOWEST).unwrap_err());
    image.rgb = picture(40, 30).rgb;
    assert!(planes_of(&image).is_ok());
}

#[test]
fn planes_that_are_not_whole_are_refused() {
    let planes = |height, data| Planes { channels: 3, height, width: 64, data };
    for (bad, needed) in
        [(planes(64, vec![]), 12_288), (planes(64, vec![0.0; 5]), 12_288), (planes(usize::MAX, vec![0.0; 3]), usize::MAX)]
    {
        match image_of(&bad, 1, 1) {
            Err(Error::Backend(BackendError::Shape { stage: Stage::Synthesis, got, need })) => {
                assert_eq!((got, need), (bad.data.len(), needed));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(image_of(&planes(2, vec![0.0; 3 * 2 * 64]), 65, 2).is_err(), "less than the picture");
    assert!(image_of(&planes(2, vec![0.0; 3 * 2 * 64]), 64, 2).is_ok());
}

#[test]
fn an_executor_that_gives_another_shape_is_an_error() {
    let backend = CpuBackend::new(Arc::new(tiny()), Kernels::best(), 1, Some(Box::new(Short))).unwrap();
    let error = Codec::from_backend(Arc::new(backend), CodecOptions::default())
        .unwrap()
        .encode(&picture(40, 30), mlic::Quality::LOWEST)
        .unwrap_err();
    assert!(matches!(error, Error::Backend(BackendError::Shape { stage: Stage::Analysis, got: 21, .. })), "{error}");
}

#[test]
fn metadata_that_no_section_holds_are_refused_before_anything_is_encoded() {
    let mut image = picture(40, 30);
    image.metadata.set(MetadataKind::Exif, Some(vec![0; MAX_SECTION_LEN as usize + 1]));
    let never = |_| panic!("something has begun");
    let error = codec(tiny()).watched(&never).encode(&image, mlic::Quality::LOWEST).unwrap_err();
    assert!(matches!(error, Error::Image(ImageError::MetadataLimit { kind: MetadataKind::Exif, .. })), "{error}");
    assert_eq!(error.kind(), ErrorKind::Image);
}

#[test]
fn latents_of_another_model_and_beyond_the_limits_are_refused() {
    let stream = std::fs::read(file("conformance/smoke/noise-128x64-q33.mlic")).unwrap();
    let latents = codec(tiny()).decode_latents(&stream).unwrap();
    let other = codec(Model::open(file("conformance/models/edge-cases-fixed.mlicpkg")).unwrap());
    assert_eq!(other.synthesize(&latents).unwrap_err().code(), "wrong-model");
    let limited = |limits| with(tiny(), CodecOptions::default().with_limits(limits)).synthesize(&latents).unwrap_err().code();
    assert_eq!(limited(Limits::default().with_max_pixels(100)), "pixel-budget");
    assert_eq!(limited(Limits::default().with_max_memory_bytes(100)), "memory-budget");
    let mut cut = latents.clone();
    cut.y_hat.data.pop();
    let error = codec(tiny()).synthesize(&cut).unwrap_err();
    assert!(matches!(error, Error::Backend(BackendError::Shape { .. })), "{error}");
}

#[test]
fn damaged_metadata_cost_the_picture_only_where_they_are_to_be_kept() {
    let model = || tiny_integer();
    let codec = |policy| with(model(), CodecOptions::default().with_metadata(policy));
    let mut image = picture(40, 30);
    image.metadata.set(MetadataKind::Icc, Some(vec![1; 50]));
    image.metadata.set(MetadataKind::Xmp, Some(b"<x/>".to_vec()));
    let stream = codec(MetadataPolicy::Keep).encode(&image, mlic::Quality::LOWEST).unwrap().stream;
    let decode = |policy, stream: &[u8]| codec(policy).decode(stream);
    let whole = decode(MetadataPolicy::Keep, &stream).unwrap().image;
    assert_eq!(whole.metadata, image.metadata);
    let bare = decode(MetadataPolicy::Strip, &stream).unwrap().image;
    assert!(bare.rgb == whole.rgb && bare.metadata.is_empty() && bare.notes.is_empty());
    assert_eq!(decode(MetadataPolicy::Fit, &stream).unwrap().image, whole);

    // Damage in the profile, in the length of the packet, and after the end.
    let mut in_profile = stream.clone();
    let packet = stream.len() - 4 - 4 - 2;
    in_profile[packet - 1] ^= 1;
    let mut in_length = stream.clone();
    in_length[packet + 1] ^= 4;
    let longer = [&stream[..], b"?"].concat();
    for (damaged, code, [icc, xmp]) in [
        (in_profile, "section-checksum", [false, true]),
        (in_length, "section-checksum", [true, false]),
        (longer, "trailing-bytes", [true, true]),
    ] {
        let error = decode(MetadataPolicy::Keep, &damaged).unwrap_err();
        assert!(matches!(error, Error::Tail { .. }) && error.kind() == ErrorKind::Damaged && error.code() == code, "{error}");
        let fit = decode(MetadataPolicy::Fit, &damaged).unwrap();
        assert!(fit.image.rgb == whole.rgb && fit.truncation.is_none());
        let has = [MetadataKind::Icc, MetadataKind::Xmp].map(|kind| fit.image.metadata.get(kind).is_some());
        assert_eq!(has, [icc, xmp], "{code}");
        assert!(fit.image.notes.len() == 1 && fit.image.notes[0].starts_with("damaged metadata left out: "));
        assert_eq!(decode(MetadataPolicy::Strip, &damaged).unwrap().image, bare);
    }
    // Cut within a section: the same, except that `Keep` gives the picture too.
    let cut = &stream[..stream.len() - 1];
    let [keep, fit] = [MetadataPolicy::Keep, MetadataPolicy::Fit].map(|policy| decode(policy, cut).unwrap());
    for image in [&keep.image, &fit.image] {
        assert!(image.rgb == whole.rgb && image.metadata.icc.is_some() && image.metadata.xmp.is_none());
        assert!(image.notes.len() == 1 && image.notes[0].starts_with("damaged metadata left out: "));
    }
    assert!(keep.truncation.unwrap().is_payload_whole && fit.truncation.is_none());
    let unread = decode(MetadataPolicy::Strip, cut).unwrap();
    assert!(unread.truncation.is_none() && unread.image == bare);
    // Damage in the payload is always an error.
    let mut in_payload = stream;
    in_payload[packet - 70] ^= 1;
    for policy in [MetadataPolicy::Keep, MetadataPolicy::Fit, MetadataPolicy::Strip] {
        assert_eq!(decode(policy, &in_payload).unwrap_err().code(), "payload-checksum");
    }
}
