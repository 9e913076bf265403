#include "core/run/kvcache.h"

#include <stdlib.h>

#include "core/memory.h"

struct page {
    int32_t refs;
    int32_t prev, next; /* in the free ring or the cached ring */
};

/* Two rings through the pages' links; the heads are entries n_pages and n_pages + 1. */
struct kvcache {
    struct kv kv;
    struct page *pages;
    struct prefix *prefix;
    int32_t n, used, free, cached;
};

static void link_before(struct kvcache *c, int32_t page, int32_t at)
{
    struct page *p = c->pages;
    p[page].next = at;
    p[page].prev = p[at].prev;
    p[p[at].prev].next = page;
    p[at].prev = page;
}

static void unlink_page(struct kvcache *c, int32_t page)
{
    struct page *p = c->pages;
    p[p[page].prev].next = p[page].next;
    p[p[page].next].prev = p[page].prev;
}

enum status kvcache_open(int32_t layers, int32_t kv_heads, int32_t head_dim, int64_t n_pages,
                         struct kvcache **out, struct error *err)
{
    *out = NULL;
    int64_t dims[] = {layers, n_pages, kv_heads, KV_PAGE, head_dim, 2 * (int64_t)sizeof(float)};
    int64_t bytes;
    if (n_pages < 1 || n_pages > INT32_MAX - 2 || !size_product(dims, 6, &bytes) || bytes <= 0)
        return error_set(err, ST_INVALID_VALUE, "a KV cache of %lld pages is not possible",
                         (long long)n_pages);
    struct kvcache *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err, "the KV cache");
    c->n = (int32_t)n_pages;
    c->kv = (struct kv){.dtype = DT_F32,
                        .layers = layers,
                        .kv_heads = kv_heads,
                        .head_dim = head_dim,
                        .n_pages = n_pages};
    c->pages = calloc((size_t)n_pages + 2, sizeof *c->pages);
    c->kv.k = memory_alloc((size_t)bytes / 2);
    c->kv.v = memory_alloc((size_t)bytes / 2);
    if (!c->pages || !c->kv.k || !c->kv.v || prefix_open(c->n, &c->prefix, NULL) != ST_OK) {
        kvcache_close(c);
        return error_set(err, ST_OUT_OF_MEMORY,
                         "not enough memory for a KV cache of %lld pages (%lld bytes)",
                         (long long)n_pages, (long long)bytes);
    }
    c->free = c->n;
    c->cached = c->n + 1;
    c->pages[c->free].prev = c->pages[c->free].next = c->free;
    c->pages[c->cached].prev = c->pages[c->cached].next = c->cached;
    for (int32_t i = 0; i < c->n; i++)
        link_before(c, i, c->free);
    *out = c;
    return ST_OK;
}

void kvcache_close(struct kvcache *c)
{
    if (!c)
        return;
    memory_free(c->kv.k);
    memory_free(c->kv.v);
    prefix_close(c->prefix);
    free(c->pages);
    free(c);
}

const struct kv *kvcache_kv(const struct kvcache *c)
{
    return &c->kv;
}

int32_t kvcache_pages(const struct kvcache *c)
{
    return c->n;
}

int32_t kvcache_used(const struct kvcache *c)
{
    return c->used;
}

int32_t kvcache_available(const struct kvcache *c)
{
    return c->n - c->used;
}

int32_t kvcache_take(struct kvcache *c)
{
    int32_t page = c->pages[c->free].next;
    if (page == c->free) {
        page = c->pages[c->cached].next;
        if (page == c->cached)
            return -1;
        prefix_remove(c->prefix, page);
    }
    unlink_page(c, page);
    c->pages[page].refs = 1;
    c->used++;
    return page;
}

int32_t kvcache_find(struct kvcache *c, const uint8_t key[PREFIX_KEY])
{
    int32_t page = prefix_find(c->prefix, key);
    if (page < 0)
        return -1;
    if (c->pages[page].refs++ == 0) {
        unlink_page(c, page);
        c->used++;
    }
    return page;
}

void kvcache_know(struct kvcache *c, int32_t page, const uint8_t key[PREFIX_KEY])
{
    prefix_insert(c->prefix, page, key);
}

void kvcache_drop(struct kvcache *c, int32_t page)
{
    if (--c->pages[page].refs > 0)
        return;
    c->used--;
    /* the cached ring is in order of dropping; a free page is taken again first, while it is warm
     */
    link_before(c, page, prefix_has(c->prefix, page) ? c->cached : c->pages[c->free].next);
}
