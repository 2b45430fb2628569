//! Tables of a package, computed once in double precision: functions, scales, cumulative tables of y.

use mlic_model::parameters::{EXP2_LEN, FUNCTION_LEN, Functions, SCALE_COUNT, StoredCdf};
use mlic_model::real::{LATENT_STEP, PREACT_STEP, Q16_STEP};

/// Smallest and largest scale of the tables of y, as published.
pub const SCALE_RANGE: [f64; 2] = [0.11, 256.0];

/// Total of a cumulative table.
const TOTAL: f64 = 65_536.0;
/// Largest probability of both tails together whose symbols are left to the escape.
const TAIL: f64 = 1.0 / 131_072.0;

/// The cumulative distribution of the standard normal.
#[must_use]
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Function tables (SPEC 2.7).
#[must_use]
pub fn functions() -> Functions {
    let at = |i: usize| i as f64 / 64.0;
    let exp2 = |x: f64| ((1_u64 << 30) as f64 * x.exp2()).round() as u32;
    Functions {
        gelu: (0..FUNCTION_LEN).map(|i| (at(i) * normal_cdf(-at(i)) / PREACT_STEP).round() as i16).collect(),
        half_tanh: (0..FUNCTION_LEN).map(|i| (2_048.0 * at(i).tanh()).round() as i16).collect(),
        exp_coarse: (0..256).map(|i| (32_767.0 * (-f64::from(i) / 16.0).exp()).round() as u16).collect(),
        exp_fine: (0..64).map(|i| (32_768.0 * (-f64::from(i) / 1024.0).exp()).round() as u16).collect(),
        exp2_coarse: (0..EXP2_LEN).map(|i| exp2(i as f64 / 256.0)).collect(),
        exp2_fine: (0..EXP2_LEN).map(|i| exp2(i as f64 * Q16_STEP)).collect(),
    }
}

/// The scales of the tables of y, log-spaced.
#[must_use]
pub fn scales() -> Vec<f64> {
    let [low, high] = SCALE_RANGE.map(f64::ln);
    let step = (high - low) / (SCALE_COUNT - 1) as f64;
    (0..SCALE_COUNT).map(|i| (low + step * i as f64).exp()).collect()
}

/// Thresholds between scale indices in Q12: the geometric mean of neighbouring scales, so that the table used is the nearest.
#[must_use]
pub fn thresholds() -> Vec<i32> {
    scales().windows(2).map(|w| ((w[0] * w[1]).sqrt() / LATENT_STEP).round() as i32).collect()
}

/// The table of a discretized Gaussian of this scale around zero.
#[must_use]
pub fn gaussian(scale: f64) -> StoredCdf {
    let mut reach = 1_i32;
    while 2.0 * normal_cdf(-(f64::from(reach) + 0.5) / scale) > TAIL && reach < 16_000 {
        reach += 1;
    }
    let mass = |k: i32| {
        let distance = f64::from(k.abs());
        normal_cdf((0.5 - distance) / scale) - normal_cdf((-0.5 - distance) / scale)
    };
    let masses: Vec<f64> = (-reach..=reach).map(mass).collect();
    let tail = 2.0 * normal_cdf(-(f64::from(reach) + 0.5) / scale);
    cumulative(-reach, &masses, tail)
}

/// All tables of y.
#[must_use]
pub fn y_cdfs() -> Vec<StoredCdf> {
    scales().into_iter().map(gaussian).collect()
}

/// Makes a cumulative table of bins with these probabilities and an escape, each of at least one part in 2^16. What rounding down leaves over
/// goes to the bins that lose most by it.
#[must_use]
pub fn cumulative(min_symbol: i32, masses: &[f64], escape: f64) -> StoredCdf {
    let all: Vec<f64> = masses.iter().copied().chain([escape]).map(|p| p.max(0.0)).collect();
    let sum: f64 = all.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let spare = TOTAL - all.len() as f64;
    let ideal: Vec<f64> = all.iter().map(|p| p / sum * TOTAL).collect();
    let above: f64 = ideal.iter().map(|f| (f - 1.0).max(0.0)).sum::<f64>().max(f64::MIN_POSITIVE);
    let exact: Vec<f64> = ideal.iter().map(|f| 1.0 + (f - 1.0).max(0.0) * spare / above).collect();
    let mut counts: Vec<u32> = exact.iter().map(|f| f.floor() as u32).collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
    let missing = 65_536 - counts.iter().sum::<u32>() as usize;
    order.iter().cycle().take(missing).for_each(|i| counts[*i] += 1);
    let starts = counts.iter().scan(0_u32, |at, count| {
        let start = *at;
        *at += count;
        Some(start as u16)
    });
    StoredCdf { min_symbol, starts: starts.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlic_core::cdf::CdfTable;

    #[test]
    fn every_gaussian_is_a_table() {
        for (scale, cdf) in scales().into_iter().zip(y_cdfs()) {
            let table = CdfTable::new(cdf.min_symbol, &cdf.starts).unwrap();
            let reach = 12 * scale.ceil() as i32 + 2;
            let mass = |k: i32| {
                let distance = f64::from(k.abs());
                normal_cdf((0.5 - distance) / scale) - normal_cdf((-0.5 - distance) / scale)
            };
            let bits = |k: i32| -mass(k).max(1e-300).log2();
            let entropy: f64 = (-reach..=reach).map(|k| mass(k) * bits(k)).sum();
            let redundancy: f64 = (-reach..=reach).map(|k| mass(k) * (f64::from(table.cost(k)) * Q16_STEP - bits(k))).sum();
            // The widest table gives one part in 2^16 to some 700 symbols that deserve less: a thousandth of its 10 bits.
            let bound = 1e-4 + 1.2e-3 * entropy;
            assert!((-1e-4..bound).contains(&redundancy), "scale {scale}: {redundancy} bits over the {entropy} of a symbol");
        }
    }

    #[test]
    fn thresholds_lie_between_scales() {
        let thresholds = thresholds();
        assert!(thresholds.windows(2).all(|w| w[0] < w[1]));
        for (i, scale) in scales().into_iter().enumerate() {
            assert_eq!(mlic_kernels::function::scale_index(&thresholds, (scale / LATENT_STEP).round() as i32), i as u8);
        }
    }

    #[test]
    fn functions_are_accurate() {
        use mlic_kernels::function::{exp_neg, gelu, half_tanh};
        let f = functions();
        for x in -200_000..200_000_i32 {
            let real = f64::from(x) * PREACT_STEP;
            assert!((f64::from(gelu(&f, x)) * PREACT_STEP - real * normal_cdf(real)).abs() < 1e-4, "gelu({real})");
            assert!((f64::from(half_tanh(&f, x)) * LATENT_STEP - 0.5 * real.tanh()).abs() < 3e-4, "tanh({real})");
        }
        for d in 0..20_000 {
            let real = (-f64::from(d) / 1024.0).exp();
            assert!((exp_neg(&f, i64::from(d)) as f64 / 32_768.0 - real).abs() < 1e-4, "exp(-{d}/1024)");
        }
        for log2 in (-12 << 16..=12 << 16).step_by(997) {
            let real = (f64::from(log2) * Q16_STEP).exp2();
            let got = f64::from(mlic_model::model::exp2(&f, log2)) * Q16_STEP;
            assert!((got - real).abs() <= Q16_STEP + real * 1e-8, "2^{}", f64::from(log2) * Q16_STEP);
        }
    }
}
