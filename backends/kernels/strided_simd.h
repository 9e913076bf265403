/*
 * Fast mode's products with strided groups over sixteen lanes: the text of strided_avx2.c,
 * strided_avxvnni.c, strided_avx512.c and strided_neon.c. A lane is a row of the tile, in y as in
 * the codes.
 *
 * Roofline on one Zen 4 core with AVX-512 (as in fast_simd.h), weights in the caches, for 16
 * elements, as cycles at 3.5 GHz:
 *
 *                       bytes  operations of a chunk                            least  reached
 *   y                     -    128 shuffles (two transposes), 64 conversions,
 *                              and about 12 a column                             9
 *   4 bits, a tile       10    4 shifts, 8 masks, 8 dots that load, convert,
 *                              subtract, fma                                     0.36
 *   4 bits, one row            y for 64 tiles, and the tiles                     0.5    1.2
 *   8, 3 and 2 bits                                                                     1.6, 1.4,
 *                                                                                       1.1
 *
 * A dot loads 64 bytes of y beside its share of the codes, from the second-level cache when a panel
 * of y (20 to 40 KB) leaves the first. A panel of codes is 4 KB or so of each tile, too short for
 * the processor to fetch ahead by itself: with the next call's codes fetched meanwhile 2 bits take
 * half the time (weights in memory). y is as many elements as there are parameters, and each costs
 * what about twelve elements of a product do: groups of 64 add a fifth (twice that where residues
 * are no multiple of 16, so that a tile has some that another has too), groups of 16 three
 * quarters. That, not the codes, bounds groups of 16: half of NF4's bytes a second. Up to four rows
 * of x share the codes' unpacking and the parameters' transposes, about half of all.
 */
#ifndef OFTD_BACKENDS_KERNELS_STRIDED_SIMD_H
#define OFTD_BACKENDS_KERNELS_STRIDED_SIMD_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "backends/kernels/decode_rows_simd.h"
#include "backends/kernels/fast_factors_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* ---- y ---- */

/* The bytes of y times inverse, which is 0 in lanes that have none: q to the part, the sum of their
 * squares to energy. What is not finite makes anything of its lane, whose scale is NaN. */
INLINE void quantize_lanes(const vf *y, const vf *zero, vf inverse, vf scale,
                           struct strided_part *to, vf *energy)
{
    vf bias = vf_zero(), squares = bias;
#pragma GCC unroll 1
    for (int i = 0; i < TILE_K / 4; i++) {
        vi q[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            q[j] = vi_round(vf_mul(y[4 * i + j], inverse));
            vf whole = vf_of_int(q[j]);
            squares = vf_fma(whole, whole, squares);
            bias = vf_fma(zero[4 * i + j], whole, bias);
        }
        vi_store(to->q[i], vi_bytes(q[0], q[1], q[2], q[3]));
    }
    vf_store(to->scale, scale);
    vf_store(to->bias, bias);
    *energy = squares;
}

/* Lanes of less than OUTLIER_ENERGY have second parts; y becomes what the first leaves of it. */
static __attribute__((noinline)) void make_fine(vf *y, const vf *zero, vf inverse, vf scale,
                                                vf energy, struct strided_part *to)
{
    vf none;
    const vf less = vf_sub(vf_zero(), scale);
    for (int j = 0; j < TILE_K; j++)
        y[j] = vf_fma(less, vf_of_int(vi_round(vf_mul(y[j], inverse))), y[j]);
    inverse = vf_less(energy, vf_set(OUTLIER_ENERGY), vf_div(vf_set(254), scale), vf_zero());
    scale = vf_less(energy, vf_set(OUTLIER_ENERGY), vf_div(scale, vf_set(254)), vf_zero());
    quantize_lanes(y, zero, inverse, scale, to, &none);
}

