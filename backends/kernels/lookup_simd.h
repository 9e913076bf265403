/*
 * Fast mode's products with codebooks over lanes: the text of lookup_avx2.c, lookup_avx512.c and
 * lookup_neon.c. Only AVX-512 looks up in registers; the others do in memory, word by word.
 *
 * AVX-512: a table of 256 words is 512 bytes, eight registers: the low bytes of entries 0 .. 127
 * are one vpermi2b, those of 128 .. 255 a second, chosen by the code's highest bit, and so the high
 * bytes. 64 rows are looked up at once; four such lines share the registers' loading.
 *
 * Roofline on one Zen 4 core with AVX-512 (as in fast_simd.h), in the caches:
 *
 *   64 look-ups    4 permutations, 2 unpacks, 2 blends, 2 additions, a mask, 3 loads: 6 cycles of
 *                  shuffles; 10 where the permutation of two registers is two operations on one
 *                  port (Sapphire Rapids, by published tables)
 *   a table        in_group x 16 fma, and 80 to round: 170 cycles for groups of 8
 *   2x8, 16 weights of 2048 x 2048     least 0.37 + 0.33 (the tables, shared by all rows)   0.95
 *
 * so the tables are a third to half of a product with 2048 rows, a fifth with 5632. A further row
 * costs as much as one, until there are enough for sixteen side by side: then a look-up of 32 bytes
 * serves them all, and two tables at a time (16 KB) stay in the first cache. AVX2: 4.2 for 16
 * weights, which are four look-ups in memory. Vectors of eight (1x16): a conversion that loads and
 * an fma for 8 weights, at least one cycle; reached 3.5, because the codebook of 1 MB is read at
 * random from the second and third level's cache: 7.1 cycles for 16 weights. Codes of 9 to 15 bits
 * are no better off, though their codebooks fit the second cache: 0.6 of NF4's bytes a second on a
 * machine that gives a core 12 GB/s is a vector in 0.27 ns, less than the one cycle that a
 * conversion and an fma take; reached 1 ns (1x12).
 */
#ifndef OFTD_BACKENDS_KERNELS_LOOKUP_SIMD_H
#define OFTD_BACKENDS_KERNELS_LOOKUP_SIMD_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "backends/kernels/decode_rows_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* ---- vectors of eight ---- */

/* R rows of W times m rows of x. */
INLINE void eights_of(const enum dtype d, const int rows, const int m, const struct weight *w,
                      int64_t row, const float *x, int64_t ldx, float *out, int64_t ldo)
{
    vh a[4][4];
    const int64_t books = w->books, lookups = w->k / 8 * books;
    const uint16_t *codes = (const uint16_t *)w->data + row * lookups;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            a[r][i] = vh_zero();
    for (int64_t l = 0; l < lookups; x += 8)
        for (int64_t b = 0; b < books; b++, l++) {
            vh v[4];
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                v[r] = eight_values(d, w, ((b << w->bits) + codes[r * lookups + l]) * 8);
#pragma GCC unroll 4
            for (int i = 0; i < m; i++)
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++)
                    a[r][i] = vh_fma(vh_load(x + i * ldx), v[r], a[r][i]);
        }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            out[i * ldo + r] = vh_sum(a[r][i]) * weight_scale(w, row + r, 0);
}

INLINE void eights_rows(const enum dtype d, const int rows, const struct weight *w, int64_t row,
                        const float *x, int64_t ldx, int m, float *out, int64_t ldo)
{
    switch (m) {
    case 1:
        eights_of(d, rows, 1, w, row, x, ldx, out, ldo);
        return;
    case 2:
        eights_of(d, rows, 2, w, row, x, ldx, out, ldo);
        return;
    case 3:
        eights_of(d, rows, 3, w, row, x, ldx, out, ldo);
        return;
    default:
        eights_of(d, rows, 4, w, row, x, ldx, out, ldo);
    }
}

/* The same for any m, four at a time. */
INLINE void eights_fours(const enum dtype d, const int rows, const struct weight *w, int64_t row,
                         const float *x, int64_t ldx, int m, float *out, int64_t ldo)
{
    for (int i = 0; i < m; i += 4)
        eights_rows(d, rows, w, row, x + i * ldx, ldx, m - i < 4 ? m - i : 4, out + i * ldo, ldo);
}

/* ---- vectors of eight, fetched once for many rows of x ---- */

