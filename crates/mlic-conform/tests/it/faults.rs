//! Backends with one deliberate defect each: the run must fail and name the first pass that the defect reaches.

use std::sync::Arc;

use crate::common::{self, data, fast, model, options, run_on, with};
use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::entropy::EntropyModel;
use mlic_backend::integer::{self, IntegerOps, Kernels, PackedModel};
use mlic_backend::ops::Ops;
use mlic_backend::{Backend, BackendError, EntropySession, FloatTransform, PassParameters, Planes, Stage};
use mlic_conform::dump::Values;
use mlic_conform::explain::{Side, decode, explain};
use mlic_conform::operators::{Parting, Symbols, in_passes, in_synthesis, noted};
use mlic_conform::report::SuiteReport;
use mlic_conform::verdict::{Divergence, Place, Tensor};
use mlic_conform::{Level, Verdict, run};
use mlic_core::checkerboard::Parity;
use mlic_core::container::Header;
use mlic_core::fixed::saturate;
use mlic_core::schedule::{LatentSize, Pass, passes};
use mlic_kernels::{Map, Picture};
use mlic_model::Model;
use mlic_model::layout::{LayerId, LinearAttentionId, LocalAttentionId, NormId, QuantizerId};

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// One quantizer floors where it should round.
    FloorQuantize(QuantizerId),
    /// A threshold equal to the scale counts as less.
    ThresholdEqual,
    /// Scale indices are one too high.
    IndexOffByOne,
    /// The halves are swapped where maps are packed.
    PackSwapped,
    /// The halves are swapped where layers are evaluated at one half.
    LayerAtSwapped,
    /// No latent residual prediction.
    NoResidual,
    /// Symbols are added twice.
    SymbolsTwice,
    /// Passes out of order are accepted.
    Lenient,
    /// The device fails.
    Fails,
    /// The decoder panics.
    Panics,
    /// The decoder hangs.
    Hangs,
    /// A sample of the second row is off by one.
    Sample,
    /// The device fails in the exact synthesis.
    SynthesisFails,
    /// The last bit of a value of the float synthesis is wrong.
    FloatBit,
    /// There are no float transforms.
    NoFloat,
    /// A pass whose means are not requested is reconstructed without them.
    MeansOnDemand,
    /// A session gives samples itself, those of the exact synthesis.
    OwnSamples,
    /// A session gives samples itself, one of which is wrong.
    OwnSample,
    /// A refused commit leaves the pass without its means.
    Disturbed,
}

/// Integer operators with a defect.
struct FaultyOps<'m> {
    ops: IntegerOps<'m>,
    model: &'m Model,
    level: usize,
    fault: Fault,
    /// Whether the mean of this pass is taken as zero.
    is_without: bool,
}

const fn swapped(parity: Parity, swap: bool) -> Parity {
    match (parity, swap) {
        (Parity::Anchor, false) | (Parity::NonAnchor, true) => Parity::Anchor,
        _ => Parity::NonAnchor,
    }
}

type Result<T> = std::result::Result<T, BackendError>;

