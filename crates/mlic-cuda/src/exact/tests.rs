//! Random integer syntheses against the definition: every kernel size, epilogue, weight width and shuffle, with extreme values.

use mlic_backend::contract::Random;
use mlic_kernels::reference;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, TermSpec};
use mlic_model::nodes::{OwnedWeights, Quantizer, Resize};
use mlic_model::parameters::LayerLevel;

use super::*;
use crate::device::tests::device;
use crate::layer::Tile;
use crate::measure::Profile;

/// Tables that only need to be valid.
fn functions() -> Functions {
    let falling = |i: usize, top: u32, by: u32| top.saturating_sub(by * i as u32) as u16;
    Functions {
        gelu: (0..513).map(|i| (2000 - (i - 60_i32).abs() * 7).max(0) as i16).collect(),
        half_tanh: (0..513).map(|i| (i * 4) as i16).collect(),
        exp_coarse: (0..256).map(|i| falling(i, 32_767, 130)).collect(),
        exp_fine: (0..64).map(|i| falling(i, 32_768, 31)).collect(),
        exp2_coarse: (0..256).map(|i| (1 << 30) + (i << 20)).collect(),
        exp2_fine: (0..256).map(|i| (1 << 30) + (i << 8)).collect(),
    }
}

/// What values a test uses.
#[derive(Clone, Copy)]
enum Fill {
    Random,
    Most,
    Least,
    Alternating,
}

fn value(fill: Fill, random: &mut Random, max: i32, i: usize) -> i32 {
    match fill {
        Fill::Random => random.within(max),
        Fill::Most => max,
        Fill::Least => -max,
        Fill::Alternating => [max, -max][i % 2],
    }
}

/// Nodes that are being made, with channels and largest magnitude of each.
struct Maker<'a> {
    random: &'a mut Random,
    fill: Fill,
    nodes: Vec<Node>,
    shapes: Vec<(usize, i32)>,
}

impl Maker<'_> {
    fn layer(&mut self, inputs: &[(usize, bool)], size: usize, outputs: usize, epilogue: Epilogue, shuffle: bool) -> usize {
        let term = |(at, identity): &(usize, bool)| TermSpec::node(NodeIndex(*at), self.shapes[*at].0, *identity);
        let spec = LayerSpec {
            name: "layer".into(),
            terms: inputs.iter().map(term).collect(),
            kernel: Kernel::Dense { size },
            outputs,
            epilogue,
        };
        let words = self.random.below(2) == 0;
        let weights = (0..inputs.len()).map(|t| {
            let per_output = spec.weights_per_output(t);
            // As large as the 32-bit accumulator allows.
            let most = i32::MAX / self.shapes[inputs[t].0].1 / per_output.max(1) as i32;
            let mut all = |max: i32| (0..per_output * outputs).map(|i| value(self.fill, self.random, max, i)).collect::<Vec<_>>();
            if words {
                OwnedWeights::Words(all(most.min(32_767)).into_iter().map(|w| w as i16).collect())
            } else {
                OwnedWeights::Bytes(all(most.min(127)).into_iter().map(|w| w as i8).collect())
            }
        });
        let weights = weights.collect();
        let max = if epilogue == Epilogue::Pixel { 255 } else { [127, 2047, 32_767][self.random.below(3) as usize] };
        let level = LayerLevel {
            shift: 20 + self.random.below(6),
            multipliers: inputs.iter().map(|_| (0..outputs).map(|_| self.random.below(0x1fff) as i32).collect()).collect(),
            bias: (0..outputs).map(|_| i64::from(self.random.within(1 << 29))).collect(),
            output: Requant { multiplier: 1_234_567_890, shift: 34 },
        };
        let resize = if shuffle { Resize::Shuffle } else { Resize::None };
        self.add(Node::Layer(Layer { spec, max, level, weights, resize }), max)
    }

    fn inverse_gdn(&mut self, input: usize) -> usize {
        let n = self.shapes[input].0;
        let gdn = Gdn {
            input: NodeIndex(input),
            inverse: true,
            max: 3000,
            gamma: (0..n * n).map(|i| value(self.fill, self.random, 65_535 / n as i32 / 2, i).abs() as i16).collect(),
            beta: (0..n).map(|_| i64::from(self.random.below(1 << 31)) << 8).collect(),
            shift: self.random.below(12),
            multipliers: (0..n).map(|_| self.random.below(1 << 30) as i32).collect(),
            output_shift: 30,
        };
        self.add(Node::Gdn(gdn), 3000)
    }

    fn add(&mut self, node: Node, max: i32) -> usize {
        self.shapes.push((node.channels(), max));
        self.nodes.push(node);
        self.shapes.len() - 1
    }
}

