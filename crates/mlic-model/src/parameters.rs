//! Integer parameters of the entropy networks, as the package stores them (SPEC 2.5 to 2.8).

use mlic_core::fixed::round_shift;

use crate::config::Config;
use crate::error::ModelError;
use crate::layout::{Epilogue, LayerSpec, Layout};
use crate::wire::{Reader, Writer};

/// Entries of the GELU and tanh tables: arguments 0 to 8 in steps of 1/64.
pub const FUNCTION_LEN: usize = 513;
/// Entries of the coarse and the fine table of the exponential.
pub const EXP_LEN: [usize; 2] = [256, 64];
/// Entries of each table of the power of two.
pub const EXP2_LEN: usize = 256;
/// Number of scale indices.
pub const SCALE_COUNT: usize = 64;

/// A change of scale: `round_shift(v * multiplier, shift)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requant {
    /// Not negative.
    pub multiplier: i32,
    /// 0 to 62.
    pub shift: u32,
}

impl Requant {
    /// Applies the change of scale; [`crate::proof`] has shown that it cannot overflow.
    #[must_use]
    #[inline]
    pub const fn apply(self, v: i64) -> i64 {
        round_shift(v * self.multiplier as i64, self.shift)
    }
}

/// What a layer needs for one level of activation scales.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerLevel {
    /// Shift of the weighted sum of the terms.
    pub shift: u32,
    /// Multiplier per term and output channel.
    pub multipliers: Vec<Vec<i32>>,
    /// Bias per output channel, in units of 2^-shift.
    pub bias: Vec<i64>,
    /// From pre-activation fixed point to activations; used by [`Epilogue::Gelu`] only.
    pub output: Requant,
}

/// Parameters of a linear layer, without its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerParameters {
    /// Largest magnitude of the output activations.
    pub max: i32,
    /// One for each level of activation scales.
    pub levels: Vec<LayerLevel>,
}

/// Parameters of a conversion from latent fixed point to activations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizerParameters {
    /// Largest magnitude of the activations.
    pub max: i32,
    /// One for each level.
    pub levels: Vec<Requant>,
}

/// Parameters of a layer normalization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormParameters {
    /// Per level: epsilon in units of the integer variance (SPEC 4.6); positive.
    pub epsilon: Vec<i64>,
}

/// Scales of a linear attention at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearAttentionLevel {
    /// From queries to arguments of the exponential.
    pub query: Requant,
    /// From keys to arguments of the exponential.
    pub key: Requant,
    /// From attention in units of 2^-12 value steps to activations.
    pub output: Requant,
}

/// Parameters of a global linear attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearAttentionParameters {
    /// Largest magnitude of the output activations.
    pub max: i32,
    /// One for each level.
    pub levels: Vec<LinearAttentionLevel>,
}

/// Parameters of a checkerboard window attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAttentionParameters {
    /// Relative position bias, `[head][(2 window - 1)^2]`, Q10.
    pub bias: Vec<i32>,
    /// Per level: from dot products of queries and keys to logits in Q10.
    pub levels: Vec<Requant>,
}

/// Function tables (SPEC 2.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Functions {
    /// `|x| Phi(-|x|)` for `|x|` = i / 64, Q14.
    pub gelu: Vec<i16>,
    /// `0.5 tanh(x)` for x = i / 64, Q12.
    pub half_tanh: Vec<i16>,
    /// `exp(-i / 16)`, Q15 (at most 32767).
    pub exp_coarse: Vec<u16>,
    /// `exp(-i / 1024)`, Q15 (32768 is one).
    pub exp_fine: Vec<u16>,
    /// `2^(i / 256)`, Q30.
    pub exp2_coarse: Vec<u32>,
    /// `2^(i / 65536)`, Q30.
    pub exp2_fine: Vec<u32>,
}

/// Gains per level and channel, as base-2 logarithms in Q16; empty for a fixed-rate model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gains {
    /// Of y at the encoder.
    pub gain: Vec<i32>,
    /// Of `y_hat` before the synthesis.
    pub inverse_gain: Vec<i32>,
    /// Of z at the encoder.
    pub hyper_gain: Vec<i32>,
    /// Of z before the hyper synthesis; the only one on the entropy path.
    pub inverse_hyper_gain: Vec<i32>,
}

