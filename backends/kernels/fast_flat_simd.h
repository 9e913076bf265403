/*
 * Fast mode's products with flat groups over sixteen lanes (fast_simd.h says what is common): the
 * text of fast_flat_avx2.c, fast_flat_avx512.c and fast_flat_neon.c. A chunk lies in one group in
 * every row, but the rows enter their next groups at different chunks.
 *
 * A row's groups lie side by side, so sixteen of each row are loaded at once and transposed: then a
 * vector has the same one, the g-th, of all rows. At chunk c of a row that begins `start` chunks
 * into a group of `per` the group is (start + c) / per, which is c / per or the one after it, so a
 * chunk's parameters are chosen among two vectors. Rows beyond the last one read the last group,
 * and nobody reads them.
 *
 * Parameters of 64 columns cost 8 shuffles and loads, a gather more where absmax are nested, and
 * the choice two operations a chunk; before, with a gather or sixteen loads for each change of one
 * of the rows, flat groups took two to five times as long as others.
 */
#ifndef OFTD_BACKENDS_KERNELS_FAST_FLAT_SIMD_H
#define OFTD_BACKENDS_KERNELS_FAST_FLAT_SIMD_H

#include "backends/kernels/decode_rows_simd.h"
#include "backends/kernels/fast_dots_simd.h"

#ifdef LANES

struct flat_places {
    int64_t index[TILE_ROWS];     /* of the first group of scale and zero, in each row */
    vi start;                     /* chunks of a row's first group that lie before it */
    vf scale[LANES], zero[LANES]; /* sixteen groups of all rows */
    int64_t at, since, per;       /* which of them, its chunk, and how many it has */
};

/* The absmax of sixteen blocks of each row. */
static __attribute__((noinline)) void flat_nested(const struct weight *w, const int64_t index[],
                                                  vf v[LANES])
{
    const uint8_t *codes = w->scales;
    for (int r = 0; r < TILE_ROWS; r++) {
        int64_t i = index[r], block = i / w->nested_block, left = (block + 1) * w->nested_block - i;
        if (i + LANES <= w->n_groups && w->nested_block >= LANES) {
            const float *absmax = w->nested_absmax + block;
            vf outer = vf_set(*absmax);
            if (left < LANES)
                outer =
                    vf_less(vf_of_int(vi_iota()), vf_set((float)left), outer, vf_set(absmax[1]));
            vf map = vf_gather(w->nested_map, vi_load_u8(codes + i));
            v[r] = vf_add(vf_mul(map, outer), vf_set(w->nested_offset));
            continue;
        }
        float values[LANES];
        for (int c = 0; c < LANES; c++, i += i + 1 < w->n_groups)
            values[c] =
                w->nested_map[codes[i]] * w->nested_absmax[i / w->nested_block] + w->nested_offset;
        v[r] = vf_load(values);
    }
    vf_transpose(v);
}

static __attribute__((noinline)) void flat_fill(const struct weight *w, struct flat_places *p)
{
    int64_t index[TILE_ROWS];
    for (int r = 0; r < TILE_ROWS; r++)
        index[r] = p->index[r] < w->n_groups ? p->index[r] : w->n_groups - 1;
    if (w->nested)
        flat_nested(w, index, p->scale);
    else
        strided_of(w->scales, w->scale_dtype, index, w->n_groups, p->scale);
    if (w->zeros)
        strided_of(w->zeros, w->zero_dtype, index, w->n_groups, p->zero);
}

INLINE void flat_open(const struct weight *w, int64_t tile, struct flat_places *p)
{
    int32_t start[LANES];
    p->at = p->since = 0;
    p->per = w->group / TILE_K;
    for (int64_t r = 0; r < TILE_ROWS; r++) {
        int64_t at = (w->flat_row + tile * TILE_ROWS + r) * w->flat_k + w->flat_col;
        p->index[r] = at / w->group;
        start[r] = (int32_t)(at % w->group / TILE_K);
        p->zero[r] = vf_zero();
    }
    p->start = vi_load(start);
    flat_fill(w, p);
}