/// Residual blocks, and upsampling blocks with a normalization in one of two branches.
fn synthesis(random: &mut Random, fill: Fill, latent: usize, widths: [usize; 3]) -> Synthesis {
    let mut m = Maker { random, fill, nodes: Vec::new(), shapes: vec![(latent, 2047)] };
    let mut at = 0;
    for width in widths {
        let channels = m.shapes[at].0;
        let inner = m.layer(&[(at, false)], 3, channels, Epilogue::Gelu, false);
        let block = m.layer(&[(inner, true), (at, true)], 1, channels, Epilogue::Linear, false);
        let up = m.layer(&[(block, false)], 3, 4 * width, Epilogue::Gelu, true);
        let conv = m.layer(&[(up, false)], 3, width, Epilogue::Linear, false);
        let normalized = m.inverse_gdn(conv);
        let wide = m.layer(&[(block, false)], 1, 4 * width, Epilogue::Linear, false);
        let skip = m.layer(&[(block, false), (wide, true)], 5, 4 * width, Epilogue::Linear, true);
        at = m.layer(&[(normalized, true), (skip, true)], 1, width, Epilogue::Linear, false);
    }
    // Nothing reads this one.
    m.layer(&[(at, false)], 5, 3, Epilogue::Linear, false);
    m.layer(&[(at, false), (at, false)], 3, 12, Epilogue::Pixel, true);
    let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
    Synthesis::new(latent, quantizer, m.nodes).unwrap()
}

/// The device with blocks as they are chosen, and with others wherever these are possible.
fn with_tiles(device: &Device) -> impl Iterator<Item = Arc<Device>> {
    let tile = |[m, n, k, blocks]: [usize; 4]| Some(Tile { m, n, k, blocks });
    let tiles = [[1, 1, 1, 1], [1, 1, 4, 1], [2, 2, 2, 1], [4, 1, 3, 1], [2, 3, 1, 1], [2, 1, 2, 2]].map(tile);
    std::iter::once(None).chain(tiles).map(|forced_tile| {
        let mut device = device.clone();
        device.forced_tile = forced_tile;
        Arc::new(device)
    })
}

#[test]
fn strips_give_the_samples_of_the_definition() {
    let Some(device) = device() else { return };
    let (functions, fills) = (functions(), [Fill::Random, Fill::Most, Fill::Least, Fill::Alternating]);
    for (seed, [height, width, channels]) in [[1, 2, 4], [3, 1, 40], [2, 3, 9], [5, 1, 3], [1, 1, 33]].into_iter().enumerate() {
        let random = &mut Random(seed as u64);
        let widths = [[8, 12, 5], [33, 4, 8], [1, 2, 3], [16, 8, 8], [4, 40, 1]][seed];
        let own = synthesis(random, fills[seed % 4], channels, widths);
        let data = (0..height * width * channels).map(|i| value(fills[(seed / 2) % 4], random, 40_000, i)).collect();
        let latent = Map { height, width, channels, data };
        let expected = reference::synthesis(&functions, &own, &latent).unwrap();
        let packed = PackedSynthesis::new(&device, &functions, &own).unwrap();
        for (strip, device) in [1, 2, 7].into_iter().cycle().zip(with_tiles(&device)) {
            let mut got = Vec::new();
            packed.run_in_strips(&device, Latent::of(&latent, &[]), strip, &mut got).unwrap();
            assert_eq!(got.len(), expected.data.len());
            let differs = got.iter().zip(&expected.data).position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}, strips of {strip}, {:?}", device.forced_tile);
        }
    }
}

