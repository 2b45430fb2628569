//! How fast dense layers run, against what the device could do.
#![allow(unsafe_code, reason = "addresses are numbers: see device.rs")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::CudaEvent;
use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use mlic_backend::{BackendError, Stage};
use mlic_model::Model;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::model::{LayerView, Weights};
use mlic_model::parameters::{Functions, LayerLevel, Requant};

use crate::backend::{CudaBackend, Options, device_error};
use crate::device::Device;
use crate::layer::{Plan, Region, Tile};
use crate::memory::{Pool, Tensor};
use crate::packed::{PackError, Packer};

/// A dense layer to be measured: `side x side`, with as many outputs as channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Side of the kernel.
    pub side: usize,
    /// Channels and outputs.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Whether activations have 16 bits, which takes two products of bytes for each.
    pub wide: bool,
    /// Whether weights have 16 bits, likewise.
    pub words: bool,
}

/// The rate that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// Device and image.
    pub device: String,
    /// Multiply-adds of bytes per second, over whole layers.
    pub achieved: f64,
    /// Dense multiply-adds of bytes per second that multiprocessors, clock and architecture allow; none if the architecture is not known.
    pub peak: Option<f64>,
}

/// Shape of the blocks of dense layers, instead of the shape chosen for each: warps along positions, outputs and the k axis, and outputs of a warp in
/// units of 32.
pub type Warps = [usize; 4];

fn opened(ordinal: usize, warps: Option<Warps>) -> Result<Device, BackendError> {
    let mut device = Device::open(ordinal, false)?;
    device.forced_tile = warps.map(|[m, n, k, blocks]| Tile { m, n, k, blocks });
    Ok(device)
}

/// Makes a backend that uses these blocks where they are possible.
///
/// # Errors
/// As [`CudaBackend::new`].
pub fn backend_with(model: Arc<Model>, warps: Option<Warps>) -> Result<CudaBackend, BackendError> {
    CudaBackend::on(Arc::new(opened(0, warps)?), model, Options::default())
}

/// Bytes of a device's memory that are in use, by any program.
///
/// # Errors
/// [`BackendError::NotAvailable`], or an error of the device.
pub fn used_memory(ordinal: usize) -> Result<usize, BackendError> {
    opened(ordinal, None)?.used_memory().map_err(|e| device_error(Stage::Passes, e))
}

/// Frees the memory that pictures left for later ones of their size.
pub fn forget(backend: &CudaBackend) {
    backend.forget();
}

/// Launches of one measurement.
const REPEATS: u32 = 8;

/// Times of launches. Each kernel runs [`REPEATS`] times in a row, so that the time of its launch is not measured too. The numbers that the kernels
/// compute are then not those of the model.
#[derive(Default)]
pub(crate) struct Profile {
    spans: Mutex<Vec<(String, [CudaEvent; 2])>>,
    label: Mutex<String>,
}

impl Profile {
    /// Sets the text that is reported with the kernel's name for the next launch.
    pub(crate) fn label(&self, text: String) {
        *self.label.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Starts a kernel once without measuring it, then [`REPEATS`] times between two marks.
    pub(crate) fn launch(
        &self,
        name: &str,
        start: impl Fn() -> Result<(), DriverError>,
        mark: impl Fn() -> Result<CudaEvent, DriverError>,
    ) -> Result<(), DriverError> {
        start()?;
        let before = mark()?;
        (0..REPEATS).try_for_each(|_| start())?;
        let label = std::mem::take(&mut *self.label.lock().unwrap_or_else(PoisonError::into_inner));
        let span = (format!("{name}{label}"), [before, mark()?]);
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
        Ok(())
    }

    /// Returns label and milliseconds of each launch since the last call.
    pub(crate) fn take(&self) -> Result<Vec<(String, f64)>, DriverError> {
        let spans = std::mem::take(&mut *self.spans.lock().unwrap_or_else(PoisonError::into_inner));
        let time = |(label, [start, end]): (String, [CudaEvent; 2])| {
            Ok((label, f64::from(start.elapsed_ms(&end)?) / f64::from(REPEATS)))
        };
        spans.into_iter().map(time).collect()
    }
}

/// The time that launches of one kernel on one shape take.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// Kernel and shape.
    pub name: String,
    /// Number of launches.
    pub count: usize,
    /// Milliseconds of all launches together.
    pub milliseconds: f64,
}

/// Runs `work` on a backend that measures every launch, and returns the times, the longest first. The results of `work` are not those of the model,
/// because each kernel runs several times.
///
/// # Errors
/// As [`CudaBackend::new`], and those of `work`.
pub fn kernel_times(
    model: Arc<Model>,
    warps: Option<Warps>,
    work: impl FnOnce(&CudaBackend) -> Result<(), BackendError>,
) -> Result<Vec<KernelTime>, BackendError> {
    let profile = Arc::new(Profile::default());
    let mut device = opened(0, warps)?;
    device.profile = Some(Arc::clone(&profile));
    let backend = CudaBackend::on(Arc::new(device), model, Options::default())?;
    work(&backend)?;
    let mut all: HashMap<String, (usize, f64)> = HashMap::new();
    for (name, milliseconds) in profile.take().map_err(|e| device_error(Stage::Passes, e))? {
        let sum = all.entry(name).or_default();
        *sum = (sum.0 + 1, sum.1 + milliseconds);
    }
    let mut times: Vec<KernelTime> =
        all.into_iter().map(|(name, (count, milliseconds))| KernelTime { name, count, milliseconds }).collect();
    times.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
    Ok(times)
}

