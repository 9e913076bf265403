/*
 * Bytes that generations take, from the moment they are allocated until their last reference is
 * dropped. One ledger is shared by all generations of a registry; it lives as long as the last of
 * them, so a request may hold a generation longer than the registry exists. Thread-safe.
 */
#ifndef OFTD_CORE_ADAPTERS_LEDGER_H
#define OFTD_CORE_ADAPTERS_LEDGER_H

#include <stdint.h>

struct ledger;

struct ledger *ledger_new(void);             /* one reference; NULL: no memory */
struct ledger *ledger_ref(struct ledger *l); /* NULL is fine, here and below: nobody counts */
void ledger_unref(struct ledger *l);
void ledger_add(struct ledger *l, uint64_t bytes);
void ledger_sub(struct ledger *l, uint64_t bytes);
uint64_t ledger_bytes(const struct ledger *l);

#endif
