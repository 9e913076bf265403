/*
 * Fast mode's products over sixteen lanes: the text of fast_avx2.c, fast_avxvnni.c and
 * fast_avx512.c. A lane is a row of the tile, and a dword of a line four consecutive columns of it,
 * which is what vpdpbusd wants (AVX2: vpmaddubsw, vpmaddwd); a chunk of 32 columns is eight such
 * vectors, made of its lines once for all rows of a block. Bytes that have a sign carry BYTE_BIAS,
 * whose share of a dot is BYTE_BIAS * sum of q, with which the dot therefore begins.
 *
 * Roofline on one Zen 4 core with AVX-512 (512-bit operations: two a cycle over all pipes, one a
 * cycle of vpdpbusd, of fma, of shifts and shuffles), weights in the caches, for 16 elements, that
 * is a 32nd of a chunk; as cycles at 3.5 GHz and the bytes that pass in them:
 *
 *                        bytes  operations of a chunk                         least  reached
 *   NF4, one row           9    4 shifts, 8 look-ups, 8 dots, convert, fma     0.38    0.62
 *   the same, nested       8.3  and every second time a gather of 16 floats      ?     1.08
 *   4 bits, one row        8.3  4 shifts, 8 masks, 8 dots, convert, fma        0.34    0.51
 *   8 bits, one row       16    8 dots, convert, fma                           0.28    0.60
 *   2 bits, one row        4.3  6 shifts, 8 masks, 8 dots, convert, fma        0.36    0.57
 *   3 bits, one row        6.3  11 shifts, 16 masks, 8 ors, and the same       0.66    0.93
 *   8-bit floats, one row 16    16 look-ups, 8 masks, 16 subtractions, 16
 *                               dots, shift, add, convert, fma                 1.1     1.5
 *   a further row          1.3  8 dots, convert, fma                           0.28    0.31 to 0.36
 *
 * Groups of 8 and 16 columns cost a group's end for every second or fourth vector: HQQ 2 bits in
 * groups of 16 2.6 cycles, 4 bits in groups of 8 2.6.
 *
 * A further row of 8-bit floats takes 16 dots: 0.52. An 8-bit float is an integer of 15 bits here,
 * two bytes of seven bits with its sign, so that one look-up of 128 entries gives each of them.
 *
 * AVX2 on the same core, one row and a further one: NF4 1.5 and 0.9, 4 bits 0.8 and 0.6, 8 bits 1.1
 * and 0.9 (signed bytes cost two operations more a dot), 8-bit floats, there words, 5.2 (E4M3,
 * which has a way of its own there, took 6.5 when it went through halves too, and takes two thirds
 * of the operations since). So two cores with AVX-512 read NF4 faster than this machine's memory
 * gives it; from two rows on the arithmetic bounds a product, at 0.7 of the peak of vpdpbusd.
 */
#ifndef OFTD_BACKENDS_KERNELS_FAST_SIMD_H
#define OFTD_BACKENDS_KERNELS_FAST_SIMD_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "backends/kernels/fast_dots_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* ---- rows to bytes ---- */

/* 32 values times inverse, as integers; sum and energy of those. */
INLINE int32_t quantize_32(vf lo, vf hi, float inverse, struct fast_chunk *out)
{
    vi a = vi_round(vf_mul(lo, vf_set(inverse))), b = vi_round(vf_mul(hi, vf_set(inverse)));
    vi_store_bytes(out->q, a);
    vi_store_bytes(out->q + LANES, b);
    out->sum = vi_sum(vi_add(a, b));
    return vi_sum(vi_add(vi_mul(a, a), vi_mul(b, b)));
}

/* x - d q of sixteen values. */
INLINE vf quantize_rest(vf x, float d, float inverse)
{
    return vf_fma(vf_set(-d), vf_of_int(vi_round(vf_mul(x, vf_set(inverse)))), x);
}

INLINE bool quantize_chunk(const float *x, struct fast_chunk *coarse, struct fast_chunk *fine)
{
    vf lo = vf_load(x), hi = vf_load(x + LANES);
    const vi magnitude = vi_set(0x7fffffff);
    // magnitudes compare as integers, NaN above infinity above all others
    int32_t bits =
        vi_largest(vi_max(vi_and(vi_of_bits(lo), magnitude), vi_and(vi_of_bits(hi), magnitude)));
    float peak;
    memcpy(&peak, &bits, sizeof peak);
    memset(fine, 0, sizeof *fine);
    if (__builtin_expect(!(peak >= 0x1p-100f && peak <= FLT_MAX), 0)) {
        memset(coarse, 0, sizeof *coarse);
        coarse->scale = peak < 0x1p-100f ? 0 : NAN;
        return false;
    }
    float inverse = 127 / peak, d = coarse->scale = peak / 127;
    if (quantize_32(lo, hi, inverse, coarse) >= OUTLIER_ENERGY)
        return false;
    fine->scale = d / 254;
    quantize_32(quantize_rest(lo, d, inverse), quantize_rest(hi, d, inverse), 254 / d, fine);
    return true;
}

