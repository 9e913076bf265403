/*
 * Owns the hash table text -> id: open addressing at a load of at most one half, and a hash that
 * is seeded per table so that no file can be written to make all its entries collide.
 */
#include "core/tokenizer/vocabulary.h"

#include <string.h>
#include <sys/random.h>

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}

static uint64_t hash(uint64_t seed, const char *p, size_t n)
{
    uint64_t h = seed ^ mix(n), w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = mix(h ^ w);
    }
    w = 0;
    memcpy(&w, p, n);
    return mix(h ^ w);
}

bool vocabulary_open(struct vocabulary *v, struct arena *a, int32_t ids, size_t entries)
{
    size_t slots = 16;
    while (slots < 2 * entries)
        slots *= 2;
    *v = (struct vocabulary){.ids = ids, .mask = slots - 1};
    if (getrandom(&v->seed, sizeof v->seed, GRND_NONBLOCK) < 0)
        v->seed = (uint64_t)(uintptr_t)v;
    v->rows = arena_alloc(a, ((size_t)ids + 1) * sizeof *v->rows);
    v->slots = arena_alloc(a, slots * sizeof *v->slots);
    if (!v->rows || !v->slots) {
        *v = (struct vocabulary){0};
        return false;
    }
    memset(v->slots, 0xFF, slots * sizeof *v->slots);
    return true;
}

/* The slot of this text: the one that holds it, or the free one where it belongs. */
static size_t slot_of(const struct vocabulary *v, const char *text, size_t len)
{
    size_t i = hash(v->seed, text, len) & v->mask;
    while (v->slots[i] >= 0) {
        const struct vocabulary_row *r = &v->rows[v->slots[i]];
        if (r->len == len && !memcmp(r->text, text, len))
            break;
        i = (i + 1) & v->mask;
    }
    return i;
}

bool vocabulary_add(struct vocabulary *v, struct arena *a, const char *text, size_t len, int32_t id)
{
    const char *copy = arena_strndup(a, text, len);
    if (!copy)
        return false;
    v->slots[slot_of(v, text, len)] = id;
    v->rows[id] = (struct vocabulary_row){copy, len};
    v->entries++;
    return true;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *text, size_t len)
{
    return v->slots ? v->slots[slot_of(v, text, len)] : -1;
}