#define FETCHED 64 /* look-ups at a time: with four rows of W 8 KB */
#define EIGHTS  64 /* most rows of x */
#ifdef __AVX512F__
#define EIGHTS_AT_ONCE 8
#else
#define EIGHTS_AT_ONCE 3
#endif

/* Vectors of four rows of W, and their sums with each row of x so far. */
struct fetched {
    float v[FETCHED][4][8], sum[EIGHTS][4][8];
};

/* Eight floats for two rows of W. */
INLINE vf for_two(const float *x)
{
#ifdef __AVX512F__
    return _mm512_broadcast_f32x8(vh_load(x));
#else
    return vf_of_halves(vh_load(x), vh_load(x));
#endif
}

/* m rows of x, from those columns on, times n look-ups; two rows of W a vector. */
INLINE void eights_fetched(const int m, int64_t books, int64_t n, const struct fetched *f,
                           const float *x, int64_t ldx, float (*sum)[4][8])
{
    vf a[EIGHTS_AT_ONCE][2];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 2
        for (int r = 0; r < 2; r++)
            a[i][r] = vf_load(sum[i][2 * r]);
    for (int64_t l = 0; l < n; x += 8)
        for (int64_t b = 0; b < books; b++, l++)
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) {
                const vf two = for_two(x + i * ldx);
#pragma GCC unroll 2
                for (int r = 0; r < 2; r++)
                    a[i][r] = vf_fma(two, vf_load(f->v[l][2 * r]), a[i][r]);
            }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 2
        for (int r = 0; r < 2; r++)
            vf_store(sum[i][2 * r], a[i][r]);
}

/* Four rows of W times m rows of x. */
INLINE void eights_many(const enum dtype d, const struct weight *w, int64_t row, const float *x,
                        int64_t ldx, int m, float *out, int64_t ldo)
{
    struct fetched f;
    const int64_t books = w->books, lookups = w->k / 8 * books;
    const uint16_t *codes = (const uint16_t *)w->data + row * lookups;
    const int64_t step = FETCHED / books * books;
    memset(f.sum, 0, (size_t)m * sizeof *f.sum);
    for (int64_t l = 0; l < lookups; l += step) {
        int64_t n = lookups - l < step ? lookups - l : step, i = 0;
        const float *from = x + l / books * 8;
        for (int64_t at = 0; at < n; at++)
#pragma GCC unroll 4
            for (int64_t r = 0; r < 4; r++)
                vh_store(
                    f.v[at][r],
                    eight_values(
                        d, w, (((l + at) % books << w->bits) + codes[r * lookups + l + at]) * 8));
        for (; i + EIGHTS_AT_ONCE <= m; i += EIGHTS_AT_ONCE)
            eights_fetched(EIGHTS_AT_ONCE, books, n, &f, from + i * ldx, ldx, f.sum + i);
        for (; i < m; i++)
            eights_fetched(1, books, n, &f, from + i * ldx, ldx, f.sum + i);
    }
    for (int i = 0; i < m; i++)
        for (int64_t r = 0; r < 4; r++)
            out[i * ldo + r] = vh_sum(vh_load(f.sum[i][r])) * weight_scale(w, row + r, 0);
}

INLINE void eights_dtype(const enum dtype d, const struct weight *w, int64_t row, int64_t rows,
                         const float *x, int64_t ldx, int m, float *out, int64_t ldo)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
        if (m > 4 && w->books <= FETCHED)
            eights_many(d, w, row + r, x, ldx, m, out + r, ldo);
        else
            eights_fours(d, 4, w, row + r, x, ldx, m, out + r, ldo);
    for (; r < rows; r++)
        eights_fours(d, 1, w, row + r, x, ldx, m, out + r, ldo);
}

static void eights_simd(const struct weight *w, int64_t row, int64_t rows, const float *x,
                        int64_t ldx, int m, float *out, int64_t ldo)
{
    if (w->codebook_dtype == DT_F16)
        eights_dtype(DT_F16, w, row, rows, x, ldx, m, out, ldo);
    else if (w->codebook_dtype == DT_BF16)
        eights_dtype(DT_BF16, w, row, rows, x, ldx, m, out, ldo);
    else
        eights_dtype(DT_F32, w, row, rows, x, ldx, m, out, ldo);
}

/* ---- tables ---- */

#ifdef __AVX512F__
#define VECTORS 16
#else
#define VECTORS 4
#endif

