/* Owns the copies in a device's memory, each with the host's struct that points to it, if any. */
#include "core/place.h"

#include <stdlib.h>

#include "core/memory.h"

struct placed {
    struct placed *next;
    void *memory[WEIGHT_ARRAYS]; /* the table's */
    struct weight weight;        /* of a placed weight */
};

/* A copy in the device's memory, in slot i of an entry. */
static void *take(struct place *p, struct placed *entry, int i, const void *v, size_t bytes)
{
    void *to = p->kernels->alloc(p->kernels, bytes);
    if (!to)
        return NULL;
    entry->memory[i] = to;
    p->bytes += bytes;
    p->kernels->upload(p->kernels, to, v, bytes);
    return to;
}

static struct placed *entry_new(struct place *p)
{
    struct placed *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->next = p->list;
    p->list = e;
    return e;
}

const void *place_copy(struct place *p, const void *v, size_t bytes)
{
    if (!place_apart(p) || !v)
        return v;
    struct placed *e = entry_new(p);
    return e ? take(p, e, 0, v, bytes) : NULL;
}

const struct weight *place_weight(struct place *p, const struct weight *w)
{
    if (!place_apart(p))
        return w;
    struct placed *e = entry_new(p);
    if (!e)
        return NULL;
    struct weight_array arrays[WEIGHT_ARRAYS];
    e->weight = *w;
    e->weight.format = NULL; // no kernel's
    e->weight.format_bytes = 0;
    weight_arrays(&e->weight, arrays);
    for (int i = 0; i < WEIGHT_ARRAYS; i++)
        if (*arrays[i].at && !(*arrays[i].at = take(p, e, i, *arrays[i].at, arrays[i].bytes)))
            return NULL;
    return &e->weight;
}

void *place_take(const struct kernels *kernels, size_t bytes)
{
    return kernels && kernels->own_memory ? kernels->alloc(kernels, bytes) : memory_alloc(bytes);
}

void *place_reserve(const struct kernels *kernels, size_t bytes)
{
    return kernels && kernels->own_memory ? kernels->alloc(kernels, bytes) : memory_reserve(bytes);
}

void place_free(const struct kernels *kernels, void *v)
{
    if (kernels && kernels->own_memory)
        kernels->release(kernels, v);
    else
        memory_free(v);
}

void place_close(struct place *p)
{
    for (struct placed *e = p->list, *next; e; e = next) {
        next = e->next;
        for (int i = 0; i < WEIGHT_ARRAYS; i++)
            p->kernels->release(p->kernels, e->memory[i]);
        free(e);
    }
    p->list = NULL;
    p->bytes = 0;
}
