/*
 * The product's primitives over sixteen lanes: the text of matmul_avx2.c and matmul_avx512.c. A
 * register holds one column of a tile's 16 rows; each row of x has an accumulator of its own, so an
 * output's chain is the same whatever the number of rows.
 *
 *   block    w = panel[k];  acc[i] = fma(x[k][i], w, acc[i])     i < m, panel in L1, x packed
 *   fused    the same with w decoded in registers; one row takes two tiles at once, because a
 *            single chain would wait for the fma's latency
 */
#ifndef OFTD_BACKENDS_KERNELS_MATMUL_SIMD_H
#define OFTD_BACKENDS_KERNELS_MATMUL_SIMD_H

#include "backends/kernels/decode_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* Four rows of four columns at a time; SSE is part of either twin. */
static void pack_simd(const float *x, int64_t ldx, int m, int64_t kc, float *packed)
{
    int i = 0;
    for (; i + 4 <= m; i += 4) {
        const float *row = x + i * ldx;
        int64_t k = 0;
        for (; k + 4 <= kc; k += 4) {
            __m128 a = _mm_loadu_ps(row + k), b = _mm_loadu_ps(row + ldx + k);
            __m128 c = _mm_loadu_ps(row + 2 * ldx + k), d = _mm_loadu_ps(row + 3 * ldx + k);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            float *to = packed + k * m + i;
            _mm_storeu_ps(to, a);
            _mm_storeu_ps(to + m, b);
            _mm_storeu_ps(to + 2 * m, c);
            _mm_storeu_ps(to + 3 * m, d);
        }
        for (; k < kc; k++)
            for (int r = 0; r < 4; r++)
                packed[k * m + i + r] = row[r * ldx + k];
    }
    for (; i < m; i++)
        for (int64_t k = 0; k < kc; k++)
            packed[k * m + i] = x[i * ldx + k];
}

INLINE void block_of(const int m, const float *panel, int64_t kc, const float *packed, float *sum)
{
    vf acc[BLOCK_ROWS];
#pragma GCC unroll 24
    for (int i = 0; i < m; i++)
        acc[i] = vf_zero();
    for (int64_t k = 0; k < kc; k++, panel += TILE_ROWS, packed += m) {
        vf w = vf_load(panel);
#pragma GCC unroll 24
        for (int i = 0; i < m; i++)
            acc[i] = vf_fma(vf_set(packed[i]), w, acc[i]);
    }
#pragma GCC unroll 24
    for (int i = 0; i < m; i++)
        vf_store(sum + i * TILE_ROWS, vf_add(vf_load(sum + i * TILE_ROWS), acc[i]));
}

static void block_simd(const float *panel, int64_t kc, const float *packed, int m, float *sum)
{
    switch (m) {
#define ROWS(m)                                                                                    \
    case m:                                                                                        \
        block_of(m, panel, kc, packed, sum);                                                       \
        return
        ROWS(1);
        ROWS(2);
        ROWS(3);
        ROWS(4);
        ROWS(5);
        ROWS(6);
#if BLOCK_ROWS > 6
        ROWS(7);
        ROWS(8);
        ROWS(9);
        ROWS(10);
        ROWS(11);
        ROWS(12);
        ROWS(13);
        ROWS(14);
        ROWS(15);
        ROWS(16);
        ROWS(17);
        ROWS(18);
        ROWS(19);
        ROWS(20);
        ROWS(21);
        ROWS(22);
        ROWS(23);
        ROWS(24);
#endif
#undef ROWS
    }
}

/* Four columns from k on: decode those of each tile, then multiply them with m rows, the tiles in
 * turn so that neighbouring multiplications belong to different chains. */
