// What the kernels need of the compiler: NVRTC or nvcc, or the host emulator (../emu/emulator.h).
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

struct alignas(16) Vec16 {
    u32 x, y, z, w;
};

#ifndef MLIC_EMULATED
#define DEVICE static __device__ __forceinline__
#define NOINLINE static __device__ __noinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define SHARED __shared__
#define DYNAMIC_SHARED(name) extern __shared__ Vec16 name[]
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

// Four products of bytes. Inline PTX: some NVRTC leave the intrinsic unresolved.
DEVICE i32 dot4_s8s8(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE i32 dot4_u8s8(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE i32 dot4_s8u8(u32 a, u32 b, i32 c) { return dot4_u8s8(b, a, c); }
DEVICE i32 dot4_u8u8(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// Bytes of two words chosen by a selector of four nibbles.
DEVICE u32 choose_bytes(u32 low, u32 high, u32 selector) {
    u32 d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(low), "r"(high), "r"(selector));
    return d;
}

#if __CUDA_ARCH__ >= 800
#define MLIC_MMA 1
#define MLIC_MMA_FUNCTION(name, a_type, b_type)                                                                         \
    DEVICE void name(i32(&d)[4], const u32(&a)[4], u32 b0, u32 b1) {                                                    \
        asm("mma.sync.aligned.m16n8k32.row.col.s32." a_type "." b_type                                                  \
            ".s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                                \
            : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])                                                            \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                            \
    }
MLIC_MMA_FUNCTION(mma_s8s8, "s8", "s8")
MLIC_MMA_FUNCTION(mma_u8s8, "u8", "s8")
MLIC_MMA_FUNCTION(mma_s8u8, "s8", "u8")
MLIC_MMA_FUNCTION(mma_u8u8, "u8", "u8")

// 16 bytes to shared memory without going through registers; zeros where `inside` is false (`from` is then not read).
DEVICE void copy_async(void *to, const void *from, bool inside) {
    u32 shared;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(shared) : "l"(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most one group is under way.
DEVICE void copy_wait() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }
#else
DEVICE void copy_async(void *to, const void *from, bool inside) {
    *(Vec16 *)to = inside ? *(const Vec16 *)from : Vec16{0, 0, 0, 0};
}
DEVICE void copy_commit() {}
DEVICE void copy_wait() {}
#endif
#endif
