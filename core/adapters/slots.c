/*
 * Owns the order and the bytes of resident generations, and who has to go when there is no room.
 * refs == 1 under the registry's lock means that nobody but the table knows a generation, because
 * new references are only made under the same lock: such a one may be evicted.
 */
#include "core/adapters/slots.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t slots_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
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
    if (l->n + more <= l->cap)
        return true;
    size_t cap = 2 * l->cap + more;
    struct slot *v = realloc(l->v, cap * sizeof *v);
    if (!v)
        return false;
    l->v = v;
    l->cap = cap;
    return true;
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

struct adapter *slots_derived(struct table *t, const struct adapter *a, int32_t strength)
{
    for (size_t i = 0; i < t->derived.n; i++) {
        struct adapter *d = t->derived.v[i].a;
        if (d->generation == a->generation && d->strength == strength)
            return d;
    }
    return NULL;
}

uint64_t slots_bytes_of(const struct adapter *a)
{
    return a->strength == 100 ? (uint64_t)a->packed_bytes + a->rotation_bytes : a->rotation_bytes;
}

/* Bytes of what stays. */
uint64_t slots_bytes(const struct table *t)
{
    uint64_t sum = 0;
    const struct slots *const lists[] = {&t->named, &t->derived};
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->n; i++)
            if (lists[l]->v[i].a && !lists[l]->v[i].leaving)
                sum += slots_bytes_of(lists[l]->v[i].a);
    return sum;
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

/* Lets as many leave as it takes for `need` more bytes. */
enum status slots_make_room(struct table *t, uint64_t need, struct error *err)
{
    while (t->memory && slots_bytes(t) + need > t->memory) {
        struct slot *s = need <= t->memory ? next_victim(t) : NULL;
        if (!s)
            return error_set(err, ST_CAPACITY_EXCEEDED,
                             "%" PRIu64 " bytes of rotations are needed, %" PRIu64 " of %" PRIu64
                             " are taken by adapters that are pinned or in use",
                             need, slots_bytes(t), t->memory);
        s->leaving = true;
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

/* What was derived from a leaving generation leaves too. */
static void leave_derived(struct table *t)
{
    for (size_t i = 0; i < t->derived.n; i++)
        for (size_t j = 0; j < t->named.n; j++)
            if (t->named.v[j].leaving &&
                t->named.v[j].a->generation == t->derived.v[i].a->generation)
                t->derived.v[i].leaving = true;
}

/* Takes the leaving ones out; their references go to the trash, which has room. */
void slots_sweep(struct table *t, struct trash *trash)
{
    leave_derived(t);
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
