//! A verified model: typed views of a package.

use std::ops::Range;
use std::path::Path;

use mlic_core::cdf::{CdfError, CdfTable};
use mlic_core::container::ModelId;
use mlic_core::fixed::{LATENT_MAX, divide, latent_to_symbol, round_shift, saturate};
use mlic_core::limits::MAX_SYMBOL;
use mlic_core::memory::{self, OutOfMemory};
use serde::Deserialize;

use crate::analysis::{Analyses, Analysis, HyperAnalysis};
use crate::config::Config;
use crate::error::ModelError;
use crate::graph::{Graph, Outline, Scale};
use crate::layout::{LayerId, LayerSpec, Layout};
use crate::map::Bytes;
pub use crate::metadata::Metadata;
use crate::nodes::Form;
use crate::package::{self, MAX_CONFIG_LEN, MAX_METADATA_LEN, NormativeHash, Parsed, SectionKind};
use crate::parameters::{Functions, LayerLevel, Parameters, StoredCdf};
use crate::proof;
use crate::real;
use crate::synthesis::Synthesis;
use crate::threads::beside;

/// Gains are limited to 2^±12.
const MAX_LOG2_GAIN: i32 = 12 << 16;

/// A layer at one level of activation scales: all that an executor needs.
#[derive(Debug, Clone)]
pub struct LayerView<'a> {
    /// Shape and inputs.
    pub spec: &'a LayerSpec,
    /// Largest magnitude of the output.
    pub max: i32,
    /// Multipliers and bias.
    pub level: &'a LayerLevel,
    /// Weights per term: `[output][row][col][channel]`, `[output][row][col]` for depthwise, empty for a residual.
    pub weights: Vec<Weights<'a>>,
}

/// Weights of one term of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights<'a> {
    /// -127 to 127: all weights of the entropy networks.
    Bytes(&'a [i8]),
    /// -32767 to 32767: layers of the integer transforms that need them.
    Words(&'a [i16]),
}

impl<'a> Weights<'a> {
    /// The weight at `index`.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "as of a slice: another number in its place would be a wrong picture")]
    pub fn at(self, index: usize) -> i32 {
        match self {
            Self::Bytes(w) => w[index].into(),
            Self::Words(w) => w[index].into(),
        }
    }

    /// Number of weights.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Bytes(w) => w.len(),
            Self::Words(w) => w.len(),
        }
    }

    /// Whether there are no weights, as in a residual term.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// All weights in order.
    pub fn iter(self) -> impl Iterator<Item = i32> + 'a {
        let (bytes, words): (&[i8], &[i16]) = match self {
            Self::Bytes(w) => (w, &[]),
            Self::Words(w) => (&[], w),
        };
        bytes.iter().copied().map(i32::from).chain(words.iter().copied().map(i32::from))
    }
}

/// A model whose package has been verified as a whole.
#[derive(Debug)]
pub struct Model {
    bytes: Bytes,
    parsed: Parsed,
    config: Config,
    layout: Layout,
    parameters: Parameters,
    metadata: Metadata,
    weight_offsets: Vec<usize>,
    y_cdfs: Vec<CdfTable>,
    z_cdfs: Vec<CdfTable>,
    exact_synthesis: Option<Synthesis>,
}

/// The parts from which a package is made.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Shape.
    pub config: Config,
    /// Integer parameters.
    pub parameters: Parameters,
    /// Weights in layout order.
    pub weights: Vec<i8>,
    /// Serialized float synthesis; empty where the integer one, in real numbers, takes its place.
    pub synthesis: Vec<u8>,
    /// Serialized analysis transform, float or integer.
    pub analysis: Vec<u8>,
    /// Serialized hyper analysis transform, float or integer like the analysis.
    pub hyper_analysis: Vec<u8>,
    /// Name and provenance.
    pub metadata: Metadata,
    /// Integer synthesis.
    pub exact_synthesis: Option<Synthesis>,
}

