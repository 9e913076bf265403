#include "core/run/kvcache.h"

#include <stdlib.h>

#include "core/place.h"

/* Frames of a ring that are looked at before all are. */
#define TRIES 64

struct page { /* a frame, the first of a page or free */
    int32_t refs;
    int32_t frames;     /* of the page that begins here; 0: it is free or inside of one */
    int32_t prev, next; /* in the free ring or the cached ring */
};

/* Two rings through the frames' links; the heads are entries n and n + 1. */
struct kvcache {
    struct kv kv[2]; /* by enum compute; one memory */
    const struct kernels *kernels;
    int32_t per_page[2];
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

size_t kvcache_frame_bytes(const struct kv_shape *shape, enum dtype fast)
{
    return 2 * (size_t)shape->layers * (size_t)shape->kv_heads *
           kv_head_bytes(fast, shape->head_dim);
}

static struct kv kv_of(const struct kvcache *c, const struct kv_shape *shape, enum dtype dtype,
                       size_t frame)
{
    return (struct kv){.dtype = dtype,
                       .layers = shape->layers,
                       .kv_heads = shape->kv_heads,
                       .head_dim = shape->head_dim,
                       .n_pages = c->n,
                       .page_bytes = frame};
}

enum status kvcache_open(const struct kernels *kernels, const struct kv_shape *shape,
                         enum dtype fast, int64_t n_frames, struct kvcache **out, struct error *err)
{
    *out = NULL;
    int64_t dims[] = {shape->layers, n_frames,        shape->kv_heads,
                      KV_PAGE,       shape->head_dim, 4 * (int64_t)sizeof(float)};
    int64_t most;
    if (n_frames < 1 || n_frames > INT32_MAX - 2 || !size_product(dims, 6, &most) || most <= 0)
        return error_set(err, ST_INVALID_VALUE, "a KV cache of %lld pages is not possible",
                         (long long)n_frames);
    struct kvcache *c = calloc(1, sizeof *c);
    if (!c)
        return error_memory(err, "the KV cache");
    size_t heads = (size_t)shape->kv_heads, frame = heads * kv_head_bytes(fast, shape->head_dim);
    size_t whole = heads * kv_head_bytes(DT_F32, shape->head_dim);
    c->per_page[COMPUTE_FAST] = 1;
    c->per_page[COMPUTE_EXACT] = (int32_t)((whole + frame - 1) / frame);
    /* no page may begin at a frame behind which there are too few */
    c->n = (int32_t)n_frames - (int32_t)n_frames % c->per_page[COMPUTE_EXACT];
    c->kv[COMPUTE_EXACT] = kv_of(c, shape, DT_F32, frame);
    c->kv[COMPUTE_FAST] = kv_of(c, shape, fast, frame);
    size_t bytes = (size_t)shape->layers * (size_t)c->n * frame;
    c->pages = calloc((size_t)c->n + 2, sizeof *c->pages);
    c->kernels = kernels;
    void *k = place_reserve(kernels, bytes), *v = place_reserve(kernels, bytes);
    for (int mode = 0; mode < 2; mode++) {
        c->kv[mode].k = k;
        c->kv[mode].v = v;
    }
    if (!c->n || !c->pages || !k || !v || prefix_open(c->n, &c->prefix, NULL) != ST_OK) {
        kvcache_close(c);
        return error_set(err, ST_OUT_OF_MEMORY,
                         "not enough memory for a KV cache of %lld pages (twice %zu bytes)",
                         (long long)n_frames, bytes);
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
    place_free(c->kernels, c->kv[0].k);
    place_free(c->kernels, c->kv[0].v);
    prefix_close(c->prefix);
    free(c->pages);
    free(c);
}

const struct kv *kvcache_kv(const struct kvcache *c, enum compute mode)
{
    return &c->kv[mode];
}

int32_t kvcache_per_page(const struct kvcache *c, enum compute mode)
{
    return c->per_page[mode];
}

int32_t kvcache_frames(const struct kvcache *c)
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

/* Its frames, none of them the free ring's, to the ring's front: taken again first, while warm. */
static void give_back(struct kvcache *c, int32_t page)
{
    int32_t frames = c->pages[page].frames;
    c->pages[page].frames = 0;
    for (int32_t i = frames - 1; i >= 0; i--)
        link_before(c, page + i, c->pages[c->free].next);
}

/* A cached page is forgotten. */
static void evict(struct kvcache *c, int32_t page)
{
    prefix_remove(c->prefix, page);
    unlink_page(c, page);
    give_back(c, page);
}

/* Is [frame, frame + n) held by nobody? *cached: how many pages in it are known. */
static bool nobodys(const struct kvcache *c, int32_t frame, int32_t n, int32_t *cached)
{
    *cached = 0;
    for (int32_t i = frame; i < frame + n; i++) {
        if (c->pages[i].refs > 0)
            return false;
        *cached += c->pages[i].frames > 0;
    }
    return true;
}

/* The first frame of n neighbours that nobody holds, -1: there are none. Pages of n frames begin at
 * multiples of n, so a page lies in one group of neighbours or fills it. Those that were freed last
 * come first, then those that were dropped longest ago, then the group that costs least. */
static int32_t neighbours(const struct kvcache *c, int32_t n)
{
    int32_t best = -1, least = n + 1, cached, tries = 0;
    for (int32_t i = c->pages[c->free].next; i != c->free && tries < TRIES; i = c->pages[i].next) {
        tries++;
        if (nobodys(c, i - i % n, n, &cached) && !cached)
            return i - i % n;
    }
    tries = 0;
    for (int32_t i = c->pages[c->cached].next; i != c->cached && tries < TRIES;
         i = c->pages[i].next) {
        tries++;
        if (nobodys(c, i - i % n, n, &cached))
            return i - i % n;
    }
    for (int32_t i = 0; i < c->n && least > 0; i += n)
        if (nobodys(c, i, n, &cached) && cached < least) {
            best = i;
            least = cached;
        }
    return best;
}

int32_t kvcache_take(struct kvcache *c, enum compute mode)
{
    int32_t frames = c->per_page[mode], page;
    if (frames > 1) {
        page = neighbours(c, frames);
        if (page < 0)
            return -1;
        for (int32_t i = page; i < page + frames; i++)
            if (c->pages[i].frames)
                evict(c, i);
    } else {
        if (c->pages[c->free].next == c->free && c->pages[c->cached].next != c->cached)
            evict(c, c->pages[c->cached].next);
        page = c->pages[c->free].next;
        if (page == c->free)
            return -1;
    }
    for (int32_t i = page; i < page + frames; i++)
        unlink_page(c, i);
    c->pages[page].refs = 1;
    c->pages[page].frames = frames;
    c->used += frames;
    return page;
}

int32_t kvcache_find(struct kvcache *c, const uint8_t key[PREFIX_KEY])
{
    int32_t page = prefix_find(c->prefix, key);
    if (page < 0)
        return -1;
    if (c->pages[page].refs++ == 0) {
        unlink_page(c, page);
        c->used += c->pages[page].frames;
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
    c->used -= c->pages[page].frames;
    if (prefix_has(c->prefix, page))
        link_before(c, page, c->cached); /* in order of dropping */
    else
        give_back(c, page);
}
