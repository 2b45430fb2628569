//! Builds a package from an export and calibration images.

use std::collections::BTreeMap;

use mlic_backend::Planes;
use mlic_kernels::Map;
use mlic_model::graph::{Dtype, Graph};
use mlic_model::layout::Source;
use mlic_model::model::{Gain, Metadata, Parts};
use mlic_model::synthesis::Synthesis;
use mlic_model::{Config, Model};
use mlic_tract::PlaneTransform;

use crate::calibrate::{self, Sample, to_map, to_planes};
use crate::cost;
use crate::error::BuildError;
use crate::export::Export;
use crate::float::{FloatModel, Record};
use crate::quantize::{self, NARROW_MAX, Quantized, WIDE_MAX, Widths};
use crate::synthesis::{self, Observed, WeightWidth};

/// Which activations are int8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activations {
    /// int8 wherever it costs next to nothing, int16 elsewhere. The cost is measured in bits of y, on the two images with the most to code.
    Auto,
    /// int8 everywhere.
    Narrow,
    /// int16 everywhere.
    Wide,
    /// int8 in the networks of these names, int16 elsewhere. [`Activations::Auto`] logs the names.
    NarrowIn(Vec<String>),
}

/// Choices of a build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Widths of activations.
    pub activations: Activations,
    /// Largest growth of the bits of y, as a fraction, that [`Activations::Auto`] accepts for int8.
    pub budget: f64,
    /// Width of the weights of the integer synthesis, which replaces the float one; with `None` the package has only the float one.
    pub exact_weights: Option<WeightWidth>,
    /// Width of the weights of the integer analysis, which replaces the float one; with `None` the package has the float one.
    pub analysis_weights: Option<WeightWidth>,
    /// Element type of the stored float transforms.
    pub transform_dtype: Dtype,
    /// Threads for the float transforms. Everything else runs on the rayon pool of the caller.
    pub threads: usize,
    /// Entries of the provenance in the package's metadata.
    pub provenance: BTreeMap<String, String>,
}

/// What [`build`] made.
#[derive(Debug)]
pub struct Built {
    /// The package ([`Model::as_bytes`]), verified.
    pub model: Model,
    /// Growth of the bits of y, as a fraction, due to int8 activations on the two images with the most to code.
    /// `None` unless [`Activations::Auto`] chose the widths.
    pub growth: Option<f64>,
}

/// The float transforms that precede the entropy model: `g_a` and `h_a`.
pub struct Encoder {
    g_a: PlaneTransform,
    h_a: PlaneTransform,
    threads: usize,
}

impl Encoder {
    /// Prepares the transforms.
    ///
    /// # Errors
    /// [`BuildError::Transform`] when one cannot be prepared.
    pub fn new(g_a: Graph, h_a: Graph, threads: usize) -> Result<Self, BuildError> {
        Ok(Self { g_a: PlaneTransform::new(g_a)?, h_a: PlaneTransform::new(h_a)?, threads })
    }

    /// Computes y of an image, before any gain.
    ///
    /// # Errors
    /// [`BuildError::Transform`] when the transform fails.
    pub fn analysis(&self, x: &Planes) -> Result<Planes, BuildError> {
        Ok(self.g_a.run(x, self.threads)?)
    }

    /// Computes what the entropy model reads at `level`, a real-valued gain level. `y` is that of [`Encoder::analysis`], before its gain.
    ///
    /// # Errors
    /// [`BuildError::Transform`] when the transform fails.
    pub fn sample(&self, gains: &RealGains, medians: &[f64], y: &Planes, level: f64) -> Result<Sample, BuildError> {
        let y = scale_channels(y, &gains.of(Gain::Y, level));
        let z = scale_channels(&self.h_a.run(&y, self.threads)?, &gains.of(Gain::Z, level));
        let z = to_map(&z);
        let inverse = gains.of(Gain::InverseZ, level);
        let symbol = |(i, v): (usize, &f32)| (f64::from(*v) - medians[i % z.channels]).round() as i32;
        let z_symbols: Vec<i32> = z.data.iter().enumerate().map(symbol).collect();
        let value = |(i, s): (usize, &i32)| (f64::from(*s) + medians[i % z.channels]) as f32 * inverse[i % z.channels];
        let data = z_symbols.iter().enumerate().map(value).collect();
        Ok(Sample { y: to_map(&y), z_hat: Map { data, ..z }, z_symbols })
    }
}