/* Products of in_group columns, of one group or of two that lie side by side, with VECTORS / groups
 * * LANES vectors of a book; of the second group they go `step` floats further on. */
INLINE void vector_products(const int groups, const float *x, int64_t in, const float *columns,
                            float *t, int64_t step, vi *largest)
{
    const int n = VECTORS / groups;
    vf acc[VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < VECTORS; i++)
        acc[i] = vf_zero();
    for (int64_t q = 0; q < in; q++, columns += 256) {
        vf v[2] = {vf_set(x[q]), groups > 1 ? vf_set(x[in + q]) : vf_zero()};
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            vf column = vf_load(columns + i * LANES);
#pragma GCC unroll 2
            for (int g = 0; g < groups; g++)
                acc[g * n + i] = vf_fma(v[g], column, acc[g * n + i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < VECTORS; i++) {
        vf_store(t + i / n * step + i % n * LANES, acc[i]);
        *largest = vi_max(*largest, vi_and(vi_of_bits(acc[i]), vi_set(0x7fffffff)));
    }
}

#ifdef __AVX512F__
/* 256 products times inverse to a table, bytes by bytes. */
INLINE void round_table(const float *t, float inverse, struct lookup_chunk *table, int64_t l)
{
    uint8_t *to = table->bytes[l];
    for (int i = 0; i < 256; i += 32) {
        vi lo = vi_round(vf_mul(vf_load(t + i), vf_set(inverse)));
        vi hi = vi_round(vf_mul(vf_load(t + i + LANES), vf_set(inverse)));
        __m512i words = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                                 _mm512_packs_epi32(lo, hi));
        _mm256_storeu_si256((__m256i *)(to + i), _mm512_cvtepi16_epi8(words));
        _mm256_storeu_si256((__m256i *)(to + 256 + i),
                            _mm512_cvtepi16_epi8(_mm512_srli_epi16(words, 8)));
    }
}
#else
/* 256 products times inverse to the words of a table. */
INLINE void round_table(const float *t, float inverse, struct lookup_chunk *table, int64_t l)
{
    for (int i = 0; i < 256; i += LANES)
        vi_store_words(table->s[l] + i, vi_round(vf_mul(vf_load(t + i), vf_set(inverse))));
}
#endif

/* Sixteen columns of sixteen vectors at a time, or eight. */
INLINE void columns_of(const enum dtype d, const struct weight *w, float *columns)
{
    int64_t vectors = (int64_t)1 << w->bits, in = w->in_group;
    for (int64_t b = 0; b < w->books; b++)
        for (int64_t q = 0; q < in; q += LANES)
            for (int64_t v = 0; v < vectors; v += LANES) {
                int64_t index = ((b << w->bits) + v) * in + q, n = in - q < LANES ? 8 : LANES;
                vf t[LANES];
                for (int r = 0; r < LANES; r++, index += in)
                    t[r] = vf_of_halves(eight_values(d, w, index),
                                        n > 8 ? eight_values(d, w, index + 8) : vh_zero());
                vf_transpose(t);
                for (int64_t i = 0; i < n; i++)
                    vf_store(columns + (b * in + q + i) * 256 + v, t[i]);
            }
}

static void lookup_columns_simd(const struct weight *w, float *columns)
{
    struct twins plain;
    if (w->in_group % 8 || w->bits < 4) {
        lookup_portable(&plain);
        plain.lookup_columns(w, columns);
        return;
    }
    memset(columns, 0, (size_t)(w->books * w->in_group * 256) * sizeof *columns);
    if (w->codebook_dtype == DT_F16)
        columns_of(DT_F16, w, columns);
    else
        columns_of(w->codebook_dtype, w, columns);
}

static void lookup_tables_simd(const struct weight *w, int64_t c, const float *x,
                               const float *columns, struct lookup_chunk *to, float *t)
{
    int64_t groups = lookup_groups(w), j = c * groups, in = w->in_group, l = 0;
    int64_t end = j + groups < w->k / in ? j + groups : w->k / in;
    vi largest = vi_set(0);
    for (; j + 2 <= end; j += 2, l += w->books)
        for (int64_t b = 0; b < w->books; b++, l++)
            for (int v = 0; v < 256; v += VECTORS / 2 * LANES)
                vector_products(2, x + j * in, in, columns + b * in * 256 + v, t + l * 256 + v,
                                w->books * 256, &largest);
    for (; j < end; j++)
        for (int64_t b = 0; b < w->books; b++, l++)
            for (int v = 0; v < 256; v += VECTORS * LANES)
                vector_products(1, x + j * in, in, columns + b * in * 256 + v, t + l * 256 + v, 0,
                                &largest);
    int32_t bits = vi_largest(largest); // magnitudes compare as integers, NaN above infinity
    float peak;
    memcpy(&peak, &bits, sizeof peak);
    if (!(peak >= 0x1p-100f && peak <= FLT_MAX)) {
        memset(to, 0, sizeof *to);
        to->scale = peak < 0x1p-100f ? 0 : NAN;
        return;
    }
    to->scale = peak / 2047;
    for (int64_t i = 0; i < l; i++)
        round_table(t + i * 256, 2047 / peak, to, i);
}

/* ---- look-ups ---- */

#ifdef __AVX512F__

/* 64 entries of a table: the words of rows 8i .. 8i + 7 in quarters of lo and hi by turns, as
 * vpunpck leaves them. */
INLINE void look_64(const __m512i table[8], __m512i codes, __m512i *lo, __m512i *hi)
{
    __mmask64 upper = _mm512_movepi8_mask(codes);
    __m512i low = _mm512_permutex2var_epi8(table[0], codes, table[1]);
    __m512i high = _mm512_permutex2var_epi8(table[4], codes, table[5]);
    low = _mm512_mask_blend_epi8(upper, low, _mm512_permutex2var_epi8(table[2], codes, table[3]));
    high = _mm512_mask_blend_epi8(upper, high, _mm512_permutex2var_epi8(table[6], codes, table[7]));
    *lo = _mm512_unpacklo_epi8(low, high);
    *hi = _mm512_unpackhi_epi8(low, high);
}

/* Sums of a chunk's look-ups for `lines` lines, 16-bit sums in look_64's order. */
INLINE void chunk_sums(const int lines, const struct lookup_chunk *t, int64_t n,
                       const uint8_t *codes, int64_t line_bytes, __m512i lo[], __m512i hi[])
{
#pragma GCC unroll 4
    for (int i = 0; i < lines; i++)
        lo[i] = hi[i] = _mm512_setzero_si512();
    for (int64_t l = 0; l < n; l++, codes += BOOK_LINE) {
        __m512i table[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            table[i] = vi_load(t->bytes[l] + 64 * i);
#pragma GCC unroll 4
        for (int i = 0; i < lines; i++) {
            __m512i a, b;
            __builtin_prefetch(codes + i * line_bytes + BOOK_LOOKUPS * BOOK_LINE);
            look_64(table, vi_load(codes + i * line_bytes), &a, &b);
            lo[i] = _mm512_add_epi16(lo[i], a);
            hi[i] = _mm512_add_epi16(hi[i], b);
        }
    }
}

/* out [64] goes on with a line's sums. Sixteen rows are a quarter of lo and the same of hi. */
INLINE void add_sums(__m512i lo, __m512i hi, float scale, float *out)
{
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i rows[2] = {_mm512_permutex2var_epi64(lo, first, hi),
                       _mm512_permutex2var_epi64(lo, last, hi)};
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++, out += 32) {
        vf a = vf_of_int(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(rows[i])));
        vf b = vf_of_int(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(rows[i], 1)));
        vf_store(out, vf_fma(vf_set(scale), a, vf_load(out)));
        vf_store(out + LANES, vf_fma(vf_set(scale), b, vf_load(out + LANES)));
    }
}

