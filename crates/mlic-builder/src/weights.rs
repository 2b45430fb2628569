//! Quantizes the weights of a float convolution: integers, with one step per output.

use mlic_model::graph::Conv2d;
use mlic_model::nodes::OwnedWeights;

use crate::quantize::best_step;

/// How many bits weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightWidth {
    /// 8 bits.
    Bytes,
    /// Up to 13 bits; 8 bits in layers whose weights training has rounded to bytes.
    Words,
}

/// Weights of one term `[output][row][column][input]`, and the step of each output.
pub(crate) type Term = (OwnedWeights, Vec<f64>);

/// Largest magnitude of an integer weight of more than a byte. More bits change no picture by a hundredth of a decibel, and are incompressible noise.
const FINE_MAX: f64 = 4095.0;
/// Largest magnitude of an integer weight in the second of two terms, which holds what a byte leaves: five bits more.
const REST_MAX: f64 = 31.0;
/// Largest distance, in steps, of a weight that training has rounded from a whole number of steps. Half precision moves a weight by up to 1/16 of a
/// step and, by changing the step, the largest weights by as much again.
const ROUNDED: f64 = 0.125;

/// Iterates over the outputs: the weights of each, `[row][column][input]`.
fn rows(conv: &Conv2d) -> impl Iterator<Item = Vec<f64>> + '_ {
    let (inputs, taps) = (conv.input as usize, (conv.kernel * conv.kernel) as usize);
    let ordered = move |row: &[f32]| (0..inputs * taps).map(|i| f64::from(row[i % inputs * taps + i / inputs])).collect();
    conv.weight.chunks_exact(inputs * taps).map(ordered)
}

/// Quantizes weights to at most `width`, for activations of at most `max`.
pub(crate) fn single(conv: &Conv2d, width: WeightWidth, max: i32) -> Term {
    match (rounded(conv, max), width) {
        (Some(term), _) => term,
        (None, WeightWidth::Bytes) => bytes(conv),
        (None, WeightWidth::Words) => words(conv, max),
    }
}

/// Quantizes weights to two terms of bytes, the second for what the first leaves, or to one term if training has rounded them to bytes. Activations
/// are at most `max`.
pub(crate) fn split(conv: &Conv2d, max: i32) -> Vec<Term> {
    if let Some(term) = rounded(conv, max) {
        return vec![term];
    }
    let mut terms = vec![(Vec::with_capacity(conv.weight.len()), Vec::new()); 2];
    for mut rest in rows(conv) {
        for ((weights, steps), most) in terms.iter_mut().zip([i8::MAX.into(), REST_MAX]) {
            let step = fitting_step(&rest, most, max);
            for w in &mut rest {
                let whole = (*w / step).round();
                weights.push(whole as i8);
                *w -= whole * step;
            }
            steps.push(step);
        }
    }
    terms.into_iter().map(|(weights, steps)| (OwnedWeights::Bytes(weights), steps)).collect()
}

/// The weights as bytes, if those of every output are whole numbers of steps, as training with rounded weights leaves them, and if their sums with
/// activations of at most `max` fit 32 bits.
fn rounded(conv: &Conv2d, max: i32) -> Option<Term> {
    let (mut bytes, mut steps) = (Vec::with_capacity(conv.weight.len()), Vec::new());
    for row in rows(conv) {
        let (whole, step) = rounded_row(&row)?;
        if whole.iter().map(|n| n.abs()).sum::<f64>() * f64::from(max) > i32::MAX.into() {
            return None;
        }
        bytes.extend(whole.into_iter().map(|n| n as i8));
        steps.push(step);
    }
    Some((OwnedWeights::Bytes(bytes), steps))
}

/// The weights of one output as whole numbers of steps, the largest 127, and the step that fits all of them best; `None` if they are not whole.
fn rounded_row(row: &[f64]) -> Option<(Vec<f64>, f64)> {
    let largest = row.iter().fold(0.0_f64, |m, w| m.max(w.abs()));
    if largest < 1e-12 {
        return Some((vec![0.0; row.len()], 1e-12));
    }
    let whole: Vec<f64> = row.iter().map(|w| (w / largest * 127.0).round()).collect();
    let product: f64 = row.iter().zip(&whole).map(|(w, n)| w * n).sum();
    let step = product / whole.iter().map(|n| n * n).sum::<f64>();
    row.iter().zip(&whole).all(|(w, n)| (w / step - n).abs() <= ROUNDED).then_some((whole, step))
}

fn bytes(conv: &Conv2d) -> Term {
    let (mut bytes, mut steps) = (Vec::with_capacity(conv.weight.len()), Vec::new());
    let originals = conv.weight.chunks_exact((conv.input * conv.kernel * conv.kernel) as usize);
    for (row, original) in rows(conv).zip(originals) {
        let step = best_step(original);
        bytes.extend(row.iter().map(|w| (w / step).round().clamp(-127.0, 127.0) as i8));
        steps.push(step);
    }
    (OwnedWeights::Bytes(bytes), steps)
}

fn words(conv: &Conv2d, max: i32) -> Term {
    let (mut words, mut steps) = (Vec::with_capacity(conv.weight.len()), Vec::new());
    for row in rows(conv) {
        let step = fitting_step(&row, FINE_MAX, max);
        words.extend(row.iter().map(|w| (w / step).round() as i16));
        steps.push(step);
    }
    (OwnedWeights::Words(words), steps)
}

/// The smallest step with which the integer weights of one output are at most `most`, and their sum with activations of at most `max` fits 32 bits.
fn fitting_step(row: &[f64], most: f64, max: i32) -> f64 {
    let (largest, sum) = row.iter().fold((0.0_f64, 0.0), |(largest, sum), w| (largest.max(w.abs()), sum + w.abs()));
    // Rounding may add half a step to each weight.
    let room = f64::from(i32::MAX) / f64::from(max) - row.len() as f64 / 2.0 - 1.0;
    (largest / most).max(sum / room).max(1e-12)
}
