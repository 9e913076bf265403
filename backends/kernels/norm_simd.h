/*
 * Normalisation over sixteen lanes: the text of norm_avx2.c and norm_avx512.c.
 *
 * Roofline: two or three passes over a row that stays in the first-level cache, about one operation
 * for each of the 4 bytes read: bound by loads. Not timed against it.
 */
#ifndef OFTD_BACKENDS_KERNELS_NORM_SIMD_H
#define OFTD_BACKENDS_KERNELS_NORM_SIMD_H

#include <math.h>

#include "backends/kernels/lanes.h"
#include "backends/kernels/twins.h"

#ifdef LANES

static float row_sum(const float *x, int64_t n)
{
    vf s = vf_zero();
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        s = vf_add(s, vf_load(x + i));
    if (i < n)
        s = vf_add(s, vf_load_n(x + i, n - i));
    return vf_sum(s);
}

/* Sum of (x - mean)^2. */
static float row_squares(const float *x, int64_t n, float mean)
{
    vf s = vf_zero(), m = vf_set(mean);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf d = vf_sub(vf_load(x + i), m);
        s = vf_fma(d, d, s);
    }
    if (i < n) {
        vf d = vf_between(vf_sub(vf_load_n(x + i, n - i), m), 0, (int)(n - i));
        s = vf_fma(d, d, s);
    }
    return vf_sum(s);
}

INLINE vf scaled(const struct norm_args *a, vf x, vf mean, vf r, vf w, vf b)
{
    if (a->plus_one)
        w = vf_add(vf_set(1.0f), w);
    vf y = vf_mul(vf_mul(vf_sub(x, mean), r), w);
    return a->bias ? vf_add(y, b) : y;
}

static void norm_simd(const struct norm_args *a, const float *x, float *out)
{
    float mean = a->kind == NORM_LAYER ? row_sum(x, a->dim) / (float)a->dim : 0.0f;
    float mean_square = row_squares(x, a->dim, mean) / (float)a->dim;
    vf m = vf_set(mean), r = vf_set(1.0f / sqrtf(mean_square + a->eps));
    int64_t i = 0;
    for (; i + LANES <= a->dim; i += LANES) {
        vf b = a->bias ? vf_load(a->bias + i) : vf_zero();
        vf_store(out + i, scaled(a, vf_load(x + i), m, r, vf_load(a->weight + i), b));
    }
    if (i < a->dim) {
        int64_t n = a->dim - i;
        vf b = a->bias ? vf_load_n(a->bias + i, n) : vf_zero();
        vf y = scaled(a, vf_load_n(x + i, n), m, r, vf_load_n(a->weight + i, n), b);
        vf_store_n(out + i, y, n);
    }
}

void TWIN(norm)(struct twins *t)
{
    t->norm = norm_simd;
}

#endif
#endif
