/*
 * An immutable byte trie: which keys does a text begin with? Children of a node lie side by side,
 * sorted, so a step is a short binary search (one look-up at the root).
 */
#ifndef OFTD_CORE_TOKENIZER_TRIE_H
#define OFTD_CORE_TOKENIZER_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"

struct trie_key {
    const char *text;
    size_t len;
    int32_t value; /* >= 0 */
};

struct trie_node {
    uint32_t child; /* index of the first child */
    uint16_t children;
    int32_t value; /* -1: no key ends here */
};

struct trie {
    struct trie_node *nodes; /* [0] is the root; NULL: no keys */
    unsigned char *labels;   /* the byte that leads to a node */
    uint32_t root[256];      /* child of the root by byte, 0 = none */
};

#define TRIE_ROOT 0

/* Keys are sorted in place; their texts are not kept. Of equal keys the largest value counts, an
 * empty one is ignored. False when memory runs out. */
bool trie_build(struct trie *t, struct arena *a, struct trie_key *keys, size_t n);
/* The node one byte further, 0 = none. */
uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte);

#endif
