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
    struct weight_array arrays[WEIGHT_ARRAYS];
    weight_arrays(w, arrays);
    for (int i = 0; i < WEIGHT_ARRAYS; i++)
        memory_free(*arrays[i].at);
    free(w->format);
    memset(w, 0, sizeof *w);
}

/* Elements of a parameter array of w. */
static size_t param_count(const struct weight *w)
{
    if (w->encoding == ENC_CODEBOOK)
        return w->out_group ? (size_t)(w->n / w->out_group) : 0;
    if (w->grouping != GROUPS_OF_ROWS)
        return (size_t)w->n_groups;
    return (size_t)(w->n_tiles * TILE_ROWS * w->n_groups);
}

void weight_arrays(struct weight *w, struct weight_array out[WEIGHT_ARRAYS])
{
    size_t book = ((size_t)w->books << w->bits) * (size_t)(w->in_group * w->out_group);
    const struct weight_array all[WEIGHT_ARRAYS] = {
        {&w->data, w->data_bytes},
        {(void **)&w->perm, (size_t)w->k * sizeof *w->perm},
        {(void **)&w->group_of, (size_t)w->k_padded * sizeof *w->group_of},
        {&w->scales, param_count(w) * dtype_size(w->scale_dtype)},
        {&w->zeros, param_count(w) * dtype_size(w->zero_dtype)},
        {(void **)&w->nested_absmax, (size_t)w->n_nested * sizeof *w->nested_absmax},
        {&w->codebook, book * dtype_size(w->codebook_dtype)}};
    for (int i = 0; i < WEIGHT_ARRAYS; i++)
        out[i] = (struct weight_array){all[i].at, *all[i].at ? all[i].bytes : 0};
}

size_t weight_bytes(const struct weight *w)
{
    struct weight copy = *w;
    struct weight_array arrays[WEIGHT_ARRAYS];
    size_t bytes = sizeof *w + w->format_bytes;
    weight_arrays(&copy, arrays);
    for (int i = 0; i < WEIGHT_ARRAYS; i++)
        bytes += arrays[i].bytes;
    return bytes;
}
