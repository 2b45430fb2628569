// Dense layers as implicit matrix products on bytes (SPEC 4.2).
//
// A block makes a tile of `warps_m * 32` positions by `warps_n * BLOCKS * 32` outputs; a warp 32 by BLOCKS * 32 of it, as 2 by BLOCKS * 4
// tiles of mma.m16n8k32, over every `warps_k`-th group of the k axis. With two BLOCKS, what a lane has loaded and split of the activations
// is multiplied twice as often. A layer that reads neighbours has tiles 16 positions wide; one that does not, runs of positions.
//
// The k axis is walked in groups of 32 channels of one tap. What the tile's taps read of 32 channels is the patch: its positions and the
// border around them, 16-bit, as they are. It is copied to shared memory once, and every tap reads it at another offset. The host lists
// the steps of a layer (`Step`): a step is some groups whose weights are copied together, behind one barrier; copies run ahead by
// STAGES - 1 steps.
//
// Activations beyond a byte are two products, of an unsigned low and a signed high byte; so are weights. A lane splits what it has loaded,
// and products of one significance have one accumulator: 2^0, 2^8, 2^16. Sums wrap in 32 bits. The proof at load time bounds the sum of
// magnitudes, so that the total fits, and so does the part of it that one warp makes.
//
// Channel 8 q + i of a chunk is element 4 q + i of the k axis for i < 4, 16 + 4 q + i - 4 otherwise: a lane's bytes are 16 consecutive
// bytes of memory. Output 8 q + 2 t + j of a warp is column 2 q + j of its tile t: a lane stores 8 consecutive outputs.
#pragma once
#include "layer.h"

#define STAGES 3
#define TILES_M 2
#define TILES_N 4

// Position of an output of this block's tile; negative where the map has none.
DEVICE i32 position_of(const LayerArgs &a, Place tile, i32 i) {
    const i32 row = tile.row + (i >> 4), col = tile.col + (i & 15);
    const i32 position = a.pitch == 0 ? tile.row + i : row * a.out_width + col;
    return position < a.end && (a.pitch == 0 || col < a.out_width) ? position : -1;
}

// The first output of this block: row and column; of a run, its position.
DEVICE Place tile_of(const LayerArgs &a) {
    const i32 block = blockIdx.x;
    if (a.pitch == 0) return {a.first + block * 32 * a.warps_m, 0};
    const i32 across = (a.out_width + 15) >> 4, down = block / across;
    return {a.first / a.out_width + down * 2 * a.warps_m, (block - down * across) * 16};
}

// Position in the inputs of an element of the patch; negative outside, and where only outputs beyond the last row would read it: of a
// strip, the inputs may not have it.
DEVICE i32 source_of(const LayerArgs &a, Place tile, i32 i) {
    if (a.pitch == 0) return position_of(a, tile, i);
    const i32 down = i / a.pitch, across = i - down * a.pitch, left = a.half == HALF_NONE ? tile.col : 2 * tile.col;
    // Without neighbours, what is read lies `stride` apart, and is all of the patch.
    const i32 apart = a.side == 1 ? a.stride : 1;
    const Place at = {a.stride * tile.row + apart * down - a.side / 2, a.stride * left + apart * across - a.side / 2};
    const bool is_read = at.row <= a.stride * (a.end / a.out_width - 1) + a.side / 2;
    return is_read && is_inside(a, at) ? at.row * a.in_width + at.col : -1;
}

// Element of the patch that the first tap of an output reads.
DEVICE i32 patch_of(const LayerArgs &a, Place tile, i32 i) {
    if (a.pitch == 0) return i;
    const i32 apart = a.side == 1 ? 1 : a.stride;
    return apart * ((i >> 4) * a.pitch + column_of(a.half, tile.row + (i >> 4), i & 15));
}

// Eight channels that are not aligned, or not all there.
NOINLINE void copy_slowly(i16 *to, const i16 *from, i32 count) {
    ROLLED for (i32 i = 0; i < 8; ++i) to[i] = i < count ? from[i] : (i16)0;
}

