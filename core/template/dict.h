/*
 * Dicts of values in the order of insertion, with Python's equality of keys: 1, 1.0 and True are
 * one key. Small ones are searched, large ones hashed. They only grow; only a namespace changes
 * after it was made.
 */
#ifndef OFTD_CORE_TEMPLATE_DICT_H
#define OFTD_CORE_TEMPLATE_DICT_H

#include "core/template/value.h"

struct entry {
    struct value key, v;
    uint32_t hash; /* where the dict is hashed */
};
struct dict {
    struct entry *v;
    size_t n, cap;
    uint32_t *index; /* 1 + entry, 0: free; NULL for small ones */
    size_t mask;
};

/* With room for n entries; NULL when memory runs out. */
struct dict *dict_new(struct heap *h, size_t n);
/* May the value be a key? Lists and dicts may not, nor tuples that hold such. */
bool dict_hashable(struct value key);
/* The entry of a hashable key, or NULL. */
struct entry *dict_find(const struct dict *d, struct value key);
struct entry *dict_find_text(const struct dict *d, const struct text *key);
/* Sets a hashable key. False when memory runs out. */
bool dict_set(struct heap *h, struct dict *d, struct value key, struct value v);
/* The same for a key that is not there yet. */
bool dict_append(struct heap *h, struct dict *d, struct value key, struct value v);
/* Equality of two hashable keys. */
bool dict_same_key(struct value a, struct value b);

#endif
