//! `gpu_full CONFORMANCE [WIDTHxHEIGHT...]`: time and device memory of decoding on a GPU with a model of the published shape and random weights.
//! Symbols are random too, and entropy coding is left out; pixels are exact, and are copied to the host.
//!
//! CONFORMANCE is the folder of the conformance data: function tables come from a package there. A size that does not fit ends the run.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends the program")]

use std::sync::Arc;
use std::time::Instant;

use mlic_backend::contract::{Fill, Random, z_count};
use mlic_backend::{Backend, BackendError, PassParameters, Stage, exact_samples};
use mlic_conform::packages::Probe;
use mlic_conform::store::Store;
use mlic_core::schedule::{LatentSize, passes};
use mlic_cuda::{CudaBackend, Options, measure};
use mlic_model::Model;
use mlic_model::config::Config;
use mlic_model::layout::{Epilogue, Kernel, LayerSpec, NodeIndex, TermSpec};
use mlic_model::model::Parts;
use mlic_model::nodes::{Gdn, Layer, Node, OwnedWeights, Quantizer, Resize};
use mlic_model::parameters::{LayerLevel, Requant};
use mlic_model::synthesis::Synthesis;

const LATENT: usize = 320;
const WIDTH: usize = 192;
/// Largest magnitude of the activations of the synthesis.
const MAX: i32 = 8191;

/// The configuration of the published weights.
fn config() -> Config {
    Config {
        latent: LATENT,
        hyper: WIDTH,
        slices: 10,
        window: 5,
        heads: 2,
        inter_head_channels: 32,
        ep_hidden: vec![320, 256, 128],
        lrp_hidden: vec![vec![224, 128]; 10],
        cc_hidden: vec![192, 128],
        hs_hidden: [320, 480],
        gain_levels: 0,
        scale_levels: 1,
        quality_steps: 0,
        skip_below: 1,
    }
}

/// A synthesis under construction.
struct Maker {
    random: Random,
    nodes: Vec<Node>,
    /// Channels of each node, those of the latent first.
    channels: Vec<usize>,
}

impl Maker {
    fn add(&mut self, node: Node) -> usize {
        self.channels.push(node.channels());
        self.nodes.push(node);
        self.nodes.len()
    }

    fn layer(&mut self, inputs: &[(usize, bool)], size: usize, outputs: usize, epilogue: Epilogue, shuffle: bool) -> usize {
        let terms = inputs.iter().map(|(at, identity)| TermSpec::node(NodeIndex(*at), self.channels[*at], *identity)).collect();
        let spec = LayerSpec { name: "random".into(), terms, kernel: Kernel::Dense { size }, outputs, epilogue };
        let mut drawn = |count: usize| OwnedWeights::Words((0..count).map(|_| self.random.within(20) as i16).collect());
        let weights = (0..inputs.len()).map(|term| drawn(spec.weights_per_output(term) * outputs)).collect();
        let identity = inputs.iter().all(|(_, identity)| *identity);
        let multiplier = if identity {
            1 << 19
        } else if epilogue == Epilogue::Gelu {
            1 << 14
        } else {
            1 << 12
        };
        let level = LayerLevel {
            shift: 20,
            multipliers: vec![vec![multiplier; outputs]; inputs.len()],
            bias: vec![1 << 24; outputs],
            output: Requant { multiplier: MAX << 3, shift: 20 },
        };
        let max = if epilogue == Epilogue::Pixel { 255 } else { MAX };
        let resize = if shuffle { Resize::Shuffle } else { Resize::None };
        self.add(Node::Layer(Layer { spec, max, level, weights, resize }))
    }

    fn block(&mut self, input: usize) -> usize {
        let channels = self.channels[input];
        let first = self.layer(&[(input, false)], 3, channels, Epilogue::Gelu, false);
        let second = self.layer(&[(first, false)], 3, channels, Epilogue::Gelu, false);
        self.layer(&[(second, true), (input, true)], 1, channels, Epilogue::Linear, false)
    }