// Copies a patch, or one for each chunk of a step of a layer without neighbours.
DEVICE void copy_patch(const LayerArgs &a, const Step &s, const i32 *sources, i16 *to) {
    const Term &t = a.terms[s.term];
    const i32 part = 8 * (threadIdx.x & 3), stride = a.strides[s.term], chunks = a.side == 1 ? s.count : 1;
    const bool is_aligned = ((stride | t.first | t.channels) & 7) == 0;
    const i16 *input = a.inputs[s.term] + t.first + s.channel + part;
    ROLLED for (i32 chunk = 0; chunk < chunks; ++chunk) {
        const i32 left = t.channels - s.channel - part - 32 * chunk;
        for (i32 i = (i32)threadIdx.x >> 2; i < a.patch; i += (i32)blockDim.x >> 2) {
            const i32 source = sources[i];
            const bool inside = source >= 0 && left > 0;
            i16 *into = to + (chunk * a.patch + i) * 32 + part;
            // Where nothing is read, the address is still one of memory, and aligned.
            const i16 *from = inside ? input + 32 * chunk + (i64)source * stride : (const i16 *)a.weights;
            if (is_aligned) copy_async(into, from, inside);
            else copy_slowly(into, from, inside ? left : 0);
        }
    }
}

// Copies the weights of a step, of this block's outputs.
template <i32 PLANES, i32 BLOCKS> DEVICE void copy_weights(const LayerArgs &a, const Step &s, const char *from, u32 *to) {
    const i32 pieces = a.warps_n * BLOCKS * PLANES * 64;
    ROLLED for (i32 group = 0; group < s.count; ++group) {
        for (i32 i = threadIdx.x; i < pieces; i += (i32)blockDim.x) copy_async(to + 4 * i, from + 16 * i, true);
        from += (i64)a.columns * PLANES * 32;
        to += 4 * pieces;
    }
}

// Low and high bytes of eight activations, as k elements of a lane.
struct Bytes {
    u32 low[2], high[2];
};
DEVICE Bytes split(const i16 *from) {
    const Vec16 v = *(const Vec16 *)from;
    return {{choose_bytes(v.x, v.y, 0x6420), choose_bytes(v.z, v.w, 0x6420)},
            {choose_bytes(v.x, v.y, 0x7531), choose_bytes(v.z, v.w, 0x7531)}};
}

// By significance: 2^0, 2^8, 2^16.
template <i32 PLANES, i32 BLOCKS> struct Accumulators {
    i32 of[PLANES + 1][TILES_M][TILES_N * BLOCKS][4];
};

// Where a warp's activations of a group are: of outputs `group` and `group + 8` of each tile.
struct Rows {
    const i16 *from[TILES_M];
    i32 further;
};

// How products are made.
struct Mma {};
struct Dot {};

#if defined(MLIC_MMA)
// One group of a warp on tensor cores.
template <i32 PLANES, i32 BLOCKS, bool WIDE>
DEVICE void multiply_mma(const Rows &rows, const u32 *columns, Accumulators<PLANES, BLOCKS> &sums) {
    const i32 lane = threadIdx.x & 31, quad = lane & 3;
    u32 low[TILES_M][4], high[TILES_M][4];
    UNROLL for (i32 m = 0; m < TILES_M; ++m) {
        const Bytes top = split(rows.from[m] + 8 * quad), bottom = split(rows.from[m] + rows.further + 8 * quad);
        UNROLL for (i32 i = 0; i < 2; ++i) {
            low[m][2 * i] = top.low[i], low[m][2 * i + 1] = bottom.low[i];
            high[m][2 * i] = top.high[i], high[m][2 * i + 1] = bottom.high[i];
        }
    }
    UNROLL for (i32 pair = 0; pair < TILES_N * BLOCKS / 2; ++pair) {
        const u32 *of = columns + (pair >> 1) * PLANES * 256 + (pair & 1) * 128 + 4 * lane;
        const Vec16 first = *(const Vec16 *)of, second = *(const Vec16 *)(of + (PLANES - 1) * 256);
        const u32 b[2][2] = {{first.x, first.y}, {first.z, first.w}}, c[2][2] = {{second.x, second.y}, {second.z, second.w}};
        // Products that go to one accumulator are far apart: each waits for the one before.
        UNROLL for (i32 product = 0; product < 4; ++product)
            UNROLL for (i32 m = 0; m < TILES_M; ++m)
                UNROLL for (i32 i = 0; i < 2; ++i) {
                    const i32 n = 2 * pair + i;
                    i32(&d0)[4] = sums.of[0][m][n], (&d1)[4] = sums.of[1][m][n], (&d2)[4] = sums.of[PLANES][m][n];
                    if (PLANES == 1 && WIDE) {
                        if (product == 0) mma_u8s8(d0, low[m], b[i][0], b[i][1]);
                        if (product == 1) mma_s8s8(d1, high[m], b[i][0], b[i][1]);
                    } else if (PLANES == 1) {
                        if (product == 0) mma_s8s8(d0, low[m], b[i][0], b[i][1]);
                    } else if (WIDE) {
                        if (product == 0) mma_u8s8(d1, low[m], b[i][0], b[i][1]);
                        if (product == 1) mma_u8u8(d0, low[m], c[i][0], c[i][1]);
                        if (product == 2) mma_s8s8(d2, high[m], b[i][0], b[i][1]);
                        if (product == 3) mma_s8u8(d1, high[m], c[i][0], c[i][1]);
                    } else {
                        if (product == 0) mma_s8u8(d0, low[m], c[i][0], c[i][1]);
                        if (product == 1) mma_s8s8(d1, low[m], b[i][0], b[i][1]);
                    }
                }
    }
}
#endif

