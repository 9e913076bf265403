/*
 * The table behind the registry: which generation each name has now, and which generations were
 * derived from them. Everything here is called under the registry's lock. A change is made in two
 * steps: slots are marked as leaving (and may be asked to stay), then swept into a trash whose
 * references the caller drops after the lock.
 */
#ifndef OFTD_CORE_ADAPTERS_SLOTS_H
#define OFTD_CORE_ADAPTERS_SLOTS_H

#include "core/adapters/registry.h"

struct slot {
    char *name; /* NULL: a derived generation */
    struct adapter *a;
    bool pinned;
    enum adapter_state mark; /* without a generation */
    char *error;
    int64_t since; /* ms; when it was loaded */
    bool leaving;  /* within one commit */
};

struct slots {
    struct slot *v;
    size_t n, cap;
};

struct table {
    struct slots named;    /* sorted by name */
    struct slots derived;  /* sorted by generation, strength and mode */
    uint64_t memory;       /* the budget; 0: none */
    struct ledger *ledger; /* what all generations take, in the table or not; by reference */
};

struct trash {
    struct adapter **v;
    size_t n;
};

int64_t slots_now(void); /* CLOCK_MONOTONIC, ms */
/* Frees everything, dropping the references. */
void slots_clear(struct table *t);
/* Room for `more` further slots. */
bool slots_reserve(struct slots *l, size_t more);
void slots_remove(struct slots *l, size_t i);

/* The slot of name, with a generation or a mark; NULL: none. */
struct slot *slots_find(struct table *t, const char *name);
/* The same with a generation. */
struct slot *slots_loaded(struct table *t, const char *name);
/* The same with a generation or a load that failed: it can be taken out. */
struct slot *slots_removable(struct table *t, const char *name);
/* What was derived of a's generation, or NULL. */
struct adapter *slots_derived(struct table *t, const struct adapter *a, int32_t strength,
                              enum compute mode);
/* Keeps a reference of its own to d, in room that was reserved. */
void slots_keep_derived(struct table *t, struct adapter *d);
/* Bytes of the rotations of all that was derived of a's generation. */
uint64_t slots_derived_bytes(const struct table *t, const struct adapter *a);
/* The slot of name, made if need be in room that was reserved; name is consumed. */
struct slot *slots_insert(struct table *t, char *name);

size_t slots_leaving(const struct table *t);
/* What was derived from a leaving generation leaves too. */
void slots_leave_derived(struct table *t);
/* What is to come takes its bytes in the ledger already. Lets the least recently used generations
 * leave that are neither pinned nor known to anybody else, until what stays fits the budget. What
 * leaves but is in use stays in memory and counts. CAPACITY_EXCEEDED. */
enum status slots_make_room(struct table *t, struct error *err);
/* Nobody leaves. */
void slots_stay(struct table *t);

/* Room for everything that may leave; false when memory runs out. */
bool slots_trash(const struct table *t, struct trash *trash);
/* Takes out what leaves. */
void slots_sweep(struct table *t, struct trash *trash);
/* (without the lock) Drops the references and frees the trash. */
void slots_empty(struct trash *trash);

#endif
