/*
 * Owns the nodes and edges of a grammar under construction. A node's edges only ever lead to nodes
 * of the same fragment, and no_fragment leads out of a fragment but its `out`: so a copy is the
 * nodes that `in` reaches, and joining two fragments is one empty edge.
 */
#include "core/grammar/builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grow.h"

/* What a growth came to: true; false: no memory, and failed says so. */
static bool grown(struct builder *b, bool room)
{
    if (!room)
        b->failed = b->failed ? b->failed : ST_OUT_OF_MEMORY;
    return room;
}

static int32_t add_node(struct builder *b)
{
    if (!b->failed && b->n_nodes == BUILDER_NODES_MAX)
        b->failed = ST_INVALID_VALUE;
    if (b->failed || !grown(b, GROW(b->nodes, b->cap_nodes, b->n_nodes + 1, 64)))
        return -1;
    b->nodes[b->n_nodes] = -1;
    return (int32_t)b->n_nodes++;
}

static void add_edge(struct builder *b, int32_t from, struct builder_edge e)
{
    if (b->failed || from < 0 || e.to < 0 ||
        !grown(b, GROW(b->edges, b->cap_edges, b->n_edges + 1, 64)))
        return;
    e.next = b->nodes[from];
    b->nodes[from] = (int32_t)b->n_edges;
    b->edges[b->n_edges++] = e;
}

static void join(struct builder *b, int32_t from, int32_t to)
{
    add_edge(b, from, (struct builder_edge){.kind = EDGE_EMPTY, .to = to});
}

static struct fragment two_nodes(struct builder *b)
{
    int32_t in = add_node(b), out = add_node(b);
    return b->failed ? no_fragment : (struct fragment){in, out};
}

void builder_open(struct builder *b)
{
    *b = (struct builder){0};
    builder_rule(b);
}

void builder_close(struct builder *b)
{
    arena_free(&b->arena);
    free(b->nodes);
    free(b->edges);
    free(b->rules);
    free(b->copies);
    free(b->met);
    *b = (struct builder){0};
}

enum status builder_failed(const struct builder *b, struct error *err)
{
    if (b->failed == ST_OUT_OF_MEMORY)
        return error_memory(err, "compiling a grammar");
    if (b->failed && b->work > BUILDER_WORK_MAX)
        return error_set(err, b->failed, "the grammar takes too much work to compile");
    if (b->failed)
        return error_set(err, b->failed, "the grammar is too large: more than %d states",
                         BUILDER_NODES_MAX);
    return ST_OK;
}

bool builder_spend(struct builder *b, size_t n)
{
    b->work += n;
    if (b->work > BUILDER_WORK_MAX && !b->failed)
        b->failed = ST_INVALID_VALUE;
    return !b->failed;
}

int32_t builder_rule(struct builder *b)
{
    if (!b->failed && b->n_rules == BUILDER_RULES_MAX)
        b->failed = ST_INVALID_VALUE;
    if (b->failed || !grown(b, GROW(b->rules, b->cap_rules, b->n_rules + 1, 64)))
        return -1;
    b->rules[b->n_rules] = no_fragment;
    return (int32_t)b->n_rules++;
}

void builder_define(struct builder *b, int32_t rule, struct fragment body)
{
    if (!b->failed)
        b->rules[rule] = body;
}

struct fragment fragment_empty(struct builder *b)
{
    struct fragment f = two_nodes(b);
    join(b, f.in, f.out);
    return f;
}

struct fragment fragment_never(struct builder *b)
{
    return two_nodes(b);
}

struct fragment fragment_range(struct builder *b, uint8_t first, uint8_t last)
{
    struct fragment f = two_nodes(b);
    add_edge(b, f.in,
             (struct builder_edge){.kind = EDGE_BYTES, .first = first, .last = last, .to = f.out});
    return f;
}

struct fragment fragment_text(struct builder *b, const char *text, size_t len)
{
    struct fragment f = fragment_empty(b);
    for (size_t i = 0; i < len; i++)
        f = fragment_then(b, f, fragment_range(b, (uint8_t)text[i], (uint8_t)text[i]));
    return f;
}

struct fragment fragment_call(struct builder *b, int32_t rule)
{
    struct fragment f = two_nodes(b);
    add_edge(b, f.in, (struct builder_edge){.kind = EDGE_CALL, .rule = rule, .to = f.out});
    return f;
}

struct fragment fragment_then(struct builder *b, struct fragment first, struct fragment second)
{
    if (first.in < 0 || second.in < 0)
        return no_fragment;
    join(b, first.out, second.in);
    return b->failed ? no_fragment : (struct fragment){first.in, second.out};
}

struct fragment fragment_or(struct builder *b, struct fragment one, struct fragment other)
{
    if (one.in < 0)
        return other;
    struct fragment f = two_nodes(b);
    join(b, f.in, one.in);
    join(b, f.in, other.in);
    join(b, one.out, f.out);
    join(b, other.out, f.out);
    return b->failed ? no_fragment : f;
}