impl Ops for FaultyOps<'_> {
    type Map = Map<i16>;
    type Latent = Map<i32>;

    fn quantize(&mut self, id: QuantizerId, latent: &Map<i32>) -> Result<Map<i16>> {
        let right = self.ops.quantize(id, latent)?;
        if self.fault != Fault::FloorQuantize(id) {
            return Ok(right);
        }
        let parameters = &self.model.parameters().quantizers[id.0];
        let requant = parameters.levels[self.level];
        let floor = |v: &i32| saturate((i64::from(*v) * i64::from(requant.multiplier)) >> requant.shift, parameters.max) as i16;
        let data = latent.data.iter().map(floor).collect();
        Ok(Map { data, ..right })
    }

    fn layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<Map<i16>> {
        self.ops.layer(id, inputs)
    }

    fn layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i16>> {
        self.ops.layer_at(id, inputs, swapped(parity, self.fault == Fault::LayerAtSwapped))
    }

    fn gaussian_layer(&mut self, id: LayerId, inputs: &[&Map<i16>]) -> Result<(Map<i32>, Map<i32>)> {
        self.ops.gaussian_layer(id, inputs)
    }

    fn residual_layer_at(&mut self, id: LayerId, inputs: &[&Map<i16>], parity: Parity) -> Result<Map<i32>> {
        let mut residual = self.ops.residual_layer_at(id, inputs, parity)?;
        if self.fault == Fault::NoResidual {
            residual.data.fill(0);
        }
        Ok(residual)
    }

    fn shuffle(&mut self, map: &Map<i16>) -> Result<Map<i16>> {
        self.ops.shuffle(map)
    }

    fn norm(&mut self, id: NormId, map: &Map<i16>) -> Result<Map<i16>> {
        self.ops.norm(id, map)
    }

    fn linear_attention(&mut self, id: LinearAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>> {
        self.ops.linear_attention(id, qkv)
    }

    fn local_attention(&mut self, id: LocalAttentionId, qkv: [&Map<i16>; 3]) -> Result<Map<i16>> {
        self.ops.local_attention(id, qkv)
    }

    fn pack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>> {
        self.ops.pack(map, swapped(parity, self.fault == Fault::PackSwapped))
    }

    fn unpack(&mut self, map: &Map<i16>, parity: Parity) -> Result<Map<i16>> {
        self.ops.unpack(map, parity)
    }

    fn merge(&mut self, anchors: &Map<i32>, non_anchors: Option<&Map<i32>>) -> Result<Map<i32>> {
        self.ops.merge(anchors, non_anchors)
    }

    fn reconstruct(&mut self, mean: &Map<i32>, symbols: &[i32]) -> Result<Map<i32>> {
        if self.is_without {
            return self.ops.reconstruct(&Map::zeros(mean.height, mean.width, mean.channels)?, symbols);
        }
        let y = self.ops.reconstruct(mean, symbols)?;
        if self.fault == Fault::SymbolsTwice { self.ops.reconstruct(&y, symbols) } else { Ok(y) }
    }

    fn add(&mut self, a: &Map<i32>, b: &Map<i32>) -> Result<Map<i32>> {
        self.ops.add(a, b)
    }
}

struct FaultySession<'m> {
    backend: &'m Faulty,
    model: &'m Model,
    size: LatentSize,
    quality: u8,
    entropy: EntropyModel<'m, FaultyOps<'m>>,
    fault: Fault,
}

