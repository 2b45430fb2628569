//! A dense layer of the entropy networks, for each instruction set and the definition.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mlic_kernels::Map;
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast::{self, Positions};
use mlic_kernels::reference;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, QuantizerId, Source, TermSpec};
use mlic_model::model::LayerView;
use mlic_model::parameters::{Functions, LayerLevel, Requant};

fn layers(c: &mut Criterion) {
    let empty = Functions {
        gelu: vec![0; 513],
        half_tanh: vec![0; 513],
        exp_coarse: vec![],
        exp_fine: vec![],
        exp2_coarse: vec![],
        exp2_fine: vec![],
    };
    for (size, channels, outputs) in [(1, 192, 192), (3, 192, 96), (5, 96, 96)] {
        let source = Source::Quantizer(QuantizerId(0));
        let term = TermSpec { source, first_channel: 0, channels, identity: false };
        let kernel = Kernel::Dense { size };
        let spec = LayerSpec { name: "bench".into(), terms: vec![term], kernel, outputs, epilogue: Epilogue::Gelu };
        let count = spec.macs_per_position();
        let weights: Vec<i8> = (0..count).map(|i| (i * 37 % 255) as u8 as i8).map(|w| w.max(-127)).collect();
        let output = Requant { multiplier: 1 << 30, shift: 34 };
        let level = LayerLevel { shift: 20, multipliers: vec![vec![5000; outputs]], bias: vec![7; outputs], output };
        let view = LayerView { spec: &spec, max: 127, level: &level, weights: vec![&weights] };
        let data = (0..32 * 48 * channels).map(|i| (i * 31 % 4095) as i16 - 2047).collect();
        let input = Map { height: 32, width: 48, channels, data };
        let mut group = c.benchmark_group(format!("dense {size}x{size} {channels} to {outputs} at 32x48"));
        group.throughput(Throughput::Elements((count * 32 * 48) as u64)).sample_size(10);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            group.bench_function(isa.name(), |b| b.iter(|| fast::layer(isa, &view, &empty, &[&input], Positions::All)));
        }
        if size == 1 {
            group.bench_function("reference", |b| b.iter(|| reference::layer(&view, &empty, &[&input])));
        }
        group.finish();
    }
}

criterion_group!(benches, layers);
criterion_main!(benches);