INLINE void fused_quad(const enum kind kind, const enum dtype d, const int tiles, const int m,
                       const struct reader *r, const float *x, int64_t k, const bool upper, vf *acc)
{
    vf w[2][4];
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
        reader_quad(kind, d, true, &r[t], k, upper, w[t]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                acc[t * m + i] = vf_fma(vf_set(x[j * m + i]), w[t][j], acc[t * m + i]);
}

/* Columns [k, end) of one group, whole eights: chain [tiles][m][16] goes on. x: from k on. */
INLINE void fused_run(const enum kind kind, const enum dtype d, const int tiles, const int m,
                      const struct reader *r, const float *x, int64_t k, int64_t end, float *chain)
{
    vf acc[FUSED_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < tiles * m; i++)
        acc[i] = vf_load(chain + i * TILE_ROWS);
    for (; k < end; k += 8, x += 8 * m) {
        fused_quad(kind, d, tiles, m, r, x, k, false, acc);
        fused_quad(kind, d, tiles, m, r, x + 4 * m, k + 4, true, acc);
    }
#pragma GCC unroll 8
    for (int i = 0; i < tiles * m; i++)
        vf_store(chain + i * TILE_ROWS, acc[i]);
}

/* The same for whatever is rare: the last columns, groups that need the slow rounding. */
static __attribute__((noinline)) void fused_rest(const struct weight *w, int64_t tile, int tiles,
                                                 int m, const float *x, int64_t k, int64_t end,
                                                 float *chain)
{
    struct twins twins;
    float panel[PANEL_K * TILE_ROWS];
    TWIN(decode)(&twins);
    for (int t = 0; t < tiles; t++) {
        twins.decode(w, tile + t, k, end - k, panel);
        for (int i = 0; i < m; i++, chain += TILE_ROWS) {
            vf acc = vf_load(chain);
            for (int64_t j = 0; j < end - k; j++)
                acc = vf_fma(vf_set(x[j * m + i]), vf_load(panel + j * TILE_ROWS), acc);
            vf_store(chain, acc);
        }
    }
}

INLINE void fused_of(const enum kind kind, const enum dtype d, const int tiles, const int m,
                     const struct weight *w, int64_t tile, const float *x, float *sum)
{
    struct reader r[2];
    float chain[FUSED_ROWS * TILE_ROWS];
    for (int t = 0; t < tiles; t++)
        reader_open(kind, &r[t], w, tile + t, 0);
    for (int i = 0; i < tiles * m; i++)
        vf_store(sum + i * TILE_ROWS, vf_zero());
    for (int64_t k0 = 0; k0 < w->k; k0 += PANEL_K) {
        int64_t end = w->k - k0 < PANEL_K ? w->k : k0 + PANEL_K;
        for (int i = 0; i < tiles * m; i++)
            vf_store(chain + i * TILE_ROWS, vf_zero());
        for (int64_t k = k0; k < end;) {
            bool plain = true;
            for (int t = 0; t < tiles; t++) {
                reader_advance(kind, &r[t], k);
                plain &= r[t].plain;
            }
            int64_t to = r[0].next < end ? r[0].next : end;
            int64_t whole = plain ? to - to % 8 : k;
            if (k < whole)
                fused_run(kind, d, tiles, m, r, x + k * m, k, whole, chain);
            if (whole < to)
                fused_rest(w, tile, tiles, m, x + whole * m, whole, to, chain);
            k = to;
        }
        for (int i = 0; i < tiles * m; i++)
            vf_store(sum + i * TILE_ROWS,
                     vf_add(vf_load(sum + i * TILE_ROWS), vf_load(chain + i * TILE_ROWS)));
    }
}

/* What fused_simd is asked for. */
struct fused {
    const struct weight *w;
    int64_t tile, tiles;
    const float *x;
    int m;
    float *sum;
};

INLINE void fused_kind(const enum kind kind, const enum dtype d, const struct fused *f)
{
    float *sum = f->sum;
    if (f->m == 1 && f->tiles == 2) {
        fused_of(kind, d, 2, 1, f->w, f->tile, f->x, sum);
        return;
    }
    for (int64_t t = f->tile; t < f->tile + f->tiles; t++, sum += f->m * TILE_ROWS)
        switch (f->m) {
#define ROWS(m)                                                                                    \
    case m:                                                                                        \
        fused_of(kind, d, 1, m, f->w, t, f->x, sum);                                               \
        break
            ROWS(1);
            ROWS(2);
            ROWS(3);
            ROWS(4);
#if FUSED_ROWS > 4
            ROWS(5);
            ROWS(6);
            ROWS(7);
            ROWS(8);
#endif
#undef ROWS
        }
}

INLINE void fused_codes(const enum kind kind, const struct fused *f)
{
    if (f->w->dtype == DT_F16)
        fused_kind(kind, DT_F16, f);
    else if (f->w->dtype == DT_BF16)
        fused_kind(kind, DT_BF16, f);
    else
        fused_kind(kind, DT_F32, f);
}

static bool fusable_simd(const struct weight *w)
{
    enum kind kind = reader_kind(w);
    return kind != KIND_NONE && kind != KIND_F32 && kind != KIND_BITS && reader_by_runs(w);
}

static void fused_simd(const struct weight *w, int64_t tile, int64_t tiles, const float *x, int m,
                       float *sum)
{
    struct fused f = {w, tile, tiles, x, m, sum};
    switch (reader_kind(w)) {
    case KIND_F16:
        fused_kind(KIND_F16, DT_F16, &f);
        return;
    case KIND_BF16:
        fused_kind(KIND_BF16, DT_BF16, &f);
        return;
    case KIND_TABLE4:
        fused_codes(KIND_TABLE4, &f);
        return;
    case KIND_BITS4:
        fused_codes(KIND_BITS4, &f);
        return;
    case KIND_BITS8:
        fused_codes(KIND_BITS8, &f);
        return;
    case KIND_NONE:
    case KIND_F32: // a panel as it is stored
    case KIND_BITS:
        return; // not fusable
    }
}

void TWIN(matmul)(struct twins *t)
{
    t->block_rows = BLOCK_ROWS;
    t->pack = pack_simd;
    t->block = block_simd;
    t->fused_rows = FUSED_ROWS;
    t->fusable = fusable_simd;
    t->fused = fused_simd;
}

#endif
#endif