/* Up to four lines at once. */
INLINE void add_lines(const int lines, const struct lookup_chunk *t, int64_t n,
                      const uint8_t *codes, int64_t line_bytes, float *out)
{
    __m512i lo[4], hi[4];
    chunk_sums(lines, t, n, codes, line_bytes, lo, hi);
#pragma GCC unroll 4
    for (int i = 0; i < lines; i++)
        add_sums(lo[i], hi[i], t->scale, out + i * BOOK_LINE);
}

#else

/* Words in memory, for eight rows in turn: two loads of the three a cycle, 0.7 cycles a look-up.
 * Others, in a loop by themselves on a Sapphire Rapids: codes taken out of 64-bit words 0.65, and
 * no better where two threads share a core; gathers 0.52, said to be slow where microcode guards
 * them and on Zen (not measured); sixteen registers of 16 entries 1.2, of bytes instead of words
 * 0.57. NF4's 0.6 would be 0.25. */
INLINE void add_lines(const int lines, const struct lookup_chunk *t, int64_t n,
                      const uint8_t *codes, int64_t line_bytes, float *out)
{
    for (int line = 0; line < lines; line++, codes += line_bytes, out += BOOK_LINE) {
        int32_t sum[BOOK_LINE];
        for (int r = 0; r < BOOK_LINE; r += 8) {
            int32_t dot[8] = {0};
            for (int64_t l = 0; l < n; l++)
#pragma GCC unroll 8
                for (int i = 0; i < 8; i++)
                    dot[i] += t->s[l][codes[l * BOOK_LINE + r + i]];
            memcpy(sum + r, dot, sizeof dot);
        }
        for (int r = 0; r < BOOK_LINE; r += LANES)
            vf_store(out + r,
                     vf_fma(vf_set(t->scale), vf_of_int(vi_load(sum + r)), vf_load(out + r)));
    }
}

