/* What the attention twins share; the definition is at the head of attention.c. */
#ifndef OFTD_BACKENDS_KERNELS_ATTENTION_H
#define OFTD_BACKENDS_KERNELS_ATTENTION_H

#include "core/kernels.h"

#define ATTENTION_BLOCK 64 /* keys of a block: a multiple of KV_PAGE */
#define ATTENTION_HEADS 16 /* query heads that a pass takes together */

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

/* Slot 0 of the page that holds key j of a row, one kv head; head_dim floats a slot. */
static inline size_t attention_page(const struct attention_args *a, const int32_t *pages,
                                    int32_t kv_head, int32_t j)
{
    const struct kv *kv = a->kv;
    size_t page = (size_t)a->layer * (size_t)kv->n_pages + (size_t)pages[j / KV_PAGE];
    return (page * (size_t)kv->kv_heads + (size_t)kv_head) * KV_PAGE * (size_t)kv->head_dim;
}

#endif
