/* What fast mode multiplies with, straight from the tile layout: the integers b of core/kernels.h
 * of one chunk, four columns of each row a vector. Shared by the products of rows that are bytes
 * themselves (fast_simd.h, fast_amx.c) and of those that become bytes for each row of W
 * (strided_simd.h). */
#ifndef OFTD_BACKENDS_KERNELS_FAST_FACTORS_SIMD_H
#define OFTD_BACKENDS_KERNELS_FAST_FACTORS_SIMD_H

#include "backends/kernels/decode_simd.h"

#ifdef LANES

/* Bytes ahead of a stream of tiles that are fetched. NF4 of one row, both cores of a Granite
 * Rapids, weights in memory, GB/s: 21.8 when fetched to the first-level cache 4096 ahead; to the
 * second one 24.7 so, 25.7 from 3072, 24.6 from 6144; the probe reads 25. On a Sapphire Rapids a
 * chunk took 16.9 ns unless fetched, 12.7 with 2048 and 12.3 with 4096 or 8192.
 */
#define AHEAD 3072

struct tables {
    vi steps;
    struct float8_table float8;
};

INLINE struct tables tables_of(const enum kind kind, const struct weight *w)
{
    struct tables t = {.steps = byte_table(w->steps)};
    if (is_float8(kind))
        t.float8 = float8_load(kind == KIND_E5M2, w->step, w->high_low[0], w->high_low[1]);
    return t;
}

/* Whether factors are codes up to 15. */
INLINE bool has_nibbles(const enum kind kind)
{
    return kind == KIND_BITS4 || kind == KIND_BITS3 || kind == KIND_BITS2;
}

/* Where a chunk lies; what is `ahead` bytes further on is fetched. */
INLINE const uint8_t *chunk_data(const enum kind kind, const struct reader *r, int64_t chunk,
                                 int64_t ahead)
{
    const int64_t bytes = 64 * kind_bits(kind, r->w);
    const uint8_t *data = r->data + chunk * bytes;
    for (int64_t at = 0; at < bytes; at += 64)
        FETCH(data + ahead + at);
    return data;
}

/* The factors of quad i of a chunk, in ascending order; line: what two quads share. Not for 8-bit
 * floats. */
INLINE vi quad_factors(const enum kind kind, const struct reader *r, const struct tables *t,
                       int64_t chunk, const uint8_t *data, const int i, vi *line)
{
    if (i % 2 == 0 && (kind == KIND_TABLE4 || kind == KIND_BITS4))
        *line = vi_load_once(data + 64 * (i / 2));
    if (kind == KIND_TABLE4)
        return byte_look(t->steps, i % 2 ? vi_srl(*line, 4) : *line);
    if (kind == KIND_BITS4)
        return vi_and(i % 2 ? vi_srl(*line, 4) : *line, vi_set(0x0f0f0f0f));
    if (kind == KIND_BITS8)
        return bytes_centred(vi_load(data + 64 * i));
    return reader_codes(kind, r, chunk * TILE_K + 4 * i, i % 2);
}

/* The factors of one chunk, four columns of each row a vector; 8-bit floats take two vectors. */
INLINE void chunk_factors(const enum kind kind, const struct reader *r, const struct tables *t,
                          int64_t chunk, int64_t ahead, vi out[16])
{
    const uint8_t *data = chunk_data(kind, r, chunk, ahead);
    vi line = vi_set(0);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        if (is_float8(kind))
            float8_bytes(kind == KIND_E5M2, &t->float8, vi_load(data + 64 * i), out + i);
        else
            out[i] = quad_factors(kind, r, t, chunk, data, i, &line);
}

/* A scale and a zero as they are stored to those that core/kernels.h takes integers to floats by.
 */
INLINE void scale_factors(const enum kind kind, const struct weight *w, vf *scale, vf *zero)
{
    if (kind == KIND_TABLE4) {
        *scale = vf_mul(*scale, vf_set(w->step));
        *zero = vf_set(w->offset);
    } else if (is_float8(kind)) {
        *scale = vf_mul(*scale, vf_set(w->step));
    } else if (w->rule == RULE_FACTOR) {
        *scale = vf_mul(*scale, vf_set(w->factor));
    }
}

/* Those of r->group. */
INLINE void group_factors(const enum kind kind, struct reader *r, vf *scale, vf *zero)
{
    reader_load_group(r);
    *scale = r->scale;
    *zero = r->zero;
    scale_factors(kind, r->w, scale, zero);
}

#endif
#endif
