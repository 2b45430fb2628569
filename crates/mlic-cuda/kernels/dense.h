// Dense layers as implicit matrix products on bytes (SPEC 4.2).
//
// A block makes `warps_m * 32` positions by `warps_n * 32` outputs; a warp 32 x 32, as 2 x 4 tiles of mma.m16n8k32. The k axis is
// walked in steps of 32 channels of one tap of one term. Per step the block copies 32 channels of each of its positions (16-bit, as
// they are) and the packed weights of its columns to shared memory, three steps in flight. Activations beyond a byte are two
// products: an unsigned low and a signed high byte; so are weights, whose high bytes come first: their sums are shifted before the
// low ones are added. Sums wrap in 32 bits, and the proof at load time says that the total fits.
//
// Channel 8 q + i of a chunk is element 4 q + i of the k axis for i < 4, 16 + 4 q + i - 4 otherwise: a lane's bytes are 16 consecutive
// bytes of memory. Output 8 q + 2 t + j of a warp is column 2 q + j of its tile t: a lane stores 8 consecutive outputs.
#pragma once
#include "layer.h"

#define STAGES 3
#define TILE_ROWS 128
#define TILE_COLUMNS 96
#define MAX_PLACES 4 // rows of the tile that a thread copies

struct alignas(16) Stage {
    i16 rows[TILE_ROWS * 32];
    u32 columns[TILE_COLUMNS * 8];
};

// What the next copy brings: a chunk of a tap of a plane of weights of a term.
struct Step {
    i32 term, plane, row, col, chunk;
    i64 index; // steps of this term before
};
DEVICE void skip_identities(const LayerArgs &a, Step &s) {
    while (s.term < a.term_count && a.terms[s.term].identity) ++s.term;
}
DEVICE void advance(const LayerArgs &a, Step &s) {
    ++s.index;
    if (++s.chunk < a.terms[s.term].chunks) return;
    s.chunk = 0;
    if (++s.col < a.side) return;
    s.col = 0;
    if (++s.row < a.side) return;
    s.row = 0;
    if (++s.plane < a.terms[s.term].planes) return;
    s = {s.term + 1, 0, 0, 0, 0, 0};
    skip_identities(a, s);
}

// Eight channels that are not aligned, or not all there.
NOINLINE void copy_slowly(i16 *to, const i16 *from, i32 count) {
    ROLLED for (i32 i = 0; i < 8; ++i) to[i] = i < count ? from[i] : (i16)0;
}

// Where a thread copies from: kept while only the chunk changes.
struct Cursor {
    Step step;
    const i16 *from[MAX_PLACES]; // this thread's part of each of its rows at this tap; none outside the map
    const char *weights;
    i32 channels; // of the term, from this thread's part on
    bool is_aligned;
};

// Finds the rows of the step's tap. `places` are those of this thread's rows.
DEVICE void seek(const LayerArgs &a, Cursor &c, const Place *places, i32 first, i32 column) {
    const Step &s = c.step;
    const Term &t = a.terms[s.term];
    const i32 part = 8 * (threadIdx.x & 3);
    c.weights = (const char *)t.weights + (s.index * a.columns + column) * 32;
    c.channels = t.channels - part;
    c.is_aligned = ((a.strides[s.term] | t.first | t.channels) & 7) == 0;
    UNROLL for (i32 i = 0; i < MAX_PLACES; ++i) {
        const i32 row = (threadIdx.x >> 2) + i * (blockDim.x >> 2);
        const Place at = {places[i].row + s.row - a.side / 2, places[i].col + s.col - a.side / 2};
        c.from[i] = first + row < a.end && is_inside(a, at) ? input_at(a, s.term, at) + t.first + part : nullptr;
    }
}

