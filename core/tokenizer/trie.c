/*
 * Owns the building of the trie: keys are sorted, then nodes are laid out breadth first, each with
 * the range [low, high) of sorted keys that pass through it. A node's children are the runs of
 * equal bytes in its range, and so come out sorted and next to each other.
 */
#include "core/tokenizer/trie.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const struct trie_key *x = a, *y = b;
    int d = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (d)
        return d;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

static size_t count_nodes(const struct trie_key *keys, size_t n)
{
    size_t nodes = 1;
    for (size_t i = 0; i < n; i++) {
        size_t shared = 0;
        if (i) {
            size_t most = keys[i].len < keys[i - 1].len ? keys[i].len : keys[i - 1].len;
            while (shared < most && keys[i].text[shared] == keys[i - 1].text[shared])
                shared++;
        }
        nodes += keys[i].len - shared;
    }
    return nodes;
}

struct range {
    size_t low, high, depth;
};

/* Appends the children of node i; returns the new number of nodes. */
static uint32_t expand(struct trie *t, const struct trie_key *keys, struct range *ranges,
                       uint32_t i, uint32_t n)
{
    struct range r = ranges[i];
    while (r.low < r.high && keys[r.low].len == r.depth)
        t->nodes[i].value = r.depth ? keys[r.low].value : -1, r.low++;
    t->nodes[i].child = n;
    while (r.low < r.high) {
        unsigned char byte = (unsigned char)keys[r.low].text[r.depth];
        size_t end = r.low + 1;
        while (end < r.high && (unsigned char)keys[end].text[r.depth] == byte)
            end++;
        ranges[n] = (struct range){r.low, end, r.depth + 1};
        t->labels[n] = byte;
        t->nodes[n].value = -1;
        t->nodes[i].children++;
        n++;
        r.low = end;
    }
    return n;
}

bool trie_build(struct trie *t, struct arena *a, struct trie_key *keys, size_t n)
{
    *t = (struct trie){0};
    if (!n)
        return true;
    qsort(keys, n, sizeof *keys, compare);
    size_t nodes = count_nodes(keys, n);
    if (nodes >= UINT32_MAX)
        return false;
    struct range *ranges = malloc(nodes * sizeof *ranges);
    t->nodes = arena_alloc(a, nodes * sizeof *t->nodes);
    t->labels = arena_alloc(a, nodes);
    if (!ranges || !t->nodes || !t->labels) {
        free(ranges);
        t->nodes = NULL;
        return false;
    }
    ranges[0] = (struct range){0, n, 0};
    t->nodes[0].value = -1;
    uint32_t made = 1;
    for (uint32_t i = 0; i < made; i++)
        made = expand(t, keys, ranges, i, made);
    free(ranges);
    for (uint32_t i = 0; i < t->nodes[0].children; i++)
        t->root[t->labels[t->nodes[0].child + i]] = t->nodes[0].child + i;
    return true;
}

uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte)
{
    if (node == TRIE_ROOT)
        return t->root[byte];
    uint32_t low = t->nodes[node].child, high = low + t->nodes[node].children;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->labels[middle] == byte)
            return middle;
        if (t->labels[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}
