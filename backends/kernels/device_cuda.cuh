/*
 * What the files of the CUDA plug-in share: how a kernel is launched, the table's state, and
 * numbers. They also compile as plain C++ over tests/shim/cuda_runtime.h, which walks the blocks
 * and threads of a launch on the host: so what a kernel computes, and how its launch is cut, is
 * tested without a GPU. Hence two spellings here: LAUNCH (threads of a block meet at barriers) or
 * LAUNCH_FREE (none waits for another), and SHARED for a block's memory.
 *
 * Compiled with -fmad=false: a product is fused with a sum where the text says fmaf, and nowhere
 * else, so that the bits are the portable kernels'.
 */
#ifndef OFTD_BACKENDS_KERNELS_DEVICE_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_DEVICE_CUDA_CUH

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/kernels.h"

#ifdef __CUDACC__
#define SHARED __shared__
#define LAUNCH(kernel, grid, block, bytes, state, ...)                                             \
    kernel<<<grid, block, bytes, (state)->stream>>>(__VA_ARGS__)
#define LAUNCH_FREE   LAUNCH
#define DYNAMIC(name) extern __shared__ __align__(16) float name[]
#define GRID_CONSTANT const __grid_constant__
#define DEVICE        static __device__ __forceinline__

/* out [16, 8] = a [16, 32] b [32, 8] + c in integers, a warp's threads together: b's bytes have a
 * sign, a's have one or none. Which elements a thread has is the instruction's (PTX, mma.m16n8k32):
 * thread 4g + q of a rows g and g + 8, columns 4q to 4q + 3 and 16 more; of b column g, the same
 * rows; of c and out rows g and g + 8, columns 2q and 2q + 1. */
#define DEVICE_MMA(name, type)                                                                     \
    DEVICE void name(const uint32_t a[4], const uint32_t b[2], const int32_t c[4], int32_t out[4]) \
    {                                                                                              \
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." type ".s8.s32 "                      \
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"                   \
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]),           \
                       "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));                                \
    }
DEVICE_MMA(mma_signed, "s8")
DEVICE_MMA(mma_unsigned, "u8")

/* acc + the sum of four products of bytes, of which a's have no sign. */
DEVICE int32_t dot_four(uint32_t a, uint32_t b, int32_t acc)
{
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(acc) : "r"(a), "r"(b), "r"(acc));
    return acc;
}
#endif

/* Lists go to the device through a ring: the host's half is pinned, the device's is read by the
 * calls that were queued before the place comes round again. */
#define RING_BYTES  ((size_t)16 << 20)
#define PAGES_BYTES ((size_t)64 << 20) /* of the ring of passes: a quarter holds a pass's pages */
#define RING_PARTS  4
#define PARTS_BYTES ((size_t)128 << 20) /* attention over several spans, y, tables */
#define THREADS     256                 /* of a block, most */

/* Rows of one sequence that lie side by side. */
struct row_tile {
    int32_t row, rows;
};

/* The rows of the pass that began last, on the device. */
struct pass_rows {
    const struct kv_rows *of;
    const struct row_tile *tiles;    /* [rows] first those of one row, those of more at the end */
    const int32_t *positions, *ends; /* [rows] behind the last key */
    const int64_t *first_page;       /* [rows] where a row's pages begin in `pages` */
    const int32_t *pages;
    int32_t last;                  /* the greatest end */
    int32_t singles, others, most; /* tiles of one row, of more; rows of a tile */
};

struct ring {
    char *host, *device;
    size_t bytes, at;
    int part;
    cudaEvent_t done[RING_PARTS]; /* of the part's last copy */
};

struct kernels_state {
    int device, processors;
    cudaStream_t stream, copies; /* the worker's; everybody's uploads */
    void *copy_lock;             /* pthread_mutex_t: a copy and its wait */
    struct ring ring, pages;     /* lists of a call, of a pass */
    float *parts;                /* PARTS_BYTES: of what one call works on */
    struct pass_rows pass;
    int fault; /* atomic: 1: text is being written, 2: it is there */
    char text[256];
    char device_name[32], isa[16];
};

/* Notes the first error; what names the call. */
void device_note(struct kernels_state *s, cudaError_t error, const char *what);
/* The device is the calling thread's, and the last launch went well. */
void device_enter(struct kernels_state *s);
void device_leave(struct kernels_state *s, const char *what);
/* Room for a list in a ring: the host's half is returned, what kernels will read is *device, until
 * the ring has come round. NULL and a fault: it is larger than a part of the ring. push: it has
 * been written. stage: both, of a list that is there. */
void *device_room(struct kernels_state *s, struct ring *r, size_t bytes, void **device);
void device_push(struct kernels_state *s, struct ring *r, const void *host, void *device,
                 size_t bytes);
