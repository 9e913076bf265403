/*
 * Which KV page holds which tokens after which. The key of a block of KV_PAGE tokens is a chain:
 *
 *   key(-1) = sha256(base identity, weight view, compute mode, n, the n adapters' identities)
 *   key(i)  = sha256(key(i - 1), the KV_PAGE tokens of block i)
 *
 * so equal keys mean equal keys and values, whatever was swapped or merged since; a cryptographic
 * digest because prompts come from strangers and a forged collision would show one of them the
 * other's text.
 */
#ifndef OFTD_CORE_RUN_PREFIX_H
#define OFTD_CORE_RUN_PREFIX_H

#include "core/digest.h"
#include "core/kernels.h"
#include "core/status.h"

struct adapter;

#define PREFIX_KEY DIGEST_SIZE

void prefix_root(const char *base, uint64_t view, enum compute compute,
                 struct adapter *const *adapters, int32_t n, uint8_t out[PREFIX_KEY]);
/* key of the next block; out may be key */
void prefix_next(const uint8_t key[PREFIX_KEY], const int32_t tokens[KV_PAGE],
                 uint8_t out[PREFIX_KEY]);

/* The table key -> page, for pages 0..n_pages-1. Inserting allocates nothing. */
struct prefix;
enum status prefix_open(int32_t n_pages, struct prefix **out, struct error *err);
void prefix_close(struct prefix *p);
int32_t prefix_find(const struct prefix *p, const uint8_t key[PREFIX_KEY]); /* -1: none */
/* false: another page has that key already. */
bool prefix_insert(struct prefix *p, int32_t page, const uint8_t key[PREFIX_KEY]);
void prefix_remove(struct prefix *p, int32_t page); /* nothing happens if it is not in */
bool prefix_has(const struct prefix *p, int32_t page);

#endif
