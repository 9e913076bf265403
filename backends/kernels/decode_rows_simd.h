/*
 * Decoding where each row has its own places: flat and strided groups, and codebooks. Sixteen
 * columns at a time; the arithmetic is done with the tile's rows in the lanes, as everywhere.
 *
 *   strided     side by side along a row: p[r][k .. k + 15] of each row, transposed
 *   flat        a row's scale changes at most once in sixteen columns: column < bound ? old : new
 *   codebooks   vectors lie along a row: the sums of each row, transposed, then scaled
 *
 * Roofline: sixteen columns of sixteen rows are transposed with 64 shuffles, so at least four
 * cycles for each column of 16 elements and each parameter. Reached on one Zen 4 core with AVX-512,
 * one row, in the caches, as cycles at 3.5 GHz for 16 elements: strided HQQ 4 bits 28, flat NF4 18,
 * AQLM 1x16 and 2x8 36 to 39. That is not the bound of the shuffles: what takes the rest is not
 * known. Fast mode goes other ways (strided_simd.h, lookup_simd.h) but for flat groups.
 */
#ifndef OFTD_BACKENDS_KERNELS_DECODE_ROWS_SIMD_H
#define OFTD_BACKENDS_KERNELS_DECODE_ROWS_SIMD_H

#include "backends/encodings/tile.h"
#include "backends/kernels/decode_simd.h"

#ifdef LANES

/* Where the rows of a tile are in their parameters. */
struct row_places {
    int64_t rows;
    int64_t index[TILE_ROWS];                /* of the parameter of column k */
    int64_t next[TILE_ROWS];                 /* flat: the column where the next group begins */
    float scale[TILE_ROWS], zero[TILE_ROWS]; /* flat: of that group */
};

/* Scale and zero of column k's group of a flat row. */
INLINE void flat_load(const struct weight *w, int64_t row, int64_t k, int64_t group, float *scale,
                      float *zero)
{
    *scale = w->nested ? weight_scale(w, row, k) : tile_value(w->scales, w->scale_dtype, group);
    *zero = w->zeros ? tile_value(w->zeros, w->zero_dtype, group) : 0;
}

INLINE void places_open(const struct weight *w, int64_t tile, int64_t k, struct row_places *p)
{
    *p = (struct row_places){0};
    p->rows = w->n - tile * TILE_ROWS < TILE_ROWS ? w->n - tile * TILE_ROWS : TILE_ROWS;
    for (int64_t r = 0; r < TILE_ROWS; r++) {
        int64_t row = tile * TILE_ROWS + r;
        p->next[r] = INT64_MAX;
        if (r >= p->rows)
            continue;
        p->index[r] = weight_group(w, row, k);
        if (w->grouping != GROUPS_FLAT)
            continue;
        p->next[r] = (p->index[r] + 1) * w->group - ((w->flat_row + row) * w->flat_k + w->flat_col);
        flat_load(w, row, k, p->index[r], &p->scale[r], &p->zero[r]);
    }
}

/* Sixteen strided parameters of each row, then of each column; index: where the rows are. */
INLINE void strided_parameters(const enum dtype d, const void *p, const int64_t index[], int64_t n,
                               vf v[LANES])
{
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++) {
        if (__builtin_expect(index[r] + LANES <= n, 1)) {
            v[r] = reader_parameter(p, d, index[r]);
            continue;
        }
        float values[LANES]; // round the end
        int64_t i = index[r];
        for (int c = 0; c < LANES; c++, i = i + 1 < n ? i + 1 : 0)
            values[c] = tile_value(p, d, i);
        v[r] = vf_load(values);
    }
    vf_transpose(v);
}

static __attribute__((noinline)) void strided_of(const void *p, enum dtype d, const int64_t index[],
                                                 int64_t n, vf v[LANES])
{
    if (d == DT_F16)
        strided_parameters(DT_F16, p, index, n, v);
    else if (d == DT_BF16)
        strided_parameters(DT_BF16, p, index, n, v);
    else
        strided_parameters(d, p, index, n, v);
}

/* Scales and zeros of the sixteen columns from k on, a column's rows in a vector. */
INLINE void strided_columns(const struct weight *w, struct row_places *p, vf scale[LANES],
                            vf zero[LANES])
{
    strided_of(w->scales, w->scale_dtype, p->index, w->n_groups, scale);
    if (w->zeros)
        strided_of(w->zeros, w->zero_dtype, p->index, w->n_groups, zero);
    for (int64_t r = 0; r < TILE_ROWS; r++)
        for (p->index[r] += LANES; p->index[r] >= w->n_groups;)
            p->index[r] -= w->n_groups;
}

