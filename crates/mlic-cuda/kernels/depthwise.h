// Depthwise layers: a thread for eight outputs of a position (SPEC 4.2).
#pragma once
#include "dense.h"
#include "elementwise.h"

// Eight numbers of 16 bits: together where they are aligned, else one by one, and zeros beyond `count`.
DEVICE void load_eight(const i16 *from, bool is_aligned, i32 count, i32 (&to)[8]) {
    if (is_aligned) {
        const Vec16 v = *(const Vec16 *)from;
        const u32 words[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (i32 i = 0; i < 8; ++i) to[i] = (i16)(words[i >> 1] >> (16 * (i & 1)));
    } else {
        UNROLL for (i32 i = 0; i < 8; ++i) to[i] = i < count ? from[i] : 0;
    }
}

// Eight weights.
struct alignas(8) Eight {
    u32 x, y;
};
DEVICE void load_weights(const i8 *from, i32 (&to)[8]) {
    const Eight v = *(const Eight *)from;
    UNROLL for (i32 i = 0; i < 8; ++i) to[i] = (i8)((i < 4 ? v.x : v.y) >> (8 * (i & 3)));
}

// Adds a term: its accumulators times its multipliers.
DEVICE void add_term(const LayerArgs &a, i32 term, Place p, i32 output, i64 (&sums)[8]) {
    const Term &t = a.terms[term];
    const i32 count = a.outputs - output;
    const bool is_aligned = ((a.strides[term] | t.first | a.outputs) & 7) == 0;
    i32 products[8], values[8], weights[8];
    if (t.identity) {
        load_eight(input_at(a, term, p) + t.first + output, is_aligned, count, products);
    } else {
        UNROLL for (i32 k = 0; k < 8; ++k) products[k] = 0;
        for (i32 i = 0; i < a.side; ++i)
            for (i32 j = 0; j < a.side; ++j) {
                const Place at = {p.row + i - a.side / 2, p.col + j - a.side / 2};
                if (!is_inside(a, at)) continue;
                load_eight(input_at(a, term, at) + t.first + output, is_aligned, count, values);
                load_weights((const i8 *)t.weights + (i64)(i * a.side + j) * a.columns + output, weights); // [tap][columns]
                UNROLL for (i32 k = 0; k < 8; ++k) products[k] += weights[k] * values[k];
            }
    }
    UNROLL for (i32 k = 0; k < 8; ++k) sums[k] += (i64)products[k] * t.multipliers[output + k];
}

DEVICE void depthwise(const LayerArgs &a) {
    const i64 i = element();
    const i32 eights = (a.outputs + 7) / 8;
    if (i >= (i64)a.end * eights) return;
    const i32 position = (i32)((u32)i / (u32)eights), output = 8 * (i32)((u32)i - (u32)position * (u32)eights);
    const Place p = place_of(a, position);
    i64 sums[8];
    UNROLL for (i32 k = 0; k < 8; ++k) sums[k] = a.bias[output + k];
    for (i32 term = 0; term < a.term_count; ++term) add_term(a, term, p, output, sums);
    store_eight(a, position, output, sums);
}
