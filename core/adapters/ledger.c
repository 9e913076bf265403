/* Owns the sum. What is added by a generation is subtracted by the same one, so it never wraps. */
#include "core/adapters/ledger.h"

#include <stdatomic.h>
#include <stdlib.h>

struct ledger {
    atomic_int refs;
    _Atomic(uint64_t) bytes;
};

struct ledger *ledger_new(void)
{
    struct ledger *l = calloc(1, sizeof *l);
    if (l)
        atomic_init(&l->refs, 1);
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
    if (l && atomic_fetch_sub(&l->refs, 1) == 1)
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
