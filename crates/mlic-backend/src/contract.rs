//! The contract suite: a backend is right when it passes [`check`] against the reference.
//!
//! The entropy sessions of both backends get the same symbols, which are chosen here rather than taken from a picture, so that saturation and every
//! magnitude occur. Means and scale indices must be equal after each pass, `y_hat` after each latent slice, and so must exact pixels and the integer
//! analysis if the model has them. Further sessions get only the calls that a decoder makes: they never ask for means, and ask for `y_hat` and pixels
//! only at the end. Calls that the traits forbid must be refused with the error that the traits name, and must leave the session as it was.
//!
//! Float stages must give the same bits on both backends, so that their results depend neither on threads nor on instruction sets. Both backends are
//! made with the same float executor, whose own tests hold it to its definition. A stage that the backend reports as not available is not offered;
//! this is no breach, but [`check`] lists the stage.
//!
//! [`crate::backend_contract!`] turns the suite into a test.

use mlic_core::limits::MAX_SYMBOL;
use mlic_core::schedule::{LatentSize, Pass, passes};
use mlic_kernels::{Map, Picture};
use mlic_model::Model;
use mlic_model::model::Gain;

use crate::backend::{Backend, BackendError, EntropySession, FloatTransform, PassParameters, Planes, Stage, exact_samples};
use crate::integer::with_gain;

/// Widths and heights of pictures: the smallest, and odd shapes of several positions of z, wider than high and higher than wide.
const SIZES: [(u32, u32); 4] = [(1, 1), (130, 64), (64, 200), (129, 129)];

/// Integer pseudo-random numbers (splitmix64) for contracts and conformance vectors: the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    #[must_use]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, or 0 if `limit` is 0.
    #[must_use]
    pub const fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * limit as u64) >> 32) as u32
    }

    /// An integer from `-magnitude` to `magnitude`.
    #[must_use]
    pub const fn within(&mut self, magnitude: i32) -> i32 {
        self.below(2 * magnitude.unsigned_abs() + 1) as i32 - magnitude
    }
}

/// How symbols are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// All zero.
    Zero,
    /// Small, as pictures have them: most within ±2.
    Small,
    /// Every bit length up to that of the largest symbol.
    Lengths,
    /// Plus or minus the largest symbol.
    Extreme,
    /// The largest symbol.
    Largest,
    /// Minus the largest symbol.
    Smallest,
}

impl Fill {
    /// All fills.
    pub const ALL: [Self; 6] = [Self::Zero, Self::Small, Self::Lengths, Self::Extreme, Self::Largest, Self::Smallest];

    /// Draws one symbol.
    #[must_use]
    pub const fn symbol(self, random: &mut Random) -> i32 {
        match self {
            Self::Zero => 0,
            Self::Small => random.within(2) * random.within(2) / 2,
            Self::Lengths => {
                let magnitude = MAX_SYMBOL >> random.below(16);
                random.within(magnitude)
            }
            Self::Extreme => {
                if random.below(2) == 0 {
                    -MAX_SYMBOL
                } else {
                    MAX_SYMBOL
                }
            }
            Self::Largest => MAX_SYMBOL,
            Self::Smallest => -MAX_SYMBOL,
        }
    }

    /// Draws `count` symbols.
    #[must_use]
    pub fn symbols(self, random: &mut Random, count: usize) -> Vec<i32> {
        (0..count).map(|_| self.symbol(random)).collect()
    }
}

/// One comparison of the exact part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Width of the picture.
    pub width: u32,
    /// Height of the picture.
    pub height: u32,
    /// Quality.
    pub quality: u8,
    /// How symbols are chosen.
    pub fill: Fill,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} at quality {}, {:?} symbols", self.width, self.height, self.quality, self.fill)
    }
}

