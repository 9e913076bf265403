/* The panel decoder over decode_simd.h: the text of decode_avx2.c and decode_avx512.c. */
#ifndef OFTD_BACKENDS_KERNELS_DECODE_PANEL_SIMD_H
#define OFTD_BACKENDS_KERNELS_DECODE_PANEL_SIMD_H

#include "backends/kernels/decode_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

INLINE void decode_kind(const enum kind kind, const struct weight *w, int64_t tile, int64_t k0,
                        int64_t kc, float *panel)
{
    struct reader r;
    reader_open(kind, &r, w, tile, k0);
    vf v[4];
    int64_t k = 0;
    if (reader_by_quads(w))
        for (; k + 4 <= kc; k += 4) {
            reader_quad(kind, &r, k0 + k, v);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                vf_store(panel + (k + j) * TILE_ROWS, v[j]);
        }
    for (; k < kc; k += 4) {
        int64_t n = kc - k < 4 ? kc - k : 4;
        if (reader_by_quads(w))
            reader_quad(kind, &r, k0 + k, v);
        else
            reader_singles(kind, &r, k0 + k, n, v);
        for (int64_t j = 0; j < n; j++)
            vf_store(panel + (k + j) * TILE_ROWS, v[j]);
    }
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
