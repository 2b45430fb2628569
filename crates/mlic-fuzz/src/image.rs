//! Pictures: any bytes are refused or read within the limits, and what was read survives being written.

use mlic::image::{Image, OutputFormat, ReadOptions, read_image, write_image};
use mlic::metadata::MetadataPolicy;

/// Pixels of the largest picture that is read here.
const MAX_PIXELS: u64 = 1 << 20;

pub(crate) fn target(bytes: &[u8]) {
    let options = |policy, lenient: bool| {
        let mut options = ReadOptions::default();
        options.background = lenient.then_some([1, 2, 3]);
        options.reduce_depth = lenient;
        options.metadata = policy;
        options.max_pixels = MAX_PIXELS;
        options
    };
    let strict = read_image(bytes, &options(MetadataPolicy::Keep, false));
    let lenient = read_image(bytes, &options(MetadataPolicy::Fit, true));
    if let Ok(image) = &strict {
        let same = lenient.as_ref().expect("what is read as it is, is read with more leave too");
        assert!(image.rgb == same.rgb && image.metadata == same.metadata);
    }
    if let Ok(image) = &lenient {
        sound(image);
        let stripped = read_image(bytes, &options(MetadataPolicy::Strip, true)).expect("metadata decides nothing");
        assert!(image.rgb == stripped.rgb && stripped.metadata.parts().count() == 0);
        returns(image);
    }
}

fn sound(image: &Image) {
    assert!(image.pixels() <= MAX_PIXELS);
    assert_eq!(image.rgb.len() as u64, 3 * image.pixels());
    if image.gray {
        assert!(image.rgb.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b), "a gray picture is gray");
    }
}

/// Checks that PNG and PPM give the picture back, and the metadata that the format can keep.
fn returns(image: &Image) {
    for format in [OutputFormat::Png, OutputFormat::Ppm] {
        let back = read_image(&write_image(image, format).unwrap(), &ReadOptions::default()).unwrap();
        // A gray picture with an RGB profile becomes a PNG file of three channels.
        let is_of_rgb = image.metadata.icc.as_ref().is_some_and(|icc| icc.get(16..20) == Some(b"RGB "));
        let is_gray = image.gray && !(format == OutputFormat::Png && is_of_rgb);
        assert!(back.rgb == image.rgb && back.gray == is_gray, "{format} gives other pixels");
        let lost = format.cannot_keep(image);
        for (kind, bytes) in image.metadata.parts().filter(|(kind, _)| !lost.contains(kind)) {
            assert_eq!(back.metadata.parts().find(|(k, _)| *k == kind).map(|(_, b)| b), Some(bytes), "{format}: {kind}");
        }
    }
}
