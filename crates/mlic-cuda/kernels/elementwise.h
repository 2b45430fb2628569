// Operators of single elements and positions: change of scale, packing, reconstruction, scale indices, normalization.
#pragma once
#include "fixed.h"

// Index of this thread's element.
DEVICE i64 element() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

struct QuantizeArgs {
    const i32 *in;
    i16 *out;
    const u32 *gains; // of each channel, or none
    i64 count;
    Requant requant;
    i32 max, channels;
};
// SPEC 4.1, of a latent after its gain where there is one (SPEC 4.8, 5.7).
DEVICE void quantize(const QuantizeArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    i32 value = a.in[i];
    if (a.gains) value = saturate(round_shift((i64)value * a.gains[(u32)i % (u32)a.channels], 16), LATENT_MAX);
    a.out[i] = (i16)saturate(requant(a.requant, value), a.max);
}

struct SamplesArgs {
    const u8 *in; // the whole picture
    i16 *out;     // rows from `first` on
    i64 count;
    i32 height, width; // of the picture
    i32 out_width, first;
};
// SPEC 5.8: samples as activations, the last row and column repeated.
DEVICE void samples(const SamplesArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const u32 position = (u32)i / 3, channel = (u32)i - 3 * position, down = position / (u32)a.out_width;
    const i32 row = a.first + (i32)down, col = (i32)(position - down * (u32)a.out_width);
    const i64 from = (i64)(row < a.height ? row : a.height - 1) * a.width + (col < a.width ? col : a.width - 1);
    a.out[i] = a.in[3 * from + channel];
}

// A map, or a half of it, to another arrangement of the same positions.
struct MoveArgs {
    const void *in;  // for a merge: anchors
    const void *in2; // non-anchors, or none
    void *out;
    i64 count;               // elements of the output
    i32 width, channels;     // of the output
    i32 half, reserved;
};

struct At {
    i32 row, col, channel;
};
// In 32 bits, which divide in a fifth of the time; the host refuses more elements.
DEVICE At at(const MoveArgs &a, i64 i) {
    const u32 position = (u32)i / (u32)a.channels, row = position / (u32)a.width;
    return {(i32)row, (i32)(position - row * (u32)a.width), (i32)((u32)i - position * (u32)a.channels)};
}

// SPEC 5.2: one half of a map.
DEVICE void pack(const MoveArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const At p = at(a, i);
    const i64 from = (i64)p.row * 2 * a.width + column_of(a.half, p.row, p.col);
    ((i16 *)a.out)[i] = ((const i16 *)a.in)[from * a.channels + p.channel];
}

// SPEC 5.2: a half in its places, zeros elsewhere.
DEVICE void unpack(const MoveArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const At p = at(a, i);
    const bool is_anchor = ((p.row + p.col) & 1) != 0, is_there = is_anchor == (a.half == HALF_ANCHOR);
    const i64 from = (i64)p.row * (a.width / 2) + p.col / 2;
    ((i16 *)a.out)[i] = is_there ? ((const i16 *)a.in)[from * a.channels + p.channel] : (i16)0;
}

// SPEC 5.2: both halves in their places; zeros where the second is none.
DEVICE void merge(const MoveArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const At p = at(a, i);
    const bool is_anchor = ((p.row + p.col) & 1) != 0;
    const i32 *in = (const i32 *)(is_anchor ? a.in : a.in2);
    const i64 from = (i64)p.row * (a.width / 2) + p.col / 2;
    ((i32 *)a.out)[i] = in ? in[from * a.channels + p.channel] : 0;
}

// SPEC 4.2: pixel shuffle by two.
DEVICE void shuffle(const MoveArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const At p = at(a, i);
    const i64 from = (i64)(p.row / 2) * (a.width / 2) + p.col / 2;
    const i32 channel = 4 * p.channel + 2 * (p.row & 1) + (p.col & 1);
    ((i16 *)a.out)[i] = ((const i16 *)a.in)[from * 4 * a.channels + channel];
}

