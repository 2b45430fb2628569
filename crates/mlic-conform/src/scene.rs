//! Pictures generated from a seed in integer arithmetic, and so the same on every machine.

use mlic::image::{Image, ImageError};
use mlic_backend::contract::Random;

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// One colour.
    Flat,
    /// Three ramps, one per channel, in different directions.
    Gradient,
    /// Independent samples.
    Noise,
    /// A checkerboard of single pixels in the left half of the picture, of 8x8 cells in the rest.
    Checker,
    /// Dark strokes on a light ground, like text.
    Glyphs,
    /// Patches with samples of 0 and 255 only.
    Saturated,
}

/// Draws a picture.
///
/// # Errors
/// [`ImageError`] when the size is beyond the codec's limits.
pub fn draw(scene: Scene, width: u32, height: u32, seed: u64) -> Result<Image, ImageError> {
    let mut random = Random(seed);
    let (w, h) = (width as usize, height as usize);
    let rgb = match scene {
        Scene::Flat => vec![[90, 160, 40].map(|v: u8| v ^ (seed as u8)); w * h],
        Scene::Gradient => gradient(w, h),
        Scene::Noise => (0..w * h).map(|_| [0; 3].map(|_: u8| random.next() as u8)).collect(),
        Scene::Checker => checker(w, h),
        Scene::Glyphs => glyphs(w, h, &mut random),
        Scene::Saturated => saturated(w, h, &mut random),
    };
    Image::from_rgb(width, height, rgb.into_iter().flatten().collect())
}

/// Returns the picture without colour.
///
/// # Errors
/// [`ImageError`] when the picture's size does not match its samples.
pub fn gray(image: &Image) -> Result<Image, ImageError> {
    let green: Vec<u8> = image.rgb.iter().skip(1).step_by(3).copied().collect();
    Image::from_gray(image.width, image.height, &green)
}

fn pixels(w: usize, h: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Vec<[u8; 3]> {
    (0..w * h).map(|i| pixel(i % w, i / w)).collect()
}

fn gradient(w: usize, h: usize) -> Vec<[u8; 3]> {
    let ramp = |at: usize, len: usize| (255 * at / len.max(1)) as u8;
    pixels(w, h, |x, y| [ramp(x, w), 255 - ramp(y, h), ramp(x + y, w + h)])
}

fn checker(w: usize, h: usize) -> Vec<[u8; 3]> {
    pixels(w, h, |x, y| {
        let cell = if 2 * x < w { x + y } else { x / 8 + y / 8 };
        if cell % 2 == 0 { [230, 220, 210] } else { [20, 30, 60] }
    })
}

/// Cells of 9x13 pixels with three strokes each: across, down, and slanting.
fn glyphs(w: usize, h: usize, random: &mut Random) -> Vec<[u8; 3]> {
    const CELL: (usize, usize) = (9, 13);
    let mut out = vec![[244, 240, 232]; w * h];
    let mut ink = |x: usize, y: usize, colour: [u8; 3]| {
        if x < w && y < h {
            out[y * w + x] = colour;
        }
    };
    for cell in 0..w.div_ceil(CELL.0) * h.div_ceil(CELL.1) {
        let (left, top) = (cell % w.div_ceil(CELL.0) * CELL.0, cell / w.div_ceil(CELL.0) * CELL.1);
        let dark = if random.below(9) == 0 { [170, 30, 40] } else { [24, 24, 30] };
        let (across, down, slant) = (1 + random.below(9) as usize, random.below(6) as usize, random.below(3) as usize);
        (1..7).for_each(|i| ink(left + i, top + across, dark));
        (1..10).for_each(|i| ink(left + 1 + down, top + i, dark));
        (1..7).for_each(|i| ink(left + i, top + 2 + slant + i, dark));
    }
    out
}

/// Square patches of 5 to 20 pixels, all of one size.
fn saturated(w: usize, h: usize, random: &mut Random) -> Vec<[u8; 3]> {
    let side = 5 + random.below(16) as usize;
    let columns = w.div_ceil(side);
    let colours: Vec<[u8; 3]> =
        (0..columns * h.div_ceil(side)).map(|_| [0; 3].map(|_: u8| if random.below(2) == 0 { 0 } else { 255 })).collect();
    pixels(w, h, |x, y| colours[y / side * columns + x / side])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Scene; 6] = [Scene::Flat, Scene::Gradient, Scene::Noise, Scene::Checker, Scene::Glyphs, Scene::Saturated];

    #[test]
    fn pictures_depend_on_their_seed_alone() {
        for scene in ALL {
            for (w, h) in [(1, 1), (37, 22)] {
                let image = draw(scene, w, h, 5).unwrap();
                assert_eq!(image, draw(scene, w, h, 5).unwrap(), "{scene:?}");
                assert!(gray(&image).unwrap().gray);
            }
        }
        assert_ne!(draw(Scene::Noise, 8, 8, 1).unwrap(), draw(Scene::Noise, 8, 8, 2).unwrap());
    }

    #[test]
    fn saturated_has_extremes_only() {
        assert!(draw(Scene::Saturated, 50, 40, 3).unwrap().rgb.iter().all(|v| [0, 255].contains(v)));
    }
}
