/*
 * Fast mode's products in bytes (the definition is in core/kernels.h), for the files of this folder
 * only: which weights have them, and how quantized rows lie.
 *
 * Rows are cut into blocks of FAST_ROWS, the last one has the rest. In a block the rows of one
 * chunk of columns lie side by side, so that a product walks a block as one stream whatever its
 * rows:
 *
 *   coarse, fine   [n_chunks][rows of the block]   q and q' of core/kernels.h; a row that has no
 *                                                  second part has zeros, which add nothing
 *   has_fine       [n_chunks][FAST_ROWS]           which of the rows have one; else 0
 *   parts          [n_groups][rows of the block]   sums of scale * sum over a group's chunks
 *
 * The block of row r, a multiple of FAST_ROWS, begins at element r * n_chunks or r * n_groups.
 */
#ifndef OFTD_BACKENDS_KERNELS_FAST_H
#define OFTD_BACKENDS_KERNELS_FAST_H

#include <math.h>

#include "core/kernels.h"

#define FAST_ROWS 8

/* TILE_K columns of a row: x is about q * scale; sum is that of q. */
struct fast_chunk {
    int8_t q[TILE_K];
    float scale;
    int32_t sum;
};

struct fast_block {
    const struct fast_chunk *coarse, *fine;
    const uint8_t *has_fine;
    const float *parts;
};

/* What act.q points to; the arrays follow it. */
struct fast_rows {
    struct fast_chunk *coarse, *fine;
    uint8_t *has_fine;
    float *parts;
    int64_t n_chunks, n_groups; /* fast_groups */
    int64_t group;              /* fast_group */
};

/* Whether a chunk lies in one flat group, in each row; what reads them counts in 32 bits. */
static inline bool fast_flat(const struct weight *w)
{
    return w->grouping == GROUPS_FLAT && w->encoding != ENC_FLOAT8 && w->group % TILE_K == 0 &&
           w->flat_k % TILE_K == 0 && w->flat_col % TILE_K == 0 && w->n_groups < INT32_MAX &&
           w->group / TILE_K < INT32_MAX;
}

/* Whether w is multiplied in bytes. */
static inline bool fast_has(const struct weight *w)
{
    bool steps = w->encoding == ENC_TABLE4 || w->encoding == ENC_FLOAT8;
    if (steps ? w->step == 0 : w->encoding != ENC_GROUP)
        return false;
    if (w->grouping == GROUPS_FLAT)
        return fast_flat(w);
    bool small = w->encoding == ENC_GROUP && w->bits < 8 && (w->group == 8 || w->group == 16);
    return w->grouping == GROUPS_OF_ROWS && !w->group_of &&
           (w->n_groups == 1 || w->group % TILE_K == 0 || small);
}

/* Columns that a group has (the last may have fewer): less than TILE_K where a chunk has several
 * groups, else whole chunks; flat, where each row has its own bounds, a single one. And the groups
 * of a row. */
static inline int64_t fast_group(const struct weight *w)
{
    if (w->grouping == GROUPS_FLAT)
        return TILE_K;
    return w->n_groups == 1 ? w->k_padded : w->group;
}
static inline int64_t fast_groups(const struct weight *w)
{
    return w->grouping == GROUPS_FLAT ? w->k_padded / TILE_K : w->n_groups;
}

/* Sum of q over n columns of a chunk from column `from` on. */
static inline int32_t fast_sum_some(const struct fast_chunk *a, int64_t from, int64_t n)
{
    int32_t sum = 0;
    for (int64_t j = from; j < from + n; j++)
        sum += a->q[j];
    return sum;
}

/* The part of n columns of a row, `step` chunks from one to the next: whole chunks, or less than
 * one, from its column `from` on. */
static inline float fast_sum_part(const struct fast_chunk *coarse, const struct fast_chunk *fine,
                                  int64_t step, int64_t from, int64_t n)
{
    float part = 0;
    if (n < TILE_K)
        return fmaf(fine->scale, (float)fast_sum_some(fine, from, n),
                    fmaf(coarse->scale, (float)fast_sum_some(coarse, from, n), part));
    for (; n > 0; n -= TILE_K, coarse += step, fine += step)
        part = fmaf(fine->scale, (float)fine->sum, fmaf(coarse->scale, (float)coarse->sum, part));
    return part;
}

/* The definition of a chunk: n <= TILE_K columns; whether there is a second part (else it is 0). */
bool fast_quantize_chunk(const float *x, int64_t n, struct fast_chunk *coarse,
                         struct fast_chunk *fine);

/* The block of row `row`, a multiple of FAST_ROWS. */
static inline struct fast_block fast_block(const struct fast_rows *f, int64_t row)
{
    int64_t at = row * f->n_chunks;
    const struct fast_block b = {f->coarse + at, f->fine + at, f->has_fine + at,
                                 f->parts + row * f->n_groups};
    return b;
}

#endif
