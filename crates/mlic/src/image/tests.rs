use ::image::codecs::jpeg::JpegEncoder;
use ::image::codecs::webp::WebPEncoder;
use ::image::{ExtendedColorType, ImageEncoder};
use mlic_core::limits::MAX_SECTION_LEN;

use super::*;
use crate::metadata::MetadataKind;

fn read(bytes: &[u8]) -> Result<Image, ImageError> {
    read_image(bytes, &ReadOptions::default())
}

fn sample(width: u32, height: u32) -> Vec<u8> {
    (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect()
}

/// A PNG file of `color` with these samples; `edit` adds to its header.
fn png_file(
    color: ::png::ColorType,
    depth: ::png::BitDepth,
    samples: &[u8],
    edit: impl FnOnce(&mut ::png::Info<'static>),
) -> Vec<u8> {
    let mut info = ::png::Info::with_size(2, 2);
    (info.color_type, info.bit_depth) = (color, depth);
    edit(&mut info);
    let mut out = Vec::new();
    let mut writer = ::png::Encoder::with_info(&mut out, info).unwrap().write_header().unwrap();
    writer.write_image_data(samples).unwrap();
    writer.finish().unwrap();
    out
}

fn rgba_file(alpha: u8) -> Vec<u8> {
    let samples = [[200, 100, 50, alpha], [0, 0, 0, 255], [255, 255, 255, 255], [1, 2, 3, 255]].concat();
    png_file(::png::ColorType::Rgba, ::png::BitDepth::Eight, &samples, |_| {})
}

fn wide_file(samples: [u16; 4]) -> Vec<u8> {
    let bytes = samples.map(u16::to_be_bytes).concat();
    png_file(::png::ColorType::Grayscale, ::png::BitDepth::Sixteen, &bytes, |_| {})
}

/// `file` with a chunk put before its last one (IEND has 12 bytes), or before its pixels when `early`.
fn with_chunk(file: &[u8], kind: &[u8; 4], body: &[u8], early: bool) -> Vec<u8> {
    let at = if early { 33 } else { file.len() - 12 };
    let mut crc = [kind.as_slice(), body].concat();
    let sum = crc32(&crc);
    let mut chunk = (body.len() as u32).to_be_bytes().to_vec();
    chunk.append(&mut crc);
    chunk.extend(sum.to_be_bytes());
    [&file[..at], &chunk, &file[at..]].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
}

#[test]
fn colour_and_gray_return_from_png_and_pnm() {
    let colour = Image::from_rgb(5, 3, sample(5, 3)).unwrap();
    let gray = Image::from_gray(3, 5, &sample(1, 5)).unwrap();
    assert!(gray.gray && !colour.gray);
    for image in [colour, gray] {
        for format in [OutputFormat::Png, OutputFormat::Ppm] {
            assert_eq!(read(&write_image(&image, format).unwrap()).unwrap(), image, "{format}");
        }
    }
}

#[test]
fn gray_output_is_the_luma() {
    let image = Image { gray: true, ..Image::from_rgb(3, 1, vec![255, 0, 0, 0, 255, 0, 0, 0, 255]).unwrap() };
    let pgm = write_image(&image, OutputFormat::Ppm).unwrap();
    assert_eq!(pgm, [b"P5\n3 1\n255\n".as_slice(), &[76, 150, 29]].concat());
}

#[test]
fn metadata_returns_from_png() {
    let mut image = Image::from_rgb(2, 2, sample(2, 2)).unwrap();
    image.metadata.icc = Some(vec![1, 2, 3, 250]);
    image.metadata.exif = Some(b"MM\0\x2a orientation and so on".to_vec());
    image.metadata.xmp = Some("<x:xmpmeta>é</x:xmpmeta>".into());
    let file = write_image(&image, OutputFormat::Png).unwrap();
    assert_eq!(read(&file).unwrap(), image);
    let strip = ReadOptions { metadata: MetadataPolicy::Strip, ..ReadOptions::default() };
    let stripped = read_image(&file, &strip).unwrap();
    assert!(stripped.metadata.is_empty());
    assert_eq!(stripped.notes, ["ICC profile left out: the colours will be taken for those of sRGB"]);
    assert_eq!(OutputFormat::Ppm.cannot_keep(&image).len(), 3);
    assert_eq!(OutputFormat::Png.cannot_keep(&image), []);
    image.metadata.xmp = Some(vec![0xff]);
    assert_eq!(OutputFormat::Png.cannot_keep(&image), [MetadataKind::Xmp]);
    assert_eq!(read(&write_image(&image, OutputFormat::Png).unwrap()).unwrap().metadata.xmp, None);
}

#[test]
fn profiles_in_png_are_of_the_samples_beside_them() {
    let of = |gray, space: &[u8; 4]| {
        let image = Image::from_gray(2, 2, &[1, 200, 3, 4]).unwrap();
        let icc = [[7; 16].as_slice(), space, &[7; 108]].concat();
        Image { gray, metadata: Metadata { icc: Some(icc), ..Metadata::default() }, ..image }
    };
    for (gray, space, is_kept, gray_file) in [
        (false, b"RGB ", true, false),
        (true, b"GRAY", true, true),
        (true, b"RGB ", true, false),
        (false, b"GRAY", false, false),
        (true, b"CMYK", false, true),
    ] {
        let image = of(gray, space);
        assert_eq!(OutputFormat::Png.cannot_keep(&image).is_empty(), is_kept, "{space:?}");
        let again = read(&write_image(&image, OutputFormat::Png).unwrap()).unwrap();
        assert_eq!((again.gray, &again.rgb), (gray_file, &image.rgb), "{space:?}");
        assert_eq!(again.metadata.icc, image.metadata.icc.filter(|_| is_kept), "{space:?}");
        assert_eq!(read(&write_image(&of(gray, space), OutputFormat::Ppm).unwrap()).unwrap().gray, gray);
    }
}

#[test]
fn metadata_after_the_pixels_is_found() {
    let file = with_chunk(&rgba_file(255), b"eXIf", b"Exif\0\0II*\0", false);
    assert_eq!(read(&file).unwrap().metadata.exif.unwrap(), b"II*\0");
}

#[test]
fn metadata_that_cannot_be_kept_is_an_error_or_a_note() {
    let mut xmp = b"XML:com.adobe.xmp\0\0\0\0\0".to_vec();
    xmp.resize(xmp.len() + MAX_SECTION_LEN as usize + 1, b' ');
    let fit = ReadOptions { metadata: MetadataPolicy::Fit, ..ReadOptions::default() };
    let file = with_chunk(&rgba_file(255), b"iTXt", &xmp, false);
    assert!(
        matches!(read(&file), Err(ImageError::MetadataLimit { kind: MetadataKind::Xmp, len_bytes, .. }) if len_bytes == MAX_SECTION_LEN + 1)
    );
    assert_eq!(read_image(&file, &fit).unwrap().metadata.xmp, None);
    let file = with_chunk(&rgba_file(255), b"iCCP", b"name\0\0not deflate", true);
    assert!(matches!(read(&file), Err(ImageError::MetadataUnreadable { kind: MetadataKind::Icc, .. })));
    assert!(read_image(&file, &fit).unwrap().notes.iter().any(|n| n.starts_with("left out: the ICC profile")));
}

#[test]
fn text_beyond_what_a_parser_may_keep_is_metadata_like_any_other() {
    let strip = ReadOptions { metadata: MetadataPolicy::Strip, ..ReadOptions::default() };
    for (keyword, early) in [("Comment", true), ("XML:com.adobe.xmp", false)] {
        let mut text = [keyword.as_bytes(), &[0; 5]].concat();
        text.resize(3 * MAX_SECTION_LEN as usize, b' ');
        let file = with_chunk(&rgba_file(255), b"iTXt", &text, early);
        match (read(&file), early) {
            (Ok(image), true) => assert!(image.notes.contains(&"not kept from the file: iTXt".into()), "{:?}", image.notes),
            (Err(ImageError::MetadataUnreadable { kind: MetadataKind::Xmp, .. }), false) => {}
            (other, _) => panic!("{keyword}: {other:?}"),
        }
        assert_eq!(read_image(&file, &strip).unwrap().notes, ["the alpha channel is opaque everywhere: left out"]);
    }
}

#[test]
fn chunks_that_get_lost_are_noted() {
    let lost = with_chunk(&with_chunk(&wide_file([0; 4]), b"tEXt", b"Title\0x", false), b"pHYs", &[0; 9], true);
    assert!(read(&lost).unwrap().notes.contains(&"not kept from the file: pHYs, tEXt".to_string()));
}

#[test]
fn colours_that_are_not_those_of_srgb_are_refused_or_noted() {
    let bytes = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    let with = |kind: &[u8; 4], body: &[u8]| with_chunk(&rgba_file(255), kind, body, true);
    let srgb = bytes(&[31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000]);
    let rounded = bytes(&[31_269, 32_899, 63_999, 33_001, 30_000, 60_000, 15_000, 5_999]);
    let adobe = bytes(&[31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000]);
    for file in [with(b"gAMA", &bytes(&[45_455])), with(b"cHRM", &srgb), with(b"cHRM", &rounded), with(b"cICP", &[1, 13, 0, 1])] {
        assert_eq!(read(&file).unwrap().notes, ["the alpha channel is opaque everywhere: left out"]);
    }
    let fit = ReadOptions { metadata: MetadataPolicy::Fit, ..ReadOptions::default() };
    let strip = ReadOptions { metadata: MetadataPolicy::Strip, ..ReadOptions::default() };
    for (kind, body) in [(b"gAMA", bytes(&[100_000])), (b"cHRM", adobe), (b"cICP", vec![9, 16, 0, 1]), (b"gAMA", vec![])] {
        let (file, name) = (with(kind, &body), kind.escape_ascii().to_string());
        assert!(matches!(read(&file), Err(ImageError::ColorSpaceUnsupported { chunks }) if chunks == name), "{name}");
        let notes = read_image(&file, &fit).unwrap().notes;
        assert!(notes.iter().any(|note| note.starts_with(&format!("left out: {name}, so that"))), "{notes:?}");
        assert_eq!(read_image(&file, &strip).unwrap().notes, notes);
    }
    // A profile, or sRGB, takes precedence over gAMA; cICP over both.
    let gamma = with(b"gAMA", &bytes(&[100_000]));
    assert!(read(&with_chunk(&gamma, b"sRGB", &[0], true)).is_ok());
    assert!(read(&with_chunk(&with(b"cICP", &[9, 16, 0, 1]), b"sRGB", &[0], true)).is_err());
    assert!(read(&with_chunk(&gamma, b"cICP", &[1, 13, 0, 1], true)).is_ok());
}

#[test]
fn alpha_is_dropped_where_opaque_refused_or_flattened() {
    let opaque = read(&rgba_file(255)).unwrap();
    assert_eq!(opaque.rgb[..3], [200, 100, 50]);
    assert_eq!(opaque.notes, ["the alpha channel is opaque everywhere: left out"]);
    assert!(matches!(read(&rgba_file(254)), Err(ImageError::AlphaUnsupported)));
    let options = ReadOptions { background: Some([0, 100, 250]), ..ReadOptions::default() };
    let flat = read_image(&rgba_file(51), &options).unwrap();
    assert_eq!(flat.rgb[..6], [40, 100, 210, 0, 0, 0]);
    assert_eq!(flat.notes, ["alpha flattened onto #0064fa"]);
}

#[test]
fn gray_alpha_stays_gray_on_a_gray_background_only() {
    let file = png_file(::png::ColorType::GrayscaleAlpha, ::png::BitDepth::Eight, &[9, 0, 9, 255, 9, 255, 9, 255], |_| {});
    let onto = |color| read_image(&file, &ReadOptions { background: Some(color), ..ReadOptions::default() }).unwrap();
    assert!(onto([7; 3]).gray);
    assert_eq!(onto([7; 3]).rgb[..6], [7, 7, 7, 9, 9, 9]);
    assert!(!onto([7, 7, 8]).gray);
}

#[test]
fn sixteen_bits_are_refused_reduced_or_exact() {
    let file = wide_file([0, 65535, 300, 129]);
    assert!(matches!(read(&file), Err(ImageError::DepthUnsupported { bits: 16 })));
    let options = ReadOptions { reduce_depth: true, ..ReadOptions::default() };
    let reduced = read_image(&file, &options).unwrap();
    assert_eq!(reduced.rgb.as_chunks::<3>().0, [[0; 3], [255; 3], [1; 3], [1; 3]]);
    assert!(reduced.gray);
    let exact = read(&wide_file([0, 257, 514, 65535])).unwrap();
    assert_eq!(exact.notes, ["16-bit samples reduced to 8 bits exactly"]);
    // The largest alpha that is not opaque does not become opaque by rounding.
    let samples = [1u16, 65534].map(u16::to_be_bytes).concat().repeat(4);
    let file = png_file(::png::ColorType::GrayscaleAlpha, ::png::BitDepth::Sixteen, &samples, |_| {});
    assert!(matches!(read_image(&file, &options), Err(ImageError::AlphaUnsupported)));
}

#[test]
fn small_depths_and_palettes_expand() {
    let file = png_file(::png::ColorType::Grayscale, ::png::BitDepth::Two, &[0b0001_0000, 0b1011_0000], |_| {});
    assert_eq!(read(&file).unwrap().rgb.as_chunks::<3>().0, [[0; 3], [85; 3], [170; 3], [255; 3]]);
    let palette = |info: &mut ::png::Info<'static>| info.palette = Some([1, 2, 3, 4, 5, 6].as_slice().into());
    let file = png_file(::png::ColorType::Indexed, ::png::BitDepth::One, &[0b0100_0000, 0b1000_0000], palette);
    assert_eq!(read(&file).unwrap().rgb.as_chunks::<3>().0, [[1, 2, 3], [4, 5, 6], [4, 5, 6], [1, 2, 3]]);
}

fn jpeg(color: ExtendedColorType, edit: impl FnOnce(&mut JpegEncoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut out, 95);
    edit(&mut encoder);
    let channels = if color == ExtendedColorType::L8 { 1 } else { 3 };
    encoder.encode(&vec![90; 16 * 8 * channels], 16, 8, color).unwrap();
    out
}

#[test]
fn jpeg_is_read_with_its_metadata() {
    let file = jpeg(ExtendedColorType::Rgb8, |encoder| {
        encoder.set_icc_profile(vec![5; 70_000]).unwrap();
        encoder.set_exif_metadata(b"II*\0stuff".to_vec()).unwrap();
    });
    let image = read(&file).unwrap();
    assert_eq!((image.width, image.height, image.gray), (16, 8, false));
    assert!(image.rgb.iter().all(|&v| v.abs_diff(90) <= 1));
    assert_eq!(image.metadata.icc.unwrap(), vec![5; 70_000]);
    assert_eq!(image.metadata.exif.unwrap(), b"II*\0stuff");
    assert_eq!(image.notes, [""; 0]);
    let density = ::image::codecs::jpeg::PixelDensity::dpi(300);
    let dense = read(&jpeg(ExtendedColorType::Rgb8, |encoder| encoder.set_pixel_density(density))).unwrap();
    assert_eq!(dense.notes, ["not kept from the file: density (JFIF)"]);
    let gray = read(&jpeg(ExtendedColorType::L8, |_| {})).unwrap();
    assert!(gray.gray && gray.rgb.len() == 16 * 8 * 3);
}

#[test]
fn jpeg_without_its_end_is_truncated_even_with_a_thumbnail_that_has_one() {
    let file = jpeg(ExtendedColorType::Rgb8, |encoder| encoder.set_exif_metadata(b"II*\0\xff\xd8\xff\xd9".to_vec()).unwrap());
    assert!(read(&file).is_ok());
    for cut in 1..=file.len() - 4 {
        assert!(matches!(read(&file[..file.len() - cut]), Err(ImageError::Truncated { .. })), "cut {cut}");
    }
}

#[test]
fn jpeg_with_four_components_or_twelve_bits_is_refused() {
    let file = jpeg(ExtendedColorType::Rgb8, |_| {});
    let sof = file.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let changed = |at: usize, value: u8| {
        let mut file = file.clone();
        file[sof + at] = value;
        read(&file)
    };
    assert!(matches!(changed(9, 4), Err(ImageError::ColorUnsupported { color: "CMYK" })));
    assert!(matches!(changed(4, 12), Err(ImageError::DepthUnreadable { bits: 12, .. })));
}

fn webp(color: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut out);
    encoder.set_icc_profile(vec![8; 9]).unwrap();
    encoder.encode(samples, 2, 2, color).unwrap();
    out
}

#[test]
fn webp_is_read_and_its_animation_refused() {
    let file = webp(ExtendedColorType::Rgb8, &sample(2, 2));
    let image = read(&file).unwrap();
    assert_eq!(image.rgb, sample(2, 2));
    assert_eq!(image.metadata.icc.unwrap(), [8; 9]);
    assert!(matches!(read(&file[..file.len() - 3]), Err(ImageError::Truncated { format: "WebP", .. })));
    let vp8x = file.windows(4).position(|w| w == b"VP8X").unwrap();
    let mut huge = file.clone();
    huge[vp8x + 4..vp8x + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&huge), Err(ImageError::Truncated { format: "WebP", .. })));
    // The flag and the chunk of an animation with one empty frame.
    let mut animated = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x01\0\0\x01\0\0ANIM\x06\0\0\0\0\0\0\0\0\0".to_vec();
    animated.extend(b"ANMF\x18\0\0\0\0\0\0\0\0\0\x01\0\0\x01\0\0\0\0\0\0VP8L\0\0\0\0");
    let len = animated.len() as u32 - 8;
    animated[4..8].copy_from_slice(&len.to_le_bytes());
    assert!(matches!(read(&animated), Err(ImageError::AnimationUnsupported { format: "WebP" })));
}

