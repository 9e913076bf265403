/* The sixteen lanes of lanes.h in two AVX2 registers: lo has lanes 0..7, hi lanes 8..15. */
#ifndef OFTD_BACKENDS_KERNELS_LANES_AVX2_H
#define OFTD_BACKENDS_KERNELS_LANES_AVX2_H
#if defined(__AVX2__) && !defined(__AVX512F__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "backends/kernels/lanes.h"
#include "backends/kernels/lanes_x86.h"

#define LANES 16
#ifdef __AVXVNNI__ // of the twins of fast mode's products alone
#define TWIN(name) name##_avxvnni
#else
#define TWIN(name) name##_avx2
#endif
#define BLOCK_ROWS  6
#define BLOCK_TILES 1
#define FUSED_ROWS  4
#define FUSED_TILES 2
/* Query heads, and vectors of keys or of a value's elements, that attention takes at once. */
#define ATTEND_HEADS   2
#define ATTEND_VECTORS 2
#define ATTEND_MANY    2
#define ATTEND_FEW     2
/* Chains that hide the latency of a fused multiply-add. */
#define PROBE_CHAINS 5
/* Whether codes that are wanted twice are made twice, for want of registers. */
#define CODES_AGAIN true

typedef struct {
    __m256 lo, hi;
} vf;
typedef struct {
    __m256i lo, hi;
} vi;
typedef vf vt;

/* Lanes below n set, for n <= 16. */
INLINE vi lanes_below(int64_t n)
{
    const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i end = _mm256_set1_epi32((int)n);
    return (vi){_mm256_cmpgt_epi32(end, i),
                _mm256_cmpgt_epi32(end, _mm256_add_epi32(i, _mm256_set1_epi32(8)))};
}

