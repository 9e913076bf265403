/* A digest over every byte that a view's weights hold: codes, scales, zeros, tables. */
#ifndef OFTD_TESTS_CORE_MERGE_WEIGHTS_H
#define OFTD_TESTS_CORE_MERGE_WEIGHTS_H

#include <string.h>

#include "core/digest.h"
#include "core/model/model.h"
#include "core/model/view.h"

static inline void weights_add(uint8_t all[2 * DIGEST_SIZE], const void *data, size_t size)
{
    if (!data)
        return;
    digest_bytes(data, size, all + DIGEST_SIZE);
    digest_bytes(all, 2 * DIGEST_SIZE, all);
}

static inline void weights_digest(const struct view *v, uint8_t out[DIGEST_SIZE])
{
    uint8_t all[2 * DIGEST_SIZE] = {0};
    for (size_t i = 0; i < v->n_modules; i++) {
        const struct weight *w = v->weights[i];
        size_t n = w->grouping == GROUPS_OF_ROWS ? (size_t)(w->n_tiles * TILE_ROWS * w->n_groups)
                                                 : (size_t)w->n_groups;
        weights_add(all, w->data, w->data_bytes);
        weights_add(all, w->perm, (size_t)w->k * sizeof *w->perm);
        weights_add(all, w->group_of, (size_t)w->k_padded * sizeof *w->group_of);
        weights_add(all, w->scales, n * dtype_size(w->scale_dtype));
        weights_add(all, w->zeros, n * dtype_size(w->zero_dtype));
        weights_add(all, w->nested_absmax, (size_t)w->n_nested * sizeof *w->nested_absmax);
        weights_add(all, w->table, sizeof w->table);
        weights_add(all, w->nested_map, sizeof w->nested_map);
        weights_add(all, &w->nested_offset, sizeof w->nested_offset);
        weights_add(all, w->format, w->format_bytes);
    }
    memcpy(out, all, DIGEST_SIZE);
}

#endif
