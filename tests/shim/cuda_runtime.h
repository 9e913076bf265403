/*
 * As much of the CUDA runtime as the plug-in uses, on the host: memory is the host's, a stream does
 * at once what it is told, and a launch walks its blocks one by one. Threads of a block that meet
 * at barriers are fibers of one thread of the host (shim.cc); LAUNCH_FREE says that none waits, and
 * they are a loop. What a GPU decides by itself (scheduling, caches, ECC, the precision of its own
 * functions) is not here.
 */
#ifndef OFTD_TESTS_SHIM_CUDA_RUNTIME_H
#define OFTD_TESTS_SHIM_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <functional>

#define CUDART_VERSION 13000
#define __global__     static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SHARED        static
#define GRID_CONSTANT const
#define DYNAMIC(name) float *name = shim_dynamic()
#define DEVICE        static inline

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};

/* Two 16-bit words times the lower, or the upper, two bytes of b. */
static inline int __dp2a_lo(int a, int b, int c)
{
    return c + (int16_t)a * (int8_t)b + (int16_t)(a >> 16) * (int8_t)(b >> 8);
}
static inline int __dp2a_hi(int a, int b, int c)
{
    return __dp2a_lo(a, b >> 16, c);
}

/* The thread that is running. */
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
float *shim_dynamic();
void __syncthreads();
static inline void __syncwarp()
{
    // what threads of a warp do together meets by itself
}
uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t which);
int32_t dot_four(uint32_t a, uint32_t b, int32_t acc);
void mma_signed(const uint32_t a[4], const uint32_t b[2], const int32_t c[4], int32_t out[4]);
void mma_unsigned(const uint32_t a[4], const uint32_t b[2], const int32_t c[4], int32_t out[4]);
void shim_launch(dim3 grid, dim3 block, size_t bytes, bool meets, const std::function<void()> &f);

#define LAUNCH(kernel, grid, block, bytes, state, ...)                                             \
    ((void)(state), shim_launch(grid, block, bytes, true, [&] { kernel(__VA_ARGS__); }))
#define LAUNCH_FREE(kernel, grid, block, bytes, state, ...)                                        \
    ((void)(state), shim_launch(grid, block, bytes, false, [&] { kernel(__VA_ARGS__); }))

enum cudaError_t {
    cudaSuccess,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaDeviceAttr {
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrMultiProcessorCount
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
typedef struct shim_handle *cudaStream_t, *cudaEvent_t;

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device);
cudaError_t cudaMemGetInfo(size_t *left, size_t *all);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

#endif
