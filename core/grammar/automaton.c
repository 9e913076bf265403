/*
 * Owns the way from fragments to deterministic rules, the subset construction (Rabin and Scott,
 * 1959) with a called rule as one more letter, and what is dropped afterwards: states from which
 * their rule cannot end, found by walking until nothing changes, because whether a state can end
 * depends on whether the rules that it calls can. A set of few nodes may have many edges, and few
 * states may need many walks: edges that are looked at are counted, by the builder.
 */
#include "core/grammar/automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/grow.h"

/* A growing array of one kind. */
struct list {
    void *v;
    size_t n, cap, size;
};

static void *list_add(struct list *l)
{
    if (!grow_array(&l->v, &l->cap, l->n + 1, 256, l->size))
        return NULL;
    return memset((char *)l->v + l->n++ * l->size, 0, l->size);
}

struct subset {
    int32_t *nodes; /* in the arena */
    size_t n;
    uint64_t hash;
    size_t slot; /* of the table */
};

struct construction {
    struct builder *b;
    struct arena arena;
    struct list states, bytes, calls; /* of the automaton */
    struct list ranges, called;       /* byte_edge, call_edge: to nodes, of the set at hand */
    struct subset *subsets;           /* of the rule at hand */
    size_t first, n_subsets, cap_subsets;
    int32_t out;    /* its last node */
    int32_t *table; /* hash table of subset + 1, size a power of two */
    size_t table_size;
    int32_t *found; /* nodes of the set that is being made */
    size_t n_found;
    uint32_t *mark, round; /* node -> round in which it was found */
};

static bool memory(struct construction *c)
{
    c->b->failed = ST_OUT_OF_MEMORY;
    return false;
}

/* ---- sets of nodes ---- */

static void find(struct construction *c, int32_t node)
{
    if (c->mark[node] == c->round)
        return;
    c->mark[node] = c->round;
    c->found[c->n_found++] = node;
}

static void find_begin(struct construction *c)
{
    c->n_found = 0;
    c->round++;
}

/* What empty edges lead to, too. */
static void find_closure(struct construction *c)
{
    size_t seen = 0;
    for (size_t i = 0; i < c->n_found; i++)
        for (int32_t e = c->b->nodes[c->found[i]]; e >= 0; e = c->b->edges[e].next, seen++)
            if (c->b->edges[e].kind == EDGE_EMPTY)
                find(c, c->b->edges[e].to);
    builder_spend(c->b, seen + 1);
}

/* Whatever their order. */
static uint64_t hash_of(const int32_t *v, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) {
        uint64_t x = ((uint64_t)(uint32_t)v[i] + 1) * 0x9E3779B97F4A7C15u;
        h += (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    }
    return h ^ h >> 29;
}

/* Is it the set of the nodes that were found? */
static bool is_found(const struct construction *c, const struct subset *s)
{
    if (s->n != c->n_found)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (c->mark[s->nodes[i]] != c->round)
            return false;
    return true;
}

static bool table_grow(struct construction *c)
{
    size_t size = c->table_size ? 2 * c->table_size : 256;
    int32_t *table = calloc(size, sizeof *table);
    if (!table)
        return memory(c);
    for (size_t i = 0; i < c->n_subsets; i++) {
        size_t at = c->subsets[i].hash & (size - 1);
        while (table[at])
            at = (at + 1) & (size - 1);
        table[at] = (int32_t)i + 1;
        c->subsets[i].slot = at;
    }
    free(c->table);
    c->table = table;
    c->table_size = size;
    return true;
}

static bool add_subset(struct construction *c, uint64_t hash, size_t slot)
{
    int32_t *nodes = arena_copy(&c->arena, c->found, c->n_found * sizeof *c->found);
    if (!nodes || !list_add(&c->states))
        return memory(c);
    if (!GROW(c->subsets, c->cap_subsets, c->n_subsets + 1, 64))
        return memory(c);
    c->subsets[c->n_subsets++] = (struct subset){nodes, c->n_found, hash, slot};
    return true;
}

/* Leaves what tells states apart: nodes with more than empty edges, and the rule's end. */
static void find_essence(struct construction *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_found; i++) {
        int32_t node = c->found[i], e = c->b->nodes[node];
        while (e >= 0 && c->b->edges[e].kind == EDGE_EMPTY)
            e = c->b->edges[e].next;
        if (e >= 0 || node == c->out)
            c->found[n++] = node;
    }
    c->n_found = n;
}

