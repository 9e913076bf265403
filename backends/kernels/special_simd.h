/* special.h over sixteen lanes: the same operations in the same order. */
#ifndef OFTD_BACKENDS_KERNELS_SPECIAL_SIMD_H
#define OFTD_BACKENDS_KERNELS_SPECIAL_SIMD_H

#include "backends/kernels/lanes.h"
#include "backends/kernels/special.h"

#ifdef LANES

/* a * b + c for a constant c. */
INLINE vf vf_step(vf a, vf b, float c)
{
    return vf_fma(a, b, vf_set(c));
}
/* |m| is not taken: m >= 0 or a NaN. */
INLINE vf vf_with_sign(vf m, vf x)
{
    return vf_of_bits(
        vi_or(vi_and(vi_of_bits(m), vi_set(0x7fffffff)), vi_and(vi_of_bits(x), vi_set(INT32_MIN))));
}
INLINE vf vf_pow2(vi n)
{
    return vf_of_bits(vi_sll(vi_add(n, vi_set(127)), 23));
}

/* To the nearest bf16, ties to even; finite v. */
INLINE vf vf_round_bf16(vf v)
{
    vi u = vi_of_bits(v);
    vi odd = vi_and(vi_srl(u, 16), vi_set(1));
    u = vi_add(vi_add(u, vi_set(0x7fff)), odd);
    return vf_of_bits(vi_and(u, vi_set((int32_t)0xffff0000)));
}

INLINE vf vf_exp(vf x)
{
    x = vf_min(vf_set(SPECIAL_HIGH), vf_max(vf_set(SPECIAL_LOW), x));
    vf t = vf_step(x, vf_set(SPECIAL_LOG2E), SPECIAL_MAGIC);
    vf n = vf_sub(t, vf_set(SPECIAL_MAGIC));
    vf r = vf_fma(n, vf_set(-SPECIAL_LN2_HI), x);
    r = vf_fma(n, vf_set(-SPECIAL_LN2_LO), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_step(p, r, 1.3981999507e-3f);
    p = vf_step(p, r, 8.3334519073e-3f);
    p = vf_step(p, r, 4.1665795894e-2f);
    p = vf_step(p, r, 1.6666665459e-1f);
    p = vf_step(p, r, 5.0000001201e-1f);
    p = vf_add(vf_fma(vf_mul(r, r), p, r), vf_set(1.0f));
    vi whole = vi_sub(vi_of_bits(t), vi_of_bits(vf_set(SPECIAL_MAGIC)));
    vi half = vi_sra(whole, 1);
    return vf_mul(vf_mul(p, vf_pow2(half)), vf_pow2(vi_sub(whole, half)));
}

INLINE vf vf_power(vf x)
{
    vf t = vf_add(x, vf_set(SPECIAL_MAGIC));
    vf r = vf_sub(x, vf_sub(t, vf_set(SPECIAL_MAGIC)));
    vf p = vf_set(1.3264727313e-3f);
    p = vf_step(p, r, 9.6715129912e-3f);
    p = vf_step(p, r, 5.5507335812e-2f);
    p = vf_step(p, r, 2.4022242427e-1f);
    p = vf_step(p, r, 6.9314700365e-1f);
    p = vf_step(p, r, 1.0f);
    vf y = vf_of_bits(vi_add(vi_of_bits(p), vi_sll(vi_of_bits(t), 23)));
    return vf_less(x, vf_set(SPECIAL_TINY), vf_zero(), y);
}

INLINE vf vf_tanh(vf x)
{
    vf z = vf_mul(x, x);
    vf p = vf_set(-5.70498872745e-3f);
    p = vf_step(p, z, 2.06390887954e-2f);
    p = vf_step(p, z, -5.37397155531e-2f);
    p = vf_step(p, z, 1.33314422036e-1f);
    p = vf_step(p, z, -3.33332819422e-1f);
    vf small = vf_fma(vf_mul(p, z), x, x);
    vf a = vf_abs(x);
    vf e = vf_add(vf_exp(vf_add(a, a)), vf_set(1.0f));
    vf large = vf_with_sign(vf_sub(vf_set(1.0f), vf_div(vf_set(2.0f), e)), x);
    return vf_less(a, vf_set(0.625f), small, large);
}

INLINE vf vf_erf(vf x)
{
    vf a = vf_abs(x), s = vf_mul(x, x);
    vf p = vf_step(vf_set(-1.72853470e-5f), a, 3.83197126e-4f);
    vf q = vf_step(vf_set(-3.88396438e-3f), a, 2.42546219e-2f);
    p = vf_fma(p, s, q);
    p = vf_step(p, a, -1.06777877e-1f);
    p = vf_step(p, a, -6.34846687e-1f);
    p = vf_step(p, a, -1.28717512e-1f);
    vf minus_a = vf_sub(vf_zero(), a);
    p = vf_fma(p, a, minus_a);
    p = vf_less(a, vf_set(4.0f), p, vf_sub(minus_a, vf_set(16.0f)));
    vf large = vf_with_sign(vf_sub(vf_set(1.0f), vf_exp(p)), x);
    vf r = vf_set(-5.96761703e-4f);
    r = vf_step(r, s, 4.99119423e-3f);
    r = vf_step(r, s, -2.67681349e-2f);
    r = vf_step(r, s, 1.12819925e-1f);
    r = vf_step(r, s, -3.76125336e-1f);
    r = vf_step(r, s, 1.28379166e-1f);
    vf small = vf_fma(r, x, x);
    return vf_less(a, vf_set(0.927734375f), small, large);
}

#endif
#endif
