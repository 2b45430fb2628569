//! Packages of which every length fits: of configurations that must be refused, of the least and the largest that must be accepted, and of values
//! on both sides of a limit.

use mlic_model::model::Parts;
use mlic_model::parameters::StoredCdf;
use mlic_model::proof::source_max;
use mlic_model::{Config, Layout};

use super::packages::{MAX_GAIN, Make, Name, PackageCase, Shape, layer, max, overflow, weights_of};

/// The first layer.
const FIRST: &str = "";

const fn shaped(name: Name, why: Name, change: fn(&mut Config)) -> PackageCase {
    PackageCase { name, code: Some("config"), why, unread: false, make: Make::Config(change) }
}

/// A package of these values that must be accepted.
const fn sound(name: Name, why: Name, shape: Shape, change: fn(&mut Parts)) -> PackageCase {
    PackageCase { name, code: None, why, unread: false, make: Make::Values(shape, change) }
}

/// Configurations that must be refused although everything else in their packages matches them, and others, at the limits, that must be accepted.
pub(super) static SHAPES: &[PackageCase] = &[
    shaped("built-hyper-0", "no channels of z, and all lengths fit", |c| c.hyper = 0),
    shaped("built-hyper-4097", "4097 channels of z, and all lengths fit", |c| (c.latent, c.hyper) = (1, 4097)),
    shaped("built-slices-3", "three latent slices for four channels, and all lengths fit", |c| {
        (c.latent, c.slices) = (4, 3);
        c.lrp_hidden = vec![vec![1]; 3];
    }),
    shaped("built-window-1", "a window of 1, and all lengths fit", |c| c.window = 1),
    shaped("built-window-4", "an even window, and all lengths fit", |c| c.window = 4),
    shaped("built-window-9", "a window of 9, and all lengths fit", |c| c.window = 9),
    shaped("built-heads-2", "two heads for three channels, and all lengths fit", |c| (c.latent, c.heads) = (3, 2)),
    shaped("built-inter-2", "heads of two channels for three, and all lengths fit", |c| {
        (c.latent, c.inter_head_channels) = (3, 2)
    }),
    shaped("built-inter-0", "heads without channels, of an attention that one latent slice does not have", |c| {
        c.inter_head_channels = 0
    }),
    shaped("built-slice-65", "a latent slice of 65 channels, and all lengths fit", |c| c.latent = 65),
    shaped("built-lrp-count", "residual prediction for two of one latent slice, and all lengths fit", |c| {
        c.lrp_hidden = vec![vec![1], vec![1]];
    }),
    shaped("built-lrp-none", "no hidden layer of the residual prediction, and all lengths fit", |c| c.lrp_hidden = vec![vec![]]),
    shaped("built-lrp-0", "a residual prediction without channels, and all lengths fit", |c| c.lrp_hidden = vec![vec![0]]),
    shaped("built-lrp-5", "five hidden layers of the residual prediction, and all lengths fit", |c| {
        c.lrp_hidden = vec![vec![1; 5]]
    }),
    shaped("built-lrp-4097", "4097 channels of the residual prediction, and all lengths fit", |c| {
        (c.latent, c.lrp_hidden) = (1, vec![vec![4097]]);
    }),
    shaped("built-lrp-second-none", "no hidden layer of the second residual prediction, and all lengths fit", |c| {
        (c.slices, c.lrp_hidden) = (2, vec![vec![1], vec![]]);
    }),
    shaped("built-lrp-second-5", "five hidden layers of the second residual prediction, and all lengths fit", |c| {
        (c.slices, c.lrp_hidden) = (2, vec![vec![1], vec![1; 5]]);
    }),
    shaped("built-ep-none", "no hidden layer of the entropy parameters, and all lengths fit", |c| c.ep_hidden = vec![]),
    shaped("built-ep-0", "a hidden layer without channels, and all lengths fit", |c| c.ep_hidden = vec![0]),
    shaped("built-ep-4097", "a hidden layer of 4097 channels, and all lengths fit", |c| {
        (c.latent, c.ep_hidden) = (1, vec![4097])
    }),
    shaped("built-ep-5", "five hidden layers of the entropy parameters, and all lengths fit", |c| c.ep_hidden = vec![1; 5]),
    shaped("built-cc-5", "five hidden layers of the channel context, which one latent slice does not have", |c| {
        c.cc_hidden = vec![1; 5]
    }),
    shaped("built-cc-4097", "4097 channels of the channel context, which one latent slice does not have", |c| {
        c.cc_hidden = vec![4097]
    }),
    shaped("built-cc-0", "no channels of the channel context, which one latent slice does not have", |c| c.cc_hidden = vec![0]),
    shaped("built-cc-none", "no hidden layer of the channel context, which one latent slice does not have", |c| {
        c.cc_hidden = vec![]
    }),
    shaped("built-hs-0", "a hyper synthesis without channels, and all lengths fit", |c| c.hs_hidden = [1, 0]),
    shaped("built-gains-1", "one level of gains, and all lengths fit", |c| (c.gain_levels, c.quality_steps) = (1, 9)),
    shaped("built-gains-65", "65 levels of gains, and all lengths fit", |c| (c.gain_levels, c.quality_steps) = (65, 9)),
    shaped("built-scales-0", "no level of activation scales, and all lengths fit", |c| {
        (c.gain_levels, c.scale_levels, c.quality_steps) = (2, 0, 9);
    }),
    shaped("built-scales-65", "65 levels of activation scales, and all lengths fit", |c| {
        (c.latent, c.gain_levels, c.scale_levels, c.quality_steps) = (1, 2, 65, 9);
    }),
    shaped("built-scales-fixed", "two levels of activation scales at a fixed rate, and all lengths fit", |c| c.scale_levels = 2),
    shaped("built-steps-none", "gains without qualities, and all lengths fit", |c| c.gain_levels = 2),
    shaped("sound-least", "the least of everything; sound", |c| {
        (c.latent, c.inter_head_channels, c.heads) = (1, 1, 1);
        c.skip_below = 0;
    })
    .sound(),
    shaped("sound-levels-2", "two levels of gains and two qualities; sound", |c| (c.gain_levels, c.quality_steps) = (2, 1))
        .sound(),
    shaped("sound-levels-64", "64 levels of gains and of activation scales, 256 qualities; sound", |c| {
        (c.latent, c.gain_levels, c.scale_levels, c.quality_steps) = (1, 64, 64, 255);
    })
    .sound(),
    shaped("sound-hyper-4096", "4096 channels of z; sound", |c| (c.latent, c.hyper) = (1, 4096)).sound(),
    shaped("sound-slices-16", "16 latent slices; sound", |c| {
        (c.latent, c.slices) = (16, 16);
        c.lrp_hidden = vec![vec![1]; 16];
    })
    .sound(),
    shaped("sound-hidden-4", "four hidden layers everywhere; sound", |c| {
        (c.ep_hidden, c.lrp_hidden) = (vec![1, 2, 1, 3], vec![vec![1, 3, 1, 2]]);
        c.cc_hidden = vec![4096, 1, 4095, 4096];
    })
    .sound(),
    sound("sound-shift-62", "every shift is 62; sound", Shape::Small, |p| {
        let values = &mut p.parameters;
        let levels = values.layers.iter_mut().flat_map(|layer| &mut layer.levels);
        levels.for_each(|level| (level.shift, level.output.shift) = (62, 62));
        values.quantizers.iter_mut().flat_map(|q| &mut q.levels).for_each(|level| level.shift = 62);
        values.local_attentions.iter_mut().flat_map(|a| &mut a.levels).for_each(|level| level.shift = 62);
        let levels = values.linear_attentions.iter_mut().flat_map(|a| &mut a.levels);
        levels.for_each(|level| (level.query.shift, level.key.shift, level.output.shift) = (62, 62, 62));
    }),
    sound(
        "sound-tables",
        "every function table has the least and the largest value that it may have; sound",
        Shape::Small,
        |p| {
            let tables = &mut p.parameters.functions;
            (tables.gelu[0], tables.gelu[512], tables.half_tanh[0], tables.half_tanh[512]) = (0, 4095, 0, 2048);
            (tables.exp_coarse[1], tables.exp_coarse[255]) = (32_767, 0);
            (tables.exp_fine[1], tables.exp_fine[63]) = (32_768, 0);
            for exp2 in [&mut tables.exp2_coarse, &mut tables.exp2_fine] {
                (exp2[0], exp2[255]) = (1 << 30, i32::MAX as u32);
            }
        },
    ),
    sound("sound-ranges", "thresholds, medians, gains and symbols at both ends of their ranges; sound", Shape::Gains, |p| {
        let values = &mut p.parameters;
        (values.thresholds[0], values.thresholds[62]) = (0, (1 << 27) - 1);
        (values.medians[0], values.medians[1]) = (-((1 << 27) - 1), (1 << 27) - 1);
        for gain in [&mut values.gains.gain, &mut values.gains.inverse_gain, &mut values.gains.hyper_gain] {
            (gain[0], gain[1]) = (-MAX_GAIN, MAX_GAIN);
        }
        (values.gains.inverse_hyper_gain[0], values.gains.inverse_hyper_gain[1]) = (-MAX_GAIN, MAX_GAIN);
        values.local_attentions[0].bias[0] = (1 << 26) - 1;
        values.local_attentions[0].bias[1] = -((1 << 26) - 1);
        values.z_cdfs[0] = StoredCdf { min_symbol: -32_767, starts: vec![0, 1] };
        values.z_cdfs[1] = StoredCdf { min_symbol: 32_767, starts: vec![0, 65_535] };
        // Every slot of 2^16 but one is a bin of its own.
        values.y_cdfs[63] = StoredCdf { min_symbol: -32_767, starts: (0..=65_534).collect() };
    }),
    sound("sound-sums", "the sum of a layer and the variance of a norm reach 2^63 - 1; sound", Shape::Least, |p| {
        p.parameters.layers[0].levels[0].bias[0] = room_of(p, FIRST);
        p.parameters.norms[0].epsilon[0] = room_of_variance(p);
    }),
    sound("sound-sums-negative", "the sum of a layer with a negative bias reaches 2^63 - 1; sound", Shape::Least, |p| {
        p.parameters.layers[0].levels[0].bias[0] = -room_of(p, FIRST)
    }),
    sound("sound-logit", "20 products of 10362 and 10362 have 31 bits; sound", Shape::Wide, |p| {
        max(p, "local_context.queries", 10_362);
        max(p, "local_context.keys", 10_362);
    }),
    sound(
        "sound-logit-head",
        "two products of 32767 and 32767 have 31 bits, four of both heads have not; sound",
        Shape::Gains,
        |p| {
            max(p, "local_context.queries", 32_767);
            max(p, "local_context.keys", 32_767);
        },
    ),
    overflow("sum-by-one", "the sum of a layer reaches 2^63", Shape::Least, |p| by_one(p, FIRST)),
    overflow("sum-of-norm", "the sum of a layer that reads a norm reaches 2^63", Shape::Small, |p| {
        by_one(p, "local_context.queries")
    }),
    overflow("sum-of-window", "the sum of a layer that reads a window attention reaches 2^63", Shape::Small, |p| {
        by_one(p, "fusion")
    }),
    overflow("sum-of-linear", "the sum of a layer that reads a linear attention reaches 2^63", Shape::Small, |p| {
        by_one(p, "reprojection")
    }),
    overflow("sum-of-terms", "the sum of a layer with an identity term reaches 2^63", Shape::Small, |p| {
        by_one(p, "local_context.out")
    }),
    overflow("variance-by-one", "the variance of a norm reaches 2^63", Shape::Least, |p| {
        p.parameters.norms[0].epsilon[0] = room_of_variance(p) + 1;
    }),
    overflow("sum-by-rounding", "the sum of a layer reaches 2^63 by half of what is shifted out", Shape::Least, |p| {
        p.parameters.layers[0].levels[0].bias[0] = room_of(p, FIRST);
        p.parameters.layers[0].levels[0].shift += 1;
    }),
];

