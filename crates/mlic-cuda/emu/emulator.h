// Runs the kernels of ../kernels on the host: what they compute is tested without a GPU. Nothing here says how a GPU behaves.
//
// Each CUDA thread of a block is a fiber; blocks run one after another. A kernel without barriers runs its threads as plain calls.
// MLIC_EMULATOR_SEED=n shuffles the order of the fibers at every round, so that a missing barrier shows as a changed result.
// g++ or clang++, C++20; one launch at a time (the driver holds a lock).
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#ifndef __SANITIZE_ADDRESS__
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define MLIC_EMULATED 1
#define MLIC_MMA 1
#define DEVICE static inline
#define NOINLINE static
#define KERNEL(threads) static void
#define SHARED static
#define DYNAMIC_SHARED(name) Vec16 *const name = (Vec16 *)emulator::state.shared.get()
#define UNROLL
#define ROLLED

namespace emulator {

constexpr size_t STACK = 256 << 10;

struct Dim {
    unsigned x, y, z;
};

// One lane's part of a matrix product.
struct Operands {
    int32_t *d;
    const uint32_t *a;
    uint32_t b[2];
};

// What is saved of something that does not run.
struct Context {
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t context;
#endif
};

struct Fiber {
    Context context;
    std::unique_ptr<char[]> stack;
    void *fake_stack = nullptr;
    Dim thread;
    unsigned index;
    bool done = true;
};

struct Warp {
    unsigned arrived, live;
    uint64_t generation;
    uint32_t slots[32];
    Operands operands[32];
};

struct State {
    Context scheduler;
    void *scheduler_fake_stack = nullptr;
    const void *scheduler_stack = nullptr;
    size_t scheduler_stack_size = 0;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Warp> warps;
    Fiber plain, *current = nullptr;
    Dim block, block_size, grid;
    unsigned arrived = 0, live = 0;
    uint64_t generation = 0, random = 0;
    bool may_wait = false, broken = false;
    const std::function<void()> *body = nullptr;
    std::unique_ptr<char[]> shared; // dynamic shared memory, as long as the launch says
};
inline State state;

#if defined(__x86_64__)
// Saves the registers that a call must keep and changes stacks: a few nanoseconds, where swapcontext makes two system calls.
extern "C" void emulator_switch(void **save, void *load);
asm(R"(
.text
.local emulator_switch
.type emulator_switch,@function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
inline void switch_to(Context &from, Context &to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }
inline void prepare(Context &context, char *stack, void (*entry)()) {
    void **top = (void **)(((uintptr_t)stack + STACK - 16) & ~(uintptr_t)15);
    top[0] = (void *)entry; // `ret` goes there, with the alignment of a call
    top[1] = nullptr;
    context.stack_pointer = top - 6;
}
#else
inline void switch_to(Context &from, Context &to) { swapcontext(&from.context, &to.context); }
inline void prepare(Context &context, char *stack, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = STACK;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}
#endif

#ifdef __SANITIZE_ADDRESS__
inline void leave(void **fake_stack, const void *stack, size_t size) { __sanitizer_start_switch_fiber(fake_stack, stack, size); }
inline void arrive(void *fake_stack, const void **stack, size_t *size) { __sanitizer_finish_switch_fiber(fake_stack, stack, size); }
#else
inline void leave(void **, const void *, size_t) {}
inline void arrive(void *, const void **, size_t *) {}
#endif

inline void to_scheduler(Fiber &me) {
    leave(&me.fake_stack, state.scheduler_stack, state.scheduler_stack_size);
    switch_to(me.context, state.scheduler);
    arrive(me.fake_stack, &state.scheduler_stack, &state.scheduler_stack_size);
}
inline void to_fiber(Fiber &f) {
    leave(&state.scheduler_fake_stack, f.stack.get(), STACK);
    switch_to(state.scheduler, f.context);
    arrive(state.scheduler_fake_stack, nullptr, nullptr);
}

inline void must_be_able_to_wait() {
    if (state.may_wait) return;
    fprintf(stderr, "emulator: a kernel that is listed as free of barriers has one\n");
    abort();
}
inline void wait_for_generation(const uint64_t &generation) {
    const uint64_t before = generation;
    while (generation == before) to_scheduler(*state.current);
}
inline Warp &warp() { return state.warps[state.current->index >> 5]; }
inline unsigned lane() { return state.current->index & 31; }

inline void block_barrier() {
    must_be_able_to_wait();
    if (++state.arrived < state.live) return wait_for_generation(state.generation);
    state.arrived = 0;
    ++state.generation;
}
template <class Last> void warp_barrier(Last last) {
    must_be_able_to_wait();
    Warp &w = warp();
    if (++w.arrived < w.live) return wait_for_generation(w.generation);
    last(w);
    w.arrived = 0;
    ++w.generation;
}

// A fiber runs one thread of one block after the other.
inline void fiber_main() {
    arrive(nullptr, &state.scheduler_stack, &state.scheduler_stack_size);
    for (;;) {
        Fiber *me = state.current;
        (*state.body)();
        me->done = true;
        Warp &w = warp();
        --state.live;
        --w.live;
        // Threads that have ended count as arrived.
        if (state.live && state.arrived == state.live) state.arrived = 0, ++state.generation;
        if (w.live && w.arrived == w.live) {
            fprintf(stderr, "emulator: a thread ended while its warp waits\n");
            state.broken = true;
        }
        to_scheduler(*me);
    }
}

inline std::unique_ptr<Fiber> new_fiber() {
    auto f = std::make_unique<Fiber>();
    f->stack.reset(new char[STACK]);
    prepare(f->context, f->stack.get(), fiber_main);
    return f;
}

inline Dim thread_of(unsigned i) {
    const Dim &b = state.block_size;
    return {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
}

inline void shuffle(std::vector<unsigned> &order) {
    if (!state.random) return;
    for (size_t i = order.size() - 1; i > 0; --i) {
        state.random ^= state.random << 13;
        state.random ^= state.random >> 7;
        state.random ^= state.random << 17;
        std::swap(order[i], order[state.random % (i + 1)]);
    }
}

// All threads until none can go on; false when they wait for each other.
inline bool run_rounds(std::vector<unsigned> &order) {
    auto progress = [] {
        uint64_t sum = state.generation - state.live;
        for (const Warp &w : state.warps) sum += w.generation;
        return sum;
    };
    while (state.live && !state.broken) {
        const uint64_t before = progress();
        shuffle(order);
        for (unsigned i : order)
            if (!state.fibers[i]->done) {
                state.current = state.fibers[i].get();
                to_fiber(*state.current);
            }
        if (progress() == before) return false;
    }
    return !state.broken;
}

inline bool run_block(unsigned threads) {
    while (state.fibers.size() < threads) state.fibers.push_back(new_fiber());
    state.arrived = 0;
    state.live = threads;
    state.warps.assign((threads + 31) / 32, Warp());
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) {
        Fiber &f = *state.fibers[i];
        f.done = false;
        f.index = i;
        f.thread = thread_of(i);
        ++state.warps[i >> 5].live;
        order[i] = i;
    }
    return run_rounds(order);
}

inline void run_plain(unsigned threads) {
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) order[i] = i;
    shuffle(order);
    state.current = &state.plain;
    for (unsigned i : order) {
        state.plain.index = i;
        state.plain.thread = thread_of(i);
        (*state.body)();
    }
}

// Runs a kernel; 719 (launch failure) when its threads wait for each other.
inline int launch(Dim grid, Dim block, unsigned shared, bool has_barriers, const std::function<void()> &body) {
    const char *seed = getenv("MLIC_EMULATOR_SEED");
    state.random = seed ? strtoull(seed, nullptr, 10) * 0x9E3779B97F4A7C15ull + 1 : 0;
    state.block_size = block;
    state.grid = grid;
    state.body = &body;
    state.shared.reset(new char[shared]);
    memset(state.shared.get(), 0xA5, shared);
    state.may_wait = has_barriers;
    const unsigned threads = block.x * block.y * block.z;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                state.block = {x, y, z};
                if (!has_barriers) {
                    run_plain(threads);
                } else if (!run_block(threads)) {
                    fprintf(stderr, "emulator: threads wait for each other\n");
                    state.fibers.clear();
                    state.broken = false;
                    return 719;
                }
            }
    return 0;
}

