/*
 * Fast mode's products with strided groups over sixteen lanes: the text of strided_avx2.c,
 * strided_avx512.c and strided_neon.c. A lane is a row of the tile, in y as in the codes.
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
 * of y (20 to 40 KB) leaves the first; that, and y where few tiles share it (64 where W has 2048
 * rows in groups of 64), is what bounds a product. A further row costs as much as one.
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

/* The bytes of a chunk times inverse, those of lanes with limit >= bound being 0: q to the part,
 * the sum of their squares to energy. rest: y is made what q leaves of it. */
INLINE void quantize_lanes(vf *y, const vf *zero, vf inverse, vf scale, vf limit, float bound,
                           const bool rest, struct strided_part *to, vf *energy)
{
    vf bias = vf_zero(), squares = bias;
#pragma GCC unroll 1
    for (int i = 0; i < TILE_K / 4; i++) {
        vi four = vi_set(0);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vf v = vf_less(limit, vf_set(bound), vf_mul(y[4 * i + j], inverse), vf_zero());
            vi q = vi_round(v);
            vf whole = vf_of_int(q);
            squares = vf_fma(whole, whole, squares);
            bias = vf_fma(zero[4 * i + j], whole, bias);
            if (rest)
                y[4 * i + j] = vf_fma(vf_sub(vf_zero(), scale), whole, y[4 * i + j]);
            four = vi_or(four, vi_sll(vi_and(q, vi_set(255)), 8 * j));
        }
        vi_store(to->q[i], four);
    }
    vf_store(to->scale, scale);
    vf_store(to->bias, bias);
    *energy = squares;
}

/* One chunk from y and zero, [32] each. */
INLINE void make_chunk(vf *y, const vf *zero, struct strided_chunk *to)
{
    vf energy, none;
    vi bits = vi_set(0);
    for (int j = 0; j < TILE_K; j++) // magnitudes compare as integers, NaN above infinity
        bits = vi_max(bits, vi_and(vi_of_bits(y[j]), vi_set(0x7fffffff)));
    const vf peak = vf_of_bits(bits);
    // 0 where there are no bytes: too small, infinity or NaN
    vf limit = vf_less(peak, vf_set(INFINITY), peak, vf_zero());
    limit = vf_less(limit, vf_set(0x1p-100f), vf_zero(), limit);
    vf dead = vf_less(vf_zero(), limit, vf_zero(), vf_set(1));
    vf inverse = vf_div(vf_set(127), peak);
    vf scale = vf_less(vf_zero(), limit, vf_div(peak, vf_set(127)),
                       vf_less(peak, vf_set(0x1p-100f), vf_zero(), vf_set(NAN)));
    quantize_lanes(y, zero, inverse, scale, dead, 1, true, &to->coarse, &energy);
    // a lane without bytes has no energy and wants no second part
    energy = vf_less(vf_zero(), energy, energy, vf_set(OUTLIER_ENERGY));
    to->has_fine = vf_largest(vf_sub(vf_set(OUTLIER_ENERGY), energy)) > 0;
    if (!to->has_fine)
        return;
    inverse = vf_div(vf_set(254), scale);
    vf second = vf_less(energy, vf_set(OUTLIER_ENERGY), vf_div(scale, vf_set(254)), vf_zero());
    quantize_lanes(y, zero, inverse, second, energy, OUTLIER_ENERGY, false, &to->fine, &none);
}

static void strided_rows_simd(const struct weight *w, int64_t tile, int64_t k, int64_t n,
                              const float *x, struct strided_chunk *to)
{
    struct row_places p;
    vf zero[TILE_K], y[TILE_K];
    for (int i = 0; i < TILE_K; i++)
        zero[i] = vf_zero();
    places_open(w, tile, k, &p);
    for (int64_t r = p.rows; r < TILE_ROWS; r++)
        p.index[r] = weight_group(w, tile * TILE_ROWS + r, k);
    for (int64_t j = 0; j < n; j += TILE_K, to++) {
        float rest[TILE_K] = {0};
        const float *from = x + j;
        if (n - j < TILE_K)
            from = memcpy(rest, from, (size_t)(n - j) * sizeof *from);
        for (int half = 0; half < TILE_K; half += LANES)
            strided_columns(w, &p, y + half, zero + half);
        for (int i = 0; i < TILE_K; i++)
            y[i] = vf_mul(vf_set(from[i]), y[i]);
        make_chunk(y, zero, to);
    }
}

/* ---- products ---- */

INLINE vf add_part(const enum kind kind, const vi codes[8], const struct strided_part *y, vf sum)
{
    vi dot = kind == KIND_BITS8 ? dots_lanes_bytes(codes, y->q) : dots_lanes(codes, y->q);
    return vf_fma(vf_load(y->scale), vf_sub(vf_of_int(dot), vf_load(y->bias)), sum);
}

INLINE void strided_tile(const enum kind kind, const struct weight *w, int64_t tile, int64_t k,
                         int64_t n, const struct strided_chunk *y, float *sum)
{
    static const struct tables none;
    struct reader r = {.w = w, .tile = tile};
    int64_t chunks = (n + TILE_K - 1) / TILE_K, first = tile * (w->k_padded / TILE_K) + k / TILE_K;
    r.data = (const uint8_t *)w->data + first * 64 * kind_bits(kind, w);
    vf total = vf_load(sum);
    for (int64_t c = 0; c < chunks; c++, y++) {
        vi codes[16];
        chunk_factors(kind, &r, &none, c, codes);
        total = add_part(kind, codes, &y->coarse, total);
        if (y->has_fine)
            total = add_part(kind, codes, &y->fine, total);
    }
    vf_store(sum, total);
}

static void strided_simd(const struct weight *w, int64_t tile, int64_t k, int64_t n,
                         const struct strided_chunk *y, float *sum)
{
    switch (reader_kind(w)) {
    case KIND_BITS8:
        strided_tile(KIND_BITS8, w, tile, k, n, y, sum);
        return;
    case KIND_BITS4:
        strided_tile(KIND_BITS4, w, tile, k, n, y, sum);
        return;
    case KIND_BITS3:
        strided_tile(KIND_BITS3, w, tile, k, n, y, sum);
        return;
    case KIND_BITS2:
        strided_tile(KIND_BITS2, w, tile, k, n, y, sum);
        return;
    default:
        strided_tile(KIND_BITS, w, tile, k, n, y, sum);
    }
}

void TWIN(strided)(struct twins *t)
{
    t->strided_rows = strided_rows_simd;
    t->strided = strided_simd;
}

#endif
#endif