/// Dense multiply-adds of bytes per clock of one multiprocessor with tensor cores.
const fn per_clock(capability: (i32, i32)) -> Option<f64> {
    match capability {
        (7, 2 | 5) => Some(512.0),
        (8, 0 | 7) => Some(2048.0),
        (8, _) => Some(1024.0),
        (9, 0) => Some(4096.0),
        _ => None,
    }
}

fn plan(device: &Device, shape: Shape, random: &mut mlic_backend::contract::Random) -> Result<Vec<(Plan, Kept)>, PackError> {
    let Shape { side, channels, wide, words, .. } = shape;
    let term = TermSpec::node(NodeIndex(0), channels, false);
    let (kernel, epilogue) = (Kernel::Dense { size: side }, Epilogue::Linear);
    let spec = LayerSpec { name: "measured".into(), terms: vec![term], kernel, outputs: channels, epilogue };
    let weights: Vec<i16> = (0..channels * channels * side * side).map(|_| random.within(127) as i16).collect();
    let bytes: Vec<i8> = weights.iter().map(|w| *w as i8).collect();
    let output = Requant { multiplier: 0, shift: 0 };
    let level = LayerLevel { shift: 24, multipliers: vec![vec![1 << 12; channels]], bias: vec![0; channels], output };
    let view = LayerView {
        spec: &spec,
        max: 127,
        level: &level,
        weights: vec![if words { Weights::Words(&weights) } else { Weights::Bytes(&bytes) }],
    };
    let mut packer = Packer::default();
    let none = Functions {
        gelu: vec![0],
        half_tanh: vec![0],
        exp_coarse: vec![0],
        exp_fine: vec![0],
        exp2_coarse: vec![0],
        exp2_fine: vec![0],
    };
    let tables = packer.functions(&none)?;
    packer.layer(&[view], &[if wide { 8191 } else { 127 }], tables, false)?;
    let (plans, _, parts) = packer.finish(device)?;
    Ok(plans.into_iter().zip(std::iter::once(parts)).collect())
}

type Kept = [crate::device::Memory; 2];

/// Measures a layer that runs `repeats` times, after a first run that is not measured.
///
/// # Errors
/// [`BackendError::NotAvailable`], or an error of the device.
pub fn dense_rate(ordinal: usize, shape: Shape, warps: Option<Warps>, repeats: usize) -> Result<Rate, BackendError> {
    let device = Arc::new(opened(ordinal, warps)?);
    measure(&device, shape, repeats).map_err(|e| e.or(|e| device_error(Stage::Passes, e)))
}

fn measure(device: &Arc<Device>, shape: Shape, repeats: usize) -> Result<Rate, PackError> {
    let Shape { side, channels, height, width, wide, words } = shape;
    let mut random = mlic_backend::contract::Random(1);
    let plans = plan(device, shape, &mut random)?;
    let pool = Pool::new(device);
    let (input, out) =
        (Tensor::<i16>::new(&pool, [height, width, channels])?, Tensor::<i16>::new(&pool, [height, width, channels])?);
    let max = if wide { 8191 } else { 127 };
    input.write(&(0..input.len()).map(|_| random.within(max) as i16).collect::<Vec<_>>())?;
    let region = Region { height, width, stride: 1, parity: None, rows: 0..height };
    let run = |count: usize| {
        for _ in 0..count {
            for (plan, _) in &plans {
                // SAFETY: input and output have the shape of the region and the layer's channels.
                unsafe { plan.launch(device, &[(input.address(), channels)], &region, [out.address(), 0], 0) }?;
            }
        }
        device.synchronize()
    };
    run(1)?;
    let start = Instant::now();
    run(repeats)?;
    let products = (side * side * channels * channels * height * width * repeats) as f64;
    let products = products * if wide { 2.0 } else { 1.0 } * if words { 2.0 } else { 1.0 };
    let achieved = products / start.elapsed().as_secs_f64().max(1e-9);
    let attribute = |which| device.attribute(which).map(f64::from);
    let processors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let kilohertz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    let capability = device.capability;
    let peak = per_clock(capability).map(|each| each * processors * kilohertz * 1e3);
    Ok(Rate { device: device.description.clone(), achieved, peak })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_measured_where_there_is_a_device() {
        let shape = Shape { side: 3, channels: 33, height: 3, width: 5, wide: true, words: true };
        match dense_rate(0, shape, Some([1, 1, 3, 1]), 2) {
            Ok(rate) => assert!(rate.achieved > 0.0 && rate.peak.is_none_or(|peak| peak >= 0.0), "{rate:?}"),
            Err(error) => assert!(!mlic_backend::contract::is_required("cuda"), "{error}"),
        }
    }
}