// The same with dp4a, for processors without mma.m16n8k32: every lane makes the elements that it would hold of the tiles.
template <i32 PLANES, bool WIDE> DEVICE void multiply_dot(const Rows &rows, const u32 *columns, Accumulators<PLANES, 1> &sums) {
    const i32 quad = threadIdx.x & 3;
    ROLLED for (i32 k = 0; k < 4; ++k) {
        Bytes a[TILES_M][2];
        UNROLL for (i32 m = 0; m < TILES_M; ++m)
            UNROLL for (i32 h = 0; h < 2; ++h) a[m][h] = split(rows.from[m] + h * rows.further + 8 * k);
        UNROLL for (i32 n = 0; n < TILES_N; ++n)
            UNROLL for (i32 j = 0; j < 2; ++j) {
                const u32 *b = columns + (n >> 1) * 128 + ((2 * quad + j) * 4 + k) * 4 + (n & 1) * 2, *c = b + (PLANES - 1) * 256;
                UNROLL for (i32 m = 0; m < TILES_M; ++m)
                    UNROLL for (i32 h = 0; h < 2; ++h)
                        UNROLL for (i32 i = 0; i < 2; ++i) {
                            const u32 low = a[m][h].low[i], high = a[m][h].high[i];
                            i32 &d0 = sums.of[0][m][n][2 * h + j], &d1 = sums.of[1][m][n][2 * h + j];
                            i32 &d2 = sums.of[PLANES][m][n][2 * h + j];
                            if (PLANES == 1 && WIDE) {
                                d0 = dot4_u8s8(low, b[i], d0);
                                d1 = dot4_s8s8(high, b[i], d1);
                            } else if (PLANES == 1) {
                                d0 = dot4_s8s8(low, b[i], d0);
                            } else if (WIDE) {
                                d0 = dot4_u8u8(low, c[i], d0);
                                d1 = dot4_s8u8(high, c[i], dot4_u8s8(low, b[i], d1));
                                d2 = dot4_s8s8(high, b[i], d2);
                            } else {
                                d0 = dot4_s8u8(low, c[i], d0);
                                d1 = dot4_s8s8(low, b[i], d1);
                            }
                        }
            }
    }
}

#if defined(MLIC_MMA)
template <i32 PLANES, i32 BLOCKS, bool WIDE>
DEVICE void multiply(Mma, const Rows &rows, const u32 *columns, Accumulators<PLANES, BLOCKS> &sums) {
    multiply_mma<PLANES, BLOCKS, WIDE>(rows, columns, sums);
}
#endif
template <i32 PLANES, i32 BLOCKS, bool WIDE>
DEVICE void multiply(Dot, const Rows &rows, const u32 *columns, Accumulators<PLANES, BLOCKS> &sums) {
    multiply_dot<PLANES, WIDE>(rows, columns, sums);
}

