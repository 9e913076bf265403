/*
 * One block of a rotation over sixteen lanes of its columns: the text of rotate_avx2.c and
 * rotate_avx512.c.
 *
 * Roofline: a block of size b has 4 b^2 bytes (D: 2 b^2, or b^2 + 4 b) and takes 2 b^2 operations a
 * row. One row is bound by reading R; many rows of one adapter, which share a block in the
 * first-level cache, by multiplications. One row of the 1.1B shape has 25 MB of D a token, which
 * took 2.4 ms on a core of a Sapphire Rapids where the next unit's blocks were fetched in one go,
 * each in front of its own loads (10 GB/s; 0.1 ms without the reading), and 1.0 ms fetched line by
 * line (25 GB/s). Eight rows of eight adapters took 9.6 ms of a step of two threads with halves
 * and 5.1 with bytes.
 */
#ifndef OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H
#define OFTD_BACKENDS_KERNELS_ROTATE_SIMD_H

#include <string.h>

#include "backends/kernels/lanes.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* Bytes of an element. */
INLINE int64_t rotate_size(const enum dtype d)
{
    return d == DT_F32 ? 4 : d == DT_F16 ? 2 : 1;
}

/* n <= 16 elements of a block from `at` on. */
INLINE vf rotate_load(const enum dtype d, const struct rotate_block *r, int64_t at, int64_t n)
{
    const void *e = (const char *)r->elements + at * rotate_size(d);
    if (d == DT_F32)
        return n == LANES ? vf_load(e) : vf_load_n(e, n);
    uint16_t some[LANES] = {0};
    if (n < LANES)
        e = memcpy(some, e, (size_t)(n * rotate_size(d)));
    return d == DT_F16 ? vf_load_f16(e) : vf_of_int(vi_load_i8(e));
}

/* Line by line as the block's own are read: in one go they would fill what a core has for lines on
 * their way, and its loads wait behind them. */
INLINE void rotate_fetch(const enum dtype d, const struct rotate_block *r, int64_t at,
                         const bool two)
{
    const char *line = (const char *)r->elements + r->ahead + at * rotate_size(d);
    FETCH(line);
    if (two && d == DT_F32)
        FETCH(line + 64);
}

/* n outputs of columns c and on of a row x, whose sums are there. */
INLINE void rotate_end(const enum dtype d, const struct rotate_block *r, int64_t c, int64_t n,
                       const float *x, vf sum, float *out)
{
    if (d == DT_F16)
        sum = vf_add(vf_load_n(x + c, n), sum);
    if (d == DT_I8) {
        const void *steps = (const char *)r->elements + rotation_steps_at(r->size);
        FETCH((const char *)steps + r->ahead + c * (int64_t)sizeof *x);
        sum = vf_fma(vf_load_n((const float *)steps + c, n), sum, vf_load_n(x + c, n));
    }
    vf_store_n(out + c, sum, n);
}

/* m rows, columns c .. c + n of which the second register holds those from 16 on (two) or is not
 * used. */
INLINE void rotate_columns(const enum dtype d, const int m, const bool two, const bool fetch,
                           const float *x, int64_t ldx, int64_t step, const struct rotate_block *r,
                           int32_t c, int64_t n, float *out, int64_t ldo)
{
    const int64_t n_lo = two ? LANES : n, n_hi = n - LANES;
    vf a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        a[i] = b[i] = vf_zero();
    for (int32_t k = 0; k < r->size; k++) {
        int64_t at = (int64_t)k * r->size + c;
        if (fetch)
            rotate_fetch(d, r, at, two);
        vf lo = rotate_load(d, r, at, n_lo), hi = vf_zero();
        if (two)
            hi = rotate_load(d, r, at + LANES, n_hi);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            vf xk = vf_set(x[i * ldx + k * step]);
            a[i] = vf_fma(xk, lo, a[i]);
            if (two)
                b[i] = vf_fma(xk, hi, b[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) {
        rotate_end(d, r, c, n_lo, x + i * ldx, a[i], out + i * ldo);
        if (two)
            rotate_end(d, r, c + LANES, n_hi, x + i * ldx, b[i], out + i * ldo);
    }
}

INLINE void rotate_rows(const enum dtype d, const int m, const bool fetch, const float *x,
                        int64_t ldx, int64_t step, const struct rotate_block *r, float *out,
                        int64_t ldo)
{
    int32_t c = 0;
    for (; c + LANES < r->size; c += 2 * LANES) {
        if (r->size - c >= 2 * LANES)
            rotate_columns(d, m, true, fetch, x, ldx, step, r, c, 2 * LANES, out, ldo);
        else
            rotate_columns(d, m, true, fetch, x, ldx, step, r, c, r->size - c, out, ldo);
    }
    if (c < r->size)
        rotate_columns(d, m, false, fetch, x, ldx, step, r, c, r->size - c, out, ldo);
}

INLINE void rotate_all(const enum dtype d, const float *x, int64_t ldx, int64_t step, int32_t rows,
                       const struct rotate_block *r, float *out, int64_t ldo)
{
    enum { ROWS = BLOCK_ROWS > 6 ? 8 : 2 };
    bool fetch = r->ahead != 0;
    int32_t i = 0;
    for (; i + ROWS <= rows; i += ROWS, fetch = false)
        rotate_rows(d, ROWS, fetch, x + i * ldx, ldx, step, r, out + i * ldo, ldo);
#if BLOCK_ROWS > 6
    for (; i + 2 <= rows; i += 2, fetch = false)
        rotate_rows(d, 2, fetch, x + i * ldx, ldx, step, r, out + i * ldo, ldo);
#endif
    for (; i < rows; i++, fetch = false)
        rotate_rows(d, 1, fetch, x + i * ldx, ldx, step, r, out + i * ldo, ldo);
}

static void rotate_simd(const float *x, int64_t ldx, int64_t step, int32_t rows,
                        const struct rotate_block *r, float *out, int64_t ldo)
{
    rotate_all(DT_F32, x, ldx, step, rows, r, out, ldo);
}

static void rotate_near_simd(const float *x, int64_t ldx, int32_t rows,
                             const struct rotate_block *d, float *out, int64_t ldo)
{
    rotate_all(DT_F16, x, ldx, 1, rows, d, out, ldo);
}

static void rotate_bytes_simd(const float *x, int64_t ldx, int32_t rows,
                              const struct rotate_block *d, float *out, int64_t ldo)
{
    rotate_all(DT_I8, x, ldx, 1, rows, d, out, ldo);
}

void TWIN(rotate)(struct twins *t)
{
    t->rotate = rotate_simd;
    t->rotate_near = rotate_near_simd;
    t->rotate_bytes = rotate_bytes_simd;
}

#endif
#endif
