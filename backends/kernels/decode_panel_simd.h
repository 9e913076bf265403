/* The panel decoder over decode_simd.h: the text of decode_avx2.c and decode_avx512.c. */
#ifndef OFTD_BACKENDS_KERNELS_DECODE_PANEL_SIMD_H
#define OFTD_BACKENDS_KERNELS_DECODE_PANEL_SIMD_H

#include "backends/kernels/decode_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* Columns [k, end) of one group, whole eights. */
INLINE void decode_run(const enum kind kind, const enum dtype d, const bool plain,
                       const struct reader *r, int64_t k, int64_t end, float *panel)
{
    for (; k < end; k += 8, panel += 8 * TILE_ROWS) {
        vf v[8];
        reader_quad(kind, d, plain, r, k, false, v);
        reader_quad(kind, d, plain, r, k + 4, true, v + 4);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            vf_store(panel + j * TILE_ROWS, v[j]);
    }
}

/* Less than eight columns, or columns with a group each. */
INLINE void decode_rest(const enum kind kind, struct reader *r, bool runs, int64_t k, int64_t end,
                        float *panel)
{
    for (; k < end; k += 4) {
        vf v[4];
        int64_t n = end - k < 4 ? end - k : 4;
        if (runs)
            reader_quad(kind, r->w->dtype, false, r, k, k & 4, v);
        else
            reader_singles(kind, r, k, n, v);
        for (int64_t j = 0; j < n; j++, panel += TILE_ROWS)
            vf_store(panel, v[j]);
    }
}

INLINE void decode_kind(const enum kind kind, const struct weight *w, int64_t tile, int64_t k0,
                        int64_t kc, float *panel)
{
    struct reader r;
    reader_open(kind, &r, w, tile, k0);
    bool runs = reader_by_runs(w);
    int64_t k = k0, end = k0 + kc, whole = runs ? end - kc % 8 : k0;
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
    if (k < end && runs)
        reader_advance(kind, &r, k);
    decode_rest(kind, &r, runs, k, end, panel + (k - k0) * TILE_ROWS);
}

static void decode_simd(const struct weight *w, int64_t tile, int64_t k0, int64_t kc, float *panel)
{
    switch (reader_kind(w)) {
    case KIND_F32:
        decode_kind(KIND_F32, w, tile, k0, kc, panel);
        return;
    case KIND_F16:
        decode_kind(KIND_F16, w, tile, k0, kc, panel);
        return;
    case KIND_BF16:
        decode_kind(KIND_BF16, w, tile, k0, kc, panel);
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
    case KIND_BITS:
        decode_kind(KIND_BITS, w, tile, k0, kc, panel);
        return;
    case KIND_NONE: {
        struct twins portable;
        decode_portable(&portable);
        portable.decode(w, tile, k0, kc, panel);
    }
    }
}

void TWIN(decode)(struct twins *t)
{
    t->decode = decode_simd;
}

#endif
#endif
