/* Owns the sum, and the memory between two generations. What is added by a generation is subtracted
 * by the same one, so the sum never wraps. */
#include "core/adapters/ledger.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/turns.h"

/* Blocks that are kept: the file and the rotations of one generation. Smaller ones are none. */
#define SPARE 2
#define LARGE ((size_t)4 << 20)
/* A block may be larger than what it serves by one part in so many. */
#define SLACK 8
/* Fresh pages of a unit: a huge one. */
#define UNIT ((size_t)2 << 20)

struct block {
    void *memory;
    size_t size;
};

struct ledger {
    atomic_int refs;
    _Atomic(uint64_t) bytes;
    pthread_mutex_t lock;
    struct block spare[SPARE]; /* (lock) oldest first; the empty ones before them */
};

struct ledger *ledger_new(void)
{
    struct ledger *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    atomic_init(&l->refs, 1);
    pthread_mutex_init(&l->lock, NULL); // cannot fail with default attributes
    return l;
}

struct ledger *ledger_ref(struct ledger *l)
{
    if (l)
        atomic_fetch_add(&l->refs, 1);
    return l;
}

void ledger_unref(struct ledger *l)
{
    if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    for (int i = 0; i < SPARE; i++)
        memory_free(l->spare[i].memory);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void ledger_add(struct ledger *l, uint64_t bytes)
{
    if (l)
        atomic_fetch_add(&l->bytes, bytes);
}

void ledger_sub(struct ledger *l, uint64_t bytes)
{
    if (l)
        atomic_fetch_sub(&l->bytes, bytes);
}

uint64_t ledger_bytes(const struct ledger *l)
{
    return l ? atomic_load(&((struct ledger *)l)->bytes) : 0;
}

/* ---- memory ---- */

static bool fits(const struct block *b, size_t size)
{
    return b->memory && b->size >= size && b->size - size <= size / SLACK;
}

/* Takes block `at` out of l's spare ones. (lock) */
static void *take_out(struct ledger *l, int at)
{
    void *p = l->spare[at].memory;
    for (; at > 0; at--)
        l->spare[at] = l->spare[at - 1];
    l->spare[0] = (struct block){0};
    return p;
}

/* The worker does not wait for the system to clear pages: it may take longer than a turn. */
static void *fresh(size_t size)
{
    char *p = memory_alloc(size);
    for (size_t at = 0; p && size >= LARGE && at < size; at += UNIT) {
        turns_pause();
        turns_away();
        memory_touch(p + at, size - at < UNIT ? size - at : UNIT);
    }
    return p;
}

void *ledger_take(struct ledger *l, size_t size)
{
    void *p = NULL;
    if (l && size >= LARGE) {
        pthread_mutex_lock(&l->lock);
        for (int i = SPARE - 1; i >= 0 && !p; i--)
            if (fits(&l->spare[i], size))
                p = take_out(l, i);
        pthread_mutex_unlock(&l->lock);
    }
    return p ? p : fresh(size);
}

void ledger_leave(struct ledger *l, void *p, size_t size)
{
    void *gone = p;
    if (l && p && size >= LARGE) {
        pthread_mutex_lock(&l->lock);
        gone = take_out(l, 0);
        for (int i = 0; i + 1 < SPARE; i++)
            l->spare[i] = l->spare[i + 1];
        l->spare[SPARE - 1] = (struct block){p, size};
        pthread_mutex_unlock(&l->lock);
    }
    memory_free(gone);
}
