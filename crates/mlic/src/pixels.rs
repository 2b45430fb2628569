//! Conversion between 8-bit pictures and float planes: padding, scaling, rounding (SPEC 5.6).

use mlic_backend::{BackendError, Planes, Stage, check_shape};
use mlic_core::memory::{self, OutOfMemory};
use mlic_core::schedule::LatentSize;
use mlic_kernels::Map;
use mlic_model::real;

use crate::error::Error;
use crate::image::{Image, ImageError};

/// A picture as the analysis transform takes it: `[3, H, W]` in 0..1, padded to multiples of 64 by repeating the last column
/// and row.
///
/// # Errors
/// [`Error::Size`] when the picture exceeds a limit, [`Error::Image`] when it does not have as many samples as its size needs,
/// [`Error::OutOfMemory`].
pub fn planes_of(image: &Image) -> Result<Planes, Error> {
    let size = check(image)?;
    Ok(to_planes(&image.rgb, image.width as usize, image.height as usize, &size)?)
}

/// The picture in the top left part of the output of the synthesis transform, clipped and rounded to 8 bits.
///
/// # Errors
/// [`BackendError::Shape`] when the planes are not three, are smaller than the picture, or do not have as many elements as their size needs;
/// [`Error::Image`] for a size that no picture has; [`Error::OutOfMemory`].
pub fn image_of(planes: &Planes, width: u32, height: u32) -> Result<Image, Error> {
    let (w, h) = (width as usize, height as usize);
    check_cover(Stage::Synthesis, planes.data.len(), [planes.height, planes.width], planes.channels, [h, w])?;
    Ok(Image::from_rgb(width, height, to_rgb(planes, w, h)?)?)
}

/// The picture in the top left part of the output of the integer synthesis.
///
/// # Errors
/// As [`image_of`].
pub(crate) fn image_of_samples(samples: Map<u8>, width: u32, height: u32) -> Result<Image, Error> {
    let (w, h) = (width as usize, height as usize);
    check_cover(Stage::ExactSynthesis, samples.data.len(), [samples.height, samples.width], samples.channels, [h, w])?;
    let Map { width: stride, data: mut rgb, .. } = samples;
    if stride > w {
        (1..h).for_each(|row| rgb.copy_within(3 * row * stride..3 * (row * stride + w), 3 * row * w));
    }
    rgb.truncate(3 * w * h);
    Ok(Image::from_rgb(width, height, rgb)?)
}

/// Checks that the output of a synthesis, `got` elements of this size and number of channels, is complete and covers a picture.
fn check_cover(stage: Stage, got: usize, size: [usize; 2], channels: usize, picture: [usize; 2]) -> Result<(), BackendError> {
    let covers = channels == 3 && size.iter().zip(&picture).all(|(have, need)| have >= need);
    check_shape(stage, got, covers, if covers { size } else { picture }, 3)
}

/// Sizes of the tensors of a picture, provided that it has as many samples as its size needs.
///
/// # Errors
/// [`Error::Size`], [`ImageError::SampleCount`].
pub(crate) fn check(image: &Image) -> Result<LatentSize, Error> {
    let size = crate::codec::size_of(image.width, image.height)?;
    if image.rgb.len() as u64 == 3 * image.pixels() { Ok(size) } else { Err(sample_count(image).into()) }
}

/// The error for a picture that does not have as many samples as its size needs.
pub(crate) fn sample_count(image: &Image) -> ImageError {
    ImageError::SampleCount { got: image.rgb.len() as u64, want: 3 * image.pixels() }
}

/// Checks that the output of a stage has this shape.
///
/// # Errors
/// [`BackendError::Shape`].
pub(crate) fn check_planes(planes: &Planes, stage: Stage, size: [usize; 2], channels: usize) -> Result<(), BackendError> {
    let is_shaped = planes.channels == channels && [planes.height, planes.width] == size;
    check_shape(stage, planes.data.len(), is_shaped, size, channels)
}

/// Checks that `y_hat` has this shape.
///
/// # Errors
/// [`BackendError::Shape`].
pub(crate) fn check_latents(y_hat: &Map<i32>, stage: Stage, size: [usize; 2], channels: usize) -> Result<(), BackendError> {
    let is_shaped = y_hat.channels == channels && [y_hat.height, y_hat.width] == size;
    check_shape(stage, y_hat.data.len(), is_shaped, size, channels)
}

/// The sample of a gray picture for one of red, green and blue (SPEC 5.6): `(299 R + 587 G + 114 B + 500) // 1000`, which is the sample itself
/// where the three are equal.
#[must_use]
pub const fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((299 * r as u32 + 587 * g as u32 + 114 * b as u32 + 500) / 1000) as u8
}

/// The picture with the gray flag of its stream: if it is gray, the three samples are made equal at every position.
pub(crate) fn with_gray(mut image: Image, gray: bool) -> Image {
    if gray {
        image.rgb.as_chunks_mut::<3>().0.iter_mut().for_each(|at| *at = [luma(*at); 3]);
    }
    Image { gray, ..image }
}

