/* What the registry knows about names beside serving them: marks of loads that run or failed,
 * listings, figures, and the roots on disk. */
#include <stdlib.h>
#include <string.h>

#include "core/adapters/listing.h"
#include "core/adapters/registry_state.h"

#define MARKS_MAX 1024 /* failed names that are remembered */

bool registry_in_roots(struct registry *r, const char *name)
{
    pthread_mutex_lock(&r->roots_lock);
    bool have = registry_name_valid(name) && roots_have(&r->roots, name);
    pthread_mutex_unlock(&r->roots_lock);
    return have;
}

void registry_rescan(struct registry *r)
{
    struct roots fresh, old;
    if (roots_open((const char *const *)r->root_names, r->n_roots, &fresh, NULL))
        return;
    pthread_mutex_lock(&r->roots_lock);
    old = r->roots;
    r->roots = fresh;
    pthread_mutex_unlock(&r->roots_lock);
    pthread_mutex_lock(&r->lock);
    for (size_t i = r->table.named.n; i-- > 0;)
        if (!r->table.named.v[i].a && r->table.named.v[i].mark == ADAPTER_FAILED)
            slots_remove(&r->table.named, i);
    pthread_mutex_unlock(&r->lock);
    roots_close(&old);
}

/* ---- marks ---- */

/* (lock) Forgets one failed name when there are too many. */
static void bound_marks(struct registry *r)
{
    size_t marks = 0, oldest = r->table.named.n;
    for (size_t i = 0; i < r->table.named.n; i++) {
        const struct slot *s = &r->table.named.v[i];
        if (s->a || s->mark != ADAPTER_FAILED)
            continue;
        marks++;
        if (oldest == r->table.named.n || s->since < r->table.named.v[oldest].since)
            oldest = i;
    }
    if (marks >= MARKS_MAX)
        slots_remove(&r->table.named, oldest);
}

void registry_mark(struct registry *r, const char *name, enum adapter_state state,
                   const char *error)
{
    char *copy = strdup(name), *sentence = error ? strdup(error) : NULL;
    pthread_mutex_lock(&r->lock);
    bound_marks(r);
    struct slot *s = slots_find(&r->table, name);
    if (state == ADAPTER_AVAILABLE) {
        if (s && !s->a)
            slots_remove(&r->table.named, (size_t)(s - r->table.named.v));
    } else if (copy && (s || slots_reserve(&r->table.named, 1))) {
        s = slots_insert(&r->table, copy);
        copy = NULL;
        s->mark = state;
        if (!s->a)
            s->since = slots_now();
        free(s->error);
        s->error = sentence;
        sentence = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    free(copy);
    free(sentence);
}

bool registry_lists(struct registry *r, const char *name)
{
    pthread_mutex_lock(&r->lock);
    bool there = slots_find(&r->table, name) != NULL;
    pthread_mutex_unlock(&r->lock);
    return there;
}

/* ---- listings ---- */

enum status registry_list(struct registry *r, bool available, struct adapter_info **out, size_t *n,
                          struct error *err)
{
    struct listing l = {0};
    pthread_mutex_lock(&r->lock);
    listing_add(&l, &r->table);
    pthread_mutex_unlock(&r->lock);
    if (available) {
        pthread_mutex_lock(&r->roots_lock);
        listing_add_available(&l, &r->roots);
        pthread_mutex_unlock(&r->roots_lock);
    }
    *out = NULL;
    *n = 0;
    if (l.failed) {
        listing_clear(&l);
        return error_memory(err, "listing adapters");
    }
    listing_sort(&l);
    *out = l.v;
    *n = l.n;
    return ST_OK;
}

enum status registry_info(struct registry *r, const char *name, struct adapter_info *out,
                          struct error *err)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&r->lock);
    struct slot *s = slots_find(&r->table, name);
    bool whole = s && listing_describe(&r->table, s, out);
    pthread_mutex_unlock(&r->lock);
    if (s)
        return whole ? ST_OK : error_memory(err, "describing an adapter");
    if (!registry_in_roots(r, name))
        return error_set(err, ST_ADAPTER_NOT_FOUND, "there is no adapter %s", name);
    out->state = ADAPTER_AVAILABLE;
    out->name = strdup(name);
    out->path = strdup(name);
    if (out->name && out->path)
        return ST_OK;
    adapter_info_clear(out);
    return error_memory(err, "describing an adapter");
}

void registry_stats(struct registry *r, struct registry_stats *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->table.named.n; i++) {
        out->loaded += r->table.named.v[i].a != NULL;
        out->pinned += r->table.named.v[i].a && r->table.named.v[i].pinned;
    }
    out->bytes = ledger_bytes(r->table.ledger);
    out->budget = r->table.memory;
    out->loads = r->loads;
    out->evictions = r->evictions;
    out->failures = r->failures;
    pthread_mutex_unlock(&r->lock);
}
