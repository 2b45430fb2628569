//! Encodes a picture to a stream and decodes it again, in memory, and prints what both ends report.
//!
//!     cargo run --release -p mlic --example in_memory -- PICTURE QUALITY OUT.png
//!
//! QUALITY is 0 to 100; without arguments a made-up picture is taken, and nothing is written.

use mlic::image::{Image, OutputFormat, ReadOptions, read_image, write_image};
use mlic::metrics::psnr;
use mlic::{Codec, CodecOptions, Limits, Quality, default_model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let picture = match arguments.first() {
        Some(path) => read_image(&std::fs::read(path)?, &ReadOptions::default())?,
        None => made_up()?,
    };
    let quality = arguments.get(1).map_or(Ok(Quality::default()), |text| text.parse())?;

    // What an unknown stream may cost is bounded, whatever it says of itself.
    let limits = Limits::default().with_max_pixels(1 << 24).with_max_memory_bytes(2 << 30);
    let codec = Codec::new(default_model()?, CodecOptions::default().with_limits(limits))?;

    let encoded = codec.encode(&picture, quality)?;
    let decoded = codec.decode(&encoded.stream)?;
    println!("{} x {} pixels, {} bytes", picture.width, picture.height, encoded.stream.len());
    println!("{:.2} dB; the same picture on every machine: {}", psnr(&picture, &decoded.image)?, codec.is_exact());
    for time in encoded.report.stages.iter().chain(&decoded.report.stages) {
        println!("{:>10}: {:.3} s on {}", time.stage, time.seconds, time.device);
    }
    if let Some(path) = arguments.get(2) {
        std::fs::write(path, write_image(&decoded.image, OutputFormat::Png)?)?;
    }
    Ok(())
}

/// Rings around a corner.
fn made_up() -> Result<Image, mlic::image::ImageError> {
    let (width, height) = (256, 192);
    let sample = |i: u32| ((i / 3 % width).pow(2) / 97 + (i / 3 / width).pow(2) / 61 + 80 * (i % 3)) as u8;
    Image::from_rgb(width, height, (0..3 * width * height).map(sample).collect())
}