impl Parts {
    /// Serializes the package.
    ///
    /// # Errors
    /// [`ModelError::Json`] when configuration or metadata cannot be written.
    pub fn to_package(&self) -> Result<Vec<u8>, ModelError> {
        let json =
            |part, value: serde_json::Result<Vec<u8>>| value.map_err(|e| ModelError::Json { part, message: e.to_string() });
        let mut sections = vec![
            (SectionKind::Config, json("configuration", serde_json::to_vec(&self.config))?),
            (SectionKind::Parameters, self.parameters.write(&Layout::new(&self.config))),
            (SectionKind::Weights, bytemuck::cast_slice(&self.weights).to_vec()),
            (SectionKind::Synthesis, self.synthesis.clone()),
            (SectionKind::Analysis, self.analysis.clone()),
            (SectionKind::HyperAnalysis, self.hyper_analysis.clone()),
            (SectionKind::Metadata, json("metadata", serde_json::to_vec(&self.metadata))?),
        ];
        sections.extend(self.exact_synthesis.iter().map(|s| (SectionKind::ExactSynthesis, s.write())));
        Ok(package::write(&sections))
    }
}

/// Parses a JSON object; an array of the fields, which serde would take too, is refused. Parsed JSON takes many times the memory of its text,
/// so the length of the text is limited.
fn json<'a, T: Deserialize<'a>>(part: &'static str, bytes: &'a [u8], limit: u64) -> Result<T, ModelError> {
    let have = bytes.len() as u64;
    if have > limit {
        return Err(ModelError::Oversized { part, have, need: limit });
    }
    if bytes.first() != Some(&b'{') {
        return Err(ModelError::Json { part, message: "it is not an object".into() });
    }
    serde_json::from_slice(bytes).map_err(|e| ModelError::Json { part, message: e.to_string() })
}

fn tables(what: &'static str, stored: &[StoredCdf]) -> Result<Vec<CdfTable>, ModelError> {
    let build = |(index, c): (usize, &StoredCdf)| {
        CdfTable::new(c.min_symbol, &c.starts).map_err(|error| match error {
            CdfError::OutOfMemory(error) => error.into(),
            error => ModelError::Parameter { what, index, problem: error.to_string() },
        })
    };
    stored.iter().enumerate().map(build).collect()
}

/// Reports the first element that is not allowed.
fn check<T: Copy + std::fmt::Display>(
    what: &'static str,
    values: &[T],
    must: &str,
    ok: impl Fn(T) -> bool,
) -> Result<(), ModelError> {
    match values.iter().position(|v| !ok(*v)) {
        None => Ok(()),
        Some(index) => {
            let value = values.get(index).map_or_else(String::new, T::to_string);
            Err(ModelError::Parameter { what, index, problem: format!("{value}, must be {must}") })
        }
    }
}

/// Whether the magnitude of `value` is at most `magnitude`; that of -2^31 would not fit an `i32`.
fn within(value: i32, magnitude: i32) -> bool {
    (-magnitude..=magnitude).contains(&value)
}

fn check_tables(parameters: &Parameters) -> Result<(), ModelError> {
    let Functions { gelu, half_tanh, exp_coarse, exp_fine, exp2_coarse, exp2_fine } = &parameters.functions;
    check("gelu table", gelu, "0 to 4095", |v| (0..4096).contains(&v))?;
    check("tanh table", half_tanh, "0 to 2048", |v| (0..=2048).contains(&v))?;
    check("exponential table", exp_coarse, "at most 32767", |v| v <= 32_767)?;
    check("exponential table", exp_fine, "at most 32768", |v| v <= 32_768)?;
    let first = [exp_coarse.first().copied().unwrap_or(0)];
    check("exponential at zero", &first, "32767", |v| v == 32_767)?;
    let first = [exp_fine.first().copied().unwrap_or(0)];
    check("exponential at zero", &first, "32768", |v| v == 32_768)?;
    check("power of two table", exp2_coarse, "2^30 to 2^31 - 1", |v| (1 << 30..1 << 31).contains(&v))?;
    check("power of two table", exp2_fine, "2^30 to 2^31 - 1", |v| (1 << 30..1 << 31).contains(&v))?;
    let g = &parameters.gains;
    for (what, values) in [
        ("gain", &g.gain),
        ("inverse gain", &g.inverse_gain),
        ("hyper gain", &g.hyper_gain),
        ("inverse hyper gain", &g.inverse_hyper_gain),
    ] {
        check(what, values, "within ±12 * 65536", |v| within(v, MAX_LOG2_GAIN))?;
    }
    check("median", &parameters.medians, "within ±(2^27 - 1)", |v| within(v, LATENT_MAX))?;
    check("scale threshold", &parameters.thresholds, "0 to 2^27 - 1", |v| (0..=LATENT_MAX).contains(&v))?;
    let rises = parameters.thresholds.windows(2).all(|w| matches!(w, [a, b] if a < b));
    let problem = || "thresholds must increase".to_owned();
    if rises { Ok(()) } else { Err(ModelError::Parameter { what: "scale threshold", index: 0, problem: problem() }) }
}

