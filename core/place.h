/*
 * Where what a table computes with lies (kernels.h). On a CPU placing a thing gives the thing
 * itself and costs nothing; for a device it gives a copy in the device's memory. So whoever places
 * says once what steps will read, and need not know of what kind the table is. The host's original
 * stays: the loader merges, requantizes and exports it.
 *
 * A place belongs to one owner (a model, a view, a generation of an adapter) and is closed with it,
 * when no step reads what lies there. Zeroed: of the host. Not thread-safe.
 */
#ifndef OFTD_CORE_PLACE_H
#define OFTD_CORE_PLACE_H

#include "core/kernels.h"

struct placed;
struct place {
    const struct kernels *kernels; /* NULL: the host's; outlives the place */
    struct placed *list;
    uint64_t bytes; /* taken on the device */
};

/* Does the table compute in memory of its own? */
static inline bool place_apart(const struct place *p)
{
    return p->kernels && p->kernels->own_memory;
}

/* bytes of v, where the table computes: v itself on a CPU. NULL: no memory (or v is NULL). */
const void *place_copy(struct place *p, const void *v, size_t bytes);
/* w, its arrays placed; w itself on a CPU. NULL: no memory. */
const struct weight *place_weight(struct place *p, const struct weight *w);
/* Arrays that steps write, zeroed; NULL: no memory. On a CPU they are memory_alloc's and
 * memory_reserve's. Freed by place_free. kernels NULL: the host's. */
void *place_take(const struct kernels *kernels, size_t bytes);
void *place_reserve(const struct kernels *kernels, size_t bytes);
void place_free(const struct kernels *kernels, void *v);
/* Frees all copies. */
void place_close(struct place *p);

#endif