impl EntropySession for FaultySession<'_> {
    fn parameters_into(&mut self, pass: Pass, with_means: bool, to: &mut PassParameters) -> Result<()> {
        let gaussian = self.entropy.parameters(pass)?;
        self.entropy.ops_mut().is_without = self.fault == Fault::MeansOnDemand && !with_means;
        let thresholds = &self.model.parameters().thresholds;
        let index = |scale: &i32| match self.fault {
            Fault::ThresholdEqual => thresholds.partition_point(|t| t <= scale) as u8,
            Fault::IndexOffByOne => (thresholds.partition_point(|t| t < scale) as u8 + 1).min(63),
            _ => thresholds.partition_point(|t| t < scale) as u8,
        };
        let scale_indices = gaussian.scale.data.iter().map(index).collect();
        *to = PassParameters { means: gaussian.mean.data.clone(), scale_indices };
        Ok(())
    }

    fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<()> {
        match self.fault {
            Fault::Fails => {
                return Err(BackendError::Device { backend: "faulty", stage: Stage::Passes, message: "on fire".into() });
            }
            Fault::Panics => panic!("deliberate"),
            Fault::Hangs => std::thread::sleep(std::time::Duration::from_secs(20)),
            _ => {}
        }
        match self.entropy.commit(pass, symbols) {
            Err(BackendError::Order { .. }) if self.fault == Fault::Lenient => Ok(()),
            Err(error) => {
                self.entropy.ops_mut().is_without = self.fault == Fault::Disturbed;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn y_hat(&self) -> Result<Map<i32>> {
        Ok(integer::y_hat(self.model.config(), self.size, self.entropy.y_hat())?)
    }

    fn exact_samples(&self) -> Result<Option<Map<u8>>> {
        if !matches!(self.fault, Fault::OwnSamples | Fault::OwnSample) {
            return Ok(None);
        }
        let mut samples = self.backend.exact_synthesis(self.quality, &self.y_hat()?)?;
        samples.data[0] ^= u8::from(self.fault == Fault::OwnSample);
        Ok(Some(samples))
    }
}

/// The CPU backend with one defect.
struct Faulty {
    inner: Arc<dyn Backend>,
    fault: Fault,
}

impl Faulty {
    fn of(model: &Arc<Model>, fault: Fault) -> Arc<dyn Backend> {
        Arc::new(Self { inner: with(fast(), Arc::clone(model)), fault })
    }
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn device(&self, stage: Stage) -> String {
        self.inner.device(stage)
    }

    fn model(&self) -> &Model {
        self.inner.model()
    }

    fn threads(&self) -> usize {
        self.inner.threads()
    }

    fn exact_analysis(&self, picture: &Picture<'_>) -> Result<Map<i32>> {
        self.inner.exact_analysis(picture)
    }

    fn exact_hyper_analysis(&self, y: &Map<i32>) -> Result<Map<i32>> {
        self.inner.exact_hyper_analysis(y)
    }

    fn transform(&self, transform: FloatTransform, input: &Planes) -> Result<Planes> {
        if transform != FloatTransform::Synthesis {
            return self.inner.transform(transform, input);
        }
        if self.fault == Fault::NoFloat {
            return Err(BackendError::NotAvailable { backend: "faulty", reason: "it has no float transforms".into() });
        }
        let mut output = self.inner.transform(transform, input)?;
        if let Some(value) = output.data.last_mut().filter(|_| self.fault == Fault::FloatBit) {
            *value = f32::from_bits(value.to_bits() ^ 1);
        }
        Ok(output)
    }

    fn exact_synthesis(&self, quality: u8, y_hat: &Map<i32>) -> Result<Map<u8>> {
        let mut samples = self.inner.exact_synthesis(quality, y_hat)?;
        match self.fault {
            Fault::Sample => samples.data[3 * samples.width + 4] ^= 1,
            Fault::SynthesisFails => {
                let (backend, stage, message) = ("faulty", Stage::ExactSynthesis, "on fire".into());
                return Err(BackendError::Device { backend, stage, message });
            }
            _ => {}
        }
        Ok(samples)
    }

    fn entropy<'a>(&'a self, size: LatentSize, quality: u8, z_symbols: &[i32]) -> Result<Box<dyn EntropySession + 'a>> {
        let model = self.inner.model();
        let z = integer::z_latent(model, size, quality, z_symbols)?;
        let ops = IntegerOps::new(model, Arc::new(PackedModel::new(model, fast())?), quality);
        let ops = FaultyOps { ops, model, level: model.config().scale_level(quality), fault: self.fault, is_without: false };
        let entropy = EntropyModel::new(model.layout(), ops, &z)?;
        Ok(Box::new(FaultySession { backend: self, model, size, quality, entropy, fault: self.fault }))
    }
}

/// A vector with many positions, many symbols of every size, and two latent slices.
const RICH: &str = "noise-128x64-q33";

fn divergence(report: &SuiteReport, vector: &str) -> Divergence {
    let found = report.vectors.iter().find(|v| v.name == vector).unwrap();
    match &found.verdict {
        Verdict::Fail(divergence) => divergence.clone(),
        other => panic!("{vector}: {other}"),
    }
}

fn first(report: &SuiteReport, vector: &str) -> (usize, Tensor) {
    match divergence(report, vector).place {
        Place::Pass { pass, tensor } => (pass.index(), tensor),
        other => panic!("{vector}: first difference at {other}"),
    }
}