// Sums of a warp, in shared memory: they are touched once for each term, and would take half of the registers. Two outputs at a time, so
// that the lanes of a warp are side by side.
struct alignas(16) Pair {
    i64 of[2];
};
#define SUMS_LEN (2 * TILES_M * 4 * 32) // pairs of 32 outputs of a warp: rows, pairs of eight outputs, lanes
DEVICE Pair &sum_of(Pair *sums, i32 row, i32 pair) { return sums[(pair >> 2) * SUMS_LEN + 32 * (4 * row + (pair & 3))]; }
// Of a lane's eight outputs in each 32 of its warp.
DEVICE i32 output_of(i32 pair) { return 32 * (pair >> 2) + 2 * (pair & 3); }

template <i32 PLANES, i32 BLOCKS> DEVICE void clear(Accumulators<PLANES, BLOCKS> &sums) {
    UNROLL for (i32 p = 0; p <= PLANES; ++p)
        UNROLL for (i32 m = 0; m < TILES_M; ++m)
            UNROLL for (i32 n = 0; n < TILES_N * BLOCKS; ++n)
                UNROLL for (i32 i = 0; i < 4; ++i) sums.of[p][m][n][i] = 0;
}

// The biases, which one of the warps that share a tile adds.
template <i32 BLOCKS> DEVICE void start(const LayerArgs &a, i32 output, bool has_bias, Pair *sums) {
    UNROLL for (i32 i = 0; i < 4 * BLOCKS; ++i) {
        const i64 *from = a.bias + output + output_of(i);
        const Pair bias = {{has_bias ? from[0] : 0, has_bias ? from[1] : 0}};
        UNROLL for (i32 row = 0; row < 2 * TILES_M; ++row) sum_of(sums, row, i) = bias;
    }
}

// Adds a term's accumulators times its multipliers.
template <i32 PLANES, i32 BLOCKS> DEVICE void fold(const i32 *multipliers, const Accumulators<PLANES, BLOCKS> &of, Pair *sums) {
    UNROLL for (i32 n = 0; n < TILES_N * BLOCKS; ++n)
        UNROLL for (i32 row = 0; row < 2 * TILES_M; ++row) {
            Pair all = sum_of(sums, row, n);
            UNROLL for (i32 j = 0; j < 2; ++j) {
                u32 sum = 0;
                UNROLL for (i32 p = PLANES; p >= 0; --p) sum = (sum << 8) + (u32)of.of[p][row >> 1][n][2 * (row & 1) + j];
                all.of[j] += (i64)(i32)sum * multipliers[output_of(n) + j];
            }
            sum_of(sums, row, n) = all;
        }
}

// Of an output, before they were put in order for the shuffle.
DEVICE i32 channel_of(const LayerArgs &a, i32 output) {
    const i32 channels = a.outputs / 4;
    return a.shuffle ? 4 * (output % channels) + output / channels : output;
}

DEVICE void add_identities(const LayerArgs &a, i32 position, i32 output, i64 (&sums)[8]) {
    for (i32 term = 0; term < a.term_count; ++term) {
        const Term &t = a.terms[term];
        if (!t.identity) continue;
        const i16 *from = input_at(a, term, place_of(a, position)) + t.first;
        if (!a.shuffle && ((a.strides[term] | t.first | a.outputs) & 7) == 0) {
            if (output >= a.outputs) continue;
            const Vec16 v = *(const Vec16 *)(from + output);
            const u32 words[4] = {v.x, v.y, v.z, v.w};
            UNROLL for (i32 i = 0; i < 8; ++i)
                sums[i] += (i64)(i16)(words[i >> 1] >> (16 * (i & 1))) * t.multipliers[output + i];
        } else {
            // Rolled: a channel takes divisions. Without an index: the sums are in registers.
            ROLLED for (i32 i = 0; i < 8 && output + i < a.outputs; ++i) {
                const i64 product = (i64)from[channel_of(a, output + i)] * t.multipliers[output + i];
                UNROLL for (i32 j = 0; j < 8; ++j) sums[j] += i == j ? product : 0;
            }
        }
    }
}