/* The state of the set that was found, new if it is; -1: failed. */
static int32_t state_of_found(struct construction *c)
{
    find_closure(c);
    find_essence(c);
    uint64_t hash = hash_of(c->found, c->n_found);
    if (2 * (c->n_subsets + 1) > c->table_size && !table_grow(c))
        return -1;
    size_t at = hash & (c->table_size - 1);
    for (; c->table[at]; at = (at + 1) & (c->table_size - 1)) {
        const struct subset *s = &c->subsets[c->table[at] - 1];
        if (s->hash == hash && is_found(c, s))
            return (int32_t)(c->first + (size_t)c->table[at] - 1);
    }
    if (c->states.n == AUTOMATON_STATES_MAX || c->arena.total > AUTOMATON_BYTES_MAX || c->b->failed)
        return -1;
    if (!add_subset(c, hash, at))
        return -1;
    c->table[at] = (int32_t)c->n_subsets;
    return (int32_t)(c->first + c->n_subsets - 1);
}

/* ---- one rule ---- */

/* The set's edges of bytes, and where they begin or end: cuts[i] says that a new range begins at
 * byte i. */
static bool gather_bytes(struct construction *c, const struct subset *s, bool cuts[257])
{
    c->ranges.n = 0;
    memset(cuts, 0, 257);
    for (size_t i = 0; i < s->n; i++)
        for (int32_t e = c->b->nodes[s->nodes[i]]; e >= 0; e = c->b->edges[e].next) {
            const struct builder_edge *x = &c->b->edges[e];
            if (x->kind != EDGE_BYTES)
                continue;
            struct byte_edge *range = list_add(&c->ranges);
            if (!range)
                return memory(c);
            *range = (struct byte_edge){x->first, x->last, x->to};
            cuts[x->first] = cuts[x->last + 1] = true;
        }
    return true;
}

static bool add_byte_edge(struct construction *c, int32_t first_edge, int first, int last,
                          int32_t to)
{
    struct byte_edge *v = c->bytes.v;
    if ((int32_t)c->bytes.n > first_edge && v[c->bytes.n - 1].to == to &&
        v[c->bytes.n - 1].last + 1 == first) {
        v[c->bytes.n - 1].last = (uint8_t)last;
        return true;
    }
    struct byte_edge *e = list_add(&c->bytes);
    if (!e)
        return memory(c);
    *e = (struct byte_edge){(uint8_t)first, (uint8_t)last, to};
    return true;
}

static bool byte_edges(struct construction *c, size_t at, int32_t first_edge)
{
    bool cuts[257];
    if (!gather_bytes(c, &c->subsets[at], cuts))
        return false;
    for (int first = 0, last; first < 256 && c->ranges.n; first = last + 1) {
        for (last = first; last < 255 && !cuts[last + 1];)
            last++;
        const struct byte_edge *v = c->ranges.v;
        find_begin(c);
        for (size_t i = 0; i < c->ranges.n; i++)
            if (v[i].first <= first && last <= v[i].last)
                find(c, v[i].to);
        builder_spend(c->b, c->ranges.n);
        if (!c->n_found)
            continue;
        int32_t to = state_of_found(c);
        if (to < 0 || !add_byte_edge(c, first_edge, first, last, to))
            return false;
    }
    return true;
}

static int by_rule(const void *a, const void *b)
{
    const struct call_edge *x = a, *y = b;
    return (x->rule > y->rule) - (x->rule < y->rule);
}

/* The calls of a set's nodes, by rule: what each leads to is one state. */
static bool gather_calls(struct construction *c, const struct subset *s)
{
    c->called.n = 0;
    for (size_t i = 0; i < s->n; i++)
        for (int32_t e = c->b->nodes[s->nodes[i]]; e >= 0; e = c->b->edges[e].next) {
            if (c->b->edges[e].kind != EDGE_CALL)
                continue;
            struct call_edge *call = list_add(&c->called);
            if (!call)
                return memory(c);
            *call = (struct call_edge){c->b->edges[e].rule, c->b->edges[e].to};
        }
    if (c->called.n > 1)
        qsort(c->called.v, c->called.n, c->called.size, by_rule);
    return true;
}

static bool call_edges(struct construction *c, size_t at)
{
    if (!gather_calls(c, &c->subsets[at]))
        return false;
    for (size_t i = 0, k; i < c->called.n; i = k) {
        const struct call_edge *v = c->called.v;
        int32_t rule = v[i].rule;
        find_begin(c);
        for (k = i; k < c->called.n && v[k].rule == rule; k++)
            find(c, v[k].to);
        int32_t to = state_of_found(c);
        struct call_edge *call = to < 0 ? NULL : list_add(&c->calls);
        if (!call)
            return to < 0 ? false : memory(c);
        *call = (struct call_edge){rule, to};
    }
    return true;
}