/// A WebP file with a canvas and these chunks; `after` follows its container.
fn webp_of(sides: [u8; 2], chunks: &[(&[u8; 4], &[u8])], after: &[u8]) -> Vec<u8> {
    let [width, height] = sides.map(|side| side - 1);
    let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
    file.extend([width, 0, 0, height, 0, 0]);
    for (kind, body) in chunks {
        file.extend([kind.as_slice(), &(body.len() as u32).to_le_bytes(), body].concat());
    }
    let len = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&len.to_le_bytes());
    [&file, after].concat()
}

/// A lossy frame of one partition of zeros.
fn vp8_frame([width, height]: [u16; 2]) -> Vec<u8> {
    let (partition, len) = ([0; 64], 64_u32);
    let tag = (len << 5 | 1 << 4).to_le_bytes();
    let sides = [width, height].map(u16::to_le_bytes).concat();
    [&tag[..3], &[0x9d, 0x01, 0x2a], &sides, &partition, &[0; 32]].concat()
}

/// The parser decodes a lossy frame at the size that the frame states.
#[test]
fn a_webp_frame_is_as_large_as_its_canvas() {
    let frame = vp8_frame([40, 24]);
    assert_eq!(read(&webp_of([40, 24], &[(b"VP8 ", &frame)], b"")).unwrap().pixels(), 40 * 24);
    let refused = |file: &[u8], text: &str| match read(file) {
        Err(ImageError::Damaged { source, .. }) => assert_eq!(source.to_string(), text),
        other => panic!("{other:?}"),
    };
    let small = webp_of([1, 1], &[(b"VP8 ", &frame)], b"");
    refused(&small, "a frame of 40x24 on a canvas of 1x1");
    let second = webp_of([40, 24], &[(b"VP8 ", &frame), (b"VP8 ", &vp8_frame([0x3fff, 24]))], b"");
    refused(&second, "a frame of 16383x24 on a canvas of 40x24");
    // The parser reads a canvas whatever length its chunk has; the bytes beyond that length would be a chunk of 0 bytes here.
    let mut short = webp_of([1, 1], &[(b"VP8 ", &frame)], b"");
    short[16] = 2;
    short[22..30].copy_from_slice(b"none\0\0\0\0");
    refused(&short, "a frame of 40x24 on a canvas of 25967x1");
    // Chunks after the container do not count.
    let behind = [b"VP8 ", (frame.len() as u32).to_le_bytes().as_slice(), &frame].concat();
    assert!(read(&webp_of([1, 1], &[], &behind)).is_err_and(|e| !e.to_string().is_empty()));
    // The parser looks at chunks within those of an animation whatever the flags say, and such chunks can claim any length.
    let claims = [&[0; 16], b"ICCP\xff\xff\xff\xff".as_slice()].concat();
    let animated = webp_of([40, 24], &[(b"VP8 ", &frame), (b"ANMF", &claims)], b"");
    assert!(matches!(read(&animated), Err(ImageError::AnimationUnsupported { format: "WebP" })));
}

