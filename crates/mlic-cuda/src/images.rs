//! The compiled kernels, and which of them a GPU gets.

/// Compiled kernels for some GPUs.
#[derive(Debug)]
pub(crate) struct Image {
    /// File name, which says what the image was made for.
    pub(crate) name: &'static str,
    /// Least compute capability.
    least: (i32, i32),
    /// Greatest compute capability: here, machine code is for one revision, PTX for all later ones.
    most: (i32, i32),
    /// Whether dense layers run on `mma.m16n8k32`.
    pub(crate) has_mma: bool,
    /// The image as `build.rs` compressed it.
    packed: &'static [u8],
}

impl Image {
    /// The image uncompressed, as the driver takes it.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        miniz_oxide::inflate::decompress_to_vec_zlib(self.packed).ok()
    }
}

macro_rules! images {
    ($($name:literal $least:expr, $most:expr, $has_mma:literal);* $(;)?) => {
        &[$(Image {
            name: $name, least: $least, most: $most, has_mma: $has_mma,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name)),
        }),*]
    };
}

/// All images in the order of preference, made by `kernels/build.py`.
static IMAGES: &[Image] = images! {
    "sm_72.cubin" (7, 2), (7, 2), false;
    "sm_87.cubin" (8, 7), (8, 7), true;
    "sm_90.cubin" (9, 0), (9, 0), true;
    "sm_110.cubin" (11, 0), (11, 0), true;
    "compute_80.ptx" (8, 0), (i32::MAX, 0), true;
    "compute_72.ptx" (7, 2), (i32::MAX, 0), false;
};

/// Returns the images for a compute capability in the order of preference; with `without_mma`, only those that do without `mma`. None below 7.2.
pub(crate) fn choices(capability: (i32, i32), without_mma: bool) -> impl Iterator<Item = &'static Image> {
    IMAGES.iter().filter(move |image| (image.least..=image.most).contains(&capability) && !(without_mma && image.has_mma))
}

#[cfg(test)]
mod tests {
    use mlic_core::checkerboard::Parity;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::args::{self, Step};
    use crate::{layer, ops, packed};

    #[test]
    fn the_images_are_of_these_sources() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let is_source = |name: &str| name.ends_with(".h") || name.ends_with(".cu");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| is_source(name)).collect();
        names.sort();
        let mut digest = Sha256::new();
        for name in names {
            digest.update([name.as_bytes(), b"\0", &std::fs::read(format!("{folder}/{name}")).unwrap()].concat());
        }
        let made_of = include_str!("../images/sources.sha256").trim();
        assert_eq!(mlic_model::package::hex(&digest.finalize()), made_of, "run kernels/build.py");
    }

    /// Constants by which both sides size memory and grids.
    #[test]
    fn constants_are_those_of_the_kernels() {
        let sources =
            [include_str!("../kernels/attention.h"), include_str!("../kernels/dense.h"), include_str!("../kernels/fixed.h")];
        let sources = [&sources[..], &[include_str!("../kernels/layer.h")]].concat().join("\n");
        let number =
            |text: &str| text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse::<i64>().ok();
        let after = |start: String| sources.split_once(&start).and_then(|(_, rest)| number(rest.lines().next()?));
        for (name, own) in [
            ("MAX_TERMS", args::MAX_TERMS as i64),
            ("STAGES", layer::STAGES as i64),
            ("APPLY", ops::APPLY as i64),
            ("NEW_PATCH", Step::NEW_PATCH.into()),
            ("END_OF_TERM", Step::END_OF_TERM.into()),
            ("WIDE_TERM", Step::WIDE_TERM.into()),
            ("HALF_NONE", args::half(None).into()),
            ("HALF_ANCHOR", args::half(Some(Parity::Anchor)).into()),
            ("HALF_NON_ANCHOR", args::half(Some(Parity::NonAnchor)).into()),
        ] {
            assert_eq!(after(format!("#define {name} ")), Some(own), "{name}");
        }
        for (name, own) in packed::EPILOGUES {
            assert_eq!(after(format!(" {name} = ")), Some(own.into()), "{name}");
        }
    }

    #[test]
    fn images_are_unpacked_as_they_were() {
        for image in IMAGES {
            let raw = std::fs::read(format!("{}/images/{}", env!("CARGO_MANIFEST_DIR"), image.name)).unwrap();
            assert_eq!(image.bytes(), Some(raw), "{}", image.name);
        }
    }

    #[test]
    fn each_gpu_gets_its_image() {
        let names = |capability, without_mma| choices(capability, without_mma).map(|image| image.name).collect::<Vec<_>>();
        assert!(names((7, 0), false).is_empty());
        assert_eq!(names((7, 2), false), ["sm_72.cubin", "compute_72.ptx"]);
        assert_eq!(names((7, 5), false), ["compute_72.ptx"]);
        assert_eq!(names((8, 6), false), ["compute_80.ptx", "compute_72.ptx"]);
        assert_eq!(names((8, 7), false), ["sm_87.cubin", "compute_80.ptx", "compute_72.ptx"]);
        assert_eq!(names((9, 0), false), ["sm_90.cubin", "compute_80.ptx", "compute_72.ptx"]);
        assert_eq!(names((11, 0), false), ["sm_110.cubin", "compute_80.ptx", "compute_72.ptx"]);
        assert_eq!(names((12, 0), false), ["compute_80.ptx", "compute_72.ptx"]);
        assert_eq!(names((9, 0), true), ["compute_72.ptx"]);
    }
}
