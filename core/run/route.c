#include "core/run/route.h"

#include <string.h>

#include "core/run/ticket.h"

static enum status find(const char *name, struct registry *registry, bool may_load, bool *pending,
                        struct adapter **out, struct error *err)
{
    *out = registry_acquire(registry, name);
    if (*out)
        return ST_OK;
    if (!registry_discoverable(registry, name))
        return error_param(err, ST_ADAPTER_NOT_FOUND, "adapter",
                           "adapter '%s' is not loaded and no adapter directory holds it", name);
    if (!may_load) {
        *pending = true;
        return ST_OK;
    }
    enum status st = registry_autoload(registry, name, err);
    if (st != ST_OK)
        return st;
    *out = registry_acquire(registry, name);
    if (!*out)
        return error_param(err, ST_ADAPTER_NOT_FOUND, "adapter",
                           "adapter '%s' was unloaded while the request waited for it", name);
    return ST_OK;
}

static enum status derived(struct adapter *a, int32_t strength, enum compute compute,
                           struct registry *registry, bool may_load, bool *pending,
                           struct adapter **out, struct error *err)
{
    *out = registry_acquire_derived(registry, a, strength, compute);
    if (*out)
        return ST_OK;
    if (may_load)
        return registry_derive(registry, a, strength, compute, out, err);
    *pending = true;
    return ST_OK;
}

static void drop(struct route *r)
{
    for (int32_t i = 0; i < r->n; i++) {
        adapter_unref(r->used[i]);
        adapter_unref(r->adapters[i]);
        r->used[i] = r->adapters[i] = NULL;
    }
    r->n = 0;
}

static void count(struct adapter *a, int by)
{
    atomic_fetch_add(&a->in_flight, by);
    atomic_store(&a->last_used, ticket_now() / 1000000);
}

static enum status copy_refs(struct route *r, struct arena *arena, struct error *err)
{
    for (int32_t i = 0; i < r->n; i++) {
        r->refs[i] = (struct adapter_ref){
            .name = arena_strdup(arena, r->adapters[i]->name),
            .digest = arena_strdup(arena, r->adapters[i]->digest_text),
            .generation = r->adapters[i]->generation,
        };
        if (!r->refs[i].name || !r->refs[i].digest)
            return error_memory(err, "a request");
    }
    return ST_OK;
}

/* Biases replace the base's: of two adapters that bring some, neither could be said to be served.
 */
static enum status check_biases(const struct route *r, struct error *err)
{
    const struct adapter *first, *second;
    if (!adapter_biases_collide(r->adapters, (size_t)r->n, &first, &second))
        return ST_OK;
    return error_param(err, ST_BIAS_CONFLICT, "adapter",
                       "'%s' and '%s' both replace biases: at most one adapter of a request may",
                       first->name, second->name);
}

/* A row has one way out. */
static enum status check_heads(const struct route *r, struct error *err)
{
    const struct adapter *first, *second;
    if (!adapter_heads_collide(r->adapters, (size_t)r->n, &first, &second))
        return ST_OK;
    return error_param(err, ST_MODULES_TO_SAVE_UNSUPPORTED, "adapter",
                       "'%s' and '%s' both bring a classification head along (modules_to_save): at "
                       "most one adapter of a request may",
                       first->name, second->name);
}

const struct classifier *route_classifier(const struct route *r)
{
    for (int32_t i = 0; i < r->n; i++)
        if (r->used[i]->adapted.classifier)
            return r->used[i]->adapted.classifier;
    return NULL;
}

enum status route_enter(struct route *r, const struct chain_names *names, enum compute compute,
                        struct registry *registry, struct merged *merged, bool may_load,
                        bool *pending, struct arena *arena, struct error *err)
{
    *pending = false;
    r->compute = compute;
    r->n = names->n;
    enum status st = ST_OK;
    for (int32_t i = 0; i < r->n && st == ST_OK; i++) {
        st = find(names->names[i], registry, may_load, pending, &r->adapters[i], err);
        if (st == ST_OK && r->adapters[i])
            st = derived(r->adapters[i], names->strength[i], compute, registry, may_load, pending,
                         &r->used[i], err);
    }
    if (st == ST_OK && !*pending)
        st = check_biases(r, err);
    if (st == ST_OK && !*pending)
        st = check_heads(r, err);
    if (st == ST_OK && !*pending)
        st = copy_refs(r, arena, err);
    if (st == ST_OK && !*pending)
        st = merged_enter(merged, r, err);
    if (st != ST_OK || *pending) {
        drop(r);
        return st;
    }
    for (int32_t i = 0; i < r->n; i++) {
        count(r->adapters[i], 1);
        if (r->used[i] != r->adapters[i])
            count(r->used[i], 1);
    }
    r->entered = true;
    return ST_OK;
}

void route_leave(struct route *r, struct merged *merged)
{
    if (!r->entered)
        return;
    r->entered = false;
    for (int32_t i = 0; i < r->n; i++) {
        count(r->adapters[i], -1);
        if (r->used[i] != r->adapters[i])
            count(r->used[i], -1);
    }
    merged_leave(merged, r);
    drop(r);
}