#[test]
fn animated_png_is_refused() {
    let file = with_chunk(&rgba_file(255), b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0], true);
    assert!(matches!(read(&file), Err(ImageError::AnimationUnsupported { format: "PNG" })));
}

#[test]
fn what_is_no_picture_or_another_format_is_named() {
    assert!(matches!(read(b""), Err(ImageError::NotAnImage)));
    assert!(matches!(read(b"#!/bin/sh"), Err(ImageError::NotAnImage)));
    assert!(matches!(read(b"GIF89a......"), Err(ImageError::FormatUnsupported { format }) if format == "GIF"));
}

#[test]
fn sizes_are_limited_before_pixels_are_read() {
    let ppm = |w: u32, h: u32| read(format!("P6\n{w} {h}\n255\n").as_bytes());
    assert!(matches!(ppm(65_536, 1), Err(ImageError::SideLimit { limit: 65_535, .. })));
    assert!(matches!(ppm(65_535, 65_535), Err(ImageError::PixelLimit { .. })));
    assert!(matches!(ppm(8192, 8193), Err(ImageError::PixelLimit { limit: 0x400_0000, .. })));
    assert!(matches!(ppm(8192, 8192), Err(ImageError::Truncated { .. })));
    let png = |w: u32, h: u32| {
        let mut file = rgba_file(255);
        file[16..20].copy_from_slice(&w.to_be_bytes());
        file[20..24].copy_from_slice(&h.to_be_bytes());
        let crc = crc32(&file[12..29]);
        file[29..33].copy_from_slice(&crc.to_be_bytes());
        read(&file)
    };
    assert!(matches!(png(65_536, 1), Err(ImageError::SideLimit { .. })));
    assert!(matches!(png(65_535, 65_535), Err(ImageError::PixelLimit { .. })));
    assert!(matches!(png(8192, 8192), Err(ImageError::Truncated { .. })), "no deflate stream of this length holds as much");
    let few = ReadOptions { max_pixels: 3, ..ReadOptions::default() };
    assert!(matches!(read_image(&rgba_file(255), &few), Err(ImageError::PixelLimit { pixels: 4, limit: 3, .. })));
    assert!(matches!(Image::from_rgb(0, 1, vec![]), Err(ImageError::Empty { .. })));
    assert!(matches!(Image::from_rgb(1, 1, vec![0; 4]), Err(ImageError::SampleCount { got: 4, want: 3 })));
}

