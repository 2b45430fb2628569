//! Rate-distortion points of other codecs, and the BD-rate against them.

use std::collections::BTreeMap;
use std::path::Path;

use mlic::metrics::{RatePoint, bd_rate};
use serde::Deserialize;

use super::report::{BdRate, Mean};
use crate::exit::{Exit, Failure};
use crate::files;

/// Bytes of the longest anchor file.
const MAX_LEN: u64 = 1 << 24;

/// Curves by the name of their codec.
pub(super) type Anchors = BTreeMap<String, Vec<RatePoint>>;

#[derive(Debug, Deserialize)]
struct AnchorFile {
    codecs: BTreeMap<String, Curve>,
}

#[derive(Debug, Deserialize)]
struct Curve {
    bpp: Vec<f64>,
    psnr_rgb: Vec<f64>,
}

/// Reads all curves of the file, or only the one of `codec`.
pub(super) fn read(path: &Path, codec: Option<&str>) -> Result<Anchors, Failure> {
    let failure = |cause: String| Failure::new(Exit::Input, "cannot read", files::input_name(path), cause);
    let bytes = files::read_bytes(path, MAX_LEN)?;
    let file: AnchorFile = serde_json::from_slice(&bytes).map_err(|e| failure(format!("not a file of anchors: {e}")))?;
    let mut anchors = Anchors::new();
    for (name, Curve { bpp, psnr_rgb }) in file.codecs {
        if bpp.len() != psnr_rgb.len() {
            return Err(failure(format!("{name} has {} values of bpp and {} of psnr_rgb", bpp.len(), psnr_rgb.len())));
        }
        let points = bpp.into_iter().zip(psnr_rgb).map(|(bpp, psnr)| RatePoint { bpp, psnr }).collect();
        anchors.insert(name, points);
    }
    let Some(codec) = codec else { return Ok(anchors) };
    let names = anchors.keys().cloned().collect::<Vec<_>>().join(", ");
    anchors.retain(|name, _| name == codec);
    if anchors.is_empty() {
        return Err(Failure::usage(format_args!("--anchor-codec {codec}"), format_args!("the file has {names}")));
    }
    Ok(anchors)
}

/// The BD-rate of the means against each anchor.
pub(super) fn compare(anchors: &Anchors, means: &[Mean]) -> Vec<BdRate> {
    let test: Vec<_> = means.iter().map(|mean| RatePoint { bpp: mean.figures.bpp, psnr: mean.figures.psnr_rgb }).collect();
    let compare = |(name, points): (&String, &Vec<RatePoint>)| {
        let result = bd_rate(points, &test);
        BdRate { anchor: name.clone(), percent: result.as_ref().ok().copied(), error: result.err().map(|e| e.to_string()) }
    };
    anchors.iter().map(compare).collect()
}
