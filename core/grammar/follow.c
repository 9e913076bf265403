/*
 * Owns the tables. A reading of the text so far is a stack: the state that it is in, and below it
 * where each calling rule goes on. Stacks share their lower parts (a node is a state and the node
 * below), equal ones are one, and so a set of readings, a config, is a short sorted list of
 * numbers; equal configs are one, too, and remember where each byte leads. That is a deterministic
 * automaton that grows where texts go.
 *
 * Which tokens may come is asked of the top of each stack first. part(state, node) is what the
 * subtree of `node` of the spellings holds for a text that is in `state` of some rule: the tokens
 * that stay within this rule, and the exits, nodes of the spellings where the rule may have ended.
 * An exit goes on with the stack below. So what all strings of a JSON text may hold is found once,
 * wherever the string stands.
 *
 *   allowed(stack, node) = tokens of part(top, node) + allowed(below, exit) of each exit
 *
 * Nothing is ever removed singly: when the tables take more than their memory they are emptied, the
 * epoch goes up, and followers walk their tokens again.
 */
#include "core/grammar/follow.h"

#include <stdlib.h>
#include <string.h>

#define READINGS_MAX 1000 /* of one config */
#define DEAD         0
#define START        1
#define UNKNOWN      (-1)
#define WIDE         64 /* a state with as many bytes is warmed */
#define WARM_MAX     8

/* below 0: nothing, the grammar's own end (or, within a part, the end of its rule). */
struct stack {
    int32_t state, below;
};

struct config {
    int32_t first, n;             /* of pool: what bytes led to */
    int32_t expanded, n_expanded; /* of pool: with the rules that it calls, and what they end in */
    int32_t next;                 /* of steps: config by class of byte, UNKNOWN */
    bool ends;
};

struct part {
    int32_t state, node;
    int32_t n_tokens; /* -1: bits */
    int32_t *tokens;
    uint64_t *bits;
    int32_t n_exits, *exits;
};

struct array {
    void *v;
    size_t n, cap;
};

/* Finds numbers by hash: 0 is empty. */
struct index {
    int32_t *v;
    size_t size, n;
};

struct tables {
    const struct automaton *a;
    const struct spellings *s;
    size_t limit, used;
    uint32_t epoch;
    struct array stacks, configs, pool, steps, parts;
    struct index stack_index, config_index, part_index;
    struct array set;           /* stacks of the config that is being made */
    int32_t *path;              /* [deepest + 1] configs on the way down */
    struct array tokens, exits; /* of the part that is being made */
    bool warm;
    enum status status;
};

static enum status told(const struct tables *t, struct error *err)
{
    if (t->status == ST_NOT_SUPPORTED)
        return error_set(err, ST_NOT_SUPPORTED,
                         "the grammar is too ambiguous: more than %d readings of one text",
                         READINGS_MAX);
    return error_memory(err, "following a grammar");
}

static bool fails(struct tables *t, enum status why)
{
    t->status = why;
    return false;
}

/* Room for n more of `size` bytes; NULL: no memory. What was there keeps its place in the array. */
static void *extend(struct tables *t, struct array *a, size_t n, size_t size)
{
    if (a->n + n > a->cap) {
        size_t cap = 2 * a->cap + n + 16;
        void *v = realloc(a->v, cap * size);
        if (!v) {
            fails(t, ST_OUT_OF_MEMORY);
            return NULL;
        }
        t->used += (cap - a->cap) * size;
        a->v = v;
        a->cap = cap;
    }
    a->n += n;
    return (char *)a->v + (a->n - n) * size;
}