fn run_with(fault: Fault) -> SuiteReport {
    let report = run_on("smoke", Faulty::of(&model("smoke"), fault), Level::L4);
    assert_eq!(report.is_pass(), fault == Fault::None, "{fault:?}");
    report
}

#[test]
fn without_a_defect_the_wrapper_passes() {
    let report = run_with(Fault::None);
    assert!(report.is_pass(), "{}", common::not_passed(&report));
}

#[test]
fn flooring_before_the_hyper_synthesis_shows_at_the_first_pass() {
    let report = run_with(Fault::FloorQuantize(QuantizerId::Z));
    assert_eq!(first(&report, RICH), (0, Tensor::Means));
    assert_eq!(divergence(&report, RICH).level, Level::L2);
}

#[test]
fn flooring_of_a_slice_shows_where_that_slice_is_first_read() {
    // Slice 0 is read first for its own non-anchors: after its anchors' residual, which changes them, and as context.
    assert_eq!(first(&run_with(Fault::FloorQuantize(QuantizerId::y(0))), RICH).0, 1);
    assert_eq!(first(&run_with(Fault::FloorQuantize(QuantizerId::y(1))), RICH).0, 3);
}

#[test]
fn scale_indices_are_named_when_only_they_are_wrong() {
    let report = run_with(Fault::IndexOffByOne);
    let found = divergence(&report, RICH);
    assert_eq!(first(&report, RICH), (0, Tensor::ScaleIndices));
    // The coder then reads other tables, and the decoding cannot end well.
    assert!(found.error.is_some(), "{found}");
}

#[test]
fn a_tie_at_a_threshold_is_in_the_suite() {
    let report = run_with(Fault::ThresholdEqual);
    // A stream that must be refused has no digests: there the failure is another error code.
    let failed = report.vectors.iter().filter(|v| matches!(v.verdict, Verdict::Fail(_)) && !v.name.starts_with("bad-"));
    let failed: Vec<_> = failed.collect();
    assert!(failed.len() >= 3, "{} vectors hold a tie", failed.len());
    for vector in failed {
        assert_eq!(first(&report, &vector.name).1, Tensor::ScaleIndices, "{}", vector.name);
    }
}

#[test]
fn swapped_halves_show_at_the_first_pass() {
    assert_eq!(first(&run_with(Fault::PackSwapped), RICH), (0, Tensor::Means));
}

#[test]
fn swapped_halves_of_the_intra_context_show_at_its_first_use() {
    assert_eq!(first(&run_with(Fault::LayerAtSwapped), RICH), (3, Tensor::Means));
}

#[test]
fn a_dropped_residual_shows_at_the_first_non_anchors() {
    assert_eq!(first(&run_with(Fault::NoResidual), RICH), (1, Tensor::Means));
    assert_eq!(first(&run_with(Fault::SymbolsTwice), RICH), (1, Tensor::Means));
}

#[test]
fn lower_levels_see_the_symbols_only() {
    let backend = Faulty::of(&model("smoke"), Fault::NoResidual);
    let report = run_on("smoke", backend, Level::L1);
    assert!(!report.is_pass());
    // At level 1 the means are not compared: the first difference is in symbols, or the decoding fails before one.
    let found = divergence(&report, RICH);
    assert_eq!(found.level, Level::L1);
    assert!(matches!(found.place, Place::Pass { tensor: Tensor::Symbols, .. } | Place::Outcome), "{found}");
}

#[test]
fn explain_names_the_element_and_both_values() {
    let (store, model) = (data(), model("smoke"));
    let suite = store.suite("smoke").unwrap();
    let stream = suite.read(&suite.manifest.vector(RICH).unwrap().stream).unwrap();
    let explanation = explain(&stream, Faulty::of(&model, Fault::IndexOffByOne), with(fast(), Arc::clone(&model)));
    let element = explanation.first.clone().unwrap();
    assert!(matches!(element.place, Place::Pass { pass, tensor: Tensor::ScaleIndices } if pass.index() == 0), "{explanation}");
    assert_eq!(element.index, 0);
    // The first anchor is at row 0, column 1.
    assert_eq!((element.position, element.got), ([0, 1, 0], element.expected + 1));
    assert!(explanation.got_error.is_some() && explanation.expected_error.is_none());
    let equal = explain(&stream, with(fast(), Arc::clone(&model)), with(fast(), model));
    assert!(equal.is_equal() && equal.compared > 0, "{equal}");
}

