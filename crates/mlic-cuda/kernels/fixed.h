// Fixed point arithmetic and functions of one number (SPEC 3, 4.3 to 4.5). Integers only.
#pragma once
#include "platform.h"

#define LATENT_MAX ((1 << 27) - 1)
#define LATENT_FRAC_BITS 12
#define PREACT_MAX ((1 << 30) - 1)
#define TABLE_END (8u << 14)
#define EXP_END (16 << 10)
#define LOGIT_MAX ((1 << 26) - 1)

// SPEC 3.1: to nearest, ties toward plus infinity.
DEVICE i64 round_shift(i64 v, i32 shift) { return shift == 0 ? v : (v + ((i64)1 << (shift - 1))) >> shift; }

// SPEC 3.2.
DEVICE i32 saturate(i64 v, i32 max) { return (i32)(v > max ? max : v < -(i64)max ? -(i64)max : v); }

// SPEC 3.3: floor((n + floor(d / 2)) / d), d positive.
DEVICE i64 divide(i64 n, i64 d) {
    const i64 m = n + d / 2, q = m / d;
    return m % d < 0 ? q - 1 : q;
}

// SPEC 3.4, for v below 2^63.
DEVICE u64 isqrt(u64 v) {
    u64 root = 0;
    for (u64 bit = (u64)1 << 62; bit != 0; bit >>= 2) {
        const bool fits = v >= root + bit;
        if (fits) v -= root + bit;
        root = (root >> 1) + (fits ? bit : 0);
    }
    return root;
}

// The same below 2^31: a quarter of the instructions.
DEVICE u32 isqrt_short(u32 v) {
    u32 root = 0;
    UNROLL for (i32 shift = 30; shift >= 0; shift -= 2) {
        const u32 bit = 1u << shift;
        const bool fits = v >= root + bit;
        v -= fits ? root + bit : 0;
        root = (root >> 1) + (fits ? bit : 0);
    }
    return root;
}

struct Requant {
    i32 multiplier, shift;
};
DEVICE i64 requant(Requant r, i64 v) { return round_shift(v * r.multiplier, r.shift); }

DEVICE i32 interpolate(const i16 *table, u32 magnitude) {
    const i32 k = (i32)(magnitude >> 8), fraction = (i32)(magnitude & 0xff);
    const i32 low = table[k], high = table[k + 1];
    return low + (((high - low) * fraction + 128) >> 8);
}

DEVICE u32 magnitude(i32 x) { return x < 0 ? 0u - (u32)x : (u32)x; }

// SPEC 4.3.
DEVICE i32 gelu(const i16 *table, i32 x) {
    const u32 a = magnitude(x);
    return (x > 0 ? x : 0) - (a < TABLE_END ? interpolate(table, a) : 0);
}

// SPEC 4.4.
DEVICE i32 half_tanh(const i16 *table, i32 x) {
    const u32 a = magnitude(x);
    const i32 u = a < TABLE_END ? interpolate(table, a) : table[512];
    return x < 0 ? -u : u;
}

struct ExpTables {
    const u16 *coarse, *fine;
};
// SPEC 4.5; d is not negative.
DEVICE i32 exp_neg(ExpTables t, i64 d) {
    if (d >= EXP_END) return 0;
    return (i32)(((u32)t.coarse[d >> 6] * (u32)t.fine[d & 63] + (1u << 14)) >> 15);
}
// SPEC 4.5: what an exponential is multiplied by to become a weight.
DEVICE i64 reciprocal(i64 sum) { return ((i64)1 << 40) / (sum > 0 ? sum : 1); }
DEVICE i32 weight(i32 exponential, i64 reciprocal) { return (i32)round_shift(exponential * reciprocal, 25); }

// SPEC 5.2: column of the map of the packed column; half 0 means that nothing is packed.
#define HALF_NONE 0
#define HALF_ANCHOR 1
#define HALF_NON_ANCHOR 2
DEVICE i32 column_of(i32 half, i32 row, i32 packed) {
    if (half == HALF_NONE) return packed;
    return 2 * packed + ((row + (half == HALF_ANCHOR ? 1 : 0)) & 1);
}