static bool push(struct tables *t, struct array *a, int32_t value)
{
    int32_t *to = extend(t, a, 1, sizeof *to);
    if (to)
        *to = value;
    return to != NULL;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

/* Room for one more; hash_at tells the hash of an entry. */
static bool index_grow(struct tables *t, struct index *x,
                       uint64_t (*hash_at)(const struct tables *t, int32_t i))
{
    if (2 * (x->n + 1) <= x->size)
        return true;
    size_t size = x->size ? 2 * x->size : 256;
    int32_t *v = calloc(size, sizeof *v);
    if (!v)
        return fails(t, ST_OUT_OF_MEMORY);
    for (size_t i = 0; i < x->size; i++) {
        if (!x->v[i])
            continue;
        size_t at = hash_at(t, x->v[i]) & (size - 1);
        while (v[at])
            at = (at + 1) & (size - 1);
        v[at] = x->v[i];
    }
    t->used += (size - x->size) * sizeof *v;
    free(x->v);
    x->v = v;
    x->size = size;
    return true;
}

/* ---- stacks ---- */

static struct stack *stack_at(const struct tables *t, int32_t i)
{
    return (struct stack *)t->stacks.v + i;
}

static uint64_t stack_hash(const struct tables *t, int32_t i)
{
    const struct stack *s = stack_at(t, i);
    return mix(mix(0, (uint64_t)s->state), (uint64_t)s->below);
}

/* -1: failed */
static int32_t stack_of(struct tables *t, int32_t state, int32_t below)
{
    if (!index_grow(t, &t->stack_index, stack_hash))
        return -1;
    size_t mask = t->stack_index.size - 1;
    size_t at = mix(mix(0, (uint64_t)state), (uint64_t)below) & mask;
    for (; t->stack_index.v[at]; at = (at + 1) & mask) {
        const struct stack *s = stack_at(t, t->stack_index.v[at]);
        if (s->state == state && s->below == below)
            return t->stack_index.v[at];
    }
    struct stack *s = extend(t, &t->stacks, 1, sizeof *s);
    if (!s)
        return -1;
    *s = (struct stack){state, below};
    t->stack_index.n++;
    return t->stack_index.v[at] = (int32_t)t->stacks.n - 1;
}

/* Nothing can follow in this rule: it has ended. */
static bool is_final(const struct automaton_state *s)
{
    return s->accepts && !s->n_bytes && !s->n_calls;
}

/* A stack without rules on its top that have ended anyway. */
static int32_t reached(struct tables *t, int32_t state, int32_t below)
{
    while (below && is_final(&t->a->states[state])) {
        state = stack_at(t, below)->state;
        below = stack_at(t, below)->below;
    }
    return stack_of(t, state, below);
}

/* ---- configs ---- */

static const struct config *config_at(const struct tables *t, int32_t i)
{
    return (const struct config *)t->configs.v + i;
}

static const int32_t *pool_at(const struct tables *t, int32_t i)
{
    return (const int32_t *)t->pool.v + i;
}

static bool set_add(struct tables *t, int32_t stack)
{
    const int32_t *v = t->set.v;
    if (stack < 0)
        return false;
    for (size_t i = 0; i < t->set.n; i++)
        if (v[i] == stack)
            return true;
    if (t->set.n == READINGS_MAX)
        return fails(t, ST_NOT_SUPPORTED);
    return push(t, &t->set, stack);
}

/* Adds the rules that are called and what comes behind those that may have ended. *ends: the whole
 * text may have. */
static bool set_expand(struct tables *t, bool *ends)
{
    *ends = false;
    for (size_t i = 0; i < t->set.n; i++) {
        const struct stack top = *stack_at(t, ((const int32_t *)t->set.v)[i]);
        const struct automaton_state *s = &t->a->states[top.state];
        if (s->accepts && !top.below)
            *ends = true;
        if (s->accepts && top.below && !set_add(t, top.below))
            return false;
        for (int32_t e = 0; e < s->n_calls; e++) {
            const struct call_edge *x = &t->a->call_edges[s->calls + e];
            int32_t back = reached(t, x->to, top.below);
            if (back < 0 || !set_add(t, stack_of(t, t->a->starts[x->rule], back)))
                return false;
        }
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t list_hash(const int32_t *v, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++)
        h = mix(h, (uint64_t)v[i]);
    return h;
}

static uint64_t config_hash(const struct tables *t, int32_t i)
{
    const struct config *c = config_at(t, i);
    return list_hash(pool_at(t, c->first), (size_t)c->n);
}

/* Copies the set to the pool. */
static bool keep_set(struct tables *t, int32_t *first, int32_t *n)
{
    int32_t *to = extend(t, &t->pool, t->set.n, sizeof *to);
    if (!to)
        return false;
    memcpy(to, t->set.v, t->set.n * sizeof *to);
    *n = (int32_t)t->set.n;
    *first = (int32_t)(t->pool.n - t->set.n);
    return true;
}

static bool config_add(struct tables *t)
{
    struct config c = {.next = (int32_t)t->steps.n};
    if (!keep_set(t, &c.first, &c.n) || !set_expand(t, &c.ends) ||
        !keep_set(t, &c.expanded, &c.n_expanded))
        return false;
    size_t classes = (size_t)t->a->n_classes;
    int32_t *steps = extend(t, &t->steps, classes, sizeof *steps);
    struct config *to = steps ? extend(t, &t->configs, 1, sizeof *to) : NULL;
    if (!to)
        return false;
    memset(steps, 0xFF, classes * sizeof *steps);
    *to = c;
    return true;
}

/* The config of the stacks in the set; -1: failed. */
static int32_t config_of_set(struct tables *t)
{
    if (!t->set.n)
        return DEAD;
    qsort(t->set.v, t->set.n, sizeof(int32_t), by_number);
    if (!index_grow(t, &t->config_index, config_hash))
        return -1;
    size_t mask = t->config_index.size - 1, at = list_hash(t->set.v, t->set.n) & mask;
    for (; t->config_index.v[at]; at = (at + 1) & mask) {
        const struct config *c = config_at(t, t->config_index.v[at]);
        if ((size_t)c->n == t->set.n &&
            !memcmp(pool_at(t, c->first), t->set.v, t->set.n * sizeof(int32_t)))
            return t->config_index.v[at];
    }
    if (!config_add(t))
        return -1;
    t->config_index.n++;
    return t->config_index.v[at] = (int32_t)t->configs.n - 1;
}

/* The config of one state by itself; -1: failed. */
static int32_t config_of_state(struct tables *t, int32_t state)
{
    t->set.n = 0;
    return set_add(t, stack_of(t, state, 0)) ? config_of_set(t) : -1;
}

static int32_t make_step(struct tables *t, int32_t config, uint8_t byte)
{
    t->set.n = 0;
    for (int32_t i = 0; i < config_at(t, config)->n_expanded; i++) {
        int32_t stack = *pool_at(t, config_at(t, config)->expanded + i);
        int32_t to = automaton_step(t->a, stack_at(t, stack)->state, byte);
        if (to >= 0 && !set_add(t, reached(t, to, stack_at(t, stack)->below)))
            return -1;
    }
    int32_t next = config_of_set(t);
    if (next >= 0)
        ((int32_t *)t->steps.v)[config_at(t, config)->next + t->a->class_of[byte]] = next;
    return next;
}

/* Where a byte leads; DEAD: nowhere; -1: failed. */
static inline int32_t step(struct tables *t, int32_t config, uint8_t byte)
{
    int32_t next = ((const int32_t *)t->steps.v)[config_at(t, config)->next + t->a->class_of[byte]];
    return next == UNKNOWN ? make_step(t, config, byte) : next;
}

/* ---- parts ---- */

static uint64_t part_hash(const struct tables *t, int32_t i)
{
    const struct part *p = (const struct part *)t->parts.v + i - 1;
    return mix(mix(1, (uint64_t)p->state), (uint64_t)p->node);
}

/* Collects the tokens and exits of a subtree. */
static bool walk(struct tables *t, int32_t config, int32_t node)
{
    const struct spellings *s = t->s;
    int32_t base = s->nodes[node].depth;
    t->tokens.n = t->exits.n = 0;
    if (config_at(t, config)->ends && !push(t, &t->exits, node))
        return false;
    t->path[0] = config;
    for (int32_t u = node + 1; u < s->nodes[node].leap;) {
        const struct spelling_node *x = &s->nodes[u];
        int32_t next = step(t, t->path[x->depth - base - 1], x->byte);
        if (next < 0)
            return false;
        if (next == DEAD) {
            u = x->leap;
            continue;
        }
        t->path[x->depth - base] = next;
        for (int32_t i = x->tokens; i < x[1].tokens; i++)
            if (!push(t, &t->tokens, s->ids[i]))
                return false;
        if (config_at(t, next)->ends && !push(t, &t->exits, u))
            return false;
        u++;
    }
    return true;
}

static size_t words(const struct tables *t)
{
    return ((size_t)t->s->vocab + 63) / 64;
}

static void set_bits(uint64_t *bits, const int32_t *tokens, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        bits[tokens[i] / 64] |= (uint64_t)1 << tokens[i] % 64;
}

/* What the walk found, in as little room as it takes. */
static bool part_fill(struct tables *t, struct part *p)
{
    p->n_tokens = (int32_t)t->tokens.n;
    p->n_exits = (int32_t)t->exits.n;
    p->exits = malloc((t->exits.n + 1) * sizeof *p->exits);
    bool many = t->tokens.n > 2 * words(t);
    if (many)
        p->bits = calloc(words(t), sizeof *p->bits);
    else
        p->tokens = malloc((t->tokens.n + 1) * sizeof *p->tokens);
    if (!p->exits || (!p->bits && !p->tokens)) {
        free(p->exits);
        free(p->bits);
        free(p->tokens);
        return fails(t, ST_OUT_OF_MEMORY);
    }
    if (t->exits.n)
        memcpy(p->exits, t->exits.v, t->exits.n * sizeof *p->exits);
    if (many)
        set_bits(p->bits, t->tokens.v, p->n_tokens);
    else if (t->tokens.n)
        memcpy(p->tokens, t->tokens.v, t->tokens.n * sizeof *p->tokens);
    t->used += t->exits.n * sizeof *p->exits +
               (many ? words(t) * sizeof *p->bits : t->tokens.n * sizeof *p->tokens);
    return true;
}

/* NULL: failed. Until the next one is made. */
static const struct part *part_of(struct tables *t, int32_t state, int32_t node)
{
    if (!index_grow(t, &t->part_index, part_hash))
        return NULL;
    size_t mask = t->part_index.size - 1;
    size_t at = mix(mix(1, (uint64_t)state), (uint64_t)node) & mask;
    for (; t->part_index.v[at]; at = (at + 1) & mask) {
        const struct part *p = (const struct part *)t->parts.v + t->part_index.v[at] - 1;
        if (p->state == state && p->node == node)
            return p;
    }
    struct part made = {.state = state, .node = node};
    int32_t config = config_of_state(t, state);
    if (config < 0 || !walk(t, config, node))
        return NULL;
    struct part *p = extend(t, &t->parts, 1, sizeof *p);
    if (!p || !part_fill(t, &made)) {
        t->parts.n -= p != NULL;
        return NULL;
    }
    *p = made;
    t->part_index.v[at] = (int32_t)t->parts.n;
    t->part_index.n++;
    return p;
}

static bool allow(struct tables *t, int32_t stack, int32_t node, uint64_t *allowed)
{
    while (stack) {
        const struct part *p = part_of(t, stack_at(t, stack)->state, node);
        if (!p)
            return false;
        if (p->bits)
            for (size_t i = 0; i < words(t); i++)
                allowed[i] |= p->bits[i];
        else
            set_bits(allowed, p->tokens, p->n_tokens);
        stack = stack_at(t, stack)->below;
        int32_t n = stack ? p->n_exits : 0;
        if (!n)
            return true;
        const int32_t *exits = p->exits; // of its own, it stays when parts move
        for (int32_t i = 0; i + 1 < n; i++)
            if (t->s->nodes[exits[i]].leap > exits[i] + 1 && !allow(t, stack, exits[i], allowed))
                return false;
        node = exits[n - 1];
    }
    return true;
}

/* ---- opening, emptying ---- */

static void empty(struct tables *t)
{
    struct array *arrays[] = {&t->stacks, &t->configs, &t->pool,   &t->steps,
                              &t->parts,  &t->set,     &t->tokens, &t->exits};
    struct index *indexes[] = {&t->stack_index, &t->config_index, &t->part_index};
    for (size_t i = 0; i < t->parts.n; i++) {
        struct part *p = (struct part *)t->parts.v + i;
        free(p->tokens);
        free(p->bits);
        free(p->exits);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(arrays[i]->v);
        *arrays[i] = (struct array){0};
    }
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        free(indexes[i]->v);
        *indexes[i] = (struct index){0};
    }
    t->used = 0;
    t->epoch++;
}

/* Stack 0 is no stack, config 0 is dead, config 1 the start. */
static bool begin(struct tables *t)
{
    struct stack *none = extend(t, &t->stacks, 1, sizeof *none);
    struct config *dead = none ? extend(t, &t->configs, 1, sizeof *dead) : NULL;
    if (!dead)
        return false;
    *none = (struct stack){0};
    *dead = (struct config){0};
    return config_of_state(t, t->a->starts[0]) == START;
}

/* Ready for a call: begun, and within the memory. */
static bool ready(struct tables *t)
{
    t->status = ST_OK;
    if (t->used > t->limit || (t->configs.n && t->configs.n <= START))
        empty(t);
    return t->configs.n || begin(t);
}

enum status tables_open(const struct automaton *a, const struct spellings *s, size_t memory,
                        struct tables **out, struct error *err)
{
    *out = NULL;
    struct tables *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "following a grammar");
    t->a = a;
    t->s = s;
    t->limit = memory;
    t->epoch = 1;
    t->path = malloc(((size_t)s->deepest + 1) * sizeof *t->path);
    if (!t->path || !ready(t)) {
        tables_close(t);
        return error_memory(err, "following a grammar");
    }
    *out = t;
    return ST_OK;
}

