/*
 * Owns the order and the bytes of resident generations, and who has to go when there is no room.
 * refs == 1 under the registry's lock means that nobody but the table knows a generation, because
 * new references are only made under the same lock: such a one may be evicted.
 */
#include "core/adapters/slots.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/grow.h"

int64_t slots_now(void)
{
    return clock_ns() / 1000000;
}

static void slot_clear(struct slot *s)
{
    free(s->name);
    free(s->error);
    memset(s, 0, sizeof *s);
}

/* Room for `more` further slots. */
bool slots_reserve(struct slots *l, size_t more)
{
    return GROW(l->v, l->cap, l->n + more, 8);
}

void slots_remove(struct slots *l, size_t i)
{
    slot_clear(&l->v[i]);
    memmove(&l->v[i], &l->v[i + 1], (--l->n - i) * sizeof *l->v);
}

/* Where name is, or would be inserted (*found). */
static size_t slots_place(const struct slots *l, const char *name, bool *found)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strcmp(l->v[mid].name, name);
        if (!c) {
            *found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = false;
    return low;
}

void slots_clear(struct table *t)
{
    struct slots *lists[] = {&t->derived, &t->named};
    for (int l = 0; l < 2; l++) {
        for (size_t i = 0; i < lists[l]->n; i++) {
            adapter_unref(lists[l]->v[i].a);
            slot_clear(&lists[l]->v[i]);
        }
        free(lists[l]->v);
    }
    ledger_unref(t->ledger);
    memset(t, 0, sizeof *t);
}

struct slot *slots_find(struct table *t, const char *name)
{
    bool found;
    size_t i = slots_place(&t->named, name, &found);
    return found ? &t->named.v[i] : NULL;
}

struct slot *slots_loaded(struct table *t, const char *name)
{
    struct slot *s = slots_find(t, name);
    return s && s->a ? s : NULL;
}

struct slot *slots_removable(struct table *t, const char *name)
{
    struct slot *s = slots_find(t, name);
    return s && (s->a || s->mark == ADAPTER_FAILED) ? s : NULL;
}

/* The slot of name, made if need be; name is consumed. Room was reserved. */
struct slot *slots_insert(struct table *t, char *name)
{
    bool found;
    size_t i = slots_place(&t->named, name, &found);
    if (found) {
        free(name);
        return &t->named.v[i];
    }
    memmove(&t->named.v[i + 1], &t->named.v[i], (t->named.n++ - i) * sizeof *t->named.v);
    t->named.v[i] = (struct slot){.name = name, .mark = ADAPTER_LOADING};
    return &t->named.v[i];
}

/* ---- derived generations ---- */

static int compare_derived(const struct adapter *d, uint64_t generation, int32_t strength,
                           enum compute mode)
{
    if (d->generation != generation)
        return d->generation < generation ? -1 : 1;
    if (d->strength != strength)
        return d->strength < strength ? -1 : 1;
    return (int)d->mode - (int)mode;
}

