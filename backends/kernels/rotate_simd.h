/*
 * One block of a rotation over sixteen lanes of its columns: the text of rotate_avx2.c and
 * rotate_avx512.c.
 *
 * Roofline: a block of size b has 4 b^2 bytes (D: 2 b^2) and takes 2 b^2 operations a row. One row
 * is bound by reading R; many rows of one adapter, which share a block in the first-level cache, by
 * multiplications. One row of the 1.1B shape has 25 MB of D a token, which took 2.4 ms on a core of
 * a Sapphire Rapids where the next unit's blocks were fetched in one go, each in front of its own
 * loads (10 GB/s; 0.1 ms without the reading), and 1.0 ms fetched line by line (25 GB/s).
 */
#ifndef OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H
#define OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H

#include <string.h>

#include "backends/kernels/lanes.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* n <= 16 elements of R, or of D (near), from `at` on. */
INLINE vf rotate_load(const bool near, const struct rotate_block *r, int64_t at, int64_t n)
{
    if (!near) {
        const float *e = (const float *)r->elements + at;
        return n == LANES ? vf_load(e) : vf_load_n(e, n);
    }
    const uint16_t *d = (const uint16_t *)r->elements + at;
    if (n == LANES)
        return vf_load_f16(d);
    uint16_t some[LANES] = {0};
    memcpy(some, d, (size_t)n * sizeof *d);
    return vf_load_f16(some);
}

/* Line by line as the block's own are read: in one go they would fill what a core has for lines on
 * their way, and its loads wait behind them. */
INLINE void rotate_fetch(const bool near, const struct rotate_block *r, int64_t at, const bool two)
{
    const char *line = (const char *)r->elements + (r->ahead + at) * (near ? 2 : 4);
    __builtin_prefetch(line, 0, 2);
    if (two && !near)
        __builtin_prefetch(line + 64, 0, 2);
}

/* m rows, columns c .. c + n of which the second register holds those from 16 on (two) or is not
 * used. */
INLINE void rotate_columns(const bool near, const int m, const bool two, const bool fetch,
                           const float *x, int64_t ldx, const struct rotate_block *r, int32_t c,
                           int64_t n, float *out, int64_t ldo)
{
    const int64_t n_lo = two ? LANES : n, n_hi = n - LANES;
    vf a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        a[i] = b[i] = vf_zero();
    for (int32_t k = 0; k < r->size; k++) {
        int64_t at = (int64_t)k * r->size + c;
        if (fetch)
            rotate_fetch(near, r, at, two);
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

INLINE void rotate_rows(const bool near, const int m, const bool fetch, const float *x, int64_t ldx,
                        const struct rotate_block *r, float *out, int64_t ldo)
{
    int32_t c = 0;
    for (; c + LANES < r->size; c += 2 * LANES) {
        if (r->size - c >= 2 * LANES)
            rotate_columns(near, m, true, fetch, x, ldx, r, c, 2 * LANES, out, ldo);
        else
            rotate_columns(near, m, true, fetch, x, ldx, r, c, r->size - c, out, ldo);
    }
    if (c < r->size)
        rotate_columns(near, m, false, fetch, x, ldx, r, c, r->size - c, out, ldo);
}

INLINE void rotate_all(const bool near, const float *x, int64_t ldx, int32_t rows,
                       const struct rotate_block *r, float *out, int64_t ldo)
{
    enum { STEP = BLOCK_ROWS > 6 ? 8 : 2 };
    bool fetch = r->ahead != 0;
    int32_t i = 0;
    for (; i + STEP <= rows; i += STEP, fetch = false)
        rotate_rows(near, STEP, fetch, x + i * ldx, ldx, r, out + i * ldo, ldo);
#if BLOCK_ROWS > 6
    for (; i + 2 <= rows; i += 2, fetch = false)
        rotate_rows(near, 2, fetch, x + i * ldx, ldx, r, out + i * ldo, ldo);
#endif
    for (; i < rows; i++, fetch = false)
        rotate_rows(near, 1, fetch, x + i * ldx, ldx, r, out + i * ldo, ldo);
}

static void rotate_simd(const float *x, int64_t ldx, int32_t rows, const struct rotate_block *r,
                        float *out, int64_t ldo)
{
    rotate_all(false, x, ldx, rows, r, out, ldo);
}

static void rotate_near_simd(const float *x, int64_t ldx, int32_t rows,
                             const struct rotate_block *d, float *out, int64_t ldo)
{
    rotate_all(true, x, ldx, rows, d, out, ldo);
}

void TWIN(rotate)(struct twins *t)
{
    t->rotate = rotate_simd;
    t->rotate_near = rotate_near_simd;
}

#endif
#endif