struct AddArgs {
    const i32 *a, *b;
    i32 *out;
    i64 count;
    i32 b_shift, reserved; // b in units of 2^b_shift
};
// `a + b`: of residuals, and of means and symbols (SPEC 5.3).
DEVICE void add(const AddArgs &a) {
    const i64 i = element();
    if (i < a.count) a.out[i] = saturate((i64)a.a[i] + (i64)a.b[i] * ((i64)1 << a.b_shift), LATENT_MAX);
}

struct ParametersArgs {
    const i32 *scale, *mean, *thresholds; // 63 thresholds
    i32 *means;                           // memory of the host, as that of the next; or none
    u8 *indices;
    i64 count;
};
// SPEC 4.10, and the means where the coder reads them.
DEVICE void parameters(const ParametersArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const i32 scale = a.scale[i];
    i32 index = 0;
    for (i32 step = 32; step > 0; step >>= 1)
        if (a.thresholds[index + step - 1] < scale) index += step;
    a.indices[i] = (u8)index;
    if (a.means) a.means[i] = a.mean[i];
}

struct SquaresArgs {
    const i16 *in;
    i16 *high, *low;
    i64 count;
};
// Squares in halves of 15 bits: activations again, so that a normalization's sums of squares are a layer (SPEC 4.11).
DEVICE void squares(const SquaresArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const i32 square = (i32)a.in[i] * a.in[i];
    a.high[i] = (i16)(square >> 15);
    a.low[i] = (i16)(square & 0x7fff);
}

struct PlaceArgs {
    const i32 *in;
    i32 *out;
    i64 count;
    i32 channels, of, first, reserved; // channels of the input; of the output, and the first that is written
};
// A map's channels to their place among those of a larger one.
DEVICE void place(const PlaceArgs &a) {
    const i64 i = element();
    if (i >= a.count) return;
    const u32 position = (u32)i / (u32)a.channels, channel = (u32)i - position * (u32)a.channels;
    a.out[(i64)position * a.of + a.first + channel] = a.in[i];
}

struct FillArgs {
    u64 *out;
    u64 value;
    i64 count;
};
DEVICE void fill(const FillArgs &a) {
    const i64 i = element();
    if (i < a.count) a.out[i] = a.value;
}

struct NormArgs {
    const i16 *in;
    i16 *out;
    i64 epsilon;
    i32 positions, channels;
};
DEVICE i64 warp_sum(i64 v) {
    for (i32 mask = 16; mask > 0; mask >>= 1) {
        const u32 low = __shfl_xor_sync(0xffffffffu, (u32)(u64)v, mask);
        const u32 high = __shfl_xor_sync(0xffffffffu, (u32)((u64)v >> 32), mask);
        v += (i64)((u64)high << 32 | low);
    }
    return v;
}
// SPEC 4.6: a warp for each position.
DEVICE void norm(const NormArgs &a) {
    const i32 position = (i32)(element() >> 5), lane = threadIdx.x & 31;
    if (position >= a.positions) return;
    const i16 *in = a.in + (i64)position * a.channels;
    i16 *out = a.out + (i64)position * a.channels;
    i64 sum = 0, squares = 0;
    for (i32 c = lane; c < a.channels; c += 32) sum += in[c];
    sum = warp_sum(sum);
    for (i32 c = lane; c < a.channels; c += 32) {
        const i64 deviation = (i64)a.channels * in[c] - sum;
        squares += deviation * deviation;
    }
    squares = warp_sum(squares);
    const i64 root = (i64)isqrt((u64)((squares << 16) / a.channels + a.epsilon));
    for (i32 c = lane; c < a.channels; c += 32) {
        const i64 deviation = (i64)a.channels * in[c] - sum;
        out[c] = (i16)saturate(divide(deviation * (1 << 20), root > 0 ? root : 1), 32767);
    }
}
