// The integer operators of the entropy networks (SPEC 4) for a GPU: every entry point. No float instruction comes of this file.
#include "attention.h"
#include "dense.h"
#include "depthwise.h"
#include "elementwise.h"

// A GPU has one of the two kinds of dense layers; the other is there and does nothing.
#define LAYER(how, planes, blocks, single)                                                                              \
    DYNAMIC_SHARED(shared);                                                                                             \
    dense<how, planes, blocks, single>(a, (char *)shared);
#if defined(MLIC_MMA)
#define MMA_LAYER(planes, blocks, single) LAYER(Mma, planes, blocks, single)
#else
#define MMA_LAYER(planes, blocks, single)
#endif
#if !defined(MLIC_MMA) || defined(MLIC_EMULATED)
#define DOT_LAYER(planes, single) LAYER(Dot, planes, 1, single)
#else
#define DOT_LAYER(planes, single)
#endif
// Threads: as many as the registers of a multiprocessor suffice for, without spills.
KERNEL(512) mlic_dense_mma_bytes(const LayerArgs a) { MMA_LAYER(1, 1, false) }
KERNEL(512) mlic_dense_mma_bytes_single(const LayerArgs a) { MMA_LAYER(1, 1, true) }
KERNEL(384) mlic_dense_mma_bytes_single_broad(const LayerArgs a) { MMA_LAYER(1, 2, true) }
KERNEL(384) mlic_dense_mma_words(const LayerArgs a) { MMA_LAYER(2, 1, false) }
KERNEL(384) mlic_dense_mma_words_single(const LayerArgs a) { MMA_LAYER(2, 1, true) }
KERNEL(512) mlic_dense_dot_bytes(const LayerArgs a) { DOT_LAYER(1, false) }
KERNEL(512) mlic_dense_dot_bytes_single(const LayerArgs a) { DOT_LAYER(1, true) }
KERNEL(384) mlic_dense_dot_words(const LayerArgs a) { DOT_LAYER(2, false) }
KERNEL(384) mlic_dense_dot_words_single(const LayerArgs a) { DOT_LAYER(2, true) }
KERNEL(256) mlic_depthwise(const LayerArgs a) { depthwise(a); }
KERNEL(256) mlic_quantize(const QuantizeArgs a) { quantize(a); }
KERNEL(256) mlic_samples(const SamplesArgs a) { samples(a); }
KERNEL(256) mlic_pack(const MoveArgs a) { pack(a); }
KERNEL(256) mlic_unpack(const MoveArgs a) { unpack(a); }
KERNEL(256) mlic_merge(const MoveArgs a) { merge(a); }
KERNEL(256) mlic_shuffle(const MoveArgs a) { shuffle(a); }
KERNEL(256) mlic_add(const AddArgs a) { add(a); }
KERNEL(256) mlic_parameters(const ParametersArgs a) { parameters(a); }
KERNEL(256) mlic_squares(const SquaresArgs a) { squares(a); }
KERNEL(256) mlic_place(const PlaceArgs a) { place(a); }
KERNEL(256) mlic_fill(const FillArgs a) { fill(a); }
KERNEL(256) mlic_norm(const NormArgs a) { norm(a); }
KERNEL(64) mlic_attention_largest(const LinearArgs a) { attention_largest(a); }
KERNEL(256) mlic_attention_sum(const LinearArgs a) { attention_sum(a); }
KERNEL(256) mlic_attention_divide(const LinearArgs a) { attention_divide(a); }
KERNEL(256) mlic_attention_apply(const LinearArgs a) { attention_apply(a); }
KERNEL(128) mlic_window_attention(const WindowArgs a) {
    DYNAMIC_SHARED(shared);
    window_attention(a, shared);
}

// The layouts that args.rs declares too.
static_assert(sizeof(Term) == 32 && sizeof(Step) == 16 && sizeof(LayerArgs) == 960 && sizeof(QuantizeArgs) == 48 && sizeof(MoveArgs) == 48, "args.rs");
static_assert(sizeof(AddArgs) == 40 && sizeof(ParametersArgs) == 48 && sizeof(FillArgs) == 24 && sizeof(NormArgs) == 32, "args.rs");
static_assert(sizeof(LinearArgs) == 120 && sizeof(WindowArgs) == 96 && sizeof(SquaresArgs) == 32 && sizeof(PlaceArgs) == 40, "args.rs");
static_assert(sizeof(SamplesArgs) == 40, "args.rs");
