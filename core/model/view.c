/*
 * Owns the life of weight views: which weights a view has of its own, and how many hold it. The
 * base is the view that is made while the model has none: it owns every stored weight, and modules
 * that store nothing (replicated layers, a tied head) see their owner's.
 */
#include "core/model/view.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/model/model.h"
#include "core/place.h"

struct owner {
    struct view view; /* first: a view is its owner */
    atomic_int refs;
    struct weight **owned; /* [n_modules], NULL: borrowed */
    struct place place;
    const struct weight *weights[]; /* [n_modules]; of a device as many more: the placed ones */
};

/* The weights of the view where steps compute; false: no memory. */
static bool place(struct owner *o, const struct model *m)
{
    const struct weight **to = o->weights + m->n_modules;
    for (size_t i = 0; i < m->n_modules; i++)
        if (o->owned[i] && !(to[i] = place_weight(&o->place, o->owned[i])))
            return false;
    for (size_t i = 0; i < m->n_modules; i++)
        if (!o->owned[i])
            to[i] = m->base ? m->base->placed[i] : to[m->modules[i].base];
    o->view.placed = to;
    return true;
}

struct view *view_new(const struct model *m, struct weight **owned)
{
    static _Atomic uint64_t next = 1;
    bool apart = place_apart(&m->place);
    struct owner *o = malloc(sizeof *o + m->n_modules * (apart ? 2 : 1) * sizeof *o->weights);
    if (!o)
        return NULL;
    o->view = (struct view){.id = m->base ? atomic_fetch_add(&next, 1) : 0,
                            .weights = o->weights,
                            .placed = o->weights,
                            .n_modules = m->n_modules};
    o->owned = owned;
    o->place = (struct place){.kernels = m->place.kernels};
    atomic_init(&o->refs, 1);
    for (size_t i = 0; i < m->n_modules; i++) {
        if (owned[i])
            o->view.bytes += weight_bytes(owned[i]);
        if (owned[i])
            o->weights[i] = owned[i];
        else
            o->weights[i] = m->base ? m->base->weights[i] : owned[m->modules[i].base];
    }
    if (apart && !place(o, m)) {
        place_close(&o->place);
        free(o);
        return NULL;
    }
    return &o->view;
}

struct view *view_ref(struct view *v)
{
    atomic_fetch_add_explicit(&((struct owner *)v)->refs, 1, memory_order_relaxed);
    return v;
}

void view_unref(struct view *v)
{
    struct owner *o = (struct owner *)v;
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < v->n_modules; i++) {
        weight_clear(o->owned[i]);
        free(o->owned[i]);
    }
    free(o->owned);
    place_close(&o->place);
    free(o);
}
