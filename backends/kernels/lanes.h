/*
 * Sixteen lanes: the words in which the vector twins are written, so that AVX2 (two registers of
 * eight) and AVX-512 (one of sixteen) share one text (X_simd.h) and with it one order of
 * operations.
 *
 *   vf  16 floats      vi  16 int32      vt  a table of 16 floats      vh  8 floats
 *
 * The twin's instruction set is that of the translation unit (X_avx2.c, X_avx512.c). Anywhere else
 * LANES is not defined and the X_simd.h headers are empty.
 */
#ifndef OFTD_BACKENDS_KERNELS_LANES_H
#define OFTD_BACKENDS_KERNELS_LANES_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Fetches a line of weights, which are read once, to the second-level cache: a core waits for a
 * dozen lines of its first one at a time, and from memory those are too few (fast_factors_simd.h).
 */
#define FETCH(p) __builtin_prefetch(p, 0, 2)

/* The four bytes at p, for every lane. */
INLINE int32_t four_at(const void *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return four;
}

#if defined(__AVX512F__)
#include "backends/kernels/lanes_avx512.h"
#elif defined(__AVX2__)
#include "backends/kernels/lanes_avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "backends/kernels/lanes_neon.h"
#endif

#endif
