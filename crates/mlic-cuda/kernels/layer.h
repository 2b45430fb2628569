// Arguments and epilogue of linear layers (SPEC 4.2).
#pragma once
#include "fixed.h"

#define MAX_TERMS 65

enum Epilogue { LINEAR = 0, GELU = 1, LATENT = 2, HALF_TANH = 3, SAMPLE = 4, ROOT = 5, RECIPROCAL = 6 };

// One term of a layer at one level; arrays of outputs are padded with zeros to whole blocks of columns.
struct Term {
    const void *weights;    // of a depthwise layer
    const i32 *multipliers; // [outputs]
    i32 first, channels;    // channels of the input that are read
    i32 identity;
    i32 reserved;
};

// Some groups of the k axis of a dense layer: taps of 32 channels, or, of a layer without neighbours, chunks of 32 channels.
#define NEW_PATCH 1   // reads channels that the step before did not
#define END_OF_TERM 2
#define WIDE_TERM 4   // activations beyond a byte
struct alignas(16) Step {
    i32 term, channel; // the first, among those of the term
    i16 tap, count;
    i32 flags;
};

struct LayerArgs {
    const Term *terms;
    const i64 *bias;  // [outputs]
    const i16 *table; // of the epilogue
    void *out;        // activations, or latents: scale, or residual
    void *out2;       // latents: mean; none when all outputs are one
    const i16 *factors;     // of ROOT and RECIPROCAL: [positions][outputs]
    const i32 *multipliers; // likewise: [outputs]
    const void *weights;    // of a dense layer, in the order of its steps
    const Step *steps;      // and empty ones after them
    i32 term_count, outputs, side;
    i32 in_height, in_width, out_width; // sides of the inputs; positions of a row of the output
    i32 first, end;                     // positions that are computed
    i32 half;
    i32 shuffle; // outputs are [phase][channel], and the phases go to four positions
    i32 stride;  // rows and columns of the inputs from one position to the next
    i32 shift, max, epilogue;
    Requant output;
    i32 columns; // outputs, padded
    // Of a dense layer.
    i32 warps_m, warps_n, warps_k; // warps of a block along positions, outputs and the k axis
    i32 step_count, groups;        // steps, and most groups of one
    i32 pitch, patch, patches;     // positions of a row of the patch (0: a run), of all of it; patches in shared memory
    i32 side_inverse;              // floor(2^16 / side) + 1: taps to rows
    i32 reserved;
    i32 strides[MAX_TERMS]; // channels of each input map
    const i16 *inputs[MAX_TERMS];
};

// Row and column in the inputs of an output position.
struct Place {
    i32 row, col;
};
DEVICE Place place_of(const LayerArgs &a, i32 position) {
    const i32 row = position / a.out_width;
    return {a.stride * row, a.stride * column_of(a.half, row, position - row * a.out_width)};
}
DEVICE bool is_inside(const LayerArgs &a, Place p) {
    return (u32)p.row < (u32)a.in_height && (u32)p.col < (u32)a.in_width;
}
DEVICE const i16 *input_at(const LayerArgs &a, i32 term, Place p) {
    return a.inputs[term] + ((i64)p.row * a.in_width + p.col) * a.strides[term];
}

DEVICE i32 finish_gelu(i64 sum, i32 shift, i32 max, const i16 *table, Requant output) {
    return saturate(requant(output, gelu(table, saturate(round_shift(sum, shift), PREACT_MAX))), max);
}
// A weighted sum to its activation or latent. Not inlined: it stands in every kernel many times.
NOINLINE i32 finish_sum(i64 sum, i32 shift, i32 epilogue, i32 max, const i16 *table, Requant output) {
    const i64 v = round_shift(sum, shift);
    switch (epilogue) {
    case GELU: return finish_gelu(sum, shift, max, table, output);
    case LATENT: return saturate(v, LATENT_MAX);
    case HALF_TANH: return half_tanh(table, saturate(v, PREACT_MAX));
    case SAMPLE: return saturate(v > 0 ? v : 0, max);
    default: return saturate(v, max);
    }
}
// SPEC 4.11: the product of an activation with the root of its norm, which is not negative.
NOINLINE i32 finish_root(i64 sum, i32 shift, i32 max, i32 factor, Requant output) {
    const i64 v = round_shift(sum, shift), limit = 0x7fffffff;
    return saturate(requant(output, (i64)factor * (i64)isqrt_short((u32)(v < limit ? v : limit))), max);
}
// SPEC 4.12: the activation divided by it.
NOINLINE i32 finish_reciprocal(i64 sum, i32 shift, i32 max, i32 factor, Requant output) {
    const i64 v = round_shift(sum, shift), limit = 0x7fffffff;
    const u32 root = isqrt((u64)(v < limit ? v : limit));
    return saturate(round_shift((i64)factor * output.multiplier * (i64)(0x7fffffffu / (root ? root : 1)), output.shift), max);
}
DEVICE i32 finish(const LayerArgs &a, i32 position, i32 output, i64 sum) {
    if (a.epilogue < ROOT) return finish_sum(sum, a.shift, a.epilogue, a.max, a.table, a.output);
    if (output >= a.outputs) return 0;
    const Requant r = {a.multipliers[output], a.output.shift};
    const i32 factor = a.factors[(i64)position * a.outputs + output];
    return a.epilogue == ROOT ? finish_root(sum, a.shift, a.max, factor, r) : finish_reciprocal(sum, a.shift, a.max, factor, r);
}

// Index of an output among the elements of its map.
DEVICE i64 index_of(const LayerArgs &a, i32 position, i32 output) {
    if (!a.shuffle) return (i64)position * a.outputs + output;
    const i32 channels = a.outputs / 4, phase = output / channels, row = position / a.out_width;
    const i32 col = position - row * a.out_width;
    const i64 to = (i64)(2 * row + phase / 2) * (2 * a.out_width) + 2 * col + phase % 2;
    return to * channels + (output - phase * channels);
}

DEVICE void store(const LayerArgs &a, i32 position, i32 output, i32 value) {
    if (a.epilogue == LATENT) {
        const i32 half = a.out2 ? a.outputs / 2 : a.outputs;
        i32 *to = (i32 *)(output < half ? a.out : a.out2);
        to[(i64)position * half + (output < half ? output : output - half)] = value;
        return;
    }
    const i64 at = index_of(a, position, output);
    if (a.epilogue == HALF_TANH) ((i32 *)a.out)[at] = value;
    else if (a.epilogue == SAMPLE) ((u8 *)a.out)[at] = (u8)value;
    else ((i16 *)a.out)[at] = (i16)value;
}