/* The copy of a node, made when it is first met. */
static int32_t copied(struct builder *b, int32_t node)
{
    if (b->copies[node] < 0 && !b->failed) {
        b->copies[node] = add_node(b);
        if (b->copies[node] >= 0)
            b->met[b->n_met++] = node;
    }
    return b->copies[node];
}

/* Room for a copy of every node. */
static bool room_for_copies(struct builder *b)
{
    size_t n = 2 * b->n_nodes;
    if (b->n_nodes <= b->cap_copies)
        return true;
    free(b->copies);
    free(b->met);
    b->cap_copies = 0;
    b->copies = malloc(n * sizeof *b->copies);
    b->met = malloc(n * sizeof *b->met);
    if (!b->copies || !b->met) {
        b->failed = ST_OUT_OF_MEMORY;
        return false;
    }
    memset(b->copies, -1, n * sizeof *b->copies); // between copies there is none
    b->cap_copies = n;
    return true;
}

struct fragment fragment_copy(struct builder *b, struct fragment f)
{
    if (b->failed || f.in < 0 || !room_for_copies(b))
        return no_fragment;
    b->n_met = 0;
    struct fragment to = {.in = copied(b, f.in), .out = copied(b, f.out)};
    for (size_t k = 0; k < b->n_met && !b->failed; k++)
        for (int32_t node = b->met[k], i = b->nodes[node]; i >= 0 && node != f.out && !b->failed;
             i = b->edges[i].next) {
            struct builder_edge e = b->edges[i];
            e.to = copied(b, e.to);
            add_edge(b, b->copies[node], e);
        }
    while (b->n_met)
        b->copies[b->met[--b->n_met]] = -1;
    return b->failed ? no_fragment : to;
}

static struct fragment many(struct builder *b, struct fragment f)
{
    struct fragment loop = two_nodes(b);
    join(b, loop.in, f.in);
    join(b, f.out, loop.in);
    join(b, loop.in, loop.out);
    return loop;
}

/* Up to n times: each further one only behind the one before. */
static struct fragment at_most(struct builder *b, struct fragment f, int64_t n)
{
    struct fragment all = two_nodes(b);
    int32_t at = all.in;
    for (int64_t i = 0; i < n && !b->failed; i++) {
        struct fragment once = i + 1 < n ? fragment_copy(b, f) : f;
        join(b, at, once.in);
        join(b, at, all.out);
        at = once.out;
    }
    join(b, at, all.out);
    return b->failed ? no_fragment : all;
}

struct fragment fragment_repeat(struct builder *b, struct fragment f, int64_t from, int64_t to)
{
    struct fragment all = fragment_empty(b);
    for (int64_t i = 0; i < from && !b->failed; i++)
        all = fragment_then(b, all, fragment_copy(b, f));
    if (to == REPEAT_MANY)
        return fragment_then(b, all, many(b, f));
    return to > from ? fragment_then(b, all, at_most(b, f, to - from)) : all;
}

/* How many bytes of text stand at the end of text[0..n) and `byte` (Knuth, Morris and Pratt). */
static size_t seen(const char *text, size_t n, uint8_t byte)
{
    size_t k = n + 1;
    if (byte == SPECIAL_BYTE)
        return n;
    while (k && !((uint8_t)text[k - 1] == byte && !memcmp(text, text + n - (k - 1), k - 1)))
        k--;
    return k;
}

/* Edges of `from`, where n bytes of text have been seen, but for these bytes. */
static void look(struct builder *b, int32_t from, const int32_t *nodes, const char *text, size_t n,
                 size_t len, const char *but, uint8_t most)
{
    for (int byte = 0, last; byte <= most; byte = last + 1) {
        size_t k = seen(text, n, (uint8_t)byte);
        last = byte;
        if (k == len || (byte && strchr(but, byte)))
            continue;
        while (last < most && seen(text, n, (uint8_t)(last + 1)) == k && !strchr(but, last + 1))
            last++;
        add_edge(
            b, from,
            (struct builder_edge){
                .kind = EDGE_BYTES, .first = (uint8_t)byte, .last = (uint8_t)last, .to = nodes[k]});
    }
}

struct fragment fragment_without(struct builder *b, const char *text, size_t len,
                                 const char *not_first, uint8_t last)
{
    static const char spaces[] = " \t\n\r";
    struct fragment all = two_nodes(b);
    int32_t *nodes = arena_alloc(&b->arena, len * sizeof *nodes);
    char but[32];
    if (!nodes)
        b->failed = ST_OUT_OF_MEMORY;
    for (size_t i = 0; !b->failed && i < len; i++) {
        nodes[i] = add_node(b);
        join(b, nodes[i], all.out);
    }
    for (size_t i = 0; !b->failed && i < len; i++)
        look(b, nodes[i], nodes, text, i, len, "", last);
    if (b->failed)
        return no_fragment;
    join(b, all.in, all.out);
    for (const char *s = spaces; *s; s++)
        add_edge(b, all.in,
                 (struct builder_edge){
                     .kind = EDGE_BYTES, .first = (uint8_t)*s, .last = (uint8_t)*s, .to = all.in});
    snprintf(but, sizeof but, "%s%s", spaces, not_first);
    look(b, all.in, nodes, text, 0, len, but, last);
    return b->failed ? no_fragment : all;
}
