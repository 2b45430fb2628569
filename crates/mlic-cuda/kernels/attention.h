// Global linear attention in four steps, and window attention (SPEC 4.5, 4.7).
#pragma once
#include "elementwise.h"
#include "layer.h"

#define MAX_HEAD 64    // channels of a head
#define APPLY 1024     // weights of a block of attention_apply

struct LinearArgs {
    const i16 *queries, *keys, *values;
    i16 *out;
    i32 *largest; // [channels], of the keys; filled with the least
    u64 *sums;    // [channels][head_channels] numerators, then [channels] denominators; filled with zeros
    i32 *context; // [channels][head_channels], in units of 2^-12 value steps
    ExpTables exp;
    Requant query, key, output;
    i32 positions, channels, head_channels, max;
    i32 chunk, reserved; // positions that one block sums over
};

// The largest key of each channel: thread x has a channel, block y a chunk of positions.
DEVICE void attention_largest(const LinearArgs &a) {
    const i32 channel = (i32)element(), first = blockIdx.y * a.chunk;
    if (channel >= a.channels) return;
    i32 largest = -32768;
    for (i32 i = first; i < first + a.chunk && i < a.positions; ++i) {
        const i32 key = a.keys[(i64)i * a.channels + channel];
        largest = key > largest ? key : largest;
    }
    atomicMax(a.largest + channel, largest);
}

// Numerators and denominators of a head over a chunk, 32 positions at a time: block x has a head, block y a chunk. Sums of integers do
// not depend on the order in which the blocks add theirs.
DEVICE void attention_sum(const LinearArgs &a) {
    SHARED i16 exponentials[32 * MAX_HEAD], values[32 * MAX_HEAD];
    const i32 n = a.head_channels, head = blockIdx.x * n, chunk = blockIdx.y * a.chunk, threads = blockDim.x;
    i64 numerators[16], denominator = 0;
    UNROLL for (i32 i = 0; i < 16; ++i) numerators[i] = 0;
    for (i32 first = chunk; first < chunk + a.chunk && first < a.positions; first += 32) {
        const i32 count = a.positions - first < 32 ? a.positions - first : 32;
        __syncthreads();
        for (i32 i = threadIdx.x; i < count * n; i += threads) {
            const i32 p = i / n, c = head + i - p * n;
            const i64 from = (i64)(first + p) * a.channels + c;
            exponentials[i] = (i16)exp_neg(a.exp, requant(a.key, a.largest[c] - a.keys[from]));
            values[i] = a.values[from];
        }
        __syncthreads();
        UNROLL for (i32 k = 0; k < 16; ++k) {
            const i32 pair = threadIdx.x + k * threads, i = pair / n, j = pair - i * n;
            if (pair >= n * n) break;
            i64 sum = 0;
            ROLLED for (i32 p = 0; p < count; ++p) sum += exponentials[p * n + i] * values[p * n + j];
            numerators[k] += sum;
        }
        if ((i32)threadIdx.x < n)
            for (i32 p = 0; p < count; ++p) denominator += exponentials[p * n + threadIdx.x];
    }
    UNROLL for (i32 k = 0; k < 16; ++k) {
        const i32 pair = threadIdx.x + k * threads;
        if (pair >= n * n) break;
        atomicAdd(a.sums + (i64)head * n + pair, (u64)numerators[k]);
    }
    if ((i32)threadIdx.x < n) atomicAdd(a.sums + (i64)a.channels * n + head + threadIdx.x, (u64)denominator);
}

DEVICE void attention_divide(const LinearArgs &a) {
    const i64 i = element();
    if (i >= (i64)a.channels * a.head_channels) return;
    const i64 denominator = (i64)a.sums[(i64)a.channels * a.head_channels + i / a.head_channels];
    a.context[i] = (i32)divide((i64)a.sums[i] * (1 << 12), denominator > 0 ? denominator : 1);
}

