/*
 * Owns the tables. A reading of the text so far is a stack: the state that it is in, and below it
 * where each calling rule goes on. Stacks share their lower parts (a node is a state and the node
 * below), equal ones are one, and so a set of readings, a config, is a short sorted list of
 * numbers; equal configs are one, too, and remember where each byte leads. That is a deterministic
 * automaton that grows where texts go.
 *
 * Which tokens may come is parts.c's to say.
 *
 * Nothing is ever removed singly: when the tables take more than their memory they are emptied, the
 * epoch goes up, and followers walk their tokens again.
 */
#include "core/grammar/tables.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"

#define READINGS_MAX 1000 /* of one config */
#define START        1
#define UNKNOWN      (-1) /* step */

static enum status told(const struct tables *t, struct error *err)
{
    if (t->status == ST_NOT_SUPPORTED)
        return error_set(err, ST_NOT_SUPPORTED,
                         "the grammar is too ambiguous: more than %d readings of one text",
                         READINGS_MAX);
    return error_memory(err, "following a grammar");
}

bool tables_fail(struct tables *t, enum status why)
{
    t->status = why;
    return false;
}

void *tables_extend(struct tables *t, struct array *a, size_t n, size_t size)
{
    size_t before = a->cap;
    if (!grow_array(&a->v, &a->cap, a->n + n, 16, size)) {
        tables_fail(t, ST_OUT_OF_MEMORY);
        return NULL;
    }
    t->used += (a->cap - before) * size;
    a->n += n;
    return (char *)a->v + (a->n - n) * size;
}

bool tables_push(struct tables *t, struct array *a, int32_t value)
{
    int32_t *to = tables_extend(t, a, 1, sizeof *to);
    if (to)
        *to = value;
    return to != NULL;
}

uint64_t tables_mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

bool tables_index_grow(struct tables *t, struct index *x,
                       uint64_t (*hash_at)(const struct tables *t, int32_t i))
{
    if (2 * (x->n + 1) <= x->size)
        return true;
    size_t size = x->size ? 2 * x->size : 256;
    int32_t *v = calloc(size, sizeof *v);
    if (!v)
        return tables_fail(t, ST_OUT_OF_MEMORY);
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

static uint64_t stack_hash(const struct tables *t, int32_t i)
{
    const struct stack *s = tables_stack_at(t, i);
    return tables_mix(tables_mix(0, (uint64_t)s->state), (uint64_t)s->below);
}

/* -1: failed */
static int32_t stack_of(struct tables *t, int32_t state, int32_t below)
{
    if (!tables_index_grow(t, &t->stack_index, stack_hash))
        return -1;
    size_t mask = t->stack_index.size - 1;
    size_t at = tables_mix(tables_mix(0, (uint64_t)state), (uint64_t)below) & mask;
    for (; t->stack_index.v[at]; at = (at + 1) & mask) {
        const struct stack *s = tables_stack_at(t, t->stack_index.v[at]);
        if (s->state == state && s->below == below)
            return t->stack_index.v[at];
    }
    struct stack *s = tables_extend(t, &t->stacks, 1, sizeof *s);
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
        state = tables_stack_at(t, below)->state;
        below = tables_stack_at(t, below)->below;
    }
    return stack_of(t, state, below);
}

/* ---- configs ---- */

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
        return tables_fail(t, ST_NOT_SUPPORTED);
    return tables_push(t, &t->set, stack);
}

/* Adds the rules that are called and what comes behind those that may have ended. *ends: the whole
 * text may have. */