/* The first that is not less. */
static size_t derived_place(const struct slots *l, uint64_t generation, int32_t strength,
                            enum compute mode)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (compare_derived(l->v[mid].a, generation, strength, mode) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t first_derived(const struct table *t, const struct adapter *a)
{
    return derived_place(&t->derived, a->generation, 0, COMPUTE_EXACT);
}

static bool is_of(const struct table *t, size_t i, const struct adapter *a)
{
    return i < t->derived.n && t->derived.v[i].a->generation == a->generation;
}

struct adapter *slots_derived(struct table *t, const struct adapter *a, int32_t strength,
                              enum compute mode)
{
    size_t i = derived_place(&t->derived, a->generation, strength, mode);
    if (!is_of(t, i, a) || compare_derived(t->derived.v[i].a, a->generation, strength, mode))
        return NULL;
    return t->derived.v[i].a;
}

void slots_keep_derived(struct table *t, struct adapter *d)
{
    struct slots *l = &t->derived;
    size_t i = derived_place(l, d->generation, d->strength, d->mode);
    memmove(&l->v[i + 1], &l->v[i], (l->n++ - i) * sizeof *l->v);
    l->v[i] = (struct slot){.a = adapter_ref(d), .since = slots_now()};
}

uint64_t slots_derived_bytes(const struct table *t, const struct adapter *a)
{
    uint64_t bytes = 0;
    for (size_t i = first_derived(t, a); is_of(t, i, a); i++)
        bytes += t->derived.v[i].a->rotation_bytes;
    return bytes;
}

/* ---- room ---- */

/* Bytes that dropping the table's reference gives back: a derived generation has no packed vectors
 * of its own (0), and one that somebody else holds gives nothing yet. */
static uint64_t bytes_freed(const struct slot *s)
{
    if (!s->leaving || !s->a || atomic_load(&s->a->refs) > 1)
        return 0;
    return s->a->rotation_bytes + s->a->packed_bytes;
}

/* Bytes that stay in memory: generations that stay in the table, those that requests hold, and
 * those that are about to come in. */
static uint64_t bytes_kept(const struct table *t)
{
    uint64_t freed = 0;
    const struct slots *const lists[] = {&t->named, &t->derived};
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->n; i++)
            freed += bytes_freed(&lists[l]->v[i]);
    uint64_t all = ledger_bytes(t->ledger);
    return all > freed ? all - freed : 0;
}

/* The least recently used generation that nobody needs, or NULL. */
static struct slot *next_victim(struct table *t)
{
    struct slots *lists[] = {&t->named, &t->derived};
    struct slot *best = NULL;
    int64_t best_used = 0;
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->n; i++) {
            struct slot *s = &lists[l]->v[i];
            if (!s->a || s->leaving || s->pinned || atomic_load(&s->a->refs) > 1)
                continue;
            int64_t used = atomic_load(&s->a->last_used);
            used = used > s->since ? used : s->since;
            if (!best || used < best_used) {
                best = s;
                best_used = used;
            }
        }
    return best;
}

enum status slots_make_room(struct table *t, struct error *err)
{
    for (uint64_t kept; t->memory && (kept = bytes_kept(t)) > t->memory;) {
        struct slot *s = next_victim(t);
        if (!s)
            return error_set(err, ST_CAPACITY_EXCEEDED,
                             "the adapters would take %" PRIu64 " bytes, the budget is %" PRIu64
                             ": the others are pinned, or requests use them or the generations "
                             "that they replaced",
                             kept, t->memory);
        s->leaving = true;
        slots_leave_derived(t);
    }
    return ST_OK;
}

void slots_stay(struct table *t)
{
    for (size_t i = 0; i < t->named.n; i++)
        t->named.v[i].leaving = false;
    for (size_t i = 0; i < t->derived.n; i++)
        t->derived.v[i].leaving = false;
}

size_t slots_leaving(const struct table *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->named.n; i++)
        n += t->named.v[i].leaving;
    for (size_t i = 0; i < t->derived.n; i++)
        n += t->derived.v[i].leaving;
    return n;
}

void slots_leave_derived(struct table *t)
{
    for (size_t i = 0; i < t->named.n; i++) {
        const struct adapter *a = t->named.v[i].leaving ? t->named.v[i].a : NULL;
        for (size_t d = a ? first_derived(t, a) : 0; a && is_of(t, d, a); d++)
            t->derived.v[d].leaving = true;
    }
}

/* The references of what leaves go to the trash, which has room. */
void slots_sweep(struct table *t, struct trash *trash)
{
    struct slots *lists[] = {&t->named, &t->derived};
    for (int l = 0; l < 2; l++)
        for (size_t i = lists[l]->n; i-- > 0;)
            if (lists[l]->v[i].leaving) {
                trash->v[trash->n++] = lists[l]->v[i].a;
                slots_remove(lists[l], i);
            }
}

/* Room for everything that may leave. */
bool slots_trash(const struct table *t, struct trash *trash)
{
    trash->v = malloc((t->named.n + t->derived.n + 1) * sizeof *trash->v);
    return trash->v != NULL;
}

void slots_empty(struct trash *trash)
{
    for (size_t i = 0; i < trash->n; i++)
        adapter_unref(trash->v[i]);
    free(trash->v);
}