#[test]
fn strips_of_a_picture_share_buffers() {
    let Some(device) = device() else { return };
    let (functions, [height, width, channels]) = (functions(), [28, 3, 16]);
    let random = &mut Random(3);
    let own = synthesis(random, Fill::Random, channels, [16, 8, 8]);
    let data = (0..height * width * channels).map(|_| random.within(40_000)).collect();
    let latent = Map { height, width, channels, data };
    let packed = PackedSynthesis::new(&device, &functions, &own).unwrap();
    let run = || {
        let mut samples = Vec::new();
        packed.run_in_strips(&device, Latent::of(&latent, &[]), 8, &mut samples).unwrap();
        let kept = packed.nodes.idle.take([height, width]).unwrap();
        let idle = kept.pool.idle();
        packed.nodes.idle.give_back([height, width], kept);
        idle
    };
    let [count, bytes] = run();
    // Without sharing between nodes of one shape, two buffers for each of 26 nodes would be the least. With exact sizes there were 82, of 718 080 bytes.
    assert!(count <= 2 * 26 && bytes <= 500_000, "{count} buffers, {bytes} bytes");
    assert_eq!(run(), [count, bytes], "a second picture allocates nothing");
}

/// Blocks with 192 KiB of shared memory, which an H100 gives and an Orin does not, and with 96 KiB, which a Xavier gives too.
#[test]
fn strips_give_the_samples_with_the_largest_blocks() {
    let Some(device) = device() else { return };
    let (functions, [height, width, channels]) = (functions(), [2, 3, 40]);
    let mut blocks = Vec::new();
    for seed in 0..2 {
        let random = &mut Random(seed);
        let data = (0..height * width * channels).map(|_| random.within(40_000)).collect();
        let latent = Map { height, width, channels, data };
        let mut m = Maker { random, fill: Fill::Random, nodes: Vec::new(), shapes: vec![(channels, 2047)] };
        let broad = m.layer(&[(0, false)], 3, 192, Epilogue::Gelu, false);
        let narrowed = m.layer(&[(broad, false)], 1, 8, Epilogue::Linear, true);
        let last = (0..2).fold(narrowed, |at, _| m.layer(&[(at, false)], 1, 8, Epilogue::Linear, true));
        m.layer(&[(last, false)], 1, 12, Epilogue::Pixel, true);
        let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
        let own = Synthesis::new(channels, quantizer, m.nodes).unwrap();
        let expected = reference::synthesis(&functions, &own, &latent).unwrap();
        let packed = PackedSynthesis::new(&device, &functions, &own).unwrap();
        for of_warp in [2, 1] {
            let run = |profile| {
                let (mut device, mut got) = ((*device).clone(), Vec::new());
                device.forced_tile = Some(Tile { m: 4, n: 3, k: 1, blocks: of_warp });
                device.profile = profile;
                packed.run_in_strips(&Arc::new(device), Latent::of(&latent, &[]), 2, &mut got).unwrap();
                got
            };
            assert!(run(None) == expected.data, "seed {seed}, {of_warp} blocks");
            let profile = Arc::new(Profile::default());
            run(Some(Arc::clone(&profile)));
            blocks.extend(profile.take().unwrap().into_iter().map(|(name, _)| name));
        }
    }
    let has = |warps: &str| blocks.iter().any(|name| name.ends_with(warps));
    assert!(has(" 4x3x1 warps"), "{blocks:?}");
    assert_eq!(has(" 4x6x1 warps"), device.has_mma && device.shared_limit >= 192 << 10, "{blocks:?}");
}

