/*
 * Activations and likelihoods over sixteen lanes: the text of elementwise_avx2.c and
 * elementwise_avx512.c.
 *
 * Roofline: 12 bytes an element (gate, up, out), in the caches; an exponential is about twenty
 * operations and a division: bound by arithmetic. Not timed against it.
 */
#ifndef OFTD_BACKENDS_KERNELS_ELEMENTWISE_SIMD_H
#define OFTD_BACKENDS_KERNELS_ELEMENTWISE_SIMD_H

#include "backends/kernels/special_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

INLINE vf over_one_plus_exp(vf x, vf minus)
{
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(minus)));
}

/* (x / 2) (1 + f) */
INLINE vf half_of(vf x, vf f)
{
    return vf_mul(vf_mul(x, vf_set(0.5f)), vf_add(vf_set(1.0f), f));
}

INLINE vf activation_of(const enum activation act, vf x)
{
    switch (act) {
    case ACT_SILU:
        return over_one_plus_exp(x, vf_mul(vf_set(-1.0f), x));
    case ACT_QUICK_GELU:
        return over_one_plus_exp(x, vf_mul(vf_set(-1.702f), x));
    case ACT_GELU:
        return half_of(x, vf_erf(vf_mul(x, vf_set(0.707106781186547524f))));
    case ACT_GELU_TANH: {
        vf cube = vf_fma(vf_mul(vf_mul(vf_set(0.044715f), x), x), x, x);
        return half_of(x, vf_tanh(vf_mul(vf_set(0.797884560802865356f), cube)));
    }
    case ACT_RELU:
        return vf_max(vf_zero(), x);
    case ACT_TANH:
        return vf_tanh(x);
    case ACT_NONE:
        break;
    }
    return x;
}

INLINE void activate_row(const enum activation act, const float *gate, const float *up, int64_t n,
                         float *out)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf y = activation_of(act, vf_load(gate + i));
        vf_store(out + i, up ? vf_mul(y, vf_load(up + i)) : y);
    }
    if (i < n) {
        vf y = activation_of(act, vf_load_n(gate + i, n - i));
        vf_store_n(out + i, up ? vf_mul(y, vf_load_n(up + i, n - i)) : y, n - i);
    }
}

static void activate_simd(enum activation act, const float *gate, const float *up, int64_t n,
                          float *out)
{
    switch (act) {
    case ACT_NONE:
        activate_row(ACT_NONE, gate, up, n, out);
        break;
    case ACT_SILU:
        activate_row(ACT_SILU, gate, up, n, out);
        break;
    case ACT_GELU:
        activate_row(ACT_GELU, gate, up, n, out);
        break;
    case ACT_GELU_TANH:
        activate_row(ACT_GELU_TANH, gate, up, n, out);
        break;
    case ACT_RELU:
        activate_row(ACT_RELU, gate, up, n, out);
        break;
    case ACT_TANH:
        activate_row(ACT_TANH, gate, up, n, out);
        break;
    case ACT_QUICK_GELU:
        activate_row(ACT_QUICK_GELU, gate, up, n, out);
        break;
    }
}

static float likelihoods_simd(const float *x, int64_t n, float max, float scale, float *likely)
{
    vf sum = vf_zero(), m = vf_set(max), by = vf_set(scale);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf e = vf_power(vf_mul(vf_sub(vf_load(x + i), m), by));
        vf_store(likely + i, e);
        sum = vf_add(sum, e);
    }
    if (i < n) {
        vf e = vf_power(vf_mul(vf_sub(vf_load_n(x + i, n - i), m), by));
        vf_store_n(likely + i, e, n - i);
        sum = vf_add(sum, vf_between(e, 0, (int)(n - i)));
    }
    return vf_sum(sum);
}

void TWIN(elementwise)(struct twins *t)
{
    t->likelihoods = likelihoods_simd;
    t->activate = activate_simd;
}

#endif
#endif
