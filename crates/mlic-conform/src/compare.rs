//! Compares what a decoder reports about a stream with what the manifest expects, and finds the first difference in walk order.

use mlic::image::{Image, ReadOptions, read_image};

use crate::error::ConformError;
use crate::manifest::{Decodes, HeaderFields, HexDigest, Level, PassDigests, PictureRef};
use crate::observe::{Message, PassMessage, PictureDifference, Refusal};
use crate::verdict::{Divergence, Place, Tensor};

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// The first difference, if any.
    pub first: Option<Divergence>,
    /// Members that the level requires and the decoder does not give.
    pub absent: Vec<&'static str>,
    /// Digest of the exact pixels, if the decoder was asked for them.
    pub pixels: Option<HexDigest>,
    /// Differences between the float pictures, if they were compared.
    pub picture: Option<PictureDifference>,
}

impl From<Divergence> for Comparison {
    fn from(first: Divergence) -> Self {
        Self { first: Some(first), ..Self::default() }
    }
}

pub(crate) fn divergence(level: Level, place: Place, expected: impl ToString, got: impl ToString) -> Divergence {
    Divergence { level, place, expected: expected.to_string(), got: got.to_string(), error: None }
}

/// How to ask a decoder for level 4, which happens only when all else is as expected.
pub struct Pictures<E, F> {
    /// Returns the digest of the exact pixels; none if the decoder has none.
    pub pixels: E,
    /// Returns the picture made in float; none if the decoder makes none.
    pub float: F,
}

