//! Limits on everything that is read from outside, checked before anything is allocated (SPEC 1.3).

/// Largest width or height of an image, in pixels.
pub const MAX_SIDE: u32 = 65_535;
/// Largest number of pixels of an image.
pub const MAX_PIXELS: u64 = 1 << 28;
/// Both sides of an image are padded to a multiple of this many pixels: z is at 1/64 resolution.
pub const PADDING_MULTIPLE: u32 = 64;
/// No image has more positions of y, however far [`MAX_PIXELS`] are padded: the overflow proofs rely on it.
pub const MAX_LATENT_POSITIONS: u64 = 1 << 21;
/// Largest magnitude of a symbol that a stream can carry.
pub const MAX_SYMBOL: i32 = (1 << 15) - 1;
/// Largest length of one optional section (ICC, EXIF, XMP), in bytes.
pub const MAX_SECTION_LEN: u64 = 1 << 24;