#[test]
fn pnm_is_read_whole_scaled_and_noted() {
    assert!(matches!(read(b"P5 2 2 255\n\x01\x02\x03"), Err(ImageError::Truncated { format: "PNM", have_bytes: 14 })));
    let scaled = read(b"P5 2 1 15\n\x00\x0f").unwrap();
    assert_eq!(scaled.rgb, [0, 0, 0, 255, 255, 255]);
    assert_eq!(scaled.notes, ["samples scaled from 0..=15 to 0..=255"]);
    assert_eq!(read(b"P5 2 1 1\n\x00\x01").unwrap().notes, ["samples scaled from 0..=1 to 0..=255"]);
    assert!(read(b"P4 8 1\n\x0f").unwrap().notes.is_empty(), "a bitmap has 0 and 1 by name");
    assert_eq!(read(b"P3 1 1 255 7 8 9").unwrap().rgb, [7, 8, 9]);
    assert_eq!(read(b"P4 2 1\n\x40").unwrap().rgb, [255, 255, 255, 0, 0, 0]);
}

#[test]
fn pnm_is_one_picture_and_nothing_more() {
    let files = [b"P6 1 1 255\n\x07\x08\x09".as_slice(), b"P3 1 1 255 7 8 9", b"P4 2 1\n\x40", b"P1 2 1 01"];
    for file in files {
        let image = read(file).unwrap();
        assert_eq!(read(&[file, b" \r\n\t"].concat()).unwrap(), image);
        for between in ["\n", " \n"] {
            let several = read(&[file, between.as_bytes(), file].concat());
            assert!(matches!(several, Err(ImageError::SeveralPictures { format: "PNM" })), "{several:?}");
        }
        let Err(ImageError::Damaged { source, .. }) = read(&[file, b"\nmore"].concat()) else { panic!("it is read") };
        assert_eq!(source.to_string(), "4 bytes follow the picture");
    }
}

