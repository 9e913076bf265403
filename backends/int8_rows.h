/* Signed 8-bit codes with one scale a row: the encoding that bnb_8bit and eetq share. */
#ifndef OFTD_BACKENDS_INT8_ROWS_H
#define OFTD_BACKENDS_INT8_ROWS_H

#include "core/backend.h"

/* Makes w (whose dtype, rule, factor and scale_dtype are set) a weight of this part of a module
 * [.., flat_k]: sizes, arrays, zeros. Codes and scales are 0. ST_OUT_OF_MEMORY: w is cleared. */
enum status int8_rows_init(struct weight *w, const struct slice *part, int64_t flat_k,
                           struct error *err);
/* Rows of tile `tile` as unsigned codes (code + 128), [have <= 16, k]. */
void int8_rows_pack(struct weight *w, int64_t tile, const uint8_t *codes);
/* The inverse for the whole weight: signed codes [n, k]; false: out of memory. */
bool int8_rows_unpack(const struct weight *w, int8_t *codes);
/* Elements [row, row + w->n) of t (rank 1, of w->scale_dtype) become the scales. */
void int8_rows_scales(struct weight *w, const struct tensor *t, int64_t row);

#endif