/// One cumulative table as stored: [`mlic_core::cdf::CdfTable`] is built from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCdf {
    /// Symbol of the first bin.
    pub min_symbol: i32,
    /// Start of each bin; the last bin is the escape and ends at 2^16.
    pub starts: Vec<u16>,
}

/// All integer parameters of the entropy networks except the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// In the order of [`Layout::layers`].
    pub layers: Vec<LayerParameters>,
    /// z, then each latent slice.
    pub quantizers: Vec<QuantizerParameters>,
    /// In the order of [`Layout::norms`].
    pub norms: Vec<NormParameters>,
    /// In the order of [`Layout::linear_attentions`].
    pub linear_attentions: Vec<LinearAttentionParameters>,
    /// One per latent slice.
    pub local_attentions: Vec<LocalAttentionParameters>,
    /// Function tables.
    pub functions: Functions,
    /// Gains.
    pub gains: Gains,
    /// Scale index thresholds: index = number of thresholds that are less than the scale; Q12, increasing.
    pub thresholds: Vec<i32>,
    /// Tables of y, one per scale index.
    pub y_cdfs: Vec<StoredCdf>,
    /// Tables of z, one per channel.
    pub z_cdfs: Vec<StoredCdf>,
    /// Median of z per channel, Q12.
    pub medians: Vec<i32>,
}

/// Length of the weights section: every weight of every layer, in layout order.
#[must_use]
pub fn weights_len(layout: &Layout) -> usize {
    layout.layers.iter().map(LayerSpec::weights_len).sum()
}

impl Requant {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, ModelError> {
        Ok(Self { multiplier: r.i32()?, shift: u32::from(r.u8()?) })
    }

    pub(crate) fn write(self, w: &mut Writer) {
        w.i32s([self.multiplier]);
        w.u8s([self.shift as u8]);
    }

    fn read_levels(r: &mut Reader<'_>, levels: usize) -> Result<Vec<Self>, ModelError> {
        (0..levels).map(|_| Self::read(r)).collect()
    }
}

impl StoredCdf {
    fn read(r: &mut Reader<'_>) -> Result<Self, ModelError> {
        let min_symbol = r.i32()?;
        let bins = r.u16()?;
        Ok(Self { min_symbol, starts: r.u16s(usize::from(bins))? })
    }

    fn write(&self, w: &mut Writer) {
        w.i32s([self.min_symbol]);
        w.u16s([self.starts.len() as u16]);
        w.u16s(self.starts.iter().copied());
    }
}

/// Reads `count` items, each with the same function.
pub(crate) fn many<T>(count: usize, mut read: impl FnMut(usize) -> Result<T, ModelError>) -> Result<Vec<T>, ModelError> {
    (0..count).map(&mut read).collect()
}

impl LayerLevel {
    pub(crate) fn read(r: &mut Reader<'_>, spec: &LayerSpec) -> Result<Self, ModelError> {
        let shift = u32::from(r.u8()?);
        let output = if spec.epilogue == Epilogue::Gelu { Requant::read(r)? } else { Requant { multiplier: 0, shift: 0 } };
        let multipliers = many(spec.terms.len(), |_| r.i32s(spec.outputs))?;
        Ok(Self { shift, multipliers, bias: r.i64s(spec.outputs)?, output })
    }

    pub(crate) fn write(&self, w: &mut Writer, epilogue: Epilogue) {
        w.u8s([self.shift as u8]);
        if epilogue == Epilogue::Gelu {
            self.output.write(w);
        }
        for m in &self.multipliers {
            w.i32s(m.iter().copied());
        }
        w.i64s(self.bias.iter().copied());
    }
}

