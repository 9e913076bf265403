/*
 * Bytes that generations take, from the moment they are allocated until their last reference is
 * dropped. One ledger is shared by all generations of a registry; it lives as long as the last of
 * them, so a request may hold a generation longer than the registry exists. Thread-safe.
 *
 * The memory of one generation is kept ahead for the next, which mostly has the same size: of the
 * last one that left or, where none did, pages that were cleared while nobody waited: that can take
 * longer than building the rotations. It is not counted.
 */
#ifndef OFTD_CORE_ADAPTERS_LEDGER_H
#define OFTD_CORE_ADAPTERS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ledger;

struct ledger *ledger_new(void);             /* one reference; NULL: no memory */
struct ledger *ledger_ref(struct ledger *l); /* NULL is fine, here and below: nobody counts */
void ledger_unref(struct ledger *l);
void ledger_add(struct ledger *l, uint64_t bytes);
void ledger_sub(struct ledger *l, uint64_t bytes);
uint64_t ledger_bytes(const struct ledger *l);

/* size bytes (size > 0) of any content, aligned as memory_alloc does; NULL: no memory. Fresh pages
 * come in units of the background (turns.h). */
void *ledger_take(struct ledger *l, size_t size);
/* Gives back what ledger_take gave, of the size that was asked for; p NULL is fine. */
void ledger_leave(struct ledger *l, void *p, size_t size);

/* What the next generation is expected to take, file and rotations; 0: nothing. */
void ledger_expect(struct ledger *l, size_t file, size_t rotations);
/* (background) A unit of work towards having that ready, unless memory is short; false: there is
 * none left. */
bool ledger_prepare(struct ledger *l);

#endif
