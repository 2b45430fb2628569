//! Small random graphs against a naive evaluation in f64.

use mlic_model::graph::{Conv2d, Gdn, Graph, Node, NodeId, Op};
use mlic_tract::{PlaneTransform, TractError, Transform};

/// [c, h, w]
#[derive(Clone)]
struct Planes {
    c: usize,
    h: usize,
    w: usize,
    v: Vec<f64>,
}

impl Planes {
    fn zero(c: usize, h: usize, w: usize) -> Self {
        Self { c, h, w, v: vec![0.0; c * h * w] }
    }

    /// The value at a position; 0 outside.
    fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        let inside = (0..self.h as isize).contains(&y) && (0..self.w as isize).contains(&x);
        if inside { self.v[(c * self.h + y as usize) * self.w + x as usize] } else { 0.0 }
    }

    fn fill(mut self, f: impl Fn(usize, isize, isize) -> f64) -> Self {
        for c in 0..self.c {
            for y in 0..self.h {
                for x in 0..self.w {
                    self.v[(c * self.h + y) * self.w + x] = f(c, y as isize, x as isize);
                }
            }
        }
        self
    }
}

fn conv(x: &Planes, c: &Conv2d) -> Planes {
    let (k, s, pad) = (c.kernel as usize, c.stride as usize, (c.kernel / 2) as isize);
    let (per_in, per_out) = ((c.input / c.groups) as usize, (c.output / c.groups) as usize);
    Planes::zero(c.output as usize, x.h.div_ceil(s), x.w.div_ceil(s)).fill(|o, y, col| {
        let mut sum = f64::from(c.bias[o]);
        for i in 0..per_in {
            for ky in 0..k {
                for kx in 0..k {
                    let w = c.weight[((o * per_in + i) * k + ky) * k + kx];
                    let (py, px) = (y * s as isize + ky as isize - pad, col * s as isize + kx as isize - pad);
                    sum += f64::from(w) * x.at(o / per_out * per_in + i, py, px);
                }
            }
        }
        sum
    })
}

fn erf(x: f64) -> f64 {
    if x.abs() > 4.5 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn evaluate(graph: &Graph, input: Planes) -> Planes {
    let mut done: Vec<Planes> = vec![];
    for node in graph.nodes() {
        let operand = |i: usize| &done[node.inputs[i].0 as usize];
        let next = match &node.op {
            Op::Input { .. } => input.clone(),
            Op::Conv2d(c) => conv(operand(0), c),
            Op::Gdn(g) => {
                let x = operand(0);
                let n = g.channels as usize;
                Planes::zero(x.c, x.h, x.w).fill(|c, y, col| {
                    let sum: f64 = (0..n).map(|i| f64::from(g.gamma[c * n + i]) * x.at(i, y, col).powi(2)).sum();
                    let root = (sum + f64::from(g.beta[c])).sqrt();
                    if g.inverse { x.at(c, y, col) * root } else { x.at(c, y, col) / root }
                })
            }
            Op::Gelu => {
                let x = operand(0);
                Planes::zero(x.c, x.h, x.w).fill(|c, y, col| x.at(c, y, col) * 0.5 * (1.0 + erf(x.at(c, y, col) / 2f64.sqrt())))
            }
            Op::PixelShuffle { factor } => {
                let (x, r) = (operand(0), *factor as usize);
                Planes::zero(x.c / (r * r), x.h * r, x.w * r).fill(|c, y, col| {
                    let (i, j) = (y as usize % r, col as usize % r);
                    x.at(c * r * r + i * r + j, y / r as isize, col / r as isize)
                })
            }
            Op::Add => {
                let (a, b) = (operand(0), operand(1));
                Planes::zero(a.c, a.h, a.w).fill(|c, y, col| a.at(c, y, col) + b.at(c, y, col))
            }
            other => panic!("{other:?}"),
        };
        done.push(next);
    }
    done.swap_remove(graph.output().0 as usize)
}

/// A generator of numbers that are uniform in -1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vec(&mut self, n: usize, gain: f32) -> Vec<f32> {
        (0..n).map(|_| self.next() * gain).collect()
    }

    fn conv(&mut self, input: u32, output: u32, kernel: u32, stride: u32, groups: u32) -> Op {
        let per_output = (input / groups * kernel * kernel) as usize;
        let weight = self.vec(output as usize * per_output, (3.0 / per_output as f32).sqrt());
        let bias = self.vec(output as usize, 0.5);
        Op::Conv2d(Conv2d { input, output, kernel, stride, groups, weight, bias })
    }

    fn gdn(&mut self, channels: u32, inverse: bool) -> Op {
        let n = channels as usize;
        let gamma = self.vec(n * n, 0.2).into_iter().map(f32::abs).collect();
        let beta = self.vec(n, 1.0).into_iter().map(|b| b.abs() + 1e-3).collect();
        Op::Gdn(Gdn { channels, inverse, gamma, beta })
    }
}

