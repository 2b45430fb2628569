//! What is particular to the package of *edge-cases-ties*: faults of one unit that later saturations and coarser roundings hide in the other packages.
//!
//! - Ties where only chosen numbers give them: the weights of a softmax whose exponentials sum to 2^16, the quotients of a linear attention by 2^16,
//!   those of a norm by a power of two.
//! - The last arguments of the function tables, behind entries that make the difference large.
//! - Quantizers and GELUs that halve the largest value before them: what should have been saturated to it is seen.
//! - Norms, and sums of logits and their bias, at both of their limits; a root that double precision gets wrong.
//!
//! Level 0 of the activation scales has the ties of attentions and of the second norm, whose inputs are constants there; levels 1 and 2 have the
//! limits of that norm, level 2 the halving GELU; everything else is at all levels, or at level 3.

use mlic_backend::contract::Random;
use mlic_model::layout::{Epilogue, LayerSpec};
use mlic_model::parameters::{EXP_LEN, FUNCTION_LEN, Functions, LinearAttentionLevel, Parameters, Requant};
use mlic_model::proof::LOGIT_MAX;

use super::Spread;

/// Length of the table of GELU, in its argument: 8 in Q14. The table of half tanh is as long.
const TABLE_END: i64 = 8 << 14;
/// Arguments of the exponential from here on give 0: 16 in Q10.
const EXP_END: i64 = 16 << 10;
/// Argument whose exponential is 2, the least above 0: with two of 32767, a sum of 2^16.
const TWO: i64 = 128;
/// The largest key or query of a channel.
const LARGEST: i64 = 20_000;
/// Logarithm of the gain that reads the entries 1 of both tables of exp2.
const TIED: i32 = (1 << 8) + 1;
/// A latent of z whose activation at level 0 is another where that gain is less by one unit.
const SEEN: i32 = 80_000_000;
/// Root for which the quotient of a norm of 66 channels of which one is 1, and the others 0, is a tie: half. At levels 1 and 2, that of the second
/// latent slice takes the root of `(ROOT + 1)^2 - 1`, which double precision rounds to `ROOT + 1`.
const ROOT: i64 = 130 << 20;
/// Largest magnitude of what norms and window attentions read: with more, their sums could exceed what SPEC 4.9 allows.
pub(super) const MAX: i32 = 8191;
/// Keys in units of one weight. With a difference of 127 of them, the two give the last argument of the exponential's table and the one behind it.
const KEYS: [i64; 3] = [TWO / 2, 129, 128];

/// What a channel of an attention is there for: 0 for ties, 1 and 2 for the two sides of the end of the exponential's table.
const fn role(is_inter: bool, channel: usize) -> usize {
    if is_inter {
        channel % 3
    } else if channel % 11 < 3 {
        channel % 11
    } else {
        0
    }
}

/// Changes the function tables: the last entries differ from those before them as far as they may, and most exponentials are 0.
fn functions(functions: &mut Functions, random: &mut Random) {
    let last = FUNCTION_LEN - 2;
    functions.gelu.splice(last.., [4095, 0]);
    functions.half_tanh.splice(last.., [0, 2048]);
    // An argument of 0 has no negative result, whatever the first entry.
    (functions.gelu[0], functions.half_tanh[0]) = (9, 7);
    functions.exp_coarse = vec![0; EXP_LEN[0]];
    functions.exp_coarse.splice(0..3, [32_767, 1, 2]);
    functions.exp_coarse.splice(EXP_LEN[0] - 1.., [30_000]);
    functions.exp_fine.iter_mut().skip(1).for_each(|entry| *entry = random.below(32_769) as u16);
    functions.exp_fine.splice(EXP_LEN[1] - 1.., [32_768]);
    // Their product is a tie, and so is what it rounds to: the last bit of the gain hangs on the first.
    (functions.exp2_coarse[1], functions.exp2_fine[1]) = ((1 << 30) + 5461, 3 << 29);
}

