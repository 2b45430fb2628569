//! The factorized prior of z (Ballé et al. 2018, appendix 6.1) as integer tables: one per channel, around its median.

use mlic_model::parameters::StoredCdf;

use crate::error::BuildError;
use crate::export::Export;
use crate::tables::cumulative;

/// Widths between the layers of the learned cumulative.
const WIDTHS: [usize; 6] = [1, 3, 3, 3, 3, 1];
/// Largest distance of a symbol of z from its median that has a bin of its own.
const MAX_REACH: i32 = 512;
/// Probability below which the tail on either side is left to the escape.
const TAIL: f64 = 1.0 / 262_144.0;

/// The learned cumulative of one channel.
struct Cumulative {
    /// Per layer: matrix `[out][in]` after softplus, bias, factor after tanh (empty in the last).
    layers: Vec<(Vec<f64>, Vec<f64>, Vec<f64>)>,
}

impl Cumulative {
    fn logit(&self, x: f64) -> f64 {
        let mut v = vec![x];
        for (matrix, bias, factor) in &self.layers {
            let row = |(row, bias): (&[f64], &f64)| row.iter().zip(&v).map(|(m, v)| m * v).sum::<f64>() + bias;
            let mut next: Vec<f64> = matrix.chunks_exact(v.len()).zip(bias).map(row).collect();
            next.iter_mut().zip(factor).for_each(|(n, f)| *n += f * n.tanh());
            v = next;
        }
        v.first().copied().unwrap_or(0.0)
    }

    /// Probability below x. This and [`Self::above`] are each accurate in their own tail.
    fn below(&self, x: f64) -> f64 {
        sigmoid(self.logit(x))
    }

    fn above(&self, x: f64) -> f64 {
        sigmoid(-self.logit(x))
    }

    /// Probability of the unit interval around x.
    fn mass(&self, x: f64) -> f64 {
        let (low, high) = (self.logit(x - 0.5), self.logit(x + 0.5));
        let sign = if low + high > 0.0 { -1.0 } else { 1.0 };
        (sigmoid(sign * high) - sigmoid(sign * low)).abs()
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    if x > 30.0 { x } else { x.exp().ln_1p() }
}

/// Medians of z in real units, and tables of z, one of each per channel.
///
/// # Errors
/// [`BuildError::Tensor`] when a tensor of the bottleneck is missing or has the wrong shape.
pub fn z_tables(export: &Export) -> Result<(Vec<f64>, Vec<StoredCdf>), BuildError> {
    let channels = export.config.hyper;
    let load = |kind: &str, i: usize, columns: usize| {
        let name = format!("entropy_bottleneck._{kind}{i}");
        Ok::<_, BuildError>(export.tensor(&name, &[channels, WIDTHS[i + 1], columns])?.data)
    };
    let count = WIDTHS.len() - 1;
    let mut tensors = Vec::with_capacity(count);
    for (i, columns) in WIDTHS.into_iter().take(count).enumerate() {
        let factor = if i + 1 < count { load("factor", i, 1)? } else { Vec::new() };
        tensors.push((load("matrix", i, columns)?, load("bias", i, 1)?, factor));
    }
    let quantiles = export.tensor("entropy_bottleneck.quantiles", &[channels, 1, 3])?.data;
    let medians: Vec<f64> = quantiles.iter().skip(1).step_by(3).map(|m| f64::from(*m)).collect();
    let cdfs = medians.iter().enumerate().map(|(c, median)| {
        let part = |all: &[f32], f: fn(f64) -> f64| -> Vec<f64> {
            let len = all.len() / channels;
            all[c * len..(c + 1) * len].iter().map(|v| f(f64::from(*v))).collect()
        };
        let layers = tensors.iter().map(|(m, b, f)| (part(m, softplus), part(b, |v| v), part(f, f64::tanh))).collect();
        table(&Cumulative { layers }, *median)
    });
    let cdfs = cdfs.collect();
    Ok((medians, cdfs))
}

fn table(cumulative_of: &Cumulative, median: f64) -> StoredCdf {
    let reach = |tail: &dyn Fn(i32) -> f64| (1..MAX_REACH).find(|k| tail(*k) < TAIL).unwrap_or(MAX_REACH);
    let low = reach(&|k| cumulative_of.below(median - f64::from(k) - 0.5));
    let high = reach(&|k| cumulative_of.above(median + f64::from(k) + 0.5));
    let masses: Vec<f64> = (-low..=high).map(|k| cumulative_of.mass(median + f64::from(k))).collect();
    let escape = cumulative_of.below(median - f64::from(low) - 0.5) + cumulative_of.above(median + f64::from(high) + 0.5);
    cumulative(-low, &masses, escape)
}
