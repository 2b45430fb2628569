//! With the shipped model, what an encoder chooses is better than what it would have written otherwise.

use std::ops::ControlFlow;
use std::sync::Mutex;

use mlic::image::Image;
use mlic::metrics::psnr;
use mlic::{BackendChoice, Codec, CodecOptions, PixelMode, ProgressEvent, Quality, Rounding, embedded_model};

fn codec(effort: u8) -> Codec {
    let options = CodecOptions::default().with_backend(BackendChoice::Integer).with_effort(effort);
    Codec::new(embedded_model().unwrap(), options).unwrap()
}

/// Edges, a gradient and some texture.
fn picture() -> Image {
    let (width, height) = (144, 112);
    let sample = |i: u32| {
        let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
        let edge = if (x / 24 + y / 28) % 2 == 0 { 60 } else { 0 };
        let texture = (i.wrapping_mul(2_654_435_761) >> 28) as u8;
        edge + (x * (1 + c) / 4) as u8 + texture
    };
    Image::from_rgb(width, height, (0..3 * width * height).map(sample).collect()).unwrap()
}

/// Bytes of the stream of [`picture`], its PSNR, and what SPEC 5.9 compares, except that the header counts too: the logarithm of the length of a stream
/// of equal quality.
fn measured(codec: &Codec, percent: f32) -> [f64; 3] {
    let stream = codec.encode(&picture(), Quality::new(percent).unwrap()).unwrap().stream;
    let decoded = codec.decode(&stream).unwrap().image;
    let (len, db) = (stream.len() as f64, psnr(&picture(), &decoded).unwrap());
    let equal = len.log2() - db / (10.0 * 2_f64.log10()) * 1.5;
    let CodecOptions { effort, rounding, .. } = codec.options();
    println!("{percent}, effort {effort}, {rounding:?}: {len} bytes, {db:.3} dB, 2^{equal:.4}");
    [len, db, equal]
}

#[test]
fn refinement_is_worth_its_time() {
    for percent in [20.0, 60.0, 95.0] {
        let [plain, one, three] = [0, 1, 3].map(|effort| measured(&codec(effort), percent)[2]);
        assert!(one < plain, "one round is worth it at {percent}");
        assert!(three <= one, "of more rounds the best is written, at {percent}");
    }
}

#[test]
fn rounding_to_the_nearest_is_larger_and_closer() {
    let near = codec(0).with_options(CodecOptions::default().with_rounding(Rounding::Nearest)).unwrap();
    for percent in [20.0, 60.0, 95.0] {
        let [[len, db, _], [near_len, near_db, _]] = [codec(0), near.clone()].map(|codec| measured(&codec, percent));
        assert!(near_len > len && near_db > db, "at {percent}");
    }
}

#[test]
fn how_pictures_are_made_does_not_show_in_streams() {
    let refining = CodecOptions::default().with_effort(1);
    let with = |pixels| codec(1).with_options(refining.clone().with_pixels(pixels)).unwrap();
    let encode = |pixels| with(pixels).encode(&picture(), Quality::default()).unwrap().stream;
    assert_eq!(encode(PixelMode::Float), encode(PixelMode::Exact));
}

#[test]
fn passes_are_counted_over_all_rounds() {
    let events = Mutex::new(Vec::new());
    let push = |event| {
        if let ProgressEvent::Pass { index, count } = event {
            events.lock().unwrap().push((index, count));
        }
        ControlFlow::Continue(())
    };
    let codec = codec(2);
    codec.watched(&push).encode(&picture(), Quality::default()).unwrap();
    let count = 3 * 2 * codec.model().config().slices;
    assert_eq!(events.into_inner().unwrap(), (0..count).map(|index| (index, count)).collect::<Vec<_>>());
}