const void *device_stage(struct kernels_state *s, struct ring *r, const void *list, size_t bytes);

/* The pass's rows are on the device, sent now where no pass has begun with them. */
bool kv_cuda_has(const struct kernels *self, const struct kv_rows *rows);

/* Bytes in whole lines of 64, where the next array begins. */
static inline size_t device_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}
/* So many blocks of THREADS that there are so many threads. */
static inline dim3 device_grid(int64_t threads, unsigned y = 1)
{
    return dim3((unsigned)((threads + THREADS - 1) / THREADS), y);
}

/* ---- the slots, each in its file ---- */
size_t rotate_cuda_act_bytes(const struct kernels *self, int32_t rows, int64_t k);
void rotate_cuda_prepare(const struct kernels *self, const struct prepare_job *jobs, int n);
void matmul_cuda_run(const struct kernels *self, const struct matmul_job *jobs, int n);
void matmul_cuda_dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                            int64_t rows, float *out);
void matmul_cuda_gather(const struct kernels *self, const struct weight *w, const int32_t *ids,
                        int32_t n, float *out, int64_t ldo);
void kv_cuda_begin(const struct kernels *self, const struct kv_rows *rows);
void kv_cuda_store(const struct kernels *self, const struct kv *kv, int32_t layer,
                   const struct kv_rows *rows, const float *k, const float *v, int64_t ld);
void attention_cuda_run(const struct kernels *self, const struct attention_args *args);
void elementwise_cuda_norm(const struct kernels *self, const struct norm_args *args, const float *x,
                           int64_t ldx, int32_t rows, float *out, int64_t ldo);
void elementwise_cuda_rope(const struct kernels *self, float *x, int64_t ld, int32_t rows,
                           int32_t heads, int32_t head_dim, int32_t rot, const float *cosines,
                           const float *sines);
void elementwise_cuda_activate(const struct kernels *self, enum activation act, const float *gate,
                               int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                               float *out, int64_t ldo);
void elementwise_cuda_add(const struct kernels *self, float *x, int64_t ldx, const float *y,
                          int64_t ldy, int32_t rows, int64_t dim);
void elementwise_cuda_scale(const struct kernels *self, float *x, int64_t n, float s);
void elementwise_cuda_copy_rows(const struct kernels *self, const float *x, int64_t ldx,
                                const int32_t *ids, int32_t n, int64_t dim, float *out,
                                int64_t ldo);
void elementwise_cuda_add_rows(const struct kernels *self, const float *x, int64_t ldx,
                               const int32_t *ids, const float *shares, int32_t n, int64_t dim,
                               float *out, int64_t ldo);

void draw_cuda_run(const struct kernels *self, const float *x, int64_t ldx, int32_t rows, int64_t n,
                   struct draw *const *draws);

/* ---- numbers: core/tensor.c's conversions, bit for bit ---- */

DEVICE float device_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

DEVICE uint32_t device_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

DEVICE bool device_finite(float f)
{
    return (device_bits(f) & 0x7f800000) != 0x7f800000;
}

/* The larger of two magnitudes; what is not finite gives a NaN, which stays one. */
DEVICE float device_larger(float peak, float x)
{
    return device_finite(x) && peak == peak ? fmaxf(peak, fabsf(x)) : device_float(0x7fc00000);
}

/* The sum of sixteen lanes, by norm.c's tree; it is made in their place. */
DEVICE float device_sum_of_lanes(float *lane)
{
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

DEVICE float device_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if ((h & 0x7c00) == 0x7c00) // infinity and NaN keep their bits
        return device_float(sign | 0x7f800000 | rest);
    return device_float(sign | device_bits(device_float(rest) * 0x1p112f));
}

DEVICE uint16_t device_to_f16(float f)
{
    uint32_t u = device_bits(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (u >> 13 & 0x3ff));
    if (u >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) // below 2^-14, in units of 2^-24
        return (uint16_t)(sign | (device_bits(device_float(u) + 0.5f) - 0x3f000000));
    u += 0xfff + (u >> 13 & 1);
    return (uint16_t)(sign | (u - 0x38000000) >> 13);
}

DEVICE float device_of_bf16(uint16_t h)
{
    return device_float((uint32_t)h << 16);
}

DEVICE float device_round(float f, enum dtype d)
{
    if (d == DT_F16)
        return device_of_f16(device_to_f16(f));
    if (d != DT_BF16)
        return f;
    uint32_t u = device_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return device_float((u | 0x400000) & 0xffff0000);
    return device_float((u + 0x7fff + (u >> 16 & 1)) & 0xffff0000);
}

#endif
