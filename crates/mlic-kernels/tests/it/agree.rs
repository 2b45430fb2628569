//! The fast operators give the numbers of the reference, for every instruction set of this machine, on random and on extreme
//! inputs. The tests fail if a required instruction set is missing: `MLIC_REQUIRE=avx2,avxvnni,avx512vnni,amx`.

use crate::common::{FILLS, Fill, Rng, assert_same, functions, isas, map, value};
use mlic_core::checkerboard::Parity;
use mlic_kernels::Map;
use mlic_kernels::cpu::Isa;
use mlic_kernels::fast;
use mlic_kernels::function::scale_index;
use mlic_kernels::reference::{self, LocalAttentionShape};
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, QuantizerId, Source, TermSpec};
use mlic_model::model::LayerView;
use mlic_model::nodes::OwnedWeights;
use mlic_model::parameters::{LayerLevel, LinearAttentionLevel, Requant};
use proptest::prelude::*;

/// A layer with its parameters.
struct Layer {
    spec: LayerSpec,
    level: LayerLevel,
    weights: Vec<OwnedWeights>,
    max: i32,
}

impl Layer {
    fn new(rng: &mut Rng, fill: Fill, kernel: Kernel, inputs: &[usize], outputs: usize, epilogue: Epilogue) -> Self {
        let term = |(i, channels): (usize, &usize)| TermSpec {
            source: Source::Quantizer(QuantizerId(i)),
            first_channel: i % 2,
            channels: *channels,
            identity: i > 0 && *channels == outputs && matches!(kernel, Kernel::Dense { .. }),
        };
        let terms: Vec<TermSpec> = inputs.iter().enumerate().map(term).collect();
        let spec = LayerSpec { name: "layer".into(), terms, kernel, outputs, epilogue };
        let count = |t: usize| spec.weights_per_output(t) * outputs;
        // Weights of 16 bits are as large as the longest sum of a test allows.
        let weights = (0..inputs.len()).map(|t| match rng.next().is_multiple_of(3) {
            true => OwnedWeights::Words((0..count(t)).map(|i| value(fill, rng, 600, i) as i16).collect()),
            false => OwnedWeights::Bytes((0..count(t)).map(|i| value(fill, rng, 127, i) as i8).collect()),
        });
        let weights = weights.collect();
        let level = LayerLevel {
            shift: 20,
            multipliers: inputs.iter().map(|_| (0..outputs).map(|_| 1 << 9 | (rng.next() as i32 & 0x3fff)).collect()).collect(),
            bias: (0..outputs).map(|_| i64::from(rng.within(1 << 30))).collect(),
            output: Requant { multiplier: 1_234_567_890, shift: 34 },
        };
        Self { spec, level, weights, max: 2047 }
    }

    fn packed(&self, isa: Isa, maxima: &[i32]) -> fast::Layer {
        fast::Layer::new(isa, &self.spec, &self.view().weights, maxima).unwrap()
    }

    fn packed_for_all_positions(&self, isa: Isa, maxima: &[i32]) -> fast::Layer {
        fast::Layer::for_all_positions(isa, &self.spec, &self.view().weights, maxima).unwrap()
    }

    fn view(&self) -> LayerView<'_> {
        let weights = self.weights.iter().map(OwnedWeights::view).collect();
        LayerView { spec: &self.spec, max: self.max, level: &self.level, weights }
    }
}