/// How a backend breaks its contract.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The two backends do not have the same model.
    #[error("the backends have different models, {got} and {expected}")]
    Model {
        /// Model of the backend.
        got: String,
        /// Model of the other.
        expected: String,
    },
    /// A backend failed at something that it must do.
    #[error("{what}: {backend} failed")]
    Failed {
        /// What the backend was to do.
        what: String,
        /// Which of the two backends.
        backend: &'static str,
        /// Its error.
        source: Box<BackendError>,
    },
    /// Exact numbers differ.
    #[error("{what}: element {index} is {got}, must be {expected}")]
    Exact {
        /// Case, pass and tensor.
        what: String,
        /// Index of the first element that differs.
        index: usize,
        /// The backend's value, or length if the lengths differ.
        got: i64,
        /// The value or length of the other backend.
        expected: i64,
    },
    /// A float stage gives a tensor of another shape.
    #[error("{stage}: shape {got:?}, must be {expected:?}")]
    Shape {
        /// Which stage.
        stage: Stage,
        /// Channels, height and width.
        got: [usize; 3],
        /// Channels, height and width.
        expected: [usize; 3],
    },
    /// A forbidden call was accepted, or refused with another error than the trait names.
    #[error("{what}: must be refused as {expected}, but {got}")]
    Refusal {
        /// The call.
        what: &'static str,
        /// The error that is right.
        expected: &'static str,
        /// What happened.
        got: String,
    },
}

/// Compares a backend with another one that is right: the reference. Returns the float stages that `backend` does not offer.
///
/// # Errors
/// The first breach of the contract.
pub fn check(backend: &dyn Backend, against: &dyn Backend) -> Result<Vec<Stage>, ContractError> {
    let (got, expected) = (backend.model().id().to_string(), against.model().id().to_string());
    if got != expected {
        return Err(ContractError::Model { got, expected });
    }
    // Three times: a device may run the first session of a size, record the second and replay the recording from then on.
    (0..3).try_for_each(|_| check_order(backend, against))?;
    check_shapes(backend)?;
    // Every size, and four qualities.
    cases(backend.model()).step_by(5).try_for_each(|case| check_decoding(backend, against, case))?;
    cases(backend.model()).try_for_each(|case| check_case(backend, against, case))?;
    check_pixels(backend, against)?;
    check_analysis(backend, against)?;
    check_floats(backend, against)
}

/// Every fill at every size, with the qualities spread over them; extremes of quality at least once for each fill.
pub fn cases(model: &Model) -> impl Iterator<Item = Case> {
    let steps = model.quality_steps();
    let qualities = [0, steps, steps / 2, steps / 3];
    let at = move |fill: usize, size: usize| Case {
        width: SIZES[size].0,
        height: SIZES[size].1,
        quality: qualities[(fill + size) % qualities.len()],
        fill: Fill::ALL[fill],
    };
    (0..Fill::ALL.len()).flat_map(move |fill| (0..SIZES.len()).map(move |size| at(fill, size)))
}

/// Number of symbols of z for a size.
#[must_use]
pub fn z_count(model: &Model, size: &LatentSize) -> usize {
    size.z[0] * size.z[1] * model.config().hyper
}

fn size_of(width: u32, height: u32) -> LatentSize {
    LatentSize::of_image(width, height).unwrap_or_else(|| LatentSize::of_z([1, 1]))
}

/// Turns an error of a backend into a [`ContractError`].
fn failed(what: impl std::fmt::Display, backend: &dyn Backend) -> impl FnOnce(BackendError) -> ContractError {
    let (what, backend) = (what.to_string(), backend.name());
    move |source| ContractError::Failed { what, backend, source: Box::new(source) }
}

/// Compares two sequences; the error names the first element that differs.
fn equal<T: Copy + Into<i64>>(what: &dyn Fn() -> String, got: &[T], expected: &[T]) -> Result<(), ContractError> {
    let values = got.iter().zip(expected).map(|(g, e)| ((*g).into(), (*e).into())).enumerate();
    let differs = |(index, (got, expected)): (usize, (i64, i64))| ContractError::Exact { what: what(), index, got, expected };
    if got.len() != expected.len() {
        return Err(differs((got.len().min(expected.len()), (got.len() as i64, expected.len() as i64))));
    }
    values.filter(|(_, (got, expected))| got != expected).map(differs).next().map_or(Ok(()), Err)
}

/// Starts a session on each backend from the same symbols of z, chosen as the case says.
fn sessions<'a>(
    case: Case,
    random: &mut Random,
    [backend, against]: [&'a dyn Backend; 2],
) -> Result<[Box<dyn EntropySession + 'a>; 2], ContractError> {
    let size = size_of(case.width, case.height);
    let z = case.fill.symbols(random, z_count(backend.model(), &size));
    let start = |of: &'a dyn Backend| of.entropy(size, case.quality, &z).map_err(failed(case, of));
    Ok([start(backend)?, start(against)?])
}

