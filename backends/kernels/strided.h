/*
 * Fast mode's products with strided groups (the definition is in core/kernels.h), for the files of
 * this folder only: how rows of x lie once they are multiplied with scales and made bytes.
 *
 * Row r of W has the parameters of residue (flat_row + r) mod R, R = n_groups / flat_k. So the
 * sixteen rows of a tile see sixteen different y, and tile t + period sees those of tile t, where
 * period * TILE_ROWS is the least common multiple with R. y of one tile is used for all tiles that
 * see it. y of several rows of x lies chunk by chunk: [chunks][rows].
 */
#ifndef OFTD_BACKENDS_KERNELS_STRIDED_H
#define OFTD_BACKENDS_KERNELS_STRIDED_H

#include "core/kernels.h"

#define STRIDED_CHUNKS 32 /* y's chunks at a time, of all rows */
#define STRIDED_ROWS   4  /* most rows of x that share a tile's codes and parameters */

/* TILE_K columns of y for the sixteen rows of a tile: the bytes lie as codes of 8 bits do. */
struct strided_part {
    int8_t q[TILE_K / 4][TILE_ROWS][4];
    float scale[TILE_ROWS], bias[TILE_ROWS];
};
struct strided_chunk {
    struct strided_part coarse, fine;
    int64_t has_fine; /* whether one of the rows has a second part; else fine is not set */
    int64_t pad[7];
};

/* Whether w is multiplied so. */
static inline bool strided_has(const struct weight *w)
{
    return w->encoding == ENC_GROUP && w->grouping == GROUPS_STRIDED && !w->nested &&
           (w->rule == RULE_PRODUCT || w->rule == RULE_STEPS) && w->flat_k > 0 &&
           w->n_groups % w->flat_k == 0;
}

#endif
