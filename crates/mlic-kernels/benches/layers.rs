//! Dense layers of the entropy networks on one core, for each instruction set, against the definition and against the peak of the
//! instruction set's multiply-adds. Layers are packed as the codec packs them, for all positions, so that 3x3 layers may use Winograd's tiles. The fraction of
//! the peak is measured with plain sums; the rate of layers packed for all positions is printed beside it.
#![allow(missing_docs, reason = "criterion generates the entry points")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast::{self, Tables};
use mlic_kernels::peak::{self, Products};
use mlic_kernels::reference;
use mlic_kernels::{Map, OutOfMemory};
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, QuantizerId, Source, TermSpec};
use mlic_model::model::{LayerView, Weights};
use mlic_model::parameters::{Functions, LayerLevel, Requant};

/// [`fast::Layer::new`], whose sums are plain, or [`fast::Layer::for_all_positions`].
type Packer = fn(Isa, &LayerSpec, &[Weights<'_>], &[i32]) -> Result<fast::Layer, OutOfMemory>;

/// A layer with its input.
struct Case {
    spec: LayerSpec,
    level: LayerLevel,
    weights: Vec<i8>,
    /// The weights times 32, if they are to be words.
    words: Option<Vec<i16>>,
    functions: Functions,
    input: Map<i16>,
    max: i32,
}

impl Case {
    /// `max` bounds the magnitude of the activations: 127 or 8191.
    fn new(size: usize, channels: usize, outputs: usize, [height, width]: [usize; 2], max: i32) -> Self {
        let source = Source::Quantizer(QuantizerId(0));
        let term = TermSpec { source, first_channel: 0, channels, identity: false };
        let kernel = Kernel::Dense { size };
        let spec = LayerSpec { name: "bench".into(), terms: vec![term], kernel, outputs, epilogue: Epilogue::Gelu };
        let weights = (0..spec.weights_len()).map(|i| ((i * 37 % 255) as i32 - 127) as i8).collect();
        let output = Requant { multiplier: 1 << 30, shift: 34 };
        let level = LayerLevel { shift: 20, multipliers: vec![vec![5000; outputs]], bias: vec![7; outputs], output };
        let data = (0..height * width * channels).map(|i| (i as i32 * 31 % (2 * max + 1) - max) as i16).collect();
        let functions = Functions {
            gelu: vec![0; 513],
            half_tanh: vec![0; 513],
            exp_coarse: vec![],
            exp_fine: vec![],
            exp2_coarse: vec![],
            exp2_fine: vec![],
        };
        Self { spec, level, weights, words: None, functions, input: Map { height, width, channels, data }, max }
    }

    /// The same case with words as weights.
    fn of_words(self) -> Self {
        let words = self.weights.iter().map(|w| i16::from(*w) << 5).collect();
        Self { words: Some(words), ..self }
    }

    fn view(&self) -> LayerView<'_> {
        LayerView {
            spec: &self.spec,
            max: 127,
            level: &self.level,
            weights: vec![self.words.as_deref().map_or(Weights::Bytes(&self.weights), Weights::Words)],
        }
    }

    fn macs(&self) -> u64 {
        (self.weights.len() * self.input.height * self.input.width) as u64
    }

    fn runner(&self, isa: Isa, pack: Packer) -> impl Fn() -> Map<i16> {
        let view = self.view();
        let (layer, tables) = (pack(isa, &self.spec, &view.weights, &[self.max]).unwrap(), Tables::new(&self.functions));
        move || fast::layer(&layer, &view, &tables, &[&self.input], None).unwrap()
    }

    fn name(&self) -> String {
        let (size, map) = (self.spec.kernel.size(), &self.input);
        let bits = if self.max > 127 { 16 } else { 8 };
        let weights = if self.words.is_some() { " by int16" } else { "" };
        format!("{size}x{size} {} to {} at {}x{} int{bits}{weights}", map.channels, self.spec.outputs, map.height, map.width)
    }
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// Seconds that this thread has run: on a shared machine a better clock than wall time, which is used where the system does not tell.
fn seconds_run(start: Instant) -> f64 {
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = on_cpu.as_deref().and_then(|s| s.split(' ').next()).and_then(|s| s.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |n| n * 1e-9)
}

/// Multiply-adds per second over at least half a second: the clock may have steps of milliseconds.
fn rate(mut f: impl FnMut() -> u64) -> f64 {
    let (clock, mut macs) = (Instant::now(), 0);
    let start = seconds_run(clock);
    loop {
        macs += f();
        let seconds = seconds_run(clock) - start;
        if seconds > 0.5 {
            return macs as f64 / seconds;
        }
    }
}

/// Prints the fraction of the peak that the kernels reach, from the best rate of each; they are measured in turn.
fn fractions() {
    for isa in isas() {
        for (max, is_words, products) in
            [(127, false, Products::Quads), (8191, false, Products::Pairs), (8191, true, Products::Words)]
        {
            for place in [[32, 48], [96, 64]] {
                let case = Case::new(3, 192, 192, place, max);
                let case = if is_words { case.of_words() } else { case };
                let [plain, all] =
                    [fast::Layer::new as Packer, fast::Layer::for_all_positions].map(|pack| case.runner(isa, pack));
                let kernel = |run: &dyn Fn() -> Map<i16>| {
                    rate(|| {
                        black_box(run());
                        case.macs()
                    })
                };
                let [mut peak, mut sums, mut codec] = [0.0_f64; 3];
                for _ in 0..3 {
                    peak = peak.max(rate(|| black_box(peak::multiply_adds(isa, products, 20_000)).0));
                    sums = sums.max(kernel(&plain));
                    codec = codec.max(kernel(&all));
                }
                let percent = 100.0 * sums / peak;
                let [peak, sums, codec] = [peak, sums, codec].map(|rate| rate / 1e9);
                let (isa, name) = (isa.name(), case.name());
                println!(
                    "{isa:11} {name:45} {sums:7.1} GMAC/s of {peak:7.1}: {percent:.0} %; as packed for all positions {codec:7.1}"
                );
            }
        }
    }
}

fn layers(c: &mut Criterion) {
    for (case, with_reference) in [
        (Case::new(1, 384, 192, [32, 24], 127), true),
        (Case::new(1, 192, 128, [32, 24], 8191), false),
        (Case::new(3, 192, 96, [32, 48], 127), false),
        (Case::new(3, 32, 96, [32, 48], 8191), false),
        (Case::new(3, 64, 64, [32, 48], 8191).of_words(), false),
        (Case::new(5, 160, 96, [32, 48], 127), false),
    ] {
        let mut group = c.benchmark_group(case.name());
        group.throughput(Throughput::Elements(case.macs())).sample_size(10);
        for isa in isas() {
            let run = case.runner(isa, fast::Layer::for_all_positions);
            group.bench_function(isa.name(), |b| b.iter(&run));
        }
        if with_reference {
            group.bench_function("reference", |b| {
                b.iter(|| reference::layer(&case.view(), &case.functions, &[&case.input]).unwrap());
            });
        }
        group.finish();
    }
}

fn on_one_core(c: &mut Criterion) {
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global() {
        println!("not on one core: {error}");
    }
    if !std::env::args().any(|a| a == "--test") {
        fractions();
    }
    layers(c);
}

criterion_group!(benches, on_one_core);
criterion_main!(benches);
