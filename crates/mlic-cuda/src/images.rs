//! The compiled kernels, and which of them a GPU gets.

/// Kernels for some GPUs.
#[derive(Debug)]
pub(crate) struct Image {
    /// What it was made for.
    pub(crate) name: &'static str,
    /// Least compute capability.
    least: (i32, i32),
    /// Most: an image of machine code runs on later minor revisions of the same major one, and not on those of a Tegra; PTX on all.
    most: (i32, i32),
    /// Whether dense layers run on `mma.m16n8k32`.
    pub(crate) has_mma: bool,
    pub(crate) bytes: &'static [u8],
}

macro_rules! images {
    ($($name:literal $least:expr, $most:expr, $has_mma:literal);* $(;)?) => {
        &[$(Image {
            name: $name, least: $least, most: $most, has_mma: $has_mma,
            bytes: include_bytes!(concat!("../images/", $name)),
        }),*]
    };
}

/// In the order of preference. `kernels/build.sh` makes them.
static IMAGES: &[Image] = images! {
    "sm_72.cubin" (7, 2), (7, 2), false;
    "sm_87.cubin" (8, 7), (8, 7), true;
    "sm_90.cubin" (9, 0), (9, 0), true;
    "sm_110.cubin" (11, 0), (11, 0), true;
    "compute_80.ptx" (8, 0), (i32::MAX, 0), true;
    "compute_72.ptx" (7, 2), (7, 9), false;
};

/// The image for a compute capability; none below 7.2.
pub(crate) fn choose(capability: (i32, i32)) -> Option<&'static Image> {
    IMAGES.iter().find(|image| (image.least..=image.most).contains(&capability))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gpu_gets_its_image() {
        let name = |major, minor| choose((major, minor)).map(|image| image.name);
        assert_eq!(name(7, 0), None);
        assert_eq!(name(7, 2), Some("sm_72.cubin"));
        assert_eq!(name(7, 5), Some("compute_72.ptx"));
        assert_eq!(name(8, 6), Some("compute_80.ptx"));
        assert_eq!(name(8, 7), Some("sm_87.cubin"));
        assert_eq!(name(9, 0), Some("sm_90.cubin"));
        assert_eq!(name(11, 0), Some("sm_110.cubin"));
        assert_eq!(name(12, 0), Some("compute_80.ptx"));
    }
}