/// RGB in 0..1, padded to the latent size by repeating the last column and row.
pub(crate) fn to_planes(rgb: &[u8], width: usize, height: usize, size: &LatentSize) -> Result<Planes, OutOfMemory> {
    let [padded_height, padded_width] = size.padded;
    let mut data = Vec::new();
    memory::reserve(&mut data, 3 * padded_height * padded_width)?;
    for channel in 0..3 {
        for row in 0..padded_height {
            let line = &rgb[3 * width * row.min(height - 1)..][..3 * width];
            let samples = line.iter().skip(channel).step_by(3);
            let last = f32::from(line[3 * (width - 1) + channel]) / 255.0;
            data.extend(samples.map(|v| f32::from(*v) / 255.0));
            data.extend(std::iter::repeat_n(last, padded_width - width));
        }
    }
    Ok(Planes { channels: 3, height: padded_height, width: padded_width, data })
}

/// The top left part of a reconstruction, clipped to 0..1 and rounded to 8 bits.
pub(crate) fn to_rgb(planes: &Planes, width: usize, height: usize) -> Result<Vec<u8>, OutOfMemory> {
    let area = planes.height * planes.width;
    let mut rgb = Vec::new();
    memory::reserve(&mut rgb, 3 * width * height)?;
    for row in 0..height {
        for col in 0..width {
            let at = row * planes.width + col;
            rgb.extend((0..3).map(|c| (planes.data[c * area + at].clamp(0.0, 1.0) * 255.0).round() as u8));
        }
    }
    Ok(rgb)
}

/// A gain in Q16 as a factor.
fn factor(gain: u32) -> f32 {
    (f64::from(gain) * real::Q16_STEP) as f32
}

/// Planes multiplied by their gains (Q16).
pub(crate) fn with_gain(planes: &Planes, gains: &[u32]) -> Result<Planes, OutOfMemory> {
    let (mut data, area) = (memory::copy(&planes.data)?, (planes.height * planes.width).max(1));
    for (plane, gain) in data.chunks_exact_mut(area).zip(gains) {
        plane.iter_mut().for_each(|v| *v *= factor(*gain));
    }
    Ok(Planes { data, ..*planes })
}

/// Planes in latent fixed point, channels last.
pub(crate) fn to_latent(planes: &Planes) -> Result<Map<i32>, OutOfMemory> {
    let mut map = Map::zeros(planes.height, planes.width, planes.channels)?;
    let area = (planes.height * planes.width).max(1);
    for (channel, plane) in planes.data.chunks_exact(area).enumerate() {
        for (at, v) in map.data.chunks_exact_mut(planes.channels).zip(plane) {
            at[channel] = real::to_latent(*v);
        }
    }
    Ok(map)
}

/// Latent fixed point to planes, after a gain (Q16) per channel.
pub(crate) fn from_latent(map: &Map<i32>, gains: &[u32]) -> Result<Planes, OutOfMemory> {
    let mut data = Vec::new();
    memory::reserve(&mut data, map.data.len())?;
    for (channel, gain) in gains.iter().enumerate() {
        let scale = factor(*gain) * real::LATENT_STEP as f32;
        data.extend(map.data.iter().skip(channel).step_by(map.channels).map(|v| *v as f32 * scale));
    }
    Ok(Planes { channels: map.channels, height: map.height, width: map.width, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_repeats_the_edge() {
        let size = LatentSize::of_image(2, 1).unwrap();
        let planes = to_planes(&[0, 51, 102, 255, 204, 153], 2, 1, &size).unwrap();
        let at = |c: usize, row: usize, col: usize| planes.data[(c * 64 + row) * 64 + col];
        assert_eq!((at(0, 0, 0), at(0, 63, 63), at(1, 5, 1), at(2, 63, 0)), (0.0, 1.0, 0.8, 0.4));
        assert_eq!(to_rgb(&planes, 2, 1).unwrap(), [0, 51, 102, 255, 204, 153]);
    }

    #[test]
    fn samples_are_cropped() {
        let data = (0..3 * 4 * 3).collect();
        let image = image_of_samples(Map { height: 3, width: 4, channels: 3, data }, 2, 3).unwrap();
        assert_eq!(image.rgb, [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17, 24, 25, 26, 27, 28, 29]);
        let cut = image_of_samples(Map { height: 1, width: 2, channels: 3, data: vec![0; 6] }, 2, 2).unwrap_err();
        let shape = BackendError::Shape { stage: Stage::ExactSynthesis, got: 6, need: 12 };
        assert_eq!(cut.to_string(), shape.to_string());
    }

    #[test]
    fn latents_round_trip() {
        let planes = Planes { channels: 2, height: 1, width: 2, data: vec![1.5, -2.25, f32::NAN, 1e30] };
        let map = to_latent(&planes).unwrap();
        assert_eq!(map.data, [6144, 0, -9216, mlic_core::fixed::LATENT_MAX]);
        let back = from_latent(&map, &[65_536, 32_768]).unwrap();
        assert_eq!(&back.data[..3], &[1.5, -2.25, 0.0]);
    }
}
