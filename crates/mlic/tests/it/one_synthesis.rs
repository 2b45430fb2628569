//! A package whose float synthesis is the integer one in real numbers: its pictures against those of the package with both.

use std::sync::Arc;

use mlic::image::{Image, ReadOptions, read_image};
use mlic::metrics::psnr;
use mlic::{BackendChoice, Codec, CodecOptions, Error, Limits, Model, PixelMode, Quality};
use mlic_backend::probe::with_one_synthesis;

use crate::common::file;

fn picture() -> Image {
    let whole = read_image(&std::fs::read(file("models/edge/crops.jpg")).unwrap(), &ReadOptions::default()).unwrap();
    let (left, top, width, height) = (30, 40, 200, 150);
    let row = |y: u32| &whole.rgb[3 * (y * whole.width + left) as usize..][..3 * width as usize];
    Image::from_rgb(width, height, (top..top + height).flat_map(row).copied().collect()).unwrap()
}

/// A model with both its syntheses, and with the integer one alone.
fn models(name: &str) -> [Arc<Model>; 2] {
    let both = Model::open(file(name)).unwrap();
    let one = Model::from_bytes(with_one_synthesis(&both).unwrap()).unwrap();
    assert!(!one.has_float_synthesis() && one.exact_synthesis() == both.exact_synthesis());
    [both, one].map(Arc::new)
}

fn codec(model: &Arc<Model>, choice: BackendChoice, pixels: PixelMode) -> Codec {
    let options = CodecOptions::default().with_backend(choice).with_threads(2).with_pixels(pixels);
    Codec::new(Arc::clone(model), options).unwrap()
}

/// Pictures of the same latents, float and exact.
fn pictures(model: &Arc<Model>, original: &Image, quality: Quality) -> [Image; 2] {
    let stream = codec(model, BackendChoice::Tract, PixelMode::Auto).encode(original, quality).unwrap().stream;
    let decode = |choice, pixels| codec(model, choice, pixels).decode(&stream).unwrap().image;
    [decode(BackendChoice::Tract, PixelMode::Float), decode(BackendChoice::Integer, PixelMode::Exact)]
}

fn qualities() -> [Quality; 3] {
    [Quality::LOWEST, Quality::default(), Quality::HIGHEST]
}

/// The edge package has no float synthesis: its float pixels are those of the integer one in real numbers.
#[test]
fn edge_pictures_in_float_are_near_its_exact_ones() {
    let (original, edge) = (picture(), Arc::new(Model::open(file("models/edge/edge.mlicpkg")).unwrap()));
    assert!(!edge.has_float_synthesis());
    for quality in qualities() {
        let [derived, exact] = pictures(&edge, &original, quality);
        let near = psnr(&derived, &exact).unwrap();
        println!("edge at {quality}: derived to exact {near:.2} dB");
        assert!((55.0..100.0).contains(&near), "near, but not made in integers: {near}");
    }
}

#[test]
fn tiny_pictures_are_those_of_its_float_synthesis() {
    let original = picture();
    let [both, one] = models("conformance/models/tiny.mlicpkg");
    assert!(both.has_float_synthesis());
    for quality in qualities() {
        let ([float, exact], [derived, same]) = (pictures(&both, &original, quality), pictures(&one, &original, quality));
        let near = [psnr(&float, &exact), psnr(&derived, &exact), psnr(&derived, &float)].map(Result::unwrap);
        let quality_of = [&float, &derived].map(|image| psnr(&original, image).unwrap());
        println!(
            "tiny at {quality}: float to exact, derived to exact and to float {near:.2?} dB; float, derived {quality_of:.4?} dB"
        );
        assert!(same.rgb == exact.rgb, "exact pixels do not depend on the float ones");
        assert!(near.iter().all(|db| *db >= 48.0), "{near:?}");
        assert!(quality_of[1] >= quality_of[0] - 0.01, "{quality_of:?}");
    }
}

#[test]
fn its_memory_is_asked_for_all_the_same() {
    let [_, one] = models("conformance/models/tiny.mlicpkg");
    let codec = codec(&one, BackendChoice::Tract, PixelMode::Float);
    let stream = codec.encode(&picture(), Quality::LOWEST).unwrap().stream;
    let needed = |codec: Codec, limit: u64| {
        let limits = Limits::default().with_max_memory_bytes(limit);
        match codec.with_options(codec.options().clone().with_limits(limits)).unwrap().decode(&stream) {
            Err(Error::Memory { needed_bytes, .. }) => Some(needed_bytes),
            other => other.map(|_| None).unwrap(),
        }
    };
    let again = || self::codec(&one, BackendChoice::Tract, PixelMode::Float);
    let all = needed(again(), 1 << 16).unwrap();
    assert_eq!(needed(again(), all - 1), Some(all), "one number from the start");
    assert!(needed(codec, all).is_none());
}

#[test]
fn every_backend_decodes_it() {
    let original = picture();
    let [both, one] = models("conformance/models/tiny.mlicpkg");
    let stream = codec(&one, BackendChoice::Tract, PixelMode::Auto).encode(&original, Quality::default()).unwrap().stream;
    let decode = |choice| codec(&one, choice, PixelMode::Exact).decode(&stream).unwrap().image.rgb;
    assert!(decode(BackendChoice::Integer) == decode(BackendChoice::Reference));
    let error = codec(&both, BackendChoice::Integer, PixelMode::Exact).decode(&stream).unwrap_err();
    assert_eq!(error.code(), "wrong-model", "a stream names the sections its picture is made with");
}
