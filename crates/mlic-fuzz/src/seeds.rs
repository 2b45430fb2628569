//! Inputs that fuzzing begins with, made from the conformance vectors and from generated pictures.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use mlic_core::container::parse;
use mlic_model::model::Parts;
use mlic_model::package::SectionKind;

use crate::source::Source;
use crate::{generate, seal};

/// The smallest package of the conformance suites.
pub(crate) const TINY_PACKAGE: &[u8] = include_bytes!("../../../conformance/models/tiny.mlicpkg");

/// A package of some thousands of bytes: analyses in integers, a synthesis in integers and one in floats.
#[must_use]
pub fn small_package() -> Vec<u8> {
    small_parts().to_package().unwrap()
}

/// The package of [`small_package`], but with its synthesis in integers only and its analyses in floats.
#[must_use]
pub fn other_package() -> Vec<u8> {
    let parts = small_parts();
    let [analysis, hyper_analysis] = generate::float_analyses(&parts.config);
    Parts { synthesis: Vec::new(), analysis, hyper_analysis, ..parts }.to_package().unwrap()
}

fn small_parts() -> Parts {
    generate::parts(&mut Source::new(&SMALL))
}

/// Decisions that make a small package which is accepted (`tests/regressions.rs` checks that).
const SMALL: [u8; 24] = [0, 0, 0, 0, 0, 0, 0, 223, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];

/// A seed: its name and its bytes.
pub type Seed = (String, Vec<u8>);

/// Seeds of a target, given the streams of the conformance suites by name.
///
/// # Panics
/// When a picture cannot be encoded, which does not happen.
#[must_use]
pub fn seeds(target: &str, streams: &[Seed]) -> Vec<Seed> {
    let short = || streams.iter().filter(|(_, bytes)| bytes.len() <= 4096);
    let named = |name: &str, bytes: Vec<u8>| -> Seed { (name.to_owned(), bytes) };
    match target {
        "container" => short()
            .flat_map(|(name, bytes)| {
                let section = seal::rewritten(bytes, b"profile").map(|b| (format!("{name}-section"), b));
                [(name.clone(), bytes.clone())].into_iter().chain(section)
            })
            .collect(),
        "decode" => {
            short().filter(|(_, bytes)| parse(bytes).is_ok_and(|s| s.header.width.max(s.header.height) <= 64)).cloned().collect()
        }
        "structured" => {
            let stream = |(name, bytes): &Seed| (name.clone(), [&[0], bytes.as_slice()].concat());
            short().map(stream).chain((0..32).map(|i| named(&format!("edits-{i}"), edits(i)))).collect()
        }
        "rans" => short()
            .filter_map(|(name, bytes)| Some((name.clone(), [&decisions(3)[..16], parse(bytes).ok()?.payload].concat())))
            .chain((0..16).map(|i| named(&format!("symbols-{i}"), decisions(i))))
            .collect(),
        "package" => {
            let (small, other) = (small_package(), other_package());
            let sections = |package: &[u8], prefix: &str| -> Vec<Seed> {
                let named = |(kind, bytes): (SectionKind, _)| (format!("{prefix}{}", kind.name()), bytes);
                seal::package_sections(package).into_iter().map(named).collect()
            };
            let (own, mut others) = (sections(&small, ""), sections(&other, "other-"));
            others.retain(|(_, bytes)| !bytes.is_empty() && own.iter().all(|(_, known)| known != bytes));
            let whole = [named("package", small), named("other-package", other)];
            own.into_iter().chain(others).chain(whole).collect()
        }
        "differential" => (0..32).map(|i| named(&format!("decisions-{i}"), decisions(i))).collect(),
        "image" => pictures(),
        _ => Vec::new(),
    }
}

/// Edits of the small package: 0 to 12 bytes after the eight that seed the generator, which make two edits at most. With more edits hardly any
/// package is accepted.
fn edits(seed: u8) -> Vec<u8> {
    let mut bytes = decisions(seed);
    bytes[0] = 1;
    bytes.truncate(1 + 8 + usize::from(seed % 13));
    bytes
}

fn decisions(seed: u8) -> Vec<u8> {
    let mut random = mlic_backend::contract::Random(seed.into());
    std::iter::once(seed).chain((0..127).map(|_| random.next() as u8)).collect()
}

fn pictures() -> Vec<Seed> {
    let color = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, (x * y) as u8]));
    let color = DynamicImage::ImageRgb8(color);
    let kinds = [
        ("rgb8", color.clone()),
        ("rgba8", color.to_rgba8().into()),
        ("gray8", color.to_luma8().into()),
        ("graya8", color.to_luma_alpha8().into()),
        ("rgb16", color.to_rgb16().into()),
        ("gray16", color.to_luma16().into()),
    ];
    let formats = [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP), ("pnm", ImageFormat::Pnm)];
    let mut seeds: Vec<Seed> = Vec::new();
    for (kind, picture) in &kinds {
        for (extension, format) in formats {
            let mut file = Cursor::new(Vec::new());
            if picture.write_to(&mut file, format).is_ok() {
                seeds.push((format!("{kind}.{extension}"), file.into_inner()));
            }
        }
    }
    seeds.push(("metadata.png".into(), with_metadata(&color)));
    seeds.push(("ascii.ppm".into(), b"P3 2 1 255 1 2 3 4 5 6".to_vec()));
    seeds.push(("ascii.pbm".into(), b"P1 3 2 1 0 1 0 1 0".to_vec()));
    seeds
        .push(("pam".into(), b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n\x01\xff".to_vec()));
    seeds
}

fn with_metadata(picture: &DynamicImage) -> Vec<u8> {
    use mlic::image::{Image, OutputFormat, write_image};
    use mlic::metadata::MetadataKind;
    let mut image = Image::from_rgb(picture.width(), picture.height(), picture.to_rgb8().into_raw()).unwrap();
    for (kind, bytes) in [(MetadataKind::Icc, &b"profile"[..]), (MetadataKind::Exif, b"II*\0"), (MetadataKind::Xmp, b"<x/>")] {
        image.metadata.set(kind, Some(bytes.to_vec()));
    }
    write_image(&image, OutputFormat::Png).unwrap()
}
