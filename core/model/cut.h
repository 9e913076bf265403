/*
 * One block of memory cut into pieces that begin on cache lines. A plan is run twice, first without
 * memory to learn the size, then with it, so that size and cuts cannot disagree.
 */
#ifndef OFTD_CORE_MODEL_CUT_H
#define OFTD_CORE_MODEL_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cut {
    char *memory; /* NULL: only count */
    size_t used;
    bool overflow;
};

/* n times `per` elements of `size` bytes; NULL while counting. */
void *cut_take(struct cut *c, int64_t n, int64_t per, size_t size);

#endif
