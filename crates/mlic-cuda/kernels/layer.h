// Arguments and epilogue of linear layers (SPEC 4.2).
#pragma once
#include "fixed.h"

#define MAX_TERMS 65

enum Epilogue { LINEAR = 0, GELU = 1, LATENT = 2, HALF_TANH = 3 };

// One term of a layer at one level; arrays of outputs are padded with zeros to whole blocks of columns.
struct Term {
    const void *weights;    // packed; none for an identity term
    const i32 *multipliers; // [outputs]
    i32 first, channels;    // channels of the input that are read
    i32 chunks;             // of 32 channels
    i32 wide;               // activations beyond a byte
    i32 identity;
    i32 reserved;
};

struct LayerArgs {
    const Term *terms;
    const i64 *bias;  // [outputs]
    const i16 *table; // of the epilogue
    void *out;        // activations, or latents: scale, or residual
    void *out2;       // latents: mean
    i32 term_count, outputs, side;
    i32 in_height, in_width, out_width, positions; // positions of the output, out_width to a row
    i32 half;
    i32 shift, max, epilogue;
    Requant output;
    i32 warps_n; // warps of a block side by side along the outputs
    i32 columns; // outputs, padded
    i32 strides[MAX_TERMS]; // channels of each input map
    const i16 *inputs[MAX_TERMS];
};

// Row and column in the inputs of an output position.
struct Place {
    i32 row, col;
};
DEVICE Place place_of(const LayerArgs &a, i32 position) {
    const i32 row = position / a.out_width;
    return {row, column_of(a.half, row, position - row * a.out_width)};
}
DEVICE bool is_inside(const LayerArgs &a, Place p) {
    return (u32)p.row < (u32)a.in_height && (u32)p.col < (u32)a.in_width;
}
DEVICE const i16 *input_at(const LayerArgs &a, i32 term, Place p) {
    return a.inputs[term] + ((i64)p.row * a.in_width + p.col) * a.strides[term];
}

// A weighted sum to its activation or latent. Not inlined: it stands in every kernel many times.
NOINLINE i32 finish_sum(i64 sum, i32 shift, i32 epilogue, i32 max, const i16 *table, Requant output) {
    const i64 v = round_shift(sum, shift);
    switch (epilogue) {
    case GELU: return saturate(requant(output, gelu(table, saturate(v, PREACT_MAX))), max);
    case LATENT: return saturate(v, LATENT_MAX);
    case HALF_TANH: return half_tanh(table, saturate(v, PREACT_MAX));
    default: return saturate(v, max);
    }
}
DEVICE i32 finish(const LayerArgs &a, i64 sum) {
    return finish_sum(sum, a.shift, a.epilogue, a.max, a.table, a.output);
}

DEVICE void store(const LayerArgs &a, i32 position, i32 output, i32 value) {
    if (a.epilogue == LATENT) {
        const i32 half = a.outputs / 2;
        i32 *to = (i32 *)(output < half ? a.out : a.out2);
        to[(i64)position * half + (output < half ? output : output - half)] = value;
    } else if (a.epilogue == HALF_TANH) {
        ((i32 *)a.out)[(i64)position * a.outputs + output] = value;
    } else {
        ((i16 *)a.out)[(i64)position * a.outputs + output] = (i16)value;
    }
}
