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

#define PREFETCH 2048 /* bytes ahead of a tile's stream */

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
    const int64_t eight = kind < KIND_TABLE4 ? 256 : kind == KIND_BITS8 ? 128 : 64; // its bytes
    for (; k < end; k += 8, x += 8 * m) {
        for (int t = 0; t < tiles; t++) // a stream's end is the next tile's beginning
            for (int64_t line = 0; line < eight; line += 64)
                __builtin_prefetch(r[t].data + k / 8 * eight + PREFETCH + line);
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

typedef void fused_function(const struct reader *r, const float *x, int64_t k, int64_t end,
                            float *chain);

/* fused_run for one kind, dtype, and number of tiles and rows. */
#define RUN(kind, d, tiles, m)                                                                     \
    static void run_##kind##_##d##_##tiles##_##m(const struct reader *r, const float *x,           \
                                                 int64_t k, int64_t end, float *chain)             \
    {                                                                                              \
        fused_run(KIND_##kind, DT_##d, tiles, m, r, x, k, end, chain);                             \
    }
#if FUSED_ROWS > 4
#define RUNS_ABOVE_FOUR(kind, d)                                                                   \
    RUN(kind, d, 1, 5)                                                                             \
    RUN(kind, d, 1, 6)                                                                             \
    RUN(kind, d, 1, 7)                                                                             \
    RUN(kind, d, 1, 8)
#define NAMES_ABOVE_FOUR(kind, d)                                                                  \
    , run_##kind##_##d##_1_5, run_##kind##_##d##_1_6, run_##kind##_##d##_1_7, run_##kind##_##d##_1_8
#else
#define RUNS_ABOVE_FOUR(kind, d)
#define NAMES_ABOVE_FOUR(kind, d)
#endif
/* [0]: one row and two tiles at once; [m]: m rows and one tile. */
#define RUNS(kind, d)                                                                              \
    RUN(kind, d, 2, 1)                                                                             \
    RUN(kind, d, 1, 1)                                                                             \
    RUN(kind, d, 1, 2)                                                                             \
    RUN(kind, d, 1, 3)                                                                             \
    RUN(kind, d, 1, 4)                                                                             \
    RUNS_ABOVE_FOUR(kind, d)                                                                       \
    static fused_function *const runs_##kind##_##d[FUSED_ROWS + 1] = {                             \
        run_##kind##_##d##_2_1, run_##kind##_##d##_1_1, run_##kind##_##d##_1_2,                    \
        run_##kind##_##d##_1_3, run_##kind##_##d##_1_4 NAMES_ABOVE_FOUR(kind, d)};
RUNS(F16, F16)
RUNS(BF16, BF16)
RUNS(TABLE4, F16)
RUNS(TABLE4, BF16)
RUNS(TABLE4, F32)
RUNS(BITS4, F16)
RUNS(BITS4, BF16)
RUNS(BITS4, F32)
RUNS(BITS8, F16)
RUNS(BITS8, BF16)
RUNS(BITS8, F32)

/* The functions for w, NULL: it is not fusable. */
static fused_function *const *runs_of(const struct weight *w)
{
    static fused_function *const *const coded[3][3] = {
        {runs_TABLE4_F16, runs_TABLE4_BF16, runs_TABLE4_F32},
        {runs_BITS4_F16, runs_BITS4_BF16, runs_BITS4_F32},
        {runs_BITS8_F16, runs_BITS8_BF16, runs_BITS8_F32}};
    int d = w->dtype == DT_F16 ? 0 : w->dtype == DT_BF16 ? 1 : 2;
    if (!reader_by_runs(w))
        return NULL;
    switch (reader_kind(w)) {
    case KIND_F16:
        return runs_F16_F16;
    case KIND_BF16:
        return runs_BF16_BF16;
    case KIND_TABLE4:
        return coded[0][d];
    case KIND_BITS4:
        return coded[1][d];
    case KIND_BITS8:
        return coded[2][d];
    case KIND_NONE:
    case KIND_F32: // a panel as it is stored
    case KIND_BITS:
        break;
    }
    return NULL;
}

static bool fusable_simd(const struct weight *w)
{
    return runs_of(w) != NULL;
}

/* One panel's columns [k, end) of `tiles` tiles, group by group. */
static void fused_panel(enum kind kind, fused_function *run, struct reader *r, int tiles, int m,
                        const float *x, int64_t k, int64_t end, float *chain)
{
    while (k < end) {
        bool plain = true;
        for (int t = 0; t < tiles; t++) {
            reader_advance(kind, &r[t], k);
            plain &= r[t].plain;
        }
        int64_t to = r[0].next < end ? r[0].next : end;
        int64_t whole = plain ? to - to % 8 : k;
        if (k < whole)
            run(r, x + k * m, k, whole, chain);
        if (whole < to)
            fused_rest(r[0].w, r[0].tile, tiles, m, x + whole * m, whole, to, chain);
        k = to;
    }
}

/* The whole of k for one tile, or for two and one row. */
static void fused_tiles(const struct weight *w, int64_t tile, int tiles, const float *x, int m,
                        float *sum)
{
    enum kind kind = reader_kind(w);
    fused_function *run = runs_of(w)[tiles == 2 ? 0 : m];
    struct reader r[2];
    float chain[FUSED_ROWS * TILE_ROWS];
    int n = tiles * m;
    for (int t = 0; t < tiles; t++)
        reader_open(kind, &r[t], w, tile + t, 0);
    for (int i = 0; i < n; i++)
        vf_store(sum + i * TILE_ROWS, vf_zero());
    for (int64_t k = 0; k < w->k; k += PANEL_K) {
        for (int i = 0; i < n; i++)
            vf_store(chain + i * TILE_ROWS, vf_zero());
        fused_panel(kind, run, r, tiles, m, x, k, w->k - k < PANEL_K ? w->k : k + PANEL_K, chain);
        for (int i = 0; i < n; i++)
            vf_store(sum + i * TILE_ROWS,
                     vf_add(vf_load(sum + i * TILE_ROWS), vf_load(chain + i * TILE_ROWS)));
    }
}

static void fused_simd(const struct weight *w, int64_t tile, int64_t tiles, const float *x, int m,
                       float *sum)
{
    int step = m == 1 && tiles == 2 ? 2 : 1;
    for (int64_t t = 0; t < tiles; t += step)
        fused_tiles(w, tile + t, step, x, m, sum + t * m * TILE_ROWS);
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