/// What a package holds besides its configuration, its analyses and its float transforms.
struct Contents {
    layout: Layout,
    parameters: Parameters,
    metadata: Metadata,
    y_cdfs: Vec<CdfTable>,
    z_cdfs: Vec<CdfTable>,
    exact_synthesis: Option<Synthesis>,
}

impl Contents {
    fn read<'f>(
        config: &Config,
        section: impl Fn(SectionKind) -> &'f [u8] + Sync,
        exact_synthesis: Option<&[u8]>,
        trust: Trust,
    ) -> Result<Self, ModelError> {
        let layout = Layout::new(config);
        let entropy = || {
            let parameters = Parameters::read(section(SectionKind::Parameters), config, &layout)?;
            let weights: &[i8] = bytemuck::cast_slice(section(SectionKind::Weights));
            check_len(weights, &layout)?;
            if trust == Trust::Nothing {
                check_weights(weights)?;
            }
            check_tables(&parameters)?;
            if trust == Trust::Nothing {
                proof::prove(config, &layout, &parameters, weights)?;
            }
            let metadata = json("metadata", section(SectionKind::Metadata), MAX_METADATA_LEN)?;
            let (y_cdfs, z_cdfs) = (tables("CDF table of y", &parameters.y_cdfs)?, tables("CDF table of z", &parameters.z_cdfs)?);
            Ok::<_, ModelError>((parameters, metadata, y_cdfs, z_cdfs))
        };
        let synthesis = || exact_synthesis.map(|bytes| Synthesis::read(bytes, config.latent)).transpose();
        let (entropy, exact_synthesis) = beside(entropy, synthesis);
        let ((parameters, metadata, y_cdfs, z_cdfs), exact_synthesis) = (entropy?, exact_synthesis?);
        Ok(Self { layout, parameters, metadata, y_cdfs, z_cdfs, exact_synthesis })
    }
}

/// Checks that the transforms fit the latent shape (SPEC 2.1, 2.10, 5.6).
fn check_transforms<'f>(
    config: &Config,
    section: impl Fn(SectionKind) -> &'f [u8],
    has_exact_synthesis: bool,
) -> Result<(), ModelError> {
    exact_analysis(config, &section)?;
    for (kind, channels, scale) in config.transforms().into_iter().filter(|(kind, ..)| !is_exact(*kind, section(*kind))) {
        if kind == SectionKind::Synthesis && section(kind).is_empty() {
            if has_exact_synthesis {
                continue;
            }
            return Err(ModelError::Section { kind: kind as u32, problem: "empty, and there is no exact g_s" });
        }
        let check = Graph::check(section(kind)).map_err(|source| ModelError::Graph { name: kind.name(), source })?;
        let Outline { input_channels: input, output_channels: output, scale: own @ Scale { numerator, denominator } } = check;
        if [input as usize, output as usize] != channels || own != scale {
            let got = format!("{}: {input} to {output} channels at {numerator}/{denominator} of the size", kind.name());
            let must = "3 to latent at 1/16, latent to hyper at 1/4, latent to 3 at 16/1";
            return Err(ModelError::Config { field: "transform", got, must });
        }
    }
    Ok(())
}

/// Whether a section holds an analysis in integers.
fn is_exact(kind: SectionKind, bytes: &[u8]) -> bool {
    matches!(kind, SectionKind::Analysis | SectionKind::HyperAnalysis) && Form::Analysis.begins(bytes)
}

fn exact_analysis<'f>(config: &Config, section: impl Fn(SectionKind) -> &'f [u8]) -> Result<Option<Analyses>, ModelError> {
    let (m, n) = (config.latent, config.hyper);
    let sections = [SectionKind::Analysis, SectionKind::HyperAnalysis].map(|kind| (section(kind), is_exact(kind, section(kind))));
    match sections {
        [(_, false), (_, false)] => Ok(None),
        [(g_a, true), (h_a, true)] => Ok(Some(Analyses { g_a: Analysis::read(g_a, m)?, h_a: HyperAnalysis::read(h_a, m, n)? })),
        _ => {
            let problem = "g_a and h_a must both be in integers, or neither".to_owned();
            Err(ModelError::Parameter { what: "analysis", index: 0, problem })
        }
    }
}

fn graph(kind: SectionKind, bytes: &[u8]) -> Result<Graph, ModelError> {
    Graph::parse(bytes).map_err(|source| ModelError::Graph { name: kind.name(), source })
}

