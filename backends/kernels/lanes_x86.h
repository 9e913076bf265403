/* What lanes_avx2.h and lanes_avx512.h have in common: eight floats (vh), and four of four. */
#ifndef OFTD_BACKENDS_KERNELS_LANES_X86_H
#define OFTD_BACKENDS_KERNELS_LANES_X86_H
#ifdef __AVX2__

#include <immintrin.h>
#include <stdint.h>

#include "backends/kernels/lanes.h"

typedef __m256 vh;

INLINE vh vh_zero(void)
{
    return _mm256_setzero_ps();
}
INLINE vh vh_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE vh vh_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE vh vh_load_bf16(const void *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
INLINE vh vh_add(vh a, vh b)
{
    return _mm256_add_ps(a, b);
}
INLINE vh vh_fma(vh a, vh b, vh c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE void vh_store(float *p, vh v)
{
    _mm256_storeu_ps(p, v);
}
/* ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)) */
INLINE float vh_sum(vh v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* Four rows of four floats, `step` apart, to four columns, `to_step` apart. */
INLINE void floats_transpose(const float *from, int64_t step, float *to, int64_t to_step)
{
    __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + step);
    __m128 c = _mm_loadu_ps(from + 2 * step), d = _mm_loadu_ps(from + 3 * step);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + to_step, b);
    _mm_storeu_ps(to + 2 * to_step, c);
    _mm_storeu_ps(to + 3 * to_step, d);
}

#endif
#endif
