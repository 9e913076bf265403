/* Owns the sum, and the memory between two generations. What is added by a generation is subtracted
 * by the same one, so the sum never wraps. */
#include "core/adapters/ledger.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/turns.h"

/* Blocks that are kept: the file and the rotations of one generation. Smaller ones are none. */
#define SPARE 2
#define LARGE ((size_t)4 << 20)
/* A block may be larger than what it serves by one part in so many. */
#define SLACK 8
/* Memory is made ready only where so many times as much is left. */
#define PLENTY 8
/* Fresh pages of a unit: a huge one. */
#define UNIT ((size_t)2 << 20)

struct block {
    char *memory;
    size_t size;
    size_t touched; /* its first bytes, whose pages are there */
};

struct ledger {
    atomic_int refs;
    _Atomic(uint64_t) bytes;
    pthread_mutex_t lock;
    struct block spare[SPARE]; /* (lock) oldest first; the empty ones before them */
    size_t expected[SPARE];    /* (lock) */
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
static struct block take_out(struct ledger *l, int at)
{
    struct block b = l->spare[at];
    for (; at > 0; at--)
        l->spare[at] = l->spare[at - 1];
    l->spare[0] = (struct block){0};
    return b;
}

/* Another spare block, the newest; the oldest goes. */
static void put_in(struct ledger *l, struct block b)
{
    pthread_mutex_lock(&l->lock);
    struct block gone = take_out(l, 0);
    for (int i = 0; i + 1 < SPARE; i++)
        l->spare[i] = l->spare[i + 1];
    l->spare[SPARE - 1] = b;
    pthread_mutex_unlock(&l->lock);
    memory_free(gone.memory);
}

static struct block fresh(size_t size)
{
    return (struct block){memory_alloc(size), size, size < LARGE ? size : 0};
}

/* The worker does not wait for the system to clear pages: it may take longer than a turn. */
static void touch_unit(struct block *b)
{
    size_t left = b->size - b->touched, n = left < UNIT ? left : UNIT;
    turns_pause();
    turns_away();
    memory_touch(b->memory + b->touched, n);
    b->touched += n;
}

void *ledger_take(struct ledger *l, size_t size)
{
    struct block b = {0};
    if (l && size >= LARGE) {
        pthread_mutex_lock(&l->lock);
        for (int i = SPARE - 1; i >= 0 && !b.memory; i--)
            if (fits(&l->spare[i], size))
                b = take_out(l, i);
        pthread_mutex_unlock(&l->lock);
    }
    if (!b.memory)
        b = fresh(size);
    while (b.memory && b.touched < b.size)
        touch_unit(&b);
    return b.memory;
}

void ledger_leave(struct ledger *l, void *p, size_t size)
{
    if (l && p && size >= LARGE)
        put_in(l, (struct block){p, size, size});
    else
        memory_free(p);
}

/* ---- ahead ---- */

void ledger_expect(struct ledger *l, size_t file, size_t rotations)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->expected[0] = file < LARGE ? 0 : file;
    l->expected[1] = rotations < LARGE ? 0 : rotations;
    pthread_mutex_unlock(&l->lock);
}

/* The size of an expected block that no spare one serves; 0: none. (lock) */
static size_t missing(const struct ledger *l)
{
    bool used[SPARE] = {false};
    for (int e = 0; e < SPARE; e++) {
        int i = 0;
        while (i < SPARE && (used[i] || !fits(&l->spare[i], l->expected[e])))
            i++;
        if (i < SPARE)
            used[i] = true;
        else if (l->expected[e])
            return l->expected[e];
    }
    return 0;
}

/* A spare block that is to be touched, out of the others; empty: none. (lock) */
static struct block untouched(struct ledger *l)
{
    for (int i = 0; i < SPARE; i++)
        if (l->spare[i].touched < l->spare[i].size)
            return take_out(l, i);
    return (struct block){0};
}

bool ledger_prepare(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    struct block b = untouched(l);
    size_t size = b.memory ? 0 : missing(l);
    pthread_mutex_unlock(&l->lock);
    if (size && memory_available() / PLENTY >= size)
        b = fresh(size);
    if (!b.memory)
        return false;
    touch_unit(&b);
    put_in(l, b);
    return true;
}
