/*
 * The special functions of attention and activations, defined once: scalar here, over sixteen lanes
 * in special_simd.h, operation by operation the same, so that the bits are the same. Errors against
 * the exact value, measured on a dense sample of floats (tests/backends/kernels/test_special.c):
 *
 *   special_exp    at most 1.5 ulp, denormal results included; exp(-Inf) = 0, exp(89) and above =
 * Inf special_tanh   at most 2.5 ulp special_erf    at most 2 ulp
 *   special_power  2^x for x <= 0, at most 2.1 ulp; 0 below -125, so no result is denormal
 *
 * A NaN stays a NaN in all of them.
 *
 *   exp    x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 P(r) (P from Cephes' expf);
 *          times 2^(n/2) 2^(n - n/2), two factors because 2^n itself may not be a normal float
 *   power  x = n + r, |r| <= 1/2; 1 + r P(r) (minimax), n added to its exponent
 *   tanh   |x| < 0.625: x + x^3 P(x^2) (Cephes' tanhf); else 1 - 2 / (exp(2|x|) + 1)
 *   erf    |x| < 0.9277: x + x P(x^2); else 1 - exp(-|x| - |x| P(|x|)) (minimax polynomials)
 */
#ifndef OFTD_BACKENDS_KERNELS_SPECIAL_H
#define OFTD_BACKENDS_KERNELS_SPECIAL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/kernels.h"

#define SPECIAL_LOG2E  1.44269504088896341f
#define SPECIAL_LN2_HI 0.693359375f /* few bits: n * LN2_HI is exact */
#define SPECIAL_LN2_LO -2.12194440e-4f
#define SPECIAL_MAGIC  12582912.0f /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
#define SPECIAL_LOW    -104.0f     /* exp is 0 below */
#define SPECIAL_HIGH   89.0f       /* and Inf above */
#define SPECIAL_TINY   -125.0f     /* special_power is 0 below */

static inline float special_max(float a, float b)
{
    return a > b ? a : b;
}
static inline float special_min(float a, float b)
{
    return a < b ? a : b;
}
static inline int32_t special_bits(float f)
{
    int32_t i;
    memcpy(&i, &f, 4);
    return i;
}
static inline float special_of_bits(int32_t i)
{
    float f;
    memcpy(&f, &i, 4);
    return f;
}
static inline float special_pow2(int32_t n)
{
    return special_of_bits((int32_t)((uint32_t)(n + 127) << 23));
}

static inline float special_exp(float x)
{
    x = special_min(SPECIAL_HIGH, special_max(SPECIAL_LOW, x));
    float t = fmaf(x, SPECIAL_LOG2E, SPECIAL_MAGIC);
    float n = t - SPECIAL_MAGIC;
    float r = fmaf(n, -SPECIAL_LN2_HI, x);
    r = fmaf(n, -SPECIAL_LN2_LO, r);
    float p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(r * r, p, r) + 1.0f;
    int32_t whole = special_bits(t) - special_bits(SPECIAL_MAGIC), half = whole >> 1;
    return p * special_pow2(half) * special_pow2(whole - half);
}

static inline float special_power(float x)
{
    float t = x + SPECIAL_MAGIC;
    float r = x - (t - SPECIAL_MAGIC);
    float p = 1.3264727313e-3f;
    p = fmaf(p, r, 9.6715129912e-3f);
    p = fmaf(p, r, 5.5507335812e-2f);
    p = fmaf(p, r, 2.4022242427e-1f);
    p = fmaf(p, r, 6.9314700365e-1f);
    p = fmaf(p, r, 1.0f);
    uint32_t bits = (uint32_t)special_bits(p) + ((uint32_t)special_bits(t) << 23);
    return x < SPECIAL_TINY ? 0 : special_of_bits((int32_t)bits);
}

static inline float special_tanh(float x)
{
    float z = x * x;
    float p = -5.70498872745e-3f;
    p = fmaf(p, z, 2.06390887954e-2f);
    p = fmaf(p, z, -5.37397155531e-2f);
    p = fmaf(p, z, 1.33314422036e-1f);
    p = fmaf(p, z, -3.33332819422e-1f);
    float small = fmaf(p * z, x, x);
    float a = fabsf(x);
    float large = copysignf(1.0f - 2.0f / (special_exp(a + a) + 1.0f), x);
    return a < 0.625f ? small : large;
}

static inline float special_erf(float x)
{
    float a = fabsf(x), s = x * x;
    float p = fmaf(-1.72853470e-5f, a, 3.83197126e-4f);
    float q = fmaf(-3.88396438e-3f, a, 2.42546219e-2f);
    p = fmaf(p, s, q);
    p = fmaf(p, a, -1.06777877e-1f);
    p = fmaf(p, a, -6.34846687e-1f);
    p = fmaf(p, a, -1.28717512e-1f);
    p = fmaf(p, a, -a);
    // beyond 4 it is 1, and the polynomial's s would overflow
    float large = copysignf(1.0f - special_exp(a < 4.0f ? p : -a - 16.0f), x);
    float r = -5.96761703e-4f;
    r = fmaf(r, s, 4.99119423e-3f);
    r = fmaf(r, s, -2.67681349e-2f);
    r = fmaf(r, s, 1.12819925e-1f);
    r = fmaf(r, s, -3.76125336e-1f);
    r = fmaf(r, s, 1.28379166e-1f);
    float small = fmaf(r, x, x);
    return a < 0.927734375f ? small : large;
}

static inline float special_activation(enum activation act, float x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1.0f + special_exp(-x));
    case ACT_QUICK_GELU:
        return x / (1.0f + special_exp(-1.702f * x));
    case ACT_GELU:
        return x * 0.5f * (1.0f + special_erf(x * 0.707106781186547524f));
    case ACT_GELU_TANH: {
        float inner = 0.797884560802865356f * fmaf(0.044715f * x * x, x, x);
        return x * 0.5f * (1.0f + special_tanh(inner));
    }
    case ACT_RELU:
        return special_max(0.0f, x); // a NaN stays one
    case ACT_TANH:
        return special_tanh(x);
    case ACT_NONE:
        break;
    }
    return x;
}

#endif
