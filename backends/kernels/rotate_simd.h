/*
 * One block of a rotation over sixteen lanes of its columns: the text of rotate_avx2.c and
 * rotate_avx512.c.
 *
 * Roofline: a block of size b has 4 b^2 bytes (D: 2 b^2) and takes 2 b^2 operations a row. One row
 * is bound by reading R; many rows of one adapter, which share a block in the first-level cache, by
 * multiplications. Not timed against it.
 */
#ifndef OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H
#define OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H

#include <string.h>

#include "backends/kernels/lanes.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* n <= 16 elements of R, or of D (near). */
INLINE vf rotate_load(const bool near, const void *r, int64_t at, int64_t n)
{
    if (!near)
        return n == LANES ? vf_load((const float *)r + at) : vf_load_n((const float *)r + at, n);
    const uint16_t *d = (const uint16_t *)r + at;
    if (n == LANES)
        return vf_load_f16(d);
    uint16_t some[LANES] = {0};
    memcpy(some, d, (size_t)n * sizeof *d);
    return vf_load_f16(some);
}

/* m rows, columns c .. c + n of which the second register holds those from 16 on (two) or is not
 * used. */
INLINE void rotate_columns(const bool near, const int m, const bool two, const float *x,
                           int64_t ldx, const void *r, int32_t block, int32_t c, int64_t n,
                           float *out, int64_t ldo)
{
    const int64_t n_lo = two ? LANES : n, n_hi = n - LANES;
    vf a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        a[i] = b[i] = vf_zero();
    for (int32_t k = 0; k < block; k++) {
        int64_t at = (int64_t)k * block + c;
        vf lo = rotate_load(near, r, at, n_lo), hi = vf_zero();
        if (two)
            hi = rotate_load(near, r, at + LANES, n_hi);
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
        const float *own = x + i * ldx + c;
        float *to = out + i * ldo + c;
        vf_store_n(to, near ? vf_add(vf_load_n(own, n_lo), a[i]) : a[i], n_lo);
        if (two)
            vf_store_n(to + LANES, near ? vf_add(vf_load_n(own + LANES, n_hi), b[i]) : b[i], n_hi);
    }
}

INLINE void rotate_rows(const bool near, const int m, const float *x, int64_t ldx, const void *r,
                        int32_t block, float *out, int64_t ldo)
{
    int32_t c = 0;
    for (; c + LANES < block; c += 2 * LANES) {
        if (block - c >= 2 * LANES)
            rotate_columns(near, m, true, x, ldx, r, block, c, 2 * LANES, out, ldo);
        else
            rotate_columns(near, m, true, x, ldx, r, block, c, block - c, out, ldo);
    }
    if (c < block)
        rotate_columns(near, m, false, x, ldx, r, block, c, block - c, out, ldo);
}

INLINE void rotate_all(const bool near, const float *x, int64_t ldx, int32_t rows, const void *r,
                       int32_t block, float *out, int64_t ldo)
{
    enum { STEP = BLOCK_ROWS > 6 ? 8 : 2 };
    int32_t i = 0;
    for (; i + STEP <= rows; i += STEP)
        rotate_rows(near, STEP, x + i * ldx, ldx, r, block, out + i * ldo, ldo);
#if BLOCK_ROWS > 6
    for (; i + 2 <= rows; i += 2)
        rotate_rows(near, 2, x + i * ldx, ldx, r, block, out + i * ldo, ldo);
#endif
    for (; i < rows; i++)
        rotate_rows(near, 1, x + i * ldx, ldx, r, block, out + i * ldo, ldo);
}

static void rotate_simd(const float *x, int64_t ldx, int32_t rows, const float *r, int32_t block,
                        float *out, int64_t ldo)
{
    rotate_all(false, x, ldx, rows, r, block, out, ldo);
}

static void rotate_near_simd(const float *x, int64_t ldx, int32_t rows, const uint16_t *d,
                             int32_t block, float *out, int64_t ldo)
{
    rotate_all(true, x, ldx, rows, d, block, out, ldo);
}

void TWIN(rotate)(struct twins *t)
{
    t->rotate = rotate_simd;
    t->rotate_near = rotate_near_simd;
}

#endif
#endif