/// The 3x3 weights of a depthwise layer of an attention. What they read is constant at level 0, so that they tell corners, edges and interior of a
/// map from one another. In the smallest map, and in the half of one that has the anchors, exactly two keys are the largest, and one is less by the
/// argument of 2.
pub(super) fn weights(spec: &LayerSpec, output: usize) -> Option<[i8; 9]> {
    let (network, what) = attention(spec)?;
    let is_inter = network == "global_inter_context";
    if !spec.name.ends_with("depthwise") {
        return None;
    }
    Some(match (what, is_inter, role(is_inter, output)) {
        ("queries", ..) => [0, 0, 0, 0, 1, 0, 0, 0, 0],
        // The upper corners are the largest keys; the lower left one follows.
        ("keys", true, 0) => [-20, 0, -12, 0, 0, 0, -10, 0, -10],
        ("keys", true, 1) => [-60, 0, -63, 0, 0, 0, -1, 0, 64],
        ("keys", true, _) => [-60, 0, -64, 0, 0, 0, -1, 0, 64],
        // Of the anchors of the smallest map two are in its interior: the largest; the lower left corner follows.
        ("keys", false, 0) => [0, 10, 0, -9, 0, 10, 20, -9, 0],
        ("keys", false, 1) => [0, 0, -63, 0, 0, 0, 64, 0, 0],
        ("keys", false, _) => [0, 0, -64, 0, 0, 0, 64, 0, 0],
        // -4 in the lower left corner and 0 where the largest keys are, 4 and 0, then what makes the quotients large.
        (_, true, 0) => [0, 0, -4, 0, 0, 0, 0, 0, 0],
        (_, true, 1) => [0, 0, 4, 0, 0, 0, 0, 0, 0],
        (_, true, _) => [-5, 0, 3, 0, 0, 0, 6, 0, 6],
        (_, false, 0) => [0, 0, -4, 0, 0, 0, 4, 0, 0],
        (_, false, 1) => [0, 0, 4, 0, 0, 0, -4, 0, 0],
        (_, false, _) => [0, 0, 0, 0, 6, 0, 0, 0, 0],
    })
}

/// Shift of a depthwise layer of an attention, whose multipliers are 1 and whose biases are 0.
pub(super) fn depthwise_shift(spec: &LayerSpec, level: usize) -> Option<u32> {
    weights(spec, 0).map(|_| if level == 0 { 0 } else { 7 })
}

/// The global context and the input (queries, keys or values) that a layer belongs to.
fn attention(spec: &LayerSpec) -> Option<(&str, &str)> {
    let mut parts = spec.name.split('.').skip(1);
    let (network, what, _) = (parts.next()?, parts.next()?, parts.next()?);
    (network.starts_with("global") && matches!(what, "queries" | "keys" | "values")).then_some((network, what))
}

/// How large the outputs of one channel of a layer become.
pub(super) fn spread(spec: &LayerSpec, level: usize, output: usize) -> Option<Spread> {
    if let Some((network, what)) = attention(spec) {
        let is_inter = network == "global_inter_context";
        return Some(match (level, what) {
            (0, "queries") => Spread::Exactly(query(is_inter, output)),
            (0, "keys") => Spread::Exactly(KEYS[role(is_inter, output)]),
            (0, _) => Spread::Exactly(1),
            _ => Spread::Sixteenths(14),
        });
    }
    let name = spec.name.rsplit('.').next().unwrap_or_default();
    match (name, level, spec.epilogue) {
        ("fusion", 0, _) => {
            // With two of 66 channels away from 0, the deviations of the others are 2, and the norm divides by 4.
            let sign = if spec.name.starts_with("slice0") { 1 } else { -1 };
            Some(Spread::Exactly(if matches!(output, 5 | 40) { sign } else { 0 }))
        }
        // With one of 66 channels away from 0, that is more than 8 standard deviations; in the second latent slice, of a norm of the least deviation.
        ("fusion", 1 | 2, _) => {
            let one = if spec.name.starts_with("slice0") { [1000, -1000][level - 1] } else { 1 };
            Some(Spread::Exactly(if output == 3 { one } else { 0 }))
        }
        // What reads that norm shows a difference of one.
        ("fc1", 1, _) if spec.name.starts_with("slice1") => Some(Spread::Sixteenths(1 << 14)),
        // The first head sees nothing but its position bias.
        ("queries", ..) if output < 11 => Some(Spread::Never),
        (_, _, Epilogue::Gelu | Epilogue::HalfTanh) => Some(function_argument(output)),
        (_, _, Epilogue::Linear) => Some(Spread::Sixteenths([14, 16, 30, 8][output % 4])),
        _ => None,
    }
}