#[test]
fn a_wrong_sample_is_found_and_named() {
    let model = model("edge-cases-fixed");
    let run_at = |fault, level| run_on("edge-cases-fixed", Faulty::of(&model, fault), level);
    assert!(run_at(Fault::Sample, Level::L3).is_pass() && run_at(Fault::None, Level::L4).is_pass());
    let report = run_at(Fault::Sample, Level::L4);
    let vector = "extreme-65x200-s0-l2";
    let found = divergence(&report, vector);
    assert_eq!((found.level, found.place), (Level::L4, Place::Pixels));
    // In pictures of 1x1 the wrong sample is cropped away.
    assert!(report.vectors.iter().any(|vector| vector.verdict.is_pass()));
    let store = data();
    let suite = store.suite("edge-cases-fixed").unwrap();
    let stream = suite.read(&suite.manifest.vector(vector).unwrap().stream).unwrap();
    let explanation = explain(&stream, Faulty::of(&model, Fault::Sample), with(fast(), Arc::clone(&model)));
    let element = explanation.first.clone().unwrap();
    assert_eq!((&element.place, element.position, element.differing.0), (&Place::Pixels, [1, 1, 1], 1), "{explanation}");
    assert_eq!(element.got, element.expected ^ 1);
    let report = run_at(Fault::SynthesisFails, Level::L4);
    let failed = |v: &mlic_conform::report::VectorReport| matches!(&v.verdict, Verdict::Error(why) if why.contains("on fire"));
    assert!(report.vectors.iter().all(failed), "{}", common::not_passed(&report));
}

/// Place and level of the first difference of every vector that does not pass.
fn alone(report: &SuiteReport) -> Vec<(String, Level)> {
    let verdicts = report.vectors.iter().filter(|vector| !vector.verdict.is_pass());
    let found = verdicts.map(|vector| divergence(report, &vector.name));
    found.map(|found| (found.place.to_string(), found.level)).collect()
}

#[test]
fn means_that_are_there_only_where_they_are_asked_for_are_missed() {
    let of = |fault, level| run_on("smoke", Faulty::of(&model("smoke"), fault), level);
    for level in [Level::L1, Level::L3, Level::L4] {
        let report = of(Fault::MeansOnDemand, level);
        let found = alone(&report);
        assert!(!found.is_empty() && found.iter().all(|(place, _)| place.contains("alone")), "{level}: {found:?}");
    }
    let fixed = run_on("edge-cases-fixed", Faulty::of(&model("edge-cases-fixed"), Fault::MeansOnDemand), Level::L4);
    let found = divergence(&fixed, "extreme-65x200-s0-l2");
    assert!(matches!(&found.place, Place::Alone(_)), "{found}");
    assert!(found.to_string().contains("of the calls of a decoder alone, which asks for no means: expected "), "{found}");
}

#[test]
fn samples_of_a_session_that_are_not_those_of_the_synthesis_are_found() {
    let of = |fault| run_on("edge-cases-fixed", Faulty::of(&model("edge-cases-fixed"), fault), Level::L4);
    assert!(of(Fault::OwnSamples).is_pass());
    let report = of(Fault::OwnSample);
    let found = alone(&report);
    let place = Place::Alone(Box::new(Place::Pixels)).to_string();
    assert!(found.len() == report.vectors.len() && found.iter().all(|found| *found == (place.clone(), Level::L4)), "{found:?}");
}

#[test]
fn a_device_that_fails_or_panics_is_an_error() {
    for (fault, says) in [(Fault::Fails, "on fire"), (Fault::Panics, "deliberate")] {
        let report = run_with(fault);
        let vector = report.vectors.iter().find(|v| v.name == RICH).unwrap();
        assert!(matches!(&vector.verdict, Verdict::Error(reason) if reason.contains(says)), "{}", vector.verdict);
    }
}

