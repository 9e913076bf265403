/* What the attention twins share; the definition is at the head of attention.c. */
#ifndef OFTD_BACKENDS_KERNELS_ATTENTION_H
#define OFTD_BACKENDS_KERNELS_ATTENTION_H

#include "core/kernels.h"

#define ATTENTION_BLOCK 64   /* keys of a block: a multiple of KV_PAGE */
#define ATTENTION_SPAN  1024 /* keys whose sums are taken together: a multiple of the block */
#define ATTENTION_HEADS 16   /* query heads that a task takes together */
/* Magnitudes that a query's elements and a block's probabilities have as 16-bit integers:
 * HEAD_DIM_MAX and ATTENTION_BLOCK products of those with bytes are less than 2^31. */
#define QUERY_PEAK    16383
#define SHARE_PEAK    32767
#define KV_LEAST_PEAK 0x1p-100f

/* Floats of a thread's scratch that belong to attend(): what it keeps for the query heads, and
 * bytes' queries. */
#define HEADS_SCRATCH 2048
static inline size_t attend_scratch(int32_t head_dim)
{
    return HEADS_SCRATCH + (size_t)ATTENTION_HEADS * (size_t)kv_fours(head_dim) / 2;
}

/* What some keys come to for some query heads of a row: sums that nothing is divided by yet. */
struct attention_part {
    float *o;         /* [heads, head_dim] sums of exp(s_j - max) v_j */
    float *max, *sum; /* [heads] the largest score, and the sum of exp(s_j - max) */
};

/* The first key that a row at pos sees. */
static inline int32_t attention_first(const struct attention_args *a, int32_t pos)
{
    return a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
}

/* Behind the last one. */
static inline int32_t attention_end(const struct attention_args *a, int32_t row)
{
    return a->rows->ends ? a->rows->ends[row] : a->rows->positions[row] + 1;
}

/* The page that holds key j of a row, one kv head, from the start of k or of v. */
static inline size_t attention_page(const struct attention_args *a, const int32_t *pages,
                                    int32_t kv_head, int32_t j)
{
    const struct kv *kv = a->kv;
    size_t page = (size_t)a->layer * (size_t)kv->n_pages + (size_t)pages[j / KV_PAGE];
    return page * kv->page_bytes + (size_t)kv_head * kv_head_bytes(kv->dtype, kv->head_dim);
}

/* I8: the slots' steps, of a page's head. */
static inline const float *attention_steps(const void *head, int32_t head_dim)
{
    const void *behind = (const char *)head + (size_t)KV_PAGE * (size_t)kv_fours(head_dim);
    return (const float *)behind;
}

#endif
