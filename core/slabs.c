/*
 * Owns slabs: 64 MB of address space on huge pages each, cut into blocks that lie side by side.
 *
 *     slab   [ block | free | block | block | free ............ ]
 *
 * Most arrays of a model are a few megabytes or less. By themselves they would lie on pages of 4
 * kB, whose translation costs a third of the read bandwidth of a virtual machine; in a slab they
 * share huge pages with their neighbours, in the order in which they are loaded and read.
 *
 * What makes it right: free memory is zero. Fresh memory is; what is given back is made so there
 * and then: whole huge pages that became free go back to the system, the rest is cleared. A slab
 * that is free as a whole is unmapped.
 *
 * Only blocks in use have a record, apart from them, in the order of addresses; what is free is
 * what lies between two. So giving back needs no memory, and an array is one allocation more,
 * wherever it lies.
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
};

struct slab {
    struct slab *before, *after;
    char *base;
    struct block *first; /* NULL: there is none yet */
    size_t largest;      /* nothing that is free is larger */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slabs; /* the newest first */

static struct slab *slab_open(void)
{
    struct slab *s = calloc(1, sizeof *s);
    // so much more that a part of it lies on whole huge pages
    char *p = s ? mmap(NULL, SLAB_BYTES + HUGE_PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                : MAP_FAILED;
    if (p == MAP_FAILED) {
        free(s);
        return NULL;
    }
    size_t off = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (off)
        munmap(p, off);
    munmap(p + off + SLAB_BYTES, HUGE_PAGE - off);
    *s = (struct slab){.after = slabs, .base = p + off, .largest = SLAB_BYTES};
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
    free(s);
}

/* What is free between two blocks: from the end of the one, or of none, to the begin of the other.
 */
static size_t end_of(const struct block *before)
{
    return before ? before->at + before->size : 0;
}

static size_t begin_of(const struct block *after)
{
    return after ? after->at : SLAB_BYTES;
}

/* Puts b at the first place of s that is large enough; false, and what the largest is: none is. */
static bool place(struct slab *s, struct block *b)
{
    size_t largest = 0;
    if (s->largest < b->size)
        return false;
    struct block *before = NULL, *after = s->first;
    for (;; before = after, after = after->after) {
        size_t size = begin_of(after) - end_of(before);
        largest = size > largest ? size : largest;
        if (size >= b->size)
            break;
        if (!after) {
            s->largest = largest;
            return false;
        }
    }
    b->slab = s;
    b->at = end_of(before);
    b->before = before;
    b->after = after;
    *(before ? &before->after : &s->first) = b;
    if (after)
        after->before = b;
    return true;
}

static bool place_anywhere(struct block *b)
{
    for (struct slab *s = slabs; s; s = s->after)
        if (place(s, b))
            return true;
    struct slab *s = slab_open();
    return s && place(s, b);
}

struct block *slabs_take(size_t size, char **p)
{
    struct block *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->size = (size + 63) / 64 * 64;
    pthread_mutex_lock(&lock);
    bool placed = place_anywhere(b);
    pthread_mutex_unlock(&lock);
    if (!placed) {
        free(b);
        return NULL;
    }
    *p = b->slab->base + b->at;
    return b;
}

/* Makes b's bytes zero: the huge pages that are free as a whole with it go back to the system. */
static void clear(const struct block *b)
{
    char *base = b->slab->base;
    size_t at = b->at, end = end_of(b);
    size_t first = (end_of(b->before) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    size_t last = begin_of(b->after) / HUGE_PAGE * HUGE_PAGE;
    // of those, the ones that b has a part of
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
    pthread_mutex_lock(&lock);
    struct slab *s = b->slab;
    size_t size = begin_of(b->after) - end_of(b->before);
    if (b->before || b->after)
        clear(b);
    *(b->before ? &b->before->after : &s->first) = b->after;
    if (b->after)
        b->after->before = b->before;
    s->largest = size > s->largest ? size : s->largest;
    if (!s->first)
        slab_close(s);
    pthread_mutex_unlock(&lock);
    free(b);
}