void tables_close(struct tables *t)
{
    if (!t)
        return;
    empty(t);
    free(t->path);
    free(t);
}

enum status tables_warm(struct tables *t, struct error *err)
{
    int32_t warmed = 0;
    if (t->warm)
        return ST_OK;
    if (!ready(t))
        return told(t, err);
    for (int32_t i = 0; i < t->a->n_states && warmed < WARM_MAX; i++) {
        const struct automaton_state *s = &t->a->states[i];
        int bytes = 0;
        for (int32_t e = 0; e < s->n_bytes; e++)
            bytes += t->a->byte_edges[s->bytes + e].last - t->a->byte_edges[s->bytes + e].first + 1;
        if (bytes < WIDE)
            continue;
        warmed++;
        if (!part_of(t, i, 0))
            return told(t, err);
    }
    t->warm = true;
    return ST_OK;
}

/* ---- following ---- */

enum status follow_tokens(struct tables *t, struct follower *f, const int32_t *tokens, int32_t n,
                          bool *alive, struct error *err)
{
    const struct spellings *s = t->s;
    if (!ready(t))
        return told(t, err);
    if (f->epoch != t->epoch || f->n > n)
        *f = (struct follower){.epoch = t->epoch, .config = START};
    for (; f->n < n && f->config != DEAD; f->n++) {
        int32_t id = tokens[f->n], config = f->config;
        bool known = id >= 0 && id < s->vocab && s->offsets[id] < s->offsets[id + 1];
        for (int32_t i = known ? s->offsets[id] : 0; known && i < s->offsets[id + 1] && config;
             i++) {
            config = step(t, config, s->bytes[i]);
            if (config < 0)
                return told(t, err);
        }
        f->config = known ? config : DEAD;
    }
    *alive = f->config != DEAD;
    return ST_OK;
}

