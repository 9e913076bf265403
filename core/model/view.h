/*
 * A weight view: which weights a row sees. The base is one; a merge builds another beside it that
 * holds new weights for the merged modules and borrows the rest from the base. Immutable,
 * refcounted (atomically); whoever holds a reference may read without a lock.
 */
#ifndef OFTD_CORE_MODEL_VIEW_H
#define OFTD_CORE_MODEL_VIEW_H

#include "core/kernels.h"

struct model;

struct view {
    uint64_t id; /* unique in the process; part of a KV block's identity; the base is 0 */
    const struct weight *const
        *weights; /* [n_modules]; never NULL (tied and replicated modules point at their owner's) */
    const struct weight *const *placed; /* the same where steps compute (core/place.h) */
    size_t n_modules;
    uint64_t bytes; /* of the weights that this view owns, in the host's memory */
};

/* A view over base with owned[i] (NULL: the base's) for each module. The base must be kept by the
 * caller (it lives as long as the model). On success the array and the weights are consumed; NULL
 * when memory runs out. */
struct view *view_new(const struct model *m, struct weight **owned);
struct view *view_ref(struct view *v);
void view_unref(struct view *v); /* frees with the last reference; NULL is fine */

#endif
