/* Owns the end of a struct weight's life: kernels.h says what it holds, this frees and counts it.
 */
#include <stdlib.h>
#include <string.h>

#include "core/kernels.h"
#include "core/memory.h"

void weight_clear(struct weight *w)
{
    if (!w)
        return;
    memory_free(w->data);
    memory_free((void *)w->perm);
    memory_free((void *)w->group_of);
    memory_free(w->scales);
    memory_free(w->zeros);
    memory_free(w->nested_absmax);
    memory_free(w->codebook);
    free(w->format);
    memset(w, 0, sizeof *w);
}

/* Elements of a parameter array of w. */
static size_t param_count(const struct weight *w)
{
    if (w->encoding == ENC_CODEBOOK)
        return (size_t)(w->n / w->out_group);
    if (w->grouping != GROUPS_OF_ROWS)
        return (size_t)w->n_groups;
    return (size_t)(w->n_tiles * TILE_ROWS * w->n_groups);
}

size_t weight_bytes(const struct weight *w)
{
    size_t bytes = sizeof *w + w->data_bytes + w->format_bytes;
    if (w->perm)
        bytes += (size_t)w->k * sizeof *w->perm;
    if (w->group_of)
        bytes += (size_t)w->k_padded * sizeof *w->group_of;
    if (w->scales)
        bytes += param_count(w) * dtype_size(w->scale_dtype);
    if (w->zeros)
        bytes += param_count(w) * dtype_size(w->zero_dtype);
    if (w->codebook)
        bytes += ((size_t)w->books << w->bits) * (size_t)(w->in_group * w->out_group) *
                 dtype_size(w->codebook_dtype);
    if (w->nested_absmax)
        bytes += (size_t)w->n_nested * sizeof *w->nested_absmax;
    return bytes;
}
