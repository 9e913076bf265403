/*
 * The product's primitives over sixteen lanes: the text of matmul_avx2.c and matmul_avx512.c. A
 * register holds one column of a tile's 16 rows; each row of x has an accumulator of its own, so an
 * output's chain is the same whatever the number of rows.
 *
 *   block    w = panel[k];  acc[i] = fma(x[k][i], w, acc[i])     i < m, x packed; tiles in turn
 *   fused    the same with w decoded in registers; one or two rows take several tiles at once,
 *            because a single chain would wait for the fma's latency
 *
 * Roofline of one row, for 16 elements on one Zen 4 core (512-bit operations go through two pipes
 * of 256 bits at a time: two a cycle over all pipes at best), weights in the caches; as cycles at
 * 3.5 GHz and the bytes that pass in them:
 *
 *                     bytes  operations                                        least  reached
 *   NF4, f16 or bf16    9    shift, look up, scale, round (3), fma               3.3      4.2
 *   NF4, f32            9    shift, look up, scale, fma                          1.9      2.5
 *   4 bits, zeros U8    8.4  and a subtraction                                   3.8      4.8
 *   HQQ 4 bits, bf16    9    and a second rounding (3)                           5.2      6.8
 *   8 bits, f16        16    shift, mask, convert, subtract, scale, round, fma   4.3      4.9
 *   8 bits, factor, f32 16   the same with a product instead of the rounding     3.3      3.8
 *   E4M3, bf16         16    shift, shift, mask, scale, round, fma               3.9      7.4
 *   BF16               32    shift or mask, fma                                  1.0      1.5
 *
 * So with 16 and more bits memory bounds a row, with fewer bits the arithmetic of exact decoding;
 * more rows share the decoding.
 *
 * Many rows: a column of a block of one tile and m rows is m fmas and m + 1 loads, of two tiles 2m
 * and m + 2; a cycle has two of each. On one core of a Granite Rapids, packed rows from the second
 * cache, of the probe's rate: one tile times 14 rows 0.77, two 0.89, three times 9 rows and four
 * times 6 0.86. AVX2 has no registers for two.
 */
#ifndef OFTD_BACKENDS_KERNELS_MATMUL_SIMD_H
#define OFTD_BACKENDS_KERNELS_MATMUL_SIMD_H

#include "backends/kernels/decode_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

#define PREFETCH 3072 /* bytes ahead of a tile's stream */

/* As many columns as there are whole sixteens of, a register a row. Returns their number. */
INLINE int64_t pack_sixteens(const float *x, int64_t ldx, int m, int64_t kc, float *packed)
{
    int64_t k = 0;
    for (; k + LANES <= kc; k += LANES) {
        vf v[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            v[i] = i < m ? vf_load(x + i * ldx + k) : vf_zero();
        vf_transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            vf_store_n(packed + (k + i) * m, v[i], m);
    }
    return k;
}

/* Four rows of four columns at a time. */
static void pack_simd(const float *x, int64_t ldx, int m, int64_t kc, float *packed)
{
    int i = 0;
#if BLOCK_ROWS > 6
    if (m > 4) {
        int64_t k = pack_sixteens(x, ldx, m, kc, packed);
        x += k;
        packed += k * m;
        kc -= k;
    }
#endif
    for (; i + 4 <= m; i += 4) {
        const float *row = x + i * ldx;
        int64_t k = 0;
        for (; k + 4 <= kc; k += 4)
            floats_transpose(row + k, ldx, packed + k * m + i, m);
        for (; k < kc; k++)
            for (int r = 0; r < 4; r++)
                packed[k * m + i + r] = row[r * ldx + k];
    }
    for (; i < m; i++)
        for (int64_t k = 0; k < kc; k++)
            packed[k * m + i] = x[i * ldx + k];
}

INLINE void block_of(const int tiles, const int m, const struct block_tiles *b, int64_t kc,
                     const float *packed)
{
    vf acc[BLOCK_TILES][BLOCK_ROWS];
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 14
        for (int i = 0; i < m; i++)
            acc[t][i] = vf_zero();
    for (int64_t k = 0; k < kc; k++, packed += m) {
        vf w[BLOCK_TILES];
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++)
            w[t] = vf_load(b->panel[t] + k * TILE_ROWS);
#pragma GCC unroll 14
        for (int i = 0; i < m; i++) {
            vf x = vf_set(packed[i]);
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                acc[t][i] = vf_fma(x, w[t], acc[t][i]);
        }
    }
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 14
        for (int i = 0; i < m; i++) {
            float *sum = b->sum[t] + i * TILE_ROWS;
            vf_store(sum, vf_add(vf_load(sum), acc[t][i]));
        }
}