#endif

static void lookup_simd(const struct weight *w, int64_t line, int64_t lines,
                        const struct lookup_chunk *t, float *out)
{
    int64_t lookups = w->k / w->in_group * w->books, per = lookup_groups(w) * w->books;
    int64_t bytes = lookups * BOOK_LINE;
    const uint8_t *codes = (const uint8_t *)w->data + line * bytes;
    memset(out, 0, (size_t)(lines * BOOK_LINE) * sizeof *out);
    for (int64_t l = 0; l < lookups; l += per, t++) {
        int64_t n = lookups - l < per ? lookups - l : per, i = 0;
        for (; i + 4 <= lines; i += 4)
            add_lines(4, t, n, codes + i * bytes + l * BOOK_LINE, bytes, out + i * BOOK_LINE);
        for (; i < lines; i++)
            add_lines(1, t, n, codes + i * bytes + l * BOOK_LINE, bytes, out + i * BOOK_LINE);
    }
    for (int64_t r = 0; r < lines * BOOK_LINE && line * BOOK_LINE + r < w->n; r++)
        out[r] *= weight_scale(w, line * BOOK_LINE + r, 0);
}

/* ---- sixteen rows of x side by side ---- */

#ifdef __AVX512F__
#define LOOKUP_LEAST 10
#define PRODUCTS     8
#else
#define LOOKUP_LEAST 4
#define PRODUCTS     4
#endif
_Static_assert(LOOKUP_WIDE == LANES, "a lane is a row of x");

