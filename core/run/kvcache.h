/*
 * The pages of keys and values: who holds which. A page is
 *
 *   free    held by nobody, holding nothing
 *   held    by one or more sequences (a reference each); written only by the one that took it, and
 *           only until it is full; shared only when full, so nothing is ever copied on write
 *   cached  held by nobody but still known by its tokens (prefix.h): found again, or evicted, the
 *           least recently dropped first, when no free page is left
 *
 * Belongs to the worker; nothing here locks.
 */
#ifndef OFTD_CORE_RUN_KVCACHE_H
#define OFTD_CORE_RUN_KVCACHE_H

#include "core/run/prefix.h"

struct kvcache;

enum status kvcache_open(int32_t layers, int32_t kv_heads, int32_t head_dim, int64_t n_pages,
                         struct kvcache **out, struct error *err);
void kvcache_close(struct kvcache *c);
const struct kv *kvcache_kv(const struct kvcache *c);

int32_t kvcache_pages(const struct kvcache *c);
int32_t kvcache_used(const struct kvcache *c);      /* held */
int32_t kvcache_available(const struct kvcache *c); /* free or cached */

/* A page of one's own, or -1 when all are held. */
int32_t kvcache_take(struct kvcache *c);
/* The page that holds the block with this key, with a reference, or -1. */
int32_t kvcache_find(struct kvcache *c, const uint8_t key[PREFIX_KEY]);
/* A full page becomes known by its key. */
void kvcache_know(struct kvcache *c, int32_t page, const uint8_t key[PREFIX_KEY]);
void kvcache_drop(struct kvcache *c, int32_t page);

#endif
