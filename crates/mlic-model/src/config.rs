//! The shape of one model: every width that the networks depend on (SPEC 2.2).

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::graph::Scale;
use crate::package::SectionKind;

/// Largest number of weights of the entropy networks.
pub const MAX_WEIGHTS: u64 = 1 << 29;
/// Most channels of a latent slice, and so of a head of an attention.
pub const MAX_SLICE_CHANNELS: usize = 64;

/// Widths, counts and levels of one model: all that the code knows about a model's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// M, channels of y.
    pub latent: usize,
    /// N, channels of z.
    pub hyper: usize,
    /// Number of latent slices; each has `latent / slices` channels.
    pub slices: usize,
    /// Side of the checkerboard attention window, in positions; odd.
    pub window: usize,
    /// Heads of the local and of the global intra attention.
    pub heads: usize,
    /// Channels of one head of the global inter attention.
    pub inter_head_channels: usize,
    /// Hidden widths of the entropy parameter networks.
    pub ep_hidden: Vec<usize>,
    /// Hidden widths of the latent residual prediction networks, per latent slice.
    pub lrp_hidden: Vec<Vec<usize>>,
    /// Hidden widths of the channel context networks.
    pub cc_hidden: Vec<usize>,
    /// Widths of the hyper synthesis at 1/32 and 1/16 resolution.
    pub hs_hidden: [usize; 2],
    /// Gain levels; 0 for a fixed-rate model.
    pub gain_levels: usize,
    /// Levels for which the package carries activation scales; 1 for a fixed-rate model.
    pub scale_levels: usize,
    /// Largest quality of a stream; the qualities from 0 to this one divide the gain levels evenly. 0 for a fixed-rate model.
    pub quality_steps: u8,
    /// Symbols whose scale index is below this are not coded: they are zero.
    pub skip_below: u8,
}

impl Config {
    /// The float transforms: the section of each, its input and output channels, and its scale (SPEC 5.6).
    #[must_use]
    pub const fn transforms(&self) -> [(SectionKind, [usize; 2], Scale); 3] {
        [
            (SectionKind::Analysis, [3, self.latent], Scale { numerator: 1, denominator: 16 }),
            (SectionKind::HyperAnalysis, [self.latent, self.hyper], Scale { numerator: 1, denominator: 4 }),
            (SectionKind::Synthesis, [self.latent, 3], Scale { numerator: 16, denominator: 1 }),
        ]
    }

    /// Channels of one latent slice.
    #[must_use]
    pub const fn slice_channels(&self) -> usize {
        self.latent / self.slices
    }

    /// Level of activation scales for a quality: the nearest one (SPEC 2.2).
    #[must_use]
    pub const fn scale_level(&self, quality: u8) -> usize {
        let steps = self.quality_steps as usize;
        let quality = if quality > self.quality_steps { steps } else { quality as usize };
        if steps == 0 { 0 } else { (2 * quality * (self.scale_levels - 1) + steps) / (2 * steps) }
    }

    /// Checks each field against its limit and against the others.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the field, its value and what it must be.
    pub fn validate(&self) -> Result<(), ModelError> {
        let check = |ok: bool, field: &'static str, got: String, must: &'static str| {
            if ok { Ok(()) } else { Err(ModelError::Config { field, got, must }) }
        };
        let width = |v: usize| (1..=4096).contains(&v);
        let widths = |v: &[usize]| (1..=4).contains(&v.len()) && v.iter().all(|w| width(*w));
        check(width(self.latent), "latent", self.latent.to_string(), "1 to 4096")?;
        check(width(self.hyper), "hyper", self.hyper.to_string(), "1 to 4096")?;
        check((1..=64).contains(&self.slices), "slices", self.slices.to_string(), "1 to 64")?;
        check(self.latent.is_multiple_of(self.slices), "slices", self.slices.to_string(), "a divisor of latent")?;
        check([3, 5, 7].contains(&self.window), "window", self.window.to_string(), "3, 5 or 7")?;
        let s = self.slice_channels();
        check(s <= MAX_SLICE_CHANNELS, "slices", self.slices.to_string(), "at most 64 channels per slice")?;
        check(
            self.heads >= 1 && s.is_multiple_of(self.heads),
            "heads",
            self.heads.to_string(),
            "a divisor of the slice's channels",
        )?;
        let head = self.inter_head_channels;
        check(head >= 1 && s.is_multiple_of(head), "inter_head_channels", head.to_string(), "a divisor of the slice's channels")?;
        check(widths(&self.ep_hidden), "ep_hidden", format!("{:?}", self.ep_hidden), "1 to 4 widths of 1 to 4096")?;
        check(widths(&self.cc_hidden), "cc_hidden", format!("{:?}", self.cc_hidden), "1 to 4 widths of 1 to 4096")?;
        check(widths(&self.hs_hidden), "hs_hidden", format!("{:?}", self.hs_hidden), "widths of 1 to 4096")?;
        let lrp = self.lrp_hidden.len() == self.slices && self.lrp_hidden.iter().all(|w| widths(w));
        check(lrp, "lrp_hidden", format!("{:?}", self.lrp_hidden), "1 to 4 widths of 1 to 4096 for each slice")?;
        check((1..=64).contains(&self.scale_levels), "scale_levels", self.scale_levels.to_string(), "1 to 64")?;
        let fixed = self.gain_levels == 0;
        check(fixed || (2..=64).contains(&self.gain_levels), "gain_levels", self.gain_levels.to_string(), "0 or 2 to 64")?;
        check(
            fixed == (self.quality_steps == 0),
            "quality_steps",
            self.quality_steps.to_string(),
            "0 for a fixed rate, else 1 to 255",
        )?;
        check(!fixed || self.scale_levels == 1, "scale_levels", self.scale_levels.to_string(), "1 for a fixed rate")?;
        check(self.skip_below <= 63, "skip_below", self.skip_below.to_string(), "at most 63")?;
        // Every layer has at most 2^14 outputs, 25 taps and 2^14 inputs: the sum below cannot wrap in 64 bits.
        let weights: u64 = crate::layout::Layout::new(self).layers.iter().map(crate::layout::LayerSpec::weight_count).sum();
        check(weights <= MAX_WEIGHTS, "weights", weights.to_string(), "at most 2^29 in all")
    }
}
