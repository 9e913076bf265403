/*
 * How rows of x lie on a device once they are bytes (core/kernels.h, fast mode), between
 * rotate_cuda.cu, which has them made, and fast_cuda.cu, which makes and multiplies them.
 *
 * Rows are cut into blocks of FAST_ROWS; rows that the last block lacks are zeros, which add
 * nothing. Arrays, one behind the other:
 *
 *   coarse, fine   [blocks][chunks][FAST_ROWS][TILE_K]      q and q', in each 8 columns in the
 *                                                           order of `turned`
 *   steps          [blocks][chunks][2][FAST_ROWS]           d and d'
 *   sums           [blocks][chunks][2][FAST_ROWS]           of q and of q'
 *   has_fine       [blocks][chunks][FAST_ROWS]              which of the rows have a second part
 *   parts          [blocks][groups][FAST_ROWS]
 *
 * turned: columns 0 4 1 5 2 6 3 7, which is how a dword of 4-bit codes has them nibble by nibble:
 * the order in which tables are looked up (ENC_TABLE4); others have them as they are.
 */
#ifndef OFTD_BACKENDS_KERNELS_FAST_CUDA_CUH
#define OFTD_BACKENDS_KERNELS_FAST_CUDA_CUH

#include "backends/kernels/device_cuda.cuh"
#include "backends/kernels/fast.h"
#include "backends/kernels/product_cuda.cuh"

struct fast_x {
    int8_t *coarse, *fine;
    float *steps;
    int32_t *sums;
    uint8_t *has_fine;
    float *parts;
    int64_t chunks, groups, group; /* of a row; columns of a group */
    int32_t blocks, rows;
    bool turned;
};

/* A chunk in bytes: q and q', four in a word, with their steps and sums (core/kernels.h). */
struct fast_bytes {
    uint32_t q[2][TILE_K / 4];
    float d[2];
    int32_t sum[2];
    bool two; /* there is a second part; else it is 0 */
};

/* q of each v * inverse, to the nearest; their sum, and their energy. */
DEVICE int32_t fast_bytes_part(const float v[TILE_K], float inverse, float q[TILE_K],
                               uint32_t words[TILE_K / 4], int32_t *sum)
{
    int32_t energy = 0;
    *sum = 0;
#pragma unroll
    for (int j = 0; j < TILE_K; j++) {
        int32_t b = (int32_t)rintf(v[j] * inverse);
        q[j] = (float)b;
        words[j / 4] = (j % 4 ? words[j / 4] : 0) | (uint32_t)(b & 255) << 8 * (j % 4);
        *sum += b;
        energy += b * b;
    }
    return energy;
}

/* fast_quantize_chunk. */
DEVICE struct fast_bytes fast_bytes_of(const float v[TILE_K])
{
    struct fast_bytes to = {};
    float peak = 0;
#pragma unroll
    for (int j = 0; j < TILE_K; j++)
        peak = device_larger(peak, v[j]);
    if (peak != peak)
        to.d[0] = peak;
    if (!(peak >= 0x1p-100f))
        return to;
    float q[TILE_K], rest[TILE_K];
    to.d[0] = peak / 127;
    to.two = fast_bytes_part(v, 127 / peak, q, to.q[0], &to.sum[0]) < OUTLIER_ENERGY;
    if (!to.two)
        return to;
#pragma unroll
    for (int j = 0; j < TILE_K; j++)
        rest[j] = fmaf(-to.d[0], q[j], v[j]);
    to.d[1] = to.d[0] / 254;
    fast_bytes_part(rest, 254 / to.d[0], q, to.q[1], &to.sum[1]);
    return to;
}

/* Bytes that rows of k columns take for any weight. */
size_t fast_cuda_bytes(int32_t rows, int64_t k);
/* Where they lie in `memory` for w. */
struct fast_x fast_cuda_at(const struct weight *w, int32_t rows, void *memory);
/* x [rows, ldx] becomes bytes. */
void fast_cuda_quantize(struct kernels_state *s, const struct weight *w, const float *x,
                        int64_t ldx, const struct fast_x *to);
/* p.x is not read. */
void fast_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct fast_x *x,
                        const struct product *p);

/* The other forms of fast mode, each in its file: of what strided_has, lookup_has and eights_has
 * take. */
void strided_cuda_multiply(struct kernels_state *s, const struct weight *w,
                           const struct product *p);
void lookup_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct product *p);
void eights_cuda_multiply(struct kernels_state *s, const struct weight *w, const struct product *p);

#endif