/// The largest bias that the first output of a layer may have at the first level, by the layer's name.
fn room_of(parts: &Parts, name: &str) -> i64 {
    let (layout, index) = (Layout::new(&parts.config), layer(parts, name));
    let (spec, level) = (&layout.layers[index], &parts.parameters.layers[index].levels[0]);
    let mut weights = parts.weights[weights_of(parts, name)].iter();
    let terms = spec.terms.iter().enumerate().map(|(t, term)| {
        let taps = spec.weights_per_output(t);
        let magnitude: i64 = weights.by_ref().take(taps).map(|weight| i64::from(weight.unsigned_abs())).sum();
        weights.by_ref().take(taps * (spec.outputs - 1)).for_each(drop);
        let magnitude = if term.identity { 1 } else { magnitude };
        magnitude * i64::from(source_max(&parts.parameters, &layout, term.source)) * i64::from(level.multipliers[t][0])
    });
    i64::MAX - terms.sum::<i64>() - (1 << level.shift >> 1)
}

/// Gives the first output of a layer a bias that is one too large.
fn by_one(parts: &mut Parts, name: &str) {
    let (room, index) = (room_of(parts, name), layer(parts, name));
    parts.parameters.layers[index].levels[0].bias[0] = room + 1;
}

/// The largest epsilon that the first norm may have.
fn room_of_variance(parts: &Parts) -> i64 {
    let channels = parts.config.latent as i64;
    i64::MAX - ((channels * (2 * channels * i64::from(parts.parameters.quantizers[1].max)).pow(2)) << 16)
}