static bool build_rule(struct construction *c, int32_t rule, int32_t *start)
{
    struct fragment f = c->b->rules[rule];
    c->first = c->states.n;
    c->out = f.out;
    while (c->n_subsets)
        c->table[c->subsets[--c->n_subsets].slot] = 0;
    find_begin(c);
    find(c, f.in);
    *start = state_of_found(c);
    if (*start < 0)
        return false;
    for (size_t i = 0; i < c->n_subsets; i++) {
        struct automaton_state s = {.bytes = (int32_t)c->bytes.n, .calls = (int32_t)c->calls.n};
        for (size_t k = 0; k < c->subsets[i].n; k++)
            s.accepts |= c->subsets[i].nodes[k] == f.out;
        if (c->b->failed || !byte_edges(c, i, s.bytes) || !call_edges(c, i))
            return false;
        s.n_bytes = (int32_t)c->bytes.n - s.bytes;
        s.n_calls = (int32_t)c->calls.n - s.calls;
        ((struct automaton_state *)c->states.v)[c->first + i] = s;
    }
    return true;
}

/* ---- what can end ---- */

/* Can a state end, as far as ends [by state] knows? bytes: by text. */
static bool can_end(const struct automaton *a, const struct automaton_state *s, bool bytes,
                    const bool *ends)
{
    bool can = s->accepts;
    for (int32_t e = 0; e < s->n_bytes && !can && bytes; e++)
        can = ends[a->byte_edges[s->bytes + e].to];
    for (int32_t e = 0; e < s->n_calls && !can; e++) {
        const struct call_edge *x = &a->call_edges[s->calls + e];
        can = ends[x->to] && ends[a->starts[x->rule]];
    }
    return can;
}

/* A walk over the rules, each from its last state to its first; false: nothing changed. */
static bool spread(const struct automaton *a, bool bytes, bool up, bool *ends)
{
    bool changed = false;
    for (int32_t k = 0; k < a->n_rules; k++) {
        int32_t r = up ? k : a->n_rules - 1 - k, first = a->starts[r];
        for (int32_t i = r + 1 < a->n_rules ? a->starts[r + 1] : a->n_states; i-- > first;)
            if (!ends[i])
                changed |= ends[i] = can_end(a, &a->states[i], bytes, ends);
    }
    return changed;
}

/* From which states their rule can end: by some text, or (bytes: false) by none. Walks to and fro:
 * rules that are called in their order, or against it, take few walks. */
static bool find_ends(const struct automaton *a, struct builder *b, bool bytes, bool *ends)
{
    size_t edges = (size_t)a->n_states;
    for (int32_t i = 0; i < a->n_states; i++)
        edges += (size_t)(a->states[i].n_bytes + a->states[i].n_calls);
    for (bool up = false; spread(a, bytes, up, ends); up = !up)
        if (!builder_spend(b, edges))
            return false;
    return true;
}

/* Drops edges to states that cannot end; the arrays keep their gaps. */
static void drop(struct automaton *a, const bool *ends)
{
    for (int32_t i = 0; i < a->n_states; i++) {
        struct automaton_state *s = &a->states[i];
        int32_t n = 0;
        for (int32_t e = 0; e < s->n_bytes; e++)
            if (ends[a->byte_edges[s->bytes + e].to])
                a->byte_edges[s->bytes + n++] = a->byte_edges[s->bytes + e];
        s->n_bytes = n;
        n = 0;
        for (int32_t e = 0; e < s->n_calls; e++) {
            struct call_edge x = a->call_edges[s->calls + e];
            if (ends[x.to] && ends[a->starts[x.rule]])
                a->call_edges[s->calls + n++] = x;
        }
        s->n_calls = n;
    }
}

static enum status trim(struct automaton *a, struct builder *b, struct error *err)
{
    bool *ends = calloc((size_t)a->n_states + 1, sizeof *ends);
    if (!ends)
        return error_memory(err, "compiling a grammar");
    bool found = find_ends(a, b, true, ends), any = ends[a->starts[0]];
    drop(a, ends);
    free(ends);
    if (!found)
        return builder_failed(b, err);
    return any ? ST_OK : error_set(err, ST_INVALID_VALUE, "no text matches the grammar");
}

/* ---- left recursion ---- */

enum visit { NEW, OPEN, DONE };
struct left {
    const struct automaton *a;
    bool *empty;   /* by state: its rule may end there with no byte more */
    uint8_t *rule; /* enum visit */
    uint8_t *state;
};

static bool left_rule(struct left *l, int32_t rule, int depth);

/* What can be called before the first byte. */
static bool left_state(struct left *l, int32_t state, int depth)
{
    const struct automaton_state *s = &l->a->states[state];
    if (l->state[state])
        return true;
    l->state[state] = 1;
    for (int32_t e = 0; e < s->n_calls; e++) {
        const struct call_edge *x = &l->a->call_edges[s->calls + e];
        if (!left_rule(l, x->rule, depth + 1) ||
            (l->empty[l->a->starts[x->rule]] && !left_state(l, x->to, depth + 1)))
            return false;
    }
    return true;
}

