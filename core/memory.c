/* Owns large aligned arrays and the question how much memory is left. Not for small or short-lived
 * things. */
#include "core/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/slabs.h"

#define SLABS_LEAST ((size_t)16 << 10)

/* A sanitizer should see each array by itself. */
#ifndef __has_feature
#define __has_feature(f) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define BY_ITSELF 1
#else
#define BY_ITSELF 0
#endif

/* What stands before an array. */
struct header {
    _Alignas(64) char *given; /* by calloc, or */
    struct block *block;
};

/* With room for its header. */
static void *alloc_in_slab(size_t size)
{
    char *p = NULL;
    struct block *block = slabs_take(size + sizeof(struct header), &p);
    if (!block)
        return NULL;
    struct header *h = (void *)p;
    h->block = block;
    return h + 1;
}

static void *alloc_by_itself(size_t size, bool huge)
{
    if (!size || size > SIZE_MAX / 2)
        return NULL;
    size_t align = huge && size >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
    size_t whole = (size + 63) / 64 * 64;
    // calloc knows which pages are fresh from the system and leaves them untouched: KV pages that
    // nobody uses take no memory.
    char *given = calloc(1, whole + align + sizeof(struct header));
    if (!given)
        return NULL;
    char *p = given + sizeof(struct header);
    p += (align - (uintptr_t)p % align) % align;
    struct header *h = (void *)(p - sizeof *h);
    h->given = given;
    if (align == HUGE_PAGE)
        madvise(p, whole / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return p;
}

void *memory_alloc(size_t size)
{
    if (!BY_ITSELF && size >= SLABS_LEAST && size < SLABS_LARGE - sizeof(struct header))
        return alloc_in_slab(size);
    return alloc_by_itself(size, true);
}

void *memory_reserve(size_t size)
{
    return alloc_by_itself(size, false);
}

void memory_touch(void *p, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    size_t within = (uintptr_t)p % (size_t)sysconf(_SC_PAGESIZE);
    madvise((char *)p - within, size + within, MADV_POPULATE_WRITE);
#else
    (void)p;
    (void)size;
#endif
}

void memory_free(void *p)
{
    if (!p)
        return;
    const struct header *h = (const struct header *)p - 1;
    if (h->block)
        slabs_give(h->block);
    else
        free(h->given);
}

/* The first number of a file, UINT64_MAX if there is none ("max"). */
static uint64_t read_number(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return UINT64_MAX;
    char line[256];
    unsigned long long v = 0;
    uint64_t out = UINT64_MAX;
    while (out == UINT64_MAX && fgets(line, sizeof line, f)) {
        if (key && strncmp(line, key, strlen(key)))
            continue;
        if (sscanf(line + (key ? strlen(key) : 0), "%llu", &v) == 1)
            out = v;
    }
    fclose(f);
    return out;
}

static uint64_t room(uint64_t limit, uint64_t used)
{
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    return used < limit ? limit - used : 0;
}

uint64_t memory_available(void)
{
    uint64_t kib = read_number("/proc/meminfo", "MemAvailable:");
    uint64_t best = kib == UINT64_MAX ? UINT64_MAX : kib * 1024;
    uint64_t v2 = room(read_number("/sys/fs/cgroup/memory.max", NULL),
                       read_number("/sys/fs/cgroup/memory.current", NULL));
    uint64_t v1 = room(read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", NULL),
                       read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes", NULL));
    best = v2 < best ? v2 : best;
    return v1 < best ? v1 : best;
}
