/*
 * The pages of keys and values: who holds which. One memory serves both modes: a page of fast mode
 * is a frame, in the type that it keeps keys and values in; a page of exact mode, which keeps
 * floats, is as many neighbouring frames as it needs, beginning at a multiple of their number. A
 * page is known by its first frame. It is
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

struct kv_shape {
    int32_t layers, kv_heads, head_dim;
};

/* Bytes of a frame over all layers; fast: F32, F16 or I8. */
size_t kvcache_frame_bytes(const struct kv_shape *shape, enum dtype fast);
/* Where kernels compute (NULL: in the host's memory). n_frames is rounded down to whole pages of
 * exact mode. INVALID_VALUE, OUT_OF_MEMORY. */
enum status kvcache_open(const struct kernels *kernels, const struct kv_shape *shape,
                         enum dtype fast, int64_t n_frames, struct kvcache **out,
                         struct error *err);
void kvcache_close(struct kvcache *c);
const struct kv *kvcache_kv(const struct kvcache *c, enum compute mode);
int32_t kvcache_per_page(const struct kvcache *c, enum compute mode); /* frames of a page */

int32_t kvcache_frames(const struct kvcache *c);
int32_t kvcache_used(const struct kvcache *c);      /* frames held */
int32_t kvcache_available(const struct kvcache *c); /* frames free or cached */

/* A page of one's own, or -1 when there is none (of exact mode also when the frames that nobody
 * holds are no neighbours). */
int32_t kvcache_take(struct kvcache *c, enum compute mode);
/* The page that holds the block with this key, with a reference, or -1. */
int32_t kvcache_find(struct kvcache *c, const uint8_t key[PREFIX_KEY]);
/* A full page becomes known by its key. */
void kvcache_know(struct kvcache *c, int32_t page, const uint8_t key[PREFIX_KEY]);
void kvcache_drop(struct kvcache *c, int32_t page);

#endif
