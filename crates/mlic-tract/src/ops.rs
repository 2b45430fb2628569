//! The codec's pointwise operators and pixel shuffle as tract operators; tensors are [1, c, h, w], f32.

use crate::pool::for_chunks;
use tract_core::internal::*;

/// Elements of a pointwise chunk: large compared with the cost of a task, small compared with a cache.
const CHUNK: usize = 1 << 14;

/// `x / 2 (1 + erf(x / sqrt 2))`, within 5e-7 absolute or one unit in the last place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gelu;

/// `x^2`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Square;

/// `x / sqrt(n)`, or `x * sqrt(n)` when inverse; inputs x, n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Normalize {
    pub(crate) inverse: bool,
}

/// `a + b` of equal shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum;

/// [1, c r^2, h, w] to [1, c, h r, w r].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PixelShuffle {
    pub(crate) factor: usize,
}

/// `e^x` for -87 <= x <= 0: 2^n by the exponent's bits, the rest by Taylor's polynomial on half a binade.
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few bits, so that the product is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.0 / 720.0 * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r + 1.0) * r + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// `max(x, 0) - |x| erfc(|x| / sqrt 2) / 2`, which has no cancellation; erfc by Abramowitz and Stegun 7.1.26.
/// No branches and no calls, so that loops over it become vector code on every target.
pub(crate) fn gelu(x: f32) -> f32 {
    /// For a larger `|x|`, erfc is below 1e-37.
    const FAR: f32 = 13.0;
    let a = x.abs();
    let near = if a < FAR { a } else { FAR };
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * near);
    let p = 1.061_405_4 * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = (p * t + 0.254_829_6) * t;
    let tail = if a < FAR { 0.5 * p * exp(-0.5 * near * near) } else { 0.0 };
    let positive = if x > 0.0 { x } else { 0.0 };
    positive - a * tail
}

fn slice(t: &TValue) -> TractResult<&[f32]> {
    t.try_as_plain_ram()?.as_slice::<f32>()
}

/// Updates `t` in place, chunk by chunk.
fn update(t: &mut Tensor, f: impl Fn(usize, &mut [f32]) + Sync) -> TractResult<()> {
    let mut view = t.try_as_plain_ram_mut()?;
    for_chunks(view.as_slice_mut::<f32>()?, CHUNK, f);
    Ok(())
}

/// `t[i] = f(t[i], other[i])`
fn combine(t: &mut Tensor, other: &TValue, f: impl Fn(f32, f32) -> f32 + Sync) -> TractResult<()> {
    ensure!(t.shape() == other.shape(), "operands {:?} and {:?}", t.shape(), other.shape());
    let other = slice(other)?;
    update(t, |i, chunk| {
        let start = i * CHUNK;
        if let Some(o) = other.get(start..start + chunk.len()) {
            chunk.iter_mut().zip(o).for_each(|(a, b)| *a = f(*a, *b));
        }
    })
}

fn one(mut inputs: TVec<TValue>) -> TractResult<TValue> {
    ensure!(inputs.len() == 1, "expected 1 input, got {}", inputs.len());
    inputs.pop().context("no input")
}

fn two(mut inputs: TVec<TValue>) -> TractResult<(TValue, TValue)> {
    ensure!(inputs.len() == 2, "expected 2 inputs, got {}", inputs.len());
    let b = inputs.pop().context("no input")?;
    let a = inputs.pop().context("no input")?;
    Ok((a, b))
}

fn first_fact(inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
    Ok(tvec!(inputs.first().context("no input")?.without_value()))
}

macro_rules! operator {
    ($op:ty, $name:literal, $facts:expr, $eval:expr) => {
        impl Op for $op {
            fn name(&self) -> StaticName {
                $name.into()
            }
            op_as_typed_op!();
        }
        impl EvalOp for $op {
            op_out_of_plan!();
            fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
                let eval: fn(&Self, TVec<TValue>) -> TractResult<Tensor> = $eval;
                Ok(tvec!(eval(self, inputs)?.into_tvalue()))
            }
        }
        impl TypedOp for $op {
            as_op!();
            fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
                let facts: fn(&Self, &[&TypedFact]) -> TractResult<TVec<TypedFact>> = $facts;
                facts(self, inputs)
            }
        }
    };
}