// Eight outputs of a position that are neighbours in memory and activations.
DEVICE void store_together(const LayerArgs &a, i32 position, i32 output, const i64 (&sums)[8]) {
    u32 words[4] = {0, 0, 0, 0};
    const auto put = [&](i32 i, i32 value) { words[i >> 1] |= ((u32)value & 0xffffu) << (16 * (i & 1)); };
    if (a.epilogue == GELU) {
        UNROLL for (i32 i = 0; i < 8; ++i) put(i, finish_gelu(sums[i], a.shift, a.max, a.table, a.output));
    } else if (a.epilogue == LINEAR) {
        UNROLL for (i32 i = 0; i < 8; ++i) put(i, saturate(round_shift(sums[i], a.shift), a.max));
    } else {
        UNROLL for (i32 i = 0; i < 8; ++i) put(i, finish(a, position, output + i, sums[i]));
    }
    *(Vec16 *)((i16 *)a.out + index_of(a, position, output)) = {words[0], words[1], words[2], words[3]};
}

// Eight outputs of a position, all of one phase where they are shuffled.
DEVICE void store_eight(const LayerArgs &a, i32 position, i32 output, const i64 (&sums)[8]) {
    const bool is_activation = a.epilogue <= GELU || a.epilogue >= ROOT;
    if (is_activation && (a.outputs & (a.shuffle ? 31 : 7)) == 0) {
        if (output < a.outputs) store_together(a, position, output, sums);
        return;
    }
    // Rolled: storing one divides.
    ROLLED for (i32 i = 0; i < 8 && output + i < a.outputs; ++i) {
        i64 sum = 0;
        UNROLL for (i32 j = 0; j < 8; ++j) sum = i == j ? sums[j] : sum; // not an index: the sums are in registers
        store(a, position, output + i, finish(a, position, output + i, sum));
    }
}

// The bytes of shared memory that a layer has: positions of the patch in the inputs, patches, stages of weights.
struct Parts {
    i32 *sources;
    i16 *patches;
    u32 *stages;
    Pair *sums;
    i32 patch_len, stage_len; // elements
};
template <i32 PLANES, i32 BLOCKS, bool SINGLE> DEVICE Parts parts_of(const LayerArgs &a, char *shared) {
    const i32 patch_len = a.patch * 32 * (a.side == 1 ? a.groups : 1), stage_len = a.groups * a.warps_n * BLOCKS * PLANES * 256;
    i16 *patches = (i16 *)(shared + ((4 * a.patch + 15) & ~15));
    u32 *stages = (u32 *)(patches + a.patches * patch_len);
    // The sums of one term are made when all else has been read.
    Pair *sums = (Pair *)(SINGLE ? shared : (char *)(stages + STAGES * stage_len));
    return {(i32 *)shared, patches, stages, sums, patch_len, stage_len};
}