/* Scale and zero of the chunk, and a chunk further on. */
INLINE void flat_step(const struct weight *w, struct flat_places *p, vf *scale, vf *zero)
{
    vf ahead = vf_of_int(vi_sub(p->start, vi_set((int32_t)(p->per - p->since))));
    *scale = vf_less(ahead, vf_zero(), p->scale[p->at], p->scale[p->at + 1]);
    *zero = vf_less(ahead, vf_zero(), p->zero[p->at], p->zero[p->at + 1]);
    if (++p->since < p->per)
        return;
    p->since = 0;
    if (++p->at < LANES - 1)
        return;
    p->at = 0;
    for (int r = 0; r < TILE_ROWS; r++)
        p->index[r] += LANES - 1;
    flat_fill(w, p);
}

/* A tile times m rows; factors as a function gives them, or (NULL) those of the kind. */
INLINE void flat_tile(const enum kind kind, factors_function *factors, const int m,
                      const struct weight *w, int64_t tile, const struct fast_block *b, float *sum)
{
    const struct tables t = tables_of(kind, w);
    const float *parts = b->parts;
    struct reader r;
    struct flat_places p;
    vf total[FAST_ROWS];
    reader_open(kind, &r, w, tile, 0);
    flat_open(w, tile, &p);
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        total[i] = vf_zero();
    for (int64_t c = 0; c < w->k_padded / TILE_K; c++, parts += m) {
        vi codes[16];
        vf scale, zero, acc[FAST_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            acc[i] = vf_zero();
        if (!factors) {
            add_rows(kind, m, &r, &t, c, b, acc);
        } else {
            factors(&r, c, codes);
            add_chunk(kind, m, codes, b->coarse + c * m, acc);
            if (any_fine(b->has_fine + c * FAST_ROWS))
                add_fine(kind, m, codes, b->fine + c * m, b->has_fine + c * FAST_ROWS, acc);
        }
        flat_step(w, &p, &scale, &zero);
        add_scaled(kind, m, w, scale, zero, parts, acc, total);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        vf_store(sum + i * TILE_ROWS, total[i]);
}

#define FLAT(kind, factors, m)                                                                     \
    static void flat_##kind##_##m(const struct weight *w, int64_t tile,                            \
                                  const struct fast_block *b, float *sum)                          \
    {                                                                                              \
        flat_tile(KIND_##kind, factors, m, w, tile, b, sum);                                       \
    }
#define FLAT_KIND(kind, factors)                                                                   \
    FLAT(kind, factors, 1)                                                                         \
    FLAT(kind, factors, 2)                                                                         \
    FLAT(kind, factors, 3)                                                                         \
    FLAT(kind, factors, 4)                                                                         \
    FLAT(kind, factors, 5)                                                                         \
    FLAT(kind, factors, 6)                                                                         \
    FLAT(kind, factors, 7)                                                                         \
    FLAT(kind, factors, 8)
FLAT_KIND(TABLE4, NULL)
FLAT_KIND(BITS4, NULL)
FLAT_KIND(BITS8, NULL)
FLAT_KIND(BITS, factors_of(reader_kind(w)))
FLAT(BITS2, NULL, 1)
FLAT(BITS3, NULL, 1)

void TWIN(fast_flat)(const struct weight *w, int64_t tile, const struct fast_block *b, int m,
                     float *sum)
{
    static fast_function *const functions[][FAST_ROWS] = {
        [KIND_TABLE4] = OF_ROWS(flat_TABLE4), [KIND_BITS4] = OF_ROWS(flat_BITS4),
        [KIND_BITS8] = OF_ROWS(flat_BITS8),   [KIND_BITS] = OF_ROWS(flat_BITS),
        [KIND_BITS2] = {flat_BITS2_1},        [KIND_BITS3] = {flat_BITS3_1},
    };
    fast_function *function = functions[reader_kind(w)][m - 1];
    (function ? function : functions[KIND_BITS][m - 1])(w, tile, b, sum);
}

#endif
#endif