/// Strided residual blocks with a normalization in one of two branches, from `channels` channels of at most `max` to latents.
fn downsampling(random: &mut Random, fill: Fill, [channels, max]: [usize; 2], widths: &[usize], outputs: usize) -> Vec<Node> {
    let mut m = Maker { random, fill, nodes: Vec::new(), shapes: vec![(channels, max as i32)] };
    let mut strides = Vec::new();
    let mut at = 0;
    for width in widths {
        let first = m.layer(&[(at, false)], 3, *width, Epilogue::Gelu, false);
        let conv = m.layer(&[(first, false)], 5, *width, Epilogue::Linear, false);
        let normalized = m.inverse_gdn(conv);
        let skip = m.layer(&[(at, false)], 1, *width, Epilogue::Linear, false);
        at = m.layer(&[(normalized, true), (skip, true)], 1, *width, Epilogue::Linear, false);
        strides.extend([2, 1, 1, 2, 1]);
    }
    m.layer(&[(at, false), (at, false)], 3, outputs, Epilogue::Latent, false);
    strides.push(2);
    let node = |(node, stride)| match node {
        Node::Layer(layer) => Node::Layer(Layer { resize: if stride == 2 { Resize::Stride } else { Resize::None }, ..layer }),
        // The numerator of a division has 32 bits.
        Node::Gdn(gdn) => {
            let multipliers = gdn.multipliers.iter().map(|m| m >> 15).collect();
            Node::Gdn(Gdn { inverse: false, multipliers, output_shift: 38, ..gdn })
        }
    };
    m.nodes.into_iter().zip(strides).map(node).collect()
}

#[test]
fn strips_give_the_latents_of_the_definition() {
    let Some(device) = device() else { return };
    let (functions, fills) = (functions(), [Fill::Random, Fill::Most, Fill::Least, Fill::Alternating]);
    for (seed, [height, width]) in [[50, 30], [7, 129], [1, 1], [100, 64]].into_iter().enumerate() {
        let random = &mut Random(seed as u64 + 7);
        let (latent, widths) = (4 + 3 * seed, [&[8, 12, 5], &[3, 4, 33], &[1, 2, 3], &[16, 8, 8]][seed]);
        let g_a = Analysis::new(latent, downsampling(random, fills[seed], [3, 255], widths, latent)).unwrap();
        let rgb: Vec<u8> = (0..3 * height * width).map(|i| value(fills[seed / 2], random, 255, i).unsigned_abs() as u8).collect();
        let picture = Picture::new(height, width, &rgb).unwrap();
        let y = reference::analysis(&functions, &g_a, &picture).unwrap();
        let packed = PackedAnalysis::new(&device, &functions, &g_a).unwrap();
        for (strip, device) in [1, 3].into_iter().cycle().zip(with_tiles(&device)) {
            let mut got = Vec::new();
            packed.run_in_strips(&device, &picture, strip, &mut got).unwrap();
            assert_eq!(got.len(), y.data.len());
            let differs = got.iter().zip(&y.data).position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}, strips of {strip}, {:?}", device.forced_tile);
        }
        let quantizer = Quantizer { max: 2047, requant: Requant { multiplier: 1 << 20, shift: 24 } };
        let nodes = downsampling(random, fills[3 - seed], [latent, 2047], &[6], 5);
        let h_a = HyperAnalysis::new(quantizer, latent, 5, nodes).unwrap();
        let z = reference::hyper_analysis(&functions, &h_a, &y).unwrap();
        let packed = PackedHyperAnalysis::new(&device, &functions, &h_a).unwrap();
        for (strip, device) in [1, 2].into_iter().cycle().zip(with_tiles(&device)) {
            let mut got = Vec::new();
            packed.run_in_strips(&device, &y, strip, &mut got).unwrap();
            assert_eq!(got.len(), z.data.len());
            let differs = got.iter().zip(&z.data).position(|(a, b)| a != b);
            assert_eq!(differs, None, "h_a, seed {seed}, strips of {strip}, {:?}", device.forced_tile);
        }
    }
}