static bool set_expand(struct tables *t, bool *ends)
{
    *ends = false;
    for (size_t i = 0; i < t->set.n; i++) {
        const struct stack top = *tables_stack_at(t, ((const int32_t *)t->set.v)[i]);
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
        h = tables_mix(h, (uint64_t)v[i]);
    return h;
}

static uint64_t config_hash(const struct tables *t, int32_t i)
{
    const struct config *c = tables_config_at(t, i);
    return list_hash(pool_at(t, c->first), (size_t)c->n);
}

/* Copies the set to the pool. */
static bool keep_set(struct tables *t, int32_t *first, int32_t *n)
{
    int32_t *to = tables_extend(t, &t->pool, t->set.n, sizeof *to);
    if (!to)
        return false;
    memcpy(to, t->set.v, t->set.n * sizeof *to);
    *n = (int32_t)t->set.n;
    *first = (int32_t)(t->pool.n - t->set.n);
    return true;
}

static bool config_add(struct tables *t)
{
    struct config c = {0};
    if (!keep_set(t, &c.first, &c.n) || !set_expand(t, &c.ends) ||
        !keep_set(t, &c.expanded, &c.n_expanded))
        return false;
    size_t classes = (size_t)t->a->n_classes;
    int32_t *steps = tables_extend(t, &t->steps, classes, sizeof *steps);
    struct config *to = steps ? tables_extend(t, &t->configs, 1, sizeof *to) : NULL;
    if (!to) {
        t->steps.n -= steps ? classes : 0; // row i is config i's
        return false;
    }
    for (size_t i = 0; i < classes; i++)
        steps[i] = UNKNOWN;
    *to = c;
    return true;
}

/* The config of the stacks in the set; -1: failed. */
static int32_t config_of_set(struct tables *t)
{
    if (!t->set.n)
        return DEAD;
    qsort(t->set.v, t->set.n, sizeof(int32_t), by_number);
    if (!tables_index_grow(t, &t->config_index, config_hash))
        return -1;
    size_t mask = t->config_index.size - 1, at = list_hash(t->set.v, t->set.n) & mask;
    for (; t->config_index.v[at]; at = (at + 1) & mask) {
        const struct config *c = tables_config_at(t, t->config_index.v[at]);
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
int32_t tables_config(struct tables *t, int32_t state)
{
    t->set.n = 0;
    return set_add(t, stack_of(t, state, 0)) ? config_of_set(t) : -1;
}

int32_t tables_state(const struct tables *t, int32_t config)
{
    return tables_stack_at(t, *pool_at(t, tables_config_at(t, config)->first))->state;
}

int32_t tables_make_step(struct tables *t, int32_t config, uint8_t byte)
{
    t->set.n = 0;
    for (int32_t i = 0; i < tables_config_at(t, config)->n_expanded; i++) {
        int32_t stack = *pool_at(t, tables_config_at(t, config)->expanded + i);
        int32_t to = automaton_step(t->a, tables_stack_at(t, stack)->state, byte);
        if (to >= 0 && !set_add(t, reached(t, to, tables_stack_at(t, stack)->below)))
            return -1;
    }
    int32_t next = config_of_set(t);
    if (next >= 0)
        ((int32_t *)t->steps.v)[(size_t)config * (size_t)t->a->n_classes + t->a->class_of[byte]] =
            next;
    return next;
}

/* ---- opening, emptying ---- */

static void empty(struct tables *t)
{
    struct array *arrays[] = {&t->stacks, &t->configs, &t->pool, &t->steps, &t->set};
    parts_empty(t);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(arrays[i]->v);
        *arrays[i] = (struct array){0};
    }
    free(t->stack_index.v);
    free(t->config_index.v);
    t->stack_index = t->config_index = (struct index){0};
    t->used = 0;
    t->epoch++;
}

/* Stack 0 is no stack, config 0 is dead, config 1 the start. */
static bool begin(struct tables *t)
{
    struct stack *none = tables_extend(t, &t->stacks, 1, sizeof *none);
    struct config *dead = none ? tables_extend(t, &t->configs, 1, sizeof *dead) : NULL;
    size_t classes = (size_t)t->a->n_classes;
    int32_t *steps = dead ? tables_extend(t, &t->steps, classes, sizeof *steps) : NULL;
    if (!steps)
        return false;
    *none = (struct stack){0};
    *dead = (struct config){0};
    for (size_t i = 0; i < classes; i++)
        steps[i] = DEAD;
    return tables_config(t, t->a->starts[0]) == START;
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
    if (!parts_open(t) || !ready(t)) {
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
    parts_close(t);
    free(t);
}

enum status tables_warm(struct tables *t, struct error *err)
{
    if (t->warm)
        return ST_OK;
    if (!ready(t) || !parts_warm(t))
        return told(t, err);
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
            config = tables_step(t, config, s->bytes[i]);
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
    memset(allowed, 0, tables_words(t) * sizeof *allowed);
    *ends = *any = false;
    if (!alive)
        return ST_OK;
    *ends = tables_config_at(t, f->config)->ends;
    for (int32_t i = 0; i < tables_config_at(t, f->config)->n; i++)
        if (!parts_allow(t, *pool_at(t, tables_config_at(t, f->config)->first + i), allowed))
            return told(t, err);
    for (size_t i = 0; i < tables_words(t) && !*any; i++)
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
        config = tables_step(t, config, (uint8_t)text[i]);
        if (config < 0)
            return told(t, err);
    }
    *alive = config != DEAD;
    *ends = config != DEAD && tables_config_at(t, config)->ends;
    return ST_OK;
}