// mma.m16n8k32 by the fragment layout of the PTX ISA; the last lane to arrive computes for all.
template <class A, class B> void matrix_product(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    warp().operands[lane()] = {d, a, {b0, b1}};
    warp_barrier([](Warp &w) {
        int rows[16][32], columns[8][32];
        for (unsigned l = 0; l < 32; ++l)
            for (unsigned k = 0; k < 4; ++k) {
                const unsigned group = l >> 2, at = 4 * (l & 3) + k;
                for (unsigned i = 0; i < 4; ++i) rows[group + 8 * (i & 1)][at + 16 * (i >> 1)] = (A)(w.operands[l].a[i] >> 8 * k);
                for (unsigned i = 0; i < 2; ++i) columns[group][at + 16 * i] = (B)(w.operands[l].b[i] >> 8 * k);
            }
        for (unsigned l = 0; l < 32; ++l)
            for (unsigned i = 0; i < 4; ++i) {
                const int *row = rows[(l >> 2) + 8 * (i >> 1)], *column = columns[2 * (l & 3) + (i & 1)];
                int sum = 0;
                for (unsigned k = 0; k < 32; ++k) sum += row[k] * column[k];
                w.operands[l].d[i] = (int32_t)((uint32_t)w.operands[l].d[i] + (uint32_t)sum);
            }
    });
}