impl Case {
    fn random(&self) -> Random {
        Random((u64::from(self.width) << 32) | (u64::from(self.height) << 8) | u64::from(self.quality))
    }
}

fn check_case(backend: &dyn Backend, against: &dyn Backend, case: Case) -> Result<(), ContractError> {
    let (both, mut random) = ([backend, against], case.random());
    let [mut one, mut other] = sessions(case, &mut random, both)?;
    for pass in passes(backend.model().config().slices) {
        let got = one.parameters(pass).map_err(failed(case, backend))?;
        let expected = other.parameters(pass).map_err(failed(case, against))?;
        check_parameters(case, pass, &got, &expected)?;
        let symbols = case.fill.symbols(&mut random, expected.means.len());
        one.commit(pass, &symbols).map_err(failed(case, backend))?;
        other.commit(pass, &symbols).map_err(failed(case, against))?;
        check_y_hat(case, pass, one.as_ref(), other.as_ref(), both)?;
    }
    if backend.model().exact_synthesis().is_none() {
        return Ok(());
    }
    let samples = exact_samples(backend, one, case.quality).map_err(failed(case, backend))?;
    check_samples(case, &samples, other.as_ref(), against)
}

/// Makes the calls of a decoder and no others: parameters without means, into memory that holds those of the pass before, then samples if the session
/// has them. No other call can then have prepared what a commit needs.
fn check_decoding(backend: &dyn Backend, against: &dyn Backend, case: Case) -> Result<(), ContractError> {
    let (both, mut random) = ([backend, against], case.random());
    let [mut one, mut other] = sessions(case, &mut random, both)?;
    let mut got = PassParameters { means: vec![1; 3], scale_indices: vec![1; 3] };
    let order: Vec<Pass> = passes(backend.model().config().slices).collect();
    for pass in &order {
        one.parameters_into(*pass, false, &mut got).map_err(failed(case, backend))?;
        let expected = other.parameters(*pass).map_err(failed(case, against))?;
        equal(&|| format!("{case}, without means: {pass}: scale indices"), &got.scale_indices, &expected.scale_indices)?;
        let symbols = case.fill.symbols(&mut random, expected.means.len());
        one.commit(*pass, &symbols).map_err(failed(case, backend))?;
        other.commit(*pass, &symbols).map_err(failed(case, against))?;
    }
    let is_exact = backend.model().exact_synthesis().is_some();
    let samples = if is_exact { one.exact_samples().map_err(failed(case, backend))? } else { None };
    order.last().map_or(Ok(()), |last| check_y_hat(case, *last, one.as_ref(), other.as_ref(), both))?;
    samples.map_or(Ok(()), |samples| check_samples(case, &samples, other.as_ref(), against))
}

/// Checks that the exact pixels of a session are those of its `y_hat`.
fn check_samples(case: Case, got: &Map<u8>, expected: &dyn EntropySession, against: &dyn Backend) -> Result<(), ContractError> {
    let y_hat = expected.y_hat().map_err(failed(case, against))?;
    let expected = against.exact_synthesis(case.quality, &y_hat).map_err(failed(case, against))?;
    let shape = |map: &Map<u8>| [map.height, map.width, map.channels].map(|n| n as i64);
    equal(&|| format!("{case}: exact pixels: shape"), &shape(got), &shape(&expected))?;
    equal(&|| format!("{case}: exact pixels"), &got.data, &expected.data)
}

fn check_parameters(case: Case, pass: Pass, got: &PassParameters, expected: &PassParameters) -> Result<(), ContractError> {
    equal(&|| format!("{case}: {pass}: means"), &got.means, &expected.means)?;
    equal(&|| format!("{case}: {pass}: scale indices"), &got.scale_indices, &expected.scale_indices)
}

fn check_y_hat(
    case: Case,
    pass: Pass,
    got: &dyn EntropySession,
    expected: &dyn EntropySession,
    [backend, against]: [&dyn Backend; 2],
) -> Result<(), ContractError> {
    let got = got.y_hat().map_err(failed(case, backend))?;
    let expected = expected.y_hat().map_err(failed(case, against))?;
    let shape = |map: &Map<i32>| [map.height, map.width, map.channels].map(|n| n as i64);
    equal(&|| format!("{case}: y_hat after {pass}: shape"), &shape(&got), &shape(&expected))?;
    equal(&|| format!("{case}: y_hat after {pass}"), &got.data, &expected.data)
}