/// Which parts of a package are trusted instead of verified.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Nothing,
    /// The hash, if the package declares this one; the weights and the proof of the entropy networks; what only encoders read.
    Hash(NormativeHash),
}

/// Reads a package that is part of the program, has this hash, and was verified as a whole by a test of the program ([`Model::from_static`]).
///
/// Its checksums show that it still is what was verified. The hash and the proof of the entropy networks are therefore not made again, and
/// what only encoders read is not verified before they read it. In a package that no test has verified, integers may overflow: results then
/// depend on the machine.
///
/// # Errors
/// [`ModelError::IdMismatch`] when the package declares another hash, and those of [`Model::from_static`] for the rest.
pub fn verified_by_a_test(bytes: &'static [u8], hash: &NormativeHash) -> Result<Model, ModelError> {
    Model::read(Bytes::Static(bytes), Trust::Hash(*hash))
}

impl Model {
    /// Reads and verifies a package.
    ///
    /// # Errors
    /// Any [`ModelError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::new(Bytes::read(path.as_ref())?)
    }

    /// Verifies a package that is part of the program.
    ///
    /// # Errors
    /// Any [`ModelError`] but [`ModelError::Io`].
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, ModelError> {
        Self::new(Bytes::Static(bytes))
    }

    /// Verifies a package in memory.
    ///
    /// # Errors
    /// Any [`ModelError`] but [`ModelError::Io`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::new(Bytes::Owned(bytes))
    }

    /// Verifies the package as [`Self::from_bytes`] does, which [`verified_by_a_test`] does not.
    ///
    /// # Errors
    /// Any [`ModelError`] but [`ModelError::Io`].
    pub fn verify(&self) -> Result<(), ModelError> {
        Self::from_bytes(memory::copy(self.as_bytes())?).map(drop)
    }

    pub(crate) fn new(bytes: Bytes) -> Result<Self, ModelError> {
        Self::read(bytes, Trust::Nothing)
    }

    fn read(bytes: Bytes, trust: Trust) -> Result<Self, ModelError> {
        let file = bytes.as_ref();
        let unhashed = package::unhashed(file)?;
        let section = |kind| unhashed.section(file, kind).unwrap_or_default();
        let config: Result<Config, _> = json("configuration", section(SectionKind::Config), MAX_CONFIG_LEN);
        let config = match config.and_then(|config| config.validate().map(|()| config)) {
            Ok(config) => config,
            Err(error) => return unhashed.verify(file).and(Err(error)),
        };
        let exact_synthesis = unhashed.section(file, SectionKind::ExactSynthesis);
        let verify = || match trust {
            Trust::Hash(hash) => (unhashed.declares(hash), Ok(())),
            Trust::Nothing => (unhashed.verify(file), check_transforms(&config, section, exact_synthesis.is_some())),
        };
        // The hash and the transforms take longer than everything else. Of several errors, the one that a single thread would find first is reported.
        let ((parsed, transforms), contents) = beside(verify, || Contents::read(&config, section, exact_synthesis, trust));
        let (parsed, contents) = (parsed?, contents?);
        transforms?;
        let Contents { layout, parameters, metadata, y_cdfs, z_cdfs, exact_synthesis } = contents;
        let weight_offsets = weight_offsets(&layout);
        Ok(Self { parsed, config, layout, parameters, metadata, weight_offsets, y_cdfs, z_cdfs, exact_synthesis, bytes })
    }

    fn section(&self, kind: SectionKind) -> &[u8] {
        self.bytes.as_ref().get(self.parsed.range(kind)).unwrap_or_default()
    }

    /// The package, as it was given and verified.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The id that streams carry: first bytes of the hash of the normative part.
    #[must_use]
    pub fn id(&self) -> ModelId {
        let mut id = [0; 6];
        id.iter_mut().zip(self.parsed.hash).for_each(|(to, from)| *to = from);
        ModelId(id)
    }

    /// SHA-256 of the normative part.
    #[must_use]
    pub fn hash(&self) -> NormativeHash {
        self.parsed.hash
    }

    /// Name of the model.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Name and provenance.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Shape of the model.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Operators of the entropy networks.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Integer parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Largest quality; 0 for a fixed-rate model.
    #[must_use]
    pub fn quality_steps(&self) -> u8 {
        self.config.quality_steps
    }

    /// Tables of y by scale index.
    #[must_use]
    pub fn y_cdfs(&self) -> &[CdfTable] {
        &self.y_cdfs
    }

    /// Tables of z by channel.
    #[must_use]
    pub fn z_cdfs(&self) -> &[CdfTable] {
        &self.z_cdfs
    }

    /// Sizes of the sections in bytes.
    pub fn section_lens(&self) -> impl Iterator<Item = (SectionKind, usize)> + '_ {
        self.parsed.sections().map(|(kind, range)| (kind, range.len()))
    }

    /// The integer synthesis, if the package has one.
    #[must_use]
    pub fn exact_synthesis(&self) -> Option<&Synthesis> {
        self.exact_synthesis.as_ref()
    }

    /// Whether the package has its `g_a` and `h_a` in integers: streams are then the same whichever machine encodes.
    #[must_use]
    pub fn has_exact_analysis(&self) -> bool {
        is_exact(SectionKind::Analysis, self.section(SectionKind::Analysis))
    }

    /// The integer `g_a` and `h_a`, if the package has them. Each call reads them anew, so that a decoder keeps neither.
    ///
    /// # Errors
    /// Those of [`Analysis::read`] and [`HyperAnalysis::read`]; [`ModelError::Parameter`] when only one is in integers.
    pub fn exact_analysis(&self) -> Result<Option<Analyses>, ModelError> {
        exact_analysis(&self.config, |kind| self.section(kind))
    }

    /// Multiplies latents (channels last) by a gain; the result is still in latent fixed point (SPEC 5.7, 5.8).
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn with_gain(&self, which: Gain, latents: &[i32], quality: u8) -> Result<Vec<i32>, OutOfMemory> {
        let gain = self.gain(which, quality);
        let value = |(y, gain): (&i32, &u32)| saturate(round_shift(i64::from(*y) * i64::from(*gain), 16), LATENT_MAX);
        memory::collect(latents.len(), latents.chunks(gain.len().max(1)).flat_map(|at| at.iter().zip(&gain).map(value)))
    }

    /// The symbols of z (channels last, after its gain): `z - median`, rounded to the nearest symbol (SPEC 5.8).
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn z_symbols(&self, z: &[i32]) -> Result<Vec<i32>, OutOfMemory> {
        let medians = &self.parameters.medians;
        let symbol = |(z, median): (&i32, &i32)| latent_to_symbol(z - median).clamp(-MAX_SYMBOL, MAX_SYMBOL);
        memory::collect(z.len(), z.chunks(medians.len().max(1)).flat_map(|at| at.iter().zip(medians).map(symbol)))
    }

    /// Whether the package has a float `g_s` of its own; otherwise the integer one in real numbers takes its place (SPEC 5.6).
    #[must_use]
    pub fn has_float_synthesis(&self) -> bool {
        !self.section(SectionKind::Synthesis).is_empty()
    }

    /// A float transform: [`SectionKind::Analysis`], [`SectionKind::HyperAnalysis`] or [`SectionKind::Synthesis`]. Each call makes it anew, so that
    /// a caller who needs no float pays nothing for it.
    ///
    /// # Errors
    /// [`ModelError::Graph`] when the transform cannot be parsed, or made from the integer synthesis; also for an analysis that the package has in
    /// integers.
    pub fn transform(&self, kind: SectionKind) -> Result<Graph, ModelError> {
        match &self.exact_synthesis {
            Some(own) if kind == SectionKind::Synthesis && !self.has_float_synthesis() => {
                real::graph(own).map_err(|source| ModelError::Graph { name: kind.name(), source })
            }
            _ => graph(kind, self.section(kind)),
        }
    }

    /// A layer of the entropy networks at one level of activation scales; `None` if there is no such layer or level.
    #[must_use]
    pub fn layer(&self, id: LayerId, level: usize) -> Option<LayerView<'_>> {
        let (spec, parameters) = (self.layout.layers.get(id.0)?, self.parameters.layers.get(id.0)?);
        let all: &[i8] = bytemuck::cast_slice(self.section(SectionKind::Weights));
        let mut start = *self.weight_offsets.get(id.0)?;
        let mut weights = Vec::with_capacity(spec.terms.len());
        for term in 0..spec.terms.len() {
            let range: Range<usize> = start..start + spec.weights_per_output(term) * spec.outputs;
            start = range.end;
            weights.push(Weights::Bytes(all.get(range)?));
        }
        Some(LayerView { spec, max: parameters.max, level: parameters.levels.get(level)?, weights })
    }

    /// Gain of each channel at a quality, Q16, by interpolation of the logarithms (SPEC 4.8); 2^16 for a fixed rate. A quality
    /// above the model's largest counts as the largest.
    #[must_use]
    pub fn gain(&self, which: Gain, quality: u8) -> Vec<u32> {
        let g = &self.parameters.gains;
        let (values, channels) = match which {
            Gain::Y => (&g.gain, self.config.latent),
            Gain::InverseY => (&g.inverse_gain, self.config.latent),
            Gain::Z => (&g.hyper_gain, self.config.hyper),
            Gain::InverseZ => (&g.inverse_hyper_gain, self.config.hyper),
        };
        let levels = self.config.gain_levels;
        if levels < 2 {
            return vec![1 << 16; channels];
        }
        let steps = usize::from(self.config.quality_steps);
        let at = usize::from(quality.min(self.config.quality_steps)) * (levels - 1);
        let low = (at / steps).min(levels - 2);
        let (t, steps) = ((at - low * steps) as i64, steps as i64);
        // The logarithms of each channel at this level and at the next.
        let pairs = values.iter().skip(low * channels).zip(values.iter().skip((low + 1) * channels)).take(channels);
        let lerp = |(a, b): (&i32, &i32)| divide(i64::from(*a) * (steps - t) + i64::from(*b) * t, steps) as i32;
        pairs.map(lerp).map(|log2| exp2(&self.parameters.functions, log2)).collect()
    }

    /// Converts z symbols (channels last) to latent fixed point, with median and inverse gain: the input of the hyper synthesis (SPEC 4.8).
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn z_latent(&self, symbols: &[i32], quality: u8) -> Result<Vec<i32>, OutOfMemory> {
        let gain = self.gain(Gain::InverseZ, quality);
        let per_channel: Vec<(i32, u32)> = self.parameters.medians.iter().copied().zip(gain).collect();
        let value = |(symbol, (median, gain)): (&i32, &(i32, u32))| {
            let z = saturate(i64::from(*symbol) * i64::from(mlic_core::fixed::LATENT_ONE) + i64::from(*median), LATENT_MAX);
            saturate(round_shift(i64::from(z) * i64::from(*gain), 16), LATENT_MAX)
        };
        let values = symbols.chunks(per_channel.len().max(1)).flat_map(|at| at.iter().zip(&per_channel).map(value));
        memory::collect(symbols.len(), values)
    }
}

