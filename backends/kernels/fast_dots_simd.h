/* What the products of rows in bytes have in common (fast_simd.h, fast_flat_simd.h): the dots of a
 * chunk with a block's rows, what a group's scale and zero make of them, and the factors of kinds
 * that are not worth a text of their own. */
#ifndef OFTD_BACKENDS_KERNELS_FAST_DOTS_SIMD_H
#define OFTD_BACKENDS_KERNELS_FAST_DOTS_SIMD_H

#include <string.h>

#include "backends/kernels/fast.h"
#include "backends/kernels/fast_factors_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* What a dot of the kind's biased bytes begins with. */
INLINE vi chunk_bias(const enum kind kind, const struct fast_chunk *a)
{
    int32_t bias = kind == KIND_TABLE4 ? -BYTE_BIAS : kind == KIND_BITS8 ? 128 - BYTE_BIAS : 0;
    return vi_set(bias ? bias * a->sum : 0);
}

INLINE vi chunk_dot(const enum kind kind, const vi w[16], const struct fast_chunk *a)
{
    if (is_float8(kind))
        return dots_float8(w, a->q, a->sum);
    if (kind == KIND_TABLE4 || kind == KIND_BITS8)
        return dots_signed(chunk_bias(kind, a), w, a->q);
    return has_nibbles(kind) ? dots_nibbles(vi_set(0), w, a->q) : dots_small(vi_set(0), w, a->q);
}

/* acc[i] += the chunk of row i. Where a dot is one operation, four columns of all rows go in turn,
 * so that none waits for the one before it, if there are registers for all; 8-bit floats have two
 * chains a row anyway, and those of all rows would not fit the registers. */
INLINE void add_chunk(const enum kind kind, const int m, const vi codes[16],
                      const struct fast_chunk *a, vf acc[])
{
#if defined(DOT_FOUR) && !CODES_AGAIN
    if (m == 1 && !is_float8(kind)) { // two chains of its own
        vi dot = chunk_bias(kind, a), odd = vi_set(0);
#pragma GCC unroll 4
        for (int four = 0; four < 8; four += 2) {
            dot = dot_four(dot, codes[four], a->q + 4 * four);
            odd = dot_four(odd, codes[four + 1], a->q + 4 * four + 4);
        }
        acc[0] = vf_fma(vf_set(a->scale), vf_of_int(vi_add(dot, odd)), acc[0]);
        return;
    }
    if (!is_float8(kind)) {
        vi dot[FAST_ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            dot[i] = chunk_bias(kind, &a[i]);
#pragma GCC unroll 8
        for (int four = 0; four < 8; four++)
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                dot[i] = dot_four(dot[i], codes[four], a[i].q + 4 * four);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            acc[i] = vf_fma(vf_set(a[i].scale), vf_of_int(dot[i]), acc[i]);
        return;
    }
#endif
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        acc[i] = vf_fma(vf_set(a[i].scale), vf_of_int(chunk_dot(kind, codes, &a[i])), acc[i]);
}

/* The same for the rows that have a second part: what the others would add is 0. */
INLINE void add_fine(const enum kind kind, const int m, const vi codes[16],
                     const struct fast_chunk *a, const uint8_t *has_fine, vf acc[])
{
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        if (has_fine[i])
            acc[i] = vf_fma(vf_set(a[i].scale), vf_of_int(chunk_dot(kind, codes, &a[i])), acc[i]);
}

/* Whether one of a block's rows has a second part in a chunk. */
INLINE bool any_fine(const uint8_t *has_fine)
{
    uint64_t flags;
    memcpy(&flags, has_fine, sizeof flags);
    return flags != 0;
}

/* acc of each row goes on with a chunk. One row takes factors as they are made where there are no
 * registers for all of them. */
INLINE void add_rows(const enum kind kind, const int m, const struct reader *r,
                     const struct tables *t, int64_t chunk, const struct fast_block *b, vf acc[])
{
    const struct fast_chunk *a = b->coarse + chunk * m, *fine = b->fine + chunk * m;
    const uint8_t *has_fine = b->has_fine + chunk * FAST_ROWS;
    vi codes[16];
#if CODES_AGAIN
    if (m == 1 && has_nibbles(kind)) {
        const uint8_t *data = chunk_data(kind, r, chunk, AHEAD);
        vi pairs = vi_set(0), line = pairs;
#pragma GCC unroll 8
        for (int four = 0; four < TILE_K / 4; four++)
            pairs = nibbles_add(pairs, quad_factors(kind, r, t, chunk, data, four, &line),
                                a->q + 4 * four);
        acc[0] = vf_fma(vf_set(a->scale), vf_of_int(lanes_sum(pairs)), acc[0]);
        if (!*has_fine)
            return;
        chunk_factors(kind, r, t, chunk, AHEAD, codes);
        add_fine(kind, m, codes, fine, has_fine, acc);
        return;
    }
#endif
    chunk_factors(kind, r, t, chunk, AHEAD, codes);
    add_chunk(kind, m, codes, a, acc);
    if (any_fine(has_fine))
        add_fine(kind, m, codes, fine, has_fine, acc);
}

/* total[i] += what a group of this scale and zero makes of acc[i]. */
INLINE void add_scaled(const enum kind kind, const int m, const struct weight *w, vf scale, vf zero,
                       const float *parts, const vf acc[], vf total[])
{
    scale_factors(kind, w, &scale, &zero);
    if (kind == KIND_TABLE4 || w->rule != RULE_FMA) {
        zero = vf_sub(vf_zero(), zero);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            total[i] = vf_fma(scale, vf_fma(zero, vf_set(parts[i]), acc[i]), total[i]);
    } else {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            total[i] = vf_fma(zero, vf_set(parts[i]), vf_fma(scale, acc[i], total[i]));
    }
}

/* Factors of a kind, for products whose text does not depend on it. */
typedef void factors_function(const struct reader *r, int64_t chunk, vi out[16]);

#define FACTORS(kind)                                                                              \
    static void factors_##kind(const struct reader *r, int64_t chunk, vi out[16])                  \
    {                                                                                              \
        static const struct tables none;                                                           \
        chunk_factors(KIND_##kind, r, &none, chunk, AHEAD, out);                                   \
    }
FACTORS(BITS4)
FACTORS(BITS2)
FACTORS(BITS3)
FACTORS(BITS)

static factors_function *factors_of(enum kind kind)
{
    return kind == KIND_BITS4   ? factors_BITS4
           : kind == KIND_BITS2 ? factors_BITS2
           : kind == KIND_BITS3 ? factors_BITS3
                                : factors_BITS;
}

typedef void fast_function(const struct weight *w, int64_t tile, const struct fast_block *b,
                           float *sum);

#define OF_ROWS(name)                                                                              \
    {                                                                                              \
        name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8             \
    }

/* fast of struct twins where groups are flat; in fast_flat_avx2.c and its like. */
void TWIN(fast_flat)(const struct weight *w, int64_t tile, const struct fast_block *b, int m,
                     float *sum);

#endif
#endif
