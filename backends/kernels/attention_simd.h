/*
 * Attention over sixteen lanes: the text of attention_avx2.c and attention_avx512.c. The query
 * heads of a kv head go together, so that keys and values are read once for all of them.
 *
 * Keys lie element by element (core/kernels.h), so a register takes one element of sixteen keys,
 * and their products with a query element need no sum over lanes; values lie slot by slot, so that
 * a register takes sixteen elements of one. ATTEND_HEADS heads times ATTEND_VECTORS vectors of
 * either stay in registers, or ATTEND_MANY times ATTEND_FEW: a vector of halves is two operations
 * of the units that multiply, which eight heads share. Bytes lie in fours: a word has four elements
 * of a key, or an element of four slots, which two shifts make pairs of 16 bits, and an instruction
 * multiplies a pair with two of the query's words, or of the probabilities', and adds both.
 *
 * Roofline: a row reads 8 bytes of keys and values (4 of halves, 2 of bytes) for each position, kv
 * head and element of a head and does 4 operations with them for each query head of the group: 0.5
 * a byte without groups, 4 with eight heads a group. With AVX-512 on Zen 4 a page and a query head
 * of 64 elements take 128 cycles of fma at least; measured (one row, 512 keys, 32 heads on 4, in
 * the caches; four heads at once) 169 of floats, 178 of halves; AVX2 274 and 240. A Sapphire Rapids
 * has two units: 64 cycles of fma, 16 of conversions from halves, 32 and 6 of pairs of bytes; about
 * 117 of halves (2.5 GHz, 0.88 of what four heads at once took) and 82 of bytes (0.72 of what they
 * took as floats), AVX2 230 and 180 (0.75); what is left of it is softmax. So with eight heads a
 * group the arithmetic bounds it, and with one the memory.
 */
#ifndef OFTD_BACKENDS_KERNELS_ATTENTION_SIMD_H
#define OFTD_BACKENDS_KERNELS_ATTENTION_SIMD_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "backends/kernels/attention.h"
#include "backends/kernels/special_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* What a pass keeps for a query head; p holds the block's scores, then its probabilities. */
struct head {
    float p[ATTENTION_BLOCK], sum[LANES];
    float max, correction;
    float below;            /* the block's largest score less max */
    float query_step, unit; /* bytes: what a word of the query is worth, and one of w */
    int16_t w[ATTENTION_BLOCK];
};

/* One row's pass over up to ATTENTION_HEADS heads of one kv head and the keys of one span. */
struct pass {
    const struct attention_args *a;
    const int32_t *pages;
    const float *q; /* of the first head */
    int16_t *words; /* bytes: the same [heads, kv_fours(dim)] */
    float *out;
    int32_t last, kv_head, head, heads, dim; /* last: behind the last key */
    struct head *h;
};

/* The largest magnitude; NaN: not all of them are finite. */
INLINE float peak_of(const float *x, int32_t n)
{
    vi bits = vi_set(0);
    for (int32_t i = 0; i < n; i += LANES) {
        vf v = n - i < LANES ? vf_load_n(x + i, n - i) : vf_load(x + i);
        bits = vi_max(bits, vi_and(vi_of_bits(v), vi_set(INT32_MAX)));
    }
    // magnitudes compare as integers, NaN above infinity above all others
    int32_t largest = vi_largest(bits);
    float peak;
    memcpy(&peak, &largest, sizeof peak);
    return peak <= FLT_MAX ? peak : NAN;
}

INLINE size_t kv_size(const enum dtype dtype)
{
    return dtype == DT_I8 ? 1 : dtype == DT_F16 ? 2 : sizeof(float);
}
/* Sixteen elements of what is stored, as floats. */
INLINE vf kv_load(const enum dtype dtype, const char *p)
{
    return dtype == DT_F16 ? vf_load_f16(p) : vf_load((const float *)(const void *)p);
}
/* The first n of them, the others 0; reads nothing beyond. */
INLINE vf kv_load_n(const enum dtype dtype, const char *p, int64_t n)
{
    char some[LANES * sizeof(float)] = {0};
    if (n == LANES)
        return kv_load(dtype, p);
    memcpy(some, p, (size_t)n * kv_size(dtype));
    return kv_load(dtype, some);
}