/// Checks that a call was refused with the right error.
fn refused<T>(
    what: &'static str,
    expected: &'static str,
    is: fn(&BackendError) -> bool,
    result: Result<T, BackendError>,
) -> Result<(), ContractError> {
    match result {
        Err(error) if is(&error) => Ok(()),
        Err(error) => Err(ContractError::Refusal { what, expected, got: format!("the error is: {error}") }),
        Ok(_) => Err(ContractError::Refusal { what, expected, got: "it was accepted".into() }),
    }
}

const fn is_order(error: &BackendError) -> bool {
    matches!(error, BackendError::Order { .. })
}

const fn is_not_exact(error: &BackendError) -> bool {
    matches!(error, BackendError::NotExact { .. })
}

const fn is_shape(error: &BackendError) -> bool {
    matches!(error, BackendError::Shape { .. })
}

/// Checks that passes out of order and wrong numbers of symbols are refused and leave the session as it was: it goes on like one that was never
/// asked. Parameters that are asked for again, with means or without, must be the same.
fn check_order(backend: &dyn Backend, against: &dyn Backend) -> Result<(), ContractError> {
    let case = Case { width: 65, height: 1, quality: 0, fill: Fill::Small };
    let (slices, mut random, both) = (backend.model().config().slices, Random(17), [backend, against]);
    let [mut session, mut other] = sessions(case, &mut random, both)?;
    let mut without = PassParameters { means: vec![1; 3], scale_indices: vec![1; 3] };
    for pass in passes(slices) {
        let others = || passes(slices + 1).filter(|other| *other != pass);
        let expected = other.parameters(pass).map_err(failed(pass, against))?;
        let symbols = case.fill.symbols(&mut random, expected.means.len());
        refused("commit before parameters", "order", is_order, session.commit(pass, &symbols))?;
        for wrong in others() {
            refused("parameters of a pass that is not the next", "order", is_order, session.parameters(wrong))?;
        }
        check_parameters(case, pass, &session.parameters(pass).map_err(failed(pass, backend))?, &expected)?;
        session.parameters_into(pass, false, &mut without).map_err(failed(pass, backend))?;
        equal(&|| format!("{case}: {pass}: scale indices, again"), &without.scale_indices, &expected.scale_indices)?;
        for wrong in others() {
            refused("commit of a pass that is not the next", "order", is_order, session.commit(wrong, &symbols))?;
        }
        for wrong in [&[][..], &symbols[1..], &[&symbols[..], &[0]].concat()] {
            refused("symbols of a wrong length", "shape", is_shape, session.commit(pass, wrong))?;
        }
        session.commit(pass, &symbols).map_err(failed(pass, backend))?;
        other.commit(pass, &symbols).map_err(failed(pass, against))?;
        check_y_hat(case, pass, session.as_ref(), other.as_ref(), both)?;
    }
    Ok(())
}

/// Checks that a wrong number of symbols of z is refused, and a size of y that is not that of its z.
fn check_shapes(backend: &dyn Backend) -> Result<(), ContractError> {
    let (model, size) = (backend.model(), size_of(65, 1));
    let z_len = z_count(model, &size);
    for len in [0, z_len - 1, z_len + 1] {
        refused("z of a wrong length", "shape", is_shape, backend.entropy(size, 0, &vec![0; len]).map(|_| ()))?;
    }
    let other = LatentSize { y: [size.y[0] + 2, size.y[1]], ..size };
    refused("y that is not of z", "shape", is_shape, backend.entropy(other, 0, &vec![0; z_len]).map(|_| ()))
}

