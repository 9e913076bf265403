/*
 * Owns how signed 8-bit rows become ENC_GROUP, whose codes are unsigned: code + 128 with the zero
 * 128, so that code - zero is the signed code again, exactly. A row is one group; the group is as
 * long as the padded row, so that kernels read whole runs of columns whatever k is.
 *
 * Invariant: rows that only fill the last tile have code, zero and scale 0 and decode to 0.
 */
#include "backends/int8_rows.h"

#include <stdlib.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "backends/spec.h"
#include "core/memory.h"

#define ZERO 128

enum status int8_rows_init(struct weight *w, const struct slice *part, int64_t flat_k,
                           struct error *err)
{
    w->encoding = ENC_GROUP;
    w->bits = 8;
    w->grouping = GROUPS_OF_ROWS;
    w->n_groups = 1;
    w->zero_dtype = DT_U8;
    w->flat_k = flat_k;
    w->flat_row = part->row;
    w->flat_col = part->col;
    spec_weight_sizes(w, part->rows, part->cols);
    w->group = w->k_padded;
    size_t rows = (size_t)(w->n_tiles * TILE_ROWS);
    w->data_bytes = tile_code_bytes(w->n, w->k, 8);
    w->data = memory_alloc(w->data_bytes);
    w->scales = memory_alloc(rows * dtype_size(w->scale_dtype));
    w->zeros = memory_alloc(rows);
    if (!w->data || !w->scales || !w->zeros) {
        weight_clear(w);
        return error_memory(err, "loading an 8-bit weight");
    }
    memset(w->zeros, ZERO, (size_t)w->n);
    return ST_OK;
}

static int64_t rows_of(const struct weight *w, int64_t tile)
{
    int64_t left = w->n - tile * TILE_ROWS;
    return left < TILE_ROWS ? left : TILE_ROWS;
}

void int8_rows_pack(struct weight *w, int64_t tile, const uint8_t *codes)
{
    tile_pack_codes(w->data, w->k_padded, 8, tile, codes, w->k, rows_of(w, tile), w->k);
}

bool int8_rows_unpack(const struct weight *w, int8_t *codes)
{
    uint8_t *rows = malloc(TILE_ROWS * (size_t)w->k_padded);
    if (!rows)
        return false;
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        tile_unpack_codes(w->data, w->k_padded, 8, tile, rows, w->k_padded);
        for (int64_t r = 0; r < rows_of(w, tile); r++)
            for (int64_t k = 0; k < w->k; k++)
                *codes++ = (int8_t)(rows[r * w->k_padded + k] - ZERO);
    }
    free(rows);
    return true;
}

void int8_rows_scales(struct weight *w, const struct tensor *t, int64_t row)
{
    size_t size = dtype_size(w->scale_dtype);
    // with one group a row tile_param(r, 0, 1) is r
    memcpy(w->scales, (const char *)t->data + (size_t)row * size, (size_t)w->n * size);
}
