/*
 * Owns the way from fragments to deterministic rules, the subset construction (Rabin and Scott,
 * 1959) with a called rule as one more letter, and what is dropped afterwards: states from which
 * their rule cannot end, found by walking until nothing changes, because whether a state can end
 * depends on whether the rules that it calls can.
 */
#include "core/grammar/automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A growing array of one kind. */
struct list {
    void *v;
    size_t n, cap, size;
};

static void *list_add(struct list *l)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        void *v = realloc(l->v, cap * l->size);
        if (!v)
            return NULL;
        l->v = v;
        l->cap = cap;
    }
    return memset((char *)l->v + l->n++ * l->size, 0, l->size);
}

struct subset {
    int32_t *nodes; /* in the arena */
    size_t n;
    uint64_t hash;
    size_t slot; /* of the table */
};

struct construction {
    const struct builder *b;
    struct arena arena;
    struct list states, bytes, calls; /* of the automaton */
    struct subset *subsets;           /* of the rule at hand */
    size_t first, n_subsets, cap_subsets;
    int32_t out;    /* its last node */
    int32_t *table; /* hash table of subset + 1, size a power of two */
    size_t table_size;
    int32_t *found; /* nodes of the set that is being made */
    size_t n_found;
    uint32_t *mark, round; /* node -> round in which it was found */
    enum status status;
};

static bool memory(struct construction *c)
{
    c->status = ST_OUT_OF_MEMORY;
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
    for (size_t i = 0; i < c->n_found; i++)
        for (int32_t e = c->b->nodes[c->found[i]]; e >= 0; e = c->b->edges[e].next)
            if (c->b->edges[e].kind == EDGE_EMPTY)
                find(c, c->b->edges[e].to);
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
    if (c->n_subsets == c->cap_subsets) {
        size_t cap = c->cap_subsets ? 2 * c->cap_subsets : 64;
        struct subset *v = realloc(c->subsets, cap * sizeof *v);
        if (!v)
            return memory(c);
        c->subsets = v;
        c->cap_subsets = cap;
    }
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
    if (c->states.n == AUTOMATON_STATES_MAX || c->arena.total > AUTOMATON_BYTES_MAX) {
        c->status = ST_INVALID_VALUE;
        return -1;
    }
    if (!add_subset(c, hash, at))
        return -1;
    c->table[at] = (int32_t)c->n_subsets;
    return (int32_t)(c->first + c->n_subsets - 1);
}

/* ---- one rule ---- */

/* Where edges begin or end among the bytes: cuts[i] says that a new range begins at byte i. */
static bool find_cuts(const struct construction *c, const struct subset *s, bool cuts[257])
{
    bool any = false;
    memset(cuts, 0, 257);
    for (size_t i = 0; i < s->n; i++)
        for (int32_t e = c->b->nodes[s->nodes[i]]; e >= 0; e = c->b->edges[e].next) {
            const struct builder_edge *x = &c->b->edges[e];
            if (x->kind != EDGE_BYTES)
                continue;
            cuts[x->first] = cuts[x->last + 1] = any = true;
        }
    return any;
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
    if (!find_cuts(c, &c->subsets[at], cuts))
        return true;
    for (int first = 0, last; first < 256; first = last + 1) {
        for (last = first; last < 255 && !cuts[last + 1];)
            last++;
        find_begin(c);
        const struct subset *s = &c->subsets[at];
        for (size_t i = 0; i < s->n; i++)
            for (int32_t e = c->b->nodes[s->nodes[i]]; e >= 0; e = c->b->edges[e].next) {
                const struct builder_edge *x = &c->b->edges[e];
                if (x->kind == EDGE_BYTES && x->first <= first && last <= x->last)
                    find(c, x->to);
            }
        if (!c->n_found)
            continue;
        int32_t to = state_of_found(c);
        if (to < 0 || !add_byte_edge(c, first_edge, first, last, to))
            return false;
    }
    return true;
}

/* Is the rule among the calls of this state already? */
static bool called(const struct construction *c, int32_t first_edge, int32_t rule)
{
    const struct call_edge *v = c->calls.v;
    for (size_t i = (size_t)first_edge; i < c->calls.n; i++)
        if (v[i].rule == rule)
            return true;
    return false;
}

static bool call_edges(struct construction *c, size_t at, int32_t first_edge)
{
    for (size_t i = 0; i < c->subsets[at].n; i++)
        for (int32_t e = c->b->nodes[c->subsets[at].nodes[i]]; e >= 0; e = c->b->edges[e].next) {
            int32_t rule = c->b->edges[e].rule;
            if (c->b->edges[e].kind != EDGE_CALL || called(c, first_edge, rule))
                continue;
            find_begin(c);
            const struct subset *s = &c->subsets[at];
            for (size_t k = 0; k < s->n; k++)
                for (int32_t x = c->b->nodes[s->nodes[k]]; x >= 0; x = c->b->edges[x].next)
                    if (c->b->edges[x].kind == EDGE_CALL && c->b->edges[x].rule == rule)
                        find(c, c->b->edges[x].to);
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
        if (!byte_edges(c, i, s.bytes) || !call_edges(c, i, s.calls))
            return false;
        s.n_bytes = (int32_t)c->bytes.n - s.bytes;
        s.n_calls = (int32_t)c->calls.n - s.calls;
        ((struct automaton_state *)c->states.v)[c->first + i] = s;
    }
    return true;
}

