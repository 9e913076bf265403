/* How arrays grow: by doubling, so that n elements cost O(n) copies. */
#ifndef OFTD_CORE_GROW_H
#define OFTD_CORE_GROW_H

#include <stdbool.h>
#include <stddef.h>

/* Room for `need` elements in the array v of *cap (variables; NULL and 0 in the beginning), which
 * has `first` (at least 1), twice as many, and so on. False: no memory, or more than addresses tell
 * apart; the array is as it was. Its owner frees it with free(). Arguments are looked at more than
 * once. */
#define GROW(v, cap, need, first)                                                                  \
    ((need) <= (cap) || grow_array(&(v), &(cap), (need), (first), sizeof *(v)))

/* Behind GROW. array: the address of a pointer to elements of `size` bytes. */
bool grow_array(void *array, size_t *cap, size_t need, size_t first, size_t size);

#endif
