/*
 * Owns keys: which values can be one, when two are the same, where they lie. A table of 2^k slots
 * at most half full, probed linearly; the hash is keyed with an address, so that nobody who writes
 * a request can choose keys that collide.
 */
#include "core/template/dict.h"

#include <string.h>

#define SMALL 8

struct dict *dict_new(struct heap *h, size_t n)
{
    struct dict *d = value_alloc(h, sizeof *d);
    if (!d || (n && !(d->v = value_array(h, n, sizeof *d->v))))
        return NULL;
    d->cap = n;
    return d;
}

bool dict_hashable(struct value key)
{
    if (key.kind == VALUE_LIST || key.kind == VALUE_DICT || key.kind == VALUE_KEYS ||
        key.kind == VALUE_ITEMS)
        return false;
    if (key.kind == VALUE_TUPLE)
        for (size_t i = 0; i < key.list->n; i++)
            // a tuple in a tuple is no key here: it bounds how deep this goes
            if (key.list->v[i].kind == VALUE_TUPLE || !dict_hashable(key.list->v[i]))
                return false;
    return true;
}

static bool number(struct value v, double *f, int64_t *i)
{
    *i = v.kind == VALUE_BOOL ? v.flag : v.kind == VALUE_INT ? v.i : 0;
    *f = v.kind == VALUE_FLOAT ? v.f : (double)*i;
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT || v.kind == VALUE_FLOAT;
}

bool dict_same_key(struct value a, struct value b)
{
    double f, g;
    int64_t i, j;
    if (a.kind == VALUE_TEXT && b.kind == VALUE_TEXT)
        return value_same_text(a.text, b.text);
    if (number(a, &f, &i) && number(b, &g, &j))
        return a.kind != VALUE_FLOAT && b.kind != VALUE_FLOAT ? i == j : f == g;
    if (a.kind != b.kind)
        return false;
    if (a.kind == VALUE_NONE || a.kind == VALUE_UNDEFINED)
        return true;
    if (a.kind != VALUE_TUPLE)
        return a.list == b.list; // the same thing
    bool same = a.list->n == b.list->n;
    for (size_t k = 0; same && k < a.list->n; k++)
        same = a.list->v[k].kind != VALUE_TUPLE && dict_same_key(a.list->v[k], b.list->v[k]);
    return same;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static uint64_t hash_text(uint64_t h, const char *v, size_t len)
{
    for (; len >= 8; v += 8, len -= 8) {
        uint64_t w;
        memcpy(&w, v, 8);
        h = mix(h ^ w) * 0x9e3779b97f4a7c15u;
    }
    uint64_t w = len;
    memcpy((char *)&w + 1, v, len < 7 ? len : 7);
    return mix(h ^ w);
}

static uint64_t hash(uint64_t seed, struct value v)
{
    double f;
    int64_t i;
    if (v.kind == VALUE_TEXT)
        return hash_text(seed, v.text->v, v.text->len);
    if (number(v, &f, &i)) {
        uint64_t bits;
        f += 0.0; // -0.0 is 0; an integer counts as its nearest float
        memcpy(&bits, &f, sizeof bits);
        return mix(seed ^ bits);
    }
    if (v.kind == VALUE_TUPLE) {
        for (size_t k = 0; k < v.list->n; k++)
            seed = mix(hash(seed, v.list->v[k]) + k);
        return seed;
    }
    return mix(seed ^ v.kind);
}

/* The slot of the key: its entry's, or the free one where it belongs. */
static uint32_t *slot(const struct dict *d, struct value key, uint32_t h)
{
    for (size_t i = h & d->mask;; i = (i + 1) & d->mask) {
        uint32_t at = d->index[i];
        if (!at || (d->v[at - 1].hash == h && dict_same_key(d->v[at - 1].key, key)))
            return &d->index[i];
    }
}

static uint32_t hash_of(const struct dict *d, struct value key)
{
    return (uint32_t)hash((uint64_t)(uintptr_t)d, key);
}

struct entry *dict_find(const struct dict *d, struct value key)
{
    if (d->index) {
        uint32_t at = *slot(d, key, hash_of(d, key));
        return at ? &d->v[at - 1] : NULL;
    }
    for (size_t i = 0; i < d->n; i++)
        if (dict_same_key(d->v[i].key, key))
            return &d->v[i];
    return NULL;
}

struct entry *dict_find_text(const struct dict *d, const struct text *key)
{
    if (d->index)
        return dict_find(d, value_of_text(key));
    for (size_t i = 0; i < d->n; i++)
        if (d->v[i].key.kind == VALUE_TEXT && value_same_text(d->v[i].key.text, key))
            return &d->v[i];
    return NULL;
}

/* Room for one more entry, and slots for all. */
static bool grow(struct heap *h, struct dict *d)
{
    struct entry *v = value_grow(h, d->v, d->n, &d->cap, sizeof *v);
    if (!v || d->cap > UINT32_MAX / 4)
        return false;
    d->v = v;
    if (d->n < SMALL || (d->index && 2 * (d->n + 1) <= d->mask + 1))
        return true;
    size_t size = 32;
    while (size < 2 * d->cap)
        size *= 2;
    d->index = value_array(h, size, sizeof *d->index);
    if (!d->index)
        return false;
    d->mask = size - 1;
    for (size_t i = 0; i < d->n; i++) {
        d->v[i].hash = hash_of(d, d->v[i].key);
        size_t at = d->v[i].hash & d->mask;
        while (d->index[at])
            at = (at + 1) & d->mask;
        d->index[at] = (uint32_t)i + 1;
    }
    return true;
}

bool dict_append(struct heap *h, struct dict *d, struct value key, struct value v)
{
    if (!grow(h, d))
        return false;
    d->v[d->n] = (struct entry){.key = key, .v = v};
    if (d->index) {
        d->v[d->n].hash = hash_of(d, key);
        *slot(d, key, d->v[d->n].hash) = (uint32_t)d->n + 1;
    }
    d->n++;
    return true;
}

bool dict_set(struct heap *h, struct dict *d, struct value key, struct value v)
{
    struct entry *e = dict_find(d, key);
    if (!e)
        return dict_append(h, d, key, v);
    e->v = v;
    return true;
}
