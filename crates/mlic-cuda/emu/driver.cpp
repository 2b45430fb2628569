// A libcuda.so.1 over the emulator: the entry points of the driver that the backend and cudarc call. For tests only.
//
// MLIC_EMULATOR_DRIVER=11030     version that the driver claims
// MLIC_EMULATOR_DEVICES=0        number of devices
// MLIC_EMULATOR_CAPABILITY=72    compute capability, major and minor
// MLIC_EMULATOR_MEMORY=1000000   bytes that can be allocated
// MLIC_EMULATOR_PROCESSORS=132   multiprocessors: tiles of layers depend on them
// MLIC_EMULATOR_INTEGRATED=1     whether its memory is the host's
// MLIC_EMULATOR_CUBIN=209        error that loading machine code gives
// MLIC_EMULATOR_PTX=222          error that loading PTX gives
#include "emulator.h"

#include "../kernels/exact.cu"

#include <map>
#include <mutex>

namespace {

using emulator::Dim;

struct Kernel {
    const char *name;
    size_t argument_size;
    unsigned threads; // the most in a block
    bool has_barriers;
    int (*run)(Dim, Dim, unsigned, const void *);
};

template <class A, void (*function)(A), bool has_barriers> int run(Dim grid, Dim block, unsigned shared, const void *argument) {
    A a;
    memcpy(&a, argument, sizeof a);
    return emulator::launch(grid, block, shared, has_barriers, [&] { function(a); });
}

#define PLAIN(name, A, threads) {#name, sizeof(A), threads, false, run<A, name, false>}
#define WAITS(name, A, threads) {#name, sizeof(A), threads, true, run<A, name, true>}
const Kernel KERNELS[] = {
    WAITS(mlic_dense_mma_bytes, LayerArgs, 512),
    WAITS(mlic_dense_mma_bytes_single, LayerArgs, 512),
    WAITS(mlic_dense_mma_bytes_single_broad, LayerArgs, 384),
    WAITS(mlic_dense_mma_words, LayerArgs, 384),
    WAITS(mlic_dense_mma_words_single, LayerArgs, 384),
    WAITS(mlic_dense_dot_bytes, LayerArgs, 512),
    WAITS(mlic_dense_dot_bytes_single, LayerArgs, 512),
    WAITS(mlic_dense_dot_words, LayerArgs, 384),
    WAITS(mlic_dense_dot_words_single, LayerArgs, 384),
    PLAIN(mlic_depthwise, LayerArgs, 256),
    PLAIN(mlic_quantize, QuantizeArgs, 256),
    PLAIN(mlic_samples, SamplesArgs, 256),
    PLAIN(mlic_pack, MoveArgs, 256),
    PLAIN(mlic_unpack, MoveArgs, 256),
    PLAIN(mlic_merge, MoveArgs, 256),
    PLAIN(mlic_shuffle, MoveArgs, 256),
    PLAIN(mlic_add, AddArgs, 256),
    PLAIN(mlic_parameters, ParametersArgs, 256),
    PLAIN(mlic_squares, SquaresArgs, 256),
    PLAIN(mlic_place, PlaceArgs, 256),
    PLAIN(mlic_fill, FillArgs, 256),
    WAITS(mlic_norm, NormArgs, 256),
    PLAIN(mlic_attention_largest, LinearArgs, 64),
    WAITS(mlic_attention_sum, LinearArgs, 256),
    PLAIN(mlic_attention_divide, LinearArgs, 256),
    WAITS(mlic_attention_apply, LinearArgs, 256),
    WAITS(mlic_window_attention, WindowArgs, 128),
};

// A kernel of a module that was loaded, and the most dynamic shared memory that it may have: more than the default it must be given.
constexpr unsigned SHARED_DEFAULT = 48 << 10;
struct Function {
    const Kernel *kernel;
    unsigned shared;
};
using Module = std::vector<Function>;

struct Launch {
    const Kernel *kernel;
    Dim grid, block;
    unsigned shared;
    std::vector<char> argument;
};
using Graph = std::vector<Launch>;

// CUDA_KERNEL_NODE_PARAMS
struct NodeParameters {
    const Function *function;
    Dim grid, block;
    unsigned shared;
    void **arguments, **extra;
};

bool can_launch(const Kernel &kernel, Dim grid, Dim block, unsigned shared, unsigned most) {
    const bool has_all = grid.x && grid.y && grid.z && block.x;
    return has_all && block.x * block.y * block.z <= kernel.threads && !(grid.x >> 31) && grid.y <= 65535 && grid.z <= 65535 && shared <= most;
}

std::mutex lock;
std::map<void *, size_t> allocated;
size_t in_use = 0;
int context, event, stream; // without state: work is done when it is queued

size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

int capability() { return (int)setting("MLIC_EMULATOR_CAPABILITY", 87); }

// The most shared memory that a block can be given, by the CUDA C++ Programming Guide.
unsigned shared_limit() {
    switch (capability()) {
    case 72: return 96 << 10;
    case 75: return 64 << 10;
    case 80: case 87: return 163 << 10;
    case 90: case 100: case 103: case 110: return 227 << 10;
    default: return 99 << 10; // 8.6, 8.9, 12.x
    }
}

int allocate(void **p, size_t n) {
    std::lock_guard guard(lock);
    if (n == 0) return 1;
    if (in_use + n > setting("MLIC_EMULATOR_MEMORY", size_t(4) << 30)) return 2;
    *p = malloc(n);
    if (!*p) return 2;
    memset(*p, 0xA5, n);
    allocated[*p] = n;
    in_use += n;
    return 0;
}

int release(void *p) {
    std::lock_guard guard(lock);
    const auto found = allocated.find(p);
    if (found == allocated.end()) return 1;
    in_use -= found->second;
    allocated.erase(found);
    free(p);
    return 0;
}

} // namespace