/* ---- what can end ---- */

/* One pass; false: nothing changed. ends: by state. */
static bool spread(const struct automaton *a, bool *ends)
{
    bool changed = false;
    for (int32_t i = a->n_states; i-- > 0;) {
        const struct automaton_state *s = &a->states[i];
        bool can = s->accepts;
        for (int32_t e = 0; e < s->n_bytes && !can && !ends[i]; e++)
            can = ends[a->byte_edges[s->bytes + e].to];
        for (int32_t e = 0; e < s->n_calls && !can && !ends[i]; e++) {
            const struct call_edge *x = &a->call_edges[s->calls + e];
            can = ends[x->to] && ends[a->starts[x->rule]];
        }
        changed |= can && !ends[i];
        ends[i] |= can;
    }
    return changed;
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

static enum status trim(struct automaton *a, struct error *err)
{
    bool *ends = calloc((size_t)a->n_states + 1, sizeof *ends);
    if (!ends)
        return error_memory(err, "compiling a grammar");
    while (spread(a, ends))
        ;
    bool any = ends[a->starts[0]];
    drop(a, ends);
    free(ends);
    return any ? ST_OK : error_set(err, ST_INVALID_VALUE, "no text matches the grammar");
}

/* ---- left recursion ---- */

enum visit { NEW, OPEN, DONE };
struct left {
    const struct automaton *a;
    bool *empty;   /* by rule: it may be nothing */
    uint8_t *rule; /* enum visit */
    uint8_t *state;
};

/* May the rule of this state end here with no byte more? */
static bool ends_empty(const struct left *l, int32_t state, int depth)
{
    const struct automaton_state *s = &l->a->states[state];
    if (s->accepts || depth > 64)
        return s->accepts;
    for (int32_t e = 0; e < s->n_calls; e++) {
        const struct call_edge *x = &l->a->call_edges[s->calls + e];
        if (l->empty[x->rule] && ends_empty(l, x->to, depth + 1))
            return true;
    }
    return false;
}

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
            (l->empty[x->rule] && !left_state(l, x->to, depth + 1)))
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

static enum status check_left(const struct automaton *a, struct error *err)
{
    size_t rules = (size_t)a->n_rules;
    assert(a->states); // every rule has one
    struct left l = {.a = a};
    l.empty = calloc(2 * rules + (size_t)a->n_states, 1);
    if (!l.empty)
        return error_memory(err, "compiling a grammar");
    l.rule = (uint8_t *)l.empty + rules;
    l.state = l.rule + rules;
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t r = 0; r < a->n_rules; r++)
            if (!l.empty[r] && ends_empty(&l, a->starts[r], 0))
                l.empty[r] = changed = true;
    }
    bool ok = true;
    for (int32_t r = 0; r < a->n_rules && ok; r++)
        ok = left_rule(&l, r, 0);
    free(l.empty);
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
    const struct builder *b = c->b;
    out->starts = calloc(b->n_rules, sizeof *out->starts);
    if (!out->starts || !c->found || !c->mark)
        return error_memory(err, "compiling a grammar");
    for (size_t i = 0; i < b->n_rules; i++) {
        if (b->rules[i].in < 0)
            return error_set(err, ST_INVALID_VALUE, "a rule of the grammar is not defined");
        if (!build_rule(c, (int32_t)i, &out->starts[i]))
            return c->status == ST_OUT_OF_MEMORY
                       ? error_memory(err, "compiling a grammar")
                       : error_set(err, c->status,
                                   "the grammar is too large when it is made deterministic");
    }
    return ST_OK;
}

enum status automaton_build(const struct builder *b, struct automaton *out, struct error *err)
{
    int32_t *found = malloc((b->n_nodes + 1) * sizeof *found);
    uint32_t *mark = calloc(b->n_nodes + 1, sizeof *mark);
    struct construction c = {.b = b,
                             .found = found,
                             .mark = mark,
                             .states = {.size = sizeof(struct automaton_state)},
                             .bytes = {.size = sizeof(struct byte_edge)},
                             .calls = {.size = sizeof(struct call_edge)}};
    *out = (struct automaton){.n_rules = (int32_t)b->n_rules};
    enum status s = builder_failed(b, err);
    s = s ? s : construct(&c, out, err);
    out->states = c.states.v;
    out->byte_edges = c.bytes.v;
    out->call_edges = c.calls.v;
    out->n_states = (int32_t)c.states.n;
    arena_free(&c.arena);
    free(c.subsets);
    free(c.table);
    free(found);
    free(mark);
    s = s ? s : check_left(out, err);
    s = s ? s : trim(out, err);
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