#[test]
fn a_decoder_that_hangs_runs_out_of_time() {
    let store = data();
    let mut suite = store.suite("smoke").unwrap();
    suite.manifest.vectors.retain(|v| v.name == RICH);
    let options = mlic_conform::Options { timeout: std::time::Duration::from_secs(1), ..options(Level::L4) };
    let report = run(&suite, Faulty::of(&model("smoke"), Fault::Hangs), &options);
    assert_eq!(report.vectors[0].verdict, Verdict::Timeout(1));
    assert!(!report.is_pass());
}

#[test]
fn the_contract_finds_every_defect_too() {
    use mlic_backend::contract::{ContractError, check};
    let model = model("smoke");
    let right = with(fast(), Arc::clone(&model));
    let found = |fault| check(Faulty::of(&model, fault).as_ref(), right.as_ref());
    assert!(found(Fault::None).is_ok_and(|not_offered| not_offered.is_empty()));
    let exact = [
        Fault::FloorQuantize(QuantizerId::Z),
        Fault::FloorQuantize(QuantizerId::y(1)),
        Fault::ThresholdEqual,
        Fault::IndexOffByOne,
        Fault::PackSwapped,
        Fault::LayerAtSwapped,
        Fault::NoResidual,
        Fault::SymbolsTwice,
        Fault::MeansOnDemand,
        Fault::Disturbed,
    ];
    for fault in exact {
        assert!(matches!(found(fault), Err(ContractError::Exact { .. })), "{fault:?}: {:?}", found(fault));
    }
    assert!(matches!(found(Fault::FloatBit), Err(ContractError::Exact { what, .. }) if what == "g_s: bits"));
    let exact = common::model("edge-cases-fixed");
    let found_exact = |fault| check(Faulty::of(&exact, fault).as_ref(), with(fast(), Arc::clone(&exact)).as_ref());
    assert!(found_exact(Fault::None).is_ok());
    assert!(matches!(found_exact(Fault::Sample), Err(ContractError::Exact { what, .. }) if what.contains("pixels")));
    assert!(found_exact(Fault::OwnSamples).is_ok());
    assert!(matches!(found_exact(Fault::OwnSample), Err(ContractError::Exact { what, .. }) if what.contains("pixels")));
    assert!(found(Fault::NoFloat).is_ok_and(|not_offered| not_offered == [Stage::Synthesis]));
    assert!(matches!(found_exact(Fault::SynthesisFails), Err(ContractError::Failed { .. })));
    assert!(matches!(found(Fault::Lenient), Err(ContractError::Refusal { .. })));
    assert!(matches!(found(Fault::Fails), Err(ContractError::Refusal { .. } | ContractError::Failed { .. })));
}

/// The first operator that differs because of a defect, on the vector [`RICH`].
fn operator(fault: Fault) -> Option<Parting> {
    let (model, store) = (model("smoke"), data());
    let suite = store.suite("smoke").unwrap();
    let stream = suite.read(&suite.manifest.vector(RICH).unwrap().stream).unwrap();
    let decoding: Side = decode(&stream, with(fast(), Arc::clone(&model)));
    let header = mlic::container::parse(&stream).unwrap().header;
    let size = LatentSize::of_image(header.width, header.height).unwrap();
    let packed = Arc::new(PackedModel::new(&model, fast()).unwrap());
    let level = model.config().scale_level(header.quality);
    let right = || IntegerOps::new(&model, Arc::clone(&packed), header.quality);
    let wrong = || FaultyOps { ops: right(), model: &model, level, fault, is_without: false };
    in_passes(&model, Symbols { header: &header, size, decoding: &decoding }, wrong, right).unwrap()
}