/// Multiplies each channel by its gain.
#[must_use]
pub fn scale_channels(planes: &Planes, gains: &[f32]) -> Planes {
    let area = (planes.height * planes.width).max(1);
    let scaled = planes.data.chunks_exact(area).zip(gains).flat_map(|(plane, gain)| plane.iter().map(move |v| v * gain));
    Planes { data: scaled.collect(), ..*planes }
}

/// Gains of the checkpoint in real units.
#[derive(Debug, Clone)]
pub struct RealGains {
    config: Config,
    by_kind: [Vec<f32>; 4],
}

impl RealGains {
    /// Loads the gains of an export; a fixed-rate model has gains of 1.
    ///
    /// # Errors
    /// [`BuildError::Tensor`] for missing tensors.
    pub fn load(export: &Export) -> Result<Self, BuildError> {
        let (levels, m, n) = (export.config.gain_levels, export.config.latent, export.config.hyper);
        let load = |name: &str, channels: usize| {
            if levels == 0 { Ok(Vec::new()) } else { export.tensor(name, &[levels, channels]).map(|t| t.data) }
        };
        let by_kind = [load("gain", m)?, load("inverse_gain", m)?, load("hyper_gain", n)?, load("inverse_hyper_gain", n)?];
        Ok(Self { config: export.config.clone(), by_kind })
    }

    /// Gain of each channel at a real-valued gain level.
    #[must_use]
    pub fn of(&self, which: Gain, level: f64) -> Vec<f32> {
        let (values, channels) = match which {
            Gain::Y => (&self.by_kind[0], self.config.latent),
            Gain::InverseY => (&self.by_kind[1], self.config.latent),
            Gain::Z => (&self.by_kind[2], self.config.hyper),
            Gain::InverseZ => (&self.by_kind[3], self.config.hyper),
        };
        if values.is_empty() {
            return vec![1.0; channels];
        }
        let level = level.clamp(0.0, (self.config.gain_levels - 1) as f64);
        let low = (level.floor() as usize).min(self.config.gain_levels - 2);
        let t = (level - low as f64) as f32;
        let row = |i: usize| &values[i * channels..(i + 1) * channels];
        row(low).iter().zip(row(low + 1)).map(|(a, b)| (a + (b - a) * t).exp()).collect()
    }
}

/// The real-valued gain level of a quality.
#[must_use]
pub fn level_of(config: &Config, quality: u8) -> f64 {
    if config.quality_steps == 0 {
        return 0.0;
    }
    f64::from(quality) * (config.gain_levels - 1) as f64 / f64::from(config.quality_steps)
}

/// Builds a package.
///
/// `images` are `[3, H, W]` in 0..1 with sides that are multiples of 64. `log` gets one line per step.
///
/// # Errors
/// Any [`BuildError`].
pub fn build(export: &Export, images: &[Planes], options: &BuildOptions, log: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    if images.is_empty() {
        return Err(BuildError::NoImages);
    }
    let float = FloatModel::load(export)?;
    if let Activations::NarrowIn(names) = &options.activations {
        sources_of(names, &float)?;
    }
    let session = Session::new(export, &float, images, options, log)?;
    let (widths, growth) = session.widths(options, log)?;
    Ok(Built { model: session.package(&widths, options)?, growth })
}

/// Widths that give every tensor of the entropy networks the same largest magnitude.
fn uniform(float: &FloatModel, max: i32) -> Widths {
    quantize::tensors(&float.layout, float.config.slices).into_iter().map(|source| (source, max)).collect()
}

/// Tensors by the name that `group` makes of their family.
fn grouped(float: &FloatModel, widths: &Widths, group: impl Fn(&str) -> String) -> BTreeMap<String, Vec<Source>> {
    let mut groups: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for source in widths.keys() {
        groups.entry(group(&quantize::family(&float.layout, *source))).or_default().push(*source);
    }
    groups
}

