// Depthwise layers: a thread for each output (SPEC 4.2).
#pragma once
#include "elementwise.h"
#include "layer.h"

// The accumulator of one term.
DEVICE i32 depthwise_sum(const LayerArgs &a, i32 term, Place p, i32 output) {
    const Term &t = a.terms[term];
    const i32 channel = t.first + output;
    if (t.identity) return input_at(a, term, p)[channel];
    const i8 *weights = (const i8 *)t.weights + output; // [tap][output]
    i32 sum = 0;
    for (i32 i = 0; i < a.side; ++i)
        for (i32 j = 0; j < a.side; ++j) {
            const Place at = {p.row + i - a.side / 2, p.col + j - a.side / 2};
            if (is_inside(a, at)) sum += weights[(i64)(i * a.side + j) * a.columns] * input_at(a, term, at)[channel];
        }
    return sum;
}

DEVICE void depthwise(const LayerArgs &a) {
    const i64 i = element();
    if (i >= (i64)a.end * a.outputs) return;
    const i32 position = (i32)(i / a.outputs), output = (i32)(i - (i64)position * a.outputs);
    const Place p = place_of(a, position);
    i64 sum = a.bias[output];
    for (i32 term = 0; term < a.term_count; ++term)
        sum += (i64)depthwise_sum(a, term, p, output) * a.terms[term].multipliers[output];
    store(a, position, output, finish(a, position, output, sum));
}
