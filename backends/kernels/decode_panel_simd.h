/* The panel decoder over decode_simd.h: the text of decode_avx2.c and decode_avx512.c. */
#ifndef OFTD_BACKENDS_KERNELS_DECODE_PANEL_SIMD_H
#define OFTD_BACKENDS_KERNELS_DECODE_PANEL_SIMD_H

#include <string.h>

#include "backends/kernels/decode_rows_simd.h"
#include "backends/kernels/decode_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* Columns [k, end) of one group, whole eights. */
INLINE void decode_run(const enum kind kind, const enum dtype d, const bool plain,
                       const struct reader *r, int64_t k, int64_t end, float *panel)
{
    vf scale = reader_scale(kind, plain, r->scale), zero = r->zero;
    for (; k < end; k += 8, panel += 8 * TILE_ROWS) {
        vf v[8];
        reader_quad(kind, d, plain, r, scale, zero, k, false, v);
        reader_quad(kind, d, plain, r, scale, zero, k + 4, true, v + 4);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            vf_store(panel + j * TILE_ROWS, v[j]);
    }
}

/* Less than eight columns of one group. */
INLINE void decode_rest(const enum kind kind, const struct reader *r, int64_t k, int64_t end,
                        float *panel)
{
    for (; k < end; k += 4) {
        vf v[4];
        reader_quad(kind, r->w->dtype, false, r, r->scale, r->zero, k, k & 4, v);
        for (int64_t j = 0; j < 4 && k + j < end; j++, panel += TILE_ROWS)
            vf_store(panel, v[j]);
    }
}

INLINE void decode_runs(const enum kind kind, const struct weight *w, int64_t tile, int64_t k0,
                        int64_t kc, float *panel)
{
    struct reader r;
    reader_open(kind, &r, w, tile, k0);
    int64_t k = k0, end = k0 + kc, whole = end - kc % 8;
    while (k < whole) {
        reader_advance(kind, &r, k);
        int64_t to = r.next < whole ? r.next : whole;
        float *out = panel + (k - k0) * TILE_ROWS;
        if (r.plain && w->dtype == DT_F16)
            decode_run(kind, DT_F16, true, &r, k, to, out);
        else if (r.plain && w->dtype == DT_BF16)
            decode_run(kind, DT_BF16, true, &r, k, to, out);
        else
            decode_run(kind, w->dtype, false, &r, k, to, out);
        k = to;
    }
    if (k == end)
        return;
    reader_advance(kind, &r, k);
    decode_rest(kind, &r, k, end, panel + (k - k0) * TILE_ROWS);
}

/* Where each column may have its own group. */
INLINE void decode_columns(const enum kind kind, const struct weight *w, int64_t tile, int64_t k0,
                           int64_t kc, float *panel)
{
    struct reader r;
    reader_open(kind, &r, w, tile, k0);
    r.group = -1;
    for (int64_t k = k0; k < k0 + kc; k += 4) {
        vi codes = reader_codes(kind, &r, k, k & 4);
        for (int j = 0; j < 4 && k + j < k0 + kc; j++, panel += TILE_ROWS) {
            int64_t group = w->group_of ? w->group_of[k + j] : (k + j) / w->group;
            if (group != r.group) {
                r.group = group;
                reader_load_group(&r);
            }
            vf v = special_value(kind, &r, vi_srl(codes, 8 * j), 0);
            vf_store(panel, reader_element(kind, w->dtype, false, w, v, r.scale, r.zero));
        }
    }
}

INLINE void decode_kind(const enum kind kind, const struct weight *w, int64_t tile, int64_t k0,
                        int64_t kc, float *panel)
{
    switch (reader_places(w)) {
    case PLACES_RUNS:
        decode_runs(kind, w, tile, k0, kc, panel);
        return;
    case PLACES_COLUMNS:
        decode_columns(kind, w, tile, k0, kc, panel);
        return;
    case PLACES_ROWS:
        decode_places(kind, w, tile, k0, kc, panel);
    }
}

static void decode_simd(const struct weight *w, int64_t tile, int64_t k0, int64_t kc, float *panel)
{
    switch (reader_kind(w)) {
    case KIND_F32:
        decode_runs(KIND_F32, w, tile, k0, kc, panel);
        return;
    case KIND_F16:
        decode_runs(KIND_F16, w, tile, k0, kc, panel);
        return;
    case KIND_BF16:
        decode_runs(KIND_BF16, w, tile, k0, kc, panel);
        return;
    case KIND_CODEBOOK:
        decode_codebook(w, tile, k0, kc, panel);
        return;
    case KIND_TABLE4:
        decode_kind(KIND_TABLE4, w, tile, k0, kc, panel);
        return;
    case KIND_BITS4:
        decode_kind(KIND_BITS4, w, tile, k0, kc, panel);
        return;
    case KIND_BITS8:
        decode_kind(KIND_BITS8, w, tile, k0, kc, panel);
        return;
    case KIND_BITS2:
        decode_kind(KIND_BITS2, w, tile, k0, kc, panel);
        return;
    case KIND_BITS3:
        decode_kind(KIND_BITS3, w, tile, k0, kc, panel);
        return;
    case KIND_BITS:
        decode_kind(KIND_BITS, w, tile, k0, kc, panel);
        return;
    case KIND_E4M3:
        decode_kind(KIND_E4M3, w, tile, k0, kc, panel);
        return;
    case KIND_E5M2:
        decode_kind(KIND_E5M2, w, tile, k0, kc, panel);
    }
}

void TWIN(decode)(struct twins *t)
{
    t->decode = decode_simd;
}

#endif
#endif