// Softmax of the queries times the context: block x has some positions, block y a head.
DEVICE void attention_apply(const LinearArgs &a) {
    SHARED i32 weights[APPLY];
    SHARED i32 largest[APPLY];
    SHARED i64 reciprocals[APPLY];
    const i32 n = a.head_channels, head = blockIdx.y * n, threads = blockDim.x;
    const i32 per_block = APPLY / n, first = blockIdx.x * per_block;
    const i32 count = a.positions - first < per_block ? a.positions - first : per_block;
    for (i32 p = threadIdx.x; p < count; p += threads) {
        const i16 *q = a.queries + (i64)(first + p) * a.channels + head;
        i32 most = q[0];
        for (i32 i = 1; i < n; ++i) most = q[i] > most ? q[i] : most;
        largest[p] = most;
    }
    __syncthreads();
    for (i32 i = threadIdx.x; i < count * n; i += threads) {
        const i32 p = i / n;
        const i32 q = a.queries[(i64)(first + p) * a.channels + head + i - p * n];
        weights[i] = exp_neg(a.exp, requant(a.query, largest[p] - q));
    }
    __syncthreads();
    for (i32 p = threadIdx.x; p < count; p += threads) {
        i64 sum = 0;
        for (i32 i = 0; i < n; ++i) sum += weights[p * n + i];
        reciprocals[p] = reciprocal(sum);
    }
    __syncthreads();
    for (i32 i = threadIdx.x; i < count * n; i += threads) weights[i] = weight(weights[i], reciprocals[i / n]);
    __syncthreads();
    for (i32 i = threadIdx.x; i < count * n; i += threads) {
        const i32 p = i / n, j = i - p * n;
        i64 sum = 0;
        ROLLED for (i32 k = 0; k < n; ++k) sum += (i64)weights[p * n + k] * a.context[(i64)(head + k) * n + j];
        a.out[(i64)(first + p) * a.channels + head + j] = (i16)saturate(requant(a.output, round_shift(sum, 15)), a.max);
    }
}

struct WindowArgs {
    const i16 *queries, *keys, *values;
    i16 *out;
    const i32 *bias; // [head][(2 window - 1)^2]
    ExpTables exp;
    Requant requant;
    i32 height, width, channels, heads, window, max;
    i32 together, reserved; // heads of a block
};

// Quotients by a number of at most 64, of dividends that are at most 64 times it and below 2^12.
struct Divisor {
    u32 by, inverse;
};
DEVICE Divisor divisor(i32 by) { return {(u32)by, (1u << 20) / (u32)by + 1}; }
DEVICE i32 quotient(Divisor d, i32 of) { return (i32)((u32)of * d.inverse >> 20); }

// Queries, keys and values of some heads around a non-anchor, in shared memory; zeros outside the map. `window_bytes` of ops.rs is its size.
struct Neighbourhood {
    i32 *weights; // [head][query][key]; first logits
    i16 *queries, *keys, *values; // [head][position][pitch]
    i32 *relative;                // of each position: where biases of its row and column are
    u8 *anchors;
    i32 heads, pitch; // of a position: an odd number of words, so that positions side by side are in different banks
};

DEVICE Neighbourhood neighbourhood(const WindowArgs &a, void *shared) {
    const i32 area = a.window * a.window, n = a.channels / a.heads;
    Neighbourhood of;
    of.heads = a.together;
    of.pitch = 2 * (((n + 1) / 2) | 1);
    of.weights = (i32 *)shared;
    of.relative = of.weights + of.heads * area * area;
    of.queries = (i16 *)(of.relative + area);
    of.keys = of.queries + of.heads * area * of.pitch;
    of.values = of.keys + of.heads * area * of.pitch;
    of.anchors = (u8 *)(of.values + of.heads * area * of.pitch);
    return of;
}

DEVICE void window_load(const WindowArgs &a, Place center, i32 first_head, const Neighbourhood &to) {
    const i32 w = a.window, area = w * w, n = a.channels / a.heads;
    const Divisor by_head = divisor(n), by_row = divisor(w);
    for (i32 head = 0; head < to.heads; ++head)
        for (i32 i = threadIdx.x; i < area * n; i += blockDim.x) {
            const i32 b = quotient(by_head, i), down = quotient(by_row, b), channel = i - b * n;
            const i32 row = center.row + down - w / 2, col = center.col + b - down * w - w / 2;
            const bool inside = (u32)row < (u32)a.height && (u32)col < (u32)a.width;
            const i64 from = inside ? ((i64)row * a.width + col) * a.channels + (first_head + head) * n + channel : 0;
            const i32 at = (head * area + b) * to.pitch + channel;
            to.queries[at] = inside ? a.queries[from] : (i16)0;
            to.keys[at] = inside ? a.keys[from] : (i16)0;
            to.values[at] = inside ? a.values[from] : (i16)0;
            // Pairs of channels are read together.
            if (channel == n - 1 && (n & 1)) to.queries[at + 1] = to.keys[at + 1] = 0;
            if (channel == 0 && head == 0) {
                to.anchors[b] = inside && ((row + col) & 1) != 0;
                to.relative[b] = down * (2 * w - 1) + (b - down * w);
            }
        }
}