static void block_simd(const struct block_tiles *b, int64_t kc, const float *packed, int m)
{
    switch (m) {
#if BLOCK_TILES > 1
#define ROWS(m)                                                                                    \
    case m:                                                                                        \
        if (b->n > 1)                                                                              \
            block_of(2, m, b, kc, packed);                                                         \
        else                                                                                       \
            block_of(1, m, b, kc, packed);                                                         \
        return
#else
#define ROWS(m)                                                                                    \
    case m:                                                                                        \
        block_of(1, m, b, kc, packed);                                                             \
        return
#endif
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
#endif
#undef ROWS
    }
}

/* Most groups that a panel has a part of. */
#define PANEL_GROUPS (PANEL_K / 8 + 1)

/* Some tiles on their way through k: what a panel's groups are scaled with stands ready in memory,
 * so that the product's loop has no branch but its ends. */
struct fused {
    int64_t group, next; /* elements a group has; where the panel's first one ends */
    struct reader r[FUSED_TILES];
    float scale[FUSED_TILES][PANEL_GROUPS][TILE_ROWS];
    float zero[FUSED_TILES][PANEL_GROUPS][TILE_ROWS];
};

/* Four columns from k on: decode those of each tile, then multiply them with m rows, the tiles in
 * turn so that neighbouring multiplications belong to different chains. */
