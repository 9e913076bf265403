#include "core/run/prefix.h"

#include <stdlib.h>
#include <string.h>

#include "core/adapters/adapter.h"

#define NONE   (-1)
#define ABSENT (-2)

struct entry {
    uint8_t key[PREFIX_KEY];
    int32_t next; /* in its bucket; ABSENT: the page is not in the table */
};

struct prefix {
    struct entry *entries; /* [n_pages] */
    int32_t *buckets;      /* [mask + 1] */
    uint32_t mask;
};

void prefix_root(const char *base, uint64_t view, enum compute compute,
                 struct adapter *const *adapters, int32_t n, uint8_t out[PREFIX_KEY])
{
    struct {
        char base[64];
        uint64_t view, compute, n;
        uint8_t adapters[ADAPTERS_MAX][DIGEST_SIZE];
    } v;
    memset(&v, 0, sizeof v);
    memcpy(v.base, base, strnlen(base, sizeof v.base));
    v.view = view;
    v.compute = compute;
    v.n = (uint64_t)n;
    for (int32_t i = 0; i < n; i++)
        memcpy(v.adapters[i], adapters[i]->identity, DIGEST_SIZE);
    digest_bytes(&v, sizeof v, out);
}

void prefix_next(const uint8_t key[PREFIX_KEY], const int32_t tokens[KV_PAGE],
                 uint8_t out[PREFIX_KEY])
{
    uint8_t v[PREFIX_KEY + KV_PAGE * sizeof *tokens];
    memcpy(v, key, PREFIX_KEY);
    memcpy(v + PREFIX_KEY, tokens, KV_PAGE * sizeof *tokens);
    digest_bytes(v, sizeof v, out);
}

enum status prefix_open(int32_t n_pages, struct prefix **out, struct error *err)
{
    *out = NULL;
    struct prefix *p = calloc(1, sizeof *p);
    if (!p)
        return error_memory(err, "the prefix cache");
    uint32_t buckets = 16;
    while (buckets < (uint32_t)n_pages)
        buckets *= 2;
    p->mask = buckets - 1;
    p->entries = malloc((size_t)n_pages * sizeof *p->entries);
    p->buckets = malloc(buckets * sizeof *p->buckets);
    if (!p->entries || !p->buckets) {
        prefix_close(p);
        return error_memory(err, "the prefix cache");
    }
    for (int32_t i = 0; i < n_pages; i++)
        p->entries[i].next = ABSENT;
    for (uint32_t i = 0; i < buckets; i++)
        p->buckets[i] = NONE;
    *out = p;
    return ST_OK;
}

void prefix_close(struct prefix *p)
{
    if (!p)
        return;
    free(p->entries);
    free(p->buckets);
    free(p);
}

static int32_t *bucket_of(const struct prefix *p, const uint8_t key[PREFIX_KEY])
{
    return &p->buckets[load_u32(key) & p->mask];
}

int32_t prefix_find(const struct prefix *p, const uint8_t key[PREFIX_KEY])
{
    int32_t page = *bucket_of(p, key);
    while (page != NONE && memcmp(p->entries[page].key, key, PREFIX_KEY))
        page = p->entries[page].next;
    return page;
}

bool prefix_has(const struct prefix *p, int32_t page)
{
    return p->entries[page].next != ABSENT;
}

bool prefix_insert(struct prefix *p, int32_t page, const uint8_t key[PREFIX_KEY])
{
    if (prefix_has(p, page) || prefix_find(p, key) != NONE)
        return false;
    int32_t *bucket = bucket_of(p, key);
    memcpy(p->entries[page].key, key, PREFIX_KEY);
    p->entries[page].next = *bucket;
    *bucket = page;
    return true;
}

void prefix_remove(struct prefix *p, int32_t page)
{
    if (!prefix_has(p, page))
        return;
    int32_t *at = bucket_of(p, p->entries[page].key);
    while (*at != page)
        at = &p->entries[*at].next;
    *at = p->entries[page].next;
    p->entries[page].next = ABSENT;
}