/// Selects one of the gains of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// Of y at the encoder.
    Y,
    /// Of `y_hat` before the synthesis.
    InverseY,
    /// Of z at the encoder.
    Z,
    /// Of z before the hyper synthesis.
    InverseZ,
}

/// `2^(log2 / 65536)` in Q16 by two tables (SPEC 3.5). `log2` is within ±12 in Q16.
#[must_use]
pub fn exp2(functions: &Functions, log2: i32) -> u32 {
    let (whole, fraction) = (log2 >> 16, (log2 & 0xffff) as usize);
    let coarse = functions.exp2_coarse.get(fraction >> 8).copied().unwrap_or(1 << 30);
    let fine = functions.exp2_fine.get(fraction & 0xff).copied().unwrap_or(1 << 30);
    let mantissa = round_shift(i64::from(coarse) * i64::from(fine), 30);
    round_shift(mantissa, (14 - whole) as u32) as u32
}

fn weight_offsets(layout: &Layout) -> Vec<usize> {
    let running = layout.layers.iter().scan(0, |at, spec| {
        let start = *at;
        *at += spec.weights_len();
        Some(start)
    });
    running.collect()
}

/// Whether a value is among the weights. This becomes vector code; the `contains` of slices does not for bytes.
pub(crate) fn contains<T: Copy + PartialEq>(weights: &[T], value: T) -> bool {
    weights.chunks(1 << 12).any(|part| part.iter().fold(false, |found, w| found | (*w == value)))
}

fn check_len(weights: &[i8], layout: &Layout) -> Result<(), ModelError> {
    let (have, need) = (weights.len() as u64, crate::parameters::weights_len(layout) as u64);
    if have < need {
        return Err(ModelError::Truncated { part: "weights", have, need });
    }
    if have > need {
        return Err(ModelError::Oversized { part: "weights", have, need });
    }
    Ok(())
}

fn check_weights(weights: &[i8]) -> Result<(), ModelError> {
    if contains(weights, i8::MIN)
        && let Some(index) = weights.iter().position(|w| *w == i8::MIN)
    {
        return Err(ModelError::Parameter { what: "weight", index, problem: "-128, must be -127 to 127".into() });
    }
    Ok(())
}
