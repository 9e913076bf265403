/*
 * Owns the trie. Ids are sorted by spelling, so that a preorder walk meets them in this order: a
 * node needs no list of tokens, only where its own begin.
 */
#include "core/grammar/spellings.h"

#include <stdlib.h>
#include <string.h>

#include "core/grammar/builder.h"
#include "core/tokenizer/bytes.h"

#define DEPTH_MAX 65535

static int32_t length(const struct spellings *s, int32_t id)
{
    return s->offsets[id + 1] - s->offsets[id];
}

static int by_spelling(const void *a, const void *b, void *spellings)
{
    const struct spellings *s = spellings;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    int32_t n = length(s, x), m = length(s, y);
    int order = memcmp(s->bytes + s->offsets[x], s->bytes + s->offsets[y], (size_t)(n < m ? n : m));
    if (!order)
        order = (n > m) - (n < m);
    return order ? order : (x > y) - (x < y);
}

static int32_t common(const struct spellings *s, int32_t x, int32_t y)
{
    const uint8_t *a = s->bytes + s->offsets[x], *b = s->bytes + s->offsets[y];
    int32_t n = length(s, x) < length(s, y) ? length(s, x) : length(s, y), i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* Would it be taken for a special one, or for what stands before one? */
static bool poses(const struct bytes *all, size_t from, bool special)
{
    return !special && memchr(all->v + from, SPECIAL_BYTE, all->n - from);
}

static enum status read_bytes(struct spellings *s, const struct tokenizer *t, struct error *err)
{
    const char special = (char)SPECIAL_BYTE;
    struct bytes all = {0};
    enum status st = ST_OK;
    for (int32_t id = 0; id < s->vocab && !st; id++) {
        size_t before = all.n;
        bool is_special = tokenizer_special(t, id);
        s->offsets[id] = (int32_t)before;
        if (is_special && !bytes_append(&all, &special, 1))
            st = error_memory(err, "reading the tokens' spellings");
        st = st ? st : tokenizer_bytes(t, id, &all, err);
        if (all.n > before && (all.n - before > DEPTH_MAX || poses(&all, before, is_special)))
            all.n = before;
        if (!st && all.n > INT32_MAX / 2)
            st = error_set(err, ST_NOT_SUPPORTED, "the tokens' texts take more than 1 GiB");
        if (all.n > before)
            s->ids[s->n_ids++] = id;
    }
    s->offsets[s->vocab] = (int32_t)all.n;
    s->bytes = (uint8_t *)all.v;
    return st;
}

/* Closes the open nodes deeper than depth: their subtrees end before node n. */
static void close_nodes(struct spellings *s, int32_t *open, int32_t *n_open, int32_t depth)
{
    while (*n_open > depth + 1)
        s->nodes[open[--*n_open]].leap = s->n_nodes;
}

static bool grow(struct spellings *s, int32_t more, size_t *cap)
{
    if ((size_t)(s->n_nodes + more) + 1 <= *cap)
        return true;
    size_t wanted = 2 * *cap + (size_t)more + 1;
    struct spelling_node *v = realloc(s->nodes, wanted * sizeof *v);
    if (!v)
        return false;
    s->nodes = v;
    *cap = wanted;
    return true;
}

/* open: room for the nodes on the way down. */
static bool build(struct spellings *s, int32_t *open)
{
    size_t cap = 0;
    int32_t n_open = 1;
    if (!grow(s, 1, &cap))
        return false;
    s->nodes[s->n_nodes++] = (struct spelling_node){0};
    open[0] = 0;
    for (int32_t i = 0; i < s->n_ids; i++) {
        int32_t id = s->ids[i], len = length(s, id);
        int32_t depth = i ? common(s, s->ids[i - 1], id) : 0;
        close_nodes(s, open, &n_open, depth);
        if (!grow(s, len - depth, &cap))
            return false;
        for (; depth < len; depth++) {
            s->nodes[open[n_open - 1]].next |= spelling_bit(s->bytes[s->offsets[id] + depth]);
            open[n_open++] = s->n_nodes;
            s->nodes[s->n_nodes++] =
                (struct spelling_node){.byte = s->bytes[s->offsets[id] + depth],
                                       .depth = (uint16_t)(depth + 1),
                                       .tokens = i};
        }
        if (len > s->deepest)
            s->deepest = len;
    }
    close_nodes(s, open, &n_open, -1);
    s->nodes[s->n_nodes] = (struct spelling_node){.tokens = s->n_ids};
    return true;
}

enum status spellings_open(const struct tokenizer *t, int32_t vocab, struct spellings **out,
                           struct error *err)
{
    *out = NULL;
    struct spellings *s = calloc(1, sizeof *s);
    if (!s)
        return error_memory(err, "reading the tokens' spellings");
    s->vocab = vocab;
    s->ids = malloc(((size_t)vocab + 1) * sizeof *s->ids);
    s->offsets = malloc(((size_t)vocab + 1) * sizeof *s->offsets);
    int32_t *open = calloc(DEPTH_MAX + 2, sizeof *open);
    enum status st = ST_OK;
    if (!s->ids || !s->offsets || !open)
        st = error_memory(err, "reading the tokens' spellings");
    else
        st = read_bytes(s, t, err);
    if (!st) {
        if (s->n_ids)
            qsort_r(s->ids, (size_t)s->n_ids, sizeof *s->ids, by_spelling, s);
        if (!build(s, open))
            st = error_memory(err, "reading the tokens' spellings");
    }
    free(open);
    if (st)
        spellings_close(s);
    else
        *out = s;
    return st;
}

void spellings_close(struct spellings *s)
{
    if (!s)
        return;
    free(s->nodes);
    free(s->ids);
    free(s->bytes);
    free(s->offsets);
    free(s);
}
