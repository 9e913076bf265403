/*
 * Products of bytes where one operation adds four of them to a lane (dot_four): what lanes_avx512.h
 * and lanes_neon.h have in common, included by them once they have said what dot_four is. AVX2,
 * which takes two operations and signs by a detour, has words of its own.
 */
#ifndef OFTD_BACKENDS_KERNELS_LANES_DOTS_H
#define OFTD_BACKENDS_KERNELS_LANES_DOTS_H
#ifdef DOT_FOUR

#include <stdint.h>

/* acc + in each lane the sum of its 32 bytes w[0 .. 7] times q; w biased signed bytes, up to 127,
 * up to 15. */
INLINE vi dots_signed(vi acc, const vi w[8], const int8_t *q)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        acc = dot_four(acc, w[i], q + 4 * i);
    return acc;
}
INLINE vi dots_small(vi acc, const vi w[8], const int8_t *q)
{
    return dots_signed(acc, w, q);
}
INLINE vi dots_nibbles(vi acc, const vi w[8], const int8_t *q)
{
    return dots_signed(acc, w, q);
}

/* The sums of the first n vectors alone, up to 127. */
INLINE vi dots_some(const int n, const vi w[], const int8_t *q)
{
    vi acc = vi_set(0);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        acc = dot_four(acc, w[i], q + 4 * i);
    return acc;
}

#endif
#endif
