/*
 * Long-lived arrays (weights, rotations, KV pages): 64-byte aligned, zeroed, on huge pages where
 * the kernel gives them. Freed with memory_free(NULL is fine). Plain malloc serves everything
 * small.
 */
#ifndef OFTD_CORE_MEMORY_H
#define OFTD_CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* size bytes, zeroed; NULL when memory runs out (or size is 0). */
void *memory_alloc(size_t size);
/* The same on small pages, for an array whose parts come into use one after another: the first use
 * of a huge page clears all of it, in one go and in the middle of a step. */
void *memory_reserve(size_t size);
/* The system gives the pages of [p, p + size) now and not when they are first written. Nothing
 * happens where it cannot. */
void memory_touch(void *p, size_t size);
void memory_free(void *p);
/* Bytes that this process may still take: the smaller of MemAvailable and the cgroup's room. */
uint64_t memory_available(void);

#endif