/// Compares a message with what is expected, up to a level.
///
/// Where pixels are exact, a float picture is judged too if there is one, but a decoder without float transforms need not have one.
///
/// # Errors
/// If there is no difference, [`ConformError::Decoder`] when the decoder failed, or [`ConformError::OwnLimit`] when it reached a limit of its own. Otherwise,
/// whatever keeps the pictures from being compared.
pub fn compare(
    got: &Message,
    pictures: Pictures<
        impl FnOnce() -> Result<Option<HexDigest>, ConformError>,
        impl FnOnce() -> Result<Option<Image>, ConformError>,
    >,
    expected: &Decodes,
    png: Option<&[u8]>,
    level: Level,
) -> Result<Comparison, ConformError> {
    if let Some(found) = got.header.as_ref().and_then(|header| compare_header(header, &expected.header)) {
        return Ok(found.into());
    }
    if level == Level::L0 {
        return compare_container(got);
    }
    let found = compare_walk(got, expected, level);
    if let Some(refusal) = &got.error {
        return ended_in_error(found, refusal).map(Comparison::from);
    }
    if let Some(found) = found.or_else(|| compare_whole(got, expected)).or_else(|| compare_y_hat(got, expected, level)) {
        return Ok(found.into());
    }
    let mut comparison = Comparison { absent: absent(got, level), ..Comparison::default() };
    if level < Level::L4 {
        return Ok(comparison);
    }
    comparison.pixels = (pictures.pixels)()?;
    compare_pixels(expected.pixels.as_ref(), &mut comparison);
    if let Some(reference) = expected.picture.as_ref().filter(|_| comparison.first.is_none()) {
        match (pictures.float)() {
            Ok(Some(picture)) => compare_picture(&picture, reference, png, &mut comparison)?,
            Ok(None) if expected.pixels.is_none() => comparison.absent.push("picture"),
            Err(error) if expected.pixels.is_none() || !error.is_not_available() => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
    Ok(comparison)
}

/// Compares the exact pixels, which must be there if and only if the package has an exact synthesis.
fn compare_pixels(expected: Option<&HexDigest>, comparison: &mut Comparison) {
    match (&comparison.pixels, expected) {
        (None, Some(_)) => comparison.absent.push("pixels"),
        (got, expected) if got.as_ref() != expected => {
            let text = |digest: Option<&HexDigest>| digest.map_or_else(|| "no exact pixels".to_owned(), ToString::to_string);
            comparison.first = Some(divergence(Level::L4, Place::Pixels, text(expected), text(got.as_ref())));
        }
        _ => {}
    }
}

/// Compares at level 0, once the header has been compared.
fn compare_container(got: &Message) -> Result<Comparison, ConformError> {
    match &got.error {
        Some(refusal) => ended_in_error(None, refusal).map(Comparison::from),
        None => Ok(Comparison { absent: absent(got, Level::L0), ..Comparison::default() }),
    }
}

/// Judges a decoding that ended in an error. A difference found before the error is the result. Otherwise a decoder's failure is an error, a limit of its
/// own is not supported, and a refusal of the stream is a failure.
pub(crate) fn ended_in_error(found: Option<Divergence>, refusal: &Refusal) -> Result<Divergence, ConformError> {
    let error = Some(refusal.text());
    match found {
        Some(found) => Ok(Divergence { error, ..found }),
        None if refusal.is_of_the_decoder() => Err(ConformError::Decoder { problem: refusal.text() }),
        None if refusal.is_own_limit() => Err(ConformError::OwnLimit { problem: refusal.text() }),
        None => {
            let found = divergence(Level::L1, Place::Outcome, "a decoding without error", &refusal.code);
            Ok(Divergence { error, ..found })
        }
    }
}

pub(crate) fn compare_header(got: &HeaderFields, want: &HeaderFields) -> Option<Divergence> {
    let differs = |field, expected: &dyn std::fmt::Debug, got: &dyn std::fmt::Debug| {
        let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
        (expected != got).then(|| divergence(Level::L0, Place::Header(field), expected, got))
    };
    differs("model", &want.model, &got.model)
        .or_else(|| differs("width", &want.width, &got.width))
        .or_else(|| differs("height", &want.height, &got.height))
        .or_else(|| differs("quality", &want.quality, &got.quality))
        .or_else(|| differs("gray", &want.gray, &got.gray))
        .or_else(|| differs("lanes_log2", &want.lanes_log2, &got.lanes_log2))
        .or_else(|| differs("symbol_checksum", &want.symbol_checksum, &got.symbol_checksum))
        .or_else(|| differs("payload_bytes", &want.payload_bytes, &got.payload_bytes))
        .or_else(|| differs("sections", &want.sections, &got.sections))
}

/// Returns the first difference in walk order among what the level compares.
fn compare_walk(got: &Message, expected: &Decodes, level: Level) -> Option<Divergence> {
    if let Some(z) = got.z.as_ref().filter(|z| **z != expected.z) {
        return Some(divergence(Level::L1, Place::Z, expected.z, z));
    }
    let passes = mlic_core::schedule::passes(expected.passes.len() / 2);
    let pairs = got.passes.iter().flatten().zip(passes.zip(&expected.passes));
    pairs.into_iter().find_map(|(got, (pass, expected))| {
        if (got.slice, got.parity) != (pass.slice_index, pass.parity.into()) {
            let name = format!("slice {} {:?}", got.slice, got.parity).to_lowercase();
            return Some(divergence(Level::L1, Place::Outcome, format!("pass {pass}"), format!("pass {name}")));
        }
        let tensors = tensors(got, expected).into_iter().filter(|(tensor, ..)| tensor.level() <= level);
        let mut there = tensors.filter_map(|(tensor, got, expected)| Some((tensor, got.as_ref()?, expected)));
        let (tensor, got, expected) = there.find(|(_, got, expected)| got != expected)?;
        Some(divergence(tensor.level(), Place::Pass { pass, tensor }, expected, got))
    })
}

type TensorDigests<'a> = (Tensor, &'a Option<HexDigest>, &'a HexDigest);

/// Returns the tensors of a pass, in the order in which the pass determines them.
fn tensors<'a>(got: &'a PassMessage, expected: &'a PassDigests) -> [TensorDigests<'a>; 3] {
    [
        (Tensor::Means, &got.means, &expected.means),
        (Tensor::ScaleIndices, &got.scale_indices, &expected.scale_indices),
        (Tensor::Symbols, &got.symbols, &expected.symbols),
    ]
}

/// Checks that a decoding without error has gone through every pass and as far as the stream goes.
fn compare_whole(got: &Message, expected: &Decodes) -> Option<Divergence> {
    if let Some(done) = got.passes.as_ref().map(Vec::len).filter(|done| *done != expected.passes.len()) {
        let text = |count: usize| format!("{count} passes");
        return Some(divergence(Level::L1, Place::Outcome, text(expected.passes.len()), text(done)));
    }
    let says_nothing = got.passes.is_none() && got.y_hat.is_none() && got.whole_slices.is_none();
    let text = |whole: Option<usize>| whole.map_or_else(|| "a whole stream".to_owned(), |n| n.to_string());
    (got.whole_slices != expected.whole_slices && !says_nothing)
        .then(|| divergence(Level::L1, Place::WholeSlices, text(expected.whole_slices), text(got.whole_slices)))
}

fn compare_y_hat(got: &Message, expected: &Decodes, level: Level) -> Option<Divergence> {
    let differs = got.y_hat.as_ref().filter(|y_hat| level >= Level::L3 && **y_hat != expected.y_hat);
    differs.map(|y_hat| divergence(Level::L3, Place::YHat, expected.y_hat, y_hat))
}

/// Returns what a level requires short of the picture and a message does not have.
fn absent(got: &Message, level: Level) -> Vec<&'static str> {
    let lacks = |of: fn(&PassMessage) -> &Option<HexDigest>| {
        got.passes.as_ref().is_none_or(|passes| passes.iter().any(|pass| of(pass).is_none()))
    };
    let asked = [
        (Level::L0, "header", got.header.is_none()),
        (Level::L1, "z", got.z.is_none()),
        (Level::L2, "means", lacks(|pass| &pass.means)),
        (Level::L2, "scale_indices", lacks(|pass| &pass.scale_indices)),
        (Level::L1, "symbols", lacks(|pass| &pass.symbols)),
        (Level::L3, "y_hat", got.y_hat.is_none()),
    ];
    asked.into_iter().filter(|(of, _, absent)| *of <= level && *absent).map(|(_, name, _)| name).collect()
}