/* The same for flat groups of sixteen and more: each row has at most one bound to cross. */
INLINE void flat_columns(const struct weight *w, int64_t tile, int64_t k, int64_t end,
                         struct row_places *p, vf scale[LANES], vf zero[LANES])
{
    float bound[TILE_ROWS];
    vf from = vf_load(p->scale), from_zero = vf_load(p->zero);
    for (int64_t r = 0; r < TILE_ROWS; r++) {
        bound[r] = LANES;
        if (p->next[r] >= k + LANES || p->next[r] >= end)
            continue;
        bound[r] = (float)(p->next[r] - k);
        flat_load(w, tile * TILE_ROWS + r, p->next[r], ++p->index[r], &p->scale[r], &p->zero[r]);
        p->next[r] += w->group;
    }
    vf to = vf_load(p->scale), to_zero = vf_load(p->zero), at = vf_load(bound);
#pragma GCC unroll 16
    for (int c = 0; c < LANES; c++) {
        scale[c] = vf_less(vf_set((float)c), at, from, to);
        if (w->zeros)
            zero[c] = vf_less(vf_set((float)c), at, from_zero, to_zero);
    }
}

/* The same for whatever is rare, element by element. */
static __attribute__((noinline)) void rare_columns(const struct weight *w, int64_t tile,
                                                   int64_t rows, int64_t k, int64_t end,
                                                   vf scale[LANES], vf zero[LANES])
{
    for (int64_t c = 0; c < LANES && k + c < end; c++) {
        float s[TILE_ROWS] = {0}, z[TILE_ROWS] = {0};
        for (int64_t r = 0; r < rows; r++) {
            s[r] = weight_scale(w, tile * TILE_ROWS + r, k + c);
            z[r] = weight_zero(w, tile * TILE_ROWS + r, k + c);
        }
        scale[c] = vf_load(s);
        zero[c] = vf_load(z);
    }
}

INLINE void places_columns(const struct weight *w, int64_t tile, int64_t k, int64_t end,
                           struct row_places *p, vf scale[LANES], vf zero[LANES])
{
    if (w->grouping == GROUPS_STRIDED && !w->nested)
        strided_columns(w, p, scale, zero);
    else if (w->grouping == GROUPS_FLAT && w->group >= LANES)
        flat_columns(w, tile, k, end, p, scale, zero);
    else
        rare_columns(w, tile, p->rows, k, end, scale, zero);
}

/* The first n of sixteen columns. */
INLINE void store_columns(float *panel, const vf v[LANES], int64_t n)
{
    if (n >= LANES) {
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++)
            vf_store(panel + j * TILE_ROWS, v[j]);
        return;
    }
    for (int64_t j = 0; j < n; j++)
        vf_store(panel + j * TILE_ROWS, v[j]);
}

/* Four columns with a scale and a zero for each element. */
INLINE void places_quad(const enum kind kind, const enum dtype d, const struct reader *r, int64_t k,
                        const bool upper, const vf scale[4], const vf zero[4], vf out[4])
{
    vi codes = reader_codes(kind, r, k, upper);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        out[j] = reader_element(kind, d, false, r->w, special_value(kind, r, codes, j), scale[j],
                                zero[j]);
}

/* Columns [k0, k0 + kc) of a tile of codes whose rows have places of their own. */
INLINE void decode_places(const enum kind kind, const struct weight *w, int64_t tile, int64_t k0,
                          int64_t kc, float *panel)
{
    int64_t k = k0, end = k0 + kc;
    struct reader r;
    struct row_places p;
    vf scale[LANES], zero[LANES];
    reader_open(kind, &r, w, tile, k);
    places_open(w, tile, k, &p);
    for (int i = 0; i < LANES; i++)
        zero[i] = scale[i] = vf_zero();
    for (; k < end; k += LANES, panel += LANES * TILE_ROWS) {
        vf v[LANES];
        places_columns(w, tile, k, end, &p, scale, zero);
        for (int q = 0; q < LANES; q += 8) { // the codes' padding goes to a multiple of TILE_K
            places_quad(kind, w->dtype, &r, k + q, false, scale + q, zero + q, v + q);
            places_quad(kind, w->dtype, &r, k + q + 4, true, scale + q + 4, zero + q + 4,
                        v + q + 4);
        }
        store_columns(panel, v, end - k);
    }
}

/* ---- codebooks ---- */

/* Eight elements of the codebooks from index on, d their dtype. */
INLINE vh eight_values(const enum dtype d, const struct weight *w, int64_t index)
{
    const char *at = (const char *)w->codebook + index * (d == DT_F32 ? 4 : 2);
    if (d == DT_F32)
        return vh_load((const float *)at);
    return d == DT_F16 ? vh_load_f16(at) : vh_load_bf16(at);
}

/* sum[0 .. n) += the codebooks' elements from index on. */
INLINE void add_vector(const struct weight *w, int64_t index, int64_t n, float *sum)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        vh_store(sum + i, vh_add(vh_load(sum + i), eight_values(w->codebook_dtype, w, index + i)));
    for (; i < n; i++)
        sum[i] += tile_value(w->codebook, w->codebook_dtype, index + i);
}