using Pointer = unsigned long long;
#define API extern "C" __attribute__((visibility("default"))) int

API cuInit(unsigned) { return setting("MLIC_EMULATOR_DEVICES", 1) ? 0 : 100; }
API cuDriverGetVersion(int *v) { return *v = (int)setting("MLIC_EMULATOR_DRIVER", 12060), 0; }
API cuDeviceGetCount(int *n) { return *n = (int)setting("MLIC_EMULATOR_DEVICES", 1), 0; }
API cuDeviceGet(int *d, int ordinal) { return *d = ordinal, ordinal < (int)setting("MLIC_EMULATOR_DEVICES", 1) ? 0 : 101; }
API cuDeviceGetName(char *s, int n, int) { return snprintf(s, (size_t)n, "emulated"), 0; }
API cuDeviceTotalMem_v2(size_t *n, int) { return *n = setting("MLIC_EMULATOR_MEMORY", size_t(4) << 30), 0; }
API cuDeviceGetAttribute(int *v, int attribute, int) {
    switch (attribute) {
    case 75: *v = capability() / 10; break;
    case 76: *v = capability() % 10; break;
    case 19: *v = 1; break; // host memory can be mapped
    case 18: *v = (int)setting("MLIC_EMULATOR_INTEGRATED", 0); break;
    case 16: *v = (int)setting("MLIC_EMULATOR_PROCESSORS", 1); break;
    case 10: *v = 32; break;
    case 1: *v = 1024; break;
    case 8: *v = SHARED_DEFAULT; break;
    case 97: *v = (int)shared_limit(); break;
    default: *v = 0; // no memory pools
    }
    return 0;
}
API cuDevicePrimaryCtxRetain(void **c, int) { return *c = &context, 0; }
API cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API cuCtxSetCurrent(void *) { return 0; }
API cuCtxGetCurrent(void **c) { return *c = &context, 0; }
API cuCtxSynchronize() { return 0; }
API cuGetErrorString(int e, const char **s) {
    *s = e == 2 ? "out of memory" : e == 100 ? "no CUDA-capable device is detected" : "emulated error";
    return 0;
}
API cuGetErrorName(int, const char **s) { return *s = "CUDA_ERROR_EMULATED", 0; }
API cuMemAlloc_v2(Pointer *p, size_t n) { return allocate((void **)p, n); }
API cuMemFree_v2(Pointer p) { return release((void *)p); }
API cuMemHostAlloc(void **p, size_t n, unsigned) { return allocate(p, n); }
API cuMemFreeHost(void *p) { return release(p); }
API cuMemHostGetDevicePointer_v2(Pointer *d, void *h, unsigned) { return *d = (Pointer)h, 0; }
API cuMemGetInfo_v2(size_t *free, size_t *total) {
    *total = setting("MLIC_EMULATOR_MEMORY", size_t(4) << 30);
    return *free = *total - in_use, 0;
}
API cuMemcpyHtoDAsync_v2(Pointer d, const void *s, size_t n, void *) { return memcpy((void *)d, s, n), 0; }
API cuMemcpyDtoHAsync_v2(void *d, Pointer s, size_t n, void *) { return memcpy(d, (void *)s, n), 0; }
API cuMemcpyDtoDAsync_v2(Pointer d, Pointer s, size_t n, void *) { return memcpy((void *)d, (void *)s, n), 0; }
API cuStreamCreate(void **s, unsigned) { return *s = &stream, 0; }
API cuStreamDestroy_v2(void *) { return 0; }
API cuStreamSynchronize(void *) { return 0; }
API cuStreamWaitEvent(void *, void *, unsigned) { return 0; }
API cuEventCreate(void **e, unsigned) { return *e = &event, 0; }
API cuEventRecord(void *, void *) { return 0; }
API cuEventQuery(void *) { return 0; }
API cuEventSynchronize(void *) { return 0; }
API cuEventElapsedTime(float *f, void *, void *) { return *f = 0, 0; }
API cuEventDestroy_v2(void *) { return 0; }
API cuModuleLoadData(void **m, const void *image) {
    const char *bytes = (const char *)image;
    if (!bytes || !*bytes) return 200;
    if (const int error = (int)setting(*bytes == 0x7F ? "MLIC_EMULATOR_CUBIN" : "MLIC_EMULATOR_PTX", 0)) return error;
    auto *module = new Module;
    for (const Kernel &k : KERNELS) module->push_back({&k, SHARED_DEFAULT});
    return *m = module, 0;
}
API cuModuleUnload(void *m) { return delete (Module *)m, 0; }
API cuModuleGetFunction(void **f, void *m, const char *name) {
    for (Function &function : *(Module *)m)
        if (!strcmp(function.kernel->name, name)) return *f = &function, 0;
    return 500;
}
API cuFuncSetAttribute(void *f, int attribute, int value) {
    switch (attribute) {
    case 8:
        if (value < 0 || (unsigned)value > shared_limit()) return 1;
        return ((Function *)f)->shared = (unsigned)value, 0;
    case 9: return value < -1 || value > 100; // percent of the first cache
    default: return 1;
    }
}
API cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *, void **p,
                   void **) {
    const auto &[kernel, most] = *(const Function *)f;
    if (!can_launch(*kernel, {gx, gy, gz}, {bx, by, bz}, shared, most)) return 1;
    std::lock_guard guard(lock);
    return kernel->run({gx, gy, gz}, {bx, by, bz}, shared, p[0]);
}
// Nothing captures a stream: a graph is made node by node, and each is behind the one before.
API cuGraphCreate(void **graph, unsigned) { return *graph = new Graph, 0; }
API cuGraphAddKernelNode(void **node, void *g, void *const *dependencies, size_t count, const NodeParameters *n) {
    auto &graph = *(Graph *)g;
    const auto &[kernel, most] = *n->function;
    if (!can_launch(*kernel, n->grid, n->block, n->shared, most)) return 1;
    if (count != !graph.empty() || (count && dependencies[0] != (void *)graph.size())) return 801;
    const char *argument = (const char *)n->arguments[0];
    graph.push_back({kernel, n->grid, n->block, n->shared, {argument, argument + kernel->argument_size}});
    return *node = (void *)graph.size(), 0;
}
API cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) { return *executable = new Graph(*(const Graph *)graph), 0; }
API cuGraphDestroy(void *graph) { return delete (Graph *)graph, 0; }
API cuGraphLaunch(void *executable, void *) {
    std::lock_guard guard(lock);
    for (const Launch &l : *(const Graph *)executable)
        if (const int error = l.kernel->run(l.grid, l.block, l.shared, l.argument.data())) return error;
    return 0;
}
API cuGraphExecDestroy(void *executable) { return delete (Graph *)executable, 0; }
