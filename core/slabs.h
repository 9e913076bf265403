/*
 * Zeroed arrays cut from large pieces of memory on huge pages, so that those that are too short for
 * huge pages of their own are read at the same speed. Any thread, any time. core/memory.c alone
 * calls it.
 */
#ifndef OFTD_CORE_SLABS_H
#define OFTD_CORE_SLABS_H

#include <stddef.h>

#define HUGE_PAGE   ((size_t)2 << 20)
#define SLABS_LARGE ((size_t)16 << 20) /* as large as this, an array is better off by itself */

struct block;

/* Fewer than SLABS_LARGE bytes at a multiple of 64, zeroed, in *p; NULL when memory runs out. */
struct block *slabs_take(size_t size, char **p);
void slabs_give(struct block *b);

#endif