/// The tensors of the named networks.
fn sources_of(names: &[String], float: &FloatModel) -> Result<Vec<Source>, BuildError> {
    let networks = grouped(float, &uniform(float, WIDE_MAX), network);
    let known = || networks.keys().cloned().collect::<Vec<_>>().join(", ");
    let of = |name: &String| networks.get(name).ok_or_else(|| BuildError::Network { name: name.clone(), known: known() });
    Ok(names.iter().map(of).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().copied().collect())
}

/// Approximates the latents that the synthesis reads: y times its gain, rounded, times the inverse gain, at the lowest, the middle and the
/// highest gain level.
fn rounded_latents(config: &Config, gains: &RealGains, y: &Planes) -> Vec<Planes> {
    let last = config.gain_levels.saturating_sub(1) as f64;
    let mut levels = vec![0.0, last / 2.0, last];
    levels.dedup();
    let at = |level: &f64| {
        let mut symbols = scale_channels(y, &gains.of(Gain::Y, *level));
        symbols.data.iter_mut().for_each(|v| *v = v.round());
        scale_channels(&symbols, &gains.of(Gain::InverseY, *level))
    };
    levels.iter().map(at).collect()
}

fn integer_synthesis(
    export: &Export,
    gains: &RealGains,
    latents: &[Planes],
    options: &BuildOptions,
    log: &mut dyn FnMut(&str),
) -> Result<Option<Synthesis>, BuildError> {
    let Some(width) = options.exact_weights else { return Ok(None) };
    let inputs = latents.iter().flat_map(|y| rounded_latents(&export.config, gains, y));
    let observed = Observed::new(&export.g_s, inputs, options.threads)?;
    let synthesis = synthesis::quantize(&export.g_s, &observed, width)?;
    log(&format!("integer synthesis of {} nodes: {}", synthesis.nodes().len(), layers_of_bytes(&synthesis)));
    Ok(Some(synthesis))
}

fn layers_of_bytes(synthesis: &Synthesis) -> String {
    let of_bytes = synthesis.weighted_layers().filter(|layer| layer.is_of_bytes()).count();
    format!("weights of {of_bytes} of {} layers are bytes", synthesis.weighted_layers().count())
}

/// Writes the sections of `g_a` and `h_a`: in float or, if the options have a width for their weights, in integers. The integers are calibrated on
/// the images (`g_a`) and on their latents with the gains of the lowest and the highest level (`h_a`).
fn analysis_sections(
    export: &Export,
    gains: &RealGains,
    (images, latents): (&[Planes], &[Planes]),
    options: &BuildOptions,
    log: &mut dyn FnMut(&str),
) -> Result<[Vec<u8>; 2], BuildError> {
    let Some(width) = options.analysis_weights else {
        return Ok([&export.g_a, &export.h_a].map(|g| g.write(options.transform_dtype)));
    };
    let observed = Observed::new(&export.g_a, images.iter().cloned(), options.threads)?;
    let g_a = synthesis::quantize_analysis(&export.g_a, &observed, width)?;
    let last = export.config.gain_levels.saturating_sub(1) as f64;
    let gained = |y: &Planes| [0.0, last].map(|level| scale_channels(y, &gains.of(Gain::Y, level)));
    let observed = Observed::new(&export.h_a, latents.iter().flat_map(gained), options.threads)?;
    let h_a = synthesis::quantize_hyper_analysis(&export.h_a, &observed, width)?;
    log(&format!("integer analysis of {} and {} nodes", g_a.nodes().len(), h_a.nodes().len()));
    Ok([g_a.write(), h_a.write()])
}

/// State shared by the steps of a build.
struct Session<'a> {
    export: &'a Export,
    float: &'a FloatModel,
    records: Vec<Record>,
    /// Samples on which widths are tried, each with its quality.
    trials: Vec<(u8, Sample)>,
    transforms: [Vec<u8>; 3],
    exact_synthesis: Option<Synthesis>,
}

/// Number of pictures on which the widths of activations are tried.
const TRIED_PICTURES: usize = 2;

/// Sorts latents by how much there is to code, the most first. Where later latent slices cost no bits, their contexts would seem to cost nothing
/// at any width.
fn richest(latents: &[Planes]) -> Vec<&Planes> {
    let mut all: Vec<_> = latents.iter().map(|y| (detail(y), y)).collect();
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    all.into_iter().map(|(_, y)| y).collect()
}

