/*
 * Attention over sixteen lanes: the text of attention_avx2.c and attention_avx512.c. The query
 * heads of a kv head go together, so that keys and values are read once for all of them.
 *
 * Roofline: a row reads 8 bytes of keys and values for each position, kv head and element of a head
 * and does 4 operations with them for each query head of the group: 0.5 a byte without groups, 4
 * with eight heads a group. Bound by memory as long as a group has few heads; the exponentials, one
 * for each head and position, come on top. Not timed against it.
 */
#ifndef OFTD_BACKENDS_KERNELS_ATTENTION_SIMD_H
#define OFTD_BACKENDS_KERNELS_ATTENTION_SIMD_H

#include <string.h>

#include "backends/kernels/attention.h"
#include "backends/kernels/special_simd.h"
#include "backends/kernels/twins.h"

#ifdef LANES

/* What a pass keeps for a query head; p holds the block's scores, then its probabilities. */
struct head {
    float p[ATTENTION_BLOCK], sum[LANES];
    float max, correction;
};

/* One row's pass over up to ATTENTION_HEADS heads of one kv head. */
struct pass {
    const struct attention_args *a;
    const int32_t *pages;
    const float *q; /* of the first head */
    float *out;
    int32_t pos, last, kv_head, head, heads, dim; /* last: behind the last key */
    struct head *h;
};

/* Dot products of q with the keys [from, end) of a page, in lanes from .. end - 1. */
static vf page_scores(const float *q, const float *k, int32_t dim, int from, int end)
{
    vf dots[KV_PAGE];
    for (int s = 0; s < KV_PAGE; s++)
        dots[s] = vf_zero();
    int32_t whole = dim - dim % LANES;
    for (int s = from; s < end; s++) {
        const float *key = k + (int64_t)s * dim;
        vf acc = vf_zero();
        for (int32_t i = 0; i < whole; i += LANES)
            acc = vf_fma(vf_load(q + i), vf_load(key + i), acc);
        if (whole < dim)
            acc =
                vf_fma(vf_load_n(q + whole, dim - whole), vf_load_n(key + whole, dim - whole), acc);
        dots[s] = acc;
    }
    return vf_sums(dots);
}

/* What keys j .. j + 15 get beside their product with q. */
INLINE vf page_slopes(float slope, int32_t j)
{
    vf at = vf_round_bf16(vf_of_int(vi_add(vi_iota(), vi_set(j))));
    return vf_round_bf16(vf_mul(vf_set(slope), at));
}

/* Fetches the slots [from, end) of a page. */
INLINE void fetch_page(const float *page, int32_t dim, int from, int end)
{
    const float *last = page + (int64_t)end * dim;
    for (const float *at = page + (int64_t)from * dim; at < last; at += 16)
        __builtin_prefetch(at);
}

/* Scores of the keys [from, end) of block b to h->p (-Inf elsewhere), and the new maximum. */
static void block_scores(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    const struct attention_args *a = p->a;
    for (int32_t j = b; j < b + ATTENTION_BLOCK; j += KV_PAGE) {
        int lo = from > j ? from - j : 0, hi = end - j < KV_PAGE ? end - j : KV_PAGE;
        bool any = lo < hi;
        const float *k =
            any ? (const float *)a->kv->k + attention_page(a, p->pages, p->kv_head, j) : NULL;
        if (any) // keys and values are streams of single pages, which nothing else foresees
            fetch_page((const float *)a->kv->v + attention_page(a, p->pages, p->kv_head, j), p->dim,
                       lo, hi);
        if (any && j + KV_PAGE < end && j + KV_PAGE < b + ATTENTION_BLOCK)
            fetch_page((const float *)a->kv->k +
                           attention_page(a, p->pages, p->kv_head, j + KV_PAGE),
                       p->dim, 0, end - j - KV_PAGE < KV_PAGE ? end - j - KV_PAGE : KV_PAGE);
        for (int32_t h = 0; h < p->heads; h++) {
            vf s = vf_set(-INFINITY);
            if (any) {
                s = page_scores(p->q + (int64_t)h * p->dim, k, p->dim, lo, hi);
                if (a->alibi)
                    s = vf_add(s, page_slopes(a->alibi[p->head + h], j));
                s = vf_mul(s, vf_set(a->scale));
                if (a->softcap != 0)
                    s = vf_mul(vf_set(a->softcap), vf_tanh(vf_div(s, vf_set(a->softcap))));
            }
            vf_store(p->h[h].p + (j - b), s);
        }
    }
    for (int32_t h = 0; h < p->heads; h++) {
        float max = p->h[h].max;
        for (int32_t j = from - b; j < end - b; j++)
            max = special_max(max, p->h[h].p[j]);
        p->h[h].correction = special_exp(p->h[h].max - max);
        p->h[h].max = max;
    }
}