// A block's copies of one step; the cursor moves to the next.
DEVICE void copy_step(const LayerArgs &a, Cursor &c, const Place *places, i32 first, i32 rows, i32 column, Stage &to) {
    if (c.step.term >= a.term_count) return;
    if (c.step.chunk == 0) seek(a, c, places, first, column);
    const i32 threads = blockDim.x, channel = 32 * c.step.chunk, left = c.channels - channel;
    UNROLL for (i32 i = 0; i < MAX_PLACES; ++i) {
        const i32 row = (threadIdx.x >> 2) + i * (threads >> 2);
        if (row >= rows) break;
        const bool inside = c.from[i] != nullptr && left > 0;
        i16 *into = to.rows + row * 32 + 8 * (threadIdx.x & 3);
        // Where nothing is read, the address is still one of memory, and aligned.
        const i16 *from = inside ? c.from[i] + channel : (const i16 *)c.weights;
        if (c.is_aligned) copy_async(into, from, inside);
        else copy_slowly(into, from, inside ? left : 0);
    }
    for (i32 i = threadIdx.x; i < a.warps_n * 64; i += threads) copy_async(to.columns + 4 * i, c.weights + 16 * i, true);
    c.weights += (i64)a.columns * 32;
    advance(a, c.step);
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

#define TILES_M 2
#define TILES_N 4
typedef i32 Accumulators[TILES_M][TILES_N][4];

#if defined(MLIC_MMA)
// One step of a warp on tensor cores. `rows` and `columns` are the warp's.
DEVICE void multiply_mma(const i16 *rows, const u32 *columns, bool wide, bool low_plane, Accumulators &low, Accumulators &high) {
    const i32 lane = threadIdx.x & 31, group = lane >> 2, quad = lane & 3;
    const Vec16 b01 = *(const Vec16 *)(columns + 4 * lane), b23 = *(const Vec16 *)(columns + 128 + 4 * lane);
    const u32 b[TILES_N][2] = {{b01.x, b01.y}, {b01.z, b01.w}, {b23.x, b23.y}, {b23.z, b23.w}};
    UNROLL for (i32 m = 0; m < TILES_M; ++m) {
        const Bytes top = split(rows + (16 * m + group) * 32 + 8 * quad);
        const Bytes bottom = split(rows + (16 * m + group + 8) * 32 + 8 * quad);
        const u32 a_low[4] = {top.low[0], bottom.low[0], top.low[1], bottom.low[1]};
        const u32 a_high[4] = {top.high[0], bottom.high[0], top.high[1], bottom.high[1]};
        UNROLL for (i32 n = 0; n < TILES_N; ++n) {
            if (low_plane && wide) {
                mma_u8u8(low[m][n], a_low, b[n][0], b[n][1]);
                mma_s8u8(high[m][n], a_high, b[n][0], b[n][1]);
            } else if (low_plane) {
                mma_s8u8(low[m][n], a_low, b[n][0], b[n][1]);
            } else if (wide) {
                mma_u8s8(low[m][n], a_low, b[n][0], b[n][1]);
                mma_s8s8(high[m][n], a_high, b[n][0], b[n][1]);
            } else {
                mma_s8s8(low[m][n], a_low, b[n][0], b[n][1]);
            }
        }
    }
}
#endif

// The same with dp4a, for processors without mma.m16n8k32: every lane makes the elements that it would hold of the tiles.
DEVICE void multiply_dot(const i16 *rows, const u32 *columns, bool wide, bool low_plane, Accumulators &low, Accumulators &high) {
    const i32 lane = threadIdx.x & 31, group = lane >> 2, quad = lane & 3;
    ROLLED for (i32 k = 0; k < 4; ++k) {
        Bytes a[TILES_M][2];
        UNROLL for (i32 m = 0; m < TILES_M; ++m)
            UNROLL for (i32 h = 0; h < 2; ++h) a[m][h] = split(rows + (16 * m + group + 8 * h) * 32 + 8 * k);
        UNROLL for (i32 n = 0; n < TILES_N; ++n)
            UNROLL for (i32 j = 0; j < 2; ++j) {
                const u32 *b = columns + (n >> 1) * 128 + ((2 * quad + j) * 4 + k) * 4 + (n & 1) * 2;
                UNROLL for (i32 m = 0; m < TILES_M; ++m)
                    UNROLL for (i32 h = 0; h < 2; ++h) {
                        i32 &d = low[m][n][2 * h + j], &e = high[m][n][2 * h + j];
                        if (low_plane && wide) {
                            d = dot4_u8u8(a[m][h].low[1], b[1], dot4_u8u8(a[m][h].low[0], b[0], d));
                            e = dot4_s8u8(a[m][h].high[1], b[1], dot4_s8u8(a[m][h].high[0], b[0], e));
                        } else if (low_plane) {
                            d = dot4_s8u8(a[m][h].low[1], b[1], dot4_s8u8(a[m][h].low[0], b[0], d));
                        } else if (wide) {
                            d = dot4_u8s8(a[m][h].low[1], b[1], dot4_u8s8(a[m][h].low[0], b[0], d));
                            e = dot4_s8s8(a[m][h].high[1], b[1], dot4_s8s8(a[m][h].high[0], b[0], e));
                        } else {
                            d = dot4_s8s8(a[m][h].low[1], b[1], dot4_s8s8(a[m][h].low[0], b[0], d));
                        }
                    }
            }
    }
}

// Sums of a lane: eight outputs of two rows of each tile.
typedef i64 Sums[TILES_M][2][8];

DEVICE void clear(Accumulators &low, Accumulators &high) {
    UNROLL for (i32 m = 0; m < TILES_M; ++m)
        UNROLL for (i32 n = 0; n < TILES_N; ++n)
            UNROLL for (i32 i = 0; i < 4; ++i) low[m][n][i] = high[m][n][i] = 0;
}

// What the high bytes of the weights gave, before the low ones.
DEVICE void scale(Accumulators &low, Accumulators &high) {
    UNROLL for (i32 m = 0; m < TILES_M; ++m)
        UNROLL for (i32 n = 0; n < TILES_N; ++n)
            UNROLL for (i32 i = 0; i < 4; ++i) {
                low[m][n][i] = (i32)((u32)low[m][n][i] << 8);
                high[m][n][i] = (i32)((u32)high[m][n][i] << 8);
            }
}

DEVICE void start(const LayerArgs &a, i32 output, Sums &sums) {
    UNROLL for (i32 m = 0; m < TILES_M; ++m)
        UNROLL for (i32 h = 0; h < 2; ++h)
            UNROLL for (i32 i = 0; i < 8; ++i) sums[m][h][i] = a.bias[output + i];
}

// Adds a term's accumulators times its multipliers.
DEVICE void fold(const i32 *multipliers, const Accumulators &low, const Accumulators &high, Sums &sums) {
    UNROLL for (i32 n = 0; n < TILES_N; ++n)
        UNROLL for (i32 j = 0; j < 2; ++j) {
            const i64 multiplier = multipliers[2 * n + j];
            UNROLL for (i32 m = 0; m < TILES_M; ++m)
                UNROLL for (i32 h = 0; h < 2; ++h) {
                    const i32 i = 2 * h + j;
                    sums[m][h][2 * n + j] += (i32)((u32)low[m][n][i] + ((u32)high[m][n][i] << 8)) * multiplier;
                }
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
        for (i32 i = output; i < output + 8 && i < a.outputs; ++i)
            sums[i - output] += (i64)from[channel_of(a, i)] * t.multipliers[i];
    }
}

// Eight outputs of a position, all of one phase where they are shuffled.
DEVICE void store_eight(const LayerArgs &a, i32 position, i32 output, const i64 (&sums)[8]) {
    i32 values[8];
    UNROLL for (i32 i = 0; i < 8; ++i) values[i] = finish(a, position, output + i, sums[i]);
    const bool is_activation = a.epilogue <= GELU || a.epilogue >= ROOT;
    if (is_activation && (a.outputs & (a.shuffle ? 31 : 7)) == 0) {
        if (output >= a.outputs) return;
        u32 words[4];
        UNROLL for (i32 i = 0; i < 4; ++i) words[i] = ((u32)values[2 * i] & 0xffffu) | ((u32)values[2 * i + 1] << 16);
        *(Vec16 *)((i16 *)a.out + index_of(a, position, output)) = {words[0], words[1], words[2], words[3]};
        return;
    }
    UNROLL for (i32 i = 0; i < 8; ++i)
        if (output + i < a.outputs) store(a, position, output + i, values[i]);
}

// SINGLE: one term has weights, and its sums are made when they are stored.
template <bool USE_MMA, bool SINGLE> DEVICE void dense(const LayerArgs &a, Stage *stages) {
    const i32 warp = threadIdx.x >> 5, group = (threadIdx.x & 31) >> 2, quad = threadIdx.x & 3;
    const i32 warps_m = (i32)(blockDim.x >> 5) / a.warps_n, warp_m = warp / a.warps_n, warp_n = warp - warp_m * a.warps_n;
    const i32 rows = 32 * warps_m, first = a.first + (i32)blockIdx.x * rows, column = blockIdx.y * a.warps_n * 32;
    const i32 output = column + 32 * warp_n + 8 * quad;
    Place places[MAX_PLACES];
    UNROLL for (i32 i = 0; i < MAX_PLACES; ++i) places[i] = place_of(a, first + (i32)(threadIdx.x >> 2) + i * (i32)(blockDim.x >> 2));

    Accumulators low, high;
    Sums sums;
    clear(low, high);
    if (!SINGLE) start(a, output, sums);

    Step now = {0, 0, 0, 0, 0, 0};
    skip_identities(a, now);
    const i32 only = now.term;
    Cursor next;
    next.step = now;
    ROLLED for (i32 i = 0; i < STAGES - 1; ++i) {
        copy_step(a, next, places, first, rows, column, stages[i]);
        copy_commit();
    }
    for (i32 read = 0, write = STAGES - 1; now.term < a.term_count;) {
        copy_wait();
        __syncthreads();
        copy_step(a, next, places, first, rows, column, stages[write]);
        copy_commit();
        const i16 *own_rows = stages[read].rows + warp_m * 32 * 32;
        const u32 *own_columns = stages[read].columns + warp_n * 256;
        const Term &t = a.terms[now.term];
#if defined(MLIC_MMA)
        if (USE_MMA) multiply_mma(own_rows, own_columns, t.wide != 0, now.plane == 1, low, high);
        else
#endif
            multiply_dot(own_rows, own_columns, t.wide != 0, now.plane == 1, low, high);
        const i32 term = now.term, plane = now.plane;
        advance(a, now);
        if (now.plane > plane) scale(low, high);
        if (!SINGLE && now.term != term) {
            fold(t.multipliers + output, low, high, sums);
            clear(low, high);
        }
        read = read + 1 == STAGES ? 0 : read + 1;
        write = write + 1 == STAGES ? 0 : write + 1;
    }
    if (SINGLE) {
        start(a, output, sums);
        fold(a.terms[only].multipliers + output, low, high, sums);
    }
    // Rolled: the sums lie in local memory anyway, touched once for each term, and the epilogue is long.
    ROLLED for (i32 i = 0; i < 2 * TILES_M; ++i) {
        const i32 m = i >> 1, h = i & 1, position = first + 32 * warp_m + 16 * m + 8 * h + group;
        if (position >= a.end) continue;
        add_identities(a, position, output, sums[m][h]);
        store_eight(a, position, output, sums[m][h]);
    }
}
