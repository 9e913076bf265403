/*
 * Owns slabs: 64 MB of address space on huge pages each, cut into blocks that lie side by side.
 *
 *     slab   [ block, used | free | block, used | block, used | free ............ ]
 *
 * Most arrays of a model are a few megabytes or less. By themselves they would lie on pages of 4
 * kB, whose translation costs a third of the read bandwidth of a virtual machine; in a slab they
 * share huge pages with their neighbours, in the order in which they are loaded and read.
 *
 * What makes it right: free memory is zero. Fresh memory is; what is given back is made so there
 * and then: whole huge pages that became free go back to the system, the rest is cleared. Two free
 * blocks never lie side by side, and a slab that is free as a whole is unmapped.
 *
 * A block's record is allocated apart, when the block is taken: giving it back needs no memory.
 */
#include "core/slabs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLAB_BYTES (4 * SLABS_LARGE)

struct slab;

struct block {
    struct slab *slab;
    struct block *before, *after; /* in the order of addresses */
    size_t at, size;
    bool used;
};

struct slab {
    struct slab *before, *after;
    char *base;
    struct block *first;
    size_t largest; /* no free block is larger */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slabs; /* the newest first */

static struct slab *slab_open(void)
{
    struct slab *s = calloc(1, sizeof *s);
    struct block *b = calloc(1, sizeof *b);
    // so much more that a part of it lies on whole huge pages
    char *p = s && b ? mmap(NULL, SLAB_BYTES + HUGE_PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                     : MAP_FAILED;
    if (p == MAP_FAILED) {
        free(s);
        free(b);
        return NULL;
    }
    size_t off = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (off)
        munmap(p, off);
    munmap(p + off + SLAB_BYTES, HUGE_PAGE - off);
    *b = (struct block){.slab = s, .size = SLAB_BYTES};
    *s = (struct slab){.after = slabs, .base = p + off, .first = b, .largest = SLAB_BYTES};
    madvise(s->base, SLAB_BYTES, MADV_HUGEPAGE);
    if (slabs)
        slabs->before = s;
    slabs = s;
    return s;
}

static void slab_close(struct slab *s)
{
    if (s->before)
        s->before->after = s->after;
    else
        slabs = s->after;
    if (s->after)
        s->after->before = s->before;
    munmap(s->base, SLAB_BYTES);
    free(s->first);
    free(s);
}

/* The first free block of size bytes in s; else NULL, and what its largest is. */
static struct block *find(struct slab *s, size_t size)
{
    size_t largest = 0;
    if (s->largest < size)
        return NULL;
    for (struct block *b = s->first; b; b = b->after) {
        if (b->used)
            continue;
        if (b->size >= size)
            return b;
        largest = b->size > largest ? b->size : largest;
    }
    s->largest = largest;
    return NULL;
}

static struct block *find_anywhere(size_t size)
{
    for (struct slab *s = slabs; s; s = s->after) {
        struct block *b = find(s, size);
        if (b)
            return b;
    }
    struct slab *s = slab_open();
    return s ? s->first : NULL;
}

/* Uses the first size bytes of a free block, and rest as the record of what is left of it. */
static void cut(struct block *b, size_t size, struct block *rest)
{
    b->used = true;
    if (b->size == size) {
        free(rest);
        return;
    }
    *rest = (struct block){.slab = b->slab,
                           .before = b,
                           .after = b->after,
                           .at = b->at + size,
                           .size = b->size - size};
    if (rest->after)
        rest->after->before = rest;
    b->after = rest;
    b->size = size;
}

struct block *slabs_take(size_t size, char **p)
{
    struct block *rest = calloc(1, sizeof *rest);
    if (!rest)
        return NULL;
    size = (size + 63) / 64 * 64;
    pthread_mutex_lock(&lock);
    struct block *b = find_anywhere(size);
    if (b) {
        cut(b, size, rest);
        *p = b->slab->base + b->at;
    }
    pthread_mutex_unlock(&lock);
    if (!b)
        free(rest);
    return b;
}

/* b takes in the block after it. */
static void join(struct block *b)
{
    struct block *next = b->after;
    b->size += next->size;
    b->after = next->after;
    if (b->after)
        b->after->before = b;
    free(next);
}

/* Makes [at, end) zero: the huge pages of the free block around it that are free as a whole go
 * back to the system. */
static void clear(const struct block *b, size_t at, size_t end)
{
    char *base = b->slab->base;
    size_t first = (b->at + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    size_t last = (b->at + b->size) / HUGE_PAGE * HUGE_PAGE;
    // of those, the ones that [at, end) has a part of
    first = first > at / HUGE_PAGE * HUGE_PAGE ? first : at / HUGE_PAGE * HUGE_PAGE;
    size_t most = (end + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    last = last < most ? last : most;
    if (first >= last || madvise(base + first, last - first, MADV_DONTNEED)) {
        memset(base + at, 0, end - at);
        return;
    }
    if (at < first)
        memset(base + at, 0, first - at);
    if (last < end)
        memset(base + last, 0, end - last);
}

void slabs_give(struct block *b)
{
    size_t at = b->at, end = at + b->size;
    pthread_mutex_lock(&lock);
    struct slab *s = b->slab;
    b->used = false;
    if (b->after && !b->after->used)
        join(b);
    if (b->before && !b->before->used) {
        b = b->before;
        join(b);
    }
    if (b->size == SLAB_BYTES) {
        slab_close(s);
    } else {
        clear(b, at, end);
        s->largest = b->size > s->largest ? b->size : s->largest;
    }
    pthread_mutex_unlock(&lock);
}