/* Scores to probabilities, 0 outside [from, end); and their lane sums. */
static void block_softmax(const struct pass *p, int from, int end)
{
    for (int32_t h = 0; h < p->heads; h++) {
        struct head *head = &p->h[h];
        vf sum = vf_mul(vf_load(head->sum), vf_set(head->correction));
        for (int j = 0; j < ATTENTION_BLOCK; j += LANES) {
            int lo = from > j ? from - j : 0, hi = end - j < LANES ? end - j : LANES;
            if (lo >= hi)
                continue;
            vf e = vf_exp(vf_sub(vf_load(head->p + j), vf_set(head->max)));
            e = vf_between(e, lo, hi);
            vf_store(head->p + j, e);
            sum = vf_add(sum, e);
        }
        vf_store(head->sum, sum);
    }
}

/* out += p V for `heads` heads from h on and `columns` x 16 elements from i on; one column may have
 * n < 16. */
INLINE void block_values_of(const int heads, const int columns, const struct pass *p, int32_t h,
                            int32_t i, int64_t n, int32_t b, int32_t from, int32_t end)
{
    vf acc[16];
    float *out = p->out + (int64_t)h * p->dim + i;
#pragma GCC unroll 4
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            acc[g * columns + c] = vf_mul(vf_load_n(out + (int64_t)g * p->dim + c * LANES, n),
                                          vf_set(p->h[h + g].correction));
    for (int32_t j = from; j < end;) {
        const float *v =
            (const float *)p->a->kv->v + attention_page(p->a, p->pages, p->kv_head, j) + i;
        int32_t stop = j - j % KV_PAGE + KV_PAGE < end ? j - j % KV_PAGE + KV_PAGE : end;
        for (; j < stop; j++) {
            const float *at = v + (int64_t)(j % KV_PAGE) * p->dim;
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) {
                vf value = n == LANES ? vf_load(at + c * LANES) : vf_load_n(at + c * LANES, n);
#pragma GCC unroll 4
                for (int g = 0; g < heads; g++)
                    acc[g * columns + c] =
                        vf_fma(vf_set(p->h[h + g].p[j - b]), value, acc[g * columns + c]);
            }
        }
    }
#pragma GCC unroll 4
    for (int g = 0; g < heads; g++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            vf_store_n(out + (int64_t)g * p->dim + c * LANES, acc[g * columns + c], n);
}

static void block_values(const struct pass *p, int32_t b, int32_t from, int32_t end)
{
    int32_t i = 0;
    for (; i + 4 * LANES <= p->dim; i += 4 * LANES) {
        int32_t h = 0;
        for (; BLOCK_ROWS >= 16 && h + 4 <= p->heads; h += 4)
            block_values_of(4, 4, p, h, i, LANES, b, from, end);
        for (; h < p->heads; h++)
            block_values_of(1, 4, p, h, i, LANES, b, from, end);
    }
    for (; i < p->dim; i += LANES) {
        int64_t n = p->dim - i < LANES ? p->dim - i : LANES;
        int32_t h = 0;
        for (; h + 4 <= p->heads; h += 4)
            block_values_of(4, 1, p, h, i, n, b, from, end);
        for (; h < p->heads; h++)
            block_values_of(1, 1, p, h, i, n, b, from, end);
    }
}

static void finish_heads(const struct pass *p)
{
    for (int32_t h = 0; h < p->heads; h++) {
        float *out = p->out + (int64_t)h * p->dim;
        vf total = vf_set(vf_sum(vf_load(p->h[h].sum)));
        for (int32_t i = 0; i < p->dim; i += LANES) {
            int64_t n = p->dim - i < LANES ? p->dim - i : LANES;
            vf_store_n(out + i, vf_div(vf_load_n(out + i, n), total), n);
        }
    }
}

static void run_pass(const struct pass *p)
{
    for (int32_t h = 0; h < p->heads; h++) {
        memset(p->h[h].sum, 0, sizeof p->h[h].sum);
        p->h[h].max = -INFINITY;
    }
    memset(p->out, 0, (size_t)p->heads * (size_t)p->dim * sizeof *p->out);
    int32_t first = attention_first(p->a, p->pos);
    for (int32_t b = first - first % ATTENTION_BLOCK; b < p->last; b += ATTENTION_BLOCK) {
        int32_t from = b < first ? first : b;
        int32_t end = p->last - b < ATTENTION_BLOCK ? p->last : b + ATTENTION_BLOCK;
        block_scores(p, b, from, end);
        block_softmax(p, from - b, end - b);
        block_values(p, b, from, end);
    }
    finish_heads(p);
}

static void attend_simd(const struct attention_args *a, int32_t row, int32_t kv_head,
                        float *scratch)
{
    int32_t all = a->heads / a->kv->kv_heads, dim = a->kv->head_dim;
    struct pass p = {.a = a,
                     .pages = a->rows->pages[row],
                     .pos = a->rows->positions[row],
                     .last = attention_end(a, row),
                     .kv_head = kv_head,
                     .dim = dim,
                     .h = (struct head *)scratch};
    for (int32_t h = 0; h < all; h += ATTENTION_HEADS) {
        p.head = kv_head * all + h;
        p.heads = all - h < ATTENTION_HEADS ? all - h : ATTENTION_HEADS;
        p.q = a->q + row * a->ldq + (int64_t)p.head * dim;
        p.out = a->out + row * a->ldo + (int64_t)p.head * dim;
        run_pass(&p);
    }
}

void TWIN(attention)(struct twins *t)
{
    t->attend = attend_simd;
}

#endif
#endif