/* One chunk of x [32] times scales, whose zeros are zero. */
INLINE void make_chunk(const float *x, const vf *scales, const vf *zero, struct strided_chunk *to)
{
    vf energy, y[TILE_K];
    vi bits = vi_set(0);
    for (int j = 0; j < TILE_K; j++) { // magnitudes compare as integers, NaN above infinity
        y[j] = vf_mul(vf_set(x[j]), scales[j]);
        bits = vi_max(bits, vi_and(vi_of_bits(y[j]), vi_set(0x7fffffff)));
    }
    const vf peak = vf_of_bits(bits);
    // 0 where there are no bytes: too small, infinity or NaN
    vf limit = vf_less(peak, vf_set(INFINITY), peak, vf_zero());
    limit = vf_less(limit, vf_set(0x1p-100f), vf_zero(), limit);
    vf inverse = vf_less(vf_zero(), limit, vf_div(vf_set(127), peak), vf_zero());
    vf scale = vf_less(vf_zero(), limit, vf_div(peak, vf_set(127)),
                       vf_less(peak, vf_set(0x1p-100f), vf_zero(), vf_set(NAN)));
    quantize_lanes(y, zero, inverse, scale, &to->coarse, &energy);
    // a lane without bytes has no energy, or too much, and wants no second part
    energy = vf_less(vf_zero(), energy, energy, vf_set(OUTLIER_ENERGY));
    to->has_fine = vf_largest(vf_sub(vf_set(OUTLIER_ENERGY), energy)) > 0;
    if (to->has_fine)
        make_fine(y, zero, inverse, scale, energy, &to->fine);
}

/* Thirty-two BF16 parameters of each row, whose pairs are transposed as one. */
static __attribute__((noinline)) void pairs_of(const void *p, const int64_t index[], vf v[TILE_K])
{
    vf pairs[LANES];
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++)
        pairs[r] = vf_of_bits(vi_load((const uint16_t *)p + index[r]));
    vf_transpose(pairs);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        v[2 * i] = vf_of_bits(vi_sll(vi_of_bits(pairs[i]), 16));
        v[2 * i + 1] = vf_of_bits(vi_and(vi_of_bits(pairs[i]), vi_set((int32_t)0xffff0000)));
    }
}

/* Scales and zeros of a chunk's columns, a column's rows in a vector. */
INLINE void chunk_columns(const struct weight *w, struct row_places *p, vf scale[TILE_K],
                          vf zero[TILE_K])
{
    int64_t last = 0;
    for (int r = 0; r < TILE_ROWS; r++)
        last = p->index[r] > last ? p->index[r] : last;
    if (w->scale_dtype != DT_BF16 || w->zero_dtype != DT_BF16 || !w->zeros ||
        last + TILE_K >= w->n_groups) {
        for (int half = 0; half < TILE_K; half += LANES)
            strided_columns(w, p, scale + half, zero + half);
        return;
    }
    pairs_of(w->scales, p->index, scale);
    pairs_of(w->zeros, p->index, zero);
    for (int r = 0; r < TILE_ROWS; r++)
        p->index[r] += TILE_K;
}

static void strided_rows_simd(const struct weight *w, int64_t tile, int64_t k, int64_t n,
                              const float *x, int64_t ldx, int m, struct strided_chunk *to)
{
    struct row_places p;
    vf zero[TILE_K], scale[TILE_K];
    for (int i = 0; i < TILE_K; i++)
        zero[i] = vf_zero();
    places_open(w, tile, k, &p);
    for (int64_t r = p.rows; r < TILE_ROWS; r++)
        p.index[r] = weight_group(w, tile * TILE_ROWS + r, k);
    for (int64_t j = 0; j < n; j += TILE_K) {
        chunk_columns(w, &p, scale, zero);
        for (int i = 0; i < m; i++, to++) {
            float rest[TILE_K] = {0};
            const float *from = x + i * ldx + j;
            if (n - j < TILE_K)
                from = memcpy(rest, from, (size_t)(n - j) * sizeof *from);
            make_chunk(from, scale, zero, to);
        }
    }
}

/* ---- products ---- */

/* sum goes on with a chunk's dot. */
INLINE vf add_dot(vi dot, const struct strided_part *y, vf sum)
{
    return vf_fma(vf_load(y->scale), vf_sub(vf_of_int(dot), vf_load(y->bias)), sum);
}

INLINE vf add_part(const enum kind kind, const vi codes[8], const struct strided_part *y, vf sum)
{
    return add_dot(kind == KIND_BITS8 ? dots_lanes_bytes(codes, y->q) : dots_lanes(codes, y->q), y,
                   sum);
}

