/* The sixteen lanes of lanes.h in one AVX-512 register. */
#ifndef OFTD_BACKENDS_KERNELS_LANES_AVX512_H
#define OFTD_BACKENDS_KERNELS_LANES_AVX512_H
#ifdef __AVX512F__

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "backends/kernels/lanes.h"
#include "backends/kernels/lanes_x86.h"

#define LANES      16
#define TWIN(name) name##_avx512
/* Rows and tiles of one register block. */
#define BLOCK_ROWS  14
#define BLOCK_TILES 2
#define FUSED_ROWS  8
/* Tiles that one row goes through at once. */
#define FUSED_TILES 4
/* Query heads, and vectors of keys or of a value's elements, that attention takes at once. */
#define ATTEND_HEADS   4
#define ATTEND_VECTORS 4
/* The same where so many heads share a kv head. */
#define ATTEND_MANY 8
#define ATTEND_FEW  2
/* Chains that hide the latency of a fused multiply-add. */
#define PROBE_CHAINS 12
/* Whether codes that are wanted twice are made twice, for want of registers. */
#define CODES_AGAIN false

typedef __m512 vf;
typedef __m512i vi;
typedef __m512 vt;

INLINE __mmask16 lanes_below(int64_t n)
{
    return (__mmask16)((1u << n) - 1);
}

INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
INLINE vf vf_set(float f)
{
    return _mm512_set1_ps(f);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
/* The first n < 16 lanes, the others 0; reads nothing beyond. */
INLINE vf vf_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(lanes_below(n), p);
}
INLINE void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
INLINE void vf_store_n(float *p, vf v, int64_t n)
{
    _mm512_mask_storeu_ps(p, lanes_below(n), v);
}
/* Lanes 0..7 and 8..15. */
INLINE vf vf_of_halves(vh low, vh high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
/* a > b ? a : b, so b where one is a NaN. */
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
/* a < b ? a : b */
INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
INLINE vi vi_of_bits(vf v)
{
    return _mm512_castps_si512(v);
}
INLINE vf vf_of_bits(vi v)
{
    return _mm512_castsi512_ps(v);
}
/* a < b ? x : y, y where one is a NaN. */
INLINE vf vf_less(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
INLINE vf vf_abs(vf v)
{
    return _mm512_abs_ps(v);
}
/* Whether every lane is 0 or has a magnitude in [low, high). */
INLINE bool vf_within(vf v, float low, float high)
{
    vf a = _mm512_abs_ps(v);
    __mmask16 in = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a, vf_set(low), _CMP_GE_OQ), a,
                                           vf_set(high), _CMP_LT_OQ);
    return (__mmask16)(in | _mm512_cmp_ps_mask(a, vf_zero(), _CMP_EQ_OQ)) == 0xffff;
}
/* The lanes first .. end - 1 of v, 0 in the others. */
INLINE vf vf_between(vf v, int first, int end)
{
    return _mm512_maskz_mov_ps(lanes_below(end) & ~lanes_below(first), v);
}

INLINE vi vi_set(int32_t i)
{
    return _mm512_set1_epi32(i);
}
INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
/* For what is used twice. */
INLINE vi vi_load_once(const void *p)
{
    vi v = _mm512_loadu_si512(p);
    __asm__("" : "+v"(v)); // else the compiler reads it anew for each of its uses
    return v;
}
INLINE void vi_store(void *p, vi v)
{
    _mm512_storeu_si512(p, v);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
INLINE vi vi_mul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
INLINE vi vi_min(vi a, vi b)
{
    return _mm512_min_epi32(a, b);
}
INLINE vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}
INLINE bool vi_same(vi a, vi b)
{
    return _mm512_cmpeq_epi32_mask(a, b) == 0xffff;
}
/* Shifts by a number of bits that is the same in all lanes. */
INLINE vi vi_srl(vi v, int n)
{
    return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sra(vi v, int n)
{
    return _mm512_sra_epi32(v, _mm_cvtsi32_si128(n));
}
INLINE vi vi_sll(vi v, int n)
{
    return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n));
}
INLINE vi vi_iota(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
/* Whether a byte, its highest bit aside, is `least` or more. */
INLINE bool vi_any_byte(vi v, int least)
{
    vi low = _mm512_and_si512(v, _mm512_set1_epi8(0x7f));
    return _mm512_cmpge_epu8_mask(low, _mm512_set1_epi8((char)least)) != 0;
}
INLINE vf vf_of_int(vi v)
{
    return _mm512_cvtepi32_ps(v);
}
INLINE vi vi_load_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE vi vi_load_i8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE vi vi_load_i16(const void *p)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf vf_load_bf16(const void *p)
{
    return vf_of_bits(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE vf vf_gather(const float *base, vi index)
{
    return _mm512_i32gather_ps(index, base, 4);
}
INLINE vt vt_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
/* table[the low four bits of each lane] */
INLINE vf vt_look(vt table, vi index)
{
    return _mm512_permutexvar_ps(index, table);
}
INLINE void vf_store_f16(void *p, vf v)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE vf vf_round_f16(vf v)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* To the nearest integer, ties to even. */
INLINE vi vi_round(vf v)
{
    return _mm512_cvtps_epi32(v);
}
INLINE int32_t vi_sum(vi v)
{
    return _mm512_reduce_add_epi32(v);
}
INLINE int32_t vi_largest(vi v)
{
    return _mm512_reduce_max_epi32(v);
}
/* The lanes' low bytes; values -128..127. */
INLINE void vi_store_bytes(int8_t *p, vi v)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(v));
}
/* Bytes 0 to 3 of a lane: those of a to d; values -128..127. */
INLINE vi vi_bytes(vi a, vi b, vi c, vi d)
{
    const __m512i rows =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    return _mm512_shuffle_epi8(bytes, rows);
}
INLINE void vi_store_words(int16_t *p, vi v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(v));
}