/// Estimates how much there is to code: the sum over all values of `ln(1 + d)`, where `d` is the distance of a value from the mean of its channel.
fn detail(y: &Planes) -> f64 {
    let area = (y.height * y.width).max(1);
    let of_plane = |plane: &[f32]| {
        let mean = plane.iter().copied().map(f64::from).sum::<f64>() / area as f64;
        plane.iter().map(|v| (f64::from(*v) - mean).abs().ln_1p()).sum::<f64>()
    };
    y.data.chunks(area).map(of_plane).sum()
}

impl<'a> Session<'a> {
    fn new(
        export: &'a Export,
        float: &'a FloatModel,
        images: &[Planes],
        options: &BuildOptions,
        log: &mut dyn FnMut(&str),
    ) -> Result<Self, BuildError> {
        let encoder = Encoder::new(export.g_a.clone(), export.h_a.clone(), options.threads)?;
        let (gains, medians) = (RealGains::load(export)?, crate::bottleneck::z_tables(export)?.0);
        let latents: Vec<Planes> = images.iter().map(|x| encoder.analysis(x)).collect::<Result<_, _>>()?;
        // A stream uses the activation scales of the level nearest to its quality. Each level is calibrated at both ends of its range,
        // and shares each end with a neighbour.
        let count = export.config.scale_levels;
        let ends = if export.config.gain_levels == 0 { 1 } else { count + 1 };
        let mut seen = Vec::with_capacity(ends);
        for end in 0..ends {
            let level = (end as f64 - 0.5).clamp(0.0, (count - 1) as f64);
            let samples = latents.iter().map(|y| encoder.sample(&gains, &medians, y, level)).collect::<Result<Vec<_>, _>>()?;
            seen.push(calibrate::record(float, &samples)?);
            log(&format!("calibrated on {} images at level {level}", images.len()));
        }
        let records = (0..count).map(|level| calibrate::merged(&seen, level)).collect();
        let mut trials = Vec::new();
        let steps = export.config.quality_steps;
        let mut qualities = vec![steps / 7, steps / 2, steps];
        qualities.dedup();
        for y in richest(&latents).into_iter().take(TRIED_PICTURES) {
            for quality in &qualities {
                trials.push((*quality, encoder.sample(&gains, &medians, y, level_of(&export.config, *quality))?));
            }
        }
        let exact_synthesis = integer_synthesis(export, &gains, &latents, options, log)?;
        let [g_a, h_a] = analysis_sections(export, &gains, (images, &latents), options, log)?;
        // The integer synthesis, taken as real numbers, also serves as the float one.
        let g_s = if exact_synthesis.is_some() { Vec::new() } else { export.g_s.write(options.transform_dtype) };
        let transforms = [g_s, g_a, h_a];
        Ok(Self { export, float, records, trials, transforms, exact_synthesis })
    }

    fn parts(&self, widths: &Widths, provenance: BTreeMap<String, String>) -> Result<Parts, BuildError> {
        let Quantized { parameters, weights } = quantize::quantize(self.export, self.float, &self.records, widths)?;
        let [synthesis, analysis, hyper_analysis] = self.transforms.clone();
        let metadata = Metadata { name: self.export.name.clone(), provenance };
        let (config, exact_synthesis) = (self.export.config.clone(), self.exact_synthesis.clone());
        Ok(Parts { config, parameters, weights, synthesis, analysis, hyper_analysis, metadata, exact_synthesis })
    }

    /// The package, verified by loading it.
    fn package(&self, widths: &Widths, options: &BuildOptions) -> Result<Model, BuildError> {
        let mut provenance = options.provenance.clone();
        let narrow = widths.values().filter(|max| **max <= NARROW_MAX).count();
        provenance.insert("activations".into(), format!("{narrow} of {} tensors int8, the others int16", widths.len()));
        provenance.extend(self.exact_synthesis.iter().map(|own| ("exact g_s".into(), layers_of_bytes(own))));
        Ok(Model::from_bytes(self.parts(widths, provenance)?.to_package()?)?)
    }