#[test]
fn the_operator_with_the_defect_is_named() {
    assert_eq!(operator(Fault::None), None);
    let named = |fault| operator(fault).unwrap().operator;
    assert_eq!(named(Fault::FloorQuantize(QuantizerId::y(1))), "quantizer of slice 1, in slice 1 anchor");
    let residual = named(Fault::NoResidual);
    assert!(residual.starts_with("slice0.lrp_anchor.") && residual.ends_with(", in slice 0 anchor"), "{residual}");
    assert_eq!(named(Fault::SymbolsTwice), "mean and symbols, in slice 0 anchor");
    assert!(named(Fault::LayerAtSwapped).starts_with("slice1.global_intra_context.queries.depthwise at a half, in slice 1"));
}

/// The time that a stream takes is bounded: the operators that run, and the elements that each of them gives, follow from the size of the picture and
/// not from what the stream says.
#[test]
fn work_depends_on_the_size_alone() {
    let model = model("smoke");
    let packed = Arc::new(PackedModel::new(&model, fast()).unwrap());
    let work = |width: u32, height: u32, fill: Fill| {
        let size = LatentSize::of_image(width, height).unwrap();
        let header = Header { width, height, quality: 50, ..some_header(&model) };
        let random = &mut Random(width.into());
        let mut some = |place, len| Values { place, values: fill.symbols(random, len) };
        let half = size.y[0] * size.y[1] / 2 * model.config().slice_channels();
        let mut values = vec![some(Place::Z, z_count(&model, &size))];
        values.extend(passes(model.config().slices).map(|pass| some(Place::Pass { pass, tensor: Tensor::Symbols }, half)));
        let decoding = Side { name: String::new(), values, error: None };
        let ops = IntegerOps::new(&model, Arc::clone(&packed), header.quality);
        let noted = noted(&model, Symbols { header: &header, size, decoding: &decoding }, ops).unwrap();
        noted.into_iter().map(|noted| (noted.operator, noted.len)).collect::<Vec<_>>()
    };
    let small = work(128, 64, Fill::Zero);
    assert!(small.len() > 100, "{} operators", small.len());
    for fill in Fill::ALL {
        assert_eq!(work(128, 64, fill), small, "{fill:?}");
        let large: Vec<_> = small.iter().map(|(operator, len)| (operator.clone(), 6 * len)).collect();
        assert_eq!(work(256, 192, fill), large, "{fill:?}");
    }
}

fn some_header(model: &Model) -> Header {
    let model_id = model.id();
    Header { model_id, width: 1, height: 1, quality: 0, gray: false, lanes_log2: 0, symbol_checksum: 0 }
}

#[test]
fn the_node_with_the_defect_is_named() {
    let model = model("edge-cases-fixed");
    let packed = PackedModel::new(&model, fast()).unwrap();
    let reference = PackedModel::new(&model, Kernels::Reference).unwrap();
    let latent = model.config().latent;
    let y_hat = Map { height: 4, width: 4, channels: latent, data: (0..16 * latent as i32).map(|i| i * 977 % 50_000).collect() };
    let right = |node: usize| reference.synthesis_node(&model, 0, &y_hat, node);
    assert_eq!(in_synthesis(&model, &|node| packed.synthesis_node(&model, 0, &y_hat, node), &right).unwrap(), None);
    let nodes = model.exact_synthesis().unwrap().nodes().len();
    let shown = (0..=nodes).filter(|node| packed.synthesis_node(&model, 0, &y_hat, *node).unwrap().is_some());
    assert!(shown.count() > 3, "nodes are compared at all");
    // A defect in node 3 reaches all nodes after it.
    let wrong = |node: usize| {
        let mut map = right(node)?;
        map.iter_mut().filter(|_| node >= 3).for_each(|map| map.data[map.channels + 1] ^= 1);
        Ok(map)
    };
    let found = in_synthesis(&model, &wrong, &right).unwrap().unwrap();
    assert_eq!(found.operator, "node 3 of the exact synthesis, an inverse normalization of 4 channels, of node 1");
    assert_eq!((found.position, found.differing.0), ([0, 1, 1], 1));
}