// SINGLE: one term has weights, and its sums are made when they are stored.
template <class How, i32 PLANES, i32 BLOCKS, bool SINGLE> DEVICE void dense(const LayerArgs &a, char *shared) {
    const Parts parts = parts_of<PLANES, BLOCKS, SINGLE>(a, shared);
    const i32 warp = (i32)threadIdx.x >> 5, group = ((i32)threadIdx.x & 31) >> 2, quad = threadIdx.x & 3, tiles = a.warps_m * a.warps_n;
    const i32 warp_k = warp / tiles, own = warp - warp_k * tiles, warp_m = own / a.warps_n, warp_n = own - warp_m * a.warps_n;
    const i32 width = a.warps_n * BLOCKS, column = (i32)blockIdx.y * width * 32, output = column + 32 * BLOCKS * warp_n + 8 * quad;
    const Place tile = tile_of(a);
    for (i32 i = threadIdx.x; i < a.patch; i += (i32)blockDim.x) parts.sources[i] = source_of(a, tile, i);
    Rows first;
    UNROLL for (i32 m = 0; m < TILES_M; ++m) first.from[m] = parts.patches + patch_of(a, tile, 32 * warp_m + 16 * m + group) * 32;
    first.further = (a.half != HALF_NONE || (a.side > 1 && a.stride == 2) ? 16 : 8) * 32;

    Accumulators<PLANES, BLOCKS> products;
    Pair *const sums = parts.sums + warp * BLOCKS * SUMS_LEN + (threadIdx.x & 31);
    clear(products);
    if (!SINGLE) start<BLOCKS>(a, output, warp_k == 0, sums);
    __syncthreads();

    // The list ends with empty steps, so that reading ahead needs no bounds.
    const Step *steps = a.steps;
    const char *weights = (const char *)a.weights + (i64)column * PLANES * 32;
    i32 write_patch = -1, write_stage = 0, read_patch = -1, read_stage = 0;
    const auto copy = [&](const Step &s) {
        if (s.flags & NEW_PATCH) {
            write_patch = write_patch + 1 == a.patches ? 0 : write_patch + 1;
            copy_patch(a, s, parts.sources, parts.patches + write_patch * parts.patch_len);
        }
        copy_weights<PLANES, BLOCKS>(a, s, weights, parts.stages + write_stage * parts.stage_len);
        weights += (i64)s.count * a.columns * PLANES * 32;
        write_stage = write_stage + 1 == STAGES ? 0 : write_stage + 1;
        copy_commit();
    };
    ROLLED for (i32 i = 0; i < STAGES - 1; ++i) copy(steps[i]);
    Step now = steps[0], ahead = steps[STAGES - 1];
    for (i32 i = 0; i < a.step_count; ++i) {
        copy_wait();
        __syncthreads();
        copy(ahead);
        const Step s = now;
        // Early: what they are needed for comes after the products.
        now = steps[i + 1];
        ahead = steps[i + STAGES];
        if (s.flags & NEW_PATCH) read_patch = read_patch + 1 == a.patches ? 0 : read_patch + 1;
        const i16 *patch = parts.patches + read_patch * parts.patch_len;
        const u32 *columns = parts.stages + read_stage * parts.stage_len + warp_n * BLOCKS * PLANES * 256;
        ROLLED for (i32 k = warp_k; k < s.count; k += a.warps_k) {
            const i32 tap = s.tap + k, down = tap * a.side_inverse >> 16;
            const i32 offset = (a.side == 1 ? k * a.patch : down * (a.pitch - a.side) + tap) * 32 + (i32)(patch - parts.patches);
            Rows rows = first;
            UNROLL for (i32 m = 0; m < TILES_M; ++m) rows.from[m] += offset;
            const u32 *of = columns + k * width * PLANES * 256;
            if (s.flags & WIDE_TERM) multiply<PLANES, BLOCKS, true>(How(), rows, of, products);
            else multiply<PLANES, BLOCKS, false>(How(), rows, of, products);
        }
        if (!SINGLE && (s.flags & END_OF_TERM)) {
            fold(a.terms[s.term].multipliers + output, products, sums);
            clear(products);
        }
        read_stage = read_stage + 1 == STAGES ? 0 : read_stage + 1;
    }
    if (SINGLE) {
        __syncthreads();
        start<BLOCKS>(a, output, warp_k == 0, sums);
        fold(a.terms[steps[0].term].multipliers + output, products, sums);
    }
    if (a.warps_k > 1) __syncthreads();
    // Rolled: the epilogue is long.
    ROLLED for (i32 i = warp_k; i < 2 * TILES_M * BLOCKS; i += a.warps_k) {
        const i32 row = i & (2 * TILES_M - 1), block = i / (2 * TILES_M);
        const i32 position = position_of(a, tile, 32 * warp_m + 8 * row + group);
        if (position < 0) continue;
        i64 all[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        ROLLED for (i32 k = 0; k < a.warps_k; ++k) {
            Pair *const of = parts.sums + (k * tiles + own) * BLOCKS * SUMS_LEN + (threadIdx.x & 31);
            UNROLL for (i32 pair = 0; pair < 4; ++pair)
                UNROLL for (i32 j = 0; j < 2; ++j) all[2 * pair + j] += sum_of(of, row, 4 * block + pair).of[j];
        }
        add_identities(a, position, output + 32 * block, all);
        store_eight(a, position, output + 32 * block, all);
    }
}