    /// Bits of y over all trials with these widths.
    fn bits(&self, widths: &Widths) -> Result<f64, BuildError> {
        let model = Model::from_bytes(self.parts(widths, BTreeMap::new())?.to_package()?)?;
        let integers = cost::Integers::new(&model)?;
        let of = |(quality, sample): &(u8, Sample)| integers.code(*quality, sample).map(|c| c.bits);
        Ok(self.trials.iter().map(of).sum::<Result<f64, _>>()?)
    }

    /// Returns the widths and, if they had to be chosen, the growth of bits that they cause.
    fn widths(&self, options: &BuildOptions, log: &mut dyn FnMut(&str)) -> Result<(Widths, Option<f64>), BuildError> {
        match &options.activations {
            Activations::Narrow => Ok((uniform(self.float, NARROW_MAX), None)),
            Activations::Wide => Ok((uniform(self.float, WIDE_MAX), None)),
            Activations::NarrowIn(names) => {
                let mut widths = uniform(self.float, WIDE_MAX);
                widths.extend(sources_of(names, self.float)?.into_iter().map(|s| (s, NARROW_MAX)));
                Ok((widths, None))
            }
            Activations::Auto => self.choose_widths(options.budget, log).map(|(widths, growth)| (widths, Some(growth))),
        }
    }

    /// Chooses int8 for one network after the other, cheapest first, as long as the total growth stays within the budget. In a network that would
    /// exceed the budget, chooses int8 for those families of its tensors that do not. Returns the widths and their growth.
    fn choose_widths(&self, budget: f64, log: &mut dyn FnMut(&str)) -> Result<(Widths, f64), BuildError> {
        let wide = uniform(self.float, WIDE_MAX);
        let base = self.bits(&wide)?;
        let with = |widths: &Widths, sources: &[Source]| {
            let mut widths = widths.clone();
            widths.extend(sources.iter().map(|s| (*s, NARROW_MAX)));
            widths
        };
        let networks = grouped(self.float, &wide, network);
        let mut costs = Vec::with_capacity(networks.len());
        for (name, sources) in &networks {
            let growth = self.bits(&with(&wide, sources))? / base - 1.0;
            log(&format!("int8 in {name}: {:+.4} % bits", 100.0 * growth));
            costs.push((growth, name));
        }
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut widths, mut growth) = (wide, 0.0);
        let mut refused = Vec::new();
        for (_, name) in costs {
            let tried = with(&widths, &networks[name]);
            let total = self.bits(&tried)? / base - 1.0;
            log(&format!("with {name}: {:+.4} % bits", 100.0 * total));
            if total <= budget {
                (widths, growth) = (tried, total);
            } else {
                refused.extend(networks[name].iter().map(|s| (*s, WIDE_MAX)));
            }
        }
        for (name, sources) in grouped(self.float, &refused.into_iter().collect(), str::to_owned) {
            let tried = with(&widths, &sources);
            let total = self.bits(&tried)? / base - 1.0;
            log(&format!("with {name}: {:+.4} % bits", 100.0 * total));
            if total <= budget {
                (widths, growth) = (tried, total);
            }
        }
        Ok((widths, growth))
    }
}

/// The network that a family of tensors belongs to.
fn network(family: &str) -> String {
    family.split('.').next().unwrap_or_default().to_owned()
}

/// Synthesizes an image from `y_hat`; `gains` are the inverse gains by channel, which `y_hat` does not include yet.
///
/// # Errors
/// [`BuildError::Transform`] when the transform fails.
pub fn synthesize(g_s: &PlaneTransform, gains: &[f32], y_hat: &Map<f32>, threads: usize) -> Result<Planes, BuildError> {
    Ok(g_s.run(&scale_channels(&to_planes(y_hat), gains), threads)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_pictures_come_last_however_bright_they_are() {
        let planes = |step: f32, at: f32| Planes {
            channels: 2,
            height: 2,
            width: 2,
            data: (0..8).map(|i| at + step * (i % 3) as f32).collect(),
        };
        let latents = [planes(0.0, 900.0), planes(0.1, -50.0), planes(5.0, 0.0)];
        assert_eq!(richest(&latents), [&latents[2], &latents[1], &latents[0]]);
    }
}
