/*
 * One block of a rotation over sixteen lanes of its columns: the text of rotate_avx2.c and
 * rotate_avx512.c.
 *
 * Roofline: a block of size b has 4 b^2 bytes and takes 2 b^2 operations a row. One row is bound by
 * reading R; many rows of one adapter, which share a block in the first-level cache, by
 * multiplications. Not timed against it.
 */
#ifndef OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H
#define OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H

#include "backends/kernels/lanes.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* m rows, columns c .. c + n of which the second register holds those from 16 on (two) or is not
 * used. */
INLINE void rotate_columns(const int m, const bool two, const float *x, int64_t ldx, const float *r,
                           int32_t block, int64_t n, float *out, int64_t ldo)
{
    vf a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        a[i] = b[i] = vf_zero();
    for (int32_t k = 0; k < block; k++, r += block) {
        vf lo = two || n == LANES ? vf_load(r) : vf_load_n(r, n), hi = vf_zero();
        if (two)
            hi = n == 2 * LANES ? vf_load(r + LANES) : vf_load_n(r + LANES, n - LANES);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            vf xk = vf_set(x[i * ldx + k]);
            a[i] = vf_fma(xk, lo, a[i]);
            if (two)
                b[i] = vf_fma(xk, hi, b[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) {
        vf_store_n(out + i * ldo, a[i], two ? LANES : n);
        if (two)
            vf_store_n(out + i * ldo + LANES, b[i], n - LANES);
    }
}

INLINE void rotate_rows(const int m, const float *x, int64_t ldx, const float *r, int32_t block,
                        float *out, int64_t ldo)
{
    int32_t c = 0;
    for (; c + LANES < block; c += 2 * LANES) {
        int32_t n = block - c < 2 * LANES ? block - c : 2 * LANES;
        rotate_columns(m, true, x, ldx, r + c, block, n, out + c, ldo);
    }
    if (c < block)
        rotate_columns(m, false, x, ldx, r + c, block, block - c, out + c, ldo);
}

static void rotate_simd(const float *x, int64_t ldx, int32_t rows, const float *r, int32_t block,
                        float *out, int64_t ldo)
{
    enum { STEP = BLOCK_ROWS >= 16 ? 8 : 2 };
    int32_t i = 0;
    for (; i + STEP <= rows; i += STEP)
        rotate_rows(STEP, x + i * ldx, ldx, r, block, out + i * ldo, ldo);
#if BLOCK_ROWS >= 16
    for (; i + 2 <= rows; i += 2)
        rotate_rows(2, x + i * ldx, ldx, r, block, out + i * ldo, ldo);
#endif
    for (; i < rows; i++)
        rotate_rows(1, x + i * ldx, ldx, r, block, out + i * ldo, ldo);
}

void TWIN(rotate)(struct twins *t)
{
    t->rotate = rotate_simd;
}

#endif
#endif
