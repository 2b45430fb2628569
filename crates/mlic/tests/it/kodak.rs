//! Encode, then decode, with one and with two threads: streams, symbols, latents and pixels agree. Runs where `MLIC_KODAK` names the
//! folder of images; `MLIC_KODAK_IMAGES=1-24` takes those at five qualities instead of one at two.

use std::path::{Path, PathBuf};

use mlic::image::{ReadOptions, read_image};
use mlic::{Codec, CodecOptions, Quality, embedded_model};
use mlic_backend::contract::is_required;

fn codec(threads: usize) -> Codec {
    Codec::new(embedded_model().unwrap(), CodecOptions::default().with_threads(threads)).unwrap()
}

fn check(path: &Path, percent: f32, codecs: &[Codec; 2]) {
    let image = read_image(&std::fs::read(path).unwrap(), &ReadOptions::default()).unwrap();
    let quality = Quality::new(percent).unwrap();
    let encoded = codecs.each_ref().map(|c| c.encode(&image, quality).unwrap());
    assert_eq!(encoded[0].stream, encoded[1].stream, "{} at {percent}: the threads show in the stream", path.display());
    let latents = codecs.each_ref().map(|c| c.decode_latents(&encoded[0].stream).unwrap());
    assert_eq!(latents[0].y_hat, latents[1].y_hat, "{} at {percent}: the threads show in y_hat", path.display());
    let [one, two] = [0, 1].map(|i| codecs[i].synthesize(&latents[i]).unwrap().rgb);
    assert_eq!(one, two, "{} at {percent}: the threads show in the pixels", path.display());
    println!("{} at {percent}: {} bytes", path.display(), encoded[0].stream.len());
}

#[test]
fn encoder_and_decoder_agree_for_any_number_of_threads() {
    let Ok(folder) = std::env::var("MLIC_KODAK") else {
        assert!(!is_required("kodak"), "the Kodak images are required, and MLIC_KODAK does not name their folder");
        eprintln!("not run: MLIC_KODAK does not name the folder of the Kodak images");
        return;
    };
    let range = std::env::var("MLIC_KODAK_IMAGES").ok();
    let range = range.as_deref().and_then(|r| r.split_once('-')).map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
    let (first, last, percents): (u32, u32, &[f32]) = match range {
        Some((first, last)) => (first, last, &[0.0, 25.0, 50.0, 75.0, 100.0]),
        None => (23, 23, &[10.0, 90.0]),
    };
    let codecs = [codec(1), codec(2)];
    for image in first..=last {
        for percent in percents {
            check(&PathBuf::from(&folder).join(format!("kodim{image:02}.png")), *percent, &codecs);
        }
    }
}
