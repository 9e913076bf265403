/*
 * Owns the walk through a launch, and a device that is the host (cuda_runtime.h). Environment, for
 * tests: SHIM_CUDA=none (no driver), old (an old driver), empty (no GPU), weak (compute capability
 * 7.5); SHIM_FAIL_AT=n: the n-th launch fails, and everything after it.
 *
 * Only the worker's thread launches, so that one set of fibers is enough. Threads go in the order
 * of their numbers in one launch and backwards in the next, so that a barrier that is missing shows
 * in one of them. Fresh memory is NaNs, as a device's is anything.
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
    ucontext_t context;
    std::vector<char> stack;
    dim3 index;
    bool ended;
};

static std::vector<fiber> fibers;
static ucontext_t scheduler;
static size_t current;
static const std::function<void()> *body;
alignas(64) static char dynamic[DYNAMIC_MOST];
static cudaError_t failed;
static long launches;

float *shim_dynamic()
{
    return (float *)(void *)dynamic;
}

void __syncthreads()
{
    swapcontext(&fibers[current].context, &scheduler);
}

static void begin()
{
    (*body)();
    fibers[current].ended = true;
}

static dim3 index_of(size_t i)
{
    return dim3((unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x % blockDim.y),
                (unsigned)(i / blockDim.x / blockDim.y));
}

/* All threads up to their first barrier, then up to the next, and so on. */
static void run_block(size_t threads)
{
    while (fibers.size() < threads) {
        fibers.push_back(fiber());
        fibers.back().stack.resize(STACK);
    }
    for (size_t i = 0; i < threads; i++) {
        fiber &f = fibers[i];
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = &scheduler;
        f.index = index_of(i);
        f.ended = false;
        makecontext(&f.context, begin, 0);
    }
    for (bool any = true; any;) {
        any = false;
        for (size_t i = 0; i < threads; i++) {
            current = launches % 2 ? threads - 1 - i : i;
            if (fibers[current].ended)
                continue;
            threadIdx = fibers[current].index;
            swapcontext(&scheduler, &fibers[current].context);
            any |= !fibers[current].ended;
        }
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
    *value = what == cudaDevAttrComputeCapabilityMajor ? (is("weak") ? 7 : 9) : is("weak") ? 5 : 0;
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