static void quantize_simd(const float *x, int64_t k, struct fast_chunk *coarse,
                          struct fast_chunk *fine, uint8_t *has_fine, int64_t step)
{
    int64_t j = 0;
    for (; j + TILE_K <= k; j += TILE_K, coarse += step, fine += step, has_fine += FAST_ROWS)
        *has_fine = quantize_chunk(x + j, coarse, fine);
    if (j == k)
        return;
    float rest[TILE_K] = {0};
    memcpy(rest, x + j, (size_t)(k - j) * sizeof *x);
    *has_fine = quantize_chunk(rest, coarse, fine);
}

static float sum_part_simd(const struct fast_chunk *coarse, const struct fast_chunk *fine,
                           int64_t step, int64_t from, int64_t n)
{
    return fast_sum_part(coarse, fine, step, from, n);
}

/* ---- products ---- */

/* The same of group r->group. */
INLINE void add_group(const enum kind kind, const int m, struct reader *r, const float *parts,
                      const vf acc[], vf total[])
{
    reader_load_group(r);
    add_scaled(kind, m, r->w, r->scale, r->zero, parts, acc, total);
}

INLINE void fast_tile(const enum kind kind, const int m, const struct weight *w, int64_t tile,
                      const struct fast_block *b, float *sum)
{
    const float *parts = b->parts;
    int64_t chunks = w->k_padded / TILE_K, per = fast_group(w) / TILE_K, c = 0;
    const struct tables t = tables_of(kind, w);
    struct reader r;
    vf total[FAST_ROWS];
    reader_open(kind, &r, w, tile, 0);
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        total[i] = vf_zero();
    for (r.group = 0; r.group < w->n_groups; r.group++, parts += m) {
        vf acc[FAST_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            acc[i] = vf_zero();
        for (int64_t end = c + per < chunks ? c + per : chunks; c < end; c++)
            add_rows(kind, m, &r, &t, c, b, acc);
        add_group(kind, m, &r, parts, acc, total);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        vf_store(sum + i * TILE_ROWS, total[i]);
}

/* A group's n quads of a chunk, from the first one on. */
INLINE void add_quads(const int m, const int first, const int n, const vi codes[16],
                      const struct fast_chunk *a, vf acc[])
{
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) {
        vi dot = dots_some(n, codes + first, a[i].q + 4 * first);
        acc[i] = vf_fma(vf_set(a[i].scale), vf_of_int(dot), acc[i]);
    }
}

/* fast_tile where a chunk has 8 / n groups, of n quads each; codes of less than 8 bits. Factors as
 * a function gives them, or (NULL) those of the kind; parameters of dtype d, or (I16) any. */
INLINE void fast_small(const enum kind kind, factors_function *factors, const enum dtype d,
                       const int n, const int m, const struct weight *w, int64_t tile,
                       const struct fast_block *b, float *sum)
{
    static const struct tables none;
    const float *parts = b->parts;
    struct reader r;
    vf total[FAST_ROWS];
    reader_open(KIND_BITS, &r, w, tile, 0);
    r.group = 0;
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        total[i] = vf_zero();
    for (int64_t c = 0; c < w->k_padded / TILE_K; c++) {
        const bool fine = any_fine(b->has_fine + c * FAST_ROWS);
        vi codes[16];
        if (factors)
            factors(&r, c, codes);
        else
            chunk_factors(kind, &r, &none, c, AHEAD, codes);
#pragma GCC unroll 4
        for (int first = 0; first < 8; first += n, r.group++, parts += m) {
            vf acc[FAST_ROWS];
            if (r.group >= w->n_groups)
                break;
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                acc[i] = vf_zero();
            add_quads(m, first, n, codes, b->coarse + c * m, acc);
            if (fine)
                add_quads(m, first, n, codes, b->fine + c * m, acc);
            if (d == DT_I16) {
                add_group(KIND_BITS, m, &r, parts, acc, total);
                continue;
            }
            int64_t index = (tile * w->n_groups + r.group) * TILE_ROWS;
            add_scaled(KIND_BITS, m, w, reader_parameter(w->scales, d, index),
                       reader_parameter(w->zeros, d, index), parts, acc, total);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        vf_store(sum + i * TILE_ROWS, total[i]);
}

#define FAST(kind, m)                                                                              \
    static void fast_##kind##_##m(const struct weight *w, int64_t tile,                            \
                                  const struct fast_block *b, float *sum)                          \
    {                                                                                              \
        fast_tile(KIND_##kind, m, w, tile, b, sum);                                                \
    }
#define FAST_KIND(kind)                                                                            \
    FAST(kind, 1)                                                                                  \
    FAST(kind, 2)                                                                                  \
    FAST(kind, 3)                                                                                  \
    FAST(kind, 4)                                                                                  \
    FAST(kind, 5)                                                                                  \
    FAST(kind, 6)                                                                                  \
    FAST(kind, 7)                                                                                  \
    FAST(kind, 8)
FAST_KIND(TABLE4)
FAST_KIND(BITS4)
FAST_KIND(BITS8)
FAST_KIND(BITS2)
FAST_KIND(BITS3)
FAST_KIND(BITS)
FAST_KIND(E4M3)
FAST_KIND(E5M2)

#define FAST_SMALL(n, m)                                                                           \
    static void fast_small_##n##_##m(const struct weight *w, int64_t tile,                         \
                                     const struct fast_block *b, float *sum)                       \
    {                                                                                              \
        fast_small(KIND_BITS, factors_of(reader_kind(w)), DT_I16, n, m, w, tile, b, sum);          \
    }
#define FAST_SMALLS(n)                                                                             \
    FAST_SMALL(n, 1)                                                                               \
    FAST_SMALL(n, 2)                                                                               \
    FAST_SMALL(n, 3)                                                                               \
    FAST_SMALL(n, 4)                                                                               \
    FAST_SMALL(n, 5)                                                                               \
    FAST_SMALL(n, 6)                                                                               \
    FAST_SMALL(n, 7)                                                                               \
    FAST_SMALL(n, 8)
FAST_SMALLS(2)
FAST_SMALLS(4)

/* One row of what is common: scales and zeros are halves. */
#define SMALL_ROW(kind, d, n)                                                                      \
    static void row_##kind##_##d##_##n(const struct weight *w, int64_t tile,                       \
                                       const struct fast_block *b, float *sum)                     \
    {                                                                                              \
        fast_small(KIND_##kind, NULL, DT_##d, n, 1, w, tile, b, sum);                              \
    }
SMALL_ROW(BITS2, F16, 2)
SMALL_ROW(BITS2, F16, 4)
SMALL_ROW(BITS2, BF16, 2)
SMALL_ROW(BITS2, BF16, 4)
SMALL_ROW(BITS4, F16, 2)
SMALL_ROW(BITS4, F16, 4)
SMALL_ROW(BITS4, BF16, 2)
SMALL_ROW(BITS4, BF16, 4)

/* The function for one row, NULL: it is none of these. */
static fast_function *small_row(const struct weight *w)
{
    static fast_function *const rows[2][2][2] = {
        {{row_BITS2_F16_2, row_BITS2_F16_4}, {row_BITS2_BF16_2, row_BITS2_BF16_4}},
        {{row_BITS4_F16_2, row_BITS4_F16_4}, {row_BITS4_BF16_2, row_BITS4_BF16_4}}};
    bool halves = w->scale_dtype == DT_F16 || w->scale_dtype == DT_BF16;
    if (!w->zeros || w->zero_dtype != w->scale_dtype || !halves || (w->bits != 2 && w->bits != 4))
        return NULL;
    return rows[w->bits == 4][w->scale_dtype == DT_BF16][w->group / 16];
}

static void fast_simd(const struct weight *w, int64_t tile, const struct fast_block *b, int m,
                      float *sum)
{
    static fast_function *const functions[][FAST_ROWS] = {
        [KIND_TABLE4] = OF_ROWS(fast_TABLE4), [KIND_BITS4] = OF_ROWS(fast_BITS4),
        [KIND_BITS8] = OF_ROWS(fast_BITS8),   [KIND_BITS2] = OF_ROWS(fast_BITS2),
        [KIND_BITS3] = OF_ROWS(fast_BITS3),   [KIND_BITS] = OF_ROWS(fast_BITS),
        [KIND_E4M3] = OF_ROWS(fast_E4M3),     [KIND_E5M2] = OF_ROWS(fast_E5M2),
    };
    static fast_function *const small[][FAST_ROWS] = {OF_ROWS(fast_small_2), OF_ROWS(fast_small_4)};
    if (w->grouping == GROUPS_FLAT) {
        TWIN(fast_flat)(w, tile, b, m, sum);
        return;
    }
    if (fast_group(w) < TILE_K) {
        fast_function *one = m == 1 ? small_row(w) : NULL;
        (one ? one : small[w->group / 16][m - 1])(w, tile, b, sum);
        return;
    }
    functions[reader_kind(w)][m - 1](w, tile, b, sum);
}

void TWIN(fast)(struct twins *t)
{
    t->quantize = quantize_simd;
    t->sum_part = sum_part_simd;
    t->fast = fast_simd;
}

#endif
#endif