/// Every operator: strides 1 and 2, groups, both normalizations, both residual forms, shuffles by 2 and 3.
fn sample(r: &mut Random) -> Graph {
    let ops: Vec<(Op, Vec<u32>)> = vec![
        (Op::Input { channels: 3 }, vec![]),
        (r.conv(3, 16, 3, 2, 1), vec![0]),
        (Op::Gelu, vec![1]),
        (r.conv(16, 16, 3, 1, 1), vec![2]),
        (r.gdn(16, false), vec![3]),
        (r.conv(3, 16, 1, 2, 1), vec![0]),
        (Op::Add, vec![4, 5]),
        (r.conv(16, 32, 5, 1, 4), vec![6]),
        (Op::Gelu, vec![7]),
        (r.conv(32, 80, 3, 1, 1), vec![8]),
        (Op::PixelShuffle { factor: 2 }, vec![9]),
        (r.gdn(20, true), vec![10]),
        (r.conv(32, 80, 1, 1, 1), vec![8]),
        (Op::PixelShuffle { factor: 2 }, vec![12]),
        (Op::Add, vec![11, 13]),
        (r.conv(20, 27, 3, 1, 1), vec![14]),
        (Op::PixelShuffle { factor: 3 }, vec![15]),
    ];
    let nodes: Vec<_> = ops.into_iter().map(|(op, i)| Node { op, inputs: i.into_iter().map(NodeId).collect() }).collect();
    let last = NodeId(nodes.len() as u32 - 1);
    Graph::new(nodes, last).unwrap()
}

fn assert_close(graph: &Graph, r: &mut Random, sizes: &[(usize, usize)]) {
    let transform = Transform::new(graph.clone()).unwrap();
    let c = graph.input_channels() as usize;
    for &(h, w) in sizes {
        let input = r.vec(c * h * w, 2.0);
        let want = evaluate(graph, Planes { c, h, w, v: input.iter().map(|v| f64::from(*v)).collect() });
        let got = transform.run(&input, c, h, w, 1).unwrap();
        assert_eq!(got.len(), want.v.len(), "{h}x{w}");
        let largest = want.v.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let error = got.iter().zip(&want.v).fold(0.0f64, |m, (a, b)| m.max((f64::from(*a) - b).abs()));
        assert!(error <= 1e-5 * largest, "{h}x{w}: off by {error:e} of {largest}");
    }
}

#[test]
fn agrees_with_the_definition_at_every_size() {
    let mut r = Random(88_172_645_463_325_252);
    let graph = sample(&mut r);
    assert_close(&graph, &mut r, &[(16, 24), (1, 1), (2, 1), (7, 13), (33, 6), (16, 24)]);
}

/// Besides what trained syntheses have, these have multiplications per channel and roots that are zero.
#[test]
fn integer_syntheses_in_real_numbers_run_as_any_graph() {
    for name in ["tiny", "edge-cases", "edge-cases-scales", "edge-cases-fixed", "edge-cases-ties"] {
        let path = format!("{}/../../conformance/models/{name}.mlicpkg", env!("CARGO_MANIFEST_DIR"));
        let model = mlic_model::Model::open(path).unwrap();
        let graph = mlic_model::real::graph(model.exact_synthesis().unwrap()).unwrap();
        assert_close(&graph, &mut Random(3), &[(1, 1), (5, 3)]);
    }
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let mut r = Random(1_442_695_040_888_963_407);
    let graph = sample(&mut r);
    for (h, w) in [(96, 130), (257, 64)] {
        let input = r.vec(3 * h * w, 2.0);
        let one = Transform::new(graph.clone()).unwrap().run(&input, 3, h, w, 1).unwrap();
        for threads in [2, 3, 8] {
            let transform = Transform::new(graph.clone()).unwrap();
            for _ in 0..2 {
                assert!(transform.run(&input, 3, h, w, threads).unwrap() == one, "{h}x{w} on {threads} threads");
            }
        }
    }
}

#[test]
fn one_transform_serves_several_threads() {
    let mut r = Random(7);
    let transform = Transform::new(sample(&mut r)).unwrap();
    let inputs: Vec<_> = (0..4).map(|i| (8 + i, r.vec(3 * (8 + i) * 10, 1.0))).collect();
    let alone: Vec<_> = inputs.iter().map(|(h, x)| transform.run(x, 3, *h, 10, 1).unwrap()).collect();
    std::thread::scope(|s| {
        for ((h, x), want) in inputs.iter().zip(&alone) {
            let t = &transform;
            s.spawn(move || (0..8).for_each(|i| assert!(t.run(x, 3, *h, 10, 1 + i % 2).unwrap() == *want)));
        }
    });
}

#[test]
fn wrong_inputs_are_named() {
    let transform = Transform::new(sample(&mut Random(5))).unwrap();
    assert!(matches!(transform.run(&[0.0; 4], 1, 2, 2, 1), Err(TractError::Channels { got: 1, expected: 3 })));
    assert!(matches!(transform.run(&[0.0; 4], 3, 2, 2, 1), Err(TractError::Length { got: 4, .. })));
    assert!(matches!(transform.run(&[], 3, 0, 2, 1), Err(TractError::Length { .. })));
    assert!(matches!(transform.run(&[], 3, usize::MAX, 2, 1), Err(TractError::Length { .. })));
}

#[test]
fn strips_give_the_picture_of_the_whole() {
    let mut r = Random(23);
    let graph = sample(&mut r);
    let (up, stride) = (graph.scale().numerator as usize, graph.stride() as usize);
    assert_eq!((up, graph.scale().denominator, stride), (3, 1, 2));
    let transform = PlaneTransform::new(graph).unwrap();
    for (height, width) in [(16, 24), (60, 8), (32, 2)] {
        let input = mlic_backend::Planes { channels: 3, height, width, data: r.vec(3 * height * width, 2.0) };
        let whole = transform.run_in_strips(&input, height, 1).unwrap();
        assert_eq!(whole.height, height * up);
        let largest = whole.data.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for rows in [2, 4, 10, 26] {
            let strips = transform.run_in_strips(&input, rows, 2).unwrap();
            assert_eq!((strips.channels, strips.height, strips.width), (whole.channels, whole.height, whole.width));
            let error = strips.data.iter().zip(&whole.data).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(error <= 1e-5 * largest, "{height}x{width} by {rows}: off by {error:e} of {largest}");
        }
    }
}