/* Products of sixteen rows' columns xt [in][16] with all vectors of a book. */
INLINE void wide_products(const float *xt, int64_t in, const float *columns, float *t, vi *largest)
{
    for (int v = 0; v < 256; v += PRODUCTS) {
        vf acc[PRODUCTS];
#pragma GCC unroll 8
        for (int i = 0; i < PRODUCTS; i++)
            acc[i] = vf_zero();
        for (int64_t q = 0; q < in; q++) {
            vf x = vf_load(xt + q * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < PRODUCTS; i++)
                acc[i] = vf_fma(x, vf_set(columns[q * 256 + v + i]), acc[i]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < PRODUCTS; i++) {
            vf_store(t + (v + i) * LANES, acc[i]);
            *largest = vi_max(*largest, vi_and(vi_of_bits(acc[i]), vi_set(0x7fffffff)));
        }
    }
}

static void lookup_tables_wide_simd(const struct weight *w, int64_t c, const float *x, int64_t ldx,
                                    int m, const float *columns, struct lookup_wide *to, float *t)
{
    float xt[LOOKUP_COLUMNS * LANES];
    int64_t groups = lookup_groups(w), j = c * groups, in = w->in_group, l = 0;
    int64_t end = j + groups < w->k / in ? j + groups : w->k / in;
    vi largest = vi_set(0);
    memset(xt, 0, (size_t)(in * LANES) * sizeof *xt); // lanes from m on
    for (; j < end; j++) {
        for (int64_t q = 0; q < in; q++)
            for (int i = 0; i < m; i++)
                xt[q * LANES + i] = x[i * ldx + j * in + q];
        for (int64_t b = 0; b < w->books; b++, l++)
            wide_products(xt, in, columns + b * in * 256, t + l * 256 * LANES, &largest);
    }
    // magnitudes compare as integers, NaN above infinity; what is not finite has a NaN to scale
    const vf peak = vf_of_bits(largest), least = vf_set(0x1p-100f), top = vf_set(2047);
    vf limit = vf_less(peak, vf_set(INFINITY), peak, vf_zero());
    limit = vf_less(limit, least, vf_zero(), limit);
    vf inverse = vf_less(vf_zero(), limit, vf_div(top, peak), vf_zero());
    vf small = vf_less(peak, least, vf_zero(), vf_set(NAN));
    vf_store(to->scale, vf_less(vf_zero(), limit, vf_div(peak, top), small));
    for (int64_t i = 0; i < l; i++)
        for (int v = 0; v < 256; v++, t += LANES)
            vi_store_words(to->s[i][v], vi_round(vf_mul(vf_load(t), inverse)));
}

/* Sums wrap where a row is not finite, whose words are anything and whose scale is NaN. */
typedef uint16_t words __attribute__((vector_size(2 * LOOKUP_WIDE)));

/* sum [64] of a line's rows goes on with look-up l, and the next one if both; or begins. */
INLINE void wide_line(const bool first, const bool both, const struct lookup_wide *t, int64_t l,
                      const uint8_t *codes, words *sum)
{
    const words *a = (const words *)(const void *)t->s[l], *b = a + 256;
#pragma GCC unroll 4
    for (int r = 0; r < BOOK_LINE; r++) {
        words s = a[codes[r]];
        if (both)
            s += b[codes[BOOK_LINE + r]];
        sum[r] = first ? s : sum[r] + s;
    }
}

/* A chunk's n look-ups, two tables at a time, which stay in the first cache, for all lines. */
INLINE void wide_sums(const struct lookup_wide *t, int64_t n, const uint8_t *codes,
                      int64_t line_bytes, int64_t lines, words *sum)
{
    for (int64_t l = 0; l < n; l += 2)
        for (int64_t i = 0; i < lines; i++) {
            const uint8_t *from = codes + i * line_bytes + l * BOOK_LINE;
            if (l + 1 == n && l == 0)
                wide_line(true, false, t, l, from, sum + i * BOOK_LINE);
            else if (l + 1 == n)
                wide_line(false, false, t, l, from, sum + i * BOOK_LINE);
            else if (l == 0)
                wide_line(true, true, t, l, from, sum + i * BOOK_LINE);
            else
                wide_line(false, true, t, l, from, sum + i * BOOK_LINE);
        }
}

static void lookup_wide_simd(const struct weight *w, int64_t line, int64_t lines,
                             const struct lookup_wide *t, int16_t *sums, float *out)
{
    int64_t lookups = w->k / w->in_group * w->books, per = lookup_groups(w) * w->books;
    int64_t bytes = lookups * BOOK_LINE, rows = lines * BOOK_LINE;
    const uint8_t *codes = (const uint8_t *)w->data + line * bytes;
    memset(out, 0, (size_t)(rows * LANES) * sizeof *out);
    for (int64_t l = 0; l < lookups; l += per, t++) {
        const vf scale = vf_load(t->scale);
        wide_sums(t, lookups - l < per ? lookups - l : per, codes + l * BOOK_LINE, bytes, lines,
                  (words *)(void *)sums);
        for (int64_t r = 0; r < rows; r++) {
            vf dot = vf_of_int(vi_load_i16((const uint16_t *)sums + r * LANES));
            vf_store(out + r * LANES, vf_fma(scale, dot, vf_load(out + r * LANES)));
        }
    }
    for (int64_t row = line * BOOK_LINE; rows > 0; rows -= LANES, out += LANES * LANES) {
        float scales[LANES] = {0};
        vf v[LANES];
        for (int r = 0; r < LANES; r++, row++) {
            scales[r] = row < w->n ? weight_scale(w, row, 0) : 0;
            v[r] = vf_load(out + r * LANES);
        }
        vf_transpose(v);
        for (int i = 0; i < LANES; i++)
            vf_store(out + i * LANES, vf_mul(v[i], vf_load(scales)));
    }
}

void TWIN(lookup)(struct twins *t)
{
    t->lookup_least = LOOKUP_LEAST;
    t->lookup_tables_wide = lookup_tables_wide_simd;
    t->lookup_wide = lookup_wide_simd;
    t->lookup_columns = lookup_columns_simd;
    t->lookup_tables = lookup_tables_simd;
    t->lookup = lookup_simd;
    t->eights = eights_simd;
}

#endif
#endif