enum status follow_allowed(struct tables *t, struct follower *f, const int32_t *tokens, int32_t n,
                           uint64_t *allowed, bool *ends, bool *any, struct error *err)
{
    bool alive = false;
    enum status st = follow_tokens(t, f, tokens, n, &alive, err);
    if (st)
        return st;
    memset(allowed, 0, words(t) * sizeof *allowed);
    *ends = *any = false;
    if (!alive)
        return ST_OK;
    *ends = config_at(t, f->config)->ends;
    for (int32_t i = 0; i < config_at(t, f->config)->n; i++)
        if (!allow(t, *pool_at(t, config_at(t, f->config)->first + i), 0, allowed))
            return told(t, err);
    for (size_t i = 0; i < words(t) && !*any; i++)
        *any = allowed[i] != 0;
    return ST_OK;
}

enum status follow_text(struct tables *t, const char *text, size_t len, bool *alive, bool *ends,
                        struct error *err)
{
    if (!ready(t))
        return told(t, err);
    int32_t config = START;
    for (size_t i = 0; i < len && config; i++) {
        config = step(t, config, (uint8_t)text[i]);
        if (config < 0)
            return told(t, err);
    }
    *alive = config != DEAD;
    *ends = config != DEAD && config_at(t, config)->ends;
    return ST_OK;
}
