/*
 * Owns the walk through a launch, and a device that is the host (cuda_runtime.h). Environment, for
 * tests: SHIM_CUDA=none (no driver), old (an old driver), empty (no GPU), weak (compute capability
 * 7.5); SHIM_FAIL_AT=n: the n-th launch fails, and everything after it.
 *
 * Only the worker's thread launches, so that one set of fibers is enough. Threads go in the order
 * of their numbers in one launch and backwards in the next, so that a barrier that is missing shows
 * in one of them. Fresh memory is NaNs, as a device's is anything.
 *
 * A fiber begins by makecontext and lives on from block to block; from one to another a jump leads,
 * which, unlike swapcontext, asks nothing of the kernel: products meet a few million times.
 */
#include "tests/shim/cuda_runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- launches ---- */

static const size_t STACK = 128 << 10;
static const size_t DYNAMIC_MOST = 48 << 10;

struct fiber {
    std::vector<char> stack;
    void *place[5]; /* where it goes on, once it has begun */
    dim3 index;
    bool begun, ended, waits; /* at a barrier of the block */
    int operations;           /* of the warp, so far */
};

static std::vector<fiber> fibers;
static void *scheduler[5];
static size_t current;
static const std::function<void()> *body;
alignas(64) static char dynamic[DYNAMIC_MOST];
static cudaError_t failed;
static long launches;

float *shim_dynamic()
{
    return (float *)(void *)dynamic;
}

/* noipa: who calls these may have nothing in a register that they are not known to change. */
static __attribute__((noipa)) void jump(void *place[5])
{
    __builtin_longjmp(place, 1);
}

/* The running fiber stops until it is its turn again. */
static __attribute__((noipa)) void stop()
{
    if (!__builtin_setjmp(fibers[current].place))
        jump(scheduler);
}

void __syncthreads()
{
    fibers[current].waits = true;
    stop();
}

/* Operands of an operation of each warp's threads. They are read when all have been written, which
 * is when the thread goes on; the warp's next operation has the other half. */
static struct operands {
    char a[16][32], b[8][32]; /* a row of a, a column of b */
} warps[32][2];

template <class byte> static int32_t dot(const char *a, const char *b, int n, int32_t sum)
{
    for (int i = 0; i < n; i++)
        sum += (byte)a[i] * (int8_t)b[i];
    return sum;
}

template <class byte>
static void mma(const uint32_t a[4], const uint32_t b[2], const int32_t c[4], int32_t out[4])
{
    size_t me = current, g = me % 32 / 4, q = me % 4;
    struct operands *o = &warps[me / 32][fibers[me].operations++ % 2];
    for (size_t i = 0; i < 4; i++)
        memcpy(o->a[g + i % 2 * 8] + i / 2 * 16 + q * 4, &a[i], 4);
    for (size_t i = 0; i < 2; i++)
        memcpy(o->b[g] + i * 16 + q * 4, &b[i], 4);
    stop();
    for (size_t i = 0; i < 4; i++)
        out[i] = dot<byte>(o->a[g + i / 2 * 8], o->b[q * 2 + i % 2], 32, c[i]);
}

void mma_signed(const uint32_t a[4], const uint32_t b[2], const int32_t c[4], int32_t out[4])
{
    mma<int8_t>(a, b, c, out);
}

void mma_unsigned(const uint32_t a[4], const uint32_t b[2], const int32_t c[4], int32_t out[4])
{
    mma<uint8_t>(a, b, c, out);
}

int32_t dot_four(uint32_t a, uint32_t b, int32_t acc)
{
    return dot<uint8_t>((const char *)&a, (const char *)&b, 4, acc);
}

uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t which)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(both >> 8 * (which >> 4 * i & 7) & 255) << 8 * i;
    return out;
}

/* A fiber's life. */
static void begin()
{
    for (;;) {
        (*body)();
        fibers[current].ended = true;
        stop();
    }
}

/* Fiber i goes on until it stops. */
static __attribute__((noipa)) void go_on(size_t i)
{
    fiber &f = fibers[i];
    current = i;
    threadIdx = f.index;
    if (__builtin_setjmp(scheduler))
        return;
    if (f.begun)
        jump(f.place);
    ucontext_t context;
    f.begun = true;
    getcontext(&context);
    context.uc_stack.ss_sp = f.stack.data();
    context.uc_stack.ss_size = STACK;
    context.uc_link = NULL;
    makecontext(&context, begin, 0);
    setcontext(&context);
}

static dim3 index_of(size_t i)
{
    return dim3((unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x % blockDim.y),
                (unsigned)(i / blockDim.x / blockDim.y));
}

/* All threads up to where they meet, and on; from a barrier when all that are left have come. */
static void run_block(size_t threads)
{
    while (fibers.size() < threads) {
        fibers.push_back(fiber());
        fibers.back().stack.resize(STACK);
    }
    for (size_t i = 0; i < threads; i++) {
        fibers[i].index = index_of(i);
        fibers[i].ended = fibers[i].waits = false;
        fibers[i].operations = 0;
    }
    for (size_t left = threads; left > 0;) {
        bool ran = false;
        for (size_t at = 0; at < threads; at++) {
            size_t i = launches % 2 ? threads - 1 - at : at;
            if (fibers[i].ended || fibers[i].waits)
                continue;
            go_on(i);
            left -= fibers[i].ended;
            ran = true;
        }
        for (size_t i = 0; i < threads && !ran; i++)
            fibers[i].waits = false;
    }
}

void shim_launch(dim3 grid, dim3 block, size_t bytes, bool meets, const std::function<void()> &f)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    const char *at = getenv("SHIM_FAIL_AT");
    launches++;
    if (at && launches >= atol(at))
        failed = cudaErrorLaunchFailure;
    // what a GPU would refuse
    if (threads > 1024 || threads == 0 || bytes > DYNAMIC_MOST || grid.x == 0 || grid.y == 0 ||
        grid.y > 65535 || grid.z == 0 || grid.z > 65535 || grid.x > 0x7fffffffu)
        failed = cudaErrorLaunchFailure;
    if (failed)
        return;
    body = &f;
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                memset(dynamic, 0xff, bytes);
                if (meets) {
                    run_block(threads);
                    continue;
                }
                for (size_t i = 0; i < threads; i++) {
                    threadIdx = index_of(i);
                    f();
                }
            }
}

/* ---- the device ---- */

static bool is(const char *what)
{
    const char *v = getenv("SHIM_CUDA");
    return v && !strcmp(v, what);
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    default:
        return "an error";
    }
}

cudaError_t cudaGetLastError()
{
    return failed;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = is("none") ? 0 : is("old") ? 12020 : 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return is("old") ? cudaErrorInsufficientDriver : is("empty") ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device)
{
    (void)device;
    if (what == cudaDevAttrMultiProcessorCount)
        *value = 2; // so that a few tiles are many
    else
        *value = what == cudaDevAttrComputeCapabilityMajor ? (is("weak") ? 7 : 9)
                 : is("weak")                              ? 5
                                                           : 0;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    *left = *all = (size_t)1 << 30;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*p)
        return cudaErrorMemoryAllocation;
    if (bytes < (16 << 20))
        memset(*p, 0xff, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaMalloc(p, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(p, byte, bytes);
    return failed;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)kind;
    (void)stream;
    memcpy(to, from, bytes);
    return failed;
}

/* Handles are only looked at for being there. */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = (cudaStream_t)malloc(1);
    return *stream ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return failed;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    return cudaStreamCreateWithFlags(event, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    return cudaStreamDestroy(event);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)event;
    (void)stream;
    return failed;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return failed;
}