INLINE void fused_quad(const enum kind kind, const enum dtype d, const int tiles, const int m,
                       const struct fused *f, const vf *scale, const vf *zero, const float *x,
                       int64_t k, const bool upper, vf *acc)
{
    vf w[FUSED_TILES][4];
#pragma GCC unroll 4
    for (int t = 0; t < tiles; t++)
        reader_quad(kind, d, true, &f->r[t], scale[t], zero[t], k, upper, w[t]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
#pragma GCC unroll 4
            for (int t = 0; t < tiles; t++)
                acc[t * m + i] = vf_fma(vf_set(x[j * m + i]), w[t][j], acc[t * m + i]);
}

/* Whole eights of columns [k, end) of a panel: chain [tiles][m][16] goes on. x: from k on. */
INLINE void fused_run(const enum kind kind, const enum dtype d, const int tiles, const int m,
                      const struct fused *f, const float *x, int64_t k, int64_t end, float *chain)
{
    vf acc[FUSED_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < tiles * m; i++)
        acc[i] = vf_load(chain + i * TILE_ROWS);
    // bytes of eight columns
    const int64_t eight = kind < KIND_CODEBOOK ? 256 : 16 * kind_bits(kind, f->r[0].w);
    int64_t next = f->next;
    for (int g = 0; k < end; g++, next += f->group) {
        vf scale[FUSED_TILES], zero[FUSED_TILES];
#pragma GCC unroll 4
        for (int t = 0; t < tiles; t++) {
            scale[t] = vf_load(f->scale[t][g]);
            zero[t] = vf_load(f->zero[t][g]);
        }
        for (int64_t to = next < end ? next : end; k < to; k += 8, x += 8 * m) {
            for (int t = 0; t < tiles; t++) // a stream's end is the next tile's beginning
                for (int64_t line = 0; line < eight; line += 64)
                    FETCH(f->r[t].data + k / 8 * eight + PREFETCH + line);
            fused_quad(kind, d, tiles, m, f, scale, zero, x, k, false, acc);
            fused_quad(kind, d, tiles, m, f, scale, zero, x + 4 * m, k + 4, true, acc);
        }
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

typedef void fused_function(const struct fused *f, const float *x, int64_t k, int64_t end,
                            float *chain);

/* fused_run for one kind, dtype, and number of tiles and rows. */
#define RUN(kind, d, tiles, m)                                                                     \
    static void run_##kind##_##d##_##tiles##_##m(const struct fused *f, const float *x, int64_t k, \
                                                 int64_t end, float *chain)                        \
    {                                                                                              \
        fused_run(KIND_##kind, DT_##d, tiles, m, f, x, k, end, chain);                             \
    }
#if FUSED_ROWS > 4
#define RUNS_OF_ISA(kind, d)                                                                       \
    RUN(kind, d, 4, 1)                                                                             \
    RUN(kind, d, 2, 2)                                                                             \
    RUN(kind, d, 1, 5)                                                                             \
    RUN(kind, d, 1, 6)                                                                             \
    RUN(kind, d, 1, 7)                                                                             \
    RUN(kind, d, 1, 8)
#define NAMES_OF_ISA(kind, d)                                                                      \
    .one_four = run_##kind##_##d##_4_1, .two_two = run_##kind##_##d##_2_2,                         \
    .rows[5] = run_##kind##_##d##_1_5, .rows[6] = run_##kind##_##d##_1_6,                          \
    .rows[7] = run_##kind##_##d##_1_7, .rows[8] = run_##kind##_##d##_1_8
#else
#define RUNS_OF_ISA(kind, d)
#define NAMES_OF_ISA(kind, d) .one_four = NULL
#endif

/* One row may take two or four tiles at once, two rows two; NULL: not with so few registers. */
struct runs {
    fused_function *one_two, *one_four, *two_two;
    fused_function *rows[FUSED_ROWS + 1]; /* one tile */
};

#define ONE_ROW(kind, d)                                                                           \
    RUN(kind, d, 2, 1)                                                                             \
    RUN(kind, d, 1, 1)
#define RUNS(kind, d)                                                                              \
    ONE_ROW(kind, d)                                                                               \
    RUN(kind, d, 1, 2)                                                                             \
    RUN(kind, d, 1, 3)                                                                             \
    RUN(kind, d, 1, 4)                                                                             \
    RUNS_OF_ISA(kind, d)                                                                           \
    static const struct runs runs_##kind##_##d = {.one_two = run_##kind##_##d##_2_1,               \
                                                  .rows[1] = run_##kind##_##d##_1_1,               \
                                                  .rows[2] = run_##kind##_##d##_1_2,               \
                                                  .rows[3] = run_##kind##_##d##_1_3,               \
                                                  .rows[4] = run_##kind##_##d##_1_4,               \
                                                  NAMES_OF_ISA(kind, d)};
/* Of what is rare, more rows than one go through panels. */
#define RARE_RUNS(kind, d)                                                                         \
    ONE_ROW(kind, d)                                                                               \
    static const struct runs runs_##kind##_##d = {.one_two = run_##kind##_##d##_2_1,               \
                                                  .rows[1] = run_##kind##_##d##_1_1};
#define CODED_RARE_RUNS(kind)                                                                      \
    RARE_RUNS(kind, F16)                                                                           \
    RARE_RUNS(kind, BF16)                                                                          \
    RARE_RUNS(kind, F32)
#define CODED_RUNS(kind)                                                                           \
    RUNS(kind, F16)                                                                                \
    RUNS(kind, BF16)                                                                               \
    RUNS(kind, F32)
RUNS(F16, F16)
RUNS(BF16, BF16)
CODED_RUNS(TABLE4)
CODED_RUNS(BITS4)
CODED_RUNS(BITS8)
CODED_RUNS(E4M3)
CODED_RARE_RUNS(BITS2)
CODED_RARE_RUNS(BITS3)
CODED_RARE_RUNS(BITS)
CODED_RARE_RUNS(E5M2)

/* The functions for w, NULL: there are none. */
static const struct runs *runs_of(const struct weight *w)
{
#define OF_DTYPE(kind)                                                                             \
    {                                                                                              \
        &runs_##kind##_F16, &runs_##kind##_BF16, &runs_##kind##_F32                                \
    }
    static const struct runs *const coded[][3] = {
        [KIND_TABLE4] = OF_DTYPE(TABLE4), [KIND_BITS4] = OF_DTYPE(BITS4),
        [KIND_BITS8] = OF_DTYPE(BITS8),   [KIND_BITS2] = OF_DTYPE(BITS2),
        [KIND_BITS3] = OF_DTYPE(BITS3),   [KIND_BITS] = OF_DTYPE(BITS),
        [KIND_E4M3] = OF_DTYPE(E4M3),     [KIND_E5M2] = OF_DTYPE(E5M2),
    };
#undef OF_DTYPE
    if (reader_places(w) != PLACES_RUNS)
        return NULL;
    enum kind kind = reader_kind(w);
    switch (kind) {
    case KIND_F16:
        return &runs_F16_F16;
    case KIND_BF16:
        return &runs_BF16_BF16;
    case KIND_F32: // a panel as it is stored
    case KIND_CODEBOOK:
        return NULL;
    default:
        return coded[kind][w->dtype == DT_F16 ? 0 : w->dtype == DT_BF16 ? 1 : 2];
    }
}

static bool fusable_simd(const struct weight *w, int m)
{
    const struct runs *runs = runs_of(w);
    return runs && m <= FUSED_ROWS && runs->rows[m];
}

/* Parameters of the groups that columns [k, end) have a part of; whether all of them are plain. */
INLINE bool fused_parameters(const enum kind kind, struct fused *f, int tiles, int64_t k,
                             int64_t end)
{
    bool plain = true;
    int64_t first = k / f->group;
    for (int t = 0; t < tiles; t++) {
        struct reader *r = &f->r[t];
        for (r->group = first; r->group * f->group < end; r->group++) {
            reader_load_group(r);
            plain &= is_plain(kind, r);
            vf_store(f->scale[t][r->group - first], reader_scale(kind, true, r->scale));
            vf_store(f->zero[t][r->group - first], r->zero);
        }
    }
    f->next = (first + 1) * f->group;
    return plain;
}

static bool fused_enter(enum kind kind, struct fused *f, int tiles, int64_t k, int64_t end)
{
    switch (kind) {
    case KIND_TABLE4:
        return fused_parameters(KIND_TABLE4, f, tiles, k, end);
    case KIND_BITS4:
    case KIND_BITS8:
    case KIND_BITS2:
    case KIND_BITS3:
    case KIND_BITS: // bounded alike
        return fused_parameters(KIND_BITS, f, tiles, k, end);
    case KIND_E4M3:
        return fused_parameters(KIND_E4M3, f, tiles, k, end);
    case KIND_E5M2:
        return fused_parameters(KIND_E5M2, f, tiles, k, end);
    default: // dense: none
        f->next = end;
        return true;
    }
}

/* The whole of k for some tiles: sum [tiles][m][16]. */
static void fused_tiles(fused_function *run, const struct weight *w, int64_t tile, int tiles,
                        const float *x, int m, float *sum)
{
    enum kind kind = reader_kind(w);
    struct fused f;
    float chain[FUSED_ROWS * TILE_ROWS];
    int n = tiles * m;
    f.group = w->encoding == ENC_DENSE ? PANEL_K : w->group;
    for (int t = 0; t < tiles; t++)
        reader_open(kind, &f.r[t], w, tile + t, 0);
    for (int i = 0; i < n; i++)
        vf_store(sum + i * TILE_ROWS, vf_zero());
    for (int64_t k = 0; k < w->k; k += PANEL_K) {
        int64_t end = w->k - k < PANEL_K ? w->k : k + PANEL_K;
        int64_t whole = fused_enter(kind, &f, tiles, k, end) ? end - end % 8 : k;
        for (int i = 0; i < n; i++)
            vf_store(chain + i * TILE_ROWS, vf_zero());
        if (k < whole)
            run(&f, x + k * m, k, whole, chain);
        if (whole < end)
            fused_rest(w, tile, tiles, m, x + whole * m, whole, end, chain);
        for (int i = 0; i < n; i++)
            vf_store(sum + i * TILE_ROWS,
                     vf_add(vf_load(sum + i * TILE_ROWS), vf_load(chain + i * TILE_ROWS)));
    }
}

static void fused_simd(const struct weight *w, int64_t tile, int64_t tiles, const float *x, int m,
                       float *sum)
{
    const struct runs *runs = runs_of(w);
    for (int64_t step; tiles > 0; tile += step, tiles -= step, sum += step * m * TILE_ROWS) {
        fused_function *run = runs->rows[m];
        // floats: two chains do as much as the memory gives, from fewer streams
        bool wide = w->encoding != ENC_DENSE;
        step = 1;
        if (m == 1 && wide && tiles >= 4 && runs->one_four) {
            run = runs->one_four;
            step = 4;
        } else if (m <= 2 && tiles >= 2 && (m == 1 || runs->two_two)) {
            run = m == 1 ? runs->one_two : runs->two_two;
            step = 2;
        }
        fused_tiles(run, w, tile, (int)step, x, m, sum);
    }
}

void TWIN(matmul)(struct twins *t)
{
    t->block_rows = BLOCK_ROWS;
    t->block_tiles = BLOCK_TILES;
    t->pack = pack_simd;
    t->block = block_simd;
    t->fusable = fusable_simd;
    t->fused = fused_simd;
}

#endif
#endif