fn compare_picture(
    got: &Image,
    expected: &PictureRef,
    png: Option<&[u8]>,
    comparison: &mut Comparison,
) -> Result<(), ConformError> {
    let png = png.ok_or_else(|| ConformError::Missing { file: expected.image.file.clone() })?;
    let picture = read_image(png, &ReadOptions::default())?;
    let size = |image: &Image| (image.width, image.height, image.gray);
    if size(got) != size(&picture) {
        let text = |image: &Image| format!("{:?} (width, height, gray)", size(image));
        comparison.first = Some(divergence(Level::L4, Place::Picture, text(&picture), text(got)));
        return Ok(());
    }
    let found = differences(got, &picture);
    comparison.picture = Some(found);
    if found.max_difference > expected.max_difference || found.mean_difference > expected.mean_difference {
        let limits = format!("differences of at most {} and {} in the mean", expected.max_difference, expected.mean_difference);
        let got = format!("{} and {:.4}", found.max_difference, found.mean_difference);
        comparison.first = Some(divergence(Level::L4, Place::Picture, limits, got));
    }
    Ok(())
}

/// Returns the differences of the samples, all three at each position even of gray pictures, so that a file that should be gray and is not differs.
fn differences(got: &Image, expected: &Image) -> PictureDifference {
    let each = || got.rgb.iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each().map(u64::from).sum();
    PictureDifference { max_difference: each().max().unwrap_or(0), mean_difference: sum as f64 / got.rgb.len().max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_should_be_gray_and_is_not_differs() {
        let gray = Image::from_gray(2, 1, &[9, 200]).unwrap();
        let mut got = gray.clone();
        assert_eq!(differences(&got, &gray), PictureDifference { max_difference: 0, mean_difference: 0.0 });
        got.rgb[2] = 15;
        assert_eq!(differences(&got, &gray), PictureDifference { max_difference: 6, mean_difference: 1.0 });
    }
}