operator!(Gelu, "MlicGelu", |_, i| first_fact(i), |_, inputs| {
    let mut t = one(inputs)?.into_tensor();
    update(&mut t, |_, chunk| chunk.iter_mut().for_each(|v| *v = gelu(*v)))?;
    Ok(t)
});

operator!(Square, "MlicSquare", |_, i| first_fact(i), |_, inputs| {
    let x = one(inputs)?;
    let mut out = Tensor::zero::<f32>(x.shape())?;
    combine(&mut out, &x, |_, b| b * b)?;
    Ok(out)
});

operator!(Normalize, "MlicNormalize", |_, i| first_fact(i), |op, inputs| {
    let (x, n) = two(inputs)?;
    let mut n = n.into_tensor();
    match op.inverse {
        true => combine(&mut n, &x, |n, x| x * n.sqrt())?,
        false => combine(&mut n, &x, |n, x| x / n.sqrt())?,
    }
    Ok(n)
});

operator!(Sum, "MlicSum", |_, i| first_fact(i), |_, inputs| {
    let (a, b) = two(inputs)?;
    let mut a = a.into_tensor();
    combine(&mut a, &b, |a, b| a + b)?;
    Ok(a)
});

operator!(
    PixelShuffle,
    "MlicPixelShuffle",
    |op, inputs| {
        let mut fact = inputs.first().context("no input")?.without_value();
        let (r, shape) = (op.factor as i64, fact.shape.to_tvec());
        let [_, c, h, w] = &shape[..] else { bail!("pixel shuffle of rank {}", shape.len()) };
        fact.shape = ShapeFact::from_dims([1.to_dim(), c.clone() / (r * r), h.clone() * r, w.clone() * r]);
        Ok(tvec!(fact))
    },
    |op, inputs| {
        let (x, r) = (one(inputs)?, op.factor);
        let &[1, c, h, w] = x.shape() else { bail!("pixel shuffle of {:?}", x.shape()) };
        ensure!(r > 0 && c % (r * r) == 0, "{c} channels shuffled by {r}");
        let mut out = Tensor::zero::<f32>(&[1, c / (r * r), h * r, w * r])?;
        if h * w > 0 {
            let source = slice(&x)?;
            let mut view = out.try_as_plain_ram_mut()?;
            // One chunk is one output channel: r^2 consecutive input planes.
            for_chunks(view.as_slice_mut::<f32>()?, h * w * r * r, |channel, plane| {
                let planes = source.chunks_exact(h * w).skip(channel * r * r);
                shuffle(plane, planes, r, w);
            });
        }
        Ok(out)
    }
);

/// Interleaves r^2 planes of width `w` into one of width `w r`.
fn shuffle<'a>(out: &mut [f32], planes: impl Iterator<Item = &'a [f32]>, r: usize, w: usize) {
    for (k, plane) in planes.take(r * r).enumerate() {
        let rows = out.chunks_exact_mut(w * r).skip(k / r).step_by(r);
        for (row, from) in rows.zip(plane.chunks_exact(w)) {
            row.iter_mut().skip(k % r).step_by(r).zip(from).for_each(|(o, v)| *o = *v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::gelu;

    /// erf in f64 by its Maclaurin series, which converges everywhere and loses 6 digits at worst for |x| < 4.
    fn erf_f64(x: f64) -> f64 {
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

    #[test]
    fn gelu_is_exact_to_half_a_millionth() {
        for i in -160_000..160_000 {
            let x = i as f32 / 8000.0;
            let exact = f64::from(x) * 0.5 * (1.0 + erf_f64(f64::from(x) / 2f64.sqrt()));
            let error = (f64::from(gelu(x)) - exact).abs();
            let bound = 5e-7f64.max(f64::from(x.abs()) * 1.2e-7);
            assert!(error < bound, "gelu({x}) is off by {error:e}");
        }
        assert_eq!(gelu(1e30), 1e30);
        assert_eq!(gelu(-1e30), 0.0);
        assert!(gelu(f32::NAN).is_nan());
    }
}