/* A chunk's codes up to 15 times the first parts of m rows, each vector as soon as it is there. */
INLINE void add_nibbles(const enum kind kind, const int m, const struct reader *r, int64_t chunk,
                        int64_t ahead, const struct strided_chunk *y, vi codes[16], vf total[])
{
    static const struct tables none;
    const uint8_t *data = chunk_data(kind, r, chunk, ahead);
    vi dot[STRIDED_ROWS], line = vi_set(0);
#pragma GCC unroll 4
    for (int i = 0; i < m; i++)
        dot[i] = vi_set(0);
#pragma GCC unroll 8
    for (int four = 0; four < TILE_K / 4; four++) {
        codes[four] = quad_factors(kind, r, &none, chunk, data, four, &line);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            dot[i] = lanes_add(dot[i], codes[four], y[i].coarse.q[four]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++)
        total[i] = add_dot(lanes_sum(dot[i]), &y[i].coarse, total[i]);
}

INLINE void strided_tile(const enum kind kind, const int m, const struct weight *w, int64_t tile,
                         int64_t k, int64_t n, const struct strided_chunk *y, int64_t ahead,
                         float *sum)
{
    static const struct tables none;
    const bool nibbles = has_nibbles(kind);
    struct reader r = {.w = w, .tile = tile};
    int64_t chunks = (n + TILE_K - 1) / TILE_K, first = tile * (w->k_padded / TILE_K) + k / TILE_K;
    vf total[STRIDED_ROWS];
    r.data = (const uint8_t *)w->data + first * 64 * kind_bits(kind, w);
#pragma GCC unroll 4
    for (int i = 0; i < m; i++)
        total[i] = vf_load(sum + i * TILE_ROWS);
    for (int64_t c = 0; c < chunks; c++, y += m) {
        vi codes[16];
        int64_t fine = 0;
        if (nibbles)
            add_nibbles(kind, m, &r, c, ahead, y, codes, total);
        else
            chunk_factors(kind, &r, &none, c, ahead, codes);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            if (!nibbles)
                total[i] = add_part(kind, codes, &y[i].coarse, total[i]);
            fine |= y[i].has_fine;
        }
        if (__builtin_expect(!fine, 1))
            continue;
        if (CODES_AGAIN && nibbles)
            chunk_factors(kind, &r, &none, c, 0, codes);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            if (y[i].has_fine)
                total[i] = add_part(kind, codes, &y[i].fine, total[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++)
        vf_store(sum + i * TILE_ROWS, total[i]);
}

INLINE void strided_kind(const enum kind kind, const struct weight *w, int64_t tile, int64_t k,
                         int64_t n, const struct strided_chunk *y, int m, int64_t ahead, float *sum)
{
    switch (m) {
    case 1:
        strided_tile(kind, 1, w, tile, k, n, y, ahead, sum);
        return;
    case 2:
        strided_tile(kind, 2, w, tile, k, n, y, ahead, sum);
        return;
    case 3:
        strided_tile(kind, 3, w, tile, k, n, y, ahead, sum);
        return;
    default:
        strided_tile(kind, 4, w, tile, k, n, y, ahead, sum);
    }
}

static void strided_simd(const struct weight *w, int64_t tile, int64_t k, int64_t n,
                         const struct strided_chunk *y, int m, int64_t ahead, float *sum)
{
    switch (reader_kind(w)) {
    case KIND_BITS8:
        strided_kind(KIND_BITS8, w, tile, k, n, y, m, ahead, sum);
        return;
    case KIND_BITS4:
        strided_kind(KIND_BITS4, w, tile, k, n, y, m, ahead, sum);
        return;
    case KIND_BITS3:
        strided_kind(KIND_BITS3, w, tile, k, n, y, m, ahead, sum);
        return;
    case KIND_BITS2:
        strided_kind(KIND_BITS2, w, tile, k, n, y, m, ahead, sum);
        return;
    default:
        strided_kind(KIND_BITS, w, tile, k, n, y, m, ahead, sum);
    }
}

void TWIN(strided)(struct twins *t)
{
    t->strided_rows = strided_rows_simd;
    t->strided = strided_simd;
}

#endif
#endif