INLINE vf vf_zero(void)
{
    return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
INLINE vf vf_set(float f)
{
    return (vf){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}
INLINE vf vf_load(const float *p)
{
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE vf vf_load_n(const float *p, int64_t n)
{
    vi m = lanes_below(n);
    return (vf){_mm256_maskload_ps(p, m.lo), _mm256_maskload_ps(p + 8, m.hi)};
}
INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
INLINE void vf_store_n(float *p, vf v, int64_t n)
{
    vi m = lanes_below(n);
    _mm256_maskstore_ps(p, m.lo, v.lo);
    _mm256_maskstore_ps(p + 8, m.hi, v.hi);
}
INLINE vf vf_of_halves(vh low, vh high)
{
    return (vf){low, high};
}
INLINE vf vf_add(vf a, vf b)
{
    return (vf){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
INLINE vf vf_sub(vf a, vf b)
{
    return (vf){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
INLINE vf vf_mul(vf a, vf b)
{
    return (vf){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
INLINE vf vf_div(vf a, vf b)
{
    return (vf){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
INLINE vf vf_max(vf a, vf b)
{
    return (vf){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
INLINE vf vf_min(vf a, vf b)
{
    return (vf){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
INLINE vi vi_of_bits(vf v)
{
    return (vi){_mm256_castps_si256(v.lo), _mm256_castps_si256(v.hi)};
}
INLINE vf vf_of_bits(vi v)
{
    return (vf){_mm256_castsi256_ps(v.lo), _mm256_castsi256_ps(v.hi)};
}
INLINE vf vf_less(vf a, vf b, vf x, vf y)
{
    return (vf){_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
INLINE vf vf_abs(vf v)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (vf){_mm256_andnot_ps(sign, v.lo), _mm256_andnot_ps(sign, v.hi)};
}
INLINE __m256 half_within(__m256 a, float low, float high)
{
    __m256 in = _mm256_and_ps(_mm256_cmp_ps(a, _mm256_set1_ps(low), _CMP_GE_OQ),
                              _mm256_cmp_ps(a, _mm256_set1_ps(high), _CMP_LT_OQ));
    return _mm256_or_ps(in, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_EQ_OQ));
}
INLINE bool vf_within(vf v, float low, float high)
{
    vf a = vf_abs(v);
    __m256 both = _mm256_and_ps(half_within(a.lo, low, high), half_within(a.hi, low, high));
    return _mm256_movemask_ps(both) == 0xff;
}
INLINE vf vf_between(vf v, int first, int end)
{
    vi below = lanes_below(first), mask = lanes_below(end), bits = vi_of_bits(v);
    return vf_of_bits((vi){_mm256_and_si256(bits.lo, _mm256_andnot_si256(below.lo, mask.lo)),
                           _mm256_and_si256(bits.hi, _mm256_andnot_si256(below.hi, mask.hi))});
}

INLINE vi vi_set(int32_t i)
{
    return (vi){_mm256_set1_epi32(i), _mm256_set1_epi32(i)};
}
INLINE vi vi_load(const void *p)
{
    return (vi){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
/* For what is used twice. */
INLINE vi vi_load_once(const void *p)
{
    return vi_load(p);
}
INLINE void vi_store(void *p, vi v)
{
    _mm256_storeu_si256((__m256i *)p, v.lo);
    _mm256_storeu_si256((__m256i *)p + 1, v.hi);
}
INLINE vi vi_and(vi a, vi b)
{
    return (vi){_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
INLINE vi vi_or(vi a, vi b)
{
    return (vi){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
INLINE vi vi_add(vi a, vi b)
{
    return (vi){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
INLINE vi vi_sub(vi a, vi b)
{
    return (vi){_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
INLINE vi vi_mul(vi a, vi b)
{
    return (vi){_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)};
}
INLINE vi vi_min(vi a, vi b)
{
    return (vi){_mm256_min_epi32(a.lo, b.lo), _mm256_min_epi32(a.hi, b.hi)};
}
INLINE vi vi_max(vi a, vi b)
{
    return (vi){_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
}
INLINE bool vi_same(vi a, vi b)
{
    __m256i both = _mm256_and_si256(_mm256_cmpeq_epi32(a.lo, b.lo), _mm256_cmpeq_epi32(a.hi, b.hi));
    return _mm256_movemask_epi8(both) == -1;
}
INLINE vi vi_srl(vi v, int n)
{
    __m128i c = _mm_cvtsi32_si128(n);
    return (vi){_mm256_srl_epi32(v.lo, c), _mm256_srl_epi32(v.hi, c)};
}
INLINE vi vi_sra(vi v, int n)
{
    __m128i c = _mm_cvtsi32_si128(n);
    return (vi){_mm256_sra_epi32(v.lo, c), _mm256_sra_epi32(v.hi, c)};
}
INLINE vi vi_sll(vi v, int n)
{
    __m128i c = _mm_cvtsi32_si128(n);
    return (vi){_mm256_sll_epi32(v.lo, c), _mm256_sll_epi32(v.hi, c)};
}
INLINE vi vi_iota(void)
{
    return (vi){_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
INLINE __m256i half_at_least(__m256i v, int least)
{
    v = _mm256_and_si256(v, _mm256_set1_epi8(0x7f));
    return _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8((char)least)), v);
}
INLINE bool vi_any_byte(vi v, int least)
{
    __m256i any = _mm256_or_si256(half_at_least(v.lo, least), half_at_least(v.hi, least));
    return _mm256_movemask_epi8(any) != 0;
}
INLINE vf vf_of_int(vi v)
{
    return (vf){_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi)};
}
INLINE vi vi_load_u8(const uint8_t *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (vi){_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))};
}
INLINE vi vi_load_i8(const void *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (vi){_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))};
}
INLINE vi vi_load_i16(const void *p)
{
    const __m128i *q = p;
    return (vi){_mm256_cvtepi16_epi32(_mm_loadu_si128(q)),
                _mm256_cvtepi16_epi32(_mm_loadu_si128(q + 1))};
}
INLINE vf vf_load_f16(const void *p)
{
    const __m128i *q = p;
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
INLINE vf vf_load_bf16(const void *p)
{
    const __m128i *q = p;
    return vf_of_bits(vi_sll((vi){_mm256_cvtepu16_epi32(_mm_loadu_si128(q)),
                                  _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))},
                             16));
}
INLINE vf vf_gather(const float *base, vi index)
{
    return (vf){_mm256_i32gather_ps(base, index.lo, 4), _mm256_i32gather_ps(base, index.hi, 4)};
}
INLINE vt vt_load(const float *p)
{
    return vf_load(p);
}
INLINE __m256 table_half(vt table, __m256i index)
{
    __m256 low = _mm256_permutevar8x32_ps(table.lo, index);
    __m256 high = _mm256_permutevar8x32_ps(table.hi, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
INLINE vf vt_look(vt table, vi index)
{
    return (vf){table_half(table, index.lo), table_half(table, index.hi)};
}
INLINE void vf_store_f16(void *p, vf v)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.lo, NEAREST));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(v.hi, NEAREST));
}
INLINE vf vf_round_f16(vf v)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (vf){_mm256_cvtph_ps(_mm256_cvtps_ph(v.lo, NEAREST)),
                _mm256_cvtph_ps(_mm256_cvtps_ph(v.hi, NEAREST))};
}

INLINE vi vi_round(vf v)
{
    return (vi){_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi)};
}
INLINE int32_t vi_sum(vi v)
{
    __m256i a = _mm256_add_epi32(v.lo, v.hi);
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}
INLINE int32_t vi_largest(vi v)
{
    __m256i a = _mm256_max_epi32(v.lo, v.hi);
    __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}
INLINE void vi_store_bytes(int8_t *p, vi v)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.lo, v.hi), 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words),
                                                   _mm256_extracti128_si256(words, 1)));
}
/* Bytes 0 to 3 of a lane: those of a to d; values -128..127. */
INLINE __m256i half_bytes(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i rows = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_shuffle_epi8(bytes, rows);
}
INLINE vi vi_bytes(vi a, vi b, vi c, vi d)
{
    return (vi){half_bytes(a.lo, b.lo, c.lo, d.lo), half_bytes(a.hi, b.hi, c.hi, d.hi)};
}
INLINE void vi_store_words(int16_t *p, vi v)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm256_permute4x64_epi64(_mm256_packs_epi32(v.lo, v.hi), 0xd8));
}

INLINE vi vi_even_words(vi v)
{
    return (vi){_mm256_srai_epi16(_mm256_slli_epi16(v.lo, 8), 8),
                _mm256_srai_epi16(_mm256_slli_epi16(v.hi, 8), 8)};
}
INLINE vi vi_odd_words(vi v)
{
    return (vi){_mm256_srai_epi16(v.lo, 8), _mm256_srai_epi16(v.hi, 8)};
}
INLINE vi vi_add_words(vi acc, vi words, const int16_t *q)
{
    __m256i x = _mm256_set1_epi32(four_at(q));
    return (vi){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(words.lo, x)),
                _mm256_add_epi32(acc.hi, _mm256_madd_epi16(words.hi, x))};
}

#include "backends/kernels/dots_avx2.h"

/*
 * 8-bit floats as integers of 16 bits. E5M2 is moved to where a half has it, converted and divided
 * by the step. E4M3 is a product: m is its three bits with the leading one (no leading one where
 * the exponent is 0), and
 *
 *     b = (m << up, less 1 where a tie goes down) * power[exponent] / 2^15, to the nearest, ties up
 *
 * m has its ties, m / 2^t with the low bits 10..0, at one t alone and goes down there if the bit
 * above them is 0. An exponent that rounds nothing is at most 2^-15 of the product's unit short,
 * half of one, which goes up again.
 */
struct float8_table {
    __m256 steps;                  /* E5M2: in one unit of the half */
    __m256i high, down;            /* E4M3: bytes of m << up */
    __m256i power_high, power_low; /* and of the powers of 2 */
};
INLINE struct float8_table float8_load(const bool e5m2, float step, const uint8_t high[128],
                                       const uint8_t low[128])
{
    (void)high;
    (void)low;
    if (e5m2)
        return (struct float8_table){.steps = _mm256_set1_ps(1 / step)};
    const __m128i down = _mm_setr_epi8(0, -1, -1, 0, -1, -1, 0, 0, -1, -1, -1, 0, 0, -1, 0, 0);
    uint8_t bytes[16], power[2][16];
    int32_t bits;
    memcpy(&bits, &step, sizeof bits);
    // of exponents 0 and 1: where m has its place in b, and in the product
    const int first = 127 - (bits >> 23) - 9, up = first < 10 ? 11 : first + 1;
    for (int i = 0; i < 16; i++) {
        int place = first + (i > 1 ? i - 1 : 0) + 15 - up;
        int one = place < 0 || place > 14 ? 0 : 1 << place; // beyond 14 there are no codes
        bytes[i] = (uint8_t)(i << (up - 8));
        power[0][i] = (uint8_t)one;
        power[1][i] = (uint8_t)(one >> 8);
    }
    __m128i whole = _mm_add_epi8(_mm_loadu_si128((const __m128i *)bytes), down);
    return (struct float8_table){
        .high = _mm256_broadcastsi128_si256(whole),
        .down = _mm256_broadcastsi128_si256(down),
        .power_low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)power[0])),
        .power_high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)power[1]))};
}
/* Halves to words. */
INLINE __m256i float8_words(const struct float8_table *t, __m256i half)
{
    __m256 lo = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), t->steps);
    __m256 hi = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), t->steps);
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(lo), _mm256_cvtps_epi32(hi));
    return _mm256_permute4x64_epi64(words, 0xd8);
}
/* The codes of four columns of eight rows: words of rows 0, 1, 4, 5 and of rows 2, 3, 6, 7. */
INLINE void float8_half(const bool e5m2, const struct float8_table *t, __m256i codes, __m256i *even,
                        __m256i *odd)
{
    const __m256i none = _mm256_setzero_si256(), leading = _mm256_set1_epi8(8),
                  nibble = _mm256_set1_epi8(15);
    __m256i sign_even = _mm256_unpacklo_epi8(none, codes),
            sign_odd = _mm256_unpackhi_epi8(none, codes);
    if (e5m2) {
        *even = float8_words(t, sign_even);
        *odd = float8_words(t, sign_odd);
        return;
    }
    __m256i m = _mm256_min_epu8(_mm256_and_si256(codes, _mm256_set1_epi8(0x7f)),
                                _mm256_and_si256(_mm256_or_si256(codes, leading), nibble));
    __m256i exponent = _mm256_and_si256(_mm256_srli_epi16(codes, 3), nibble);
    __m256i high = _mm256_shuffle_epi8(t->high, m), down = _mm256_shuffle_epi8(t->down, m);
    __m256i power_high = _mm256_shuffle_epi8(t->power_high, exponent),
            power_low = _mm256_shuffle_epi8(t->power_low, exponent);
    *even = _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(down, high),
                                _mm256_unpacklo_epi8(power_low, power_high));
    *odd = _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(down, high),
                               _mm256_unpackhi_epi8(power_low, power_high));
    *even = _mm256_sign_epi16(*even, sign_even); // a code of 0 has a product of 0
    *odd = _mm256_sign_epi16(*odd, sign_odd);
}
/* The codes of four columns, for dots_float8, in w[0] and w[8]. */
INLINE void float8_bytes(const bool e5m2, const struct float8_table *t, vi codes, vi *w)
{
    float8_half(e5m2, t, codes.lo, &w[0].lo, &w[8].lo);
    float8_half(e5m2, t, codes.hi, &w[0].hi, &w[8].hi);
}
INLINE vi dots_float8(const vi w[16], const int8_t *q, int32_t sum)
{
    vi even = vi_set(0), odd = even; // sums of columns 0, 1 and of columns 2, 3 side by side
    (void)sum;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m256i x = _mm256_cvtepi8_epi16(_mm_set1_epi32(four_at(q + 4 * i)));
        even.lo = _mm256_add_epi32(even.lo, _mm256_madd_epi16(w[i].lo, x));
        even.hi = _mm256_add_epi32(even.hi, _mm256_madd_epi16(w[i].hi, x));
        odd.lo = _mm256_add_epi32(odd.lo, _mm256_madd_epi16(w[8 + i].lo, x));
        odd.hi = _mm256_add_epi32(odd.hi, _mm256_madd_epi16(w[8 + i].hi, x));
    }
    return (vi){_mm256_hadd_epi32(even.lo, odd.lo), _mm256_hadd_epi32(even.hi, odd.hi)};
}

INLINE void transpose_eight(__m256 v[8])
{
    __m256 a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) { // four rows of columns i % 4 and 4 + i % 4
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(b[i], b[4 + i], 0x20);
        v[4 + i] = _mm256_permute2f128_ps(b[i], b[4 + i], 0x31);
    }
}
INLINE void vf_transpose(vf v[16])
{
    __m256 q[2][2][8]; // [half of the columns][half of the rows]
    for (int i = 0; i < 8; i++) {
        q[0][0][i] = v[i].lo;
        q[0][1][i] = v[8 + i].lo;
        q[1][0][i] = v[i].hi;
        q[1][1][i] = v[8 + i].hi;
    }
    for (int i = 0; i < 4; i++)
        transpose_eight(q[i / 2][i % 2]);
    for (int i = 0; i < 16; i++)
        v[i] = (vf){q[i / 8][0][i % 8], q[i / 8][1][i % 8]};
}

INLINE float vf_sum(vf v)
{
    __m256 a = _mm256_add_ps(v.lo, v.hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float vf_largest(vf v)
{
    __m256 a = _mm256_max_ps(v.lo, v.hi);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

#endif
#endif