/// Every prefix of every format, and every single changed byte: an error or a picture, never a panic.
#[test]
fn damage_never_panics() {
    let files = [
        rgba_file(255),
        write_image(&Image::from_rgb(2, 2, sample(2, 2)).unwrap(), OutputFormat::Ppm).unwrap(),
        jpeg(ExtendedColorType::Rgb8, |_| {}),
        webp(ExtendedColorType::Rgba8, &[200; 16]),
    ];
    for file in files {
        for at in 0..file.len() {
            let _ = read(&file[..at]);
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] ^= flip;
                let options = ReadOptions { max_pixels: 1 << 16, ..ReadOptions::default() };
                let _ = read_image(&damaged, &options);
            }
        }
    }
}

/// Looking for each kind among all kinds before it would take quadratic time.
#[test]
fn many_kinds_of_chunks_make_a_short_note() {
    let kinds = (0..20).map(|i| [b'a', b'b', b'C', b'a' + i]);
    let file = kinds.fold(rgba_file(255), |file, kind| with_chunk(&file, &kind, b"", false));
    let expected = "not kept from the file: abCa, abCb, abCc, abCd, abCe, abCf, abCg, abCh, others";
    assert!(read(&file).unwrap().notes.contains(&expected.to_owned()));
}

/// The parser keeps every chunk of text.
#[test]
fn chunks_of_text_are_limited() {
    let base = rgba_file(255);
    let with = |count: usize, kind: &[u8; 4]| {
        let one = with_chunk(&base, kind, b"a\0\0\0\0\0", false);
        let (head, end) = base.split_at(base.len() - 12);
        [head, &one[head.len()..one.len() - 12].repeat(count), end].concat()
    };
    assert_eq!(read(&with(1000, b"iTXt")).unwrap().pixels(), 4);
    for kind in [b"tEXt", b"zTXt", b"iTXt"] {
        let refused = read(&with(1001, kind)).unwrap_err();
        assert!(
            matches!(&refused, ImageError::FormatUnsupported { format } if format == "PNG with more than 1000 chunks of text")
        );
    }
}
