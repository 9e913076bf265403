/*
 * The places of flat groups for fast mode's products (fast_simd.h), where a chunk lies in one group
 * in every row, but not in the same one: a lane knows the index of its row's group and how many
 * chunks of it are left. Rows beyond the last one read the last group, and nobody reads them.
 */
#ifndef OFTD_BACKENDS_KERNELS_FAST_FLAT_SIMD_H
#define OFTD_BACKENDS_KERNELS_FAST_FLAT_SIMD_H

#include "backends/encodings/tile.h"
#include "backends/kernels/decode_simd.h"
#include "backends/kernels/fast.h"

#ifdef LANES

struct flat_places {
    vi index, left;
    int64_t until; /* chunks before one of the rows enters its next group */
    vf scale, zero;
};

/* Parameters at sixteen places; floats are gathered, others fetched one by one. */
INLINE vf flat_parameters(const void *p, enum dtype d, vi index)
{
    int32_t at[LANES];
    float v[LANES];
    if (d == DT_F32)
        return vf_gather(p, index);
    vi_store(at, index);
    for (int r = 0; r < LANES; r++)
        v[r] = d == DT_F16    ? f16_to_f32(((const uint16_t *)p)[at[r]])
               : d == DT_BF16 ? bf16_to_f32(((const uint16_t *)p)[at[r]])
                              : tile_value(p, d, at[r]);
    return vf_load(v);
}

INLINE vf flat_nested(const struct weight *w, vi index)
{
    int32_t at[LANES], outer[LANES];
    uint8_t codes[LANES];
    int64_t b = w->nested_block;
    vi_store(at, index);
    vi_store(outer, vi_srl(index, __builtin_ctzll((unsigned long long)b)));
    for (int r = 0; r < LANES; r++)
        codes[r] = ((const uint8_t *)w->scales)[at[r]];
    for (int r = 0; (b & (b - 1)) && r < LANES; r++)
        outer[r] = (int32_t)(at[r] / b);
    vf product = vf_mul(vf_gather(w->nested_map, vi_load_u8(codes)),
                        vf_gather(w->nested_absmax, vi_load(outer)));
    return vf_add(product, vf_set(w->nested_offset));
}

static __attribute__((noinline)) void flat_load(const struct weight *w, struct flat_places *p)
{
    vi index = vi_min(p->index, vi_set((int32_t)w->n_groups - 1));
    p->until = -vi_largest(vi_sub(vi_set(0), p->left));
    p->scale =
        w->nested ? flat_nested(w, index) : flat_parameters(w->scales, w->scale_dtype, index);
    p->zero = w->zeros ? flat_parameters(w->zeros, w->zero_dtype, index) : vf_zero();
}

INLINE void flat_open(const struct weight *w, int64_t tile, struct flat_places *p)
{
    int32_t index[LANES], left[LANES];
    for (int64_t r = 0; r < LANES; r++) {
        int64_t at = (w->flat_row + tile * TILE_ROWS + r) * w->flat_k + w->flat_col;
        index[r] = (int32_t)(at / w->group < w->n_groups ? at / w->group : w->n_groups - 1);
        left[r] = (int32_t)((w->group - at % w->group) / TILE_K);
    }
    p->index = vi_load(index);
    p->left = vi_load(left);
    flat_load(w, p);
}

/* A chunk further on. */
INLINE void flat_step(const struct weight *w, struct flat_places *p, int64_t *since)
{
    if (++*since < p->until)
        return;
    vi left = vi_sub(p->left, vi_set((int32_t)*since));
    vi done = vi_sra(vi_sub(left, vi_set(1)), 31); // all bits where nothing is left
    p->index = vi_sub(p->index, done);
    p->left = vi_add(left, vi_and(done, vi_set((int32_t)(w->group / TILE_K))));
    *since = 0;
    flat_load(w, p);
}

#endif
#endif