/* p, of which the compiler knows nothing: it adds offsets to it instead of keeping a pointer for
 * each query head, for which there are no registers. */
INLINE const void *moved(const void *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* What keys j .. j + 15 get beside their product with q. */
INLINE vf page_slopes(float slope, int32_t j)
{
    vf at = vf_round_bf16(vf_of_int(vi_add(vi_iota(), vi_set(j))));
    return vf_round_bf16(vf_mul(vf_set(slope), at));
}

/* q . k of `heads` heads from h on with the keys of `vectors` pages, to their p from j on. The
 * first heads fetch the values meanwhile: single pages, which no machine foresees. */
INLINE void products_of(const int heads, const int vectors, const enum dtype dtype,
                        const struct pass *p, int32_t h, const char *const *k,
                        const char *const *values, int32_t j)
{
    vf acc[ATTEND_MANY][ATTEND_VECTORS];
    const float *q = p->q + (int64_t)h * p->dim;
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[g][v] = vf_zero();
    for (int32_t i = 0; i < p->dim; i++, q = moved(q + 1)) {
        vf key[ATTEND_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            key[v] = kv_load(dtype, k[v] + (size_t)i * KV_PAGE * kv_size(dtype));
#pragma GCC unroll 4
        for (int v = 0; v < vectors && !h; v++)
            FETCH(values[v] + (size_t)i * KV_PAGE * kv_size(dtype));
#pragma GCC unroll 8
        for (int g = 0; g < heads; g++) {
            vf element = vf_set(q[g * (int64_t)p->dim]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                acc[g][v] = vf_fma(element, key[v], acc[g][v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 8
        for (int g = 0; g < heads; g++)
            vf_store(p->h[h + g].p + j + v * KV_PAGE, acc[g][v]);
}

/* acc += fours of bytes times the words of each head, which are `next` behind those of the one
 * before. */
INLINE void add_fours(const int heads, const int vectors, vi acc[][ATTEND_VECTORS], const vi *fours,
                      const int16_t *words, int64_t next)
{
    vi even[ATTEND_VECTORS], odd[ATTEND_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        even[v] = vi_even_words(fours[v]);
        odd[v] = vi_odd_words(fours[v]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[g][v] = vi_add_words(acc[g][v], even[v], words + g * next);
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[g][v] = vi_add_words(acc[g][v], odd[v], words + g * next + 2);
}

/* The same of bytes. */
INLINE void byte_products_of(const int heads, const int vectors, const struct pass *p, int32_t h,
                             const char *const *k, const char *const *values, int32_t j)
{
    vi acc[ATTEND_MANY][ATTEND_VECTORS], fours[ATTEND_VECTORS];
    int64_t dim = kv_fours(p->dim);
    const int16_t *q = p->words + h * dim;
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[g][v] = vi_set(0);
    for (int64_t i = 0; i < dim; i += 4, q = moved(q + 4)) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            fours[v] = vi_load(k[v] + i * KV_PAGE);
            if (!h)
                FETCH(values[v] + i * KV_PAGE);
        }
        add_fours(heads, vectors, acc, fours, q, dim);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        vf d = vf_load(attention_steps(k[v], p->dim));
#pragma GCC unroll 8
        for (int g = 0; g < heads; g++) {
            struct head *head = &p->h[h + g];
            vf_store(head->p + j + v * KV_PAGE,
                     vf_mul(vf_mul(vf_of_int(acc[g][v]), d), vf_set(head->query_step)));
        }
    }
}

INLINE void some_products(const int heads, const int vectors, const enum dtype dtype,
                          const struct pass *p, int32_t h, const char *const *k,
                          const char *const *values, int32_t last)
{
    for (int32_t v = 0; v <= last; v += vectors)
        if (dtype == DT_I8)
            byte_products_of(heads, vectors, p, h, k + v, values + v, v * KV_PAGE);
        else
            products_of(heads, vectors, dtype, p, h, k + v, values + v, v * KV_PAGE);
}

/* q . k of all heads with the block's keys; those of pages that no key of [from, end) is in are
 * another page's. */
INLINE void block_products(const enum dtype dtype, const struct pass *p, int32_t b, int32_t from,
                           int32_t end)
{
    const char *k[ATTENTION_BLOCK / KV_PAGE], *values[ATTENTION_BLOCK / KV_PAGE];
    for (int v = 0; v < ATTENTION_BLOCK / KV_PAGE; v++) {
        int32_t j = b + v * KV_PAGE;
        bool in = j < end && j + KV_PAGE > from;
        size_t page = attention_page(p->a, p->pages, p->kv_head, in ? j : from);
        k[v] = (const char *)p->a->kv->k + page;
        values[v] = (const char *)p->a->kv->v + page;
    }
    int32_t last = (end - 1 - b) / KV_PAGE, h = 0;
    for (; ATTEND_MANY > ATTEND_HEADS && h + ATTEND_MANY <= p->heads; h += ATTEND_MANY)
        some_products(ATTEND_MANY, ATTEND_FEW, dtype, p, h, k, values, last);
    for (; h + ATTEND_HEADS <= p->heads; h += ATTEND_HEADS)
        some_products(ATTEND_HEADS, ATTEND_VECTORS, dtype, p, h, k, values, last);
    for (; h < p->heads; h++)
        some_products(1, ATTEND_VECTORS, dtype, p, h, k, values, last);
}

/* s where from <= lane < end, else -Inf. */
INLINE vf only_between(vf s, int from, int end)
{
    if (from <= 0 && end >= LANES)
        return s;
    vf lane = vf_of_int(vi_iota());
    s = vf_less(lane, vf_set((float)end), s, vf_set(-INFINITY));
    return vf_less(lane, vf_set((float)from), vf_set(-INFINITY), s);
}

/* Products to scores (-Inf outside [from, end)), and the new maximum. */
static void block_scores(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    const struct attention_args *a = p->a;
    float change[LANES] = {0};
    for (int32_t h = 0; h < p->heads; h++) {
        struct head *head = &p->h[h];
        vf max = vf_set(-INFINITY);
        for (int j = 0; j < ATTENTION_BLOCK; j += LANES) {
            vf s = vf_load(head->p + j);
            if (a->alibi)
                s = vf_add(s, page_slopes(a->alibi[p->head + h], b + j));
            s = vf_mul(s, vf_set(a->scale));
            if (a->softcap != 0)
                s = vf_mul(vf_set(a->softcap), vf_tanh(vf_div(s, vf_set(a->softcap))));
            s = only_between(s, from - b - j, end - b - j);
            vf_store(head->p + j, s);
            max = vf_max(max, s);
        }
        float before = head->max, most = vf_largest(max);
        head->max = special_max(before, most);
        change[h] = before - head->max;
        head->below = most - head->max;
    }
    vf_store(change, vf_exp(vf_load(change)));
    for (int32_t h = 0; h < p->heads; h++)
        p->h[h].correction = change[h];
}

/* Scores to probabilities, 0 outside [from, end), and their lane sums. */
static void block_softmax(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    for (int32_t h = 0; h < p->heads; h++) {
        struct head *head = &p->h[h];
        vf sum = vf_mul(vf_load(head->sum), vf_set(head->correction));
        for (int32_t j = b; j < b + ATTENTION_BLOCK; j += LANES) {
            int lo = from > j ? from - j : 0, hi = end - j < LANES ? end - j : LANES;
            if (lo >= hi)
                continue;
            vf e = vf_exp(vf_sub(vf_load(head->p + j - b), vf_set(head->max)));
            e = vf_between(e, lo, hi);
            sum = vf_add(sum, e);
            vf_store(head->p + j - b, e);
        }
        vf_store(head->sum, sum);
    }
}

/* Probabilities times the values' steps as words, 0 outside [from, end), for whole pages. */
static void block_words(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    const int32_t first = from - from % KV_PAGE;
    vf steps[ATTENTION_BLOCK / KV_PAGE];
    vi bits = vi_set(0);
    for (int32_t j = first, v = 0; j < end; j += KV_PAGE, v++) {
        const char *page =
            (const char *)p->a->kv->v + attention_page(p->a, p->pages, p->kv_head, j);
        int lo = from > j ? from - j : 0, hi = end - j < LANES ? end - j : LANES;
        steps[v] = vf_between(vf_load(attention_steps(page, p->dim)), lo, hi);
        bits = vi_max(bits, vi_of_bits(steps[v])); // none is below 0, and NaN above all
    }
    int32_t largest = vi_largest(bits);
    float step, share[LANES] = {0};
    memcpy(&step, &largest, sizeof step);
    for (int32_t h = 0; h < p->heads; h++)
        share[h] = p->h[h].below;
    vf_store(share, vf_exp(vf_load(share)));
    for (int32_t h = 0; h < p->heads; h++) {
        struct head *head = &p->h[h];
        float peak = share[h] * step;
        head->unit = peak < KV_LEAST_PEAK ? 0 : peak / SHARE_PEAK;
        vf inverse = vf_set(head->unit > 0 ? SHARE_PEAK / peak : 0);
        for (int32_t j = first, v = 0; j < end; j += KV_PAGE, v++) {
            vf w = vf_mul(vf_load(head->p + j - b), steps[v]);
            vi_store_words(head->w + j - b, vi_round(vf_mul(w, inverse)));
        }
    }
}

/* out += p V for `heads` heads from h on, `vectors` times sixteen elements from i on; the last of
 * one has n. The first heads fetch of the keys that come next as much as they multiply of the
 * values: evenly, for a core has few lines under way. */
INLINE void values_of(const int heads, const int vectors, const enum dtype dtype,
                      const struct pass *p, int32_t h, int32_t i, int64_t n, int32_t b,
                      int32_t from, int32_t end)
{
    vf acc[ATTEND_MANY][ATTEND_VECTORS];
    float *out = p->out + (int64_t)h * p->dim + i;
    size_t size = kv_size(dtype), row = (size_t)p->dim * size;
    size_t fetched = h ? 0 : (size_t)vectors * LANES * size;
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[g][v] =
                vf_mul(vf_load_n(out + (int64_t)g * p->dim + v * LANES, vectors > 1 ? LANES : n),
                       vf_set(p->h[h + g].correction));
    for (int32_t j = from; j < end;) {
        const char *page = (const char *)p->a->kv->v +
                           attention_page(p->a, p->pages, p->kv_head, j) + (size_t)i * size;
        int32_t stop = j - j % KV_PAGE + KV_PAGE < end ? j - j % KV_PAGE + KV_PAGE : end;
        int32_t next = j + ATTENTION_BLOCK < p->last ? j + ATTENTION_BLOCK : j;
        const char *keys = (const char *)p->a->kv->k +
                           attention_page(p->a, p->pages, p->kv_head, next) + (size_t)i * size;
        const char *at = page + (size_t)(j % KV_PAGE) * row;
        const float *share = p->h[h].p + j - b;
        for (; j < stop; j++, at += row, share = moved(share + 1)) {
            for (size_t line = 0; line < fetched; line += 64)
                FETCH(keys + (size_t)(j % KV_PAGE) * row + line);
            vf value[ATTEND_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                value[v] = vectors > 1 ? kv_load(dtype, at + (size_t)v * LANES * size)
                                       : kv_load_n(dtype, at, n);
#pragma GCC unroll 8
            for (int g = 0; g < heads; g++) {
                vf x = vf_set(share[(size_t)g * (sizeof(struct head) / sizeof(float))]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    acc[g][v] = vf_fma(x, value[v], acc[g][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            vf_store_n(out + (int64_t)g * p->dim + v * LANES, acc[g][v], vectors > 1 ? LANES : n);
}

/* The same of bytes, whose fours of slots are whole: those outside [from, end) have the word 0.
 * What is read behind the last element is the next four's, or the steps. */
INLINE void byte_values_of(const int heads, const int vectors, const struct pass *p, int32_t h,
                           int32_t i, int64_t n, int32_t b, int32_t from, int32_t end)
{
    vi acc[ATTEND_MANY][ATTEND_VECTORS], fours[ATTEND_VECTORS];
    float *out = p->out + (int64_t)h * p->dim + i;
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            acc[g][v] = vi_set(0);
    for (int32_t j = from - from % 4; j < end;) {
        int32_t stop = j - j % KV_PAGE + KV_PAGE < end ? j - j % KV_PAGE + KV_PAGE : end;
        int32_t next = j + ATTENTION_BLOCK < p->last ? j + ATTENTION_BLOCK : j;
        int64_t at = (int64_t)(j % KV_PAGE) * p->dim + i * 4;
        const char *bytes =
            (const char *)p->a->kv->v + attention_page(p->a, p->pages, p->kv_head, j) + at;
        const char *keys =
            (const char *)p->a->kv->k + attention_page(p->a, p->pages, p->kv_head, next) + at;
        const int16_t *w = p->h[h].w + j - b;
        for (; j < stop; j += 4, bytes += p->dim * 4, keys += p->dim * 4, w = moved(w + 4)) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                fours[v] = vi_load(bytes + v * LANES * 4);
                if (!h)
                    FETCH(keys + v * LANES * 4);
            }
            add_fours(heads, vectors, acc, fours, w, sizeof(struct head) / sizeof *w);
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *to = out + (int64_t)g * p->dim + v * LANES;
            int64_t some = vectors > 1 ? LANES : n;
            vf before = vf_mul(vf_load_n(to, some), vf_set(p->h[h + g].correction));
            vf_store_n(to, vf_fma(vf_of_int(acc[g][v]), vf_set(p->h[h + g].unit), before), some);
        }
}

/* The same of all elements. */
INLINE void values_all(const int heads, const int vectors, const enum dtype dtype,
                       const struct pass *p, int32_t h, int32_t b, int32_t from, int32_t end)
{
    for (int32_t i = 0, step; i < p->dim; i += step) {
        int64_t n = p->dim - i < LANES ? p->dim - i : LANES;
        bool wide = i + vectors * LANES <= p->dim;
        step = wide ? vectors * LANES : LANES;
        if (wide && dtype == DT_I8)
            byte_values_of(heads, vectors, p, h, i, n, b, from, end);
        else if (dtype == DT_I8)
            byte_values_of(heads, 1, p, h, i, n, b, from, end);
        else if (wide)
            values_of(heads, vectors, dtype, p, h, i, n, b, from, end);
        else
            values_of(heads, 1, dtype, p, h, i, n, b, from, end);
    }
}

INLINE void block_values(const enum dtype dtype, const struct pass *p, int32_t b, int32_t from,
                         int32_t end)
{
    int32_t h = 0;
    for (; ATTEND_MANY > ATTEND_HEADS && h + ATTEND_MANY <= p->heads; h += ATTEND_MANY)
        values_all(ATTEND_MANY, ATTEND_FEW, dtype, p, h, b, from, end);
    for (; h + ATTEND_HEADS <= p->heads; h += ATTEND_HEADS)
        values_all(ATTEND_HEADS, ATTEND_VECTORS, dtype, p, h, b, from, end);
    for (; h < p->heads; h++)
        values_all(1, ATTEND_VECTORS, dtype, p, h, b, from, end);
}

INLINE void run_block(const enum dtype dtype, const struct pass *p, int32_t b, int32_t from,
                      int32_t end)
{
    block_products(dtype, p, b, from, end);
    block_scores(p, b, from, end);
    block_softmax(p, b, from, end);
    if (dtype == DT_I8)
        block_words(p, b, from, end);
    block_values(dtype, p, b, from, end);
}

static void block_f32(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    run_block(DT_F32, p, b, from, end);
}
static void block_f16(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    run_block(DT_F16, p, b, from, end);
}
static void block_i8(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    run_block(DT_I8, p, b, from, end);
}

/* A head's query as words; returns what each is worth. */
static float query_words(const struct pass *p, int32_t h)
{
    const float *q = p->q + (int64_t)h * p->dim;
    int16_t *words = p->words + (int64_t)h * kv_fours(p->dim);
    float peak = peak_of(q, p->dim), step = peak < KV_LEAST_PEAK ? 0 : peak / QUERY_PEAK;
    vf inverse = vf_set(step > 0 ? QUERY_PEAK / peak : 0);
    for (int32_t i = 0; i < p->dim; i += LANES) {
        int64_t n = p->dim - i < LANES ? p->dim - i : LANES;
        int16_t some[LANES];
        vi_store_words(some, vi_round(vf_mul(vf_load_n(q + i, n), inverse)));
        int64_t left = kv_fours(p->dim) - i < LANES ? kv_fours(p->dim) - i : LANES;
        memcpy(words + i, some, (size_t)left * sizeof *words);
    }
    return step;
}

static void attend_simd(const struct attention_args *a, int32_t row, int32_t head, int32_t heads,
                        int32_t first, int32_t last, const struct attention_part *out,
                        float *scratch)
{
    _Static_assert(ATTENTION_HEADS * sizeof(struct head) <= HEADS_SCRATCH * sizeof(float), "");
    _Static_assert(ATTENTION_HEADS <= LANES, "the corrections are one vector");
    enum dtype dtype = a->kv->dtype;
    void (*block)(const struct pass *, int32_t, int32_t, int32_t) = dtype == DT_F16  ? block_f16
                                                                    : dtype == DT_I8 ? block_i8
                                                                                     : block_f32;
    const struct pass p = {.a = a,
                           .pages = a->rows->pages[row],
                           .q = a->q + row * a->ldq + (int64_t)head * a->kv->head_dim,
                           .words = (int16_t *)(scratch + HEADS_SCRATCH),
                           .out = out->o,
                           .last = last,
                           .kv_head = head / (a->heads / a->kv->kv_heads),
                           .head = head,
                           .heads = heads,
                           .dim = a->kv->head_dim,
                           .h = (struct head *)scratch};
    for (int32_t h = 0; h < heads; h++) {
        memset(p.h[h].sum, 0, sizeof p.h[h].sum);
        p.h[h].max = -INFINITY;
        if (dtype == DT_I8)
            p.h[h].query_step = query_words(&p, h);
    }
    memset(p.out, 0, (size_t)heads * (size_t)p.dim * sizeof *p.out);
    for (int32_t b = first - first % ATTENTION_BLOCK; b < last; b += ATTENTION_BLOCK) {
        int32_t from = b < first ? first : b;
        int32_t end = last - b < ATTENTION_BLOCK ? last : b + ATTENTION_BLOCK;
        block(&p, b, from, end);
    }
    for (int32_t h = 0; h < heads; h++) {
        out->max[h] = p.h[h].max;
        out->sum[h] = vf_sum(vf_load(p.h[h].sum));
    }
}

/* Sixteen values, the first n of them stored. */
INLINE void pack_some(const enum dtype dtype, vf x, float inverse, int64_t n, char *out)
{
    char some[LANES * sizeof(float)];
    if (dtype == DT_F16)
        vf_store_f16(some, x);
    else if (dtype == DT_I8)
        vi_store_bytes((int8_t *)some, vi_round(vf_mul(x, vf_set(inverse))));
    else
        vf_store((float *)(void *)some, x);
    memcpy(out, some, (size_t)n * kv_size(dtype));
}

INLINE void pack_as(const enum dtype dtype, const float *x, int32_t dim, float inverse, char *out)
{
    for (int32_t i = 0; i < dim; i += LANES) {
        int64_t n = dim - i < LANES ? dim - i : LANES;
        vf v = n < LANES ? vf_load_n(x + i, n) : vf_load(x + i);
        pack_some(dtype, v, inverse, n, out + (size_t)i * kv_size(dtype));
    }
}

static void kv_pack_simd(enum dtype dtype, const float *x, int32_t dim, void *out, float *d)
{
    if (dtype == DT_F32)
        pack_as(DT_F32, x, dim, 0, out);
    else if (dtype == DT_F16)
        pack_as(DT_F16, x, dim, 0, out);
    if (dtype != DT_I8)
        return;
    float peak = peak_of(x, dim);
    *d = peak < KV_LEAST_PEAK ? 0 : peak / 127;
    if (*d > 0)
        pack_as(DT_I8, x, dim, 127 / peak, out);
    else
        memset(out, 0, (size_t)dim);
}

void TWIN(attention)(struct twins *t)
{
    t->attend = attend_simd;
    t->kv_pack = kv_pack_simd;
}

#endif
#endif
