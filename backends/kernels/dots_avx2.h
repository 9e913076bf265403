/*
 * Products of bytes in two AVX2 registers, included by lanes_avx2.h. With AVX-VNNI one operation
 * adds four products to a lane, of unsigned bytes with signed ones, as AVX-512's does; without it
 * two do, or four where both have a sign.
 */
#ifndef OFTD_BACKENDS_KERNELS_DOTS_AVX2_H
#define OFTD_BACKENDS_KERNELS_DOTS_AVX2_H
#if defined(__AVX2__) && !defined(__AVX512F__)

INLINE __m256i four_bytes(const int8_t *q)
{
    return _mm256_set1_epi32(four_at(q));
}

#ifdef __AVXVNNI__

#define BYTE_BIAS 128
INLINE vi bytes_centred(vi v)
{
    return v;
}
/* acc + in each lane the sum of its four bytes w times x. */
INLINE vi dot_bytes(vi acc, vi w, __m256i lo, __m256i hi)
{
    return (vi){_mm256_dpbusd_avx_epi32(acc.lo, w.lo, lo),
                _mm256_dpbusd_avx_epi32(acc.hi, w.hi, hi)};
}
#define DOT_FOUR
INLINE vi dot_four(vi acc, vi w, const int8_t *q)
{
    const __m256i x = four_bytes(q);
    return dot_bytes(acc, w, x, x);
}
#include "backends/kernels/lanes_dots.h"

INLINE vi nibbles_add(vi acc, vi w, const int8_t *q)
{
    return dot_four(acc, w, q);
}
/* A vector of dots_small with bytes of each lane's own, 64 of them, and the sums of eight. */
INLINE vi lanes_add(vi acc, vi w, const void *q)
{
    const vi x = vi_load(q);
    return dot_bytes(acc, w, x.lo, x.hi);
}
INLINE vi lanes_sum(vi acc)
{
    return acc;
}
INLINE vi dots_lanes(const vi w[8], const void *q)
{
    vi acc = vi_set(0);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        acc = lanes_add(acc, w[i], (const int8_t *)q + 64 * i);
    return acc;
}
/* The same of bytes_centred's. */
INLINE vi dots_lanes_bytes(const vi w[8], const void *q)
{
    return dots_lanes(w, q);
}

#else

/* Signed bytes stay signed: a product of bytes here takes |w| and q with the sign of w. */
#define BYTE_BIAS 0
INLINE vi bytes_centred(vi v)
{
    const __m256i half = _mm256_set1_epi8((char)0x80);
    return (vi){_mm256_xor_si256(v.lo, half), _mm256_xor_si256(v.hi, half)};
}
/* Sums of two products, |sum| < 2^15: 128 * 127 * 2 and 127 * 127 * 2. */
INLINE __m256i signed_pairs(__m256i w, __m256i q)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}
INLINE __m256i add_pairs(__m256i acc, __m256i pairs)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE vi dots_signed(vi acc, const vi w[8], const int8_t *q)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m256i x = four_bytes(q + 4 * i);
        acc.lo = add_pairs(acc.lo, signed_pairs(w[i].lo, x));
        acc.hi = add_pairs(acc.hi, signed_pairs(w[i].hi, x));
    }
    return acc;
}
INLINE vi dots_small(vi acc, const vi w[8], const int8_t *q)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m256i x = four_bytes(q + 4 * i);
        acc.lo = add_pairs(acc.lo, _mm256_maddubs_epi16(w[i].lo, x));
        acc.hi = add_pairs(acc.hi, _mm256_maddubs_epi16(w[i].hi, x));
    }
    return acc;
}
/* A vector of codes up to 15; eight pairs fit 16 bits: 8 * 2 * 15 * 127. */
INLINE vi nibbles_add(vi pairs, vi w, const int8_t *q)
{
    __m256i x = four_bytes(q);
    return (vi){_mm256_add_epi16(pairs.lo, _mm256_maddubs_epi16(w.lo, x)),
                _mm256_add_epi16(pairs.hi, _mm256_maddubs_epi16(w.hi, x))};
}
INLINE vi dots_nibbles(vi acc, const vi w[8], const int8_t *q)
{
    vi pairs = vi_set(0);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        pairs = nibbles_add(pairs, w[i], q + 4 * i);
    return (vi){add_pairs(acc.lo, pairs.lo), add_pairs(acc.hi, pairs.hi)};
}

INLINE vi dots_some(const int n, const vi w[], const int8_t *q)
{
    vi acc = vi_set(0);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        __m256i x = four_bytes(q + 4 * i);
        acc.lo = add_pairs(acc.lo, _mm256_maddubs_epi16(w[i].lo, x));
        acc.hi = add_pairs(acc.hi, _mm256_maddubs_epi16(w[i].hi, x));
    }
    return acc;
}
INLINE vi dots_lanes(const vi w[8], const void *q)
{
    vi acc = vi_set(0);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vi x = vi_load((const int8_t *)q + 64 * i);
        acc.lo = add_pairs(acc.lo, _mm256_maddubs_epi16(w[i].lo, x.lo));
        acc.hi = add_pairs(acc.hi, _mm256_maddubs_epi16(w[i].hi, x.hi));
    }
    return acc;
}
/* The same with codes up to 15 a vector at a time, from 0 on, and the sums of eight, whose pairs
 * fit 16 bits. */
INLINE vi lanes_add(vi pairs, vi w, const void *q)
{
    vi x = vi_load(q);
    return (vi){_mm256_add_epi16(pairs.lo, _mm256_maddubs_epi16(w.lo, x.lo)),
                _mm256_add_epi16(pairs.hi, _mm256_maddubs_epi16(w.hi, x.hi))};
}
INLINE vi lanes_sum(vi pairs)
{
    return (vi){add_pairs(_mm256_setzero_si256(), pairs.lo),
                add_pairs(_mm256_setzero_si256(), pairs.hi)};
}
/* w is 128 less than the code. */
INLINE vi dots_lanes_bytes(const vi w[8], const void *q)
{
    const __m256i one = _mm256_set1_epi8(1);
    vi acc = vi_set(0), sum = acc;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vi x = vi_load((const int8_t *)q + 64 * i);
        acc.lo = add_pairs(acc.lo, signed_pairs(w[i].lo, x.lo));
        acc.hi = add_pairs(acc.hi, signed_pairs(w[i].hi, x.hi));
        sum.lo = add_pairs(sum.lo, _mm256_maddubs_epi16(one, x.lo));
        sum.hi = add_pairs(sum.hi, _mm256_maddubs_epi16(one, x.hi));
    }
    return vi_add(acc, vi_sll(sum, 7));
}

#endif

/* Sixteen signed bytes as a table; byte_look: the entry of each byte's low four bits, biased. */
INLINE vi byte_table(const int8_t table[16])
{
    __m128i bias = _mm_set1_epi8((char)BYTE_BIAS);
    __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const __m128i *)table), bias);
    __m256i t = _mm256_broadcastsi128_si256(bytes);
    return (vi){t, t};
}
INLINE vi byte_look(vi table, vi index)
{
    const __m256i low = _mm256_set1_epi8(15);
    return (vi){_mm256_shuffle_epi8(table.lo, _mm256_and_si256(index.lo, low)),
                _mm256_shuffle_epi8(table.hi, _mm256_and_si256(index.hi, low))};
}

#endif
#endif