/// Queries whose weights are those of 32767, 32767 and 2, or of both sides of the end of the exponential's table.
fn query(is_inter: bool, output: usize) -> i64 {
    let head = output / if is_inter { 3 } else { 11 };
    let below = match (head % 2, if is_inter { output % 3 } else { output % 11 }) {
        (_, 0) | (0, 1) => 0,
        (0, 2) => TWO,
        (1, 1) => EXP_END - 1,
        (1, 2) => EXP_END,
        _ => LARGEST,
    };
    LARGEST - below
}

/// The argument of GELU or tanh: of eight outputs five are constants, 0, at the end of the table, or beyond all limits.
pub(super) const fn function_argument(output: usize) -> Spread {
    match output % 8 {
        0 => Spread::Never,
        1 => Spread::Exactly(TABLE_END - 1),
        3 => Spread::Exactly(1 - TABLE_END),
        5 => Spread::Exactly(1 << 31),
        7 => Spread::Exactly(TABLE_END),
        _ => Spread::Sixteenths(14),
    }
}

/// Requantization after GELU: 8.0 becomes the largest activation, or twice the largest argument does.
pub(super) const fn after_gelu(max: i64, is_halving: bool) -> Requant {
    Requant { multiplier: max as i32, shift: if is_halving { 31 } else { 17 } }
}

/// Changes everything but layers and symbol tables.
pub(super) fn adjust(parameters: &mut Parameters, random: &mut Random) {
    functions(&mut parameters.functions, random);
    for (index, quantizer) in parameters.quantizers.iter_mut().enumerate() {
        quantizer.max = if index == 0 { i16::MAX.into() } else { MAX };
        // Binary logarithms of what becomes the largest activation: the largest latent becomes half of that, or a quarter.
        let reach = if index == 0 { [27, 28, 24, 29] } else { [13, 20, 16, 28] };
        let level = |reach: u32| Requant { multiplier: 2 * quantizer.max + 1, shift: reach + 1 };
        quantizer.levels = reach.into_iter().map(level).collect();
    }
    // From a power of four, none of the sums of squares of level 0 takes the root away.
    parameters.norms.iter_mut().for_each(|norm| norm.epsilon = vec![1 << 44, 1, 1 << 7, 1 << 3]);
    if let Some(last) = parameters.norms.last_mut() {
        last.epsilon[1..3].fill(ROOT * (ROOT + 2) - (65 << 16));
    }
    let requant = |(multiplier, shift)| Requant { multiplier, shift };
    for attention in &mut parameters.linear_attentions {
        attention.max = i16::MAX.into();
        let levels = [((1, 0), (1, 0)), ((1, 7), (1, 8)), ((0, 3), (1, 10)), ((1, 9), (1, 6))];
        let level = |(exponent, output)| LinearAttentionLevel {
            query: requant(exponent),
            key: requant(exponent),
            output: requant(output),
        };
        attention.levels = levels.into_iter().map(level).collect();
    }
    for attention in &mut parameters.local_attentions {
        attention.levels = [(1, 14), (1, 16), (1, 12), (1, 15)].into_iter().map(requant).collect();
        attention.bias.iter_mut().enumerate().for_each(|(index, bias)| *bias = position_bias(index));
    }
    // Of two channels one exceeds the largest latent; the other has the gain of the tie.
    for inverse in [&mut parameters.gains.inverse_gain, &mut parameters.gains.inverse_hyper_gain] {
        inverse.iter_mut().enumerate().for_each(|(channel, gain)| *gain = [TIED, 12 << 16][channel % 2]);
    }
    parameters.medians[0] = SEEN;
}

/// The bias of a window attention of three heads and windows of 3. In the first head, of the anchors that a position between them attends to, two have
/// exponentials of 32767 and two of 1; positions two columns away are at the end of the exponential's table. In the others every logit is at or beyond
/// a limit.
const fn position_bias(index: usize) -> i32 {
    match (index / 25, index / 5 % 5, index % 5) {
        (0, _, 0) => -(EXP_END as i32),
        (0, _, 4) => 1 - EXP_END as i32,
        (0, row, _) => -(TWO as i32 / 2) * (row % 2) as i32,
        (1, ..) => LOGIT_MAX,
        _ => -LOGIT_MAX,
    }
}