/// Compares exact pixels of any `y_hat`, at several sizes. They must be refused for a model without an integer synthesis, and for a `y_hat` of a wrong shape.
fn check_pixels(backend: &dyn Backend, against: &dyn Backend) -> Result<(), ContractError> {
    let (model, mut random) = (backend.model(), Random(11));
    let channels = model.config().latent;
    let y_hat = |random: &mut Random, [height, width]: [usize; 2], fill: Fill| Map {
        height,
        width,
        channels,
        data: fill.symbols(random, height * width * channels).into_iter().map(|symbol| symbol << 10).collect(),
    };
    if model.exact_synthesis().is_none() {
        let got = backend.exact_synthesis(0, &y_hat(&mut random, [1, 1], Fill::Zero));
        return refused("exact pixels without an integer synthesis", "not exact", is_not_exact, got);
    }
    let whole = y_hat(&mut random, [2, 2], Fill::Zero);
    let mut short = whole.clone();
    short.data.pop();
    let wider = Map { channels: channels + 1, ..whole };
    for wrong in [short, wider] {
        refused("y_hat of a wrong shape", "shape", is_shape, backend.exact_synthesis(0, &wrong))?;
    }
    for (fill, [height, width]) in Fill::ALL.into_iter().zip([[1, 1], [4, 9], [12, 4], [3, 5], [2, 8], [7, 2]]) {
        let (what, quality) = (format!("exact pixels, {width}x{height} {fill:?}"), model.quality_steps() / 2);
        let y_hat = y_hat(&mut random, [height, width], fill);
        let got = backend.exact_synthesis(quality, &y_hat).map_err(failed(&what, backend))?;
        let expected = against.exact_synthesis(quality, &y_hat).map_err(failed(&what, against))?;
        equal(
            &|| format!("{what}: shape"),
            &[got.height as i64, got.width as i64],
            &[expected.height as i64, expected.width as i64],
        )?;
        equal(&|| what.clone(), &got.data, &expected.data)?;
    }
    Ok(())
}

/// Compares integer analyses of any picture, at every size. They must be refused for a model without them, and for a y of a wrong shape.
fn check_analysis(backend: &dyn Backend, against: &dyn Backend) -> Result<(), ContractError> {
    let (model, mut random) = (backend.model(), Random(13));
    let no_analysis = |e: &BackendError| matches!(e, BackendError::NoExactAnalysis { .. });
    for ((width, height), quality) in SIZES.into_iter().zip([0, model.quality_steps()].into_iter().cycle()) {
        let rgb: Vec<u8> = (0..3 * width * height).map(|_| random.below(256) as u8).collect();
        let Some(picture) = Picture::new(height as usize, width as usize, &rgb) else { continue };
        if !model.has_exact_analysis() {
            let got = backend.exact_analysis(&picture);
            return refused("an integer analysis of a model without", "no integer analysis", no_analysis, got);
        }
        let what = format!("integer analysis, {width}x{height}");
        let y = backend.exact_analysis(&picture).map_err(failed(&what, backend))?;
        let expected = against.exact_analysis(&picture).map_err(failed(&what, against))?;
        equal(&|| what.clone(), &y.data, &expected.data)?;
        let y = with_gain(model, Gain::Y, &y, quality).map_err(|e| failed(&what, backend)(e.into()))?;
        let z = backend.exact_hyper_analysis(&y).map_err(failed(&what, backend))?;
        let expected = against.exact_hyper_analysis(&y).map_err(failed(&what, against))?;
        equal(&|| format!("{what}: z"), &z.data, &expected.data)?;
        let odd = Map { width: y.width + 1, ..y };
        refused("y of a wrong shape", "shape", is_shape, backend.exact_hyper_analysis(&odd))?;
    }
    Ok(())
}

/// A random float tensor with values from -1 to 1 if `signed`, else from 0 to 1.
fn planes(random: &mut Random, channels: usize, [height, width]: [usize; 2], signed: bool) -> Planes {
    let scale = if signed { (-1.0, 2.0) } else { (0.0, 1.0) };
    let value = |_| scale.0 + scale.1 * (random.below(1 << 24) as f32 / 16_777_216.0);
    Planes { channels, height, width, data: (0..channels * height * width).map(value).collect() }
}

/// Compares the float stages; returns those that are not offered.
fn check_floats(backend: &dyn Backend, against: &dyn Backend) -> Result<Vec<Stage>, ContractError> {
    let config = backend.model().config();
    let (mut random, mut not_offered) = (Random(7), Vec::new());
    for (width, height) in SIZES {
        let size = size_of(width, height);
        let x = planes(&mut random, 3, size.padded, false);
        let y = planes(&mut random, config.latent, size.y, true);
        not_offered.clear();
        for transform in FloatTransform::ALL {
            let is_there = transform == FloatTransform::Synthesis || !backend.model().has_exact_analysis();
            let input = if transform == FloatTransform::Analysis { &x } else { &y };
            if is_there && !same(backend, against, transform, input)? {
                not_offered.push(transform.stage());
            }
        }
    }
    Ok(not_offered)
}