static bool left_rule(struct left *l, int32_t rule, int depth)
{
    if (l->rule[rule] == DONE)
        return true;
    if (l->rule[rule] == OPEN || depth > 2000)
        return false;
    l->rule[rule] = OPEN;
    bool ok = left_state(l, l->a->starts[rule], depth + 1);
    l->rule[rule] = DONE;
    return ok;
}

static enum status check_left(const struct automaton *a, struct builder *b, struct error *err)
{
    size_t rules = (size_t)a->n_rules, states = (size_t)a->n_states;
    assert(a->states); // every rule has one
    struct left l = {.a = a};
    l.empty = calloc(rules + 2 * states, 1);
    if (!l.empty)
        return error_memory(err, "compiling a grammar");
    l.rule = (uint8_t *)l.empty + states;
    l.state = l.rule + rules;
    bool found = find_ends(a, b, false, l.empty), ok = true;
    for (int32_t r = 0; r < a->n_rules && ok; r++)
        ok = left_rule(&l, r, 0);
    free(l.empty);
    if (!found)
        return builder_failed(b, err);
    return ok ? ST_OK
              : error_set(err, ST_INVALID_VALUE,
                          "the grammar has a rule that calls itself before any text (left "
                          "recursion), or nests too deep");
}

/* ---- all of it ---- */

static void classify(struct automaton *a)
{
    bool cuts[257] = {0};
    for (int32_t i = 0; i < a->n_states; i++)
        for (int32_t e = 0; e < a->states[i].n_bytes; e++) {
            const struct byte_edge *x = &a->byte_edges[a->states[i].bytes + e];
            cuts[x->first] = cuts[x->last + 1] = true;
        }
    int n = 0;
    for (int i = 0; i < 256; i++) {
        n += i > 0 && cuts[i];
        a->class_of[i] = (uint8_t)n;
    }
    a->n_classes = n + 1;
}

static enum status construct(struct construction *c, struct automaton *out, struct error *err)
{
    struct builder *b = c->b;
    out->starts = calloc(b->n_rules, sizeof *out->starts);
    if (!out->starts || !c->found || !c->mark)
        return error_memory(err, "compiling a grammar");
    for (size_t i = 0; i < b->n_rules; i++) {
        if (b->rules[i].in < 0)
            return error_set(err, ST_INVALID_VALUE, "a rule of the grammar is not defined");
        if (!build_rule(c, (int32_t)i, &out->starts[i]))
            return b->failed ? builder_failed(b, err)
                             : error_set(err, ST_INVALID_VALUE,
                                         "the grammar is too large when it is made deterministic");
    }
    return ST_OK;
}

enum status automaton_build(struct builder *b, struct automaton *out, struct error *err)
{
    int32_t *found = malloc((b->n_nodes + 1) * sizeof *found);
    uint32_t *mark = calloc(b->n_nodes + 1, sizeof *mark);
    struct construction c = {.b = b,
                             .found = found,
                             .mark = mark,
                             .states = {.size = sizeof(struct automaton_state)},
                             .bytes = {.size = sizeof(struct byte_edge)},
                             .calls = {.size = sizeof(struct call_edge)},
                             .ranges = {.size = sizeof(struct byte_edge)},
                             .called = {.size = sizeof(struct call_edge)}};
    *out = (struct automaton){.n_rules = (int32_t)b->n_rules};
    enum status s = builder_failed(b, err);
    s = s ? s : construct(&c, out, err);
    out->states = c.states.v;
    out->byte_edges = c.bytes.v;
    out->call_edges = c.calls.v;
    out->n_states = (int32_t)c.states.n;
    arena_free(&c.arena);
    free(c.ranges.v);
    free(c.called.v);
    free(c.subsets);
    free(c.table);
    free(found);
    free(mark);
    s = s ? s : check_left(out, b, err);
    s = s ? s : trim(out, b, err);
    if (s)
        automaton_clear(out);
    else
        classify(out);
    return s;
}

void automaton_clear(struct automaton *a)
{
    free(a->states);
    free(a->byte_edges);
    free(a->call_edges);
    free(a->starts);
    *a = (struct automaton){0};
}

int32_t automaton_step(const struct automaton *a, int32_t state, uint8_t byte)
{
    const struct automaton_state *s = &a->states[state];
    int32_t low = 0, high = s->n_bytes;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        const struct byte_edge *e = &a->byte_edges[s->bytes + middle];
        if (byte > e->last)
            low = middle + 1;
        else if (byte < e->first)
            high = middle;
        else
            return e->to;
    }
    return -1;
}