/* Columns [k, end) of a row before they are scaled. */
INLINE void codebook_row(const struct weight *w, int64_t row, int64_t k, int64_t end, float *sum)
{
    int64_t in = w->in_group, size = in * w->out_group;
    int64_t lookups = w->k / in * w->books, part = row % w->out_group * in;
    while (k < end) {
        int64_t q = k % in, n = end - k < in - q ? end - k : in - q;
        for (int64_t b = 0; b < w->books; b++) {
            int64_t code = tile_book_code(w, row / w->out_group, lookups, k / in * w->books + b);
            add_vector(w, ((b << w->bits) + code) * size + part + q, n, sum);
        }
        k += n;
        sum += n;
    }
}

/* The sum of group j's eight columns, d the codebooks' dtype. */
INLINE vh eight_columns(const enum dtype d, const struct weight *w, int64_t piece, int64_t j,
                        int64_t part)
{
    vh sum = vh_zero();
    int64_t size = 8 * (int64_t)w->out_group, lookups = w->k / 8 * w->books;
    for (int64_t b = 0; b < w->books; b++) {
        int64_t code = tile_book_code(w, piece, lookups, j * w->books + b);
        sum = vh_add(sum, eight_values(d, w, ((b << w->bits) + code) * size + part));
    }
    return sum;
}

/* Sixteen columns of the tile's rows, the sums of vectors of eight. */
INLINE void eights_columns(const enum dtype d, const struct weight *w, const int64_t piece[],
                           const int64_t part[], int64_t rows, int64_t k, int64_t kc, vf v[LANES])
{
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++) {
        if (r >= rows) {
            v[r] = vf_zero();
            continue;
        }
        vh high = kc > 8 ? eight_columns(d, w, piece[r], k / 8 + 1, part[r]) : vh_zero();
        v[r] = vf_of_halves(eight_columns(d, w, piece[r], k / 8, part[r]), high);
    }
}

/* Columns of sixteen rows to elements. */
static __attribute__((noinline)) void codebook_finish(enum dtype d, vf v[LANES],
                                                      const float *scales, int64_t n, float *panel)
{
    vf scale = vf_load(scales);
    vf_transpose(v);
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++)
        v[j] = round_to(d, false, vf_mul(round_to(d, false, v[j]), scale));
    store_columns(panel, v, n);
}

INLINE void codebook_eights(const enum dtype d, const struct weight *w, int64_t tile, int64_t k0,
                            int64_t kc, int64_t rows, const float *scales, float *panel)
{
    int64_t piece[TILE_ROWS] = {0}, part[TILE_ROWS] = {0};
    for (int64_t r = 0; r < rows; r++) {
        piece[r] = (tile * TILE_ROWS + r) / w->out_group;
        part[r] = (tile * TILE_ROWS + r) % w->out_group * 8;
    }
    for (int64_t k = 0; k < kc; k += LANES) {
        vf v[LANES];
        eights_columns(d, w, piece, part, rows, k0 + k, kc - k, v);
        codebook_finish(w->dtype, v, scales, kc - k < LANES ? kc - k : LANES,
                        panel + k * TILE_ROWS);
    }
}

INLINE void codebook_any(const struct weight *w, int64_t tile, int64_t k0, int64_t kc, int64_t rows,
                         const float *scales, float *panel)
{
    for (int64_t k = 0; k < kc; k += LANES) {
        vf v[LANES];
        int64_t n = kc - k < LANES ? kc - k : LANES;
        for (int64_t r = 0; r < TILE_ROWS; r++) {
            float sum[LANES] = {0};
            if (r < rows)
                codebook_row(w, tile * TILE_ROWS + r, k0 + k, k0 + k + n, sum);
            v[r] = vf_load(sum);
        }
        codebook_finish(w->dtype, v, scales, n, panel + k * TILE_ROWS);
    }
}

INLINE void decode_codebook(const struct weight *w, int64_t tile, int64_t k0, int64_t kc,
                            float *panel)
{
    int64_t rows = w->n - tile * TILE_ROWS < TILE_ROWS ? w->n - tile * TILE_ROWS : TILE_ROWS;
    float scale[TILE_ROWS] = {0};
    for (int64_t r = 0; r < rows; r++)
        scale[r] = weight_scale(w, tile * TILE_ROWS + r, 0);
    if (w->in_group == 8 && w->codebook_dtype == DT_F16)
        codebook_eights(DT_F16, w, tile, k0, kc, rows, scale, panel);
    else if (w->in_group == 8)
        codebook_eights(w->codebook_dtype, w, tile, k0, kc, rows, scale, panel);
    else
        codebook_any(w, tile, k0, kc, rows, scale, panel);
}

#endif
#endif
