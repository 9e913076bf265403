/*
 * The tile layout of core/kernels.h, written once: where a code, an element or a parameter lies,
 * and how 16 rows are packed and unpacked. Back ends pack through it at load, the portable kernels
 * and `store` read through it; the vector twins know the same layout by heart and are checked
 * against it.
 */
#ifndef OFTD_BACKENDS_ENCODINGS_TILE_H
#define OFTD_BACKENDS_ENCODINGS_TILE_H

#include "core/kernels.h"

static inline int64_t tile_count(int64_t n)
{
    return (n + TILE_ROWS - 1) / TILE_ROWS;
}
static inline int64_t tile_pad_k(int64_t k)
{
    return (k + TILE_K - 1) / TILE_K * TILE_K;
}

/* Bytes of the data array; size_t overflow is the caller's to exclude (n, k fit a mapped file). */
size_t tile_code_bytes(int64_t n, int64_t k, int bits);
size_t tile_dense_bytes(int64_t n, int64_t k, enum dtype dtype);

/* Packs tile `tile` from codes [rows <= 16, k] (one byte each, ld apart); rows and k beyond are 0.
 * data was zeroed. */
void tile_pack_codes(void *data, int64_t k_padded, int bits, int64_t tile, const uint8_t *codes,
                     int64_t ld, int64_t rows, int64_t k);
/* The inverse: codes [16, ld >= k_padded]. */
void tile_unpack_codes(const void *data, int64_t k_padded, int bits, int64_t tile, uint8_t *codes,
                       int64_t ld);
/* One code. */
uint8_t tile_code(const void *data, int64_t k_padded, int bits, int64_t row, int64_t k);

/* The same for dense elements of dtype F32, F16 or BF16; src [rows <= 16] rows of `ld` elements,
 * possibly unaligned. */
void tile_pack_dense(void *data, int64_t k_padded, enum dtype dtype, int64_t tile, const void *src,
                     int64_t ld, int64_t rows, int64_t k);
float tile_dense(const void *data, int64_t k_padded, enum dtype dtype, int64_t row, int64_t k);

/* Element i of an array of floats or integers that a parameter or a codebook may be stored as. */
float tile_value(const void *p, enum dtype dtype, int64_t i);

/* A code of ENC_FLOAT8 (F8_E4M3 or F8_E5M2) as f32, exactly; NaNs and infinities as they are. */
float tile_float8(uint8_t code, enum dtype dtype);

/* Sets step, offset and steps of a weight's table: of all steps that make the largest magnitude 64
 * to 126 in quarters, and offsets in sixteenths, those with the least squared error, the first of
 * equals. No step for a table that is 0 or not finite. */
void tile_table_steps(struct weight *w);

/* Sets step and high_low of a weight of 8-bit floats whose codes are there: the step that makes
 * the largest magnitude 8192 to 15360. No step where a code is infinity or NaN. */
void tile_float8_steps(struct weight *w);

/* Bytes of n codes of each of the L look-ups of a codebook weight, and the place of one. */
size_t tile_book_bytes(int64_t n, int64_t lookups, int bits);
static inline int64_t tile_book_index(int64_t i, int64_t lookups, int64_t lookup, int bits)
{
    return bits > 8 ? i * lookups + lookup
                    : (i / BOOK_LINE * lookups + lookup) * BOOK_LINE + i % BOOK_LINE;
}
/* One code of a codebook weight: row i of pieces, look-up j * books + b of `lookups`. */
static inline int64_t tile_book_code(const struct weight *w, int64_t i, int64_t lookups,
                                     int64_t lookup)
{
    int64_t at = tile_book_index(i, lookups, lookup, w->bits);
    return w->bits > 8 ? ((const uint16_t *)w->data)[at] : ((const uint8_t *)w->data)[at];
}
/* Index of a tiled parameter of (row, group). */
static inline int64_t tile_param(int64_t row, int64_t group, int64_t n_groups)
{
    return ((row / TILE_ROWS) * n_groups + group) * TILE_ROWS + row % TILE_ROWS;
}

/* The group of an element: an index within its row, or into flat parameters. */
int64_t weight_group(const struct weight *w, int64_t row, int64_t k);
/* THE definition of a decoded element: row, stored column k (not yet un-permuted), rounded as
 * w->rule says. */
float weight_element(const struct weight *w, int64_t row, int64_t k);
/* The same from its code, scale and zero; not for ENC_DENSE and ENC_CODEBOOK. */
float weight_decode(const struct weight *w, uint8_t code, float scale, float zero);
/* Absmax of an ENC_TABLE4 block, scale and zero of a group, scale of a codebook's row, as f32. */
float weight_scale(const struct weight *w, int64_t row, int64_t k);
float weight_zero(const struct weight *w, int64_t row, int64_t k);

#endif