/* The even, and the odd, of a lane's four signed bytes as two words. */
INLINE vi vi_even_words(vi v)
{
    return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8);
}
INLINE vi vi_odd_words(vi v)
{
    return _mm512_srai_epi16(v, 8);
}
/* acc + in each lane the sum of its two words times q[0 .. 1]. */
INLINE vi vi_add_words(vi acc, vi words, const int16_t *q)
{
    return _mm512_dpwssd_epi32(acc, words, _mm512_set1_epi32(four_at(q)));
}

/* What a weight's signed byte is stored with added, so that it is unsigned. */
#define BYTE_BIAS 128
/* Sixteen signed bytes as a table; byte_look: the entry of each byte's low four bits, biased. */
INLINE vi byte_table(const int8_t table[16])
{
    __m128i t = _mm_loadu_si128((const __m128i *)table);
    return _mm512_broadcast_i32x4(_mm_xor_si128(t, _mm_set1_epi8((char)0x80)));
}
INLINE vi byte_look(vi table, vi index)
{
    return _mm512_permutexvar_epi8(index, table); // of six bits: the table is there four times
}
/* Unsigned bytes less 128, biased. */
INLINE vi bytes_centred(vi v)
{
    return v;
}
/* acc + in each lane the sum of its four bytes w times q[0 .. 3]. */
#define DOT_FOUR
INLINE vi dot_four(vi acc, vi w, const int8_t *q)
{
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four_at(q)));
}
#include "backends/kernels/lanes_dots.h"

/* A vector of dots_small with bytes of each lane's own, 64 of them, and the sums of eight. */
INLINE vi lanes_add(vi acc, vi w, const void *q)
{
    return _mm512_dpbusd_epi32(acc, w, vi_load(q));
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

/* 8-bit floats as integers: magnitudes 128 high + low of the codes 0 .. 127. */
struct float8_table {
    __m512i high[2], low[2];
};
INLINE struct float8_table float8_load(const bool e5m2, float step, const uint8_t high[128],
                                       const uint8_t low[128])
{
    (void)e5m2;
    (void)step;
    const __m512i bias = _mm512_set1_epi8((char)BYTE_BIAS);
    return (struct float8_table){
        {_mm512_or_si512(vi_load(high), bias), _mm512_or_si512(vi_load(high + 64), bias)},
        {_mm512_or_si512(vi_load(low), bias), _mm512_or_si512(vi_load(low + 64), bias)}};
}
/* The codes of four columns, for dots_float8: w[0] the high parts, w[8] the low ones, biased; a
 * negative one is 256 - (128 + part). */
INLINE void float8_bytes(const bool e5m2, const struct float8_table *t, vi codes, vi *w)
{
    (void)e5m2;
    __mmask64 negative = _mm512_movepi8_mask(codes);
    __m512i high = _mm512_permutex2var_epi8(t->high[0], codes, t->high[1]);
    __m512i low = _mm512_permutex2var_epi8(t->low[0], codes, t->low[1]);
    w[0] = _mm512_mask_sub_epi8(high, negative, _mm512_setzero_si512(), high);
    w[8] = _mm512_mask_sub_epi8(low, negative, _mm512_setzero_si512(), low);
}
INLINE vi dots_float8(const vi w[16], const int8_t *q, int32_t sum)
{
    const vi start = _mm512_set1_epi32(-BYTE_BIAS * sum);
    vi high = dots_signed(start, w, q), low = dots_signed(start, w + 8, q);
    return _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
}

/* Lane c of v[r] becomes lane r of v[c]. */
INLINE void vf_transpose(vf v[16])
{
    __m512 a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) { // rows i, i + 1 in turn, in each quarter
        a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { // four rows of a column; quarter q has column 4q + i % 4
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { // quarters: of columns i, 8 + i and 4 + i, 12 + i
        a[i] = _mm512_shuffle_f32x4(b[i], b[4 + i], 0x88);
        a[4 + i] = _mm512_shuffle_f32x4(b[i], b[4 + i], 0xdd);
        a[8 + i] = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0x88);
        a[12 + i] = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        v[i] = _mm512_shuffle_f32x4(a[i], a[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_f32x4(a[i], a[8 + i], 0xdd);
    }
}

/* The sum of all lanes by the same tree. */
INLINE float vf_sum(vf v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float vf_largest(vf v)
{
    return _mm512_reduce_max_ps(v);
}

#endif
#endif