/// Checks that a float stage gives the same bits on both backends; false if `backend` does not offer it.
fn same(backend: &dyn Backend, against: &dyn Backend, transform: FloatTransform, input: &Planes) -> Result<bool, ContractError> {
    let stage = transform.stage();
    let got = match backend.transform(transform, input) {
        Err(BackendError::NotAvailable { .. }) => return Ok(false),
        result => result.map_err(failed(stage, backend))?,
    };
    let expected = against.transform(transform, input).map_err(failed(stage, against))?;
    let shape = |p: &Planes| [p.channels, p.height, p.width];
    if shape(&got) != shape(&expected) || got.data.len() != expected.data.len() {
        return Err(ContractError::Shape { stage, got: shape(&got), expected: shape(&expected) });
    }
    let bits = |p: &Planes| p.data.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    equal(&|| format!("{stage}: bits"), &bits(&got), &bits(&expected)).map(|()| true)
}

/// Whether `MLIC_REQUIRE`, a list of names separated by commas, says that `name` must be available.
#[must_use]
pub fn is_required(name: &str) -> bool {
    std::env::var("MLIC_REQUIRE").is_ok_and(|list| list.split(',').any(|entry| entry.trim() == name))
}

/// Runs [`check`] for a test made by [`backend_contract!`](crate::backend_contract), and returns the breach, or none when all is well.
///
/// A backend that is not available is reported on standard error, which a passing test does not show, and is a failure only if it [`is_required`]:
/// whoever ports a backend sets `MLIC_REQUIRE` to the name in the test. Float stages that are not offered are reported there too.
#[must_use]
pub fn verdict<B: Backend, R: Backend>(
    name: &str,
    backend: Result<B, BackendError>,
    against: Result<R, BackendError>,
) -> Option<String> {
    match (backend, against) {
        (Err(BackendError::NotAvailable { reason, .. }), _) if !is_required(name) => {
            eprintln!("contract of {name}: not run: {reason}");
            None
        }
        (Err(error), _) | (_, Err(error)) => Some(format!("contract of {name}: {error}")),
        (Ok(backend), Ok(against)) => match check(&backend, &against) {
            Ok(not_offered) => {
                not_offered.iter().for_each(|stage| eprintln!("contract of {name}: {stage} in float is not offered"));
                None
            }
            Err(error) => Some(describe(name, &error)),
        },
    }
}

fn describe(name: &str, error: &ContractError) -> String {
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let sources: String = sources.map(|source| format!(": {source}")).collect();
    format!("contract of {name}: {error}{sources}")
}

/// Defines a test that holds a backend to its contract.
///
/// `backend_contract!(test_name, "name", backend, against)`: `backend` and `against` are expressions of type
/// `Result<impl Backend, BackendError>`. A backend that is [`BackendError::NotAvailable`] is printed as not run, unless
/// `MLIC_REQUIRE` lists its name.
#[macro_export]
macro_rules! backend_contract {
    ($test:ident, $name:expr, $backend:expr, $against:expr) => {
        #[test]
        fn $test() {
            if let Some(breach) = $crate::contract::verdict($name, $backend, $against) {
                panic!("{breach}");
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_those_of_splitmix() {
        let mut random = Random(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert!((0..1000).all(|_| random.below(7) < 7 && (-3..=3).contains(&random.within(3))));
        assert_eq!((random.below(0), random.within(0)), (0, 0));
    }

    #[test]
    fn fills_stay_within_the_largest_symbol() {
        let mut random = Random(1);
        for fill in Fill::ALL {
            assert!(fill.symbols(&mut random, 1000).iter().all(|s| s.abs() <= MAX_SYMBOL), "{fill:?}");
        }
        let lengths = Fill::Lengths.symbols(&mut random, 4000);
        assert!((0..=15).all(|bits| lengths.iter().any(|s| 32 - s.unsigned_abs().leading_zeros() == bits)));
    }

    #[test]
    fn the_first_difference_is_named() {
        let what = || "x".to_owned();
        assert!(equal(&what, &[1_u8, 2], &[1, 2]).is_ok());
        let error = equal(&what, &[1, 2, 3], &[1, 5, 6]).unwrap_err();
        assert!(matches!(error, ContractError::Exact { index: 1, got: 2, expected: 5, .. }));
        assert!(matches!(equal(&what, &[1], &[1, 2]), Err(ContractError::Exact { got: 1, expected: 2, .. })));
    }
}