template <class A, class B> int32_t dot4(uint32_t a, uint32_t b, int32_t c) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) sum += (int)(A)(a >> 8 * i) * (int)(B)(b >> 8 * i);
    return (int32_t)((uint32_t)c + (uint32_t)sum);
}

} // namespace emulator

#define threadIdx (emulator::state.current->thread)
#define blockIdx (emulator::state.block)
#define blockDim (emulator::state.block_size)
#define gridDim (emulator::state.grid)

static inline void __syncthreads() { emulator::block_barrier(); }
static inline uint32_t __shfl_xor_sync(unsigned, uint32_t v, int mask) {
    emulator::warp().slots[emulator::lane()] = v;
    emulator::warp_barrier([](emulator::Warp &) {});
    const uint32_t r = emulator::warp().slots[emulator::lane() ^ (unsigned)mask];
    emulator::warp_barrier([](emulator::Warp &) {});
    return r;
}
static inline int atomicMax(int *p, int v) {
    const int old = *p;
    if (v > old) *p = v;
    return old;
}
static inline unsigned long long atomicAdd(unsigned long long *p, unsigned long long v) {
    const unsigned long long old = *p;
    *p += v;
    return old;
}
static inline int dot4_s8s8(uint32_t a, uint32_t b, int c) { return emulator::dot4<int8_t, int8_t>(a, b, c); }
static inline int dot4_u8s8(uint32_t a, uint32_t b, int c) { return emulator::dot4<uint8_t, int8_t>(a, b, c); }
static inline int dot4_s8u8(uint32_t a, uint32_t b, int c) { return emulator::dot4<int8_t, uint8_t>(a, b, c); }
static inline int dot4_u8u8(uint32_t a, uint32_t b, int c) { return emulator::dot4<uint8_t, uint8_t>(a, b, c); }
static inline uint32_t choose_bytes(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t both = (uint64_t)high << 32 | low;
    uint32_t r = 0;
    for (int i = 0; i < 4; ++i) r |= (uint32_t)(uint8_t)(both >> 8 * (selector >> 4 * i & 7)) << 8 * i;
    return r;
}
#define MLIC_MMA_FUNCTION(name, A, B)                                                                                   \
    static inline void name(int(&d)[4], const uint32_t(&a)[4], uint32_t b0, uint32_t b1) {                              \
        emulator::matrix_product<A, B>(d, a, b0, b1);                                                                   \
    }
MLIC_MMA_FUNCTION(mma_s8s8, int8_t, int8_t)
MLIC_MMA_FUNCTION(mma_u8s8, uint8_t, int8_t)
MLIC_MMA_FUNCTION(mma_s8u8, int8_t, uint8_t)
MLIC_MMA_FUNCTION(mma_u8u8, uint8_t, uint8_t)
static inline void copy_async(void *to, const void *from, bool inside) {
    if (inside) memcpy(to, from, 16);
    else memset(to, 0, 16);
}
static inline void copy_commit() {}
static inline void copy_wait() {}