    fn upsample(&mut self, input: usize) -> usize {
        let up = self.layer(&[(input, false)], 3, 4 * WIDTH, Epilogue::Gelu, true);
        let conv = self.layer(&[(up, false)], 3, WIDTH, Epilogue::Linear, false);
        let gdn = Gdn {
            input: NodeIndex(conv),
            inverse: true,
            max: MAX,
            gamma: (0..WIDTH * WIDTH).map(|_| self.random.below(300) as i16).collect(),
            beta: vec![1 << 30; WIDTH],
            shift: 12,
            multipliers: vec![1 << 18; WIDTH],
            output_shift: 30,
        };
        let normalized = self.add(Node::Gdn(gdn));
        let skip = self.layer(&[(input, false)], 3, 4 * WIDTH, Epilogue::Linear, true);
        self.layer(&[(normalized, true), (skip, true)], 1, WIDTH, Epilogue::Linear, false)
    }
}

fn synthesis() -> Synthesis {
    let mut maker = Maker { random: Random(2), nodes: Vec::new(), channels: vec![LATENT] };
    let at = (0..3).fold(0, |at, _| {
        let block = maker.block(at);
        maker.upsample(block)
    });
    let last = maker.block(at);
    maker.layer(&[(last, false)], 3, 12, Epilogue::Pixel, true);
    let quantizer = Quantizer { max: MAX, requant: Requant { multiplier: 1 << 20, shift: 20 } };
    Synthesis::new(LATENT, quantizer, maker.nodes).unwrap()
}

/// Decodes a picture; returns milliseconds: in all, of hyper synthesis and passes, of pixels.
fn picture(backend: &CudaBackend, size: LatentSize) -> Result<[f64; 3], BackendError> {
    let (model, mut random) = (backend.model(), Random(1));
    let z = Fill::Small.symbols(&mut random, z_count(model, &size));
    let count = size.half_len() * model.config().slice_channels();
    let symbols = Fill::Small.symbols(&mut random, count);
    let start = Instant::now();
    let mut session = backend.entropy(size, 0, &z)?;
    let mut parameters = PassParameters::default();
    for pass in passes(model.config().slices) {
        session.parameters_into(pass, false, &mut parameters)?;
        session.commit(pass, &symbols)?;
    }
    let passes_ms = start.elapsed().as_secs_f64() * 1e3;
    let middle = Instant::now();
    let samples = exact_samples(backend, session, 0)?;
    assert_eq!(samples.data.len(), 3 * 256 * size.y[0] * size.y[1]);
    Ok([start.elapsed().as_secs_f64() * 1e3, passes_ms, middle.elapsed().as_secs_f64() * 1e3])
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, sizes) = arguments.split_first().unwrap();
    let start = Instant::now();
    let parts = Probe::Cases.parts_with(&Store::Folder(folder.into()), config()).unwrap();
    let parts = Parts { exact_synthesis: Some(synthesis()), ..parts };
    let model = Arc::new(Model::from_bytes(parts.to_package().unwrap()).unwrap());
    drop(parts);
    let mebibytes = |bytes: usize| bytes >> 20;
    let weights: usize = model.section_lens().map(|(_, len)| len).sum();
    println!("package of {} MiB, made in {:.1} s", mebibytes(weights), start.elapsed().as_secs_f64());
    let before = measure::used_memory(0).unwrap();
    let backend = CudaBackend::new(Arc::clone(&model), Options::default()).unwrap();
    let there = measure::used_memory(0).unwrap();
    let model_bytes = mebibytes(there.saturating_sub(before));
    println!(
        "{}; {model_bytes} MiB of it are the model, {} MiB were used before",
        backend.device(Stage::Passes),
        mebibytes(before)
    );
    for size in sizes {
        let (width, height) = size.split_once('x').map(|(w, h)| (w.parse().unwrap(), h.parse().unwrap())).unwrap();
        let latent = LatentSize::of_image(width, height).unwrap();
        measure::forget(&backend);
        let mut times = Vec::new();
        for _ in 0..5 {
            match picture(&backend, latent) {
                Ok(time) => times.push(time),
                Err(error) => return println!("{size}: {error}"),
            }
        }
        let memory = mebibytes(measure::used_memory(0).unwrap().saturating_sub(there));
        // The first picture of a size allocates, the second records graphs.
        let mut timed = times.split_off(2);
        timed.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let [all, passes, pixels] = timed[1];
        println!(
            "{size}: {all:.1} ms (hyper synthesis and passes {passes:.1}, pixels to the host {pixels:.1}), {memory} MiB beside the model"
        );
    }
}