impl Parameters {
    /// Reads the parameters section of a package with this configuration.
    ///
    /// # Errors
    /// [`ModelError::Truncated`] or [`ModelError::Oversized`]; values are judged by [`crate::proof`] and the model.
    pub(crate) fn read(bytes: &[u8], config: &Config, layout: &Layout) -> Result<Self, ModelError> {
        let r = &mut Reader::new("parameters", bytes);
        let levels = config.scale_levels;
        let mut layer = |spec| Ok(LayerParameters { max: r.i32()?, levels: many(levels, |_| LayerLevel::read(r, spec))? });
        let layers = layout.layers.iter().map(&mut layer).collect::<Result<_, ModelError>>()?;
        let quantizers =
            many(1 + config.slices, |_| Ok(QuantizerParameters { max: r.i32()?, levels: Requant::read_levels(r, levels)? }))?;
        let norms = many(layout.norms.len(), |_| Ok(NormParameters { epsilon: r.i64s(levels)? }))?;
        let linear_attentions = many(layout.linear_attentions.len(), |_| {
            let max = r.i32()?;
            let levels = many(levels, |_| {
                Ok(LinearAttentionLevel { query: Requant::read(r)?, key: Requant::read(r)?, output: Requant::read(r)? })
            })?;
            Ok(LinearAttentionParameters { max, levels })
        })?;
        let bias_len = config.heads * (2 * config.window - 1).pow(2);
        let local_attentions = many(config.slices, |_| {
            Ok(LocalAttentionParameters { bias: r.i32s(bias_len)?, levels: Requant::read_levels(r, levels)? })
        })?;
        let functions = Functions {
            gelu: r.i16s(FUNCTION_LEN)?,
            half_tanh: r.i16s(FUNCTION_LEN)?,
            exp_coarse: r.u16s(EXP_LEN[0])?,
            exp_fine: r.u16s(EXP_LEN[1])?,
            exp2_coarse: r.u32s(EXP2_LEN)?,
            exp2_fine: r.u32s(EXP2_LEN)?,
        };
        let gains = Gains {
            gain: r.i32s(config.gain_levels * config.latent)?,
            inverse_gain: r.i32s(config.gain_levels * config.latent)?,
            hyper_gain: r.i32s(config.gain_levels * config.hyper)?,
            inverse_hyper_gain: r.i32s(config.gain_levels * config.hyper)?,
        };
        let thresholds = r.i32s(SCALE_COUNT - 1)?;
        let y_cdfs = many(SCALE_COUNT, |_| StoredCdf::read(r))?;
        let z_cdfs = many(config.hyper, |_| StoredCdf::read(r))?;
        let medians = r.i32s(config.hyper)?;
        let end = std::mem::replace(r, Reader::new("parameters", &[]));
        end.finish()?;
        Ok(Self {
            layers,
            quantizers,
            norms,
            linear_attentions,
            local_attentions,
            functions,
            gains,
            thresholds,
            y_cdfs,
            z_cdfs,
            medians,
        })
    }

    /// The bytes of the parameters section.
    pub(crate) fn write(&self, layout: &Layout) -> Vec<u8> {
        let w = &mut Writer::default();
        for (layer, spec) in self.layers.iter().zip(&layout.layers) {
            w.i32s([layer.max]);
            layer.levels.iter().for_each(|level| level.write(w, spec.epilogue));
        }
        for q in &self.quantizers {
            w.i32s([q.max]);
            q.levels.iter().for_each(|l| l.write(w));
        }
        for n in &self.norms {
            w.i64s(n.epsilon.iter().copied());
        }
        for a in &self.linear_attentions {
            w.i32s([a.max]);
            a.levels.iter().flat_map(|l| [l.query, l.key, l.output]).for_each(|q| q.write(w));
        }
        for a in &self.local_attentions {
            w.i32s(a.bias.iter().copied());
            a.levels.iter().for_each(|l| l.write(w));
        }
        let f = &self.functions;
        w.i16s(f.gelu.iter().copied());
        w.i16s(f.half_tanh.iter().copied());
        w.u16s(f.exp_coarse.iter().copied());
        w.u16s(f.exp_fine.iter().copied());
        w.u32s(f.exp2_coarse.iter().copied());
        w.u32s(f.exp2_fine.iter().copied());
        let g = &self.gains;
        for values in [&g.gain, &g.inverse_gain, &g.hyper_gain, &g.inverse_hyper_gain] {
            w.i32s(values.iter().copied());
        }
        w.i32s(self.thresholds.iter().copied());
        self.y_cdfs.iter().chain(&self.z_cdfs).for_each(|c| c.write(w));
        w.i32s(self.medians.iter().copied());
        std::mem::take(&mut w.0)
    }
}