fn kernel() -> impl Strategy<Value = Kernel> {
    prop_oneof![
        Just(Kernel::Dense { size: 1 }),
        Just(Kernel::Dense { size: 3 }),
        Just(Kernel::Dense { size: 5 }),
        Just(Kernel::Depthwise { size: 3 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn layers(
        seed: u64, kernel in kernel(), height in 1_usize..6, half_width in 1_usize..9,
        channels in prop::collection::vec((1_usize..70, any::<bool>()), 1..4), outputs in 1_usize..70,
        weights in 0_usize..5, inputs in 0_usize..5, repeats: bool,
    ) {
        let (rng, width) = (&mut Rng(seed), 2 * half_width);
        let depthwise = matches!(kernel, Kernel::Depthwise { .. });
        let mut terms: Vec<(usize, i32)> = channels.iter().map(|(c, narrow)| (*c, if *narrow { 127 } else { 2047 })).collect();
        if depthwise {
            terms = vec![(outputs, terms[0].1)];
        }
        // The second term reads what the first one reads.
        let repeats = repeats && terms.len() > 1 && terms[0].0 != outputs;
        if repeats {
            terms[1] = terms[0];
        }
        let (channels, maxima): (Vec<usize>, Vec<i32>) = terms.iter().copied().unzip();
        let mut maps: Vec<Map<i16>> = terms.iter().map(|(c, max)| map(FILLS[inputs], rng, height, width, c + 1, *max)).collect();
        if repeats {
            maps[1] = maps[0].clone();
        }
        let refs: Vec<&Map<i16>> = maps.iter().collect();
        let f = functions();
        let tables = fast::Tables::new(&f);
        let layer_of = |rng: &mut Rng, epilogue| {
            let mut layer = Layer::new(rng, FILLS[weights], kernel, &channels, outputs, epilogue);
            if repeats {
                layer.spec.terms[1] = layer.spec.terms[0];
            }
            layer
        };
        for epilogue in [Epilogue::Linear, Epilogue::Gelu] {
            let layer = layer_of(rng, epilogue);
            let full = reference::layer(&layer.view(), &f, &refs).unwrap();
            for (isa, packed) in isas().into_iter().flat_map(|isa| {
                [layer.packed(isa, &maxima), layer.packed_for_all_positions(isa, &maxima)].map(|packed| (isa, packed))
            }) {
                assert_same(isa, &fast::layer(&packed, &layer.view(), &tables, &refs, None).unwrap(), &full);
                for parity in Parity::BOTH {
                    let half = fast::layer(&packed, &layer.view(), &tables, &refs, Some(parity)).unwrap();
                    assert_same(isa, &half, &full.pack(parity).unwrap());
                }
            }
        }
        let layer = layer_of(rng, Epilogue::Latent);
        let (latent, residual) = (reference::latent_layer(&layer.view(), &refs).unwrap(), reference::residual_layer(&layer.view(), &f, &refs).unwrap());
        for isa in isas() {
            let packed = layer.packed(isa, &maxima);
            assert_same(isa, &fast::latent_layer(&packed, &layer.view(), &refs).unwrap(), &latent);
            for parity in Parity::BOTH {
                let half = fast::residual_layer(&packed, &layer.view(), &tables, &refs, Some(parity)).unwrap();
                assert_same(isa, &half, &residual.pack(parity).unwrap());
            }
        }
    }

    #[test]
    fn attention(
        seed: u64, height in 1_usize..7, half_width in 1_usize..20, heads in 1_usize..4, head_channels in 1_usize..36,
        fill in 0_usize..5, max in 1_i32..5461, shift in 8_u32..30, window in prop::sample::select(vec![3_usize, 5, 7]),
    ) {
        let (rng, width, channels) = (&mut Rng(seed), 2 * half_width, heads * head_channels);
        let maps: [Map<i16>; 3] = std::array::from_fn(|_| map(FILLS[fill], rng, height, width, channels, max));
        let maps = maps.each_ref();
        let f = functions();
        let tables = fast::Tables::new(&f);
        let requant = Requant { multiplier: 1 << 20, shift };
        let level = LinearAttentionLevel { query: requant, key: requant, output: Requant { multiplier: 1 << 20, shift: 32 } };
        let linear = reference::linear_attention(&f, level, 127, heads, maps).unwrap();
        let bias: Vec<i32> = (0..heads * (2 * window - 1).pow(2)).map(|_| rng.within(5000)).collect();
        let shape = LocalAttentionShape { requant, bias: &bias, window, heads, max };
        let local = reference::local_attention(&f, &shape, maps).unwrap();
        for isa in isas() {
            assert_same(isa, &fast::linear_attention(isa, &tables, level, 127, heads, maps).unwrap(), &linear);
            assert_same(isa, &fast::local_attention(isa, &tables, &shape, maps).unwrap(), &local);
        }
    }

    #[test]
    fn pointwise(seed: u64, count in 1_usize..700, channels in 1_usize..65, fill in 0_usize..5, epsilon in 1_i64..1 << 40) {
        let rng = &mut Rng(seed);
        let input = map(FILLS[fill], rng, 1, count, channels, 8191);
        let expected = reference::layer_norm(&input, epsilon).unwrap();
        for isa in isas() {
            assert_same(isa, &fast::layer_norm(isa, &input, epsilon).unwrap(), &expected);
        }
        let latent = Map { data: (0..count * channels).map(|i| value(FILLS[fill], rng, (1 << 27) - 1, i)).collect(), height: 1, width: count, channels };
        let requant = Requant { multiplier: i32::MAX, shift: 40 };
        for isa in isas() {
            assert_same(isa, &fast::quantize(isa, &latent, requant, 8191).unwrap(), &reference::quantize(&latent, requant, 8191).unwrap());
        }
    }
}

#[test]
fn largest_factors() {
    let (rng, f) = (&mut Rng(3), functions());
    let tables = fast::Tables::new(&f);
    let (channels, outputs) = (130, 33);
    for (most, words) in [(127, false), (8191, false), (32_767, false), (8191, true), (32_639, true), (32_767, true)] {
        let mut layer = Layer::new(rng, Fill::Zero, Kernel::Dense { size: 1 }, &[channels], outputs, Epilogue::Linear);
        layer.level.multipliers[0].fill(1 << 9);
        let weight = |i: usize| if i % channels == i / channels { 1 - 2 * (i % 2) as i32 } else { 0 };
        layer.weights[0] = match words {
            true => OwnedWeights::Words((0..channels * outputs).map(|i| (weight(i) * most) as i16).collect()),
            false => OwnedWeights::Bytes((0..channels * outputs).map(|i| (weight(i) * 127) as i8).collect()),
        };
        for fill in FILLS {
            let input = map(fill, rng, 3, 10, channels, most);
            let expected = reference::layer(&layer.view(), &f, &[&input]).unwrap();
            for isa in isas() {
                let packed = layer.packed(isa, &[most]);
                assert_same(isa, &fast::layer(&packed, &layer.view(), &tables, &[&input], None).unwrap(), &expected);
            }
        }
    }
}

/// Sums at the ends of 32 bits, elements of patches and of transformed weights at the ends of 16: with channels in one part and in several, with
/// weights that cannot be transformed, with activations that decide whether one part is enough, with rows and columns left over.
#[test]
fn largest_sums_of_squares_of_outputs() {
    let (rng, f) = (&mut Rng(5), functions());
    let tables = fast::Tables::new(&f);
    for (channels, most, largest) in [
        (57, 8191, 127),
        (9, 8191, 3236),
        (7, 8191, 4160),
        (80, 127, 127),
        (70, 8192, 127),
        (233, 127, 8063),
        (57, 32_767, 127),
        (9, 32_767, 808),
    ] {
        assert!(9 * channels as i64 * i64::from(most) * i64::from(largest) < 1 << 31);
        for weights in FILLS {
            let mut layer = Layer::new(rng, Fill::Zero, Kernel::Dense { size: 3 }, &[channels], 20, Epilogue::Linear);
            layer.spec.terms[0].first_channel = 0;
            layer.max = 8191;
            layer.level.shift = 27;
            layer.weights[0] = match largest {
                127 => OwnedWeights::Bytes((0..9 * 20 * channels).map(|i| value(weights, rng, 127, i) as i8).collect()),
                _ => OwnedWeights::Words((0..9 * 20 * channels).map(|i| value(weights, rng, largest, i) as i16).collect()),
            };
            // For activations up to `small`, four times a sum of these weights fits, whatever the channels.
            let small = (1 << 29) / (9 * channels as i32 * largest);
            for (fill, height, width, magnitude) in [
                (Fill::Random, 5, 7, most),
                (Fill::Most, 4, 6, most),
                (Fill::Least, 3, 65, most),
                (Fill::Alternating, 2, 1, most),
                (Fill::Most, 4, 33, small.min(most)),
                (Fill::Least, 3, 5, (small + 1).min(most)),
                (Fill::Random, 4, 6, (2 * small).min(most)),
            ] {
                let input = map(fill, rng, height, width, channels, magnitude);
                let expected = reference::layer(&layer.view(), &f, &[&input]).unwrap();
                for isa in isas() {
                    let packed = layer.packed_for_all_positions(isa, &[most]);
                    assert_same(isa, &fast::layer(&packed, &layer.view(), &tables, &[&input], None).unwrap(), &expected);
                }
            }
        }
    }
}

/// Channels with activations whose sums of four do not fit 16 bits, beside channels without; two terms that read the same input, and one that does not.
#[test]
fn large_channels() {
    let (rng, f) = (&mut Rng(13), functions());
    let tables = fast::Tables::new(&f);
    for (channels, large) in [
        (1, vec![0]),
        (2, vec![1]),
        (3, vec![2]),
        (34, vec![]),
        (34, vec![0, 5, 6, 33]),
        (64, (3..60).collect()),
        (64, (0..64).collect()),
    ] {
        let inputs = [channels, channels, 7];
        for weights in [Fill::Random, Fill::Most, Fill::Alternating] {
            let mut layer = Layer::new(rng, Fill::Zero, Kernel::Dense { size: 3 }, &inputs, 20, Epilogue::Linear);
            for (i, term) in layer.spec.terms.iter_mut().enumerate() {
                (term.source, term.first_channel) = (Source::Quantizer(QuantizerId(i / 2)), 0);
                let count = 0..9 * 20 * inputs[i];
                layer.weights[i] = OwnedWeights::Bytes(count.map(|n| value(weights, rng, [113, 31, 127][i], n) as i8).collect());
            }
            layer.max = 32_767;
            for ends in [8191, 8192, 32_767] {
                let mut input = map(Fill::Random, rng, 5, 19, channels, 8191);
                for (i, channel) in large.iter().enumerate() {
                    let at = rng.next() as usize % (5 * 19) * channels + channel;
                    input.data[at] = if i % 2 == 0 { ends as i16 } else { -ends as i16 - i16::from(ends == 8192) };
                }
                let other = map(Fill::Random, rng, 5, 19, 7, 8191);
                let inputs = [&input, &input, &other];
                let expected = reference::layer(&layer.view(), &f, &inputs).unwrap();
                for isa in isas() {
                    for packed in
                        [layer.packed(isa, &[32_767, 32_767, 8191]), layer.packed_for_all_positions(isa, &[32_767, 32_767, 8191])]
                    {
                        assert_same(isa, &fast::layer(&packed, &layer.view(), &tables, &inputs, None).unwrap(), &expected);
                    }
                }
            }
        }
    }
}

/// Sizes that do not fill groups of channels, vectors of outputs or tiles of positions; bytes by bytes, words by bytes, words by words.
#[test]
fn every_remainder() {
    let (rng, f) = (&mut Rng(11), functions());
    let tables = fast::Tables::new(&f);
    for (channels, outputs) in (1..34).flat_map(|channels| [1, 7, 18].map(|outputs| (channels, outputs))) {
        let size = if channels % 2 == 0 { 1 } else { 3 };
        for (most, largest) in [(127, 127), (8191, 127), (8191, 800), (15_000, 300)] {
            let mut layer = Layer::new(rng, Fill::Zero, Kernel::Dense { size }, &[channels], outputs, Epilogue::Linear);
            for (fill, height, width) in [(Fill::Random, 1, 1), (Fill::Most, 1, 6), (Fill::Least, 5, 1), (Fill::Random, 3, 3)] {
                let count = 0..layer.spec.weights_per_output(0) * outputs;
                layer.weights[0] = match largest {
                    127 => OwnedWeights::Bytes(count.map(|i| value(fill, rng, largest, i) as i8).collect()),
                    _ => OwnedWeights::Words(count.map(|i| value(fill, rng, largest, i) as i16).collect()),
                };
                let input = map(fill, rng, height, width, channels, most);
                let expected = reference::layer(&layer.view(), &f, &[&input]).unwrap();
                for isa in isas() {
                    let packed = layer.packed(isa, &[most]);
                    let got = fast::layer(&packed, &layer.view(), &tables, &[&input], None).unwrap();
                    assert_same(isa, &got, &expected);
                }
            }
        }
    }
}

/// Shifts of every size, of layers with weights and of a sum of two inputs.
#[test]
fn shifts_of_every_size() {
    let (rng, f) = (&mut Rng(9), functions());
    let tables = fast::Tables::new(&f);
    let inputs = [map(Fill::Random, rng, 3, 8, 32, 2047), map(Fill::Random, rng, 3, 8, 33, 2047)];
    for channels in [&[31][..], &[32, 32]] {
        let mut layer = Layer::new(rng, Fill::Random, Kernel::Dense { size: 1 }, channels, 32, Epilogue::Linear);
        for (i, term) in layer.spec.terms.iter_mut().enumerate() {
            (term.first_channel, term.identity) = (0, channels.len() == 2);
            if term.identity {
                layer.weights[i] = OwnedWeights::Bytes(Vec::new());
            }
        }
        let inputs: Vec<Map<i16>> = inputs
            .iter()
            .zip(channels)
            .map(|(map, channels)| if *channels == 32 { map.select(0, 32).unwrap() } else { map.clone() })
            .collect();
        let refs: Vec<&Map<i16>> = inputs.iter().collect();
        for shift in 0..=62 {
            layer.level.shift = shift;
            let expected = reference::layer(&layer.view(), &f, &refs).unwrap();
            for isa in isas() {
                let packed = layer.packed(isa, &vec![2047; channels.len()]);
                assert_same(isa, &fast::layer(&packed, &layer.view(), &tables, &refs, None).unwrap(), &expected);
            }
        }
    }
}

/// Scales below, at and above every threshold, in whole vectors and not.
#[test]
fn scale_indices() {
    let thresholds: Vec<i32> = (0..63).map(|i| 450 + (i * i * i) * 500).collect();
    let ends = [i32::MIN, -1, 0, (1 << 27) - 1, i32::MAX];
    let scales: Vec<i32> = thresholds.iter().flat_map(|t| [t - 1, *t, t + 1]).chain(ends).collect();
    for scales in [&scales[..], &scales[..7], &scales[..0], &scales.repeat(50)] {
        let expected: Vec<u8> = scales.iter().map(|s| scale_index(&thresholds, *s)).collect();
        for isa in isas() {
            // The memory has another length before.
            let mut got = vec![255; 20];
            fast::scale_indices(isa, &thresholds, scales, &mut got).unwrap();
            assert_eq!(got, expected, "{}", isa.name());
        }
    }
}

#[test]
fn threads_change_nothing() {
    let (rng, f) = (&mut Rng(7), functions());
    let tables = fast::Tables::new(&f);
    let input = map(Fill::Random, rng, 13, 22, 20, 127);
    let layer = Layer::new(rng, Fill::Random, Kernel::Dense { size: 3 }, &[19], 40, Epilogue::Gelu);
    let expected = reference::layer(&layer.view(), &f, &[&input]).unwrap();
    for threads in [1, 2, 5, 64] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in isas() {
            let packed = layer.packed_for_all_positions(isa, &[127]);
            let got = pool.install(|| fast::layer(&packed, &layer.view(), &tables, &[&input], None).unwrap());
            assert_same(isa, &got, &expected);
        }
    }
}