DEVICE void window_logits(const WindowArgs &a, i32 first_head, const Neighbourhood &of) {
    const i32 w = a.window, area = w * w, pairs = (a.channels / a.heads + 1) / 2, side = 2 * w - 1;
    const Divisor by_area = divisor(area);
    for (i32 head = 0; head < of.heads; ++head) {
        // Of a position to itself.
        const i32 *const bias = a.bias + (first_head + head) * side * side + (w - 1) * (side + 1);
        for (i32 i = threadIdx.x; i < area * area; i += blockDim.x) {
            const i32 q = quotient(by_area, i), k = i - q * area;
            const i32 *const query = (const i32 *)(of.queries + (head * area + q) * of.pitch);
            const i32 *const key = (const i32 *)(of.keys + (head * area + k) * of.pitch);
            i32 dot = 0;
            for (i32 c = 0; c < pairs; ++c) {
                const i32 x = query[c], y = key[c];
                dot += (i16)x * (i16)y + (x >> 16) * (y >> 16);
            }
            const i64 logit = requant(a.requant, dot) + bias[of.relative[q] - of.relative[k]];
            of.weights[head * area * area + i] = saturate(logit, LOGIT_MAX);
        }
    }
}

// Logits of one query to weights. Anchors attend to anchors alone.
DEVICE void window_softmax(const WindowArgs &a, bool only_anchors, i32 *row, const u8 *anchors) {
    const i32 area = a.window * a.window;
    i32 largest = -LOGIT_MAX;
    i64 sum = 0;
    for (i32 k = 0; k < area; ++k)
        if (!only_anchors || anchors[k]) largest = row[k] > largest ? row[k] : largest;
    for (i32 k = 0; k < area; ++k) {
        row[k] = !only_anchors || anchors[k] ? exp_neg(a.exp, (i64)largest - row[k]) : 0;
        sum += row[k];
    }
    const i64 r = reciprocal(sum);
    for (i32 k = 0; k < area; ++k) row[k] = weight(row[k], r);
}

DEVICE void window_apply(const WindowArgs &a, i64 position, i32 first_head, const Neighbourhood &of) {
    const i32 area = a.window * a.window, n = a.channels / a.heads;
    const Divisor by_head = divisor(n);
    for (i32 head = 0; head < of.heads; ++head)
        for (i32 i = threadIdx.x; i < area * n; i += blockDim.x) {
            const i32 q = quotient(by_head, i), c = i - q * n;
            const i32 *const weights = of.weights + (head * area + q) * area;
            const i16 *const values = of.values + head * area * of.pitch + c;
            i64 sum = 0;
            for (i32 k = 0; k < area; ++k) sum += (i64)weights[k] * values[k * of.pitch];
            a.out[(position * area + q) * a.channels + (first_head + head) * n + c] = (i16)saturate(round_shift(sum, 15), a.max);
        }
}

// A block for each non-anchor (x) and so many heads (y).
DEVICE void window_attention(const WindowArgs &a, void *shared) {
    const Neighbourhood around = neighbourhood(a, shared);
    const i32 head = blockIdx.y * a.together, row = blockIdx.x / (a.width / 2), packed = blockIdx.x - row * (a.width / 2);
    const i32 area = a.window * a.window;
    window_load(a, {row, column_of(HALF_NON_ANCHOR, row, packed)}, head, around);
    __syncthreads();
    window_logits(a, head, around);
    __syncthreads();
    for (i32 i = threadIdx.x; i < a.together * area; i += blockDim.x)
        window_softmax(a, around.anchors[i % area] != 0, around.weights + i * area, around.anchors);
    __syncthreads();
    window_apply(a, blockIdx.x, head, around);
}
